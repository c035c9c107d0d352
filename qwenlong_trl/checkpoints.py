"""Checkpoints that were written to their end: which one a run goes on from, and what is done about the others.

```python
>>> trainer.train(resume_from_checkpoint=newest_complete_checkpoint("out"))  # anew if there is none
```
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


logger = logging.getLogger(__name__)

# What holds weights and optimizer in all the ways that they are sharded: a folder of DeepSpeed, folders of FSDP, XLA.
_WEIGHTS = ("*.safetensors", "pytorch_model*", "adapter_model*", "global_step*")
_OPTIMIZER = ("optimizer*", "global_step*", "rank*-of-*-optimizer.pt")
_OUR_STATE = "curriculum_state.json"  # PhasedGRPOTrainer writes it before the rest


def newest_complete_checkpoint(folder: str | Path, say: Callable[[str], None] = logger.warning) -> str | None:
    """
    The newest complete `checkpoint-<step>` of a folder, or `None`.

    Args:
        folder (`str` or `Path`):
            The `output_dir` of a run, which need not exist.
        say (`Callable[[str], None]`, *optional*):
            Told of each newer checkpoint that is passed over, and why. Logs a warning by default.
    """
    for path in _checkpoints(folder):
        missing = missing_part(path)
        if missing is None:
            return str(path)
        say(f"{path} was cut short while it was written: {missing} is not there or not whole; not resuming from it")
    return None


def missing_part(checkpoint: Path) -> str | None:
    """
    The name of a file that a checkpoint of [`~transformers.Trainer`] lacks, or `None` if it is complete.

    The first process writes `trainer_state.json` last, but it waits for no other (under [`PhasedGRPOTrainer`] it
    does): one random state for each process has to be there, too. How many there were is read from our own state;
    without it, the states have to be numbered from 0 without a gap, and at least two. A checkpoint of
    `save_only_model` has neither them nor an optimizer. Weights and optimizer are looked for as well: a kill while an
    old checkpoint is deleted leaves any part of it.
    """
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json"
    missing = _missing_weights(checkpoint)
    numbered = {path.name for path in checkpoint.glob("rng_state_*.pth")}
    alone = checkpoint / "rng_state.pth"
    optimizer = _any(checkpoint, *_OPTIMIZER)
    if missing or not (numbered or alone.exists() or optimizer):
        return missing
    if not optimizer:
        return "optimizer.pt"
    processes = _processes(checkpoint) or (max(2, len(numbered)) if numbered else 1)
    names = [alone.name] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    if (checkpoint / "optimizer.pt").exists():
        names += ["optimizer.pt", "scheduler.pt"]
    # The end of a zip archive, as PyTorch writes it, is its table of contents.
    return next((name for name in names if not zipfile.is_zipfile(checkpoint / name)), None)


def make_way(checkpoint: Path, save_total_limit: int | None = None) -> None:
    """
    Before a checkpoint is written: what an earlier run has left in its folder no longer passes for complete, and with
    a limit, folders that were cut short go. They would count, and a complete checkpoint would be deleted for them.
    """
    (checkpoint / "trainer_state.json").unlink(missing_ok=True)
    if save_total_limit:
        for path in _checkpoints(checkpoint.parent):
            if path != checkpoint and missing_part(path) is not None:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def whole_or_nothing(checkpoint: Path, remove: bool = True) -> Iterator[None]:
    """
    Around the writing of a checkpoint: if that fails, the part that was written is deleted.

    Args:
        checkpoint (`Path`):
            The folder.
        remove (`bool`, *optional*, defaults to `True`):
            Whether this process deletes, which one process on a machine does.

    Raises:
        `OSError`: where the file system failed, with the folder and what to do. Other errors are raised as they are.
    """
    try:
        yield
    except Exception as error:
        if missing_part(checkpoint) is None:
            raise  # it is written; what failed came after it
        free = shutil.disk_usage(checkpoint.parent).free if checkpoint.parent.is_dir() else 0  # before it is deleted
        if remove:
            shutil.rmtree(checkpoint, ignore_errors=True)
        if _error_number(error) is None:
            raise
        before = newest_complete_checkpoint(checkpoint.parent, lambda line: None)
        go_on = f"resume from {before}, which is whole" if before else "start anew: no checkpoint had been completed"
        raise OSError(
            _error_number(error),
            f"the checkpoint could not be written ({type(error).__name__}: {error}), and what there was of it has "
            f"been deleted. {free / 2**20:,.0f} MiB were free there. Make room, or set a smaller save_total_limit, "
            f"and {go_on}",
            str(checkpoint),
        ) from error


def _error_number(error: Exception) -> int | None:
    """`errno` of a failed write, also as safetensors (with it) and PyTorch (without) tell it; `None` for others."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return int(number[1])
    return errno.EIO if "inline_container" in str(error) or "iostream error" in str(error) else None


def _checkpoints(folder: str | Path) -> list[Path]:
    """All folders `checkpoint-<step>`, the newest first."""
    found = [p for p in Path(folder).glob("checkpoint-*") if p.is_dir() and p.name.split("-")[-1].isdigit()]
    return sorted(found, key=lambda p: int(p.name.split("-")[-1]), reverse=True)


def _any(folder: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _missing_weights(checkpoint: Path) -> str | None:
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (checkpoint / name).exists():
            try:
                files = set(json.loads((checkpoint / name).read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError):
                return name
            return next((file for file in sorted(files) if not (checkpoint / file).exists()), None)
    return None if _any(checkpoint, *_WEIGHTS) else "model.safetensors"


def _processes(checkpoint: Path) -> int | None:
    """How many processes wrote a checkpoint, where our own state tells."""
    try:
        return json.loads((checkpoint / _OUR_STATE).read_text(encoding="utf-8")).get("processes")
    except (OSError, ValueError):
        return None
