"""What the released QwenLong-CPRS server makes of a text and of its tags (`compat="official"`): windows and spans.

```python
>>> windows = official_windows(text, starts, ends, capacity=8192 - prefix_tokens)
>>> for start, end in official_spans(tags, starts, text):  # tags of all windows, one after the other
...     print(text[start:end])
```

The default decoding of this package is another one. This module serves to compare with results of the server, whose
rules (QwenLong-CPRS, arXiv 2505.18092; code of 28 May 2025) are:

| the released server                                                    | here                        |
|------------------------------------------------------------------------|-----------------------------|
| repairs gaps of up to 18 tokens after a B, between two B, too          | same                        |
| repairs from each E leftwards: never runs, lists lack `rindex`         | left out, so the same       |
| any tag but O opens a span; O or the next B closes it, E does not      | same                        |
| keeps spans of more than `min_keyword_len` tokens, 4 unless told       | same                        |
| a span ends where the next token starts: may lose half an emoji        | same                        |
| `complete_sentence` stops at any ".", returns text twice               | same                        |
| drops blank spans and substrings of "（），。！"                       | same                        |
| returns stripped text with the offsets of the unstripped one           | offsets move with the strip |
| `complete_sentence`, end at 0: reads the last character of the text    | reads nothing there         |
| no Chinese character: cuts every `capacity` tokens                     | same                        |
| otherwise packs sentences, counted in tokens                           | same, save the rows below   |
| tokenises sentences and windows anew, pads missing tags or fails       | tokens of the whole text    |
| sentence longer than a window: loses its tail, shifts all that follows | cut every `capacity` tokens |
| empty window before a first sentence that is too long                  | no empty windows            |
| drops the text after 2,048,000 tokens                                  | reads all of it             |
"""

from __future__ import annotations

import re

import numpy as np

from .decode import BEGIN, END, INSIDE, OUTSIDE


MAX_STEP = 19  # tokens from one kept token to the next up to which the gap is repaired: 18 tokens lie between them
SENTENCE_STOPS = '.。：？！"”?!\n'
DROPPED_PUNCTUATION = "（），。！"

_CHINESE = re.compile("[\u4e00-\u9fff]")
_SENTENCE_END = re.compile(r"(?:[。！？]”|[.\n”。！？|])[\n ]*")
_SENTENCE_STOP = re.compile(f"[{re.escape(SENTENCE_STOPS)}]")


