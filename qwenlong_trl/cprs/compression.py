"""From what the critic says about each token to the compressed context: the part of the pipeline without a model.

```python
>>> layout = Layout(read_context("It rains. Take an umbrella.", tokenizer), False, CompressionOptions())
>>> result = compress(layout, logits, tag_logits, tags=("fact",), count=count, input_tokens=8)
>>> result["compressed"], result["spans"]
```

QwenLong-CPRS (arXiv 2505.18092) has no budget, no scores and no documents; what a unit is, how it is scored and what a
budget counts is ours. All ranges are characters of the text of a [`Context`], unless they are said to be tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .decode import OUTSIDE, bridge, spans_of, token_log_probs, viterbi
from .layout import Layout, intersect, overlaps, split_documents
from .official import official_spans
from .selection import Selection, merge_ranges, select
from .units import paragraphs, split_long, token_boundaries


# Words that only fill a budget are short, also where a script has no spaces between them.
_LONGEST_WORD = 16


def compress(
    layout: Layout,
    logits: np.ndarray,
    tag_logits: np.ndarray | None,
    tags: tuple[str, ...],
    count: Callable[[str], int],
    input_tokens: int,
    keep: np.ndarray | None = None,
) -> dict[str, Any]:
    """
    Decodes, finds the units, chooses and writes.

    Args:
        layout ([`Layout`]):
            The context. It must hold more than white space.
        logits (`np.ndarray` of shape `(tokens, 4)`):
            Of the position head.
        tag_logits (`np.ndarray` of shape `(tokens, len(tags) + 1)`, *optional*):
            Of the tag critic, the word for no tag last. Without them the position head decides alone.
        tags (`tuple[str, ...]`):
            The tag words.
        count (`Callable`):
            Tokens of a text, as the reader counts them.
        input_tokens (`int`):
            Tokens of the context, as the reader counts them.
        keep (`np.ndarray` of shape `(regions, 2)`, *optional*):
            Protected ranges.

    Returns:
        `dict`: as [`ContextCompressionPipeline`] returns it.
    """
    options = layout.options
    keep = np.empty((0, 2), dtype=np.int64) if keep is None else keep
    log_probs, tag_log_probs = token_log_probs(logits, tag_logits)
    keep_prob = -np.expm1(log_probs[:, OUTSIDE].astype(np.float64))
    scores = _Means(keep_prob)
    decoded = layout.clip(_decode(layout, log_probs, keep_prob))
    target = options.target_tokens
    if options.rate is not None:
        target = math.floor(options.rate * input_tokens + 1e-9)

    everything = _with_protected(layout.everything, keep)
    fallback, tokens = None, None
    if target is not None and input_tokens <= target and (tokens := count(layout.write(everything))) <= target:
        pieces = everything  # nothing has to go
    else:
        units = units_within(layout, decoded, target, input_tokens)
        first, last = layout.tokens_of(units)
        chosen_by_model = overlaps(units, decoded)

        def chosen_from(layout: Layout) -> Selection:
            return select(
                units,
                scores(first, last),
                chosen_by_model,
                keep=keep,
                target=target,
                # One more for the separator; the tokens of the critic for those of the reader.
                sizes=(last - first + 1) * (input_tokens / max(len(layout.context.ids), 1)),
                count=lambda ranges: count(layout.write(ranges)),
                min_spans=options.min_spans,
                fallback=options.fallback,
            )

        selection = chosen_from(layout)
        if target and not len(selection.ranges) and any(layout.titles):  # no unit fits below its title
            layout = Layout(layout.context, layout.is_list, replace(options, include_titles=False))
            selection = chosen_from(layout)
        fallback, tokens = selection.fallback if target is None else None, selection.tokens
        if fallback == "full" and target is None:
            pieces = everything
        elif options.granularity == "token" and target is not None:
            pieces = layout.join_blank(selection.ranges)  # words beside each other are one span
        else:
            pieces = _with_protected(units[selection.chosen], keep)
    if target is None:
        tokens = count(layout.write(pieces))
        if tokens > input_tokens:  # separators cost more than what was left out
            whole = count(layout.write(everything))
            pieces, tokens = (everything, whole) if whole < tokens else (pieces, tokens)

    first, last = layout.tokens_of(pieces)
    names: list[str | None] = [None] * len(pieces)
    if tag_log_probs is not None and len(pieces):
        likely = _Means(keep_prob[:, None] * np.exp(tag_log_probs))(first, last).argmax(axis=1)
        kept_by_model = overlaps(pieces, decoded).tolist()
        names = [tags[i] if kept else None for i, kept in zip(likely.tolist(), kept_by_model, strict=True)]
    return result(layout, pieces, scores(first, last), names, tokens, input_tokens, fallback, scores)


def compress_official(
    layout: Layout, logits: np.ndarray, count: Callable[[str], int], input_tokens: int
) -> dict[str, Any]:
    """As the released server does it: most probable positions, its repair of gaps, its spans, a line for each."""
    options, context = layout.options, layout.context
    ranges = official_spans(
        logits.argmax(axis=1), context.starts, context.text, options.min_keyword_len, options.complete_sentence
    )
    pieces = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    written = options.separator.join(context.text[start:end] for start, end in ranges)
    scores = _Means(-np.expm1(token_log_probs(logits)[0][:, OUTSIDE].astype(np.float64)))
    # Ranges may overlap with `complete_sentence`, so this text is not what `Layout.write` makes of them.
    found = scores(*layout.tokens_of(pieces))
    names = [None] * len(pieces)
    return result(layout, pieces, found, names, count(written), input_tokens, None, scores) | {"compressed": written}


def units_within(layout: Layout, decoded: np.ndarray, target: int | None, input_tokens: int) -> np.ndarray:
    """
    What is kept or dropped as a whole: disjoint ranges in order, without white space at their ends, `int64[u, 2]`.

    Args:
        decoded (`np.ndarray` of shape `(spans, 2)`):
            What the critic decided to keep; units themselves at token granularity.
        target (`int`, *optional*):
            Most tokens of the result. Units of more than half of it are cut.
        input_tokens (`int`):
            Tokens of the context, counted as `target` is.
    """
    options, context = layout.options, layout.context

    def cut(ranges: np.ndarray, most: float) -> np.ndarray:
        if target is None:
            return ranges
        # Half of the budget, so that at least two units fit, in tokens of the critic.
        most = min(most, target / 2 * len(context.ids) / max(input_tokens, 1))
        return layout.clip(split_long(ranges, context.text, context.starts, context.ends, max(int(most), 1)))

    if options.granularity == "token":
        if target is None and options.min_spans <= len(decoded):
            # Nothing decoded: the fallback takes sentences, since no token means much alone.
            wanted = not len(decoded) and options.fallback != "none"
            return layout.clip(layout.sentences) if wanted else decoded
        _, spaced = token_boundaries(context.text, context.starts, context.ends)
        edges = np.concatenate([context.starts[spaced[:-1]], [len(context.text)]])
        words = np.stack([edges[:-1], edges[1:]], axis=1)
        between = np.stack([np.append(0, decoded[:, 1]), np.append(decoded[:, 0], len(context.text))], axis=1)
        words = cut(layout.clip(intersect(words, between)), _LONGEST_WORD)
        units = np.concatenate([cut(decoded, math.inf), words])
        return units[np.argsort(units[:, 0], kind="stable")]
    if options.granularity == "document":
        ranges = context.documents
    else:
        ranges = layout.sentences if options.granularity == "sentence" else split_documents(context, paragraphs)
    return cut(layout.clip(ranges), math.inf)


def result(
    layout: Layout,
    pieces: np.ndarray,
    piece_scores: np.ndarray,
    tags: list[str | None],
    tokens: int,
    input_tokens: int,
    fallback: str | None = None,
    scores: _Means | None = None,
) -> dict[str, Any]:
    """The output of the pipeline for the ranges that were chosen."""
    context, spans = layout.context, []
    document = layout.document_of(pieces)
    base = context.documents[document, 0] if layout.is_list else np.zeros(len(pieces), dtype=np.int64)
    columns = zip(pieces.tolist(), base.tolist(), document.tolist(), piece_scores.tolist(), tags, strict=True)
    for (start, end), shift, index, score, tag in columns:
        where = {"document": index} if layout.is_list else {}
        place = {"text": context.text[start:end], "start": start - shift, "end": end - shift}
        spans.append({**where, **place, "score": score, "tag": tag})
    written = layout.render(pieces)
    output = {
        "compressed": layout.options.document_separator.join(written.values()),
        "spans": spans,
        "input_tokens": input_tokens,
        "compressed_tokens": tokens,
        "ratio": input_tokens / tokens if tokens else None,
        "fallback": fallback,
    }
    if layout.is_list:
        output["documents"] = _documents(layout, spans, written, scores)
    return output


def _documents(layout: Layout, spans: list[dict], written: dict[int, str], scores: _Means | None) -> list[dict]:
    best = np.zeros(len(layout.context.documents))
    if scores is not None:
        # By sentences whatever is kept, so that the order of documents depends on neither granularity nor budget.
        units = layout.clip(layout.sentences)
        np.maximum.at(best, layout.document_of(units), scores(*layout.tokens_of(units)))
    ranks = np.empty(len(best), dtype=np.int64)
    ranks[np.argsort(-best, kind="stable")] = np.arange(1, len(best) + 1)
    documents = [
        {"index": i, "score": score, "rank": rank, "spans": [], "compressed": written.get(i, "")}
        for i, (score, rank) in enumerate(zip(best.tolist(), ranks.tolist(), strict=True))
    ]
    for span in spans:
        documents[span["document"]]["spans"].append(span)
    return documents


def _decode(layout: Layout, log_probs: np.ndarray, keep_prob: np.ndarray) -> np.ndarray:
    """The spans of the model as disjoint ranges."""
    options, context = layout.options, layout.context
    states = viterbi(log_probs, options.penalty, options.threshold)
    spans = bridge(spans_of(states), keep_prob, options.max_gap, options.gap_threshold)
    spans = spans[spans[:, 1] - spans[:, 0] >= options.min_tokens]
    starts, ends = context.starts[spans[:, 0]], context.ends[spans[:, 1] - 1]
    # Two spans may divide the tokens of one character between them.
    opens, closes = np.ones(len(spans), dtype=bool), np.ones(len(spans), dtype=bool)
    opens[1:] = closes[:-1] = starts[1:] >= ends[:-1]
    return np.stack([starts[opens], ends[closes]], axis=1)


def _with_protected(units: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The chosen units, those that overlap protected ranges joined with them, and the protected ranges."""
    if not len(keep):
        return units
    keep = merge_ranges(keep)
    touched = overlaps(units, keep)
    ranges = np.concatenate([merge_ranges(keep, units[touched]), units[~touched]])
    return ranges[np.argsort(ranges[:, 0], kind="stable")]


class _Means:
    """Means over ranges of tokens of values `(tokens,)` or `(tokens, c)`; 0 for a range without tokens."""

    def __init__(self, values: np.ndarray):
        self._sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0, dtype=np.float64)])

    def __call__(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        counts = np.maximum(last - first, 1).reshape(-1, *[1] * (self._sums.ndim - 1))
        return (self._sums[last] - self._sums[first]) / counts
