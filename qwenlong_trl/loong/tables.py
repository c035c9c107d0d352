"""The tables of a Loong run: the official script's 25 lines and the full ones, for the terminal, Markdown and JSON.

```python
>>> summary = summarize(rows, about, mode="fixed")
>>> print(*official_lines(summary), sep="\\n")
>>> for table in (official_table(summary), *full_tables(summary)):
...     rich.print(table.as_rich())  # or print(table.as_markdown())
>>> json.dumps(report_json(summary))
```

Every table says in which mode it was computed, who judged with which prompt, what made the documents fit, and over how
many records. "Avg Score" is a judge's: without a judge there is the structured score alone, under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .metrics import FIELDS, Cell, Interval, Mode, Scored, aggregate, breakdown
from .records import SETS, TASKS


OFFICIAL_JUDGE = "gpt-4-turbo-2024-04-09"
RECORDS = 1600
TITLES = {"task": "task", "subtask": "sub-task", "set": "set", "type": "domain", "language": "language"}
BREAKDOWNS = (*TITLES, ("type", "level"))
NOTHING = "–"
_MARKUP = re.compile(r"[\\`*_<>\[\]|~$]|&(?=#?\w+;)")
_BLOCK = re.compile(r"^(?:[#+-]|\d+[.)])")  # what begins a heading or a list


@dataclass(frozen=True)
class Summary:
    """
    All figures of a run: `overall`, `by` field (or fields) and value, and the cells of the `official` table by set
    (`None`: all) and level (`None`: all), which are computed by the official rules in either mode.
    """

    about: Mapping[str, Any]
    mode: Mode
    overall: Cell
    by: Mapping[Any, Mapping[Any, Cell]]
    official: Mapping[tuple[int | None, int | None], Cell]

    @property
    def judged(self) -> bool:
        """Whether a judge was asked."""
        return self.about.get("judge") is not None


def summarize(
    rows: Sequence[Scored], about: Mapping[str, Any], mode: Mode = "fixed", samples: int = 2_000, seed: int = 0
) -> Summary:
    """
    Computes the figures of a run.

    Args:
        rows (`Sequence[Scored]`):
            All records of the run, those without a completion, too.
        about (`Mapping[str, Any]`):
            How the run was made, for JSON: `model`, `mode`, `assembly` (with `mode` and `policy`), `sampling`, `judge`
            (what [`LoongJudge.describe`] says; `None` if none was asked), `records`, `selection`.
        mode (`"fixed"` or `"official"`, *optional*, defaults to `"fixed"`):
            See [`~qwenlong_trl.loong.metrics`].
        samples, seed (`int`, *optional*, default to 2,000 and 0):
            Of the bootstrap.

    Raises:
        `ValueError`: there are no rows, or one has a judge's score although `about` names no judge.
    """
    if not rows:
        raise ValueError("there are no records to report")
    judged = about.get("judge") is not None
    if not judged and (odd := [row.record.id for row in rows if row.score is not None]):
        raise ValueError(f"{odd[0]!r} has a judge's score, but `about` names no judge; say who judged")
    options = {"samples": samples, "seed": seed, "judged": judged}
    official = {}
    for number in (None, *SETS):
        for level in (None, *FIELDS["level"]) if number is None else (*FIELDS["level"], None):
            cell = [row for row in rows if number in (None, row.record.set) and level in (None, row.record.level)]
            official[number, level] = aggregate(cell, "official", lines=len(rows), **options)
    by = {fields: breakdown(rows, fields, mode, **options) for fields in BREAKDOWNS}
    return Summary(about, mode, aggregate(rows, mode, **options), by, official)


def provenance(summary: Summary, mode: Mode | None = None) -> str:
    """Mode, judge with prompt and hash, policy and number of records, in one line."""
    return f"{(mode or summary.mode).capitalize()} mode · {provenance_of(summary.about, summary.overall.total)}"


def provenance_of(about: Mapping[str, Any], records: int) -> str:
    """As [`provenance`], without the mode."""
    judge = about.get("judge")
    parts = ["no judge" if judge is None else f"judge {judge_name(judge)}"]
    if judge is not None:
        prompt, digest = judge.get("prompt", "unnamed"), str(judge.get("prompt_sha256", "unknown"))[:12]
        parts += [f"prompt {prompt} ({digest})", f"parse {judge.get('parse', 'unnamed')}"]
    return " · ".join([*parts, f"policy {policy_name(about)}", f"{records:,} record{'s' * (records != 1)}"])


def judge_name(judge: Mapping[str, Any]) -> str:
    """Its model, or what kind of judge it is."""
    return str(judge.get("model") or judge.get("judge") or "unnamed")


def policy_name(about: Mapping[str, Any]) -> str:
    """What made the documents fit, with the assembly's mode."""
    assembly = about.get("assembly") or {}
    policy = assembly.get("policy") or "skip"
    name = policy.get("name", "unnamed") if isinstance(policy, Mapping) else str(policy)
    return f"{name} ({assembly.get('mode', 'unnamed')} assembly)"


