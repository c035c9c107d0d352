"""Log-probabilities of answers under the policy and under the reference; the reference's also for a whole data set.

The reference of a reward on the long prompt reads the long prompt (SoLoPO, arXiv 2505.11166). It is a frozen copy, the
policy without its adapter, or a column that was computed beforehand.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import NamedTuple

import torch
from accelerate.utils import broadcast_object_list, is_peft_model, tqdm
from datasets import Dataset, concatenate_datasets
from datasets.fingerprint import Hasher
from torch.utils.data import DataLoader
from trl.models import prepare_deepspeed
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter


class Answers(NamedTuple):
    """Answers on one context: `logps` (summed, with gradient) and `lengths` of shape `(rows,)`, TRL's `outputs` of the
    forward pass, and `mask` of shape `(rows, seq_len - 1)`, which of its positions are tokens of an answer."""

    logps: torch.Tensor
    lengths: torch.Tensor
    outputs: object
    mask: torch.Tensor


def score(model, batch: dict[str, torch.Tensor], side: str = "") -> Answers:
    """
    Log-probabilities of the answers of a batch, without building logits of the shape `(rows, seq_len, vocabulary)`.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`SharedPrefixForward`]):
            With TRL's fused LM head.
        batch (`dict[str, torch.Tensor]`):
            From [`DataCollatorForSoLoPO`].
        side (`str`, *optional*, defaults to `""`):
            `""` for the pairs, `"long_"` or `"ref_"`.
    """
    ids, completion = batch[f"{side}input_ids"], batch[f"{side}completion_mask"]
    outputs = model(
        input_ids=ids,
        attention_mask=batch[f"{side}attention_mask"],
        labels=ids.masked_fill(completion == 0, -100),
        fused_lm_head=True,
        use_cache=False,
    )
    mask = completion[:, 1:]
    # Prompt-learning PEFT prepends virtual tokens to the outputs; keep the positions of the real ones.
    logps = outputs.log_probs[:, -mask.size(1) :].sum(dim=1)
    return Answers(logps, mask.sum(dim=1).clamp(min=1), outputs, mask)


def chosen_rows(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The chosen half of the pairs, in their padding."""
    names = ("input_ids", "attention_mask", "completion_mask")
    return {name: batch[name][: len(batch[name]) // 2] for name in names}


def reference_logps(trainer, batch: dict[str, torch.Tensor], model=None) -> dict[str, torch.Tensor]:
    """
    The reference's log-probabilities, from the batch where they were precomputed.

    Args:
        trainer ([`SoLoPOTrainer`]):
            Whose reference it is.
        batch (`dict[str, torch.Tensor]`):
            From [`DataCollatorForSoLoPO`].
        model ([`~torch.nn.Module`], *optional*):
            The reference before training has prepared the models.

    Returns:
        `dict[str, torch.Tensor]`: `"chosen"`, `"rejected"`, and `"long_chosen"` and `"long_rejected"` where these are
        aligned, each of shape `(batch_size,)`. Empty for an algorithm without reference.
    """
    args = trainer.args
    if args.reference_free:
        return {}
    names = ("chosen", "rejected", *(f"long_{answer}" for answer in args.aligned))
    if trainer.precompute_ref_logps and model is None:
        return {name: batch[f"ref_{name}_logps"] for name in names}
    adapter = contextlib.nullcontext()
    if model is None:
        model = trainer.ref_model or trainer.model
    if trainer.ref_model is None and is_peft_model(trainer.model):
        unwrapped = trainer.accelerator.unwrap_model(trainer.model)
        adapter = use_adapter(unwrapped, "ref" if "ref" in unwrapped.peft_config else None)
    with (
        torch.no_grad(),
        disable_gradient_checkpointing(trainer.model, args.gradient_checkpointing_kwargs),
        adapter,
        trainer.accelerator.autocast(),
    ):
        scorer = trainer.scorers(model)
        pair = score(scorer, batch, "ref_" if args.objective == "longpo" else "")
        parts = list(pair.logps.chunk(2))
        if args.aligned:
            parts += score(scorer, batch, "long_").logps.chunk(len(args.aligned))
    return dict(zip(names, parts, strict=True))


def add_reference_logps(trainer, dataset: Dataset, name: str, batch_size: int) -> Dataset:
    """
    The data set with the columns `ref_chosen_logps`, `ref_rejected_logps`, and `ref_long_chosen_logps` (and
    `ref_long_rejected_logps`) where these are aligned.

    They are cached beside the data set (one that is in memory has no such place) under a key made of its rows, the
    reference's weights and configuration, and every setting that decides what is computed, the limits on lengths among
    them. Log-probabilities depend a little on the padding of
    their batch, more so in bfloat16: the L1 distance has the slope `alpha` also at such noise, `"huber"` has not.
    """
    if not dataset.cache_files:
        for column, values in _compute(trainer, dataset, name, batch_size).items():
            dataset = dataset.add_column(column, values.tolist())
        return dataset
    # Ranks may hash differently (ZeRO-3 shards the model), and all must read one file: the first one's key counts.
    key = [Hasher.hash((dataset._fingerprint, trainer._precompute_model_hash, _settings(trainer)))]
    key.append(os.path.exists(dataset._get_cache_file_path(key[0])))
    broadcast_object_list(key, from_process=0)
    cache_file = dataset._get_cache_file_path(key[0])
    if not key[1]:
        columns = _compute(trainer, dataset, name, batch_size)
        if trainer.accelerator.is_main_process:
            dataset.map(
                lambda batch, indices: {column: values[indices] for column, values in columns.items()},
                with_indices=True,
                batched=True,
                remove_columns=dataset.column_names,
                new_fingerprint=key[0],
                cache_file_name=cache_file,
                desc=f"Caching reference log probs for {name} dataset",
            )
        trainer.accelerator.wait_for_everyone()
    return concatenate_datasets([dataset, Dataset.from_file(cache_file)], axis=1)


def _settings(trainer) -> str:
    """What decides the reference's log-probabilities besides rows and weights: the same weights may be read with
    another scaling of positions, another adapter scale or another precision."""
    args, model = trainer.args, trainer.accelerator.unwrap_model(trainer.ref_model or trainer.model)
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    adapters = {name: adapter.to_dict() for name, adapter in getattr(model, "peft_config", {}).items()}
    return json.dumps(
        [
            [args.objective, args.aligned, args.max_length, args.max_long_length],
            [str(model.dtype), trainer.accelerator.mixed_precision, config, adapters],
        ],
        sort_keys=True,
        default=lambda value: sorted(value) if isinstance(value, set) else str(value),
    )


def _compute(trainer, dataset: Dataset, name: str, batch_size: int) -> dict[str, torch.Tensor]:
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=trainer.data_collator,
        num_workers=trainer.args.dataloader_num_workers,
        pin_memory=trainer.args.dataloader_pin_memory,
        shuffle=False,
    )
    # Before training, DeepSpeed has not placed or gathered the parameters: TRL does it with an engine for inference.
    if trainer.ref_model is None and trainer.is_deepspeed_enabled:
        if trainer._precompute_engine is None:
            trainer._precompute_engine = prepare_deepspeed(trainer.model, trainer.accelerator)
        model = trainer._precompute_engine
    else:
        model = trainer.ref_model or trainer.model
    was_training = model.training
    model.eval()
    batches: list[dict[str, torch.Tensor]] = []
    for batch in tqdm(
        iterable=trainer.accelerator.prepare(loader), desc=f"Computing reference log probs for {name} dataset"
    ):
        logps = reference_logps(trainer, batch, model)
        batches.append({key: value.cpu() for key, value in trainer.accelerator.gather_for_metrics(logps).items()})
    model.train(was_training)
    return {f"ref_{key}_logps": torch.cat([logps[key] for logps in batches]) for key in batches[0]}
