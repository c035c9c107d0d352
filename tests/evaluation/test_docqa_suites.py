"""Suites: the synthetic one, files, and rows of the public sets in the shape that the authors' scripts read."""

import json
import zipfile
from collections import Counter

import pytest
from docqa_runs import country_records
from tiny import tiny_tokenizer

from qwenlong_trl.data import InvalidRecordError, render_prompt, write_records
from qwenlong_trl.data.synthesize import SYNTHETIC_TASKS
from qwenlong_trl.evaluation import EvaluationProtocol, evidence_fifths, load_suite, protocol_prompt, spread_sample
from qwenlong_trl.evaluation.public import docmath_row, frames_row, in_prompts, longbench_row


LONGBENCH = {
    "input": " Who wrote it? ",
    "context": "\nPassage 1:\nA book.\n\nPassage 2:\nBy Ann. ",
    "answers": ["Ann", "", "Ann Lee", "Ann"],
    "length": 8,
    "dataset": "2wikimqa",
    "language": "en",
    "all_classes": None,
    "_id": "ab12",
}
FRAMES = {
    "Unnamed: 0": 0,
    "Prompt": "How old was she?",
    "Answer": 37,
    "wiki_items": [{"title": "Jane", "text": "Born 1900.\n"}, {"title": "Ann", "text": " Died 1937.", "link": "x"}],
}
DOCMATH = {
    "question_id": "complong-testmini-0",
    "question": "What is the sum?",
    "paragraphs": ["| a | 1 |", "", "Costs were 2. "],
    "table_evidence": [0],
    "paragraph_evidence": [2, 0],
    "python_solution": "1 + 2",
    "ground_truth": 6.449,
}
PROMPT = (
    "Please read the following text and answer the question below.\n\n"
    "<text>\n{}\n</text>\n\n{}\n\nFormat your response as follows:"
)


def released_prompt(context: str, question: str) -> str:
    """As the released scripts fill the template in."""
    return PROMPT.format(context.strip(), question.strip())


def test_longbench_row():
    record = longbench_row(LONGBENCH, 3, "2wiki")
    assert (record.id, record.answers, record.task, record.source) == (
        "2wiki/ab12",
        ("Ann", "Ann Lee"),
        "docqa",
        "2wiki",
    )
    assert render_prompt(record).startswith(released_prompt(LONGBENCH["context"], LONGBENCH["input"]))
    assert longbench_row({**LONGBENCH, "_id": None}, 3, "2wiki").id == "2wiki/3"


def test_frames_row():
    record = frames_row(FRAMES, 5)
    assert (record.id, record.answers, record.source) == ("frames/5", ("37",), "frames")
    context = "\n".join(f"{item['title']}\n{item['text']}" for item in FRAMES["wiki_items"])
    assert render_prompt(record).startswith(released_prompt(context, FRAMES["Prompt"]))


def test_docmath_row():
    record = docmath_row(DOCMATH, 1, "complong")
    assert record.id == "docmath/complong/complong-testmini-0"
    assert (record.answers, record.task, record.source) == (("6.449",), "docmath", "docmath")
    assert render_prompt(record).startswith(released_prompt("\n".join(DOCMATH["paragraphs"]), DOCMATH["question"]))
    assert [record.evidence_text(span) for span in record.evidence] == ["| a | 1 |", "Costs were 2. "]
    assert evidence_fifths(record) == (0, 3)
    # Evidence that was not verified is not needed: strings, numbers of no paragraph, empty paragraphs.
    other = {**DOCMATH, "table_evidence": ["0", 7, 1], "paragraph_evidence": None, "ground_truth": True}
    assert docmath_row(other, 1).evidence == () and docmath_row(other, 1).answers == ("True",)


