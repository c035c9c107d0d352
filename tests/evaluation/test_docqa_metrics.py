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
    EffectiveLength,
    average_of_means,
    effective_length,
    evidence_fifths,
    length_bucket,
    mean_with_interval,
    paired_difference,
    pass_at_k,
    pass_at_k_curve,
    resampled_effective_length,
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
    assert [point["questions"] for point in curve] == [2, 2, 2, 2]  # the same ones, which have all samples
    assert [point["k"] for point in curve] == [1, 2, 3, 4]
    assert curve[0]["mean"] == pytest.approx((0.5 + 0.25) / 2) and curve[3]["mean"] == 1.0
    assert pass_at_k_curve([[1.0, 0.0], [0.0, 1.0]])[0]["interval"] is None
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
        means.append(np.concatenate(drawn).mean())
    return np.quantile(means, [0.025, 0.975])


def test_questions_as_a_loop_draws_them():
    rng = np.random.default_rng(0)
    scores = [list((rng.random(rng.integers(1, 9)) < rng.random()).astype(float)) for _ in range(40)]
    found = mean_with_interval(scores)
    assert found.mean == pytest.approx(np.concatenate(scores).mean())
    assert found.answers == sum(map(len, scores))
    assert found.interval == pytest.approx(slow_interval(scores), abs=0.02)


def drawn_runs(kind, samples, questions=60, runs=200):
    """Scores `(runs, 2, questions, samples)` of two models that are equally good at each question."""
    rng = np.random.default_rng(0)
    chances = np.full((runs, questions), 0.5) if kind == "equal" else rng.beta(0.5, 0.5, size=(runs, questions))
    return (rng.random((runs, 2, questions, samples)) < chances[:, None, :, None]).astype(float)


@pytest.mark.parametrize("samples", [1, 4, 16])
@pytest.mark.parametrize("kind", ["equal", "differing"])
def test_intervals_are_neither_too_wide_nor_too_narrow(kind, samples):
    """As wide as the estimates scatter, and they hold the truth in 95 % of the runs: of means, and of differences."""
    runs = drawn_runs(kind, samples)
    for truth, of in (
        (0.5, lambda ours, theirs, seed: mean_with_interval(ours, 400, seed)),
        (0.0, lambda ours, theirs, seed: paired_difference(ours, theirs, 400, seed)),
    ):
        found = [of(ours.tolist(), theirs.tolist(), seed) for seed, (ours, theirs) in enumerate(runs)]
        widths = [high - low for low, high in (one.interval for one in found)]
        scatter = np.std([one.mean for one in found])
        assert np.mean(widths) / (2 * 1.96 * scatter) == pytest.approx(1, abs=0.13)
        covered = sum(low - 1e-9 <= truth <= high + 1e-9 for low, high in (one.interval for one in found))
        assert 180 <= covered <= 198


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
    alike = mean_with_interval([[0.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
    assert alike.mean == 0.5 and alike.interval is None


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
    # Where all questions differ by the same, nothing says how others would.
    assert paired_difference(theirs, theirs).interval is None and paired_difference(theirs, theirs).mean == 0.0
    assert paired_difference([[1.0]] * 3, [[0.0]] * 3).interval is None
    assert paired_difference([[0.9]] * 3, [[0.1], [0.2], [0.3]]).interval is not None
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
    # The model did not read what was cut away: the length ends before the first bucket with a cut prompt.
    assert effective_length({(0, 1024): good, (1024, 2048): good}, truncated={(1024, 2048)}) == 1024
    assert effective_length({(0, 1024): good, (1024, 2048): None, (2048, 4096): good}, 0.8, {(1024, 2048)}) == 1024


def slow_lengths(buckets, threshold, resamples=4000):
    rng, found = np.random.default_rng(1), []
    for _ in range(resamples):
        means = {b: np.mean([s[i][0] for i in rng.integers(len(s), size=len(s))]) for b, s in buckets.items()}
        found.append(effective_length(means, threshold) or 0)
    return found


def test_how_sure_an_effective_length_is():
    def bucket(right, wrong):
        return [[1.0]] * right + [[0.0]] * wrong

    buckets = {(0, 1024): bucket(30, 2), (1024, 2048): bucket(28, 4), (2048, 4096): bucket(20, 12)}
    found = resampled_effective_length(buckets, 0.8)
    expected = slow_lengths(buckets, 0.8)
    assert (found.tokens, found.buckets) == (2048, 2)
    assert found.share == pytest.approx(np.mean([length >= 2048 for length in expected]), abs=0.03)
    assert 0.8 < found.share < 0.99  # the second bucket is close to the threshold
    low, high = np.quantile(expected, [0.025, 0.975], method="nearest")
    assert found.interval == (low or None, high or None)
    # Far from the threshold nothing is in doubt, and at the threshold all is.
    sure = resampled_effective_length({(0, 1024): bucket(99, 1), (1024, 2048): bucket(1, 99)}, 0.8)
    assert (sure.tokens, sure.share, sure.interval) == (1024, 1.0, (1024, 1024))
    even = resampled_effective_length({(0, 1024): bucket(1, 1) * 50}, 0.5)
    assert even.tokens == 1024 and 0.4 < even.share < 0.65 and even.interval == (None, 1024)
    none = resampled_effective_length({(0, 1024): bucket(20, 12), (1024, 2048): bucket(32, 0)}, 0.8)
    assert (none.tokens, none.share, none.buckets) == (None, None, 0) and none.interval[0] is None
    cut = resampled_effective_length(buckets, 0.5, {(1024, 2048)})
    assert (cut.tokens, cut.buckets, cut.interval) == (1024, 1, (1024, 1024))
    assert resampled_effective_length({(0, 1024): []}) == EffectiveLength(None)
    # The open bucket above the last edge ends where it begins, and does not count if it is below.
    edges = {(0, 100): bucket(9, 1), (100, None): bucket(1, 9)}
    assert resampled_effective_length(edges, 0.8).buckets == 1


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
