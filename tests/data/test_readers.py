import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.data import Document, InvalidRecordError, LongContextExample, read_records, render_prompt
from qwenlong_trl.data.readers.fields import find_spans, merge
from qwenlong_trl.data.readers.squad import locate_answer

from .rows import ROWS, docqa_rl_row, hotpotqa_row, musique_row, nq_open_row, records_row, squad_article, write_rows


def evidence_texts(example):
    return [example.evidence_text(span) for span in example.evidence]


def read_one(path, format, row, **kwargs):
    (example,) = read_records(write_rows(path / "file", format, [row]), **kwargs)
    return example


# Made-up files


@pytest.mark.parametrize("format", list(ROWS))
@pytest.mark.parametrize("explicit", [True, False])
def test_every_format_by_name_and_by_content(tmp_path, format, explicit):
    path = write_rows(tmp_path / "no_suffix", format, [ROWS[format](1), ROWS[format](2)])
    found = list(read_records(path, format=format if explicit else "auto"))
    assert len(found) == len({example.id for example in found}) == 2
    assert all(isinstance(example, LongContextExample) and example.source for example in found)


@pytest.mark.parametrize("format", list(ROWS))
def test_gzip_byte_order_mark_and_blank_lines(tmp_path, format):
    path = write_rows(tmp_path / "plain", format, [ROWS[format](1), ROWS[format](2)])
    data = path.read_bytes()
    data = b"\xef\xbb\xbf\n" + (gzip.decompress(data) if format == "nq_open" else data) + b"\n\n"
    marked, packed = tmp_path / "marked.txt", tmp_path / "packed.json"
    marked.write_bytes(data)
    packed.write_bytes(gzip.compress(data))
    expected = [e.question for e in read_records(path)]
    assert [e.question for e in read_records(marked)] == [e.question for e in read_records(packed)] == expected


def test_musique(tmp_path):
    example = read_one(tmp_path, "musique", musique_row())
    assert example.answers == ("Warsaw", "Warszawa")
    assert evidence_texts(example) == ["marie  curie", "Warsaw", "Warsaw", "It says so in other words."]
    assert example.evidence_documents == (0, 2, 3)
    assert example.documents[1] == Document("Noise", "Nothing to see.")


def test_musique_hop_that_is_not_verbatim_takes_its_paragraph(tmp_path):
    row = musique_row()
    row["question_decomposition"][0]["answer"] = "Mme Curie"
    assert evidence_texts(read_one(tmp_path, "musique", row))[0] == row["paragraphs"][0]["paragraph_text"]


def test_musique_leaves_out_unanswerable(tmp_path):
    rows = [musique_row(1), musique_row(2) | {"answerable": False}]
    path = write_rows(tmp_path / "f", "musique", rows)
    assert [e.id for e in read_records(path)] == ["2hop__1"]
    path = write_rows(tmp_path / "g", "musique", rows[1:])
    with pytest.raises(InvalidRecordError, match="holds no answerable question"):
        list(read_records(path))


def test_hotpotqa(tmp_path):
    example = read_one(tmp_path, "hotpotqa", hotpotqa_row())
    assert example.documents[0].text == "Alien is a film. It came out in 1979. "
    assert example.documents[1].text == "He is British.He made Alien."
    assert evidence_texts(example) == ["Alien is a film.", "He made Alien."]


sentence = st.text(alphabet="ab \n", max_size=6)


@given(st.lists(sentence, min_size=1, max_size=6), st.data())
def test_hotpotqa_sentences_are_exact_spans(tmp_path_factory, sentences, data):
    index = data.draw(st.integers(0, len(sentences) - 1))
    row = hotpotqa_row() | {"context": [["T", sentences]], "supporting_facts": [["T", index]]}
    example = read_one(tmp_path_factory.mktemp("hotpot"), "hotpotqa", row)
    assert evidence_texts(example) == ([sentences[index].strip()] if sentences[index].strip() else [])
    assert example.documents[0].text == "".join(sentences)


def test_nq_open(tmp_path):
    example = read_one(tmp_path, "nq_open", nq_open_row())
    assert evidence_texts(example) == ["Marie Curie", "Curie"]  # the alias inside the name merges, "Curies" is no hit
    assert example.evidence_documents == (1,)
    row = nq_open_row()
    row["ctxs"][1]["text"] = "in other words"
    assert evidence_texts(read_one(tmp_path, "nq_open", row)) == ["in other words"]


