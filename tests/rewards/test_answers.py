"""Finding the answer in a completion, and when two answers are equal."""

import pytest

from qwenlong_trl.data.prompts import L1_TEMPLATE
from qwenlong_trl.rewards import extract_answer, normalize_answer
from qwenlong_trl.rewards.answers import extract_gold


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("Therefore, the answer is Norway.", "Norway"),
        ("THE ANSWER IS Norway", "Norway"),
        ("So the correct answer is Norway", "Norway"),
        ("So the final answer is Norway", "Norway"),
        ("the  answer\nis Norway", "Norway"),
        ("the answer is: Norway", "Norway"),
        ("**The answer is:**\n\n**Norway**\n\nIt is cold there.", "Norway"),
        ("the answer is *(Norway)*.", "Norway"),
        ("the answer is ((“Norway”)).", "Norway"),
        ("the answer is [Norway]", "Norway"),
        ("the answer is `Norway`", "Norway"),
        ("the answer is (Oslo) and (Bergen)", "(Oslo) and (Bergen)"),
        ("the answer is Sweden. Wait, the answer is Norway.", "Norway"),
        ("the answer is Norway.\nThat is all.", "Norway"),
        ("the answer is Norway.\r\nThat is all.", "Norway"),
        ("the answer is Norway.<|im_end|>", "Norway"),
        ("the answer is Norway.<｜end▁of▁sentence｜>", "Norway"),
        ("\\boxed{Norway}", "Norway"),
        ("The answer is $\\boxed{\\text{Norway}}$.", "Norway"),
        ("\\boxed{\\text{f{x}}}", "fx"),
        ("the answer is \\[\n\\boxed{Norway}\n\\]", "Norway"),
        ("first \\boxed{Sweden}, then \\boxed{Norway} in the end", "Norway"),
        ("\\boxed{Sweden}. So the answer is Norway", "Norway"),
        ("the answer is Sweden. \\boxed{Norway}", "Norway"),
        ("\\boxed{The answer is Norway}", "Norway"),
        ("\\boxed{\\boxed{Norway}}", "Norway"),
        ("\\boxed{Norway} and \\boxed{Swe", "Norway"),
        ("-\\boxed{32.4} million", "-32.4 million"),
        ("$-\\boxed{32.4}\\%$", "-32.4 %"),
        ("the answer is \\(1{,}234\\)", "1,234"),
        ("Norway", "Norway"),
        ("  Norway.  ", "Norway"),
        ("the answer isn't Norway", "the answer isn't Norway"),
        ("bathe answer is Norway", "bathe answer is Norway"),
        ("the answer is", None),
        ("the answer is **.**", None),
        ("", None),
        (" \n ", None),
        ("Norway\nSweden", None),
        ("Norway " * 40, None),
        ("Therefore, the answer is (insert answer here).", None),
        ("Therefore, the answer is **(Insert answer here)**", None),
    ],
)
def test_extract_answer(completion, answer):
    assert extract_answer(completion) == answer


def test_the_prompt_echoed_is_no_answer():
    assert extract_answer(L1_TEMPLATE) is None


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("答案是：挪威。", "挪威"),
        ("因此，正确答案是“挪威”。", "挪威"),
        ("所以答案为（挪威）。", "挪威"),
        ("答案：挪威", "挪威"),
        ("the answer is挪威", "挪威"),
        ("Ｔｈｅ　ａｎｓｗｅｒ　ｉｓ　３２．４", "32.4"),
        ("挪威。", "挪威"),
        ("答案不是挪威", "答案不是挪威"),
    ],
)
def test_chinese_and_full_width(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("completion", "options", "answer"),
    [
        ("<think>the answer is Oslo</think>the answer is Bergen", {}, "Bergen"),
        ("<think>a</think>the answer is Oslo</think>Bergen", {}, "Bergen"),
        ("the answer is Oslo</think>", {}, None),
        ("<think>the answer is Oslo", {}, None),
        ("<think>a</think>Bergen<think>the answer is Oslo", {}, None),
        ("a</think>Bergen", {"require_delimiter": True}, "Bergen"),
        ("Bergen", {"require_delimiter": True}, None),
        ("<think>Oslo</think>Bergen", {"delimiter": None}, "<think>Oslo</think>Bergen"),
        ("the answer is Oslo</reason>Bergen", {"delimiter": "</reason>"}, "Bergen"),
        ("<reason>Bergen", {"delimiter": "</reason>"}, None),
        ("the answer is Oslo ### Bergen", {"delimiter": "###"}, "Bergen"),
    ],
)
def test_where_the_reasoning_ends(completion, options, answer):
    assert extract_answer(completion, **options) == answer


def test_gold_strings_of_any_shape():
    assert extract_gold("Norway") == extract_gold("Therefore, the answer is Norway.") == "Norway"
    assert extract_gold("word " * 100) == ("word " * 100).strip()
    assert extract_gold(" . ") is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("The U.S.", "us"),
        ("an  Apple", "apple"),
        ("O'Brien", "OBrien"),
        ("New-York", "new york"),
        ("COVID-19", "covid 19"),
        ("1,234,567 people", "1234567 people"),
        ("1939–1945", "1939-1945"),
        ("$5", "5"),
        ("−5", "-5"),
        ("-$5", "-5"),
        ("ＡＢＣ１２３", "abc123"),
        ("挪 威", "挪威"),
        ("《三体》。", "三体"),
        ("Straße", "STRASSE"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_equal_answers(left, right):
    assert normalize_answer(left) == normalize_answer(right) != ""


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("3.5", "35"),
        (".5", "5"),
        ("-5", "5"),
        ("2-1", "21"),
        ("10:30", "1030"),
        ("1,2", "12"),
        ("C++", "C"),
        ("C#", "C"),
        ("Vitamin A", "Vitamin"),
        ("a way", "away to"),
        ("São", "Sao"),
    ],
)
def test_different_answers(left, right):
    assert normalize_answer(left) != normalize_answer(right)


@pytest.mark.parametrize("text", ["", "?", "...", "()", "「」。", "😀", "\u200b"])
def test_no_letter_and_no_digit_is_empty(text):
    assert normalize_answer(text) == ""


def test_an_answer_that_is_an_article_stays():
    assert normalize_answer("A") == "a"
    assert normalize_answer("the a") == "a"
