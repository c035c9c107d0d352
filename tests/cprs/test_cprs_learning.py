"""A critic trained from random weights finds what it is asked for, which takes labels and masks that are right."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(Path(__file__).parents[2] / "examples" / "cprs_learning.py"), run_name="example")


@pytest.fixture(scope="module")
def found(example):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield example["learn"](example["QUICK"], eval_records=48, seed=0)
    torch.set_num_threads(threads)


def recall(results, name: str, budget: float) -> float:
    return float(np.mean([one.at[budget].evidence_recall for one in results[name]]))


def test_records_are_what_they_say(example):
    record = example["make_record"](people=5, seed="a", asked=2).validate()
    assert record == example["make_record"](people=5, seed="a", asked=2)
    assert record != example["make_record"](people=5, seed="b", asked=2)
    texts = [record.evidence_text(span) for span in record.evidence]
    assert len(texts) == 4 and len(record.answers) == 2
    for owns, stands in zip(texts[::2], texts[1::2], strict=True):
        assert owns.split()[0] in record.question
        assert set(stands.lower().rstrip(".").split()) & set(record.question.lower().rstrip("?").split()) == {"in"}
        assert stands.removeprefix("It stands in ").rstrip(".") in record.answers


def test_the_tokenizer_knows_every_word(example):
    tokenizer = example["make_tokenizer"]()
    for record in example["make_records"](20, (3, 32), "words", 128):
        texts = [record.question, *(document.text for document in record.documents)]
        ids = [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        assert tokenizer.unk_token_id not in ids


@pytest.mark.slow
def test_the_trained_critic_finds_what_chance_and_the_untrained_one_do_not(found):
    results = found["As long as in training"]
    trained = recall(results, "critic", 0.2)
    assert trained > recall(results, "random", 0.2) + 0.25
    assert trained > recall(results, "untrained critic", 0.2) + 0.25


@pytest.mark.slow
def test_the_tables_have_all_rows(example, found, capsys):
    for title, results in found.items():
        example["print_tables"](title, results)
    lines = capsys.readouterr().out.splitlines()
    for name in ("critic", "untrained critic", "bm25", "first", "random"):
        assert sum(line.startswith(f"| {name} |") for line in lines) == 2
    for name in ("untrained critic", "bm25", "first", "random"):
        assert sum(line.startswith(f"| critic − {name} |") for line in lines) == 2
