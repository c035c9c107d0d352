"""The report of a Loong run: one page that loads nothing, and everything in it computed from the rows."""

import json
import re
from itertools import combinations

import matplotlib
import pytest
from html_page import Page, check_page_needs_nothing_else
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scored_rows import ABOUT, MARKUP, NO_JUDGE, OFFICIAL, again, many, scored

from qwenlong_trl.loong.comparison import write_comparison
from qwenlong_trl.loong.figures import plots
from qwenlong_trl.loong.report import headline, print_report, tiles, write_report
from qwenlong_trl.loong.report_parts import examples, losses, shown
from qwenlong_trl.loong.tables import (
    OFFICIAL_JUDGE,
    comparability,
    full_tables,
    official_lines,
    official_table,
    report_json,
    summarize,
    warnings,
)
from qwenlong_trl.pages import STYLE, WIDTHS


VARIANTS = {
    "fixed": (many(), ABOUT, "fixed"),
    "official": (many(seed=1), OFFICIAL, "official"),
    "no judge": (many(seed=2, judged=False), NO_JUDGE, "fixed"),
    "one set, never parsed": (many(40, seed=3, judged=False, sets=(2,)), ABOUT, "fixed"),
    "unfinished": (
        [*many(20, seed=4), *(scored(f"u{i}", unjudged=True, truncated=True) for i in range(3))],
        *(ABOUT, "fixed"),
    ),
    "failed, official": (
        [*many(20, seed=5), scored("f", prediction="", score=1.0, structured=0.0, failed=True)],
        *(OFFICIAL, "official"),
    ),
    "one record": ([scored(score=100.0, structured=100.0)], ABOUT, "fixed"),
    "nothing answered": ([scored(prediction=None)], OFFICIAL, "official"),
    "all perfect": ([scored(str(i), score=100.0, structured=100.0, doc=str(i)) for i in range(6)], ABOUT, "fixed"),
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new"
    rows, about, mode = request.param
    summary = write_report(folder, rows, about, mode, samples=200)
    return rows, summary, Page((folder / "report.html").read_text(encoding="utf-8")), folder


def test_page_needs_nothing_else(case):
    _, _, page, folder = case
    check_page_needs_nothing_else(page)
    assert sum(tag == "svg" for tag, _ in page.tags) == 6
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]


def test_page_and_markdown_open_with_what_came_out(case):
    rows, summary, page, folder = case
    markdown = " ".join((folder / "report.md").read_text(encoding="utf-8").split())
    for text in (headline(summary), comparability(summary), *losses(summary, rows), *warnings(summary)):
        assert text in page.prose and re.sub(r"[|<`_]", r"\\\g<0>", text) in markdown
    assert page.texts.get("strong", []).count("Warning:") == markdown.count("Warning:") == len(warnings(summary))
    for name, texts in tiles(summary).items():
        assert name in page.texts["dt"] and texts[0] in page.texts["dd"]


def test_tables_of_the_page_and_of_markdown_are_those_of_the_run(case):
    _, summary, page, folder = case
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for table in (*full_tables(summary), official_table(summary)):
        header, *rows = page.tables[table.name]
        assert [cell[0] for cell in header] == [*table.header]
        assert rows == [[[cell] if isinstance(cell, str) else [*cell] for cell in row] for row in table.rows]
        assert table.as_markdown().strip("\n") in markdown
    assert len(page.tables["official"]) == 26


def test_json_is_the_summary(case):
    rows, summary, _, folder = case
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert data.pop("losses") == losses(summary, rows)
    assert data.pop("examples") == [one["id"] for one in examples(summary, rows)]
    assert data == json.loads(json.dumps(report_json(summary)))


def test_avg_score_is_said_of_one_judge_alone(case):
    _, summary, page, folder = case
    for text in (page.source, (folder / "report.md").read_text(encoding="utf-8")):
        official = summary.judged and summary.about["judge"]["model"] == OFFICIAL_JUDGE
        assert ("avg score" in text.lower()) == ("Perfect Rate" in text) == official
        assert ("judge score" in text.lower()) == (summary.judged and not official)
        assert "structured score" in text.lower()


