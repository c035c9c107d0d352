"""The losses against values worked out by hand, their gradients in float64, and the bound that they come from."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from qwenlong_trl.solopo.losses import ALGORITHMS, DISTANCES, alignment_distance, log1mexp, preference_loss, rewards


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# One pair: 4 tokens chosen, 2 rejected; mean log-probabilities -0.5 and -1.5.
LOGPS = (torch.tensor([-2.0]), torch.tensor([-3.0]))
LENGTHS = (torch.tensor([4]), torch.tensor([2]))
LONG_LOGPS = torch.tensor([-2.8])  # the chosen answer on the long context: mean -0.7


def test_simpo_by_hand():
    chosen, rejected = (rewards("simpo", x, n, None, 10.0) for x, n in zip(LOGPS, LENGTHS, strict=True))
    assert chosen.item() == pytest.approx(-5.0) and rejected.item() == pytest.approx(-15.0)
    loss = preference_loss("simpo", chosen, rejected, beta=10.0, gamma=3.0)
    assert loss.item() == pytest.approx(-math.log(sigmoid(10 - 3)))
    on_long = rewards("simpo", LONG_LOGPS, LENGTHS[0], None, 10.0)
    assert alignment_distance("l1", chosen - on_long).item() == pytest.approx(2.0, rel=1e-5)


def test_orpo_by_hand():
    p_chosen, p_rejected, p_long = math.exp(-0.5), math.exp(-1.5), math.exp(-0.7)
    odds = [p / (1 - p) for p in (p_chosen, p_rejected, p_long)]
    chosen, rejected = (rewards("orpo", x, n, None, 0.1) for x, n in zip(LOGPS, LENGTHS, strict=True))
    assert chosen.item() == pytest.approx(math.log(odds[0]), rel=1e-5)
    assert rejected.item() == pytest.approx(math.log(odds[1]), rel=1e-5)
    loss = preference_loss("orpo", chosen, rejected, beta=0.1, chosen_mean_logps=LOGPS[0] / LENGTHS[0])
    ratio = odds[0] / odds[1]
    assert loss.item() == pytest.approx(0.5 - 0.1 * math.log(ratio / (1 + ratio)), rel=1e-5)
    on_long = rewards("orpo", LONG_LOGPS, LENGTHS[0], None, 0.1)
    gap = alignment_distance("l1", chosen - on_long)
    assert gap.item() == pytest.approx(math.log(odds[0] / odds[2]), rel=1e-4)


def test_dpo_ipo_and_hinge_by_hand():
    references = (torch.tensor([-2.4]), torch.tensor([-2.9]))
    expected = {"dpo": (0.04, -0.01), "hinge": (0.04, -0.01), "ipo": (0.1, -0.05)}
    margin = {"dpo": -math.log(sigmoid(0.05)), "hinge": 0.95, "ipo": (0.15 - 5.0) ** 2}
    for algorithm, values in expected.items():
        found = [rewards(algorithm, *x, 0.1) for x in zip(LOGPS, LENGTHS, references, strict=True)]
        assert [r.item() for r in found] == pytest.approx(list(values), abs=1e-6)
        assert preference_loss(algorithm, *found, beta=0.1).item() == pytest.approx(margin[algorithm], rel=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_in_float64(algorithm, distance):
    """The whole objective as a function of the log-probabilities, away from the kinks of the distances."""
    lengths = torch.tensor([3, 5, 2])
    torch.manual_seed(0)
    inputs = [-(torch.rand(3, dtype=torch.float64) * 4 + 1).requires_grad_() for _ in range(4)]
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    references = [-torch.rand(3, dtype=torch.float64) * 5 for _ in range(4)]

    def objective(chosen, rejected, long_chosen, long_rejected):
        values = [
            rewards(algorithm, logps, lengths, reference, 0.3)
            for logps, reference in zip((chosen, rejected, long_chosen, long_rejected), references, strict=True)
        ]
        loss = preference_loss(algorithm, *values[:2], beta=0.3, gamma=0.7, chosen_mean_logps=chosen / lengths)
        for i in (0, 1):
            gap = values[i] - values[i + 2]
            loss = loss + 2 * alignment_distance(distance, gap, 0.3, huber_delta=0.2, rejected=i == 1)
        return loss.mean()

    assert gradcheck(objective, inputs)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_vanish_at_zero_with_their_gradient(distance):
    gap = torch.zeros(3, requires_grad=True)
    value = alignment_distance(distance, gap)
    assert torch.equal(value, torch.zeros(3))
    value.sum().backward()
    assert torch.equal(gap.grad, torch.zeros(3))


gaps = st.floats(-50, 50)


@given(gaps)
def test_one_sided_moves_the_long_reward_one_way(gap):
    tensor = torch.tensor(gap, dtype=torch.float64)
    assert alignment_distance("one_sided", tensor).item() == max(gap, 0)
    assert alignment_distance("one_sided", tensor, rejected=True).item() == max(-gap, 0)


# The preference loss as a function of its margin, and the distances that bound it: f(z) <= s(|z|) for every z.
BOUNDS = [
    ("dpo", lambda z: preference_loss("dpo", z, 0 * z, 0.3), ("l1", "softplus"), math.log(2)),
    ("simpo", lambda z: preference_loss("simpo", z, 0 * z, 0.3, gamma=1.0), ("l1",), math.log(1 + math.e)),
    ("ipo", lambda z: preference_loss("ipo", z, 0 * z, 0.3), ("ipo",), 1 / 0.6**2),
    ("hinge", lambda z: preference_loss("hinge", z, 0 * z, 0.3), ("l1",), 1.0),
]


@pytest.mark.parametrize(("loss", "distances", "constant"), [b[1:] for b in BOUNDS], ids=[b[0] for b in BOUNDS])
@given(short_margin=gaps, chosen_gap=gaps, rejected_gap=gaps)
def test_the_objective_bounds_the_long_loss(loss, distances, constant, short_margin, chosen_gap, rejected_gap):
    """
    Theorem 1: with the constants that the distances leave out, the preference loss on the long context is at most a
    third of short loss plus both distances, all at three times their argument.
    """

    def f(z: float) -> float:
        return loss(torch.tensor(z, dtype=torch.float64)).item()

    for distance in distances:

        def s(z: float, distance=distance) -> float:
            return alignment_distance(distance, torch.tensor(z, dtype=torch.float64), beta=0.3).item() + constant

        long_margin = short_margin - chosen_gap + rejected_gap
        bound = (f(3 * short_margin) + s(3 * chosen_gap) + s(3 * rejected_gap)) / 3
        assert f(long_margin) <= bound * (1 + 1e-9) + 1e-9
        assert f(chosen_gap) <= s(abs(chosen_gap)) * (1 + 1e-9)


@given(st.floats(-700, -1e-12))
def test_log1mexp(x):
    value = log1mexp(torch.tensor(x, dtype=torch.float64)).item()
    expected = math.log(-math.expm1(x)) if x > -math.log(2) else math.log1p(-math.exp(x))
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_orpo_of_an_answer_that_is_certain_stays_finite():
    logps = torch.zeros(1, requires_grad=True)
    value = rewards("orpo", logps, torch.tensor([3]), None, 0.1)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logps.grad)


def test_unknown_names():
    for function in (lambda: rewards("kto", *[torch.ones(1)] * 3, 1), lambda: preference_loss("kto", 1, 1, 1)):
        with pytest.raises(ValueError, match="unknown algorithm 'kto', expected one of dpo, simpo"):
            function()
    with pytest.raises(ValueError, match="unknown distance 'cosine', expected one of l1"):
        alignment_distance("cosine", torch.ones(1))
