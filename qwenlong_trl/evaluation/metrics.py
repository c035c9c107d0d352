"""What scores say: pass@k, means with intervals over questions and samples, length, depth, and two runs compared.

```python
>>> from qwenlong_trl.evaluation import pass_at_k, mean_with_interval
>>> pass_at_k(n=16, c=4, k=2)
0.45
>>> mean_with_interval([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])  # two questions, four samples of each
```

Intervals are percentile bootstraps at 95 % over questions: they are drawn with replacement, each with all of its
samples, whose scatter is in the questions' means already (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their
Application (1997), section 3.8, strategy 1). With few questions any bootstrap is too narrow. Where all scores are 0,
or all are 1, it would have no width, and the Wilson interval of as many trials as there are questions takes its place;
where all questions have the same mean otherwise, or the same difference of two runs, there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.prompts import render_document
from ..data.record import LongContextExample
from ..intervals import bootstrap_interval, wilson_interval


# Of the effective length, from RULER (arXiv 2404.06654, section 4): what Llama-2-7B reaches at 4K.
DEFAULT_THRESHOLD = 0.856
# Tokens above the first number, up to the second one; without a second one, all above.
Bucket = tuple[int, int | None]
# Numbers drawn at the same time, for memory.
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval, and how many questions and answers it is of; `None` where there are none."""

    mean: float | None
    interval: tuple[float, float] | None
    questions: int
    answers: int

    def to_dict(self) -> dict:
        """As JSON has it."""
        interval = None if self.interval is None else list(self.interval)
        return {"mean": self.mean, "interval": interval, "questions": self.questions, "answers": self.answers}


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that of `k` samples, drawn without replacement from `n` with `c` right ones, at least one is right.

    `1 - C(n - c, k) / C(n, k)`: unbiased, unlike drawing with replacement (M. Chen et al., arXiv 2107.03374, section
    2.1), and computed as a product, so that nothing overflows.

    Raises:
        `ValueError`: unless `0 <= c <= n` and `1 <= k <= n`.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def pass_at_k_curve(scores: Sequence[Sequence[float]], seed: int = 0) -> list[dict]:
    """Mean pass@k over the questions, for each k up to the most samples of a question; a score of 1 is right.

    Args:
        scores (`Sequence[Sequence[float]]`):
            Scores of the samples, by question. A question with fewer samples than others have is left out at every k,
            so that the points of the curve are of the same questions.
        seed (`int`, *optional*, defaults to `0`):
            Of the bootstrap over questions.

    Returns:
        `list[dict]`: `k`, `mean`, `interval` (`None` where all questions have the same value, neither 0 nor 1) and
        `questions`.
    """
    most = max(map(len, scores), default=0)
    right = [sum(score >= 1.0 for score in samples) for samples in scores if len(samples) == most]
    curve = []
    for k in range(1, most + 1):
        values = [pass_at_k(most, c, k) for c in right]
        interval = _wilson(values, len(values)) or (
            bootstrap_interval(values, seed=seed) if len(set(values)) > 1 else None
        )
        interval = None if interval is None else list(interval)
        curve.append({"k": k, "mean": float(np.mean(values)), "interval": interval, "questions": len(values)})
    return curve


def mean_with_interval(scores: Sequence[Sequence[float]], resamples: int = 2_000, seed: int = 0) -> Estimate:
    """The mean of all scores, with the interval that the module's text describes.

    Args:
        scores (`Sequence[Sequence[float]]`):
            Scores of the samples, by question; questions without samples do not count.
        resamples (`int`, *optional*, defaults to 2,000):
            How often to draw.
        seed (`int`, *optional*, defaults to `0`):
            Of the draws.
    """
    scores = [samples for samples in scores if len(samples)]
    if not scores:
        return Estimate(None, None, 0, 0)
    interval = _wilson([score for samples in scores for score in samples], len(scores))
    if interval is None and not _all_equal([np.mean(samples) for samples in scores]):
        interval = _middle(_drawn_means(scores, resamples, seed))
    return Estimate(_flat_mean(scores), interval, len(scores), sum(map(len, scores)))


