"""What is told about scores: who counts, in which group, and how two runs differ."""

import json
import re
from dataclasses import replace

import pytest
from docqa_runs import WordsJudge, country_records

from qwenlong_trl.data import Document, LongContextExample
from qwenlong_trl.evaluation import (
    comparison_data,
    markdown_comparison,
    markdown_report,
    print_report,
    report_data,
    score_completions,
    unfinished,
)
from qwenlong_trl.evaluation.tables import report_notes, report_tables
from qwenlong_trl.generation import Completion


RIGHT, WRONG, WORDY = "the answer is {}.", "the answer is Mars.", "the answer is the land of {}."


def run(records, texts, mode="fixed", tokens=None, cut=(), **options):
    """Answers to the records: `texts` by id, with {} for the right answer; an id that is not there has failed."""
    completions = {
        record.id: [Completion(text.format(record.answers[0]), "stop") for text in texts[record.id]]
        for record in records
        if record.id in texts
    }
    answers = score_completions(records, completions, 2, mode, **options)
    prompts = {r.id: {"tokens": (tokens or {}).get(r.id, 100), "truncated": r.id in cut} for r in records}
    return answers, records, {"mode": mode, "prompts": prompts, "failed": {}, "settings": {"model": "m"}}


def test_who_counts():
    records = country_records(4)
    texts = {"r0": [RIGHT, RIGHT], "r1": [RIGHT, ""], "r2": [WRONG, WRONG]}
    fixed = report_data(*run(records, texts, cut=("r0",)))
    assert fixed["score"]["mean"] == 3 / 8 and fixed["score"]["questions"] == 4 and fixed["score"]["answers"] == 8
    official = report_data(*run(records, texts, "official", cut=("r0",)))
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
    effective = data["effective_length"]
    assert (effective["threshold"], effective["tokens"], effective["buckets"]) == (0.5, 4096, 3)
    # Two buckets are right at the threshold: draws of their questions fall below it as often as not.
    assert 0.2 < effective["share"] < 0.7 and effective["interval"] == [None, 4096]
    assert (
        "Of draws of the questions, " in report_notes(data)[2]
        and "(95 % of them none to 4K)." in report_notes(data)[2]
    )
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
    assert report_notes(data)[2] == "Effective length: none, as there is no score."
    assert data["score"]["mean"] is None and data["pass_at_k"] == [] and data["counts"]["failed"] == 4
    assert "| score | – | – | 0 | 0 |" in markdown_report(data)


def test_markdown():
    records = country_records(6)
    texts = {f"r{i}": [RIGHT, WRONG] for i in range(6)}
    answers, _, about = run(records, texts)
    about["settings"] = {"model": "a|b <i>x</i>", "nothing": None}
    page = markdown_report(report_data(answers, records, about))
    assert "| score | 50.0 | " in page and "a\\|b \\<i\\>x\\</i\\>" in page and "nothing" not in page
    for section in page.split("\n## ")[1:-1]:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) > 2 and len({row.count("|") for row in rows}) == 1


def test_what_a_record_says_is_no_markup_and_steers_no_terminal(capsys):
    evil = "![x](http://evil/p.png) \x1b[31mred [a](javascript:alert(1)) `b`"
    records = [replace(record, source=evil) for record in country_records(2)]
    data = report_data(*run(records, {"r0": [RIGHT], "r1": [WRONG]}))
    data["settings"]["judge"] = {"name": evil, "prompt": "p"}
    page = markdown_report(data)
    assert "!\\[x\\](http://evil/p.png)" in page and "\\[a\\](javascript" in page and "\\`b\\`" in page
    assert not re.search(r"(?<!\\)\]\(", page) and "\x1b" not in page
    print_report(data)
    assert "evil" in (out := capsys.readouterr().out) and "\x1b" not in out


def test_prompts_that_were_cut():
    """They neither lengthen the effective length nor say where evidence is found."""
    records = country_records(6)
    texts = {f"r{i}": [RIGHT, RIGHT] for i in range(6)}
    tokens = {f"r{i}": 100 if i < 4 else 3000 for i in range(6)}
    whole, cut = (report_data(*run(records, texts, tokens=tokens, cut=cut)) for cut in ((), ("r5",)))
    assert whole["effective_length"]["tokens"] == 4096 and cut["effective_length"]["tokens"] == 128
    assert [row["truncated"] for row in cut["by_length"]] == [0, 1]
    assert sum(row["questions"] for row in whole["by_depth"]) == 6
    assert sum(row["questions"] for row in cut["by_depth"]) == 5
    assert "| to 4K (1 cut) |" in markdown_report(cut) and "cut)" not in markdown_report(whole)
    assert any("effective length ends before them" in note for note in report_notes(cut))
    first = report_data(*run(records, texts, tokens=tokens, cut=("r0",)))
    assert report_notes(first)[2] == "Effective length: none, as prompts of the shortest bucket were cut."


