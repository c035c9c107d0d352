"""Malformed rows and files: each gives an `InvalidRecordError` that names file, row, field and value."""

import copy
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from qwenlong_trl.data import Document, Evidence, InvalidRecordError, LongContextExample, read_records

from .rows import ROWS, write_rows


def put(*path_and_value, drop=False):
    """A function that sets (or drops) one nested field of a row."""
    *path, value = path_and_value

    def change(row):
        target = row
        for key in path[:-1]:
            target = target[key]
        if drop:
            del target[path[-1]]
        else:
            target[path[-1]] = value
        return row

    return change


def missing(*path):
    return put(*path, None, drop=True)


QA = ("paragraphs", 0, "qas", 0)
PROMPT = ("prompt", 0, "content")

# format, what is done to a good row, field named, value shown, part of the reason
ROW_CASES = [
    ("musique", lambda row: [row], "<row>", "[{'id'", "expected an object"),
    ("musique", lambda row: None, "<row>", "None", "expected an object"),
    ("musique", missing("question"), "question", "None", "is missing"),
    ("musique", put("question", "  "), "question", "'  '", "must not be empty"),
    ("musique", put("paragraphs", "text"), "paragraphs", "'text'", "expected a list"),
    ("musique", put("paragraphs", 1, "text"), "paragraphs[1]", "'text'", "expected an object"),
    ("musique", put("paragraphs", 1, "paragraph_text", None), "paragraphs[1].paragraph_text", "None", "is null"),
    ("musique", put("paragraphs", 1, "title", 3), "paragraphs[1].title", "3", "expected a string"),
    ("musique", put("paragraphs", 1, "idx", 0), "paragraphs[1].idx", "0", "already the idx of paragraphs[0]"),
    ("musique", put("paragraphs", 1, "is_supporting", "no"), "paragraphs[1].is_supporting", "'no'", "true or false"),
    ("musique", put("answer_aliases", ["ok", 5]), "answer_aliases[1]", "5", "expected a string"),
    ("musique", put("answer_aliases", ["ok", ""]), "answers[2]", "''", "must not be empty"),
    (
        "musique",
        put("question_decomposition", 1, "paragraph_support_idx", 99),
        "question_decomposition[1].paragraph_support_idx",
        "99",
        "expected the idx of one of `paragraphs`",
    ),
    ("musique", put("paragraphs", 3, "paragraph_text", ""), "evidence[3]", "(0, 0)", "documents[3].text"),
    ("musique", put("id", "2hop__1"), "id", "'2hop__1'", "is already the id of row 1"),
    ("hotpotqa", missing("answer"), "answer", "None", "is missing"),
    ("hotpotqa", put("context", 1, ["Scott"]), "context[1]", "['Scott']", "expected [title, [sentence, ...]]"),
    ("hotpotqa", put("context", 1, 1, "He"), "context[1][1]", "'He'", "expected a list"),
    ("hotpotqa", put("context", 1, 1, 0, 7), "context[1][1][0]", "7", "expected a string"),
    ("hotpotqa", put("supporting_facts", 0, [["Scott"], 1]), "supporting_facts[0][0]", "['Scott']", "a string"),
    ("hotpotqa", put("supporting_facts", 0, 0, "Nobody"), "supporting_facts[0][0]", "'Nobody'", "names no paragraph"),
    ("hotpotqa", put("supporting_facts", 0, 1, 902), "supporting_facts[0][1]", "902", "one of 3 sentences"),
    ("hotpotqa", put("supporting_facts", 0, 1, -1), "supporting_facts[0][1]", "-1", "one of 3 sentences"),
    ("hotpotqa", put("supporting_facts", 0, 1, True), "supporting_facts[0][1]", "True", "expected an integer"),
    ("nq_open", put("answers", []), "answers", "()", "needs at least one answer"),
    ("nq_open", put("answers", "Curie"), "answers", "'Curie'", "expected a list"),
    ("nq_open", put("ctxs", 1, "text", 4.5), "ctxs[1].text", "4.5", "expected a string"),
    ("nq_open", put("ctxs", 1, "isgold", 1), "ctxs[1].isgold", "1", "expected true or false"),
    ("squad", missing("paragraphs"), "paragraphs", "None", "is missing"),
    ("squad", missing("paragraphs", 0, "context"), "paragraphs[0].context", "None", "is missing"),
    ("squad", missing(*QA, "id"), "paragraphs[0].qas[0].id", "None", "is missing"),
    ("squad", put(*QA, "id", 2.5), "paragraphs[0].qas[0].id", "2.5", "expected a string"),
    ("squad", put(*QA, "answers", []), "paragraphs[0].qas[0].answers", "[]", "or is_impossible to be true"),
    ("squad", put(*QA, "answers", 0, "answer_start", "23"), "qas[0].answers[0].answer_start", "'23'", "an integer"),
    ("squad", put(*QA, "answers", 0, "text", "1984"), "qas[0].answers[0].text", "'1984'", "does not stand in"),
    ("squad", put(*QA, "answers", 0, "text", " "), "qas[0].answers[0].text", "' '", "must not be empty"),
    ("squad", put(*QA, "is_impossible", "false"), "paragraphs[0].qas[0].is_impossible", "'false'", "true or false"),
    ("docqa_rl", put(*PROMPT, "No context."), "prompt[0].content", "'No context.'", "holds no context between <text>"),
    ("docqa_rl", put("prompt", 0, "role", "system"), "prompt", "[{'role'", "no message of the role user"),
    ("docqa_rl", lambda row: row | {"ability": "doc-x", "data_source": "y"}, "ability", "'doc-x'", "tells no task"),
    ("docqa_rl", put("reward_model", "ground_truth", 3.5), "reward_model.ground_truth", "3.5", "expected a string"),
    (
        "docqa_rl",
        put("reward_model", "ground_truth", "Therefore, the answer is ."),
        "ground_truth",
        "'Therefore",
        "X.",
    ),
    ("docqa_rl", put("reward_model", None), "reward_model", "None", "is null: expected an object"),
    ("docqa_rl", put(*PROMPT, "<text>a</text>"), "question", "''", "must not be empty"),
    ("records", put("id", 2), "id", "2", "expected a string"),
    ("records", put("extra", 1), "extra", "1", "unknown field"),
    ("records", put("answers", {"0": "a"}), "answers", "{'0': 'a'}", "expected a list of strings"),
    ("records", put("documents", 0, {"text": "x"}), "documents[0]", "{'text': 'x'}", "expected {title, text}"),
    ("records", put("evidence", {}), "evidence", "{}", "expected a list of {document, start, end}"),
    ("records", put("evidence", 0, "document", 1), "evidence[0].document", "1", "the index of one of 1 documents"),
    ("records", put("evidence", 0, "end", 999), "evidence[0]", "(25, 999)", "0 <= start < end <= 37"),
    ("records", put("evidence", 0, "start", 1.0), "evidence[0].start", "1.0", "expected an integer"),
    ("records", put("question", "half \ud83d"), "question", "'half \\ud83d'", "is not UTF-8 text at character 5"),
]


