"""What the scores of a run come to: averages, perfect rates and parse rates, each with its interval.

```python
>>> rows = [Scored(record, prediction="42", score=100.0, structured=100.0), ...]
>>> aggregate(rows).strict_average, aggregate(rows).strict_average_interval
>>> breakdown(rows, by=("set", "task"))[1, "Comparison"].strict_perfect_rate
```

Two modes. `official` computes what the benchmark's released script does: judgements without a score are dropped from
the averages, and the scoring success rate of a cell is over all lines of the file. `fixed` divides by the records of
the cell and takes the strict variants, in which what has no score counts as 0, for its headline. Intervals are 95 %
bootstrap intervals over document sets, as questions over the same documents depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..intervals import cluster_bootstrap
from .records import DOMAINS, LANGUAGES, SETS, SUBTASKS, TASKS, LoongRecord


Interval = tuple[float, float]
Mode = Literal["fixed", "official"]
MODES = ("fixed", "official")
# What rows can be broken down by, with the values in the order of the tables.
FIELDS: dict[str, tuple] = {
    **{"task": TASKS, "subtask": SUBTASKS, "set": tuple(SETS), "type": DOMAINS, "language": LANGUAGES},
    "level": (1, 2, 3, 4),
}
PERFECT = 100


@dataclass(frozen=True)
class Scored:
    """
    A record with what became of it.

    Args:
        record (`LoongRecord`):
            The question.
        prediction (`str`, *optional*):
            The answer, without its reasoning; `None` if there is no completion, which no judge has seen then.
        score (`float`, *optional*):
            The judge's, 1 to 100 where it kept to its scale; `None` if it failed, was not parsed or not asked.
        structured (`float`, *optional*):
            Of the deterministic scorer, 0 to 100; `None` where the gold answer is free text.
        kept, dropped (`tuple[int, ...]`, *optional*, defaults to `()`):
            Indices of the documents in the prompt, and of those of which nothing is left.
        cut (`bool`, *optional*, defaults to `False`):
            Whether some document is not whole.
        tokens (`int`, *optional*):
            Of the prompt.
        truncated (`bool`, *optional*, defaults to `False`):
            Whether the completion was cut off at the most tokens that an answer may have.
        failed (`bool`, *optional*, defaults to `False`):
            Whether there is no completion although `prediction` is a text: the empty one, which the official code
            shows the judge in its place.
        unjudged (`bool`, *optional*, defaults to `False`):
            Whether a judge was asked and has not answered for this prediction (yet), which another run can mend; where
            it answered without a score that can be read, `score` alone is `None`.
        judge_cut (`bool`, *optional*, defaults to `False`):
            Whether the judge's answer was cut off.

    Raises:
        `ValueError`: a score that is no finite number, or one without a prediction or a judgement.
    """

    record: LoongRecord
    prediction: str | None = None
    score: float | None = None
    structured: float | None = None
    kept: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    cut: bool = False
    tokens: int | None = None
    truncated: bool = False
    failed: bool = False
    unjudged: bool = False
    judge_cut: bool = False

    def __post_init__(self):
        for name in ("score", "structured"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} of {self.record.id!r} must be a finite number or None, got {value!r}")
        if self.prediction is None and self.score is not None:
            raise ValueError(f"{self.record.id!r} has the score {self.score} without a prediction")
        if self.unjudged and self.score is not None:
            raise ValueError(f"{self.record.id!r} has the score {self.score} without a judgement")

    @property
    def answered(self) -> bool:
        """Whether there is a completion."""
        return self.prediction is not None and not self.failed

    @property
    def strict_score(self) -> float:
        """The judge's score, 0 for a record without a completion or a score."""
        return self.score if self.answered and self.score is not None else 0.0

    @cached_property
    def document_set(self) -> str:
        """That of the record, which rows share that ask about the same documents."""
        return self.record.document_set


@dataclass(frozen=True)
class Cell:
    """
    The figures of some records. A figure is `None` where there is nothing to average, and its interval where the
    records share fewer than two document sets.

    Args:
        total, answered, parsed (`int`):
            Records; those with a completion; those with a score of the judge.
        unparsed, unjudged, judge_cut, truncated (`int`):
            Records with a judgement that holds no score; with a prediction that is not judged; with a judgement that
            was cut off; with a completion that was cut off. The first three are 0 without a judge.
        document_sets (`int`):
            Different sets of documents.
        average, perfect_rate (`float`, *optional*):
            Mean score, and share of the scores that are exactly 100, over the parsed alone.
        parse_rate (`float`, *optional*):
            `fixed`: parsed / total. `official`: parsed / all lines of the file ("scoring success rate"), which is no
            rate of the cell and so has no interval.
        strict_average, strict_perfect_rate (`float`, *optional*):
            The same over the total, with 0 for records without a completion or a parsed score (yet, where `unjudged`
            is not 0).
        structured (`float`, *optional*), structured_total (`int`):
            Mean of the deterministic scorer over the records that it can score.
        average_interval, ... (`tuple[float, float]`, *optional*):
            95 % intervals by bootstrap over document sets.
    """

    total: int
    answered: int
    parsed: int
    unparsed: int
    unjudged: int
    judge_cut: int
    truncated: int
    document_sets: int
    average: float | None
    perfect_rate: float | None
    parse_rate: float | None
    strict_average: float | None
    strict_perfect_rate: float | None
    structured: float | None
    structured_total: int
    average_interval: Interval | None = None
    perfect_rate_interval: Interval | None = None
    parse_rate_interval: Interval | None = None
    strict_average_interval: Interval | None = None
    strict_perfect_rate_interval: Interval | None = None
    structured_interval: Interval | None = None


