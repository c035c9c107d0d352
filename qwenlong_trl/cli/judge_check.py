"""`qwenlong-trl judge-check`: how often a judge agrees with pairs of answers that people have labelled.

```bash
qwenlong-trl judge-check --judge openai --judge_base_url http://localhost:8000/v1 \\
    --judge_model Qwen/Qwen2.5-1.5B-Instruct --data pairs.jsonl --output judgements.jsonl
```

A pair has the fields `question`, `prediction`, `gold` and `equivalent` (true or false); every other field that holds
text, such as `language` or `kind`, makes a row of the table.
"""

import asyncio
import json
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .judges import JudgeArguments, make_judge
from .launch import parse_arguments


_FIELDS = {"question": str, "prediction": str, "gold": str, "equivalent": bool}
# Texts that say what a pair is about, not what it asks. More values than this are names, not groups.
_MOST_GROUPS = 20


@dataclass
class JudgeCheckArguments:
    """What the judge is measured on."""

    data: str = field(metadata={"help": "File with labelled pairs: .jsonl, .json or .parquet."})
    output: str | None = field(
        default=None, metadata={"help": "File to write with every pair, its verdict and the judge's words: .jsonl."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace the output file if it exists."})


def main(argv: list[str]) -> int:
    """Asks the judge and prints the tables; returns the exit code. Errors are the caller's business."""
    judge_args, args = parse_arguments(
        "judge-check",
        argv,
        (JudgeArguments, JudgeCheckArguments),
        "Agreement of a judge with labelled pairs, so that a judge is chosen by measurement.",
        "qwenlong-trl judge-check --judge openai --judge_base_url http://localhost:8000/v1 "
        "--judge_model Qwen/Qwen2.5-1.5B-Instruct --data pairs.jsonl",
        launcher=False,
    )
    if judge_args.judge is None:
        raise ValueError("give --judge openai or --judge transformers")
    if args.output is not None:
        _check_output(Path(args.output), args.overwrite)
    pairs = read_pairs(args.data)
    judgements = _ask(make_judge(judge_args), pairs)
    # Answers cost time: what fails of the two does not take the other with it.
    try:
        if args.output is not None:
            _write(args.output, pairs, judgements)
    finally:
        _print(pairs, judgements)
    return 0


def read_pairs(path: str) -> list[dict[str, Any]]:
    """
    The labelled pairs of a file.

    Raises:
        [`InvalidRecordError`]: for a row without one of the fields, or with another type in it.
        `ValueError`: if there is none.
    """
    from ..data import InvalidRecordError
    from ..data.readers.files import read_rows

    pairs = []
    for row, pair in read_rows(Path(path)):
        if not isinstance(pair, dict):
            raise InvalidRecordError("", pair, "expected an object with question, prediction, gold, equivalent").at(
                path, row
            )
        for name, kind in _FIELDS.items():
            if not isinstance(pair.get(name), kind):
                wanted = "true or false" if kind is bool else "a string"
                raise InvalidRecordError(name, pair.get(name), f"expected {wanted}", path, row)
        pairs.append(pair)
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs


def _check_output(path: Path, overwrite: bool) -> None:
    """Now rather than after the judge has answered."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file to write")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; give --overwrite to replace it")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path.parent} is no folder to write to; make it first")


def _ask(judge, pairs: list[dict[str, Any]]) -> list:
    from tqdm import tqdm

    from ..rewards import Comparison
    from ..rewards.judge import ask

    comparisons = [Comparison(pair["question"], pair["prediction"], pair["gold"]) for pair in pairs]

    async def run() -> list:
        judgements = []
        # In parts, for the progress bar; each part has the whole deadline.
        with tqdm(total=len(comparisons), desc="Judging", unit=" pairs") as bar:
            for start in range(0, len(comparisons), 64):
                part = await ask(judge, comparisons[start : start + 64])
                judgements += part
                bar.update(len(part))
        return judgements

    return asyncio.run(run())


def _print(pairs: list[dict[str, Any]], judgements: list) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..rewards.judge import encodable

    console = Console()
    columns = ("yes", "no", "invalid", "failed")
    outcomes = [_outcome(judgement) for judgement in judgements]
    table = Table("label", *columns, title="Verdicts")
    for label in (True, False):
        counts = [
            sum(
                pair["equivalent"] is label and outcome == column
                for pair, outcome in zip(pairs, outcomes, strict=True)
            )
            for column in columns
        ]
        table.add_row("equivalent" if label else "different", *map(str, counts))
    console.print(table)

    right = [
        judgement.verdict is not None and judgement.verdict == pair["equivalent"]
        for pair, judgement in zip(pairs, judgements, strict=True)
    ]
    table = Table("pairs", "agreement", "95 % interval", "count", title="Agreement (no verdict counts as wrong)")
    table.add_row("all", *_share(right))
    for name, value in _groups(pairs):
        table.add_row(
            Text(encodable(f"{name}: {value}")),
            *_share([r for r, p in zip(right, pairs, strict=True) if p.get(name) == value]),
        )
    console.print(table)
    if (invalid := outcomes.count("invalid")) > 0:
        console.print(
            f"{invalid} answers hold neither \\[[YES]] nor \\[[NO]]: the judge does not keep the form, or was cut off "
            "(--judge_max_tokens); --output shows its words"
        )
    seconds = [judgement.seconds for judgement in judgements if judgement.seconds is not None]
    if seconds:
        console.print(f"median of a request: {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")
    if errors := [judgement.error for judgement in judgements if judgement.error is not None]:
        console.print(f"{len(errors)} requests failed; the first: {errors[0]}", markup=False)


def _share(right: list[bool]) -> tuple[str, str, str]:
    from ..intervals import wilson_interval

    share = sum(right) / len(right)
    low, high = wilson_interval(share, len(right))
    return f"{share:.3f}", f"{low:.2f} to {high:.2f}", str(len(right))


def _groups(pairs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    names = sorted({name for pair in pairs for name, value in pair.items() if isinstance(value, str)} - set(_FIELDS))
    groups = []
    for name in names:
        values = sorted({pair[name] for pair in pairs if isinstance(pair.get(name), str)})
        if 1 < len(values) <= _MOST_GROUPS:
            groups += [(name, value) for value in values]
    return groups


def _outcome(judgement) -> str:
    if judgement.error is not None:
        return "failed"
    return {True: "yes", False: "no", None: "invalid"}[judgement.verdict]


def _write(path: str, pairs: list[dict[str, Any]], judgements: list) -> None:
    temporary = Path(f"{path}.part")
    # A lone surrogate, which JSON can hold, is escaped as JSON does it.
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for pair, judgement in zip(pairs, judgements, strict=True):
            row = pair | {"outcome": _outcome(judgement), "judge": judgement.text, "error": judgement.error}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, path)
    print(f"written: {path}")
