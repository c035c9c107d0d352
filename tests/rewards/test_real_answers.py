"""Strict scoring on the answers of public data sets: each one counts in the template, another question's does not."""

import gzip
import json

import pytest

from qwenlong_trl.rewards import normalize_answer, score_docmath, score_docqa


def _nq(folder):
    with gzip.open(folder / "nq-open-oracle.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["answers"] for line in file]


def _musique(folder):
    rows = [json.loads(line) for line in (folder / "musique.jsonl").read_text(encoding="utf-8").splitlines()]
    return [[row["answer"], *row.get("answer_aliases", [])] for row in rows]


def _xquad_chinese(folder):
    articles = json.loads((folder / "xquad.zh.json").read_text(encoding="utf-8"))["data"]
    questions = [qa for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    return [[answer["text"] for answer in qa["answers"]] for qa in questions]


@pytest.mark.parametrize("read", [_nq, _musique, _xquad_chinese])
def test_answers_of_a_data_set(read, shared_data):
    rows = read(shared_data)
    assert len(rows) >= 60
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        for answer in filter(normalize_answer, row):  # one of the answers is "*", which has no letter and no digit
            for completion in (
                f"Therefore, the answer is {answer}.",
                f"<think>?</think>答案是（{answer}）。",
                f"\\boxed{{{answer}}}",
            ):
                assert score_docqa(completion, row).score == 1, (completion, row)
                assert score_docmath(completion, [answer]).score == 1, (completion, answer)
        different = not {normalize_answer(answer) for answer in row} & {normalize_answer(answer) for answer in other}
        assert score_docqa(f"Therefore, the answer is {other[0]}.", row).score == (not different)
