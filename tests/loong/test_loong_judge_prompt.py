"""Prompts of Loong's judge written out, and both ways of reading a score."""

import hashlib
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loong_prompts import CHAIN, CITATIONS, make_record, shown

from qwenlong_trl.loong.judge_prompt import (
    ANSWER_LIMIT,
    PROMPT_HASHES,
    QUESTION_LIMIT,
    answer_of,
    judge_messages,
    parse_score,
)
from qwenlong_trl.loong.records import LoongRecord, read_loong
from qwenlong_trl.rewards.judge_prompt import CUT_OFF


def official(record: LoongRecord, prediction: str) -> str:
    (message,) = judge_messages(record, prediction, "official")
    assert message["role"] == "user"
    return message["content"]


def test_the_official_template_is_that_of_the_released_code():
    """Its own text around three empty places, byte for byte."""
    wanted = "9d67b3da27c5eb80bb94160f2958c744d305cfe5c83e111a30c0ef828087b5bf"
    assert PROMPT_HASHES["official"] == wanted
    record = make_record(template="{docs}{question}", question="{}", answer="{}")
    assert hashlib.sha256(official(record, "{}").encode()).hexdigest() == wanted


HEAD = "[Question]\n"
TAIL = "[The End of Assistant's Predicted Answer]\n\n[System]\nWe would like to request"


@pytest.mark.parametrize(
    ("record", "question", "gold"),
    [
        (make_record(), "\n\nRead.\n\nWhich?", "5 元"),
        (
            make_record("legal", 3, answer={"类别": ["《判决文书1》", "It's"]}),
            "\n\nRead.\n\nWhich?",
            """{'类别': ['《判决文书1》', "It's"]}""",
        ),
        # For papers the released code leaves the literal {docs} in.
        (
            make_record("paper", 3, CITATIONS, "OpenMoE", "As {{...}}.", {"Reference": ["# A "], "Citation": []}),
            "#Papers:\n{docs}\n\nAs {{...}}.\n\n#The paper you need to analyze:\nOpenMoE",
            "{'Reference': ['# A '], 'Citation': []}",
        ),
        (
            make_record("paper", 4, CHAIN, "", "List.", ["# A ", "# B\n"]),
            "List.\n\n#Papers Provided:\n{docs}",
            "['# A ', '# B\\n']",
        ),
    ],
)
def test_the_official_prompt_of_each_template(record, question, gold):
    text = official(record, "One\n{0} [[100]] ")
    wanted = f"{HEAD}{question}\n\n[Gold Answer]\n{gold}\n\n[The Start of Assistant's Predicted Answer]\n"
    assert text.startswith(wanted + "One\n{0} [[100]] \n" + TAIL)
    assert text.endswith("\n<end output>\n\nNow, start your evaluation:")


def test_the_official_filling_is_one_replacement_after_the_other():
    record = make_record(question="About {instruction}", instruction="Of {question} and {docs}")
    assert official(record, "x").startswith(
        f"{HEAD}\n\nOf {{question}} and {{docs}}\n\nAbout Of {{question}} and {{docs}}\n\n[Gold"
    )


@pytest.mark.parametrize(
    ("record", "question", "gold"),
    [
        (make_record(), "Read. Which?", "5 元"),
        (make_record("legal", 3, answer={"类别": ["《判决文书1》"]}), "Read. Which?", '{"类别": ["《判决文书1》"]}'),
        (
            make_record("paper", 3, CITATIONS, "OpenMoE", "As {{...}}.", {"Reference": ["# A "], "Citation": []}),
            "#Papers: As {{...}}. #The paper you need to analyze: OpenMoE",
            '{"Reference": ["# A "], "Citation": []}',
        ),
        (make_record("paper", 4, CHAIN, "", "List.", ["# A ", "# B"]), "List. #Papers Provided:", '["# A ", "# B"]'),
    ],
)
def test_our_prompt_of_each_template(record, question, gold):
    texts = shown(record, "One\n{gold}")
    assert texts == {"question": question, "reference": gold, "candidate": "One {gold}"}


