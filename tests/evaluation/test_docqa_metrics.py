"""pass@k against brute force, intervals against what they must cover, buckets, depth and effective length."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenlong_trl.data import Document, Evidence, LongContextExample
from qwenlong_trl.data.prompts import render_context
from qwenlong_trl.data.synthesize import synthesize
from qwenlong_trl.evaluation import (
    average_of_means,
    effective_length,
    evidence_fifths,
    length_bucket,
    mean_with_interval,
    paired_difference,
    pass_at_k,
    pass_at_k_curve,
)
from qwenlong_trl.intervals import bootstrap_interval, wilson_interval


@given(st.integers(1, 8), st.data())
@settings(max_examples=80, deadline=None)
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    right = [1] * c + [0] * (n - c)
    chosen = list(itertools.combinations(right, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, chosen)) / len(chosen), abs=1e-12)


@given(st.integers(1, 5000), st.data())
@settings(max_examples=80, deadline=None)
def test_pass_at_k_of_many_samples(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert 0 <= pass_at_k(n, c, k) <= 1 and pass_at_k(n, c, k) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
        pass_at_k(n, c, k)


def test_pass_at_k_curve():
    curve = pass_at_k_curve([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    assert [point["questions"] for point in curve] == [3, 3, 2, 2]
    assert [point["k"] for point in curve] == [1, 2, 3, 4]
    assert curve[0]["mean"] == pytest.approx((0.5 + 0 + 0.25) / 3) and curve[3]["mean"] == 1.0
    assert curve[3]["interval"] == list(wilson_interval(1.0, 2))
    assert pass_at_k_curve([]) == []


def test_one_sample_of_each_is_the_ordinary_bootstrap():
    values = np.random.default_rng(0).random(30)
    found = mean_with_interval([[value] for value in values])
    low, high = bootstrap_interval(values)
    assert found.mean == pytest.approx(values.mean()) and found.questions == found.answers == 30
    assert found.interval == (pytest.approx(low), pytest.approx(high))


def slow_interval(scores, resamples=2000):
    rng, means = np.random.default_rng(1), []
    for _ in range(resamples):
        drawn = [scores[i] for i in rng.integers(len(scores), size=len(scores))]
        values = [rng.choice(samples, size=len(samples)) for samples in drawn]
        means.append(np.concatenate(values).mean())
    return np.quantile(means, [0.025, 0.975])


def test_two_levels_as_a_loop_draws_them():
    rng = np.random.default_rng(0)
    scores = [list((rng.random(rng.integers(1, 9)) < rng.random()).astype(float)) for _ in range(40)]
    found = mean_with_interval(scores)
    assert found.mean == pytest.approx(np.concatenate(scores).mean())
    assert found.answers == sum(map(len, scores))
    assert found.interval == pytest.approx(slow_interval(scores), abs=0.02)
    # Samples matter: of two questions that are half right, all questions have the same mean.
    low, high = mean_with_interval([[0.0, 1.0]] * 20).interval
    assert low < 0.4 and high > 0.6


def test_intervals_cover_what_they_should():
    rng, covered = np.random.default_rng(0), 0
    for run in range(200):
        chances = rng.beta(2, 2, size=60)
        scores = (rng.random((60, 4)) < chances[:, None]).astype(float)
        low, high = mean_with_interval(scores.tolist(), resamples=300, seed=run).interval
        covered += low <= 0.5 <= high
    assert covered >= 185  # 95 %, and a little more


def test_large_draws_in_parts_are_the_same(monkeypatch):
    scores = np.random.default_rng(0).random((30, 3)).tolist()
    whole = mean_with_interval(scores, resamples=500)
    monkeypatch.setattr("qwenlong_trl.evaluation.metrics._DRAWS_AT_ONCE", 1000)
    parts = mean_with_interval(scores, resamples=500)
    assert parts.mean == whole.mean and parts.interval == pytest.approx(whole.interval, abs=0.02)


def test_edges_of_a_mean():
    assert mean_with_interval([]).mean is None and mean_with_interval([[], []]).interval is None
    assert mean_with_interval([[0.0, 0.0]] * 10).interval == wilson_interval(0.0, 10)
    assert mean_with_interval([[1.0]] * 10).interval == wilson_interval(1.0, 10)
    assert mean_with_interval([[1.0], []]).questions == 1


def test_average_of_means():
    rng = np.random.default_rng(0)
    large, small = (list((rng.random((n, 1)) < share).astype(float)) for n, share in ((400, 0.2), (25, 0.8)))
    found = average_of_means([large, [[]], small])
    assert found.mean == pytest.approx((np.mean(large) + np.mean(small)) / 2) and found.questions == 425
    # Independent groups: variances add up.
    error = np.sqrt(np.var(large) / 400 + np.var(small) / 25) / 2
    assert (found.interval[1] - found.interval[0]) / (2 * 1.96 * error) == pytest.approx(1, abs=0.12)
    assert average_of_means([]).mean is None and average_of_means([[[0.0]]]).interval == wilson_interval(0.0, 1)


def test_paired_difference():
    rng = np.random.default_rng(0)
    easy = rng.random(200)
    theirs = [[value] for value in easy]
    ours = [[value + 0.1 + 0.01 * rng.standard_normal()] for value in easy]
    found = paired_difference(ours, theirs)
    assert found.mean == pytest.approx(0.1, abs=0.01) and 0.09 < found.interval[0] < found.interval[1] < 0.11
    assert paired_difference(theirs, theirs).interval == (0.0, 0.0)
    back = paired_difference(theirs, ours)
    assert back.mean == pytest.approx(-found.mean)
    assert paired_difference([[1.0]], [[]]).mean is None
    with pytest.raises(ValueError, match="1 and 2"):
        paired_difference([[1.0]], [[1.0], [0.0]])


@given(st.integers(1, 10**7))
def test_powers_of_two(tokens):
    low, high = length_bucket(tokens)
    assert low < tokens <= high and (low == 0 or high == 2 * low)
    assert length_bucket(high) == (low, high)


def test_given_edges():
    edges = [100, 1000]
    assert [length_bucket(n, edges) for n in (1, 100, 101, 1000, 1001)] == [
        (0, 100),
        (0, 100),
        (100, 1000),
        (100, 1000),
        (1000, None),
    ]


def test_effective_length():
    good, bad = 0.9, 0.5
    buckets = {(0, 1024): good, (1024, 2048): 0.856, (2048, 4096): bad, (4096, 8192): good}
    assert effective_length(buckets) == 2048
    assert effective_length(buckets, threshold=0.4) == 8192
    assert effective_length({(0, 1024): bad, (1024, 2048): good}) is None
    assert effective_length({(0, 1024): good, (1024, 2048): None, (2048, 4096): good}) == 4096
    assert effective_length({(0, 100): good, (100, None): good}) == 100
    assert effective_length({}) is None


def test_evidence_by_fifth():
    documents = tuple(Document(f" title {i} ", f"  text {i} " + "x" * 90) for i in range(10))
    for i in range(10):
        example = LongContextExample("1", "q", ("a",), documents, (Evidence(i, 2, 8),))
        assert evidence_fifths(example) == (i // 2,)
    both = LongContextExample("1", "q", ("a",), documents, (Evidence(9, 2, 8), Evidence(0, 2, 8), Evidence(1, 2, 8)))
    assert evidence_fifths(both) == (0, 4)
    assert evidence_fifths(LongContextExample("1", "q", ("a",), documents)) == ()
    titled = (Document("t" * 50, "x" * 50),)  # the title is a part of the context
    assert evidence_fifths(LongContextExample("1", "q", ("a",), titled, (Evidence(0, 0, 2),))) == (2,)


def test_evidence_by_fifth_is_where_it_is_rendered():
    for example in synthesize("chain_of_reasoning", 800, seed=1, count=20):
        context = render_context(example.documents)
        expected = set()
        for span in example.evidence:
            text = example.evidence_text(span)
            if context.count(text) == 1:
                expected.add(int(5 * (context.index(text) + len(text) / 2) / (len(context) + 1)))
        assert expected and expected <= {*evidence_fifths(example)}
