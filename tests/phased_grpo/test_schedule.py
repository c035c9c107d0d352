"""Learning rates: one schedule over the run or one per phase, scaled by the rates of the phases."""

import pytest
import torch
from runs import make_args, make_trainer
from transformers import get_scheduler

from qwenlong_trl import Phase
from qwenlong_trl.phased_grpo.schedule import phased_lr_lambda


def optimizer(rate: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def stock_rates(name: str, steps: int, warmup: int, rate: float = 1e-2) -> list[float]:
    """What TRL's trainer would use at each step."""
    own = optimizer(rate)
    scheduler = get_scheduler(name, own, num_warmup_steps=warmup, num_training_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        own.step()
        scheduler.step()
    return rates


def phased_rates(folder, phases, **settings) -> list[float]:
    """What the trainer's scheduler uses at each step."""
    trainer = make_trainer(make_args(folder, phases=phases, **settings))
    trainer.create_optimizer_and_scheduler(num_training_steps=trainer.args.max_steps)
    rates = []
    for _ in range(trainer.args.max_steps):
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    return rates


SCHEDULES = [("constant", 0), ("constant_with_warmup", 3), ("linear", 0), ("linear", 2), ("cosine", 2)]


@pytest.mark.parametrize(("name", "warmup"), SCHEDULES)
def test_without_rates_the_schedule_is_the_stock_one(tmp_path, name, warmup):
    rates = phased_rates(tmp_path, [Phase(8, 4), Phase(16, 8)], lr_scheduler_type=name, warmup_steps=warmup)
    assert rates == stock_rates(name, 12, warmup)


@pytest.mark.parametrize(("name", "warmup"), SCHEDULES)
def test_one_schedule_over_the_run_is_scaled_by_the_rate_of_the_phase(tmp_path, name, warmup):
    phases = [Phase(8, 4), Phase(16, 8, learning_rate=5e-3)]
    rates = phased_rates(tmp_path, phases, lr_scheduler_type=name, warmup_steps=warmup)
    stock = stock_rates(name, 12, warmup)
    assert rates == pytest.approx(stock[:4] + [rate / 2 for rate in stock[4:]])


@pytest.mark.parametrize(("name", "warmup"), SCHEDULES)
def test_a_schedule_per_phase_begins_anew(tmp_path, name, warmup):
    phases = [Phase(8, 4), Phase(16, 8, learning_rate=5e-3)]
    rates = phased_rates(tmp_path, phases, lr_scheduler_type=name, warmup_steps=warmup, phase_lr_schedule="phase")
    assert rates == pytest.approx(stock_rates(name, 4, warmup) + stock_rates(name, 8, warmup, rate=5e-3))


def test_warm_up_as_a_share_is_a_share_of_the_phase(tmp_path):
    rates = phased_rates(
        tmp_path,
        [Phase(8, 4), Phase(16, 8)],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=0.5,
        phase_lr_schedule="phase",
    )
    assert rates == pytest.approx(
        stock_rates("constant_with_warmup", 4, 2) + stock_rates("constant_with_warmup", 8, 4)
    )


def test_arguments_of_the_schedule_are_passed_on(tmp_path):
    rates = phased_rates(
        tmp_path,
        [Phase(8, 4, learning_rate=1e-3), Phase(16, 4)],
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.5},
        phase_lr_schedule="phase",
    )
    assert rates[0] == pytest.approx(1e-3)
    assert rates[4] == pytest.approx(1e-2)
    assert min(rates[:4]) > 0.5e-3
    assert min(rates[4:]) > 0.5e-2


def test_a_phase_may_stand_still(tmp_path):
    phases = [Phase(8, 2, learning_rate=0), Phase(16, 2)]
    assert phased_rates(tmp_path, phases, lr_scheduler_type="constant") == [0, 0, 1e-2, 1e-2]


def test_rates_need_something_to_scale(tmp_path):
    args = make_args(tmp_path, phases=[Phase(8, 4, learning_rate=1e-3)], learning_rate=0)
    with pytest.raises(ValueError, match="`learning_rate` to be positive"):
        phased_lr_lambda(args, optimizer())


def test_a_schedule_that_follows_a_metric_is_refused(tmp_path):
    args = make_args(
        tmp_path,
        phases=[Phase(8, 4, learning_rate=1e-3)],
        lr_scheduler_type="reduce_lr_on_plateau",
        eval_strategy="steps",
        eval_steps=1,
    )
    with pytest.raises(ValueError, match="follows a metric"):
        phased_lr_lambda(args, optimizer())
