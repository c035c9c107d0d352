"""Lengthens a record with distractor documents up to a token budget, and shortens it to its evidence.

```python
>>> pool = DocumentPool((d for example in examples for d in example.documents), tokenizer)
>>> long = compose(example, pool, target_tokens=16_384, seed=0)  # evidence anywhere
>>> deep = compose(example, pool, target_tokens=16_384, seed=0, depth=0.9)  # evidence at 90 % of the context
>>> short = shorten(long, keep_distractors=2)
```

Tokens are counted per document, each with the line feed that follows it, and added up. Byte-level BPE tokenizers of
the GPT and Qwen kind never merge across a line feed that a non-space character follows, so for them the sum equals the
tokens of `render_context(documents) + "\\n"`, which is what the L1 template shows. It is an estimate for other
tokenizers, and for records with a document that has neither title nor text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .prompts import render_document
from .record import Document, Evidence, LongContextExample


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Scripts without spaces between words, or (Hangul) with particles glued to them: Thai to Myanmar, Hangul, kana, Han.
UNSPACED_SCRIPT = re.compile(
    "[\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af]"
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NOT_WORD = re.compile(r"[\W_]+")
_UNSPACED_RUN = re.compile(f"{UNSPACED_SCRIPT.pattern}+")


class ContextBudgetError(ValueError):
    """The token budget cannot be met: the record is longer than it, or the pool is too small for it."""


def normalize_text(text: str) -> str:
    """Case-folded NFKC words, one space apart: what "contains an answer" and "the same document" are decided on.

    Punctuation separates words, and so does a change to or from a script without spaces between words: a number in
    Chinese text is a word. Thousands separators vanish, so `"1,250 men"` gives `"1250 men"`.
    """
    text = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text).casefold())
    if not text.isascii():
        text = _UNSPACED_RUN.sub(r" \g<0> ", text)
    return _NOT_WORD.sub(" ", text).strip()


def count_tokens(documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of each document as rendered, with the line feed that follows it and without special tokens."""
    counts: list[int] = []
    for first in range(0, len(documents), 1024):
        texts = [render_document(document) + "\n" for document in documents[first : first + 1024]]
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        counts.extend(len(ids) for ids in encoded["input_ids"])
    return counts


