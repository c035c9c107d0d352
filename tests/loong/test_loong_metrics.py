"""Aggregation of Loong scores: every figure of a small run computed by hand, in both modes, and runs compared."""

import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_rows import again, many, scored

from qwenlong_trl.intervals import cluster_bootstrap
from qwenlong_trl.loong.comparison import compare
from qwenlong_trl.loong.metrics import FIELDS, aggregate, breakdown
from qwenlong_trl.loong.records import SUBTASKS


ROWS = [
    scored("1", score=100.0, structured=100.0, set=1, level=1, doc=("A", "B")),
    scored("2", score=60.0, structured=0.0, set=1, level=1, doc=("B", "A")),
    scored("3", score=None, structured=50.0, set=1, level=2, doc="C"),  # the judge was not parsed
    scored("4", prediction=None, set=1, level=2, doc="C"),  # no completion
    scored("5", score=100.0, structured=80.0, set=2, level=1, doc="D"),
    scored("6", score=20.0, set=2, level=4, doc="D"),  # free text: no structured score
    scored("7", prediction=None, set=2, level=4, doc="D"),  # the same, and no completion
    scored("8", score=None, structured=30.0, set=3, level=3, type="paper", doc="E"),
]
FIGURES = ("average", "perfect_rate", "parse_rate", "strict_average", "strict_perfect_rate", "structured")


def figures(cell) -> tuple:
    return tuple(getattr(cell, name) for name in FIGURES)


def counts(cell) -> tuple:
    return cell.total, cell.answered, cell.parsed, cell.document_sets, cell.structured_total


@pytest.mark.parametrize("mode", ["fixed", "official"])
def test_all_rows_by_hand(mode):
    cell = aggregate(ROWS, mode)
    assert counts(cell) == (8, 6, 4, 4, 6)
    assert figures(cell) == pytest.approx((280 / 4, 2 / 4, 4 / 8, 280 / 8, 2 / 8, 260 / 6))


def test_a_set_by_hand_with_the_wrong_denominator_of_the_official_mode():
    fixed, official = (breakdown(ROWS, "set", mode) for mode in ("fixed", "official"))
    assert list(fixed) == list(official) == [1, 2, 3]
    assert counts(fixed[1]) == (4, 3, 2, 2, 4)
    assert figures(fixed[1]) == pytest.approx((80, 1 / 2, 2 / 4, 160 / 4, 1 / 4, 150 / 4))
    assert figures(official[1]) == pytest.approx((80, 1 / 2, 2 / 8, 160 / 4, 1 / 4, 150 / 4))
    assert figures(fixed[2]) == pytest.approx((60, 1 / 2, 2 / 3, 120 / 3, 1 / 3, 80 / 1))
    assert official[2].parse_rate == 2 / 8
    # All parsed judgements of a cell are missing: the released script divides by zero.
    assert figures(fixed[3]) == figures(official[3]) == (None, None, 0, 0, 0, 30)


def test_the_modes_differ_in_the_parse_rate_of_cells_alone():
    rows = many()
    for by in (*FIELDS, ("type", "level"), ("set", "task")):
        fixed, official = (breakdown(rows, by, mode, samples=50) for mode in ("fixed", "official"))
        assert list(fixed) == list(official)
        for key in fixed:
            values, others = asdict(fixed[key]), asdict(official[key])
            assert values.pop("parse_rate") == fixed[key].parsed / fixed[key].total
            assert others.pop("parse_rate") == fixed[key].parsed / len(rows)
            assert values.pop("parse_rate_interval") is None or fixed[key].document_sets > 1
            assert others.pop("parse_rate_interval") is None
            assert values == others


def released(lines: list[dict], level: int | None, number: int | None) -> tuple:
    """What the released script computes, written down plainly: (average, perfect rate, success rate)."""
    scores = []
    for line in lines:
        if level and line["level"] != level or number and line["set"] != number:
            continue
        if line["score"] is not None:
            scores.append(line["score"])
    return sum(scores) / len(scores), scores.count(100) / len(scores), len(scores) / len(lines)


def test_the_official_mode_is_the_released_script():
    rows = many(400)
    lines = [{"level": r.record.level, "set": r.record.set, "score": r.score} for r in rows]
    cells = {(None, None): aggregate(rows, "official", samples=2)}
    cells |= {(level, None): cell for level, cell in breakdown(rows, "level", "official", samples=2).items()}
    cells |= {(None, number): cell for number, cell in breakdown(rows, "set", "official", samples=2).items()}
    cells |= breakdown(rows, ("level", "set"), "official", samples=2)
    assert len(cells) == 25
    for key, cell in cells.items():
        assert (cell.average, cell.perfect_rate, cell.parse_rate) == pytest.approx(released(lines, *key))


