"""The figures of the report: what they draw is what the results hold, and nothing overlaps."""

import re
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from results import VARIANTS, make_results

from qwenlong_trl.quickstart import report


def test_training_figure_shows_the_log():
    results = make_results()
    results["runs"]["phased"]["log"][3]["entropy"] = None
    with matplotlib.rc_context(report.STYLE):
        panels = report.plot_training(results).axes
    for axes, key in zip(panels, ("reward", "entropy"), strict=True):
        widths = {}
        for line, name in zip(axes.lines, ("single_stage", "phased"), strict=True):
            log = [entry for entry in results["runs"][name]["log"] if entry[key] is not None]
            np.testing.assert_array_equal(line.get_xydata(), [(entry["step"], entry[key]) for entry in log])
            widths[name] = line.get_linewidth()
        assert widths["single_stage"] < widths["phased"]
        bands = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
        assert bands == [(0, 60), (120, 180)]
    labels = {text.get_text() for text in panels[0].texts}
    assert labels >= {"phase 1\nup to 33 tokens", "phase 3\nup to 257 tokens", "phased", "single stage"}


def test_accuracy_figure_shows_values_and_intervals():
    results = make_results()
    with matplotlib.rc_context(report.STYLE):
        (axes,) = report.plot_accuracy(results).axes
    assert axes.get_xscale() == "log"
    tokens = [bucket["tokens"] for bucket in results["buckets"]]
    for container, values in zip(axes.containers, results["accuracy"].values(), strict=True):
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(line.get_xdata(), tokens, rtol=0.02)
        np.testing.assert_array_equal(line.get_ydata(), values)
        intervals = [report.wilson_interval(value, results["eval_questions"]) for value in values]
        np.testing.assert_allclose([bar[:, 1] for bar in bars.get_segments()], intervals, atol=1e-9)


@pytest.mark.parametrize("spacing", [1, 2, 8, 60])
def test_carried_figure_counts_every_prompt_once(spacing):
    results = make_results(bounds=(100, 1000, 5000))
    for prompt in results["carried"]:
        prompt["prompt_length"] = prompt["prompt_length"] // spacing * spacing + 1
    with matplotlib.rc_context(report.STYLE):
        panels = report.plot_carried(results).axes
    titles = [axes.get_title(loc="left") for axes in panels]
    flows = ("phase 1 → phase 2", "phase 1 → phase 3", "phase 2 → phase 3")
    assert titles == [f"{flow}: 40 prompts" for flow in flows]
    for axes in panels:
        bars = axes.containers[0]
        assert sum(bar.get_height() for bar in bars) == 40
        assert {round(bar.get_width() / spacing, 6) for bar in bars} == {round(bars[0].get_width() / spacing)}


@pytest.mark.parametrize("width", report.WIDTHS.values(), ids=report.WIDTHS)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_words_in_figures_neither_overlap_nor_leave_the_picture(variant, width):
    results = make_results(**variant)
    for plot in report.FIGURES.values():
        with matplotlib.rc_context(report.STYLE):
            if (figure := plot(results, width)) is None:
                continue
            figure.draw_without_rendering()
        words = []
        for axes in figure.axes:
            words += [*axes.texts, axes._left_title, axes.xaxis.label]
            low, high = axes.get_ylim()
            words += [tick for tick in axes.get_yticklabels() if low <= tick.get_position()[1] <= high]
        low, high = axes.get_xlim()
        words += [tick for tick in axes.get_xticklabels() if low <= tick.get_position()[0] <= high]
        boxes = [(word.get_text(), word.get_window_extent()) for word in words if word.get_text()]
        assert len(boxes) > 5
        for text, box in boxes:
            assert -1 <= box.x0 and box.x1 <= width + 1, f"{text!r} leaves the picture"
            assert -1 <= box.y0 and box.y1 <= figure.bbox.height + 1, f"{text!r} leaves the picture"
        for (text, a), (other, b) in combinations(boxes, 2):
            apart = max(a.x0 - b.x1, b.x0 - a.x1, a.y0 - b.y1, b.y0 - a.y1)
            assert apart > -3, f"{text!r} lies over {other!r}"


def test_colours_are_readable_and_distinct():
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    assert len(set(report.LIGHT.values())) == len(report.LIGHT)  # each becomes a variable of its own
    for mode in (0, 1):
        for text in ("ink", "muted", *report.SERIES):
            for ground in ("page", "band"):
                pair = (luminance(report.COLOURS[name][mode]) for name in (text, ground))
                dark, light = sorted(pair)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"  # WCAG 2, level AA


def test_figures_in_the_page_follow_its_colours(case):
    drawings = "".join(re.findall(r"<svg.*?</svg>", case[1].source, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)
    assert {"ink", "muted", "line", "band", "page", "phased"} <= set(re.findall(r"var\(--(\w+)\)", drawings))
    for name, colours in report.COLOURS.items():
        assert re.findall(rf"--{name}: (#\w+);", case[1].source) == [*colours]


@pytest.mark.parametrize("carried", [0, 7])
def test_save_plots(carried, tmp_path):
    paths = report.save_plots(make_results(carried=carried), tmp_path / "new" / "plots")
    names = ["training.png", "accuracy.png", "carried.png"][: 3 if carried else 2]
    assert paths == [tmp_path / "new" / "plots" / name for name in names]
    for path in paths:
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[1] == 2 * report.WIDTHS["wide"]
        np.testing.assert_array_equal(pixels[0, 0, :3], 1)  # white behind, in a dark README too
