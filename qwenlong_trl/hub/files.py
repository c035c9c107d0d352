"""Reading and writing of the small files beside a model or a data set: whole or not at all, errors with their name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Replaces a file, whose readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any] | None:
    """
    The object in a file, `None` if it is not there.

    Raises:
        `ValueError`: it holds none; the message has the file and `what` it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); expected {what}") from None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); expected {what}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}; expected {what}")
    return value


def plain(value: Any, refuse: Callable[[Any], Any] = str) -> Any:
    """The same in what JSON has: numbers that are none become `None`, what is unknown is put into words."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, bool | int | str):
        return getattr(value, "value", value)  # of an enumeration, such as a strategy of saving
    return refuse(value)