def average_of_means(groups: Sequence[Sequence[Sequence[float]]], resamples: int = 2_000, seed: int = 0) -> Estimate:
    """The mean of the means of groups, each counted once, such as the average over benchmarks of a paper's table.

    Args:
        groups (`Sequence[Sequence[Sequence[float]]]`):
            Scores of the samples, by group and question; groups without samples do not count. They are drawn
            independently of each other.
        resamples, seed:
            As in [`mean_with_interval`].
    """
    groups = [[samples for samples in scores if len(samples)] for scores in groups]
    groups = [scores for scores in groups if scores]
    if not groups:
        return Estimate(None, None, 0, 0)
    everything = [samples for scores in groups for samples in scores]
    means = np.mean([_drawn_means(scores, resamples, seed + i) for i, scores in enumerate(groups)], axis=0)
    interval = _wilson([score for samples in everything for score in samples], len(everything))
    interval = interval or (None if _all_equal(means) else _middle(means))
    mean = float(np.mean([_flat_mean(scores) for scores in groups]))
    return Estimate(mean, interval, len(everything), sum(map(len, everything)))


def paired_difference(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], resamples: int = 2_000, seed: int = 0
) -> Estimate:
    """Our mean less theirs over the same questions in the same order; a drawn question is drawn in both runs.

    A question without samples in either run does not count. Where the difference is the same for all questions, which
    is all that one question or two can show, there is no interval.

    Raises:
        `ValueError`: the numbers of questions differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"two runs are compared over the same questions, got {len(ours)} and {len(theirs)}")
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if len(a) and len(b)]
    if not pairs:
        return Estimate(None, None, 0, 0)
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    same = _all_equal([np.mean(mine) - np.mean(other) for mine, other in pairs])
    draws = _drawn_means(a, resamples, seed) - _drawn_means(b, resamples, seed)  # the same draws of questions
    interval = None if same else _middle(draws)
    return Estimate(_flat_mean(a) - _flat_mean(b), interval, len(pairs), sum(map(len, [*a, *b])))


def length_bucket(tokens: int, edges: Sequence[int] | None = None) -> tuple[int, int | None]:
    """The bucket `(low, high]` of a length: between powers of two, or the given edges; above the last one `high` is
    `None`."""
    if edges is None:
        high = 1 << max(0, tokens - 1).bit_length()
        return (high // 2 if high > 1 else 0), high
    low = 0
    for edge in edges:
        if tokens <= edge:
            return low, edge
        low = edge
    return low, None


def evidence_fifths(example: LongContextExample, parts: int = 5) -> tuple[int, ...]:
    """The fifths of the context, 0 to 4 and ascending, in which the middle of some evidence stands.

    A question counts in each fifth that holds some of its evidence. One place for each, such as the mean or the last
    one, would sort questions by their number of hops: those with many have their mean in the middle and their last one
    near the end, and are the harder ones wherever they stand.
    """
    starts, length = [], 0
    for document in example.documents:
        rendered = render_document(document)
        title = document.title.strip()
        before = len(title) + 1 if title else 0
        starts.append(length + before - (len(document.text) - len(document.text.lstrip())))
        length += len(rendered) + 1
    fifths = set()
    for span in example.evidence:
        middle = starts[span.document] + (span.start + span.end) / 2
        fifths.add(min(parts - 1, max(0, int(parts * middle / length))))
    return tuple(sorted(fifths))


@dataclass(frozen=True)
class EffectiveLength:
    """An effective length, and how sure it is.

    Args:
        tokens (`int`, *optional*):
            See [`effective_length`].
        buckets (`int`):
            How many buckets lie within it, from the shortest on.
        share (`float`, *optional*):
            Share of the draws of questions in which the length is reached; `None` if `tokens` is.
        interval (`tuple[int | None, int | None]`, *optional*):
            The middle 95 % of the lengths that are reached in these draws, `None` for none.
    """

    tokens: int | None
    buckets: int = 0
    share: float | None = None
    interval: tuple[int | None, int | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        interval = None if self.interval is None else list(self.interval)
        return {"tokens": self.tokens, "buckets": self.buckets, "share": self.share, "interval": interval}


def resampled_effective_length(
    buckets: Mapping[Bucket, Sequence[Sequence[float]]],
    threshold: float = DEFAULT_THRESHOLD,
    truncated: Collection[Bucket] = (),
    resamples: int = 2_000,
    seed: int = 0,
) -> EffectiveLength:
    """The effective length, and what comes of it when questions are drawn anew within each bucket.

    A bucket whose answers are all right is all right in every draw, so with few questions to a bucket the length is
    less sure than this says.

    Args:
        buckets (`Mapping`):
            Scores of the samples by question, of each bucket.
        threshold, truncated:
            See [`effective_length`].
        resamples, seed:
            As in [`mean_with_interval`].
    """
    scores = {bucket: [s for s in questions if len(s)] for bucket, questions in buckets.items()}
    means = {bucket: _flat_mean(questions) if questions else None for bucket, questions in scores.items()}
    tokens, within = _reached(means, threshold, truncated)
    names = [bucket for bucket, questions in scores.items() if questions and bucket not in truncated]
    if not any(scores.values()):
        return EffectiveLength(None)
    drawn = {bucket: _drawn_means(scores[bucket], resamples, seed + i) for i, bucket in enumerate(names)}
    reached = sorted(
        effective_length({**means, **{bucket: drawn[bucket][i] for bucket in names}}, threshold, truncated) or 0
        for i in range(resamples)
    )
    low, high = (reached[round(edge * (resamples - 1))] or None for edge in (0.025, 0.975))
    if tokens is None:
        return EffectiveLength(None, interval=(low, high))
    return EffectiveLength(tokens, within, sum(length >= tokens for length in reached) / resamples, (low, high))


def effective_length(
    buckets: Mapping[Bucket, float | None],
    threshold: float = DEFAULT_THRESHOLD,
    truncated: Collection[Bucket] = (),
) -> int | None:
    """The upper edge of the longest bucket up to which the mean of every bucket is at or above the threshold.

    Args:
        buckets (`Mapping`):
            Mean by bucket, see [`length_bucket`]; those without a mean are passed over. The open one above the last
            edge counts with its lower edge.
        threshold (`float`, *optional*, defaults to `0.856`):
            As in RULER (arXiv 2404.06654).
        truncated (`Collection`, *optional*):
            Buckets in which a prompt was cut: the model did not read as much, so the length ends before the first.

    Returns:
        `int` or `None`: `None` if the shortest bucket is below the threshold.
    """
    return _reached(buckets, threshold, truncated)[0]


def _reached(
    buckets: Mapping[Bucket, float | None], threshold: float, truncated: Collection[Bucket]
) -> tuple[int | None, int]:
    """The effective length, and how many buckets lie within it."""
    longest, count = None, 0
    for i, (bucket, mean) in enumerate(sorted(buckets.items(), key=lambda item: item[0][0]), start=1):
        if bucket in truncated or (mean is not None and mean < threshold):
            break
        if mean is not None:
            longest, count = bucket[1] or bucket[0], i
    return longest, count


def _flat_mean(scores: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, scores)) / sum(map(len, scores))


def _drawn_means(scores: Sequence[Sequence[float]], resamples: int, seed: int) -> np.ndarray:
    """The mean of all samples of the questions of each draw: equal seeds draw the same of equally many questions."""
    sums, counts = (np.array([*map(of, scores)], dtype=np.float64) for of in (sum, len))
    rng, step = np.random.default_rng(seed), max(1, _DRAWS_AT_ONCE // len(scores))
    means = []
    for start in range(0, resamples, step):
        drawn = rng.integers(len(scores), size=(min(step, resamples - start), len(scores)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def _all_equal(values: Sequence[float]) -> bool:
    """But for rounding, of which draws of equal values would make an interval."""
    return float(np.ptp(values)) < 1e-9


def _wilson(values: Sequence[float], questions: int) -> tuple[float, float] | None:
    """The interval where all values are 0 or all are 1, and `None` elsewhere."""
    return wilson_interval(values[0], questions) if values[0] in (0.0, 1.0) and len(set(values)) == 1 else None


def _middle(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
