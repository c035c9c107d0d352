"""The structured score on the real gold answers and on hostile text, and the parts that read texts for it."""

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loong_cases import (
    AMOUNT,
    CASES_ORDERED,
    CASES_SET,
    CHAIN,
    CLASSES,
    COUNT,
    EN,
    GROUPS,
    LINKS,
    NAME,
    NAMES_ZH,
    ORDERED_ZH,
    PAPERS,
    SOLITAIRE,
    loong_record,
)

from qwenlong_trl.data import InvalidRecordError
from qwenlong_trl.loong.mentions import find_amounts, find_counts
from qwenlong_trl.loong.records import read_loong
from qwenlong_trl.loong.scoring import LONGEST_ANSWER, structured_score
from qwenlong_trl.loong.structures import find_list, find_object


def test_free_text_has_no_structured_score():
    assert structured_score(loong_record("It rose.", 4), "It rose.") is None


@pytest.mark.parametrize(
    "record",
    [
        loong_record(["a"], 1),
        loong_record({"a": []}, 2),
        loong_record("a", 4, "legal"),
        loong_record({"a": "b"}, 4, "paper"),
        loong_record("no JSON", 3),
    ],
)
def test_gold_answers_of_another_form_are_refused(record):
    with pytest.raises(InvalidRecordError, match="answer"):
        structured_score(record, "a")


def test_an_answer_that_is_a_json_string_of_an_object():
    record = loong_record('{"high":[], "low":["HARTE HANKS INC"]}', 3)
    for prediction in (record.answer, json.dumps(record.answer), '{"low": ["Harte Hanks"]}'):
        assert structured_score(record, prediction).exact
    assert structured_score(record, '{"high": ["Harte Hanks"]}').score == 0


def test_names_that_lie_in_other_names_are_told_apart():
    names = ("C", "Can B Corp", "Arena Group Holdings, Inc.", "Arena Group", "Chosen, Inc.")
    record = loong_record("Arena Group Holdings, Inc.", 2, question="Which company has the highest cash?", doc=names)
    assert structured_score(record, "The company chosen is Arena Group Holdings.").exact
    assert not structured_score(record, "The company chosen is Arena Group.").exact
    assert not structured_score(record, "C").exact
    assert structured_score(loong_record("C", 1, question="What is the name?", doc=names), "**C**").exact


def test_objects_and_lists_in_text():
    def is_key(key):
        return key in "ab"

    assert find_object('x {"a": ["1"]} y {"c": 2}', is_key) == [("a", ["1"])]
    assert find_object('{"a": "1"}\nor rather\n{"a": "2"}', is_key) == [("a", "2")]
    assert find_object('{"a": "1"}, {"b": "2"}', is_key) == [("a", "1"), ("b", "2")]
    assert find_object('{"a": "1"}, {"a": "2"}', is_key) == [("a", "2")]
    assert find_object('{"answer": {"a": ["[", "x"]}}', is_key) == [("a", ["[", "x"])]
    assert find_object('a 5" pipe {"a": ["x"]}', is_key) == [("a", ["x"])]
    assert find_object("{'a': {'x', 'y'}, 'b': None}", is_key) == [("a", ["x", "y"]), ("b", None)]
    assert find_object('{"a": 1, "a": 2.50}', is_key) == [("a", "1"), ("a", "2.50")]
    assert find_object("{'a': __import__('os')}", is_key) is None
    assert find_list('["x"] as in [1], [2, 3]') == ["x"]
    assert find_list(r'["BROADWAY \DE\", "y"]') == ["BROADWAY \\DE\\", "y"]
    assert find_list("none") is None
    assert find_list("[" * 8 + '"x"' + "]" * 8) == ["x"]
    assert find_list("[" * 9 + '"x"' + "]" * 9) is None


def test_amounts_in_text():
    def values(text):
        return [int(amount.value) for _, amount in find_amounts(text)]

    assert values("1. $5,000\n2) $(6,000)\n- -7 (in thousands)") == [5_000, -6_000, -7_000]
    assert values("10-Q of Q1 2024, March 31, 2024, 31 March, 2024年3月31日, 第1季度, the 1st [3]") == []
    assert values("3万元, 4 百万, 5千元, 6K, $7bn, 8.5 million") == [30_000, 4_000_000, 5_000, 6_000, 7, 8_500_000]
    assert values("5-10 and 1,23") == [5, 10]
    assert [int(count.value) for count in find_counts("Two companies, 三家, none of them, $3,000")] == [2, 0, 3]


RECORDS = [
    *(AMOUNT, COUNT, NAME, NAMES_ZH, ORDERED_ZH, CASES_SET, CASES_ORDERED),
    *(GROUPS, CLASSES, PAPERS, CHAIN, LINKS, SOLITAIRE),
]
PIECES = st.sampled_from(
    [*"{}[]()\\'\"“”*|:,.\n-$0", r"\u5224", "</think>", "《判决文书1》", "判决结果2", "Harte Hanks", "$(0.91)"]
    + ["or", "not", "high assets", "Reference", "answer is"]
)
NAMES = st.text(min_size=1).filter(lambda name: "think>" not in name)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=4))).map("".join))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(RECORDS), TEXTS)
def test_any_text_has_a_score(record, prediction):
    verdict = structured_score(record, prediction)
    assert 0 <= verdict.score <= 100
    assert verdict.exact == (verdict.score == 100)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.lists(st.sampled_from(EN)), min_size=1), st.booleans())
