"""The quickstart's report: what the page, the figures and the terminal say is what the results hold."""

import json
import random
import re
from html.parser import HTMLParser
from itertools import accumulate, combinations, pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenlong_trl.quickstart import report


CARDS = (4, 8, 16, 32, 64, 128)
MARKUP = "<script>alert('1')</script> & <b>\"$x$\"</b>"
# What a text field may hold; HTML itself rewrites carriage returns and drops control characters.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(lambda text: text == text.strip())
NAME = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


def make_run(rng: random.Random, bounds: tuple[int, ...], steps: tuple[int, ...]) -> dict:
    phases = []
    for k, (bound, n) in enumerate(zip(bounds, steps, strict=True), start=1):
        phase = {"name": f"phase_{k}", "max_prompt_length": bound, "max_steps": n}
        phases.append(phase | {"prompts": rng.randint(9, 2000), "carried": 0})
    log, tokens, seconds = [], 0, 0.0
    for step in range(5, sum(steps) + 1, 5):
        tokens, seconds = tokens + rng.randint(10_000, 90_000), seconds + rng.uniform(1, 9)
        shares = {key: rng.random() for key in ("reward", "accuracy", "zero_variance")}
        log.append({"step": step, **shares, "entropy": rng.uniform(0, 3), "tokens": tokens, "seconds": seconds})
    return {"phases": phases, "log": log, "tokens": tokens, "seconds": seconds}


def make_results(seed=0, bounds=(33, 129, 257), steps=(60, 60, 60), carried=40, single=True, met=True) -> dict:
    """Random, plausible results: `carried` prompts for every pair of an earlier and a later phase."""
    rng = random.Random(seed)
    questions = rng.choice([64, 256, 1000])

    def accuracies(first: float, last: float) -> list[float]:
        return [round(rng.uniform(x - 0.02, x) * questions) / questions for x in np.linspace(first, last, len(CARDS))]

    accuracy = {"after_sft": accuracies(0.95, 0.1), "phased": accuracies(1.0, 0.85 if met else 0.5)}
    runs = {"phased": make_run(rng, bounds, steps)}
    if single:
        accuracy["single_stage"] = accuracies(0.4, 0.08)
        runs["single_stage"] = make_run(rng, bounds[-1:], (sum(steps),))
    prompts = []
    for source, target in combinations(runs["phased"]["phases"], 2):
        target["carried"] += carried
        for _ in range(carried):
            length = rng.randrange(source["max_prompt_length"] // 2, source["max_prompt_length"]) | 1
            prompt = {"id": f"cards-{rng.random()}", "phase": target["name"], "from_phase": source["name"]}
            prompt |= {"prompt_length": length, "weight": rng.uniform(1, 16), "mean_accuracy": rng.random()}
            prompts.append(prompt)
    return {
        "seed": seed,
        "versions": {"qwenlong-trl": "0.1.0", "trl": "1.16.0"},
        "settings": {"learning rate": 1e-6, "retrospective": "hard_zero", "resample": True, "range": [0.2, 0.28]},
        "eval_questions": questions,
        "buckets": [{"cards": cards, "tokens": 2 * cards + 1} for cards in CARDS],
        "accuracy": accuracy,
        "goal": {"longest_before_at_most": 0.15, "longest_after_at_least": 0.7, "met": met},
        "runs": runs,
        "carried": prompts,
        "warm_up": {"pretrain_steps": 190, "pretrain_seconds": 12.0, "sft_steps": 40, "sft_seconds": 3.0},
        "seconds": 400.0,
    }


VARIANTS = {
    "whole": {},
    "no carried prompts": {"seed": 1, "carried": 0},
    "no single stage": {"seed": 2, "single": False},
    "goal missed": {"seed": 3, "met": False},
    "one phase": {"seed": 4, "bounds": (257,), "steps": (30,), "carried": 0},
    "one carried prompt each": {"seed": 5, "carried": 1},
    "many uneven phases": {"seed": 6, "bounds": (17, 33, 65, 129, 257, 400), "steps": (20, 20, 60, 60, 10, 10)},
}


class Page(HTMLParser):
    """Start tags with attributes, text by element, and the cells of every table by its id, of a written page."""

    def __init__(self, source: str):
        super().__init__()
        self.source, self.tags, self.tables, self.texts, self.path = source, [], {}, {}, []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        self.path += [] if tag == "meta" else [tag]
        if tag == "table":
            self.table = self.tables.setdefault(dict(attrs).get("id"), [])
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append([])

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.path.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.texts.setdefault(self.path[-1] if self.path else "", []).append(data)
        if {"td", "th"} & set(self.path):
            self.table[-1][-1].append(data)

    def rows(self, table: str | None) -> list[list[str]]:
        """Cells as text, parts of a cell (a value and its interval) joined by a space."""
        return [
            [" ".join(part.strip() for part in cell if part.strip()) for cell in row] for row in self.tables[table]
        ]

    @property
    def prose(self) -> str:
        return " ".join(" ".join([*self.texts["p"], *self.texts["strong"]]).split())


def write(results: dict, folder: Path) -> Page:
    path = report.write_report(json.loads(json.dumps(results)), folder / "new" / "report.html")
    assert path == folder / "new" / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def case(request, tmp_path_factory) -> tuple[dict, Page]:
    results = make_results(**request.param)
    return results, write(results, tmp_path_factory.mktemp("page"))


def test_page_needs_nothing_else(case):
    results, page = case
    assert page.path == [], "an element is not closed"
    loading = {"script", "link", "img", "iframe", "object", "embed", "image", "base", "video", "audio", "source"}
    assert not loading & {tag for tag, _ in page.tags}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "data", "onload"} & set(attrs)
        inside = [attrs[key].removeprefix("#") for key in ("href", "xlink:href") if key in attrs and tag != "a"]
        inside += re.findall(r"url\(#(.*?)\)", " ".join(map(str, attrs.values())))
        assert {*inside, *attrs.get("aria-labelledby", "").split()} <= set(ids)
    assert not re.search(r"@import|url\((?!#)", page.source)
    assert sum(tag == "svg" for tag, _ in page.tags) == (6 if results["carried"] else 4)


