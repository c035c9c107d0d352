"""A first look on a GPU: does each way to train run there, how fast, in how much memory, and is it exact?

    python examples/benchmarks/gpu_smoke.py                                 # every row, a small model made on the spot
    python examples/benchmarks/gpu_smoke.py --model Qwen/Qwen3-0.6B --prompt_tokens 4096 --json smoke.json
    python examples/benchmarks/gpu_smoke.py --rows sharing vllm             # some rows

Each row trains a few steps of PhasedGRPO over two phases in a process of its own, so that one that fails is a row of
the table and not the end. The columns: seconds per step (the median without the first), peak memory that torch
allocated, the mean difference between the log-probabilities of what sampled and of the policy (with vLLM, the largest
of all steps: it grows if weights do not arrive), and how many times fewer tokens prefix sharing computes. `exact` is
the largest difference in log-probabilities between shared and ordinary scoring of one batch, in the row's type.

Without a GPU it says so and exits with 2. `--cpu` runs the rows that a CPU can, which tests this script and nothing
else. We had no GPU: on one, this script itself has never run.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from small_models import save_qwen3


# Row: what it shows, settings of the trainer, settings of the model, LoRA, whether a CPU can.
ROWS = {
    "plain": ("transformers, nothing shared", {"prefix_sharing": False}, {}, False, True),
    "sharing": ("shared prefixes", {}, {}, False, True),
    "float32": ("shared prefixes in float32", {"bf16": False}, {"dtype": "float32"}, False, True),
    "checkpointing": ("shared prefixes, gradient checkpointing", {"gradient_checkpointing": True}, {}, False, True),
    "flash": ("flash attention 2 (needs flash-attn)", {}, {"attn_implementation": "flash_attention_2"}, False, False),
    "liger": ("Liger layers (needs liger-kernel)", {"use_liger_kernel": True}, {}, False, False),
    "lora": ("LoRA", {}, {}, True, True),
    "vllm": ("vLLM in the same process", {"use_vllm": True}, {}, False, True),
    "vllm_sleep": ("vLLM that sleeps", {"use_vllm": True, "vllm_enable_sleep_mode": True}, {}, False, False),
    "vllm_lora": ("vLLM and LoRA", {"use_vllm": True}, {}, True, True),
    "all": (
        "vLLM that sleeps, LoRA, Liger layers, gradient checkpointing",
        {
            "use_vllm": True,
            "vllm_enable_sleep_mode": True,
            "use_liger_kernel": True,
            "gradient_checkpointing": True,
        },
        {},
        True,
        False,
    ),
}


def make_prompts(model: str, args: argparse.Namespace):
    """Prompts of half and of the whole length, in words that every tokenizer knows."""
    import random

    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rng = random.Random(0)
    prompts = []
    for length in (args.prompt_tokens // 2 - 8, args.prompt_tokens - 8):
        for _ in range(8):
            ids = tokenizer(" ".join(f"w{rng.randrange(1000)}" for _ in range(length)))["input_ids"]
            prompts.append(tokenizer.decode(ids[:length]))
    return Dataset.from_list([{"id": f"p{i}", "prompt": prompt} for i, prompt in enumerate(prompts)]), tokenizer


def even_share(completion_ids, **kwargs):
    return [sum(token % 2 == 0 for token in ids) / max(1, len(ids)) for ids in completion_ids]


def make_trainer(row: str, model: str, args: argparse.Namespace, clock):
    from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer

    _, settings, model_settings, lora, _ = ROWS[row]
    dataset, tokenizer = make_prompts(model, args)
    shorter, longer = args.completion_tokens // 2, args.completion_tokens
    config = PhasedGRPOConfig(
        output_dir=str(Path(args.folder) / row),
        phases=[
            Phase(args.prompt_tokens // 2, args.steps, max_completion_length=shorter),
            Phase(args.prompt_tokens, args.steps, max_completion_length=longer),
        ],
        **{
            "per_device_train_batch_size": 8,
            "num_generations": 8,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False,
            "max_completion_length": longer,
            "learning_rate": 1e-4,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": args.cpu,
            "bf16": True,
            "report_to": [],
            "disable_tqdm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": 0.3,
            "vllm_max_model_length": args.prompt_tokens + longer,
            "model_init_kwargs": {"dtype": "bfloat16", **model_settings},
            **settings,
        },
    )
    adapter = None
    if lora:
        from peft import LoraConfig

        adapter = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return PhasedGRPOTrainer(
        model,
        even_share,
        config,
        dataset,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[clock],
    )


def sharing_difference(trainer) -> tuple[float | None, str]:
    """The largest difference in log-probabilities between shared and ordinary scoring, or why nothing is shared."""
    import torch

    from qwenlong_trl.prefix_sharing import why_not_scoring

    if not trainer.args.prefix_sharing:
        return None, ""
    with torch.no_grad(), trainer.accelerator.autocast():
        reason = why_not_scoring(trainer.model, trainer.accelerator.device)
    if reason is not None:
        return None, f"not shared: {reason}"
    torch.manual_seed(0)
    prompt = torch.randint(3, 1000, (1, 200), device=trainer.accelerator.device).expand(8, -1)
    completions = torch.randint(3, 1000, (8, 24), device=trainer.accelerator.device)
    ids = torch.cat([prompt, completions], dim=1)
    scores = []
    for shared in (True, False):
        trainer.args.prefix_sharing = shared
        with torch.no_grad(), trainer.accelerator.autocast():
            found, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 24)
        scores.append(found.float())
    trainer.args.prefix_sharing = True
    return (scores[0] - scores[1]).abs().max().item(), ""


def run_row(row: str, args: argparse.Namespace) -> dict:
    """Trains, in a process of its own, and returns what the table shows."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        ends = []

        def on_step_end(self, *_, **__):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    clock = Clock()
    trainer = make_trainer(row, args.model, args, clock)
    exact, note = sharing_difference(trainer)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    bad = [entry["loss"] for entry in steps if not math.isfinite(float(entry["loss"]))]
    result = {"steps": len(steps), "note": note, "exact": exact}
    result["seconds"] = statistics.median(b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False))
    if torch.cuda.is_available():
        result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    differences = [e[name] for e in steps if (name := "sampling/sampling_logp_difference/mean") in e]
    ratios = [entry["prefix_sharing/token_ratio"] for entry in steps if "prefix_sharing/token_ratio" in entry]
    result["difference"] = max(map(float, differences), default=None)
    result["token_ratio"] = statistics.median(map(float, ratios)) if ratios else None
    if bad:
        raise RuntimeError(f"{len(bad)} of {len(steps)} losses are not finite: {bad[0]}")
    if result["difference"] is not None and result["difference"] > 0.05:
        raise RuntimeError(f"the engine and the policy differ by {result['difference']:.3f}: weights do not arrive")
    return result


