"""The figures of [`~qwenlong_trl.evaluation.report_data`] as tables: Markdown for files, rich for the terminal.

```python
>>> print(markdown_report(data))
>>> print_report(data)
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .report import tokens_name


@dataclass(frozen=True)
class Table:
    """A title, names of columns, and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def report_tables(data: Mapping[str, Any]) -> list[Table]:
    """The tables of a run, without those that would have no row."""
    scores = [("score", data["score"]), ("rule alone", data["rule"])]
    if data["judge"] is not None:
        scores.append(("judge alone", data["judge"]))
    rows = [(name, *_cells(estimate)) for name, estimate in scores]
    if data["average"]["tasks"] > 1:
        rows.append((f"average of {data['average']['tasks']} tasks", *_cells(data["average"])))
    columns = ("%", "95 % interval", "questions", "answers")
    tables = [Table("Score", ("", *columns), rows)]
    for title, name, key in (("By task", "task", "by_task"), ("By prompt tokens", "name", "by_length")):
        tables.append(Table(title, ("", *columns), [(row[name], *_cells(row)) for row in data[key]]))
    tables.append(Table("By task and prompt tokens", *_grid(data["by_task_and_length"])))
    depth = [(row["depth"], *_cells(row)) for row in data["by_depth"]]
    tables.append(Table("By place of the evidence in the context", ("", *columns), depth))
    if len(data["pass_at_k"]) > 1:
        curve = [
            (str(p["k"]), _percent(p["mean"]), _interval(p["interval"]), str(p["questions"]))
            for p in data["pass_at_k"]
        ]
        tables.append(Table("Pass@k", ("k", "%", "95 % interval", "questions"), curve))
    return [table for table in tables if table.rows]


def report_notes(data: Mapping[str, Any]) -> list[str]:
    """What is to be said beside the tables, a sentence each."""
    counts, effective = data["counts"], data["effective_length"]
    below = f"Effective length: none; the shortest prompts score below {_percent(effective['threshold'])} %."
    reached = (
        f"Effective length: {tokens_name(effective['tokens'])} tokens, up to which all buckets score "
        f"{_percent(effective['threshold'])} % or more."
        if effective["tokens"] is not None
        else below
    )
    notes = [*_how(data), reached]
    for name, text in (
        ("failed", "{} answers are missing, because the model or its server gave none."),
        ("empty", "{} answers are empty."),
        ("left_out", "{} of these are left out of every mean, as the official evaluation does it."),
        ("cut_off", "{} answers were cut off at the limit of tokens."),
        ("unread", "In {} answers the rule found nothing that it can read."),
        ("truncated_prompts", "{} prompts lost their middle to fit the limit of tokens."),
        ("judged", "The judge was asked about {} answers."),
        ("accepted_by_judge_alone", "{} answers count because of the judge, against the rule."),
        ("without_verdict", "The judge gave no verdict on {} answers, which keep the rule's score."),
    ):
        if counts[name]:
            notes.append(text.format(f"{counts[name]:,}"))
    return notes


def _how(data: Mapping[str, Any]) -> list[str]:
    """What each number depends on: the mode, the prompt, and the judge with its prompt."""
    settings = data["settings"]
    prompt = settings.get("protocol", {}).get("template_hash")
    judge = settings.get("judge")
    notes = [f"Mode: {data['mode']}" + (f"; prompt {prompt}." if prompt else ".")]
    if judge:
        asked = f"{judge['prompt']} ({judge['prompt_hash']})" if judge.get("prompt_hash") else "its own"
        notes.append(f"Score: the larger one of the rule's and that of the judge {judge['name']}, prompt {asked}.")
    else:
        notes.append("Score: the rule's; there was no judge.")
    return notes


def comparison_tables(data: Mapping[str, Any], names: tuple[str, str]) -> list[Table]:
    """The tables of two runs that were compared; `names` are theirs."""
    columns = (*names, "difference", "95 % interval", "questions")
    tables = [Table("Score", ("", *columns), [("all", *_compared(data["score"]))])]
    for title, name, key in (("By task", "task", "by_task"), ("By prompt tokens", "name", "by_length")):
        tables.append(Table(title, ("", *columns), [(row[name], *_compared(row)) for row in data[key]]))
    return tables


def comparison_notes(data: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    """What is to be said beside those tables."""
    notes = [
        f"{names[0]} is better on {data['better']:,} questions, worse on {data['worse']:,}, equal on {data['equal']:,}"
    ]
    if data["settings"]:
        notes.append(f"The runs differ in {', '.join(data['settings'])}.")
    if {"judge", "judge_all"} & data["settings"].keys():
        notes.append("They were not judged alike, so a part of the difference may be the judge's.")
    for name, key in zip(names, ("only_ours", "only_theirs"), strict=True):
        if data[key]:
            notes.append(f"{data[key]:,} questions are only in {name} and do not count here.")
    return notes


def markdown_report(data: Mapping[str, Any]) -> str:
    """`report.md`: the notes, the tables, and the settings."""
    settings = [(name, str(value)) for name, value in data["settings"].items() if value is not None]
    tables = [*report_tables(data), Table("Settings", ("", "value"), settings)]
    return markdown("Evaluation", report_notes(data), tables)


def markdown_comparison(data: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Two runs compared, as Markdown."""
    return markdown(f"{names[0]} against {names[1]}", comparison_notes(data, names), comparison_tables(data, names))


def markdown(title: str, notes: Sequence[str], tables: Sequence[Table]) -> str:
    """A page with a list of notes, and a section for each table that has rows."""
    lines = [f"# {title}", "", *(f"- {_escaped(note)}" for note in notes), ""]
    for table in tables:
        if table.rows:
            rule = "| --- |" + " ---: |" * (len(table.columns) - 1)
            lines += [f"## {table.title}", "", _row(table.columns), rule, *map(_row, table.rows), ""]
    return "\n".join(lines)


def print_tables(notes: Sequence[str], tables: Sequence[Table]) -> None:
    """The same in the terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(highlight=False)
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            shown.add_column(Text(column), justify="right" if i else "left")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
    for note in notes:
        console.print(Text(note))


def print_report(data: Mapping[str, Any]) -> None:
    """A run in the terminal."""
    print_tables(report_notes(data), report_tables(data))


def _grid(cells: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of means by task and bucket; none where either has but one value."""
    names = dict.fromkeys(cell["name"] for cell in sorted(cells, key=lambda cell: cell["low"]))
    tasks = dict.fromkeys(cell["task"] for cell in cells)
    found = {(cell["task"], cell["name"]): _percent(cell["mean"]) for cell in cells}
    rows = [(task, *(found.get((task, name), "–") for name in names)) for task in tasks]
    return ("", *names), rows if len(names) > 1 and len(tasks) > 1 else []


def _cells(estimate: Mapping[str, Any]) -> tuple[str, str, str, str]:
    interval = _interval(estimate["interval"])
    return _percent(estimate["mean"]), interval, f"{estimate['questions']:,}", f"{estimate['answers']:,}"


def _compared(row: Mapping[str, Any]) -> tuple[str, ...]:
    difference = row["difference"]
    signed = "–" if difference["mean"] is None else f"{100 * difference['mean']:+.1f}"
    means = _percent(row["ours"]["mean"]), _percent(row["theirs"]["mean"])
    return (*means, signed, _interval(difference["interval"], "+"), f"{difference['questions']:,}")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _interval(interval: Sequence[float] | None, sign: str = "") -> str:
    return "–" if interval is None else " to ".join(f"{100 * edge:{sign}.1f}" for edge in interval)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")
