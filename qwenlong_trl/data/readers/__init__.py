"""Files of public long-context data sets as records, and records as files.

```python
>>> from qwenlong_trl.data import read_records, write_records
>>> skipped = []
>>> examples = list(read_records("musique_ans_v1.0_train.jsonl", on_invalid=skipped.append))
>>> write_records(examples, "musique.parquet")
```
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from ..record import InvalidRecordError, LongContextExample, record_features
from .docqa_rl import docqa_rl
from .files import detect_format, read_rows
from .qa import hotpotqa, musique, nq_open
from .squad import squad, squad_questions


_READERS = {
    "musique": musique,
    "hotpotqa": hotpotqa,
    "nq_open": nq_open,
    "squad": squad,
    "docqa_rl": docqa_rl,
    "records": lambda value, row: LongContextExample.from_dict(value),
}


def read_records(
    path: str | os.PathLike,
    format: str = "auto",
    on_invalid: Callable[[InvalidRecordError], None] | None = None,
) -> Iterator[LongContextExample]:
    """Reads a file one record at a time.

    JSON Lines, a JSON list and Parquet are told apart by content, and gzip by its magic bytes. Questions that their
    data set marks as unanswerable (`is_impossible` in SQuAD 2.0, `answerable: false` in MuSiQue-Full) are left out: a
    record always has an answer.

    Args:
        path (`str` or `os.PathLike`):
            File to read, UTF-8, with or without a byte order mark.
        format (`str`, *optional*, defaults to `"auto"`):
            `"musique"`, `"hotpotqa"` (distractor setting), `"nq_open"` (lost-in-the-middle), `"squad"`, `"docqa_rl"`
            (DocQA-RL-1.6K), `"records"` (this package's own), or `"auto"` to decide by the fields of the first row.
        on_invalid (`Callable[[InvalidRecordError], None]`, *optional*):
            Called with the error of each row that cannot become a record, which is then left out. Without it, the
            first such row raises. A file that is itself damaged (cut gzip, broken JSON list, corrupt Parquet) or holds
            no row raises in either case.

    Returns:
        `Iterator[LongContextExample]`: validated records, ids unique, in the order of the file.

    Raises:
        [`InvalidRecordError`]: names file, row, field, value and what was expected. Rows count from one: lines of JSON
            Lines, items of a list, rows of Parquet, articles (`data[row - 1]`) of SQuAD.
        `ValueError`: an unknown `format`, or a file whose format `"auto"` cannot tell.
    """
    path = Path(path)
    if format != "auto" and format not in _READERS:
        raise ValueError(f"unknown format {format!r}; expected 'auto' or one of {', '.join(_READERS)}")
    return _read(path, detect_format(path) if format == "auto" else format, on_invalid)


def _read(path: Path, format: str, on_invalid: Callable[[InvalidRecordError], None] | None):
    rows = read_rows(path, is_squad=format == "squad")
    first_use: dict[str, int] = {}
    only_unanswerable = True
    for row, value in squad_questions(rows) if format == "squad" else rows:
        try:
            if isinstance(value, InvalidRecordError):
                raise value
            example = _READERS[format](value, row)
            if example is None:  # unanswerable
                continue
            if example.id in first_use:
                raise InvalidRecordError("id", example.id, f"is already the id of row {first_use[example.id]}")
        except InvalidRecordError as error:
            located = error.at(str(path), row)
            if on_invalid is None:
                raise located from None
            on_invalid(located)
        else:
            first_use[example.id] = row
            yield example
        only_unanswerable = False
    if only_unanswerable:
        raise InvalidRecordError("<file>", "", "holds no answerable question", str(path), 1)


def write_records(examples: Iterable[LongContextExample], path: str | os.PathLike) -> int:
    """Writes records so that [`read_records`] returns equal ones; a file appears whole or not at all.

    Args:
        examples (`Iterable[LongContextExample]`):
            Records with unique ids. They are written as they come, so a generator of any length does.
        path (`str` or `os.PathLike`):
            File to write or replace. Its name decides: `.jsonl`, `.jsonl.gz` or `.parquet`.

    Returns:
        `int`: how many records were written, at least one.

    Raises:
        [`InvalidRecordError`]: a record is invalid or its id is used twice.
        `ValueError`: another file name, or no record.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        raise ValueError(f"cannot write records to {path}: expected a name that ends in .jsonl, .jsonl.gz or .parquet")
    # In the same folder: os.replace is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            checked = _checked(examples, path)
            if path.suffix == ".parquet":
                count = _write_parquet(checked, file)
            elif path.suffix == ".gz":
                # No name and no time in the gzip header: equal records give equal bytes.
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                    count = _write_lines(checked, packed)
            else:
                count = _write_lines(checked, file)
            file.flush()
            os.fsync(file.fileno())
        if count == 0:
            raise ValueError(f"no records to write to {path}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _checked(examples: Iterable[LongContextExample], path: Path) -> Iterator[LongContextExample]:
    first_use: dict[str, int] = {}
    for row, example in enumerate(examples, start=1):
        try:
            example.validate()
            if example.id in first_use:
                raise InvalidRecordError("id", example.id, f"is already the id of row {first_use[example.id]}")
        except InvalidRecordError as error:
            raise error.at(str(path), row) from None
        first_use[example.id] = row
        yield example


def _write_lines(examples: Iterable[LongContextExample], file: IO[bytes]) -> int:
    count = 0
    for example in examples:
        file.write(json.dumps(example.to_dict(), ensure_ascii=False).encode("utf-8") + b"\n")
        count += 1
    return count


def _write_parquet(examples: Iterator[LongContextExample], file: IO[bytes]) -> int:
    import pyarrow
    import pyarrow.parquet

    schema = (
        record_features().arrow_schema
    )  # carries the features as metadata, so `Dataset.from_parquet` restores them
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        # Row groups stay small because one record can be megabytes long.
        while rows := [example.to_dict() for example in islice(examples, 100)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count
