"""The state of a length curriculum: how hard each prompt was, which prompts were carried into which phase.

No model and no trainer in here. The trainer calls `observe` with the accuracies of a window, `enter` when a phase
begins, and writes `state_dict` into the checkpoint; given the same calls, every process holds the same state.

Paper: QwenLong-L1 (arXiv 2505.17667), section 2.3: Eq. 9 (phases) and Eq. 10 (difficulty).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .phase import Phase


STATE_VERSION = 1


class CurriculumMismatchError(ValueError):
    """A checkpoint belongs to another plan, dataset or version. The message lists what differs."""


@dataclass
class Difficulty:
    """Accuracy of one prompt's rollouts: how many, and their sum."""

    rollouts: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.rollouts


def assign_phases(lengths: Sequence[int], phases: Sequence[Phase]) -> list[int | None]:
    """
    Phase index of every prompt, `None` for prompts longer than the last phase allows.

    Phase k takes L_{k-1} < length <= L_k (Eq. 9), L_0 = 0: left-open, right-closed.
    """
    bounds = [phase.max_prompt_length for phase in phases]
    return [next((k for k, bound in enumerate(bounds) if length <= bound), None) for length in lengths]


class Curriculum:
    """
    Args:
        phases (`list[Phase]`):
            The plan.
        ids (`list[str]`):
            Id of every row of the training set, unique.
        lengths (`list[int]`):
            Prompt length of every row, in tokens.
        retrospective (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"hard_zero"` or `"weighted"`, see [`PhasedGRPOConfig`].
        ratio, epsilon (`float`):
            Of `"weighted"`.
        seed (`int`):
            Of the weighted draw.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        ids: Sequence[str],
        lengths: Sequence[int],
        retrospective: str = "none",
        ratio: float = 0.25,
        epsilon: float = 1 / 16,
        seed: int = 42,
    ):
        self.phases, self.ids, self.lengths = list(phases), list(ids), list(lengths)
        self.retrospective, self.ratio, self.epsilon, self.seed = retrospective, ratio, epsilon, seed
        self.rows = {example: row for row, example in enumerate(self.ids)}
        if len(self.rows) < len(self.ids):
            twice = next(example for row, example in enumerate(self.ids) if self.rows[example] != row)
            raise ValueError(f"ids of the training set must be unique, but {twice!r} stands in more than one row")
        self.phase_of_row = assign_phases(self.lengths, self.phases)
        self.own_rows: list[list[int]] = [[] for _ in self.phases]
        for row, k in enumerate(self.phase_of_row):
            if k is not None:
                self.own_rows[k].append(row)
        self.reset()

    def reset(self) -> None:
        """Forgets all observations, as before the first step."""
        self.difficulty: dict[str, Difficulty] = {}
        # Phase index -> {id: weight} of the prompts carried into it; frozen when the phase is entered.
        self.carried: dict[int, dict[str, float]] = {}

    @property
    def dropped(self) -> list[int]:
        """Rows that are longer than the last phase allows."""
        return [row for row, k in enumerate(self.phase_of_row) if k is None]

    def earlier_rows(self, k: int) -> list[int]:
        """Rows that belong to the phases before phase k."""
        return [row for rows in self.own_rows[:k] for row in rows]

    def pool(self, k: int) -> list[int]:
        """Rows that phase k trains on: its own, then the carried ones. Needs `enter(k)` first, for k > 0."""
        if k > 0 and self.retrospective != "none" and k not in self.carried:
            raise RuntimeError(f"phase {k} was not entered yet")
        return self.own_rows[k] + [self.rows[example] for example in self.carried.get(k, {})]

    def observe(
        self, ids: Iterable[str], accuracies: Iterable[float], into: dict[str, Difficulty] | None = None
    ) -> None:
        """
        Adds the raw accuracy of every rollout of a window, to the table of the training rollouts or to another one. A
        rollout that could not be scored (NaN) is left out.
        """
        table = self.difficulty if into is None else into
        for example, accuracy in zip(ids, accuracies, strict=True):
            if not math.isnan(accuracy):
                entry = table.setdefault(example, Difficulty())
                entry.rollouts += 1
                entry.total += accuracy

    def enter(self, k: int, scored: Mapping[str, Difficulty] | None = None) -> bool:
        """
        Freezes what is carried into phase k. Does nothing, and returns `False`, if that was done before.

        Args:
            k (`int`):
                Zero-based phase.
            scored (`dict[str, Difficulty]`, *optional*):
                Difficulties of a scoring pass; those of the training rollouts where it is left out.
        """
        if k in self.carried or k == 0 or self.retrospective == "none":
            return False
        measured = self.difficulty if scored is None else scored
        candidates = [self.ids[row] for row in self.earlier_rows(k) if self.ids[row] in measured]
        if self.retrospective == "hard_zero":
            self.carried[k] = {example: 1.0 for example in candidates if measured[example].mean == 0}
        else:
            # Eq. 10 with an epsilon: 1/mean is infinite at mean zero, where it is needed most.
            weights = [1 / (measured[example].mean + self.epsilon) for example in candidates]
            size = min(round(self.ratio * len(self.own_rows[k])), len(candidates))
            drawn = _draw_without_replacement(weights, size, seed=self.seed * 1000 + k)
            self.carried[k] = {candidates[i]: weights[i] for i in drawn}
        return True

    def carried_table(self, k: int) -> list[dict[str, Any]]:
        """What was carried into phase k, and why, one dictionary per prompt."""
        hard = self.retrospective == "hard_zero"
        return [
            {
                "id": example,
                "phase": self.phases[k].name,
                "from_phase": self.phases[self.phase_of_row[self.rows[example]]].name,
                "prompt_length": self.lengths[self.rows[example]],
                "weight": weight,
                "mean_accuracy": 0.0 if hard else 1 / weight - self.epsilon,
            }
            for example, weight in self.carried.get(k, {}).items()
        ]

    def state_dict(self) -> dict[str, Any]:
        """All observations and everything carried, as JSON values."""
        return {
            "state_version": STATE_VERSION,
            "difficulty": {example: [d.rollouts, d.total] for example, d in self.difficulty.items()},
            "carried": {str(k): carried for k, carried in self.carried.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state_dict`. Raises [`CurriculumMismatchError`] if another version wrote it."""
        if state.get("state_version") != STATE_VERSION:
            raise CurriculumMismatchError(
                f"the curriculum state has version {state.get('state_version')!r}, this package reads {STATE_VERSION}"
            )
        self.difficulty = {example: Difficulty(n, total) for example, (n, total) in state["difficulty"].items()}
        self.carried = {int(k): dict(carried) for k, carried in state["carried"].items()}


def _draw_without_replacement(weights: Sequence[float], size: int, seed: int) -> list[int]:
    """Indices drawn one after the other with probability proportional to weight (Gumbel top-k), in ascending order."""
    if size == 0:
        return []
    uniform = torch.rand(len(weights), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    keys = torch.tensor(weights, dtype=torch.float64).log() - torch.log(-torch.log(uniform))
    return sorted(torch.topk(keys, size).indices.tolist())
