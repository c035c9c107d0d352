"""Training of the token critic, on records with evidence.

```python
>>> from qwenlong_trl.cprs import CPRSForTokenCritic, CPRSTrainer, CPRSTrainingArguments
>>> records = list(read_records("train.jsonl"))  # qwenlong_trl.data
>>> model = CPRSForTokenCritic.from_backbone("Qwen/Qwen3-0.6B-Base")
>>> trainer = CPRSTrainer(model, CPRSTrainingArguments("out"), records, processing_class=tokenizer)
>>> trainer.train()
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging

from ..data import LongContextExample, from_dataset, to_dataset
from ..engines.liger import LigerCheck, patch_critic
from ..hub.trainer import HubCards
from .decode import OUTSIDE
from .evaluation import ContextCompressionEvaluator, summarize
from .instructions import INSTRUCTIONS
from .labels import IGNORED, has_evidence, window_rows
from .modeling_cprs import CPRSForTokenCritic
from .training_config import CPRSTrainingArguments


logger = logging.get_logger(__name__)


class CPRSTrainer(HubCards, Trainer):
    """
    [`~transformers.Trainer`] of a [`CPRSForTokenCritic`].

    Args:
        model ([`CPRSForTokenCritic`] or [`~peft.PeftModel`] of one):
            The critic.
        args ([`CPRSTrainingArguments`]):
            The configuration.
        train_dataset (`list[LongContextExample]` or `datasets.Dataset`):
            Records with evidence, or rows of [`window_rows`] (columns `input_ids`, `labels`, `tag_labels`).
        eval_dataset (the same, *optional*):
            Kept out. Records are also compressed, at each of `args.eval_budgets`, if they have evidence.
        processing_class ([`~transformers.PreTrainedTokenizerFast`]):
            The critic's tokenizer.
        kwargs (*optional*):
            As in [`~transformers.Trainer`].
    """

    _tag_names = ["context-compression", "qwenlong-trl", "cprs"]
    _card_template = "cprs"
    _card_arguments = (
        "granularities",
        "instruction_variants",
        "needle_rate",
        "outside_drop_rate",
        "first_trainable_layer",
    )
    _paper = {
        "title": "QwenLong-CPRS: Towards ∞-LLMs with Dynamic Context Optimization",
        "id": "2505.18092",
        "citation": (
            "@misc{shen2025qwenlongcprs,\n"
            "    title = {{QwenLong-CPRS: Towards ∞-LLMs with Dynamic Context Optimization}},\n"
            "    author = {Weizhou Shen and others},\n"
            "    year = 2025,\n"
            "    eprint = {2505.18092},\n"
            "    archivePrefix = {arXiv}\n}"
        ),
    }

    def __init__(
        self,
        model: CPRSForTokenCritic,
        args: CPRSTrainingArguments,
        train_dataset: Sequence[LongContextExample] | Dataset | None = None,
        eval_dataset: Sequence[LongContextExample] | Dataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        **kwargs: Any,
    ):
        if not isinstance(args, CPRSTrainingArguments):
            raise TypeError(f"CPRSTrainer needs `args` to be CPRSTrainingArguments, got {type(args).__name__}")
        if processing_class is None:
            raise ValueError("CPRSTrainer needs `processing_class`, the critic's tokenizer")
        config = model.config
        window_tokens = args.window_tokens or config.window_tokens
        options = {
            "window_tokens": window_tokens,
            "granularities": tuple(args.granularities),
            "instruction_variants": args.instruction_variants,
            "needle_rate": args.needle_rate,
            "with_tags": config.tag_loss_weight > 0,
            "seed": args.seed,
        }
        config.window_tokens = window_tokens  # what was trained is what compresses
        if "sentence" not in args.granularities:
            config.instruction = INSTRUCTIONS[_main_granularity(args)][0].text
        self._row_options = options
        self._to_compress: list[LongContextExample] = []
        self.eval_examples = _with_evidence(eval_dataset)
        train_rows = _prepare(train_dataset, processing_class, options, args, "train")
        eval_rows = _prepare(eval_dataset, processing_class, options | {"needle_rate": 0.0}, args, "eval")
        _freeze_below(model, args.first_trainable_layer)
        kwargs.setdefault("data_collator", pad_rows)
        args.prediction_loss_only = True  # logits of whole windows are of no use to anyone
        if args.label_names is None:
            args.label_names = ["labels"]  # rows may be without `tag_labels`
        super().__init__(
            model, args, train_dataset=train_rows, eval_dataset=eval_rows, processing_class=processing_class, **kwargs
        )
        if args.use_liger_kernel:
            # transformers does it when training begins, for models whose type Liger knows.
            patch_critic(unwrap_peft_model(model), args.liger_kernel_config)
        self.add_callback(LigerCheck)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of a step, a share of their outside tokens without label, and the number of labels."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rate = self.args.outside_drop_rate
        for i, batch in enumerate(batches):
            # Of the step alone, so that a run that was resumed draws what it would have drawn.
            key = f"{self.args.seed}/{self.state.global_step}/{self.args.process_index}/{i}"
            dropped = outside_to_drop(batch["labels"], rate, torch.Generator().manual_seed(_seed(key)))
            for name in ("labels", "tag_labels"):
                if name in batch:
                    batch[name] = batch[name].masked_fill(dropped.to(batch[name].device), IGNORED)
        return batches, self._get_num_items_in_batch(batches, device)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        The loss, and what compression of the records keeps: `eval_span_f1`, and at each budget such as 0.2
        `eval_evidence_recall@0.2`, `eval_answer_in_context@0.2` and `eval_rate@0.2`, the share of tokens that it took.

        Args:
            eval_dataset (`list[LongContextExample]` or `datasets.Dataset`, *optional*):
                As in the constructor, and instead of what it was given.
        """
        self._to_compress = self.eval_examples if eval_dataset is None else _with_evidence(eval_dataset)
        options = self._row_options | {"needle_rate": 0.0}
        rows = _prepare(eval_dataset, self.processing_class, options, self.args, "eval")
        try:
            return super().evaluate(rows, ignore_keys, metric_key_prefix)
        finally:
            self._to_compress = []

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """As in [`~transformers.Trainer`]; what was compressed joins the metrics before they are logged."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self._to_compress and (self.is_fsdp_enabled or is_deepspeed_zero3_enabled()):
            # Processes that hold parts of the weights would have to compress in step.
            logger.warning_once("weights are sharded: evaluation reports the loss alone, compress the saved model")
        elif self._to_compress:
            found = self._compress(self._to_compress)
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in found.items()})
        return output

    def _compress(self, examples: list[LongContextExample]) -> dict[str, float]:
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        evaluator = ContextCompressionEvaluator(
            model=model, tokenizer=self.processing_class, device=model.device, progress=False
        )
        share = examples[self.args.process_index :: self.args.world_size]
        with self.compute_loss_context_manager():
            results = evaluator.evaluate(share, self.args.eval_budgets, _main_granularity(self.args))
        model.train(was_training)
        return summarize(gather_object(results) if self.args.world_size > 1 else results)


def outside_to_drop(labels: torch.Tensor, rate: float, generator: torch.Generator) -> torch.Tensor:
    """
    Which labels to leave out of a step (QwenLong-CPRS, arXiv 2505.18092, section 3.1): `rate` of the outside tokens.

    Tokens next to a span are never among them; the paper does not say so, it is ours.

    Args:
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            As for [`CPRSForTokenCritic`].

    Returns:
        `torch.BoolTensor` of the same shape, on the CPU.
    """
    labels = labels.cpu()
    inside = (labels != OUTSIDE) & (labels != IGNORED)
    beside = torch.zeros_like(inside)
    beside[:, 1:] |= inside[:, :-1]
    beside[:, :-1] |= inside[:, 1:]
    return (labels == OUTSIDE) & ~beside & (torch.rand(labels.shape, generator=generator) < rate)


def pad_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of [`window_rows`] as a batch, padded on the right; an `attention_mask` only where there is padding."""
    lengths = [len(row["input_ids"]) for row in rows]
    longest = max(lengths)
    batch = {}
    for name in ("input_ids", "labels", "tag_labels"):
        if name in rows[0]:
            filling = 0 if name == "input_ids" else IGNORED
            batch[name] = torch.full((len(rows), longest), filling, dtype=torch.long)
            for i, row in enumerate(rows):
                batch[name][i, : lengths[i]] = torch.as_tensor(row[name])
    if min(lengths) < longest:
        batch["attention_mask"] = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return batch


