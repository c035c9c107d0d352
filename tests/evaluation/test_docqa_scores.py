"""Scores: rule, judge and the larger one; and where the modes differ."""

import asyncio
import json

import pytest
from docqa_runs import WordsJudge, country_records

from qwenlong_trl.data import LongContextExample
from qwenlong_trl.evaluation import score_completions
from qwenlong_trl.evaluation.official import official_comparison, official_rule
from qwenlong_trl.generation import Completion
from qwenlong_trl.generation.store import JsonlStore


def score(text: str, answers=("Norway", "Kingdom of Norway"), task="docqa", **options):
    record = LongContextExample("q", "Which one?", answers, (), task=task)
    (answer,) = score_completions([record], {"q": [Completion(text, "stop")]}, **options)
    return answer


# Text after the prompt, rule in mode fixed, rule in mode official.
DOCQA = [
    ("Therefore, the answer is Norway.", 1, 1),
    ("<think>Hm.</think>\nTherefore, the answer is (Norway).", 1, 1),
    ("Therefore, the answer is Sweden.", 0, 0),
    ("Norway", 1, 0),  # no marker
    ("The answer is Norway.", 1, 0),  # a capital
    ("Therefore, the answer is Sweden, Norway, or Finland.", 0, 1),  # contains it
    ("Therefore, the answer is n.", 0, 1),  # is contained in it
    ("Therefore, the answer is ?", 0, 1),  # normalises to nothing
    ("Therefore, the answer is Kingdom of Norway.", 1, 1),
    ("<think>I guess the answer is Norway", 0, 1),  # the reasoning never ended
    ("the answer is Norway</think>", 0, 1),  # nothing after it: the whole response
    ("Therefore, the answer is Sweden.</think>Therefore, the answer is **Norway**", 1, 1),
    ("", 0, 0),
]


@pytest.mark.parametrize(("text", "fixed", "official"), DOCQA)
def test_text_answers(text, fixed, official):
    assert score(text).rule == fixed and score(text, mode="official").rule == official


def test_the_official_rule_reads_the_first_answer_only():
    text, answers = "Therefore, the answer is the U.S.A.", ("America", "USA")
    assert score(text, answers).rule == 1 and score(text, answers, mode="official").rule == 0


DOCMATH = [
    ("Therefore, the answer is 32.4.", "32.4", 1, 1),
    ("Therefore, the answer is (32.4).", "32.4", 1, 1),  # read by the evaluation, though not in training
    ("Therefore, the answer is -32.4.", "32.4", 0, 1),
    ("Therefore, the answer is 3.24.", "32.4", 0, 0),  # a power of ten, but for floating-point noise
    ("Therefore, the answer is 3240.", "32.4", 0, 1),
    ("Therefore, the answer is 8.0.", "0.8", 0, 1),
    ("Therefore, the answer is 0.126.", "0.124", 0, 1),  # both 0.13 when rounded up to two decimals
    ("Therefore, the answer is 0.136.", "0.124", 0, 0),
    ("Therefore, the answer is 12, the answer is 32.4", "32.4", 1, 0),  # the first one counts
    ("32.4", "32.4", 1, 0),
    ("Therefore, the answer is yes", "True", 1, 0),  # a gold answer that the released code cannot parse
    ("Therefore, the answer is 5", "True", 0, 0),
]


@pytest.mark.parametrize(("text", "gold", "fixed", "official"), DOCMATH)
def test_numbers(text, gold, fixed, official):
    assert score(text, (gold,), "docmath").rule == fixed
    assert score(text, (gold,), "docmath", mode="official").rule == official


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 400, "0." + "0" * 400 + "1"])
def test_numbers_beyond_a_float(number):
    assert official_rule(f"the answer is {number}", "32.4", "docmath")[0] in (0.0, 1.0)
    assert official_rule("the answer is 32.4", number, "docmath")[0] in (0.0, 1.0)


def test_what_the_official_judge_is_asked():
    unread = official_comparison("<think>Hm.</think>It lies in Norway.", "Where?", "Norway", "docqa")
    assert (unread.question, unread.prediction, unread.gold) == ("Where?", "None", "Norway")
    assert official_comparison("the answer is .", "Where?", "Norway", "docqa").prediction == ""
    number = official_comparison("Hm.</think>Therefore, the answer is about five.", "?", "5", "docmath")
    assert number.prediction == "about five"
    assert official_comparison("the answer is (5)", "?", "5", "docmath").prediction == "5"


