"""Supervised fine-tuning with the mean over examples, for the warm-up before phased RL.

Paper: QwenLong-L1 (arXiv 2505.17667), section 2.3, Eq. 11: the negative log-likelihood of an example is divided by
the length of its completion before examples are averaged. TRL averages over all tokens, so that an example with ten
times the tokens weighs ten times as much.

```python
>>> trainer = LongSFTTrainer(model="Qwen/Qwen3-4B", args=LongSFTConfig("out"), train_dataset=prompts_and_completions)
>>> trainer.train()
```
"""

from __future__ import annotations

from copy import copy

import torch
from datasets import Dataset
from transformers.utils import logging
from trl import SFTTrainer

from ..engines.liger import LigerCheck
from ..hub.trainer import HubCards
from ..phased_grpo.paper import PAPER
from .config import LongSFTConfig


logger = logging.get_logger(__name__)


class LongSFTTrainer(HubCards, SFTTrainer):
    """
    [`~trl.SFTTrainer`] whose loss is the mean over examples of their mean negative log-likelihood, and which drops
    rows that are too long instead of truncating them. Every argument is the same there.

    The loss is exact for unequal lengths: it depends neither on how the examples of an optimizer step are split into
    micro-batches nor on how they are spread over processes.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The model to train.
        args ([`LongSFTConfig`]):
            The configuration.

    Raises:
        `ValueError`: if `max_length` leaves no row of a data set, or for sequence or context parallelism, where no
        process sees a whole example.
    """

    _tag_names = ["trl", "sft", "qwenlong-trl"]
    _paper = PAPER
    _card_template = "long_sft"
    _card_arguments = ("loss_aggregation", "max_length", "packing", "completion_only_loss", "assistant_only_loss")

    def __init__(self, model, args=None, **kwargs):
        if not isinstance(args, LongSFTConfig):
            raise TypeError(f"LongSFTTrainer needs `args` to be a LongSFTConfig, got {type(args).__name__}")
        if args.loss_aggregation == "sequence" and kwargs.get("compute_loss_func") is not None:
            raise ValueError("`compute_loss_func` replaces the loss; use it with loss_aggregation='token'")
        super().__init__(model, args=args, **kwargs)
        self.add_callback(LigerCheck)
        if args.loss_aggregation == "sequence":
            parallelism = self.accelerator.parallelism_config
            if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled):
                raise ValueError(
                    "loss_aggregation='sequence' divides by the length of each example, which no process sees under "
                    "context or sequence parallelism. Turn it off, or use loss_aggregation='token'."
                )
            # Count the examples of a step for every architecture, not only for those whose forward takes the count.
            self.model_accepts_loss_kwargs = True

    # ---- data -------------------------------------------------------------------------------------------------------

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        whole = copy(args)
        whole.max_length, whole.shuffle_dataset = None, False
        dataset = super()._prepare_dataset(dataset, processing_class, whole, False, formatting_func, dataset_name)
        if args.max_length is not None:
            dataset = _drop_long_rows(dataset, args, dataset_name)
        # The rows are tokenised now: what remains is packing and shuffling. Nothing is left to truncate.
        return super()._prepare_dataset(dataset, processing_class, args, packing, None, dataset_name)

    # ---- loss -------------------------------------------------------------------------------------------------------

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.args.loss_aggregation == "token":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        def weighted(**kwargs):
            outputs = model(**kwargs)
            if kwargs.get("fused_lm_head"):  # TRL sums these log-probabilities and divides by `num_items_in_batch`
                weights, sequences = sequence_weights(outputs.label_mask, _restarts(inputs))
                if num_items_in_batch is None:  # evaluation, where TRL divides by the number of labels instead
                    weights = weights * outputs.label_mask.sum() / max(sequences, 1)
                outputs.log_probs = outputs.log_probs * weights
            return outputs

        return super().compute_loss(weighted, inputs, return_outputs, num_items_in_batch)

    def _get_num_items_in_batch(self, batch_samples, device):
        """The number of examples of an optimizer step, over all micro-batches and processes, instead of tokens."""
        if self.args.loss_aggregation == "sequence":
            batch_samples = [{"labels": _one_label_per_sequence(batch)} for batch in batch_samples]
        return super()._get_num_items_in_batch(batch_samples, device)


def sequence_weights(label_mask: torch.Tensor, restarts: torch.Tensor | None = None) -> tuple[torch.Tensor, int]:
    """
    The weight of each label in a mean over sequences: one over the number of labels of its sequence.

    Args:
        label_mask (`torch.Tensor` of shape `(batch_size, seq_len - 1)`):
            Which next tokens are trained on.
        restarts (`torch.Tensor` of shape `(batch_size, seq_len)`, *optional*):
            Where a sequence begins, for rows that hold several. By default a row is one sequence.

    Returns:
        `tuple[torch.Tensor, int]`: weights of the shape of `label_mask`, zero where it is `False`, that sum to the
        number of sequences with labels; and that number.
    """
    if restarts is None:
        sequence = torch.arange(len(label_mask), device=label_mask.device)[:, None].expand_as(label_mask)
    else:
        sequence = (restarts.flatten().cumsum(0) - 1).view_as(restarts)[:, 1:]
    labels = torch.bincount(sequence[label_mask], minlength=1)  # (sequences,)
    weights = torch.where(label_mask, 1 / labels.clamp(min=1)[sequence.clamp(max=len(labels) - 1)], 0)
    return weights, int((labels > 0).sum())


def _restarts(inputs) -> torch.Tensor | None:
    """Where sequences begin in a batch without padding, `None` for a padded one."""
    return None if "attention_mask" in inputs else inputs["position_ids"] == 0


def _one_label_per_sequence(batch) -> torch.Tensor:
    """Labels of shape `(sequences, 2)` that count as one each, however labels are shifted when they are counted."""
    _, sequences = sequence_weights(batch["labels"][:, 1:] != -100, _restarts(batch))
    labels = batch["labels"].new_full((sequences, 2), -100)
    labels[:, 1] = 0
    return labels


def _drop_long_rows(dataset, args: LongSFTConfig, name: str):
    options = {"num_proc": args.dataset_num_proc, "desc": f"Measuring {name} dataset"}
    kept = dataset.filter(
        lambda ids: len(ids) <= args.max_length,
        input_columns="input_ids",
        **(options if isinstance(dataset, Dataset) else {}),
    )
    if isinstance(dataset, Dataset) and len(kept) < len(dataset):  # a stream has no length
        message = f"{len(dataset) - len(kept)} of {len(dataset)} rows of the {name} dataset"
        message = f"{message} have more than {args.max_length} tokens (prompt and completion)"
        if len(kept) == 0:
            raise ValueError(f"{message}: none is left. Raise `max_length`, or shorten the contexts.")
        logger.warning(f"{message} and are dropped. Truncating them would cut off the question or the answer.")
    return kept
