"""What a compressor has to beat at the same budget: BM25 over sentences, the first tokens, random sentences.

```python
>>> results = evaluate_baseline("bm25", examples, tokenizer, budgets=[0.1, 0.2, 0.4])  # needs `pip install bm25s`
```

Units, budgets and how they are counted and filled are those of the compressor; only the scores differ.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..data import LongContextExample
from .compression import units_within
from .context import read_context
from .evaluation import Evaluated, measure
from .labels import documents_of
from .layout import Layout
from .options import CompressionOptions
from .selection import select


BASELINES = ("bm25", "first", "random")


def evaluate_baseline(
    name: str,
    examples: Sequence[LongContextExample],
    tokenizer,
    budgets: Sequence[float],
    granularity: str = "sentence",
    seed: int = 0,
) -> list[Evaluated]:
    """
    Compresses examples without a model.

    Args:
        name (`str`):
            `"bm25"`: units by BM25 (Lucene's, k1 1.5, b 0.75, English stop words) against the question, among the
            units of the example, with the title of its document in front of each; `"first"`: from the beginning;
            `"random"`: in random order. BM25 finds words by their spaces, so it is no baseline for Chinese.
        examples, budgets, granularity:
            As in [`ContextCompressionEvaluator.evaluate`].
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            Counts the tokens: the critic's, for budgets that are the same.
        seed (`int`, *optional*, defaults to `0`):
            Of the random order.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}, expected one of {', '.join(BASELINES)}")

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])

    results = []
    for example in examples:
        context = read_context(documents_of(example), tokenizer)
        layout = Layout(context, True, CompressionOptions(granularity=granularity))
        total = len(context.ids)
        kept = {}
        for budget in budgets:
            target = math.floor(budget * total + 1e-9)
            units = units_within(layout, np.empty((0, 2), dtype=np.int64), target, total)
            scores = _scores(name, example, units, layout, seed)
            ranges, tokens = _select(units, scores, layout, target, count)
            kept[budget] = measure(example, ranges, layout.write(ranges), layout, tokens)
        results.append(Evaluated(example.id, total, kept))
    return results


def _select(units, scores, layout: Layout, target: int, count: Callable[[str], int]) -> tuple[np.ndarray, int]:
    first, last = layout.tokens_of(units)
    selection = select(
        units,
        scores,
        np.zeros(len(units), dtype=bool),
        target=target,
        sizes=last - first + 1,
        count=lambda ranges: count(layout.write(ranges)),
    )
    return selection.ranges, selection.tokens


def _scores(name: str, example: LongContextExample, units: np.ndarray, layout: Layout, seed: int) -> np.ndarray:
    if name == "first":
        return -np.arange(len(units), dtype=np.float64)
    if name == "random":
        digest = hashlib.blake2b(f"{seed}/{example.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(digest, "little")).random(len(units))
    import bm25s

    titles, text = layout.titles, layout.context.text
    documents = layout.document_of(units).tolist()
    corpus = [f"{titles[i]} {text[start:end]}" for (start, end), i in zip(units.tolist(), documents, strict=True)]
    words = bm25s.tokenize(corpus, stopwords="en", return_ids=False, show_progress=False)
    known = {word for unit in words for word in unit}
    query = bm25s.tokenize([example.question], stopwords="en", return_ids=False, show_progress=False)[0]
    query = [word for word in query if word in known]
    if not query:
        return np.zeros(len(units))
    retriever = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    retriever.index(words, show_progress=False)
    return np.asarray(retriever.get_scores(query), dtype=np.float64)
