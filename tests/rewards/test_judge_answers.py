"""A chat judge that is asked other things than comparisons, over HTTP and in the process."""

import asyncio
import time

import pytest
from fault_server import FaultServer
from tiny import save_tiny

from qwenlong_trl.rewards import Comparison, Judgement, OpenAIJudge, TransformersJudge
from qwenlong_trl.rewards.judge import ask_messages, split_cut_off
from qwenlong_trl.rewards.judge_prompt import CUT_OFF, judge_messages


def asked(*words: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": word}] for word in words]


def make_judge(server: FaultServer, **options) -> OpenAIJudge:
    settings = {"deadline": 20.0, "timeout": 10.0, "max_retries": 0, "api_key": "none"}
    return OpenAIJudge("test-judge", server.base_url, **(settings | options))


def echo(body: dict) -> str:
    return f"You said {body['messages'][-1]['content']} [[YES]]"


def test_answers_come_in_order_without_verdicts_and_equal_messages_are_asked_once():
    with FaultServer(answer=echo) as server:
        answers = asyncio.run(make_judge(server).answers(asked("a", "b", "a")))
        assert server.requests == 2
        assert server.bodies[0]["messages"] in ([{"role": "user", "content": word}] for word in "ab")
    assert [answer.text for answer in answers] == [f"You said {word} [[YES]]" for word in "aba"]
    assert [answer.verdict for answer in answers] == [None] * 3  # whatever the text says
    assert [answer.cached for answer in answers] == [False, False, True]


def test_the_cache_is_that_of_the_comparisons(tmp_path):
    """The same messages are one question, whichever method asks it; only `judge` reads a verdict."""
    comparison = Comparison("Which country?", "Sweden", "Norway")
    with FaultServer(answer=echo) as server:
        judge = make_judge(server, cache=tmp_path)
        (answer,) = asyncio.run(judge.answers([judge_messages(comparison)]))
        (judgement,) = asyncio.run(judge.judge([comparison]))
        (again,) = asyncio.run(judge.answers([judge_messages(comparison)]))
        assert server.requests == 1
    assert (answer.verdict, judgement.verdict, again.verdict) == (None, True, None)
    assert answer.text == judgement.text == again.text and judgement.cached and again.cached


def test_a_request_fails_alone():
    hit = {"fault": "500", "fault_share": lambda body: "bad" in body["messages"][0]["content"]}
    with FaultServer(answer=echo, **hit) as server:
        answers = asyncio.run(make_judge(server).answers(asked("good", "bad")))
    assert answers[0].error is None and "500" in answers[1].error and answers[1].text == ""


def test_what_is_late_has_failed_and_the_rest_counts():
    hit = {"fault": "hang", "fault_share": lambda body: "bad" in body["messages"][0]["content"]}
    with FaultServer(answer=echo, **hit) as server:
        started = time.monotonic()
        answers = asyncio.run(make_judge(server, deadline=2.0, timeout=30.0).answers(asked("good", "bad")))
        assert time.monotonic() - started < 4
    assert [answer.error for answer in answers] == [None, "deadline"]


@pytest.mark.parametrize("cached", [False, True])
def test_whether_an_answer_was_cut_off_can_be_told(tmp_path, cached):
    def half(body):
        reason = "length" if "long" in body["messages"][0]["content"] else "stop"
        return {"content": "Half a sent", "finish_reason": reason}

    with FaultServer(answer=half) as server:
        judge = make_judge(server, cache=tmp_path)
        for _ in range(1 + cached):
            answers = asyncio.run(judge.answers(asked("long", "short")))
    assert [split_cut_off(answer.text) for answer in answers] == [("Half a sent", True), ("Half a sent", False)]


def test_only_the_mark_at_the_end_counts():
    assert split_cut_off(f"a{CUT_OFF} b") == (f"a{CUT_OFF} b", False)
    assert split_cut_off(CUT_OFF) == ("", True)


def test_a_local_model_loads_before_its_first_answers(tmp_path):
    folder = save_tiny(tmp_path / "judge", "{% for m in messages %}{{ m['content'] }} {% endfor %}w3")
    judge = TransformersJudge(folder, max_new_tokens=4, device="cpu")
    answers = asyncio.run(judge.answers(asked("w1 w2", "w5", "w1 w2")))
    assert all(answer.error is None and answer.text and answer.verdict is None for answer in answers)
    assert answers[0].text == answers[2].text
    assert judge.model == folder


class Raises:
    async def answers(self, batch):
        raise OSError("no line")


class TooFew:
    async def answers(self, batch):
        return [Judgement(None, "one")]


class Blocks:
    deadline = 0.1

    async def answers(self, batch):
        await asyncio.sleep(60)


class CannotLoad:
    def load(self):
        raise MemoryError("too large")

    async def answers(self, batch):
        raise AssertionError


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (Raises(), "OSError: no line"),
        (TooFew(), "the judge returned 1 objects for 2"),
        (Blocks(), "deadline"),
        (CannotLoad(), "MemoryError: too large"),
        (object(), "AttributeError"),
    ],
)
def test_a_judge_that_misbehaves_has_failed(judge, reason):
    answers = asyncio.run(ask_messages(judge, asked("a", "b")))
    assert len(answers) == 2 and all(answer.error.startswith(reason) for answer in answers)


def test_nothing_to_ask():
    assert asyncio.run(ask_messages(Raises(), [])) == []
    with FaultServer() as server:
        assert asyncio.run(make_judge(server).answers([])) == [] and server.requests == 0
