"""The hybrid reward of QwenLong-L1: the larger one of a rule's verdict and a judge's.

```python
>>> from qwenlong_trl.rewards import HybridReward, OpenAIJudge
>>> judge = OpenAIJudge(base_url="http://localhost:8000/v1", model="Qwen/Qwen2.5-1.5B-Instruct")
>>> trainer = PhasedGRPOTrainer(..., reward_funcs=HybridReward(rule="auto", judge=judge))
```

Paper: QwenLong-L1 (arXiv 2505.17667), section 2.4, Eq. 14. One callable, since TRL adds up reward functions, and a
function without a value counts as 0 in that sum.

Metrics. Each is a mean over what it counts in a generation batch, all processes together (where TRL logs several
batches at once, the mean of theirs):

| metric | mean over | of |
| --- | --- | --- |
| `rule/parse_rate` | rows | whether the rule could read an answer |
| `hybrid/rule` | rows | rewards by the rule |
| `hybrid/judge` | rows | rewards by the judge alone; the two add up to the reward |
| `judge/asked` | rows | whether the judge was asked |
| `judge/yes`, `/no`, `/invalid`, `/failed` | rows asked | what came of it; they add up to 1 |
| `judge/agreement` | rows with a judge's verdict | whether it is the rule's |
| `judge/cache_hits` | rows asked | whether the answer was known without a request |
| `judge/latency_p50`, `/latency_p95` | batches and processes | seconds of a request |
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from .answers import extract_answer, extract_gold
from .judge import Judge, Judgement, ask
from .judge_prompt import Comparison, neutralize
from .rule_rewards import TASKS, RuleReward, completion_text, get_rule_reward
from .rules import RuleScore


logger = logging.getLogger(__name__)

# A multiple-choice answer is a letter, with no meaning to compare. The released code does not judge it either.
JUDGED_TASKS = ("docqa", "docmath")


class HybridReward:
    """A reward function for TRL trainers: 1.0 where the rule or the judge accepts a completion's answer, else 0.0.

    The judge is asked where the rule says 0 and the completion has an answer, which leaves the maximum as it is. It
    sees the question, the answer and the accepted answers; not the documents and not the reasoning. A judge that fails
    (no connection, too late, no verdict) leaves the rule's reward, is counted, and never stops the training. The data
    set needs the columns `answers`, `question` and, with `rule="auto"`, `task`.

    Args:
        judge ([`Judge`]):
            [`OpenAIJudge`], [`TransformersJudge`], or any object with `deadline` and `judge`.
        rule (`str` or `Callable`, *optional*, defaults to `"auto"`):
            `"auto"`: the column `task` decides row by row. `"docqa"`, `"docmath"` or `"multiple_choice"`: score the
            rows of this task only. For other options, a reward made by [`get_rule_reward`].
        always (`bool`, *optional*, defaults to `False`):
            Ask also where the rule says 1, to measure how often the two agree. The reward is the same.

    Raises:
        `TypeError`: if `judge` or `rule` is something else.
        `ValueError`: for another name of a rule, or a judge whose deadline is no positive number.
    """

    # What TRL shows in its metrics; with a rule of one task, the task comes first.
    __name__ = "hybrid_reward"

    def __init__(self, judge: Judge, rule: str | Callable = "auto", always: bool = False):
        if not isinstance(judge, Judge):
            raise TypeError(f"judge needs `deadline` and an async method `judge`, got {type(judge).__name__}")
        if not isinstance(judge.deadline, (int, float)) or not judge.deadline > 0:
            raise ValueError(f"the judge's deadline must be a positive number of seconds, got {judge.deadline!r}")
        if isinstance(rule, str):
            if rule not in ("auto", *TASKS):
                raise ValueError(f"rule must be 'auto', one of {', '.join(TASKS)}, or a rule reward, got {rule!r}")
            rule = get_rule_reward(task=None if rule == "auto" else rule)
        if not isinstance(rule, RuleReward):
            raise TypeError(f"rule must be a name or a reward made by get_rule_reward, got {rule!r}")
        self.judge = judge
        self.rule = rule
        self.always = always
        self._column = ""
        if rule.task is not None:
            self.__name__ = f"{rule.task}_{self.__name__}"
            self._column = f"{rule.task}/"

    async def __call__(
        self,
        completions: list[str] | list[list[dict[str, Any]]],
        answers: list[list[str]] | None = None,
        task: list[str] | None = None,
        question: list[str] | None = None,
        log_extra: Callable[[str, list], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **kwargs,
    ) -> list[float | None]:
        scores, judged = await self.verdicts(completions, answers, task, question, **kwargs)
        rewards = [
            None
            if score is None
            else max(score.score, 1.0 if row in judged and judged[row].verdict else 0.0)  # Eq. 14
            for row, score in enumerate(scores)
        ]
        if log_metric is not None:
            for name, value in _metrics(scores, rewards, judged):
                log_metric(name, value)
        if log_extra is not None:
            # Two functions that write the same column would make it twice as long as the table.
            log_extra(f"{self._column}prediction", [None if score is None else score.prediction for score in scores])
            log_extra(f"{self._column}judge", [_told(judged.get(row)) for row in range(len(scores))])
        return rewards

    async def verdicts(
        self, completions, answers=None, task=None, question=None, **columns
    ) -> tuple[list[RuleScore | None], dict[int, Judgement]]:
        """What the rule says of each row, and what the judge says of the rows that it was asked about, by row."""
        tasks = self.rule.tasks(task, len(completions))
        scores = self.rule.scores(completions, answers, task, **columns)
        if question is None:
            raise ValueError(
                "hybrid_reward: the dataset has no column `question`, which the judge has to see. prompt_dataset "
                "makes one; in data of your own, add the bare question of each row."
            )
        comparisons: dict[int, Comparison] = {}
        for row, score in enumerate(scores):
            if score is None or tasks[row] not in JUDGED_TASKS or (score.score > 0 and not self.always):
                continue
            if not isinstance(question[row], str):
                raise ValueError(f"row {row} of the batch: `question` is {question[row]!r}, expected a string")
            prediction, reference = self._prediction(completions[row], score), _reference(answers[row])
            # Nothing would be left of "</s>", and an empty answer may look right.
            if prediction is not None and neutralize(prediction) and reference is not None:
                comparisons[row] = Comparison(question[row], prediction, reference)

        replies = await ask(self.judge, list(comparisons.values()))
        self._warn(replies)
        return scores, dict(zip(comparisons, replies, strict=True))

    def _prediction(self, completion, score: RuleScore) -> str | None:
        """The answer that the rule read, or one in words that it could not read as a number."""
        if score.prediction is not None or self.rule.mode == "l1_compat":
            return score.prediction
        return extract_answer(completion_text(completion), self.rule.delimiter, self.rule.require_delimiter)

    def _warn(self, replies: Sequence[Judgement]) -> None:
        failed = [reply.error for reply in replies if reply.error is not None]
        if failed:
            logger.warning(
                f"the judge failed for {len(failed)} of {len(replies)} answers, which keep the rule's reward; the "
                f"first reason: {failed[0]}"
            )


def _reference(golds: list[str] | str) -> str | None:
    """The accepted answers as the judge sees them; `None` if all are empty."""
    golds = [golds] if isinstance(golds, str) else golds
    golds = [gold for gold in dict.fromkeys(extract_gold(gold) or gold for gold in golds) if neutralize(gold)]
    if not golds:
        return None
    first, *others = golds
    return f"{first} (or: {'; '.join(others)})" if others else first


def _metrics(scores: list[RuleScore | None], rewards: list[float | None], judged: dict[int, Judgement]):
    """Names and values; TRL averages all values of a name over the processes, so one value is one row."""
    for row, score in enumerate(scores):
        if score is None:
            continue
        yield "rule/parse_rate", float(score.prediction is not None)
        yield "hybrid/rule", score.score
        yield "hybrid/judge", rewards[row] - score.score
        yield "judge/asked", float(row in judged)
    for row, reply in judged.items():
        outcome = {True: "yes", False: "no", None: "invalid" if reply.error is None else "failed"}[reply.verdict]
        for name in ("yes", "no", "invalid", "failed"):
            yield f"judge/{name}", float(name == outcome)
        yield "judge/cache_hits", float(reply.cached)
        if reply.verdict is not None:
            yield "judge/agreement", float(reply.verdict == (scores[row].score > 0))
    seconds = [reply.seconds for reply in judged.values() if reply.seconds is not None]
    if seconds:
        cuts = statistics.quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else seconds * 19
        yield "judge/latency_p50", statistics.median(seconds)
        yield "judge/latency_p95", cuts[18]


def _told(reply: Judgement | None) -> str | None:
    return None if reply is None else reply.text if reply.error is None else f"failed: {reply.error}"
