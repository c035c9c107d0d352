"""Records of Loong: the shape of the file, the counts of the paper, the sub-tasks."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.data import InvalidRecordError
from qwenlong_trl.loong import SUBTASKS, TASKS, LoongRecord, read_loong, select
from qwenlong_trl.loong.made_up import made_up, rows


# arXiv 2406.17419, Table 7: records of each sub-task in Set1 to Set4. (Its total of Set3 is misprinted as 281.)
TABLE_7 = {
    "Spotlight": (53, 70, 80, 47),
    "Sequential Enumeration": (24, 29, 20, 14),
    "Extremum Acquisition": (16, 55, 59, 13),
    "Range Awareness": (20, 21, 16, 13),
    "Report Integration": (40, 90, 90, 30),
    "Citation&Reference": (37, 120, 79, 34),
    "Case Classification": (36, 36, 25, 24),
    "Temporal Analysis": (10, 40, 35, 15),
    "Citation Chain": (33, 50, 41, 6),
    "Link the Links": (35, 25, 28, 25),
    "Solitaire": (19, 28, 8, 11),
}
# Domain, language, level: records in Set1 to Set4.
COUNTS = {
    ("financial", "en", 1): (3, 15, 30, 27),
    ("financial", "en", 2): (0, 35, 30, 15),
    ("financial", "en", 3): (10, 40, 25, 15),
    ("financial", "en", 4): (0, 20, 25, 5),
    ("financial", "zh", 1): (20, 25, 30, 0),
    ("financial", "zh", 2): (30, 40, 45, 5),
    ("financial", "zh", 3): (30, 50, 65, 15),
    ("financial", "zh", 4): (10, 20, 10, 10),
    ("paper", "en", 3): (37, 120, 79, 34),
    ("paper", "en", 4): (33, 50, 41, 6),
    ("legal", "zh", 1): (30, 30, 20, 20),
    ("legal", "zh", 2): (30, 30, 20, 20),
    ("legal", "zh", 3): (36, 36, 25, 24),
    ("legal", "zh", 4): (54, 53, 36, 36),
}


@pytest.fixture(scope="module")
def released(shared_data) -> list[LoongRecord]:
    return read_loong(shared_data / "loong" / "loong.jsonl")


def test_sub_tasks_of_the_released_records_give_table_7_in_every_cell(released):
    counts = Counter((record.subtask, record.set) for record in released)
    assert {name: tuple(counts[name, set] for set in range(1, 5)) for name in SUBTASKS} == TABLE_7
    assert len(released) == counts.total() == 1600


def test_counts_of_the_released_records(released):
    counts = Counter((record.type, record.language, record.level, record.set) for record in released)
    assert {key: tuple(counts[*key, set] for set in range(1, 5)) for key in COUNTS} == COUNTS
    assert [sum(record.task == task for record in released) for task in TASKS] == [250, 300, 641, 409]
    assert sum(record.shuffle_doc for record in released) == 1095
    assert sum(len(record.doc) for record in released) / 1600 == pytest.approx(10.18, abs=0.005)
    assert Counter(type(record.answer) for record in released) == {str: 644, dict: 819, list: 137}
    assert len(select(released, sets=[1], domains=["financial"])) == 103


def test_released_records_round_trip(released, shared_data):
    lines = (shared_data / "loong" / "loong.jsonl").read_text(encoding="utf-8").splitlines()
    assert [record.to_dict() for record in released] == [json.loads(line) for line in lines]


def test_made_up_records_round_trip_and_cover_every_sub_task(tmp_path):
    records = made_up(tmp_path)
    assert read_loong(tmp_path / "loong.jsonl") == records
    assert [LoongRecord.from_dict(record.to_dict()) for record in records] == records
    assert {record.subtask for record in records} == set(SUBTASKS)


def test_records_over_the_same_documents_share_a_document_set(tmp_path):
    by_id = {record.id: record for record in made_up(tmp_path)}
    assert by_id["legal-1"].document_set == by_id["legal-2-range"].document_set  # in another order
    assert by_id["fin-en-1"].document_set != by_id["fin-en-3"].document_set


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("set", 5, "expected 1, 2, 3 or 4"),
        ("set", True, "whole number"),
        ("level", "1", "whole number"),
        ("length", 1.5, "whole number"),
        ("type", "medical", "financial, paper, legal"),
        ("language", "de", "en, zh"),
        ("doc", [], "list of names"),
        ("doc", ["a", ""], "list of names"),
        ("doc", "a", "list of names"),
        ("answer", 12, "a text, a list or an object"),
        ("answer", [], "a text, a list or an object"),
        ("shuffle_doc", 1, "true or false"),
        ("question", None, "expected a text"),
        ("id", " ", "must not be empty"),
        ("prompt_template", "{question}", "needs {docs}"),
    ],
)
def test_a_bad_value_is_named_with_file_row_field_and_value(tmp_path, field, value, reason):
    good, bad = rows()[:2]
    path = tmp_path / "loong.jsonl"
    path.write_text(json.dumps(good) + "\n\n" + json.dumps(bad | {field: value}) + "\n", encoding="utf-8")
    with pytest.raises(InvalidRecordError) as caught:
        read_loong(path)
    error = caught.value
    assert (error.file, error.row, error.field, error.value) == (str(path), 3, field, value)
    assert reason in str(error)


@pytest.mark.parametrize("field", list(rows()[0]))
def test_a_missing_field_is_named(field):
    row = {name: value for name, value in rows()[0].items() if name != field}
    with pytest.raises(InvalidRecordError, match=f"`{field}` is None: is missing"):
        LoongRecord.from_dict(row)


@pytest.mark.parametrize(
    ("line", "field"),
    [(b"{", "<row>"), (b"[1]", "<row>"), (b'{"id": "\xff"}', "<row>"), (json.dumps(rows()[0]).encode(), "id")],
)
def test_a_line_that_is_no_record_and_an_id_that_comes_twice(tmp_path, line, field):
    path = tmp_path / "loong.jsonl"
    path.write_bytes(json.dumps(rows()[0]).encode() + b"\n" + line + b"\n")
    with pytest.raises(InvalidRecordError) as caught:
        read_loong(path)
    assert (caught.value.row, caught.value.field) == (2, field)


def test_papers_have_no_level_below_3_and_a_file_has_records(tmp_path):
    row = next(row for row in rows() if row["type"] == "paper")
    with pytest.raises(InvalidRecordError, match="levels 3 and 4"):
        LoongRecord.from_dict(row | {"level": 2})
    (tmp_path / "loong.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no records"):
        read_loong(tmp_path / "loong.jsonl")


def test_select(tmp_path):
    records = made_up(tmp_path)
    assert [r.id for r in select(records, domains=["paper"])] == ["paper-3", "paper-4"]
    assert all(r.language == "zh" and r.level == 1 for r in select(records, levels=[1], languages=["zh"]))
    assert select(records) == records
    for options, message in (
        ({"sets": [5]}, "no set 5"),
        ({"domains": ["medical"]}, "no domain 'medical'"),
        ({"limit": 0}, "at least 1"),
        ({"domains": ["paper"], "languages": ["zh"]}, "no record"),
    ):
        with pytest.raises(ValueError, match=message):
            select(records, **options)


def test_a_sample_has_as_many_of_each_sub_task(released):
    """Unlike the first records of the file, which are all about papers. A larger sample has all of a smaller one."""
    before = set()
    for limit in (1, 11, 12, 100, 700, 1600):
        sample = select(released, limit=limit)
        ids = [record.id for record in sample]
        assert len(ids) == limit and before <= {*ids}
        assert ids == [record.id for record in released if record.id in {*ids}]  # in the order of the file
        counts = Counter(record.subtask for record in sample)
        most = max(counts.values())
        for name, all_of_it in TABLE_7.items():
            assert counts[name] >= min(most - 1, sum(all_of_it))
        before = {*ids}
    assert {record.type for record in select(released, limit=5)} != {"paper"}


def test_a_sample_depends_on_the_records_and_the_seed(released):
    sample = select(released, sets=[1], limit=40)
    assert {record.id for record in sample} == {record.id for record in select(released[::-1], sets=[1], limit=40)}
    assert sample != select(released, sets=[1], limit=40, seed=1)
    assert all(record.set == 1 for record in sample)
    # One at a time, each is part of the next.
    ids = [{record.id for record in select(released, sets=[1], limit=n)} for n in range(1, 30)]
    assert all(a < b for a, b in zip(ids, ids[1:], strict=False))
    assert select(sample, limit=40) == sample


def nested(depth: int) -> list:
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", ["answer", "doc", "question"])
@pytest.mark.parametrize("depth", [50, 900, 100_000])
def test_what_is_nested_too_deeply_is_refused(tmp_path, name, depth):
    """Also what the JSON parser reads and only later recursions would not."""
    path = tmp_path / "loong.jsonl"
    line = json.dumps(rows()[0] | {name: "HERE"}, ensure_ascii=False)
    path.write_text(line.replace('"HERE"', "[" * depth + "1" + "]" * depth) + "\n", encoding="utf-8")
    with pytest.raises(InvalidRecordError, match="nested") as caught:
        read_loong(path)
    assert caught.value.row == 1 and caught.value.field in (name, "<row>") and len(str(caught.value)) < 500


def test_answers_may_be_nested_a_little():
    record = LoongRecord.from_dict(rows()[0] | {"answer": nested(15)})
    assert LoongRecord.from_dict(record.to_dict()) == record


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a\ud800"},
        {"question": "\udfff?"},
        {"instruction": "\ud83d"},
        {"doc": ["a", "b\ud800"]},
        {"answer": {"a": ["b", "\ud800"]}},
        {"answer": {"a\ud800": "b"}},
        {"answer": "\ud800"},
    ],
)
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(tmp_path, change):
    path = tmp_path / "loong.jsonl"
    path.write_text(json.dumps(rows()[0] | change) + "\n", encoding="ascii")
    with pytest.raises(InvalidRecordError, match="half a surrogate pair") as caught:
        read_loong(path)
    assert (caught.value.file, caught.value.row, caught.value.field) == (str(path), 1, next(iter(change)))
    str(caught.value).encode()


@given(st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_any_text_round_trips(question, doc):
    record = LoongRecord.from_dict(rows()[0] | {"question": question, "doc": doc})
    assert LoongRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert len(record.document_set) == 16
