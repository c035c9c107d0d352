"""The lm-eval tasks run from the command line, with its dummy and with a real tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import save_tiny

from qwenlong_trl.loong import LoongRecord
from qwenlong_trl.loong.adapters import LM_EVAL_FOLDER
from qwenlong_trl.loong.adapters.lm_eval_task import loong_dataset, metric_name, score


pytest.importorskip("lm_eval", reason="lm-eval is not installed")
pytest.importorskip("tiktoken", reason="tiktoken is not installed")


def lm_eval(tmp_path: Path, *arguments: str, **metadata) -> tuple[dict, dict[str, list[dict]]]:
    """Runs the command; the results, and the logged samples of each task."""
    command = [sys.executable, "-m", "lm_eval", "run", "--include_path", str(LM_EVAL_FOLDER), *arguments]
    command += ["--metadata", json.dumps(metadata), "--output_path", str(tmp_path / "out"), "--log_samples"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (results,) = (tmp_path / "out").rglob("results_*.json")
    samples = {}
    for file in (tmp_path / "out").rglob("samples_*.jsonl"):
        name = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        samples[name] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return json.loads(results.read_text(encoding="utf-8")), samples


@pytest.mark.slow
def test_the_group_over_all_domains(tmp_path, folder, records):
    results, samples = lm_eval(tmp_path, "--tasks", "loong", "--model", "dummy", folder=str(folder))

    scorable = [record for record in records if (record.type, record.level) != ("financial", 4)]
    for domain in ("financial", "paper", "legal"):
        found = {sample["doc"]["id"]: sample for sample in samples[f"loong_{domain}"]}
        expected = [record for record in scorable if record.type == domain]
        assert set(found) == {record.id for record in expected}
        figures = results["results"][f"loong_{domain}"]
        assert {f"{metric_name(record.subtask)},none" for record in expected} < set(figures)
        for record in expected:
            (prompt, options) = found[record.id]["arguments"]["gen_args_0"].values()
            assert record.question in prompt and options["until"] == [] and options["max_gen_toks"] == 2048
    assert results["results"]["loong"]["structured,none"] == 0.0  # the dummy says "lol"
    assert results["n-samples"]["loong_financial"]["effective"] == 8


@pytest.mark.slow
def test_a_real_model_whose_tokenizer_counts(tmp_path, folder):
    model = save_tiny(tmp_path / "model", positions=512)
    arguments = ["--model", "hf", "--model_args", f"pretrained={model},max_length=200", "--device", "cpu"]
    arguments += ["--tasks", "loong_financial", "--gen_kwargs", "max_gen_toks=16"]
    options = {"folder": str(folder), "policy": "middle", "answer_tokens": 16, "language": "en", "set": [1, 2]}
    results, samples = lm_eval(tmp_path, *arguments, **options)

    assembly = {"mode": "fixed", "max_tokens": 200 - 16 - 8, "tokenizer": model}
    docs = [sample["doc"] for sample in samples["loong_financial"]]
    assert sorted(doc["id"] for doc in docs) == ["fin-en-1", "fin-en-2", "fin-en-2-ordered", "fin-en-3"]
    for doc in docs:
        about = json.loads(doc["assembly"])
        assert {key: about[key] for key in assembly} == assembly and about["policy"]["name"] == "middle"
        assert len(doc["prompt"].split()) == doc["tokens"] <= assembly["max_tokens"]
    assert any(doc["cut"] for doc in docs)
    assert 0 <= results["results"]["loong_financial"]["structured,none"] <= 100


def test_scores_of_gold_answers(folder, records):
    docs = loong_dataset("paper", folder=str(folder), config_source="somewhere", mode="official")["test"]
    by_id = {record.id: record for record in records}
    for doc in docs:
        record = by_id[doc["id"]]
        gold = json.dumps(record.answer)
        assert LoongRecord.from_dict(json.loads(doc["record"])) == record
        assert score(doc, [gold]) == {"structured": 100.0, "exact": 1.0, metric_name(record.subtask): 100.0}
        assert score(doc, ["<think>" + gold]) == {"structured": 0.0, "exact": 0.0, metric_name(record.subtask): 0.0}


def test_every_subtask_that_can_be_scored_is_a_metric_of_its_domain(records):
    for domain in ("financial", "paper", "legal"):
        task = (LM_EVAL_FOLDER / f"loong_{domain}.yaml").read_text(encoding="utf-8")
        metrics = {one["metric"] for one in yaml.safe_load(task)["metric_list"]}
        subtasks = {record.subtask for record in records if record.type == domain} - {"Temporal Analysis"}
        assert metrics == {"structured", "exact", *map(metric_name, subtasks)}


def test_options_under_another_name_are_refused(folder):
    for name, meant in (("sets", "set"), ("context_tokens", "max_tokens"), ("domain", "--tasks loong_DOMAIN")):
        with pytest.raises(ValueError, match=f"no option '{name}' for Loong; {meant} is meant"):
            loong_dataset("legal", folder=str(folder), **{name: 1})
    with pytest.raises(ValueError, match="select others"):
        loong_dataset("financial", folder=str(folder), level=4)
