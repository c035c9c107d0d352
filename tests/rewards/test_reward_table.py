"""The measured behaviour of the released reward code of QwenLong-L1, row by row, and the verdict of strict mode.

Gold answers stand as sentences, as the released code needs them. The last column says why strict mode differs, or
why it does not where one might argue.
"""

import pytest

from qwenlong_trl.rewards import score_docmath, score_docqa, score_multiple_choice


NORWAY, YES = "Therefore, the answer is Norway.", "Therefore, the answer is Yes."
NUMBER, ZERO, TRUE = "Therefore, the answer is 32.4.", "Therefore, the answer is 0.", "Therefore, the answer is True."
LETTER = "The correct answer is (A)."

# scorer, text after the reasoning, gold answer, verdict of l1_compat, verdict of strict, why strict says so
ROWS = [
    (score_docqa, "Therefore, the answer is (Norway).", NORWAY, 1, 1, "the prompt asks for the parentheses"),
    (score_docqa, "Therefore, the answer is \\boxed{Norway}", NORWAY, 1, 1, ""),
    (score_docqa, "The answer is Norway.", NORWAY, 0, 1, "a capital letter is no mistake"),
    (score_docqa, "Norway", NORWAY, 0, 1, "a bare answer is an answer"),
    (score_docqa, "Therefore, the answer is the.", NORWAY, 1, 0, "empty after normalisation"),
    (score_docqa, "Therefore, the answer is (", NORWAY, 1, 0, "empty after normalisation"),
    (score_docqa, "Therefore, the answer is ?", NORWAY, 1, 0, "empty after normalisation"),
    (score_docqa, "Therefore, the answer is n.", NORWAY, 1, 0, "one letter of the gold answer"),
    (score_docqa, "Therefore, the answer is No.", NORWAY, 1, 0, "two letters of the gold answer"),
    (score_docqa, "Therefore, the answer is Sweden, Denmark, Norway, or Finland.", NORWAY, 1, 0, "shotgun"),
    (score_docqa, "Therefore, the answer is not yes, it is no", YES, 1, 0, "negation"),
    (score_docqa, "Therefore, the answer is (insert answer here).", "the answer is here", 1, 0, "template echo"),
    (score_docmath, "Therefore, the answer is -32.4", NUMBER, 1, 0, "other sign"),
    (score_docmath, "Therefore, the answer is 324", NUMBER, 1, 0, "other scale"),
    (score_docmath, "Therefore, the answer is 0.324", NUMBER, 1, 0, "other scale"),
    (score_docmath, "Therefore, the answer is 3240", NUMBER, 1, 0, "other scale"),
    (score_docmath, "Therefore, the answer is 3240000", NUMBER, 1, 0, "other scale"),
    (score_docmath, "Therefore, the answer is 32.4%", NUMBER, 1, 1, "the bare gold answer may be in percent"),
    (score_docmath, "Therefore, the answer is 3.24", NUMBER, 0, 0, "other scale"),
    (score_docmath, "Therefore, the answer is (32.4)", NUMBER, 0, 1, "the prompt's parentheses, no negative"),
    (score_docmath, "Therefore, the answer is \\boxed{32.4}", NUMBER, 0, 1, ""),
    (score_docmath, "Therefore, the answer is -$32.4", NUMBER, 0, 0, "readable, but negative"),
    (score_docmath, "Therefore, the answer is -$32.4", "the answer is -32.4", 0, 1, "readable and equal"),
    (score_docmath, "Therefore, the answer is approximately 32.4", NUMBER, 0, 1, ""),
    (score_docmath, "Therefore, the answer is : 32.4", NUMBER, 0, 1, ""),
    (score_docmath, "Therefore, the answer is 10. No, the answer is 32.4", NUMBER, 0, 1, "the last one counts"),
    (score_docmath, "Therefore, the answer is 1.2.3", ZERO, 1, 0, "not a number"),
    (score_docmath, "Therefore, the answer is True", TRUE, 0, 1, ""),
    (score_multiple_choice, "the correct answer is (A)", LETTER, 0, 1, ""),
    (score_multiple_choice, "Therefore, the correct answer is (A)", LETTER, 0, 1, ""),
    (score_multiple_choice, "The correct answer is Apple", LETTER, 1, 0, "a word is no letter"),
    (score_multiple_choice, "The correct answer is (A)", "A", 0, 1, "a bare gold letter"),
]


def _name(row):
    return f"{row[0].__name__}: {row[1]!r} for {row[2]!r}"


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_l1_compat_gives_the_released_verdict(row):
    scorer, tail, gold, released, _, _ = row
    assert scorer("<think>...</think>\n" + tail, gold, mode="l1_compat").score == released


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_strict_verdict(row):
    scorer, tail, gold, _, strict, _ = row
    assert scorer("<think>...</think>\n" + tail, gold).score == strict


@pytest.mark.parametrize("row", ROWS, ids=_name)
def test_strict_verdict_is_the_same_for_a_bare_gold_answer(row):
    scorer, tail, gold, _, strict, _ = row
    bare = gold.partition("answer is ")[2].rstrip(".") or gold
    assert scorer("<think>...</think>\n" + tail, bare).score == strict


@pytest.mark.parametrize(
    ("scorer", "tail", "gold"),
    [
        (score_docqa, "Therefore, the answer is Norway.", NORWAY),
        (score_docmath, "Therefore, the answer is 32.4.", NUMBER),
        (score_multiple_choice, "The correct answer is (A).", LETTER),
    ],
)
def test_without_reasoning_only_strict_scores(scorer, tail, gold):
    assert scorer(tail, gold, mode="l1_compat").score == 0
    assert scorer(tail, gold).score == 1
    assert scorer(tail, gold, require_delimiter=True).score == 0


@pytest.mark.parametrize("gold", ["Norway", "The answer is Norway."])
def test_bare_docqa_gold_stops_l1_compat(gold):
    with pytest.raises(AttributeError, match="docqa.*Norway.*sentence"):
        score_docqa("</think>the answer is Norway", gold, mode="l1_compat")
    assert score_docqa("</think>the answer is Norway", gold).score == 1
    # The released code looks at the gold answer only if it found a prediction.
    assert score_docqa("</think>Norway", gold, mode="l1_compat").score == 0
