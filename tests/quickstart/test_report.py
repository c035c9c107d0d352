"""The quickstart's report: what the page, the figures and the terminal say is what the results hold."""

import json
import re
from itertools import accumulate, pairwise

import numpy as np
import pytest
from html_page import check_page_needs_nothing_else
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from results import MARKUP, NAME, TEXT, VARIANTS, make_results, write

from qwenlong_trl.quickstart import report


def test_page_needs_nothing_else(case):
    results, page = case
    check_page_needs_nothing_else(page)
    assert sum(tag == "svg" for tag, _ in page.tags) == (6 if results["carried"] else 4)


def test_page_opens_with_the_computed_result(case):
    results, page = case
    assert report.headline(results) in page.prose and report.goal_statement(results) in page.prose
    assert ("single" in page.prose) == ("single_stage" in results["runs"])
    assert ("hard prompts came back" in page.prose) == bool(results["carried"])


def test_accuracy_table(case):
    results, page = case
    header, *rows = page.rows("accuracy")
    assert header == ["Length", "after SFT", "phased", "single stage"][: 1 + len(results["accuracy"])]
    for i, (bucket, row) in enumerate(zip(results["buckets"], rows, strict=True)):
        assert row[0] == f"{bucket['tokens']} tokens {bucket['cards']} cards"
        for series, cell in zip(results["accuracy"].values(), row[1:], strict=True):
            value_and_interval = [*map(float, re.fullmatch(r"([\d.]+) ([\d.]+)–([\d.]+)", cell).groups())]
            truth = (series[i], *report.wilson_interval(series[i], results["eval_questions"]))
            assert value_and_interval == pytest.approx(truth, abs=0.0005001)


def test_tables_of_phases_and_runs(case):
    results, page = case
    run, runs = results["runs"]["phased"], results["runs"].values()
    table = {row[0]: row[1:] for row in page.rows("phases")}
    assert table.pop("") == [phase["name"].replace("_", " ") for phase in run["phases"]]
    numbers = {key: [int(cell.replace(",", "")) for cell in row] for key, row in table.items()}
    keys = {"Tokens, at most": "max_prompt_length", "RL steps": "max_steps", "Own prompts": "prompts"}
    for row, key in (keys | {"Carried prompts": "carried"}).items():
        assert numbers[row] == [phase[key] for phase in run["phases"]]
    for row, key in {"Tokens spent": "tokens", "Seconds": "seconds"}.items():
        at_step = {entry["step"]: entry[key] for entry in run["log"]} | {0: 0}
        ends = [0, *accumulate(phase["max_steps"] for phase in run["phases"])]
        assert numbers[row] == pytest.approx([at_step[b] - at_step[a] for a, b in pairwise(ends)], abs=0.5)

    table = {row[0]: row[1:] for row in page.rows("runs")}
    assert table[""] == [name.replace("_", " ") for name in results["runs"]]
    assert table["RL steps"] == [str(sum(phase["max_steps"] for phase in run["phases"])) for run in runs]
    assert table["Tokens"] == [f"{run['tokens']:,}" for run in runs]
    shares = [100 * np.mean([entry["zero_variance"] for entry in run["log"]]) for run in runs]
    assert [float(cell.removesuffix(" %")) for cell in table["Groups without signal"]] == pytest.approx(
        shares, abs=0.5
    )


def test_carried_table_settings_and_versions(case):
    results, page = case
    assert page.rows(None) == [[key, str(value)] for key, value in (results["settings"] | results["versions"]).items()]
    if not results["carried"]:
        assert "carried" not in page.tables and "No prompts were carried" in page.prose
        return
    for prompt, row in zip(results["carried"], page.rows("carried")[1:], strict=True):
        words = [prompt["id"], *(prompt[key].replace("_", " ") for key in ("from_phase", "phase"))]
        assert row[:4] == [*words, str(prompt["prompt_length"])]
        assert [*map(float, row[4:])] == pytest.approx([prompt["weight"], prompt["mean_accuracy"]], abs=0.005)
    assert any(tag == "details" and "open" not in attrs for tag, attrs in page.tags)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(TEXT, min_size=1, max_size=40), names=st.lists(NAME, min_size=2, max_size=2, unique=True))
def test_any_text_is_shown_as_it_is(ids, names, tmp_path):
    results = make_results(bounds=(33, 129), steps=(20, 20))
    for phase, name in zip(results["runs"]["phased"]["phases"], names, strict=True):
        phase["name"] = name
    ids = [*ids, MARKUP]
    prompt = {"phase": names[1], "from_phase": names[0], "prompt_length": 31, "weight": 2.5, "mean_accuracy": None}
    results["carried"] = [{"id": text, **prompt} for text in ids]
    results["settings"] = {MARKUP: MARKUP, "first": ids[0]}
    results["runs"]["phased"]["log"][0]["seconds"] = None  # unknown after an interruption
    page = write(results, tmp_path)
    source, target = (name.replace("_", " ") for name in names)
    shown = [["".join(cell) for cell in row] for row in page.tables["carried"]][1:]
    assert shown == [[text, source, target, "31", "2.50", "–"] for text in ids]
    assert ["".join(cell) for row in page.tables[None][:2] for cell in row] == [MARKUP, MARKUP, "first", ids[0]]
    assert f"{source} → {target}: {len(ids)} prompts" in page.texts["text"]
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert "Seconds" not in [row[0] for row in page.rows("phases")]