def test_there_are_at_least_thirty_kinds():
    assert len(ROW_CASES) >= 30


@pytest.mark.parametrize(
    ("format", "change", "field", "value", "reason"),
    ROW_CASES,
    ids=[f"{format}-{field}" for format, _, field, *_ in ROW_CASES],
)
def test_malformed_row(tmp_path, format, change, field, value, reason):
    rows = [ROWS[format](1), change(copy.deepcopy(ROWS[format](2))), ROWS[format](3)]
    path = write_rows(tmp_path / "bad.data", format, rows)
    with pytest.raises(InvalidRecordError) as caught:
        list(read_records(path))
    message = str(caught.value)
    assert message.startswith(f"{path}, row 2: field `")
    assert f"{field}` is {value}" in message
    assert reason in message
    assert (caught.value.file, caught.value.row) == (str(path), 2)

    skipped = []
    kept = list(read_records(path, on_invalid=skipped.append))
    assert [str(error) for error in skipped] == [message]
    good = write_rows(tmp_path / "good.data", format, [rows[0], rows[2]])
    assert [e.question for e in kept] == [e.question for e in read_records(good)]
    assert len(kept) == 2


LINE = json.dumps(ROWS["records"](1)).encode()
OTHER = json.dumps(ROWS["records"](3)).encode()


