"""Scoring with shared prefixes against TRL's scorer: time of a forward and backward pass, and peak memory.

    python examples/benchmarks/prefix_sharing.py         # the whole grid, on an idle core about an hour
    python examples/benchmarks/prefix_sharing.py --prompts 2048 --completions 128 --groups 8 --hidden_size 512
    python examples/benchmarks/prefix_sharing.py --dtype bfloat16 --hidden_size 2048 --layers 16 --vocab_size 151936

Both score the G completions of one prompt, without padding, on the same randomly initialised Qwen3 with TRL's fused
head, and backpropagate the sum of the log-probabilities. A run takes both in turn, in an order that changes; the
speed-up is the median of the ratios within a run; `processor` is that of processor time, which other programs on the
machine disturb less. Beside them stands what it would be if all work were linear in the
tokens, G(P + C) / (P + GC), and the same for the multiplications of attention alone, which grow with the square:
G(P + C)^2 / (P^2 + 2GCP + GC^2). Memory is the peak above the state (weights and gradients) in one pass: on CPU of the
resident memory, in a process of its own in which freed blocks go back to the system at once (Linux only).
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from small_models import HEAD_SIZE, qwen3_config
from transformers import Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from qwenlong_trl.prefix_sharing import SharedPrefixForward, why_not_scoring


TRL, OURS = "TRL", "shared"


def make_model(options) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = qwen3_config(
        options.hidden_size, options.layers, options.vocab_size, 65536, attn_implementation=options.attention
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Qwen3ForCausalLM(config).to(device, getattr(torch, options.dtype))
    add_fused_lm_head(model)
    model.train()
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # part of the state
    return model


def make_batch(prompt: int, completion: int, group: int, model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(prompt + completion)
    vocabulary = model.config.vocab_size
    shared = torch.randint(vocabulary, (1, prompt), generator=generator).repeat(group, 1)
    ids = torch.cat([shared, torch.randint(vocabulary, (group, completion), generator=generator)], dim=1)
    labels = ids.clone()
    labels[:, :prompt] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: value.to(model.device) for name, value in batch.items()}


def memory(reset: bool = False) -> tuple[int, int]:
    """Memory in use now, and its peak since the last reset, in bytes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(1024 * int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))


def one_pass(way: str, model, batch) -> tuple[float, float]:
    """Seconds of one forward and backward pass, of wall and of processor time."""
    score = SharedPrefixForward(model) if way == OURS else model
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start, worked = time.perf_counter(), time.process_time()
    score(**batch, fused_lm_head=True).log_probs.sum().backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - worked


def peak(way: str, case: tuple[int, int, int], options) -> int:
    """Bytes above the state in one pass."""
    torch.set_num_threads(options.threads)
    model = make_model(options)
    one_pass(way, model, make_batch(64, 8, 2, model))
    batch = make_batch(*case, model)
    gc.collect()
    before = memory(reset=True)[0]
    one_pass(way, model, batch)
    return memory()[1] - before


def peaks(case: tuple[int, int, int], options) -> dict[str, int] | None:
    if torch.cuda.is_available():
        return {way: peak(way, case, options) for way in (TRL, OURS)}
    if sys.platform != "linux":
        return None
    found = {}
    for way in (TRL, OURS):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found[way] = pool.submit(peak, way, case, options).result()
    return found


