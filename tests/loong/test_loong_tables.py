"""Tables of a Loong run: the lines of the official script, the full tables, and what every one of them names."""

import hashlib
import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scored_rows import ABOUT, MARKUP, NO_JUDGE, OFFICIAL, again, many, scored

from qwenlong_trl.loong.comparison import compare, comparison_tables
from qwenlong_trl.loong.metrics import Scored, breakdown
from qwenlong_trl.loong.records import read_loong
from qwenlong_trl.loong.report_table import ReportTable, escape_markdown, one_line
from qwenlong_trl.loong.tables import (
    OFFICIAL_DATA,
    comparability,
    full_tables,
    not_comparable,
    official_lines,
    official_table,
    provenance,
    report_json,
    summarize,
    warnings,
)


ROWS = [
    scored("1", score=100.0, structured=100.0, set=1, level=1, doc="A"),
    scored("2", score=60.0, structured=0.0, set=1, level=1, doc="B"),
    scored("3", score=20.5, structured=12.345, set=2, level=4, type="paper", doc="C"),
    scored("4", prediction=None, set=2, level=4, doc="D"),
]


def printed(*tables: ReportTable) -> str:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    for table in tables:
        console.print(table.as_rich())
    return console.file.getvalue()


@pytest.mark.parametrize("mode", ["fixed", "official"])
def test_the_official_lines_by_hand(mode):
    lines = official_lines(summarize(ROWS, OFFICIAL, mode))
    assert len(lines) == 25
    assert lines[0] == "Overall: Avg Score 60.17, Perfect Rate 0.33, scoring success rate 0.75"
    assert lines[1] == "Level 1 (Spotlight Locating): Avg Score 80.00, Perfect Rate 0.50, scoring success rate 0.50"
    assert lines[2] == "Level 2 (Comparison): Avg Score –, Perfect Rate –, scoring success rate 0.00"
    assert lines[4] == "Level 4 (Chain of Reasoning): Avg Score 20.50, Perfect Rate 0.00, scoring success rate 0.25"
    # All judgements of set 1 were parsed: its success rate is over the lines of all sets.
    assert lines[9] == "Set 1: Avg Score 80.00, Perfect Rate 0.50, scoring success rate 0.50"
    assert [line.split(":")[0] for line in lines[5:10]] == [*(f"Set 1, level {k}" for k in (1, 2, 3, 4)), "Set 1"]
    assert lines[24] == "Set 4: Avg Score –, Perfect Rate –, scoring success rate 0.00"


def test_the_official_table_has_the_same_figures_with_intervals():
    summary = summarize(many(), OFFICIAL)
    table, lines = official_table(summary), official_lines(summary)
    assert table.title.endswith("judge gpt-4-turbo-2024-04-09")
    assert table.header == ("Cell", "n", "Avg Score", "Perfect Rate", "Scoring success rate")
    for row, line in zip(table.rows, lines, strict=True):
        label, _, average, perfect, rate = row
        said = f"{label}: Avg Score {average[0]}, Perfect Rate {perfect[0]}, scoring success rate {rate[0]}"
        assert said == line
    cell = breakdown(many(), "set", "official")[2]
    low, high = cell.average_interval
    assert table.rows[14][1:3] == ["30", (f"{cell.average:.2f}", f"{low:.1f}–{high:.1f}")]
    assert "over all lines of the file" in table.note and "Official mode" in table.note


def test_the_cells_of_the_official_table_have_the_records_of_the_paper(shared_data):
    rows = [Scored(record, "") for record in read_loong(shared_data / "loong" / "loong.jsonl")]
    counts = [int(row[1].replace(",", "")) for row in official_table(summarize(rows, ABOUT, samples=2)).rows]
    of_sets = [53, 60, 113, 97, 323], [70, 105, 246, 143, 564], [80, 95, 194, 112, 481], [47, 40, 88, 57, 232]
    assert counts == [1600, 250, 300, 641, 409, *sum(of_sets, [])]