def test_an_empty_cell_has_no_figures():
    for mode in ("fixed", "official"):
        cell = aggregate([], mode)
        assert counts(cell) == (0, 0, 0, 0, 0) and figures(cell) == (None,) * 6
    assert aggregate([], "official", lines=8, judged=True).parse_rate == 0


def test_without_a_judge_there_are_structured_scores_alone():
    rows = [replace(row, score=None) for row in ROWS]
    for mode in ("fixed", "official"):
        cell = aggregate(rows, mode)
        assert figures(cell) == (None,) * 5 + (pytest.approx(260 / 6),)
        assert cell.strict_average_interval is cell.parse_rate_interval is None
    # A judge that was asked and never parsed is another matter.
    assert figures(aggregate(rows, judged=True))[:5] == (None, None, 0, 0, 0)
    # A cell without parsed judgements knows from the other cells that there was a judge.
    assert breakdown(ROWS, "type")["paper"].strict_average == 0


def test_only_a_score_of_exactly_100_is_perfect():
    cell = aggregate([scored(str(x), score=x) for x in (99.9, 100, 100.0, 101)])
    assert cell.perfect_rate == cell.strict_perfect_rate == 0.5
    assert cell.average == pytest.approx(400.9 / 4)  # no clamp, as in the released script


def test_intervals_are_over_document_sets():
    cell = aggregate(ROWS, samples=500, seed=3)
    clusters = ["ab", "ab", "c", "c", "d", "d", "d", "e"]
    strict = [100, 60, 0, 0, 100, 20, 0, 0]
    assert cell.strict_average_interval == cluster_bootstrap(strict, clusters, 500, 3)
    perfect = [x == 100 for x in strict]
    assert cell.strict_perfect_rate_interval == cluster_bootstrap(perfect, clusters, 500, 3)
    parsed = [0, 1, 4, 5]
    assert cell.average_interval == cluster_bootstrap(
        [strict[i] for i in parsed], [clusters[i] for i in parsed], 500, 3
    )
    known = [0, 1, 2, 3, 4, 7]
    structured = cluster_bootstrap([100, 0, 50, 0, 80, 30], [clusters[i] for i in known], 500, 3)
    assert cell.structured_interval == structured
    assert breakdown(ROWS, "set")[3].strict_average_interval is None  # one document set


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, 0.5, 60.0, 100.0]), st.booleans(), st.integers(0, 3)), min_size=1))
def test_strict_figures_of_cells_add_up_to_those_of_all(values):
    rows = [
        scored(str(i), score=score if answered else None, prediction="x" if answered else None, set=k + 1, doc=str(k))
        for i, (score, answered, k) in enumerate(values)
    ]
    total, cells = aggregate(rows, samples=2, judged=True), breakdown(rows, "set", samples=2, judged=True).values()
    assert sum(cell.total for cell in cells) == total.total
    assert sum(cell.strict_average * cell.total for cell in cells) / len(rows) == pytest.approx(total.strict_average)
    assert total.strict_average == pytest.approx((total.average or 0) * total.parse_rate)
    assert total.strict_perfect_rate == pytest.approx((total.perfect_rate or 0) * total.parse_rate)


def test_breakdowns_are_in_the_order_of_the_benchmark():
    rows = many(200)[::-1]
    subtasks = list(breakdown(rows, "subtask", samples=2))
    assert subtasks == [name for name in SUBTASKS if name in subtasks] and len(subtasks) >= 9
    assert list(breakdown(rows, "type", samples=2)) == ["financial", "paper", "legal"]
    pairs = list(breakdown(rows, ("set", "level"), samples=2))
    assert pairs == sorted(pairs) and len(pairs) == 16


def test_what_became_of_the_answers_is_counted_apart():
    rows = [
        *ROWS,
        scored("9", unjudged=True),
        scored("10", score=70.0, judge_cut=True, truncated=True),
        scored("11", judge_cut=True),
        scored("12", prediction="", score=100.0, structured=0.0, failed=True),
    ]
    cell = aggregate(rows)
    assert (cell.total, cell.answered, cell.parsed) == (12, 9, 6)
    assert (cell.unparsed, cell.unjudged, cell.judge_cut, cell.truncated) == (3, 1, 2, 1)
    # The official average takes what the judge said of the empty text; the strict one says that nothing was answered.
    assert cell.average == pytest.approx(450 / 6) and cell.strict_average == pytest.approx(350 / 12)
    assert cell.strict_perfect_rate == pytest.approx(2 / 12) and cell.perfect_rate == pytest.approx(3 / 6)
    unasked = aggregate([replace(row, score=None, unjudged=False) for row in rows])
    assert (unasked.unparsed, unasked.unjudged, unasked.judge_cut, unasked.truncated) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: aggregate(ROWS, "strict"), "mode must be one of fixed, official, got 'strict'"),
        (lambda: breakdown(ROWS, "length"), "cannot break down by 'length'"),
        (lambda: scored("x", score=math.nan), "score of 'x' must be a finite number or None, got nan"),
        (lambda: scored("x", structured=math.inf), "structured of 'x' must be a finite"),
        (lambda: scored("x", score=5.0, prediction=None), "'x' has the score 5.0 without a prediction"),
        (lambda: scored("x", score=5.0, unjudged=True), "'x' has the score 5.0 without a judgement"),
    ],
)
def test_what_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