def measure(case: tuple[int, int, int], model, options) -> dict:
    prompt, completion, group = case
    batch = make_batch(*case, model)
    ratios, seconds, started = [], {TRL: [], OURS: []}, time.perf_counter()
    for run in range(options.runs):
        for way in (TRL, OURS) if run % 2 else (OURS, TRL):
            seconds[way].append(one_pass(way, model, batch))
        ratios.append([theirs / ours for theirs, ours in zip(seconds[TRL][-1], seconds[OURS][-1], strict=True)])
        if time.perf_counter() - started > options.seconds:
            break
    wall, processor = zip(*ratios, strict=True)
    squares = prompt**2 + 2 * group * completion * prompt + group * completion**2
    return {
        "P": prompt,
        "C": completion,
        "G": group,
        "runs": len(ratios),
        "seconds": {way: statistics.median(wall for wall, _ in values) for way, values in seconds.items()},
        "speed-up": statistics.median(wall),
        "range": (min(wall), max(wall)),
        "processor": statistics.median(processor),
        "tokens": group * (prompt + completion) / (prompt + group * completion),
        "attention": group * (prompt + completion) ** 2 / squares,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--prompts", type=int, nargs="+", default=[512, 2048, 8192], help="P, tokens of the prompt.")
    parser.add_argument("--completions", type=int, nargs="+", default=[64, 128, 512], help="C, tokens of each.")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16], help="G, completions of a prompt.")
    parser.add_argument("--runs", type=int, default=3, help="Runs of both ways in each case.")
    parser.add_argument("--seconds", type=float, default=60, help="No further run of a case after so long.")
    parser.add_argument("--hidden_size", type=int, default=256, help=f"Width, in heads of {HEAD_SIZE}.")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab_size", type=int, default=1024)
    parser.add_argument("--attention", default="sdpa", help="Attention implementation of the model.")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--no_memory", action="store_true", help="Time alone.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of PyTorch on CPU.")
    parser.add_argument("--json", type=Path, help="Where to write the figures, too.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {options.threads} threads"
    model = make_model(options)
    with torch.no_grad():
        reason = why_not_scoring(model)
    if reason is not None:
        raise SystemExit(f"prefixes cannot be shared: {reason}")
    print(f"{where}; {options.layers} layers, {options.hidden_size} wide, {options.dtype}, torch {torch.__version__}")
    # For the processes that measure memory on CPU: every block from 64 KiB on is a mapping of its own.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    print(
        "\n| P | C | G | TRL, s | shared, s | speed-up | range (runs) | processor | tokens | share "
        "| attention | TRL, MiB | shared | ratio |"
    )
    print("| --- " * 14 + "|")
    for way in (TRL, OURS):
        one_pass(way, model, make_batch(64, 8, 2, model))
    results = []
    for case in product(options.prompts, options.completions, options.groups):
        found = measure(case, model, options)
        found["memory"] = None if options.no_memory else peaks(case, options)
        results.append(found)
        low, high = found["range"]
        line = f"| {found['P']} | {found['C']} | {found['G']} | {found['seconds'][TRL]:.2f} "
        line += f"| {found['seconds'][OURS]:.2f} | **{found['speed-up']:.2f}** "
        line += f"| {low:.2f} to {high:.2f} ({found['runs']}) | {found['processor']:.2f} | {found['tokens']:.2f} "
        line += f"| {found['speed-up'] / found['tokens']:.2f} | {found['attention']:.2f} "
        used = found["memory"]
        mib = (
            [f"{used[way] / 2**20:.0f}" for way in (TRL, OURS)] + [f"{used[OURS] / used[TRL]:.2f}"] if used else "---"
        )
        print(line + "".join(f"| {value} " for value in mib) + "|", flush=True)
    report_goals(results)
    if options.json:
        options.json.write_text(
            json.dumps({"where": where, "options": vars(options) | {"json": None}, "cases": results})
        )


def report_goals(results: list[dict]) -> None:
    def say(what: str, met: bool, value: str) -> None:
        print(f"goal: {what}: {'met' if met else 'NOT met'} ({value})")

    long = [found["speed-up"] / found["tokens"] for found in results if found["P"] >= 2048]
    print()
    if long:
        say("at least 0.9 of the token ratio from P = 2048 on", min(long) >= 0.9, f"least {min(long):.2f}")
    for found in results:
        if (found["P"], found["C"], found["G"]) == (2048, 128, 8):
            say("at least 5.1 times at (2048, 128, 8)", found["speed-up"] >= 5.1, f"{found['speed-up']:.2f}")
            if found["memory"]:
                ratio = found["memory"][OURS] / found["memory"][TRL]
                say("at most a third of the memory there", ratio <= 1 / 3, f"{ratio:.2f}")


if __name__ == "__main__":
    main()
