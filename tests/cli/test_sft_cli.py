"""`qwenlong-trl sft` from records, and from a data set, to a saved model."""

import json
import re
import shutil

import pytest
import torch
from runs_cli import save_records, train
from tiny import save_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer


CHAT = (
    "{% for m in messages %}{{ 'w38' if m['role'] == 'user' else 'w39' }} {{ m['content'] }} <eos> {% endfor %}"
    "{% if add_generation_prompt %}w39{% endif %}"
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return save_records(tmp_path_factory.mktemp("records") / "records.jsonl", [6] * 6 + [30] * 2)


@pytest.mark.parametrize("template", [None, CHAT])
def test_learns_the_answers_of_records(tmp_path, records, capsys, template):
    model, out = save_tiny(tmp_path / "model", template), tmp_path / "out"
    flags = ["--model_name_or_path", model, "--records", records, "--output_dir", out, "--max_length", 20]
    flags += ["--max_steps", 4, "--save_strategy", "no"]
    assert train("sft", *flags, "--eval_strategy", "steps", "--eval_steps", 4, "--eval_records", records) == 0
    printed = capsys.readouterr()
    assert f"model and tokenizer saved to {out}" in printed.out
    assert "'eval_loss'" in printed.out
    losses = [float(loss) for loss in re.findall(r"'loss': '([^']*)'", printed.out)]
    assert len(losses) == 4 and losses[-1] < losses[0]
    before = AutoModelForCausalLM.from_pretrained(model).state_dict()
    after = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(out).chat_template == template


def test_resume_equals_not_stopping(tmp_path, records, capsys):
    flags = ["--model_name_or_path", save_tiny(tmp_path / "model"), "--records", records, "--save_steps", 2]
    flags += ["--max_steps", 4, "--resume_from_checkpoint", "true"]
    assert train("sft", *flags, "--output_dir", tmp_path / "whole") == 0
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "parts" / "checkpoint-2")
    assert train("sft", *flags, "--output_dir", tmp_path / "parts") == 0
    assert f"resuming from {tmp_path / 'parts' / 'checkpoint-2'}" in capsys.readouterr().out
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").state_dict()
    for name, value in AutoModelForCausalLM.from_pretrained(tmp_path / "parts").state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_a_data_set_with_prompts_and_completions(tmp_path, capsys):
    rows = [{"prompt": "w1 w2", "completion": f" w3 w{n}"} for n in range(4, 12)]
    path = tmp_path / "distilled.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    flags = ["--model_name_or_path", save_tiny(tmp_path / "model"), "--dataset_name", path, "--max_steps", 1]
    assert train("sft", *flags, "--output_dir", tmp_path / "out", "--loss_aggregation", "token") == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_files_without_a_valid_row_end_in_one_line(tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": "a", "question": 7, "answers": ["a"], "documents": []}\n' * 2)
    flags = ["--model_name_or_path", save_tiny(tmp_path / "model"), "--records", path, "--skip_invalid", "true"]
    for command in ("sft", "phased-grpo"):
        given = [*flags, "--records_format", "records", "--output_dir", tmp_path / "out"]
        assert train(command, *given) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert f"qwenlong-trl {command}: error: no row of {path} is a record: skipped 2 malformed rows; " in last
        assert "row 1: field `question` is 7" in last


@pytest.mark.parametrize("split", ["test", "validation[:4]"])
def test_a_file_has_no_other_split(tmp_path, capsys, split):
    path = tmp_path / "distilled.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "w1 w2", "completion": f" w{n}"}) for n in range(4, 12)))
    flags = ["--model_name_or_path", save_tiny(tmp_path / "model"), "--dataset_name", path, "--max_steps", 1]
    flags += ["--eval_strategy", "steps", "--eval_steps", 1, "--output_dir", tmp_path / "out"]
    assert train("sft", *flags, "--dataset_test_split", split) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"distilled.jsonl is a file, which has the split 'train' alone, and not '{split}'" in last
    assert "--dataset_test_split 'train[-100:]'" in last
    # What the message advises does work.
    parts = ["--dataset_train_split", "train[:-2]", "--dataset_test_split", "train[-2:]"]
    assert train("sft", *flags, *parts, "--save_strategy", "no") == 0
    (tmp_path / "folder").mkdir()
    for name in ("train", "test"):
        (tmp_path / "folder" / f"{name}.jsonl").write_bytes(path.read_bytes())
    flags[3] = tmp_path / "folder"
    assert train("sft", *flags, "--save_strategy", "no") == 0
    assert "'eval_loss'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--loss_type", "dft"], "loss_aggregation='sequence' is not exact here: loss_type='dft'"),
        (["--packing", "--packing_strategy", "wrapped"], "packing_strategy='wrapped' cuts examples into pieces"),
        (["--max_length", "3"], "8 of 8 rows of the train dataset have more than 3 tokens"),
        (["--dataset_name", "x.csv"], "give either --records FILE... or --dataset_name NAME"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, records, capsys, argv, message):
    flags = ["--model_name_or_path", save_tiny(tmp_path / "model"), "--records", records, "--max_steps", 1]
    assert train("sft", *flags, "--output_dir", tmp_path / "out", *argv) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("qwenlong-trl sft: error: ") and message in last