@pytest.mark.parametrize(
    ("convert", "row", "change", "field"),
    [
        (longbench_row, LONGBENCH, {"answers": "Ann"}, "answers"),
        (longbench_row, LONGBENCH, {"answers": [" "]}, "answers"),
        (longbench_row, LONGBENCH, {"context": None}, "context"),
        (frames_row, FRAMES, {"wiki_items": [{"title": "Jane"}]}, "wiki_items[0].text"),
        (frames_row, FRAMES, {"wiki_items": "Jane"}, "wiki_items"),
        (frames_row, FRAMES, {"Answer": None}, "Answer"),
        (docmath_row, DOCMATH, {"paragraphs": ["a", 1]}, "paragraphs[1]"),
        (docmath_row, DOCMATH, {"ground_truth": [1]}, "ground_truth"),
        (docmath_row, DOCMATH, {"question": " "}, "question"),
    ],
)
def test_rows_of_another_shape(convert, row, change, field):
    options = {"name": "2wiki"} if convert is longbench_row else {}
    with pytest.raises(InvalidRecordError) as caught:
        convert({**row, **change}, 1, **options)
    assert caught.value.field == field


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_longbench_in_a_folder_and_in_its_archive(tmp_path):
    rows = [{**LONGBENCH, "_id": f"id{i}"} for i in range(3)]
    write_lines(tmp_path / "plain" / "LongBench" / "data" / "2wikimqa.jsonl", rows)
    write_lines(tmp_path / "plain" / "LongBench" / "data" / "2wikimqa_e.jsonl", rows[:1])
    (tmp_path / "packed").mkdir()
    with zipfile.ZipFile(tmp_path / "packed" / "data.zip", "w") as archive:
        archive.write(tmp_path / "plain" / "LongBench" / "data" / "2wikimqa.jsonl", "data/2wikimqa.jsonl")
    plain = load_suite("2wiki", folder=tmp_path / "plain")
    assert [record.id for record in plain] == ["2wiki/id0", "2wiki/id1", "2wiki/id2"]
    assert load_suite("2wiki", folder=tmp_path / "packed") == plain
    with pytest.raises(ValueError, match="no file qasper.jsonl in or below"):
        load_suite("qasper", folder=tmp_path / "packed")


def test_frames_in_a_folder(tmp_path):
    write_lines(tmp_path / "frames" / "test.jsonl", [FRAMES, {**FRAMES, "Answer": "old"}])
    write_lines(tmp_path / "another" / "test.jsonl", [{}])
    assert [r.answers for r in load_suite("frames", folder=tmp_path)] == [("37",), ("old",)]
    write_lines(tmp_path / "frames" / "test.jsonl", [FRAMES, {**FRAMES, "Prompt": 7}])
    with pytest.raises(InvalidRecordError, match=r"frames/test.jsonl, row 2: field `Prompt` is 7: expected a string"):
        load_suite("frames", folder=tmp_path)


def test_docmath_is_what_the_chosen_prompts_ask(tmp_path):
    rows = [{**DOCMATH, "question_id": f"q{i}", "question": f"What is sum number {i}?"} for i in range(4)]
    for subset in ("complong", "compshort", "simplong", "simpshort"):
        write_lines(tmp_path / f"{subset}_testmini.jsonl", rows)
    context = "\n".join(DOCMATH["paragraphs"])
    prompts = [released_prompt(context, "What is sum number 2?"), released_prompt("other", "What is sum number 1?")]
    chosen = [{"prompt": [{"role": "user", "content": prompt}]} for prompt in prompts]
    write_lines(tmp_path / "docmath_all_test_200.jsonl", chosen)
    found = [record.id for record in load_suite("docmath", folder=tmp_path)]
    assert found == [f"docmath/{subset}/q2" for subset in ("complong", "compshort", "simplong", "simpshort")]
    assert in_prompts(docmath_row(rows[2], 1), prompts) and not in_prompts(docmath_row(rows[1], 1), prompts)
    write_lines(tmp_path / "docmath_all_test_200.jsonl", [chosen[0], {"prompt": []}])
    with pytest.raises(InvalidRecordError, match="docmath_all_test_200.jsonl, row 2: field `prompt`"):
        load_suite("docmath", folder=tmp_path)
    write_lines(tmp_path / "docmath_all_test_200.jsonl", chosen[1:])
    with pytest.raises(ValueError, match="none of its prompts asks a question"):
        load_suite("docmath", folder=tmp_path)


def test_ids_stand_once(tmp_path):
    write_lines(tmp_path / "qasper.jsonl", [LONGBENCH, LONGBENCH])
    with pytest.raises(InvalidRecordError, match="stands in two rows"):
        load_suite("qasper", folder=tmp_path)


def test_without_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="cannot load frames from the Hub .*--suite_folder.*--suite synthetic"):
        load_suite("frames")