def not_comparable(summary: Summary) -> list[str]:
    """In what the run differs from the published ones, which are in official mode, whole and by `OFFICIAL_JUDGE`."""
    about, judge = summary.about, summary.about.get("judge")
    assembly = (about.get("assembly") or {}).get("mode", "unnamed")
    reasons = ["no judge was asked"] * (judge is None)
    if judge is not None:
        if (model := judge_name(judge)) != OFFICIAL_JUDGE:
            reasons.append(f"the judge is {model}, not {OFFICIAL_JUDGE}")
        reasons += [
            f"the judge's {what} is {judge.get(what, 'unnamed')}, not official"
            for what in ("prompt", "parse")
            if judge.get(what) != "official"
        ]
    reasons += [f"the prompts were made in {assembly} mode"] * (assembly != "official")
    if summary.overall.total != RECORDS:
        reasons.append(f"there are {summary.overall.total:,} of {RECORDS:,} records")
    return reasons


def comparability(summary: Summary) -> str:
    """A sentence on whether the figures may stand beside the published ones."""
    if reasons := not_comparable(summary):
        return f"Not comparable with the published numbers of Loong: {'; '.join(reasons)}."
    if summary.mode == "official":
        return f"Comparable with the published numbers of Loong: official mode, judged by {OFFICIAL_JUDGE}."
    return "Comparable with the published numbers of Loong are those of the official table alone, not the strict ones."


