"""Command lines and recipes of the training commands: phases in every form, mistakes, several processes."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from runs_cli import PHASES, plain_processes
from tiny import save_tiny

from qwenlong_trl.cli.launch import parse_arguments
from qwenlong_trl.cli.main import main
from qwenlong_trl.cli.training import DataArguments
from qwenlong_trl.phased_grpo import PhasedGRPOConfig


WANTED = [(8, 2), (16, 2)]


def parse(*argv, types=(PhasedGRPOConfig,)):
    flags = ["--use_cpu", "true", "--bf16", "false", *map(str, argv)]
    return parse_arguments("phased-grpo", flags, types, "description", "example")[0]


def phases(config) -> list[tuple[int, int]]:
    return [(phase.max_prompt_length, phase.max_steps) for phase in config.phases]


def write(path, value) -> str:
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), encoding="utf-8")
    return str(path)


def test_phases_as_json_flag():
    assert phases(parse("--phases", PHASES)) == WANTED
    assert phases(parse("--phases", *map(json.dumps, json.loads(PHASES)))) == WANTED


@pytest.mark.parametrize("name", ["phases.json", "phases.yaml"])
def test_phases_as_file(tmp_path, name):
    content = PHASES if name.endswith("json") else json.loads(PHASES)
    assert phases(parse("--phases", write(tmp_path / name, content))) == WANTED


def test_phases_in_a_recipe(tmp_path):
    listed = write(tmp_path / "a.yaml", {"phases": json.loads(PHASES), "learning_rate": "2e-6"})
    config = parse("--config", listed)
    assert phases(config) == WANTED and config.learning_rate == 2e-6
    assert phases(parse("--config", write(tmp_path / "b.yaml", {"phases": PHASES}))) == WANTED
    file = write(tmp_path / "phases.json", PHASES)
    assert phases(parse("--config", write(tmp_path / "c.yaml", {"phases": file}))) == WANTED


def test_flags_win_over_the_recipe(tmp_path):
    recipe = write(tmp_path / "a.yaml", {"phases": json.loads(PHASES), "seed": 1, "beta": 0.5})
    config = parse("--config", recipe, "--seed", 2, "--phases", '{"max_prompt_length": 9, "max_steps": 4}')
    assert (config.seed, config.beta, phases(config)) == (2, 0.5, [(9, 4)])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"phase": []}, "unknown option 'phase'; did you mean 'phases'"),
        ({"phases": json.loads(PHASES), "learning_rat": 1}, "did you mean 'learning_rate'"),
        ("- a\n- b\n", "a recipe is a YAML mapping from option to value, got list"),
        ("a: [1\n", "is not valid YAML"),
        ({"phases": [{"max_prompt_length": 8, "max_steps": 2, "temperature": 1}]}, "cannot change during a run"),
        ({"phases": "nowhere.yaml"}, "neither a JSON list nor an existing file"),
        ({"phases": json.loads(PHASES), "retrospective": "always"}, "must be one of"),
    ],
)
def test_wrong_recipes_end_in_one_line(tmp_path, capsys, recipe, message):
    path = write(tmp_path / "recipe.yaml", recipe)
    argv = ["phased-grpo", "--config", path, "--use_cpu", "--bf16", "false", "--records", "x.jsonl"]
    assert main(argv) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("qwenlong-trl phased-grpo: error: ") and message in last


def test_a_recipe_that_is_not_there(capsys):
    assert main(["phased-grpo", "--config", "nowhere.yaml"]) == 1
    assert "nowhere.yaml" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--phasse", "x"], "unrecognized arguments: --phasse x"),
        (["--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["--chat", "maybe"], "argument --chat: invalid choice: 'maybe'"),
        (["--config"], "--config needs the path of a YAML file"),
    ],
)
def test_wrong_command_lines_exit_with_2(argv, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["phased-grpo", *argv])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("phased-grpo", ["--phases", "--reward_funcs", "--records", "--num_generations", "--lora_r", "--config"]),
        ("sft", ["--loss_aggregation", "--records", "--max_length", "--num_processes", "--attn_implementation"]),
    ],
)
def test_help_of_a_command(command, options, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    out = capsys.readouterr().out
    assert all(option in out for option in options)
    assert f"example:\n  qwenlong-trl {command} --config examples/recipes/" in out
    assert "(default: None)" not in out


def test_chat_and_lists_from_yaml(tmp_path):
    recipe = write(tmp_path / "a.yaml", "records: one.jsonl\nchat: true\nprompt_template: '$DOC$ $Q$'\n")
    args = parse_arguments("sft", ["--config", recipe], (DataArguments,), "", "")[0]
    assert (args.records, args.chat, args.prompt_template) == (["one.jsonl"], "true", "$DOC$ $Q$")
    template = write(tmp_path / "template.txt", "<$DOC$> $Q$\n")
    args = DataArguments(records=["one.jsonl"], prompt_template=template)
    assert args.prompt_template == "<$DOC$> $Q$"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give either --records"),
        ({"records": ["a"], "chat": "yes"}, "`chat` must be"),
        ({"records": ["a"], "records_format": "csv"}, "`records_format` must be one of"),
        ({"dataset_name": "a", "eval_records": ["b"]}, "--eval_records goes with --records"),
        ({"records": ["a"], "prompt_template": "nowhere.txt"}, "neither a text with"),
    ],
)
def test_wrong_data_arguments(values, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**values)


def test_an_accelerate_config_that_is_not_there(capsys, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert main(["sft", "--accelerate_config", "zero9"]) == 1
    assert "Accelerate config zero9 is neither a file nor" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_two_processes(tmp_path):
    """One command starts both; the recipe asks for them, and the processes do not start further ones."""
    recipe = {
        "accelerate_config": plain_processes(tmp_path / "cpu.yaml"),
        "num_processes": 2,
        "model_name_or_path": save_tiny(tmp_path / "model"),
        "dataset_name": str(tmp_path / "data.jsonl"),
        "output_dir": str(tmp_path / "out"),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
    }
    rows = [{"prompt": "w1 w2 w3", "completion": " w4 " * (1 + i % 3)} for i in range(8)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    environment = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, "-m", "qwenlong_trl.cli.main", "sft", "--config", write(tmp_path / "r.yaml", recipe)],
        capture_output=True,
        text=True,
        timeout=250,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("model and tokenizer saved to") == 1
    # 8 examples, 2 steps of 2 examples on each of 2 processes: one epoch exactly.
    assert "'epoch': '1'" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()
