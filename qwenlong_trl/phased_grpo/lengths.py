"""From a data set to a curriculum: prompt lengths as TRL will feed them, ids, and enough prompts for every phase."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..engines import check_limits
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


def check_prompts_fit(args: PhasedGRPOConfig, curriculum: Curriculum, limit: int | None, engine: str) -> None:
    """
    Compares the prompts of every phase and its longest completion with what the vLLM engine takes. Prompts that are
    carried into a phase are shorter than its own.
    """
    for phase, rows in zip(args.phases, curriculum.own_rows, strict=True):
        prompts = ((curriculum.ids[row], curriculum.lengths[row]) for row in rows)
        completion = phase.max_completion_length or args.max_completion_length
        check_limits(prompts, completion, limit, engine, phase.name)


def build_curriculum(args: PhasedGRPOConfig, dataset: Dataset, processing_class) -> Curriculum:
    """
    The curriculum over a training set, before any model is loaded.

    Raises:
        `TypeError`: if the training set is a stream, whose prompt lengths are not known beforehand.
        `ValueError`: if a phase has fewer prompts than one generation batch, if a prompt and the completions of its
        phase do not fit `vllm_max_model_length`, or if groups to resample would lie on two processes.
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
    if args.use_vllm and args.vllm_mode == "colocate":  # a server has a limit of its own, see `engine.py`
        check_prompts_fit(args, curriculum, args.vllm_max_model_length, "vllm_max_model_length")
    local_rows = args.generation_batch_size // args.world_size
    if args.dynamic_sampling == "resample" and local_rows % args.num_generations:
        raise ValueError(
            f"dynamic_sampling='resample' replaces whole groups on each process, but a process holds {local_rows} "
            f"rows of a generation batch, not a multiple of num_generations ({args.num_generations})"
        )
    return curriculum
