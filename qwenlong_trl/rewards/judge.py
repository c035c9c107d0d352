"""Judges: models that are asked whether an answer says the same as the gold answer.

A judge is anything with a `deadline` and a `judge` method, see [`Judge`]:

```python
class ContainsJudge:
    deadline = 5.0

    async def judge(self, comparisons):
        verdicts = [c.gold.lower() in c.prediction.lower() for c in comparisons]
        return [Judgement(verdict) for verdict in verdicts]
```

Paper: QwenLong-L1 (arXiv 2505.17667), section 2.4, Eq. 13.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .answers import text_after_reasoning
from .judge_cache import JudgeCache
from .judge_prompt import CUT_OFF, PROMPTS, Comparison, judge_messages, parse_verdict


# Characters of a judge's answer that are kept.
TEXT_LIMIT = 20_000


@dataclass(frozen=True)
class Judgement:
    """What came of one comparison.

    Args:
        verdict (`bool`, *optional*):
            Whether the answers say the same; `None` without a verdict.
        text (`str`, *optional*, defaults to `""`):
            The judge's own words.
        error (`str`, *optional*):
            Why the judge gave no answer at all. An answer without a verdict is no error but invalid.
        seconds (`float`, *optional*):
            How long the judge took, where that is known.
        cached (`bool`, *optional*, defaults to `False`):
            Whether the answer was known without asking.
    """

    verdict: bool | None
    text: str = ""
    error: str | None = None
    seconds: float | None = None
    cached: bool = False


@runtime_checkable
class Judge(Protocol):
    """What [`HybridReward`] needs of a judge.

    `deadline` is how many seconds a batch may take. `judge` returns one [`Judgement`] for each comparison, in their
    order; what it has not returned by the deadline is cancelled, and counts as failed. A judge with a method `load`
    has it called before each batch, in a thread and outside the deadline.
    """

    deadline: float

    async def judge(self, comparisons: Sequence[Comparison]) -> Sequence[Judgement]: ...


async def ask(judge: Judge, comparisons: Sequence[Comparison]) -> list[Judgement]:
    """The judgements of a judge that may fail in any way: it cannot raise, take longer, or return something else."""
    return await _guarded(judge, "judge", comparisons, judge.deadline)


async def ask_messages(judge: Any, batch: Sequence[list[dict[str, str]]]) -> list[Judgement]:
    """As [`ask`], for chat messages: of a judge with a method `answers`, see [`ChatJudge`]. Without a verdict.

    A judge without a `deadline` may take as long as it likes.
    """
    return await _guarded(judge, "answers", batch, getattr(judge, "deadline", None))


async def _guarded(judge, method: str, batch: Sequence, deadline: float | None) -> list[Judgement]:
    """What the method returns for the batch, or one failure for each of its members that says what went wrong."""
    if not batch:
        return []

    try:
        if callable(getattr(judge, "load", None)):
            await asyncio.to_thread(judge.load)
    except Exception as error:
        return [Judgement(None, error=describe_error(error))] * len(batch)

    async def run():
        return await getattr(judge, method)(batch)

    task = asyncio.create_task(run())
    # Not `wait_for`: it waits for a task that ignores its cancellation. Half a second more, for those judges that keep
    # the deadline themselves and return what they have.
    done, _ = await asyncio.wait({task}, timeout=None if deadline is None else deadline + 0.5)
    if not done:
        task.cancel()
        return [Judgement(None, error="deadline")] * len(batch)
    if task.cancelled() or task.exception() is not None:
        reason = "cancelled" if task.cancelled() else describe_error(task.exception())
        return [Judgement(None, error=reason)] * len(batch)
    judgements = task.result()
    try:
        judgements = list(judgements)
    except TypeError:
        judgements = [judgements]
    if len(judgements) != len(batch) or not all(isinstance(j, Judgement) for j in judgements):
        error = f"the judge returned {len(judgements)} objects for {len(batch)} comparisons, or no judgements"
        return [Judgement(None, error=error)] * len(batch)
    return [_checked(judgement) for judgement in judgements]


def _checked(judgement: Judgement) -> Judgement:
    """The judgement itself, without what no table can hold, or one that says what is wrong with it."""
    for name, kinds in (
        ("verdict", (bool, type(None))),
        ("text", str),
        ("error", (str, type(None))),
        ("seconds", (int, float, type(None))),
        ("cached", bool),
    ):
        value = getattr(judgement, name)
        if not isinstance(value, kinds):
            return Judgement(None, error=encodable(f"the judge returned a judgement with {name}={value!r}"[:300]))
    if judgement.error is not None:
        return replace(judgement, verdict=None, text=encodable(judgement.text), error=encodable(judgement.error))
    return replace(judgement, text=encodable(judgement.text))


class ChatJudge:
    """A judge that is a chat model: prompts, verdicts, and a cache. The subclasses ask the model.

    `judge` compares answers; `answers` asks anything else, such as a score. What is set as `on_answer` is called with
    the messages and the text of each fresh answer as soon as it is there, in whatever thread asks.

    Args:
        name (`str`):
            Who answers; part of the key of the cache.
        prompt (`str`):
            `"default"` or `"l1"`, see [`judge_messages`].
        deadline (`float`):
            Seconds that a batch may take.
        cache (`str` or `Path`, *optional*):
            Folder in which answers are kept, for later runs and other processes.
    """

    def __init__(self, name: str, prompt: str, deadline: float, cache: str | Path | None):
        if prompt not in PROMPTS:
            raise ValueError(f"prompt must be one of {', '.join(PROMPTS)}, got {prompt!r}")
        if not deadline > 0:
            raise ValueError(f"deadline must be a positive number of seconds, got {deadline!r}")
        self.name = name
        self.prompt = prompt
        self.deadline = deadline
        self.cache = None if cache is None else JudgeCache(cache)
        self.on_answer: Callable[[list[dict[str, str]], str], None] | None = None

    async def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One judgement for each comparison. Equal ones are asked once, and those in the cache not at all."""
        until = time.monotonic() + self.deadline
        answers = await self._answers([judge_messages(comparison, self.prompt) for comparison in comparisons], until)
        return [answer if answer.error else replace(answer, verdict=parse_verdict(answer.text)) for answer in answers]

    async def answers(self, batch: Sequence[list[dict[str, str]]]) -> list[Judgement]:
        """
        The model's answer to any chat messages, for each of the batch: a judgement without a verdict, whose `text` is
        the end of what the model said; [`split_cut_off`] tells whether it had finished. Equal messages are asked once,
        and those in the cache not at all; what is not answered within the deadline has failed.
        """
        return await self._answers(batch, time.monotonic() + self.deadline)

    async def _answers(self, batch: Sequence[list[dict[str, str]]], until: float) -> list[Judgement]:
        keys = [self._key(messages) for messages in batch]
        messages_of = dict(zip(keys, batch, strict=True))
        known = {} if self.cache is None else await self.cache.read(messages_of, min(1.0, self.deadline / 2))
        found = {key: Judgement(None, text, cached=True) for key, text in known.items()}
        fresh = [key for key in messages_of if key not in found]
        # The subclasses keep each answer when it comes, so that a deadline loses none.
        answers = await self._answer([messages_of[key] for key in fresh], until) if fresh else []
        found.update(zip(fresh, answers, strict=True))
        if fresh and self.cache is not None:
            await self.cache.flush()
        judgements, first = [], set()
        for key in keys:
            # The repetitions within the batch cost nothing.
            again = {"seconds": None, "cached": found[key].error is None} if key in first else {}
            judgements.append(replace(found[key], **again))
            first.add(key)
        return judgements

    async def _answer(self, batch: list[list[dict[str, str]]], until: float) -> list[Judgement]:
        """The model's texts, without verdicts, for all that it answers until the monotonic clock shows `until`."""
        raise NotImplementedError

    def _kept(self, messages: list[dict[str, str]], text: str, cut_off: bool) -> str:
        """What is kept of an answer: its end, where the verdict stands, and whether it was cut off before that."""
        text = encodable(text)
        cut_off = cut_off or text_after_reasoning(text) is None
        text = text[-TEXT_LIMIT:] + (CUT_OFF if cut_off else "")
        if self.cache is not None:
            self.cache.write(self._key(messages), text)
        if self.on_answer is not None:
            self.on_answer(messages, text)
        return text

    def _key(self, messages: list[dict[str, str]]) -> str:
        # The messages hold the prompt, its version, and the three texts as the judge sees them.
        return hashlib.sha256(json.dumps([self.name, messages]).encode()).hexdigest()


def split_cut_off(text: str) -> tuple[str, bool]:
    """The words of a judge's answer, and whether it was cut off after them; of a text as [`ChatJudge`] returns it."""
    words = text.removesuffix(CUT_OFF)
    return words, words != text


def describe_error(error: BaseException) -> str:
    """An error in at most 300 characters: some servers answer with whole pages."""
    return encodable(f"{type(error).__name__}: {error}"[:300])


def encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which JSON can hold but no file or table."""
    return text.encode("utf-8", "replace").decode()
