"""Rows of one optimizer step, moved so that those with the same prompt meet in one micro-batch.

TRL shuffles a window of completions before it cuts it into micro-batches, so that those of one prompt are scattered.
Which rows an optimizer step sees is part of the algorithm; which of its micro-batches computes them is not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import torch


def arrange(groups: Sequence[Hashable], batches: int) -> list[int]:
    """
    An order of rows, cut into `batches` equal parts, that splits few groups.

    Args:
        groups (`Sequence[Hashable]`):
            The group of each row; their number is a multiple of `batches`.
        batches (`int`):
            Parts.

    Returns:
        `list[int]`: rows, those of the first part first.
    """
    size = len(groups) // batches
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    parts: list[list[int]] = [[] for _ in range(batches)]
    # The largest first, each into the fullest part that takes it whole; where none does, the emptiest takes some.
    for rows in sorted(members.values(), key=len, reverse=True):
        while rows:
            room = [size - len(part) for part in parts]
            whole = [i for i in range(batches) if room[i] >= len(rows)]
            i = min(whole, key=lambda i: room[i]) if whole else max(range(batches), key=lambda i: room[i])
            parts[i] += rows[: room[i]]
            rows = rows[room[i] :]
    return [row for part in parts for row in part]


def regroup(
    micro_batches: Sequence[Mapping[str, object]], gradient_accumulation_steps: int
) -> list[Mapping[str, object]]:
    """
    The micro-batches of a window with rows exchanged among those of each optimizer step.

    Args:
        micro_batches (`Sequence[dict]`):
            TRL's buffered inputs: rows of equal width in all of them, with what belongs to a whole window beside them.
        gradient_accumulation_steps (`int`):
            Micro-batches of an optimizer step. Rows stay within blocks of so many that no step ends inside, whichever
            pass over the window it is.

    Returns:
        `list[dict]`: as many, or those that were given, if anything in them cannot be told to belong to a row.
    """
    size = micro_batches[0]["prompt_ids"].size(0)
    by_row = {name for name, value in micro_batches[0].items() if isinstance(value, torch.Tensor) and value.dim() > 0}
    for batch in micro_batches:
        others = [value for name, value in batch.items() if name not in by_row and isinstance(value, list)]
        if others or any(batch[name].size(0) != size for name in by_row):
            return list(micro_batches)
    block = math.gcd(len(micro_batches), gradient_accumulation_steps)
    regrouped: list[Mapping[str, object]] = []
    for start in range(0, len(micro_batches), block):
        batches = micro_batches[start : start + block]
        joined = {name: torch.cat([batch[name] for batch in batches]) for name in by_row}
        prompts = torch.stack([joined["prompt_ids"], joined["prompt_mask"].to(joined["prompt_ids"])], dim=1)
        order = arrange([prompt.tobytes() for prompt in prompts.cpu().numpy()], block)
        for i, batch in enumerate(batches):
            rows = torch.tensor(order[i * size : (i + 1) * size], device=joined["prompt_ids"].device)
            regrouped.append({name: joined[name][rows] if name in by_row else batch[name] for name in batch})
    return regrouped
