"""Needles: sentences hidden in the documents of a record, for training a critic to find what stands anywhere.

The form is that of RULER (arXiv 2404.06654), which the release's instruction names: "One of the special magic numbers
for KEY is: VALUE." Some of the needles are asked for, others differ in their key.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data import Document, Evidence, LongContextExample
from .units import sentences


_KINDS = ("numbers", "words", "codes")
_SYLLABLES = (
    "ba",
    "dor",
    "fen",
    "gal",
    "hi",
    "jun",
    "ka",
    "lem",
    "mo",
    "nir",
    "pas",
    "qua",
    "rel",
    "so",
    "tuv",
    "wex",
)


def insert_needles(
    example: LongContextExample, rng: np.random.Generator
) -> tuple[LongContextExample, tuple[int, int] | None]:
    """
    The record with needles between its sentences and a question about some of them.

    Args:
        example ([`LongContextExample`]):
            Where to hide them. Its own evidence is dropped, its question and answers are replaced.
        rng (`np.random.Generator`):
            Draws keys, values, how many needles (1 to 3 to find, 0 to 3 others) and where: any document, any depth.

    Returns:
        `tuple`: the record, and for half of the draws a place inside of a needle `(document, character)` where a
        window is to end, so that needles that two windows share are learnt, too; `None` for the others.
    """
    kind = _KINDS[rng.integers(len(_KINDS))]
    key = _word(rng)
    wanted = [f"One of the special magic {kind} for {key} is: {_value(kind, rng)}." for _ in range(rng.integers(1, 4))]
    others = [
        f"One of the special magic {kind} for {_word(rng)} is: {_value(kind, rng)}." for _ in range(rng.integers(0, 4))
    ]
    texts = [document.text for document in example.documents]
    places = {}  # needle -> (document, character) in the text before any is inserted
    for needle in (*wanted, *others):
        document = int(rng.integers(len(texts)))
        ends = [0, *sentences(texts[document])[:, 1].tolist()]
        places[needle] = (document, int(ends[rng.integers(len(ends))]))
    spans = []
    for document, text in enumerate(texts):
        built, done = "", 0
        for at, needle in sorted((at, needle) for needle, (where, at) in places.items() if where == document):
            built += text[done:at]
            if built and not built[-1].isspace():
                built += " "
            if needle in wanted:
                spans.append(Evidence(document, len(built), len(built) + len(needle)))
            built, done = f"{built}{needle} ", at
        texts[document] = built + text[done:]
    answers = tuple(needle.split(": ")[1].rstrip(".") for needle in wanted)
    hidden = replace(
        example,
        question=f"What are all the special magic {kind} for {key} mentioned in the documents?",
        answers=answers,
        documents=tuple(Document(d.title, t) for d, t in zip(example.documents, texts, strict=True)),
        evidence=tuple(spans),
        task="docqa",
    )
    if rng.random() < 0.5:
        return hidden, None
    span = spans[rng.integers(len(spans))]
    return hidden, (span.document, int(rng.integers(span.start + 1, span.end)))


def _word(rng: np.random.Generator) -> str:
    return "".join(_SYLLABLES[i] for i in rng.integers(len(_SYLLABLES), size=3)).capitalize()


def _value(kind: str, rng: np.random.Generator) -> str:
    if kind == "numbers":
        return str(rng.integers(1_000_000, 10_000_000))
    return _word(rng).lower() if kind == "words" else f"{_word(rng)[:3].upper()}-{rng.integers(100, 1000)}"