@pytest.mark.parametrize(
    ("line", "value", "reason"),
    [
        (b'{"id": "2", "question": ', '\'{"id": "2", "question":\'', "is not JSON"),
        (b"id,question,answers", "'id,question,answers'", "is not JSON"),
        (b'{"id": "2"} {}', '\'{"id": "2"} {}\'', "is not JSON: Extra data"),
        (b"[" * 200_000, "'[[[[", "is not JSON: "),
        (b"1" * 5_000, "'1111", "is not JSON: Exceeds the limit"),
        (b'{"id": "caf\xe9"}', 'b\'{"id": "caf\\xe9"}\'', "is not UTF-8 at byte 11: save the file as UTF-8"),
        (b'{"id": "\x00"}', "\\x00", "is not JSON: Invalid control character"),
    ],
)
def test_malformed_line(tmp_path, line, value, reason):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join([LINE, line, OTHER]))
    with pytest.raises(InvalidRecordError) as caught:
        list(read_records(path))
    assert f"{path}, row 2: field `<row>` is " in str(caught.value)
    assert value in str(caught.value)
    assert reason in str(caught.value)
    skipped = []
    assert [e.id for e in read_records(path, on_invalid=skipped.append)] == ["1", "3"]
    assert [error.row for error in skipped] == [2]


def test_malformed_first_line_is_skipped_when_the_format_is_told_by_the_next(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"{oops\n" + LINE)
    skipped = []
    assert [e.id for e in read_records(path, on_invalid=skipped.append)] == ["1"]
    assert [error.row for error in skipped] == [1]


def test_bytes_that_are_not_utf8_in_a_list(tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(b"[" + LINE + b', {"id": "caf\xe9"}, ' + OTHER + b"]")
    skipped = []
    assert [e.id for e in read_records(path, on_invalid=skipped.append)] == ["1", "3"]
    assert 'row 2: field `<row>` is \'{"id": "caf\\udce9"}\': is not UTF-8' in str(skipped[0])


def test_bytes_that_are_not_utf8_in_squad(tmp_path):
    path = write_rows(tmp_path / "bad.json", "squad", [ROWS["squad"](1), ROWS["squad"](2)])
    path.write_bytes(path.read_bytes().replace(b"When?", b"When\xff?", 1))
    skipped = []
    assert [e.id for e in read_records(path, on_invalid=skipped.append)] == ["2"]
    assert "row 1: field `question` is 'When\\udcff?': is not UTF-8 text at character 4" in str(skipped[0])


def test_squad_skips_one_question_and_keeps_its_neighbours(tmp_path):
    article = ROWS["squad"](1)
    article["paragraphs"][0]["qas"].append(
        {"id": "x", "question": "?", "answers": [{"text": "nowhere", "answer_start": 0}]}
    )
    article["paragraphs"].append({"qas": []})
    skipped = []
    path = write_rows(tmp_path / "f", "squad", [article])
    assert [e.id for e in read_records(path, on_invalid=skipped.append)] == ["1"]
    assert [error.field for error in skipped] == ["paragraphs[0].qas[2].answers[0].text", "paragraphs[1].context"]


def corrupt_parquet():
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROWS["records"](1)] * 3), sink)
    return sink.getvalue().to_pybytes()[:-40]


def parquet_of_no_rows():
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROWS["records"](1)]).slice(0, 0), sink)
    return sink.getvalue().to_pybytes()


