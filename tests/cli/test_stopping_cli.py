"""The training commands under SIGTERM: a checkpoint, exit code 0, one line that says how to go on; and going on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs_cli import plain_processes, save_records, train
from solopo_rows import twins
from tiny import save_tiny
from transformers import AutoModelForCausalLM

from qwenlong_trl import stopping
from qwenlong_trl.checkpoints import newest_complete_checkpoint
from qwenlong_trl.data import write_records


sys.path.append(str(Path(__file__).parents[1] / "cprs"))

from cprs_tiny import tiny_critic, tiny_critic_tokenizer  # noqa: E402
from critic_runs import example  # noqa: E402


GO_ON = "to go on: the same command with --resume_from_checkpoint true"


def handlers() -> list:
    return [signal.getsignal(number) for number in stopping.SIGNALS]


def test_phased_grpo_stops_and_goes_on(tmp_path, capsys, monkeypatch):
    before = handlers()
    records = save_records(tmp_path / "records.jsonl", [5] * 10 + [12] * 10)
    model = save_tiny(tmp_path / "model")

    def phased(out, *flags) -> int:
        files = ["--model_name_or_path", model, "--records", records, "--output_dir", out]
        rewards = ["--reward_funcs", "signal_rewards.parity_then_stop", "--save_strategy", "no"]
        return train("phased-grpo", *files, *rewards, *flags)

    assert phased(tmp_path / "whole") == 0
    out = tmp_path / "out"
    monkeypatch.setenv("STOP_AFTER", "1")
    assert phased(out) == 0
    where = f"after step 2 of 4, saved to {out / 'checkpoint-2'}"
    assert capsys.readouterr().out.splitlines()[-1] == f"stopped by SIGTERM {where}; {GO_ON}"
    assert not (out / "model.safetensors").exists()  # the end has not been reached
    assert handlers() == before
    monkeypatch.delenv("STOP_AFTER")
    assert phased(out, "--resume_from_checkpoint", "true") == 0
    found, expected = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (out, tmp_path / "whole")
    )
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


class Signalled(stopping.StopOnSignal):
    """Sends SIGTERM to its own process in the second step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("command", ["sft", "solopo", "cprs-train"])
def test_the_other_commands_stop(tmp_path, capsys, monkeypatch, command):
    monkeypatch.setattr(stopping, "StopOnSignal", Signalled)
    flags = ["--output_dir", tmp_path / "out", "--max_steps", 4, "--save_strategy", "no"]
    if command == "cprs-train":
        for part in (tiny_critic(), tiny_critic_tokenizer()):
            part.save_pretrained(tmp_path / "model")
        write_records([example(i) for i in range(12)], tmp_path / "data.jsonl")
        flags += ["--records", tmp_path / "data.jsonl", "--window_tokens", 512]
    elif command == "solopo":
        save_tiny(tmp_path / "model")
        twins(8).to_json(tmp_path / "data.jsonl")
        flags += ["--dataset_name", tmp_path / "data.jsonl", "--max_length", 64, "--max_long_length", 96]
    else:
        save_tiny(tmp_path / "model")
        flags += ["--records", save_records(tmp_path / "data.jsonl", [6] * 40), "--max_length", 20]
    assert train(command, "--model_name_or_path", tmp_path / "model", *flags) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"stopped by SIGTERM after step 2 of 4, saved to {tmp_path / 'out' / 'checkpoint-2'}; {GO_ON}"
    assert newest_complete_checkpoint(tmp_path / "out") == str(tmp_path / "out" / "checkpoint-2")


@pytest.mark.slow
def test_a_command_on_two_processes_passes_the_signal_on(tmp_path):
    out = tmp_path / "out"
    records = save_records(tmp_path / "records.jsonl", [5] * 10)
    flags = {
        "accelerate_config": plain_processes(tmp_path / "cpu.yaml"),
        "num_processes": 2,
        "model_name_or_path": save_tiny(tmp_path / "model"),
        "records": records,
        "prompt_template": "$DOC$ $Q$",
        "reward_funcs": "tiny.parity_reward",
        "phases": '[{"max_prompt_length": 8, "max_steps": 5000}]',
        "per_device_train_batch_size": 2,
        "num_generations": 2,
        "max_completion_length": 4,
        "save_steps": 2,
        "save_total_limit": 2,
        "output_dir": out,
        "use_cpu": "true",
        "bf16": "false",
        "report_to": "none",
    }
    argv = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    environment = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "WORLD_SIZE")}
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "qwenlong_trl.cli.main", "phased-grpo", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    ) as process:
        while newest_complete_checkpoint(out, lambda line: None) is None and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr[-3000:]
    (line,) = [line for line in stdout.splitlines() if line.startswith("stopped by")]
    last = newest_complete_checkpoint(out)
    assert line.startswith("stopped by SIGTERM after step ")
    assert line.endswith(f" of 5000, saved to {last}; {GO_ON}")
