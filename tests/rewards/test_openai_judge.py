"""The judge over HTTP, against a server that misbehaves on demand."""

import asyncio
import contextlib
import pickle
import sqlite3
import subprocess
import sys
import threading
import time

import diskcache
import pytest
from fault_server import FAULTS, FaultServer

from qwenlong_trl.rewards import Comparison, HybridReward, Judge, OpenAIJudge, judge_cache
from qwenlong_trl.rewards.judge_prompt import CUT_OFF, judge_messages
from qwenlong_trl.rewards.openai_judge import share_of


# Deadline 3 s: long enough for two attempts of 0.8 s with the client's pause between them, on a busy machine too.
DEADLINE = 3.0
ROWS = 12
CLEAN = ("429_once",)  # one attempt fails, the request does not
INVALID = ("huge",)  # an answer, without a verdict


def make_judge(server: FaultServer, **options) -> OpenAIJudge:
    settings = {"deadline": DEADLINE, "timeout": 0.8, "max_retries": 1, "api_key": "none"}
    return OpenAIJudge("test-judge", server.base_url, **(settings | options))


def says_yes(body: dict) -> str:
    return "The same. [[YES]]"


def batch(rows: int = ROWS) -> dict:
    """Rows 0 and 1 are right by the rule; the others have answers of their own, which the rule calls wrong."""
    said = ["Norway", "norway"] + [f"Kingdom {row}" for row in range(2, rows)]
    return {
        "completions": [f"Therefore, the answer is {answer}." for answer in said],
        "answers": [["Norway"]] * rows,
        "task": ["docqa"] * rows,
        "question": ["Which country?"] * rows,
    }


def run(reward: HybridReward, rows: int = ROWS):
    """Rewards, metrics as lists, columns of the completions table, and the seconds that it took."""
    metrics, columns = {}, {}
    started = time.monotonic()
    rewards = asyncio.run(
        reward(
            **batch(rows),
            log_metric=lambda name, value: metrics.setdefault(name, []).append(value),
            log_extra=lambda name, values: columns.setdefault(name, values),
        )
    )
    return rewards, metrics, columns, time.monotonic() - started


@pytest.mark.parametrize("share", ["one", "all"])
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_table(fault, share):
    """Within the deadline and a second, the rule's reward, and counted; the other answers are not touched."""

    def hit(body):
        return share == "all" or "Kingdom 5" in body["messages"][1]["content"]

    with FaultServer(answer=says_yes, fault=fault, fault_share=hit) as server:
        rewards, metrics, columns, seconds = run(HybridReward(make_judge(server)))
    assert seconds < DEADLINE + 1
    failing = 0 if fault in CLEAN else 10 if share == "all" else 1
    bad = [row for row in range(2, ROWS) if failing and (share == "all" or row == 5)]
    assert rewards == [0.0 if row in bad else 1.0 for row in range(ROWS)]
    kind = "invalid" if fault in INVALID else "failed"
    assert sum(metrics[f"judge/{kind}"]) == failing
    assert sum(metrics["judge/yes"]) == 10 - failing
    outcomes = zip(*(metrics[f"judge/{name}"] for name in ("yes", "no", "invalid", "failed")), strict=True)
    assert [sum(outcome) for outcome in outcomes] == [1.0] * 10
    told = [columns["judge"][row] for row in bad]
    assert all(
        (text.startswith("failed: ") and len(text) < 400) if kind == "failed" else "[[" not in text for text in told
    )
    assert columns["judge"][:2] == [None, None]


def test_what_was_answered_before_the_deadline_counts():
    hangs = {"fault": "hang", "fault_share": lambda body: "Kingdom 1" in body["messages"][1]["content"]}
    with FaultServer(answer=says_yes, **hangs) as server:
        rewards, metrics, columns, seconds = run(HybridReward(make_judge(server, deadline=1.0, timeout=30.0)))
    assert seconds < 2
    assert rewards == [0.0 if row in (10, 11) else 1.0 for row in range(ROWS)]
    assert columns["judge"][10] == "failed: deadline"


def test_nobody_listens():
    with FaultServer() as server:
        judge = make_judge(server)
    rewards, metrics, columns, seconds = run(HybridReward(judge))
    assert rewards == [1.0, 1.0] + [0.0] * 10
    assert sum(metrics["judge/failed"]) == 10 and "APIConnectionError" in columns["judge"][2]


