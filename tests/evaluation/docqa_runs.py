"""Records, answers and a server for tests of the evaluation."""

import json
import zlib

from qwenlong_trl.data import Document, Evidence, LongContextExample
from qwenlong_trl.rewards import Judgement


COUNTRIES = ("Norway", "Chad", "Peru", "Fiji", "Oman", "Cuba", "Laos", "Mali", "Iran", "Togo", "Haiti", "Benin")


def country_records(count: int = 12, words: int = 40) -> list[LongContextExample]:
    """Records with one fact each, at growing depth and in growing contexts."""
    records = []
    for i in range(count):
        country = COUNTRIES[i % len(COUNTRIES)]
        fact = f"Town number {i} lies in {country}."
        size = words * (1 + i % 3)
        text = " ".join(["filler"] * (size * i // count) + [fact] + ["filler"] * (size - size * i // count))
        start = text.index(fact)
        records.append(
            LongContextExample(
                id=f"r{i}",
                question=f"In which country does town number {i} lie?",
                answers=(country, f"Republic of {country}"),
                documents=(Document("Towns", text),),
                evidence=(Evidence(0, start, start + len(fact)),),
                source="towns" if i % 2 else "cities",
            ).validate()
        )
    return records


def answers_sometimes(body: dict) -> list:
    """Samples of a server, by the request alone: some are right, others wrong, in other words, cut off or empty."""
    question = body["messages"][-1]["content"].rsplit("town number ", 1)[1]
    country = COUNTRIES[int(question.split()[0]) % len(COUNTRIES)]
    samples = []
    for i in range(body.get("n", 1)):
        kind = zlib.crc32(f"{question} {body['seed']} {i}".encode()) % 6
        text = (
            f"<think>Let me see.</think>Therefore, the answer is {country}.",
            f"Therefore, the answer is the Republic of {country}.",
            "Therefore, the answer is Mars.",
            f"Therefore, the answer is the land of {country}.",
            "<think>It could be",
            "",
        )[kind]
        samples.append({"content": text, "finish_reason": "length" if kind == 4 else "stop"})
    return samples


def judge_server(body: dict) -> str:
    """A judge that accepts an answer that contains the gold one, and now and then forgets the brackets."""
    text = json.dumps(body["messages"])
    return "They agree. [[YES]]" if "land of" in text else "They do not agree. [[NO]]"


class WordsJudge:
    """A judge in this process that accepts what contains the gold answer; counts what it is asked."""

    name, prompt, deadline = "words", "default", 5.0

    def __init__(self, words: str = "{}", fails: bool = False):
        self.words, self.fails, self.asked = words, fails, []

    async def judge(self, comparisons):
        self.asked += comparisons
        if self.fails:
            raise ConnectionError("the judge is gone")
        verdicts = [c.gold.split(" (or:")[0].lower() in c.prediction.lower() for c in comparisons]
        return [Judgement(v, self.words.format("[[YES]]" if v else "[[NO]]")) for v in verdicts]
