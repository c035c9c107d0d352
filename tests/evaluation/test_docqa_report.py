"""What is told about scores: who counts, in which group, and how two runs differ."""

import json

import pytest
from docqa_runs import WordsJudge, country_records

from qwenlong_trl.data import LongContextExample
from qwenlong_trl.evaluation import (
    comparison_data,
    markdown_comparison,
    markdown_report,
    report_data,
    score_completions,
)
from qwenlong_trl.evaluation.tables import report_notes, report_tables
from qwenlong_trl.generation import Completion


RIGHT, WRONG, WORDY = "the answer is {}.", "the answer is Mars.", "the answer is the land of {}."


def run(records, texts, mode="fixed", tokens=None, **options):
    """Answers to the records: `texts` by id, with {} for the right answer; an id that is not there has failed."""
    completions = {
        record.id: [Completion(text.format(record.answers[0]), "stop") for text in texts[record.id]]
        for record in records
        if record.id in texts
    }
    answers = score_completions(records, completions, 2, mode, **options)
    prompts = {r.id: {"tokens": (tokens or {}).get(r.id, 100), "truncated": r.id == "r0"} for r in records}
    return answers, records, {"mode": mode, "prompts": prompts, "failed": {}, "settings": {"model": "m"}}


def test_who_counts():
    records = country_records(4)
    texts = {"r0": [RIGHT, RIGHT], "r1": [RIGHT, ""], "r2": [WRONG, WRONG]}
    fixed = report_data(*run(records, texts))
    assert fixed["score"]["mean"] == 3 / 8 and fixed["score"]["questions"] == 4 and fixed["score"]["answers"] == 8
    official = report_data(*run(records, texts, "official"))
    assert official["score"]["mean"] == 3 / 5 and official["score"]["questions"] == 3
    assert official["counts"]["left_out"] == 3 and fixed["counts"]["left_out"] == 0
    for data in (fixed, official):
        assert (data["counts"]["failed"], data["counts"]["empty"], data["counts"]["truncated_prompts"]) == (2, 1, 1)
        assert json.loads(json.dumps(data)) == data


def test_rule_and_judge_apart():
    records = country_records(4)
    texts = {"r0": [RIGHT, RIGHT], "r1": [WORDY, WORDY], "r2": [WRONG, WRONG], "r3": [RIGHT, WORDY]}
    some = report_data(*run(records, texts, judge=WordsJudge()))
    assert some["score"]["mean"] == 6 / 8 and some["rule"]["mean"] == 3 / 8 and some["judge"] is None
    assert some["counts"]["judged"] == 5 and some["counts"]["accepted_by_judge_alone"] == 3
    every = report_data(*run(records, texts, judge=WordsJudge(), judge_all=True))
    assert every["score"] == some["score"] and every["judge"]["mean"] == 6 / 8
    failed = report_data(*run(records, texts, judge=WordsJudge(fails=True), judge_all=True))
    assert failed["score"]["mean"] == 3 / 8 and failed["counts"]["without_verdict"] == 8
    assert failed["judge"]["mean"] == 0


def test_groups():
    records = country_records(10)
    right = {0, 2, 4, 6, 8, 1}
    texts = {f"r{i}": [RIGHT if i in right else WRONG] * 2 for i in range(10)}
    tokens = {f"r{i}": 100 if i < 4 else 200 if i < 8 else 3000 for i in range(10)}
    answers, _, about = run(records, texts, tokens=tokens)
    data = report_data(answers, records, about, threshold=0.5)
    assert [(row["task"], row["mean"]) for row in data["by_task"]] == [("cities", 1.0), ("towns", 0.2)]
    assert data["average"]["mean"] == 0.6 and data["average"]["tasks"] == 2
    low, high = data["average"]["interval"]
    assert 0.5 <= low < 0.6 < high <= 0.9  # of one task all are right
    by_length = [(row["name"], row["low"], row["high"], row["mean"], row["questions"]) for row in data["by_length"]]
    assert by_length == [("to 128", 64, 128, 0.75, 4), ("to 256", 128, 256, 0.5, 4), ("to 4K", 2048, 4096, 0.5, 2)]
    assert data["effective_length"] == {"threshold": 0.5, "tokens": 4096}
    assert sum(row["questions"] for row in data["by_task_and_length"]) == 10
    assert sum(row["questions"] for row in data["by_depth"]) == 10
    assert [point["mean"] for point in data["pass_at_k"]] == [0.6, 0.6]
    edges = report_data(answers, records, about, length_edges=[150, 1000])
    assert [row["name"] for row in edges["by_length"]] == ["to 150", "to 1,000", "above 1,000"]
    assert edges["effective_length"]["tokens"] is None


