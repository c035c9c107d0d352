"""The inputs of the pipeline: what is in one, what is wrong with one, and how it is read once it is tokenised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

import numpy as np

from .context import Context
from .layout import Layout
from .options import CompressionOptions, check_tags


INPUT_FIELDS = ("context", "query", "instruction", "tags", "keep")
_OF_AN_OUTPUT = ("compressed", "spans", "input_tokens", "compressed_tokens", "ratio", "fallback")
_OF_AN_OUTPUT += ("documents", "windows")


@dataclass(frozen=True, eq=False)
class Job:
    """One input: how it is read, in windows of tokens, and compressed."""

    layout: Layout
    windows: np.ndarray  # int64[windows, 2]
    own: np.ndarray  # int64[windows, 2], what each window answers for
    prefix: np.ndarray  # int64[prefix]
    tags: tuple[str, ...]
    tag_ids: list[int]
    keep: np.ndarray  # int64[regions, 2]
    input_tokens: int
    extra: dict[str, Any]


def check_input(inputs: Any) -> dict[str, Any]:
    """The fields of an input that this pipeline reads, those that are `None` left out."""
    if not isinstance(inputs, Mapping):
        raise TypeError(f"an input is a mapping with `context` and `query`, got {type(inputs).__name__}")
    for name in ("context", "query"):
        if name not in inputs:
            raise ValueError(f"the input has no `{name}`; its keys are {', '.join(map(repr, inputs)) or 'none'}")
    for name in ("query", "instruction"):
        value = inputs.get(name, "")
        if not isinstance(value, str) and not (value is None and name == "instruction"):
            raise TypeError(f"`{name}` must be a text, got {type(value).__name__}")
    taken = {*_OF_AN_OUTPUT, *(field.name for field in fields(CompressionOptions))} - set(INPUT_FIELDS)
    if names := [name for name in inputs if name in taken]:
        raise ValueError(
            f"{', '.join(map(repr, names))} in an input: parameters go into the call, and outputs are ours"
        )
    tags = inputs.get("tags")
    if tags is not None:
        check_tags(tags)
    known = {name: inputs[name] for name in INPUT_FIELDS if inputs.get(name) is not None}
    return {"context": inputs["context"], **known}


def protected_ranges(keep: Any, context: Context, is_list: bool) -> np.ndarray:
    """Regions of the input as ranges of the text that the critic reads, `int64[regions, 2]`."""
    shape = "(document, start, end)" if is_list else "(start, end)"
    ranges = []
    keep = () if keep is None else keep
    if not isinstance(keep, Sequence | np.ndarray):
        raise ValueError(f"`keep` must be a list of {shape} in characters, got {type(keep).__name__}")
    for region in keep:
        numbers = list(region) if isinstance(region, Sequence | np.ndarray) else []
        whole = all(isinstance(number, Integral) and not isinstance(number, bool) for number in numbers)
        if len(numbers) != (3 if is_list else 2) or not whole or isinstance(region, str):
            raise ValueError(f"`keep` must be a list of {shape} in characters, got {region!r} in it")
        *document, start, end = map(int, numbers)
        index = document[0] if document else 0
        if not 0 <= index < len(context.documents):
            raise ValueError(f"`keep` names document {index}, there are {len(context.documents)}")
        first, last = context.documents[index].tolist()
        if not 0 <= start <= end <= last - first:
            where = f"document {index}" if is_list else "the context"
            raise ValueError(f"`keep` has {region!r}, which is not within {where} of {last - first} characters")
        if start < end:
            ranges.append((first + start, first + end))
    return np.array(ranges, dtype=np.int64).reshape(-1, 2)
