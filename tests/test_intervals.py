"""Intervals: known values, what they cover, and where there are none."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenlong_trl.intervals import bootstrap_interval, cluster_bootstrap


VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.integers(0, 1000))
def test_clusters_of_one_value_each_are_the_plain_bootstrap(values, seed):
    ours = cluster_bootstrap(values, [f"c{i}" for i in range(len(values))], samples=200, seed=seed)
    assert ours == pytest.approx(bootstrap_interval(values, samples=200, seed=seed), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.data())
def test_the_interval_lies_among_the_means_of_clusters(values, data):
    clusters = data.draw(st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values)))
    found = cluster_bootstrap(values, clusters, samples=100)
    means = [np.mean([v for v, c in zip(values, clusters, strict=True) if c == one]) for one in set(clusters)]
    if len(means) == 1:
        assert found is None
        return
    assert min(means) - 1e-9 <= found[0] <= found[1] <= max(means) + 1e-9
    names = [("set", cluster) for cluster in clusters]  # what they are called does not matter
    assert cluster_bootstrap(values, names, samples=100) == found


def test_a_cluster_brings_all_of_its_values():
    # Two clusters are drawn: both small ones (mean 0), one of each (mean 3 / 4) or the large one twice (mean 1).
    assert cluster_bootstrap([0, 1, 1, 1], "abbb") == (0.0, 1.0)
    low, high = cluster_bootstrap([5.0, 5.0, 5.0], "aab")
    assert low == high == 5.0


@pytest.mark.parametrize(
    ("values", "clusters"),
    [([], []), ([1.0], ["a"]), ([1.0, 2.0, 3.0], "aaa"), ([1.0, math.nan], "ab"), ([1.0, math.inf], "ab")],
    ids=["nothing", "one value", "one cluster", "NaN", "infinite"],
)
def test_no_interval_can_be_had(values, clusters):
    assert cluster_bootstrap(values, clusters) is None


def test_every_value_needs_its_cluster():
    with pytest.raises(ValueError, match="got 2 values and 1 clusters"):
        cluster_bootstrap([1.0, 2.0], ["a"])


def test_the_seed_decides():
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(size=60), rng.integers(20, size=60).tolist()
    assert cluster_bootstrap(values, clusters, seed=3) == cluster_bootstrap(values, clusters, seed=3)
    assert cluster_bootstrap(values, clusters, seed=3) != cluster_bootstrap(values, clusters, seed=4)


def test_coverage_where_values_of_a_cluster_are_alike():
    """60 clusters of 1 to 9 values that share most of their noise: the plain interval is far too narrow."""
    rng = np.random.default_rng(0)
    covered = {"clusters": 0, "plain": 0}
    trials = 300
    for trial in range(trials):
        sizes = rng.integers(1, 10, size=60)
        clusters = np.repeat(np.arange(60), sizes)
        values = rng.normal(size=60)[clusters] + 0.3 * rng.normal(size=len(clusters))  # true mean 0
        low, high = cluster_bootstrap(values, clusters.tolist(), samples=400, seed=trial)
        covered["clusters"] += low <= 0 <= high
        low, high = bootstrap_interval(values, samples=400, seed=trial)
        covered["plain"] += low <= 0 <= high
    assert 0.90 <= covered["clusters"] / trials <= 0.98
    assert covered["plain"] / trials < 0.75


def test_a_whole_benchmark_takes_well_under_a_second():
    rng = np.random.default_rng(0)
    values, clusters = rng.random(1600), list(range(1600))
    started = time.perf_counter()
    cluster_bootstrap(values, clusters)
    assert time.perf_counter() - started < 1.0