def test_without_evidence_or_source():
    records = [LongContextExample(f"r{i}", "q", ("a",), ()) for i in range(2)]
    data = report_data(*run(records, {"r0": ["a", "b"], "r1": ["a", "a"]}))
    assert data["by_depth"] == [] and [row["task"] for row in data["by_task"]] == ["docqa"]
    assert [table.title for table in report_tables(data)] == ["Score", "By task", "By prompt tokens", "Pass@k"]


def test_nothing_was_answered():
    data = report_data(*run(country_records(2), {}, "official"))
    assert data["score"]["mean"] is None and data["pass_at_k"] == [] and data["counts"]["failed"] == 4
    assert "| score | – | – | 0 | 0 |" in markdown_report(data)


def test_markdown():
    records = country_records(6)
    texts = {f"r{i}": [RIGHT, WRONG] for i in range(6)}
    answers, _, about = run(records, texts)
    about["settings"] = {"model": "a|b <i>x</i>", "nothing": None}
    page = markdown_report(report_data(answers, records, about))
    assert "| score | 50.0 | " in page and "a\\|b &lt;i>x&lt;/i>" in page and "nothing" not in page
    for section in page.split("\n## ")[1:-1]:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) > 2 and len({row.count("|") for row in rows}) == 1


def test_notes_speak_of_what_happened():
    data = report_data(*run(country_records(4), {"r0": [RIGHT, ""]}))
    notes = " ".join(report_notes(data))
    assert "6 answers are missing" in notes and "1 answers are empty" in notes and "there was no judge" in notes
    assert "The judge" not in notes


def test_comparison():
    records = country_records(8)
    ours = run(records, {f"r{i}": [RIGHT, RIGHT if i % 2 else WRONG] for i in range(8)})
    theirs = run(records[2:], {f"r{i}": [RIGHT, WRONG] for i in range(2, 8)})
    theirs[2]["settings"] = {"model": "n", "judge": {"name": "j"}}
    data = comparison_data(ours, theirs)
    assert data["settings"] == {"model": ["m", "n"], "judge": [None, {"name": "j"}]}
    assert (data["questions"], data["only_ours"], data["only_theirs"]) == (6, 2, 0)
    assert (data["better"], data["equal"], data["worse"]) == (3, 3, 0)
    assert data["score"]["difference"]["mean"] == pytest.approx(0.25)
    assert [row["difference"]["mean"] for row in data["by_task"]] == [0.0, 0.5]
    back = comparison_data(theirs, ours)
    assert back["score"]["difference"]["mean"] == pytest.approx(-0.25) and back["worse"] == 3
    page = markdown_comparison(data, ("new", "old"))
    assert "new is better on 3 questions, worse on 0, equal on 3" in page and "| all | 75.0 | 50.0 | +25.0 |" in page
    assert "2 questions are only in new" in page and "The runs differ in model, judge." in page
    assert "not judged alike" in page and "not judged alike" not in markdown_comparison(
        comparison_data(ours, ours), ("new", "new")
    )


def test_runs_that_cannot_be_compared():
    records = country_records(4)
    texts = {f"r{i}": [RIGHT, RIGHT] for i in range(4)}
    ours = run(records, texts)
    with pytest.raises(ValueError, match="no record in common"):
        comparison_data(ours, run([LongContextExample("x", "q", ("a",), ())], {}))
    with pytest.raises(ValueError, match="different modes, fixed and official"):
        comparison_data(ours, run(records, texts, "official"))
    other = [LongContextExample("r0", "another question", ("a",), ())]
    with pytest.raises(ValueError, match="'r0' asks something else"):
        comparison_data(ours, run(other, {}))
