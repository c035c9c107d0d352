"""What is told about a run, as plain JSON: for the tables of [`~qwenlong_trl.evaluation.tables`], and for pages.

```python
>>> data = report_data(answers, records, about)
>>> data["score"]["mean"], data["score"]["interval"], data["effective_length"]["tokens"]
```

Nothing in it depends on the time or the machine: the same answers give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.record import LongContextExample
from ..rewards.hybrid import JUDGED_TASKS
from .metrics import (
    DEFAULT_THRESHOLD,
    EffectiveLength,
    Estimate,
    average_of_means,
    evidence_fifths,
    length_bucket,
    mean_with_interval,
    paired_difference,
    pass_at_k_curve,
    resampled_effective_length,
)
from .scores import FAILED, NOT_ASKED, Answer


# How reasons begin for which a server or an engine will refuse a prompt again; others may pass.
_REFUSED = ("BadRequestError", "UnprocessableEntityError", "the prompt has ")
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
            `mode`; `prompts`, by record `{"tokens", "truncated", "kept_tokens"}`; `failed`, by record why it has no
            completion; and `settings`, which are passed on.
        threshold (`float`, *optional*, defaults to `0.856`):
            Of the effective length.
        length_edges (`Sequence[int]`, *optional*):
            Upper edges of the buckets of prompt tokens, ascending. By default powers of two.

    Returns:
        `dict[str, Any]`: `mode`, `settings`, `counts`, `score`, `rule`, `judge`, `average` (of the tasks, each counted
        once), `by_task`, `by_length`, `by_task_and_length`, `by_depth` (without truncated prompts), `pass_at_k`,
        `effective_length`, `failed` (reasons with numbers of questions) and `judge_failed`. Means lie between 0 and 1.
        `judge` is `None` unless the judge was asked about all answers that can be judged. The effective length is
        `None`, with the reason in `why`, where there is none to be had.
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
    cut = {bucket: sum(prompts[id]["truncated"] for id in _where(bucket_of, bucket)) for bucket in buckets}
    whole = [id for id in depths if not prompts[id]["truncated"]]
    return {
        "mode": mode,
        "settings": dict(about.get("settings", {})),
        "counts": _counts(answers, records, about),
        "score": within(task_of),
        "rule": _mean(scores_by_record(answers, mode, lambda answer: answer.rule), task_of).to_dict(),
        "judge": None if judge is None else judge.to_dict(),
        "average": _average(scores, task_of),
        "by_task": [{"task": task, **within(_where(task_of, task))} for task in tasks],
        "by_length": [
            {**_named(bucket), **found.to_dict(), "truncated": cut[bucket]} for bucket, found in by_bucket.items()
        ],
        "by_task_and_length": [
            {"task": task, **_named(bucket), **within(ids)}
            for task in tasks
            for bucket in buckets
            if (ids := [id for id in _where(task_of, task) if bucket_of[id] == bucket])
        ],
        "by_depth": [
            {"depth": name, **within(ids)}
            for fifth, name in enumerate(FIFTHS)
            if (ids := [id for id in whole if fifth in depths[id]])
        ],
        "pass_at_k": pass_at_k_curve([samples for samples in scores.values() if samples]),
        "effective_length": {"threshold": threshold, **_effective(scores, bucket_of, task_of, cut, threshold)},
        "failed": _reasons(about.get("failed", {})),
        "judge_failed": _judge_failed(answers),
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
        `only_theirs` (numbers of records that the other run does not have); `dropped` (questions of which a run has no
        answer that counts); `better`, `equal` and `worse` (the other questions, by their mean score); `score`, and in
        `by_task` and `by_length` one of each: `ours`, `theirs` and `difference`, over these questions, with intervals.
        Lengths are those of our prompts, which `other_lengths` of the questions do not share.

    Raises:
        `ValueError`: the runs share no record, have other records under one id, or were scored in different modes.
    """
    if ours[2]["mode"] != theirs[2]["mode"]:
        raise ValueError(f"the runs were scored in different modes, {ours[2]['mode']} and {theirs[2]['mode']}")
    records, others = ({record.id: record for record in run[1]} for run in (ours, theirs))
    shared = [id for id in records if id in others]
    if not shared:
        raise ValueError("the runs have no record in common: compare runs over the same suite")
    if differ := [id for id in shared if records[id] != others[id]]:
        raise ValueError(
            f"{len(differ)} of the {len(shared)} records that both runs have are not the same in both, such as "
            f"{differ[0]!r} (question, answers, documents or evidence): compare runs over the same suite. A synthetic "
            "suite depends on its lengths, its seed and the tokenizer; give the records.jsonl of one run as --records "
            "to the other"
        )
    a, b = (scores_by_record(run[0], run[2]["mode"]) for run in (ours, theirs))
    paired = [id for id in shared if a.get(id) and b.get(id)]
    task_of = {id: group_of(records[id]) for id in paired}
    lengths, other_lengths = ({id: run[2]["prompts"][id]["tokens"] for id in paired} for run in (ours, theirs))
    bucket_of = {id: length_bucket(tokens, ours[2].get("length_edges")) for id, tokens in lengths.items()}

    def within(ids: Sequence[str]) -> dict[str, Any]:
        both = [a[id] for id in ids], [b[id] for id in ids]
        means = {"ours": _mean(a, ids).to_dict(), "theirs": _mean(b, ids).to_dict()}
        return means | {"difference": paired_difference(*both).to_dict()}

    gaps = [np.mean(a[id]) - np.mean(b[id]) for id in paired]
    return {
        "mode": ours[2]["mode"],
        "settings": _different(ours[2].get("settings", {}), theirs[2].get("settings", {})),
        "questions": len(shared),
        "only_ours": len(records) - len(shared),
        "only_theirs": len(others) - len(shared),
        "dropped": len(shared) - len(paired),
        "other_lengths": sum(lengths[id] != other_lengths[id] for id in paired),
        "better": sum(gap > 0 for gap in gaps),
        "equal": sum(gap == 0 for gap in gaps),
        "worse": sum(gap < 0 for gap in gaps),
        "score": within(paired),
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
    """Mean of the judge's verdicts; none where it was not to be asked about all of what counts."""
    judged = {record.id: None for record in records if record.task in JUDGED_TASKS}  # a set, in order
    asked = [answer for answer in answers if answer.record_id in judged and (answer.text or mode == "fixed")]
    if not asked or not all(answer.judged or answer.judge is not None for answer in asked):
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
        "failed": sum(answer.finish_reason == FAILED for answer in answers),
        "empty": sum(not answer.text and answer.finish_reason != FAILED for answer in answers),
        "left_out": sum(not answer.text for answer in answers) if about["mode"] == "official" else 0,
        "cut_off": sum(answer.finish_reason == "length" for answer in answers),
        "unread": sum(bool(answer.text) and answer.prediction is None for answer in answers),
        "judged": sum(answer.judged for answer in answers),
        "accepted_by_judge_alone": sum(answer.score > answer.rule for answer in answers),
        "without_verdict": sum(answer.judged and answer.judge is None for answer in answers),
        "truncated_prompts": sum(prompt["truncated"] for prompt in about["prompts"].values()),
    }


