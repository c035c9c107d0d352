"""The units that a compressed context is made of: sentences and paragraphs of a text, as character ranges.

```python
>>> text = "It rains. Dr. Ito stays in."
>>> [text[start:end] for start, end in sentences(text)]
['It rains. ', 'Dr. Ito stays in.']
```

Ranges are `int64[m, 2]`, (start, end) with the end excluded. They partition the text: the first starts at 0, each
starts where the one before ends, the last ends at `len(text)`. White space between two units belongs to the first of
them. Everything is linear in the length of the text.
"""

from __future__ import annotations

import re

import numpy as np
from sentencex import get_sentence_boundaries


# Characters that sentencex sees at once. It counts characters from the start of its text for every sentence, so one
# call for a million characters of Chinese takes minutes; in pieces of this size the work is linear.
_PIECE = 2048
_SEAM = 256
# Longer sentences that have lines are lists, logs, tables or code: their lines are their sentences.
_LONG = 1000

# By code point. The highest white space is U+3000; the last entry is for all others.
_WHITE_SPACE = np.zeros(0x3002, dtype=bool)
_WHITE_SPACE[[point for point in range(0x3001) if chr(point).isspace()]] = True
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile(r"\n\s*")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_FENCE = re.compile(r"^ {0,3}(?:(?P<ticks>`{3,})(?P<info>[^`\n]*)|(?P<tildes>~{3,})(?P<tail>[^\n]*))$", re.MULTILINE)


def white_space(text: str) -> np.ndarray:
    """`bool[len(text)]`: which characters are white space (as `str.isspace` has it)."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return _WHITE_SPACE[np.minimum(points, len(_WHITE_SPACE) - 1)]


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each half of a character, which no tokenizer and no splitter takes; offsets stay."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def sentences(text: str, language: str = "en") -> np.ndarray:
    """
    Sentences of a text.

    Args:
        text (`str`):
            Any string: lone surrogates and NUL are ordinary characters.
        language (`str`, *optional*, defaults to `"en"`):
            ISO code of the language whose abbreviations sentencex knows; the ends of sentences in other scripts (as
            in Chinese or Hindi) are found with any language.

    Returns:
        `int64[m, 2]`: a partition of the text; `(0, 2)` for an empty text. A paragraph break ends a sentence, and in
        one of more than 1,000 characters (logs, tables, code) each line does. A sentence may be as long as the text
        (minified JSON): see [`split_long`].
    """
    seen = without_surrogates(text)
    starts: list[int] = []
    position = 0
    while position < len(seen):
        piece = seen[position : position + _PIECE]
        found = sorted({boundary["start_index"] for boundary in get_sentence_boundaries(language, piece)} - {0})
        if len(piece) == _PIECE:  # near its end a bracket may be open only because the piece ends
            found = [start for start in found if start <= _PIECE - _SEAM] or found
        if position + len(piece) == len(seen):
            starts.extend(position + start for start in found)
            break
        if found:  # the last sentence may go on behind the piece: it is read again from its start
            starts.extend(position + start for start in found)
            position += found[-1]
        else:  # one long sentence: go on inside of it, not beside its end, which would be missed
            words = piece.rsplit(None, 1)
            position += len(words[0]) if len(words) == 2 else len(piece) // 2
    found = _partition(text, np.array(starts, dtype=np.int64))
    long = found[found[:, 1] - found[:, 0] > _LONG]
    lines = [line.end() for start, end in long.tolist() for line in _LINE_ENDS.finditer(text, start, end)]
    return _partition(text, np.union1d(found[1:, 0], np.array(lines, dtype=np.int64))) if lines else found


def paragraphs(text: str) -> np.ndarray:
    """
    Paragraphs of a text: blocks between blank lines.

    A closed Markdown code fence (three or more backticks or tildes) is never divided, whatever blank lines it holds,
    and the rows of a table are consecutive lines and so stay together. A fence that is never closed is no fence.

    Args:
        text (`str`):
            Any string.

    Returns:
        `int64[m, 2]`: a partition of the text; `(0, 2)` for an empty text. Blank lines belong to the paragraph before
        them, those at the very start to the first one.
    """
    breaks = np.array([blank.end() for blank in _BLANK_LINES.finditer(text)], dtype=np.int64)
    fences = _fences(text)
    if len(fences) and len(breaks):
        before = np.searchsorted(fences[:, 0], breaks, side="left") - 1  # the last fence that opens before the break
        breaks = breaks[(before < 0) | (breaks >= fences[before, 1])]
    solid = np.flatnonzero(~white_space(text))
    if not len(solid):
        return _ranges(solid, len(text))
    # Not `_partition`: an indented first line keeps its indentation.
    return _ranges(breaks[(breaks > solid[0]) & (breaks <= solid[-1])], len(text))


def token_boundaries(text: str, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Where a sequence of tokens may be cut.

    Args:
        text (`str`):
            What the offsets refer to.
        starts, ends (`np.ndarray` of shape `(n,)`):
            Character range of each token, non-decreasing.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: two arrays `bool[n + 1]`, entry `t` for the boundary before token `t`. The
        first says that the boundary divides no character (byte-level tokens can share one), the second that, besides,
        there is white space on one side of it. Both ends of the sequence are such boundaries.
    """
    n = len(starts)
    whole = np.ones(n + 1, dtype=bool)
    whole[1:n] = starts[1:] >= ends[:-1]
    spaced = whole.copy()
    if n and text:
        space = white_space(text)
        at = starts[1:]
        spaced[1:n] &= space[np.minimum(at, len(text) - 1)] | space[np.maximum(at - 1, 0)]
    return whole, spaced


