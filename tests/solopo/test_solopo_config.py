"""Defaults of the paper and its baselines, and settings that are refused."""

import pytest
from solopo_runs import make_args


@pytest.mark.parametrize(
    ("algorithm", "alpha", "beta", "distance"),
    [
        ("dpo", 3, 0.1, "l1"),
        ("simpo", 1, 10, "l1"),
        ("orpo", 1, 0.1, "l1"),
        ("ipo", 1, 0.1, "ipo"),
        ("hinge", 1, 0.1, "l1"),
    ],
)
def test_defaults(tmp_path, algorithm, alpha, beta, distance):
    args = make_args(tmp_path, algorithm=algorithm)
    assert (args.solo_alpha, args.beta, args.solo_distance) == (alpha, beta, distance)
    assert args.aligned == ("chosen",)
    assert args.reference_free == (algorithm in ("simpo", "orpo"))


def test_a_limit_that_is_not_used_is_not_checked(tmp_path):
    assert make_args(tmp_path, objective="short_po", max_length=128, max_long_length=64).max_length == 128


def test_what_is_given_stays(tmp_path):
    args = make_args(tmp_path, algorithm="simpo", beta=2.0, solo_alpha=0.0, simpo_gamma=0.5, solo_distance="huber")
    assert (args.beta, args.solo_alpha, args.simpo_gamma, args.solo_distance) == (2.0, 0.0, 0.5, "huber")


@pytest.mark.parametrize(
    ("settings", "aligned"),
    [
        ({"solo_align": "both"}, ("chosen", "rejected")),
        ({"solo_align": "none"}, ()),
        ({"objective": "short_po"}, ()),
        ({"objective": "long_po"}, ()),
        ({"objective": "longpo"}, ()),
    ],
)
def test_what_is_aligned(tmp_path, settings, aligned):
    assert make_args(tmp_path, **settings).aligned == aligned


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "kto"}, "`algorithm` must be one of dpo, simpo, orpo, ipo, hinge, got 'kto'"),
        ({"solo_distance": "cosine"}, "`solo_distance` must be one of l1"),
        ({"solo_align": "rejected"}, "`solo_align` must be one of chosen, both, none"),
        ({"objective": "medium"}, "`objective` must be one of solopo"),
        ({"beta": 0.0}, "`beta` must be positive"),
        ({"solo_alpha": -1.0}, "`solo_alpha` must not be negative"),
        ({"max_drop_fraction": 1.5}, "`max_drop_fraction` must be from 0 to 1"),
        ({"max_length": 64, "max_long_length": 32}, "`max_long_length=32` is below `max_length=64`"),
        ({"loss_type": "ipo"}, r"`loss_type=\['ipo'\]` belongs to DPOTrainer"),
        ({"ld_alpha": 0.5}, "`ld_alpha=0.5` belongs to DPOTrainer"),
        ({"f_divergence_type": "forward_kl"}, "`f_divergence_type='forward_kl'` belongs to DPOTrainer"),
        ({"use_weighting": True}, "`use_weighting=True` belongs to DPOTrainer"),
        ({"algorithm": "simpo", "objective": "longpo"}, "objective='longpo' is about the reference model"),
        ({"algorithm": "orpo", "precompute_ref_log_probs": True}, "Leave `precompute_ref_log_probs` out"),
        ({"algorithm": "simpo", "sync_ref_model": True}, "Leave `sync_ref_model` out"),
        ({"sequential_backward": True, "disable_dropout": False}, "the same only without dropout"),
    ],
)
def test_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        make_args(tmp_path, **settings)


@pytest.mark.parametrize("name", ["fused_linear_cross_entropy", "cross_entropy"])
def test_losses_of_liger_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="an alignment made of them trains nothing"):
        make_args(tmp_path, use_liger_kernel=True, liger_kernel_config={name: True})
