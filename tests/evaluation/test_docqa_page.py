"""The page of an evaluation run: it loads nothing, says what the figures say, and shows any text as text."""

import re
from dataclasses import replace
from itertools import combinations

import matplotlib
import pytest
from docqa_runs import WordsJudge, country_records
from html_page import Page, check_page_needs_nothing_else, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenlong_trl.data import LongContextExample
from qwenlong_trl.evaluation import Run, report_data, score_completions
from qwenlong_trl.evaluation.figures import COLOURS, plots, reached
from qwenlong_trl.evaluation.page import counts, examples, headline, heat, html_report, remarks, tiles
from qwenlong_trl.evaluation.tables import report_notes, report_tables
from qwenlong_trl.generation import Completion
from qwenlong_trl.pages import STYLE, WIDTHS


RIGHT, WRONG, WORDY = "the answer is {}.", "the answer is Mars.", "the answer is the land of {}."
MARKUP = "<script>alert(1)</script><b>&amp;</b> \"'$x$"


def run(records, texts, mode="fixed", tokens=None, samples=2, cut=("r0",), **options) -> Run:
    """Answers to the records: `texts` by id, with {} for the right answer; an id that is not there has failed."""
    completions = {
        record.id: [Completion(text.replace("{}", record.answers[0]), "stop") for text in texts[record.id]]
        for record in records
        if record.id in texts
    }
    answers = score_completions(records, completions, samples, mode, **options)
    prompts = {r.id: {"tokens": (tokens or {}).get(r.id, 100), "truncated": r.id in cut} for r in records}
    judge = options.get("judge") and {"name": "words", "prompt": "default", "prompt_hash": "0" * 16}
    about = {"mode": mode, "failed": {}, "settings": {"model_name_or_path": "org/model", "judge": judge}}
    return Run(records, answers, {**about, "prompts": prompts})