def last_true(mask: np.ndarray) -> np.ndarray:
    """`int64[n]`: for each position of `mask`, the last position at or before it that is true, -1 without one."""
    return np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))


def split_long(ranges: np.ndarray, text: str, starts: np.ndarray, ends: np.ndarray, max_tokens: int) -> np.ndarray:
    """
    Cuts the ranges that have more than `max_tokens` tokens.

    A cut is as late as possible: at white space in the second half of what is allowed, else between any two tokens
    that share no character.

    Args:
        ranges (`np.ndarray` of shape `(m, 2)`):
            Disjoint character ranges, sorted.
        text (`str`):
            What all offsets refer to.
        starts, ends (`np.ndarray` of shape `(n,)`):
            Character range of each token, non-decreasing.
        max_tokens (`int`):
            Most tokens that a range may touch. Exceeded only by a single character of more tokens than that.

    Returns:
        `int64[r, 2]`, `r >= m`: the ranges in order, the long ones in pieces without gaps.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
    first = np.searchsorted(ends, ranges[:, 0], side="right")
    last = np.searchsorted(starts, ranges[:, 1], side="left")
    long = np.flatnonzero(last - first > max_tokens)
    if not len(long):
        return ranges
    whole, spaced = token_boundaries(text, starts, ends)
    last_whole, last_spaced, wholes = last_true(whole), last_true(spaced), np.flatnonzero(whole)
    cuts = []
    for token, stop in zip(first[long].tolist(), last[long].tolist(), strict=True):
        while stop - token > max_tokens:
            cut = last_spaced[token + max_tokens]
            if cut < token + (max_tokens + 1) // 2:
                cut = last_whole[token + max_tokens]
            if cut <= token:
                cut = wholes[np.searchsorted(wholes, token, side="right")]
            if cut >= stop:
                break
            cuts.append(starts[cut])
            token = cut
    cuts = np.array(cuts, dtype=np.int64)
    ranges = np.asarray(ranges, dtype=np.int64)
    begins = np.concatenate([ranges[:, 0], cuts])
    order = np.argsort(begins, kind="stable")
    stops = np.concatenate([ranges[:, 1], ranges[np.searchsorted(ranges[:, 0], cuts, side="right") - 1, 1]])[order]
    begins = begins[order]
    stops[:-1] = np.minimum(stops[:-1], begins[1:])
    return np.stack([begins, stops], axis=1)


def _fences(text: str) -> np.ndarray:
    """Character ranges `int64[f, 2]` of the closed code fences, both fence lines included."""
    lines = []  # (start, end, character, length, whether it can close)
    for line in _FENCE.finditer(text):
        mark, tail = (line["ticks"], line["info"]) if line["ticks"] else (line["tildes"], line["tail"])
        lines.append((line.start(), line.end(), mark[0], len(mark), not tail.strip()))
    # The longest closing line from each line on, so that an opening line without one costs no search.
    longest = {"`": [0] * (len(lines) + 1), "~": [0] * (len(lines) + 1)}
    for i in range(len(lines) - 1, -1, -1):
        for character, closing in longest.items():
            fits = lines[i][2] == character and lines[i][4]
            closing[i] = max(closing[i + 1], lines[i][3] if fits else 0)
    fences = []
    i = 0
    while i < len(lines):
        start, _, character, length, _ = lines[i]
        i += 1
        if longest[character][i] < length:
            continue
        while lines[i][2] != character or lines[i][3] < length or not lines[i][4]:
            i += 1
        fences.append((start, lines[i][1]))
        i += 1
    return np.array(fences, dtype=np.int64).reshape(-1, 2)


def _partition(text: str, starts: np.ndarray) -> np.ndarray:
    """The partition of `text` with these starts, each moved over the white space that it begins with."""
    solid = np.flatnonzero(~white_space(text))
    index = np.searchsorted(solid, starts)
    return _ranges(solid[index[(index > 0) & (index < len(solid))]], len(text))


def _ranges(starts: np.ndarray, length: int) -> np.ndarray:
    """The partition of `length` characters that is cut at these places."""
    if not length:
        return np.zeros((0, 2), dtype=np.int64)
    edges = np.concatenate([[0], np.unique(starts), [length]]).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)
