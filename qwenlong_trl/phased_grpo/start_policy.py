"""KL divergence from the policy that training started with, also where the loss has no KL term."""

from __future__ import annotations

import copy

import torch
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from .curriculum import Curriculum
from .metrics import bucket_name


class StartPolicy:
    """
    Scores rollouts under the policy and under the start. With PEFT the start is the base model; otherwise it is TRL's
    reference model where there is one (`beta` > 0), else a frozen copy made here.

    Args:
        trainer ([`PhasedGRPOTrainer`]):
            The trainer, built but not yet training.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.model = trainer.ref_model
        self.peft = hasattr(trainer.model, "peft_config")
        if self.model is None and not self.peft:
            if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
                raise ValueError(
                    "log_kl_to_start cannot copy a model that DeepSpeed or FSDP will shard. Use a small `beta`, which "
                    "makes TRL load a sharded reference model, or PEFT."
                )
            self.model = copy.deepcopy(trainer.model).eval().requires_grad_(False)

    @torch.no_grad()
    def measure(self, output: dict[str, torch.Tensor], rows: list[int], curriculum: Curriculum) -> dict[str, float]:
        """
        Token means over all processes of `kl_to_start` (the k3 estimator: exp(d) - d - 1 with d = start - policy
        log-prob) and of the entropy, the latter two per length bucket.

        Args:
            output (`dict[str, Tensor]`):
                This process's rollouts.
            rows (`list[int]`):
                Row of the training set of every rollout of all processes.
        """
        trainer = self.trainer
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        attention = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        kept = output["completion_ids"].size(1)
        size = trainer.args.per_device_train_batch_size

        def log_probs(model, **kwargs):
            return trainer._get_per_token_logps_and_entropies(model, ids, attention, kept, batch_size=size, **kwargs)

        with disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
            policy, entropies, _ = log_probs(trainer.model, compute_entropy=True)  # (R, C) each
            if self.peft:
                model = trainer.accelerator.unwrap_model(trainer.model)
                with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
                    start, _, _ = log_probs(trainer.model)
            else:
                start, _, _ = log_probs(self.model)
        difference = start - policy
        divergence = torch.exp(difference) - difference - 1
        mask = output["completion_mask"]

        here = trainer.accelerator.process_index * mask.size(0)
        buckets = sorted({bucket_name(curriculum, row) for row in rows})
        own = [bucket_name(curriculum, row) for row in rows[here : here + mask.size(0)]]
        sums = torch.zeros(len(buckets), 3, dtype=torch.float64, device=mask.device)  # KL, entropy, tokens
        for i, name in enumerate(own):
            row = (divergence[i] * mask[i]).sum(), (entropies[i] * mask[i]).sum(), mask[i].sum()
            sums[buckets.index(name)] += torch.stack([value.double() for value in row])
        sums = trainer.accelerator.reduce(sums, reduction="sum")
        measured = {}
        for name, (kl, entropy, tokens) in zip(buckets, sums.tolist(), strict=True):
            if tokens:
                measured[f"curriculum/{name}/kl_to_start"] = kl / tokens
                measured[f"curriculum/{name}/entropy"] = entropy / tokens
        total = sums.sum(dim=0).tolist()
        measured["kl_to_start"] = total[0] / max(total[2], 1)
        return measured
