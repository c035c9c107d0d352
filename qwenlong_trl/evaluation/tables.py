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

from ..loong.report_parts import shown
from ..loong.report_table import escape_inline, escape_markdown
from .report import tokens_name


_LIMIT, _CELL_LIMIT = 1_000, 5_000  # characters of a text in a report


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
    tables.append(Table("By task", ("", *columns), [(row["task"], *_cells(row)) for row in data["by_task"]]))
    lengths = [(_length(row), *_cells(row)) for row in data["by_length"]]
    tables.append(Table("By prompt tokens", ("", *columns), lengths))
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
    counts = data["counts"]
    notes = [*_how(data), _effective(data["effective_length"])]
    for name, text in (
        ("failed", "{} answers are missing, because the model or its server gave none."),
        ("empty", "{} answers are empty."),
        ("left_out", "{} of these are left out of every mean, as the official evaluation does it."),
        ("cut_off", "{} answers were cut off at the limit of tokens."),
        ("unread", "In {} answers the rule found nothing that it can read."),
        (
            "truncated_prompts",
            "{} prompts lost their middle to fit the limit of tokens. They do not count by place of the evidence, and "
            "the effective length ends before them.",
        ),
        ("judged", "The judge was asked about {} answers."),
        ("accepted_by_judge_alone", "{} answers count because of the judge, against the rule."),
        ("without_verdict", "The judge gave no verdict on {} answers, which keep the rule's score."),
    ):
        if counts[name]:
            notes.append(text.format(f"{counts[name]:,}"))
    for one in data["failed"]:
        notes.append(f"{one['questions']:,} questions without an answer: {shown(one['reason'], _LIMIT)}")
    if data["judge_failed"]:
        failed = data["judge_failed"]
        notes.append(
            f"The judge failed on {failed['answers']:,} answers, the first: {shown(failed['reason'], _LIMIT)}"
        )
    return notes


def unfinished(data: Mapping[str, Any]) -> list[str]:
    """What the same command, given again, would go on with: a sentence each."""
    again = sum(one["questions"] for one in data["failed"] if not one["refused"])
    found = []
    if again:
        found.append(f"{again:,} questions have no answer yet, because the model or its server failed")
    if data["judge_failed"] and data["judge_failed"]["gone"]:
        found.append(f"{data['judge_failed']['answers']:,} answers are not judged yet, because the judge failed")
    return found


def _effective(effective: Mapping[str, Any]) -> str:
    percent = f"{_percent(effective['threshold'])} %"
    if effective["tokens"] is None:
        below = f" {percent}" if effective["why"].endswith("below") else ""
        text = f"Effective length: none, {effective['why']}{below}."
    else:
        text = (
            f"Effective length: {tokens_name(effective['tokens'])} tokens, up to which all buckets score {percent} or "
        )
        text += f"more. Of draws of the questions, {_percent(effective['share'])} % reach as much"
        text += "." if effective["interval"] is None else f" (95 % of them {_reached(effective['interval'])})."
    return text


def _reached(interval: Sequence[int | None]) -> str:
    low, high = ("none" if tokens is None else tokens_name(tokens) for tokens in interval)
    return low if low == high else f"{low} to {high}"


def _length(row: Mapping[str, Any]) -> str:
    return f"{row['name']} ({row['truncated']:,} cut)" if row["truncated"] else row["name"]


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
    better, worse, equal = (f"{data[name]:,}" for name in ("better", "worse", "equal"))
    notes = [f"{names[0]} is better on {better} questions, worse on {worse}, equal on {equal}"]
    if not data["score"]["difference"]["questions"]:
        notes = ["No question has an answer that counts in both runs, so there is nothing to compare."]
    elif data["score"]["difference"]["interval"] is None:
        notes.append("All questions differ by the same, from which no interval of the difference can be had.")
    if data["settings"]:
        notes.append(f"The runs differ in {', '.join(data['settings'])}.")
    if {"judge", "judge_all"} & data["settings"].keys():
        notes.append("They were not judged alike, so a part of the difference may be the judge's.")
    for name, key in zip(names, ("only_ours", "only_theirs"), strict=True):
        if data[key]:
            notes.append(f"{data[key]:,} questions are only in {name} and do not count here.")
    if data["dropped"]:
        notes.append(f"{data['dropped']:,} questions have no answer that counts in one of the runs; left out of both.")
    if data["other_lengths"]:
        notes.append(
            f"Prompt tokens are those of {names[0]}; {data['other_lengths']:,} prompts have others in the other."
        )
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
    lines = [f"# {_escaped(title)}", "", *(f"- {_escaped(note)}" for note in notes), ""]
    for table in tables:
        if table.rows:
            rule = "| --- |" + " ---: |" * (len(table.columns) - 1)
            lines += [f"## {_escaped(table.title)}", "", _row(table.columns), rule, *map(_row, table.rows), ""]
    return "\n".join(lines)


def print_tables(notes: Sequence[str], tables: Sequence[Table]) -> None:
    """The same in the terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    def plain(text: str) -> Text:
        return Text(shown(text, _LIMIT))  # control characters would steer the terminal

    console = Console(highlight=False)
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            drawn.add_column(plain(column), justify="right" if i else "left")
        for row in table.rows:
            drawn.add_row(*map(plain, row))
        console.print(drawn)
    for note in notes:
        console.print(plain(note))


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
    return "| " + " | ".join(escape_inline(shown(cell, _CELL_LIMIT)) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """As it is: what a record or a server says is neither markup, a link nor an image."""
    return escape_markdown(shown(text, _LIMIT))
