"""From rows with a short and a long prompt to token ids, checked: what is trained on both sides is the same answer.

TRL tokenises; it is asked once for each side, so that chat templates, special tokens and the end of an answer are
treated as in [`~trl.DPOTrainer`].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers.utils import logging

from .collator import REFERENCE_COLUMNS
from .config import SoLoPOConfig


logger = logging.get_logger(__name__)

_MADE = ("prompt_ids", "chosen_ids", "rejected_ids", "long_prompt_ids", "ref_prompt_ids", *REFERENCE_COLUMNS)

# Columns that TRL reads when it tokenises, besides prompt and answers.
_OPTIONS = ("tools", "chat_template_kwargs")


def prepare_twins(dataset, tokenize: Callable[[Dataset], Dataset], args: SoLoPOConfig, name: str) -> Dataset:
    """
    Adds token ids to preference rows and drops those that are too long.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with `prompt`, `long_prompt` (which of them are read depends on `args.objective`), `chosen` and
            `rejected`, as text or as lists of messages.
        tokenize (`Callable`):
            Makes `prompt_ids`, `chosen_ids` and `rejected_ids` of `prompt`, `chosen` and `rejected`.
        args ([`SoLoPOConfig`]):
            The objective and the limits.
        name (`str`):
            Name of the data set in messages.

    Returns:
        [`~datasets.Dataset`]: the rows within the limits, with `prompt_ids`, `chosen_ids` and `rejected_ids` (the
        pair of the preference loss), `long_prompt_ids` where answers are aligned, and `ref_prompt_ids` where the
        reference reads another prompt.

    Raises:
        `TypeError`: for a streaming data set.
        `ValueError`: for a missing or empty field, a long prompt that is shorter than its short one, answers that
        are tokenised differently on the two sides (each names the row), or more rows over the limits than
        `args.max_drop_fraction`.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"the {name} dataset is a {type(dataset).__name__}; SoLoPO compares two prompts per row and counts "
            "what it drops, so it needs a datasets.Dataset (load it without streaming=True)"
        )
    # What an earlier trainer has made of the rows may be for another objective or other limits.
    dataset = dataset.remove_columns([column for column in dataset.column_names if column in _MADE])
    pair = "prompt" if args.objective in ("solopo", "short_po") else "long_prompt"
    other = "long_prompt" if args.aligned else "prompt" if args.objective == "longpo" else None
    prompts = (pair,) if other is None else (pair, other)
    _check_fields(dataset, prompts, name)
    sides = {prompt: _tokenize_side(dataset, prompt, tokenize) for prompt in prompts}
    for column in ("chosen_ids", "rejected_ids"):
        for index, ids in enumerate(sides[pair][column]):
            if not ids:  # a chat template need not render all that a message holds
                raise ValueError(
                    f"the {name} dataset, {_name_row(index, dataset[index])}: `{column.removesuffix('_ids')}` has no "
                    "tokens once the chat template has rendered it"
                )
    if other is not None:
        _check_twins(dataset, sides["prompt"], sides["long_prompt"], name)
        column = "long_prompt_ids" if args.aligned else "ref_prompt_ids"
        ids = sides[other].select_columns("prompt_ids").rename_column("prompt_ids", column)
        prepared = concatenate_datasets([dataset, sides[pair], ids], axis=1)
    else:
        prepared = concatenate_datasets([dataset, sides[pair]], axis=1)
    return _drop_long_rows(prepared, _row_lengths(sides, args), args, name)


def _check_fields(dataset: Dataset, prompts: tuple[str, ...], name: str) -> None:
    for column in (*prompts, "chosen", "rejected"):
        if column not in dataset.column_names:
            hint = ""
            if column == "prompt" and "chosen" in dataset.column_names:
                hint = " A prompt that is only the common start of chosen and rejected has no long twin: write it out."
            raise ValueError(f"the {name} dataset has no column `{column}`, got {dataset.column_names}.{hint}")
    rows = dataset.with_format(None).select_columns(
        [c for c in ("id", *prompts, "chosen", "rejected") if c in dataset.column_names]
    )
    for index, row in enumerate(rows):
        where = f"the {name} dataset, {_name_row(index, row)}"
        for column in (*prompts, "chosen", "rejected"):
            if not isinstance(row[column], str | None) and not _are_messages(row[column]):
                raise ValueError(f"{where}: `{column}` is neither text nor a list of messages ({_short(row[column])})")
            if _is_empty(row[column]):
                raise ValueError(f"{where}: `{column}` is empty ({_short(row[column])})")
        kinds = {c: "text" if isinstance(row[c], str) else "messages" for c in (*prompts, "chosen", "rejected")}
        if len(set(kinds.values())) > 1:
            shown = ", ".join(f"{column}: {kind}" for column, kind in kinds.items())
            raise ValueError(f"{where}: prompts and answers must all be text or all be messages, got {shown}")


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(message, dict) for message in value)


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() == ""
    return not any(_says_something(message) for message in value or ())