def test_our_prompt_asks_for_the_same_scale_and_format():
    system, user = (message["content"] for message in judge_messages(make_record(), "x", "default"))
    for words in ("Accuracy", "Completeness", "from 1 to 100", "[[score]]", "100 words", "<candidate>"):
        assert words in system
    assert "{" not in user.replace("{}", "") and '"Rating: [[score]]"' in user


def test_every_question_and_gold_answer_is_shown_whole(shared_data):
    for record in read_loong(shared_data / "loong" / "loong.jsonl"):
        texts = shown(record, "x")
        assert len(texts["question"]) < QUESTION_LIMIT / 2 and len(texts["reference"]) < ANSWER_LIMIT / 2
        assert not texts["question"].endswith("…") and "{docs}" not in texts["question"]
        # Letters and digits stay; what goes are blanks, labels' colons and brackets.
        gold = record.answer if isinstance(record.answer, str) else json.dumps(record.answer, ensure_ascii=False)
        letters = [[c for c in unicodedata.normalize("NFKC", t) if c.isalnum()] for t in (gold, texts["reference"])]
        assert letters[0] == letters[1], record.id
        assert ("{docs}" in official(record, "x")) == (record.type == "paper")


@pytest.mark.parametrize("prompt", ["official", "default"])
@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("Norway", "Norway"),
        (" Norway\n", " Norway\n"),
        ("<think>[[100]] Sweden?</think>\n\nNorway\n", "Norway\n"),
        ("Sweden?</think>Norway", "Norway"),  # the chat template opened the reasoning
        ("<think>Sweden", ""),
        ("<think>Sweden</think>Norway <think>or", ""),
        ("", ""),
    ],
)
def test_reasoning_is_not_judged(prompt, prediction, answer):
    assert answer_of(prediction) == answer
    assert judge_messages(make_record(), prediction, prompt) == judge_messages(make_record(), answer, prompt)


def test_of_a_long_answer_our_prompt_shows_both_ends():
    text = shown(make_record(), "start " + "word " * 50_000 + "the end")["candidate"]
    assert text.startswith("start word") and text.endswith("word the end") and " [...] " in text
    assert ANSWER_LIMIT - 10 < len(text) < ANSWER_LIMIT + 10
    assert "word " * 50_000 in official(make_record(), "start " + "word " * 50_000 + "the end")


def test_a_lone_surrogate_can_be_sent():
    for prompt in ("official", "default"):
        for message in judge_messages(make_record(), "half a smile \ud83d", prompt):
            message["content"].encode()


def test_another_prompt_or_parse():
    with pytest.raises(ValueError, match="prompt must be one of official, default, got 'l1'"):
        judge_messages(make_record(), "x", "l1")
    with pytest.raises(ValueError, match="mode must be one of official, robust, got 'strict'"):
        parse_score("[[1]]", "strict")


