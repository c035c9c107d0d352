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
import math
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        check (`Callable`, *optional*):
            Called before the first question of [`~LoongJudge.judge_all`], if there is one; raises where it is of no
            use to ask them.

    Raises:
        `ValueError`: for another prompt or parse.
        `TypeError`: for a judge without `answers`.
    """

    def __init__(
        self,
        judge: ChatJudge | Any,
        prompt: str = "default",
        parse: str = "robust",
        check: Callable[[], Any] = lambda: None,
    ):
        if prompt not in PROMPT_HASHES:
            raise ValueError(f"prompt must be one of {', '.join(PROMPT_HASHES)}, got {prompt!r}")
        if parse not in PARSES:
            raise ValueError(f"parse must be one of {', '.join(PARSES)}, got {parse!r}")
        if not callable(getattr(judge, "answers", None)):
            raise TypeError(f"a judge of Loong needs a method answers, which {type(judge).__name__} has not")
        self.judge = judge
        self.prompt = prompt
        self.parse = parse
        self.check = check

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

        Each answer is written down when it comes, or with its batch where the judge works in batches. The judge's
        `deadline` is one for the batches of a training and does not hold here: a single request has its time-out. A
        prediction that changed since then is asked again. What the judge failed on is asked once more at the end, and
        in another run, as a failure is not written down. Not for use inside a running event loop.

        Args:
            jobs (`Sequence[tuple[LoongRecord, str]]`):
                Each record once, with its completion.
            store ([`~qwenlong_trl.generation.store.JsonlStore`]):
                Open, with the `settings` of this judge.
            progress (`bool`, *optional*, defaults to `True`):
                Whether to show a bar.

        Returns:
            `dict[str, LoongJudgement]`: by id, in the order of the jobs; those with an `error` are what the judge
            failed on.

        Raises:
            `ValueError`: a record stands there twice, or the store is that of another judge or damaged.
            `OSError`: an answer cannot be written down.
        """
        # As they come back from a file; the store may say more about the run.
        settings = json.loads(json.dumps(self.settings))
        if {**store.settings, **settings} != store.settings:
            raise ValueError("the store was not opened with this judge's settings; open it with LoongJudge.settings")
        found = self._known(jobs, store)
        missing = [(record, prediction) for record, prediction in jobs if record.id not in found]
        failed = {}
        if missing:
            self.check()
            failed = self._ask_all(missing, store, progress, len(found))
        if failed:
            logger.warning(
                f"the judge failed on {len(failed)} of {len(jobs)} predictions, which have no score; run again to ask "
                f"for them once more. The first failure: {next(iter(failed.values()))!r}"
            )
        found |= self._known(missing, store)
        found |= {id: LoongJudgement(None, error=error) for id, error in failed.items()}
        return {record.id: found[record.id] for record, _ in jobs}

    def _known(self, jobs: Sequence[tuple[LoongRecord, str]], store: JsonlStore) -> dict[str, LoongJudgement]:
        lines = {record.id: store.read(record.id) for record, _ in jobs if record.id in store}
        return read_judgements(jobs, lines, self.parse, store.path)

    def _ask_all(
        self, jobs: list[tuple[LoongRecord, str]], store: JsonlStore, progress: bool, known: int
    ) -> dict[str, str]:
        """Asks for all jobs, and again for those that failed; the reasons of those that failed again, by id."""
        from tqdm.auto import tqdm

        with tqdm(
            total=known + len(jobs), initial=known, desc="Judging", unit=" answers", disable=not progress
        ) as bar:
            failed = asyncio.run(self._ask(jobs, store, bar.update))
            if 0 < len(failed) < len(jobs):  # of a judge that answered nothing there is nothing to hope for
                failed = asyncio.run(self._ask([job for job in jobs if job[0].id in failed], store, bar.update))
        return failed

    async def _ask(self, jobs: list[tuple[LoongRecord, str]], store: JsonlStore, done: Callable) -> dict[str, str]:
        """Asks for all jobs once and writes each answer down; the reasons of those that failed, by id."""
        judge = self.judge
        waiting: dict[str, list[tuple[LoongRecord, str]]] = {}  # by the messages, which may be equal
        batch = []
        for record, prediction in jobs:
            batch.append(judge_messages(record, prediction, self.prompt))
            waiting.setdefault(json.dumps(batch[-1]), []).append((record, prediction))
        unwritten: list[OSError] = []

        def keep(messages: list[dict[str, str]], text: str) -> None:
            for record, prediction in waiting.pop(json.dumps(messages), ()):
                try:
                    store.write(record.id, prediction=prediction_digest(prediction), text=text, error=None)
                except OSError as error:  # which the judge would take for a failure of its own
                    unwritten.append(error)
                done()

        at_once = getattr(judge, "batch_size", None) or getattr(judge, "concurrency", None) or 16
        if isinstance(judge, ChatJudge) and hasattr(judge, "concurrency"):
            at_once = len(batch)  # over one connection pool; it limits itself what it does at the same time
        failed: dict[str, str] = {}
        with _without_deadline(judge, keep):
            for start in range(0, len(batch), at_once):
                part = batch[start : start + at_once]
                answers = await ask_messages(judge, part)
                for (record, _), messages, answer in zip(jobs[start:], part, answers, strict=False):
                    if answer.error is None:
                        keep(messages, answer.text)
                    else:
                        failed[record.id] = answer.error
                if unwritten:
                    raise unwritten[0]
        return failed


