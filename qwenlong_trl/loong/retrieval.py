"""Retrieval for Loong: documents cut into chunks of tokens, and scores of chunks by BM25 or by an embedding model.

```python
>>> cut = TokenizedText(report, tokenizer)
>>> chunks = [cut.text(first, last) for first, last in cut.chunks(1024)]
>>> scores = bm25_scores("What is the net income of Auddia?", chunks)
```

Loong (arXiv 2406.17419, section 4.5) retrieves chunks of 1,024 tokens with `text-embedding-ada-002` and `bge-m3`.
Neither its chunker nor its chunks were published; where a chunk ends is ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Scripts that put no spaces between words: Han, kana, bopomofo.
_UNSPACED = (
    "\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af"
)
# A run of such characters, a number with its punctuation, or a word, which ends before such a number (`RMB1,193.4`).
_WORD = re.compile(rf"([{_UNSPACED}]+)|\d+(?:[.,]\d+)+|(?:(?!\d{{1,15}}[.,]\d)[^\W_{_UNSPACED}])+")
# The end of a line or of a sentence, before and after the white space that follows it.
_ENDS = re.compile(r"\n+|[。！？；]+|[.!?](?=\s)")


def words(text: str) -> list[str]:
    """
    What BM25 counts: lower-case words, whole numbers (`1,193.4`), and of Chinese and Japanese, which have no spaces,
    overlapping pairs of characters (a character alone where it stands alone). Full-width forms are as the usual ones.
    """
    found = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).lower()):
        word = match[0]
        if match[1] is None or len(word) == 1:
            found.append(word)
        else:
            found.extend(a + b for a, b in pairwise(word))
    return found


def bm25_scores(query: str, chunks: Sequence[str]) -> np.ndarray:
    """
    BM25 (Lucene's, k1 1.5, b 0.75) of chunks for a question, over [`words`].

    Args:
        query (`str`):
            The question. No score differs from 0 if it shares no word with any chunk, as an empty one.
        chunks (`list[str]`):
            The collection, which word frequencies are of.

    Returns:
        `np.ndarray` of shape `(chunks,)`, float64.

    Raises:
        `ImportError`: bm25s is not installed.
    """
    try:
        import bm25s
    except ImportError:
        raise ImportError('BM25 needs bm25s: pip install "qwenlong-trl[evaluation]"') from None

    corpus = [words(chunk) for chunk in chunks]
    known = set().union(*corpus)
    wanted = [word for word in words(query) if word in known]
    if not wanted:
        return np.zeros(len(corpus))
    retriever = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    retriever.index(corpus, show_progress=False)
    return np.asarray(retriever.get_scores(wanted), dtype=np.float64)


def with_offsets(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer, if it says which characters its tokens are."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} gives no character offsets: a fast tokenizer is needed")
    return tokenizer


def tokenizing(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], TokenizedText]:
    """Makes [`TokenizedText`]s and keeps the last ones: many questions are asked about the same documents."""
    tokenizer = with_offsets(tokenizer)
    return lru_cache(maxsize=64)(lambda text: TokenizedText(text, tokenizer))


class TokenizedText:
    """
    A text that is tokenised once and cut between tokens, never within a character.

    Args:
        text (`str`):
            Any text.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            Gives the offsets. Special tokens written in the text are text.
    """

    def __init__(self, text: str, tokenizer: PreTrainedTokenizerFast):
        from ..cprs.context import read_context
        from ..cprs.units import token_boundaries, white_space

        context = read_context(text, tokenizer)
        self._text = text
        self._starts = np.append(context.starts, len(text))
        whole, spaced = token_boundaries(text, context.starts, context.ends)
        ends = np.zeros(len(text) + 1, dtype=bool)
        ends[[match.end() for match in _ENDS.finditer(text)]] = True
        # A tokenizer may count the space behind a full stop to the stop or apart, and not to the word that follows.
        ends[1:] |= ends[:-1] & white_space(text)
        lines = whole.copy()
        lines[1:-1] &= ends[self._starts[1:-1]]
        # From the best places to cut to the worst, and how far from the wanted end one may lie, as a share.
        self._places = [(np.flatnonzero(lines), 1 / 4), (np.flatnonzero(spaced), 1 / 2), (np.flatnonzero(whole), 1)]

    def __len__(self) -> int:
        """Tokens."""
        return len(self._starts) - 1

    def text(self, first: int, last: int) -> str:
        """The characters of the tokens from `first` up to, and without, `last`."""
        return self._text[self._starts[first] : self._starts[last]]

    def before(self, first: int, last: int) -> int:
        """
        Where a piece that starts with token `first` and goes no further than `last` best ends: at the end of a line or
        a sentence in its last quarter, at white space in its second half, or anywhere; `first` if nothing fits.
        """
        for places, share in self._places:
            place = int(places[np.searchsorted(places, last, side="right") - 1])
            if place > first and place >= last - share * (last - first):
                return place
        return first

    def after(self, first: int, last: int) -> int:
        """The mirror image: where a piece that starts no earlier than `first` and ends with `last` best starts."""
        for places, share in self._places:
            place = int(places[np.searchsorted(places, first, side="left")])
            if place < last and place <= first + share * (last - first):
                return place
        return last

    def chunks(self, chunk_tokens: int) -> list[tuple[int, int]]:
        """
        Contiguous pieces that make up the text.

        Args:
            chunk_tokens (`int`):
                Most tokens of a piece. Exceeded only by a single character of more tokens than that.

        Returns:
            `list[tuple[int, int]]`: the first token of each piece and the one behind its last. One empty piece for an
            empty text.
        """
        pieces, first, total = [], 0, len(self)
        whole = self._places[-1][0]
        while first < total:
            last = self.before(first, min(first + chunk_tokens, total))
            if last == first:
                last = int(whole[np.searchsorted(whole, first, side="right")])
            pieces.append((first, last))
            first = last
        return pieces or [(0, 0)]


class SentenceTransformersRetriever:
    """The cosine similarity of a question and chunks, see [`sentence_transformers_retriever`]."""

    def __init__(self, name: str, model):
        self.name = name
        self._model = model

    def __call__(self, query: str, chunks: Sequence[str]) -> np.ndarray:
        """`float64[chunks]`."""
        (asked,) = self._encode([query], "query")
        return self._encode(list(chunks), "document") @ asked

    def _encode(self, texts: list[str], prompt: str) -> np.ndarray:
        known = getattr(self._model, "prompts", None) or {}
        more = {"prompt_name": prompt} if prompt in known else {}
        found = self._model.encode(
            texts, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False, **more
        )
        return np.asarray(found, dtype=np.float64)


def sentence_transformers_retriever(model_name: str, **options) -> SentenceTransformersRetriever:
    """
    A retriever for [`DensePolicy`] from a model of sentence-transformers, such as `"BAAI/bge-m3"`.

    Args:
        model_name (`str`):
            The model, of the hub or a folder. Its prompts `"query"` and `"document"` are used where it has them.
        options (*optional*):
            For `SentenceTransformer`, such as `device`.

    Raises:
        `ImportError`: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ImportError(
            'dense retrieval with a model\'s name needs sentence-transformers: pip install "qwenlong-trl[dense]", or '
            "give DensePolicy a function of your own"
        ) from None
    return SentenceTransformersRetriever(model_name, SentenceTransformer(model_name, **options))
