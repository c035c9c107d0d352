"""What the readers share: typed access to a row's fields, and where an answer stands in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..record import Document, Evidence, InvalidRecordError


_NAMES = {str: "a string", int: "an integer", bool: "true or false", list: "a list", Mapping: "an object"}
_REQUIRED = object()


def as_kind(value: Any, kind: type, field: str) -> Any:
    """`value`, when it is of `kind`; raises [`InvalidRecordError`] otherwise."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidRecordError(field, value, f"expected {_NAMES[kind]}")
    return value


def take(row: Any, name: str, kind: type, where: str = "", default: Any = _REQUIRED) -> Any:
    """`row[name]`, checked to be of `kind`.

    Args:
        row (`Any`):
            The object; anything else is an error.
        name (`str`):
            Its field.
        kind (`type`):
            `str`, `int`, `bool`, `list` or `Mapping`.
        where (`str`, *optional*, defaults to `""`):
            Path of `row` inside its row of the file, for the message.
        default (`Any`, *optional*):
            Value of a field that is absent or null. Without it such a field is an error.
    """
    row = as_kind(row, Mapping, where or "<row>")
    field = f"{where}.{name}" if where else name
    if row.get(name) is None:
        if default is not _REQUIRED:
            return default
        raise InvalidRecordError(field, None, f"is null: expected {_NAMES[kind]}" if name in row else "is missing")
    return as_kind(row[name], kind, field)


def take_strings(row: Any, name: str, where: str = "", default: Any = _REQUIRED) -> list[str]:
    """`row[name]`, checked to be a list of strings."""
    field = f"{where}.{name}" if where else name
    values = take(row, name, list, where, default)
    return [as_kind(value, str, f"{field}[{i}]") for i, value in enumerate(values)]


def unique(values: Iterable[Any]) -> tuple:
    """Each value once, in order of first appearance."""
    return tuple(dict.fromkeys(values))


def find_spans(text: str, answer: str) -> list[tuple[int, int]]:
    """Where `answer` stands in `text` as whole words, whatever the case and the white space between its words."""
    words = [re.escape(word) for word in answer.split()]
    if not words:
        return []
    pattern = re.compile(r"(?<!\w)" + r"\s+".join(words) + r"(?!\w)", re.IGNORECASE)
    return [match.span() for match in pattern.finditer(text)]


def merge(spans: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Spans in reading order; those that overlap (an answer inside its own alias) become one."""
    merged: list[Evidence] = []
    for span in sorted(spans, key=lambda span: (span.document, span.start, span.end)):
        if merged and merged[-1].document == span.document and span.start < merged[-1].end:
            last = merged.pop()
            span = Evidence(last.document, last.start, max(last.end, span.end))
        merged.append(span)
    return tuple(merged)


def whole(documents: list[Document], index: int) -> Evidence:
    """The whole text of a document as evidence."""
    return Evidence(index, 0, len(documents[index].text))