def test_the_judge_is_asked_where_the_rule_says_no():
    wordy, right, wrong = (f"Therefore, the answer is {a}." for a in ("the land of Norway", "Norway", "Chad"))
    judge = WordsJudge()
    found = score(wordy, judge=judge)
    assert (found.rule, found.judge, found.score, found.judged) == (0, 1, 1, True)
    found = score(wrong, judge=judge)
    assert (found.rule, found.judge, found.score, found.judged) == (0, 0, 0, True)
    found = score(right, judge=judge)
    assert (found.rule, found.judge, found.score, found.judged) == (1, None, 1, False)
    found = score(right, judge=judge, judge_all=True)
    assert (found.rule, found.judge, found.score, found.judged) == (1, 1, 1, True)
    assert len(judge.asked) == 3
    # No answer, and letters, are not judged; the official mode asks about every answer.
    assert not score("", judge=judge, judge_all=True).judged
    assert not score("A", ("B",), "multiple_choice", judge=judge, judge_all=True).judged
    assert score("It is Norway, I think.\nOr not.", judge=judge, mode="official").judged
    assert judge.asked[-1].prediction == "None"
    assert score(right, judge=judge, mode="official").judged and not score("", judge=judge, mode="official").judged


def test_yes_anywhere_is_an_official_yes():
    no = WordsJudge(words="Is it a YES? {}")
    text = "Therefore, the answer is Chad."
    assert score(text, judge=no).score == 0 and score(text, judge=no, mode="official").score == 1
    # A judge that says nothing has its verdict.
    assert score(text, judge=WordsJudge(words=""), mode="official").judge == 0


@pytest.mark.parametrize("mode", ["fixed", "official"])
def test_a_judge_that_fails_leaves_the_rule(mode):
    found = score("Therefore, the answer is Chad.", judge=WordsJudge(fails=True), mode=mode)
    assert (found.score, found.judge, found.judged) == (0, None, True)


def test_failed_records_have_an_answer_for_each_sample():
    records = country_records(3)
    completions = {"r1": [Completion("Therefore, the answer is Chad.", "stop"), Completion("", "length")]}
    answers = score_completions(records, completions, num_samples=2)
    assert [(a.record_id, a.sample) for a in answers] == [(f"r{i}", s) for i in range(3) for s in range(2)]
    assert [a.finish_reason for a in answers] == ["failed", "failed", "stop", "length", "failed", "failed"]
    assert [a.score for a in answers] == [0, 0, 1, 0, 0, 0]


def test_judgements_are_kept(tmp_path):
    records = country_records(8)
    completions = {r.id: [Completion(f"The answer is the land of {r.answers[0]}.", "stop")] * 2 for r in records}
    judge = WordsJudge()

    def run(judge):
        with JsonlStore(tmp_path / "judgements.jsonl", {"judge": "words"}) as store:
            return score_completions(records, completions, 2, judge=judge, judgements=store)

    first = run(judge)
    assert all(a.score == 1 for a in first) and len(judge.asked) == 8  # equal ones once
    assert run(WordsJudge(fails=True)) == first
    lines = (tmp_path / "judgements.jsonl").read_text().splitlines()
    (tmp_path / "judgements.jsonl").write_text("".join(line + "\n" for line in lines[:4]))
    again = WordsJudge()
    assert run(again) == first and len(again.asked) == 5
    assert all(json.loads(line)["verdict"] is True for line in lines[1:])


def test_in_a_notebook():
    async def cell():
        return score("The answer is the land of Norway.", judge=WordsJudge())

    assert asyncio.run(cell()).score == 1


def test_a_failed_judge_is_asked_again(tmp_path):
    record = country_records(1)[0]
    completions = {"r0": [Completion("The answer is the land of Norway.", "stop")]}
    with JsonlStore(tmp_path / "j.jsonl", {}) as store:
        assert not score_completions([record], completions, judge=WordsJudge(fails=True), judgements=store)[0].score
        assert len(store) == 0
        assert score_completions([record], completions, judge=WordsJudge(), judgements=store)[0].score == 1


def test_tasks_of_the_modes():
    with pytest.raises(ValueError, match="no task 'multiple_choice', only docqa and docmath; use mode fixed"):
        score("A", ("A",), "multiple_choice", mode="official")
    with pytest.raises(ValueError, match="mode must be one of fixed, official"):
        score("A", mode="strict")
