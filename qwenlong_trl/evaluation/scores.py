"""Scores of completions: by the rule, by a judge, and the larger of the two (arXiv 2505.17667, Eq. 14), each apart.

```python
>>> from qwenlong_trl.evaluation import score_completions
>>> answers = score_completions(records, {"q1": completions}, judge=judge, judge_all=True)
>>> answers[0].rule, answers[0].judge, answers[0].score
```

| | `"fixed"` (default) | `"official"` |
| --- | --- | --- |
| rule | the strict one, over all accepted answers | the released code's, over the first answer |
| judge | asked where the rule says 0, with `judge_all` everywhere | always asked |
| what it reads | texts made harmless | texts as they are |
| verdict | `[[YES]]`, the last one | "YES" anywhere |
| nothing to judge | not asked; with `judge_all` the judge's score is 0 | judged as "None" |
| empty and failed | count as 0 | left out of every mean |

In both modes the answer stands after the last `</think>`, or anywhere in a response without one; in mode `"fixed"` a
response with an open `<think>` has no answer, nor, with `require_delimiter`, one without `</think>`. Multiple choice
is not judged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..data.record import LongContextExample
from ..generation.sampling import Completion
from ..generation.store import JsonlStore
from ..rewards.hybrid import JUDGED_TASKS, HybridReward
from ..rewards.judge import Judge, Judgement, ask, ask_messages
from ..rewards.judge_prompt import Comparison
from ..rewards.rule_rewards import get_rule_reward
from .official import check_official_task, official_comparison, official_messages, official_rule, official_verdict
from .protocol import Mode, check_mode


logger = logging.getLogger(__name__)

FAILED = "failed"  # the finish reason of an answer that is missing
NOT_ASKED = "not asked, as the judge had failed on everything twice in a row"
# So many failures in a row, over two parts or more, mean that the judge is gone; a few can be of odd answers.
_GIVE_UP = 16
# Answers that are scored together; a judge has its whole deadline for those of them that it is asked about.
_PART = 64
_NO_LIMIT = 1e9
_NOTHING = Judgement(False)  # where a judge of all answers has nothing to read


@dataclass(frozen=True)
class Answer:
    """One scored completion.

    Args:
        record_id (`str`):
            The record that it answers.
        sample (`int`):
            Which of the record's completions, from 0.
        text (`str`):
            The completion; empty if there is none.
        finish_reason (`str`):
            `"stop"`, `"length"`, or `"failed"` if there is no completion.
        prediction (`str`, *optional*):
            The answer that the rule read; `None` if it could read none.
        rule (`float`):
            1.0 if the rule accepts it, else 0.0.
        judge (`float`, *optional*):
            1.0 if the judge accepts it, else 0.0; `None` if the judge was not asked, or gave no verdict. Where it was
            to be asked about everything and there was nothing to judge, 0.0.
        score (`float`):
            The larger of the two.
        judged (`bool`, *optional*, defaults to `False`):
            Whether the judge was asked, or would have been.
        judge_error (`str`, *optional*):
            Why the judge gave no answer at all; the same run asks it again.
    """

    record_id: str
    sample: int
    text: str
    finish_reason: str
    prediction: str | None
    rule: float
    judge: float | None
    score: float
    judged: bool = False
    judge_error: str | None = None


def score_completions(
    records: Sequence[LongContextExample],
    completions: Mapping[str, Sequence[Completion]],
    num_samples: int = 1,
    mode: Mode = "fixed",
    judge: Judge | None = None,
    judge_all: bool = False,
    judgements: JsonlStore | None = None,
    require_delimiter: bool = False,
) -> list[Answer]:
    """Scores all completions, with a progress bar where a judge is asked.

    A judge that fails on all that it is asked about, in two parts of 64 answers one after the other, is not asked any
    more.

    Args:
        records (`Sequence[LongContextExample]`):
            What was asked.
        completions (`Mapping[str, Sequence[Completion]]`):
            By the id of a record. One that is not there has failed.
        num_samples (`int`, *optional*, defaults to `1`):
            As many failed answers stand for a record without completions.
        mode (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"` or `"official"`.
        judge ([`Judge`], *optional*):
            Without one the score is the rule's.
        judge_all (`bool`, *optional*, defaults to `False`):
            Ask the judge about answers that the rule accepts, too, to know what the judge alone would say. In mode
            `"official"` it always is.
        judgements ([`JsonlStore`], *optional*):
            Open. What the judge says goes there and is not asked again; a judge that failed is.
        require_delimiter (`bool`, *optional*, defaults to `False`):
            See [`EvaluationProtocol`].

    Returns:
        `list[Answer]`: in the order of the records, and of the samples of each.

    Raises:
        `ValueError`: the task of a record is unknown, or unknown to the mode.
    """
    check_mode(mode)
    rows = []
    for record in records:
        if mode == "official":
            check_official_task(record.task)
        found = completions.get(record.id)
        found = [None] * num_samples if found is None else found
        rows += [_Row(record, sample, completion) for sample, completion in enumerate(found)]
    keeper = None if judge is None else _StoredJudge(judge, judgements, mode)
    rule = get_rule_reward(require_delimiter=require_delimiter)
    answers = _run(_score_all(rows, mode, keeper, judge_all, rule))
    if keeper is not None and keeper.gave_up:
        missing = sum(answer.judge_error is not None for answer in answers)
        logger.warning(f"the judge failed on everything twice in a row and has not judged {missing} answers")
    return answers


class _Row:
    """What one answer is scored by."""

    def __init__(self, record: LongContextExample, sample: int, completion: Completion | None):
        self.record, self.sample = record, sample
        self.text = "" if completion is None else completion.text
        self.finish_reason = FAILED if completion is None else completion.finish_reason


def _run(work: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:  # a notebook has a loop that runs already
        return thread.submit(asyncio.run, work).result()


async def _score_all(
    rows: Sequence[_Row], mode: Mode, judge: _StoredJudge | None, judge_all: bool, rule
) -> list[Answer]:
    from tqdm import tqdm

    answers: list[Answer] = []
    with tqdm(total=len(rows), desc="Judging", unit=" answers", disable=judge is None) as bar:
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            answers += await (_fixed(part, judge, judge_all, rule) if mode == "fixed" else _official(part, judge))
            bar.update(len(part))
    return answers


async def _fixed(rows: Sequence[_Row], judge: _StoredJudge | None, judge_all: bool, rule) -> list[Answer]:
    texts = [row.text for row in rows]
    golds = [list(row.record.answers) for row in rows]
    tasks = [row.record.task for row in rows]
    questions = [row.record.question for row in rows]
    judged: dict[int, Judgement] = {}
    if judge is None:
        rules = rule.scores(texts, golds, tasks)
    else:
        rules, judged = await HybridReward(judge, rule, judge_all).verdicts(texts, golds, tasks, questions)
    nothing = _NOTHING if judge is not None and judge_all else None
    return [
        _answer(
            row, found.score, found.prediction, judged.get(i, nothing if row.record.task in JUDGED_TASKS else None)
        )
        for i, (row, found) in enumerate(zip(rows, rules, strict=True))
    ]


async def _official(rows: Sequence[_Row], judge: _StoredJudge | None) -> list[Answer]:
    rules, comparisons = [], {}
    for i, row in enumerate(rows):
        gold = row.record.answers[0]
        rules.append(official_rule(row.text, gold, row.record.task))
        if judge is not None and row.text:
            comparisons[i] = official_comparison(row.text, row.record.question, gold, row.record.task)
    replies = await judge.judge(list(comparisons.values())) if comparisons else []
    judged = dict(zip(comparisons, map(_official_reply, replies), strict=True))
    return [_answer(row, *rules[i], judged.get(i)) for i, row in enumerate(rows)]


def _official_reply(reply: Judgement) -> Judgement:
    if reply.error is not None or not reply.text:  # a judge need not have words
        return reply
    return Judgement(official_verdict(reply.text), reply.text)


def _answer(row: _Row, rule: float, prediction: str | None, reply: Judgement | None) -> Answer:
    judge = None if reply is None or reply.verdict is None else float(reply.verdict)
    return Answer(
        record_id=row.record.id,
        sample=row.sample,
        text=row.text,
        finish_reason=row.finish_reason,
        prediction=prediction,
        rule=rule,
        judge=judge,
        score=max(rule, judge or 0.0),
        judged=reply is not None and reply is not _NOTHING,
        judge_error=None if reply is None else reply.error,
    )


class _StoredJudge:
    """A judge whose words are kept in a file by what it was asked."""

    # The judge's own deadline is kept by `ask`, for what is not in the file.
    deadline = _NO_LIMIT

    def __init__(self, judge: Judge, store: JsonlStore | None, mode: Mode):
        self._judge = judge
        self._store = store
        # A chat model is asked as the released code does it; what else a judge may be reads the comparison.
        self._as_released = mode == "official" and callable(getattr(judge, "answers", None))
        self._known: dict[str, Judgement] = {}
        self._failed: list[int] = []  # how many comparisons each of the last parts had, of which none was answered

    @property
    def gave_up(self) -> bool:
        return len(self._failed) >= 2 and sum(self._failed) >= _GIVE_UP

    async def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        keys = [_key(comparison) for comparison in comparisons]
        for key in keys:
            if key not in self._known and self._store is not None and key in self._store:
                line = self._store.read(key)
                self._known[key] = Judgement(line["verdict"], line["text"], cached=True)
        missing = {key: c for key, c in zip(keys, comparisons, strict=True) if key not in self._known}
        if self.gave_up:
            replies = dict.fromkeys(missing, Judgement(None, error=NOT_ASKED))
        else:
            replies = dict(zip(missing, await self._ask(list(missing.values())), strict=True))
            if replies:
                failed = all(reply.error is not None for reply in replies.values())
                self._failed = [*self._failed, len(replies)] if failed else []
        for key, reply in replies.items():
            if reply.error is None:
                self._known[key] = reply
                if self._store is not None:
                    self._store.write(key, verdict=reply.verdict, text=reply.text)
        return [self._known[key] if key in self._known else replies[key] for key in keys]

    async def _ask(self, comparisons: list[Comparison]) -> list[Judgement]:
        if self._as_released:
            return await ask_messages(self._judge, [official_messages(comparison) for comparison in comparisons])
        return await ask(self._judge, comparisons)


def _key(comparison: Comparison) -> str:
    text = json.dumps([comparison.question, comparison.prediction, comparison.gold])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
