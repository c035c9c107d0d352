"""Trainers of tiny models on the rows of `solopo_rows`."""

import torch
from solopo_rows import twins
from tiny import tiny_model, tiny_tokenizer
from trl import DPOTrainer

from qwenlong_trl import SoLoPOConfig, SoLoPOTrainer


ALGORITHMS = ("dpo", "simpo", "orpo")

# What two processes are compared on with one: two steps on all eight rows, so that their order does not matter.
_TWO_STEPS = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.05}
SETTINGS = {
    "dpo": _TWO_STEPS,
    "simpo": {"algorithm": "simpo", "solo_align": "both"} | _TWO_STEPS,
    "orpo": {"algorithm": "orpo", "gradient_checkpointing": True} | _TWO_STEPS,
    "dpo_precomputed": {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 4} | _TWO_STEPS,
    "dpo_sequential": {"sequential_backward": True} | _TWO_STEPS,
    "simpo_sequential": {"algorithm": "simpo", "sequential_backward": True, "gradient_checkpointing": True}
    | _TWO_STEPS,
}


def make_args(folder, config=SoLoPOConfig, **overrides):
    settings = {
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_length": 64,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "gradient_checkpointing": False,
    }
    if config is SoLoPOConfig:
        settings["max_long_length"] = 96
    return config(output_dir=str(folder), **(settings | overrides))


def make_trainer(args, dataset=None, model=None, ref_model="auto", **kwargs):
    """A trainer of the class that the arguments belong to, with another tiny model as its reference if it has one."""
    model = tiny_model() if model is None else model
    if ref_model == "auto":
        needs_one = not getattr(args, "reference_free", False) and not args.precompute_ref_log_probs
        ref_model = tiny_model(seed=1) if needs_one and "peft_config" not in kwargs else None
    return (SoLoPOTrainer if isinstance(args, SoLoPOConfig) else DPOTrainer)(
        model,
        ref_model,
        args=args,
        train_dataset=twins() if dataset is None else dataset,
        **({"processing_class": tiny_tokenizer()} | kwargs),
    )


def parameters(trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def batch_of(trainer, rows=range(8)) -> dict[str, torch.Tensor]:
    """Rows of the training set, collated."""
    columns = [c for c in trainer.train_dataset.column_names if c.endswith(("_ids", "_logps"))]
    return trainer.data_collator([trainer.train_dataset.select_columns(columns)[i] for i in rows])


def loss_and_gradients(trainer, batch=None) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a batch and its gradient, through the training step."""
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(trainer.model, batch_of(trainer) if batch is None else batch)
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def assert_same_gradients(found, expected, atol=1e-6, rtol=1e-4) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=atol, rtol=rtol, msg=lambda m, n=name: f"{n}: {m}")
