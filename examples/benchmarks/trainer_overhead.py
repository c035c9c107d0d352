"""Time of a training step of PhasedGRPOTrainer with one phase and all features off, against GRPOTrainer.

    python examples/benchmarks/trainer_overhead.py                        # 12 pairs of 20 steps, about two minutes
    python examples/benchmarks/trainer_overhead.py --pairs 3 --steps 8    # a quick look

Both train the same model on the same prompts with the same seed; they do the same work to the bit, which is checked
after every pair. The runs of a pair follow each other at once, in turns of which goes first, and the ratio is taken
within the pair, so that a machine that becomes slower or faster touches both. Model, tokenizer and prompts are made on
the spot; nothing is downloaded. Times are those of the optimizer steps after the first, generation and rewards
included; building a trainer (where ours also measures and hashes the prompts) is shown apart.
"""

import argparse
import contextlib
import gc
import io
import random
import statistics
import tempfile
import time
from itertools import pairwise

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer


WORDS = [f"w{i}" for i in range(1000)]


def make_tokenizer():
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(WORDS) + 3,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


def make_prompts(tokens: int):
    rng = random.Random(0)
    return Dataset.from_list([{"prompt": " ".join(rng.choices(WORDS, k=tokens))} for _ in range(64)])


def even_share(completion_ids, **kwargs):
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


class StepClock(TrainerCallback):
    """Seconds of every optimizer step after the first, from the end of one to the end of the next: wall, processor."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append((time.perf_counter(), time.process_time()))

    def steps(self, clock: int) -> list[float]:
        return [end[clock] - start[clock] for start, end in pairwise(self.ends)]


def run(phased: bool, options) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            "output_dir": folder,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "num_generations": 4,
            "max_completion_length": options.completion_tokens,
            "learning_rate": 1e-4,
            "gradient_checkpointing": False,
            "logging_steps": 10,
            "save_strategy": "no",
            "use_cpu": True,
            "bf16": False,
            "report_to": [],
            "disable_tqdm": True,
        }
        if phased:
            phases = [Phase(max_prompt_length=options.prompt_tokens, max_steps=options.steps)]
            trainer_class, args = PhasedGRPOTrainer, PhasedGRPOConfig(phases=phases, **shared)
        else:
            trainer_class, args = GRPOTrainer, GRPOConfig(max_steps=options.steps, **shared)
        clock = StepClock()
        before = time.perf_counter()
        trainer = trainer_class(
            model=make_model(),
            reward_funcs=even_share,
            args=args,
            train_dataset=make_prompts(options.prompt_tokens),
            processing_class=make_tokenizer(),
            callbacks=[clock],
        )
        built = time.perf_counter() - before
        trainer.train()
        weights = [value.detach().clone() for value in trainer.model.parameters()]
    del trainer
    gc.collect()  # before the next run is timed, not within it
    return {"built": built, "steps": clock.steps(0), "processor": clock.steps(1), "weights": weights}


def in_pair(pair: int, options) -> tuple[dict, dict]:
    """One run of each, stock and phased, in an order that changes from pair to pair."""
    results = {}
    for phased in (False, True) if pair % 2 == 0 else (True, False):
        with contextlib.redirect_stdout(io.StringIO()):  # the trainers print their logs
            results[phased] = run(phased, options)
    if not all(map(torch.equal, results[False]["weights"], results[True]["weights"])):
        raise SystemExit("the two trainers ended with different weights; their times cannot be compared")
    return results[False], results[True]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=12, help="Pairs of runs.")
    parser.add_argument("--steps", type=int, default=20, help="Optimizer steps of a run.")
    parser.add_argument("--prompt_tokens", type=int, default=128, help="Tokens of a prompt.")
    parser.add_argument("--completion_tokens", type=int, default=16, help="Tokens of a completion.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of PyTorch.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()

    in_pair(0, options)  # warm-up, not counted
    pairs = []
    for pair in range(options.pairs):
        stock, phased = in_pair(pair, options)
        pairs.append((stock, phased))
        times = [statistics.mean(result["steps"]) for result in (stock, phased)]
        print(f"pair {pair + 1:2d}: {1000 * times[0]:6.1f} ms a step, ratio {times[1] / times[0]:.4f}", flush=True)

    print(f"\n{options.pairs} pairs of {options.steps} steps, prompts of {options.prompt_tokens} tokens")
    for name, clock in (("time", "steps"), ("processor time", "processor")):
        ratios = [sum(phased[clock]) / sum(stock[clock]) for stock, phased in pairs]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
        print(f"ratio of a step's {name}: median {median:.4f}, quartiles {low:.4f} to {high:.4f}", end="")
        print(f", all {min(ratios):.4f} to {max(ratios):.4f}")
    # Other programs only ever add time, so the fastest of all runs of a step is the least disturbed one.
    fastest = [sum(min(steps) for steps in zip(*(pair[i]["steps"] for pair in pairs), strict=True)) for i in (0, 1)]
    print(f"ratio of the fastest runs of every step: {fastest[1] / fastest[0]:.4f}", end="")
    print(f" (GRPOTrainer {1000 * fastest[0] / (options.steps - 1):.1f} ms a step)")
    built = [1000 * statistics.median(pair[i]["built"] for pair in pairs) for i in (0, 1)]
    print(f"building a trainer: GRPOTrainer {built[0]:.1f} ms, PhasedGRPOTrainer {built[1]:.1f} ms")


if __name__ == "__main__":
    main()