def aggregate(
    rows: Sequence[Scored],
    mode: Mode = "fixed",
    samples: int = 2_000,
    seed: int = 0,
    lines: int | None = None,
    judged: bool | None = None,
) -> Cell:
    """
    The figures of some rows. Where the released script divides by zero, in an empty cell, they are `None`.

    The modes differ in `parse_rate` alone; which of the averages is the headline is for the tables to say.

    Args:
        rows (`Sequence[Scored]`):
            All of a run, or those of a cell.
        mode (`"fixed"` or `"official"`, *optional*, defaults to `"fixed"`):
            How `parse_rate` is computed.
        samples, seed (`int`, *optional*, default to 2,000 and 0):
            Of the bootstrap.
        lines (`int`, *optional*, defaults to `len(rows)`):
            Lines of the whole file, by which `official` divides.
        judged (`bool`, *optional*):
            Whether a judge was asked at all: without one there are no strict averages, rather than averages of 0.
            `None`: if any row has a score.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    parsed = [row for row in rows if row.score is not None]
    judged = bool(parsed) if judged is None else judged
    everything = rows if judged else []
    # Name: (the rows it is averaged over, their values)
    measures = {
        "average": (parsed, [row.score for row in parsed]),
        "perfect_rate": (parsed, [float(row.score == PERFECT) for row in parsed]),
        "parse_rate": (everything, [float(row.score is not None) for row in everything]),
        "strict_average": (everything, [row.strict_score for row in everything]),
        "strict_perfect_rate": (everything, [float(row.strict_score == PERFECT) for row in everything]),
        "structured": structured_scores(rows),
    }
    figures: dict[str, Any] = {}
    for name, (of, values) in measures.items():
        figures[name] = math.fsum(values) / len(values) if values else None
        figures[f"{name}_interval"] = cluster_bootstrap(values, [row.document_set for row in of], samples, seed)
    if mode == "official":
        lines = len(rows) if lines is None else lines
        figures |= {"parse_rate": len(parsed) / lines if lines and judged else None, "parse_rate_interval": None}
    return Cell(
        total=len(rows),
        answered=sum(row.answered for row in rows),
        parsed=len(parsed),
        unparsed=sum(row.prediction is not None and row.score is None and not row.unjudged for row in everything),
        unjudged=sum(row.unjudged for row in everything),
        judge_cut=sum(row.judge_cut for row in everything),
        truncated=sum(row.truncated for row in rows),
        document_sets=len({row.document_set for row in rows}),
        structured_total=len(measures["structured"][0]),
        **figures,
    )


def breakdown(
    rows: Sequence[Scored],
    by: str | tuple[str, ...],
    mode: Mode = "fixed",
    samples: int = 2_000,
    seed: int = 0,
    judged: bool | None = None,
) -> dict[Any, Cell]:
    """
    The figures of the cells that have rows, in the order of the tables, by the value of a field of the record, or by a
    tuple of values for a tuple of fields: some of `"task"`, `"subtask"`, `"set"`, `"type"` (domain), `"language"` and
    `"level"`. The rows are taken for all lines of the file; other arguments are those of [`aggregate`].
    """
    judged = any(row.score is not None for row in rows) if judged is None else judged
    options = {"mode": mode, "samples": samples, "seed": seed, "lines": len(rows), "judged": judged}
    return {key: aggregate(cell, **options) for key, cell in split(rows, by).items()}


def split(rows: Iterable[Scored], by: str | tuple[str, ...]) -> dict[Any, list[Scored]]:
    """The rows of each cell that has any, as in [`breakdown`]."""
    names = (by,) if isinstance(by, str) else by
    for name in names:
        if name not in FIELDS:
            raise ValueError(f"cannot break down by {name!r}, expected some of {', '.join(FIELDS)}")
    cells: dict[tuple, list[Scored]] = {}
    for row in rows:
        cells.setdefault(tuple(getattr(row.record, name) for name in names), []).append(row)
    ranks = {name: {value: i for i, value in enumerate(FIELDS[name])} for name in names}
    ordered = sorted(cells, key=lambda key: [ranks[name][value] for name, value in zip(names, key, strict=True)])
    return {key[0] if isinstance(by, str) else key: cells[key] for key in ordered}


def structured_scores(rows: Iterable[Scored]) -> tuple[list[Scored], list[float]]:
    """The rows that the deterministic scorer can score, with their scores: 0 for one without a completion."""
    free_text = ("financial", 4)
    scored = [
        (row, row.structured or 0.0)
        for row in rows
        if row.structured is not None or (row.prediction is None and (row.record.type, row.record.level) != free_text)
    ]
    return [row for row, _ in scored], [value for _, value in scored]
