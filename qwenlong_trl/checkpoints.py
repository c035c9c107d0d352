"""Which checkpoint a run that was killed goes on from: the newest that was written to its end.

```python
>>> trainer.train(resume_from_checkpoint=newest_complete_checkpoint("out"))  # anew if there is none
```
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path


logger = logging.getLogger(__name__)

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
    found = [p for p in Path(folder).glob("checkpoint-*") if p.is_dir() and p.name.split("-")[-1].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.split("-")[-1]), reverse=True):
        missing = missing_part(path)
        if missing is None:
            return str(path)
        say(f"{path} was cut short while it was written: {missing} is not there or not whole; not resuming from it")
    return None


def missing_part(checkpoint: Path) -> str | None:
    """
    The name of a file that a checkpoint of [`~transformers.Trainer`] lacks, or `None` if it is complete.

    The first process writes `trainer_state.json` last, but it waits for no other: one random state for each process
    has to be there, too. How many there were is read from our own state; without it, the states have to be numbered
    from 0 without a gap, and at least two. A checkpoint of `save_only_model` has neither them nor an optimizer.
    """
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json"
    numbered = {path.name for path in checkpoint.glob("rng_state_*.pth")}
    alone = checkpoint / "rng_state.pth"
    if not numbered and not alone.exists() and not (checkpoint / "optimizer.pt").exists():
        return None
    processes = _processes(checkpoint) or (max(2, len(numbered)) if numbered else 1)
    names = [alone.name] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    # The end of a zip archive, as PyTorch writes it, is its table of contents.
    return next((name for name in names if not zipfile.is_zipfile(checkpoint / name)), None)


def _processes(checkpoint: Path) -> int | None:
    """How many processes wrote a checkpoint, where our own state tells."""
    try:
        return json.loads((checkpoint / _OUR_STATE).read_text(encoding="utf-8")).get("processes")
    except (OSError, ValueError):
        return None
