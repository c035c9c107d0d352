"""Configuration of [`LongSFTTrainer`]: everything of [`~trl.SFTConfig`], and how the loss is averaged.

```python
>>> from qwenlong_trl.sft import LongSFTConfig
>>> args = LongSFTConfig(output_dir="out", max_length=30_000, learning_rate=5e-6, num_train_epochs=3)
```
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import SFTConfig


LOSS_AGGREGATIONS = ("sequence", "token")


@dataclass
class LongSFTConfig(SFTConfig):
    # docstyle-ignore
    r"""
    Configuration class for the [`LongSFTTrainer`].

    This class includes only the parameters that are specific to it. For the others, see the [`~trl.SFTConfig`]
    documentation.

    Parameters:
        loss_aggregation (`str`, *optional*, defaults to `"sequence"`):
            `"sequence"`: the mean negative log-likelihood of each example's completion, averaged over the examples of
            an optimizer step (QwenLong-L1, arXiv 2505.17667, Eq. 11), so that a long answer weighs as much as a short
            one. `"token"`: the mean over all tokens of the step, as [`~trl.SFTTrainer`] does it.
        max_length (`int`, *optional*):
            Longest row to train on, in tokens of prompt and completion. Longer rows are dropped and counted; they are
            never truncated, since that would cut off the question or the answer. Defaults to no limit.

    Raises:
        `ValueError`: for a combination in which the mean over sequences would not be exact.
    """

    loss_aggregation: str = field(
        default="sequence",
        metadata={
            "help": "'sequence': mean over the tokens of each example, then over examples. 'token': mean over all "
            "tokens, as in TRL.",
            "choices": LOSS_AGGREGATIONS,
        },
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "Rows with more tokens (prompt and completion) are dropped and counted. No limit if unset."},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.loss_aggregation not in LOSS_AGGREGATIONS:
            raise ValueError(f"`loss_aggregation` must be one of {LOSS_AGGREGATIONS}, got {self.loss_aggregation!r}")
        if self.loss_aggregation == "token":
            return
        reason = None
        if (self.packing or self.eval_packing) and self.packing_strategy != "bfd":
            reason = f"packing_strategy={self.packing_strategy!r} cuts examples into pieces; use 'bfd'"
        elif self.loss_type != "nll":
            reason = f"loss_type={self.loss_type!r} is not a negative log-likelihood; use 'nll'"
        elif self.label_smoothing_factor > 0:
            reason = "label_smoothing_factor is averaged over tokens; set it to 0"
        elif not self.average_tokens_across_devices:
            reason = "average_tokens_across_devices=False averages each process by itself; leave it at True"
        if reason is not None:
            raise ValueError(f"loss_aggregation='sequence' is not exact here: {reason}, or use 'token'.")
