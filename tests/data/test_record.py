import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenlong_trl.data import (
    Document,
    Evidence,
    InvalidRecordError,
    LongContextExample,
    from_dataset,
    read_records,
    record_features,
    to_dataset,
    write_records,
)


texts = st.text(max_size=40)  # hypothesis leaves out surrogates, which no file can hold
filled = st.text(min_size=1, max_size=20).filter(str.strip)


@st.composite
def examples(draw):
    documents = tuple(draw(st.lists(st.builds(Document, title=texts, text=texts), max_size=4)))
    spans = []
    for i, document in enumerate(documents):
        if document.text and draw(st.booleans()):
            start = draw(st.integers(0, len(document.text) - 1))
            spans.append(Evidence(i, start, draw(st.integers(start + 1, len(document.text)))))
    return LongContextExample(
        id=draw(filled),
        question=draw(filled),
        answers=tuple(draw(st.lists(filled, min_size=1, max_size=3))),
        documents=documents,
        evidence=tuple(spans),
        task=draw(st.sampled_from(["docqa", "docmath", "multiple_choice"])),
        source=draw(texts),
    )


sets = st.lists(examples(), min_size=1, max_size=4, unique_by=lambda example: example.id)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(examples())
def test_dict_is_lossless(example):
    assert LongContextExample.from_dict(example.to_dict()) == example


@given(sets)
@quick
def test_dataset_is_lossless(records):
    dataset = to_dataset(records)
    assert dataset.features == record_features()
    assert list(from_dataset(dataset)) == records


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@given(records=sets)
@quick
def test_files_are_lossless(records, suffix, tmp_path):
    path = tmp_path / f"records{suffix}"
    assert write_records(records, path) == len(records)
    assert list(read_records(path)) == records
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_more_records_than_one_row_group(tmp_path):
    records = [LongContextExample(str(i), "Q", ("a",), (Document("", "text " * i),)) for i in range(301)]
    assert write_records(iter(records), tmp_path / "r.parquet") == 301
    assert list(read_records(tmp_path / "r.parquet")) == records


def test_parquet_loads_as_a_dataset_with_the_same_features(tmp_path):
    from datasets import Dataset

    record = LongContextExample("1", "Q", ("a",), (Document("t", "text"),), (Evidence(0, 1, 3),))
    write_records([record], tmp_path / "r.parquet")
    dataset = Dataset.from_parquet(str(tmp_path / "r.parquet"), cache_dir=str(tmp_path / "cache"))
    assert dataset.features == record_features()
    assert list(from_dataset(dataset)) == [record]
    assert list(from_dataset(dataset.with_format("numpy"))) == [record]


def test_empty_dataset():
    assert to_dataset([]).features == record_features()
    assert list(from_dataset(to_dataset([]))) == []


def test_dataset_without_documents_or_evidence():
    records = [LongContextExample("1", "Q", ("a",), ())]
    assert list(from_dataset(to_dataset(records))) == records


def test_equal_records_give_equal_gzip_bytes(tmp_path):
    records = [LongContextExample("1", "Q", ("a",), (Document("", "x"),))]
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_records(records, tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_a_failed_write_leaves_the_old_file(tmp_path, suffix):
    path, record = tmp_path / f"records{suffix}", LongContextExample("1", "Q", ("a",), ())
    write_records([record], path)

    def failing():
        yield LongContextExample("2", "Q", ("a",), ())
        raise RuntimeError("the disk of the reader is gone")

    with pytest.raises(RuntimeError, match="is gone"):
        write_records(failing(), path)
    with pytest.raises(InvalidRecordError, match="row 2: field `id` is '1': is already the id of row 1"):
        write_records([record, record], path)
    with pytest.raises(InvalidRecordError, match=r"row 1: field `answers` is \(\): needs at least one answer"):
        write_records([LongContextExample("3", "Q", (), ())], path)
    with pytest.raises(ValueError, match="no records to write"):
        write_records([], path)
    assert list(read_records(path)) == [record]
    assert list(tmp_path.iterdir()) == [path]


def test_write_refuses_unknown_names(tmp_path):
    with pytest.raises(ValueError, match=r"records\.csv: expected a name that ends in \.jsonl"):
        write_records([], tmp_path / "records.csv")


def test_evidence_properties():
    record = LongContextExample(
        "1",
        "Q",
        ("a",),
        (Document("", "abc"), Document("", "xyz")),
        (Evidence(1, 0, 2), Evidence(0, 1, 2), Evidence(1, 2, 3)),
    ).validate()
    assert record.evidence_documents == (0, 1)
    assert [record.evidence_text(span) for span in record.evidence] == ["xy", "b", "z"]


def test_error_survives_a_worker_process():
    error = InvalidRecordError("answers", [], "needs at least one answer", file="f.jsonl", row=3)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.file, copy.row, copy.field, copy.value) == (str(error), "f.jsonl", 3, "answers", [])


def test_long_values_are_shortened():
    assert len(str(InvalidRecordError("f", "x" * 10_000, "reason"))) < 200