class DocumentPool:
    """Documents to draw distractors from, each tokenised, normalised and indexed once.

    Documents whose normalised text already is in the pool, or is empty, are left out.

    Args:
        documents (`Iterable[Document]`):
            For example the documents of all records.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            What counts the tokens. A pool belongs to one tokenizer.
    """

    def __init__(self, documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self._tokens: dict[Document, int] = {}
        self._index_of_text: dict[str, int] = {}
        self._normalized: list[str] = []  # " title \n text ", so that " answer " matches whole words of either
        self._holding: dict[str, np.ndarray] = {}  # answer -> indices of the documents that contain it
        postings: defaultdict[str, list[int]] = defaultdict(list)
        kept = []
        for document in documents:
            text = normalize_text(document.text)
            if not text or text in self._index_of_text:
                continue
            self._index_of_text[text] = len(kept)
            title = normalize_text(document.title)
            for word in {*text.split(" "), *title.split(" ")}:
                postings[word].append(len(kept))
            self._normalized.append(f" {title} \n {text} ")
            kept.append(document)
        self._postings = dict(postings)
        self.documents: tuple[Document, ...] = tuple(kept)
        self.tokens: np.ndarray = self.count(self.documents)  # int64[len(pool)]

    def __len__(self) -> int:
        return len(self.documents)

    def count(self, documents: Sequence[Document]) -> np.ndarray:
        """Tokens of each document, `int64[len(documents)]`; only those not seen before are tokenised."""
        new = [document for document in dict.fromkeys(documents) if document not in self._tokens]
        self._tokens.update(zip(new, count_tokens(new, self.tokenizer), strict=True))
        return np.array([self._tokens[document] for document in documents], dtype=np.int64)

    def eligible(self, example: LongContextExample, exclude: Iterable[Document] = ()) -> np.ndarray:
        """`bool[len(pool)]`: which documents may be distractors of `example`.

        Left out are the example's own documents and those of `exclude` (same normalised text), and documents whose
        title or text contains one of its answers. Containment is on the words of [`normalize_text`], so "art" is not
        in "party"; answers in scripts without spaces between words (Chinese, Japanese, Korean, Thai, ...) are looked
        for anywhere, spaces ignored. The one-letter answer of a multiple-choice record is the label of an option and
        is not looked for.
        """
        mask = np.ones(len(self), dtype=bool)
        for document in (*example.documents, *exclude):
            index = self._index_of_text.get(normalize_text(document.text))
            if index is not None:
                mask[index] = False
        for answer in example.answers:
            if example.task == "multiple_choice" and len(answer.strip(" ().")) == 1:
                continue
            if answer not in self._holding:
                self._holding[answer] = np.array(self._find(answer), dtype=np.int64)
            mask[self._holding[answer]] = False
        return mask

    def _find(self, answer: str) -> list[int]:
        words = normalize_text(answer)
        if not words:  # nothing but signs, such as "%"
            sign = answer.strip()
            return [i for i, document in enumerate(self.documents) if sign in f"{document.title}\n{document.text}"]
        if UNSPACED_SCRIPT.search(words):
            compact = words.replace(" ", "")
            return [i for i, text in enumerate(self._normalized) if compact in text.replace(" ", "")]
        rarest = min((self._postings.get(word, []) for word in words.split(" ")), key=len)
        return [i for i in rarest if f" {words} " in self._normalized[i]]


def compose(
    example: LongContextExample,
    pool: DocumentPool,
    target_tokens: int,
    *,
    seed: int = 0,
    depth: float | None = None,
    allow_short: bool = False,
    exclude: Iterable[Document] = (),
) -> LongContextExample:
    """The record with distractors from `pool` added until no further one fits into `target_tokens`.

    Distractors are taken in random order as long as they fit; the context is never longer than the budget, and shorter
    by less than the shortest document that was still eligible. The result depends on `(seed, example.id)`, the record
    and the pool alone, not on the order in which records are composed.

    Args:
        example ([`LongContextExample`]):
            The record. All of its documents are kept.
        pool ([`DocumentPool`]):
            Where distractors come from; see [`DocumentPool.eligible`] for what is left out.
        target_tokens (`int`):
            Budget of the context in tokens, without question and template.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the choice and of the order.
        depth (`float`, *optional*):
            Between 0 and 1: the evidence documents stand together, in their order, where this share of the tokens of
            all others is before them (rounded to a document). By default all documents are shuffled.
        allow_short (`bool`, *optional*, defaults to `False`):
            Return a shorter context where the whole pool does not fill the budget.
        exclude (`Iterable[Document]`, *optional*, defaults to `()`):
            Documents not to draw from the pool either: those that a shortened record had before, for example.

    Raises:
        [`ContextBudgetError`]: The record alone is over the budget, or the pool is too small for it.
    """
    if depth is not None and not 0 <= depth <= 1:
        raise ValueError(f"depth must lie between 0 and 1, got {depth}")
    if depth is not None and not example.evidence:
        raise ValueError(f"record {example.id!r} has no evidence to place at depth {depth}; leave depth out")
    own = pool.count(example.documents)
    left = target_tokens - int(own.sum())
    if left < 0:
        raise ContextBudgetError(
            f"record {example.id!r} already takes {own.sum():,} tokens, {-left:,} more than target_tokens="
            f"{target_tokens:,}; raise target_tokens or shorten the record first"
        )
    rng = example_rng(seed, example)

    candidates = rng.permutation(np.flatnonzero(pool.eligible(example, exclude)))
    eligible, chosen = len(candidates), []
    while len(candidates) > 0:
        total = np.cumsum(pool.tokens[candidates])
        fitting = int(np.searchsorted(total, left, side="right"))
        chosen.extend(candidates[:fitting].tolist())
        left -= int(total[fitting - 1]) if fitting else 0
        rest = candidates[fitting:]
        candidates = rest[pool.tokens[rest] <= left]
    if left > 0 and len(chosen) == eligible and not allow_short:
        raise ContextBudgetError(
            f"the pool is {left:,} tokens too small for record {example.id!r} at target_tokens={target_tokens:,}: all "
            f"{eligible} eligible of {len(pool)} documents are used; add documents or allow short contexts"
        )

    documents = (*example.documents, *(pool.documents[i] for i in chosen))
    order = rng.permutation(len(documents)).tolist()
    if depth is not None:
        block = list(example.evidence_documents)
        others = [i for i in order if i not in set(block)]
        tokens = np.concatenate([own, pool.tokens[chosen]])[others]
        before = np.concatenate([[0], np.cumsum(tokens)])  # tokens ahead of each place between the others
        place = int(np.abs(before - depth * before[-1]).argmin())
        order = others[:place] + block + others[place:]
    return _arrange(example, documents, order)


def shorten(example: LongContextExample, keep_distractors: int = 0, seed: int = 0) -> LongContextExample:
    """The record with its evidence documents and `keep_distractors` random others (or all it has), in their order.

    Raises:
        `ValueError`: The record has no evidence, or `keep_distractors` is negative.
    """
    if keep_distractors < 0:
        raise ValueError(f"keep_distractors must be at least 0, got {keep_distractors}")
    if not example.evidence:
        raise ValueError(f"record {example.id!r} has no evidence, so there is nothing to shorten it to")
    kept = set(example.evidence_documents)
    others = [i for i in range(len(example.documents)) if i not in kept]
    rng = example_rng(seed, example)
    kept.update(rng.permutation(others)[:keep_distractors].astype(int).tolist())
    return _arrange(example, example.documents, sorted(kept))


def example_rng(seed: int, example: LongContextExample) -> np.random.Generator:
    """Draws that depend on `(seed, example.id)` alone."""
    # A digest, because Python's own hash of a string differs from process to process.
    digest = hashlib.blake2b(f"{seed}/{example.id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _arrange(example: LongContextExample, documents: Sequence[Document], order: list[int]) -> LongContextExample:
    """The record over `documents[i] for i in order`, its evidence pointing at the same characters as before."""
    place = {old: new for new, old in enumerate(order)}
    evidence = tuple(Evidence(place[span.document], span.start, span.end) for span in example.evidence)
    return replace(example, documents=tuple(documents[i] for i in order), evidence=evidence)
