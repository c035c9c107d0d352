"""Which of a model's answers are right: by the rule of SoLoPO (arXiv 2505.11166), or by the hybrid reward.

```python
>>> from qwenlong_trl.solopo.scoring import score_sub_em
>>> score_sub_em("Oslo lies there. Therefore, the answer is the Kingdom of Norway.", ["Norway"]).score
1.0
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ..data import LongContextExample
from ..data.compose import UNSPACED_SCRIPT
from ..generation import Completion
from ..rewards import HybridReward, RuleScore, extract_answer, get_rule_reward, normalize_answer
from ..rewards.answers import extract_gold


# Answers in one call of the judge, which may take its deadline: as in `judge-check`.
_JUDGED_AT_ONCE = 64


@dataclass(frozen=True)
class ScoredCompletion:
    """A completion with the answer that was found in it, and whether that is right.

    Args:
        text (`str`):
            The completion.
        answer (`str`, *optional*):
            Its final answer; `None` if it gives none.
        right (`bool`, *optional*):
            `None` if the judge was asked and gave no verdict.
        count (`int`, *optional*, defaults to `1`):
            How many samples have this text.
    """

    text: str
    answer: str | None
    right: bool | None
    count: int = 1


def score_sub_em(completion: str, golds: Sequence[str]) -> RuleScore:
    """Substring exact match on the final answer: 1.0 if the answer holds a gold answer, whole words.

    Both are compared as [`~qwenlong_trl.rewards.normalize_answer`] leaves them. The final answer is what
    [`~qwenlong_trl.rewards.extract_answer`] finds, never the whole reasoning, which may mention any name. "art" is not
    in "party"; in scripts without spaces between words any place counts. An alias of one or two letters, such as "NO"
    for Norway, has to be the whole answer. An answer that lists several names holds the right one, too: the rule of
    the paper is that lenient, the hybrid reward is not.

    Args:
        completion (`str`):
            Text of the completion, reasoning included.
        golds (`Sequence[str]`):
            The accepted answers, bare or in a sentence; aliases after the preferred one.
    """
    prediction = extract_answer(completion)
    said = normalize_answer(prediction) if prediction is not None else ""
    for place, gold in enumerate(golds):
        words = normalize_answer(extract_gold(gold) or gold)
        if place > 0 and len(words) <= 2 and words.isascii() and words.isalpha():
            right = words == said  # else "there is no answer" would be Norway
        elif UNSPACED_SCRIPT.search(words):
            right = words in said
        else:  # a year before the Chinese word for it is a word, too
            separated = " ".join(UNSPACED_SCRIPT.sub(r" \g<0> ", said).split())
            right = words != "" and f" {words} " in f" {separated} "
        if right:
            return RuleScore(1.0, prediction, gold)
    return RuleScore(0.0, prediction, golds[0])


def score_samples(
    samples: Sequence[tuple[LongContextExample, Sequence[Completion]]], reward: HybridReward | None = None
) -> list[list[ScoredCompletion]]:
    """
    The distinct usable completions of each record, in the order in which they were drawn: not those that were cut off
    or are empty.

    Args:
        samples (`Sequence[tuple[LongContextExample, Sequence[Completion]]]`):
            Records and what was sampled for them.
        reward ([`~qwenlong_trl.rewards.HybridReward`], *optional*):
            Decides by exact match or the judge. Without it, [`score_sub_em`] decides for free-text answers, and the
            rule of the task for numbers and options, where a part of an answer means nothing.
    """
    usable = [(example, _counts(completions)) for example, completions in samples]
    if reward is None:
        return [
            [ScoredCompletion(text, *_by_rule(text, example), count) for text, count in counts.items()]
            for example, counts in usable
        ]
    rows = [(text, example) for example, counts in usable for text in counts]
    judged = asyncio.run(_by_reward(rows, reward))
    scored, place = [], 0
    for _, counts in usable:
        verdicts = judged[place : place + len(counts)]
        place += len(counts)
        scored.append(
            [ScoredCompletion(text, *verdict, counts[text]) for text, verdict in zip(counts, verdicts, strict=True)]
        )
    return scored


def check_scorable(example: LongContextExample) -> None:
    """Raises `ValueError` for a record whose task or answers the rules cannot score, before anything is sampled."""
    try:
        _by_rule("", example)
    except ValueError as error:
        raise ValueError(f"record {example.id!r} cannot be scored: {error}") from None


def is_empty(completion: Completion) -> bool:
    """Whether the model ended it before it said anything."""
    return completion.finish_reason == "stop" and not completion.text.strip()


def _counts(completions: Sequence[Completion]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for completion in completions:
        if completion.finish_reason == "stop" and not is_empty(completion):
            counts[completion.text] = counts.get(completion.text, 0) + 1
    return counts


def _by_rule(text: str, example: LongContextExample) -> tuple[str | None, bool]:
    if example.task == "docqa":
        score = score_sub_em(text, example.answers)
    else:
        (score,) = get_rule_reward().scores([text], [list(example.answers)], [example.task])
    return score.prediction, score.score > 0


async def _by_reward(
    rows: Sequence[tuple[str, LongContextExample]], reward: HybridReward
) -> list[tuple[str | None, bool | None]]:
    verdicts: list[tuple[str | None, bool | None]] = []
    for start in range(0, len(rows), _JUDGED_AT_ONCE):
        part = rows[start : start + _JUDGED_AT_ONCE]
        scores, judged = await reward.verdicts(
            [text for text, _ in part],
            [list(example.answers) for _, example in part],
            [example.task for _, example in part],
            [example.question for _, example in part],
        )
        for row, score in enumerate(scores):
            if score is None:
                raise ValueError(
                    f"record {part[row][1].id!r} has the task {part[row][1].task!r}, which the reward does not score"
                )
            right = True if score.score > 0 else judged[row].verdict if row in judged else False
            verdicts.append((score.prediction, right))
    return verdicts
