"""The judge over HTTP, against a server that misbehaves on demand."""

import asyncio
import pickle
import subprocess
import sys
import time

import diskcache
import pytest
from fault_server import FAULTS, FaultServer

from qwenlong_trl.rewards import Comparison, HybridReward, Judge, OpenAIJudge
from qwenlong_trl.rewards.judge_prompt import judge_messages
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
    assert "cannot be read" in caplog.text and "cannot be written" in caplog.text


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
