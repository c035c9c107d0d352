"""What every process knows of one batch of rollouts."""

from __future__ import annotations

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
