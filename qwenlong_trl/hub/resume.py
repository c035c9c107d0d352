"""Training goes on from a checkpoint that a run has pushed, on another machine too.

A run with `push_to_hub=True, hub_strategy="checkpoint"` keeps its newest checkpoint in the folder `last-checkpoint` of
its repository, with optimizer, random states and, of a phased run, the state of the curriculum.

```python
>>> checkpoint = checkpoint_from_hub("me/my-reader", "out")
>>> trainer.train(resume_from_checkpoint=checkpoint)
```
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from huggingface_hub import snapshot_download

from ..checkpoints import missing_part
from .errors import explained
from .files import read_json


def checkpoint_from_hub(
    repo_id: str,
    output_dir: str | Path,
    revision: str | None = None,
    token: str | None = None,
    name: str = "last-checkpoint",
) -> str:
    """
    Downloads a checkpoint into `output_dir/checkpoint-<step>`, where `resume_from_checkpoint=True` finds it, too.

    Args:
        repo_id (`str`):
            The repository of the run.
        output_dir (`str` or `Path`):
            Of the run that is to go on.
        revision (`str`, *optional*):
            Branch or commit.
        token (`str`, *optional*):
            Of the Hub.
        name (`str`, *optional*, defaults to `"last-checkpoint"`):
            Folder in the repository; `"checkpoint-<step>"` with `hub_strategy="all_checkpoints"`.

    Returns:
        `str`: the folder.

    Raises:
        `ValueError`: the repository has no such checkpoint, or a part of it is missing.
        [`HubPushError`]: the Hub refused, or could not be reached.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".from-hub-") as folder:
        with explained(repo_id, "try again", published="Nothing was changed here"):
            snapshot_download(repo_id, revision=revision, token=token, allow_patterns=f"{name}/*", local_dir=folder)
        found = Path(folder) / name
        if not found.is_dir():
            raise ValueError(
                f"{repo_id} has no {name}: it is pushed by runs with hub_strategy='checkpoint' ('all_checkpoints' for "
                "checkpoint-<step>)"
            )
        missing = missing_part(found)
        if missing is not None:
            raise ValueError(
                f"{name} of {repo_id} was cut short while it was pushed: {missing} is not there or not whole"
            )
        step = read_json(found / "trainer_state.json", "the state of a trainer")["global_step"]
        target = output_dir / f"checkpoint-{step}"
        if target.exists():
            shutil.rmtree(target)
        found.rename(target)
    return str(target)
