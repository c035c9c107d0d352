"""Time and peak memory of a step of SoLoPOTrainer, against TRL's DPOTrainer on the long prompt.

    python examples/benchmarks/solopo_step.py                      # on an idle core about 8 minutes
    python examples/benchmarks/solopo_step.py --runs 1             # a quick look
    python examples/benchmarks/solopo_step.py --hidden_size 1024 --layers 16 --vocab_size 151936   # for a GPU

All train the same randomly initialised Qwen2 on the same pairs: DPOTrainer runs both answers on the long prompt,
SoLoPOTrainer both on the short one and the chosen one on the long one. The short prompt is computed once for both
answers, which can be done for the long prompt of DPO just as well (`objective="long_po"` of SoLoPOTrainer does).
Tokenizer and rows are made on the spot; nothing is downloaded. A step is the trainer's own, from TRL's callback before
it to the one after it: training step, clipping and optimizer step, without building the batch. A run trains each of
them in turn, in an order that changes, and ratios are taken within a run, so that a machine that becomes slower
touches all.

Peak memory above the state is what a step adds to weights and optimizer state: activations, gradients, temporaries. On
CUDA it is `max_memory_allocated` less what was allocated before the step, and the total is that peak itself. On CPU it
is the peak of the resident memory (VmHWM of /proc, Linux only) less that before the step, in a process of its own for
each, where freed blocks go back to the system at once.

The bounds are of the work itself, without shared prefixes: linear in the tokens (2r + 1) / 2, r = short / long, as
matrix products and stored activations are, and quadratic (2r² + 1) / 2, as attention is. Backward passes one after the
other hold the larger side only: max(2r, 1) / 2; their extra forward pass of the short chosen answer is not in the
bounds. What is the same for all weighs on the ratios of a small model: gradients, the optimizer's step, and on CPU the
tiles of TRL's LM head, 4096 tokens by the vocabulary.
"""

import argparse
import contextlib
import gc
import io
import os
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback, Qwen2Config, TrainerCallback
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer

from qwenlong_trl import SoLoPOConfig, SoLoPOTrainer


CASES = ((8192, 1024), (4096, 1024), (2048, 512))  # tokens of the long and of the short side, answer included
DPO, JOINT, SEQUENTIAL = "DPO, long prompt", "SoLoPO, joint", "SoLoPO, sequential"
# Prefix sharing helps both: DPO computes its long prompt once for both answers, SoLoPO its short one.
DPO_SHARED, UNSHARED = "DPO, prompt shared", "SoLoPO, not shared"
WAYS = {  # settings of SoLoPOConfig; DPO itself is TRL's
    DPO: None,
    DPO_SHARED: {"objective": "long_po"},
    UNSHARED: {"prefix_sharing": False},
    JOINT: {},
    SEQUENTIAL: {"sequential_backward": True},
}
GOALS = {JOINT: (0.65, 0.65), SEQUENTIAL: (None, 0.55)}  # time and memory at 8:1
ANSWER_TOKENS = 32
HEAD_SIZE = 64


