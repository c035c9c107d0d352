"""`qwenlong-trl loong run|judge|report|compare`: the multi-document benchmark, from its files to tables.

```bash
export LOONG_DATA=loong  # holds loong.jsonl and doc/ (or doc.zip)
qwenlong-trl loong run --model_name_or_path Qwen/Qwen3-4B-Instruct-2507 --backend vllm --context_tokens 131072 \\
    --judge openai --judge_model gpt-4-turbo-2024-04-09 --output runs/full
qwenlong-trl loong run --model_name_or_path Qwen/Qwen3-4B-Instruct-2507 --backend vllm --context_tokens 32768 \\
    --policy skip bm25:30 --judge openai --judge_model gpt-4-turbo-2024-04-09 --output runs/rag  # compares them, too
qwenlong-trl loong compare runs/full runs/rag/bm25-30
```

A run that was interrupted goes on with the same command, and so does one whose judge failed on some answers, which
ends with exit code 1. Models are loaded when they have something to do, and the one that answers is gone before a
judge in this process comes.
"""

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from .generation import GenerationArguments, sampler_maker
from .launch import parse_arguments
from .loong_options import (
    POLICIES,
    AssemblyArguments,
    CompareArguments,
    FolderArguments,
    LoongJudgeArguments,
    PromptPlan,
    SelectionArguments,
    make_plan,
    parse_of,
)
from .records import file_digests


def main(argv: list[str]) -> int:
    """Runs one of the commands; returns the exit code. Errors are the caller's business."""
    commands = {"run": _run, "judge": _judge, "report": _report, "compare": _compare}
    if argv[:1] in (["-h"], ["--help"]):
        print(_USAGE)
        for name, text in _HELP.items():
            print(f"  {name:<9}{text}")
        print("\nqwenlong-trl loong COMMAND --help lists the options of a command.")
        return 0
    if not argv or argv[0] not in commands:
        found = f", got {argv[0]!r}" if argv else ""
        print(f"{_USAGE}\nqwenlong-trl loong: error: expected one of {', '.join(commands)}{found}", file=sys.stderr)
        raise SystemExit(2)
    return commands[argv[0]](argv[1:])


_USAGE = "usage: qwenlong-trl loong {run,judge,report,compare} ..."
_HELP = {
    "run": "Put prompts together, have a model answer and a judge score, report.",
    "judge": "Have a judge score the answers of a run: judge FOLDER --judge ...",
    "report": "Write the report of a run again: report FOLDER",
    "compare": "Compare two runs record by record: compare FOLDER FOLDER",
}


def _run(argv: list[str]) -> int:
    selection, args, model, judge_args = parse_arguments(
        "loong run",
        argv,
        (SelectionArguments, AssemblyArguments, GenerationArguments, LoongJudgeArguments),
        "Loong (arXiv 2406.17419): questions over 2 to 54 documents, answered, judged and reported.",
        "qwenlong-trl loong run --data loong --sets 1 --model_name_or_path Qwen/Qwen2.5-7B-Instruct --backend vllm "
        "--judge openai --judge_model gpt-4o --output runs/set1",
        launcher=False,
    )
    from ..generation import Sampling
    from ..loong.documents import LoongDocuments, find_loong
    from ..loong.run import judge_run, records_digest, report_stem

    report_stem(selection.judgements)  # its error, before anything is asked
    judge = judge_args.make(args.mode)
    if judge is None and selection.judgements != FolderArguments().judgements:
        raise ValueError("--judgements goes with --judge; `qwenlong-trl loong report` reports of those that are there")
    sampling = Sampling(1, args.temperature, args.top_p, args.max_tokens, args.seed)
    records_path, documents_path = find_loong(selection.data)
    documents = LoongDocuments(documents_path)
    records = _records(selection, records_path, documents)
    plan = make_plan(args, model)
    output = Path(selection.output)
    folders = [output] if len(plan.assemblies) == 1 else [output / name.replace(":", "-") for name in plan.assemblies]
    _check_output(output, folders)
    if judge is not None:
        for folder in folders:
            _check_judge(folder / selection.judgements, judge)
    settings = {
        **model.describe(),
        "data": file_digests([records_path]),
        "sampling": asdict(sampling),
        "chat": plan.chat,
        "require_delimiter": plan.require_delimiter,
        **({"records": records_digest(records)} if args.mode == "official" else {}),
    }
    _generate(folders, records, documents, plan, model, sampling, settings, judge)
    del plan  # which may hold a retriever
    _free_memory()
    unjudged = 0
    for folder in folders:
        if judge is not None:
            judge_run(folder, judge, selection.judgements)
        unjudged += _write_report(folder, FolderArguments(selection.judgements))
    if judge is not None and unjudged:
        return 1
    for other in folders[1:]:
        to = output / f"{folders[0].name}-against-{other.name}"
        _write_comparison([folders[0], other], to, selection.judgements)
    return 0


