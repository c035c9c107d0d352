"""Learning rates of phases, as one function of the step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import get_scheduler

from .config import PhasedGRPOConfig
from .plan import PhasePlan


def phased_lr_lambda(args: PhasedGRPOConfig, optimizer: torch.optim.Optimizer) -> Callable[[int], float] | None:
    """
    Factor of `args.learning_rate` at every step, or `None` where the phases ask for nothing that the stock schedule
    lacks.

    `phase_lr_schedule="run"`: the stock schedule over all steps, times the phase's rate. `"phase"`: a stock schedule
    of the phase's length, warm-up included, begins with each phase.
    """
    own_rates = any(phase.learning_rate is not None for phase in args.phases)
    if args.phase_lr_schedule == "run" and not own_rates:
        return None
    if own_rates and args.learning_rate == 0:
        raise ValueError("phases with a `learning_rate` need the config's `learning_rate` to be positive")
    plan = PhasePlan.of(args)

    def stock(steps: int) -> Callable[[int], float]:
        scheduler = get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
        if not isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            raise ValueError(
                f"lr_scheduler_type='{args.lr_scheduler_type}' follows a metric, not the step, so phases cannot scale "
                "it. Use for example 'constant', 'linear' or 'cosine', or leave the phases' `learning_rate` out."
            )
        return scheduler.lr_lambdas[0]

    ratios = [(args.learning_rate if p.learning_rate is None else p.learning_rate) for p in args.phases]
    ratios = [rate / args.learning_rate if args.learning_rate else 1.0 for rate in ratios]
    if args.phase_lr_schedule == "run":
        whole = stock(sum(plan.steps))
        return lambda step: whole(step) * ratios[plan.phase_at_step(step)[0]]
    factors = [stock(steps) for steps in plan.steps]

    def restarted(step: int) -> float:
        k, within = plan.phase_at_step(step)
        return factors[k](within) * ratios[k]

    return restarted
