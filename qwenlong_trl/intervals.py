"""Intervals of what was measured on few questions."""

import math
from collections.abc import Sequence
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
