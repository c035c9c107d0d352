"""Liger's kernels for layers, and its chunked GRPO loss.

`use_liger_kernel=True` is transformers' option, and reaches every trainer here. Where Liger has no kernels for an
architecture, transformers says so in a line of the log that nobody sees, and trains on; here it is an error.

Liger's chunked GRPO loss is `use_liger_loss=True` of [`PhasedGRPOConfig`], for comparisons. TRL has had no such option
since 1.16, as its own fused LM head never builds logits either, logs entropies, works on several processes and, here,
with shared prefixes; Liger's does none of these. In a trainer of TRL:

```python
>>> class Trainer(GRPOTrainer):
...     def _compute_loss(self, model, inputs):
...         return liger_grpo_loss(self, model, inputs)
```

For SoLoPO there is nothing of the kind. Liger's preference losses return log-probabilities without gradient, and the
alignment needs the gradient of those on the short prompt: it would take a second projection of the same answers, which
is what a fused loss is there to avoid.
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import torch
from transformers import TrainerCallback


# Kernels that compute a loss of their own instead of the trainer's.
_LOSSES = ("cross_entropy", "fused_linear_cross_entropy")


def liger_modules(model: torch.nn.Module) -> list[str]:
    """Names of the modules of a model that run a kernel of Liger's."""
    found = []
    for name, module in model.named_modules():
        forward = inspect.unwrap(getattr(module.__dict__.get("forward"), "__func__", type(module).forward))
        if forward.__module__.startswith("liger_kernel"):
            found.append(name)
    return found


class LigerCheck(TrainerCallback):
    """
    Stops a training that asks for Liger and did not get it.

    Raises:
        `ValueError`: if `use_liger_kernel=True` left every layer of the model as it was, though `liger_kernel_config`
        did not ask for that.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        config = args.liger_kernel_config or {}
        if not args.use_liger_kernel or not (config.get("rms_norm", True) or config.get("swiglu", True)):
            return
        if not liger_modules(model):
            raise ValueError(
                f"use_liger_kernel=True changed no layer of {type(model).__name__}: Liger has no kernels for "
                f"{model.config.model_type!r}. Leave it out."
            )


def patch_critic(critic: torch.nn.Module, liger_kernel_config: dict | None) -> None:
    """
    Liger's kernels for the layers of a [`CPRSForTokenCritic`], which are those of its backbone; transformers knows
    kernels by the type of the whole model alone.

    Args:
        critic ([`CPRSForTokenCritic`]):
            Patched in place.
        liger_kernel_config (`dict`, *optional*):
            As for transformers.

    Raises:
        `ImportError`: without `liger-kernel`.
        `ValueError`: if the configuration asks for one of Liger's losses.
    """
    try:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    except ImportError as error:
        raise ImportError("use_liger_kernel=True needs Liger: pip install 'qwenlong-trl[liger]'") from error
    config = liger_kernel_config or {}
    losses = [name for name in _LOSSES if config.get(name)]
    if losses:
        raise ValueError(f"`liger_kernel_config` asks for {', '.join(losses)}, but a critic has losses of its own")
    apply = MODEL_TYPE_TO_APPLY_LIGER_FN[critic.config.backbone_type]
    known = inspect.signature(apply).parameters
    options = config | dict.fromkeys(_LOSSES, False)
    apply(model=critic, **{name: value for name, value in options.items() if name in known})


def check_liger_loss(trainer) -> None:
    """
    Refuses a [`~trl.GRPOTrainer`] that [`liger_grpo_loss`] has no loss for.

    Raises:
        `ImportError`: without `liger-kernel`.
        `ValueError`: on several processes, whose gradients are averaged by a forward pass of the whole model, which
        that loss is not; and for parts of TRL's loss that Liger's has not.
    """
    if trainer.accelerator.num_processes > 1:
        raise ValueError("Liger's GRPO loss runs on one process: leave the loss to TRL on several")
    without = {
        f"loss_type={trainer.loss_type!r}": trainer.loss_type in ("sapo", "vespo"),
        "top_entropy_quantile": trainer.top_entropy_quantile < 1,
        "entropy_coef": trainer._entropy_bonus_enabled,
        "off_policy_mask_threshold": trainer.off_policy_mask_threshold is not None,
        "router_aux_loss_coef": trainer.aux_loss_enabled,
    }
    if any(without.values()):
        names = ", ".join(name for name, used in without.items() if used)
        raise ValueError(f"Liger's GRPO loss knows nothing of {names}: leave the loss to TRL")
    if not find_spec("liger_kernel"):
        raise ImportError("Liger's GRPO loss needs Liger: pip install 'qwenlong-trl[liger]'")


def liger_grpo_loss(trainer, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
    """
    The loss of [`~trl.GRPOTrainer`] for a micro-batch, by Liger's chunked loss.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Whose settings it has.
        model ([`~transformers.PreTrainedModel`]):
            The policy.
        inputs (`dict`):
            What TRL's `_compute_loss` gets.

    Raises:
        `ImportError`, `ValueError`: as [`check_liger_loss`].
    """
    check_liger_loss(trainer)
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    args = trainer.args
    ids, mask = inputs["completion_ids"], inputs["completion_mask"]
    with trainer.accelerator.autocast():
        states = model.base_model(
            input_ids=torch.cat([inputs["prompt_ids"], ids], dim=1),
            attention_mask=torch.cat([inputs["prompt_mask"], mask], dim=1),
            use_cache=False,
        ).last_hidden_state[:, -ids.size(1) - 1 : -1]
    accumulation = trainer.current_gradient_accumulation_steps if trainer.model.training else 1
    by_token = trainer.loss_type in ("cispo", "dapo")
    items = inputs.get("num_items_in_batch")
    if by_token and trainer.model.training:  # TRL's count spans a generation batch
        items = items.clamp(min=1.0) * accumulation / args.steps_per_generation
    compute = LigerFusedLinearGRPOLoss(
        beta=trainer.beta,
        compiled=states.is_cuda,
        use_ref_model=trainer.beta != 0,
        epsilon_low=trainer.epsilon_low,
        epsilon_high=trainer.epsilon_high,
        loss_type=trainer.loss_type,
        max_completion_length=trainer.max_completion_length,
        importance_sampling_level=trainer.importance_sampling_level,
        temperature=trainer.temperature,
        delta=args.delta,
        use_bias_correction_kl=args.use_bias_correction_kl,
    )
    head = model.get_output_embeddings()
    loss, _ = compute(
        states,
        head.weight,
        ids,
        mask * inputs["tool_mask"] if "tool_mask" in inputs else mask,  # also of groups that are masked as a whole
        inputs["advantages"],
        bias=head.bias,
        ref_per_token_logps=inputs.get("ref_per_token_logps"),
        old_per_token_logps=inputs.get("old_per_token_logps"),
        vllm_is_ratio=inputs.get("importance_sampling_ratio"),
        num_items_in_batch=items,
    )
    return loss if by_token else loss / accumulation
