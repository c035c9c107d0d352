"""The losses of short-to-long preference optimisation (SoLoPO, arXiv 2505.11166) as functions of log-probabilities.

The preference loss is computed on the short context. The alignment term (the paper's SoLo-RA) pulls the reward of the
same answer on the long context to its reward on the short one:

```txt
loss = PO(r(x_short, y_w), r(x_short, y_l)) + alpha * distance(r(x_short, y_w) - r(x_long, y_w))
```

Shapes are `(batch_size,)`, one number per answer, unless said otherwise. Nothing here knows a model or a trainer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


ALGORITHMS = ("dpo", "simpo", "orpo", "ipo", "hinge")
DISTANCES = ("l1", "l2", "huber", "softplus", "one_sided", "ipo")
REFERENCE_FREE = ("simpo", "orpo")

# Where a mean log-probability is nearer to zero, log(1 - p) is that of this value: it goes to minus infinity there.
_LARGEST_MEAN_LOGP = -1e-6


def rewards(
    algorithm: str, logps: torch.Tensor, lengths: torch.Tensor, ref_logps: torch.Tensor | None, beta: float
) -> torch.Tensor:
    """
    The reward r(x, y) that the algorithm implies, the same in the preference loss and in the alignment.

    Args:
        algorithm (`str`):
            One of `"dpo"` and `"hinge"`: `beta * (log pi(y|x) - log pi_ref(y|x))`, summed over tokens (DPO, arXiv
            2305.18290, Eq. 5 without its partition function, which is the same for both answers). `"ipo"`: the
            log-ratio averaged over tokens, without `beta` (arXiv 2310.12036; averaged as TRL does it). `"simpo"`:
            `beta` times the mean log-probability (arXiv 2405.14734, Eq. 4). `"orpo"`: the log-odds of the mean
            log-probability (arXiv 2403.07691, Eq. 4), without `beta`.
        logps (`torch.Tensor`):
            Log-probability of each answer, summed over its tokens, in nats.
        lengths (`torch.Tensor`):
            Tokens of each answer.
        ref_logps (`torch.Tensor`, *optional*):
            The reference's `logps` on the same context; not used by `"simpo"` and `"orpo"`.
        beta (`float`):
            Scale of the reward.
    """
    if algorithm in ("dpo", "hinge"):
        return beta * (logps - ref_logps)
    if algorithm == "ipo":
        return (logps - ref_logps) / lengths
    if algorithm == "simpo":
        return beta * logps / lengths
    if algorithm == "orpo":
        mean = (logps / lengths).clamp(max=_LARGEST_MEAN_LOGP)
        return mean - log1mexp(mean)
    raise ValueError(f"unknown algorithm {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")


def preference_loss(
    algorithm: str,
    chosen_rewards: torch.Tensor,
    rejected_rewards: torch.Tensor,
    beta: float,
    gamma: float = 0.0,
    chosen_mean_logps: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    The preference loss of each pair.

    Args:
        algorithm (`str`):
            `"dpo"`: `-log sigmoid(margin)` (arXiv 2305.18290, Eq. 7). `"hinge"`: `max(0, 1 - margin)` (SLiC, arXiv
            2305.10425). `"ipo"`: `(margin - 1 / (2 beta))^2` (arXiv 2310.12036, Eq. 17, whose tau is `beta`).
            `"simpo"`: `-log sigmoid(margin - gamma)` (arXiv 2405.14734, Eq. 6). `"orpo"`: the mean negative
            log-likelihood of the chosen answer plus `beta` times `-log sigmoid(margin)` (arXiv 2403.07691, Eq. 6 and
            7, whose lambda is `beta`).
        chosen_rewards, rejected_rewards (`torch.Tensor`):
            From [`rewards`]; the margin is their difference.
        beta (`float`):
            Used by `"ipo"` and `"orpo"`; the other rewards hold it.
        gamma (`float`, *optional*, defaults to `0.0`):
            Target margin of `"simpo"`.
        chosen_mean_logps (`torch.Tensor`, *optional*):
            Mean log-probability of the chosen answers, for `"orpo"`. Over the answer's own tokens, as in
            LLaMA-Factory, which SoLoPO's code is built on; TRL's ORPO averages over the prompt as well.
    """
    margin = chosen_rewards - rejected_rewards
    if algorithm == "dpo":
        return -F.logsigmoid(margin)
    if algorithm == "hinge":
        return torch.relu(1 - margin)
    if algorithm == "ipo":
        return (margin - 1 / (2 * beta)) ** 2
    if algorithm == "simpo":
        return -F.logsigmoid(margin - gamma)
    if algorithm == "orpo":
        return -chosen_mean_logps - beta * F.logsigmoid(margin)
    raise ValueError(f"unknown algorithm {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")


def alignment_distance(
    distance: str, gap: torch.Tensor, beta: float = 0.1, huber_delta: float = 1.0, rejected: bool = False
) -> torch.Tensor:
    """
    How far the long context's reward is from the short one's; zero where they are equal.

    The upper bound of the paper (Theorem 1) holds for every `s` with `f(z) <= s(|z|)`, where `f` is the preference
    loss as a function of its margin. Constants are dropped: they have no gradient.

    Args:
        distance (`str`):
            `"l1"`: `|gap|`, the paper's choice for DPO, SimPO and ORPO, and the linear bound of the hinge loss.
            `"softplus"`: `log(1 + exp(|gap|)) - log 2`, the tightest bound of the logistic loss. `"ipo"`:
            `(|gap| + 1 / (2 beta))^2` less its value at zero, the bound of the IPO loss. `"l2"` and `"huber"`: the
            usual ones. `"one_sided"`: `max(0, gap)`, which only lifts the chosen answer on the long context (and only
            lowers a rejected one, see `rejected`); **not from the paper**, but it bounds the logistic and the hinge
            loss as well.
        gap (`torch.Tensor`):
            `r(x_short, y) - r(x_long, y)`.
        beta (`float`, *optional*, defaults to `0.1`):
            For `"ipo"`.
        huber_delta (`float`, *optional*, defaults to `1.0`):
            For `"huber"`: where the square goes over into a line.
        rejected (`bool`, *optional*, defaults to `False`):
            Whether `y` is the rejected answer, for which `"one_sided"` is `max(0, -gap)`.
    """
    if distance == "l1":
        return gap.abs()
    if distance == "l2":
        return gap**2
    if distance == "huber":
        return F.huber_loss(gap, torch.zeros_like(gap), reduction="none", delta=huber_delta)
    if distance == "softplus":
        return F.softplus(gap.abs()) - math.log(2)
    if distance == "one_sided":
        return torch.relu(-gap if rejected else gap)
    if distance == "ipo":  # multiplied out, so that it is zero at zero to the bit
        return gap**2 + gap.abs() / beta
    raise ValueError(f"unknown distance {distance!r}, expected one of {', '.join(DISTANCES)}")


def log1mexp(x: torch.Tensor) -> torch.Tensor:
    """`log(1 - exp(x))` for `x < 0`, accurate at both ends (Mächler, 2012)."""
    near_zero = x > -math.log(2)
    # Both branches are evaluated, and a NaN gradient of the one not taken would spoil the sum: keep each in its range.
    middle = torch.full_like(x, -math.log(2))
    return torch.where(
        near_zero,
        torch.log(-torch.expm1(torch.where(near_zero, x, middle))),
        torch.log1p(-torch.exp(torch.where(near_zero, middle, x))),
    )
