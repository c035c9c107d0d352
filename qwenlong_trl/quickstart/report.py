"""The report of the quickstart: one HTML page that needs no other file, its figures as PNG, tables for the terminal.

    write_report(results, Path("report.html")); save_plots(results, Path("plots")); print_summary(results)

Every sentence and every number is computed from the results, whether the run went well or not.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import pages
from ..intervals import wilson_interval
from ..pages import STYLE, WIDTHS, draw, figure_in_px, render


SERIES = {"after_sft": "after SFT", "phased": "phased", "single_stage": "single stage"}
# Blue against orange stays apart in the common kinds of colour blindness.
COLOURS = pages.COLOURS | {
    "after_sft": ("#646b76", "#b3b9c2"),
    "phased": ("#0067a3", "#5cb8f0"),
    "single_stage": ("#b54700", "#f0a04b"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
LINES = {  # shape and dash tell the series apart as well as colour does
    "after_sft": {"linestyle": (0, (4, 2)), "marker": "o", "markerfacecolor": LIGHT["page"], "linewidth": 1.5},
    "phased": {"linestyle": "-", "marker": "o", "linewidth": 2.5},
    "single_stage": {"linestyle": "-", "marker": "s", "linewidth": 1.2},
}


def spent_by_phase(run: dict[str, Any], key: str) -> list[float] | None:
    """
    Tokens (`key="tokens"`) or seconds (`key="seconds"`) of every phase of a run, from the cumulative values of its
    log; they add up to the run's total. Spending between two entries of the log is taken to be even: exact where the
    log has an entry at the end of every phase. `None` if an entry lacks the key, as after an interruption.
    """
    ends = [*accumulate(phase["max_steps"] for phase in run["phases"])]
    points = [(entry["step"], entry.get(key)) for entry in run["log"]]
    if not points or any(value is None for _, value in points):
        return None
    steps, values = zip((0, 0), *(point for point in points if point[0] < ends[-1]), (ends[-1], run[key]), strict=True)
    return np.diff(np.interp([0, *ends], steps, values)).tolist()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _steps(run: dict[str, Any]) -> int:
    return sum(phase["max_steps"] for phase in run["phases"])


def _curves(results: dict[str, Any]) -> dict[str, list[float]]:
    """The accuracies that are there, in the order of `SERIES`."""
    present = {name: results["accuracy"][name] for name in SERIES if results["accuracy"].get(name)}
    for name, values in present.items():
        if len(values) != (buckets := len(results["buckets"])):
            raise ValueError(f"accuracy[{name!r}] has {len(values)} values for {buckets} buckets; give one for each")
    return present


def headline(results: dict[str, Any]) -> str:
    """What came out, in two or three sentences."""
    accuracy, phased = _curves(results), results["runs"]["phased"]

    def change(i: int) -> str:
        before, after = (f"{accuracy[name][i]:.2f}" for name in ("after_sft", "phased"))
        how = f"{'rose' if after > before else 'fell'} from {before} to" if before != after else "stayed at"
        return "({cards} cards, {tokens} tokens), accuracy ".format(**results["buckets"][i]) + f"{how} {after}"

    text = f"On the longest contexts {change(-1)} with phased RL; on the shortest {change(0)}."
    if alone := accuracy.get("single_stage"):
        single = results["runs"]["single_stage"]
        as_many = ", as many as the phased run," if _steps(single) == _steps(phased) else ""
        text += f" A single-stage run of {_steps(single)} RL steps{as_many} ended at {alone[-1]:.2f} on the longest"
        text += (
            f" and {alone[0]:.2f} on the shortest, with {single['tokens'] / phased['tokens']:.1f} times the tokens."
        )
    return text


def goal_statement(results: dict[str, Any]) -> str:
    """Whether the goal was met, and if not, which part of it was missed."""
    low, high = results["goal"]["longest_before_at_most"], results["goal"]["longest_after_at_least"]
    before, after = results["accuracy"]["after_sft"], results["accuracy"]["phased"]
    asked = f"at most {low:g} on the longest contexts before RL, at least {high:g} after it"
    if results["goal"]["met"]:
        return f"Goal met: {asked}. Measured: {before[-1]:.3f} and {after[-1]:.3f}."
    missed = [f"before RL it was already {before[-1]:.3f}"] * (before[-1] > low)
    missed += [f"after RL it was only {after[-1]:.3f}"] * (after[-1] < high)
    missed += [f"on the shortest, accuracy fell from {before[0]:.3f} to {after[0]:.3f}"] * (after[0] < before[0])
    return f"Goal not met: {asked}. But {'; '.join(missed) or 'a further check failed'}."


def _bands(axes: Axes, start: float, ends: list[float], phases: list[dict], width: int, label: bool = True) -> None:
    """Shades every second phase, and writes as much about the phases above them as fits above each."""
    to_axes = (axes.transData + axes.transAxes.inverted()).transform
    spans = [*pairwise(to_axes((x, 0))[0] for x in (start, *ends))]
    for left, right in [*pairwise((start, *ends))][::2]:
        axes.axvspan(left, right, color=LIGHT["band"], linewidth=0, zorder=0)
    if not label:
        return
    # In letters of 6.5 px; tick labels and the names of the lines take some 110 px of the width.
    rooms = [(right - left) * (width - 110) / 6.5 for left, right in spans]
    for form in ("{}\nup to {} tokens", "{}\nto {}", "{2}\n≤{1}", "{2}"):
        texts = [
            form.format(p["name"].replace("_", " "), p["max_prompt_length"], k) for k, p in enumerate(phases, start=1)
        ]
        if all(len(line) <= room for text, room in zip(texts, rooms, strict=True) for line in text.split("\n")):
            break
    for text, span in zip(texts, spans, strict=True):
        style = {"ha": "center", "va": "bottom", "fontsize": 11, "color": LIGHT["muted"]}
        axes.annotate(text, (sum(span) / 2, 1.02), xycoords="axes fraction", **style)


def _name_lines(axes: Axes, last: dict[str, float], height: int, width: int) -> None:
    """Writes the name of every series beside its last value, pushed apart where names would overlap."""
    gap = float(np.ptp(axes.get_ylim())) * (30 if width < 600 else 17) / height
    names = sorted(last, key=last.__getitem__)
    places = sorted(last.values())
    for _ in range(100 if places else 0):
        places[0] = max(places[0], axes.get_ylim()[0] + gap / 2)  # clear of the tick labels
        for i in range(len(places) - 1):
            overlap = max(0.0, gap - (places[i + 1] - places[i]))
            places[i], places[i + 1] = places[i] - overlap / 2, places[i + 1] + overlap / 2
    for name, place in zip(names, places, strict=True):
        text = SERIES[name].replace(" ", "\n") if width < 600 else SERIES[name]
        style = {"va": "center", "color": LIGHT[name], "fontweight": "bold", "linespacing": 1.0}
        axes.annotate(text, (1.01, place), xycoords=axes.get_yaxis_transform(), annotation_clip=False, **style)


def plot_training(results: dict[str, Any], width: int = WIDTHS["wide"]) -> Figure:
    """Reward and entropy over the RL steps of both runs, with the phases of the phased one."""
    figure, panels = figure_in_px(width, 520, rows=2, sharex=True)
    runs = {name: run for name, run in sorted(results["runs"].items(), reverse=True) if run}  # the phased one on top
    phases = runs["phased"]["phases"]
    titles = {"reward": "Reward: share of right answers", "entropy": "Entropy: how undecided the reader is"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        last = {}
        for name, run in runs.items():
            points = [(entry["step"], entry[key]) for entry in run["log"] if entry.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=LIGHT[name], linewidth=LINES[name]["linewidth"])
                last[name] = points[-1][1]
        axes.set_xlim(0, max(map(_steps, runs.values())))
        axes.set_ylim(0, max(1.0, axes.dataLim.y1) * 1.03)
        axes.set_title(title, pad=42 if key == "reward" else 8)
        _bands(axes, 0, [*accumulate(p["max_steps"] for p in phases)], phases, width, label=key == "reward")
        _name_lines(axes, last, height=190, width=width)
    panels[-1].set_xlabel("RL step")
    return figure


def plot_accuracy(results: dict[str, Any], width: int = WIDTHS["wide"]) -> Figure:
    """Accuracy by prompt length, with 95 % intervals, and which phase trained which lengths."""
    figure, (axes,) = figure_in_px(width, 400)
    accuracy, phases = _curves(results), results["runs"]["phased"]["phases"]
    tokens = np.array([bucket["tokens"] for bucket in results["buckets"]], dtype=float)
    bounds = [phase["max_prompt_length"] for phase in phases]
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(tokens[0], bounds[0]) / 1.15, max(tokens[-1], bounds[-1]) * 1.08)
    axes.set_ylim(0, 1.03)
    for shift, (name, values) in zip((0.985, 1.0, 1.015), accuracy.items(), strict=False):  # intervals side by side
        low, high = np.array([wilson_interval(value, results["eval_questions"]) for value in values]).T
        errors = np.clip([values - low, high - values], 0, None)  # rounding may put an end just past the value
        axes.errorbar(tokens * shift, values, errors, color=LIGHT[name], elinewidth=1.2, markersize=6, **LINES[name])
    px = np.log2(tokens) * (width - 140) / np.ptp(np.log2(axes.get_xlim()))
    ticks = [len(tokens) - 1]  # the longest, and every shorter one that has room for its label
    for i in reversed(range(len(tokens))):
        ticks += [i] if px[ticks[-1]] - px[i] >= 30 else []
    axes.set_xticks(tokens[ticks], labels=[f"{tokens[i]:.0f}" for i in ticks])
    axes.minorticks_off()
    axes.set_title("Accuracy by length of the context", pad=42)
    axes.set_xlabel("prompt length in tokens (log scale)")
    _bands(axes, axes.get_xlim()[0], bounds, phases, width)
    _name_lines(axes, {name: values[-1] for name, values in accuracy.items()}, height=290, width=width)
    return figure


def plot_carried(results: dict[str, Any], width: int = WIDTHS["wide"]) -> Figure | None:
    """How many prompts were carried from which phase into which, and how long they are. `None` if there are none."""
    flows: dict[tuple[str, str], list[int]] = {}
    for prompt in results["carried"]:
        flows.setdefault((prompt["phase"], prompt["from_phase"]), []).append(prompt["prompt_length"])
    if not flows:
        return None
    phases = results["runs"]["phased"]["phases"]
    names = [phase["name"] for phase in phases]
    own = dict(zip(names, pairwise([0, *(phase["max_prompt_length"] for phase in phases)]), strict=True))
    distinct = sorted({length for lengths in flows.values() for length in lengths})
    # Lengths occur in steps of `grain`; every bin covers equally many of them, so that bars can be compared.
    grain = math.gcd(*np.diff(distinct).tolist()) or 1
    bin_width = grain * math.ceil(((distinct[-1] - distinct[0]) / grain + 1) / 24)
    bins = np.arange(distinct[0] - grain / 2, distinct[-1] + bin_width, bin_width)
    figure, panels = figure_in_px(width, 70 + 110 * len(flows), rows=len(flows), sharex=True, sharey=True)
    order = sorted(flows, key=lambda flow: [*map(names.index, flow)])
    for axes, (target, source) in zip(panels, order, strict=True):
        lengths = flows[target, source]
        axes.axvspan(*own[source], color=LIGHT["band"], linewidth=0, zorder=0)
        axes.hist(lengths, bins=bins, color=LIGHT["phased"], edgecolor=LIGHT["page"], linewidth=1)
        axes.set_title(f"{source} → {target}: {len(lengths)} prompt{'s' * (len(lengths) > 1)}".replace("_", " "))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    panels[-1].set_xlim(0, max(own[source][1] for _, source in flows))
    panels[-1].set_xlabel("prompt length in tokens")
    return figure


FIGURES = {"training": plot_training, "accuracy": plot_accuracy, "carried": plot_carried}


def save_plots(results: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the wide figures as `training.png`, `accuracy.png` and, if prompts were carried, `carried.png`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, plot in FIGURES.items():
            if (figure := plot(results)) is not None:
                paths.append(Path(folder) / f"{name}.png")
                figure.savefig(paths[-1], dpi=144, facecolor=LIGHT["page"])
    return paths


def write_report(results: dict[str, Any], path: Path) -> Path:
    """
    Writes the report: one HTML page without scripts that loads nothing, light or dark as the reader's system is.

    Args:
        results (`dict`):
            Plain data: `seed`, `versions`, `settings`, `eval_questions` (questions per bucket), `buckets` (ascending,
            `cards` and `tokens` each), `accuracy` (one per bucket: `after_sft`, `phased`, *optional* `single_stage`),
            `goal`, `runs` (`phased`, *optional* `single_stage`: `phases`, `log`, `tokens`, `seconds`), `carried`,
            `warm_up` and `seconds`. Tokens and *optional* seconds in a log are cumulative.
        path (`Path`):
            Where to write it; folders are made.

    Raises:
        `ValueError`: if a series does not have one accuracy per bucket.
    """
    accuracy, run = _curves(results), results["runs"]["phased"]
    with matplotlib.rc_context(STYLE):
        figures = draw({name: partial(plot, results) for name, plot in FIGURES.items()}, COLOURS)
    values = {
        **{"results": results, "headline": headline(results), "goal": goal_statement(results)},
        **{"figures": figures, "series": SERIES, "accuracy": accuracy},
        "intervals": {k: [wilson_interval(v, results["eval_questions"]) for v in vs] for k, vs in accuracy.items()},
        "spent": {key: spent_by_phase(run, key) for key in ("tokens", "seconds")},
    }
    template, filters = Path(__file__).with_name("report.html.jinja"), {"duration": _duration, "steps": _steps}
    page = render(template, values, COLOURS, accent="phased", warning="single_stage", filters=filters)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def print_summary(results: dict[str, Any]) -> None:
    """Prints the accuracies, what the runs spent, and the outcome, to the terminal."""
    console, accuracy, questions = Console(), _curves(results), results["eval_questions"]

    def show(title: str, header: list[str], rows: list[list[str]]) -> None:
        table = Table(*header, box=box.SIMPLE_HEAD)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*map(Text, row))  # as it is: a name in brackets is no markup
        console.print(Text(title, style="bold"), table, sep="\n")

    by_length = [[str(bucket["tokens"])] for bucket in results["buckets"]]
    for values in accuracy.values():
        for row, value in zip(by_length, values, strict=True):
            row.append("{:.3f} ({:.2f}–{:.2f})".format(value, *wilson_interval(value, questions)))
    title = f"Accuracy by prompt length, {questions} questions each (95 % interval)"
    show(title, ["tokens", *(SERIES[name] for name in accuracy)], by_length)
    spent = []
    for name, run in results["runs"].items():
        phases = run["phases"]
        for phase, used in zip(phases, spent_by_phase(run, "tokens"), strict=True) if len(phases) > 1 else ():
            numbers = (phase["max_steps"], phase["prompts"], phase["carried"], round(used))
            spent.append([f"  {phase['name'].replace('_', ' ')}", *(f"{number:,}" for number in numbers), ""])
        totals = [*(sum(phase[key] for phase in phases) for key in ("max_steps", "prompts", "carried")), run["tokens"]]
        spent.append([SERIES[name], *(f"{total:,}" for total in totals), _duration(run["seconds"])])
    show("RL runs", ["run", "steps", "own prompts", "carried", "tokens", "time"], spent)
    console.print(Text(headline(results)))
    console.print(Text(goal_statement(results), style="bold green" if results["goal"]["met"] else "bold yellow"))
