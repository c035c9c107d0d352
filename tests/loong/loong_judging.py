"""Answers to judge, a judge behind a server, and one that is interrupted."""

from pathlib import Path

from fault_server import FaultServer

from qwenlong_trl.generation.store import JsonlStore
from qwenlong_trl.loong.judge import LoongJudge, LoongJudgement
from qwenlong_trl.loong.records import LoongRecord
from qwenlong_trl.rewards import Judgement, OpenAIJudge


def make_record(number: int) -> LoongRecord:
    template = "{docs}\n\n{instruction}\n\n{question}"
    return LoongRecord(
        *(f"r{number}", 1, 1, "financial", "en", 20_000, f"Question {number}?", "Read.", template),
        *(("a", "b"), f"gold {number}", True),
    )


def make_jobs(count: int) -> list[tuple[LoongRecord, str]]:
    return [(make_record(number), f"<think>Hm.</think>\nanswer {number}") for number in range(count)]


def make_judge(server: FaultServer, prompt="default", parse="robust", **options) -> LoongJudge:
    settings = {"deadline": 20.0, "timeout": 2.0, "max_retries": 0, "api_key": "none", "concurrency": 2}
    return LoongJudge(OpenAIJudge("test-judge", server.base_url, **(settings | options)), prompt, parse)


def run(judge: LoongJudge, path: Path, jobs) -> dict[str, LoongJudgement]:
    with JsonlStore(path, judge.settings) as store:
        return judge.judge_all(jobs, store, progress=False)


def number_of(body: dict) -> int:
    """Which record a request is about."""
    return int(body["messages"][-1]["content"].split("gold ")[1].split("<")[0].split()[0])


def rate(body: dict) -> str:
    return f"<think>[[1]]</think> It is right. Rating: [[{80 + number_of(body)}]]"


class Interrupting:
    """Answers with full marks, and is interrupted in its third batch."""

    batch_size, calls = 2, 0

    async def answers(self, batch):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return [Judgement(None, f"[[{100 - index}]]") for index in range(len(batch))]
