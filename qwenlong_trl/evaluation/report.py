"""What is told about a run, as plain JSON: for the tables of [`~qwenlong_trl.evaluation.tables`], and for pages.

```python
>>> data = report_data(answers, records, about)
>>> data["score"]["mean"], data["score"]["interval"], data["effective_length"]["tokens"]
```

Nothing in it depends on the time or the machine: the same answers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.record import LongContextExample
from ..rewards.hybrid import JUDGED_TASKS
from .metrics import (
    DEFAULT_THRESHOLD,
    Estimate,
    average_of_means,
    effective_length,
    evidence_fifths,
    length_bucket,
    mean_with_interval,
    paired_difference,
    pass_at_k_curve,
)
from .scores import Answer


FIFTHS = ("0–20 %", "20–40 %", "40–60 %", "60–80 %", "80–100 %")


def report_data(
    answers: Sequence[Answer],
    records: Sequence[LongContextExample],
    about: Mapping[str, Any],
    threshold: float = DEFAULT_THRESHOLD,
    length_edges: Sequence[int] | None = None,
) -> dict[str, Any]:
    """All figures of a run.

    Args:
        answers (`Sequence[Answer]`):
            From [`score_completions`].
        records (`Sequence[LongContextExample]`):
            What they answer.
        about (`Mapping[str, Any]`):
            `mode`; `prompts`, by record `{"tokens", "truncated"}`; `failed`, by record why it has no completion; and
            `settings`, which are passed on.
        threshold (`float`, *optional*, defaults to `0.856`):
            Of the effective length.
        length_edges (`Sequence[int]`, *optional*):
            Upper edges of the buckets of prompt tokens, ascending. By default powers of two.

    Returns:
        `dict[str, Any]`: `mode`, `settings`, `counts`, `score`, `rule`, `judge`, `average` (of the tasks, each counted
        once), `by_task`, `by_length`, `by_task_and_length`, `by_depth`, `pass_at_k`, `effective_length`. Means lie
        between 0 and 1. `judge` is `None` unless the judge was asked about all answers that can be judged.
    """
    mode, prompts = about["mode"], about["prompts"]
    task_of = {record.id: group_of(record) for record in records}
    bucket_of = {id: length_bucket(prompt["tokens"], length_edges) for id, prompt in prompts.items()}
    scores = scores_by_record(answers, mode)

    def within(ids: Iterable[str]) -> dict[str, Any]:
        return _mean(scores, ids).to_dict()

    tasks = sorted(set(task_of.values()))
    buckets = sorted(set(bucket_of.values()))
    by_bucket = {bucket: _mean(scores, _where(bucket_of, bucket)) for bucket in buckets}
    depths = {record.id: evidence_fifths(record) for record in records}
    judge = _judge_alone(answers, records, mode)
    effective = effective_length({bucket: found.mean for bucket, found in by_bucket.items()}, threshold)
    return {
        "mode": mode,
        "settings": dict(about.get("settings", {})),
        "counts": _counts(answers, records, about),
        "score": within(task_of),
        "rule": _mean(scores_by_record(answers, mode, lambda answer: answer.rule), task_of).to_dict(),
        "judge": None if judge is None else judge.to_dict(),
        "average": _average(scores, task_of),
        "by_task": [{"task": task, **within(_where(task_of, task))} for task in tasks],
        "by_length": [{**_named(bucket), **found.to_dict()} for bucket, found in by_bucket.items()],
        "by_task_and_length": [
            {"task": task, **_named(bucket), **within(ids)}
            for task in tasks
            for bucket in buckets
            if (ids := [id for id in _where(task_of, task) if bucket_of[id] == bucket])
        ],
        "by_depth": [
            {"depth": name, **within([id for id, fifths in depths.items() if fifth in fifths])}
            for fifth, name in enumerate(FIFTHS)
            if any(fifth in fifths for fifths in depths.values())
        ],
        "pass_at_k": pass_at_k_curve([samples for samples in scores.values() if samples]),
        "effective_length": {"threshold": threshold, "tokens": effective},
    }


def comparison_data(
    ours: tuple[Sequence[Answer], Sequence[LongContextExample], Mapping[str, Any]],
    theirs: tuple[Sequence[Answer], Sequence[LongContextExample], Mapping[str, Any]],
) -> dict[str, Any]:
    """Two runs over the records that both have, question by question.

    Args:
        ours, theirs (`tuple`):
            Answers, records and `about` of a run, as [`report_data`] takes them.

    Returns:
        `dict[str, Any]`: `mode`; `settings` that differ, by name ours and theirs; `questions`; `only_ours` and
        `only_theirs` (numbers of records that the other run does not have); `better`, `equal` and `worse` (questions,
        by their mean score); `score`, and in `by_task` and `by_length` one of each: `ours`, `theirs` and `difference`,
        with intervals.

    Raises:
        `ValueError`: the runs share no record, have other questions under one id, or were scored in different modes.
    """
    if ours[2]["mode"] != theirs[2]["mode"]:
        raise ValueError(f"the runs were scored in different modes, {ours[2]['mode']} and {theirs[2]['mode']}")
    records, others = ({record.id: record for record in run[1]} for run in (ours, theirs))
    shared = [id for id in records if id in others]
    if not shared:
        raise ValueError("the runs have no record in common: compare runs over the same suite")
    for id in shared:
        if (records[id].question, records[id].answers) != (others[id].question, others[id].answers):
            raise ValueError(
                f"the record {id!r} asks something else in the two runs: compare runs over the same suite"
            )
    a, b = (scores_by_record(run[0], run[2]["mode"]) for run in (ours, theirs))
    task_of = {id: group_of(records[id]) for id in shared}
    bucket_of = {id: length_bucket(ours[2]["prompts"][id]["tokens"]) for id in shared}

    def within(ids: Sequence[str]) -> dict[str, Any]:
        both = [a.get(id, []) for id in ids], [b.get(id, []) for id in ids]
        means = {"ours": _mean(a, ids).to_dict(), "theirs": _mean(b, ids).to_dict()}
        return means | {"difference": paired_difference(*both).to_dict()}

    gaps = [np.mean(a[id]) - np.mean(b[id]) for id in shared if a.get(id) and b.get(id)]
    return {
        "mode": ours[2]["mode"],
        "settings": _different(ours[2].get("settings", {}), theirs[2].get("settings", {})),
        "questions": len(shared),
        "only_ours": len(records) - len(shared),
        "only_theirs": len(others) - len(shared),
        "better": sum(gap > 0 for gap in gaps),
        "equal": sum(gap == 0 for gap in gaps),
        "worse": sum(gap < 0 for gap in gaps),
        "score": within(shared),
        "by_task": [{"task": task, **within(_where(task_of, task))} for task in sorted(set(task_of.values()))],
        "by_length": [
            {**_named(bucket), **within(_where(bucket_of, bucket))} for bucket in sorted(set(bucket_of.values()))
        ],
    }


def group_of(record: LongContextExample) -> str:
    """What a record is counted under: where it comes from, or its task."""
    return record.source or record.task


def scores_by_record(
    answers: Iterable[Answer], mode: str, value: Callable[[Answer], float] = lambda answer: answer.score
) -> dict[str, list[float]]:
    """Scores of the samples by record, without those that the mode leaves out: in `"official"`, empty answers."""
    scores: dict[str, list[float]] = {}
    for answer in answers:
        found = scores.setdefault(answer.record_id, [])
        if mode == "fixed" or answer.text:
            found.append(value(answer))
    return scores


def _mean(scores: Mapping[str, Sequence[float]], ids: Iterable[str]) -> Estimate:
    return mean_with_interval([scores.get(id, []) for id in ids])


def _judge_alone(answers: Sequence[Answer], records: Sequence[LongContextExample], mode: str) -> Estimate | None:
    """Mean of the judge's verdicts; none where it was not asked about what the rule accepts, and so on."""
    judged = {record.id: None for record in records if record.task in JUDGED_TASKS}  # a set, in order
    asked = [answer for answer in answers if answer.record_id in judged]
    everywhere = all(answer.judged for answer in asked if answer.prediction is not None)
    if not any(answer.judged for answer in asked) or not everywhere:
        return None
    return _mean(scores_by_record(asked, mode, lambda answer: answer.judge or 0.0), judged)


