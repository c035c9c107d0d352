"""A judge of Loong that fails, is slow, or is interrupted: nothing is lost, and nothing is asked without need."""

import dataclasses
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_server import FAULTS, FaultServer
from loong_judging import Interrupting, make_jobs, make_judge, make_record, number_of, rate, run

from qwenlong_trl.generation.store import JsonlStore, read_lines
from qwenlong_trl.loong.judge import LoongJudge, read_judgements


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("429_once", "huge")])
def test_a_failure_is_asked_again_in_another_run(tmp_path, fault, caplog):
    """Whatever the fault: it has no score and no line, the others are kept, and a warning tells."""
    jobs = make_jobs(4)
    with FaultServer(answer=rate, fault=fault, fault_share=lambda body: number_of(body) in (1, 2)) as server:
        with caplog.at_level(logging.WARNING):
            found = run(make_judge(server), tmp_path / "j.jsonl", jobs)
    assert [one.score for one in found.values()] == [80.0, None, None, 83.0]
    assert [one.error is None for one in found.values()] == [True, False, False, True]
    (message,) = [r.message for r in caplog.records if r.name.startswith("qwenlong_trl")]
    assert message.startswith("the judge failed on 2 of 4 predictions") and message.endswith(repr(found["r1"].error))
    assert [number_of(body) for body in server.bodies].count(1) == 2  # once more at the end
    assert [number_of(body) for body in server.bodies].count(3) == 1
    with FaultServer(answer=rate) as server:
        found = run(make_judge(server), tmp_path / "j.jsonl", jobs)
        assert sorted(map(number_of, server.bodies)) == [1, 2]
    assert [one.score for one in found.values()] == [80.0, 81.0, 82.0, 83.0]


def test_a_failure_that_passes_is_mended_at_the_end(tmp_path, caplog):
    asked = []

    def first_time(body):
        asked.append(number_of(body))
        return number_of(body) in (1, 3) and asked.count(number_of(body)) == 1

    with FaultServer(answer=rate, fault="500", fault_share=first_time) as server:
        found = run(make_judge(server), tmp_path / "j.jsonl", make_jobs(5))
        assert [one.score for one in found.values()] == [80.0 + number for number in range(5)]
        assert server.requests == 7 and {*asked[5:]} == {1, 3} and not caplog.records


def test_a_judge_that_answers_nothing_is_not_asked_twice(tmp_path):
    with FaultServer(answer=rate, fault="500") as server:
        found = run(make_judge(server), tmp_path / "j.jsonl", make_jobs(3))
        assert server.requests == 3 and all(one.error for one in found.values())


def test_the_deadline_of_a_training_does_not_hold(tmp_path):
    """One at a time, so that all together take far longer; each is written down when it comes."""
    path, seen = tmp_path / "j.jsonl", []

    def watched(body):
        seen.append(len(path.read_text().splitlines()))
        return rate(body)

    with FaultServer(answer=watched, latency=0.1) as server:
        judge = make_judge(server, concurrency=1, deadline=0.2)
        found = run(judge, path, make_jobs(6))
    assert [one.score for one in found.values()] == [80.0 + number for number in range(6)]
    assert seen == [1, 2, 3, 4, 5, 6]  # the settings, and all answers before
    assert judge.judge.deadline == 0.2 and judge.judge.on_answer is None


def test_equal_questions_are_asked_once_and_each_has_its_answer(tmp_path):
    record = make_record(5)
    twins = [(dataclasses.replace(record, id=id), "the same") for id in ("a", "b")]
    with FaultServer(answer=rate) as server:
        found = run(make_judge(server), tmp_path / "j.jsonl", twins)
        assert server.requests == 1 and [one.score for one in found.values()] == [85.0, 85.0]
        assert run(make_judge(server), tmp_path / "j.jsonl", twins) == found and server.requests == 1


def test_what_is_in_the_cache_is_written_down(tmp_path):
    jobs = make_jobs(3)
    with FaultServer(answer=rate) as server:
        for name in ("a", "b"):
            judge = make_judge(server, cache=tmp_path / "cache")
            found = run(judge, tmp_path / f"{name}.jsonl", jobs)
        assert server.requests == 3
    assert [one.score for one in found.values()] == [80.0, 81.0, 82.0]
    assert read_judgements(jobs, read_lines(tmp_path / "b.jsonl")[1]) == found


def test_an_answer_that_cannot_be_written_stops_the_run(tmp_path):
    """A full disk is no failure of the judge."""
    with FaultServer(answer=rate) as server:
        judge = make_judge(server)
        with JsonlStore(tmp_path / "j.jsonl", judge.settings) as store:
            store._file.close()
            store._file = open("/dev/full", "r+b", buffering=0)
            with pytest.raises(OSError, match="No space left"):
                judge.judge_all(make_jobs(3), store, progress=False)


def test_the_check_comes_before_the_first_question(tmp_path):
    asked = []

    def check():
        asked.append(server.requests)

    with FaultServer(answer=rate) as server:
        judge = make_judge(server)
        judge.check = check
        for _ in range(2):
            run(judge, tmp_path / "j.jsonl", make_jobs(2))
        assert asked == [0]  # and not where nothing is to be asked


def test_any_object_with_answers_and_an_interruption(tmp_path):
    """Batches that were done are there, and only the others are asked."""
    judge = LoongJudge(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        run(judge, tmp_path / "j.jsonl", make_jobs(7))
    with JsonlStore(tmp_path / "j.jsonl", judge.settings) as store:
        assert store.ids() == ["r0", "r1", "r2", "r3"]
        found = judge.judge_all(make_jobs(7), store, progress=False)
    assert judge.judge.calls == 5
    assert [one.score for one in found.values()] == [100, 99, 100, 99, 100, 99, 100]


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from loong_judging import make_jobs, make_judge, run
class Server: base_url = sys.argv[1]
run(make_judge(Server, concurrency=1, deadline=60.0, timeout=60.0), Path(sys.argv[2]), make_jobs(12))
"""


def test_a_killed_run_goes_on(tmp_path):
    """Nothing twice but what is under way, nothing lost."""
    path = tmp_path / "j.jsonl"
    hangs = {"fault": "hang", "fault_share": lambda body: number_of(body) == 9}
    with FaultServer(answer=rate, **hangs) as server:
        code = KILLED.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
        process = subprocess.Popen([sys.executable, "-c", code, server.base_url, str(path)])
        try:
            until = time.monotonic() + 60
            while not any(number_of(body) == 9 for body in server.bodies):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
    assert len(path.read_text().splitlines()) == 10  # the settings, and all before the one that hangs
    with FaultServer(answer=rate) as server:
        found = run(make_judge(server, concurrency=1, timeout=60.0), path, make_jobs(12))
        assert sorted(map(number_of, server.bodies)) == [9, 10, 11]
    assert [one.score for one in found.values()] == [80.0 + number for number in range(12)]