def test_requests_go_out_together_within_the_limit(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with FaultServer(answer=says_yes, latency=0.1) as server:
        rewards = run(HybridReward(make_judge(server, concurrency=4, deadline=30)), rows=18)[0]
        assert rewards == [1.0] * 18
        assert (server.requests, server.most_at_once) == (16, 4)
    body = server.bodies[0]
    assert (body["temperature"], body["model"], body["max_tokens"]) == (0.0, "test-judge", 512)


def test_the_limit_is_shared_by_the_processes(monkeypatch):
    for world in (1, 3, 8):
        monkeypatch.setenv("WORLD_SIZE", str(world))
        shares = []
        for rank in range(world):
            monkeypatch.setenv("RANK", str(rank))
            shares.append(share_of(8))
        assert sum(shares) == 8 and min(shares) >= 1
    with pytest.raises(ValueError, match="concurrency is 7, but each of the 8 processes"):
        share_of(7)


def test_rewards_with_one_judge_share_its_limit(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    async def both(judge):
        rewards = [HybridReward(judge, rule="docqa"), HybridReward(judge)]
        return await asyncio.gather(*(reward(**batch(14)) for reward in rewards))

    with FaultServer(answer=says_yes, latency=0.1) as server:
        judge = make_judge(server, concurrency=4, deadline=30)
        for _ in range(2):  # in two event loops
            assert asyncio.run(both(judge)) == [[1.0] * 14] * 2
        assert server.most_at_once == 4


def test_a_limit_below_the_number_of_processes_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "64")
    with pytest.raises(ValueError, match="concurrency is 32, but each of the 64 processes"):
        OpenAIJudge("m")


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [("stop", True), (None, True), ("length", None), ("content_filter", None), ("abort", None)],
)
def test_an_answer_that_was_cut_off_has_no_verdict(tmp_path, reason, verdict):
    """Neither at first nor from the cache, and it is counted as invalid."""
    words = "If they were the same I would write [[YES]], but since"
    with FaultServer(answer=lambda body: {"content": words, "finish_reason": reason}) as server:
        for _ in range(2):
            rewards, metrics, columns, _ = run(HybridReward(make_judge(server, cache=tmp_path / "cache")))
            assert rewards[2:] == [float(verdict is True)] * 10
            assert sum(metrics["judge/invalid"]) == (10 if verdict is None else 0)
            assert columns["judge"][2].endswith(CUT_OFF) == (verdict is None)
        assert server.requests == 10


@pytest.mark.parametrize("cached", [False, True])
def test_a_lone_surrogate_costs_no_verdict(tmp_path, cached):
    options = {"cache": tmp_path / "cache"} if cached else {}
    with FaultServer(answer=lambda body: "half a smile: \ud83d [[YES]]") as server:
        for _ in range(2):
            rewards, _, columns, _ = run(HybridReward(make_judge(server, **options)))
            assert rewards == [1.0] * ROWS
            assert columns["judge"][2].encode() == b"half a smile: ? [[YES]]"
        assert server.requests == (10 if cached else 20)


def test_the_same_batch_again_makes_no_request(tmp_path):
    with FaultServer(answer=says_yes) as server:
        first = run(HybridReward(make_judge(server, cache=tmp_path / "cache")))
        assert server.requests == 10 and sum(first[1]["judge/cache_hits"]) == 0
        again = run(HybridReward(make_judge(server, cache=tmp_path / "cache")))
        assert server.requests == 10 and sum(again[1]["judge/cache_hits"]) == 10
        assert again[0] == first[0] and again[2] == first[2]
        assert "judge/latency_p50" in first[1] and "judge/latency_p50" not in again[1]
        # Another prompt, model or answer length is another judge.
        for change in ({"prompt": "l1"}, {"max_tokens": 5}, {"extra_body": {"top_k": 1}}):
            before = server.requests
            run(HybridReward(make_judge(server, cache=tmp_path / "cache", **change)))
            assert server.requests == before + 10, change


def test_failures_are_not_kept(tmp_path):
    with FaultServer(fault="500") as server:
        run(HybridReward(make_judge(server, cache=tmp_path / "cache")))
    with FaultServer(answer=says_yes) as server:
        assert run(HybridReward(make_judge(server, cache=tmp_path / "cache")))[0] == [1.0] * ROWS
        assert server.requests == 10


def test_equal_answers_of_a_batch_are_asked_once():
    comparisons = [Comparison("Q?", answer, "a") for answer in ("b", "c", "b", "b")]
    with FaultServer(answer=says_yes) as server:
        judgements = asyncio.run(make_judge(server).judge(comparisons))
        assert server.requests == 2
    assert [judgement.verdict for judgement in judgements] == [True] * 4
    assert [judgement.seconds is None for judgement in judgements] == [False, False, True, True]


WRITER = """
import asyncio, sys
from qwenlong_trl.rewards import Comparison, OpenAIJudge
url, cache, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
judge = OpenAIJudge("test-judge", url, cache=cache, api_key="none")
comparisons = [Comparison("Q?", f"answer {i}", "a") for i in range(start, start + 150)]
judgements = asyncio.run(judge.judge(comparisons))
assert all(judgement.verdict for judgement in judgements), judgements
"""


