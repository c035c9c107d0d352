"""Two runs over the same records, compared record by record.

```python
>>> found = compare(rows_bm25, rows_skip)
>>> found.overall.strict_average.difference, found.overall.strict_average.interval
>>> found.cells["task"]["Comparison"].structured
>>> write_comparison("runs/compared", (rows_bm25, about_bm25), (rows_skip, about_skip), names=("bm25", "skip"))
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..intervals import cluster_bootstrap
from ..rewards.judge import encodable
from .metrics import PERFECT, Interval, Scored, split, structured_scores
from .report_parts import settings, shown
from .report_table import ReportTable, escape_markdown
from .tables import NOTHING, TITLES, label, provenance_of


COMPARED_BY = tuple(TITLES)
MEASURES = {
    "strict_average": "Strict average",
    "strict_perfect_rate": "Strict perfect rate",
    "structured": "Structured score",
}


@dataclass(frozen=True)
class Difference:
    """
    A figure of two runs over the same records: `a`, `b`, their `difference` a − b with its 95 % `interval` (by
    bootstrap over document sets; `None` if there are fewer than two), and how many records it is over (`total`).
    """

    a: float
    b: float
    difference: float
    interval: Interval | None
    total: int


@dataclass(frozen=True)
class PairedCell:
    """Differences over some records: `None` where a run was not judged, or no record has a structured score."""

    total: int
    document_sets: int
    strict_average: Difference | None
    strict_perfect_rate: Difference | None
    structured: Difference | None


@dataclass(frozen=True)
class Comparison:
    """
    Two runs over the same records: `overall`, `cells` by field and value (`cells["set"][1]`), and the ids that only
    one of the runs has (`only_a`, `only_b`), which were left out.
    """

    overall: PairedCell
    cells: Mapping[str, Mapping[Any, PairedCell]]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


def compare(
    rows_a: Sequence[Scored],
    rows_b: Sequence[Scored],
    intersect: bool = False,
    samples: int = 2_000,
    seed: int = 0,
    judged: bool | None = None,
) -> Comparison:
    """
    What the first run has more than the second, record by record: strict average, strict perfect rate and structured
    score, overall and by task, sub-task, set, domain and language. The intervals of two runs may overlap although the
    interval of their difference excludes 0; it is the latter that tells them apart.

    Args:
        rows_a, rows_b (`Sequence[Scored]`):
            The runs, in any order.
        intersect (`bool`, *optional*, defaults to `False`):
            Compare the records that both have, if some are in one run only.
        samples, seed (`int`, *optional*, default to 2,000 and 0):
            Of the bootstrap.
        judged (`bool`, *optional*):
            Whether a judge was asked for both runs. `None`: if both have scores among these records.

    Raises:
        `ValueError`: records are in one run only and `intersect` is false; none is in both; an id stands twice in a
            run, or for different records; a judge was asked for a run and has not judged all of its answers.
    """
    a, b = _by_id(rows_a, "first"), _by_id(rows_b, "second")
    only_a, only_b = tuple(id for id in a if id not in b), tuple(id for id in b if id not in a)
    both = [id for id in a if id in b]
    if (only_a or only_b) and not intersect:
        raise ValueError(
            f"the runs have different records: {len(both)} are in both, {len(only_a)} only in the first, "
            f"{len(only_b)} only in the second; pass intersect=True (--intersect) to compare those in both"
        )
    if not both:
        raise ValueError(f"the runs share no record: {len(a)} in the first, {len(b)} in the second")
    for id in both:
        if a[id].record != b[id].record:
            raise ValueError(f"{id!r} is another record in the second run than in the first")
    pairs = {id: (a[id], b[id]) for id in both}
    waiting = [sum(rows[id].unjudged for id in both) for rows in (a, b)]
    if any(waiting):
        raise ValueError(
            f"not all answers have been judged: {waiting[0]} of {len(both)} in the first run and {waiting[1]} in the "
            "second have not, which would count as wrong; run `qwenlong-trl loong judge FOLDER ...` again for each, "
            "then compare"
        )
    if judged is None:
        judged = all(any(row.score is not None for row in rows) for rows in zip(*pairs.values(), strict=True))

    def paired(cell: Sequence[Scored]) -> PairedCell:
        of = [pairs[row.record.id] for row in cell]
        strict = [tuple(row.strict_score for row in pair) for pair in of] if judged else []
        perfect = [tuple(float(score == PERFECT) for score in pair) for pair in strict]
        scorable = [pair for pair in of if len(structured_scores(pair)[0]) == 2]
        return PairedCell(
            total=len(of),
            document_sets=len({row.document_set for row in cell}),
            strict_average=_difference(of, strict, samples, seed),
            strict_perfect_rate=_difference(of, perfect, samples, seed),
            structured=_difference(scorable, [structured_scores(pair)[1] for pair in scorable], samples, seed),
        )

    shared = [a[id] for id in both]
    cells = {field: {key: paired(cell) for key, cell in split(shared, field).items()} for field in COMPARED_BY}
    return Comparison(paired(shared), cells, only_a, only_b)


def write_comparison(
    folder: str | Path,
    a: tuple[Sequence[Scored], Mapping[str, Any]],
    b: tuple[Sequence[Scored], Mapping[str, Any]],
    names: tuple[str, str] = ("first", "second"),
    intersect: bool = False,
    samples: int = 2_000,
    seed: int = 0,
) -> list[ReportTable]:
    """
    Compares two runs and writes `comparison.md` and `comparison.json` into a folder, which is made.

    Args:
        folder (`str` or `Path`):
            Where to write.
        a, b (`tuple[Sequence[Scored], Mapping[str, Any]]`):
            The rows of each run, and what it says about itself as in [`~qwenlong_trl.loong.tables.summarize`].
        names (`tuple[str, str]`, *optional*, defaults to `("first", "second")`):
            Of the runs.
        intersect, samples, seed:
            As in [`compare`], which says what is an error.

    Returns:
        `list[ReportTable]`: what was written, for the terminal.
    """
    (rows_a, about_a), (rows_b, about_b) = a, b
    judged = all(about.get("judge") is not None for about in (about_a, about_b))
    found = compare(rows_a, rows_b, intersect, samples, seed, judged)
    names = (shown(names[0], 100), shown(names[1], 100))
    notes = [
        f"{name}: {provenance_of(about, len(rows))}."
        for name, rows, about in zip(names, (rows_a, rows_b), (about_a, about_b), strict=True)
    ]
    if about_a.get("judge") != about_b.get("judge"):
        notes.append("The judges differ, so that differences of their scores are not those of the runs alone.")
    if found.only_a or found.only_b:
        counts = f"{len(found.only_a):,} records of {names[0]} and {len(found.only_b):,} of {names[1]}"
        notes.append(f"Left out, as only one run has them: {counts}.")
    tables = [_differing(about_a, about_b, names, notes), *comparison_tables(found, names)]
    text = [f"# {escape_markdown(f'Loong: {names[0]} less {names[1]}')}"]
    text += [table.as_markdown().rstrip() for table in tables]
    data = {"a": dict(about_a), "b": dict(about_b), "names": names, "notes": notes, "overall": asdict(found.overall)}
    data["by"] = {by: [{by: key} | asdict(cell) for key, cell in cells.items()] for by, cells in found.cells.items()}
    data |= {"only_a": found.only_a, "only_b": found.only_b}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(encodable("\n\n".join(text)) + "\n", encoding="utf-8")
    (folder / "comparison.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return tables


def comparison_tables(found: Comparison, names: tuple[str, str] = ("first", "second")) -> list[ReportTable]:
    """Both runs and their difference with its interval, overall and by task, sub-task, set, domain and language."""
    measures = [name for name in MEASURES if getattr(found.overall, name) is not None]
    header = ["n"]
    for name in measures:
        header += [f"{MEASURES[name]}, {names[0]}", names[1], "difference"]
    note = f"Fixed rules. Difference: {names[0]} less {names[1]}, with 95 % bootstrap intervals over document sets."
    if "strict_average" not in measures:
        note += " A run has no judge, so the structured score alone is compared."
    tables = []
    for by, cells in found.cells.items():
        rows = []
        for key, cell in {None: found.overall, **cells}.items():
            row: list[str | tuple[str, ...]] = ["all" if key is None else label(by, key), f"{cell.total:,}"]
            for name in measures:
                row += _shown_difference(getattr(cell, name), 2 if "rate" in name else 1)
            rows.append(row)
        title = f"Difference by {TITLES[by]}"
        tables.append(ReportTable(f"difference-{by}", title, note, (TITLES[by].capitalize(), *header), rows))
    return tables


def _shown_difference(found: Difference | None, digits: int) -> list[str | tuple[str, ...]]:
    if found is None:
        return [NOTHING] * 3
    shown = [f"{found.a:.{digits}f}", f"{found.b:.{digits}f}"]
    difference = f"{found.difference:+z.{digits}f}"
    if found.interval is None:
        return [*shown, difference]
    return [*shown, (difference, "{:+z.{d}f} to {:+z.{d}f}".format(*found.interval, d=digits))]


def _differing(
    about_a: Mapping[str, Any], about_b: Mapping[str, Any], names: tuple[str, str], notes: Sequence[str]
) -> ReportTable:
    a, b = dict(settings(about_a)), dict(settings(about_b))
    rows = [[key, a.get(key, NOTHING), b.get(key, NOTHING)] for key in a | b if a.get(key) != b.get(key)]
    note = "All settings that the runs do not share." if rows else "The runs share all of their settings."
    note = " ".join([note, *notes])
    return ReportTable("settings", "What differs between the runs", note, ("Setting", *names), rows)


def _by_id(rows: Sequence[Scored], which: str) -> dict[str, Scored]:
    found = {row.record.id: row for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"the {which} run has {len(rows)} rows for {len(found)} records; give one row for each")
    return found


def _difference(
    pairs: Sequence[tuple[Scored, Scored]], values: Sequence[Sequence[float]], samples: int, seed: int
) -> Difference | None:
    if not values:
        return None
    a, b = (math.fsum(one) / len(values) for one in zip(*values, strict=True))
    differences = [one - other for one, other in values]
    interval = cluster_bootstrap(differences, [row.document_set for row, _ in pairs], samples, seed)
    return Difference(a, b, math.fsum(differences) / len(values), interval, len(values))