def _records(selection: SelectionArguments, path: Path, documents) -> list[Any]:
    """The records that the options select."""
    from ..loong.records import read_loong, select

    # Where records are left out for want of their documents, the sample is one of the others.
    limit = None if selection.skip_missing else selection.limit
    chosen = select(
        read_loong(path), selection.sets, selection.levels, selection.domains, selection.languages, limit=limit
    )
    there = _available(chosen, documents, selection.skip_missing)
    return select(there, limit=selection.limit)


def _check_output(output: Path, folders: Sequence[Path]) -> None:
    """One folder is either a run, or holds the runs of several policies."""
    if folders != [output] and (output / "predictions.jsonl").exists():
        raise ValueError(
            f"{output} is the folder of a run; the runs of several policies need another --output, where each gets a "
            "folder"
        )
    if folders == [output] and not (output / "predictions.jsonl").exists():
        runs = [path.parent.name for path in sorted(output.glob("*/predictions.jsonl"))]
        if runs := [name for name in runs if name.partition("-")[0] in POLICIES]:
            raise ValueError(
                f"{output} holds the runs of several policies ({', '.join(runs)}); to continue one of them give "
                f"--output {output / runs[0]}, else another --output"
            )


def _check_judge(path: Path, judge) -> None:
    """Raises `SettingsMismatchError` where another judge wrote the judgements."""
    from ..generation import SettingsMismatchError, read_settings

    if not path.is_file():
        return
    with open(path, "rb") as file:
        if not file.readline().endswith(b"\n"):  # of a run that was killed before it wrote anything
            return
    known, ours = read_settings(path), json.loads(json.dumps(judge.settings))
    if names := [name for name in {**known, **ours} if known.get(name) != ours.get(name)]:
        differences = "; ".join(f"{name} was {known.get(name)!r} and is {ours.get(name)!r}" for name in names)
        raise SettingsMismatchError(
            f"{path} was written with another judge: {differences}. Give the same one to continue, or another "
            "--judgements FILE"
        )


