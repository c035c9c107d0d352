"""From a data set to a curriculum: prompt lengths as TRL will feed them, ids, and enough prompts for every phase."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from .config import PhasedGRPOConfig
from .curriculum import Curriculum


logger = logging.get_logger(__name__)


_CHUNK = 64  # prompts tokenised at a time: a chunk of 60K-token prompts is about 15 MB of text
_CHECKED = 8  # rows of a `prompt_length` column that are counted again


def count_tokens(prompts: list[Any], tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: dict) -> list[int]:
    """Token counts of prompts that are all text or all conversational, generation prompt included."""
    if isinstance(prompts[0], str):
        ids = tokenizer(text=prompts)["input_ids"]
    else:
        ids = tokenizer.apply_chat_template(
            prompts, add_generation_prompt=True, tokenize=True, return_dict=True, **chat_template_kwargs
        )["input_ids"]
    return [len(row) for row in ids]


def prompt_lengths(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: dict | None = None,
    progress: bool = True,
) -> list[int]:
    """
    The token length of every prompt. A column `prompt_length` is used as it is, after a few of its rows were counted
    again.

    Raises:
        `ValueError`: if the column `prompt` is missing, or `prompt_length` was made with another tokenizer or
        template.
    """
    if "prompt" not in dataset.column_names:
        raise ValueError(f"the training set needs a column `prompt`, it has {dataset.column_names}")
    kwargs = chat_template_kwargs or {}
    if "prompt_length" in dataset.column_names:
        lengths = [int(n) for n in dataset["prompt_length"]]
        step = max(1, len(lengths) // _CHECKED)
        for row in range(0, len(lengths), step):
            counted = count_tokens([dataset[row]["prompt"]], tokenizer, kwargs)[0]
            if counted != lengths[row]:
                raise ValueError(
                    f"row {row}: `prompt_length` is {lengths[row]}, but the prompt has {counted} tokens with this "
                    "tokenizer and chat template. Make the data set again with them, or drop the column."
                )
        return lengths
    lengths = []
    for start in tqdm(range(0, len(dataset), _CHUNK), desc="Measuring prompts", disable=not progress):
        lengths += count_tokens(dataset[start : start + _CHUNK]["prompt"], tokenizer, kwargs)
    return lengths


def example_ids(dataset: Dataset) -> list[str]:
    """The column `id` as strings, or the row numbers where there is none."""
    if "id" in dataset.column_names:
        return [str(value) for value in dataset["id"]]
    return [str(row) for row in range(len(dataset))]


def dataset_hashes(dataset: Dataset, ids: list[str], lengths: list[int]) -> dict[str, str]:
    """
    SHA-256 of every column, rows in order, and of the ids and the prompt lengths as they are used, whether they are
    columns or not. Equal for the same data, however it was loaded: values are read as they are stored, so that media
    are not decoded, and of a media file its bytes count, or its name where it lies outside of the data set.
    """
    rest = [name for name in dataset.column_names if name not in ("id", "prompt_length")]
    digests = {name: hashlib.sha256() for name in ("id", "prompt_length", *rest)}

    def add(name: str, values: list[Any]) -> None:
        for value in values:
            text = json.dumps(value, sort_keys=True, default=_as_text)
            digests[name].update(text.encode("utf-8", "surrogatepass") + b"\n")

    add("id", ids)
    add("prompt_length", lengths)
    stored = dataset.with_format("arrow")
    for start in range(0, len(dataset), _CHUNK):
        chunk = stored[start : start + _CHUNK]
        for name in rest:
            add(name, [_without_place(value) for value in chunk[name].to_pylist()])
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _as_text(value: Any) -> str:
    """What JSON has no form for: bytes, dates, decimals."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _without_place(value: Any) -> Any:
    """Media without the folder that they lie in on this machine."""
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        return value["bytes"] or PurePath(value["path"] or "").name
    return [_without_place(item) for item in value] if isinstance(value, list) else value


def build_curriculum(args: PhasedGRPOConfig, dataset: Dataset, processing_class) -> Curriculum:
    """
    The curriculum over a training set, before any model is loaded.

    Raises:
        `TypeError`: if the training set is a stream, whose prompt lengths are not known beforehand.
        `ValueError`: if a phase has fewer prompts than one generation batch, if the longest phase does not fit the
        vLLM engine, or if groups to resample would lie on two processes.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"PhasedGRPOTrainer needs `train_dataset` to be a `datasets.Dataset`, got {type(dataset).__name__}. "
            "Phases are chosen by prompt length, which a stream does not know; load it with `streaming=False`."
        )
    tokenizer = processing_class
    if not isinstance(processing_class, PreTrainedTokenizerBase):  # a processor of a vision model
        tokenizer = processing_class.tokenizer
    lengths = prompt_lengths(dataset, tokenizer, args.chat_template_kwargs, progress=not args.disable_tqdm)
    curriculum = Curriculum(
        args.phases,
        example_ids(dataset),
        lengths,
        retrospective=args.retrospective,
        ratio=args.retrospective_ratio,
        epsilon=args.retrospective_epsilon,
        seed=args.seed,
    )
    lower = 0
    for phase, rows in zip(args.phases, curriculum.own_rows, strict=True):
        if len(rows) < args.prompts_per_window:
            raise ValueError(
                f"{phase.name} has {len(rows)} prompts of {lower + 1} to {phase.max_prompt_length} tokens, but one "
                f"generation batch needs {args.prompts_per_window} (generation_batch_size "
                f"{args.generation_batch_size} / num_generations {args.num_generations}). Add prompts of this length, "
                "move the bounds of the phases, or make the generation batch smaller."
            )
        lower = phase.max_prompt_length
    if curriculum.dropped:
        logger.warning(
            f"{len(curriculum.dropped)} of {len(lengths)} prompts are dropped: they are longer than the {lower} "
            f"tokens of the last phase (the longest has {max(lengths)})."
        )
    longest = max(p.max_prompt_length + (p.max_completion_length or args.max_completion_length) for p in args.phases)
    if args.use_vllm and args.vllm_max_model_length is not None and args.vllm_max_model_length < longest:
        raise ValueError(
            f"vllm_max_model_length is {args.vllm_max_model_length}, but the phases need {longest} tokens of prompt "
            "and completion"
        )
    local_rows = args.generation_batch_size // args.world_size
    if args.dynamic_sampling == "resample" and local_rows % args.num_generations:
        raise ValueError(
            f"dynamic_sampling='resample' replaces whole groups on each process, but a process holds {local_rows} "
            f"rows of a generation batch, not a multiple of num_generations ({args.num_generations})"
        )
    return curriculum
