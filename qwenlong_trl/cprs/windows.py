"""Cuts a tokenised context into the windows that the compressor reads one by one, and puts windows into batches.

```python
>>> windows = cut_windows(text, starts, ends, sentences(text), capacity=8000, overlap=256)  # token ranges
>>> for (start, end), (own_start, own_end) in zip(windows, owned(windows)): ...
>>> batches = batch_by_length(windows[:, 1] - windows[:, 0], max_tokens=32_768)
```

QwenLong-CPRS (arXiv 2505.18092, section 2.2) compresses windows independently of each other. Windows here end with a
sentence wherever they can, and may overlap; a token of two windows is judged where it has more context.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .units import last_true, token_boundaries, white_space


def cut_windows(
    text: str, starts: np.ndarray, ends: np.ndarray, sentence_ranges: np.ndarray, capacity: int, overlap: int = 0
) -> np.ndarray:
    """
    Windows of at most `capacity` tokens that together hold all tokens in order.

    A window ends as late as possible, but not before its middle: with a sentence; else at white space; else between
    two tokens that share no character; else, in a character of more than half a window of tokens, anywhere.

    Args:
        text (`str`):
            What all offsets refer to.
        starts, ends (`np.ndarray` of shape `(n,)`):
            Character range of each token, non-decreasing.
        sentence_ranges (`np.ndarray` of shape `(m, 2)`):
            Character ranges of the sentences, in order. White space that a sentence ends with may go to either window.
        capacity (`int`):
            Most tokens of a window.
        overlap (`int`, *optional*, defaults to `0`):
            Tokens that a window shares with the one before, less than half of `capacity`. A few more or less where a
            character would be divided.

    Returns:
        `int64[w, 2]`: token ranges, starts and ends strictly increasing; `(0, 2)` without tokens.

    Raises:
        `ValueError`: `capacity` or `overlap` is out of range.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1 token, got {capacity}.")
    if overlap and not 0 < overlap < capacity // 2:
        raise ValueError(
            f"overlap must be 0 or more, and less than half of the capacity of a window ({capacity} tokens), got "
            f"{overlap}. Use a smaller overlap or larger windows."
        )
    n = len(starts)
    whole, spaced = token_boundaries(text, starts, ends)
    after_sentence = whole & _after_sentence(text, starts, sentence_ranges)
    choices = [last_true(mask) for mask in (after_sentence, spaced, whole)]  # best first
    last_whole, boundaries = choices[-1], np.flatnonzero(whole)

    windows: list[tuple[int, int]] = []
    start = end = 0
    while end < n:
        limit = start + capacity
        if limit >= n:
            windows.append((start, n))
            break
        earliest = max(start + (capacity + 1) // 2, end + 1)
        end = next((int(last[limit]) for last in choices if last[limit] >= earliest), limit)
        windows.append((start, end))
        back = int(last_whole[end - overlap]) if overlap else end
        if back <= start:  # only one character lies between: begin behind it, with a little less overlap
            following = np.searchsorted(boundaries, start, side="right")
            back = min(int(boundaries[following]), end) if following < len(boundaries) else end
        next_whole = boundaries[np.searchsorted(boundaries, end, side="right")]
        if next_whole - back > capacity:  # too far back to reach behind the next character
            back = min(int(boundaries[np.searchsorted(boundaries, next_whole - capacity)]), end)
        start = back
    return np.array(windows, dtype=np.int64).reshape(-1, 2)


def _after_sentence(text: str, starts: np.ndarray, sentence_ranges: np.ndarray) -> np.ndarray:
    """`bool[n + 1]`: the boundaries from where the text of a sentence ends to where the next sentence starts."""
    after = np.zeros(len(starts) + 1, dtype=bool)
    if len(starts) and len(sentence_ranges):
        # With byte-level tokens the blank before a word belongs to the token of the word, so that the next sentence
        # begins within a token: what counts is that the token starts behind the text, not behind the white space.
        stops = sentence_ranges[:, 1]
        text_ends = last_true(np.concatenate([[True], ~white_space(text)]))[stops]
        sentence = np.minimum(np.searchsorted(stops, starts), len(stops) - 1)  # the one that reaches to the token
        after[:-1] = text_ends[sentence] <= starts
    return after


def owned(windows: np.ndarray) -> np.ndarray:
    """
    Which tokens each window answers for: an overlap is divided at its middle.

    So a token of two windows belongs to the one where it is farther from the edge.

    Args:
        windows (`np.ndarray` of shape `(w, 2)`):
            Token ranges as [`cut_windows`] returns them.

    Returns:
        `int64[w, 2]`: a partition of the tokens into ranges, each within its window.
    """
    ranges = np.array(windows, dtype=np.int64)
    middle = (ranges[:-1, 1] + ranges[1:, 0]) // 2
    ranges[:-1, 1] = middle
    ranges[1:, 0] = middle
    return ranges


def batch_by_length(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> list[list[int]]:
    """
    Rows of like length in batches: at most a quarter of a row is padding.

    Args:
        lengths (`Sequence[int]` or `np.ndarray`):
            Tokens of each row.
        max_tokens (`int`):
            Most tokens of a batch, padding included. A row that is longer is a batch of its own.

    Returns:
        `list[list[int]]`: indices of the rows, longest first; rows of one length keep their order.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable").tolist()
    batches = []
    first = 0
    while first < len(order):
        longest = int(lengths[order[first]])
        batch = order[first : first + max(1, max_tokens // max(1, longest))]
        batches.append([row for row in batch if 4 * int(lengths[row]) >= 3 * longest])
        first += len(batches[-1])
    return batches