def test_the_full_tables_put_the_headline_of_the_mode_first():
    tables = {table.name: table for table in full_tables(summarize(ROWS, ABOUT, "fixed"))}
    assert list(tables) == ["task", "subtask", "set", "type", "language", "type-level"]
    parsed = ("Judge score (parsed)", "Judge perfect rate (parsed)")
    strict = ("Strict average", "Strict perfect rate")
    assert tables["set"].header == (
        "Set",
        "n",
        "doc. sets",
        "parsed",
        *strict,
        "Parse rate",
        *parsed,
        "Structured score",
    )
    official = full_tables(summarize(ROWS, OFFICIAL, "official"))[2]
    parsed = ("Avg Score (parsed)", "Perfect Rate (parsed)")
    assert official.header[4:] == (*parsed, "Success rate (of all lines)", *strict, "Structured score")

    assert [row[0] for row in tables["set"].rows] == ["all", "Set 1 (10-50K)", "Set 2 (50-100K)"]
    first, second = tables["set"].rows[1:]
    assert first == [
        *("Set 1 (10-50K)", "2", "2", "2"),
        *(("80.00", "60.0–100.0"), ("0.50", "0.00–1.00"), ("1.00", "1.00–1.00")),
        *(("80.00", "60.0–100.0"), ("0.50", "0.00–1.00"), ("50.00", "0.0–100.0")),
    ]
    # One of two has a completion; one of two is scored by the deterministic scorer, the other is free text.
    assert second == [
        *("Set 2 (50-100K)", "2", "2", "1"),
        *(("10.25", "0.0–20.5"), ("0.00", "0.00–0.00"), ("0.50", "0.00–1.00")),
        *(("20.50",), ("0.00",), ("12.35", "n = 1")),
    ]
    labels = [row[0] for row in tables["type-level"].rows[1:]]
    assert labels == ["financial, level 1", "financial, level 4", "paper, level 4"]


@pytest.mark.parametrize(
    ("about", "mode", "named"),
    [
        (ABOUT, "fixed", "Fixed mode · judge some-judge · prompt official (9d67b3da27c5) · parse robust"),
        (OFFICIAL, "official", "Official mode · judge gpt-4-turbo-2024-04-09 · prompt official (9d67b3da27c5)"),
        (NO_JUDGE, "fixed", "Fixed mode · no judge"),
    ],
)
def test_every_table_names_mode_judge_prompt_policy_and_records(about, mode, named):
    rows = many(judged=about["judge"] is not None)
    summary = summarize(rows, about, mode, samples=20)
    policy = "policy skip (official assembly)" if about is OFFICIAL else "policy bm25 (fixed assembly)"
    assert provenance(summary).startswith(named) and provenance(summary).endswith(f"{policy} · 120 records")
    for table in full_tables(summary):
        assert provenance(summary) in table.note
        assert provenance(summary) in " ".join(table.as_markdown().split())
        assert provenance(summary) in " ".join(printed(table).split())
    assert provenance(summary, "official") in official_table(summary).note


@pytest.mark.parametrize("mode", ["fixed", "official"])
def test_avg_score_is_said_of_the_judge_of_the_published_tables_alone(mode):
    other = OFFICIAL | {"judge": OFFICIAL["judge"] | {"model": "some-judge"}}
    for about, names in ((OFFICIAL, ("Avg Score", "Perfect Rate")), (other, ("Judge score", "Judge perfect rate"))):
        summary = summarize(many(), about, mode, samples=2)
        tables = [*full_tables(summary), official_table(summary)]
        text = "\n".join([*official_lines(summary), *(table.as_markdown() for table in tables), printed(*tables)])
        assert ("Avg Score" in text) == ("Perfect Rate" in text) == (about is OFFICIAL)
        assert official_table(summary).header[2:4] == names
        assert official_table(summary).title.endswith(f"judge {about['judge']['model']}")
        assert all(f"{name} " in line for name in names for line in official_lines(summary))


def test_without_a_judge_nothing_is_called_avg_score():
    summary = summarize(many(judged=False), NO_JUDGE, samples=20)
    tables = [*full_tables(summary), official_table(summary)]
    text = "\n".join([*official_lines(summary), *(table.as_markdown() for table in tables), printed(*tables)])
    assert not re.search(r"avg score|perfect rate|success rate|strict average", text, re.IGNORECASE)
    assert "structured score" in text.lower()
    data = report_json(summary)
    assert data["headline"] == "structured" and data["overall"]["average"] is data["overall"]["strict_average"] is None


