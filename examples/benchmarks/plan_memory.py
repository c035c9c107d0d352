"""Compares what `qwenlong-trl plan` expects of a micro-batch with the memory that it takes, on the machine at hand.

```bash
python examples/benchmarks/plan_memory.py
```

Forward and backward pass of GRPO's scoring, for a Qwen3 with random weights: TRL's fused LM head, one group of
completions, gradients of an earlier micro-batch in place. On CPUs the peak of a process above its state before; on a
GPU PyTorch's own count, with bfloat16 by autocast.
"""

import argparse
import gc
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from small_models import qwen3_config
from transformers import Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from qwenlong_trl.engines.plan import Run, Sizes, memory
from qwenlong_trl.prefix_sharing import SharedPrefixForward


@dataclass(frozen=True)
class Case:
    """Sizes of a model and of a group."""

    hidden: int
    layers: int
    vocabulary: int
    prompt: int
    completion: int
    group: int

    def config(self):
        settings = {"num_key_value_heads": max(1, self.hidden // 256), "tie_word_embeddings": False}
        return qwen3_config(self.hidden, self.layers, self.vocabulary, self.prompt + self.completion, **settings)


CASES = (
    Case(hidden=128, layers=4, vocabulary=1000, prompt=512, completion=64, group=4),
    Case(hidden=256, layers=4, vocabulary=2000, prompt=384, completion=64, group=4),
    Case(hidden=512, layers=2, vocabulary=4000, prompt=384, completion=128, group=2),
)
WAYS = {
    "rows by themselves": {"prefix_sharing": False, "checkpointing": False},
    "shared prefix": {"checkpointing": False},
    "shared, checkpointing": {},
}


def run_of(case: Case, way: str) -> Run:
    on_gpu = torch.cuda.is_available()
    run = Run(case.prompt, case.completion, case.group, cpu=not on_gpu, compute_bytes=2 if on_gpu else 4)
    return replace(run, **WAYS[way])


def expected(case: Case, way: str) -> int:
    """Bytes that a micro-batch takes besides weights and gradients."""
    return sum(memory(Sizes.of(case.config()), run_of(case, way)).step.values())


def measure(case: Case, way: str) -> int:
    """Bytes that it takes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = run_of(case, way)
    device = "cpu" if run.cpu else "cuda"
    model = Qwen3ForCausalLM._from_config(case.config(), attn_implementation="sdpa").to(device).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if run.checkpointing:
        model.gradient_checkpointing_enable()
    prompt = torch.randint(3, case.vocabulary, (1, case.prompt)).expand(case.group, -1)
    ids = torch.cat([prompt, torch.randint(3, case.vocabulary, (case.group, case.completion))], dim=1).to(device)
    labels = ids.clone()
    labels[:, : case.prompt] = -100
    score = SharedPrefixForward(model) if run.prefix_sharing else model
    for parameter in model.parameters():  # not the first micro-batch of its step
        parameter.grad = torch.ones_like(parameter)
    gc.collect()
    before = memory_of_process(device, reset=True)[0]
    with torch.autocast(device, torch.bfloat16, enabled=not run.cpu):
        outputs = score(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
    outputs.log_probs.sum().backward()
    return memory_of_process(device)[1] - before


def memory_of_process(device: str, reset: bool = False) -> tuple[int, int]:
    """Bytes in use, and the most since the last reset."""
    if device == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(1024 * int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))


def measure_all(pairs: Iterable[tuple[Case, str]]) -> Iterator[tuple[Case, str, int]]:
    """Cases and ways with what they take, measured in one process."""
    # Every block from 64 KiB on is a mapping of its own there, which goes back when it is freed.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for case, way in pairs:
            yield case, way, pool.submit(measure, case, way).result()


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    on_gpu = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if on_gpu else "CPU, float32, one thread")
    print(f"{'':22}{'H':>6}{'layers':>8}{'P':>6}{'C':>5}{'G':>3}{'planned':>11}{'measured':>10}{'ratio':>7}  (MiB)")
    for case, way, measured in measure_all(product(CASES, WAYS)):
        planned = expected(case, way)
        sizes = f"{case.hidden:6}{case.layers:8}{case.prompt:6}{case.completion:5}{case.group:3}"
        line = f"{way:22}{sizes}{planned / 2**20:11.1f}{measured / 2**20:10.1f}{planned / measured:7.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
