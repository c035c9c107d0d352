"""Where the documents, sentences and blanks of a context are, and how parts of it are written down again.

```python
>>> layout = Layout(read_context("It rains. Take an umbrella.", tokenizer), False, CompressionOptions())
>>> layout.write(layout.clip(layout.sentences)[1:])
'Take an umbrella.'
```

All ranges are characters of the text of the [`Context`], sorted and disjoint, unless they are said to be tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from .context import Context
from .options import CompressionOptions
from .units import sentences, white_space


class Layout:
    """
    What a context is made of, and how parts of it are written down again.

    Args:
        context ([`Context`]):
            As the critic reads it.
        is_list (`bool`):
            Whether it was given as a list of documents, and not as one text.
        options ([`CompressionOptions`]):
            How it is compressed.
    """

    def __init__(self, context: Context, is_list: bool, options: CompressionOptions):
        self.context = context
        self.is_list = is_list
        self.options = options

    @cached_property
    def solid(self) -> np.ndarray:
        """`int64[m]`: the characters that are not white space."""
        return np.flatnonzero(~white_space(self.context.text))

    @cached_property
    def sentences(self) -> np.ndarray:
        """`int64[m, 2]`: a partition of the text."""
        return sentence_partition(self.context, self.options.language)

    @cached_property
    def titles(self) -> list[str]:
        """Of each document, `""` without one."""
        titles, position = [], 0
        for start, end in self.context.documents.tolist():
            titles.append(self.context.text[position : max(start - 1, position)])
            position = end + 2  # behind the blank line
        return titles

    @cached_property
    def everything(self) -> np.ndarray:
        """`int64[m, 2]`: the documents that are not blank, as they are."""
        documents = self.context.documents
        return documents[~self.blank(documents[:, 0], documents[:, 1])]

    def blank(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """`bool[m]`: whether there is nothing but white space in each range."""
        return np.searchsorted(self.solid, starts) >= np.searchsorted(self.solid, ends)

    def clip(self, ranges: np.ndarray) -> np.ndarray:
        """The parts of sorted, disjoint ranges that lie in documents, without white space at their ends."""
        ranges = intersect(ranges, self.context.documents)
        first = np.searchsorted(self.solid, ranges[:, 0])
        last = np.searchsorted(self.solid, ranges[:, 1])
        first, last = first[first < last], last[first < last]
        return np.stack([self.solid[first], self.solid[last - 1] + 1], axis=1).astype(np.int64)

    def document_of(self, ranges: np.ndarray) -> np.ndarray:
        """`int64[m]`: the document of each range."""
        return np.searchsorted(self.context.documents[:, 1], ranges[:, 0], side="right")

    def tokens_of(self, ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`int64[m]` twice: the first token of each range, and the one behind its last."""
        first = np.searchsorted(self.context.ends, ranges[:, 0], side="right")
        return first, np.maximum(np.searchsorted(self.context.starts, ranges[:, 1], side="left"), first)

    def join_blank(self, ranges: np.ndarray) -> np.ndarray:
        """Joins neighbours of one document that only white space keeps apart."""
        if len(ranges) < 2:
            return ranges
        document = self.document_of(ranges)
        apart = ~self.blank(ranges[:-1, 1], ranges[1:, 0]) | (document[1:] != document[:-1])
        first, last = np.append(True, apart), np.append(apart, True)
        return np.stack([ranges[first, 0], ranges[last, 1]], axis=1)

    def render(self, ranges: np.ndarray) -> dict[int, str]:
        """What is written for each document that has any of the sorted, disjoint ranges: its title, and the ranges.

        White space stays as it is where nothing else lies between two ranges; elsewhere `separator` does.
        """
        text, parts = self.context.text, {}
        ranges = self.join_blank(ranges)
        for (start, end), document in zip(ranges.tolist(), self.document_of(ranges).tolist(), strict=True):
            parts.setdefault(document, []).append(text[start:end])
        written = {document: self.options.separator.join(pieces) for document, pieces in parts.items()}
        if not (self.is_list and self.options.include_titles):
            return written
        titles = self.titles
        return {i: f"{titles[i]}\n{body}" if titles[i] else body for i, body in written.items()}

    def write(self, ranges: np.ndarray) -> str:
        """The compressed context that consists of these ranges."""
        return self.options.document_separator.join(self.render(ranges).values())


def split_documents(context: Context, split: Callable[[str], np.ndarray]) -> np.ndarray:
    """What `split` makes of the text of each document, as ranges of the text of the context, `int64[m, 2]`."""
    found = [split(context.text[start:end]) + start for start, end in context.documents.tolist()]
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)


def sentence_partition(context: Context, language: str = "en") -> np.ndarray:
    """The sentences of all documents, and what stands between documents (titles), `int64[m, 2]`: a partition."""
    bounds = np.concatenate([[0], context.documents.reshape(-1), [len(context.text)]])
    between = np.stack([bounds[::2], bounds[1::2]], axis=1)
    ranges = np.concatenate([between, split_documents(context, lambda text: sentences(text, language))])
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    return ranges[np.argsort(ranges[:, 0], kind="stable")]


def intersect(ranges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The parts of sorted, disjoint ranges that lie in other sorted, disjoint ranges; no part is empty."""
    first = np.searchsorted(others[:, 1], ranges[:, 0], side="right")
    counts = np.maximum(np.searchsorted(others[:, 0], ranges[:, 1], side="left") - first, 0)
    mine = np.repeat(np.arange(len(ranges)), counts)
    theirs = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    starts = np.maximum(ranges[mine, 0], others[theirs, 0])
    ends = np.minimum(ranges[mine, 1], others[theirs, 1])
    return np.stack([starts, ends], axis=1)[starts < ends]


def overlaps(ranges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`bool[m]`: whether each range shares a character with one of the others; both sorted and disjoint."""
    first = np.searchsorted(others[:, 1], ranges[:, 0], side="right")
    return np.searchsorted(others[:, 0], ranges[:, 1], side="left") > first
