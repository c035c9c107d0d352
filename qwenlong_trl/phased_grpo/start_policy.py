"""KL divergence from the policy that training started with, also where the loss has no KL term."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import is_peft_model
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from .curriculum import Curriculum
from .metrics import bucket_name


def adds_zero(model) -> bool:
    """Whether the adapter is LoRA as it begins: every B is zero, so that the model is the base model."""
    matrices = [value for name, value in model.named_parameters() if ".lora_B." in name]
    return bool(matrices) and not any(value.any() for value in matrices)


class StartPolicy:
    """
    Scores rollouts under the policy and under the start, both without dropout. The start is

    - TRL's reference where that is the start: its model or, with PEFT, its adapter `ref` (`beta` > 0);
    - with a new LoRA adapter, which adds zero, the base model;
    - with any other adapter, a frozen copy of its weights, which takes their place while the start is scored. It is
      no part of the model, so nothing of it is saved, and a resumed run has it from the model that it is given;
    - else a frozen copy of the model.

    Args:
        trainer ([`PhasedGRPOTrainer`]):
            The trainer, built but not yet training.

    Raises:
        `ValueError`: if DeepSpeed or FSDP will shard what has to be copied.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.model = trainer.ref_model
        self.peft = is_peft_model(trainer.model)
        self.adapter: list[tuple[torch.nn.Parameter, torch.Tensor]] = []  # weights of the policy and of the start
        sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        if self.peft and not ("ref" in trainer.model.peft_config or adds_zero(trainer.model)):
            if sharded:
                raise ValueError(
                    "log_kl_to_start cannot copy a trained adapter that DeepSpeed or FSDP will shard. Use a small "
                    "`beta`, which makes TRL keep a reference adapter, or merge the adapter into the model."
                )
            self.adapter = [(p, p.detach().clone()) for p in trainer.model.parameters() if p.requires_grad]
        elif self.model is None and not self.peft:
            if sharded:
                raise ValueError(
                    "log_kl_to_start cannot copy a model that DeepSpeed or FSDP will shard. Use a small `beta`, which "
                    "makes TRL load a sharded reference model, or PEFT."
                )
            self.model = copy.deepcopy(trainer.model).eval().requires_grad_(False)

    @contextmanager
    def _start(self) -> Iterator[None]:
        """Makes a model with an adapter the start."""
        if self.adapter:
            self._exchange()
            try:
                yield
            finally:
                self._exchange()
        elif self.peft:
            model = self.trainer.accelerator.unwrap_model(self.trainer.model)
            with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
                yield
        else:
            yield

    def _exchange(self) -> None:
        for parameter, other in self.adapter:
            parameter.data, other.data = other.data, parameter.data

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

        training = trainer.model.training
        trainer.model.eval()
        with disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
            policy, entropies, _ = log_probs(trainer.model, compute_entropy=True)  # (R, C) each
            with self._start():
                start, _, _ = log_probs(trainer.model if self.peft else self.model)
        trainer.model.train(training)
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
