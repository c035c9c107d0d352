"""Which prompts a window holds: the order of TRL's sampler, and reserves for resampling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.utils import RepeatSampler

from qwenlong_trl.phased_grpo.sampler import WindowClock, reserve_rows, window_rows


@given(
    size=st.integers(1, 5),
    extra=st.integers(0, 9),
    seed=st.integers(0, 2**31),
    passes=st.integers(1, 4),
    shuffle=st.booleans(),
)
def test_windows_follow_the_order_of_trl_over_several_passes(size, extra, seed, passes, shuffle):
    pool = [100 + i for i in range(size + extra)]
    sampler = RepeatSampler(
        pool, mini_repeat_count=2, batch_size=size, repeat_count=3, shuffle=shuffle, seed=seed if shuffle else None
    )
    stream = [index for _ in range(passes) for index in sampler]
    expected = [[pool[i] for i in stream[at : at + 2 * size : 2]] for at in range(0, len(stream), 3 * 2 * size)]
    assert [window_rows(pool, w, size, seed, shuffle) for w in range(len(expected))] == expected


@given(size=st.integers(1, 6), extra=st.integers(0, 12), window=st.integers(0, 60), seed=st.integers(0, 1000))
def test_the_prompts_of_a_pass_differ(size, extra, window, seed):
    pool = list(range(size + extra))
    per_pass = len(pool) // size
    first = window // per_pass * per_pass
    rows = [row for w in range(first, first + per_pass) for row in window_rows(pool, w, size, seed)]
    assert len(set(rows)) == len(rows) == per_pass * size


def test_passes_have_different_orders():
    pool = list(range(40))
    assert window_rows(pool, 0, 40, seed=1) != window_rows(pool, 1, 40, seed=1)


def test_a_pool_that_cannot_fill_a_window_is_refused():
    with pytest.raises(ValueError, match="a window needs 4 different prompts, the pool has 3"):
        window_rows([1, 2, 3], 0, 4, seed=0)


@given(
    pool=st.lists(st.integers(0, 99), min_size=1, max_size=20, unique=True),
    seen=st.integers(0, 20),
    count=st.integers(0, 30),
)
def test_reserves_are_unseen_as_long_as_there_are_any(pool, seen, count):
    taken = pool[:seen]
    rows = reserve_rows(pool, taken, count, seed=3, window=5, draw=0)
    fresh = set(pool) - set(taken)
    assert len(rows) == count
    assert set(rows[: len(fresh)]) <= fresh
    assert len(set(rows)) == min(count, len(pool))  # repeats only once all were used
    assert set(rows) <= set(pool)


def test_reserves_depend_on_window_and_draw():
    pool = list(range(50))
    draws = [reserve_rows(pool, [], 50, seed=1, window=w, draw=d) for w in range(3) for d in range(3)]
    assert len({tuple(rows) for rows in draws}) == 9
    assert reserve_rows(pool, [], 50, seed=1, window=2, draw=2) == draws[-1]


def test_the_clock_yields_every_window_as_often_as_rows_are_asked_for():
    clock = WindowClock(windows=3, rows_per_window=4)
    assert list(clock) == [0] * 4 + [1] * 4 + [2] * 4
    assert len(clock) == 12
    assert list(clock) == list(clock)  # a second epoch would be the same
