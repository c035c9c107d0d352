"""`pipeline("context-compression")`: keeps, word for word, what a question needs of a long text.

```python
>>> from transformers import pipeline
>>> cprs = pipeline("context-compression", model="ns/cprs", trust_remote_code=True)
>>> out = cprs({"context": text, "query": "Who found radium?"}, target_tokens=2048, granularity="sentence")
>>> out["compressed"], out["spans"], out["ratio"]
```
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import sentencex  # noqa: F401  needed by `units`; transformers looks for what is missing in this file alone
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast, pipeline
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .batches import infer, naming
from .compression import compress, compress_official, result
from .context import Context, read_context
from .inputs import INPUT_FIELDS, Job, check_input, protected_ranges
from .layout import Layout
from .modeling_cprs import CPRSForTokenCritic
from .official import official_windows
from .options import CompressionOptions
from .prefix import declared_tags, prefix_ids, tag_token_ids
from .units import without_surrogates
from .windows import batch_by_length, cut_windows, owned


logger = logging.get_logger(__name__)
_BATCH, _CPU_BATCH = 16_384, 2_048  # tokens
# How much is read ahead, so that windows of like length meet in a batch. A stream may be slow, or endless.
_LIST_BATCHES = 64
_STREAM_BATCHES, _STREAM_INPUTS = 4, 32
_BAR_FROM = 17  # windows


class ContextCompressionPipeline(ChunkPipeline):
    """
    Compresses a context by a question and an instruction, with a [`CPRSForTokenCritic`].

    An input is a mapping:

    - `context` (`str` or `list`): a text, or documents: texts, or mappings with `text` and, if any, `title`.
    - `query` (`str`): the question. It may be empty where the instruction says it all.
    - `instruction` (`str`, *optional*): what to extract. Defaults to that of the model's configuration.
    - `tags`, `keep` (*optional*): as the parameters of these names, for this input.
    - anything else is copied to the output, unless it has the name of a parameter or of an output field.

    Inputs come one at a time or in a list, or as a stream (a generator, a data set of `datasets` or of torch), whose
    results come as an iterator that reads at most 32 inputs ahead. The windows of all inputs go through the model in
    batches of like length. `batch_tokens` says how large these are; `batch_size` and `num_workers` play no part.

    The output of an input is a `dict`:

    - `compressed` (`str`): what is kept, in the order of the context.
    - `spans` (`list[dict]`): `text`, `start`, `end`, `score` (mean P(keep) of its tokens), `tag` (`None` where the
      critic itself kept nothing), and, if the context is a list, `document`. `text` is the context (the document's
      text) from `start` to `end`, always.
    - `input_tokens`, `compressed_tokens` (`int`), as the reader counts them, and `ratio`, the first by the second;
      `None` if nothing is kept.
    - `fallback` (`str`, *optional*): the policy that was applied as nothing had been chosen; `None` with a budget,
      which is filled in any case.
    - `windows` (`int`): how many windows the critic has read.
    - `documents` (`list[dict]`), for a list: `index`, `score` (that of its best sentence), `rank` from 1 on, `spans`
      and `compressed` of each document.

    If what is kept, with its separators, would have more tokens than the context, the context is returned.

    Args:
        kwargs (*optional*):
            As for every [`~transformers.Pipeline`], and the fields of [`CompressionOptions`], which a call may give as
            well.
    """

    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __init__(self, *args, **kwargs):
        self._readers: dict[str, Any] = {}
        super().__init__(*args, **kwargs)
        if self.tokenizer is None:
            raise ValueError("the pipeline needs the critic's tokenizer: give tokenizer=...")
        CompressionOptions(**self._preprocess_params)
        self.model.eval()  # also one that comes from a trainer

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs) -> ContextCompressionPipeline:
        """
        The pipeline with a model of the hub or of a folder, also one in the layout of the paper's release.

        Args:
            pretrained_model_name_or_path (`str`):
                The model.
            kwargs (*optional*):
                For [`~transformers.pipeline`] and for loading (`cache_dir`, `local_files_only`, `subfolder`), and
                fields of [`CompressionOptions`].

        Raises:
            `ValueError`: the model is a backbone that was never trained to compress.
        """
        source = {name: kwargs[name] for name in ("revision", "token") if name in kwargs}
        more = {name: kwargs.pop(name) for name in ("cache_dir", "local_files_only", "subfolder") if name in kwargs}
        weights = {"dtype": kwargs.pop("dtype", "auto"), **kwargs.pop("model_kwargs", {})}
        if (device_map := kwargs.pop("device_map", None)) is not None:
            weights["device_map"] = device_map
        # Not by its name: a configuration of type `qwen2` would be taken for a plain Qwen2.
        model, loading = CPRSForTokenCritic.from_pretrained(
            pretrained_model_name_or_path, output_loading_info=True, **source, **more, **weights
        )
        if any(name.startswith("cls_head.") for name in loading["missing_keys"]):
            raise ValueError(
                f"{pretrained_model_name_or_path} has no `cls_head`: it is a backbone and no critic. Train one with "
                "`qwenlong-trl cprs-train`, or with CPRSForTokenCritic.from_backbone and CPRSTrainer"
            )
        if "tokenizer" not in kwargs:
            kwargs["tokenizer"] = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **source, **more)
        return pipeline("context-compression", model=model, pipeline_class=cls, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        CompressionOptions.check_names(kwargs)
        for name, other in (("target_tokens", "rate"), ("rate", "target_tokens")):
            if kwargs.get(name) is not None:
                kwargs.setdefault(other, None)  # a call overrides the kind of budget that the pipeline was made with
        return kwargs, {}, {}

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs (`dict`, `list[dict]`, or a stream of them):
                See the class.
            kwargs (*optional*):
                Fields of [`CompressionOptions`].

        Returns:
            `dict`, `list[dict]` or an iterator, as the inputs come.
        """
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        known = (Mapping, list, str, bytes, torch.utils.data.Dataset)
        if isinstance(inputs, Iterable) and not isinstance(inputs, known):
            inputs = (row for row in inputs)  # such as a data set of `datasets`
        return super().__call__(inputs, **kwargs)

    def get_iterator(
        self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
    ) -> Iterator[dict[str, Any]]:
        """The results of all inputs in order; what [`~transformers.Pipeline.__call__`] runs in every case."""
        options = CompressionOptions(**preprocess_params)
        batch_tokens = options.batch_tokens or (_CPU_BATCH if self.device.type == "cpu" else _BATCH)
        if isinstance(inputs, list):
            most_tokens, most_inputs = _LIST_BATCHES * batch_tokens, len(inputs)
        else:
            most_tokens, most_inputs = _STREAM_BATCHES * batch_tokens, _STREAM_INPUTS
        examples = iter(inputs)
        if isinstance(inputs, torch.utils.data.Dataset) and hasattr(inputs, "__len__"):
            examples = (inputs[i] for i in range(len(inputs)))
        if isinstance(inputs, list):  # before anything has run
            for number, example in enumerate(inputs):
                with naming(number):
                    check_input(example)
        examples = enumerate(examples)
        bar, planned = None, 0
        try:
            while True:
                group, tokens, error = [], 0, None
                try:
                    for number, example in islice(examples, most_inputs):
                        with naming(number):
                            group.append(list(self.preprocess(example, **preprocess_params)))
                        tokens += sum(len(window["input_ids"]) for window in group[-1])
                        if tokens >= most_tokens:
                            break
                except Exception as wrong:  # raised when those before it are out
                    error = wrong
                if not group and error is None:
                    return
                done, planned = planned, planned + sum(map(len, group))
                if bar is None and (options.progress or (options.progress is None and planned >= _BAR_FROM)):
                    bar = logging.tqdm(initial=done, total=planned, desc="Compressing", unit=" windows")
                elif bar is not None:
                    bar.total = planned
                    bar.refresh()
                yield from self._run(group, batch_tokens, bar)
                if error is not None:
                    raise error
        finally:
            if bar is not None:
                bar.close()

    def preprocess(self, inputs, **preprocess_params) -> Iterator[dict[str, Any]]:
        """The windows of an input; one without tokens if its context is blank."""
        job = self._read(inputs, CompressionOptions(**preprocess_params))
        ids = job.layout.context.ids
        for i, (start, end) in enumerate(job.windows.tolist()):
            window = np.concatenate([job.prefix, ids[start:end]])
            yield {"input_ids": window, "job": job, "window": i, "is_last": i + 1 == len(job.windows)}
        if not len(job.windows):
            yield {"input_ids": ids[:0], "job": job, "window": 0, "is_last": True}

    def _forward(self, model_inputs, **forward_params) -> dict[str, torch.Tensor | None]:
        model_inputs = dict(model_inputs)
        if (tag_ids := model_inputs.pop("tag_ids", None)) is not None:
            model_inputs["tag_ids"] = torch.tensor(tag_ids, device=self.device)
        output = self.model(**model_inputs)
        return {"logits": output.logits, "tag_logits": output.tag_logits}

    def postprocess(self, model_outputs, **postprocess_params) -> dict[str, Any]:
        """The result of an input from the outputs of all its windows."""
        job: Job = model_outputs[0]["job"]
        layout = job.layout

        def count(text: str) -> int:
            return self._count(text, layout.options)

        more = {"windows": len(job.windows), **job.extra}
        if not len(job.windows):
            nothing = np.empty((0, 2), dtype=np.int64)
            return result(layout, nothing, np.empty(0), [], 0, job.input_tokens) | more
        logits, tag_logits = (
            None
            if model_outputs[0][name] is None
            else np.concatenate(
                [
                    output[name][first - start : last - start]
                    for output, (start, _), (first, last) in zip(
                        model_outputs, job.windows.tolist(), job.own.tolist(), strict=True
                    )
                ]
            )
            for name in ("logits", "tag_logits")
        )
        if not np.isfinite(logits).all() or (tag_logits is not None and not np.isfinite(tag_logits).all()):
            raise ValueError(
                f"the model returns values that are not finite in {self.model.dtype}: use dtype='bfloat16'"
            )
        if layout.options.compat is not None:
            return compress_official(layout, logits, count, job.input_tokens) | more
        return compress(layout, logits, tag_logits, job.tags, count, job.input_tokens, job.keep) | more

    def _run(self, group: list[list[dict]], batch_tokens: int, bar) -> Iterator[dict[str, Any]]:
        """Runs the windows of some inputs in batches, and yields each result when those before it are out."""
        outputs = [[None] * len(windows) for windows in group]
        missing = [len(windows) for windows in group]
        places = [(i, j) for i, windows in enumerate(group) for j in range(len(windows))]
        for i, (first, *_) in enumerate(group):
            if not len(first["input_ids"]):  # a blank context, and its only window
                outputs[i], missing[i] = [{"job": first["job"]}], 0
                if bar is not None:
                    bar.update()
        places = [(i, j) for i, j in places if missing[i]]
        lengths = [len(group[i][j]["input_ids"]) for i, j in places]
        following = 0
        batches = batch_by_length(lengths, batch_tokens)
        for batch in [*batches, []]:
            rows = [places[row] for row in batch]
            for (i, j), output in zip(rows, infer([group[i][j] for i, j in rows], self.forward), strict=True):
                outputs[i][j] = output
                missing[i] -= 1
            if bar is not None:
                bar.update(len(rows))
            while following < len(group) and not missing[following]:
                yield self.postprocess(outputs[following])
                group[following] = outputs[following] = None
                following += 1

    def _read(self, inputs: Any, options: CompressionOptions) -> Job:
        fields_of_input = check_input(inputs)
        instruction = fields_of_input.get("instruction", self.model.config.instruction)
        tags = fields_of_input.get("tags", options.tags)
        is_list = not isinstance(fields_of_input["context"], str)
        if options.compat is not None:
            refused = {"keep", "tags"}.intersection(fields_of_input)
            if is_list or refused:
                what = "a list of documents: join them" if is_list else ", ".join(sorted(refused))
                raise ValueError(f"compat='official' goes without {what}")
        context = read_context(fields_of_input["context"], self.tokenizer)
        layout = Layout(context, is_list, options)
        keep = protected_ranges(fields_of_input.get("keep", options.keep), context, is_list)
        input_tokens = self._input_tokens(context, options)
        prefix = prefix_ids(instruction, fields_of_input["query"], self.tokenizer)
        tags, tag_ids = self._tags(tags, instruction, options)
        windows = np.empty((0, 2), dtype=np.int64)
        window_tokens = options.window_tokens or self.model.config.window_tokens
        if window_tokens > self.model.config.max_position_embeddings:
            logger.warning_once(
                f"windows of {window_tokens} tokens are longer than the {self.model.config.max_position_embeddings} "
                "positions of the model"
            )
        if len(prefix) * 4 > window_tokens * 3:
            raise ValueError(
                f"`query` and `instruction` have {len(prefix)} tokens, more than three quarters of a window of "
                f"{window_tokens}: shorten them, or raise window_tokens"
            )
        if len(layout.everything) and len(context.ids):
            capacity = window_tokens - len(prefix)
            if options.compat is not None:
                windows = official_windows(context.text, context.starts, context.ends, capacity)
            else:
                sentences = layout.sentences if len(context.ids) > capacity else layout.everything
                windows = cut_windows(context.text, context.starts, context.ends, sentences, capacity, options.overlap)
        extra = {name: value for name, value in inputs.items() if name not in INPUT_FIELDS}
        return Job(layout, windows, owned(windows), prefix, tags, tag_ids, keep, input_tokens, extra)

    def _tags(self, tags, instruction: str, options: CompressionOptions) -> tuple[tuple[str, ...], list[int]]:
        """The tag words and their vocabulary entries, `outside` last; none for the position head alone."""
        untrained = getattr(self.model.config, "tag_loss_weight", 1) == 0
        if options.compat is not None or options.critic == "position" or (options.critic == "auto" and untrained):
            return (), []
        words = declared_tags(instruction) if tags is None else tuple(tags)
        if not words and options.critic == "product":
            raise ValueError(
                "critic='product' needs tag words: name some in the tagging rule of the instruction, or give tags"
            )
        return words, tag_token_ids(words, self.tokenizer) if words else []

    def _input_tokens(self, context: Context, options: CompressionOptions) -> int:
        return len(context.ids) if options.reader_tokenizer is None else self._count(context.text, options)

    def _count(self, text: str, options: CompressionOptions) -> int:
        """Tokens of a text for the reader, without special tokens; those written in the text are text."""
        reader = options.reader_tokenizer
        if reader is None:
            reader = self.tokenizer
        elif isinstance(reader, str):
            if reader not in self._readers:
                self._readers[reader] = AutoTokenizer.from_pretrained(reader)
            reader = self._readers[reader]
        text = without_surrogates(text)  # as the critic reads it
        if isinstance(reader, PreTrainedTokenizerFast):
            special = {"split_special_tokens": True, "return_attention_mask": False, "verbose": False}
        else:  # which need not know these
            special = {}
        return len(reader(text, add_special_tokens=False, **special)["input_ids"])


__all__ = ["ContextCompressionPipeline"]
