"""A context as the critic reads it: documents joined to one text, tokenised once, each token with its characters.

```python
>>> context = read_context([{"title": "Radium", "text": "Marie Curie found it."}, "Another document."], tokenizer)
>>> context.text[context.starts[3] : context.ends[3]]
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .units import without_surrogates


@dataclass(frozen=True)
class Context:
    """
    Args:
        text (`str`):
            The documents, each below its title, with a blank line between them.
        documents (`np.ndarray` of shape `(documents, 2)`):
            Where the text of each document stands in `text`, in characters, without its title.
        ids (`np.ndarray` of shape `(tokens,)`):
            Token ids, without special tokens.
        starts, ends (`np.ndarray` of shape `(tokens,)`):
            The characters of each token. Neither decreases. Each character of a document belongs to a token, also
            one that the tokenizer's normaliser merged away; tokens that are parts of one character all have it.
    """

    text: str
    documents: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def read_context(context: str | Sequence[str | Mapping[str, Any]], tokenizer) -> Context:
    """
    Joins and tokenises documents.

    Args:
        context (`str` or `list`):
            A text, or documents: texts or mappings with `text` and, if any, `title`; other fields are not looked at.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            The critic's tokenizer. Special tokens written in the text stay text.

    Raises:
        `ValueError`, `TypeError`: names the document and what is wrong with it, or a tokenizer without offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} gives no character offsets: a fast tokenizer is needed")
    documents = [("", context)] if isinstance(context, str) else [_document(d, i) for i, d in _listed(context)]
    pieces, ranges, length = [], [], 0
    for i, (title, text) in enumerate(documents):
        head = f"{title}\n" if title else ""
        ranges.append((length + len(head), length + len(head) + len(text)))
        pieces.append(head + text + ("\n\n" if i + 1 < len(documents) else ""))
        length += len(pieces[-1])
    ids, starts, ends = _tokenize(pieces, tokenizer)
    return Context("".join(pieces), np.array(ranges, dtype=np.int64).reshape(-1, 2), ids, starts, ends)


def _listed(context: Any):
    if isinstance(context, bytes | Mapping) or not isinstance(context, Sequence):
        raise TypeError(f"`context` must be a text or a list of documents, got {type(context).__name__}")
    return enumerate(context)


def _document(document: Any, index: int) -> tuple[str, str]:
    if isinstance(document, str):
        return "", document
    if not isinstance(document, Mapping):
        kind = type(document).__name__
        raise TypeError(f"`context[{index}]` must be a text or a mapping with `text`, got {kind}")
    title, text = document.get("title") or "", document.get("text")
    for name, value in (("text", text), ("title", title)):
        if not isinstance(value, str):
            raise TypeError(f"`context[{index}][{name!r}]` must be a text, got {type(value).__name__}")
    return title, text


def _tokenize(pieces: list[str], tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    clean = [without_surrogates(piece) for piece in pieces]
    empty = np.zeros(0, dtype=np.int64)
    if not clean:
        return empty, empty, empty
    encoded = tokenizer(
        clean,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids, starts, ends, base = [empty], [empty], [empty], 0
    for piece, tokens, offsets in zip(pieces, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if tokens:
            found = np.array(offsets, dtype=np.int64) + base  # (tokens, 2)
            start = np.maximum.accumulate(found[:, 0])
            start[0] = base
            # A normaliser may merge characters away, behind a token (a combining mark) as anywhere else.
            end = np.maximum(found[:, 1], np.append(start[1:], base + len(piece)))
            ids.append(np.array(tokens, dtype=np.int64))
            starts.append(start)
            ends.append(np.maximum.accumulate(end))
        base += len(piece)
    del encoded  # a Python object for each offset
    return np.concatenate(ids), np.concatenate(starts), np.concatenate(ends)