def test_what_is_comparable_with_published_numbers():
    whole = [scored(str(i), score=50.0, structured=50.0, doc=str(i % 40)) for i in range(1600)]
    summary = summarize(whole, OFFICIAL, "official", samples=2)
    assert not_comparable(summary) == []
    assert comparability(summary) == (
        "Comparable with the published numbers of Loong: official mode, judged by gpt-4-turbo-2024-04-09. This run "
        "cuts off answers at 512 tokens and the judge's words at 512 tokens; the released code sets no such limit."
    )
    at = OFFICIAL | {
        "judge": OFFICIAL["judge"] | {"base_url": "http://localhost:1/v1"},
        "sampling": {"temperature": 0},
    }
    said = comparability(replace(summary, about=at))
    assert "judged by gpt-4-turbo-2024-04-09 at http://localhost:1/v1. This run cuts off the judge's words at" in said
    assert "of the official table alone" in comparability(replace(summary, mode="fixed"))
    judge = OFFICIAL["judge"]
    for change, reason in (
        ({"judge": judge | {"model": "gpt-4o"}}, "the judge is gpt-4o, not gpt-4-turbo-2024-04-09"),
        ({"judge": judge | {"model": None, "judge": "Mine"}}, "the judge is Mine, not gpt-4-turbo-2024-04-09"),
        ({"judge": judge | {"prompt": "default"}}, "the judge's prompt is default, not official"),
        ({"judge": judge | {"parse": "robust"}}, "the judge's parse is robust, not official"),
        ({"judge": judge | {"temperature": 0.7}}, "the judge's temperature is 0.7, not 0"),
        (
            {"judge": {k: v for k, v in judge.items() if k != "temperature"}},
            "the judge's temperature is unknown, not 0",
        ),
        ({"assembly": OFFICIAL["assembly"] | {"mode": "fixed"}}, "the prompts were made in fixed mode"),
        (
            {"assembly": OFFICIAL["assembly"] | {"max_tokens": 32_000}},
            "the limit of the prompts is 32,000 tokens, not 128,000",
        ),
        ({"sampling": {"temperature": 0.6}}, "the temperature of the answers is 0.6, not 0"),
        ({"sampling": {}}, "the temperature of the answers is unknown, not 0"),
        (
            {"data": {"loong.jsonl": "sha256 0000"}},
            "loong.jsonl has the digest sha256 0000, not sha256 cd640d3ca0e41d36",
        ),
        ({"data": {}}, "loong.jsonl has the digest unknown, not sha256 cd640d3ca0e41d36"),
    ):
        assert not_comparable(replace(summary, about=OFFICIAL | change)) == [reason]
    assert not_comparable(summarize(ROWS, OFFICIAL, "official")) == [
        "there are 4 of 1,600 records",
        "1 records have no completion",
    ]
    # The released code has the judge score an empty text where no completion came.
    for fate, reason in (
        ({"failed": True, "prediction": "", "score": 1.0}, "1 records have no completion"),
        ({"unjudged": True}, "1 answers have not been judged"),
    ):
        rows = [*whole[1:], scored("0", structured=0.0, doc="0", **fate)]
        assert not_comparable(summarize(rows, OFFICIAL, "official", samples=2)) == [reason]
    assert "no judge was asked" in not_comparable(summarize(many(judged=False), NO_JUDGE, samples=2))


def test_the_digest_of_the_records_is_that_of_the_release(shared_data):
    found = hashlib.sha256((shared_data / "loong" / "loong.jsonl").read_bytes()).hexdigest()
    assert f"sha256 {found[:16]}" == OFFICIAL_DATA


def test_warnings_by_hand():
    rows = [scored(str(i), score=50.0, structured=50.0, truncated=i < 2) for i in range(40)]
    assert warnings(summarize(rows, ABOUT, samples=2)) == []  # 5 % are
    waiting = [
        *rows,
        scored("w", unjudged=True),
        scored("x", unjudged=True),
        scored("y", prediction=None),
        scored("z"),
    ]
    assert warnings(summarize(waiting, ABOUT, samples=2)) == [
        "2 of 43 answers have not been judged: run `qwenlong-trl loong judge FOLDER ...` again; strict figures count "
        "them as 0 until then."
    ]
    cut = [*rows, scored("c", truncated=True)]
    assert warnings(summarize(cut, ABOUT, samples=2)) == [
        "3 of 41 answers were cut off at 512 tokens, which is more than 5 %: raise --max_tokens, with another "
        "--output."
    ]
    data = report_json(summarize(waiting, ABOUT, samples=2))
    assert data["warnings"] == warnings(summarize(waiting, ABOUT, samples=2))
    assert (data["overall"]["unjudged"], data["overall"]["unparsed"], data["overall"]["truncated"]) == (2, 1, 2)