def _prepare(dataset, tokenizer, options: dict[str, Any], args: CPRSTrainingArguments, name: str) -> Dataset | None:
    if dataset is None or (isinstance(dataset, Dataset) and "input_ids" in dataset.column_names):
        return dataset
    records = dataset if isinstance(dataset, Dataset) else to_dataset(dataset)
    columns = ["input_ids", "labels", *(["tag_labels"] if options["with_tags"] else [])]
    features = Features({c: List(Value("int8" if c == "labels" else "int32")) for c in columns})

    def label(batch: dict[str, list]) -> dict[str, list]:
        rows = []
        for i in range(len(batch["id"])):
            example = LongContextExample.from_dict({column: values[i] for column, values in batch.items()})
            rows += window_rows(example, tokenizer, **options)
        return {column: [row[column] for row in rows] for column in columns}

    with PartialState().main_process_first():
        rows = records.map(
            label,
            batched=True,
            batch_size=16,
            remove_columns=records.column_names,
            features=features,
            num_proc=args.dataset_num_proc,
            desc=f"Labelling windows of the {name} dataset",
        )
    if len(rows) == 0:
        raise ValueError(f"the {name} dataset of {len(records)} records has no window: their documents are empty")
    logger.info(f"{len(rows)} windows of {len(records)} records in the {name} dataset")
    return rows


def _with_evidence(dataset) -> list[LongContextExample]:
    """The records of a data set that say what to keep; none for rows."""
    if dataset is None or (isinstance(dataset, Dataset) and "input_ids" in dataset.column_names):
        return []
    if isinstance(dataset, Mapping):
        raise TypeError("several evaluation sets at once are not supported: give one, or call evaluate for each")
    return [e for e in (from_dataset(dataset) if isinstance(dataset, Dataset) else dataset) if has_evidence(e)]


def _main_granularity(args: CPRSTrainingArguments) -> str:
    """What evaluation, and by default the critic, is asked for."""
    return "sentence" if "sentence" in args.granularities else args.granularities[0]


def _freeze_below(model, layer: int) -> None:
    critic = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = critic.model.layers
    if not 0 <= layer <= len(layers):
        raise ValueError(f"`first_trainable_layer` must lie between 0 and {len(layers)}, got {layer}")
    if layer > 0:
        for frozen in (critic.model.embed_tokens, *layers[:layer]):
            frozen.requires_grad_(False)
    if critic.config.tag_loss_weight == 0 and critic.lm_head.weight is not critic.model.embed_tokens.weight:
        critic.lm_head.requires_grad_(False)


def _seed(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1
