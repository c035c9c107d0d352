"""`qwenlong-trl quickstart`: from nothing to a trained long-context reader, on two CPU cores, in under ten minutes.

1. Makes card indexes of four lengths (see `cards.py`).
2. Teaches a tiny reader from scratch on the shortest: pre-training (`reader.py`), then supervised fine-tuning.
3. Runs phased GRPO over three growing lengths, with retrospective sampling; and, for comparison, a single stage of as
many
   steps on the same prompts.
4. Writes one self-contained HTML report, and tables to the terminal.

Every stage keeps its result in the output folder. The same command continues where it was stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .stages import Plan


@dataclass
class QuickstartArguments:
    """Trains a tiny long-context reader with phased GRPO and reports what it learned, in minutes on two cores."""

    output_dir: str = field(default="quickstart", metadata={"help": "Folder for data, models and the report."})
    seed: int = field(default=0, metadata={"help": "Seed of the data, the reader and the training."})
    eval_questions: int = field(default=256, metadata={"help": "Held-out questions of each length."})
    skip_single_stage: bool = field(
        default=False, metadata={"help": "Leave out the comparison with a single stage; halves the time."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Start anew instead of continuing in the output folder."})


# What the run is meant to show: a reader near chance on the longest contexts learns to read them.
GOAL = {"longest_before_at_most": 0.15, "longest_after_at_least": 0.7}


def main(argv: list[str]) -> int:
    from trl import TrlParser

    parser = TrlParser((QuickstartArguments,), prog="qwenlong-trl quickstart", description=QuickstartArguments.__doc__)
    (args,) = parser.parse_args_and_config(argv)
    # Notes of upstream libraries about each other; nothing that a reader of this output could act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from .report import print_summary, write_report
    from .stages import Plan

    results = quickstart(args, Plan(seed=args.seed, eval_questions=args.eval_questions))
    folder = Path(args.output_dir)
    (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print_summary(results)
    print(f"Report: {write_report(results, folder / 'report.html')}")
    return 0


def quickstart(args: QuickstartArguments, plan: Plan) -> dict[str, Any]:
    """All stages of a plan, or what is left of them; returns what the report shows."""
    from . import stages

    folder = Path(args.output_dir)
    signature = plan.settings() | {"qwenlong-trl": version("qwenlong-trl"), "trl": version("trl")}

    def stage(name: str, title: str, work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        return run_stage(folder / name, title, signature, work, args.overwrite)

    stage("data", "Making card indexes", lambda out: stages.make_data(out, plan))
    warm_up = stage("reader", "Teaching a tiny reader short indexes", lambda out: stages.warm_up(out, folder, plan))
    models, runs = {"after_sft": "reader", "phased": "phased"}, {}
    runs["phased"] = stage("phased", "Phased GRPO", lambda out: stages.reinforce(out, folder, plan))
    if not args.skip_single_stage:
        models["single_stage"] = "single_stage"
        runs["single_stage"] = stage(
            "single_stage", "Single-stage GRPO", lambda out: stages.reinforce(out, folder, plan, single_stage=True)
        )
    accuracy = {
        name: stage(
            f"accuracy_{name}",
            f"Asking held-out questions ({name})",
            lambda out, model=model: {"accuracy": stages.evaluate(folder / model, plan)},
        )["accuracy"]
        for name, model in models.items()
    }
    for name, model in models.items():
        stages.write_model_card(folder / model, accuracy[name], plan)
    before, after = accuracy["after_sft"], accuracy["phased"]
    met = (
        before[-1] <= GOAL["longest_before_at_most"]
        and after[-1] >= GOAL["longest_after_at_least"]
        and after[0] >= before[0]  # the shortest has not fallen
    )
    return {
        "seed": plan.seed,
        "versions": {name: version(name) for name in ("qwenlong-trl", "trl", "transformers", "torch", "datasets")},
        "settings": plan.settings(),
        "eval_questions": plan.eval_questions,
        "buckets": plan.buckets(),
        "accuracy": accuracy,
        "goal": {**GOAL, "met": met},
        "runs": runs,
        "carried": runs["phased"]["carried"],
        "warm_up": warm_up,
        "seconds": sum(json.loads(path.read_text())["seconds"] for path in folder.glob("*/result.json")),
    }


def run_stage(
    folder: Path, title: str, signature: dict, work: Callable[[Path], dict[str, Any]], overwrite: bool
) -> dict[str, Any]:
    """The result of a stage: kept from an earlier call with the same settings, or worked out now."""
    signature = json.loads(json.dumps(signature))  # as it comes back from the file: tuples are lists
    kept = folder / "result.json"
    marker = folder / "settings.json"
    if folder.is_dir() and (overwrite or not marker.is_file() or json.loads(marker.read_text()) != signature):
        if marker.is_file() and not overwrite:
            raise ValueError(
                f"{folder} holds a run with other settings. Pass --overwrite to start anew, or another --output_dir."
            )
        shutil.rmtree(folder)
    if kept.is_file():
        print(f"== {title}: kept from before ({folder})")
        return json.loads(kept.read_text())
    print(f"== {title}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(signature))
    started = time.perf_counter()
    result = work(folder)
    result["seconds"] = time.perf_counter() - started
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(json.dumps(result))
    temporary.replace(kept)
    return result
