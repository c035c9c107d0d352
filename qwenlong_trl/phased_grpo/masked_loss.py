"""What the loss of a micro-batch needs besides, where dynamic sampling has taken groups out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import torch

from .dynamic_sampling import loss_tokens


# Means over the tokens or rows of a micro-batch; TRL makes them 0 where none is left.
_MEANS = ("entropy", "kl", "cispo_clip_ratio", "vespo/phi_seq_mean")


@contextmanager
def masked_loss(trainer, inputs: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """
    Within it, TRL's `_compute_loss` is right for a micro-batch with masked groups, and so are the metrics that it
    appends.

    - Where a loss averages over rows, `mask_rows` scales the advantages up; the KL term follows by `kl_scale`.
    - A micro-batch without a live token, on any process, has no entropy and no clip ratio: they become NaN, which
      `log` leaves out of the average. (Where TRL averages ratios of whole sequences, a masked row beside a live one
      still counts there, as one that is not clipped.)
    """
    beta = trainer.beta
    trainer.beta = beta * inputs.get("kl_scale", 1.0)
    try:
        yield
    finally:
        trainer.beta = beta
    # All processes ask, or none does.
    if trainer.args.dynamic_sampling != "off" and trainer.model.training:
        if trainer.accelerator.reduce(loss_tokens(inputs), reduction="sum") == 0:
            forget_last(trainer._metrics["train"])


def forget_last(metrics: MutableMapping[str, list[float]]) -> None:
    """Makes the last value of every mean over a micro-batch NaN."""
    for name, values in metrics.items():
        if values and (name in _MEANS or name.startswith("clip_ratio/")):
            values[-1] = math.nan
