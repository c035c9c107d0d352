"""The figures of the page of a run: scores by prompt length, of all tasks and of each, by depth, and pass@k.

```python
>>> with matplotlib.rc_context(STYLE):
...     figures = draw(plots(data), COLOURS)  # data: see report_data
```

A figure that would show a single point is left out: the table beside it says as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .. import pages
from ..pages import WIDTHS, figure_in_px
from .report import FIFTHS, tokens_name


# Colours of tasks with their marks in a figure and in the text beside it: shapes tell tasks apart as well as colours.
MARKS = {
    "task0": ("o", "●"),
    "task1": ("s", "■"),
    "task2": ("^", "▲"),
    "task3": ("D", "◆"),
    "task4": ("v", "▼"),
    "task5": ("P", "✚"),
}
COLOURS = pages.COLOURS | {
    "score": ("#0067a3", "#5cb8f0"),
    "threshold": ("#b54700", "#f0a04b"),
    "task0": ("#0068a4", "#5cb8f1"),
    "task1": ("#b54701", "#f0a04c"),
    "task2": ("#2e7d32", "#7cc47f"),
    "task3": ("#7b3fa0", "#c79be6"),
    "task4": ("#8a6d00", "#d9bd3f"),
    "task5": ("#b8326b", "#f08db5"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
Row = Mapping[str, Any]


def plots(data: Mapping[str, Any]) -> dict[str, Callable[[int], Figure | None]]:
    """Functions of a width in px, by name of the figure; those without anything to show return `None`."""
    return {
        "length": lambda width: plot_lengths(data, width),
        "tasks": lambda width: plot_tasks(data, width),
        "depth": lambda width: plot_depth(data, width),
        "pass": lambda width: plot_pass_at_k(data, width),
    }


def reached(data: Mapping[str, Any]) -> int:
    """How many of the buckets, from the shortest on, lie within the effective length."""
    return data["effective_length"]["buckets"]


def plot_lengths(data: Mapping[str, Any], width: int = WIDTHS["wide"]) -> Figure | None:
    """Scores by bucket of prompt tokens, with the threshold and the effective length."""
    rows = data["by_length"]
    if _known(rows) < 2:
        return None
    figure, axes = _axes(width, 340, "Score by prompt length, %")
    _line(axes, [*range(len(rows))], rows, "score", "o", 2.2)
    _bucket_ticks(axes, rows, width)
    legend = _threshold(axes, data)
    if within := reached(data):
        axes.axvspan(-0.5, within - 0.5, color=LIGHT["band"], linewidth=0, zorder=0)
        axes.axvline(within - 0.5, color=LIGHT["muted"], linewidth=1.2)
        name = f"effective length {tokens_name(data['effective_length']['tokens'])}"
        legend.append(Patch(facecolor=LIGHT["band"], edgecolor=LIGHT["muted"], label=name))
    _legend(axes, legend)
    return figure


def plot_tasks(data: Mapping[str, Any], width: int = WIDTHS["wide"]) -> Figure | None:
    """The same, a line for each task; the names of the tasks are the page's to say, with [`MARKS`]."""
    buckets = [row["low"] for row in data["by_length"]]
    tasks = [row["task"] for row in data["by_task"]]
    if _known(data["by_length"]) < 2 or not 1 < len(tasks) <= len(MARKS):
        return None
    figure, axes = _axes(width, 360, "Score by task and prompt length, %")
    for i, (task, (name, (marker, _))) in enumerate(zip(tasks, MARKS.items(), strict=False)):
        there = {row["low"]: row for row in data["by_task_and_length"] if row["task"] == task}
        shift = (i - (len(tasks) - 1) / 2) * 0.5 / len(tasks)  # intervals side by side
        rows = [there.get(low, {"mean": None, "interval": None}) for low in buckets]
        _line(axes, [x + shift for x in range(len(rows))], rows, name, marker, 1.6)
    _bucket_ticks(axes, data["by_length"], width)
    _legend(axes, _threshold(axes, data))
    return figure


