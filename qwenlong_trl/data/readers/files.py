"""Rows of a file, whatever holds them: JSON Lines, a JSON list, a SQuAD object or Parquet, plain or gzipped.

`read_rows` numbers rows from one and tells a row that is broken (the caller may skip it) from a file that is broken (a
cut download, a corrupt page: nothing after it can be trusted, so that always raises).
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ..record import InvalidRecordError


GZIP_MAGIC, PARQUET_MAGIC, BOM = b"\x1f\x8b", b"PAR1", b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")
# Bytes that are no UTF-8 are decoded to these (the "surrogateescape" handler), so that their row can be named.
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")

# Which public format has rows with these fields. The order matters: the first one whose fields are all there is taken.
_FIELDS = {
    "docqa_rl": {"prompt", "reward_model"},
    "hotpotqa": {"context", "supporting_facts"},
    "musique": {"question", "paragraphs"},
    "nq_open": {"question", "ctxs"},
    "records": {"question", "documents"},
    "squad": {"data"},
}


def detect_format(path: Path) -> str:
    """The format that a file's own content shows; raises `ValueError` that says what was seen where none fits."""
    problem = unknown = None
    for value in islice(_first_rows(path), 100):
        if isinstance(value, InvalidRecordError):
            problem = problem or value
            continue
        if isinstance(value, Mapping):
            for name, fields in _FIELDS.items():
                if fields <= value.keys():
                    return name
            value = f"the fields {', '.join(sorted(map(str, value)))}"
        unknown = unknown or str(value)[:200]
    if unknown is None:
        raise problem
    raise ValueError(f"cannot tell the format of {path}: a row holds {unknown}; pass format={' or '.join(_FIELDS)}")


def read_rows(path: Path, is_squad: bool = False) -> Iterator[tuple[int, Any]]:
    """Yields `(row, value)`; a broken row yields the [`InvalidRecordError`] itself as its value.

    Args:
        path (`pathlib.Path`):
            File to read. Anything that is neither Parquet nor starts with `[` is read as JSON Lines.
        is_squad (`bool`, *optional*, defaults to `False`):
            The file is one JSON object whose `data` list holds the rows.
    """
    row = 0
    try:
        with _open(path) as file:
            start = _first_byte(file)
            if file.peek(4)[:4] == PARQUET_MAGIC:
                rows = _parquet_rows(path)
            elif is_squad:
                rows = _squad_articles(file)
            else:
                rows = _list_rows(file) if start == b"[" else _line_rows(file)
            for row, value in rows:
                yield row, value
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged_gzip(path, error, row + 1) from None
    except InvalidRecordError as error:
        raise error.at(str(path), error.row or row + 1) from None
    if row == 0:
        raise InvalidRecordError("<file>", "", "is empty: expected at least one row", str(path), 1)


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        is_gzip = file.read(2) == GZIP_MAGIC
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")


def _damaged_gzip(path: Path, error: Exception, row: int) -> InvalidRecordError:
    return InvalidRecordError("<file>", str(error), "the gzip data is cut or corrupt", str(path), row)


def _first_byte(file: IO[bytes]) -> bytes:
    """The first byte that is no white space; leaves the file after a byte order mark, else at its start."""
    if file.read(3) != BOM:
        file.seek(0)
    start = file.tell()
    byte = file.read(1)
    while byte.isspace():
        byte = file.read(1)
    file.seek(start)
    return byte


def _first_rows(path: Path) -> Iterator[Any]:
    try:
        with _open(path) as file:
            if _first_byte(file) == b"{":
                # Both JSON Lines and a SQuAD object, on one line or many, start with a brace.
                value = _parse(first := file.readline())
                if isinstance(value, InvalidRecordError):
                    value = _parse((first + file.read()).decode("utf-8", errors="surrogateescape"))
                if isinstance(value, Mapping) and "data" in value:
                    yield value
                    return
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged_gzip(path, error, 1) from None
    for row, value in read_rows(path):
        yield value.at(str(path), row) if isinstance(value, InvalidRecordError) else value


def _parse(line: bytes | str) -> Any:
    """The JSON value, or the error that describes why there is none."""
    try:
        return json.loads(line.decode("utf-8") if isinstance(line, bytes) else line)
    except UnicodeDecodeError as error:
        around = line[max(0, error.start - 20) : error.end + 20]
        return InvalidRecordError("<row>", around, f"is not UTF-8 at byte {error.start}: save the file as UTF-8")
    except (ValueError, RecursionError) as error:  # ValueError: JSON syntax, or an integer of thousands of digits
        shown = line[:200].decode("utf-8", "replace") if isinstance(line, bytes) else line[:200]
        return InvalidRecordError("<row>", shown.strip(), f"is not JSON: {error}")


def _line_rows(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for row, line in enumerate(file, start=1):
        if line.strip():
            yield row, _parse(line.rstrip(b"\r\n"))


def _list_rows(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """The items of one JSON list, decoded one by one, so that an error names its item."""
    text = file.read().decode("utf-8", errors="surrogateescape")
    decoder, row = json.JSONDecoder(), 0
    position = _SPACE.match(text, text.index("[") + 1).end()
    while not text.startswith("]", position):
        row += 1
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            # Where the next item starts is unknown from here on.
            raise InvalidRecordError(
                "<row>", text[position : position + 200], f"is not JSON: {error}", row=row
            ) from None
        if escaped := _ESCAPED_BYTES.search(text, position, end):
            around = text[max(position, escaped.start() - 20) : min(end, escaped.end() + 20)]
            value = InvalidRecordError("<row>", around, "is not UTF-8: save the file as UTF-8")
        yield row, value
        position = _SPACE.match(text, end).end()
        if text.startswith(",", position):
            position = _SPACE.match(text, position + 1).end()
        elif not text.startswith("]", position):
            raise InvalidRecordError(
                "<row>", text[position : position + 200], "expected a comma or the list's end", row=row
            )
    if rest := text[position + 1 :].strip():
        raise InvalidRecordError("<file>", rest[:200], "expected nothing after the list", row=row + 1)


def _squad_articles(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    # Undecodable bytes survive as escapes here; the record's own check names the text that holds them.
    value = _parse(file.read().decode("utf-8", errors="surrogateescape"))
    if isinstance(value, InvalidRecordError):
        raise value if value.value else InvalidRecordError("<file>", "", "is empty: expected a SQuAD object", row=1)
    articles = value.get("data") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or not isinstance(articles, list):
        raise InvalidRecordError("data", articles, "expected an object whose `data` is a list of articles", row=1)
    yield from enumerate(articles, start=1)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for i in range(batch.num_rows):
                    row += 1
                    try:
                        value = batch.slice(i, 1).to_pylist()[0]
                    except UnicodeDecodeError as error:
                        value = InvalidRecordError("<row>", error.object[:200], f"is not UTF-8 at byte {error.start}")
                    yield row, value
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidRecordError("<file>", str(error), "the Parquet data is cut or corrupt", row=row + 1) from None