def official_windows(text: str, starts: np.ndarray, ends: np.ndarray, capacity: int) -> np.ndarray:
    """
    The server's windows without overlap: token ranges that partition the tokens.

    Text without a character in U+4E00..U+9FFF is cut every `capacity` tokens. Other text is cut at sentence ends
    (full stops, line ends, closing quotes, "|", with the blanks and line ends that follow): a window takes sentences
    for as long as they fit. A token that reaches over a sentence end belongs to the sentence of its last character,
    so that a word stays with the blank that its token begins with.

    Args:
        text (`str`):
            The context.
        starts, ends (`np.ndarray` of shape `(num_tokens,)`):
            Character range of each token, both non-decreasing.
        capacity (`int`):
            Tokens of the context in one window: those of the window less those of the prefix.

    Returns:
        `np.ndarray` of shape `(num_windows, 2)`: first token and the one after the last.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be 1 token or more, got {capacity}")
    if len(starts) != len(ends):
        raise ValueError(f"starts and ends must be of one length, got {len(starts)} and {len(ends)}")
    num_tokens = len(ends)
    if _CHINESE.search(text) is None:
        sentence_ends = np.arange(1, num_tokens + 1)  # every token is its own sentence
    else:
        characters = np.fromiter((match.end() for match in _SENTENCE_END.finditer(text)), dtype=np.int64)
        sentence_ends = np.append(np.searchsorted(ends, characters, side="right"), num_tokens)

    windows = []
    first = 0
    while first < num_tokens:
        fitting = np.searchsorted(sentence_ends, first + capacity, side="right")
        last = int(sentence_ends[fitting - 1]) if fitting else 0
        if last > first:
            windows.append((first, last))
        else:  # not even one sentence fits; the next one begins a window of its own
            last = int(sentence_ends[fitting])
            windows.extend((cut, min(cut + capacity, last)) for cut in range(first, last, capacity))
        first = last
    return np.array(windows, dtype=np.int64).reshape(-1, 2)


def repair_gaps(tags: np.ndarray) -> np.ndarray:
    """
    The tags with O turned into I in the gaps that the server repairs; the input stays as it is.

    From each B it walks right, from one kept token to the next. A gap of up to 18 tokens is filled; a longer one, an
    E or the next B ends the walk. The gap in front of that E or B is filled, too. Tags that no B leads to (`OIOOOE`)
    are left alone. The pass from each E leftwards, which the released code contains, never runs.
    """
    repaired = np.array(tags, dtype=np.int8)
    kept = np.flatnonzero(repaired != OUTSIDE)
    if len(kept) < 2:
        return repaired
    kinds = repaired[kept]
    near = np.diff(kept) <= MAX_STEP
    # The last event up to a kept token says whether a walk passes over it: B begins one, E and long gaps end it.
    event = (kinds == BEGIN) | (kinds == END) | ~np.append(True, near)
    latest = np.maximum.accumulate(np.where(event, np.arange(len(kept)), -1))
    walked = (latest >= 0) & (kinds[latest] == BEGIN)
    filled = np.flatnonzero(walked[:-1] & near & (np.diff(kept) > 1))
    steps = np.zeros(len(repaired), dtype=np.int8)
    steps[kept[filled] + 1] = 1
    steps[kept[filled + 1]] = -1
    repaired[np.cumsum(steps, dtype=np.int8) == 1] = INSIDE
    return repaired


def tag_spans(tags: np.ndarray) -> np.ndarray:
    """Token ranges, `int64[m, 2]`: each from any tag but O to the next O or B. E does not end one."""
    tags = np.asarray(tags)
    kept = np.flatnonzero(tags != OUTSIDE)
    opens = np.flatnonzero((tags[kept] == BEGIN) | (np.diff(kept, prepend=-2) > 1))
    closes = np.append(opens[1:], len(kept))[: len(opens)] - 1
    return np.stack([kept[opens], kept[closes] + 1], axis=1)


def official_spans(
    tags: np.ndarray, starts: np.ndarray, text: str, min_keyword_len: int = 4, complete_sentence: bool = False
) -> list[tuple[int, int]]:
    """
    The server's spans for the tags of a whole context, as character ranges in document order.

    Args:
        tags (`np.ndarray` of shape `(num_tokens,)`):
            Most probable state of each token: B 0, I 1, O 2, E 3.
        starts (`np.ndarray` of shape `(num_tokens,)`):
            First character of each token, non-decreasing.
        text (`str`):
            The context.
        min_keyword_len (`int`, *optional*, defaults to `4`):
            A span has more tokens than this: 4 keeps those of five and more, 0 keeps all.
        complete_sentence (`bool`, *optional*, defaults to `False`):
            Widens spans to the next of `.。：？！"”?!` and line end on both sides, on the left not beyond the end of
            the span before. Ranges may then overlap, and decimals and abbreviations count as sentence ends.

    Returns:
        `list[tuple[int, int]]`: the ranges, without blanks at their ends, so that `text[start:end]` is what the
        server returns.
    """
    if len(tags) != len(starts):
        raise ValueError(f"tags and starts must be of one length, got {len(tags)} and {len(starts)}")
    tokens = tag_spans(repair_gaps(tags))
    borders = np.append(starts, len(text))  # a span ends where the next token starts
    stops = np.empty(0, dtype=np.int64)
    if complete_sentence and len(tokens):
        stops = np.fromiter((match.start() for match in _SENTENCE_STOP.finditer(text)), dtype=np.int64)

    spans = []
    previous_end = -1
    for first, last in tokens.tolist():
        start, end = int(borders[first]), int(borders[last])
        if last - first > min_keyword_len:
            if complete_sentence:
                start, end = _widen(start, end, previous_end, stops, len(text))
            previous_end = end
            while start < end and text[start].isspace():
                start += 1
            while start < end and text[end - 1].isspace():
                end -= 1
            if end - start > len(DROPPED_PUNCTUATION) or text[start:end] not in DROPPED_PUNCTUATION:
                spans.append((start, end))
        else:
            previous_end = end
    return spans


def _widen(start: int, end: int, previous_end: int, stops: np.ndarray, length: int) -> tuple[int, int]:
    """Character range of the sentence part around `start:end`; `stops` are the positions of the sentence stops."""
    before = np.searchsorted(stops, start) - 1
    sentence_start = int(stops[before]) + 1 if before >= 0 else 0
    start = min(start, max(sentence_start, previous_end))
    if end < length:  # the server widens no further than to the last character but one
        after = np.searchsorted(stops, end - 1)
        end = min(int(stops[after]) + 1 if after < len(stops) else length, length - 1)
    return start, end