def test_the_terminal_says_the_same(case, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "900")
    _, summary, _, _ = case
    print_report(summary)
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert printed[1:26] == official_lines(summary)
    assert headline(summary) in printed and comparability(summary) in printed
    assert [line for line in printed if line.startswith("Warning: ")] == [f"Warning: {x}" for x in warnings(summary)]
    assert all(table.title in printed for table in full_tables(summary))


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_words_in_figures_neither_overlap_nor_leave_the_picture(case, width):
    _, summary, _, _ = case
    for name, plot in plots(summary).items():
        with matplotlib.rc_context(STYLE):
            figure = plot(width)
            figure.draw_without_rendering()
        (axes,) = figure.axes
        words = [*axes.texts, axes._left_title, *axes.get_legend().get_texts()]
        (low, high), (bottom, top) = axes.get_xlim(), sorted(axes.get_ylim())
        words += [tick for tick in axes.get_xticklabels() if low <= tick.get_position()[0] <= high]
        words += [tick for tick in axes.get_yticklabels() if bottom <= tick.get_position()[1] <= top]
        boxes = [(word.get_text(), word.get_window_extent()) for word in words if word.get_text()]
        for text, box in boxes:
            assert -1 <= box.x0 and box.x1 <= width + 1, f"{text!r} leaves the picture {name}"
            assert -1 <= box.y0 and box.y1 <= figure.bbox.height + 1, f"{text!r} leaves the picture {name}"
        for (text, a), (other, b) in combinations(boxes, 2):
            apart = max(a.x0 - b.x1, b.x0 - a.x1, a.y0 - b.y1, b.y0 - a.y1)
            assert apart > -3, f"{text!r} lies over {other!r} in {name}"


def test_figures_show_the_figures_of_the_cells():
    summary = summarize(many(), ABOUT, samples=200)
    with matplotlib.rc_context(STYLE):
        sets, tasks = plots(summary)["sets"](900).axes[0], plots(summary)["tasks"](900).axes[0]
    cells = [*summary.by["set"].values()]
    lines = {line.get_color(): line for line in sets.lines if len(line.get_xdata()) == 4}
    drawn = [list(line.get_ydata()) for line in lines.values()]
    assert drawn == [[cell.strict_average for cell in cells], [cell.structured for cell in cells]]
    spans = [tuple(line.get_ydata()) for line in sets.lines if len(set(line.get_xdata())) == 1]
    assert sorted(spans) == sorted(
        x for cell in cells for x in (cell.strict_average_interval, cell.structured_interval)
    )
    widths = [bar.get_width() for bar in tasks.patches]
    assert widths == [x for cell in summary.by["task"].values() for x in (cell.strict_average, cell.structured)]
    labels = {text.get_text() for text in tasks.texts}
    assert {f"{task}, n = {cell.total}" for task, cell in summary.by["task"].items()} <= labels


