"""Which records or prompts to leave out: by length, as duplicates, as contamination of an evaluation set.

Each filter returns what it kept and, for each thing it dropped, the id and the reason.

```python
>>> from qwenlong_trl.data import drop_contaminated, drop_duplicates
>>> train, dropped = drop_duplicates(train)
>>> train, dropped = drop_contaminated(train, evaluation)
```
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .prompts import render_context
from .record import LongContextExample


if TYPE_CHECKING:
    from datasets import Dataset


class Dropped(NamedTuple):
    """What a filter left out: the `id` of the record or row, and the `reason`."""

    id: str
    reason: str


def filter_length(
    rows: Dataset | Iterable[Mapping[str, Any]], minimum: int, maximum: int
) -> tuple[Dataset | list[Mapping[str, Any]], list[Dropped]]:
    """Keeps rows with `minimum < prompt_length <= maximum`, the window of one phase (arXiv 2505.17667, Eq. 9).

    Args:
        rows (`Dataset` or `Iterable[Mapping[str, Any]]`):
            Rows of [`prompt_dataset`] or [`prompt_view`] with a tokenizer: `id` and `prompt_length` in tokens are
            read.
        minimum (`int`):
            Tokens; a row of exactly this length is dropped.
        maximum (`int`):
            Tokens; a row of exactly this length is kept.

    Returns:
        `tuple`: the kept rows (a `Dataset` for a `Dataset`, else a list) and the list of [`Dropped`].
    """
    if not 0 <= minimum < maximum:
        raise ValueError(f"expected 0 <= minimum < maximum, got minimum={minimum} and maximum={maximum}")
    is_dataset = hasattr(rows, "select")
    if is_dataset:
        if "prompt_length" not in rows.column_names:
            raise ValueError(f"expected a column prompt_length (see prompt_dataset), got {rows.column_names}")
        # Without the prompts: a set of long ones need not be read to look at its lengths.
        keys = rows.with_format(None).select_columns(["id", "prompt_length"])
    else:
        keys = rows = list(rows)
    kept, dropped = [], []
    for i, row in enumerate(keys):
        length = row.get("prompt_length")
        if length is None:
            raise ValueError(
                f"row {row.get('id')!r} has no prompt_length: make it with prompt_view(example, tokenizer)"
            )
        if length <= minimum:
            dropped.append(Dropped(row["id"], f"{length} tokens, not more than {minimum}"))
        elif length > maximum:
            dropped.append(Dropped(row["id"], f"{length} tokens, more than {maximum}"))
        else:
            kept.append(i)
    return (rows.select(kept) if is_dataset else [rows[i] for i in kept]), dropped


def drop_duplicates(examples: Iterable[LongContextExample]) -> tuple[list[LongContextExample], list[Dropped]]:
    """Keeps the first record of each (question, context), case, white space and Unicode form aside."""
    first_use: dict[bytes, str] = {}
    kept, dropped = [], []
    for example in examples:
        key = _hash(example.question, render_context(example.documents))
        if key in first_use:
            dropped.append(Dropped(example.id, f"same question and context as {first_use[key]!r}"))
        else:
            first_use[key] = example.id
            kept.append(example)
    return kept, dropped


def drop_contaminated(
    train: Iterable[LongContextExample], evaluation: Iterable[LongContextExample]
) -> tuple[list[LongContextExample], list[Dropped]]:
    """Drops training records that ask an evaluation question, over the same context or over another one.

    Needed wherever one data set gives both: MuSiQue is a training source and a benchmark of QwenLong-L1, and its
    DocMath training and evaluation questions come from one split (arXiv 2505.17667, Table 3). The comparison is that
    of [`drop_duplicates`].

    Args:
        train (`Iterable[LongContextExample]`):
            Records to clean.
        evaluation (`Iterable[LongContextExample]`):
            Records that must not be trained on.

    Returns:
        `tuple[list[LongContextExample], list[Dropped]]`: the clean records, and what was dropped; the reason says
        whether the context was the same too.
    """
    questions: dict[bytes, str] = {}
    pairs: dict[bytes, str] = {}
    for example in evaluation:
        questions.setdefault(_hash(example.question), example.id)
        pairs.setdefault(_hash(example.question, render_context(example.documents)), example.id)
    kept, dropped = [], []
    for example in train:
        question = _hash(example.question)
        if question not in questions:
            kept.append(example)
            continue
        pair = _hash(example.question, render_context(example.documents))
        if pair in pairs:
            dropped.append(Dropped(example.id, f"same question and context as evaluation record {pairs[pair]!r}"))
        else:
            reason = f"same question as evaluation record {questions[question]!r}, over another context"
            dropped.append(Dropped(example.id, reason))
    return kept, dropped


def _hash(*texts: str) -> bytes:
    normal = (" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in texts)
    return hashlib.sha256("\0".join(normal).encode("utf-8")).digest()
