"""Which units of a context stay: by the model's decision, or by score up to an exact number of tokens.

A unit is what the compressor keeps or drops as a whole: a span, a sentence, a paragraph, a document.

```python
>>> selection = select(units, scores, decoded)  # the units that the model chose
>>> selection = select(units, scores, decoded, target=2048, sizes=sizes, count=count)  # the best ones that fit
>>> selection.ranges, selection.tokens
```

Nothing here knows a model or a tokenizer: tokens are counted by a function of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np


FALLBACKS = ("none", "top_span", "head", "full")

# Exact counts are dear, a tokenizer runs over the selected text. Guided by the sizes, a few find the number of units;
# where the sizes mislead, bisection takes over after this many.
_ESTIMATED_PROBES = 8
_FILL_COUNTS = 12


@dataclass(frozen=True, eq=False)
class Selection:
    """What stays of a context."""

    ranges: np.ndarray  # int64[num_ranges, 2]: character ranges in order, which neither overlap nor touch
    chosen: np.ndarray  # bool[num_units]: the chosen units; protected regions are in `ranges` alone
    fallback: str | None  # the policy applied because nothing had been chosen, None if something had been
    tokens: int | None  # counted tokens of the ranges, None without a target


def select(
    units: np.ndarray,
    scores: np.ndarray,
    decoded: np.ndarray,
    *,
    keep: Sequence[tuple[int, int]] | np.ndarray | None = None,
    target: int | None = None,
    sizes: np.ndarray | None = None,
    count: Callable[[np.ndarray], int] | None = None,
    min_spans: int = 0,
    fallback: str = "none",
) -> Selection:
    """
    Chooses units, joins them with the protected regions and merges what touches or overlaps.

    Without a target these are the units of `decoded`, and the best-scored others up to `min_spans` units. If there is
    neither a unit nor a protected region, `fallback` decides.

    With a target the score alone decides, ties by position: as many units from the top of the ranking as fit, and
    then those further down that fit into what is left. `decoded` and `min_spans` play no part: the target is filled
    in any case. The result never exceeds it, and the first unit of the ranking that is missing was counted and did
    not fit. If not one unit fits and nothing is protected, the result is empty and `fallback` is named in it, but
    cannot add anything; units longer than the target are to be cut beforehand.

    Args:
        units (`np.ndarray` of shape `(num_units, 2)`):
            Character ranges, sorted and disjoint.
        scores (`np.ndarray` of shape `(num_units,)`):
            Higher is better.
        decoded (`np.ndarray` of shape `(num_units,)`):
            `bool`, the units that the model decided to keep.
        keep (`np.ndarray` of shape `(num_regions, 2)`, *optional*):
            Protected character ranges, always part of the result. They may cut units.
        target (`int`, *optional*):
            Most tokens of the result, as `count` counts them.
        sizes (`np.ndarray` of shape `(num_units,)`, *optional*):
            Estimated tokens of each unit alone; needed with a target. They steer the search, they are not relied on.
        count (`Callable`, *optional*):
            Tokens of the compressed text of ranges `(num_ranges, 2)`, exactly; needed with a target. It should hardly
            ever fall when a unit is added. Called a few times, at most about `log2(num_units) + 22`. No ranges are 0
            tokens, without a call.
        min_spans (`int`, *optional*, defaults to `0`):
            Fewest units chosen without a target, if there are as many.
        fallback (`str`, *optional*, defaults to `"none"`):
            `"none"`: nothing; `"top_span"`: the unit with the best score; `"head"`: the first unit; `"full"`: all.

    Returns:
        [`Selection`]

    Raises:
        `ValueError`: an argument is out of range, or the protected regions alone exceed the target.
    """
    if fallback not in FALLBACKS:
        raise ValueError(f"unknown fallback {fallback!r}, expected one of {', '.join(FALLBACKS)}")
    if not _is_whole(min_spans):
        raise ValueError(f"min_spans must be a whole number, 0 or more, got {min_spans!r}")
    units = np.asarray(units, dtype=np.int64).reshape(-1, 2)
    decoded = np.asarray(decoded, dtype=bool)
    keep = _check_keep(keep)
    # Stable, so that the earlier of two units with the same score comes first.
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    if target is not None:
        if not _is_whole(target):
            raise ValueError(f"target must be a whole number of tokens, 0 or more, got {target!r}")
        if count is None or sizes is None:
            raise ValueError("a target needs count, which counts tokens, and sizes, the estimated tokens of each unit")
        chosen, tokens = _fill(units, order, keep, int(target), np.asarray(sizes, dtype=np.float64), count)
    else:
        chosen, tokens = decoded.copy(), None
        chosen[order[~decoded[order]][: max(min_spans - int(decoded.sum()), 0)]] = True
    nothing = not chosen.any() and not len(keep)
    if nothing and target is None:
        chosen[{"none": order[:0], "top_span": order[:1], "head": slice(1), "full": slice(None)}[fallback]] = True
    return Selection(merge_ranges(keep, units[chosen]), chosen, fallback if nothing else None, tokens)


def merge_ranges(*ranges: np.ndarray) -> np.ndarray:
    """Union of character ranges `(num_ranges, 2)` in order; ranges that touch become one, empty ones vanish."""
    joined = np.concatenate(ranges)
    joined = joined[joined[:, 1] > joined[:, 0]]
    joined = joined[np.argsort(joined[:, 0], kind="stable")]
    reached = np.maximum.accumulate(joined[:, 1])
    opens = np.append(True, joined[1:, 0] > reached[:-1])[: len(joined)]
    closes = np.append(opens[1:], True)[: len(joined)]
    return np.stack([joined[opens, 0], reached[closes]], axis=1)


def _is_whole(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def _check_keep(keep) -> np.ndarray:
    """The protected regions as `int64[num_regions, 2]`, without empty ones."""
    regions = np.asarray([] if keep is None else keep)
    if not regions.size:
        return np.empty((0, 2), dtype=np.int64)
    if regions.ndim != 2 or regions.shape[1] != 2 or not np.issubdtype(regions.dtype, np.integer):
        raise ValueError(f"keep must be pairs of character positions (start, end), got {keep!r}")
    for start, end in regions.tolist():
        if not 0 <= start <= end:
            raise ValueError(f"keep contains ({start}, {end}), expected 0 <= start <= end")
    return regions[regions[:, 1] > regions[:, 0]].astype(np.int64)


def _fill(units, order, keep, target, sizes, count) -> tuple[np.ndarray, int]:
    """The chosen units (`bool`) and the counted tokens of them and of `keep`."""

    def tokens_of(chosen) -> int:
        ranges = merge_ranges(keep, units[chosen])
        return int(count(ranges)) if len(ranges) else 0

    chosen = np.zeros(len(units), dtype=bool)
    protected = tokens_of(chosen)
    if protected > target:
        raise ValueError(
            f"the protected regions alone have {protected} tokens, {protected - target} more than target={target}: "
            "raise the target or protect less"
        )
    if target == 0:
        return chosen, protected

    # The largest number of units from the top that fits: `fitting` was counted and fits, `failing` was and does not.
    fitting, failing, tokens, rate = 0, len(units) + 1, protected, 1.0
    total = np.append(0.0, np.cumsum(sizes[order]))
    probe = int(np.searchsorted(total, target - protected, side="right")) - 1
    probes = 0
    while failing - fitting > 1:
        probes += 1
        probe = min(max(probe, fitting + 1), failing - 1)
        counted = tokens_of(order[:probe])
        if counted <= target:
            fitting, tokens = probe, counted
        else:
            failing = probe
        if probes < _ESTIMATED_PROBES:  # `rate`: counted tokens for an estimated one
            rate = (counted - protected) / total[probe] if counted > protected and total[probe] > 0 else rate
            probe = int(np.searchsorted(total, total[probe] + (target - counted) / rate, side="right")) - 1
        else:
            probe = (fitting + failing) // 2
    chosen[order[:fitting]] = True

    # What is left goes to smaller units further down. A group that turns out too large is halved, a single unit that
    # does is given up.
    untried = np.ones(len(units), dtype=bool)
    untried[order[: fitting + 1]] = False
    longest = len(units)
    for _ in range(_FILL_COUNTS):
        group, room = [], (target - tokens) / rate
        for unit in order[untried[order] & (sizes[order] <= room)]:
            if sizes[unit] <= room:
                group.append(unit)
                room -= sizes[unit]
            if len(group) == longest:
                break
        if not group:
            break
        with_group = chosen.copy()
        with_group[group] = True
        counted = tokens_of(with_group)
        if counted <= target:
            chosen, tokens = with_group, counted
        if counted <= target or len(group) == 1:
            untried[group] = False
        else:
            longest = len(group) // 2
    return chosen, tokens