def test_two_processes_share_a_cache(tmp_path):
    """Both write at once, a third of it the same; nothing is lost."""
    with FaultServer(answer=says_yes) as server:
        command = [sys.executable, "-c", WRITER, server.base_url, str(tmp_path / "cache")]
        both = [subprocess.Popen([*command, start], stderr=subprocess.PIPE, text=True) for start in ("0", "100")]
        assert [(process.communicate(timeout=100)[1], process.returncode) for process in both] == [("", 0)] * 2
        asked = server.requests
        assert 250 <= asked <= 300
        judge = make_judge(server, cache=tmp_path / "cache")
        comparisons = [Comparison("Q?", f"answer {i}", "a") for i in range(250)]
        assert all(judgement.verdict for judgement in asyncio.run(judge.judge(comparisons)))
        assert server.requests == asked


def test_a_cache_holds_text_and_nothing_is_unpickled(tmp_path):
    judge = OpenAIJudge("m", "http://127.0.0.1:9/v1", cache=tmp_path, api_key="none", max_retries=0, deadline=5)
    comparison = Comparison("Q?", "b", "a")
    hostile = diskcache.Cache(str(tmp_path))
    hostile.set(judge._key(judge_messages(comparison)), {"verdict": True})  # stored as a pickle
    hostile.close()
    (judgement,) = asyncio.run(judge.judge([comparison]))
    assert judgement.verdict is None and "APIConnectionError" in judgement.error


def test_a_cache_that_cannot_be_opened_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "cache.db").write_text("not a database, and long enough to be told from an empty one" * 40)
    for name in ("file", "folder"):
        with pytest.raises(OSError):
            OpenAIJudge("m", cache=tmp_path / name)


def test_a_cache_that_breaks_later_costs_no_verdict(tmp_path, caplog):
    with FaultServer(answer=says_yes) as server:
        judge = make_judge(server, cache=tmp_path / "cache")
        judge.cache._cache.close()
        (tmp_path / "cache" / "cache.db").write_text("damaged" * 1000)
        assert run(HybridReward(judge))[0] == [1.0] * ROWS
    assert caplog.text.count("the judge's cache") == 1 and "cannot be read: DatabaseError" in caplog.text


@contextlib.contextmanager
def locked(folder):
    """Somebody else holds the cache, for 8 seconds at most."""
    other = sqlite3.connect(folder / "cache.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(8, other.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        other.close()


@pytest.mark.parametrize("opened", [True, False])
def test_a_locked_cache_holds_up_nothing(tmp_path, opened):
    """The verdicts come in time; the answers are kept when it is free again."""
    with FaultServer(answer=says_yes) as server:
        judge = make_judge(server, cache=tmp_path)
        judge = judge if opened else pickle.loads(pickle.dumps(judge))
        with locked(tmp_path):
            rewards, *_, seconds = run(HybridReward(judge))
        assert rewards == [1.0] * ROWS and seconds < DEADLINE
        judge.cache._thread.shutdown(wait=True)
        assert run(HybridReward(make_judge(server, cache=tmp_path)))[0] == rewards
        assert server.requests == 10


def test_a_cache_that_stays_locked_is_given_up_for_the_batch(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(judge_cache, "_LOCK_PATIENCE", 0.1)
    with FaultServer(answer=says_yes) as server:
        judge = make_judge(server, cache=tmp_path)
        with locked(tmp_path):
            assert run(HybridReward(judge))[0] == [1.0] * ROWS
            judge.cache._thread.shutdown(wait=True)
    assert caplog.text.count("the judge's cache") == 1 and "cannot be written: Timeout" in caplog.text


def test_a_cache_that_does_not_answer_is_not_waited_for(tmp_path, caplog):
    with FaultServer(answer=says_yes) as server:
        judge = make_judge(server, cache=tmp_path / "cache")
        judge.cache._own_thread().submit(time.sleep, DEADLINE + 2)
        rewards, *_, seconds = run(HybridReward(judge))
    assert rewards == [1.0] * ROWS and seconds < DEADLINE
    assert "cannot be read: it did not answer in 1.0 s" in caplog.text


def test_judge_and_reward_are_pickled_after_use(tmp_path):
    with FaultServer(answer=says_yes) as server:
        reward = HybridReward(make_judge(server, cache=tmp_path / "cache"))
        assert run(reward)[0] == [1.0] * ROWS
        copy = pickle.loads(pickle.dumps(reward))
        assert run(copy)[0] == [1.0] * ROWS and server.requests == 10
    assert isinstance(copy.judge, Judge) and copy.__name__ == "hybrid_reward"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be positive, got 0"),
        ({"deadline": 0}, "deadline must be a positive number of seconds"),
        ({"max_retries": -1}, "max_retries must be at least 0"),
        ({"prompt": "l2"}, "prompt must be one of default, l1, got 'l2'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        OpenAIJudge("m", **options)


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r'pip install "qwenlong-trl\[judge\]"'):
        OpenAIJudge("m")
