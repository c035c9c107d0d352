"""Which phase a prompt belongs to, how hard it was, and what is carried on."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl import Curriculum, CurriculumMismatchError, Phase
from qwenlong_trl.phased_grpo.curriculum import Difficulty, assign_phases


PHASES = [Phase(8, 2, name="a"), Phase(16, 2, name="b"), Phase(32, 2, name="c")]


def make(lengths, **settings) -> Curriculum:
    return Curriculum(PHASES, [f"p{i}" for i in range(len(lengths))], lengths, **settings)


@given(st.lists(st.integers(1, 200), max_size=40), st.lists(st.integers(1, 150), min_size=1, max_size=5, unique=True))
def test_every_prompt_is_in_one_phase_or_dropped(lengths, bounds):
    phases = [Phase(bound, 1) for bound in sorted(bounds)]
    curriculum = Curriculum(phases, [str(i) for i in range(len(lengths))], lengths)
    rows = [row for own in curriculum.own_rows for row in own] + curriculum.dropped
    assert sorted(rows) == list(range(len(lengths)))
    lower = 0
    for phase, own in zip(phases, curriculum.own_rows, strict=True):
        assert all(lower < lengths[row] <= phase.max_prompt_length for row in own)
        lower = phase.max_prompt_length
    assert all(lengths[row] > lower for row in curriculum.dropped)


def test_bounds_belong_to_the_shorter_phase():
    assert assign_phases([1, 8, 9, 16, 17, 32, 33], PHASES) == [0, 0, 1, 1, 2, 2, None]


def test_duplicate_ids_are_refused():
    with pytest.raises(ValueError, match="must be unique, but 'x' stands in more than one row"):
        Curriculum(PHASES, ["x", "y", "x"], [1, 2, 3])


def test_accuracies_are_added_up_and_unscored_rollouts_left_out():
    curriculum = make([5, 5])
    curriculum.observe(["p0", "p0", "p1"], [1.0, 0.0, math.nan])
    curriculum.observe(["p0", "p0"], [0.5, math.nan])
    assert curriculum.difficulty == {"p0": Difficulty(3, 1.5)}
    assert curriculum.difficulty["p0"].mean == 0.5


@given(st.lists(st.sampled_from([None, 0.0, 0.25, 1.0]), min_size=1, max_size=30))
def test_hard_zero_carries_exactly_the_prompts_that_were_never_right(means):
    curriculum = make([5] * len(means) + [12], retrospective="hard_zero")
    for i, mean in enumerate(means):
        if mean is not None:
            curriculum.observe([f"p{i}"] * 4, [float(j < 4 * mean) for j in range(4)])
    curriculum.enter(1)
    assert list(curriculum.carried[1]) == [f"p{i}" for i, mean in enumerate(means) if mean == 0]
    assert curriculum.pool(1) == [len(means), *(i for i, mean in enumerate(means) if mean == 0)]


def test_prompts_of_all_earlier_phases_are_carried():
    curriculum = make([5, 12, 20, 5], retrospective="hard_zero")
    curriculum.observe(["p0", "p1", "p3"], [0.0, 0.0, 1.0])
    curriculum.enter(1)
    curriculum.enter(2)
    assert list(curriculum.carried[1]) == ["p0"]
    assert list(curriculum.carried[2]) == ["p0", "p1"]


def test_a_prompt_of_the_phase_itself_or_dropped_is_never_carried():
    curriculum = make([5, 12, 99], retrospective="hard_zero")
    curriculum.observe(["p0", "p1", "p2"], [0.0, 0.0, 0.0])
    curriculum.enter(1)
    assert list(curriculum.carried[1]) == ["p0"]


def weighted(seed=0, ratio=1.0, short=10, long=10, epsilon=0.125, observed=None) -> Curriculum:
    curriculum = make([5] * short + [12] * long, retrospective="weighted", ratio=ratio, epsilon=epsilon, seed=seed)
    for i in range(short if observed is None else observed):
        curriculum.observe([f"p{i}"] * 10, [float(j < i % 11) for j in range(10)])
    curriculum.enter(1)
    return curriculum


def test_weights_are_finite_and_follow_the_mean():
    carried = weighted().carried[1]
    assert carried["p0"] == 1 / 0.125
    assert carried["p5"] == 1 / (0.5 + 0.125)
    assert all(math.isfinite(weight) for weight in carried.values())


@pytest.mark.parametrize(("ratio", "size"), [(0.2, 2), (0.25, 2), (0.5, 5), (1.0, 10), (3.0, 10), (0.01, 0)])
def test_the_size_of_the_draw_is_a_share_of_the_phase(ratio, size):
    assert len(weighted(ratio=ratio).carried[1]) == size


def test_the_draw_depends_on_the_seed_alone():
    assert weighted(seed=1, ratio=0.5).carried == weighted(seed=1, ratio=0.5).carried
    assert len({tuple(weighted(seed=seed, ratio=0.5).carried[1]) for seed in range(20)}) > 10


def test_unobserved_prompts_are_never_carried():
    for seed in range(20):
        assert set(weighted(seed=seed, ratio=0.5, observed=6).carried[1]) <= {f"p{i}" for i in range(6)}


def test_the_first_draw_follows_the_weights():
    # One of ten is drawn, so a prompt's share of the draws is its share of the weights.
    draws = 6000
    counts = Counter(next(iter(weighted(seed=seed, ratio=0.1).carried[1])) for seed in range(draws))
    weights = {f"p{i}": 1 / (i / 10 + 0.125) for i in range(10)}
    chi_square = sum(
        (counts[name] - expected) ** 2 / expected
        for name, expected in ((name, draws * w / sum(weights.values())) for name, w in weights.items())
    )
    assert chi_square < 27.9  # 0.999 quantile of chi-square with 9 degrees of freedom; the seeds are fixed


def test_second_draws_follow_the_weights_that_are_left():
    # Two of three without replacement: P(pair) = w_i w_j (1/(W - w_i) + 1/(W - w_j)) / W.
    draws = 6000
    curricula = (weighted(seed=seed, ratio=2 / 3, short=3, long=3) for seed in range(draws))
    counts = Counter(tuple(c.carried[1]) for c in curricula)
    w = [1 / (i / 10 + 0.125) for i in range(3)]
    total = sum(w)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        share = w[i] * w[j] * (1 / (total - w[i]) + 1 / (total - w[j])) / total
        error = math.sqrt(share * (1 - share) / draws)
        assert abs(counts[f"p{i}", f"p{j}"] / draws - share) < 4 * error


def test_what_is_carried_is_frozen_at_the_first_entrance():
    curriculum = make([5, 12], retrospective="hard_zero")
    curriculum.observe(["p0"], [0.0])
    assert curriculum.enter(1)
    curriculum.observe(["p0"], [1.0])
    assert not curriculum.enter(1)
    assert list(curriculum.carried[1]) == ["p0"]


def test_a_phase_must_be_entered_before_its_pool_is_known():
    curriculum = make([5, 12], retrospective="hard_zero")
    assert curriculum.pool(0) == [0]
    with pytest.raises(RuntimeError, match="phase 1 was not entered"):
        curriculum.pool(1)
    assert make([5, 12]).pool(1) == [1]  # nothing to wait for without retrospective sampling


def test_a_scoring_pass_decides_alone():
    curriculum = make([5, 5, 12], retrospective="hard_zero")
    curriculum.observe(["p0", "p1"], [0.0, 1.0])
    table = {}
    curriculum.observe(["p0", "p1"], [1.0, 0.0], into=table)
    curriculum.enter(1, table)
    assert list(curriculum.carried[1]) == ["p1"]
    assert curriculum.difficulty["p0"].mean == 0.0


def test_state_survives_json():
    curriculum = weighted(ratio=0.7)
    curriculum.observe(["p0"], [1 / 3])
    state = json.loads(json.dumps(curriculum.state_dict()))
    again = make([5] * 10 + [12] * 10, retrospective="weighted", ratio=0.7, epsilon=0.125, seed=0)
    again.load_state_dict(state)
    assert again.difficulty == curriculum.difficulty
    assert again.carried == curriculum.carried
    assert again.pool(1) == curriculum.pool(1)
    assert again.state_dict() == curriculum.state_dict()


def test_another_version_of_the_state_is_refused():
    curriculum = weighted()
    with pytest.raises(CurriculumMismatchError, match="version 99"):
        curriculum.load_state_dict(curriculum.state_dict() | {"state_version": 99})


def test_reset_forgets_everything():
    curriculum = weighted()
    curriculum.reset()
    assert curriculum.state_dict()["difficulty"] == {}
    assert curriculum.carried == {}


def test_the_table_of_carried_prompts_says_why():
    curriculum = make([5, 12, 20], retrospective="hard_zero")
    curriculum.observe(["p0", "p1"], [0.0, 0.0])
    curriculum.enter(2)
    shared = {"phase": "c", "weight": 1.0, "mean_accuracy": 0.0}
    assert curriculum.carried_table(2) == [
        {"id": "p0", "from_phase": "a", "prompt_length": 5, **shared},
        {"id": "p1", "from_phase": "b", "prompt_length": 12, **shared},
    ]


def test_the_table_gives_the_accuracy_behind_a_weight():
    for entry in weighted().carried_table(1):
        assert entry["mean_accuracy"] == pytest.approx(int(entry["id"][1:]) / 10)
