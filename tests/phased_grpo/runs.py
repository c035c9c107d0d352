"""A small two-phase run, used by the trainer tests and by the worker that `torchrun` starts."""

import os
from pathlib import Path

import torch
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer


WORKER = str(Path(__file__).parent / "worker.py")

# Every combination that changes what a window holds or how it is trained.
SETTINGS = {
    "plain": {"retrospective": "none"},
    "hard_zero": {"retrospective": "hard_zero"},
    "scored": {"retrospective": "weighted", "difficulty": "scoring"},
    "mask_long_windows": {"retrospective": "weighted", "dynamic_sampling": "mask", "steps_per_generation": 4},
    "resample": {"retrospective": "weighted", "dynamic_sampling": "resample"},
    "two_iterations": {"retrospective": "weighted", "num_iterations": 2, "dynamic_sampling": "resample"},
}


def make_args(folder, **overrides) -> PhasedGRPOConfig:
    settings = {
        "phases": [Phase(max_prompt_length=8, max_steps=4), Phase(max_prompt_length=16, max_steps=4)],
        "per_device_train_batch_size": 8 // int(os.environ.get("WORLD_SIZE", 1)),
        "num_generations": 2,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    return PhasedGRPOConfig(output_dir=str(folder), **(settings | overrides))


class RecordingTrainer(PhasedGRPOTrainer):
    """Remembers the rows of every batch of rollouts."""

    def _roll_out(self, rows):
        self.batches = [*getattr(self, "batches", []), tuple(rows)]
        return super()._roll_out(rows)


LENGTHS = (5,) * 20 + (12,) * 20


def make_trainer(args, model=None, rewards=parity_reward, lengths=LENGTHS, **kwargs) -> RecordingTrainer:
    return RecordingTrainer(
        model=model or tiny_model(),
        reward_funcs=rewards,
        args=args,
        train_dataset=tiny_prompts(list(lengths)),
        processing_class=tiny_tokenizer(),
        **kwargs,
    )


def parameters(trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def assert_equal_runs(resumed, whole) -> None:
    """Same index stream, same carried prompts, same statistics, same weights to the bit."""
    assert resumed.batches == whole.batches[len(whole.batches) - len(resumed.batches) :]
    assert resumed.curriculum.carried == whole.curriculum.carried
    assert resumed.curriculum.difficulty == whole.curriculum.difficulty
    assert resumed.state.num_input_tokens_seen == whole.state.num_input_tokens_seen
    expected = parameters(whole)
    for name, value in parameters(resumed).items():
        assert torch.equal(value, expected[name]), name


def check_resume_everywhere(folder: Path, settings: dict, lengths=LENGTHS) -> int:
    """Trains once, then resumes from each of its checkpoints; returns how many there were."""
    whole = make_trainer(make_args(folder / "whole", **settings), lengths=lengths)
    whole.train()
    checkpoints = sorted((folder / "whole").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in checkpoints[:-1]:
        # Another folder, no saves: a resumed run must not overwrite the checkpoints it is compared with.
        args = make_args(folder / checkpoint.name, **(settings | {"save_strategy": "no"}))
        resumed = make_trainer(args, lengths=lengths)
        resumed.train(resume_from_checkpoint=str(checkpoint))
        assert_equal_runs(resumed, whole)
    return len(checkpoints) - 1
