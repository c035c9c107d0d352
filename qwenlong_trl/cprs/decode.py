"""From the logits of the two heads to spans of tokens.

```python
>>> log_probs, tag_log_probs = token_log_probs(logits, tag_logits)
>>> spans = spans_of(viterbi(log_probs, penalty=4.0, threshold=0.5))  # token ranges
>>> spans = bridge(spans, 1 - np.exp(log_probs[:, OUTSIDE]), max_gap=8, min_prob=0.3)
```

QwenLong-CPRS (arXiv 2505.18092, section 2.2 and figure 3) labels every token of a window with its position in a span
(begin, inside, end, or outside of all spans) by one head and with a tag word by the language modeling head, and
multiplies what the two say. The paper gives no rules for which position may follow which: those of [`viterbi`], and
the bridging of gaps, are ours.
"""

from __future__ import annotations

import math

import numpy as np


BEGIN, INSIDE, OUTSIDE, END = 0, 1, 2, 3  # rows of the position head, in the order of the release

# Larger logits than this are all the same; sums of a few of them stay far from the largest float32.
_LARGEST_LOGIT = 1e30

# All that the rules ask about a state: begin and outside may follow anything but inside, inside and end only begin or
# inside. So two classes of states: those that need no open span before them (0) and those that do (1).
_CLASS = np.array([0, 1, 0, 1], dtype=np.int8)  # by state
_ILLEGAL = np.array([[0, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)  # [class of the next state, state]


def token_log_probs(logits: np.ndarray, tag_logits: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """
    The product of the position head and the tag critic (arXiv 2505.18092, figure 3), normalised per token.

    With p from the position head, q from the tag critic and Z what makes the four sum to one:

    ```txt
    P(outside)    = p(outside) q(outside) / Z
    P(position)   = p(position) (1 - q(outside)) / Z
    P(tag | kept) = q(tag) / (1 - q(outside))
    ```

    Args:
        logits (`np.ndarray` of shape `(n, 4)`):
            Of the position head, columns `BEGIN`, `INSIDE`, `OUTSIDE`, `END`. Finite.
        tag_logits (`np.ndarray` of shape `(n, T + 1)`, *optional*):
            Of the language modeling head for the `T` tag words and, in the last column, for the word that stands for
            no tag. Finite. Without them the position head decides alone.

    Returns:
        `tuple[np.ndarray, np.ndarray | None]`: `float32[n, 4]`, log P of the positions, and `float32[n, T]`,
        log P(tag | kept), `None` without `tag_logits`. Finite for any finite logits.
    """
    joint = np.clip(np.asarray(logits, dtype=np.float32), -_LARGEST_LOGIT, _LARGEST_LOGIT)
    if tag_logits is None:
        return _log_softmax(joint), None
    tag_logits = np.asarray(tag_logits, dtype=np.float32)
    if tag_logits.ndim != 2 or tag_logits.shape[1] < 2 or len(tag_logits) != len(joint):
        raise ValueError(
            f"tag_logits must have a row per token ({len(joint)}) and a column for each tag word and one for none, at "
            f"least 2, got the shape {tag_logits.shape}."
        )
    tag_logits = np.clip(tag_logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    tags = tag_logits[:, :-1]
    # Only the ratio q(outside) / (1 - q(outside)) matters for P, and it needs no difference from 1.
    joint[:, OUTSIDE] += tag_logits[:, -1] - _log_sum_exp(tags)[:, 0]
    return _log_softmax(joint), _log_softmax(tags)


def viterbi(log_probs: np.ndarray, penalty: float = 4.0, threshold: float = 0.5) -> np.ndarray:
    """
    The best sequence of states under soft rules for what may follow what.

    Legal are outside -> outside, begin; begin -> inside, end, outside, begin; inside -> inside, end; and end ->
    outside, begin. The text before the first and after the last token counts as outside. Each break of a rule costs
    `penalty`, so that where a checkpoint is sure, it is believed.

    Exact, in linear time: the tokens are divided into about sqrt(n) blocks that are decoded side by side, for either
    class of state that a block may begin with, and then chained.

    Args:
        log_probs (`np.ndarray` of shape `(n, 4)`):
            As [`token_log_probs`] returns them.
        penalty (`float`, *optional*, defaults to `4.0`):
            Cost of an illegal transition in nats, 0 or more; `np.inf` forbids them.
        threshold (`float`, *optional*, defaults to `0.5`):
            The P(keep), between 0 and 1, at which keeping a token is as good as not keeping it. Lower keeps more.

    Returns:
        `int8[n]`: `BEGIN`, `INSIDE`, `OUTSIDE` or `END` for each token.
    """
    if not penalty >= 0:
        raise ValueError(f"penalty must be 0 or more, got {penalty}.")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, both excluded, got {threshold}.")
    n = len(log_probs)
    if n == 0:
        return np.zeros(0, dtype=np.int8)
    length = math.isqrt(n - 1) + 1
    blocks = -(-n // length)
    # [position in the block, state, block]; the padding at the end is outside for sure.
    scores = np.full((blocks * length, 4), -np.inf, dtype=np.float32)
    scores[:n] = log_probs
    scores[n:, OUTSIDE] = 0
    scores[:n, [BEGIN, INSIDE, END]] -= np.float32(math.log(threshold / (1 - threshold)))
    scores = np.ascontiguousarray(scores.reshape(blocks, length, 4).transpose(1, 2, 0))

    cost = np.where(_ILLEGAL, penalty, 0.0)[:, :, None, None]
    best = np.full((2, 2, blocks), -np.inf)  # [class of the next state, class of the first state of the block, block]
    best[[0, 1], [0, 1]] = 0
    pointers = np.empty((length, 2, 2, blocks), dtype=np.int8)
    for position in range(length):
        ending = best[_CLASS] + scores[position][:, None, :]  # [state, class of the first state, block]
        for following in (0, 1):
            candidates = ending - cost[following]
            pointers[position, following] = candidates.argmax(axis=0)
            best[following] = candidates.max(axis=0)

    # Chain the blocks: the class of the first state of each block, decided from the last one back.
    first_class = np.zeros((blocks + 1, 2), dtype=np.int8)  # [block, class of the first state of the next one]
    total = (0.0, -float(penalty))  # by class of the next state: before the first token counts as outside
    for block, ((free, free_open), (need, need_open)) in enumerate(best.transpose(2, 0, 1).tolist()):
        options = ((total[0] + free, total[1] + free_open), (total[0] + need, total[1] + need_open))
        first_class[block] = [option[1] > option[0] for option in options]
        total = (max(options[0]), max(options[1]))
    entry, leave = np.zeros(blocks, dtype=np.int8), np.zeros(blocks, dtype=np.int8)
    following = 0  # after the last token counts as outside
    for block in range(blocks - 1, -1, -1):
        leave[block] = following
        entry[block] = following = first_class[block, following]

    states = np.empty((length, blocks), dtype=np.int8)
    column = np.arange(blocks)
    for position in range(length - 1, -1, -1):
        states[position] = pointers[position, leave, entry, column]
        leave = _CLASS[states[position]]
    return np.ascontiguousarray(states.T).reshape(-1)[:n]


def spans_of(states: np.ndarray) -> np.ndarray:
    """
    The spans that a sequence of states stands for.

    A span opens at a begin, and at an inside or end that follows outside or end, as happens where the rules are
    broken. It closes with an end, or before a begin or outside.

    Args:
        states (`np.ndarray` of shape `(n,)`):
            `BEGIN`, `INSIDE`, `OUTSIDE` or `END` for each token.

    Returns:
        `int64[m, 2]`: token ranges, disjoint and in order.
    """
    states = np.asarray(states)
    kept = states != OUTSIDE
    opens = kept.copy()
    opens[1:] &= (states[1:] == BEGIN) | (states[:-1] == OUTSIDE) | (states[:-1] == END)
    closes = kept.copy()
    closes[:-1] &= ~kept[1:] | opens[1:]
    return np.stack([np.flatnonzero(opens), np.flatnonzero(closes) + 1], axis=1).astype(np.int64)


def bridge(spans: np.ndarray, keep_prob: np.ndarray, max_gap: int, min_prob: float) -> np.ndarray:
    """
    Joins neighbouring spans over short gaps that the model was not sure to drop.

    Args:
        spans (`np.ndarray` of shape `(m, 2)`):
            Token ranges, disjoint and in order.
        keep_prob (`np.ndarray` of shape `(n,)`):
            P(keep) of each token, which is 1 - P(outside).
        max_gap (`int`):
            Most tokens of a gap that is bridged.
        min_prob (`float`):
            The mean P(keep) of the tokens of a gap must be above it.

    Returns:
        `int64[m', 2]`: token ranges. Spans without a token between them stay apart, as the model had them.
    """
    spans = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
    if not len(spans):
        return spans
    sums = np.concatenate([[0.0], np.cumsum(keep_prob, dtype=np.float64)])
    left, right = spans[:-1, 1], spans[1:, 0]
    gap = right - left
    apart = (gap > max_gap) | (sums[right] - sums[left] <= min_prob * gap)
    first, last = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
    return np.stack([spans[first, 0], spans[last, 1]], axis=1)


def _log_sum_exp(x: np.ndarray) -> np.ndarray:
    """`(n, c)` to `(n, 1)`."""
    largest = x.max(axis=1, keepdims=True)
    return largest + np.log(np.exp(x - largest).sum(axis=1, keepdims=True))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    """Over the columns. What is as good as nothing stays finite."""
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
