"""Intervals of what was measured on few questions."""

import math
from statistics import NormalDist


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """
    95 % Wilson score interval of a share of `count` trials: the true shares that a two-sided test would not reject.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927).
    """
    z2 = NormalDist().inv_cdf(0.975) ** 2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
