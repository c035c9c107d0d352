"""The judge of Loong: a chat model scores every prediction against the gold answer, and a killed run goes on.

```python
>>> from qwenlong_trl.generation.store import JsonlStore
>>> from qwenlong_trl.loong.judge import LoongJudge
>>> from qwenlong_trl.rewards import OpenAIJudge
>>> judge = LoongJudge(OpenAIJudge("Qwen/Qwen2.5-7B-Instruct", "http://localhost:8000/v1"))
>>> with JsonlStore("judgements.jsonl", judge.settings) as store:
...     judgements = judge.judge_all([(record, predictions[record.id]) for record in records], store)
>>> judgements[records[0].id].score
95.0
```

The published tables were made with `gpt-4-turbo-2024-04-09`, the official prompt and the official reading of scores;
scores of any other judge cannot be compared with them. Paper: Loong (arXiv 2406.17419), section 4.1 and appendix A.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..rewards.judge import ChatJudge, ask_messages, split_cut_off
from .judge_prompt import PARSES, PROMPT_HASHES, judge_messages, parse_score
from .records import LoongRecord


if TYPE_CHECKING:
    from ..generation.store import JsonlStore

logger = logging.getLogger(__name__)

__all__ = ["PARSES", "PROMPT_HASHES", "LoongJudge", "LoongJudgement"]
__all__ += ["judge_messages", "parse_score", "prediction_digest", "read_judgements"]

# A chunk holds that many times what the judge does at once, so that few of its slots wait for the end of one.
_ROUNDS = 4


@dataclass(frozen=True)
class LoongJudgement:
    """What a judge said of one prediction.

    Args:
        score (`float`, *optional*):
            The score, mostly 1 to 100; `None` where none could be read, or the judge failed.
        text (`str`, *optional*, defaults to `""`):
            The judge's own words.
        cut_off (`bool`, *optional*, defaults to `False`):
            Whether the judge had not finished.
        error (`str`, *optional*):
            Why the judge gave no answer at all.
    """

    score: float | None
    text: str = ""
    cut_off: bool = False
    error: str | None = None


class LoongJudge:
    """Scores predictions with a chat judge.

    Args:
        judge ([`~qwenlong_trl.rewards.OpenAIJudge`] or [`~qwenlong_trl.rewards.TransformersJudge`]):
            Who is asked. Anything with a method `async answers(batch)` will do that returns one
            [`~qwenlong_trl.rewards.Judgement`] for each list of chat messages; it may fail in any way.
        prompt (`str`, *optional*, defaults to `"default"`):
            `"default"` or `"official"`, see [`judge_messages`].
        parse (`str`, *optional*, defaults to `"robust"`):
            `"robust"` or `"official"`, see [`parse_score`].

    Raises:
        `ValueError`: for another prompt or parse.
        `TypeError`: for a judge without `answers`.
    """

    def __init__(self, judge: ChatJudge | Any, prompt: str = "default", parse: str = "robust"):
        if prompt not in PROMPT_HASHES:
            raise ValueError(f"prompt must be one of {', '.join(PROMPT_HASHES)}, got {prompt!r}")
        if parse not in PARSES:
            raise ValueError(f"parse must be one of {', '.join(PARSES)}, got {parse!r}")
        if not callable(getattr(judge, "answers", None)):
            raise TypeError(f"a judge of Loong needs a method answers, which {type(judge).__name__} has not")
        self.judge = judge
        self.prompt = prompt
        self.parse = parse

    @property
    def settings(self) -> dict[str, Any]:
        """What the judge's answers depend on, for the store: all of [`~LoongJudge.describe`] but how they are read."""
        judge = self.judge
        settings = {
            "judge": getattr(judge, "name", type(judge).__name__),
            "model": getattr(judge, "model", None),
            "prompt": self.prompt,
            "prompt_sha256": PROMPT_HASHES[self.prompt],
        }
        limit = getattr(judge, "max_tokens", getattr(judge, "max_new_tokens", None))
        extra = getattr(judge, "extra_body", None) or {}
        if limit is not None:
            settings["max_tokens"] = extra.get("max_tokens", limit)
        if isinstance(judge, ChatJudge):
            settings["temperature"] = extra.get("temperature", 0.0)
        return settings | ({"extra_body": extra} if extra else {})

    def describe(self) -> dict[str, Any]:
        """The judge, its prompt with hash, how scores are read, and the parameters that matter, as JSON has it."""
        return {**self.settings, "parse": self.parse}

    def judge_all(
        self, jobs: Sequence[tuple[LoongRecord, str]], store: JsonlStore, progress: bool = True
    ) -> dict[str, LoongJudgement]:
        """Scores records with their predictions; what the store holds of them is not asked again.

        Answers are written down as soon as their chunk is done: four times what the judge does at once. A prediction
        that changed since then is asked again. So is, in another run, one that the judge failed on, as a failure is
        not written down. Not for use inside a running event loop.

        Args:
            jobs (`Sequence[tuple[LoongRecord, str]]`):
                Each record once, with its completion.
            store ([`~qwenlong_trl.generation.store.JsonlStore`]):
                Open, with the `settings` of this judge.
            progress (`bool`, *optional*, defaults to `True`):
                Whether to show a bar.

        Returns:
            `dict[str, LoongJudgement]`: by id, in the order of the jobs.

        Raises:
            `ValueError`: a record stands there twice, or the store is that of another judge.
        """
        # As they come back from a file; the store may say more about the run.
        settings = json.loads(json.dumps(self.settings))
        if {**store.settings, **settings} != store.settings:
            raise ValueError("the store was not opened with this judge's settings; open it with LoongJudge.settings")
        found = read_judgements(jobs, store, self.parse)
        missing = [(record, prediction) for record, prediction in jobs if record.id not in found]
        failed = asyncio.run(self._ask(missing, store, progress, len(found))) if missing else {}
        if failed:
            logger.warning(
                f"the judge failed on {len(failed)} of {len(jobs)} predictions, which have no score; run again to ask "
                f"for them once more. The first failure: {next(iter(failed.values()))}"
            )
        found |= read_judgements(missing, store, self.parse)
        found |= {id: LoongJudgement(None, error=error) for id, error in failed.items()}
        return {record.id: found[record.id] for record, _ in jobs}

    async def _ask(self, jobs: list[tuple[LoongRecord, str]], store: JsonlStore, progress: bool, known: int):
        """Asks for all jobs and writes the answers down; the reasons of those that failed, by id."""
        from tqdm.auto import tqdm

        at_once = getattr(self.judge, "concurrency", None) or getattr(self.judge, "batch_size", None) or 16
        failed: dict[str, str] = {}
        with tqdm(
            total=known + len(jobs), initial=known, desc="Judging", unit=" answers", disable=not progress
        ) as bar:
            for start in range(0, len(jobs), _ROUNDS * at_once):
                chunk = jobs[start : start + _ROUNDS * at_once]
                batch = [judge_messages(record, prediction, self.prompt) for record, prediction in chunk]
                answers = await ask_messages(self.judge, batch)
                for (record, prediction), answer in zip(chunk, answers, strict=True):
                    if answer.error is None:
                        store.write(record.id, prediction=prediction_digest(prediction), text=answer.text, error=None)
                    else:
                        failed[record.id] = answer.error
                bar.update(len(chunk))
        return failed


def read_judgements(
    jobs: Sequence[tuple[LoongRecord, str]], store: JsonlStore, parse: str = "robust"
) -> dict[str, LoongJudgement]:
    """
    What a store holds of these records with these predictions, by id; no judge is asked. The store keeps the judge's
    words, so scores may be read from them in either way.

    Raises:
        `ValueError`: a record stands there twice.
    """
    if len({record.id for record, _ in jobs}) < len(jobs):
        raise ValueError("some record has two predictions; a run judges one of each record")
    found = {}
    for record, prediction in jobs:
        line = store.read(record.id) if record.id in store else {}
        if line.get("prediction") == prediction_digest(prediction):
            words, cut_off = split_cut_off(line["text"])
            found[record.id] = LoongJudgement(parse_score(line["text"], parse), words, cut_off)
    return found


def prediction_digest(prediction: str) -> str:
    """By which a stored judgement knows its prediction."""
    return hashlib.blake2b(prediction.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
