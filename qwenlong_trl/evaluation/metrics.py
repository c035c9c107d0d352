"""What scores say: pass@k, means with intervals over questions and samples, length, depth, and two runs compared.

```python
>>> from qwenlong_trl.evaluation import pass_at_k, mean_with_interval
>>> pass_at_k(n=16, c=4, k=2)
0.45
>>> mean_with_interval([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])  # two questions, four samples of each
```

Intervals are percentile bootstraps at 95 % in two levels: questions are drawn with replacement, and of each drawn
question its samples. (The scatter of the samples is also in the questions' means, so with several samples an interval
is a little too wide.) With few questions any bootstrap is too narrow. Where all scores are 0, or all are 1, it would
have no width, and the Wilson interval of as many trials as there are questions takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.prompts import render_document
from ..data.record import LongContextExample
from ..intervals import bootstrap_interval, wilson_interval


# Of the effective length, from RULER (arXiv 2404.06654, section 4): what Llama-2-7B reaches at 4K.
DEFAULT_THRESHOLD = 0.856
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
            Scores of the samples, by question. A question with fewer than k samples is not part of the mean at k.
        seed (`int`, *optional*, defaults to `0`):
            Of the bootstrap over questions.

    Returns:
        `list[dict]`: `k`, `mean`, `interval`, `questions`.
    """
    counts = [(len(samples), sum(score >= 1.0 for score in samples)) for samples in scores]
    curve = []
    for k in range(1, max((n for n, _ in counts), default=0) + 1):
        values = [pass_at_k(n, c, k) for n, c in counts if n >= k]
        interval = list(_wilson(values, len(values)) or bootstrap_interval(values, seed=seed))
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
    interval = _wilson([score for samples in scores for score in samples], len(scores)) or _middle(
        _drawn_means(scores, resamples, seed)
    )
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
    interval = _wilson([score for samples in everything for score in samples], len(everything)) or _middle(means)
    mean = float(np.mean([_flat_mean(scores) for scores in groups]))
    return Estimate(mean, interval, len(everything), sum(map(len, everything)))


def paired_difference(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], resamples: int = 2_000, seed: int = 0
) -> Estimate:
    """Our mean less theirs over the same questions in the same order; a drawn question is drawn in both runs.

    Raises:
        `ValueError`: the numbers of questions differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"two runs are compared over the same questions, got {len(ours)} and {len(theirs)}")
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if len(a) and len(b)]
    if not pairs:
        return Estimate(None, None, 0, 0)
    a, b = (_matrix([pair[side] for pair in pairs]) for side in (0, 1))
    shape = (len(pairs), max(a[0].shape[1], b[0].shape[1]))
    draws = _drawn_questions(shape, resamples, seed)
    differences = np.concatenate([_drawn_mean(*a, drawn, rng) - _drawn_mean(*b, drawn, rng) for drawn, rng in draws])
    mean = float(a[0].sum() / a[1].sum() - b[0].sum() / b[1].sum())
    return Estimate(mean, _middle(differences), len(pairs), int(a[1].sum() + b[1].sum()))


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


def effective_length(
    buckets: Mapping[tuple[int, int | None], float | None], threshold: float = DEFAULT_THRESHOLD
) -> int | None:
    """The upper edge of the longest bucket up to which the mean of every bucket is at or above the threshold.

    Args:
        buckets (`Mapping`):
            Mean by bucket, see [`length_bucket`]; those without a mean are passed over. The open one above the last
            edge counts with its lower edge.
        threshold (`float`, *optional*, defaults to `0.856`):
            As in RULER (arXiv 2404.06654).

    Returns:
        `int` or `None`: `None` if the shortest bucket is below the threshold.
    """
    longest = None
    for (low, high), mean in sorted(buckets.items(), key=lambda item: item[0][0]):
        if mean is None:
            continue
        if mean < threshold:
            break
        longest = high or low
    return longest


def _flat_mean(scores: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, scores)) / sum(map(len, scores))


def _drawn_means(scores: Sequence[Sequence[float]], resamples: int, seed: int) -> np.ndarray:
    values, counts = _matrix(scores)
    draws = _drawn_questions(values.shape, resamples, seed)
    return np.concatenate([_drawn_mean(values, counts, drawn, rng) for drawn, rng in draws])


def _matrix(scores: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores `(questions, samples)`, zero where a question has fewer samples, and the numbers of samples."""
    counts = np.array([len(samples) for samples in scores])
    values = np.zeros((len(scores), counts.max()))
    for row, samples in enumerate(scores):
        values[row, : len(samples)] = samples
    return values, counts


def _drawn_questions(
    shape: tuple[int, int], resamples: int, seed: int
) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
    """Indices of questions `(resamples, questions)` in parts that fit in memory, and the generator for the samples."""
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // (shape[0] * shape[1]))
    for start in range(0, resamples, step):
        yield rng.integers(shape[0], size=(min(step, resamples - start), shape[0])), rng


def _drawn_mean(values: np.ndarray, counts: np.ndarray, drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of each draw of questions, with as many samples of a question as it has, drawn from them."""
    sizes = counts[drawn]  # (resamples, questions)
    if values.shape[1] == 1:
        return values[drawn, 0].mean(axis=1)
    samples = (rng.random((*drawn.shape, values.shape[1])) * sizes[..., None]).astype(np.intp)
    found = values[drawn[..., None], samples]
    found[np.arange(values.shape[1]) >= sizes[..., None]] = 0.0
    return found.sum(axis=(1, 2)) / sizes.sum(axis=1)


def _wilson(values: Sequence[float], questions: int) -> tuple[float, float] | None:
    """The interval where all values are 0 or all are 1, and `None` elsewhere."""
    return wilson_interval(values[0], questions) if values[0] in (0.0, 1.0) and len(set(values)) == 1 else None


def _middle(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
