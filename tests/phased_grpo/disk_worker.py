"""`disk_worker.py FOLDER tmpfs|limits`: the file system refuses to write a checkpoint; prints what remains."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import torch


sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from runs import make_args, make_trainer, parameters  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from qwenlong_trl import Phase  # noqa: E402
from qwenlong_trl.checkpoints import missing_part  # noqa: E402


PHASES = [Phase(max_prompt_length=8, max_steps=2), Phase(max_prompt_length=16, max_steps=2)]
SETTINGS = {"phases": PHASES, "retrospective": "weighted", "save_steps": 1, "save_total_limit": 1}


class AfterStep(TrainerCallback):
    """Calls a function when so many steps are done, before their checkpoint is written."""

    def __init__(self, step: int, function):
        self.step, self.function = step, function

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.function()


def fails(out: Path, refuse, allow) -> dict:
    """Trains until a checkpoint cannot be written; says which error there was and what remains, and trains on."""
    trainer = make_trainer(make_args(out, **SETTINGS))
    trainer.add_callback(AfterStep(3, refuse))
    error = None
    try:
        trainer.train()
    except OSError as caught:
        error = caught
    allow()
    checkpoints = {path.name: missing_part(path) for path in sorted(out.glob("checkpoint-*"))}
    left = [str(path.relative_to(out)) for path in out.rglob("*.tmp*")]
    resumed = make_trainer(make_args(out, **SETTINGS))
    resumed.train(resume_from_checkpoint=True)
    return {
        "error": str(error),
        "number": getattr(error, "errno", None),
        "cause": type(error.__cause__).__name__ if error else None,
        "checkpoints": checkpoints,
        "temporary": left,
        "windows after": len(resumed.batches),
        "equal": all(torch.equal(value, WHOLE[name]) for name, value in parameters(resumed).items()),
    }


def on_tmpfs(folder: Path) -> dict:
    """A file system of its own that fills up. Needs a mount namespace, as `unshare -rm` makes one."""
    out = folder / "small"
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out], check=True)

    def fill() -> None:
        free = shutil.disk_usage(out).free
        (out / "other").write_bytes(b"x" * (free - 2**16))  # room for the weights, not for the optimizer

    def room() -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", out], check=True)

    return fails(out, fill, room)


def with_limits(folder: Path) -> dict:
    """The system refuses files above a size: our own, those with the weights, the optimizer's."""
    found = {}
    for name in ("curriculum_state.json", "model.safetensors", "optimizer.pt"):
        limit = (folder / "whole" / "checkpoint-4" / name).stat().st_size // 2

        def set_limit(size: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        refuse, allow = (lambda limit=limit: set_limit(limit)), (lambda: set_limit(resource.RLIM_INFINITY))
        found[name] = fails(folder / name, refuse, allow)
    return found


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    whole = make_trainer(make_args(FOLDER / "whole", **SETTINGS))
    whole.train()
    WHOLE = parameters(whole)
    result = on_tmpfs(FOLDER) if sys.argv[2] == "tmpfs" else with_limits(FOLDER)
    print("RESULT " + json.dumps(result), flush=True)