def _generate(
    folders: Sequence[Path],
    records: Sequence[Any],
    documents,
    plan: PromptPlan,
    model: GenerationArguments,
    sampling,
    settings: dict[str, Any],
    judge,
) -> None:
    """The predictions of all policies. The model is started for the first that needs it, and gone at the end."""
    from ..loong.run import generate
    from ..rewards import OpenAIJudge

    @cache
    def make_sampler():
        if judge is not None and isinstance(judge.judge, OpenAIJudge):
            judge.check()  # a server that is not there is found out before hours of answers
        # A server that takes the reasoning out leaves no `</think>` to look for.
        return sampler_maker(model, "refuse" if plan.require_delimiter else "drop", plan.context_tokens)()

    for folder, (policy, assembly) in zip(folders, plan.assemblies.items(), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        mode = assembly.mode
        print(f"{len(records):,} records, mode {mode}, policy {policy} -> {folder}", flush=True)
        about = {**settings, "assembly": assembly.describe()}
        failed = generate(folder, records, documents, assembly, make_sampler, sampling, about, plan.chat)
        if failed:
            id, reason = next(iter(failed.items()))
            print(
                f"{len(failed)} of {len(records)} records have no answer, which counts as wrong; {_plain(id)}: "
                f"{_plain(reason)}"
            )


def _free_memory() -> None:
    """The memory of a model that nobody holds any more, for the next one."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _judge(argv: list[str]) -> int:
    folder, argv = _folders("judge", argv, 1)
    args, judge_args = parse_arguments(
        "loong judge FOLDER",
        argv,
        (FolderArguments, LoongJudgeArguments),
        "Scores the answers of a run; another judge needs another --judgements FILE.",
        "qwenlong-trl loong judge runs/set1 --judge openai --judge_model gpt-4o --judgements gpt-4o.jsonl",
        launcher=False,
    )
    from ..loong.run import judge_run, read_run

    mode = read_run(folder[0])[2]["assembly"]["mode"]
    judge = judge_args.make(mode)
    if judge is None:
        raise ValueError("give --judge openai or --judge transformers, with --judge_model")
    _check_judge(folder[0] / args.judgements, judge)
    judge_run(folder[0], judge, args.judgements)
    return 1 if _write_report(folder[0], args) else 0


def _report(argv: list[str]) -> int:
    folder, argv = _folders("report", argv, 1)
    (args,) = parse_arguments(
        "loong report FOLDER",
        argv,
        (FolderArguments,),
        "Writes report.md, report.json and report.html of a run, and prints its tables.",
        "qwenlong-trl loong report runs/set1",
        launcher=False,
    )
    _write_report(folder[0], args)
    return 0


def _compare(argv: list[str]) -> int:
    folders, argv = _folders("compare", argv, 2)
    (args,) = parse_arguments(
        "loong compare FOLDER FOLDER",
        argv,
        (CompareArguments,),
        "Differences of two runs (first less second) with paired 95 % intervals over document sets.",
        "qwenlong-trl loong compare runs/full runs/bm25",
        launcher=False,
    )
    output = Path(args.output) if args.output else folders[0] / f"against-{folders[1].resolve().name}"
    _write_comparison(folders, output, args.judgements, args.intersect)
    return 0


def _folders(command: str, argv: list[str], count: int) -> tuple[list[Path], list[str]]:
    """The folders that a command line begins with, and the rest of it."""
    names = [*argv[:count]]
    if {"-h", "--help"} & set(argv):
        return [Path(".")] * count, ["--help"]
    if len(names) < count or any(name.startswith("-") for name in names):
        print(
            f"usage: qwenlong-trl loong {command} {' '.join(['FOLDER'] * count)} ...\n"
            f"qwenlong-trl loong {command}: error: expected {count} folder{'s' * (count > 1)} of runs first",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return [Path(name) for name in names], argv[count:]


def _available(records: Sequence[Any], documents, skip_missing: bool) -> list[Any]:
    missing = documents.missing(records)
    if not missing:
        return list(records)
    domains = sorted({record.type for record in records if record.id in missing})
    message = f"{len(missing)} of {len(records)} records lack documents in {documents.source} ({', '.join(domains)})"
    left = [record for record in records if record.id not in missing]
    if not skip_missing or not left:
        id, names = next(iter(missing.items()))
        raise ValueError(
            f"{message}, for example {_plain(id)}: {_plain(', '.join(names[:3]))}; add the files, or go on with the "
            "other records by --skip_missing"
        )
    some = ", ".join(map(_plain, list(missing)[:5]))
    print(f"{message}; left out: {some}{' ...' if len(missing) > 5 else ''}", flush=True)
    return left


def _plain(text: str) -> str:
    """On one line, and without what a terminal would obey: ids and errors are words of others."""
    from ..loong.report_parts import shown

    return shown(" ".join(text.split()), 300)


def _write_comparison(
    folders: Sequence[Path], output: Path, judgements: str = "judgements.jsonl", intersect: bool = False
) -> None:
    from rich.console import Console

    from ..loong.comparison import write_comparison
    from ..loong.run import read_run, scored_rows

    runs = [scored_rows(one, parse_of(read_run(one)[2]["assembly"]["mode"]), judgements) for one in folders]
    names = tuple(folder.resolve().name for folder in folders)
    names = names if names[0] != names[1] else tuple(map(str, folders))
    console = Console()
    for table in write_comparison(output, *runs, names=names, intersect=intersect):
        console.print(table.as_rich())
    print(f"{output / 'comparison.md'}, comparison.json")


def _write_report(folder: Path, args: FolderArguments) -> int:
    """Writes and prints the report; how many answers the judge should have scored and has not, which is printed."""
    from ..loong.report import print_report, write_report
    from ..loong.run import read_run, report_stem, scored_rows

    mode = read_run(folder)[2]["assembly"]["mode"]
    stem = report_stem(args.judgements)
    rows, about = scored_rows(folder, parse_of(mode), args.judgements)
    print_report(write_report(folder, rows, about, mode, stem=stem))
    print(f"{folder / stem}.html, {stem}.md, {stem}.json")
    if args.eval_results is not None:
        from ..loong.adapters.eval_results import write_eval_results

        report = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        score = "structured" if about["judge"] is None else "judge"
        print(write_eval_results(args.eval_results, report, args.dataset_id, score=score))
    if unjudged := sum(row.unjudged for row in rows):
        print(
            f"{unjudged:,} of {len(rows):,} answers are not judged; the same command with --judge asks for them again"
        )
    return unjudged
