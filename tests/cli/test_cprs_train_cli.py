"""`qwenlong-trl cprs-train` from a file of records to a critic that compresses; resuming; what is said when wrong."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from runs_cli import train
from transformers import AutoModel


sys.path.append(str(Path(__file__).parents[1] / "cprs"))

from cprs_tiny import tiny_critic, tiny_critic_tokenizer  # noqa: E402
from critic_runs import example  # noqa: E402

from qwenlong_trl.cli.main import main  # noqa: E402
from qwenlong_trl.cprs import ContextCompressionPipeline  # noqa: E402
from qwenlong_trl.data import write_records  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A critic to begin with, records to train on, and records that are kept out."""
    folder = tmp_path_factory.mktemp("critic")
    tiny_critic().save_pretrained(folder / "model")
    tiny_critic_tokenizer().save_pretrained(folder / "model")
    write_records([example(i) for i in range(12)], folder / "train.jsonl")
    write_records([example(i) for i in range(20, 24)], folder / "test.jsonl")
    return folder


def cprs_train(files, *flags) -> int:
    names = ["--model_name_or_path", files / "model", "--records", files / "train.jsonl", "--max_steps", 4]
    return train("cprs-train", *names, "--window_tokens", 512, *flags)


def test_trains_evaluates_and_saves_a_critic_that_compresses(tmp_path, files, capsys):
    flags = ["--eval_strategy", "steps", "--eval_steps", 2, "--eval_records", files / "test.jsonl"]
    assert cprs_train(files, "--output_dir", tmp_path / "out", *flags) == 0
    printed = capsys.readouterr().out
    assert "windows of 12 records" in printed and "'eval_evidence_recall@0.2'" in printed
    cprs = ContextCompressionPipeline.from_pretrained(str(tmp_path / "out"), device="cpu")
    out = cprs({"context": "Ada was born in 1907. Ben was not.", "query": "When was Ada born?"}, target_tokens=20)
    assert out["compressed_tokens"] <= 20
    assert (tmp_path / "out" / "modeling_cprs.py").is_file()
    before = AutoModel.from_pretrained(files / "model").state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in cprs.model.state_dict().items())


def test_an_adapter_ends_up_in_the_critic(tmp_path, files, capsys):
    assert cprs_train(files, "--output_dir", tmp_path / "out", "--use_peft", "true", "--lora_r", 2) == 0
    before = AutoModel.from_pretrained(files / "model").state_dict()
    after = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "cls_head.weight" in changed and "model.embed_tokens.weight" not in changed
    assert any("q_proj" in name for name in changed)


def test_resume_equals_not_stopping(tmp_path, files, capsys):
    flags = ["--save_steps", 2, "--resume_from_checkpoint", "true"]
    assert cprs_train(files, "--output_dir", tmp_path / "whole", *flags) == 0
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "parts" / "checkpoint-2")
    assert cprs_train(files, "--output_dir", tmp_path / "parts", *flags) == 0
    assert f"resuming from {tmp_path / 'parts' / 'checkpoint-2'}" in capsys.readouterr().out
    whole = AutoModel.from_pretrained(tmp_path / "whole").state_dict()
    for name, value in AutoModel.from_pretrained(tmp_path / "parts").state_dict().items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--records", "missing.jsonl"], "no file missing.jsonl"),
        (["--eval_strategy", "steps"], "give --eval_records"),
        (["--granularities", "word"], "`granularities` must be some of token, sentence, paragraph"),
        (["--window_tokens", "40"], "leave less than a quarter to the context"),
        (["--position_weights", "1", "2"], "`position_weights` needs 4 numbers"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, files, capsys, flags, message):
    assert cprs_train(files, "--output_dir", tmp_path / "out", *flags) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_model_and_records_must_be_given(capsys):
    assert main(["cprs-train", "--output_dir", "out", "--use_cpu", "true"]) == 1
    assert "give --model_name_or_path" in capsys.readouterr().err
    assert main(["cprs-train", "--output_dir", "out", "--use_cpu", "true", "--model_name_or_path", "x"]) == 1
    assert "give --records" in capsys.readouterr().err
