"""KL divergence from the start: zero at the start, whatever the start is, and without traces in the model."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from runs import assert_equal_runs, make_args, make_trainer, parameters
from safetensors.torch import load_file
from tiny import tiny_model


def logs(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def trained_adapter(dropout: float = 0.0, **options):
    """A model with an adapter that is away from its base model, as after an earlier training."""
    torch.manual_seed(3)
    lora = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        lora_dropout=dropout,
        **options,
    )
    return get_peft_model(tiny_model(), lora)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (trained_adapter, {}),
        (lambda: trained_adapter(dropout=0.5), {}),
        (lambda: trained_adapter(modules_to_save=["lm_head"]), {}),
        (trained_adapter, {"beta": 0.1}),  # TRL keeps a copy then
        (tiny_model, {}),
    ],
    ids=["adapter", "dropout", "modules_to_save", "reference", "model"],
)
def test_the_start_is_what_training_started_with(tmp_path, model, settings):
    settings |= {"log_kl_to_start": True, "save_strategy": "no"}
    still = make_trainer(make_args(tmp_path / "still", learning_rate=0.0, **settings), model=model())
    still.train()
    assert [entry["kl_to_start"] for entry in logs(still)] == [0.0] * 8
    moving = make_trainer(make_args(tmp_path / "moving", **settings), model=model())
    moving.train()
    divergences = [entry["kl_to_start"] for entry in logs(moving)]
    assert divergences[0] == 0 < divergences[-1]


def test_the_start_leaves_a_trained_adapter_its_weights_and_its_files(tmp_path):
    runs = {}
    for name, log_kl in (("with", True), ("without", False)):
        runs[name] = make_trainer(make_args(tmp_path / name, log_kl_to_start=log_kl), model=trained_adapter())
        runs[name].train()
        runs[name].save_model(str(tmp_path / name / "final"))
    for name, value in parameters(runs["with"]).items():
        assert torch.equal(value, parameters(runs["without"])[name]), name
    files = {
        name: {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in runs
    }
    assert files["with"] == files["without"]
    saved = load_file(tmp_path / "with" / "final" / "adapter_model.safetensors")
    assert all(torch.equal(value, parameters(runs["with"])[in_model(name)]) for name, value in saved.items())

    resumed = make_trainer(make_args(tmp_path / "resumed", log_kl_to_start=True), model=trained_adapter())
    resumed.train(resume_from_checkpoint=str(tmp_path / "with" / "checkpoint-5"))
    assert_equal_runs(resumed, runs["with"])
    measured = [[entry["kl_to_start"] for entry in logs(run)] for run in (runs["with"], resumed)]
    assert measured[1] == measured[0]  # the log of a checkpoint is part of it


def in_model(name: str) -> str:
    """Name of a saved weight of the adapter in the model."""
    return name.replace("lora_A.weight", "lora_A.default.weight").replace("lora_B.weight", "lora_B.default.weight")