# Two runs


SCORES = (100.0, 80.0, 40.0, None, 100.0, 20.0, 100.0, None)
STRUCTURED = (100.0, 0.0, 50.0, 20.0, 80.0, None, None, 0.0)
OTHERS = [
    replace(row, score=score, structured=structured, prediction="y")
    for row, score, structured in zip(ROWS, SCORES, STRUCTURED, strict=True)
]


def test_differences_by_hand():
    found = compare(ROWS, OTHERS[::-1])
    strict = found.overall.strict_average
    assert (strict.a, strict.b, strict.difference, strict.total) == pytest.approx((35, 55, -20, 8))
    assert strict.interval == cluster_bootstrap([0, -20, -40, 0, 0, 0, -100, 0], "aabbdddc", 2_000, 0)
    perfect = found.overall.strict_perfect_rate
    assert (perfect.a, perfect.b, perfect.difference) == pytest.approx((2 / 8, 3 / 8, -1 / 8))
    structured = found.overall.structured
    assert (structured.a, structured.b, structured.total) == pytest.approx((260 / 6, 250 / 6, 6))
    assert set(found.cells) == {"task", "subtask", "set", "type", "language"}
    second = found.cells["set"][2]
    assert (second.total, second.document_sets) == (3, 1)
    assert second.strict_average.difference == pytest.approx(-100 / 3) and second.strict_average.interval is None
    assert found.cells["subtask"]["Temporal Analysis"].structured is None
    assert found.cells["type"]["paper"].structured.difference == 30


def test_pairing_tells_runs_apart_that_their_own_intervals_do_not():
    rows = many(300)
    better = [replace(row, score=None if row.score is None else row.score + 3) for row in rows]
    mine, theirs = aggregate(rows), aggregate(better)
    assert mine.strict_average_interval[1] > theirs.strict_average_interval[0]
    low, high = compare(better, rows).overall.strict_average.interval
    assert 0 < low < high <= 3


def test_a_run_does_not_differ_from_itself_and_signs_turn():
    rows, others = many(60), again(many(60))
    same = compare(rows, rows).overall
    assert same.strict_average.difference == 0 and same.strict_average.interval == (0, 0)
    one, other = compare(rows, others).overall.structured, compare(others, rows).overall.structured
    assert one.difference == pytest.approx(-other.difference)
    assert (one.a, one.b) == (other.b, other.a)


def test_runs_without_a_judge_are_compared_by_the_structured_score():
    unjudged = [replace(row, score=None) for row in OTHERS]
    found = compare(ROWS, unjudged).overall
    assert found.strict_average is found.strict_perfect_rate is None and found.structured.total == 6
    assert compare(ROWS, unjudged, judged=True).overall.strict_average.b == 0


def test_runs_that_are_not_judged_to_the_end_are_not_compared():
    waiting = [*ROWS[:5], replace(ROWS[5], score=None, unjudged=True), *ROWS[6:]]
    message = "1 of 8 in the first run and 0 in the second.*`qwenlong-trl loong judge FOLDER ...` again"
    for judged in (None, True, False):  # also against a run without a judge
        with pytest.raises(ValueError, match=message):
            compare(waiting, ROWS, judged=judged)
    with pytest.raises(ValueError, match="0 of 8 in the first run and 1 in the second"):
        compare(ROWS, waiting)
    rest = [row for row in waiting if not row.unjudged]
    assert compare(rest, ROWS, intersect=True).overall.strict_average.difference == 0


def test_different_records_are_refused_with_counts_or_left_out():
    message = "6 are in both, 2 only in the first, 1 only in the second; pass intersect=True"
    others = [*OTHERS[2:], scored("new")]
    with pytest.raises(ValueError, match=message):
        compare(ROWS, others)
    found = compare(ROWS, others, intersect=True)
    assert (found.overall.total, found.only_a, found.only_b) == (6, ("1", "2"), ("new",))
    with pytest.raises(ValueError, match="share no record: 8 in the first, 1 in the second"):
        compare(ROWS, [scored("new")], intersect=True)


def test_an_id_is_one_record():
    with pytest.raises(ValueError, match="the second run has 9 rows for 8 records"):
        compare(ROWS, [*OTHERS, OTHERS[0]])
    changed = [replace(OTHERS[0], record=replace(OTHERS[0].record, answer="43")), *OTHERS[1:]]
    with pytest.raises(ValueError, match="'1' is another record in the second run"):
        compare(ROWS, changed)
