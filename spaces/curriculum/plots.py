"""The curves of a phased run as inline SVG, in the colours of the page; one picture for a desk and one for a phone."""

from __future__ import annotations

import html
from itertools import pairwise

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from qwenlong_trl.pages import STYLE, draw, figure_in_px
from qwenlong_trl.phased_grpo.history import History
from qwenlong_trl.spaces import look


BUCKETS = {  # from short to long: lines differ in dash as well as in colour
    "bucket0": ("#0067a4", "#5cb8f1"),
    "bucket1": ("#b54701", "#f0a04c"),
    "bucket2": ("#3b7a2a", "#8ccf77"),
    "bucket3": ("#7a3b9a", "#c79be0"),
    "bucket4": ("#8a6d00", "#dcc052"),
    "bucket5": ("#a02c5a", "#ec8fb4"),
}
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)), (0, (8, 2)))
COLOURS = look.COLOURS | BUCKETS
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
MOST_POINTS = 400  # of a line; longer ones are averaged
SPANS = 32  # a line is the mean over a 32nd of the run to either side


def figures(history: History) -> str:
    """All curves as HTML: two figures with their captions, each twice, for wide and narrow pages."""
    with matplotlib.rc_context(STYLE):
        drawn = draw({"run": lambda width: plot(history, width)}, COLOURS)
    label = html.escape(spoken(history), quote=True)
    pictures = "".join(
        f'<div class="{size}" role="img" aria-label="{label}">{drawn["run", size]}</div>'
        for size in ("wide", "narrow")
    )
    span = history.last_step // SPANS
    caption = "Every second phase is shaded."
    if span:
        caption += f" Lines are means over {span} steps to either side; what was logged is the thin line behind them."
    if any(share for _, share in history.carried_share) and len(history.by_length) > 1:
        caption += (
            " Once a phase is over, its lengths are seen in carried prompts alone, which are those that were hard."
        )
    return f"<figure>{pictures}<figcaption>{caption}</figcaption></figure>"


def spoken(history: History) -> str:
    """The curves in words, for whoever does not see them."""
    parts = [f"A run of {len(history.phases)} phases and {history.last_step} steps."]
    for name in ("reward", "entropy"):
        if points := history.series.get(name):
            parts.append(f"{name.capitalize()} from {points[0][1]:.2f} to {points[-1][1]:.2f}.")
    for (low, high), points in history.by_length.items():
        parts.append(f"Accuracy at {low + 1} to {high} tokens from {points[0][1]:.2f} to {points[-1][1]:.2f}.")
    return " ".join(parts)


def plot(history: History, width: int) -> Figure:
    """Reward, entropy, accuracy by length, and the share of carried prompts, over the steps."""
    panels = [("Reward", {"reward": history.series.get("reward", [])})]
    panels.append(("Entropy", {"entropy": history.series.get("entropy", [])}))
    buckets = {f"{low + 1:,}–{high:,}": points for (low, high), points in history.by_length.items()}
    panels.append(("Accuracy by prompt length (tokens)", buckets))
    panels.append(("Share of carried prompts", {"carried": history.carried_share}))
    panels = [(title, lines) for title, lines in panels if any(lines.values())]
    figure, axes_list = figure_in_px(width, 90 + 170 * len(panels), rows=len(panels), sharex=True)
    for number, (axes, (title, lines)) in enumerate(zip(axes_list, panels, strict=True)):
        last = {}
        for i, (name, points) in enumerate(lines.items()):
            if points:
                colour, dash = f"bucket{i % len(BUCKETS)}", DASHES[i % len(DASHES)]
                steps, values = smoothed(points, history.last_step // SPANS)
                marker = "o" if len(steps) == 1 else None
                if len(lines) == 1:  # what was logged, behind its mean
                    axes.plot(*thinned(points), color=LIGHT["muted"], linewidth=0.8, alpha=0.5)
                axes.plot(steps, values, color=LIGHT[colour], linestyle=dash, linewidth=2, marker=marker)
                last[name] = (float(values[-1]), LIGHT[colour])
        axes.set_xlim(0, history.last_step)
        axes.set_ylim(min(0.0, axes.dataLim.y0), max(0.5, axes.dataLim.y1) * 1.05)
        axes.set_title(title, pad=40 if number == 0 else 8)
        shade(axes, history, width, label=number == 0)
        if len(last) > 1:
            name_lines(axes, last)
    axes_list[-1].set_xlabel("step")
    return figure


def thinned(points: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, averaged where there are too many for a line."""
    steps, values = np.array(points, dtype=float).T
    if len(steps) <= MOST_POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), MOST_POINTS)
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])


def smoothed(points: list[tuple[int, float]], span: int) -> tuple[np.ndarray, np.ndarray]:
    """At each of the steps that stay, the mean over those up to `span` steps away."""
    steps, values = np.array(points, dtype=float).T
    at, _ = thinned(points)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first, last = np.searchsorted(steps, at - span, "left"), np.searchsorted(steps, at + span, "right")
    return at, (sums[last] - sums[first]) / (last - first)


def shade(axes, history: History, width: int, label: bool) -> None:
    """Shades every second phase, and names the phases above them where there is room."""
    letter = 6.6 / (width - 110) * history.last_step  # steps that a letter takes
    spans = [(phase.first_step - 1, phase.last_step) for phase in history.phases]
    unit = " tokens" if width > 600 else ""
    texts = [f"{p.name.replace('_', ' ')}\n≤ {p.max_prompt_length:,}{unit}" for p in history.phases]
    if any(
        len(line) * letter > end - start
        for t, (start, end) in zip(texts, spans, strict=True)
        for line in t.split("\n")
    ):
        texts = [str(k) for k in range(1, len(spans) + 1)]
    for k, (text, (start, end)) in enumerate(zip(texts, spans, strict=True)):
        if k % 2 == 0:
            axes.axvspan(start, end, color=LIGHT["band"], linewidth=0, zorder=0)
        if label:
            style = {"ha": "center", "va": "bottom", "fontsize": 11, "color": LIGHT["muted"]}
            axes.annotate(text, ((start + end) / 2, 1.03), xycoords=axes.get_xaxis_transform(), **style)


def name_lines(axes, last: dict[str, tuple[float, str]]) -> None:
    """Each line's name behind its end, pushed apart."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.14
    order = sorted(last, key=lambda name: last[name][0])
    places = [last[name][0] for name in order]
    for _ in range(60):
        for i, (a, b) in enumerate(pairwise(places)):
            if (overlap := (gap - (b - a)) / 2) > 0:
                places[i], places[i + 1] = a - overlap, b + overlap
    for name, place in zip(order, places, strict=True):
        style = {"va": "center", "color": last[name][1], "fontweight": "bold", "fontsize": 11}
        axes.annotate(name, (1.01, place), xycoords=axes.get_yaxis_transform(), annotation_clip=False, **style)