def _average(scores: Mapping[str, Sequence[float]], task_of: Mapping[str, str]) -> dict[str, Any]:
    """The mean of the tasks' means: the last column of the paper's Table 4."""
    tasks = sorted(set(task_of.values()))
    found = [[scores.get(id, []) for id in _where(task_of, task)] for task in tasks]
    return average_of_means(found).to_dict() | {"tasks": sum(any(group) for group in found)}


def _counts(answers: Sequence[Answer], records: Sequence[LongContextExample], about) -> dict[str, int]:
    return {
        "questions": len(records),
        "answers": len(answers),
        "failed": sum(answer.finish_reason == "failed" for answer in answers),
        "empty": sum(not answer.text and answer.finish_reason != "failed" for answer in answers),
        "left_out": sum(not answer.text for answer in answers) if about["mode"] == "official" else 0,
        "cut_off": sum(answer.finish_reason == "length" for answer in answers),
        "unread": sum(bool(answer.text) and answer.prediction is None for answer in answers),
        "judged": sum(answer.judged for answer in answers),
        "accepted_by_judge_alone": sum(answer.score > answer.rule for answer in answers),
        "without_verdict": sum(answer.judged and answer.judge is None for answer in answers),
        "truncated_prompts": sum(prompt["truncated"] for prompt in about["prompts"].values()),
    }


def _where(group_of: Mapping[str, Any], group: Any) -> list[str]:
    return [id for id, own in group_of.items() if own == group]


def _different(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return {name: [ours.get(name), theirs.get(name)] for name in names}


def _named(bucket: tuple[int, int | None]) -> dict[str, Any]:
    low, high = bucket
    return {"low": low, "high": high, "name": f"to {tokens_name(high)}" if high else f"above {tokens_name(low)}"}


def tokens_name(tokens: int) -> str:
    """`128K` for 131,072; other numbers as they are."""
    return f"{tokens // 1024}K" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens:,}"