class StepMeter(TrainerCallback):
    """Wall time, processor time, and peak memory above the start and in total (bytes) of every step but the first,
    which allocates the optimizer state."""

    def __init__(self, measure_memory: bool):
        self.measure_memory, self.steps = measure_memory, []

    def on_step_begin(self, args, state, control, **kwargs):
        gc.collect()
        self.before = self.memory(reset=True)[0]
        self.start = time.perf_counter(), time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        _, peak = self.memory()
        if state.global_step > 1:
            times = time.perf_counter() - self.start[0], time.process_time() - self.start[1]
            self.steps.append((*times, peak - self.before, peak))

    def memory(self, reset: bool = False) -> tuple[int, int]:
        """Memory in use now, and its peak since the last reset."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            if reset:
                torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        if not self.measure_memory:
            return 0, 0
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return tuple(1024 * int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))


def make_tokenizer(words: list[str]):
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_model(options):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=options.vocab_size,
        hidden_size=options.hidden_size,
        intermediate_size=4 * options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden_size // HEAD_SIZE),
        num_key_value_heads=1,
        max_position_embeddings=CASES[0][0],
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def make_rows(long: int, short: int, words: list[str], count: int) -> Dataset:
    """Rows of exactly these lengths, so that no way of training pads."""
    rng = random.Random(0)

    def text(tokens: int) -> str:
        return " ".join(rng.choices(words, k=tokens)) + " "

    answer = ANSWER_TOKENS - 1  # and the end of the sequence
    rows = []
    for _ in range(count):
        prompt = text(short - ANSWER_TOKENS)
        rows.append(
            {"prompt": prompt, "long_prompt": text(long - short) + prompt, "chosen": text(answer)}
            | {"rejected": text(answer)}
        )
    return Dataset.from_list(rows)


def run(way: str, long: int, short: int, options, measure_memory: bool = True) -> list[tuple[float, ...]]:
    """Trains one way; returns what `StepMeter` saw of each step but the first."""
    logging.set_verbosity_error()
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    words = [f"w{i}" for i in range(min(options.vocab_size - 3, 500))]
    rows = make_rows(long, short, words, options.batch_size)
    on_gpu = torch.cuda.is_available()
    shared = {
        "per_device_train_batch_size": options.batch_size,
        "max_steps": options.steps + 1,
        "precompute_ref_log_probs": options.reference == "precomputed",
        "gradient_checkpointing": options.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "report_to": [],
        "disable_tqdm": True,
    }
    meter = StepMeter(measure_memory)
    with tempfile.TemporaryDirectory() as folder:
        if way == DPO:
            rows = rows.remove_columns("prompt").rename_column("long_prompt", "prompt")
            trainer_class, args = DPOTrainer, DPOConfig(folder, max_length=long, **shared)
            tokens = 2 * long
        else:
            trainer_class, args = (
                SoLoPOTrainer,
                SoLoPOConfig(
                    folder,
                    algorithm="dpo",
                    max_length=short,
                    max_long_length=long,
                    **WAYS[way],
                    **shared,
                ),
            )
            tokens = 2 * long if way == DPO_SHARED else 2 * short + long
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars of the reference, warnings about options
            trainer = trainer_class(
                make_model(options),
                make_model(options) if options.reference == "copy" else None,
                args=args,
                train_dataset=rows,
                processing_class=make_tokenizer(words),
                peft_config=LoraConfig(target_modules="all-linear") if options.reference == "adapter" else None,
                callbacks=[meter],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    seen = max(entry.get("num_tokens", 0) for entry in trainer.state.log_history)
    if seen != tokens * options.batch_size * (options.steps + 1):
        raise SystemExit(f"{way} trained on {seen} tokens, not {tokens} per pair; the figures cannot be compared")
    del trainer
    gc.collect()
    return meter.steps


def in_its_own_process(*arguments) -> list[tuple[float, ...]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def attention_share(long: int, options) -> float:
    """Share of attention (causal, scores and sums) in the multiplications of the layers on the long side."""
    attention = 2 * long / 2 * options.hidden_size
    matrices = (2 * options.hidden_size + 2 * HEAD_SIZE + 3 * 4 * options.hidden_size) * options.hidden_size
    return attention / (attention + matrices)


def report(long: int, short: int, runs: list[dict[str, list]], memory: dict[str, list], options) -> None:
    r = short / long
    linear, quadratic = (2 * r + 1) / 2, (2 * r**2 + 1) / 2
    on_gpu = torch.cuda.is_available()
    print(f"\n{long} / {short} tokens; attention is {attention_share(long, options):.0%} of the long side's work")
    print(f"bounds: time {quadratic:.3f} (quadratic) to {linear:.3f} (linear), memory {linear:.3f}, ", end="")
    print(f"sequential {max(2 * r, 1) / 2:.3f}")
    head = f"{'':20}{'s a step':>10}{'ratio':>8}{'all runs':>16}{'processor':>11}{'MiB':>9}{'ratio':>8}"
    print(head + (f"{'total MiB':>11}{'ratio':>8}" if on_gpu else ""))

    def times(of_run: dict[str, list], way: str, clock: int) -> float:
        return statistics.median(step[clock] for step in of_run[way])

    for way in WAYS:
        ratios, processor = (
            [times(of_run, way, clock) / times(of_run, DPO, clock) for of_run in runs] for clock in (0, 1)
        )
        line = f"{way:20}{statistics.median(times(of_run, way, 0) for of_run in runs):10.3f}"
        line += f"{statistics.median(ratios):8.3f}{f'{min(ratios):.3f} to {max(ratios):.3f}':>16}"
        line += f"{'-' if on_gpu else f'{statistics.median(processor):.3f}':>11}"
        reached = []
        for kind in (2, 3)[: 2 if on_gpu else 1] if memory else ():
            peaks = {name: statistics.median(step[kind] for step in steps) for name, steps in memory.items()}
            reached.append(peaks[way] / peaks[DPO])
            line += f"{peaks[way] / 2**20:{9 if kind == 2 else 11}.1f}{reached[-1]:8.3f}"
        print(line)
        if long == 8 * short and way in GOALS:
            time_goal, memory_goal = GOALS[way]
            found = [] if time_goal is None else [("time", statistics.median(ratios), time_goal)]
            found += [("memory", value, memory_goal) for value in reached[:1]]
            for what, value, goal in found:
                print(f"{'':20}goal: {what} at most {goal}, {'met' if value <= goal else 'NOT met'} ({value:.3f})")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="Runs of each way of training.")
    parser.add_argument("--steps", type=int, default=1, help="Steps of a run, after one that is not counted.")
    parser.add_argument("--batch_size", type=int, default=1, help="Pairs in a step.")
    parser.add_argument("--hidden_size", type=int, default=128, help=f"Width, in heads of {HEAD_SIZE}.")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab_size", type=int, default=128, help="On CPU, TRL's head runs on prompts as well.")
    parser.add_argument("--reference", choices=("precomputed", "copy", "adapter"), default="precomputed")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="Threads of PyTorch on CPU.")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    print(f"{torch.cuda.get_device_name() if on_gpu else f'CPU, {options.threads} thread(s)'}; {options}")
    # For the processes that measure memory on CPU: every block from 64 KiB on is a mapping of its own.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

    ways = list(WAYS)
    for long, short in CASES:
        memory = {}
        if not on_gpu and sys.platform == "linux":
            memory = {way: in_its_own_process(way, long, short, options) for way in ways}
        runs = []
        for i in range(options.runs):
            order = ways[i % len(ways) :] + ways[: i % len(ways)]
            runs.append({way: run(way, long, short, options, measure_memory=False) for way in order})
        report(long, short, runs, memory or (runs[-1] if on_gpu else {}), options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
