"""A batch of windows on its way through the critic, and errors that say which input they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def infer(windows: list[dict[str, Any]], forward: Callable[[dict[str, Any]], dict]) -> list[dict[str, Any]]:
    """One batch of windows, padded on the right; logits of the context alone, as float32 arrays."""
    if not windows:
        return []
    lengths = [len(window["input_ids"]) for window in windows]
    ids = np.zeros((len(windows), max(lengths)), dtype=np.int64)  # any entry of the vocabulary pads
    for row, window in zip(ids, windows, strict=True):
        row[: len(window["input_ids"])] = window["input_ids"]
    inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids)}
    if min(lengths) < max(lengths):
        padding = np.arange(max(lengths)) < np.array(lengths)[:, None]
        inputs["attention_mask"] = torch.from_numpy(padding.astype(np.int64))
    # Inputs may have tag words of their own: all of them, each once.
    tag_ids = list(dict.fromkeys(tag for window in windows for tag in window["job"].tag_ids))
    if tag_ids:
        inputs["tag_ids"] = tag_ids
    output = forward(inputs)
    logits = output["logits"].float().numpy()
    tag_logits = output["tag_logits"].float().numpy() if tag_ids else None
    results = []
    for row, (length, window) in enumerate(zip(lengths, windows, strict=True)):
        job = window["job"]
        part = slice(len(job.prefix), length)
        columns = [tag_ids.index(tag) for tag in job.tag_ids]
        tags = tag_logits[row, part][:, columns] if columns else None
        results.append({"job": job, "logits": logits[row, part], "tag_logits": tags})
    return results


@contextmanager
def naming(number: int) -> Iterator[None]:
    """Errors say which input they are about."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in input {number} (counted from 0)")
        raise
