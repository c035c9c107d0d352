"""The figures of a Loong report: scores by set with intervals, and bars by task and sub-task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from .. import pages
from ..pages import WIDTHS, figure_in_px
from .metrics import Cell
from .records import SETS
from .tables import Summary, headline_columns


# Blue against orange stays apart in the common kinds of colour blindness.
COLOURS = pages.COLOURS | {"judge": ("#0067a3", "#5cb8f0"), "structured": ("#b54700", "#f0a04b")}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
MARKERS = {"judge": "o", "structured": "s"}


def series(summary: Summary) -> dict[str, tuple[str, str]]:
    """The figure of a cell and its name, for the judge (if one was asked) and the structured score."""
    columns = headline_columns(summary)
    judge = next(iter(columns))
    found = {"judge": (judge, columns[judge])} if summary.judged else {}
    return found | {"structured": ("structured", columns["structured"])}


def plot_sets(summary: Summary, width: int = WIDTHS["wide"]) -> Figure:
    """Scores by set, with 95 % intervals, and the number of records."""
    cells = summary.by["set"]
    figure, (axes,) = figure_in_px(width, 340)
    axes.set_xlim(min(cells) - 0.5, max(cells) + 0.5)
    axes.set_ylim(0, 103)
    names = series(summary)
    for i, (name, (measure, _)) in enumerate(names.items()):
        shift = (i - (len(names) - 1) / 2) * 0.12  # intervals side by side
        there = {key + shift: cell for key, cell in cells.items() if getattr(cell, measure) is not None}
        _points(axes, there, measure, name)
    axes.set_xticks([*cells], labels=[f"Set {key}\n{SETS[key]}\nn = {cell.total}" for key, cell in cells.items()])
    axes.set_title("Score by set (tokens as the benchmark labels them)" if width > 600 else "Score by set", pad=30)
    _legend(axes, names, 1.02)
    return figure


def plot_bars(cells: Mapping[Any, Cell], names: Mapping[str, tuple[str, str]], title: str, width: int) -> Figure:
    """Bars with 95 % intervals: the judge's score above the structured one, for each of some cells."""
    figure, (axes,) = figure_in_px(width, 80 + (34 + 18 * len(names)) * len(cells))
    axes.set_xlim(0, 108)
    thick = 0.62 / (len(names) + 0.8)
    ticks = []
    for row, (key, cell) in enumerate(cells.items()):
        axes.annotate(f"{key}, n = {cell.total}", (0, row - 0.38), va="center", fontsize=12, fontweight="bold")
        for i, (name, (measure, _)) in enumerate(names.items()):
            place = row - 0.38 + thick * (i + 1.25)
            ticks.append(place)
            value, interval = getattr(cell, measure), getattr(cell, f"{measure}_interval")
            if value is None:
                style = {"va": "center", "fontsize": 11, "color": LIGHT["muted"]}
                axes.annotate(f"no {names[name][1].lower()}", (0.5, place), **style)
                continue
            axes.barh(place, value, height=thick * 0.86, color=LIGHT[name], alpha=0.5)  # intervals show on it
            end = value
            if interval is not None:
                errors = [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
                axes.errorbar(value, place, xerr=errors, color=LIGHT["ink"], elinewidth=1.2, capsize=2.5)
                end = max(end, interval[1])
            # Beside the bar, or within it where there is no room beside it.
            inside = end > 92 - (8 if width < 600 else 0)
            colour = LIGHT["ink" if inside else name]
            axes.annotate(f"{value:.1f}", (1.5 if inside else end + 1, place), va="center", fontsize=11, color=colour)
    axes.set_ylim(len(cells) - 0.35, -0.6)
    axes.set_yticks([])
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_title(title, pad=30)
    _legend(axes, names, 1.0)
    return figure


def plots(summary: Summary) -> dict[str, Any]:
    """Functions of a width in px, by name of the figure."""
    names = series(summary)
    return {
        "sets": lambda width: plot_sets(summary, width),
        "tasks": lambda width: plot_bars(summary.by["task"], names, "Score by task", width),
        "subtasks": lambda width: plot_bars(summary.by["subtask"], names, "Score by sub-task", width),
    }


def _points(axes, there: Mapping[float, Cell], measure: str, name: str) -> None:
    values = [getattr(cell, measure) for cell in there.values()]
    axes.plot([*there], values, color=LIGHT[name], marker=MARKERS[name], linewidth=2, markersize=7)
    for x, cell in there.items():
        if (interval := getattr(cell, f"{measure}_interval")) is not None:
            axes.plot([x, x], interval, color=LIGHT[name], linewidth=1.4)


def _legend(axes, names: Mapping[str, tuple[str, str]], height: float) -> None:
    """Names of the series in a row above the axes, each after its mark."""
    handles = [
        axes.plot([], [], color=LIGHT[name], marker=MARKERS[name], linestyle="none", label=label)[0]
        for name, (_, label) in names.items()
    ]
    style = {"frameon": False, "ncols": len(handles), "handletextpad": 0.2, "columnspacing": 1.2, "borderaxespad": 0}
    style |= {"labelcolor": [handle.get_color() for handle in handles], "borderpad": 0.2, "handlelength": 1.2}
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, height), fontsize=11, **style)
