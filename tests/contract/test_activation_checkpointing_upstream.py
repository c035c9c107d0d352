"""The defect that `qwenlong_trl.engines.activation_checkpointing` repairs, and the names that it uses."""

from types import SimpleNamespace

import pytest
from observed import make, parameters_of
from solopo_rows import twins
from tiny import tiny_model, tiny_tokenizer
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from qwenlong_trl.engines.activation_checkpointing import fix_activation_checkpointing, needed


KWARGS = {"every_n_layers": 2}
CHECKPOINTING = {"activation_checkpointing": True, "activation_checkpointing_kwargs": KWARGS}


def grpo(folder):
    return make(folder, save_strategy="no", **CHECKPOINTING)


def dpo(folder):
    settings = {"use_cpu": True, "bf16": False, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    args = DPOConfig(output_dir=str(folder), max_steps=2, per_device_train_batch_size=4, **settings, **CHECKPOINTING)
    data = twins().remove_columns("long_prompt")
    return DPOTrainer(tiny_model(), tiny_model(1), args=args, train_dataset=data, processing_class=tiny_tokenizer())


@pytest.mark.parametrize("make_trainer", [grpo, dpo])
def test_stock_trainers_still_need_the_repair(tmp_path, make_trainer):
    """TRL switches checkpointing on again with `every_n_layers` and `offload` among torch's arguments.

    If this fails because training succeeds: upstream repaired it. Delete `engines/activation_checkpointing.py`, its
    calls in the two trainers, its tests and this file, and raise the lower bound of the version in `pyproject.toml`.
    """
    assert needed()
    with pytest.raises(ValueError, match="Unexpected keyword arguments: every_n_layers"):
        make_trainer(tmp_path).train()


@pytest.mark.parametrize("make_trainer", [grpo, dpo])
def test_stock_trainers_train_with_the_repair(tmp_path, make_trainer):
    """The repair works for trainers of TRL themselves.

    If this fails: see how `gradient_checkpointing_enable` is called in `trl/models/utils.py` and `transformers`.
    """
    trainer = make_trainer(tmp_path)
    fix_activation_checkpointing(trainer.model, trainer.args)
    trainer.train()
    assert trainer.state.global_step == trainer.args.max_steps


def test_activation_checkpointing_enable():
    """The override replaces `gradient_checkpointing_enable` on a model and calls `_activation_checkpointing_enable`,
    which transformers calls where nothing is overridden.

    If parameters changed: follow them in `_enable`.
    """
    assert parameters_of(PreTrainedModel._activation_checkpointing_enable) == [
        *("self", "activation_checkpointing_kwargs", "every_n_layers", "offload")
    ]
    model = tiny_model()
    assert not model._is_overridden("gradient_checkpointing_enable")
    fix_activation_checkpointing(model, SimpleNamespace(activation_checkpointing_kwargs=KWARGS))
    assert model._is_overridden("gradient_checkpointing_enable")
    model.activation_checkpointing_enable(every_n_layers=2)
    assert [layer.gradient_checkpointing for layer in model.model.layers] == [True, False]