def test_equal_results_make_equal_pages_and_stay_as_they_are(tmp_path):
    results = make_results(bounds=(257,), steps=(30,))
    before = json.dumps(results)
    pages = [report.write_report(results, tmp_path / name).read_text(encoding="utf-8") for name in "ab"]
    assert pages[0] == pages[1] and json.dumps(results) == before


@pytest.mark.parametrize("name", report.SERIES)
def test_a_missing_accuracy_is_an_error(name, tmp_path):
    results = make_results()
    del results["accuracy"][name][0]
    for report_it in (report.print_summary, lambda results: report.write_report(results, tmp_path / "report.html")):
        with pytest.raises(ValueError, match=rf"accuracy\['{name}'\] has 5 values for 6 buckets; give one for each"):
            report_it(results)


def test_wilson_interval_known_values():
    assert report.wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)  # z² / (n + z²)
    assert report.wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_inverts_the_score_test(counts):
    right, questions = counts
    share = right / questions
    low, high = report.wilson_interval(share, questions)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    for end in (low, high):  # the share is 1.96 standard errors from each end, the error being that of the end
        assert abs(share - end) == pytest.approx(1.959964 * (end * (1 - end) / questions) ** 0.5, abs=1e-7)


@given(
    steps=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    every=st.integers(1, 7),
    spending=st.lists(st.integers(0, 10_000), min_size=200, max_size=200),
)
def test_spent_by_phase_adds_up_and_is_exact_at_logged_boundaries(steps, every, spending):
    ends, total = [*accumulate(steps)], sum(steps)
    done = [0, *accumulate(spending[:total])]  # tokens after so many steps
    run = {"phases": [{"max_steps": n} for n in steps], "tokens": done[total]}
    run["log"] = [{"step": step, "tokens": done[step]} for step in range(every, total + 1, every)]
    spent = report.spent_by_phase(run, "tokens")
    if not run["log"]:
        assert spent is None
        return
    assert sum(spent) == pytest.approx(done[total]) and min(spent) >= 0
    for end, upto in zip(ends, accumulate(spent), strict=True):
        if end % every == 0 or end == total:
            assert upto == pytest.approx(done[end])
        else:
            assert done[end // every * every] - 1e-6 <= upto <= done[min(total, -(-end // every) * every)] + 1e-6


def test_headline_says_what_the_numbers_say():
    results = make_results()
    ends = {"after_sft": (0.98, 0.07), "phased": (0.95, 0.81), "single_stage": (0.31, 0.05)}
    for name, (first, last) in ends.items():
        results["accuracy"][name][0], results["accuracy"][name][-1] = first, last
    results["runs"]["phased"]["tokens"], results["runs"]["single_stage"]["tokens"] = 1000, 2100
    text = report.headline(results)
    assert "longest contexts (128 cards, 257 tokens), accuracy rose from 0.07 to 0.81" in text
    assert "shortest (4 cards, 9 tokens), accuracy fell from 0.98 to 0.95" in text
    assert "180 RL steps, as many as the phased run, ended at 0.05 on the longest and 0.31 on the shortest" in text
    assert "2.1 times the tokens" in text

    results["accuracy"]["phased"][-1] = 0.0701
    results["runs"]["single_stage"]["phases"][0]["max_steps"] = 90
    text = report.headline(results)
    assert "accuracy stayed at 0.07" in text and "of 90 RL steps ended" in text and "as many" not in text

    del results["accuracy"]["single_stage"], results["runs"]["single_stage"]
    assert "single" not in report.headline(results).lower()


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ((0.9, 0.2), (0.95, 0.8), "before RL it was already 0.200"),
        ((0.9, 0.1), (0.95, 0.698), "after RL it was only 0.698"),
        ((0.9, 0.1), (0.5, 0.8), "on the shortest, accuracy fell from 0.900 to 0.500"),
        ((0.9, 0.1), (0.95, 0.8), "a further check failed"),
    ],
)
def test_a_missed_goal_is_said_with_its_reason_alone(before, after, reason):
    results = make_results(met=False)
    for name, (first, last) in {"after_sft": before, "phased": after}.items():
        results["accuracy"][name][0], results["accuracy"][name][-1] = first, last
    asked = "at most 0.15 on the longest contexts before RL, at least 0.7 after it"
    assert report.goal_statement(results) == f"Goal not met: {asked}. But {reason}."
    results["goal"]["met"] = True
    measured = f"Measured: {before[1]:.3f} and {after[1]:.3f}."
    assert report.goal_statement(results) == f"Goal met: {asked}. {measured}"


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_summary_in_the_terminal(variant, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    results = make_results(**variant)
    results["runs"]["phased"]["phases"][0]["name"] = "[red]warm[/red]"
    report.print_summary(results)
    printed = capsys.readouterr().out
    text = " ".join(printed.split())
    assert report.headline(results) in text and report.goal_statement(results) in text
    lines = [line.split() for line in printed.splitlines()]
    for i, bucket in enumerate(results["buckets"]):
        values = [f"{series[i]:.3f}" for series in results["accuracy"].values()]
        assert [str(bucket["tokens"]), *values] in [line[:1] + line[1::2] for line in lines]
    for name, run in results["runs"].items():
        (row,) = (line for line in lines if line[-1:] == ["s"] and line[0] == name.split("_")[0])
        assert f"{run['tokens']:,}" in row and str(sum(phase["max_steps"] for phase in run["phases"])) in row
    if len(results["runs"]["phased"]["phases"]) > 1:
        assert any(line[:1] == ["[red]warm[/red]"] for line in lines)
