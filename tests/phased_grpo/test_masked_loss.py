"""Metrics of the loss where dynamic sampling has emptied a micro-batch."""

import math

import pytest
from runs import make_args, make_trainer
from tiny import tiny_model

from qwenlong_trl import Phase


def every_other_group(completions, **kwargs):
    """Signal in the first group of every two, by the place in the batch."""
    return [float(i % 2) if i // 2 % 2 == 0 else 0.0 for i in range(len(completions))]


def logged(folder, **settings) -> dict[str, float]:
    """The first log of a run whose weights stay, so that all windows have the same entropy."""
    phases = [Phase(8, 2)]
    args = make_args(folder, phases=phases, learning_rate=0.0, save_strategy="no", **settings)
    trainer = make_trainer(args, rewards=every_other_group)
    trainer.train()
    return next(entry for entry in trainer.state.log_history if "entropy" in entry)


@pytest.mark.parametrize(("rows", "accumulation"), [(1, 16), (2, 8), (4, 4)])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "cispo"])
def test_micro_batches_without_a_live_row_are_left_out_of_the_means(tmp_path, loss_type, rows, accumulation):
    split = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation, "loss_type": loss_type}
    stock = logged(tmp_path / "stock", **split)
    found = logged(tmp_path / "masked", dynamic_sampling="mask", **split)
    assert found["zero_variance"] == 0.5
    # An untrained model is as undecided everywhere; half of the micro-batches counted as 0 would make it half.
    assert found["entropy"] == pytest.approx(stock["entropy"], abs=0.01)
    assert found["curriculum/phase_1/entropy"] == found["entropy"]
    # Of the other metrics of the loss, none is lost.
    assert {name for name, value in found.items() if value is None} <= {name for name in stock if stock[name] is None}
    assert set(found) == set(stock)


def test_a_kl_term_is_averaged_over_the_live_micro_batches(tmp_path):
    tiny_model(seed=1).save_pretrained(tmp_path / "other")  # a reference away from the policy
    values = {}
    for dynamic_sampling in ("off", "mask"):
        args = make_args(
            tmp_path / dynamic_sampling,
            phases=[Phase(8, 2)],
            per_device_train_batch_size=1,
            gradient_accumulation_steps=16,
            learning_rate=0.0,
            beta=0.1,
            save_strategy="no",
            dynamic_sampling=dynamic_sampling,
        )
        model = tiny_model()
        model.config._name_or_path = str(tmp_path / "other")
        trainer = make_trainer(args, model=model, rewards=every_other_group)
        kl = trainer.compute_loss
        kls = []

        def compute_loss(*arguments, trainer=trainer, kl=kl, kls=kls, **kwargs):
            loss = kl(*arguments, **kwargs)
            kls.append(trainer._metrics["train"]["kl"][-1])
            return loss

        trainer.compute_loss = compute_loss
        trainer.train()
        values[dynamic_sampling] = kls[:16]
    assert all(value > 0 for value in values["off"])
    live = [value for value in values["mask"] if not math.isnan(value)]
    assert len(live) == 8  # of 16 rows
    assert set(live) <= set(values["off"])  # to the bit those of the same rows without masks


def test_a_log_without_any_signal_has_no_entropy(tmp_path):
    args = make_args(tmp_path, phases=[Phase(8, 2)], dynamic_sampling="mask", save_strategy="no")
    trainer = make_trainer(args, rewards=lambda completions, **kwargs: [0.0] * len(completions))
    trainer.train()
    assert [entry["entropy"] for entry in trainer.state.log_history if "entropy" in entry] == [None, None]