def _says_something(message: dict[str, Any]) -> bool:
    content = message.get("content")
    if isinstance(content, str):
        content = content.strip()
    return bool(content or message.get("tool_calls") or message.get("reasoning_content"))


def _tokenize_side(dataset: Dataset, prompt: str, tokenize: Callable[[Dataset], Dataset]) -> Dataset:
    columns = [prompt, "chosen", "rejected", *(column for column in _OPTIONS if column in dataset.column_names)]
    side = dataset.select_columns(columns)
    if prompt != "prompt":
        side = side.rename_column(prompt, "prompt")
    return tokenize(side).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]).with_format(None)


def _check_twins(dataset: Dataset, short: Dataset, long: Dataset, name: str) -> None:
    lengths = zip(_lengths(short, "prompt_ids"), _lengths(long, "prompt_ids"), strict=True)
    for index, (short_length, long_length) in enumerate(lengths):
        if long_length < short_length:
            raise ValueError(
                f"the {name} dataset, {_name_row(index, dataset[index])}: `long_prompt` has {long_length} tokens, "
                f"fewer than the {short_length} of `prompt`. Are the two columns swapped?"
            )
    for column in ("chosen_ids", "rejected_ids"):
        for index, (on_short, on_long) in enumerate(zip(short[column], long[column], strict=True)):
            if on_short != on_long:
                at = next((i for i, (a, b) in enumerate(zip(on_short, on_long, strict=False)) if a != b), -1)
                raise ValueError(
                    f"the {name} dataset, {_name_row(index, dataset[index])}: `{column.removesuffix('_ids')}` is "
                    f"other tokens after `prompt` than after `long_prompt` ({_short(on_short)} and {_short(on_long)}, "
                    f"from position {at if at >= 0 else min(len(on_short), len(on_long))} on). Their rewards "
                    "cannot be compared. Let both prompts end alike, on a token boundary (a line feed, or a chat "
                    "template that renders both in the same way)."
                )


def _lengths(side: Dataset, column: str) -> np.ndarray:
    return np.array([len(ids) for ids in side[column]], dtype=np.int64)


def _row_lengths(sides: dict[str, Dataset], args: SoLoPOConfig) -> dict[str, np.ndarray]:
    """Tokens of each row on each side: the prompt with the longest answer that is run on it."""
    lengths = {}
    for prompt, side in sides.items():
        answers = args.aligned if prompt == "long_prompt" and args.aligned else ("chosen", "rejected")
        longest = np.max([_lengths(side, f"{answer}_ids") for answer in answers], axis=0)
        lengths[prompt] = _lengths(side, "prompt_ids") + longest
    return lengths


def _drop_long_rows(dataset: Dataset, lengths: dict[str, np.ndarray], args: SoLoPOConfig, name: str) -> Dataset:
    kept = np.ones(len(dataset), dtype=bool)
    reasons = []
    for prompt, limit_name in (("prompt", "max_length"), ("long_prompt", "max_long_length")):
        limit = getattr(args, limit_name)
        if prompt not in lengths or limit is None:
            continue
        over = lengths[prompt] > limit
        if over.any():
            kept &= ~over
            reasons.append(
                f"{over.sum()} with more than {limit_name}={limit} tokens in `{prompt}` and answer (the median row "
                f"has {int(np.median(lengths[prompt]))}, the longest {lengths[prompt].max()})"
            )
    dropped = int((~kept).sum())
    if dropped == 0:
        return dataset
    message = f"{dropped} of {len(dataset)} rows of the {name} dataset are too long: {'; '.join(reasons)}"
    if dropped == len(dataset) or dropped > args.max_drop_fraction * len(dataset):
        raise ValueError(
            f"{message}. That is more than max_drop_fraction={args.max_drop_fraction} allows: raise the limits, "
            "shorten the contexts, or raise max_drop_fraction to train on the rest. Rows are never truncated, since "
            "the answer must be the same on both sides."
        )
    logger.warning(f"{message}. They are dropped on both sides.")
    return dataset.select(np.flatnonzero(kept))


def _name_row(index: int, row: dict[str, Any]) -> str:
    return f"row {index + 1} (id {row['id']!r})" if row.get("id") is not None else f"row {index + 1}"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
