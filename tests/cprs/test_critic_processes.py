"""Two processes learn and report what one does."""

import json
from pathlib import Path

import critic_worker
import pytest
import torch
from processes import run_on_two_processes


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    trainer, metrics = critic_worker.run(tmp_path, 8)
    torch.save(trainer.model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    done = run_on_two_processes([str(Path(critic_worker.__file__)), str(tmp_path)])
    assert done.stdout.splitlines()[-1] == "equal"