def test_squad(tmp_path):
    example = read_one(tmp_path, "squad", squad_article(7))  # the impossible question is left out
    assert (example.id, example.answers, evidence_texts(example)) == ("7", ("1983",), ["1983"])
    assert example.documents[0].title == "Virus"


@pytest.mark.parametrize(
    ("text", "start", "span"),
    [
        ("virus", 4, (4, 9)),
        (" virus", 4, (4, 9)),  # COVID-QA: a leading blank, the offset of the letter
        (" virus", 3, (4, 9)),
        ("virus", 6, (4, 9)),
        ("virus", 20, (15, 20)),  # nearest
        ("big virus", 9, (11, 20)),  # other white space
        ("spread", 900, (21, 27)),  # its only occurrence
    ],
)
def test_squad_offsets_are_repaired(text, start, span):
    assert locate_answer("The virus. big\nvirus spread", text, start) == span


def test_squad_offsets_are_never_guessed():
    context = "one 1 and two 1 " + "x" * 100
    with pytest.raises(InvalidRecordError, match="stands 2 times in the paragraph"):
        locate_answer(context, "1", 90)
    with pytest.raises(InvalidRecordError, match=r"`answers\[0\].text` is 'three': does not stand in the paragraph"):
        locate_answer(context, "three", 3)


@given(st.text(alphabet="ab c", min_size=1, max_size=30), st.data())
def test_a_true_offset_is_kept(context, data):
    start = data.draw(st.integers(0, len(context) - 1))
    text = context[start : data.draw(st.integers(start + 1, len(context)))]
    if text.strip():
        found = locate_answer(context, text, start)
        assert context[slice(*found)] == text.strip()
        if not text[0].isspace():
            assert found[0] == start


def test_docqa_rl(tmp_path):
    example = read_one(tmp_path, "docqa_rl", docqa_rl_row())
    assert example.question == "What is it?"
    assert example.documents == (Document("", "Line one.\n</text>\n\nWhat is it? not yet\nThe end."),)
    assert (example.answers, example.task, example.source) == (("Norway",), "docqa", "docqa_rl/musique_0_20000")
    assert render_prompt(example) == docqa_rl_row()["prompt"][0]["content"]


@pytest.mark.parametrize("known", [True, False])
@given(
    context=st.text(min_size=1, max_size=30).filter(str.strip),
    question=st.sampled_from(["Q?", "What does </text> mean?", "Format your response as follows: how?"]),
)
def test_docqa_rl_inverts_the_template(tmp_path_factory, known, context, question):
    hostile = f"{context}\n</text>\n\nFormat your response as follows: {context}"
    example = LongContextExample("1", question, ("a",), (Document("", hostile),))
    row = docqa_rl_row()
    row["prompt"][0]["content"] = render_prompt(example)
    row["extra_info"] = {"input_question": question} if known else None
    if not known and "</text>" in question:
        return  # undecidable without the question
    found = read_one(tmp_path_factory.mktemp("rl"), "docqa_rl", row)
    assert found.documents[0].text == hostile.strip()
    assert found.question == question


@pytest.mark.parametrize(
    ("ability", "source", "gold", "task", "answers"),
    [
        ("doc-qa", "musique_0_20000", "Therefore, the answer is **St. Louis**.", "docqa", ("St. Louis",)),
        ("doc-math", "docmath_0_20000", "Therefore, the answer is -6.449", "docmath", ("-6.449",)),
        ("", "docmath_40000_plus", "Therefore, the answer is True.", "docmath", ("True",)),
        ("doc-mc", "x", "The correct answer is (C).", "multiple_choice", ("C",)),
        (None, "long_toc_choices_0_20000", "The correct answer is B", "multiple_choice", ("B",)),
        ("doc-mc", "x", "D", "multiple_choice", ("D",)),
        ("", "multihoprag_0_20000", ["Norway", "Therefore, the answer is Norge."], "docqa", ("Norway", "Norge")),
    ],
)
def test_docqa_rl_tasks_and_golds(tmp_path, ability, source, gold, task, answers):
    row = docqa_rl_row() | {"ability": ability, "data_source": source, "reward_model": {"ground_truth": gold}}
    example = read_one(tmp_path, "docqa_rl", row)
    assert (example.task, example.answers) == (task, answers)


