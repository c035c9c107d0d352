"""Steps, windows and phases agree with one another."""

import math
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.phased_grpo.plan import PhasePlan


@st.composite
def plans(draw) -> PhasePlan:
    """Every phase fills whole windows, as the config demands."""
    accumulation, window = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    multiple = math.lcm(accumulation, window) // accumulation
    repeats = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    return PhasePlan(tuple(multiple * n for n in repeats), accumulation, window)


@given(plans())
def test_a_step_and_the_window_of_each_of_its_micro_steps_are_of_one_phase(plan):
    for step in range(sum(plan.steps)):
        micro_steps = range(step * plan.accumulation, (step + 1) * plan.accumulation)
        phases = {plan.phase_at_window(micro // plan.window)[0] for micro in micro_steps}
        assert phases == {plan.phase_at_step(step)[0]}


@given(plans())
def test_steps_and_windows_are_counted_from_zero_in_each_phase(plan):
    steps = [plan.phase_at_step(step) for step in range(sum(plan.steps))]
    assert steps == [(k, i) for k, n in enumerate(plan.steps) for i in range(n)]
    windows = [plan.phase_at_window(window) for window in range(plan.windows)]
    per_phase = [n * plan.accumulation // plan.window for n in plan.steps]
    assert windows == [(k, i) for k, n in enumerate(per_phase) for i in range(n)]


@given(plans())
def test_windows_cover_all_micro_steps(plan):
    assert plan.windows * plan.window == sum(plan.steps) * plan.accumulation


@given(plans())
def test_phase_ends_are_window_boundaries(plan):
    assert plan.phase_ends[-1] == sum(plan.steps)
    assert all(plan.is_window_boundary(end) for end in plan.phase_ends)
    assert plan.is_window_boundary(0)


@given(plans())
def test_boundaries_are_where_whole_windows_were_trained(plan):
    for step in range(sum(plan.steps) + 1):
        assert plan.is_window_boundary(step) == ((step * plan.accumulation / plan.window) % 1 == 0)


def test_after_the_last_step_the_last_phase_stays():
    plan = PhasePlan((4, 2), accumulation=2, window=4)
    assert plan.phase_at_step(6) == (1, 2)
    assert plan.phase_at_window(3) == (1, 1)


@given(plans())
def test_boundaries_are_evenly_spaced(plan):
    between = plan.steps_between_boundaries
    boundaries = [step for step in range(sum(plan.steps) + 1) if step * plan.accumulation % plan.window == 0]
    assert boundaries == list(range(0, sum(plan.steps) + 1, between))


def test_a_plan_is_read_from_the_config():
    args = SimpleNamespace(
        phases=[SimpleNamespace(max_steps=4), SimpleNamespace(max_steps=2)],
        gradient_accumulation_steps=2,
        micro_steps_per_window=4,
    )
    assert PhasePlan.of(args) == PhasePlan((4, 2), 2, 4)
