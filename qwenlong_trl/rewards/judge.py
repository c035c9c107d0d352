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
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from .judge_prompt import PROMPTS, Comparison, judge_messages, parse_verdict


logger = logging.getLogger(__name__)

# Characters of a judge's answer that are kept, from its end, where the verdict stands.
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
            How long the judge took; `None` if it was not asked, since the answer was known.
    """

    verdict: bool | None
    text: str = ""
    error: str | None = None
    seconds: float | None = None


@runtime_checkable
class Judge(Protocol):
    """What [`HybridReward`] needs of a judge.

    `deadline` is how many seconds a batch may take. `judge` returns one [`Judgement`] for each comparison, in their
    order; what it has not returned by the deadline is cancelled, and counts as failed.
    """

    deadline: float

    async def judge(self, comparisons: Sequence[Comparison]) -> Sequence[Judgement]: ...


async def ask(judge: Judge, comparisons: Sequence[Comparison]) -> list[Judgement]:
    """The judgements of a judge that may fail in any way: it cannot raise, take longer, or return something else."""
    if not comparisons:
        return []

    async def run():
        return await judge.judge(comparisons)

    task = asyncio.create_task(run())
    # Not `wait_for`: it waits for a task that ignores its cancellation. Half a second more, for those judges that keep
    # the deadline themselves and return what they have.
    done, _ = await asyncio.wait({task}, timeout=judge.deadline + 0.5)
    if not done:
        task.cancel()
        return [Judgement(None, error="deadline")] * len(comparisons)
    if task.cancelled() or task.exception() is not None:
        reason = "cancelled" if task.cancelled() else describe_error(task.exception())
        return [Judgement(None, error=reason)] * len(comparisons)
    judgements = task.result()
    try:
        judgements = list(judgements)
    except TypeError:
        judgements = [judgements]
    if len(judgements) != len(comparisons) or not all(isinstance(j, Judgement) for j in judgements):
        error = f"the judge returned {len(judgements)} objects for {len(comparisons)} comparisons, or no judgements"
        return [Judgement(None, error=error)] * len(comparisons)
    return judgements


class ChatJudge:
    """A judge that is a chat model: prompts, verdicts, and a cache. The subclasses ask the model.

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

    async def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One judgement for each comparison. Equal ones are asked once, and those in the cache not at all."""
        until = time.monotonic() + self.deadline
        asked = [judge_messages(comparison, self.prompt) for comparison in comparisons]
        keys = [self._key(messages) for messages in asked]
        messages_of = dict(zip(keys, asked, strict=True))
        known = {} if self.cache is None else self.cache.read(messages_of)
        found = {key: Judgement(parse_verdict(text), text) for key, text in known.items()}
        fresh = [key for key in messages_of if key not in found]
        # The subclasses keep each answer when it comes, so that a deadline loses none.
        answers = await self._answer([messages_of[key] for key in fresh], until) if fresh else []
        for key, answer in zip(fresh, answers, strict=True):
            found[key] = answer if answer.error else replace(answer, verdict=parse_verdict(answer.text))
        judgements, first = [], set()
        for key in keys:
            # The repetitions of a comparison within the batch cost nothing.
            judgements.append(replace(found[key], seconds=None) if key in first else found[key])
            first.add(key)
        return judgements

    async def _answer(self, batch: list[list[dict[str, str]]], until: float) -> list[Judgement]:
        """The model's texts, without verdicts, for all that it answers until the monotonic clock shows `until`."""
        raise NotImplementedError

    def _keep(self, messages: list[dict[str, str]], text: str) -> None:
        if self.cache is not None:
            self.cache.write(self._key(messages), text)

    def _key(self, messages: list[dict[str, str]]) -> str:
        # The messages hold the prompt, its version, and the three texts as the judge sees them.
        return hashlib.sha256(json.dumps([self.name, messages]).encode()).hexdigest()


class JudgeCache:
    """
    Judges' answers in a folder, which several processes may use at once. Texts only, nothing is unpickled. A cache
    that fails later on, on a full disk for example, knows nothing and keeps nothing, with a warning.

    Raises:
        `OSError`: if the folder cannot be made or holds something else.
    """

    def __init__(self, folder: str | Path):
        self.folder = str(folder)
        self._cache = None
        try:
            self._open()
        except sqlite3.Error as error:
            raise OSError(f"{self.folder} cannot be the cache of a judge: {error}") from error

    def read(self, keys) -> dict[str, str]:
        """What is known of these keys."""
        try:
            cache = self._open()
            found = [(key, cache.get(key, retry=True)) for key in keys]
        except (OSError, sqlite3.Error) as error:
            logger.warning(f"the judge's cache {self.folder} cannot be read: {error}")
            return {}
        return {key: text for key, text in found if isinstance(text, str)}

    def write(self, key: str, text: str) -> None:
        """Keeps an answer. The last one wins."""
        try:
            self._open().set(key, text, retry=True)
        except (OSError, sqlite3.Error) as error:
            logger.warning(f"the judge's cache {self.folder} cannot be written: {error}")

    def __getstate__(self):
        return {"folder": self.folder, "_cache": None}  # rewards are pickled for other processes

    def _open(self):
        if self._cache is None:
            try:
                import diskcache
            except ImportError:
                raise ImportError('a judge\'s cache needs diskcache: pip install "qwenlong-trl[judge]"') from None

            class TextDisk(diskcache.Disk):
                def fetch(self, mode, filename, value, read):
                    # Keys and values are text, so a pickle was not written by us.
                    return None if mode == diskcache.core.MODE_PICKLE else super().fetch(mode, filename, value, read)

            self._cache = diskcache.Cache(self.folder, disk=TextDisk, eviction_policy="none", cull_limit=0)
        return self._cache


def describe_error(error: BaseException) -> str:
    """An error in at most 300 characters: some servers answer with whole pages."""
    return f"{type(error).__name__}: {error}"[:300]
