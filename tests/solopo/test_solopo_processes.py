"""Two processes that talk over gloo come to what one process with twice the batch comes to."""

from pathlib import Path

import pytest
import torch
from processes import run_on_two_processes
from solopo_runs import SETTINGS, make_args, make_trainer, parameters


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    for name, settings in SETTINGS.items():
        trainer = make_trainer(make_args(tmp_path / name, per_device_train_batch_size=8, **settings))
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        torch.save({"parameters": parameters(trainer), "log": log}, tmp_path / f"{name}.pt")
    done = run_on_two_processes([str(Path(__file__).with_name("solopo_worker.py")), str(tmp_path)])
    said = [line for line in done.stdout.splitlines() if line.startswith(("equal", "resumed"))]
    assert said == [*(f"equal {name}" for name in SETTINGS), "resumed"]
