"""For `worker.py` on two processes: the second one gets SIGTERM, both stop at the same step and go on exactly."""

import os
import signal
import time
from pathlib import Path

from runs import assert_equal_runs, make_args, make_trainer
from tiny import parity_reward
from transformers import Trainer

from qwenlong_trl.checkpoints import newest_complete_checkpoint
from qwenlong_trl.stopping import StopOnSignal


SETTINGS = {"steps_per_generation": 4, "retrospective": "weighted", "save_strategy": "no"}


def write_late() -> None:
    """This process writes its part of a checkpoint late; meanwhile the checkpoint before it must not be deleted."""
    write = Trainer._save_rng_state

    def late(self, folder):
        time.sleep(0.3)
        step = int(folder.rsplit("-", 1)[1])
        assert not Path(folder, "trainer_state.json").exists(), folder
        if folder.endswith(f"whole/checkpoint-{step}") and step > 2:
            assert newest_complete_checkpoint(self.args.output_dir).endswith(f"checkpoint-{step - 2}")
        write(self, folder)

    Trainer._save_rng_state = late


def stop_one_of_two(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    if rank == 1:
        write_late()
    limits = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
    whole = make_trainer(make_args(folder / "whole", **(SETTINGS | limits)))
    whole.train()
    if rank == 0:
        assert [path.name for path in (folder / "whole").glob("checkpoint-*")] == ["checkpoint-8"]

    def parity(completions, trainer_state, **columns):
        if rank == 1 and trainer_state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return parity_reward(completions)

    parity.__name__ = "parity_reward"
    trainer = make_trainer(make_args(folder / "out", **SETTINGS), rewards=parity)
    with StopOnSignal() as stop:
        trainer.add_callback(stop)
        trainer.train()
    assert stop.stopped
    said = stop.how_to_resume(trainer.args, "again").split(", saved")[0]
    trainer.accelerator.wait_for_everyone()
    assert newest_complete_checkpoint(folder / "out") == str(folder / "out" / "checkpoint-4")
    resumed = make_trainer(make_args(folder / "out", **SETTINGS))
    resumed.train(resume_from_checkpoint=True)
    assert_equal_runs(resumed, whole)
    print(f"rank {rank}: {said}, resumed equal\n", end="", flush=True)  # in one write: both ranks share the pipe
