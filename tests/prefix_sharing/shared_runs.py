"""The same short training with and without shared prefixes."""

import torch
from tiny import parity_reward, save_tiny, tiny_model, tiny_prompts, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl.prefix_sharing import PrefixSharingMixin


class Stock(GRPOTrainer):
    """Remembers completions, and what the loss of every micro-batch was computed of."""

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        self.completions = [*getattr(self, "completions", []), completion_ids_list]
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _compute_loss(self, model, inputs):
        rows = [tuple(ids) for ids in inputs["completion_ids"].tolist()]
        self.rows = [*getattr(self, "rows", []), (self.state.global_step, rows)]
        return super()._compute_loss(model, inputs)

    def rows_of_steps(self) -> dict[int, list]:
        """The rows that each optimizer step saw, sorted."""
        steps: dict[int, list] = {}
        for step, rows in self.rows:
            steps.setdefault(step, []).extend(rows)
        return {step: sorted(rows) for step, rows in steps.items()}


class Shared(PrefixSharingMixin, Stock):
    pass


def train(trainer_class, folder, lengths=(9, 6, 12, 7) * 8, model=None, **settings):
    peft_config = settings.pop("peft_config", None)
    defaults = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 10,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    if settings.get("beta") and peft_config is None:
        model = save_tiny(folder / "model")  # the reference is loaded from where the model came from
    trainer = trainer_class(
        model=tiny_model() if model is None else model,
        reward_funcs=parity_reward,
        args=GRPOConfig(output_dir=str(folder), **(defaults | settings)),
        train_dataset=tiny_prompts(list(lengths)),
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
    )
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    trainer.moved = {name: p.detach() - start[name] for name, p in trainer.model.named_parameters() if p.requires_grad}
    return trainer


def total_change(moved: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([change.flatten() for change in moved.values()])
