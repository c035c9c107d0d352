"""Results in the format of the hub: what is written, what is kept, and what is refused."""

import json

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from scored_rows import ABOUT, NO_JUDGE, OFFICIAL, many

from qwenlong_trl.loong.adapters.eval_results import write_eval_results
from qwenlong_trl.loong.tables import report_json, summarize


BENCHMARK = "MozerWang/Loong"


def report(about, mode="fixed", judged=True) -> dict:
    """As `report.json` holds it."""
    summary = summarize(many(judged=judged), about, mode, samples=50)
    return json.loads(json.dumps(report_json(summary)))


def entries(file) -> dict:
    parsed = parse_eval_result_entries(yaml.safe_load(file.read_text(encoding="utf-8")))
    return {(one.dataset_id, one.task_id): one for one in parsed}


@pytest.mark.parametrize(
    ("about", "mode", "figure", "title"),
    [
        (ABOUT, "fixed", "strict_average", "Strict average"),
        (OFFICIAL, "official", "average", "Avg Score (parsed)"),
    ],
)
def test_the_headline_of_a_judged_run(tmp_path, about, mode, figure, title):
    run = report(about, mode)
    file = write_eval_results(tmp_path, run, BENCHMARK, date="2026-11-21", source_url="https://example.org/log")

    assert file == tmp_path / ".eval_results" / "loong.yaml"
    ((key, entry),) = entries(file).items()
    assert key == (BENCHMARK, "loong")
    assert entry.value == pytest.approx(run["overall"][figure], abs=1e-4)
    assert (entry.date, entry.source_url) == ("2026-11-21", "https://example.org/log")
    low, high = run["overall"][f"{figure}_interval"]
    for part in (title, f"{mode} mode", about["judge"]["model"], about["judge"]["prompt_sha256"], "policy", "120"):
        assert part.lower() in entry.notes.lower()
    assert f"95 % interval {low:.2f} to {high:.2f}" in entry.notes
    assert "Not comparable with the published tables: " in entry.notes
    assert [path.name for path in file.parent.iterdir()] == ["loong.yaml"]


def test_without_a_judge_only_the_structured_score_under_a_task_of_its_own(tmp_path):
    run = report(NO_JUDGE, judged=False)
    with pytest.raises(ValueError, match='has no scores of a judge.*score="structured"'):
        write_eval_results(tmp_path, run, BENCHMARK)
    assert list(tmp_path.iterdir()) == []

    ((key, entry),) = entries(write_eval_results(tmp_path, run, BENCHMARK, score="structured")).items()
    assert key == (BENCHMARK, "loong_structured")
    assert entry.value == pytest.approx(run["overall"]["structured"], abs=1e-4)
    assert "Structured score (deterministic, no judge" in entry.notes and entry.date is None


def test_a_judge_of_whom_nothing_could_be_read(tmp_path):
    with pytest.raises(ValueError, match="has no scores of a judge"):
        write_eval_results(tmp_path, report(ABOUT, judged=False), BENCHMARK)


def test_other_entries_stay_and_the_same_one_is_replaced(tmp_path):
    other = {"dataset": {"id": "org/other", "task_id": "loong"}, "value": 1, "date": "2025-01-15", "own": {"x": "中"}}
    file = tmp_path / ".eval_results" / "loong.yaml"
    file.parent.mkdir()
    # An unquoted date, as people write it.
    file.write_text(yaml.safe_dump([other], allow_unicode=True).replace("'2025-01-15'", "2025-01-15"))

    write_eval_results(tmp_path, report(ABOUT), BENCHMARK)
    write_eval_results(tmp_path, report(ABOUT), BENCHMARK, score="structured")
    first = entries(file)
    write_eval_results(tmp_path, report(OFFICIAL, "official"), BENCHMARK)

    found = entries(file)
    judged, structured = (BENCHMARK, "loong"), (BENCHMARK, "loong_structured")
    assert set(found) == {("org/other", "loong"), judged, structured}
    assert yaml.safe_load(file.read_text(encoding="utf-8"))[0] == other
    assert found[structured] == first[structured]
    assert ABOUT["judge"]["model"] not in found[structured].notes and "policy bm25" in found[structured].notes
    assert "official mode" in found[judged].notes.lower() and "fixed mode" in first[judged].notes.lower()


@pytest.mark.parametrize(
    "text",
    [
        "model-index: []\n",
        "- dataset: {id: a}\n  value: 1\n",
        "- dataset: text\n  value: 1\n",
        "- just text\n",
        "[\n",
        "- {error: no, filename: x}\n",
        b"\xff\xfe",
    ],
)
def test_a_file_that_holds_no_results_is_left_alone(tmp_path, text):
    file = tmp_path / ".eval_results" / "loong.yaml"
    file.parent.mkdir()
    data = text if isinstance(text, bytes) else text.encode()
    file.write_bytes(data)
    with pytest.raises(ValueError, match="loong.yaml .*repair or remove it"):
        write_eval_results(tmp_path, report(ABOUT), BENCHMARK)
    assert file.read_bytes() == data
    assert [path.name for path in file.parent.iterdir()] == ["loong.yaml"]


def test_what_is_no_result(tmp_path):
    run = report(ABOUT)
    for arguments, options, message in (
        ((tmp_path, run, BENCHMARK), {"score": "mean"}, "score must be"),
        ((tmp_path, run, ""), {}, "must not be empty"),
        ((tmp_path, run, BENCHMARK), {"date": "yesterday"}, "yesterday"),
        ((tmp_path, {"mode": "fixed"}, BENCHMARK), {}, "report.json"),
        ((tmp_path, run | {"mode": "other"}, BENCHMARK), {}, "report.json"),
        ((tmp_path / "nowhere", run, BENCHMARK), {}, "is no folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            write_eval_results(*arguments, **options)
    assert list(tmp_path.iterdir()) == []


def test_another_judges_score_has_its_own_name_and_a_run_that_is_not_judged_through_is_refused(tmp_path):
    other = OFFICIAL | {"judge": OFFICIAL["judge"] | {"model": "small-judge"}}
    ((_, entry),) = entries(write_eval_results(tmp_path, report(other, "official"), BENCHMARK)).items()
    assert entry.notes.startswith("Judge score (parsed), 0 to 100") and "small-judge" in entry.notes
    run = report(ABOUT)
    run["overall"]["unjudged"] = 3
    with pytest.raises(ValueError, match="^3 answers of the run have not been judged"):
        write_eval_results(tmp_path, run, BENCHMARK)
