"""`qwenlong-trl plan`: how much memory a GRPO training takes on each GPU, and what would lower it.

```bash
qwenlong-trl plan --model Qwen/Qwen3-8B --prompt 60000 --completion 10000 --group 8 --gpus 8
```

Only the model's configuration is read. The formulas, and where they come from, are in `qwenlong_trl/engines/plan.py`.
"""

import argparse
import json
from dataclasses import asdict, fields, replace


_GIB = 2**30
# Kept free for what no formula knows: CUDA contexts, communication, the allocator's gaps. Ours.
_RESERVE = 0.1


def main(argv: list[str]) -> int:
    """Prints the plan; returns the exit code, 0 whether it fits or not. Errors are the caller's business."""
    args = _parser().parse_args(argv)
    from transformers import AutoConfig

    from ..engines.plan import Run, Sizes, levers, memory

    if args.gpu_memory <= 0:
        raise ValueError(f"--gpu_memory must be positive, got {args.gpu_memory}")
    options = {field.name: getattr(args, field.name) for field in fields(Run) if hasattr(args, field.name)}
    options |= {
        "gpu_memory": int(args.gpu_memory * _GIB),
        "weight_bytes": {"float32": 4, "bfloat16": 2}[args.weights],
        "padded": args.attention == "sdpa",
    }
    run = Run(**options)
    sizes = Sizes.of(AutoConfig.from_pretrained(args.model, revision=args.revision))
    plan = memory(sizes, run)
    usable = int((1 - _RESERVE) * run.gpu_memory)
    found = {
        "model": args.model,
        "parameters": sizes.parameters,
        "run": asdict(run),
        "bytes": {"state": plan.state, "step": plan.step, "rollout": plan.rollout},
        "host_bytes": plan.host,
        "peak_bytes": plan.peak,
        "usable_bytes": usable,
        "fits": plan.peak <= usable,
        "step_bytes": {
            f"{shape}, {'with' if again else 'without'} checkpointing": sum(
                memory(sizes, replace(run, prefix_sharing=sharing, checkpointing=again)).step.values()
            )
            for sharing, shape in ((True, "shared prefix"), (False, "rows by themselves"))
            for again in (True, False)
        },
        "saved_bytes": dict(levers(sizes, run)),
    }
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return 0


def _show(found: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    run = found["run"]
    rows = run["rows"] or run["group"]
    table = Table(title=f"{found['model']}, {found['parameters'] / 1e9:.2f} billion parameters: GiB on each GPU")
    table.add_column("")
    table.add_column("GiB", justify="right")
    titles = {"state": "all the time", "step": "in a training step", "rollout": "while sampling"}
    for part, title in titles.items():
        items = found["bytes"][part]
        table.add_row(f"[bold]{title}", f"[bold]{sum(items.values()) / _GIB:.1f}")
        for name, size in items.items():
            table.add_row(f"  {name}", f"{size / _GIB:.1f}")
        table.add_section()
    table.add_row("[bold]peak", f"[bold]{found['peak_bytes'] / _GIB:.1f}")
    table.add_section()
    table.add_row(f"a training step with {rows} completions in a micro-batch")
    for name, size in found["step_bytes"].items():
        table.add_row(f"  {name}", f"{size / _GIB:.1f}")
    console = Console(highlight=False)
    console.print(table)
    if found["host_bytes"]:
        console.print(f"On the host, for all GPUs together: {found['host_bytes'] / _GIB:.1f} GiB.")
    usable, whole = found["usable_bytes"] / _GIB, run["gpu_memory"] / _GIB
    verdict = "It fits" if found["fits"] else "It does not fit"
    console.print(f"{verdict}: {usable:.1f} of {whole:.1f} GiB can be planned with.")
    if not found["fits"]:
        for place, (name, size) in enumerate(found["saved_bytes"].items()):
            most = "the most, " if place == 0 else ""
            then = ", and then it fits" if found["peak_bytes"] - size <= found["usable_bytes"] else ""
            console.print(f"- {name} saves {most}{size / _GIB:.1f} GiB{then}", soft_wrap=True)
        if not found["saved_bytes"]:
            console.print("No option known here lowers it: take fewer tokens, or GPUs with more memory.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qwenlong-trl plan",
        description=__doc__.splitlines()[0].partition(": ")[2].capitalize(),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--model", required=True, help="A model of the hub, or a folder with config.json.")
    add("--revision", help="Branch, tag or commit of the model.")
    add("--prompt", type=int, required=True, help="Tokens of the longest prompt.")
    add("--completion", type=int, required=True, help="Tokens of the longest completion.")
    add("--group", type=int, default=8, help="Completions of a prompt (num_generations).")
    add("--rows", type=int, help="Completions in a micro-batch (per_device_train_batch_size). A group if left out.")
    add("--rollout_rows", type=int, help="Completions that a process samples at once. As --rows if left out.")
    add("--gpus", type=int, default=1, help="GPUs that train.")
    add("--gpu_memory", type=float, default=80.0, help="GiB of a GPU.")
    add("--weights", choices=("float32", "bfloat16"), default="float32", help="Type of the trained weights.")
    add("--optimizer", choices=("adamw", "adamw_8bit"), default="adamw", help="Optimizer.")
    add("--lora_rank", type=int, default=0, help="Rank of LoRA on all matrices of the layers; 0 trains the model.")
    add("--reference", action=switch, default=False, help="A reference model (beta above 0).")
    add("--prefix_sharing", action=switch, default=True, help="Compute a prompt once for its completions.")
    add("--checkpointing", action=switch, default=True, help="Recompute activations (gradient_checkpointing).")
    add("--sharded", action=switch, default=True, help="Share the model's state out over the GPUs (FSDP2, ZeRO-3).")
    add("--offload", action=switch, default=False, help="Keep the model's state in the memory of the host.")
    add("--offload_activations", action=switch, default=False, help="Keep inputs of layers there; with checkpointing.")
    add("--attention", choices=("flash", "sdpa"), default="flash", help="sdpa needs a mask for rows by themselves.")
    add("--rollouts", choices=("transformers", "colocate", "server"), default="transformers", help="What samples.")
    add("--vllm_share", type=float, default=0.3, help="With colocate: vllm_gpu_memory_utilization.")
    add("--json", action="store_true", help="Print JSON, in bytes.")
    return parser
