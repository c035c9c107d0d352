"""What holds for every text: no errors, the gold answer scores 1 and another one 0, and hostile text takes no time."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from qwenlong_trl.rewards import (
    extract_answer,
    normalize_answer,
    parse_number,
    score_docmath,
    score_docqa,
    score_multiple_choice,
)
from qwenlong_trl.rewards.answers import extract_gold


GOLD = {
    score_docqa: "Therefore, the answer is Norway.",
    score_docmath: "Therefore, the answer is 32.4.",
    score_multiple_choice: "The correct answer is (A).",
}

# Text that is likely to hit a branch: markers, boxes, digits and brackets between arbitrary characters.
PIECES = [
    *(
        "the answer is ",
        "The correct answer is ",
        "答案是",
        "</think>",
        "<think>",
        "\\boxed{",
        "}",
        "\\text{",
        "\n",
        "$",
        "-",
    ),
    *(
        "1.2",
        ",",
        "e5",
        "×10^",
        "²",
        " million",
        "%",
        "not ",
        "or ",
        "(A)",
        "B",
        "yes",
        "Norway",
        "*",
        "=",
        "<|",
        "|>",
        "负",
    ),
]
HOSTILE = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=15).map("".join)

NUMBERS = st.one_of(
    st.integers(-(10**15), 10**15).map(str),
    st.integers(1000, 10**12).map("{:,}".format),
    st.decimals(-(10**9), 10**9, places=3).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)


@pytest.mark.parametrize("mode", ["strict", "l1_compat"])
@pytest.mark.parametrize("scorer", GOLD)
@settings(deadline=None)
@given(completion=HOSTILE)
def test_any_completion_scores_zero_or_one(scorer, mode, completion):
    assert scorer(completion, GOLD[scorer], mode=mode).score in (0.0, 1.0)
    assert scorer("</think>" + completion, GOLD[scorer], mode=mode).score in (0.0, 1.0)


@settings(deadline=None)
@given(gold=HOSTILE, completion=HOSTILE)
def test_any_gold_is_scored(gold, completion):
    assert score_docqa(completion, gold).score in (0.0, 1.0)
    assert score_docmath(completion, gold, scale_factors=(100,)).score in (0.0, 1.0)


@settings(deadline=None)
@given(gold=HOSTILE)
@example(gold="A")
@example(gold=".5")
@example(gold="the")
@example(gold="not 5")
def test_gold_in_the_template_scores_one(gold):
    assume("think>" not in gold and normalize_answer(extract_gold(gold) or ""))
    for gold_string in (gold, f"Therefore, the answer is {gold}."):
        for completion in (f"Therefore, the answer is {gold}.", f"<think>\n</think>\nThe answer is **{gold}**"):
            assert score_docqa(completion, gold_string).score == 1
            assert score_docmath(f"Therefore, the answer is {gold}.", gold_string).score == 1


@settings(deadline=None)
@given(gold=st.text(min_size=1, max_size=12), other=st.text(max_size=12))
def test_another_answer_scores_zero(gold, other):
    assume(normalize_answer(gold) != normalize_answer(other))
    assume(extract_gold(gold) == gold and extract_gold(other) == other)
    assert score_docqa(f"Therefore, the answer is {other}.", gold).score == 0


@settings(deadline=None)
@given(words=st.lists(st.sampled_from(["Oslo", "Bergen", "Norway", "Paris"]), min_size=2, max_size=6))
def test_naming_several_answers_scores_zero(words):
    assume(len(set(words)) > 1)
    for joint in (", ", " or ", " and "):
        assert score_docqa(f"the answer is {joint.join(words)}", words).score == 0


@settings(deadline=None)
@given(number=NUMBERS, factors=st.lists(st.sampled_from([100, 1000, 1e6, 1e9]), max_size=4))
def test_numbers(number, factors):
    flipped = number[1:] if number.startswith("-") else "-" + number
    zero = parse_number(number).value == 0
    assert score_docmath(f"Therefore, the answer is {number}.", number).score == 1
    assert score_docmath(f"Therefore, the answer is ${number}$.", number, scale_factors=factors).score == 1
    assert score_docmath(f"\\boxed{{{number}}}", f"the answer is {number}").score == 1
    assert score_docmath(f"Therefore, the answer is {flipped}.", number, scale_factors=factors).score == zero
    assert score_docmath(f"Therefore, the answer is 10 or {number}.", number).score == 0


@settings(deadline=None)
@given(prediction=NUMBERS, gold=NUMBERS)
def test_numbers_that_differ_by_more_than_the_tolerance_score_zero(prediction, gold):
    left, right = parse_number(prediction).value, parse_number(gold).value
    score = score_docmath(f"the answer is {prediction}", gold).score
    if left == right:
        assert score == 1
    elif abs(left - right) > abs(right) * 16 / 10_000 or (left == int(left) and right == int(right)):
        assert score == 0


@settings(deadline=None)
@given(
    gold=st.sampled_from("ABCDEFGH"), other=st.sampled_from("ABCDEFGH"), shape=st.sampled_from(["{}", "({})", "{}."])
)
def test_letters(gold, other, shape):
    completion = f"The correct answer is {shape.format(other)}"
    assert score_multiple_choice(completion, gold).score == (gold == other)
    assert score_multiple_choice(completion, f"The correct answer is ({gold}).").score == (gold == other)


# Repeated to 200 KB. Each aims at one step: markers, boxes, emphasis, quotes, signs, exponents, tokens, folding.
UNITS = [
    *"( ((x ) [( { \\boxed{ \\text }{ * 5* $ - – ' \" . <| <|a |>".split(),
    *"<think> </think> ² é e\u0301 \u0301 ﷺ A, (A) n't 不 負".split(),
    *"1 1, 1. 1,234 1,23 -1 10^ 1= ≈1 答案 答案是".split(),
    *("\\boxed ", "the ", "the answer ", "the answer is ", "the answer is the", "the\n", " ", "\t", "\n", "a ", "A "),
    *("1 ", "1e5 ", "1×10^5 ", "5 or ", "5 million "),
]


@pytest.mark.parametrize("unit", UNITS)
def test_200_kilobytes_of_hostile_text_are_scored(unit):
    # Anything quadratic would take minutes to hours here.
    text = unit * (200_000 // len(unit.encode()))
    for scorer, gold in GOLD.items():
        assert scorer("</think>the answer is " + text, gold).score in (0.0, 1.0)
        assert scorer("</think>the answer is " + text, gold, mode="l1_compat").score in (0.0, 1.0)
    assert extract_answer(text + "\nthe answer is Norway") == (None if unit == "<think>" else "Norway")