@dataclass(frozen=True)
class ReportTable:
    """
    A table for every output. `rows` hold a label and cells, each a text, or a figure and what is said beside it.

    Args:
        name (`str`):
            For anchors.
        title, note (`str`):
            What it shows, and how it was computed.
        header (`tuple[str, ...]`), rows (`list[list[str | tuple[str, ...]]]`):
            Of equal lengths.
    """

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: list[list[str | tuple[str, ...]]]

    def as_markdown(self) -> str:
        """A heading, the table and the note; no text in it is taken for Markdown or HTML."""
        lines = [[*map(escape_inline, self.header)], ["---", *["---:"] * (len(self.header) - 1)]]
        lines += [[escape_inline(one_line(cell)) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {escape_markdown(self.title)}\n\n{table}\n\n{escape_markdown(self.note)}\n"

    def as_rich(self) -> Table:
        """For a `rich` console, intervals below their figures; no text in it is taken for markup."""
        table = Table(box=box.SIMPLE_HEAD, title=Text(self.title, style="bold"), title_justify="left")
        table.caption, table.caption_justify = Text(self.note, style="dim"), "left"
        for i, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*(Text(cell if isinstance(cell, str) else "\n".join(cell)) for cell in row))
        return table


def one_line(cell: str | tuple[str, ...]) -> str:
    """A cell of a [`ReportTable`] as a text."""
    if isinstance(cell, str):
        return cell
    return f"{cell[0]} ({', '.join(cell[1:])})" if cell[1:] else cell[0]


def escape_markdown(text: str) -> str:
    """So that Markdown shows the text as it is, on one line."""
    return _BLOCK.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", escape_inline(text))


def escape_inline(text: str) -> str:
    """As [`escape_markdown`], for a text that does not begin a line, such as a cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def official_table(summary: Summary) -> ReportTable:
    """The 25 lines of the released script, by its rules in either mode: see [`official_lines`]."""
    note = f"{provenance(summary, 'official')}. {comparability(summary)}"
    title = "Official table (the released script's aggregation)"
    if not summary.judged:
        title = "Structured score, in the lines of the official table"
        header, columns = ("Cell", "n", "Structured score"), (("structured", 2),)
    else:
        header = ("Cell", "n", "Avg Score", "Perfect Rate", "Scoring success rate")
        columns = (("average", 1), ("perfect_rate", 2), ("parse_rate", 2))
        note = f"Over parsed judgements alone; the success rate of every cell is over all lines of the file. {note}"
    rows = [
        [_official_label(*key), f"{cell.total:,}", *(figure(cell, name, digits) for name, digits in columns)]
        for key, cell in summary.official.items()
    ]
    return ReportTable("official", title, note, header, rows)


def official_lines(summary: Summary) -> list[str]:
    """
    The 25 lines that the released script's table has, in its order and with its two decimals: overall, the four
    levels, and for each set the four levels and the set. The scoring success rate divides by all lines of the file in
    every line, as there; a cell without parsed judgements, by whose number that script would divide, has dashes.
    """

    def line(cell: Cell) -> str:
        if not summary.judged:
            return f"structured score {_number(cell.structured, 2)} (no judge)"
        texts = {"Avg Score": "average", "Perfect Rate": "perfect_rate", "scoring success rate": "parse_rate"}
        return ", ".join(f"{text} {_number(getattr(cell, name), 2)}" for text, name in texts.items())

    return [f"{_official_label(*key)}: {line(cell)}" for key, cell in summary.official.items()]


def full_tables(summary: Summary) -> list[ReportTable]:
    """By task, sub-task, set, domain, language and domain × level: numbers of records, and figures with intervals."""
    columns = headline_columns(summary)
    header = ["n", "doc. sets", *(["parsed"] if summary.judged else ["answered"]), *columns.values()]
    notes = {
        "language": " Languages differ in their tasks and domains: compare them within one domain and level.",
        "type": " Domains differ in their tasks: papers have levels 3 and 4 alone.",
    }
    tables = []
    for by, cells in summary.by.items():
        title = TITLES[by] if isinstance(by, str) else "domain and level"
        labelled = {"all": summary.overall} | {label(by, key): cell for key, cell in cells.items()}
        rows = [
            [
                label,
                *(f"{cell.total:,}", f"{cell.document_sets:,}"),
                f"{cell.parsed if summary.judged else cell.answered:,}",
                *(figure(cell, name, 2 if "rate" in name else 1) for name in columns),
            ]
            for label, cell in labelled.items()
        ]
        note = (
            f"{provenance(summary)}. Beside figures: 95 % bootstrap intervals over document sets.{notes.get(by, '')}"
        )
        name = by if isinstance(by, str) else "-".join(by)
        tables.append(ReportTable(name, f"By {title}", note, (title.capitalize(), *header), rows))
    return tables


def headline_columns(summary: Summary) -> dict[str, str]:
    """The figures of a cell and their names, the headline of the mode first."""
    if not summary.judged:
        return {"structured": "Structured score"}
    strict = {"strict_average": "Strict average", "strict_perfect_rate": "Strict perfect rate"}
    parsed = {"average": "Avg Score (parsed)", "perfect_rate": "Perfect Rate (parsed)"}
    if summary.mode == "fixed":
        return strict | {"parse_rate": "Parse rate"} | parsed | {"structured": "Structured score"}
    return parsed | {"parse_rate": "Success rate (of all lines)"} | strict | {"structured": "Structured score"}


def report_json(summary: Summary) -> dict[str, Any]:
    """All of it as plain data for JSON; what cannot be computed is `None`."""
    by = {}
    for fields, cells in summary.by.items():
        names = (fields,) if isinstance(fields, str) else fields
        keys = [(key,) if isinstance(fields, str) else key for key in cells]
        rows = zip(keys, cells.values(), strict=True)
        by["_".join(names)] = [dict(zip(names, key, strict=True)) | asdict(cell) for key, cell in rows]
    return {
        "about": dict(summary.about),
        "mode": summary.mode,
        "headline": next(iter(headline_columns(summary))),
        "provenance": provenance(summary),
        "not_comparable_with_published": not_comparable(summary),
        "overall": asdict(summary.overall),
        "by": by,
        "official": [{"set": key[0], "level": key[1]} | asdict(cell) for key, cell in summary.official.items()],
    }


def figure(cell: Cell, name: str, digits: int) -> tuple[str, ...]:
    """A figure of a cell with two decimals, its interval with `digits`, and over how many records if not over all."""
    value = getattr(cell, name)
    beside = [span(getattr(cell, f"{name}_interval"), digits)]
    if name == "structured" and value is not None and cell.structured_total < cell.total:
        beside.append(f"n = {cell.structured_total:,}")
    return _number(value, 2), *filter(None, beside)


def span(interval: Interval | None, digits: int) -> str:
    """An interval as a text, empty if there is none."""
    return "" if interval is None else f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"


def set_label(number: int) -> str:
    """With the tokens that the benchmark gives it."""
    return f"Set {number} ({SETS[number]})"


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def label(by: str | tuple[str, ...], key: Any) -> str:
    """Of a cell of [`~qwenlong_trl.loong.metrics.breakdown`], in a table."""
    if by == "set":
        return set_label(key)
    return str(key) if isinstance(by, str) else f"{key[0]}, level {key[1]}"


def _official_label(number: int | None, level: int | None) -> str:
    if level is None:
        return "Overall" if number is None else f"Set {number}"
    return f"Level {level} ({TASKS[level - 1]})" if number is None else f"Set {number}, level {level}"