def test_page_opens_with_the_computed_result(case):
    results, page = case
    assert report.headline(results) in page.prose and report.goal_statement(results) in page.prose
    assert ("single" in page.prose) == ("single_stage" in results["runs"])
    assert ("hard prompts came back" in page.prose) == bool(results["carried"])


def test_accuracy_table(case):
    results, page = case
    header, *rows = page.rows("accuracy")
    assert header == ["Length", "after SFT", "phased", "single stage"][: 1 + len(results["accuracy"])]
    for i, (bucket, row) in enumerate(zip(results["buckets"], rows, strict=True)):
        assert row[0] == f"{bucket['tokens']} tokens {bucket['cards']} cards"
        for series, cell in zip(results["accuracy"].values(), row[1:], strict=True):
            value_and_interval = [*map(float, re.fullmatch(r"([\d.]+) ([\d.]+)–([\d.]+)", cell).groups())]
            truth = (series[i], *report.wilson_interval(series[i], results["eval_questions"]))
            assert value_and_interval == pytest.approx(truth, abs=0.0005001)


def test_tables_of_phases_and_runs(case):
    results, page = case
    run, runs = results["runs"]["phased"], results["runs"].values()
    table = {row[0]: row[1:] for row in page.rows("phases")}
    assert table.pop("") == [phase["name"].replace("_", " ") for phase in run["phases"]]
    numbers = {key: [int(cell.replace(",", "")) for cell in row] for key, row in table.items()}
    keys = {"Tokens, at most": "max_prompt_length", "RL steps": "max_steps", "Own prompts": "prompts"}
    for row, key in (keys | {"Carried prompts": "carried"}).items():
        assert numbers[row] == [phase[key] for phase in run["phases"]]
    for row, key in {"Tokens spent": "tokens", "Seconds": "seconds"}.items():
        at_step = {entry["step"]: entry[key] for entry in run["log"]} | {0: 0}
        ends = [0, *accumulate(phase["max_steps"] for phase in run["phases"])]
        assert numbers[row] == pytest.approx([at_step[b] - at_step[a] for a, b in pairwise(ends)], abs=0.5)

    table = {row[0]: row[1:] for row in page.rows("runs")}
    assert table[""] == [name.replace("_", " ") for name in results["runs"]]
    assert table["RL steps"] == [str(sum(phase["max_steps"] for phase in run["phases"])) for run in runs]
    assert table["Tokens"] == [f"{run['tokens']:,}" for run in runs]
    shares = [100 * np.mean([entry["zero_variance"] for entry in run["log"]]) for run in runs]
    assert [float(cell.removesuffix(" %")) for cell in table["Groups without signal"]] == pytest.approx(
        shares, abs=0.5
    )


