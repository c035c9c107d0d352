"""Groups without signal: found on the accuracy, taken out of the loss, or replaced. Functions on tensors.

A group whose rollouts are all right or all wrong has advantage zero, yet its tokens count in the normaliser of the
loss. DAPO (arXiv 2503.14476, Eq. 11) trains on the other groups only.

Shapes: a window has R rows, R = groups * num_generations, groups contiguous; P prompt and C completion tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from .rollouts import Rollouts


# Losses that average over rows. Masked rows add zero to their sum, so the others are scaled up by rows / live rows:
# the policy terms, linear in a positive factor of the advantage, by it, the KL term by `kl_scale`. The other losses
# divide by tokens. The entropy bonus is always a mean over the tokens of a micro-batch.
_ROW_NORMALISED = ("grpo", "sapo", "dr_grpo", "luspo")

_LEFT_PADDED = ("prompt_ids", "prompt_mask")


def live_groups(accuracies: Sequence[float], num_generations: int) -> list[bool]:
    """Whether each group's accuracies differ. Rollouts that could not be scored (NaN) do not count."""
    live = []
    for start in range(0, len(accuracies), num_generations):
        scored = [a for a in accuracies[start : start + num_generations] if not math.isnan(a)]
        live.append(len(scored) > 0 and max(scored) > min(scored))
    return live


def mask_rows(output: Mapping[str, torch.Tensor], live: torch.Tensor, loss_type: str, live_share: float) -> dict:
    """
    Takes rows out of the loss.

    Args:
        output (`dict[str, Tensor]`):
            What `_generate_and_score_completions` returned, R rows.
        live (`torch.Tensor` of shape `(R,)`, bool):
            Rows to keep.
        loss_type (`str`):
            The loss, see [`~trl.GRPOConfig`].
        live_share (`float`):
            Share of live rows among those of all processes.

    The loss mask is the tool mask: the completion mask is also the attention mask, and hiding tokens from attention
    would change the log-probs that importance weights are made of. `num_items_in_batch` is left to the caller, who
    can gather.
    """
    masked = dict(output)
    keep = live.to(output["completion_mask"]).unsqueeze(1)  # (R, 1)
    masked["tool_mask"] = output.get("tool_mask", torch.ones_like(output["completion_mask"])) * keep  # (R, C)
    if loss_type in _ROW_NORMALISED and live_share > 0:
        masked["advantages"] = output["advantages"] / live_share
        masked["kl_scale"] = torch.tensor(1 / live_share)
    return masked


def loss_tokens(output: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Number of tokens that count in the loss, a scalar."""
    mask = output["completion_mask"]
    return (mask * output["tool_mask"]).sum() if "tool_mask" in output else mask.sum()


def replace_rows(
    output: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    targets: Sequence[int],
    sources: Sequence[int],
    pad_token_id: int,
) -> dict:
    """
    Row `targets[i]` of `output` becomes row `sources[i]` of `fresh`. Both are padded to the wider of the two: prompts
    on the left, everything else on the right.
    """
    if set(output) != set(fresh):
        raise ValueError(f"rollouts of one window differ in what they hold: {sorted(set(output) ^ set(fresh))}")
    merged = dict(output)
    rows = output["prompt_ids"].size(0)
    for name, old in output.items():
        if not isinstance(old, torch.Tensor) or old.dim() == 0 or old.size(0) != rows:
            continue
        new = fresh[name]
        if old.dim() > 1:
            width = max(old.size(1), new.size(1))
            value = pad_token_id if name.endswith("_ids") else 1 if name == "tool_mask" else 0
            old, new = (_pad(x, width, value, left=name in _LEFT_PADDED) for x in (old, new))
        old = old.clone()
        old[list(targets)] = new[list(sources)]
        merged[name] = old
    return merged


def fill_dead_groups(
    output: dict,
    rollouts: Rollouts,
    roll_out: Callable[[int, int], tuple[dict, Rollouts]],
    num_generations: int,
    ranks: int,
    rank: int,
    max_rounds: int,
    pad_token_id: int,
) -> tuple[dict, int]:
    """
    Replaces groups without signal by groups of fresh prompts that have one, for a bounded number of rounds. Everything
    that decides about a round is equal on every process, so all make the same collective calls.

    Args:
        output (`dict[str, Tensor]`):
            This process's rows of the window.
        rollouts ([`Rollouts`]):
            All processes' rows of the window. Changed in place.
        roll_out (`Callable[[int, int], tuple[dict, Rollouts]]`):
            Generates and scores `count` fresh prompts in round `draw`, called as `roll_out(draw, count)`.
        num_generations, ranks, rank, max_rounds (`int`):
            Rows of a group, processes, this process, and the most rounds.
        pad_token_id (`int`):
            Fills shorter rows.

    Returns:
        `tuple[dict, int]`: the rows with replacements, and the rounds it took.
    """
    n = num_generations
    for draw in range(max_rounds):
        live = live_groups(rollouts.accuracies, n)
        share = len(live) // ranks  # groups of one process
        dead = [[g for g in range(r * share, (r + 1) * share) if not live[g]] for r in range(ranks)]
        need = max(len(groups) for groups in dead)
        if need == 0:
            return output, draw
        fresh, found = roll_out(draw, need * ranks)
        fresh_live = live_groups(found.accuracies, n)
        for r in range(ranks):
            useful = [g for g in range(r * need, (r + 1) * need) if fresh_live[g]]
            swaps = list(zip(dead[r], useful, strict=False))
            rollouts.replace_groups(found, swaps, n)
            if r == rank and swaps:
                targets = [(old - r * share) * n + i for old, _ in swaps for i in range(n)]
                sources = [(new - r * need) * n + i for _, new in swaps for i in range(n)]
                output = replace_rows(output, fresh, targets, sources, pad_token_id)
    return output, max_rounds


def _pad(x: torch.Tensor, width: int, value: float, left: bool) -> torch.Tensor:
    missing = width - x.size(1)
    return torch.nn.functional.pad(x, (missing, 0) if left else (0, missing), value=value)