def in_a_process(row: str, argv: list[str], folder: str, model: str, timeout: float) -> dict:
    command = [sys.executable, __file__, *argv, "--model", model, "--row", row, "--folder", folder]
    started = time.perf_counter()
    log = Path(folder) / f"{row}.log"
    try:
        with log.open("w") as file:
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        code = f"no end after {timeout:.0f} s"
    found = Path(folder) / f"{row}.json"
    if found.exists():
        return json.loads(found.read_text()) | {"total": time.perf_counter() - started}
    tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
    return {"error": f"exit code {code}: {' '.join(tail)}", "total": time.perf_counter() - started}


def table(results: dict[str, dict]) -> str:
    lines = ["| row | what | result | s/step | peak GiB | logp difference | token ratio | exact |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    formats = {"seconds": ".3f", "peak_gib": ".2f", "difference": ".4f", "token_ratio": ".2f", "exact": ".1e"}
    for row, result in results.items():
        said = (
            f"failed: {result['error']}"
            if "error" in result
            else "ran" + (f"; {result['note']}" * bool(result["note"]))
        )
        said = said.replace("|", "/")[:200]
        values = [format(result[name], form) if result.get(name) is not None else "" for name, form in formats.items()]
        lines.append(f"| {row} | {ROWS[row][0]} | {said} | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Hub name or folder; a small one with random weights by default")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=None)
    parser.add_argument("--prompt_tokens", type=int, default=1024)
    parser.add_argument("--completion_tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of each of the two phases")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that a row may take")
    parser.add_argument("--cpu", action="store_true", help="run the rows that a CPU can, to test this script")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)  # what a row's process is called with
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()

    import torch

    # Before anything imports vLLM, which TRL does.
    if not torch.cuda.is_available() and not args.cpu:
        print("no GPU: torch.cuda.is_available() is False. --cpu runs the rows that a CPU can.", file=sys.stderr)
        return 2
    if args.cpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    if args.row:
        # A failed check leaves no file, so that the log's last line is the row's result.
        result = run_row(args.row, args)
        (Path(args.folder) / f"{args.row}.json").write_text(json.dumps(result))
        sys.stdout.flush()
        os._exit(0)  # an engine's threads would keep the process
    rows = args.rows or [row for row, parts in ROWS.items() if parts[-1] or not args.cpu]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or str(Path(folder) / "model")
        if not args.model:
            save_qwen3(Path(model), 256, 4, 1024, args.prompt_tokens + args.completion_tokens, "bfloat16")
        for row in rows:
            results[row] = in_a_process(row, sys.argv[1:], folder, model, args.timeout)
            print(f"{row}: {results[row].get('error', 'ran')} ({results[row]['total']:.0f} s)", file=sys.stderr)
    where = "CPU" if args.cpu else torch.cuda.get_device_name()
    print(f"{where}, torch {torch.__version__}; prompts of {args.prompt_tokens:,} tokens, groups of 8\n")
    print(table(results), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"device": where, "rows": results}, indent=2) + "\n")
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
