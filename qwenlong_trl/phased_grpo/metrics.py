"""Metrics of a window, overall and per length bucket. A bucket is the token range of the phase that owns a prompt."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from .curriculum import Curriculum
from .dynamic_sampling import live_groups
from .rollouts import Rollouts


def bucket_name(curriculum: Curriculum, row: int) -> str:
    """`length_20000_60000`: prompts of 20,001 to 60,000 tokens."""
    k = curriculum.phase_of_row[row]
    lower = curriculum.phases[k - 1].max_prompt_length if k else 0
    return f"length_{lower}_{curriculum.phases[k].max_prompt_length}"


def window_metrics(rollouts: Rollouts, curriculum: Curriculum, k: int, num_generations: int) -> dict[str, float]:
    """What phase k draws from, how much of this window was carried into it, and all of `bucket_metrics`."""
    carried = curriculum.carried.get(k, {})
    return {
        "curriculum/phase": k + 1,
        "curriculum/max_prompt_length": curriculum.phases[k].max_prompt_length,
        "curriculum/pool": len(curriculum.pool(k)),
        "curriculum/carried": len(carried),
        "curriculum/carried_share": sum(curriculum.ids[row] in carried for row in rollouts.rows) / len(rollouts.rows),
        **bucket_metrics(rollouts, curriculum, num_generations),
    }


def bucket_metrics(rollouts: Rollouts, curriculum: Curriculum, num_generations: int) -> dict[str, float]:
    """
    Means over a window's rollouts: `accuracy`, `zero_variance` (share of groups without signal), `zero_variance/none`
    and `zero_variance/all` (all wrong, all right), `truncated`; and reward, accuracy, zero_variance and truncated for
    every length bucket that the window holds, as `curriculum/<bucket>/<name>`.
    """
    live = live_groups(rollouts.accuracies, num_generations)
    means: dict[str, list[float]] = defaultdict(list)
    for i, row in enumerate(rollouts.rows):
        values = {"accuracy": rollouts.accuracies[i], "truncated": float(rollouts.truncated[i])}
        if i % num_generations == 0:
            group = rollouts.accuracies[i : i + num_generations]
            flat = not live[i // num_generations]
            values["zero_variance"] = float(flat)
            means["zero_variance/none"].append(float(flat and all(a == 0 for a in group)))
            means["zero_variance/all"].append(float(flat and all(a == 1 for a in group)))
        for name, value in values.items():
            means[name].append(value)
        for name, value in {**values, "reward": rollouts.rewards[i]}.items():
            means[f"curriculum/{bucket_name(curriculum, row)}/{name}"].append(value)
    return {name: _mean(values) for name, values in means.items()}


def _mean(values: list[float]) -> float:
    scored = [value for value in values if not math.isnan(value)]
    return sum(scored) / len(scored) if scored else math.nan


def describe_phases(curriculum: Curriculum) -> dict[str, Any]:
    """The phases as a model card tells them; `carried` is `None` for a phase that has not begun."""
    phases = []
    for k, phase in enumerate(curriculum.phases):
        settings = phase.settings()
        begun = k == 0 or curriculum.retrospective == "none" or k in curriculum.carried
        phases.append(
            {name: settings.pop(name) for name in ("name", "max_prompt_length", "max_steps")}
            | {
                "prompts": len(curriculum.own_rows[k]),
                "carried": len(curriculum.carried.get(k, {})) if begun else None,
            }
            | {"settings": settings}
        )
    return {"phases": phases, "prompts_dropped": len(curriculum.dropped)}
