"""What a page open to strangers accepts: sizes of texts and files, and JSON that may be anything.

Everything here raises `ValueError` with a sentence for the person in front of the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def check_length(name: str, text: str, most: int) -> str:
    """The text, if it has no more than `most` characters; `name` is what the page calls it."""
    if len(text) > most:
        raise ValueError(f"{name} has {len(text):,} characters; this page takes up to {most:,}. Shorten it.")
    return text


def read_upload(path: str | Path, suffixes: tuple[str, ...], most_bytes: int) -> str:
    """
    The text of an uploaded file.

    Args:
        path (`str` or `Path`):
            Where the upload lies.
        suffixes (`tuple[str, ...]`):
            Ends of names that are taken, in lower case and with their dots.
        most_bytes (`int`):
            Largest size. It is looked up before anything is read.

    Raises:
        `ValueError`: another kind of file, a larger one, or one that is not UTF-8.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path.name} is no {' or '.join(suffixes)} file.")
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"{path.name} has {size:,} bytes; this page takes files of up to {most_bytes:,}.")
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text (byte {error.start:,}); convert it first.") from None


def read_json_upload(path: str | Path, most_bytes: int) -> Any:
    """As [`read_upload`], for a `.json` file; the value in it, in which NaN and infinity are `None`."""
    text = read_upload(path, (".json",), most_bytes)
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{Path(path).name} holds no JSON: {reason}.") from None
