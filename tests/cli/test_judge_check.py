"""`qwenlong-trl judge-check`, and the judge's options of a training, against a server."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from fault_server import FaultServer
from runs_cli import save_records, train
from tiny import save_tiny

from qwenlong_trl.cli.judge_check import read_pairs
from qwenlong_trl.cli.judges import try_judge
from qwenlong_trl.cli.main import main
from qwenlong_trl.rewards import OpenAIJudge, TransformersJudge


PAIRS = Path(__file__).parents[1] / "rewards" / "judge_pairs.jsonl"


def compares_first_letters(body: dict) -> str:
    """Right about some pairs and wrong about others, and without a verdict where the gold answer is a number."""
    user = body["messages"][1]["content"]
    gold, prediction = (user.split(f"<{name}>")[1][0] for name in ("reference", "candidate"))
    return "Hm." if gold.isdigit() else f"[[{'YES' if gold == prediction else 'NO'}]]"


def check(server, *argv) -> int:
    flags = ["--judge", "openai", "--judge_base_url", server.base_url, "--judge_model", "test-judge"]
    return main(["judge-check", *flags, *map(str, argv)])


def test_the_hundred_pairs_are_balanced():
    pairs = read_pairs(str(PAIRS))
    assert len({pair["id"] for pair in pairs}) == len({(p["question"], p["prediction"]) for p in pairs}) == 100
    assert Counter(pair["language"] for pair in pairs) == {"en": 60, "zh": 40}
    assert 45 <= sum(pair["equivalent"] for pair in pairs) <= 55
    assert min(Counter(pair["kind"] for pair in pairs).values()) >= 6


def test_tables_and_output(tmp_path, capsys):
    with FaultServer(answer=compares_first_letters) as server:
        assert check(server, "--data", PAIRS, "--output", tmp_path / "out.jsonl") == 0
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [pair["id"] for pair in read_pairs(str(PAIRS))]
    counts = Counter((row["equivalent"], row["outcome"]) for row in rows)
    for label, name in ((True, "equivalent"), (False, "different")):
        cells = [counts[label, outcome] for outcome in ("yes", "no", "invalid", "failed")]
        line = next(line for line in out.splitlines() if name in line)
        assert [int(cell) for cell in line.replace("│", " ").split()[1:]] == cells
    right = (counts[True, "yes"] + counts[False, "no"]) / 100
    assert 0 < right < 1 and f"{right:.3f}" in out
    assert "language: zh" in out and "kind: near_miss" in out
    assert "id:" not in out  # a hundred names are no groups


def test_whatever_the_pairs_hold_the_judgements_are_written_and_printed(tmp_path, capsys):
    kinds = ["x [/y]", "[red]", "half \ud83d"]
    pair = {"question": "Q?", "prediction": "a", "gold": "b", "equivalent": False}
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair | {"kind": kind}) + "\n" for kind in kinds))
    with FaultServer() as server:
        assert check(server, "--data", data, "--output", tmp_path / "out.jsonl") == 0
    out = capsys.readouterr().out
    assert all(f"kind: {kind}" in out for kind in ("x [/y]", "[red]", "half ?"))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["kind"] for row in rows] == kinds and {row["outcome"] for row in rows} == {"no"}


def test_an_output_that_cannot_be_written_at_last_costs_no_table(tmp_path, capsys):
    def answer(body):
        (tmp_path / "out.jsonl.part").mkdir(exist_ok=True)
        return "[[NO]]"

    with FaultServer(answer=answer) as server:
        assert check(server, "--data", PAIRS, "--output", tmp_path / "out.jsonl") == 1
    printed = capsys.readouterr()
    assert "Agreement" in printed.out and "out.jsonl.part" in printed.err


@pytest.mark.parametrize(("output", "message"), [("none/out.jsonl", "is no folder to write to"), ("", "is a folder")])
def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path, capsys, output, message):
    with FaultServer() as server:
        assert check(server, "--data", PAIRS, "--output", tmp_path / output, "--overwrite", "true") == 1
        assert server.requests == 0
    assert message in capsys.readouterr().err


def test_a_judge_is_tried_without_its_cache(tmp_path):
    with FaultServer() as server:
        judge = OpenAIJudge("m", server.base_url, api_key="none", cache=tmp_path / "cache", max_retries=0)
        for _ in range(2):
            try_judge(judge)
        assert server.requests == 2 and judge.cache is not None
    with pytest.raises(ValueError, match="the judge does not answer"):
        try_judge(judge)
    assert judge.cache is not None


def test_a_judge_that_takes_long_to_load_is_not_refused(tmp_path, monkeypatch):
    model = save_tiny(tmp_path / "judge", "{% for m in messages %}{{ m['content'] }} {% endfor %}w3")
    load = TransformersJudge._load
    monkeypatch.setattr(TransformersJudge, "_load", lambda self: time.sleep(3) or load(self))
    judge = TransformersJudge(model, max_new_tokens=2, device="cpu", deadline=2)
    try_judge(judge)
    assert judge._loaded is not None


def test_failures_are_told(capsys):
    with FaultServer(fault="null_content") as server:
        assert check(server, "--data", PAIRS) == 0
    assert "100 requests failed; the first: TypeError: the content of the answer is None" in capsys.readouterr().out


def test_a_local_judge(tmp_path, capsys):
    model = save_tiny(tmp_path / "judge", "{% for m in messages %}{{ m['content'] }} {% endfor %}w3")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(PAIRS.read_text(encoding="utf-8").splitlines(keepends=True)[:4]), encoding="utf-8")
    flags = ["--judge", "transformers", "--judge_model", model, "--judge_max_tokens", "3"]
    assert main(["judge-check", *flags, "--data", str(data)]) == 0
    assert "0.000" in capsys.readouterr().out  # it has never seen a verdict


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"question": "Q?", "prediction": "a", "gold": "b"}', "row 1: field `equivalent` is None: expected true or"),
        (
            '{"question": "Q?", "prediction": "a", "gold": "b", "equivalent": true}\n{"question": 1}',
            "row 2: field `question` is 1: expected a string",
        ),
        ('{"question": "Q?", "prediction": "a", "gold": "b", "equivalent": "yes"}', "`equivalent` is 'yes'"),
        ("[1, 2]", "row 1"),
        ("{not json", "row 1"),
        ("", "pairs.jsonl"),
    ],
)
def test_malformed_pairs(tmp_path, capsys, rows, message):
    (tmp_path / "pairs.jsonl").write_text(rows)
    flags = ["--judge", "openai", "--judge_model", "m", "--judge_base_url", "http://127.0.0.1:9/v1"]
    assert main(["judge-check", *flags, "--data", str(tmp_path / "pairs.jsonl")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--judge_model", "m"], "give --judge openai or --judge transformers"),
        (["--judge", "openai"], "--judge openai needs --judge_model"),
        (["--judge", "transformers", "--judge_model", "m", "--judge_base_url", "u"], "goes with --judge openai"),
    ],
)
def test_wrong_options(argv, message, capsys):
    assert main(["judge-check", "--data", str(PAIRS), *argv]) == 1
    assert message in capsys.readouterr().err


def test_an_output_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "out.jsonl").write_text("kept")
    with FaultServer() as server:
        assert check(server, "--data", PAIRS, "--output", tmp_path / "out.jsonl") == 1
        assert server.requests == 0
    assert "give --overwrite" in capsys.readouterr().err and (tmp_path / "out.jsonl").read_text() == "kept"


def test_a_training_with_a_judge(tmp_path, capsys):
    records, model = save_records(tmp_path / "r.jsonl", [5] * 10), save_tiny(tmp_path / "model")
    phases = '[{"max_prompt_length": 8, "max_steps": 2}]'
    flags = ["--model_name_or_path", model, "--records", records, "--output_dir", str(tmp_path / "out")]
    flags += ["--phases", phases, "--reward_funcs", "hybrid_reward"]
    with FaultServer(answer=lambda body: "[[YES]]") as server:
        judge = ["--judge", "openai", "--judge_model", "m", "--judge_base_url", server.base_url]
        assert train("phased-grpo", *flags, *judge, "--judge_cache", str(tmp_path / "cache")) == 0
        assert server.requests > 0
    out = capsys.readouterr().out
    assert "'hybrid/judge': '" in out and "'judge/yes': '1'" in out
    assert train("phased-grpo", *flags) == 1
    assert "hybrid_reward and --judge go together" in capsys.readouterr().err
    judge[-1] = "http://127.0.0.1:9/v1"
    assert train("phased-grpo", *flags, *judge) == 1
    assert "the judge does not answer (APIConnectionError: Connection error.); is it" in capsys.readouterr().err