def test_a_gold_answer_of_groups_scores_100_however_it_is_written(groups, as_json):
    # Numbered, as names that differ in their signs alone are the same.
    record = loong_record({f"group {index} {name}": value for index, (name, value) in enumerate(groups.items())}, 3)
    written = json.dumps(record.answer) if as_json else repr(record.answer)
    assert structured_score(record, f"Here you are:\n{written}\nDone.").exact


HOSTILE = [
    *"[{]\"'\\(*-1\n| 。",
    "[]",
    "{}",
    '"\\',
    "1 ",
    "1,",
    "{'a':",
    '{"a":[',
    "判决文书1",
    "《判决文书1》判决结果1",
]
HOSTILE += [
    "answer ",
    "\\boxed{",
    "Coyni ",
    "or 1.\n",
    "not ",
    "- a\n",
    "high assets:\n",
    "a->",
    "2024-",
    "No. of ",
    "['",
]


@pytest.mark.parametrize(
    "record",
    [AMOUNT, NAME, NAMES_ZH, ORDERED_ZH, GROUPS, CHAIN, LINKS],
    ids=lambda record: f"{record.type}-{record.level}-{record.subtask}",
)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_just_returns(record, hostile):
    assert structured_score(record, hostile * (200_000 // len(hostile))).score < 100


def test_the_end_of_a_text_that_goes_on_is_read():
    assert structured_score(GROUPS, "x " * LONGEST_ANSWER + repr(GROUPS.answer)).exact
    assert structured_score(GROUPS, repr(GROUPS.answer) + "x " * LONGEST_ANSWER).score == 0


# --- The real gold answers ---


@pytest.fixture(scope="module")
def scored_records(shared_data):
    path = shared_data / "loong" / "loong.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {path.parent}")
    return [record for record in read_loong(path) if (record.type, record.level) != ("financial", 4)]


def _lines(answer):
    """As lists of Markdown."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list):
        return "\n".join(f"{number}. {item}" for number, item in enumerate(answer, start=1))
    lines = []
    for key, value in answer.items():
        if isinstance(value, list):
            lines += [f"**{key}**:", *(f"- {item}" for item in value or ["None"])]
        else:
            lines.append(f"- {key}: {value}")
    return "\n".join(lines)


def _as_json(answer):
    return answer if isinstance(answer, str) else json.dumps(answer)


WRITTEN = {
    "str": str,
    "repr": repr,
    "json": json.dumps,
    "json_unescaped": lambda answer: json.dumps(answer, ensure_ascii=False, indent=2),
    "lines": _lines,
    "reasoned": lambda answer: f'<think>Perhaps {{"a": "b"}} or [1]?</think>\n\n{answer}\n',
    "fenced": lambda answer: f"From the documents:\n\n```json\n{_as_json(answer)}\n```\nSee [1].",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_every_gold_answer_scores_100(scored_records, form):
    missed = [
        record.id
        for record in scored_records
        if structured_score(record, WRITTEN[form](record.answer)) != _all_right(record)
    ]
    assert missed == []


def _all_right(record):
    verdict = structured_score(record, str(record.answer))
    return type(verdict)(100.0, True, verdict.kind)


def test_gold_answers_of_other_records_score_near_0(scored_records):
    cells = defaultdict(list)
    for record in scored_records:
        cells[record.type, record.level, record.subtask, record.language].append(record)
    scores, exact = defaultdict(list), []
    for records in cells.values():
        for index, record in enumerate(records):
            others = [*records[index + 1 :], *records[:index]]
            other = next(
                (one for one in others if one.answer != record.answer and not set(one.doc) & set(record.doc)),
                next(one for one in others if one.document_set != record.document_set and one.answer != record.answer),
            )
            verdict = structured_score(record, str(other.answer))
            scores[verdict.kind, record.type].append(verdict.score)
            if verdict.exact:
                exact.append((record.answer, other.answer))
    means = {key: sum(values) / len(values) for key, values in scores.items()}
    assert {key: len(values) for key, values in scores.items()} == {
        **{("number", "financial"): 158, ("name", "financial"): 159, ("set", "financial"): 6},
        **{("sequence", "financial"): 27, ("groups", "financial"): 250, ("groups", "paper"): 270},
        **{("chain", "paper"): 130, ("set", "legal"): 140, ("sequence", "legal"): 60},
        **{("groups", "legal"): 121, ("mapping", "legal"): 179},
    }
    # The documents of legal records are numbered from 1 in each record, so that numbers, and results, coincide.
    by_number = {("sequence", "legal"): 11, ("set", "legal"): 4, ("mapping", "legal"): 4, ("groups", "legal"): 3}
    for key, mean in means.items():
        assert mean <= by_number.get(key, 1), key
    assert exact == [("4 companies", "4")]  # two ways to write one answer
