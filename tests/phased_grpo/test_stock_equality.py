"""With one phase and all features off, `PhasedGRPOTrainer` is `GRPOTrainer`, step for step and to the bit."""

import dataclasses

import pytest
import torch
from runs import make_args, parameters
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer


STEPS = 8


class Recording:
    """Remembers what a trainer generates, how it is rewarded, and the loss of every micro-batch."""

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.seen = [*getattr(self, "seen", []), ([x["id"] for x in inputs], completion_ids_list, rewards.tolist())]
        return rewards

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


class Stock(Recording, GRPOTrainer):
    pass


class Phased(Recording, PhasedGRPOTrainer):
    pass


def train(trainer_class, args, rows: int, **kwargs):
    trainer = trainer_class(
        model=tiny_model(),
        reward_funcs=parity_reward,
        args=args,
        train_dataset=tiny_prompts([3 + i % 5 for i in range(rows)]),
        processing_class=tiny_tokenizer(),
        **kwargs,
    )
    trainer.train()
    return trainer


def stock_args(args: PhasedGRPOConfig) -> GRPOConfig:
    """The same settings without ours. `steps_per_generation` stands for `generation_batch_size`."""
    names = [field.name for field in dataclasses.fields(GRPOConfig) if field.name != "generation_batch_size"]
    return GRPOConfig(**{name: getattr(args, name) for name in names})


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (64, {}),
        (18, {}),  # a pass has two windows, and two prompts left out: four passes
        (24, {"gradient_accumulation_steps": 1}),
        (40, {"gradient_accumulation_steps": 2, "steps_per_generation": 4}),
        (20, {"gradient_accumulation_steps": 2, "num_iterations": 2}),
        (20, {"gradient_accumulation_steps": 4, "steps_per_generation": 2}),
        (20, {"loss_type": "grpo", "beta": 0.0, "num_generations": 4, "lr_scheduler_type": "cosine"}),
        (20, {"mask_truncated_completions": True, "loss_type": "dr_grpo", "top_entropy_quantile": 0.5}),
        (20, {"shuffle_dataset": False}),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "-".join(map(str, value)) or "defaults",
)
def test_equal_to_the_stock_trainer(tmp_path, rows, settings):
    settings = {"save_strategy": "no", "warmup_steps": 2, "prefix_sharing": False} | settings
    args = make_args(tmp_path / "phased", phases=[Phase(8, STEPS)], **settings)
    stock = train(Stock, stock_args(args), rows)
    phased = train(Phased, args, rows)

    assert [ids for ids, _, _ in phased.seen] == [ids for ids, _, _ in stock.seen]
    assert phased.seen == stock.seen  # completions and rewards, too
    assert phased.losses == stock.losses
    expected = parameters(stock)
    for name, value in parameters(phased).items():
        assert torch.equal(value, expected[name]), name
    for ours, theirs in zip(phased.state.log_history, stock.state.log_history, strict=True):
        untimed = {k: v for k, v in theirs.items() if k not in ("epoch", "step_time") and not k.startswith("train_")}
        assert untimed.items() <= ours.items()
