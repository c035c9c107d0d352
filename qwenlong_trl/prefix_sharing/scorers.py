"""What scores in the place of each model of a trainer: one that computes equal prompts once, where that is exact."""

from __future__ import annotations

import torch
from transformers.utils import logging
from trl.models.utils import disable_gradient_checkpointing

from .exactness import why_not_scoring
from .forward import SharedPrefixForward


logger = logging.get_logger(__name__)


class Scorers:
    """
    Decides once for each model, when it scores for the first time, and says so in the log.

    Every process decides by itself, but all of them make the same forward passes to find out, so that models which are
    sharded among them can be asked, too.

    Args:
        trainer ([`~trl.GRPOTrainer`] or [`~trl.DPOTrainer`]):
            Whose models these are. `args.prefix_sharing` switches it off.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self._scorers: dict[torch.nn.Module, SharedPrefixForward | None] = {}

    def __call__(self, model: torch.nn.Module) -> torch.nn.Module | SharedPrefixForward:
        """What to call instead of `model`, or `model` itself."""
        if not getattr(self.trainer.args, "prefix_sharing", True):
            return model
        if model not in self._scorers:
            reason = self._why_not(model)
            which = "the reference model" if model is self.trainer.ref_model else "the model"
            if reason is None:
                logger.info(f"Prefix sharing is on for {which}.")
            else:
                logger.warning(
                    f"Prefix sharing is off for {which}: {reason}. Its prompts are computed once per completion, as "
                    "TRL does it."
                )
            self._scorers[model] = SharedPrefixForward(model) if reason is None else None
        return self._scorers[model] or model

    def _why_not(self, model: torch.nn.Module) -> str | None:
        trainer = self.trainer
        if trainer._is_vlm:
            return "it takes images"
        if trainer.aux_loss_enabled:
            return "its load-balancing loss counts a prompt as often as it is computed (set router_aux_loss_coef=0)"
        if trainer.args.torch_compile:
            return "it is compiled, which every new layout of a batch would do again"
        with (
            torch.no_grad(),
            disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs),
            trainer.accelerator.autocast(),
        ):
            return why_not_scoring(model)
