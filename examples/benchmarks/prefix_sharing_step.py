"""Rollouts and whole steps of GRPO with shared prefixes, against TRL's.

    python examples/benchmarks/prefix_sharing_step.py              # on an idle core about 12 minutes
    python examples/benchmarks/prefix_sharing_step.py --part rollout

`rollout`: TRL's way, one `generate` call with every prompt as often as it has completions, against one in which equal
prompts are read once; greedy, and the tokens must be equal. `step`: an optimizer step of TRL's GRPOTrainer, rollout
and update, against one of PhasedGRPOTrainer with one phase; one group a step, sampled with the same seed, and the
losses must be equal up to rounding. Both take turns within a run, and the speed-up is the median of the ratios;
`processor` is that of processor time, which other programs on the machine disturb less. The model is a randomly
initialised Qwen3.
"""

import argparse
import contextlib
import io
import random
import statistics
import tempfile
import time

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from small_models import HEAD_SIZE, qwen3_config
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen3ForCausalLM,
    TrainerCallback,
)
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer
from qwenlong_trl.prefix_sharing import generate_shared, why_not_decoding


TRL, OURS = "TRL", "shared"
ROLLOUTS = ((1024, 16, 8), (4096, 16, 8), (4096, 64, 8))  # tokens of the prompt and of each completion, completions
STEPS = ((1024, 64, 8), (4096, 64, 8))
GOALS = {(4096, 16, 8, "rollout"): 4.0, (4096, 64, 8, "step"): 3.5}


def make_model(options) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    special = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = qwen3_config(options.hidden_size, options.layers, options.vocab_size, 32768, **special)
    return Qwen3ForCausalLM(config).to("cuda" if torch.cuda.is_available() else "cpu")


def clocks() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def rollout(way: str, model, case: tuple[int, int, int], share_decoding: bool):
    """Seconds (wall, processor) and the tokens of one rollout."""
    prompt, completion, group = case
    generator = torch.Generator().manual_seed(prompt)
    ids = torch.randint(3, model.config.vocab_size, (1, prompt), generator=generator).repeat(group, 1).to(model.device)
    arguments = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "generation_config": GenerationConfig(
            max_new_tokens=completion, min_new_tokens=completion, do_sample=False, eos_token_id=1, pad_token_id=0
        ),
    }
    start = clocks()
    with torch.no_grad():
        if way == TRL:
            tokens = model.generate(**arguments)
        else:
            tokens = generate_shared(model, model.generate, **arguments, share_decoding=share_decoding)
    return [now - before for now, before in zip(clocks(), start, strict=True)], tokens


class StepMeter(TrainerCallback):
    """Seconds (wall, processor) of every step, rollout included."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = clocks()

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append([now - before for now, before in zip(clocks(), self.start, strict=True)])


def by_parity(completion_ids, **kwargs) -> list[float]:
    return [float(sum(ids) % 2) for ids in completion_ids]


def train(way: str, case: tuple[int, int, int], options):
    """Seconds of the steps after the first, and the losses of all."""
    prompt, completion, group = case
    words = [f"w{i}" for i in range(options.vocab_size - 3)]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    rng = random.Random(0)
    steps = options.steps + 1
    rows = [{"id": str(i), "prompt": " ".join(rng.choices(words, k=prompt))} for i in range(steps)]
    settings = {
        "per_device_train_batch_size": group,
        "num_generations": group,
        "gradient_accumulation_steps": 1,
        "max_completion_length": completion,
        "generation_kwargs": {"min_new_tokens": completion},
        "learning_rate": 1e-4,
        "optim": "sgd",
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available(),
        "report_to": [],
        "disable_tqdm": True,
    }
    meter = StepMeter()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        if way == TRL:
            trainer_class, args = GRPOTrainer, GRPOConfig(folder, max_steps=steps, **settings)
        else:
            phases = [Phase(max_prompt_length=prompt, max_steps=steps)]
            trainer_class, args = PhasedGRPOTrainer, PhasedGRPOConfig(folder, phases=phases, **settings)
        trainer = trainer_class(
            make_model(options),
            reward_funcs=by_parity,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[meter],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return meter.steps[1:], [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def run(part: str, case, model, options) -> list[list[float]]:
    """Ratios (wall, processor) of one run, after checking that both ways did the same."""
    if part == "rollout":
        (theirs, expected), (ours, found) = (rollout(way, model, case, options.share_decoding) for way in (TRL, OURS))
        if not torch.equal(found, expected):
            raise SystemExit(f"tokens differ at {case}")
        steps = [(theirs, ours)]
    else:
        (theirs, expected), (ours, found) = (train(way, case, options) for way in (TRL, OURS))
        if any(
            abs(a - b) > (1e-2 if torch.cuda.is_available() else 1e-5) for a, b in zip(expected, found, strict=True)
        ):
            raise SystemExit(f"losses differ at {case}: {expected} and {found}")
        steps = list(zip(theirs, ours, strict=True))
    for a, b in steps:
        options.seconds.setdefault((part, case), []).append((a[0], b[0]))
    return [[a[0] / b[0], a[1] / b[1]] for a, b in steps]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--part", choices=("rollout", "step", "both"), default="both")
    parser.add_argument("--runs", type=int, default=3, help="Runs of both ways in each case.")
    parser.add_argument("--steps", type=int, default=1, help="Steps of a run, after one that is not counted.")
    parser.add_argument("--hidden_size", type=int, default=256, help=f"Width, in heads of {HEAD_SIZE}.")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab_size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1, help="Threads of PyTorch on CPU.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    disable_progress_bar()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {options.threads} thread(s)"
    model = make_model(options).eval()
    with torch.no_grad():
        options.share_decoding = why_not_decoding(model) is None
    options.seconds = {}
    print(f"{where}; {options.layers} layers, {options.hidden_size} wide, torch {torch.__version__}\n")
    print("| | P | C | G | TRL, s | shared, s | speed-up | range (runs) | processor |")
    print("| --- " * 9 + "|")
    missed = []
    for part, cases in (("rollout", ROLLOUTS), ("step", STEPS)):
        for case in cases if options.part in (part, "both") else ():
            ratios = [ratio for _ in range(options.runs) for ratio in run(part, case, model, options)]
            wall, processor = zip(*ratios, strict=True)
            theirs, ours = zip(*options.seconds[part, case], strict=True)
            line = f"| {part} | {' | '.join(map(str, case))} | {statistics.median(theirs):.2f} "
            line += f"| {statistics.median(ours):.2f} | **{statistics.median(wall):.2f}** "
            line += f"| {min(wall):.2f} to {max(wall):.2f} ({len(wall)}) | {statistics.median(processor):.2f} |"
            print(line, flush=True)
            goal = GOALS.get((*case, part))
            if goal is not None:
                missed.append(f"goal: {part} at {case} at least {goal} times: ")
                missed[-1] += "met" if statistics.median(wall) >= goal else "NOT met"
    print("", *missed, sep="\n")


if __name__ == "__main__":
    main()
