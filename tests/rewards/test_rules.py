"""The strict scorers beyond the table: several golds, shapes of answers, what is returned, and what is refused."""

import pytest

from qwenlong_trl.rewards import RuleScore, score_docmath, score_docqa, score_multiple_choice


def test_best_gold_counts_and_is_named():
    golds = ["Kingdom of Norway", "Norway"]
    assert score_docqa("the answer is Norway", golds) == RuleScore(1.0, "Norway", "Norway")
    assert score_docqa("the answer is Oslo", golds) == RuleScore(0.0, "Oslo", "Kingdom of Norway")
    assert score_docmath("the answer is 5", ["4", "5"]).gold == "5"
    assert score_multiple_choice("B", ["A", "The correct answer is (B)."]).gold == "The correct answer is (B)."


@pytest.mark.parametrize(
    "answer", ["Norway, Sweden", "Norway or Sweden", "not Norway", "Norw", "Norway Norway", "way"]
)
def test_docqa_hedges_score_zero(answer):
    assert score_docqa(f"Therefore, the answer is {answer}.", "Norway").score == 0


def test_docqa_gold_without_content_scores_zero():
    assert score_docqa("the answer is ?", "?").score == 0
    assert score_docqa("the answer is !", "?").score == 0


@pytest.mark.parametrize("answer", ["Yes", "true", "TRUE.", "(yes)", "correct", "是", "\\boxed{\\text{True}}"])
def test_docmath_truth_values(answer):
    assert score_docmath(f"the answer is {answer}", "True").score == 1
    assert score_docmath(f"the answer is {answer}", "yes").score == 1
    assert score_docmath(f"the answer is {answer}", "No").score == 0
    assert score_docmath(f"the answer is {answer}", "1").score == 0


def test_docmath_number_for_a_truth_value_scores_zero():
    assert score_docmath("the answer is 1", "True").score == 0


def test_docmath_gold_that_is_no_number_is_text():
    assert score_docmath("the answer is n/a", "N/A").score == 1
    assert score_docmath("the answer is 5", "N/A") == RuleScore(0.0, "5", "N/A")


def test_docmath_prediction_is_none_without_a_number():
    assert score_docmath("the answer is unknown", "32.4").prediction is None
    assert score_docmath("the answer is 33", "32.4").prediction == "33"


def test_docmath_options():
    assert score_docmath("the answer is 0.324", "32.4", scale_factors=(100,)).score == 1
    assert score_docmath("the answer is 3,240,000", "32.4", scale_factors=(100, 1000)).score == 0
    assert score_docmath("the answer is 32.44", "32.4", relative_tolerance=0).score == 0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        *(
            (text, "B")
            for text in ("B", "(B)", "b.", "[B]", "B.", "B)", "\\boxed{B}", "\\boxed{\\text{B}}", "**B**", "$B$")
        ),
        *(
            (text, "B")
            for text in ("(B) Norway", "B. Norway", "B: Norway", "B, Norway", "B - Norway", "option B", "选B")
        ),
        *((text, "B") for text in ("B because A is wrong", "(B), since (A) is wrong", '"B"', "（Ｂ）")),
        *(
            (text, None)
            for text in ("Bergen", "B Norway", "B or C", "B, C", "B/C", "(B) and (C)", "B和C", "5", "not B")
        ),
    ],
)
def test_multiple_choice_letters(answer, letter):
    assert score_multiple_choice(f"The correct answer is {answer}", "B").prediction == letter
    assert score_multiple_choice(answer, "B").prediction == letter


def test_multiple_choice_takes_the_last_answer():
    assert score_multiple_choice("The correct answer is A. No, the correct answer is (B).", "B").score == 1


def test_multiple_choice_letters_are_configurable():
    assert score_multiple_choice("the answer is F", "A", letters="ABCD") == RuleScore(0.0, None, "A")
    assert score_multiple_choice("the answer is F", "F", letters="abcdef").score == 1
    with pytest.raises(ValueError, match="'F'.*'ABCD'"):
        score_multiple_choice("the answer is F", "F", letters="ABCD")


@pytest.mark.parametrize("gold", ["Norway", "", ["Norway", "AB"]])
def test_multiple_choice_gold_without_a_letter_is_refused(gold):
    with pytest.raises(ValueError, match="none of the gold answers"):
        score_multiple_choice("A", gold)
    assert score_multiple_choice("A", ["Norway", "A"]).score == 1


@pytest.mark.parametrize("scorer", [score_docqa, score_docmath, score_multiple_choice])
def test_bad_arguments(scorer):
    with pytest.raises(ValueError, match="'strict' or 'l1_compat', got 'lenient'"):
        scorer("A", "A", mode="lenient")
    with pytest.raises(ValueError, match="at least one string"):
        scorer("A", [])
    with pytest.raises(ValueError, match="at least one string"):
        scorer("A", ["A", None])


def test_bad_docmath_arguments():
    for factor in (0, -100, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="scale_factors"):
            score_docmath("1", "1", scale_factors=(factor,))
    for tolerance in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="relative_tolerance"):
            score_docmath("1", "1", relative_tolerance=tolerance)


@pytest.mark.parametrize("said", ["3 1/2", "3 ½", "3½", "3 1⁄2", "**3 1/2**"])
def test_a_mixed_number_is_the_sum_of_its_parts(said):
    assert [score_docmath(f"the answer is {said}", gold).score for gold in ("3.5", "3½", "3", "15.5")] == [1, 1, 0, 0]


def test_a_fraction_in_one_character_is_not_joined_to_the_digit_before():
    for said, gold, right in (("1½", "11/2", 0), ("1½", "1 1/2", 1), ("1½", "1½", 1), ("2¾", "23/4", 0)):
        assert score_docqa(f"the answer is {said}", gold).score == right
        assert score_docqa(f"the answer is {gold}", said).score == right


def test_fractions_leave_the_official_verdicts_alone():
    """There the first digits after the marker are the number, whatever follows them."""
    for said in ("3 1/2", "3½"):
        score = score_docmath(f"</think>the answer is {said}", "the answer is 3", mode="l1_compat")
        assert (score.score, score.prediction) == (1.0, "3")