def test_reports_of_other_judgements_stand_beside(tmp_path):
    write_report(tmp_path, many(20), ABOUT, samples=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = ABOUT | {"judge": ABOUT["judge"] | {"model": "another-judge"}}
    write_report(tmp_path, many(20), other, samples=2, stem="report-another")
    assert {*before} | {f"report-another.{kind}" for kind in ("html", "json", "md")} == {
        path.name for path in tmp_path.iterdir()
    }
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    assert "judge another-judge" in (tmp_path / "report-another.md").read_text(encoding="utf-8")


def test_headline_by_hand():
    rows = [scored("1", score=100.0, structured=100.0, doc="A"), scored("2", score=None, structured=0.0, doc="B")]
    assert headline(summarize(rows, ABOUT)) == (
        "Over all 2 records, the strict average is 50.00 (95 % interval 0.0–100.0) of 100, and the strict perfect "
        "rate 0.50 (95 % interval 0.00–1.00). Strict: a record without a completion, or without a score that could be "
        "read, counts as 0. The structured score, which takes no judge, is 50.00 (95 % interval 0.0–100.0)."
    )
    assert headline(summarize(rows, OFFICIAL, "official")) == (
        "Official mode: over the 1 of 2 records whose judgement could be read, Avg Score (of gpt-4-turbo-2024-04-09) "
        "is 100.00 and Perfect Rate 1.00. Any other records are left out, as in the released script. The structured "
        "score, which takes no judge, is 50.00 (95 % interval 0.0–100.0)."
    )
    failed = [rows[0], scored("2", prediction="", score=50.0, structured=0.0, doc="B", failed=True)]
    said = headline(summarize(failed, OFFICIAL, "official"))
    assert "over the 2 of 2 records whose judgement could be read, Avg Score (of gpt-4-turbo-2024-04-09) is 75" in said
    assert "1 have no completion; what the judge is shown of them, as there, is an empty answer. The str" in said
    free = [scored("1", score=None, level=4)]
    text = "Official mode: none of the 1 records has a judgement that could be read. No record has a structured score."
    assert headline(summarize(free, OFFICIAL, "official")) == text


def test_an_interval_without_width_is_explained(tmp_path):
    for name, says in (("all perfect", True), ("one record", False)):
        rows, about, mode = VARIANTS[name]
        write_report(tmp_path, rows, about, mode, samples=10)
        assert ("interval without width" in (tmp_path / "report.html").read_text(encoding="utf-8")) == says


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=60))
def test_hostile_text_is_shown_and_never_markup(text, tmp_path):
    row = scored("<i>id</i>", score=50.0, prediction=MARKUP, question=text, answer={MARKUP: [text]}, level=3)
    about = ABOUT | {"model": MARKUP, "judge": ABOUT["judge"] | {"model": f"<u>{MARKUP}"}, MARKUP: {"<s>": MARKUP}}
    write_report(tmp_path, [row], about, samples=2)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not {"script", "b", "i", "u", "s", "img"} & {tag for tag, _ in page.tags} and page.path == []
    assert MARKUP in page.texts["dd"] and shown(text, 400) in page.texts["dd"]
    assert f"Loong report: {MARKUP}" in page.texts["title"] and f"Loong report: {MARKUP}" in page.texts["h1"]
    assert [[MARKUP + ", <s>"], [MARKUP]] in page.tables[None]
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|b|i|u|s)>", markdown)


def test_text_that_no_file_can_hold_is_replaced(tmp_path):
    rows = [
        scored("x", score=1.0, prediction="a\x00b\ud800c\u202ed\r\n\te"),
        scored("y", score=2.0, prediction="ü" * 9_000),
    ]
    write_report(tmp_path, rows, ABOUT | {"model": "m\udfff\x07"}, samples=2)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a\ufffdb?c\ufffdd\ufffd\n\te" in source and "[… 8,500 characters …]" in source
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["about"]["model"] == "m\udfff\x07"


def test_equal_rows_make_equal_files(tmp_path):
    for name in "ab":
        write_report(tmp_path / name, many(60), ABOUT, samples=50)
    for name in ("report.html", "report.md", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_comparison_of_two_runs(tmp_path):
    rows = many()
    other = ABOUT | {"model": "org/other", "judge": ABOUT["judge"] | {"model": "another-judge"}}
    tables = write_comparison(
        tmp_path / "new", (again(rows), other), (rows[3:], ABOUT), (MARKUP, "old"), intersect=True
    )
    markdown = (tmp_path / "new" / "comparison.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<(script|b)>", markdown)
    assert "The judges differ, so that differences of their scores" in markdown
    assert r"Left out, as only one run has them: 3 records of \<script\>" in markdown and "0 of old." in markdown
    assert tables[0].rows == [["model", "org/other", "org/model"], ["judge, model", "another-judge", "some-judge"]]
    assert all(table.as_markdown().rstrip() in markdown for table in tables)
    data = json.loads((tmp_path / "new" / "comparison.json").read_text(encoding="utf-8"))
    strict = data["overall"]["strict_average"]
    assert strict["difference"] == pytest.approx(strict["a"] - strict["b"]) and strict["total"] == 117
    assert [one["set"] for one in data["by"]["set"]] == [1, 2, 3, 4] and len(data["only_a"]) == 3

    write_comparison(tmp_path, (again(rows), ABOUT), (rows, ABOUT))
    markdown = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "judges differ" not in markdown and "Left out" not in markdown
    assert "The runs share all of their settings." in markdown