@contextmanager
def _without_deadline(judge: Any, on_answer: Callable) -> Iterator[None]:
    """The judge takes as long as it takes, and a chat judge hands out each answer when it comes."""
    ours = {"deadline": math.inf} if hasattr(judge, "deadline") else {}
    ours |= {"on_answer": on_answer} if isinstance(judge, ChatJudge) else {}
    before = {name: getattr(judge, name, None) for name in ours}
    try:
        for name, value in ours.items():
            setattr(judge, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(judge, name, value)


def read_judgements(
    jobs: Sequence[tuple[LoongRecord, str]],
    lines: Mapping[str, Mapping[str, Any]],
    parse: str = "robust",
    source: str | os.PathLike = "judgements",
) -> dict[str, LoongJudgement]:
    """
    What stored lines hold of these records with these predictions, by id; no judge is asked. They keep the judge's
    words, so scores may be read from them in either way.

    Args:
        jobs (`Sequence[tuple[LoongRecord, str]]`):
            Each record once, with its completion.
        lines (`Mapping[str, Mapping[str, Any]]`):
            By id, as [`~LoongJudge.judge_all`] wrote them; see [`~qwenlong_trl.generation.store.read_lines`].
        parse (`str`, *optional*, defaults to `"robust"`):
            `"robust"` or `"official"`, see [`parse_score`].
        source (`str` or `os.PathLike`, *optional*, defaults to `"judgements"`):
            What errors call the file of the lines.

    Raises:
        `ValueError`: a record stands there twice, or a line is none that a judge's run wrote.
    """
    if len({record.id for record, _ in jobs}) < len(jobs):
        raise ValueError("some record has two predictions; a run judges one of each record")
    found = {}
    for record, prediction in jobs:
        if (line := lines.get(record.id)) is None:
            continue
        for field in ("prediction", "text"):
            if not isinstance(line.get(field), str):
                shown = reprlib.repr(line.get(field))
                raise ValueError(
                    f"{source}, id {record.id!r}: field `{field}` is {shown}: expected a text; restore the file, "
                    "or remove it to judge again"
                )
        if line["prediction"] == prediction_digest(prediction):
            words, cut_off = split_cut_off(line["text"])
            found[record.id] = LoongJudgement(parse_score(line["text"], parse), words, cut_off)
    return found


def prediction_digest(prediction: str) -> str:
    """By which a stored judgement knows its prediction."""
    return hashlib.blake2b(prediction.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