def test_buckets_with_other_tasks_have_no_effective_length():
    records = country_records(6)
    texts = {f"r{i}": [RIGHT, RIGHT] for i in range(6)}
    data = report_data(*run(records, texts, tokens={f"r{i}": 3000 if i % 2 else 100 for i in range(6)}))
    assert data["effective_length"]["tokens"] is None and data["effective_length"]["buckets"] == 0
    assert report_notes(data)[2].endswith(
        "none, as the buckets hold questions of different tasks, which are not equally hard."
    )


def test_why_questions_have_no_answer():
    answers, records, about = run(country_records(6), {"r0": [RIGHT, RIGHT]})
    refused = [f"BadRequestError: the limit is 4096 tokens, not {n}" for n in (5000, 6123)]
    about["failed"] = dict(zip(["r1", "r2", "r3"], [*refused, "not asked for"], strict=True))
    data = report_data(answers, records, about)
    assert data["failed"] == [
        {"reason": refused[0], "questions": 2, "refused": True},
        {"reason": "not asked for", "questions": 1, "refused": False},
    ]
    assert "- 2 questions without an answer: BadRequestError: the limit is 4096 tokens" in markdown_report(data)
    assert unfinished(data) == ["1 questions have no answer yet, because the model or its server failed"]
    about["failed"] = dict(zip(["r1", "r2"], refused, strict=True))
    assert unfinished(report_data(answers, records, about)) == []


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
    with pytest.raises(ValueError, match="1 of the 1 records .* such as 'r0'.*compare runs over the same suite"):
        comparison_data(ours, run(other, {}))
    longer = [replace(r, documents=(Document("Towns", r.documents[0].text + " filler"),)) for r in records[:3]]
    with pytest.raises(ValueError, match="3 of the 4 records that both runs have are not the same"):
        comparison_data(ours, run([*longer, records[3]], texts))


def test_means_of_a_comparison_are_of_the_same_questions():
    records = country_records(4)
    ours = run(records, {"r0": [RIGHT], "r1": [RIGHT], "r2": [WRONG], "r3": [""]}, "official")
    theirs = run(records, {"r0": [""], "r1": [RIGHT], "r2": [RIGHT], "r3": [WRONG]}, "official")
    data = comparison_data(ours, theirs)
    assert (data["questions"], data["dropped"], data["better"] + data["equal"] + data["worse"]) == (4, 2, 2)
    for row in (data["score"], *data["by_task"], *data["by_length"]):
        assert row["ours"]["mean"] - row["theirs"]["mean"] == pytest.approx(row["difference"]["mean"])
    assert [data["score"][name]["mean"] for name in ("ours", "theirs", "difference")] == [0.5, 1.0, -0.5]
    page = markdown_comparison(data, ("new", "old"))
    assert "2 questions have no answer that counts in one of the runs" in page
    none = comparison_data(run(records, {}, "official"), theirs)
    assert "nothing to compare" in markdown_comparison(none, ("a", "b")) and none["score"]["ours"]["mean"] is None


def test_buckets_of_a_comparison_are_ours():
    records = country_records(4)
    texts = {f"r{i}": [RIGHT, WRONG] for i in range(4)}
    ours, theirs = (run(records, texts, tokens={f"r{i}": tokens for i in range(4)}) for tokens in (100, 3000))
    data = comparison_data(ours, theirs)
    assert [row["name"] for row in data["by_length"]] == ["to 128"] and data["other_lengths"] == 4
    assert "Prompt tokens are those of a; 4 prompts have others" in markdown_comparison(data, ("a", "b"))
    assert "from which no interval of the difference can be had" in markdown_comparison(data, ("a", "b"))
    ours[2]["length_edges"] = [50, 150]
    assert [row["name"] for row in comparison_data(ours, theirs)["by_length"]] == ["to 150"]