# Files of which nothing (more) can be trusted: they raise whatever `on_invalid` is.
@pytest.mark.parametrize(
    ("format", "data", "row", "field", "reason"),
    [
        ("auto", b"", 1, "<file>", "is empty"),
        ("auto", b"\xef\xbb\xbf \n\n", 1, "<file>", "is empty"),
        ("auto", gzip.compress(b"", mtime=0), 1, "<file>", "is empty"),
        ("auto", b"[]", 1, "<file>", "is empty"),
        ("auto", b'{"data": []}', 1, "<file>", "is empty"),
        ("squad", b"", 1, "<file>", "is empty"),
        ("auto", parquet_of_no_rows(), 1, "<file>", "is empty"),
        ("auto", b"[" + LINE, 1, "<row>", "expected a comma or the list's end"),
        ("auto", b"[" + LINE + b", {", 2, "<row>", "is not JSON"),
        ("auto", b"[" + LINE + b"]" + LINE, 2, "<file>", "expected nothing after the list"),
        ("squad", LINE, 1, "data", "expected an object whose `data` is a list"),
        ("squad", b'{"data": {}}', 1, "data", "expected an object whose `data` is a list"),
        ("squad", b'{"data": [', 1, "<row>", "is not JSON"),
        ("auto", gzip.compress(LINE, mtime=0)[:-20], 1, "<file>", "the gzip data is cut or corrupt"),
        ("auto", gzip.compress(LINE, mtime=0)[:-8] + b"\0" * 8, 1, "<file>", "the gzip data is cut or corrupt"),
        ("auto", corrupt_parquet(), 1, "<file>", "the Parquet data is cut or corrupt"),
        ("auto", b"PAR1", 1, "<file>", "the Parquet data is cut or corrupt"),
        ("auto", "[1]".encode("utf-16"), 1, "<row>", "is not UTF-8"),
    ],
)
def test_damaged_file(tmp_path, format, data, row, field, reason):
    path = tmp_path / "damaged"
    path.write_bytes(data)
    for on_invalid in (None, [].append):
        with pytest.raises(InvalidRecordError) as caught:
            list(read_records(path, format=format, on_invalid=on_invalid))
        assert (caught.value.file, caught.value.row, caught.value.field) == (str(path), row, field)
        assert reason in str(caught.value)


def test_parquet_row_that_is_not_utf8(tmp_path):
    values = pyarrow.array([b"good", b"b\xffd", b"fine"]).view(pyarrow.binary())
    rows = [ROWS["records"](i) for i in (1, 2, 3)]
    table = pyarrow.Table.from_pylist(rows)
    raw = pyarrow.StringArray.from_buffers(3, *values.buffers()[1:])
    table = table.set_column(table.schema.get_field_index("source"), "source", raw)
    pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
    skipped = []
    assert [e.source for e in read_records(tmp_path / "f.parquet", on_invalid=skipped.append)] == ["good", "fine"]
    assert [error.row for error in skipped] == [2]
    assert "is not UTF-8" in str(skipped[0])


def test_unknown_formats(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b'{"text": "x"}\n{"text": "y"}')
    with pytest.raises(ValueError, match=r"cannot tell the format of .*f: a row holds the fields text; pass format="):
        read_records(path)
    with pytest.raises(ValueError, match="unknown format 'csv'; expected 'auto' or one of musique"):
        read_records(path, format="csv")
    path.write_bytes(b"3\n")
    with pytest.raises(ValueError, match="a row holds 3"):
        read_records(path)
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "none.jsonl")


def test_records_made_in_python_are_checked_too():
    good = LongContextExample("1", "Q", ("a",), (Document("", "text"),), (Evidence(0, 0, 4),))
    assert good.validate() is good
    with pytest.raises(InvalidRecordError, match="field `answers` is 'abc': expected a list of strings"):
        LongContextExample("1", "Q", "abc", ()).validate()
    with pytest.raises(InvalidRecordError, match=r"field `documents\[0\].text` is None: expected a string"):
        LongContextExample("1", "Q", ("a",), (Document("", None),)).validate()