def test_carried_table_settings_and_versions(case):
    results, page = case
    assert page.rows(None) == [[key, str(value)] for key, value in (results["settings"] | results["versions"]).items()]
    if not results["carried"]:
        assert "carried" not in page.tables and "No prompts were carried" in page.prose
        return
    for prompt, row in zip(results["carried"], page.rows("carried")[1:], strict=True):
        words = [prompt["id"], *(prompt[key].replace("_", " ") for key in ("from_phase", "phase"))]
        assert row[:4] == [*words, str(prompt["prompt_length"])]
        assert [*map(float, row[4:])] == pytest.approx([prompt["weight"], prompt["mean_accuracy"]], abs=0.005)
    assert any(tag == "details" and "open" not in attrs for tag, attrs in page.tags)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(TEXT, min_size=1, max_size=40), names=st.lists(NAME, min_size=2, max_size=2, unique=True))
def test_any_text_is_shown_as_it_is(ids, names, tmp_path):
    results = make_results(bounds=(33, 129), steps=(20, 20))
    for phase, name in zip(results["runs"]["phased"]["phases"], names, strict=True):
        phase["name"] = name
    ids = [*ids, MARKUP]
    prompt = {"phase": names[1], "from_phase": names[0], "prompt_length": 31, "weight": 2.5, "mean_accuracy": None}
    results["carried"] = [{"id": text, **prompt} for text in ids]
    results["settings"] = {MARKUP: MARKUP, "first": ids[0]}
    results["runs"]["phased"]["log"][0]["seconds"] = None  # unknown after an interruption
    page = write(results, tmp_path)
    source, target = (name.replace("_", " ") for name in names)
    shown = [["".join(cell) for cell in row] for row in page.tables["carried"]][1:]
    assert shown == [[text, source, target, "31", "2.50", "–"] for text in ids]
    assert ["".join(cell) for row in page.tables[None][:2] for cell in row] == [MARKUP, MARKUP, "first", ids[0]]
    assert f"{source} → {target}: {len(ids)} prompts" in page.texts["text"]
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert "Seconds" not in [row[0] for row in page.rows("phases")]


def test_equal_results_make_equal_pages_and_stay_as_they_are(tmp_path):
    results = make_results(bounds=(257,), steps=(30,))
    before = json.dumps(results)
    pages = [report.write_report(results, tmp_path / name).read_text(encoding="utf-8") for name in "ab"]
    assert pages[0] == pages[1] and json.dumps(results) == before


@pytest.mark.parametrize("name", report.SERIES)
def test_a_missing_accuracy_is_an_error(name, tmp_path):
    results = make_results()
    del results["accuracy"][name][0]
    for report_it in (report.print_summary, lambda results: report.write_report(results, tmp_path / "report.html")):
        with pytest.raises(ValueError, match=rf"accuracy\['{name}'\] has 5 values for 6 buckets; give one for each"):
            report_it(results)


def test_wilson_interval_known_values():
    assert report.wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)  # z² / (n + z²)
    assert report.wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_inverts_the_score_test(counts):
    right, questions = counts
    share = right / questions
    low, high = report.wilson_interval(share, questions)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):  # the share is 1.96 standard errors from each end, the error being that of the end
        assert abs(share - end) == pytest.approx(1.959964 * (end * (1 - end) / questions) ** 0.5, abs=1e-7)


