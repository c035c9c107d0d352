"""Results of Loong side by side: runs, by their `report.json`, and the published table.

```python
>>> rows = [*published_results(), read_result(json.loads(Path("runs/full/report.json").read_text()), "full")]
>>> rows = leaderboard(rows, set=1, level=None)
```

Reports may be a stranger's: what is not a number where one should be is an error that says so, and texts are cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .published import published
from .records import SETS
from .tables import OFFICIAL_JUDGE, judge_name, policy_name


Place = tuple[int | None, int | None]  # set and level; `None`: all
_NAME = 120  # characters of a name that are shown


@dataclass(frozen=True)
class Figures:
    """Of one cell: `total` records (`None` where it was not printed), and the figures with their intervals."""

    total: int | None = None
    score: float | None = None
    score_interval: tuple[float, float] | None = None
    perfect_rate: float | None = None
    perfect_rate_interval: tuple[float, float] | None = None
    structured: float | None = None
    structured_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Result:
    """
    Args:
        name (`str`):
            Of the model.
        published (`bool`):
            Whether the authors printed it; all others are runs.
        judge, policy, mode (`str`):
            Who scored, what made the documents fit, by which rules.
        reasons (`tuple[str, ...]`):
            Why it cannot be compared with the published ones; empty if it can.
        cells (`dict[tuple[int | None, int | None], Figures]`):
            By set and level.
    """

    name: str
    published: bool
    judge: str
    policy: str
    mode: str
    reasons: tuple[str, ...]
    cells: dict[Place, Figures]


def published_results() -> list[Result]:
    """Those of the authors; see [`~qwenlong_trl.loong.published`]."""
    return [
        Result(
            name, True, OFFICIAL_JUDGE, "skip", "official", (),
            {place: Figures(score=score, perfect_rate=rate) for place, (score, rate) in cells.items()},
        )
        for name, cells in published().items()
    ]  # fmt: skip


def read_result(report: Any, source: str) -> Result:
    """
    The result in a `report.json` of `qwenlong-trl loong`. In fixed mode the score is the strict one.

    Args:
        report (`dict`):
            Its value, whatever it holds.
        source (`str`):
            Name of the file, for errors.

    Raises:
        `ValueError`: names the field that is not as such a report has it.
    """
    if not isinstance(report, Mapping) or not isinstance(report.get("official"), list):
        raise ValueError(f"{source} is no report.json of `qwenlong-trl loong`: it has no list `official`")
    about, mode = report.get("about"), report.get("mode")
    if not isinstance(about, Mapping) or mode not in ("fixed", "official"):
        raise ValueError(f"{source}: `about` must be an object, and `mode` fixed or official")
    judge = about.get("judge")
    if judge is not None and not isinstance(judge, Mapping):
        raise ValueError(f"{source}: `about.judge` must be an object or null")
    if not isinstance(about.get("assembly") or {}, Mapping):
        raise ValueError(f"{source}: `about.assembly` must be an object")
    strict = "strict_" if mode == "fixed" else ""
    cells = {}
    for i, cell in enumerate(report["official"][:100]):
        where = f"{source}, official[{i}]"
        if not isinstance(cell, Mapping) or cell.get("set") not in (None, *SETS) or cell.get("level") not in _LEVELS:
            raise ValueError(f"{where}: must be an object with `set` 1 to 4 or null, and `level` likewise")
        cells[cell["set"], cell["level"]] = _figures(cell, strict, judge is not None, where)
    reasons = report.get("not_comparable_with_published")
    reasons = reasons if isinstance(reasons, list) else ["it does not say how it was made"]
    return Result(
        str(about.get("model", "unnamed"))[:_NAME],
        False,
        "none" if judge is None else judge_name(judge)[:_NAME],
        policy_name(about)[:_NAME],
        mode,
        tuple(str(reason)[:200] for reason in reasons[:20]),
        cells,
    )


_LEVELS = (None, 1, 2, 3, 4)


def leaderboard(
    results: Iterable[Result], set: int | None = None, level: int | None = None
) -> list[tuple[Result, Figures]]:
    """
    Results of a set and a level (`None`: of all), the highest score first; then those without a judge, by their
    structured score. A result without records there is left out.
    """
    rows = [(result, result.cells.get((set, level))) for result in results]
    rows = [(result, cell) for result, cell in rows if cell is not None and cell.total != 0]
    return sorted(rows, key=lambda row: (row[1].score is None, -(row[1].score or 0), -(row[1].structured or 0)))


def _figures(cell: Mapping[str, Any], strict: str, judged: bool, where: str) -> Figures:
    values: dict[str, Any] = {"total": _number(cell, "total", where)}
    values["total"] = None if values["total"] is None else int(values["total"])
    names = {"structured": "structured"}
    if judged:
        names |= {"score": f"{strict}average", "perfect_rate": f"{strict}perfect_rate"}
    for field, name in names.items():
        values[field] = _number(cell, name, where)
        values[f"{field}_interval"] = _interval(cell, f"{name}_interval", where)
    return Figures(**values)


def _number(cell: Mapping[str, Any], name: str, where: str) -> float | None:
    value = cell.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9 or math.isnan(value):
        raise ValueError(f"{where}: `{name}` must be a number, got {value!r:.60}")
    return float(value)


def _interval(cell: Mapping[str, Any], name: str, where: str) -> tuple[float, float] | None:
    value = cell.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{where}: `{name}` must be two numbers, got {value!r:.60}")
    low, high = (_number({name: one}, name, where) for one in value)
    if low is None or high is None or low > high:
        raise ValueError(f"{where}: `{name}` must be two numbers, the smaller first, got {value!r:.60}")
    return low, high