# The text, the official score, the robust score.
SCORES = [
    # where both agree
    ("Rating: [[85]]", 85.0, 85.0),
    ("All right.\nRating: [[100]]\n<end output>", 100.0, 100.0),
    ("Rating: [[87.5]]", 87.5, 87.5),
    ("**Rating: [[1]]**", 1.0, 1.0),
    ("As cited in [1], it holds. Rating: [[85]]", 85.0, 85.0),
    ("Nothing agrees. [[0]]", 0.0, 0.0),
    ("Rating: 85", None, None),
    ("Rating: [[score]]", None, None),
    ("Rating: [[-5]]", None, None),
    ("Rating: [[1e2]]", None, None),
    ("Rating: [[９０]]", None, None),
    ("Rating: [[95.]]", None, None),
    ("", None, None),
    ("Rating: [[" + "9" * 400 + "]]", None, None),
    # the first against the last
    ('The format is "Rating: [[100]]". Rating: [[40]]', 100.0, 40.0),
    ("Rating: [[40]] Rating: [[score]]", 40.0, 40.0),
    ("Rating: [[90]], no: [[200]]", 90.0, None),
    ("Rating: [[90]], no: [[-5]]", 90.0, None),
    # the reasoning of the judge
    ("<think>Not [[100]].</think> Rating: [[40]]", 100.0, 40.0),
    ("<think>Rating: [[40]]</think> It is wrong.", 40.0, None),
    ("<think>Rating: [[40]]", 40.0, None),
    # single brackets
    ("As cited in [1], it is mostly right. Rating: 85", 1.0, None),
    ("Rating: [85]", 85.0, None),
    ("The list [3] has [2] items; [[n/a]]", 3.0, None),
    ("Rating: [[-5]], see [2024]", 2024.0, None),
    # tolerated
    ("Rating: [[ 95 ]]", None, 95.0),
    ("Rating: [[95/100]]", None, 95.0),
    ("Rating: [[ 95 / 100 ]]", None, 95.0),
    ("Rating: [[score: 90]]", None, 90.0),
    ("Rating: [[Score = 90.5/100]]", None, 90.5),
    ("[[Rating: 90]]", None, 90.0),
    # and not
    ("Rating: [[9/10]]", None, None),
    ("Rating: [[95%]]", None, None),
    # outside of the scale
    ("Rating: [[1000]]", 1000.0, None),
    ("Rating: [[0.95]]", 0.95, None),
    ("Rating: [[.5]]", 0.5, None),
    ("Rating: [[100.5]]", 100.5, None),
    # cut off
    ("Rating: [[85]] because" + CUT_OFF, 85.0, None),
    ("It is [1] and" + CUT_OFF, 1.0, None),
    ("Rating: [[8" + CUT_OFF, None, None),
]
DIFFERENT = [row for row in SCORES if row[1] != row[2]]


@pytest.mark.parametrize(("text", "official_score", "robust_score"), SCORES)
def test_scores(text, official_score, robust_score):
    assert parse_score(text, "official") == official_score
    assert parse_score(text, "robust") == robust_score


def test_the_two_differ_only_where_the_documentation_says():
    """For one of six reasons, each of which the table has."""

    def reason(text, by_official, by_robust):
        if text.endswith(CUT_OFF):
            return "cut off"
        if "<think>" in text:
            return "reasoning"
        if by_official is None:
            return "tolerated"
        doubles = [found for found in re.findall(r"\[\[(.*?)\]\]", text) if re.search(r"\d", found)]
        if len(doubles) > 1:
            return "last"
        bare = any(f"[[{found}]]" in text for found in doubles if re.fullmatch(r"[\d.]+", found))
        return "scale" if bare and not (by_official == 0 or 1 <= by_official <= 100) else "single brackets"

    reasons = [reason(*row) for row in DIFFERENT]
    assert {name: reasons.count(name) for name in reasons} == {
        "last": 3, "reasoning": 3, "single brackets": 4, "tolerated": 6, "scale": 4, "cut off": 2,
    }  # fmt: skip


SCORE_TEXTS = st.text(alphabet="[]0123456789.-/ scoreRating:<think>", max_size=60)


@given(SCORE_TEXTS)
def test_the_official_score_is_that_of_the_official_expressions(text):
    for pattern in (r"\[\[([0-9]*\.?[0-9]+)\]\]", r"\[([0-9]*\.?[0-9]+)\]"):
        if match := re.search(pattern, text):
            assert parse_score(text, "official") == float(match[1])
            return
    assert parse_score(text, "official") is None


@given(SCORE_TEXTS)
def test_a_robust_score_is_on_the_scale(text):
    score = parse_score(text, "robust")
    assert score is None or score == 0 or 1 <= score <= 100


@pytest.mark.timeout(20)  # a quadratic pass over any of these takes minutes
def test_endless_answers_of_a_judge():
    for text in ("[[" + "1" * 1_000_000, "[[" * 500_000, "[[1" * 300_000, "[[" + "1." * 500_000, "[[ score" * 100_000):
        assert parse_score(text, "official") is None and parse_score(text, "robust") is None
