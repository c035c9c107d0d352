"""What our trainers have in common with the Hub: cards of what they did, pushes that say what went wrong.

```python
class MyTrainer(HubCards, GRPOTrainer): ...
```
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.utils import logging

from .errors import explained


logger = logging.get_logger(__name__)


class HubCards:
    """A part of trainers; their class goes before [`~transformers.Trainer`]."""

    _card_template: str
    _card_arguments: tuple[str, ...] = ()
    _paper: Mapping[str, str] = {}
    _tag_names: list[str] = []

    def _run_details(self) -> dict[str, Any]:
        """What only this trainer knows of its run, for `qwenlong_run.json`."""
        return {}

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
        license: str | None = None,
        language: str | list[str] | None = None,
    ) -> None:
        """
        Writes the card of the model into `output_dir`, and beside it what it is made of: `qwenlong_run.json` and the
        log. Results that lie in `output_dir/evaluation` are in it, see [`~qwenlong_trl.hub.write_measurements`].

        Args:
            model_name (`str`, *optional*):
                Name of the model.
            dataset_name (`str`, *optional*):
                Name of the data on the Hub.
            tags (`str` or `list[str]`, *optional*):
                More tags.
            license (`str`, *optional*):
                As the Hub calls it.
            language (`str` or `list[str]`, *optional*):
                ISO codes.
        """
        if not self.is_world_process_zero():
            return
        from .cards import write_card
        from .run_file import describe_run, write_run

        folder = write_run(self, describe_run(self, dataset_name, self._run_details()))
        write_card(
            folder,
            name=model_name,
            tags=[tags] if isinstance(tags, str) else list(tags or ()),
            license=license,
            language=language,
            repo_id=self.hub_model_id or self.args.hub_model_id,
        )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in [`~transformers.Trainer`]; the branch `hub_revision` is made, too: no push succeeds without."""
        if not self.is_world_process_zero():
            return
        with explained(self.args.hub_model_id, "start again"):
            super().init_hf_repo(token=token, private=private)
            revision = self.args.hub_revision
            if revision not in (None, "main") and not revision.startswith("refs/"):
                api = HfApi(token=token or self.args.hub_token)
                api.create_branch(self.hub_model_id, branch=revision, exist_ok=True)

    def push_to_hub(self, *args, **kwargs):
        """As in [`~transformers.Trainer`]; where it fails, the model is whole in `output_dir`, and the error says how
        to push it from there."""
        folder = self.args.output_dir
        command = f"qwenlong-trl hub push {folder} --repo_id {self.hub_model_id or self.args.hub_model_id or 'NAME'}"
        with explained(self.hub_model_id, f"push {folder}, where the model is saved, with `{command}`"):
            return super().push_to_hub(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.save_total_limit:
            self._finish_current_push()  # it may be of a checkpoint that is deleted when this one is there
        else:
            self._report_failed_push()
        if self.is_world_process_zero():
            # transformers copies configuration and weights; a model that brings code needs that as well.
            for path in Path(checkpoint_folder).glob("*.py"):
                shutil.copy(path, os.path.join(self.args.output_dir, path.name))
        super()._push_from_checkpoint(checkpoint_folder)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._report_failed_push()

    def _report_failed_push(self) -> None:
        """Pushes during a training run beside it; transformers drops their errors."""
        push = getattr(self, "push_in_progress", None)
        for job in [] if push is None else push.jobs:
            error = job.exception() if job.done() and not job.cancelled() else None
            if error is not None:
                try:
                    with explained(self.hub_model_id, "wait for the next save, which pushes again"):
                        raise error
                except Exception as told:
                    logger.warning(f"A push during the training failed, and the training goes on: {told}")
                self.push_in_progress = None
