"""Offsets of tokens made by hand, and strings that are hard to cut."""

import re

import numpy as np
from hypothesis import strategies as st


def word_tokens(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A token per word with the white space before it, as byte-level BPE has it; trailing white space is a token."""
    return _table([match.span() for match in re.finditer(r"\s*\S+|\s+", text)])


def character_tokens(text: str) -> tuple[np.ndarray, np.ndarray]:
    return _table([(i, i + 1) for i in range(len(text))])


def byte_tokens(text: str) -> tuple[np.ndarray, np.ndarray]:
    """A token per byte of UTF-8: those of one character share its range."""
    return _table([(i, i + 1) for i, c in enumerate(text) for _ in c.encode("utf-8", "surrogatepass")])


def _table(spans: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


_AWKWARD = [
    "😀", "👩‍👩‍👧", "e\u0301", "\u0301", "他说。", "好！", "שלום. ", "مرحبا؟ ", "\x00", "\ud800", "\u200f", "\u3000",
    "\r\n", "\n\n", "\n", " \t\n", "  ", "Dr. ", "3.14 ", "It rains. ", "“Why?” ", "(see a. b) ", "http://a.b/c. ",
    "```\n", "~~~\n", "````", "|a|b|\n", "<|im_start|>", "x" * 40, "...", "。",
]  # fmt: skip

texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.characters(), max_size=60),  # with surrogates
    st.lists(st.sampled_from(_AWKWARD), max_size=40).map("".join),
)
tables = st.sampled_from([word_tokens, character_tokens, byte_tokens])
