"""The metric of `evaluate`, loaded from its folder."""

import json

import pytest
from processes import run_python

from qwenlong_trl.loong.adapters import METRIC_FOLDER
from qwenlong_trl.loong.metrics import Scored, aggregate


pytest.importorskip("evaluate", reason="evaluate is not installed")


@pytest.fixture
def metric(tmp_path, monkeypatch):
    """Loaded into caches of its own."""
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return evaluate.load(str(METRIC_FOLDER), cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def golds(records) -> list[str]:
    return [one.answer if isinstance(one.answer, str) else json.dumps(one.answer) for one in records]


def test_gold_answers_as_predictions_with_records_as_objects_and_json(metric, records, golds):
    references = [r.to_dict() if i % 2 else json.dumps(r.to_dict()) for i, r in enumerate(records)]
    found = metric.compute(predictions=golds, references=references)

    assert (found["structured"], found["exact"], found["mode"]) == (100.0, 1.0, "fixed")
    assert (found["total"], found["structured_total"]) == (18, 16)  # two have free text for an answer
    assert {task: cell["structured_total"] for task, cell in found["by_task"].items()} == {
        **{"Spotlight Locating": 3, "Comparison": 6, "Clustering": 4, "Chain of Reasoning": 3}
    }
    assert "average" not in found


def test_half_of_the_answers_wrong(metric, records, golds):
    predictions = [gold if i % 2 else "I do not know." for i, gold in enumerate(golds)]
    found = metric.compute(predictions=predictions, references=[record.to_dict() for record in records])
    scorable = [i for i, record in enumerate(records) if (record.type, record.level) != ("financial", 4)]
    right = sum(i % 2 for i in scorable) / len(scorable)
    assert (found["structured"], found["exact"]) == (pytest.approx(100 * right), pytest.approx(right))


def test_what_a_judge_said(metric, records, golds):
    judgements = ["Rating: [[100]]", "[[ 40 ]], or [1]", None] * 6
    given = {"predictions": golds, "references": [record.to_dict() for record in records], "judgements": judgements}
    fixed = metric.compute(**given)
    official = metric.compute(**given, mode="official")

    assert (fixed["average"], fixed["perfect_rate"], fixed["parse_rate"]) == (70.0, 0.5, pytest.approx(2 / 3))
    assert (fixed["strict_average"], fixed["strict_perfect_rate"]) == (pytest.approx(140 / 3), pytest.approx(1 / 3))
    # The released code takes the first number in single brackets where there is none in double ones.
    assert official["average"] == 50.5
    rows = [Scored(r, "", score) for r, score in zip(records, [100.0, 40.0, None] * 6, strict=True)]
    assert fixed["average_interval"] == aggregate(rows).average_interval
    assert fixed["by_task"]["Clustering"]["total"] == 4


def test_a_prediction_that_is_missing_scores_nothing(metric, records, golds):
    references = [record.to_dict() for record in records]
    given = {"references": references, "judgements": [None, *["[[100]]"] * 17]}
    found = metric.compute(predictions=["", *golds[1:]], **given)
    assert (found["structured_total"], found["structured"]) == (16, pytest.approx(100 * 15 / 16))
    assert found["exact"] == pytest.approx(15 / 16)
    assert (found["average"], found["strict_average"]) == (100.0, pytest.approx(100 * 17 / 18))


def test_values_that_are_all_equal_have_no_interval(metric, records, golds):
    references = [record.to_dict() for record in records]
    found = metric.compute(predictions=golds, references=references, judgements=["[[100]]"] * 17 + ["[[1]]"])
    assert (found["structured"], found["structured_interval"], found["parse_rate_interval"]) == (100.0, None, None)
    low, high = found["average_interval"]
    assert low < found["average"] <= high


def test_batches(metric, records, golds):
    for gold, record in zip(golds, records, strict=True):
        metric.add(prediction=gold, reference=record.to_dict())
    assert metric.compute()["structured"] == 100.0


def test_what_is_no_record(metric, records):
    record = records[0].to_dict()
    for references, options, message in (
        (["{no json"], {}, "reference 0 is no JSON"),
        ([{"id": "x"}], {}, "reference 0 is no record of Loong.*field `set`"),
        ([record], {"mode": "strict"}, "mode must be one of fixed, official"),
        ([record], {"judgements": []}, "0 judgements for 1 predictions"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.compute(predictions=["a"], references=references, **options)


def test_nothing_of_this_is_imported_with_the_package(tmp_path):
    code = (
        "import sys, qwenlong_trl.loong, qwenlong_trl.loong.adapters\n"
        "import qwenlong_trl.loong.metrics, qwenlong_trl.loong.scoring\n"
        "print([name for name in ('inspect_ai', 'lm_eval', 'evaluate', 'torch') if name in sys.modules])"
    )
    assert run_python(["-c", code]).stdout.strip() == "[]"
    told = run_python(["-m", "qwenlong_trl.loong.adapters"]).stdout
    assert str(METRIC_FOLDER) in told and "--include_path" in told