def _effective(
    scores: Mapping[str, Sequence[Sequence[float]]],
    bucket_of: Mapping[str, Any],
    task_of: Mapping[str, str],
    cut: Mapping[Any, int],
    threshold: float,
) -> dict[str, Any]:
    """The effective length, with `why` there is none: buckets with other tasks differ in more than their length."""
    if not any(scores.values()):
        return {**EffectiveLength(None).to_dict(), "why": "as there is no score"}
    tasks = {bucket: {task_of[id] for id in _where(bucket_of, bucket)} for bucket in cut}
    if len({frozenset(group) for group in tasks.values()}) > 1:
        why = "as the buckets hold questions of different tasks, which are not equally hard"
        return {**EffectiveLength(None).to_dict(), "why": why}
    truncated = {bucket for bucket, count in cut.items() if count}
    by_bucket = {bucket: [scores.get(id, []) for id in _where(bucket_of, bucket)] for bucket in cut}
    found = resampled_effective_length(by_bucket, threshold, truncated)
    why = None
    if found.tokens is None:
        shortest = min(cut)
        why = (
            "as prompts of the shortest bucket were cut"
            if shortest in truncated
            else "the shortest prompts score below"
        )
    return {**found.to_dict(), "why": why}


def _reasons(failed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Why prompts got no completions, alike but for their numbers, the most frequent first."""
    groups: dict[str, list[str]] = {}
    for reason in failed.values():
        groups.setdefault(re.sub(r"\d+", "0", reason), []).append(reason)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        {"reason": group[0], "questions": len(group), "refused": group[0].startswith(_REFUSED)} for group in ordered
    ]


def _judge_failed(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """How many answers the judge failed on, why the first, and whether it is gone; `None` if it did not fail."""
    errors = [answer.judge_error for answer in answers if answer.judge_error is not None]
    if not errors:
        return None
    gone = NOT_ASKED in errors or len(errors) == sum(answer.judged for answer in answers)
    return {"answers": len(errors), "reason": errors[0], "gone": gone}


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
