"""Intervals of what was measured on few questions."""

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """
    95 % Wilson score interval of a share of `count` trials: the true shares that a two-sided test would not reject.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927).
    """
    z2 = NormalDist().inv_cdf(0.975) ** 2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(values: Sequence[float], samples: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """
    95 % percentile bootstrap interval of the mean: the middle of the means of samples drawn with replacement.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    values = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[Hashable], samples: int = 2_000, seed: int = 0
) -> tuple[float, float] | None:
    """
    95 % percentile bootstrap interval of the mean of values that come in clusters, such as questions over the same
    documents: whole clusters are drawn with replacement, as many as there are, and each drawn one brings all of its
    values. So a sample's mean is a ratio of sums, of the values over their number. Values of one cluster may depend on
    each other; where they do, the interval of [`bootstrap_interval`] is too narrow.

    With few clusters, say under 20, the interval is too narrow still; and values that are all equal have an interval
    without width, which does not say that the mean is certain.

    Args:
        values (`Sequence[float]`):
            Of any length.
        clusters (`Sequence[Hashable]`):
            The cluster of each value.
        samples (`int`, *optional*, defaults to 2,000):
            How often to draw.
        seed (`int`, *optional*, defaults to 0):
            Of the draws. Clusters that stand by themselves, one value each, are drawn as [`bootstrap_interval`] does.

    Returns:
        `tuple[float, float]` or `None`: `None` where no interval can be had: no values, one that is NaN or infinite,
        or all of them in one cluster, which says nothing about how clusters differ.

    Raises:
        `ValueError`: there are not as many clusters as values.

    Source: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8, strategy 1.
    """
    if len(values) != len(clusters):
        raise ValueError(f"give one cluster for each value, got {len(values)} values and {len(clusters)} clusters")
    values = np.asarray(values, dtype=np.float64)
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    if len(number) < 2 or not np.isfinite(values).all():
        return None
    of_value = [number[cluster] for cluster in clusters]
    sums, sizes = np.bincount(of_value, values), np.bincount(of_value)  # (clusters,) each
    drawn = np.random.default_rng(seed).integers(len(number), size=(samples, len(number)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)
