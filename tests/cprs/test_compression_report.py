"""Tables of what survives compression: means, intervals and paired differences that can be worked out by hand."""

import re

import numpy as np
import pytest

from qwenlong_trl.cprs.evaluation import Evaluated, Kept
from qwenlong_trl.cprs.report import (
    MEASURES,
    compression_table,
    difference_table,
    measurements,
    paired_difference,
)


def evaluated(recalls, answers, budgets=(0.1, 0.2), spans=(0, 0, 0)):
    return [
        Evaluated(f"r{i}", 100, {b: Kept(recall, answer, int(100 * b)) for b in budgets}, *spans)
        for i, (recall, answer) in enumerate(zip(recalls, answers, strict=True))
    ]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.fixture
def results():
    rng = np.random.default_rng(0)
    easy = rng.random(60)  # how easy an example is varies more than how well the methods do
    return {
        "critic": evaluated(0.8 * easy + 0.2, easy > 0.3, spans=(4, 2, 1)),
        "bm25": evaluated(0.8 * easy + 0.1, easy > 0.6),
    }


def test_a_row_for_each_method_and_a_column_for_each_measure_at_each_budget(results):
    header, rule, *rows = cells(compression_table(results, [0.1, 0.2]))
    assert header == [
        "method",
        "evidence recall at 10 %",
        "evidence recall at 20 %",
        "answer in context at 10 %",
        "answer in context at 20 %",
        "span F1",
    ]
    assert set(rule) == {"---"} and len(rule) == len(header)
    assert [row[0] for row in rows] == ["critic", "bm25"]
    assert {len(row) for row in rows} == {len(header)}
    recalls = [one.at[0.1].evidence_recall for one in results["critic"]]
    mean, low, high = map(float, re.findall(r"-?[\d.]+", rows[0][1]))
    assert mean == pytest.approx(100 * np.mean(recalls), abs=0.051)
    # Near the interval of the normal distribution, by the rounding and the draw.
    half = 196 * np.std(recalls) / len(recalls) ** 0.5
    assert low == pytest.approx(mean - half, abs=1) and high == pytest.approx(mean + half, abs=1)
    answers = [one.at[0.2].has_answer for one in results["bm25"]]
    assert float(rows[1][4].split()[0]) == pytest.approx(100 * np.mean(answers), abs=0.051)


def test_span_f1_is_of_all_spans_together_and_of_those_who_decode_spans(results):
    rows = cells(compression_table(results, [0.1]))[2:]
    assert rows[0][-1] == "33.3"  # 2 * 1 / (4 + 2)
    assert rows[1][-1] == "–"


def test_budgets_are_shown_as_they_are():
    results = {"critic": evaluated([1.0], [True], budgets=(0.025, 1.0))}
    assert cells(compression_table(results, [0.025, 1.0]))[0][1:3] == [
        "evidence recall at 2.5 %",
        "evidence recall at 100 %",
    ]


def test_a_difference_within_examples_shows_where_the_intervals_of_the_methods_overlap(results):
    mean, low, high = paired_difference(results["critic"], results["bm25"], 0.1)
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))  # it is the same for each example
    rows = cells(compression_table(results, [0.1]))[2:]
    (_, _, best), (_, worst, _) = (map(float, re.findall(r"[\d.]+", row[1])) for row in reversed(rows))
    assert worst < best


def test_a_paired_difference_has_the_interval_of_its_mean():
    ours, theirs = evaluated([1.0] * 50, [True] * 50), evaluated([0.5] * 50, [False] * 25 + [True] * 25)
    mean, low, high = paired_difference(ours, theirs, 0.2, "has_answer")
    assert mean == 0.5 and 0.34 < low < 0.40 and 0.60 < high < 0.66
    assert paired_difference(theirs, ours, 0.2, "has_answer")[0] == -0.5


def test_differences_to_each_of_the_others(results):
    results["random"] = evaluated(np.zeros(60), np.zeros(60, dtype=bool))
    header, _, *rows = cells(difference_table("critic", results, [0.1, 0.2]))
    assert header[0] == "difference" and len(header) == 5
    assert [row[0] for row in rows] == ["critic − bm25", "critic − random"]
    assert rows[0][1] == "+10.0 [+10.0, +10.0]"
    [row] = cells(difference_table("random", {name: results[name] for name in ("bm25", "random")}, [0.1]))[2:]
    assert re.fullmatch(r"-[\d.]+ \[-[\d.]+, -[\d.]+\]", row[1])


def test_an_example_alone_has_an_interval_without_width():
    table = compression_table({"critic": evaluated([0.25], [False])}, [0.1])
    assert "25.0 [25.0, 25.0]" in table and "0.0 [0.0, 0.0]" in table


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda results: results.clear(), "no results"),
        (lambda results: results["critic"].clear(), "no results"),
        (lambda results: results["bm25"].pop(), "different examples"),
        (lambda results: results["bm25"].reverse(), "different examples, or in another order"),
    ],
)
def test_what_cannot_be_compared_is_refused(results, change, message):
    change(results)
    with pytest.raises(ValueError, match=message):
        compression_table(results, [0.1])


def test_a_budget_that_was_not_evaluated_and_a_method_that_is_not_there_are_refused(results):
    with pytest.raises(ValueError, match=r"'critic' was not evaluated at the budgets \[0.3\]"):
        compression_table(results, [0.1, 0.3])
    with pytest.raises(ValueError, match="no results of 'first', there are those of critic, bm25"):
        difference_table("first", results, [0.1])


def test_measurements_for_a_card_are_the_tables_figures():
    results = {"critic": evaluated((0.5, 1.0), (True, True)), "bm25": evaluated((0.0, 1.0), (False, True))}
    found = measurements(results, [0.2])
    assert [(m.metric, m.method, m.count) for m in found] == [
        (title, method, 2) for method in (None, "bm25") for title in MEASURES.values()
    ]
    assert found[0].value == 0.75 and found[0].interval[0] <= 0.75 <= found[0].interval[1]
    assert found[0].name == "at 0.2 of the tokens"
    with pytest.raises(ValueError, match="no results of 'ours', only of critic, bm25"):
        measurements(results, [0.2], "ours")
