"""Results side by side: the published table, and reports, which may be a stranger's."""

import copy
import json

import pytest
from scored_rows import ABOUT, NO_JUDGE, OFFICIAL, scored

from qwenlong_trl.loong.leaderboard import leaderboard, published_results, read_result
from qwenlong_trl.loong.published import CLAIMED_WINDOWS, published
from qwenlong_trl.loong.records import SETS
from qwenlong_trl.loong.tables import OFFICIAL_JUDGE, report_json, summarize


ROWS = [
    scored(f"r{i}", score=score, structured=50.0, set=1 + i % 2, level=1, doc=(f"d{i}",))
    for i, score in enumerate((100.0, 20.0, 60.0, None))
]


def report(about=ABOUT, mode="fixed", rows=ROWS):
    """As it comes back from its file."""
    return json.loads(json.dumps(report_json(summarize(rows, about, mode))))


def test_the_published_tables_are_whole_and_agree_with_what_the_paper_says_of_them():
    tables = published()
    assert len(tables) == 11 and tables.keys() == CLAIMED_WINDOWS.keys()
    for cells in tables.values():
        assert set(cells) == {(number, level) for number in (None, *SETS) for level in (None, 1, 2, 3, 4)}
        assert all(0 <= score <= 100 and 0 <= rate <= 1 for score, rate in cells.values())
        # All is the mean over records of the sets, and so between the least and the largest.
        sets = [cells[number, None][0] for number in SETS]
        assert min(sets) <= cells[None, None][0] <= max(sets)
        for number in (None, *SETS):
            levels = [cells[number, level][0] for level in (1, 2, 3, 4)]
            assert min(levels) <= cells[number, None][0] <= max(levels)
    assert tables["GPT-4o"][None, None] == (53.47, 0.26)
    assert tables["Phi-3-mini"][4, 4] == (2.58, 0.0)


def test_a_report_in_fixed_mode_has_its_strict_figures():
    result = read_result(report(), "mine")
    cell = result.cells[None, None]
    assert (result.name, result.judge, result.published, cell.total) == ("org/model", "some-judge", False, 4)
    assert cell.score == 45.0 and cell.perfect_rate == 0.25  # the one without a score counts as 0
    assert cell.score_interval[0] <= 45.0 <= cell.score_interval[1]
    assert cell.structured == 50.0
    assert any("some-judge" in reason for reason in result.reasons)


def test_a_report_in_official_mode_has_those_over_parsed_judgements():
    result = read_result(report(OFFICIAL, "official"), "mine")
    assert result.cells[None, None].score == 60.0 and result.judge == OFFICIAL_JUDGE


def test_the_order_and_the_filters():
    unjudged = read_result(report(NO_JUDGE, rows=[scored("r1", structured=99.0)]), "no judge")
    mine = read_result(report(), "mine")
    rows = leaderboard([unjudged, mine, *published_results()])
    assert [result.name for result, _ in rows[:3]] == ["Gemini-1.5-pro", "GPT-4o", "Claude3.5-Sonnet"]
    assert rows[-1][0] is unjudged and rows[-1][1].score is None
    assert len(leaderboard([mine, unjudged], set=2)) == 1  # a result without records there is left out
    assert leaderboard([mine], set=1, level=3) == []
    assert leaderboard(published_results(), set=1)[0][0].name == "GPT-4o"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("official",), None, "no list `official`"),
        (("about",), [], "`about` must be an object"),
        (("mode",), "fast", "`mode` fixed or official"),
        (("about", "judge"), "me", "`about.judge`"),
        (("about", "assembly"), [1], "`about.assembly`"),
        (("official", 0), 3, r"official\[0\]"),
        (("official", 0, "set"), 5, r"official\[0\]"),
        (("official", 0, "level"), [], r"official\[0\]"),
        (("official", 0, "strict_average"), "<b>", "`strict_average` must be a number"),
        (("official", 0, "strict_average_interval"), [2, 1], "the smaller first"),
        (("official", 0, "structured_interval"), [1], "two numbers"),
        (("official", 0, "total"), True, "`total` must be a number"),
    ],
)
def test_a_field_that_is_not_as_it_should_be_is_named(path, value, said):
    data = copy.deepcopy(report())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=said):
        read_result(data, "theirs.json")


def test_texts_are_cut():
    data = report(ABOUT | {"model": "x" * 10_000})
    assert len(read_result(data, "theirs").name) <= 120
