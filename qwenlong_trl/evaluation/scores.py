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
| verdict | `[[YES]]`, the last one | "YES" anywhere |
| nothing to judge | an answer that the rule cannot read, and multiple choice, are not judged | judged as "None" |
| empty and failed | count as 0 | left out of every mean |

In both modes the answer stands after the last `</think>`, or anywhere in a response without one; in mode `"fixed"` a
response with an open `<think>` has no answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..data.record import LongContextExample
from ..generation.sampling import Completion
from ..generation.store import JsonlStore
from ..rewards.hybrid import HybridReward
from ..rewards.judge import Judge, Judgement, ask
from ..rewards.judge_prompt import Comparison
from ..rewards.rule_rewards import get_rule_reward
from .official import check_official_task, official_comparison, official_rule, official_verdict
from .protocol import Mode, check_mode


# Answers that are scored together; a judge has its whole deadline for those of them that it is asked about.
_PART = 64
_NO_LIMIT = 1e9


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
            1.0 if the judge accepts it, else 0.0; `None` if the judge was not asked, or gave no verdict.
        score (`float`):
            The larger of the two.
        judged (`bool`, *optional*, defaults to `False`):
            Whether the judge was asked.
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


def score_completions(
    records: Sequence[LongContextExample],
    completions: Mapping[str, Sequence[Completion]],
    num_samples: int = 1,
    mode: Mode = "fixed",
    judge: Judge | None = None,
    judge_all: bool = False,
    judgements: JsonlStore | None = None,
) -> list[Answer]:
    """Scores all completions, with a progress bar where a judge is asked.

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
        found = [Completion("", "failed")] * num_samples if found is None else found
        rows += [(record, sample, completion) for sample, completion in enumerate(found)]
    keeper = None if judge is None else _StoredJudge(judge, judgements)
    return _run(_score_all(rows, mode, keeper, judge_all))


def _run(work: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:  # a notebook has a loop that runs already
        return thread.submit(asyncio.run, work).result()


async def _score_all(rows, mode: Mode, judge: _StoredJudge | None, judge_all: bool) -> list[Answer]:
    from tqdm import tqdm

    score = _fixed if mode == "fixed" else _official
    answers: list[Answer] = []
    with tqdm(total=len(rows), desc="Judging", unit=" answers", disable=judge is None) as bar:
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            answers += await score(part, judge, judge_all)
            bar.update(len(part))
    return answers


async def _fixed(rows, judge: _StoredJudge | None, judge_all: bool) -> list[Answer]:
    texts = [completion.text for _, _, completion in rows]
    golds = [list(record.answers) for record, _, _ in rows]
    tasks = [record.task for record, _, _ in rows]
    questions = [record.question for record, _, _ in rows]
    judged: dict[int, Judgement] = {}
    if judge is None:
        rules = get_rule_reward().scores(texts, golds, tasks)
    else:
        rules, judged = await HybridReward(judge, always=judge_all).verdicts(texts, golds, tasks, questions)
    return [
        _answer(row, rule.score, rule.prediction, judged[i].verdict if i in judged else None, i in judged)
        for i, (row, rule) in enumerate(zip(rows, rules, strict=True))
    ]


async def _official(rows, judge: _StoredJudge | None, judge_all: bool) -> list[Answer]:
    rules, comparisons = [], {}
    for i, (record, _, completion) in enumerate(rows):
        gold = record.answers[0]
        rules.append(official_rule(completion.text, gold, record.task))
        if judge is not None and completion.text:
            comparisons[i] = official_comparison(completion.text, record.question, gold, record.task)
    replies = await judge.judge(list(comparisons.values())) if comparisons else []
    verdicts = {i: _official_verdict(reply) for i, reply in zip(comparisons, replies, strict=True)}
    return [_answer(row, *rules[i], verdicts.get(i), i in verdicts) for i, row in enumerate(rows)]


def _official_verdict(reply: Judgement) -> bool | None:
    if reply.error is not None:
        return None
    return official_verdict(reply.text) if reply.text else reply.verdict  # a judge need not have words


def _answer(row, rule: float, prediction: str | None, verdict: bool | None, judged: bool) -> Answer:
    record, sample, completion = row
    judge = None if verdict is None else float(verdict)
    return Answer(
        record_id=record.id,
        sample=sample,
        text=completion.text,
        finish_reason=completion.finish_reason,
        prediction=prediction,
        rule=rule,
        judge=judge,
        score=max(rule, judge or 0.0),
        judged=judged,
    )


class _StoredJudge:
    """A judge whose words are kept in a file by what it was asked."""

    # The judge's own deadline is kept by `ask`, for what is not in the file.
    deadline = _NO_LIMIT

    def __init__(self, judge: Judge, store: JsonlStore | None):
        self._judge = judge
        self._store = store
        self._known: dict[str, Judgement] = {}

    async def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        keys = [_key(comparison) for comparison in comparisons]
        for key in keys:
            if key not in self._known and self._store is not None and key in self._store:
                line = self._store.read(key)
                self._known[key] = Judgement(line["verdict"], line["text"], cached=True)
        missing = {key: c for key, c in zip(keys, comparisons, strict=True) if key not in self._known}
        replies = dict(zip(missing, await ask(self._judge, list(missing.values())), strict=True))
        for key, reply in replies.items():
            if reply.error is None:
                self._known[key] = reply
                if self._store is not None:
                    self._store.write(key, verdict=reply.verdict, text=reply.text)
        return [self._known[key] if key in self._known else replies[key] for key in keys]


def _key(comparison: Comparison) -> str:
    text = json.dumps([comparison.question, comparison.prediction, comparison.gold])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
