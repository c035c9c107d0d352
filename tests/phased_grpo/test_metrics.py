"""Means of a window, overall and per length bucket."""

import math

import pytest

from qwenlong_trl import Curriculum, Phase
from qwenlong_trl.phased_grpo.metrics import bucket_metrics, bucket_name, window_metrics
from qwenlong_trl.phased_grpo.rollouts import Rollouts


@pytest.fixture
def curriculum() -> Curriculum:
    phases = [Phase(8, 2, name="a"), Phase(16, 2, name="b")]
    return Curriculum(phases, ["p0", "p1", "p2", "p3"], [5, 8, 9, 16], retrospective="hard_zero")


def test_buckets_are_the_ranges_of_the_phases(curriculum):
    assert [bucket_name(curriculum, row) for row in range(4)] == ["length_0_8"] * 2 + ["length_8_16"] * 2


def test_means_add_up(curriculum):
    rollouts = Rollouts(
        rows=[0, 0, 2, 2, 3, 3, 1, 1],
        rewards=[1.5, -0.5, 0.0, 0.0, 1.0, 1.0, 2.0, 0.0],
        accuracies=[1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0],
        truncated=[True, False, True, True, False, False, False, False],
    )
    assert bucket_metrics(rollouts, curriculum, num_generations=2) == {
        "accuracy": 0.5,
        "truncated": 3 / 8,
        "zero_variance": 0.5,
        "zero_variance/none": 0.25,
        "zero_variance/all": 0.25,
        "curriculum/length_0_8/accuracy": 0.5,
        "curriculum/length_0_8/truncated": 0.25,
        "curriculum/length_0_8/zero_variance": 0.0,
        "curriculum/length_0_8/reward": 0.75,
        "curriculum/length_8_16/accuracy": 0.5,
        "curriculum/length_8_16/truncated": 0.5,
        "curriculum/length_8_16/zero_variance": 1.0,
        "curriculum/length_8_16/reward": 0.5,
    }


def test_unscored_rollouts_leave_the_means(curriculum):
    nan = math.nan
    rollouts = Rollouts([0, 0, 2, 2], [1.0, nan, nan, nan], [1.0, nan, nan, nan], [False] * 4)
    metrics = bucket_metrics(rollouts, curriculum, num_generations=2)
    assert metrics["accuracy"] == metrics["curriculum/length_0_8/reward"] == 1.0
    assert math.isnan(metrics["curriculum/length_8_16/accuracy"])
    assert metrics["zero_variance"] == 1.0
    assert metrics["zero_variance/none"] == metrics["zero_variance/all"] == 0.0  # not known to be all wrong or right


def test_what_a_window_was_drawn_from(curriculum):
    curriculum.observe(["p0", "p1"], [0.0, 1.0])
    curriculum.enter(1)
    rollouts = Rollouts([2, 2, 0, 0, 3, 3, 0, 0], [0.0] * 8, [0.0] * 8, [False] * 8)
    metrics = window_metrics(rollouts, curriculum, 1, num_generations=2)
    assert metrics["curriculum/phase"] == 2
    assert metrics["curriculum/max_prompt_length"] == 16
    assert metrics["curriculum/pool"] == 3
    assert metrics["curriculum/carried"] == 1
    assert metrics["curriculum/carried_share"] == 0.5
    assert metrics["accuracy"] == 0.0
