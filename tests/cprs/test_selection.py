"""The choice of units: by decision, by score under an exact budget, with protected regions and fallbacks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.cprs.selection import merge_ranges, select


UNITS = np.array([(0, 10), (10, 14), (20, 26), (30, 31)])
SCORES = np.array([0.1, 0.9, 0.4, 0.9])
NONE = np.zeros(4, dtype=bool)


class Counter:
    """A token per character and one for each range: what a separator costs."""

    def __init__(self):
        self.calls = 0

    def __call__(self, ranges: np.ndarray) -> int:
        self.calls += 1
        return int((ranges[:, 1] - ranges[:, 0] + 1).sum())


def sizes_of(units: np.ndarray) -> np.ndarray:
    return units[:, 1] - units[:, 0]


def budgeted(target: int, **kwargs):
    return select(UNITS, SCORES, NONE, target=target, sizes=sizes_of(UNITS), count=Counter(), **kwargs)


def covered(ranges: np.ndarray) -> set[int]:
    return {position for start, end in ranges.tolist() for position in range(start, end)}


@st.composite
def problems(draw):
    """Units with gaps of 0 to 3 characters, scores with ties, and protected regions anywhere."""
    units, position = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=25)):
        units.append((position + gap, position + gap + length))
        position += gap + length
    scores = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9]), min_size=len(units), max_size=len(units)))
    decoded = draw(st.lists(st.booleans(), min_size=len(units), max_size=len(units)))
    place = st.integers(0, position + 3)
    keep = draw(st.lists(st.tuples(place, place).map(lambda pair: tuple(sorted(pair))), max_size=3))
    return np.array(units, dtype=np.int64).reshape(-1, 2), np.array(scores), np.array(decoded, dtype=bool), keep


def test_decoded_units_that_touch_become_one_range():
    selection = select(UNITS, SCORES, np.array([True, True, False, True]))
    assert selection.ranges.tolist() == [[0, 14], [30, 31]]
    assert selection.chosen.tolist() == [True, True, False, True]
    assert selection.fallback is None
    assert selection.tokens is None


@pytest.mark.parametrize(("min_spans", "chosen"), [(0, [2]), (1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (9, [0, 1, 2, 3])])
def test_min_spans_adds_the_best_of_the_others(min_spans, chosen):
    selection = select(UNITS, SCORES, np.array([False, False, True, False]), min_spans=min_spans)
    assert np.flatnonzero(selection.chosen).tolist() == chosen


@pytest.mark.parametrize(
    ("fallback", "ranges"),
    [("none", []), ("top_span", [[10, 14]]), ("head", [[0, 10]]), ("full", [[0, 14], [20, 26], [30, 31]])],
)
def test_fallback_when_nothing_was_chosen(fallback, ranges):
    selection = select(UNITS, SCORES, NONE, fallback=fallback)
    assert selection.ranges.tolist() == ranges
    assert selection.fallback == fallback


@pytest.mark.parametrize("kwargs", [{"keep": [(3, 5)]}, {"min_spans": 1}], ids=["keep", "min_spans"])
def test_no_fallback_when_something_was_chosen(kwargs):
    selection = select(UNITS, SCORES, NONE, fallback="full", **kwargs)
    assert selection.fallback is None
    assert selection.ranges.tolist() == ([[3, 5]] if "keep" in kwargs else [[10, 14]])


def test_empty_protected_regions_protect_nothing():
    assert select(UNITS, SCORES, NONE, keep=[(3, 3)], fallback="head").fallback == "head"


def test_protected_regions_cut_and_join_units():
    keep = [(25, 30), (5, 8)]  # joins two units; lies in one that is not chosen
    selection = select(UNITS, SCORES, np.array([False, False, True, True]), keep=keep)
    assert selection.ranges.tolist() == [[5, 8], [20, 31]]


@pytest.mark.parametrize(
    ("target", "ranges"),
    [
        (0, []),
        (1, []),
        (2, [[30, 31]]),  # the best, of 5 tokens, does not fit; the next of 2 does
        (5, [[10, 14]]),
        (7, [[10, 14], [30, 31]]),
        (13, [[10, 14], [30, 31]]),
        (14, [[10, 14], [20, 26], [30, 31]]),
        (24, [[0, 14], [20, 26], [30, 31]]),
        (1000, [[0, 14], [20, 26], [30, 31]]),
    ],
)
def test_target_is_filled_by_score(target, ranges):
    selection = budgeted(target)
    assert selection.ranges.tolist() == ranges
    assert selection.tokens == Counter()(selection.ranges)


def test_target_looks_at_scores_alone():
    everything = select(
        UNITS, SCORES, np.array([True, False, False, False]), target=5, sizes=sizes_of(UNITS), count=Counter()
    )
    assert everything.ranges.tolist() == [[10, 14]]
    assert budgeted(5, min_spans=3).ranges.tolist() == [[10, 14]]


def test_smaller_units_fill_what_is_left():
    units = np.array([(0, 50), (60, 140), (150, 160), (170, 175), (180, 230)])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    selection = select(units, scores, np.zeros(5, bool), target=70, sizes=sizes_of(units), count=Counter())
    assert np.flatnonzero(selection.chosen).tolist() == [0, 2, 3]
    assert selection.tokens == 68


def test_a_group_that_is_too_large_is_halved_and_counted_again():
    units = np.array([(0, 50), (60, 140), (150, 161), (170, 174)])
    sizes = [50, 80, 5, 4]  # the third is said to fit, but takes one token too many
    selection = select(units, [0.9, 0.8, 0.7, 0.6], np.zeros(4, bool), target=62, sizes=sizes, count=Counter())
    assert np.flatnonzero(selection.chosen).tolist() == [0, 3]
    assert selection.tokens == 56


def test_units_without_tokens_do_not_enter_an_empty_budget():
    selection = select(UNITS, SCORES, NONE, target=0, sizes=sizes_of(UNITS), count=lambda ranges: 0)
    assert selection.ranges.shape == (0, 2)


def test_ties_go_by_position():
    units = np.stack([np.arange(0, 2000, 2), np.arange(1, 2001, 2)], axis=1)
    scores = np.tile([0.2, 0.7, 0.7, 0.1], 250)
    kwargs = {"target": 400, "sizes": sizes_of(units), "count": Counter()}
    selection = select(units, scores, np.zeros(1000, bool), **kwargs)
    assert np.flatnonzero(selection.chosen).tolist() == np.flatnonzero(scores == 0.7)[:200].tolist()


def test_protected_regions_come_first():
    selection = budgeted(12, keep=[(20, 26)])
    assert selection.ranges.tolist() == [[10, 14], [20, 26]]
    assert selection.tokens == 12
    assert budgeted(7, keep=[(20, 26)]).ranges.tolist() == [[20, 26]]
    with pytest.raises(ValueError, match="protected regions alone have 7 tokens, 1 more than target=6"):
        budgeted(6, keep=[(20, 26)])


@pytest.mark.parametrize("fallback", ["none", "top_span", "head", "full"])
def test_fallback_cannot_exceed_the_target(fallback):
    for target in (0, 1):
        selection = budgeted(target, fallback=fallback)
        assert selection.ranges.shape == (0, 2)
        assert (selection.fallback, selection.tokens) == (fallback, 0)
    assert budgeted(2, fallback=fallback).fallback is None


@pytest.mark.parametrize("target", [None, 0, 100])
def test_no_units(target):
    nothing = np.empty((0, 2), dtype=np.int64)
    kwargs = {"target": target, "sizes": [], "count": Counter(), "fallback": "full", "min_spans": 2}
    selection = select(nothing, [], [], **kwargs)
    assert selection.ranges.shape == (0, 2)
    assert selection.fallback == "full"
    if target != 0:
        selection = select(nothing, [], [], keep=[(2, 4)], **kwargs)
        assert selection.ranges.tolist() == [[2, 4]]
        assert selection.fallback is None


@given(problems(), st.integers(0, 6))
def test_without_a_target_the_result_is_the_union(problem, min_spans):
    units, scores, decoded, keep = problem
    selection = select(units, scores, decoded, keep=keep, min_spans=min_spans)
    assert (selection.chosen | ~decoded).all()
    assert selection.chosen.sum() == max(decoded.sum(), min(min_spans, len(units)))
    added = selection.chosen & ~decoded
    if added.any():
        assert scores[added].min() >= scores[~selection.chosen].max(initial=-1)
    expected = [tuple(unit) for unit in units[selection.chosen].tolist()] + keep
    assert covered(selection.ranges) == {position for start, end in expected for position in range(start, end)}
    assert (selection.ranges[1:, 0] > selection.ranges[:-1, 1]).all()


@given(problems(), st.integers(0, 150), st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0]), st.randoms())
def test_target_is_never_exceeded_and_filled_to_within_one_unit(problem, target, error, random):
    units, scores, decoded, keep = problem
    sizes = sizes_of(units) * error * np.array([random.uniform(0.5, 1.5) for _ in units])
    counter = Counter()
    kwargs = {"keep": keep, "target": target, "sizes": sizes, "count": counter}
    protected = Counter()(merge_ranges(np.array(keep, dtype=np.int64).reshape(-1, 2)))
    if protected > target:
        with pytest.raises(ValueError, match=f"{protected - target} more than target={target}"):
            select(units, scores, decoded, **kwargs)
        return
    selection = select(units, scores, decoded, **kwargs)

    assert selection.tokens == Counter()(selection.ranges) <= target
    assert counter.calls <= np.log2(len(units) + 1) + 22
    assert covered(selection.ranges) >= {position for start, end in keep for position in range(start, end)}
    order = np.argsort(-scores, kind="stable")
    missing = order[~selection.chosen[order]]
    if target and len(missing):  # one more unit, the next of the ranking, would be too much
        assert Counter()(merge_ranges(selection.ranges, units[missing[:1]])) > target


@pytest.mark.parametrize("error", [0.1, 1.0, 1.4, 10.0])
def test_count_is_called_a_few_times_on_a_small_part_of_the_text(error):
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 200, 20_000)
    ends = np.cumsum(lengths)
    units = np.stack([ends - lengths, ends], axis=1)
    asked = []

    def count(ranges):
        asked.append(int((ranges[:, 1] - ranges[:, 0]).sum() // 4 + len(ranges)))
        return asked[-1]

    sizes = error * lengths * rng.uniform(0.2, 0.3, len(lengths))
    selection = select(
        units, rng.random(len(units)), np.zeros(len(units), bool), target=8000, sizes=sizes, count=count
    )
    assert 8000 - 50 <= selection.tokens <= 8000
    assert len(asked) <= 12
    assert max(asked) <= 12 * 8000  # of 570,000


@pytest.mark.filterwarnings("error")
def test_misleading_sizes_end_in_bisection():
    units = np.stack([np.arange(0, 2000, 2), np.arange(1, 2001, 2)], axis=1)
    counter = Counter()
    sizes = np.append(np.zeros(999), 1e9)
    selection = select(units, np.ones(1000), np.zeros(1000, bool), target=700, sizes=sizes, count=counter)
    assert selection.tokens == 700
    assert np.flatnonzero(selection.chosen).tolist() == list(range(350))
    assert counter.calls <= np.log2(1000) + 22


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fallback": "tail"}, "unknown fallback 'tail', expected one of none, top_span, head, full"),
        ({"min_spans": -1}, "min_spans must be a whole number, 0 or more, got -1"),
        ({"min_spans": 1.5}, "min_spans must be a whole number"),
        ({"target": -1}, "target must be a whole number of tokens, 0 or more, got -1"),
        ({"target": 10.0}, "target must be a whole number of tokens, 0 or more, got 10.0"),
        ({"target": True}, "target must be a whole number"),
        ({"target": 10}, "a target needs count"),
        ({"keep": [(4, 2)]}, r"keep contains \(4, 2\)"),
        ({"keep": [(-1, 2)]}, r"keep contains \(-1, 2\)"),
        ({"keep": [(0.5, 2)]}, "keep must be pairs of character positions"),
        ({"keep": (0, 2)}, "keep must be pairs of character positions"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        select(UNITS, SCORES, NONE, **kwargs)


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert budgeted(np.int64(7)).tokens == 7
