"""Details of the released reward code beyond its table: first matches, literals Python refuses, tolerances, tokens."""

import pytest

from qwenlong_trl.rewards import UnparsableGoldError, score_docmath, score_docqa, score_multiple_choice


def _compat(scorer, answer, gold, marker="the answer is "):
    return scorer(f"</think>{marker}{answer}", marker + gold, mode="l1_compat").score


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("-32.4", "32.4", 1),
        ("100", "1", 1),  # an exact power of ten
        ("3239.9", "32.4", 1),  # x100 within 0.15 %
        ("32400.5", "32.4", 1),  # x1000 within 0.15 %
        ("3239900", "32.4", 1),  # x100000 within 0.15 %
        ("323900", "32.4", 0),  # x10000 has no tolerance
        ("32.44", "32.4", 1),  # within 0.15 %
        ("32.46", "32.4", 0),
        ("0.0001", "0.0009", 1),  # both round up to 0.001
        ("0.0011", "0.0009", 0),
        ("007", "0", 1),  # no Python literal, hence 0
        ("007", "7", 0),
        ("00.5", "0.5", 1),
        (".5", "5", 1),  # the point is taken for a unit
        (".5", "0.5", 1),  # and then for a power of ten
        (".7", "0.71", 0),
        ("..5", "5", 1),
        ("...5", "0.5", 1),
        (".1.2", "1.2", 1),
        (".1.2.3", "0", 1),
        ("1,2,3", "123", 1),
        ("-,", "0", 1),
        ("=$5", "5", 1),
        ("$=5", "5", 0),  # the regular expression knows one order of symbols
        ("$-5", "5", 1),
        ("9" * 4301, "0", 1),  # too long for an int literal, hence 0
        ("5" * 400, "1", 0),  # overflows a float
        ("9" * 400, "9" * 400, 1),
        ("5 million", "5000000", 1),
        ("five", "5", 0),
    ],
)
def test_docmath_numbers(answer, gold, score):
    assert _compat(score_docmath, answer, gold) == score


def test_docmath_ignores_case_and_asterisks_and_takes_the_first():
    assert score_docmath("</think>THE ANSWER IS **7**", "The answer is 7", mode="l1_compat").score == 1
    assert (
        score_docmath("</think>the answer is 7. No, the answer is 8", "the answer is 7", mode="l1_compat").score == 1
    )


def test_docmath_beyond_the_range_of_a_float():
    huge = "the answer is " + "9" * 400 + ".5"
    assert score_docmath("</think>the answer is 32.4", huge, mode="l1_compat").score == 0
    with pytest.raises(UnparsableGoldError):
        score_docmath("</think>" + huge, huge, mode="l1_compat")


@pytest.mark.parametrize("gold", ["32.4", "True", "the answer is True"])
def test_docmath_gold_that_the_released_code_cannot_use(gold):
    with pytest.raises(UnparsableGoldError, match="docmath.*strict"):
        score_docmath("</think>the answer is 32.4", gold, mode="l1_compat")


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("</think>The correct answer is (B) or The correct answer is (A)", 0),  # the first one
        ("</think>The correct answer is B, The correct answer is (A)", 1),  # but parentheses go first
        ("</think>The **correct** answer is **(A)**", 1),
        ("</think>The correct answer is a", 0),
        ("</think>The correct answer is (E)", 0),
    ],
)
def test_multiple_choice_details(completion, score):
    assert score_multiple_choice(completion, "The correct answer is (A)", mode="l1_compat").score == score


@pytest.mark.parametrize("gold", ["A", "(A)", "the correct answer is (A)"])
def test_multiple_choice_gold_scores_zero_silently(gold):
    assert score_multiple_choice("</think>The correct answer is (A)", gold, mode="l1_compat").score == 0


def test_docqa_details():
    tokens = "Norway.<｜end▁of▁sentence｜>"
    assert (
        score_docqa(f"</think>the answer is {tokens}", "the answer is Norway", mode="l1_compat").prediction == "Norway"
    )
    assert _compat(score_docqa, "Oslo\nNorway", "Norway") == 1  # all lines, not the first
    assert _compat(score_docqa, ".", "Norway") == 0  # literally empty, unlike "?"
    assert score_docqa("</think>the answer is A</think>B", "the answer is A", mode="l1_compat").score == 0
    several = ["the answer is Sweden", "the answer is Norway"]
    best = score_docqa("</think>the answer is Norway", several, mode="l1_compat")
    assert (best.score, best.gold) == (1, "the answer is Norway")
