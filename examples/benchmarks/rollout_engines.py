"""Tokens per second of rollouts: transformers as TRL calls it, transformers with shared prompts, and vLLM.

    python examples/benchmarks/rollout_engines.py                           # 2 prompts of 1,024 tokens, groups of 8
    python examples/benchmarks/rollout_engines.py --prompt_tokens 256 --runs 1 --json rollouts.json

All roll out through TRL's own trainer (`_generate_single_turn`), with the same model, which is made on the spot and
saved, the same prompts in groups, and the most probable tokens, which are compared. Each engine is a process of its
own with the same number of threads. Runs take turns, each turn with fresh prompts, so that a machine that becomes
slower touches all and no cache holds a prompt of the turn before; medians are reported. vLLM gets the weights in the
first turn, which is not counted. Without vLLM its row says so.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from small_models import save_qwen3


ARMS = {
    "transformers": "transformers, as TRL calls it",
    "shared_reading": "prompts read once, cache repeated",
    "shared_decoding": "prompts read and kept once",
    "vllm": "vLLM, colocated",
}


def make_trainer(arm: str, folder: str, args: argparse.Namespace):
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from qwenlong_trl.engines import prepare_engine
    from qwenlong_trl.prefix_sharing import PrefixSharingMixin

    class Sharing(PrefixSharingMixin, GRPOTrainer):
        # Left open, the trainer asks the model whether it can.
        _share_decoding = None if arm == "shared_decoding" else False

    greedy = {"do_sample": False}
    if arm == "vllm":
        from trl.generation import vllm_generation

        # TRL has no option for the type, and vLLM takes bfloat16 for a float32 model.
        vllm_generation.LLM = functools.partial(vllm_generation.LLM, dtype=args.dtype)
        greedy = {"temperature": 0}
    rows = args.groups * args.group_size
    config = GRPOConfig(
        output_dir=str(Path(folder) / arm),
        per_device_train_batch_size=rows,
        num_generations=args.group_size,
        max_completion_length=args.completion_tokens,
        generation_kwargs=greedy,
        model_init_kwargs={"dtype": args.dtype},
        use_vllm=arm == "vllm",
        vllm_mode="colocate",
        bf16=False,
        report_to=[],
    )
    trainer = (GRPOTrainer if arm in ("transformers", "vllm") else Sharing)(
        folder,
        lambda completions, **kwargs: [0.0] * len(completions),
        config,
        Dataset.from_list([{"prompt": "w1 w2"}] * rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    prepare_engine(trainer)
    return trainer


def serve(arm: str, folder: str, args: argparse.Namespace, pipe) -> None:
    """One engine in its process: makes itself ready, then answers prompts with seconds and completions."""
    try:
        import torch

        if arm != "vllm":  # which minds OMP_NUM_THREADS alone
            torch.set_num_threads(args.threads)
        trainer = make_trainer(arm, folder, args)
        pipe.send(str(trainer.accelerator.device))
        while (prompts := pipe.recv()) is not None:
            rows = [prompt for prompt in prompts for _ in range(args.group_size)]
            started = time.perf_counter()
            completions, _ = trainer._generate_single_turn(rows, None, {}, args.group_size)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken = time.perf_counter() - started
            if arm == "shared_decoding" and not trainer._share_decoding:
                raise RuntimeError("this model cannot share the cache of a prompt in decoding")
            pipe.send((taken, [list(map(int, ids)) for ids in completions]))
    except Exception as error:  # a row of the table, and not the end
        pipe.send(f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    finally:
        sys.stdout.flush()
        os._exit(0)  # an engine's threads would keep the process


def measure(folder: str, args: argparse.Namespace) -> dict[str, dict]:
    context = multiprocessing.get_context("spawn")
    results = {arm: {"engine": ARMS[arm], "seconds": [], "tokens": [], "completions": []} for arm in args.engines}
    running = {}
    for arm in args.engines:
        if arm == "vllm" and not find_spec("vllm"):
            results[arm]["note"] = "vLLM is not installed here"
            continue
        pipe, end = context.Pipe()
        process = context.Process(target=serve, args=(arm, folder, args, end), daemon=True)
        process.start()
        end.close()
        running[arm] = (process, pipe)
        state = pipe.recv()  # one after the other: starting takes the whole machine
        if state.startswith("failed"):
            results[arm]["note"] = state
            del running[arm]
    rng = random.Random(args.seed)
    for turn in range(args.runs + 1):
        prompts = [[rng.randrange(3, 4096) for _ in range(args.prompt_tokens)] for _ in range(args.groups)]
        for arm in list(running):
            process, pipe = running[arm]
            pipe.send(prompts)
            try:
                answer = pipe.recv()
            except EOFError:
                answer = "failed: the process ended"
            if isinstance(answer, str):
                results[arm]["note"] = answer
                del running[arm]
            elif turn > 0:
                seconds, completions = answer
                results[arm]["seconds"].append(seconds)
                results[arm]["tokens"].append(sum(map(len, completions)))
                results[arm]["completions"] += completions
    for process, pipe in running.values():
        pipe.send(None)
        process.join(60)
    return results


def summarise(results: dict[str, dict]) -> list[dict]:
    base = results.get("transformers", {})
    rows = []
    for arm, result in results.items():
        row = {"name": arm, "engine": result["engine"], "note": result.get("note", "")}
        if result["seconds"] and "note" not in result:
            rates = [tokens / seconds for tokens, seconds in zip(result["tokens"], result["seconds"], strict=True)]
            row |= {"tokens_per_second": statistics.median(rates), "lowest": min(rates), "highest": max(rates)}
            row["completions"] = len(result["completions"])
            if base.get("seconds"):
                pairs = zip(base["seconds"], result["seconds"], strict=True)
                row["speed_up"] = statistics.median(stock / own for stock, own in pairs)
                pairs = zip(base["completions"], result["completions"], strict=True)
                row["equal"] = sum(stock == own for stock, own in pairs)
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    lines = ["| engine | tokens/s | lowest to highest | times stock | completions equal to stock's |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        if "tokens_per_second" not in row:
            lines.append(f"| {row['engine']} | {row['note']} | | | |")
            continue
        speed, equal = row.get("speed_up"), row.get("equal")
        cells = [row["engine"], f"{row['tokens_per_second']:,.1f}", f"{row['lowest']:,.1f} to {row['highest']:,.1f}"]
        cells += ["" if speed is None else f"{speed:.2f}", "" if equal is None else f"{equal} of {row['completions']}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt_tokens", type=int, default=1024)
    parser.add_argument("--completion_tokens", type=int, default=64, help="longest completion")
    parser.add_argument("--groups", type=int, default=2, help="different prompts of a turn")
    parser.add_argument("--group_size", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--runs", type=int, default=5, help="turns that are counted")
    parser.add_argument("--threads", type=int, default=1, help="threads of each engine on a CPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    for name, value in {
        "OMP_NUM_THREADS": args.threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": 1,
        "VLLM_CPU_KVCACHE_SPACE": 1,  # GB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # or vLLM takes all cores
        "VLLM_LOGGING_LEVEL": "WARNING",
    }.items():
        os.environ.setdefault(name, str(value))

    with tempfile.TemporaryDirectory() as folder:
        positions = args.prompt_tokens + args.completion_tokens + 128
        save_qwen3(Path(folder), args.width, args.layers, 4096, positions)
        rows = summarise(measure(folder, args))
    settings = {name: value for name, value in vars(args).items() if name not in ("json", "engines")}
    print(
        f"{args.groups} prompts of {args.prompt_tokens:,} tokens, {args.group_size} completions of up to "
        f"{args.completion_tokens} tokens each; {args.layers} layers, {args.width} wide, {args.dtype}; medians of "
        f"{args.runs} turns, {args.threads} threads\n"
    )
    print(table(rows), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"settings": settings, "engines": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
