import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qwenlong_trl.cprs.decode import BEGIN, END, INSIDE, OUTSIDE, bridge, spans_of, token_log_probs, viterbi


NAMES = "BIOE"
LEGAL = {"OO", "OB", "BI", "BE", "BO", "BB", "II", "IE", "EO", "EB"}
SHIFT = {0.1: math.log(1 / 9), 0.5: 0.0, 0.8: math.log(4)}


def path_score(states, log_probs, penalty, threshold) -> float:
    """What the docstring says of a path, one token after the other."""
    total, before = 0.0, "O"
    for state, row in zip(states, log_probs.tolist(), strict=True):
        total += row[state] - (SHIFT[threshold] if state != OUTSIDE else 0.0)
        if before + NAMES[state] not in LEGAL:
            total -= penalty
        before = NAMES[state]
    return total if before + "O" in LEGAL else total - penalty


def plain_viterbi(log_probs, penalty, threshold) -> list[int]:
    """One token after the other, all 16 transitions."""
    best = {OUTSIDE: (0.0, [])}
    for row in log_probs.tolist():
        following = {}
        for state in range(4):
            options = [
                (score - (0 if NAMES[before] + NAMES[state] in LEGAL else penalty), path)
                for before, (score, path) in best.items()
            ]
            score, path = max(options, key=lambda option: option[0])
            following[state] = (score + row[state] - (SHIFT[threshold] if state != OUTSIDE else 0), [*path, state])
        best = following
    ends = [(score - (penalty if state == INSIDE else 0), path) for state, (score, path) in best.items()]
    return max(ends, key=lambda option: option[0])[1]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 70),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 4.0, np.inf]),
    st.sampled_from(sorted(SHIFT)),
    st.sampled_from([0.3, 3.0, 30.0]),
)
def test_viterbi_finds_the_best_path(n, seed, penalty, threshold, scale):
    logits = np.random.default_rng(seed).normal(scale=scale, size=(n, 4))
    log_probs, _ = token_log_probs(logits)
    states = viterbi(log_probs, penalty, threshold)
    assert states.shape == (n,) and states.dtype == np.int8
    plain = plain_viterbi(log_probs, penalty, threshold)
    expected = path_score(plain, log_probs, penalty, threshold)
    assert path_score(states.tolist(), log_probs, penalty, threshold) == pytest.approx(expected, abs=1e-4, rel=1e-6)
    if penalty == np.inf:
        path = "O" + "".join(NAMES[state] for state in states) + "O"
        assert {path[i : i + 2] for i in range(len(path) - 1)} <= LEGAL


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 4), st.just(4)), elements=st.integers(-6, 0)), st.integers(0, 5))
def test_viterbi_beats_every_path(scores, penalty):
    states = viterbi(scores, penalty).tolist()
    paths = np.stack(np.meshgrid(*[range(4)] * len(scores), indexing="ij"), axis=-1).reshape(-1, len(scores))
    assert path_score(states, scores, penalty, 0.5) == max(path_score(p, scores, penalty, 0.5) for p in paths.tolist())


def scores_of(path: str, sure: float = 0.9) -> np.ndarray:
    """Log probabilities of which `path` is the most likely, token by token."""
    probs = np.full((len(path), 4), (1 - sure) / 3)
    probs[np.arange(len(path)), [NAMES.index(name) for name in path]] = sure
    return np.log(probs).astype(np.float32)


@pytest.mark.parametrize("path", ["", "O", "B", "BE", "OOBIIEOBEBO", "OBBBEO", "O" * 50 + "BIIE"])
def test_viterbi_keeps_a_legal_path(path):
    assert viterbi(scores_of(path)).tolist() == [NAMES.index(name) for name in path]


@pytest.mark.parametrize(
    ("said", "sure", "decoded"),
    [
        ("OBIIOIIEO", 0.9, "OBIIIIIEO"),  # one token of noise inside of a span
        ("OOOIOOO", 0.9, "OOOBOOO"),  # a lone inside
        ("OOIIEOO", 0.9, "OOBIEOO"),  # a span that begins with inside
        ("OOIIEOO", 0.9999, "OOIIEOO"),  # a checkpoint that is sure is believed
    ],
)
def test_soft_penalties_repair_noise(said, sure, decoded):
    assert "".join(NAMES[state] for state in viterbi(scores_of(said, sure))) == decoded


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.5, 0.7, 0.98])
def test_threshold_is_the_probability_of_keeping_at_which_it_is_kept(threshold):
    keep = np.linspace(0.005, 0.995, 199)
    probs = np.full((199, 4), 1e-12)
    probs[:, BEGIN], probs[:, OUTSIDE] = keep, 1 - keep
    states = viterbi(np.log(probs), threshold=threshold)
    clear = np.abs(keep - threshold) > 1e-6
    assert ((states == BEGIN) == (keep > threshold))[clear].all()


def test_viterbi_takes_probabilities_of_zero():
    scores = np.full((9, 4), -np.inf)
    scores[:, OUTSIDE] = 0
    scores[3] = [0, -np.inf, -np.inf, -np.inf]
    scores[4] = [-np.inf, -np.inf, -np.inf, 0]
    assert viterbi(scores, np.inf).tolist() == [2, 2, 2, 0, 3, 2, 2, 2, 2]


def test_viterbi_of_a_long_context_is_exact_over_its_blocks():
    log_probs, _ = token_log_probs(np.random.default_rng(0).normal(scale=2, size=(30_011, 4)))
    states, plain = viterbi(log_probs, 1.5), chained_plain(log_probs, 1.5)
    assert path_score(states.tolist(), log_probs, 1.5, 0.5) == pytest.approx(plain, rel=1e-9)


