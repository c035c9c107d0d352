"""`qwenlong-trl loong run|judge|report|compare`: the multi-document benchmark, from its files to tables.

```bash
export LOONG_DATA=loong  # holds loong.jsonl and doc/ (or doc.zip)
qwenlong-trl loong run --model_name_or_path Qwen/Qwen2.5-7B-Instruct --backend vllm --context_tokens 131072 \\
    --judge openai --judge_model gpt-4-turbo-2024-04-09 --output runs/full
qwenlong-trl loong run --policy skip bm25:30 cprs --compressor ns/cprs ... --output runs/rag  # compares them, too
qwenlong-trl loong compare runs/full runs/rag/bm25-30
```

A run that was interrupted goes on with the same command.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from .generation import GenerationArguments, sampler_maker
from .launch import parse_arguments
from .loong_options import (
    AssemblyArguments,
    CompareArguments,
    FolderArguments,
    LoongJudgeArguments,
    SelectionArguments,
    make_assemblies,
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
    from ..loong.records import read_loong, select
    from ..loong.run import generate, judge_run, records_digest

    sampling = Sampling(1, args.temperature, args.top_p, args.max_tokens, args.seed)
    records_path, documents_path = find_loong(selection.data)
    records = select(
        read_loong(records_path),
        *(selection.sets, selection.levels, selection.domains, selection.languages, selection.limit),
    )
    documents = LoongDocuments(documents_path)
    records = _available(records, documents, selection.skip_missing)
    judge = judge_args.make(args.mode)
    assemblies, chat = make_assemblies(args, model)
    settings = {
        **model.describe(),
        "data": file_digests([records_path]),
        "sampling": asdict(sampling),
        "chat": chat,
        **({"records": records_digest(records)} if args.mode == "official" else {}),
    }
    make_sampler = lru_cache(maxsize=1)(sampler_maker(model))  # one for all policies
    output = Path(selection.output)
    folders = [output] if len(assemblies) == 1 else [output / name.replace(":", "-") for name in assemblies]
    for folder, (policy, assembly) in zip(folders, assemblies.items(), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{len(records):,} records, mode {args.mode}, policy {policy} -> {folder}", flush=True)
        about = {**settings, "assembly": assembly.describe()}
        failed = generate(folder, records, documents, assembly, make_sampler, sampling, about, chat)
        if failed:
            id, reason = next(iter(failed.items()))
            print(f"{len(failed)} of {len(records)} records have no answer, which counts as wrong; {id}: {reason}")
        if judge is not None:
            judge_run(folder, judge)
        _write_report(folder, FolderArguments())
    for other in folders[1:]:
        _write_comparison([folders[0], other], output / f"{folders[0].name}-against-{other.name}")
    return 0


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
    judge_run(folder[0], judge, args.judgements)
    _write_report(folder[0], args)
    return 0


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
            f"{message}, for example {id}: {', '.join(names[:3])}; add the files, or go on with the other records by "
            "--skip_missing"
        )
    print(f"{message}; left out: {', '.join(list(missing)[:5])}{' ...' if len(missing) > 5 else ''}", flush=True)
    return left


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


def _write_report(folder: Path, args: FolderArguments) -> None:
    from ..loong.report import print_report, write_report
    from ..loong.run import read_run, scored_rows

    mode = read_run(folder)[2]["assembly"]["mode"]
    rows, about = scored_rows(folder, parse_of(mode), args.judgements)
    print_report(write_report(folder, rows, about, mode))
    print(f"{folder / 'report.html'}, report.md, report.json")
    if args.eval_results is not None:
        from ..loong.adapters.eval_results import write_eval_results

        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        score = "structured" if about["judge"] is None else "judge"
        print(write_eval_results(args.eval_results, report, args.dataset_id, score=score))
