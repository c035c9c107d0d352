"""What every process knows of one batch of rollouts, and what a rollout has to have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Rollouts:
    """R rollouts in the order of the ranks, groups contiguous; equal on every process."""

    rows: list[int]  # (R,) row of the training set
    rewards: list[float] = field(default_factory=list)  # (R,) weighted sum of the reward functions
    accuracies: list[float] = field(default_factory=list)  # (R,) raw accuracy, NaN where it could not be scored
    truncated: list[bool] = field(default_factory=list)  # (R,) cut by the completion limit

    def replace_groups(self, other: Rollouts, swaps: list[tuple[int, int]], size: int) -> None:
        """For each `(old, new)`: group `old` of this batch becomes group `new` of the other; `size` rows a group."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            for old, new in swaps:
                mine[old * size : (old + 1) * size] = theirs[new * size : (new + 1) * size]


def require_tokens(completion_ids: Sequence[Sequence[int]], step: int) -> None:
    """
    Raises `ValueError` for a completion without any token, which TRL cannot work with. An empty answer has one token,
    the end.
    """
    empty = [i for i, ids in enumerate(completion_ids) if len(ids) == 0]
    if empty:
        raise ValueError(
            f"in step {step}, {len(empty)} of {len(completion_ids)} completions have no token at all (the first is "
            f"number {empty[0]} of the batch); an empty answer has the end token. Let what generates them return it."
        )


def checked_rollout_func(function: Callable | None) -> Callable | None:
    """The `rollout_func` of a [`~trl.GRPOTrainer`], whose completions must have tokens."""
    if function is None:
        return None

    @functools.wraps(function)
    def checked(prompts, trainer):
        output = function(prompts, trainer)
        require_tokens(output.get("completion_ids", ()), trainer.state.global_step + 1)
        return output

    return checked
