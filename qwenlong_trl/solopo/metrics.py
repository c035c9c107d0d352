"""Means over the rows or tokens of a batch on all processes, with one reduction for all of them."""

from __future__ import annotations

import torch

from .reference import Answers


class Means:
    """Sums and counts by name, in the order in which they were added."""

    def __init__(self):
        self._sums: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, name: str, values: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        """Adds `values`, or those of them where `mask` (of the same shape) is not zero."""
        values = values.detach().float()
        if mask is None:
            mask = torch.ones_like(values)
        self._sums[name] = ((values * mask).sum(), mask.sum().float())

    def reduce(self, accelerator) -> dict[str, float]:
        """The mean of each name over all processes; 0 where nothing was counted."""
        stacked = torch.stack([torch.stack(pair) for pair in self._sums.values()])  # (names, 2)
        sums, counts = accelerator.reduce(stacked, reduction="sum").unbind(dim=1)
        return dict(zip(self._sums, (sums / counts.clamp(min=1)).tolist(), strict=True))


def add_pair_metrics(
    means: Means, pair: Answers, chosen_rewards: torch.Tensor, rejected_rewards: torch.Tensor
) -> None:
    """The metrics of [`~trl.DPOTrainer`], under its names."""
    tokens = pair.mask.size(1)
    entropy, logits, top1 = (
        getattr(pair.outputs, name)[:, -tokens:] for name in ("entropy", "mean_logits", "is_top1")
    )
    half = len(pair.mask) // 2
    means.add("entropy", entropy, pair.mask)
    means.add("logits/chosen", logits[:half], pair.mask[:half])
    means.add("logits/rejected", logits[half:], pair.mask[half:])
    means.add("mean_token_accuracy", top1[:half], pair.mask[:half])
    means.add("rewards/chosen", chosen_rewards)
    means.add("rewards/rejected", rejected_rewards)
    means.add("rewards/accuracies", chosen_rewards > rejected_rewards)
    means.add("rewards/margins", chosen_rewards - rejected_rewards)
    means.add("logps/chosen", pair.logps[:half])
    means.add("logps/rejected", pair.logps[half:])
