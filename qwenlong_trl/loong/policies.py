"""What of a record's documents goes into the prompt where not all of it fits: the policies of `fixed` assembly.

```python
>>> policy = BM25Policy(tokenizer)  # or SkipPolicy(), MiddlePolicy(tokenizer), DensePolicy(...), CPRSPolicy(...)
>>> fitted = policy.fit(record, documents, [document.render() for document in documents], 4096, count)
>>> count("".join(fitted.texts)) <= 4096
True
```

A policy is anything with a `name`, `describe` and `fit`, see [`Policy`]. The official code of Loong (arXiv 2406.17419)
skips whole documents and has retrieval without a retriever; the others are ours.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .fitting import END, MARKER, Fitted, Policy, fit_to, parts_of, water_level
from .retrieval import bm25_scores, tokenizing


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ..cprs import ContextCompressionPipeline

_TRIES = 3  # each reads all documents
# Parameters of a pipeline without a part in what a given budget keeps, or that the policy sets.
_NO_OPTIONS = {"target_tokens", "rate", "reader_tokenizer", "progress", "batch_tokens", "include_titles"}
_NO_OPTIONS |= {"document_separator"}


class SkipPolicy:
    """Whole documents in the given order: one that does not fit is skipped and the next is tried, as officially."""

    name = "skip"

    def describe(self) -> dict[str, Any]:
        """The name."""
        return {"name": self.name}

    def fit(self, record, documents, rendered, budget, count) -> Fitted:
        """See [`Policy.fit`]."""
        sizes = [count(text) for text in rendered]

        def keep(limit: int) -> tuple[list[str], int]:
            texts, used = [], 0
            for text, size in zip(rendered, sizes, strict=True):
                fits = used + size <= limit
                texts.append(text if fits else "")
                used += size * fits
            return texts, used

        return fit_to(keep, rendered, budget, count)


class MiddlePolicy:
    """
    Every document loses its middle: short ones stay whole, all others get the same share of the budget. Where shares
    are too small for a header and two tokens, the last documents go until they are not.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            Says where text can be cut; the one that counts.
    """

    name = "middle"

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self._tokenized = tokenizing(tokenizer)

    def describe(self) -> dict[str, Any]:
        """The name and the marker."""
        return {"name": self.name, "marker": MARKER}

    def fit(self, record, documents, rendered, budget, count) -> Fitted:
        """See [`Policy.fit`]."""
        parts = [parts_of(document, text) for document, text in zip(documents, rendered, strict=True)]
        bodies = [self._tokenized(body) for _, body in parts]
        frames = [count(head) + count(END) for head, _ in parts]
        sizes = [frame + len(body) for frame, body in zip(frames, bodies, strict=True)]
        marker = count(MARKER)

        def share(limit: int) -> tuple[list[str], int]:
            kept = list(range(len(parts)))
            while kept:
                level = water_level([sizes[i] for i in kept], limit)
                cramped = [i for i in kept if sizes[i] > level < frames[i] + marker + 2]
                if not cramped:
                    break
                kept.remove(cramped[-1])
            texts, used = [""] * len(parts), 0
            for i in kept:
                (head, _), body = parts[i], bodies[i]
                if sizes[i] <= level:
                    texts[i] = rendered[i]
                    used += sizes[i]
                    continue
                room = level - frames[i] - marker
                first = body.before(0, (room + 1) // 2)
                last = body.after(len(body) - (room - first), len(body))
                if first or last < len(body):
                    texts[i] = head + body.text(0, first) + MARKER + body.text(last, len(body)) + END
                    used += frames[i] + marker + first + len(body) - last
            return texts, used

        return fit_to(share, rendered, budget, count)


class _ChunkPolicy:
    """The best chunks of all documents, in the order of the text, below the headers of their documents."""

    name: str

    def __init__(self, tokenizer: PreTrainedTokenizerFast, chunk_tokens: int = 1024, top_k: int | None = None):
        if chunk_tokens < 1 or (top_k is not None and top_k < 1):
            raise ValueError(f"chunk_tokens and top_k must be at least 1, got {chunk_tokens} and {top_k}")
        self._tokenized = tokenizing(tokenizer)
        self.chunk_tokens = chunk_tokens
        self.top_k = top_k

    def describe(self) -> dict[str, Any]:
        """The name and the options."""
        return {"name": self.name, "chunk_tokens": self.chunk_tokens, "top_k": self.top_k, "marker": MARKER}

    def scores(self, question: str, chunks: list[str]) -> Sequence[float]:
        """One score for each chunk."""
        raise NotImplementedError

    def fit(self, record, documents, rendered, budget, count) -> Fitted:
        """See [`Policy.fit`]."""
        parts = [parts_of(document, text) for document, text in zip(documents, rendered, strict=True)]
        places, pieces, sizes = [], [], []  # of each chunk: (number within its document, document), text, tokens
        for i, (_, body) in enumerate(parts):
            tokenized = self._tokenized(body)
            for number, (first, last) in enumerate(tokenized.chunks(self.chunk_tokens)):
                places.append((number, i))
                pieces.append(tokenized.text(first, last))
                sizes.append(last - first)
        question = record.question.strip()
        scores = _checked(self.scores(question, pieces), len(pieces)) if question and pieces else [0.0] * len(pieces)
        # Of equal scores the chunk that stands nearer to the beginning of its document, and so in turn of each one.
        ranking = sorted(range(len(pieces)), key=lambda c: (-scores[c], places[c]))[: self.top_k]
        frames = [count(head) + count(END) for head, _ in parts]
        marker = count(MARKER)

        def choose(limit: int) -> tuple[list[str], int]:
            chosen: list[dict[int, str]] = [{} for _ in parts]  # number of the chunk -> text
            numbers: list[list[int]] = [[] for _ in parts]  # sorted
            used = 0
            for chunk in ranking:
                number, i = places[chunk]
                at = bisect(numbers[i], number)
                before, after = numbers[i][max(at - 1, 0) : at], numbers[i][at : at + 1]
                gaps = _gaps([*before, number, *after]) - _gaps([*before, *after])
                cost = sizes[chunk] + marker * gaps + (0 if chosen[i] else frames[i])
                if used + cost <= limit:
                    numbers[i].insert(at, number)
                    chosen[i][number] = pieces[chunk]
                    used += cost
            heads = [head for head, _ in parts]
            return [_written(*one) for one in zip(heads, numbers, chosen, strict=True)], used

        return fit_to(choose, rendered, budget, count)


class BM25Policy(_ChunkPolicy):
    """
    The best chunks by BM25 with the record's question, until the budget is full: one that does not fit is skipped and
    the next is tried. They stand in the order of the text below the headers of their documents, with a marker between
    two that are no neighbours. Without a question (citation chains) documents are read in turns from their beginnings.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            Cuts chunks; the one that counts.
        chunk_tokens (`int`, *optional*, defaults to `1024`):
            Most tokens of a chunk, 1,024 in the paper. One that is longer than the budget never fits.
        top_k (`int`, *optional*):
            Only so many of the best chunks, 5, 10, 30 or 50 in the paper. By default what fits.
    """

    name = "bm25"

    def scores(self, question: str, chunks: list[str]) -> np.ndarray:
        """BM25 among the chunks of the record."""
        return bm25_scores(question, chunks)


class DensePolicy(_ChunkPolicy):
    """
    As [`BM25Policy`], with the scores of a retriever.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            Cuts chunks; the one that counts.
        retriever (`Callable`):
            `retriever(question, chunks)` gives a number for each of the texts `chunks`, the higher the better; see
            [`~qwenlong_trl.loong.retrieval.sentence_transformers_retriever`]. Not asked without a question.
        chunk_tokens, top_k:
            As of [`BM25Policy`].
        name (`str`, *optional*):
            What results call the retriever. Defaults to its attribute `name`, or the name of the function.
    """

    name = "dense"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        retriever: Callable[[str, list[str]], Sequence[float]],
        chunk_tokens: int = 1024,
        top_k: int | None = None,
        name: str | None = None,
    ):
        super().__init__(tokenizer, chunk_tokens, top_k)
        self._retriever = retriever
        named = getattr(retriever, "name", None) or getattr(retriever, "__qualname__", type(retriever).__qualname__)
        self.retriever = name or named

    def describe(self) -> dict[str, Any]:
        """The name, the retriever's, and the options."""
        return super().describe() | {"retriever": self.retriever}

    def scores(self, question: str, chunks: list[str]) -> Sequence[float]:
        """The retriever's."""
        return self._retriever(question, chunks)


