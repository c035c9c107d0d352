"""A process of its own, or two under `torchrun`: `python worker.py resume|kill|track FOLDER`."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch


sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from processes import leave  # noqa: E402
from runs import SETTINGS, check_resume_everywhere, make_args, make_trainer, parameters  # noqa: E402
from stop_worker import stop_one_of_two  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from qwenlong_trl.checkpoints import newest_complete_checkpoint  # noqa: E402


class KillSelf(TrainerCallback):
    """SIGKILL in the middle of a step, after the rollouts and before the optimizer."""

    def __init__(self, step: int):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_while_saving(trainer, step: int) -> None:
    """SIGKILL in the middle of a save, after the model and before the rest."""
    save = trainer._save_optimizer_and_scheduler

    def cut(folder):
        if str(folder).endswith(f"checkpoint-{step}"):
            os.kill(os.getpid(), signal.SIGKILL)
        save(folder)

    trainer._save_optimizer_and_scheduler = cut


def train(folder: Path, kill_at: int | None = None, kill_at_save: int | None = None) -> None:
    """Trains from the newest complete checkpoint in the folder, or from the start."""
    trainer = make_trainer(make_args(folder, **SETTINGS["mask_long_windows"]))
    if kill_at is not None:
        trainer.add_callback(KillSelf(kill_at))
    if kill_at_save is not None:
        kill_while_saving(trainer, kill_at_save)
    last = newest_complete_checkpoint(folder)
    print("from", last and Path(last).name, flush=True)
    trainer.train(resume_from_checkpoint=True if last else None)
    torch.save(parameters(trainer), folder / "final.pt")


def exit_code(function: Callable[[], None]) -> int:
    """Runs a function in a child process, which need not import everything again, and returns how it ended."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def track(folder: Path) -> None:
    """Trains with trackio and prints what it has stored."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    settings = {"report_to": ["trackio"], "project": "test", "run_name": "one", "save_strategy": "no"}
    make_trainer(make_args(folder / "out", **settings)).train()
    metrics = sorted({name for entry in SQLiteStorage.get_logs("test", "one") for name in entry})
    (stored,) = trackio.Api().runs("test")
    print(json.dumps({"metrics": metrics, "phases": stored.config["phases"]}), flush=True)


def main(mode: str, folder: Path) -> None:
    if mode == "resume":
        counts = {}
        for name, save_steps in {"hard_zero": 1, "scored": 2, "mask_long_windows": 1, "resample": 2}.items():
            counts[name] = check_resume_everywhere(folder / name, SETTINGS[name] | {"save_steps": save_steps})
        print("resumed", counts)
        stop_one_of_two(folder / "stopped")
        leave()
    elif mode == "track":
        track(folder)
    else:
        codes = [exit_code(lambda: train(folder / "whole"))]
        # Before the first checkpoint, within a window, within a save, within a window of the second phase, not at all.
        for kills in ({"kill_at": 1}, {"kill_at": 4}, {"kill_at_save": 6}, {"kill_at": 7}, {}):
            codes.append(exit_code(lambda kills=kills: train(folder / "killed", **kills)))
        print("exit codes", codes, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
