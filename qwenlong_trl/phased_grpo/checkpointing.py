"""How [`PhasedGRPOTrainer`] writes and reads its checkpoints: at ends of windows, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from transformers.utils import logging

from ..checkpoints import make_way, whole_or_nothing
from .resume import load_curriculum, save_curriculum


logger = logging.get_logger(__name__)


class CurriculumCheckpoints:
    """A part of [`PhasedGRPOTrainer`], which has the attributes that are used here."""

    def _save_checkpoint(self, model, trial):
        step = self.state.global_step
        if not self.plan.is_window_boundary(step):
            logger.warning(
                f"Step {step} is not saved: it lies within a generation window, whose completions a checkpoint does "
                "not hold. The next save is at the end of the window."
            )
            return
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{step}"
        with whole_or_nothing(folder, remove=self.args.should_save):
            # First our file, then the rest: `super()` also pushes the folder and deletes old ones.
            if self.args.should_save:
                make_way(folder, self.args.save_total_limit)
                save_curriculum(folder, self.curriculum, self._signature, self.args.world_size)
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        # The first process goes on to write `trainer_state.json`, which makes the checkpoint complete, and to delete
        # old ones. Not before all have written their part.
        self.accelerator.wait_for_everyone()

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            load_curriculum(checkpoint, self.curriculum, self._signature)
            # TRL counts micro-steps from zero, so a window of a resumed run could straddle two phases.
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
