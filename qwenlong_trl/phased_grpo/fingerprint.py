"""What a data set holds, in a form small enough for a checkpoint: a hash of every column and one of every row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import PurePath
from typing import Any

from datasets import Dataset


_CHUNK = 64  # rows read at a time: of 60K-token prompts about 15 MB of text


@dataclass(frozen=True)
class Fingerprint:
    """
    Equal for the same data, however it was loaded: values are read as they are stored, so that media are not decoded,
    and of a media file its bytes count, or its name where it lies outside of the data set.

    Args:
        columns (`dict[str, str]`):
            SHA-256 of every column, rows in order, and of the ids and the prompt lengths as they are used, whether
            they are columns or not.
        rows (`dict[str, str]`):
            Id of every row, in order, and a hash of 8 bytes of all that is in it.
    """

    columns: dict[str, str]
    rows: dict[str, str]


def fingerprint(dataset: Dataset, ids: list[str], lengths: list[int]) -> Fingerprint:
    """Reads a data set once; `ids` and `lengths` (in tokens) belong to its rows."""
    rest = [name for name in dataset.column_names if name not in ("id", "prompt_length")]
    columns = {name: hashlib.sha256() for name in ("id", "prompt_length", *rest)}
    rows: dict[str, str] = {}
    stored = dataset.with_format("arrow")
    for start in range(0, len(dataset), _CHUNK):
        chunk = stored[start : start + _CHUNK]
        values = {"id": ids[start : start + _CHUNK], "prompt_length": lengths[start : start + _CHUNK]}
        values |= {name: [_without_place(value) for value in chunk[name].to_pylist()] for name in rest}
        for row in zip(*values.values(), strict=True):
            digest = hashlib.blake2b(digest_size=8)
            # By name: columns may come in any order.
            for name, value in sorted(zip(values, row, strict=True), key=itemgetter(0)):
                text = json.dumps(value, sort_keys=True, default=_as_text).encode("utf-8", "surrogatepass") + b"\n"
                columns[name].update(text)
                digest.update(name.encode("utf-8") + b"\n" + text)
            rows[row[0]] = digest.hexdigest()
    return Fingerprint({name: digest.hexdigest() for name, digest in columns.items()}, rows)


def rows_that_differ(saved: dict[str, str], current: dict[str, str], shown: int = 5) -> list[str]:
    """A line for each kind of difference between two tables of rows, which names up to `shown` rows."""
    kinds = {
        "rows gone": [example for example in saved if example not in current],
        "rows changed": [example for example in saved if current.get(example, saved[example]) != saved[example]],
        "rows new": [example for example in current if example not in saved],
    }
    if not any(kinds.values()) and list(saved) != list(current):
        kinds["rows in another order, from"] = [next(a for a, b in zip(saved, current, strict=True) if a != b)]
    lines = []
    for kind, examples in kinds.items():
        if examples:
            more = f" and {len(examples) - shown} more" if len(examples) > shown else ""
            lines.append(f"{kind}: {', '.join(map(repr, examples[:shown]))}{more}")
    return lines


def _as_text(value: Any) -> str:
    """What JSON has no form for: bytes, dates, decimals."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _without_place(value: Any) -> Any:
    """Media without the folder that they lie in on this machine."""
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        return value["bytes"] or PurePath(value["path"] or "").name
    return [_without_place(item) for item in value] if isinstance(value, list) else value