@given(
    steps=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    every=st.integers(1, 7),
    spending=st.lists(st.integers(0, 10_000), min_size=200, max_size=200),
)
def test_spent_by_phase_adds_up_and_is_exact_at_logged_boundaries(steps, every, spending):
    ends, total = [*accumulate(steps)], sum(steps)
    done = [0, *accumulate(spending[:total])]  # tokens after so many steps
    run = {"phases": [{"max_steps": n} for n in steps], "tokens": done[total]}
    run["log"] = [{"step": step, "tokens": done[step]} for step in range(every, total + 1, every)]
    spent = report.spent_by_phase(run, "tokens")
    if not run["log"]:
        assert spent is None
        return
    assert sum(spent) == pytest.approx(done[total]) and min(spent) >= 0
    for end, upto in zip(ends, accumulate(spent), strict=True):
        if end % every == 0 or end == total:
            assert upto == pytest.approx(done[end])
        else:
            assert done[end // every * every] - 1e-6 <= upto <= done[min(total, -(-end // every) * every)] + 1e-6


def test_headline_says_what_the_numbers_say():
    results = make_results()
    ends = {"after_sft": (0.98, 0.07), "phased": (0.95, 0.81), "single_stage": (0.31, 0.05)}
    for name, (first, last) in ends.items():
        results["accuracy"][name][0], results["accuracy"][name][-1] = first, last
    results["runs"]["phased"]["tokens"], results["runs"]["single_stage"]["tokens"] = 1000, 2100
    text = report.headline(results)
    assert "longest contexts (128 cards, 257 tokens), accuracy rose from 0.07 to 0.81" in text
    assert "shortest (4 cards, 9 tokens), accuracy fell from 0.98 to 0.95" in text
    assert "180 RL steps, as many as the phased run, ended at 0.05 on the longest and 0.31 on the shortest" in text
    assert "2.1 times the tokens" in text

    results["accuracy"]["phased"][-1] = 0.0701
    results["runs"]["single_stage"]["phases"][0]["max_steps"] = 90
    text = report.headline(results)
    assert "accuracy stayed at 0.07" in text and "of 90 RL steps ended" in text and "as many" not in text

    del results["accuracy"]["single_stage"], results["runs"]["single_stage"]
    assert "single" not in report.headline(results).lower()


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ((0.9, 0.2), (0.95, 0.8), "before RL it was already 0.200"),
        ((0.9, 0.1), (0.95, 0.698), "after RL it was only 0.698"),
        ((0.9, 0.1), (0.5, 0.8), "on the shortest, accuracy fell from 0.900 to 0.500"),
        ((0.9, 0.1), (0.95, 0.8), "a further check failed"),
    ],
)
def test_a_missed_goal_is_said_with_its_reason_alone(before, after, reason):
    results = make_results(met=False)
    for name, (first, last) in {"after_sft": before, "phased": after}.items():
        results["accuracy"][name][0], results["accuracy"][name][-1] = first, last
    asked = "at most 0.15 on the longest contexts before RL, at least 0.7 after it"
    assert report.goal_statement(results) == f"Goal not met: {asked}. But {reason}."
    results["goal"]["met"] = True
    measured = f"Measured: {before[1]:.3f} and {after[1]:.3f}."
    assert report.goal_statement(results) == f"Goal met: {asked}. {measured}"


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


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_summary_in_the_terminal(variant, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    results = make_results(**variant)
    results["runs"]["phased"]["phases"][0]["name"] = "[red]warm[/red]"
    report.print_summary(results)
    printed = capsys.readouterr().out
    text = " ".join(printed.split())
    assert report.headline(results) in text and report.goal_statement(results) in text
    lines = [line.split() for line in printed.splitlines()]
    for i, bucket in enumerate(results["buckets"]):
        values = [f"{series[i]:.3f}" for series in results["accuracy"].values()]
        assert [str(bucket["tokens"]), *values] in [line[:1] + line[1::2] for line in lines]
    for name, run in results["runs"].items():
        (row,) = (line for line in lines if line[-1:] == ["s"] and line[0] == name.split("_")[0])
        assert f"{run['tokens']:,}" in row and str(sum(phase["max_steps"] for phase in run["phases"])) in row
    if len(results["runs"]["phased"]["phases"]) > 1:
        assert any(line[:1] == ["[red]warm[/red]"] for line in lines)
