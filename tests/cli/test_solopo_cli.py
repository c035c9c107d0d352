"""`qwenlong-trl solopo` from a file of pairs to a saved model; resuming; what is said when something is wrong."""

import json
import re
import shutil

import pytest
import torch
from runs_cli import train
from solopo_rows import twins
from tiny import save_tiny
from transformers import AutoModelForCausalLM


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder as a data set, with one split to train on and one to evaluate on."""
    folder = tmp_path_factory.mktemp("pairs")
    twins(8).to_json(folder / "train.jsonl")
    twins(4, seed=1).to_json(folder / "test.jsonl")
    return folder


def solopo(folder, pairs, *flags) -> int:
    model = save_tiny(folder / "model")
    lengths = ["--max_length", 64, "--max_long_length", 96, "--per_device_train_batch_size", 2, "--max_steps", 4]
    return train("solopo", "--model_name_or_path", model, "--dataset_name", pairs, *lengths, *flags)


@pytest.mark.parametrize("algorithm", ["dpo", "simpo", "orpo"])
def test_trains_evaluates_and_saves(tmp_path, pairs, capsys, algorithm):
    out = tmp_path / "out"
    flags = ["--algorithm", algorithm, "--output_dir", out, "--save_strategy", "no"]
    assert solopo(tmp_path, pairs, *flags, "--eval_strategy", "steps", "--eval_steps", 4) == 0
    printed = capsys.readouterr().out
    assert f"model and tokenizer saved to {out}" in printed
    assert "'eval_solo/alignment'" in printed
    assert len(re.findall(r"'solo/gap': '([^']*)'", printed)) == 4
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    after = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_an_adapter(tmp_path, pairs, capsys):
    lora = ["--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj", "--lora_dropout", 0.0]
    assert solopo(tmp_path, pairs, "--output_dir", tmp_path / "out", "--sequential_backward", "true", *lora) == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_resume_equals_not_stopping(tmp_path, pairs, capsys):
    flags = ["--save_steps", 2, "--resume_from_checkpoint", "true"]
    assert solopo(tmp_path, pairs, "--output_dir", tmp_path / "whole", *flags) == 0
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "parts" / "checkpoint-2")
    assert solopo(tmp_path, pairs, "--output_dir", tmp_path / "parts", *flags) == 0
    assert f"resuming from {tmp_path / 'parts' / 'checkpoint-2'}" in capsys.readouterr().out
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").state_dict()
    for name, value in AutoModelForCausalLM.from_pretrained(tmp_path / "parts").state_dict().items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": ""}, "the train dataset, row 2 (id 'r1'): `chosen` is empty"),
        ({"long_prompt": "w1 "}, "`long_prompt` has 1 tokens, fewer than the 7 of `prompt`"),
    ],
)
def test_a_bad_row_ends_in_one_line(tmp_path, capsys, change, message):
    rows = twins(4).to_list()
    rows[1] |= change
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert solopo(tmp_path, tmp_path / "pairs.jsonl", "--output_dir", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_without_data(tmp_path, capsys):
    assert train("solopo", "--model_name_or_path", "x", "--output_dir", tmp_path) == 1
    assert "give --dataset_name: a folder that `qwenlong-trl solopo-pairs` has written" in capsys.readouterr().err
