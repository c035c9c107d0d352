"""Trainings of ten steps with a judge whose server misbehaves, on two processes."""

import json
from pathlib import Path

import pytest
from fault_server import FaultServer
from processes import run_on_two_processes


WORKER = str(Path(__file__).with_name("judge_worker.py"))


def says_yes_to_long_answers(body: dict) -> str:
    candidate = body["messages"][1]["content"].split("<candidate>")[1].split("</candidate>")[0]
    return "Compared. [[YES]]" if " w1" in candidate else "Compared. [[NO]]" if " w2" in candidate else "Compared."


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        pytest.param("stock", "close_mid_answer", marks=pytest.mark.slow),
        pytest.param("phased", "500", marks=pytest.mark.slow),
        pytest.param("phased", "hang", marks=pytest.mark.slow),
    ],
)
def test_ten_steps_on_two_processes(tmp_path, kind, fault):
    """It finishes, and its metrics add up: over outcomes, over rule and judge, and over both processes."""
    with FaultServer(answer=says_yes_to_long_answers, fault=fault, fault_share=0.2) as server:
        done = run_on_two_processes([WORKER, server.base_url, str(tmp_path), kind])
        requests, most_at_once = server.requests, server.most_at_once
    log = json.loads((tmp_path / "log.json").read_text())
    steps = [entry for entry in log if "loss" in entry]
    evaluations = [{k.removeprefix("eval_"): v for k, v in entry.items()} for entry in log if "eval_loss" in entry]
    assert len(steps) == 10 and len(evaluations) == 2
    asked = 0
    for entry in [*steps, *evaluations]:
        assert entry["hybrid/rule"] + entry["hybrid/judge"] == pytest.approx(entry["rewards/hybrid_reward/mean"])
        if entry["judge/asked"] > 0:
            outcomes = [entry[f"judge/{name}"] for name in ("yes", "no", "invalid", "failed")]
            assert sum(outcomes) == pytest.approx(1)
            if entry in steps:  # an evaluation is the mean over batches, each with its own number of rows asked
                assert entry["judge/asked"] * entry["judge/yes"] == pytest.approx(entry["hybrid/judge"])
        asked += entry["judge/asked"] * (8 if entry in steps else 32)  # rows of a step, of an evaluation
    assert round(asked) >= requests > 0
    failed = [entry["judge/failed"] for entry in steps if "judge/failed" in entry]
    assert max(failed) > 0 and min(failed) < 1
    assert "the judge failed for" in done.stderr
    assert most_at_once <= 4