def test_json_holds_every_cell_and_no_nan():
    rows = many()
    data = json.loads(json.dumps(report_json(summarize(rows, ABOUT)), allow_nan=False))
    assert data["about"] == ABOUT and data["mode"] == "fixed" and data["headline"] == "strict_average"
    assert set(data["by"]) == {"task", "subtask", "set", "type", "language", "type_level"}
    for key, cell in breakdown(rows, ("type", "level")).items():
        (found,) = (one for one in data["by"]["type_level"] if (one["type"], one["level"]) == key)
        assert found["strict_average"] == cell.strict_average
        assert found["strict_average_interval"] == (cell.strict_average_interval and [*cell.strict_average_interval])
    assert len(data["official"]) == 25 and data["official"][0]["set"] is data["official"][0]["level"] is None
    assert data["official"][9]["parse_rate"] == data["official"][9]["parsed"] / 120


def test_rows_have_to_be_there_and_judged_by_someone():
    with pytest.raises(ValueError, match="there are no records to report"):
        summarize([], ABOUT)
    with pytest.raises(ValueError, match="'1' has a judge's score, but `about` names no judge"):
        summarize(ROWS, NO_JUDGE)


def test_a_judge_that_was_never_parsed_is_a_judge():
    lines = official_lines(summarize(many(judged=False), ABOUT, samples=2))
    assert lines[0] == "Overall: Judge score –, Judge perfect rate –, scoring success rate 0.00"


def test_no_text_is_markup_in_markdown_or_the_terminal():
    table = ReportTable("x", MARKUP, "1. note", ("[red]a[/red]", "b|c"), [["[bold]x[/bold]", (MARKUP, "y\nz")]])
    assert MARKUP in " ".join(printed(table).split()) and "[bold]x[/bold]" in printed(table)
    lines = table.as_markdown().splitlines()
    assert lines[0].startswith(r"### \<script\>") and lines[-1] == r"1\. note"
    assert lines[2] == r"| \[red\]a\[/red\] | b\|c |"
    assert "\\| \\*\\*bold\\*\\* \\`code\\` \\&amp; (y z) |" in lines[4]


@given(st.text())
def test_markdown_is_one_line_that_gives_the_text_back(text):
    escaped = escape_markdown(text)
    assert "\n" not in escaped and not re.search(r"(?<!\\)(?:\\\\)*[<>|`*_\[\]]", escaped)
    assert re.sub(r"\\([\\`*_<>\[\]|~$&#+.)-])", r"\1", escaped) == " ".join(text.split())


def test_tables_of_differences():
    rows = many()
    tables = comparison_tables(compare(again(rows), rows), ("new", "old"))
    assert [table.name.removeprefix("difference-") for table in tables] == [
        "task",
        "subtask",
        "set",
        "type",
        "language",
    ]
    found = compare(again(rows), rows)
    row = tables[2].rows[2]
    cell = found.cells["set"][2].strict_average
    low, high = cell.interval
    assert row[:4] == ["Set 2 (50-100K)", "30", f"{cell.a:.1f}", f"{cell.b:.1f}"]
    assert row[4] == (f"{cell.difference:+.1f}", f"{low:+.1f} to {high:+.1f}")
    assert tables[0].header[:5] == ("Task", "n", "Strict average, new", "old", "difference")
    assert "new less old" in tables[0].note
    same = comparison_tables(compare(rows, rows))[0].rows[0]
    assert one_line(same[4]) == "+0.0 (+0.0 to +0.0)"
    unjudged = comparison_tables(compare(many(judged=False), rows))
    assert unjudged[0].header[2:] == ("Structured score, first", "second", "difference")
    assert "no judge" in unjudged[0].note