def chained_plain(log_probs, penalty) -> float:
    """The score of the best path, without the path."""
    best = [-math.inf, -math.inf, 0.0, -math.inf]  # as after a token outside
    for row in log_probs.tolist():
        best = [
            max(best[i] - (0 if NAMES[i] + NAMES[j] in LEGAL else penalty) for i in range(4)) + row[j]
            for j in range(4)
        ]
    return max(best[0], best[1] - penalty, best[2], best[3])


def test_viterbi_needs_memory_in_proportion_to_the_tokens():
    def peak(n):
        log_probs = np.zeros((n, 4), dtype=np.float32)
        tracemalloc.start()
        viterbi(log_probs)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(1_000_000) < 11 * peak(100_000)


@pytest.mark.parametrize("penalty", [-1.0, math.nan])
def test_penalty_must_not_be_a_reward(penalty):
    with pytest.raises(ValueError, match="penalty must be 0 or more"):
        viterbi(np.zeros((1, 4)), penalty=penalty)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, math.nan])
def test_threshold_must_be_a_probability(threshold):
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        viterbi(np.zeros((1, 4)), threshold=threshold)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_token_log_probs_is_the_product_of_the_heads(n, tags, seed):
    rng = np.random.default_rng(seed)
    logits, tag_logits = rng.normal(scale=3, size=(n, 4)), rng.normal(scale=3, size=(n, tags + 1))
    log_probs, tag_log_probs = token_log_probs(logits, tag_logits)
    assert log_probs.dtype == tag_log_probs.dtype == np.float32
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    q = np.exp(tag_logits) / np.exp(tag_logits).sum(1, keepdims=True)
    product = p * (1 - q[:, -1:])
    product[:, OUTSIDE] = p[:, OUTSIDE] * q[:, -1]
    np.testing.assert_allclose(np.exp(log_probs), product / product.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.exp(tag_log_probs), q[:, :-1] / (1 - q[:, -1:]), rtol=1e-4, atol=1e-6)


def test_token_log_probs_without_tags_is_the_position_head():
    log_probs, tags = token_log_probs(np.log([[0.1, 0.2, 0.3, 0.4]]))
    assert tags is None
    np.testing.assert_allclose(np.exp(log_probs), [[0.1, 0.2, 0.3, 0.4]], rtol=1e-6)


def test_a_sure_tag_critic_keeps_its_precision():
    log_probs, _ = token_log_probs(np.zeros((1, 4)), np.array([[-50.0, 0.0]]))  # 1 - q(outside) is 0 in float32
    np.testing.assert_allclose(log_probs[0, BEGIN], -50, rtol=1e-6)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.filterwarnings("error")
@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=finite), hnp.arrays(np.float32, (3, 3), elements=finite))
def test_token_log_probs_is_finite_for_finite_logits(logits, tag_logits):
    for log_probs in (*token_log_probs(logits, tag_logits), token_log_probs(logits)[0]):
        assert np.isfinite(log_probs).all()
        np.testing.assert_allclose(np.exp(log_probs).sum(1), 1, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 1), (2, 3), (3,)])
def test_tag_logits_must_fit(shape):
    with pytest.raises(ValueError, match=r"tag_logits must have a row per token \(3\)"):
        token_log_probs(np.zeros((3, 4)), np.zeros(shape))


@pytest.mark.parametrize(
    ("path", "spans"),
    [
        ("", []),
        ("OOO", []),
        ("OBIIEO", [(1, 5)]),
        ("BEBE", [(0, 2), (2, 4)]),
        ("BBI", [(0, 1), (1, 3)]),
        ("BIOIE", [(0, 2), (3, 5)]),
        ("BEIIE", [(0, 2), (2, 5)]),
        ("EEB", [(0, 1), (1, 2), (2, 3)]),
        ("IIOE", [(0, 2), (3, 4)]),
    ],
)
def test_spans_of(path, spans):
    found = spans_of(np.array([NAMES.index(name) for name in path], dtype=np.int8))
    assert found.dtype == np.int64 and found.shape == (len(spans), 2)
    assert [tuple(span) for span in found.tolist()] == spans


@given(st.lists(st.integers(0, 3), max_size=30))
def test_spans_hold_exactly_the_kept_tokens(states):
    held = [token for start, end in spans_of(np.array(states, dtype=np.int8)) for token in range(start, end)]
    assert held == [token for token, state in enumerate(states) if state != OUTSIDE]
    for start, end in spans_of(np.array(states, dtype=np.int8)):
        assert END not in states[start : end - 1] and BEGIN not in states[start + 1 : end]


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 6), max_size=16),
    st.integers(0, 2**32 - 1),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_bridge_joins_over_short_and_likely_gaps(steps, seed, max_gap, min_prob):
    edges = np.cumsum([step + (i % 2) for i, step in enumerate(steps[: len(steps) // 2 * 2])]).reshape(-1, 2)
    keep = np.random.default_rng(seed).random(200)
    expected: list[list[int]] = []
    for start, end in edges.tolist():
        gap = keep[expected[-1][1] : start] if expected else keep[:0]
        if 0 < len(gap) <= max_gap and gap.mean() > min_prob:
            expected[-1][1] = end
        else:
            expected.append([start, end])
    joined = bridge(edges, keep, max_gap, min_prob)
    assert joined.dtype == np.int64 and joined.tolist() == expected