def test_docqa_rl_parquet(tmp_path):
    table = pyarrow.Table.from_pylist([docqa_rl_row(i) for i in range(1, 131)])
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    found = list(read_records(tmp_path / "train.parquet"))
    assert [e.id for e in found] == [f"docqa_rl/{i}" for i in range(1, 131)]
    assert found[-1].answers == ("Norway",)


def test_a_large_list_is_read_item_by_item(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([records_row(1), records_row(2)])[:-1] + ", {")
    rows = read_records(path)
    assert [next(rows).id, next(rows).id] == ["1", "2"]
    with pytest.raises(InvalidRecordError, match="row 3"):
        next(rows)


def test_line_separators_inside_strings_do_not_split_rows(tmp_path):
    row = records_row() | {"question": "a\u2028b\x85c"}
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert [e.question for e in read_records(path)] == ["a\u2028b\x85c"]


def test_find_spans_and_merge():
    assert find_spans("Curie, CURIE and Curies", "curie") == [(0, 5), (7, 12)]
    assert find_spans("a.b (c+)", "(c+)") == [(4, 8)]
    assert find_spans("anything", "  ") == []
    assert merge([]) == ()


# The real files


def span_words(example):
    return [" ".join(text.split()).casefold() for text in evidence_texts(example)]


def test_real_musique(shared_data):
    path = Path(shared_data) / "musique.jsonl"
    examples, rows = list(read_records(path)), [json.loads(line) for line in path.open()]
    assert len(examples) == len(rows) == 60
    for example, row in zip(examples, rows, strict=True):
        assert len(example.documents) == 20
        assert example.evidence_documents == tuple(i for i, p in enumerate(row["paragraphs"]) if p["is_supporting"])
        answers = {" ".join(hop["answer"].split()).casefold() for hop in row["question_decomposition"]}
        for span, words in zip(example.evidence, span_words(example), strict=True):
            assert words in answers or example.evidence_text(span) == example.documents[span.document].text
    assert sum(len(e.evidence) for e in examples) == 178


def test_real_hotpotqa(shared_data):
    path = Path(shared_data) / "hotpotqa.json"
    examples, rows = list(read_records(path)), json.loads(path.read_text())
    assert len(examples) == len(rows) == 60
    for example, row in zip(examples, rows, strict=True):
        context = dict(row["context"])
        assert [d.text for d in example.documents] == ["".join(sentences) for _, sentences in row["context"]]
        expected = sorted(context[title][i].strip() for title, i in row["supporting_facts"])
        assert sorted(evidence_texts(example)) == expected


def test_real_nq_open(shared_data):
    examples = list(read_records(Path(shared_data) / "nq-open-oracle.jsonl.gz"))
    assert len(examples) == 2000
    whole = 0
    for example in examples:
        assert example.evidence_documents == (0,)
        answers = [" ".join(answer.split()).casefold() for answer in example.answers]
        for span, words in zip(example.evidence, span_words(example), strict=True):
            is_whole = example.evidence_text(span) == example.documents[0].text
            whole += is_whole
            assert is_whole or any(answer in words for answer in answers)
    assert whole < 100


@pytest.mark.parametrize(("name", "articles", "repaired"), [("covidqa.json", 60, 129), ("xquad.zh.json", 24, 0)])
def test_real_squad(shared_data, name, articles, repaired):
    path = Path(shared_data) / name
    examples, data = list(read_records(path)), json.loads(path.read_text())["data"]
    questions = [(p, qa) for article in data for p in article["paragraphs"] for qa in p["qas"]]
    assert len(data) == articles
    assert [e.id for e in examples] == [str(qa["id"]) for _, qa in questions]
    off = 0
    for example, (paragraph, qa) in zip(examples, questions, strict=True):
        (answer,) = qa["answers"]
        start, text = answer["answer_start"], answer["text"]
        off += paragraph["context"][start : start + len(text)] != text
        (span,) = example.evidence
        assert span.start == start
        assert example.evidence_text(span) == text.strip() == example.answers[0]
    assert off == repaired


def test_real_unknown_format_says_so(shared_data):
    with pytest.raises(
        ValueError, match=r"cannot tell the format of .*loong\.jsonl: a row holds the fields answer, doc"
    ):
        read_records(Path(shared_data) / "loong" / "loong.jsonl")