def many(buckets=8, tasks=4, samples=4, **options) -> Run:
    """Some right and some wrong answers to questions of several tasks and lengths."""
    records = [replace(r, source=f"task {i % tasks}") for i, r in enumerate(country_records(6 * buckets))]
    kinds = (RIGHT, WRONG, WORDY, RIGHT, "", WRONG, RIGHT)
    texts = {f"r{i}": [kinds[(i * i + s * 3) % 7] for s in range(samples)] for i in range(len(records)) if i % 11}
    tokens = {f"r{i}": 1000 << (i // 6) for i in range(len(records))}
    return run(records, texts, tokens=tokens, samples=samples, **options)


def bare(texts) -> Run:
    return run([LongContextExample(f"r{i}", "q", ("a",), ()) for i in range(2)], texts, samples=1)


VARIANTS = {
    "judged everywhere": many(judge=WordsJudge(), judge_all=True),
    "official": many(mode="official", judge=WordsJudge("{}"), judge_all=True),
    "no judge, one sample": many(3, 2, 1),
    "one task": many(2, 1, 16),
    "twelve lengths, six tasks": many(12, 6, 2, judge=WordsJudge()),
    "eight tasks": many(4, 8),
    "nothing but one length": bare({"r0": ["a"], "r1": ["b"]}),
    "all right": run(country_records(8), {f"r{i}": [RIGHT] * 2 for i in range(8)}),
    "nothing answered": run(country_records(4), {}, tokens={"r0": 1000}),
    "nothing answered, official": run(country_records(4), {}, "official", {"r0": 1000}),
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def case(request):
    data = report_data(request.param.answers, request.param.records, request.param.about)
    return data, request.param, Page(html_report(data, request.param))


def test_page_needs_nothing_else(case):
    _, _, page = case
    check_page_needs_nothing_else(page)


def test_page_says_what_came_out(case):
    data, run, page = case
    how, score, effective = report_notes(data)[:3]
    assert plain(headline(data)) in page.prose and how in page.prose and score in page.prose
    assert effective in page.prose or data["score"]["mean"] is None
    for name, (value, beside) in tiles(data).items():
        assert name in page.texts["dt"] and value in page.texts["dd"]
        assert not beside or plain(beside) in [plain(text) for text in page.texts["small"]]
    assert all([name, count] in page.rows(None) for name, count in counts(data).items())
    for remark in remarks(data).values():
        assert remark in page.prose or remark in page.texts.get("figcaption", [])
    for example in examples(run):
        assert all(text in page.texts["dd"] for text in example["texts"].values())


def test_tables_are_those_of_the_markdown(case):
    data, _, page = case
    ids = {"Score": "apart", "By task": "by-task", "By prompt tokens": "by-length", "Pass@k": "pass-at-k"}
    ids["By place of the evidence in the context"] = "by-depth"
    shown = {table.title: table for table in report_tables(data)}
    assert {id for title, id in ids.items() if title in shown} == ids.values() & page.tables.keys()
    for title, id in ids.items():
        if title in shown:
            assert page.rows(id) == [[*shown[title].columns], *([*row] for row in shown[title].rows)]
    cells = heat(data)
    assert ("heat" in page.tables) == (cells is not None)
    if cells:
        means = [[cell.split()[0] for cell in row[1:]] for row in page.rows("heat")[1:]]
        assert means == [[*row[1:]] for row in shown["By task and prompt tokens"].rows]
        shares = [float(a["style"].removeprefix("--share: ")) for tag, a in page.tags if tag == "td" and "style" in a]
        known = [float(mean) for row in means for mean in row if mean != "–"]
        assert [round(100 * share) for share in shares] == pytest.approx(known, abs=1)


def test_which_figures_are_there(case):
    data, _, page = case
    lengths, depths = (sum(row["mean"] is not None for row in data[key]) for key in ("by_length", "by_depth"))
    expected = 2 * ((lengths > 1) + (lengths > 1 and 1 < len(data["by_task"]) < 7) + (depths > 1))
    expected += 2 * (len(data["pass_at_k"]) > 1)
    assert sum(tag == "svg" for tag, _ in page.tags) == expected
    # Drawn in the light colours, none of which is left: all follow the page into the dark.
    pictures = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not [light for light, _ in COLOURS.values() if light in pictures]
    assert len({light for light, _ in COLOURS.values()}) == len(COLOURS)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_words_in_figures_neither_overlap_nor_leave_the_picture(case, width):
    data, _, _ = case
    for name, plot in plots(data).items():
        with matplotlib.rc_context(STYLE):
            figure = plot(width)
            if figure is None:
                continue
            figure.draw_without_rendering()
        (axes,) = figure.axes
        words = [axes._left_title, axes.xaxis.label, *axes.get_xticklabels()]
        words += [tick for tick in axes.get_yticklabels() if tick.get_position()[1] <= 100]
        words += axes.get_legend().get_texts() if axes.get_legend() else []
        boxes = [(word.get_text(), word.get_window_extent()) for word in words if word.get_text()]
        for text, box in boxes:
            assert -1 <= box.x0 and box.x1 <= width + 1, f"{text!r} leaves the picture {name}"
            assert -1 <= box.y0 and box.y1 <= figure.bbox.height + 1, f"{text!r} leaves the picture {name}"
        for (text, a), (other, b) in combinations(boxes, 2):
            apart = max(a.x0 - b.x1, b.x0 - a.x1, a.y0 - b.y1, b.y0 - a.y1)
            assert apart > -3, f"{text!r} lies over {other!r} in {name}"


def test_figures_show_the_figures_of_the_data():
    run = many(judge=WordsJudge(), judge_all=True, cut=())
    data = report_data(run.answers, run.records, run.about, threshold=0.4)
    assert 0 < reached(data) and data["effective_length"]["tokens"] == data["by_length"][reached(data) - 1]["high"]
    with matplotlib.rc_context(STYLE):
        length, tasks, depth, curve = (plot(900).axes[0] for plot in plots(data).values())

    def points(axes, size):
        return [list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == size]

    assert points(length, 8) == [[100 * row["mean"] for row in data["by_length"]]]
    spans = [tuple(line.get_ydata()) for line in length.lines if len(line.get_xdata()) == 2]
    for row in data["by_length"]:
        assert tuple(100 * edge for edge in row["interval"]) in spans
    assert [list(line.get_xdata()) for line in length.lines][-1] == [reached(data) - 0.5] * 2
    labels = [text.get_text() for text in length.get_legend().get_texts()]
    assert labels[0] == "threshold 40.0 %" and labels[1].startswith("effective length ")
    assert [tick.get_text() for tick in length.get_xticklabels()][0] == "1K\nn = 6"
    by_task = [[100 * r["mean"] for r in data["by_task_and_length"] if r["task"] == f"task {i}"] for i in range(4)]
    assert points(tasks, 8) == by_task
    assert points(depth, 5) == [[100 * row["mean"] for row in data["by_depth"]]]
    assert points(curve, 4) == [[100 * point["mean"] for point in data["pass_at_k"]]]


def test_headline_by_hand():
    records = country_records(4)
    texts = {"r0": [RIGHT, RIGHT], "r1": [RIGHT, ""], "r2": [WRONG, WRONG]}
    tokens = {f"r{i}": 100 if i < 2 else 3000 for i in range(4)}

    def told(mode):
        found = run(records, texts, mode, tokens)
        text = headline(report_data(found.answers, records, found.about))
        return re.sub(r"interval [\d.–]+", "interval _", plain(text))

    assert told("fixed") == (
        "The score is 37.5 % (95 % interval _) over 4 questions and 8 answers. On the shortest prompts (to 128 "
        "tokens) it is 75.0 %, on the longest (to 4K) 0.0 %. Of 2 answers to a question, at least one is right for "
        "50.0 % of 4 questions."
    )
    assert told("official") == (
        "The score is 60.0 % (95 % interval _) over 5 answers that count, of 4 questions and 8 answers. On the "
        "shortest prompts (to 128 tokens) it is 100.0 %, on the longest (to 4K) 0.0 %. Of 2 answers to a question, at "
        "least one is right for 50.0 % of 2 questions."
    )
    nothing = run(records, {}, "official")
    text = headline(report_data(nothing.answers, records, nothing.about))
    assert text == "No answer counts, so there is no score: of 4 questions and 8 answers, all are missing or empty."


def test_counts_and_remarks_by_hand():
    records = country_records(4)
    texts = {"r0": [RIGHT, WORDY], "r1": [RIGHT, ""], "r2": [WRONG, WRONG]}

    def all_of(**options):
        found = run(records, texts, **options)
        data = report_data(found.answers, records, found.about)
        return {name: plain(text) for name, text in counts(data).items()}, remarks(data)

    plainly, said = all_of()
    assert plainly["Missing: the model or its server gave none"] == "2 (25.0 %)" and plainly["Empty"] == "1 (12.5 %)"
    assert plainly["Prompts that lost their middle to fit"] == "1 (25.0 %)" and "Shown to the judge" not in plainly
    assert not any("left out" in name for name in plainly) and said["judge"] == ""
    assert said["length"] == "All prompts lie in one bucket, to 128 tokens, so no line can be drawn."
    judged, said = all_of(judge=WordsJudge())
    assert judged["Shown to the judge"] == "3 (37.5 %)"
    assert judged["Right for the judge and not for the rule"] == "1 (12.5 %)"
    assert "what it alone would say is not known" in said["judge"]
    official, said = all_of(mode="official", judge=WordsJudge())
    assert official["Missing or empty, and left out of every mean"] == "3 (37.5 %)"
    assert said["judge"].startswith("The judge's own mean")


def test_examples_are_right_and_wrong_ones_of_each_task():
    records = country_records(6)
    texts = {f"r{i}": ["", WRONG] for i in (0, 1, 2)} | {"r3": [RIGHT, RIGHT], "r4": [WORDY, RIGHT]}
    found = [*examples(run(records, texts, judge=WordsJudge()))]
    titles = [(one["title"], one["verdict"]) for one in found]
    assert titles == [
        ("cities: r4, answer 1", "right"),
        ("cities: r0, answer 2", "wrong"),
        ("towns: r3, answer 1", "right"),
        ("towns: r1, answer 2", "wrong"),
    ]
    assert found[0]["texts"] == {
        "Question": "In which country does town number 4 lie?",
        "Gold answer": "Oman · Republic of Oman",
        "Answer": "the answer is the land of Oman.",
        "Read as": "the land of Oman",
        "Score": "1: rule 0, judge 1",
    }
    assert found[1]["texts"]["Score"] == "0: rule 0, judge 0" and found[0]["about"] == "100 prompt tokens"
    (missing, *_) = examples(run(records, {}))
    assert missing["texts"]["Answer"] == "(missing)" and missing["texts"]["Read as"] == "(nothing)"
    # What only the judge accepts is shown beside the first right one.
    texts = {"r0": [RIGHT, RIGHT], "r2": [RIGHT, WORDY]}
    assert [*examples(run(records, texts, judge=WordsJudge()))][-1]["title"] == "cities: r2, answer 2"


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=60))
def test_hostile_text_is_shown_and_never_markup(text):
    records = [
        LongContextExample(f"<i>{i}</i>", MARKUP + text, (f"<u>{text}",), (), source=f"<s>{MARKUP}{i}")
        for i in range(2)
    ]
    found = run(records, {"<i>0</i>": [MARKUP], "<i>1</i>": [text]}, tokens={"<i>0</i>": 900}, samples=1)
    found.about["settings"] = {"model": MARKUP, "judge": {"name": f"<u>{MARKUP}"}, MARKUP: {"<s>": MARKUP}}
    page = Page(html_report(report_data(found.answers, records, found.about), found))
    assert not {"script", "b", "i", "u", "s", "img"} & {tag for tag, _ in page.tags} and page.path == []
    assert MARKUP in page.texts["dd"] and f"Evaluation: {MARKUP}" in page.texts["title"]
    assert [MARKUP + ", <s>", MARKUP] in page.rows(None)
    assert page.rows("heat")[1][0] == f"<s>{MARKUP}0"


def test_text_that_no_file_can_hold_is_replaced():
    records = [LongContextExample("x\ud800", "q\x00", ("a\udfff",), (), source=s) for s in ("one\ud800\x07", "two")]
    records[1] = replace(records[1], id="y")
    texts = {"x\ud800": ["a\x00b\ud800c\u202ed\r\n\te"], "y": ["ü" * 9_000]}
    found = run(records, texts, samples=1)
    found.about["settings"] = {"model": "m\udfff\x07", "judge": {"name": "j\x00", "prompt": "default"}}
    page = html_report(report_data(found.answers, records, found.about), found)
    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", page)
    assert "[… 8,500 characters …]" in page


def test_many_samples_and_open_ends():
    """64 samples and a last bucket without an upper edge are drawn, with ticks at powers of two."""
    run = many(3, 2, 64, cut=())
    data = report_data(run.answers, run.records, run.about, threshold=0.01, length_edges=[1500, 3000])
    with matplotlib.rc_context(STYLE):
        length, *_, curve = (plot(900).axes[0] for plot in plots(data).values())
    assert [tick.get_text() for tick in curve.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "64"]
    assert [tick.get_text().split("\n")[0] for tick in length.get_xticklabels()] == ["1,500", "3,000", ">3,000"]
    assert reached(data) == 3 and length.get_legend().get_texts()[1].get_text() == "effective length 3,000"


def test_equal_answers_make_equal_pages():
    pages = {html_report(report_data(r.answers, r.records, r.about), r) for r in (many(3), many(3))}
    assert len(pages) == 1