class CPRSPolicy:
    """
    Compresses the documents with QwenLong-CPRS (arXiv 2505.18092) by the question, or by the record's instruction if
    there is none, and keeps the headers of the documents of which anything is kept. What fits as a whole stays whole.

    Args:
        compressor ([`~qwenlong_trl.ContextCompressionPipeline`]):
            With whatever options it was made with but a budget; `granularity="sentence"` reads best.
        name (`str`, *optional*):
            What results call the compressor. Defaults to the name or folder that its model was loaded from.
    """

    name = "cprs"

    def __init__(self, compressor: ContextCompressionPipeline, name: str | None = None):
        self._compressor = compressor
        self.compressor = name or compressor.model.name_or_path or type(compressor.model).__name__

    def describe(self) -> dict[str, Any]:
        """The name, the compressor's, and the options that it was made with."""
        options = {k: v for k, v in self._compressor._preprocess_params.items() if k not in _NO_OPTIONS}
        return {"name": self.name, "compressor": self.compressor, "options": options}

    def fit(self, record, documents, rendered, budget, count) -> Fitted:
        """See [`Policy.fit`]. Raises `ValueError` with the record's id for what the compressor refuses."""
        if budget > 0 and count("".join(rendered)) <= budget:
            return Fitted(list(rendered))
        parts = [parts_of(document, text) for document, text in zip(documents, rendered, strict=True)]
        context = [{"title": head.removesuffix("\n"), "text": body} for head, body in parts]
        texts, worst_first = [""] * len(parts), []
        target = budget - count(END)  # the pipeline puts it between documents only
        for _ in range(_TRIES):
            if target < 1:
                return Fitted([""] * len(parts))
            try:
                found = self._compressor(
                    {"context": context, "query": record.question.strip() or record.instruction},
                    target_tokens=target,
                    reader_tokenizer=_Counting(count),
                    include_titles=True,
                    document_separator=END,
                )["documents"]
            except ValueError as error:
                raise ValueError(f"record {record.id} cannot be compressed: {error}") from error
            texts = [_below(head, one["compressed"]) for (head, _), one in zip(parts, found, strict=True)]
            worst_first = sorted(range(len(parts)), key=lambda i: -found[i]["rank"])
            if (tokens := count("".join(texts))) <= budget:
                return Fitted(texts)
            target = min(target - 1, target * budget // tokens)
        return Fitted(_cut_lines(texts, worst_first, [head for head, _ in parts], budget, count))


def _gaps(numbers: Sequence[int]) -> int:
    return sum(b - a > 1 for a, b in pairwise(numbers))


def _written(head: str, numbers: list[int], chunks: dict[int, str]) -> str:
    if not numbers:
        return ""
    pieces = [head, chunks[numbers[0]]]
    for a, b in pairwise(numbers):
        pieces += [MARKER, chunks[b]] if b - a > 1 else [chunks[b]]
    return "".join(pieces) + END


def _checked(scores: Any, number: int) -> list[float]:
    """The scores of a retriever as numbers."""
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (number,) or not np.isfinite(found).all():
        raise ValueError(f"the retriever must give a finite number for each of the {number} chunks, got {found!r}")
    return found.tolist()


class _Counting:
    """`count` as the compressor calls the tokenizer of the reader."""

    def __init__(self, count: Callable[[str], int]):
        self._count = count

    def __call__(self, text: str, **_: Any) -> dict[str, range]:
        return {"input_ids": range(self._count(text))}


def _below(head: str, compressed: str) -> str:
    """The pipeline leaves titles out where they leave no room for text."""
    if not compressed:
        return ""
    return (compressed if compressed.startswith(head) else head + compressed) + END


def _cut_lines(
    texts: list[str], worst_first: list[int], heads: list[str], budget: int, count: Callable[[str], int]
) -> list[str]:
    """Takes lines from the end of the worst document, then of the next, until what is left fits."""
    texts = list(texts)
    for i in worst_first:
        lines = texts[i].removeprefix(heads[i]).removesuffix(END).splitlines(keepends=True)
        low, high = 0, len(lines) - 1
        while low < high:
            middle = (low + high + 1) // 2
            texts[i] = heads[i] + "".join(lines[:middle]) + END
            low, high = (middle, high) if count("".join(texts)) <= budget else (low, middle - 1)
        texts[i] = heads[i] + "".join(lines[:low]) + END if low > 0 else ""
        if count("".join(texts)) <= budget:
            return texts
    return texts


__all__ = ["BM25Policy", "CPRSPolicy", "DensePolicy", "Fitted", "MiddlePolicy", "Policy", "SkipPolicy"]
