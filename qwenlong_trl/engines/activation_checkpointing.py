"""Lets `every_n_layers` and `offload` of activation checkpointing be used with GRPO and DPO.

- Versions: trl 1.16 with transformers from where it has the two keys (after 5.17) to 5.x.
- Reason: `Trainer.train` takes the two keys out of `activation_checkpointing_kwargs` before it switches checkpointing
  on, since they are no arguments of `torch.utils.checkpoint.checkpoint`. TRL switches checkpointing off for generation
  and for passes without gradient (`unwrap_model_for_generation`, `disable_gradient_checkpointing` in
  `trl/models/utils.py`), and on again with the whole dictionary. The next forward with gradients then ends in
  `ValueError: Unexpected keyword arguments`.
- Delete it when `tests/contract/test_activation_checkpointing_upstream.py` fails.
"""

from __future__ import annotations

import types
from importlib.metadata import version

from packaging.version import Version
from torch import nn
from transformers import PreTrainedModel, TrainingArguments


_NOT_FOR_TORCH = ("every_n_layers", "offload")


def needed() -> bool:
    """Whether the installed versions have the defect."""
    trl, transformers = Version(version("trl")), Version(version("transformers"))
    has_keys = hasattr(PreTrainedModel, "_activation_checkpointing_enable")
    return trl.release[:2] == (1, 16) and has_keys and transformers < Version("6")


def fix_activation_checkpointing(model: nn.Module, args: TrainingArguments) -> None:
    """
    Makes a model take the two keys wherever checkpointing is switched on. Does nothing for other keys and for versions
    without the defect. [`PhasedGRPOTrainer`] and [`SoLoPOTrainer`] call it; for a trainer of TRL, call it once the
    trainer is made:

    ```python
    >>> trainer = GRPOTrainer(..., args=GRPOConfig(..., activation_checkpointing_kwargs={"every_n_layers": 2}))
    >>> fix_activation_checkpointing(trainer.model, trainer.args)
    >>> trainer.train()
    ```

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The model that is trained.
        args ([`~transformers.TrainingArguments`]):
            Of which `activation_checkpointing_kwargs` count. `every_n_layers` checkpoints every n-th layer, `offload`
            holds what is saved for the backward pass in pinned memory of the host, which needs an accelerator.
    """
    kwargs = getattr(args, "activation_checkpointing_kwargs", None)  # older transformers have other names, and no keys
    if not (needed() and set(kwargs or {}) & set(_NOT_FOR_TORCH)):
        return
    if hasattr(model, "get_base_model"):  # PEFT passes the call on
        model = model.get_base_model()
    # An override on the instance: transformers calls it from `activation_checkpointing_enable`, too.
    model.gradient_checkpointing_enable = types.MethodType(_enable, model)


def _enable(self, gradient_checkpointing_kwargs=None, every_n_layers=1, offload=False):
    kwargs = dict(gradient_checkpointing_kwargs or {})
    every_n_layers = kwargs.pop("every_n_layers", every_n_layers)
    offload = kwargs.pop("offload", offload)
    # `None`, not an empty dictionary: with it alone transformers chooses checkpointing without re-entrance.
    self._activation_checkpointing_enable(kwargs or None, every_n_layers, offload)
