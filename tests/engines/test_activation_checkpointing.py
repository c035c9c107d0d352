"""Training with `every_n_layers` comes to what training without it comes to; `offload` reaches the device's edge."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from tiny import tiny_model


sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("phased_grpo", "solopo")]

import runs  # noqa: E402
import solopo_runs  # noqa: E402

from qwenlong_trl.engines.activation_checkpointing import fix_activation_checkpointing  # noqa: E402


def phased(folder, **settings):
    settings = {"save_strategy": "no", "beta": 0.1, "loss_type": "grpo", "prefix_sharing": False} | settings
    peft = settings.pop("peft_config", None)
    return runs.make_trainer(runs.make_args(folder, **settings), model=with_source(folder), peft_config=peft)


def with_source(folder):
    """A model that can be loaded again, as its reference model is."""
    model = tiny_model()
    model.save_pretrained(folder / "model")
    model.config._name_or_path = str(folder / "model")
    return model


def solopo(folder, **settings):
    peft = {"peft_config": settings.pop("peft_config")} if "peft_config" in settings else {}
    return solopo_runs.make_trainer(solopo_runs.make_args(folder, **settings), **peft)


def checkpointed(**kwargs) -> dict:
    return {"activation_checkpointing": True, "activation_checkpointing_kwargs": kwargs}


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def count_layers(trainer) -> list[int]:
    """How many layers are checkpointed in each training pass, as a list that grows."""
    seen = []
    step = trainer.training_step

    def counted(*args, **kwargs):
        result = step(*args, **kwargs)
        seen.append(sum(getattr(module, "gradient_checkpointing", False) for module in layers(trainer)))
        return result

    trainer.training_step = counted
    return seen


def layers(trainer):
    model = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    return model.model.layers


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("make_trainer", [phased, solopo])
def test_every_n_layers_trains_as_without(tmp_path, make_trainer, adapter):
    settings = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])} if adapter else {}
    plain = make_trainer(tmp_path / "plain", activation_checkpointing=False, **settings)
    torch.manual_seed(0)
    plain.train()
    sparse = make_trainer(tmp_path / "sparse", **checkpointed(every_n_layers=2), **settings)
    seen = count_layers(sparse)
    torch.manual_seed(0)
    sparse.train()
    assert set(seen) == {1}  # of the two layers
    assert len(losses(plain)) >= 4
    assert losses(sparse) == losses(plain)
    expected = dict(plain.model.named_parameters())
    assert all(torch.equal(value, expected[name]) for name, value in sparse.model.named_parameters())


def test_prefix_sharing_keeps_it(tmp_path):
    trainer = phased(tmp_path, prefix_sharing=True, **checkpointed(every_n_layers=2))
    seen = count_layers(trainer)
    trainer.train()
    assert set(seen) == {1}


@pytest.mark.skipif(torch.accelerator.is_available(), reason="an accelerator can pin memory")
@pytest.mark.parametrize("make_trainer", [phased, solopo])
def test_offload_gets_as_far_as_pinned_memory(tmp_path, make_trainer):
    with pytest.raises(RuntimeError, match="pin_memory=True requires"):
        make_trainer(tmp_path, **checkpointed(offload=True)).train()


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="pinned memory needs an accelerator")
@pytest.mark.parametrize("make_trainer", [phased, solopo])
def test_offload_trains_as_without(tmp_path, make_trainer):
    found = []
    for name, settings in {
        "plain": {"activation_checkpointing": False},
        "offload": checkpointed(offload=True),
    }.items():
        trainer = make_trainer(tmp_path / name, use_cpu=False, **settings)
        torch.manual_seed(0)
        trainer.train()
        found.append(losses(trainer))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_other_keys_leave_the_model_alone():
    model = tiny_model()
    for kwargs in (None, {}, {"use_reentrant": False}):
        fix_activation_checkpointing(model, SimpleNamespace(activation_checkpointing_kwargs=kwargs))
        assert "gradient_checkpointing_enable" not in vars(model)