def plot_depth(data: Mapping[str, Any], width: int = WIDTHS["wide"]) -> Figure | None:
    """Scores by the fifth of the context that holds evidence."""
    rows = {row["depth"]: row for row in data["by_depth"]}
    if _known(data["by_depth"]) < 2:
        return None
    figure, axes = _axes(width, 300, "Score by place of the evidence, %", 8)
    all_rows = [rows.get(name, {"mean": None, "interval": None}) for name in FIFTHS]
    _line(axes, [*range(len(FIFTHS))], all_rows, "score", "o", 2.2)
    axes.set_xlim(-0.5, len(FIFTHS) - 0.5)
    labels = [name.removesuffix(" %") for name in FIFTHS]
    if width >= 600:
        labels = [f"{a}\nn = {rows[b]['questions'] if b in rows else 0}" for a, b in zip(labels, FIFTHS, strict=True)]
    axes.set_xticks(range(len(FIFTHS)), labels)
    axes.set_xlabel("place in the context, % from its start")
    return figure


def plot_pass_at_k(data: Mapping[str, Any], width: int = WIDTHS["wide"]) -> Figure | None:
    """Pass@k over k, with its intervals as a band."""
    curve = data["pass_at_k"]
    if len(curve) < 2:
        return None
    figure, axes = _axes(width, 300, "Pass@k, %", 8)
    ks = [point["k"] for point in curve]
    spans = [point["interval"] or [math.nan] * 2 for point in curve]
    low, high = ([100 * span[side] for span in spans] for side in (0, 1))
    axes.fill_between(ks, low, high, color=LIGHT["score"], alpha=0.18, linewidth=0)
    mean = [100 * point["mean"] for point in curve]
    style = {"linewidth": 2.2, "marker": "o", "markersize": 5 if len(ks) <= 16 else 0, "clip_on": False}
    axes.plot(ks, mean, color=LIGHT["score"], **style)
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    ticks = ks if len(ks) <= 4 else [1 << power for power in range(ks[-1].bit_length())]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set_xlabel("k, answers drawn for a question")
    return figure


def _axes(width: int, height: int, title: str, pad: int = 30) -> tuple[Figure, Axes]:
    figure, (axes,) = figure_in_px(width, height)
    axes.set_ylim(0, 103)
    axes.set_title(title, pad=pad)
    return figure, axes


def _known(rows: Sequence[Row]) -> int:
    return sum(row["mean"] is not None for row in rows)


def _line(axes: Axes, places: Sequence[float], rows: Sequence[Row], name: str, marker: str, width: float) -> None:
    """A line through the means that are there, broken where one is not, and an upright line for each interval."""
    means = [math.nan if row["mean"] is None else 100 * row["mean"] for row in rows]
    axes.plot(places, means, color=LIGHT[name], marker=marker, linewidth=width, markersize=6.5, clip_on=False)
    for place, row in zip(places, rows, strict=True):
        if row["interval"] is not None:
            edges = [100 * edge for edge in row["interval"]]
            axes.plot([place, place], edges, color=LIGHT[name], linewidth=1.3, alpha=0.75)


def _bucket_ticks(axes: Axes, rows: Sequence[Row], width: int) -> None:
    """Upper edges of the buckets, and where there is room the number of questions in each."""
    labels = [tokens_name(row["high"]) if row["high"] else f">{tokens_name(row['low'])}" for row in rows]
    room = (width - 60) / len(rows)  # px; letters take some 8 px
    if room >= 70:
        labels = [f"{label}\nn = {row['questions']}" for label, row in zip(labels, rows, strict=True)]
    step = math.ceil((max(len(part) for label in labels for part in label.split("\n")) * 8 + 6) / room)
    shown = range((len(rows) - 1) % step, len(rows), step)  # with the longest
    axes.set_xticks(shown, [labels[i] for i in shown])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xlabel("prompt tokens, up to")


def _threshold(axes: Axes, data: Mapping[str, Any]) -> list[Any]:
    percent = 100 * data["effective_length"]["threshold"]
    style = {"color": LIGHT["threshold"], "linestyle": (0, (4, 3)), "linewidth": 1.4}
    axes.axhline(percent, **style)
    return [Line2D([], [], label=f"threshold {percent:.1f} %", **style)]


def _legend(axes: Axes, handles: Sequence[Any]) -> None:
    """In a row above the axes, where no line runs."""
    style = {"frameon": False, "ncols": len(handles), "handletextpad": 0.5, "columnspacing": 1.4, "borderaxespad": 0}
    style |= {"labelcolor": LIGHT["ink"], "borderpad": 0.2, "handlelength": 1.8, "fontsize": 11}
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), **style)
