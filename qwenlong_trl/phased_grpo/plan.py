"""Steps, windows and phases: which phase a step or a window belongs to. Pure arithmetic."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class PhasePlan:
    """
    Args:
        steps (`tuple[int, ...]`):
            Optimizer steps of each phase.
        accumulation (`int`):
            Micro-steps of one optimizer step.
        window (`int`):
            Micro-steps trained on one generation window (`steps_per_generation * num_iterations`).
    """

    steps: tuple[int, ...]
    accumulation: int
    window: int

    @classmethod
    def of(cls, args) -> PhasePlan:
        """The plan of a [`PhasedGRPOConfig`]."""
        return cls(
            steps=tuple(phase.max_steps for phase in args.phases),
            accumulation=args.gradient_accumulation_steps,
            window=args.micro_steps_per_window,
        )

    @property
    def phase_ends(self) -> list[int]:
        """The number of steps done when each phase ends."""
        return list(accumulate(self.steps))

    @property
    def windows(self) -> int:
        """Generation windows of the whole run."""
        return sum(self.steps) * self.accumulation // self.window

    @property
    def steps_between_boundaries(self) -> int:
        """The smallest number of optimizer steps that fills whole windows."""
        return math.lcm(self.window, self.accumulation) // self.accumulation

    def is_window_boundary(self, step: int) -> bool:
        """Whether a window ends exactly when `step` steps are done."""
        return step % self.steps_between_boundaries == 0

    def phase_at_step(self, step: int) -> tuple[int, int]:
        """Phase index, and steps done within it, when `step` steps are done; the last phase keeps later ones."""
        ends = self.phase_ends
        k = min(bisect_right(ends, step), len(ends) - 1)
        return k, step - (ends[k - 1] if k else 0)

    def phase_at_window(self, window: int) -> tuple[int, int]:
        """Phase index and the window's number within the phase."""
        ends = [end * self.accumulation // self.window for end in self.phase_ends]
        k = min(bisect_right(ends, window), len(ends) - 1)
        return k, window - (ends[k - 1] if k else 0)
