"""What `LongSFTTrainer` takes for granted in TRL's `SFTTrainer` and in `transformers.Trainer`, with the reason."""

import inspect
from dataclasses import fields

from transformers import Trainer
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput


def test_prepare_dataset_can_run_twice():
    # Overridden to tokenise without truncation, drop long rows, then pack: a prepared data set is not prepared again.
    names = list(inspect.signature(SFTTrainer._prepare_dataset).parameters)
    assert names == ["self", "dataset", "processing_class", "args", "packing", "formatting_func", "dataset_name"]
    source = inspect.getsource(SFTTrainer._prepare_dataset)
    assert 'is_processed = "input_ids" in column_names' in source
    assert 'if "labels" not in column_names:' in source
    assert "args.max_length is not None and not packing" in source  # no limit, no truncation


def test_compute_loss_sums_log_probabilities_over_items():
    # Overridden to weigh `log_probs` before they are summed; the divisor is `num_items_in_batch`, or all labels in
    # evaluation; `model` is only ever called.
    assert list(inspect.signature(SFTTrainer.compute_loss).parameters) == [
        "self", "model", "inputs", "return_outputs", "num_items_in_batch"
    ]  # fmt: skip
    source = inspect.getsource(SFTTrainer.compute_loss)
    assert "outputs = model(**inputs, fused_lm_head=True)" in source
    assert "per_token_loss = -outputs.log_probs" in source
    assert "num_tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch" in source
    assert "loss = per_token_loss.sum() / torch.as_tensor(num_tokens).clamp(min=1)" in source
    assert " model." not in source
    # What is logged beside the loss must not be weighed.
    assert [line.strip() for line in source.splitlines() if "log_probs" in line] == [
        "per_token_loss = -outputs.log_probs  # zero on ignored positions",
        "per_token_loss = per_token_loss * outputs.log_probs.exp().detach()",  # DFT, refused
    ]

    names = {field.name for field in fields(FusedCausalLMOutput)}
    assert {"log_probs", "label_mask"} <= names


def test_items_are_counted_from_labels_alone():
    # Overridden to count sequences: the count is made of labels that are not -100, over micro-batches and processes.
    assert list(inspect.signature(Trainer._get_num_items_in_batch).parameters) == ["self", "batch_samples", "device"]
    source = inspect.getsource(Trainer._get_num_items_in_batch)
    assert 'batch["labels"][..., 1:]' in source and "labels.ne(-100).sum()" in source
    assert "self.accelerator.gather(num_items_in_batch.to(device)).sum()" in source
    # Public, but what it decides is not: whether items are counted and the loss is left unscaled in accumulation.
    assert "self.model_accepts_loss_kwargs" in source
    assert "self.model_accepts_loss_kwargs and num_items_in_batch is not None" in inspect.getsource(
        Trainer.training_step
    )
