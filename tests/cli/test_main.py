"""`qwenlong-trl` itself: fast help, exit codes, one line for a user's error."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

from qwenlong_trl.cli.main import COMMANDS, main


def test_help_is_fast_and_imports_neither_torch_nor_trl():
    # Processor time of this process alone: a busy machine must not fail the test.
    code = (
        "import sys, time\n"
        "from qwenlong_trl.cli.main import main\n"
        "assert main(['--help']) == main(['--version']) == 0\n"
        "assert not {'torch', 'trl', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert time.process_time() < 0.5, time.process_time()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, (_, help_text) in COMMANDS.items():
        assert f"  {name:<14}{help_text}" in done.stdout
    assert f"qwenlong-trl {version('qwenlong-trl')}" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_with_main(name):
    assert callable(import_module(COMMANDS[name][0]).main)


@pytest.mark.parametrize("argv", [[], ["train"], ["--phases"]])
def test_wrong_command_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as exit:
        main(argv)
    assert exit.value.code == 2
    assert f"expected one of {', '.join(COMMANDS)}" in capsys.readouterr().err


def test_a_missing_file_is_one_line_and_1(capsys, monkeypatch):
    monkeypatch.delenv("QWENLONG_TRL_DEBUG", raising=False)
    argv = ["phased-grpo", "--model_name_or_path", "x", "--records", "nowhere.jsonl", "--use_cpu", "--bf16", "false"]
    argv += ["--phases", '[{"max_prompt_length": 8, "max_steps": 8}]']
    assert main(argv) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "qwenlong-trl phased-grpo: error: no file nowhere.jsonl (QWENLONG_TRL_DEBUG=1 shows the traceback)"
    )


def test_errors_of_several_lines_become_one(capsys, monkeypatch):
    monkeypatch.delenv("QWENLONG_TRL_DEBUG", raising=False)
    assert main(["sft", "--records", "a", "--chat", "false", "--dataset_name", "b"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("qwenlong-trl sft: error: give either --records FILE... or --dataset_name NAME")
    assert "Traceback" not in "\n".join(lines)


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("QWENLONG_TRL_DEBUG", "1")
    assert main(["sft", "--records", "a", "--dataset_name", "b"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and 'training.py", line' in err
    assert err.splitlines()[-1].endswith("and not both")


def test_an_error_cannot_steer_the_terminal(tmp_path, capsys):
    assert main(["loong", "report", str(tmp_path / "a\x1b]0;title\x07")]) == 1
    error = capsys.readouterr().err
    assert "\x1b" not in error and "a?]0;title? holds no records.jsonl" in error
