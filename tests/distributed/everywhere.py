"""Trainings that come to the same on one process, on two, and on two that hold half of each weight."""

import random
import sys
from collections.abc import Callable
from pathlib import Path


TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), *(str(TESTS / folder) for folder in ("cprs", "phased_grpo", "sft", "solopo"))]

import critic_runs  # noqa: E402
import runs  # noqa: E402
import sft_runs  # noqa: E402
import solopo_runs  # noqa: E402
from tiny import tiny_model  # noqa: E402
from transformers import Qwen2ForCausalLM  # noqa: E402

from qwenlong_trl import Phase  # noqa: E402


def saved_model(folder: Path) -> Qwen2ForCausalLM:
    """The model in a folder, which is where TRL looks for the reference; [`save_model`] has put it there."""
    return Qwen2ForCausalLM.from_pretrained(folder / "model")


def save_model(folder: Path) -> None:
    tiny_model().save_pretrained(folder / "model")


def sft(folder: Path, processes: int, **options):
    """Eight rows of very unequal length, one step."""
    args = sft_runs.make_args(folder / "out", per_device_train_batch_size=8 // processes, **options)
    return sft_runs.make_trainer(args)


def cprs(folder: Path, processes: int, **options):
    settings = {"optim": "sgd", "max_steps": 2, "needle_rate": 0.0, "outside_drop_rate": 0.0, "max_grad_norm": 0.0}
    args = critic_runs.make_args(folder / "out", per_device_train_batch_size=8 // processes, **(settings | options))
    return critic_runs.make_trainer(args, [critic_runs.example(i) for i in range(8)])


def solopo(folder: Path, processes: int, **options):
    args = solopo_runs.make_args(folder / "out", per_device_train_batch_size=8 // processes, **options)
    return solopo_runs.make_trainer(args, model=saved_model(folder))


def fixed_rollouts(prompts, trainer):
    """Completions that depend on the prompt and the place in its group alone, wherever they are made."""
    ids = trainer.processing_class(prompts)["input_ids"]
    completions = []
    for i, prompt in enumerate(ids):
        rng = random.Random(f"{prompt}/{i % trainer.num_generations}")
        completions.append([rng.randrange(3, 43) for _ in range(rng.randint(1, 3))] + [1] * rng.randint(0, 1))
    return {"prompt_ids": ids, "completion_ids": completions, "logprobs": None}


def grpo(folder: Path, processes: int, **options):
    """Two phases of two windows, each of four prompts with four completions, and of two micro-batches."""
    settings = {
        "phases": [Phase(max_prompt_length=8, max_steps=2), Phase(max_prompt_length=16, max_steps=2)],
        "per_device_train_batch_size": 8 // processes,
        "num_generations": 4,
        "optim": "sgd",
        "learning_rate": 0.5,
        "save_strategy": "no",
        "gradient_checkpointing": False,
    }
    rollouts = None if options.pop("sampled", False) else fixed_rollouts
    lengths = options.pop("lengths", runs.LENGTHS)
    args = runs.make_args(folder / "out", **(settings | options))
    return runs.make_trainer(args, saved_model(folder), lengths=lengths, rollout_func=rollouts)


_SOLOPO = solopo_runs.SETTINGS
CASES: dict[str, tuple[Callable, dict]] = {
    "SFT, mean of each example": (sft, {}),
    "CPRS": (cprs, {}),
    "SoLoPO, DPO": (solopo, _SOLOPO["dpo"]),
    "SoLoPO, DPO, rows by themselves": (solopo, _SOLOPO["dpo"] | {"prefix_sharing": False}),
    "SoLoPO, SimPO": (solopo, _SOLOPO["simpo"]),
    "SoLoPO, ORPO, checkpointing": (solopo, _SOLOPO["orpo"]),
    "SoLoPO, DPO, one context at a time": (solopo, _SOLOPO["dpo_sequential"]),
    "PhasedGRPO, shared prefixes": (grpo, {"beta": 0.1}),
    "PhasedGRPO, rows by themselves": (grpo, {"beta": 0.1, "prefix_sharing": False}),
    "PhasedGRPO, hard prompts carried": (grpo, {"retrospective": "hard_zero", "loss_type": "grpo"}),
    "PhasedGRPO, dead groups masked": (grpo, {"dynamic_sampling": "mask", "gradient_checkpointing": True}),
    "PhasedGRPO, dead groups replaced": (grpo, {"dynamic_sampling": "resample"}),
    "PhasedGRPO, two passes over a window": (grpo, {"num_iterations": 2}),
}

# Sampled with transformers, whose random numbers belong to a process: compared between two processes and two that hold
# half of each weight. In the last one, a prompt of one token, which cannot be read before its completions begin, is
# always on one of the two processes alone.
SAMPLED: dict[str, dict] = {
    "sampled, shared prefixes": {"max_completion_length": 12},
    "sampled, rows by themselves": {"max_completion_length": 12, "prefix_sharing": False},
    "sampled, one prompt of one token": {"lengths": (1, 5, 5, 5) + (12,) * 20},
}


def outcome(trainer) -> dict:
    """Trains; returns the weights, whole, and what was logged."""
    trainer.train()
    weights = {}
    for name, value in trainer.model.named_parameters():
        value = value.detach()
        weights[name] = (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
    log = [
        {k: v for k, v in entry.items() if isinstance(v, float)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return {"weights": weights, "log": log}


def difference(found: dict, expected: dict) -> tuple[float, float]:
    """The largest difference of any weight, and of any logged loss."""
    assert found["weights"].keys() == expected["weights"].keys()
    weights = max((found["weights"][name] - value).abs().max().item() for name, value in expected["weights"].items())
    losses = [abs(a["loss"] - b["loss"]) for a, b in zip(found["log"], expected["log"], strict=True)]
    return weights, max(losses)
