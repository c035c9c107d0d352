"""What a Loong report says beside its scores: what was lost on the way, examples, settings."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from scored_rows import ABOUT, NO_JUDGE, OFFICIAL, scored

from qwenlong_trl.loong.report_parts import examples, losses, losses_table, shown
from qwenlong_trl.loong.report_parts import settings as flattened
from qwenlong_trl.loong.tables import summarize


def test_losses_by_hand():
    rows = [
        scored("1", score=100.0, structured=100.0, kept=(0, 1), tokens=1_000),
        scored("2", score=None, structured=0.0, kept=(1,), dropped=(0, 2), tokens=4_096, judge_cut=True),
        scored("3", prediction="", score=1.0, structured=0.0, kept=(0,), cut=True, tokens=2_000, truncated=True),
        scored("4", prediction=None, set=2, kept=(0, 1, 2), tokens=3_000),
    ]
    summary = summarize(rows, ABOUT, samples=5)
    assert losses(summary, rows) == [
        "1 of 4 records have no completion; no judge saw them. They count as 0 in the strict figures. Their "
        "structured score is 0, except where the gold answer is free text.",
        "1 of 3 predictions are empty: no answer came, or reasoning without one.",
        "1 of 3 answers were cut off at 512 tokens.",
        "Of 3 predictions for the judge, 1 were judged without a score that could be read. These count as 0 in the "
        "strict figures.",
        "1 of the judge's answers were cut off at its limit of tokens: raise --judge_max_tokens, with another "
        "--judgements.",
        "Documents were made to fit by bm25 (fixed assembly): 2 of 4 prompts lack some of their text; of 2 of 9 "
        "documents nothing is left. Prompts have 1,000 to 4,096 tokens.",
    ]
    official = summarize(rows, OFFICIAL, "official", samples=5)
    assert "These are left out by the official rules." in losses(official, rows)[3]
    header, *table = [losses_table(summary, rows).header, *losses_table(summary, rows).rows]
    assert header[2:8] == ("No completion", "Empty", "Answer cut off", "Not judged", "No score", "Judge cut off")
    assert table[0] == ["all", "4", "1", "1", "1", "0", "1", "1", "1", "1", "2 of 9"]
    assert table[2] == ["Set 2 (50-100K)", "1", "1", "0", "0", "0", "0", "0", "0", "0", "0 of 3"]
    fine = [scored("1", score=100.0, structured=100.0), scored("2", score=500.0)]
    assert losses(summarize(fine, ABOUT, samples=5), fine) == [
        "All 2 records have a prediction.",
        "Of 2 predictions for the judge, all gave a score.",
        "1 scores lie outside of the scale of 100 and were taken as they are.",
        "What was kept of the documents is not recorded.",
    ]
    unjudged = [replace(row, score=None) for row in rows]
    assert not any("judge, " in text or "strict" in text for text in losses(summarize(unjudged, NO_JUDGE), unjudged))
    assert losses_table(summarize(unjudged, NO_JUDGE), unjudged).rows[0] == [
        "all",
        "4",
        "1",
        "1",
        "1",
        "1",
        "1",
        "2 of 9",
    ]


def test_answers_that_wait_for_the_judge_are_not_those_without_a_score():
    rows = [scored("1", score=100.0), scored("2"), scored("3", unjudged=True), scored("4", unjudged=True)]
    summary = summarize(rows, ABOUT, samples=2)
    assert losses(summary, rows)[1] == (
        "Of 4 predictions for the judge, 2 have not been judged, as the judge failed or has not been asked yet and 1 "
        "were judged without a score that could be read. These count as 0 in the strict figures."
    )
    assert losses_table(summary, rows).rows[0][5:7] == ["2", "1"]
    shown = {one["id"]: one["texts"]["Judge"] for one in examples(summary, [rows[2]])}
    assert shown == {"3": "not judged yet"}


def test_a_completion_that_failed_is_no_answer_in_official_mode_either():
    rows = [scored("1", score=80.0, structured=100.0)]
    rows += [scored("2", prediction="", score=20.0, structured=0.0, failed=True)]
    summary = summarize(rows, OFFICIAL, "official", samples=2)
    assert summary.overall.answered == 1 and summary.overall.parsed == 2 and summary.overall.average == 50
    assert losses(summary, rows)[:2] == [
        "1 of 2 records have no completion. As in the released code, the judge is shown an empty answer in their "
        "place. Their structured score is 0, except where the gold answer is free text.",
        "Of 2 predictions for the judge, all gave a score.",
    ]
    assert losses_table(summary, rows).rows[0][2:4] == ["1", "0"]
    assert [one["id"] for one in examples(summary, rows)] == ["1"]
    assert examples(summary, rows[1:])[0]["texts"]["Prediction"] == "(no completion)"


def test_examples_are_the_best_and_the_worst_of_each_task():
    rows = [
        scored("unparsed", structured=100.0),
        scored("middle", score=50.0),
        scored("low", score=1.0),
        scored("high", score=90.0),
        scored("high too", score=90.0),
        scored("none", prediction=None),
        scored("alone", level=2, score=7.0),
        scored("first", level=3),
        scored("second", level=3, prediction=None),
        scored("third", level=3),
    ]
    found = examples(summarize(rows, ABOUT, samples=2), rows)
    assert [one["id"] for one in found] == ["high", "low", "alone", "first", "second"]
    assert found[0]["title"] == "Spotlight Locating: high (Spotlight, financial, en, set 1)"
    assert found[0]["texts"] == {
        **{"Question": "What is the net income in high?", "Gold answer": "$42", "Prediction": "42"},
        **{"Judge": "90 of 100", "Structured": "no structured score"},
    }
    assert found[4]["texts"]["Prediction"] == "(no completion)" and found[4]["texts"]["Judge"] == "no score"
    unjudged = [replace(row, score=None) for row in rows]
    texts = examples(summarize(unjudged, NO_JUDGE, samples=2), unjudged)[0]["texts"]
    assert "Judge" not in texts and texts["Structured"] == "100.0 of 100"


@given(st.text(max_size=200), st.integers(1, 100))
def test_shown_keeps_both_ends(text, limit):
    found = shown(text, limit)
    assert re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", found) is None
    whole = shown(text, 10_000)
    if len(whole) <= limit:
        assert found == whole
    else:
        head, tail = found.split(f" [… {len(whole) - limit:,} characters …] ")
        assert len(head) + len(tail) == limit and whole.startswith(head) and whole.endswith(tail)


def test_settings_are_flat_texts():
    about = {"a": {"b_c": {"d": 1}, "e": []}, "f": None, "g": "x"}
    assert dict(flattened(about)) == {"a, b c, d": "1", "a, e": "[]", "f": "none", "g": "x"}