def test_files(tmp_path):
    records = country_records(4)
    write_records(records, tmp_path / "mine.parquet")
    assert load_suite(str(tmp_path / "mine.parquet")) == records
    with pytest.raises(ValueError, match="'framez' is neither a file nor a suite; the suites are synthetic, docmath"):
        load_suite("framez")


def test_the_synthetic_suite_fits_its_lengths():
    tokenizer = tiny_tokenizer()
    records = load_suite("synthetic", lengths=[1024, 512], per_length=3, tokenizer=tokenizer)
    assert len({record.id for record in records}) == len(records) == 24
    assert Counter(r.source for r in records) == {f"synthetic/{task}": 6 for task in SYNTHETIC_TASKS}
    protocol = EvaluationProtocol(chat=False)
    tokens = [protocol_prompt(record, tokenizer, protocol).tokens for record in records]
    assert all(256 < n <= 512 for n in tokens[:12]) and all(768 < n <= 1024 for n in tokens[12:])
    assert records == load_suite("synthetic", lengths=[512, 1024], per_length=3, tokenizer=tokenizer)
    assert records[:12] != load_suite("synthetic", lengths=[512], per_length=3, seed=1, tokenizer=tokenizer)
    assert all(evidence_fifths(record) for record in records)


def test_a_long_template_is_part_of_the_length():
    """Few-shot templates, and chat templates with a system prompt, take their part of it."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}" + "w4 " * 200 + "{{ m['content'] }} {% endfor %}w3"
    protocol = EvaluationProtocol(template="w5 " * 300 + "$DOC$ $Q$")
    records = load_suite("synthetic", lengths=[1024, 2048], per_length=3, tokenizer=tokenizer, protocol=protocol)
    tokens = [protocol_prompt(record, tokenizer, protocol).tokens for record in records]
    assert all(768 < n <= 1024 for n in tokens[:12]) and all(1536 < n <= 2048 for n in tokens[12:])
    with pytest.raises(ValueError, match=r"at least 6\d\d tokens, got 600"):
        load_suite("synthetic", lengths=[600], per_length=3, tokenizer=tokenizer, protocol=protocol)


def test_questions_longer_than_those_that_were_measured(monkeypatch):
    """The allowance grows until the prompts fit."""
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr("qwenlong_trl.evaluation.suites._MEASURED", 1)
    monkeypatch.setattr("qwenlong_trl.evaluation.suites._SEAMS", 0)
    protocol = EvaluationProtocol(chat=False)
    records = load_suite("synthetic", lengths=[512], per_length=40, tokenizer=tokenizer, protocol=protocol)
    tokens = [protocol_prompt(record, tokenizer, protocol).tokens for record in records]
    assert len(records) == 160 and max(tokens) <= 512


def test_a_limit_spreads_over_tasks_and_lengths():
    tokenizer = tiny_tokenizer()
    records = load_suite("synthetic", lengths=[512, 1024], per_length=4, tokenizer=tokenizer)
    lengths = [i // 16 for i in range(32)]
    place = {record.id: i for i, record in enumerate(records)}
    samples = [spread_sample(records, count, 0, lengths) for count in range(1, 33)]
    for count, (sample, larger) in enumerate(zip(samples, [*samples[1:], records], strict=True), start=1):
        assert len(sample) == count and {r.id for r in sample} <= {r.id for r in larger}
        assert [place[r.id] for r in sample] == sorted(place[r.id] for r in sample)
        for parts, of in ((4, lambda r: r.source), (2, lambda r: lengths[place[r.id]])):
            counts = Counter(map(of, sample))
            assert len(counts) == min(parts, count) and max(counts.values()) - min(counts.values()) <= 2
    assert Counter((r.source, lengths[place[r.id]]) for r in samples[7]) == Counter(
        {(f"synthetic/{task}", step): 1 for task in SYNTHETIC_TASKS for step in (0, 1)}
    )
    assert spread_sample(records, 8, 1, lengths) != samples[7] == spread_sample(records, 8, 0, lengths)
    assert spread_sample(records, None) == records == spread_sample(records, 99)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": [120]}, "at least 1.. tokens, got 120"),
        ({"lengths": []}, "at least one number"),
        ({"lengths": [1024, 1024]}, "each once"),
        ({"per_length": 0}, "per_length must be at least 1"),
    ],
)
def test_wrong_lengths(options, message):
    with pytest.raises(ValueError, match=message):
        load_suite("synthetic", **options)
