"""The reference: a copy, the model without its adapter, or precomputed; on the long prompt the long prompt's own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from solopo_rows import twins
from solopo_runs import (
    assert_same_gradients,
    batch_of,
    loss_and_gradients,
    make_args,
    make_trainer,
    parameters,
)
from tiny import save_tiny, tiny_model

from qwenlong_trl.solopo.reference import reference_logps


def lora(**options) -> LoraConfig:
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)


def reference_of(trainer) -> dict[str, torch.Tensor]:
    return reference_logps(trainer, batch_of(trainer))


def assert_same_references(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_the_long_reference_reads_the_long_prompt(tmp_path):
    trainer = make_trainer(make_args(tmp_path, solo_align="both"))
    reference = reference_of(trainer)
    assert list(reference) == ["chosen", "rejected", "long_chosen", "long_rejected"]
    long_po = reference_of(make_trainer(make_args(tmp_path, objective="long_po")))
    assert_same_references(
        {name: reference[f"long_{name}"] for name in ("chosen", "rejected")},
        {name: long_po[name] for name in ("chosen", "rejected")},
    )


def test_longpo_reads_the_short_prompt(tmp_path):
    longpo = make_trainer(make_args(tmp_path, objective="longpo"))
    short = make_trainer(make_args(tmp_path, objective="short_po"))
    assert_same_references(reference_of(longpo), reference_of(short))
    long = make_trainer(make_args(tmp_path, objective="long_po"))
    for trainer in (longpo, long):
        loss_and_gradients(trainer)
    assert longpo._metrics["train"]["logps/chosen"] == long._metrics["train"]["logps/chosen"]
    assert longpo._metrics["train"]["rewards/chosen"] != long._metrics["train"]["rewards/chosen"]


@pytest.mark.parametrize("settings", [{}, {"solo_align": "both"}, {"objective": "longpo"}, {"algorithm": "ipo"}])
@pytest.mark.parametrize("batch_size", [8, 3])
def test_precomputed_equals_online(tmp_path, settings, batch_size):
    online = make_trainer(make_args(tmp_path, **settings), ref_model=tiny_model(seed=1))
    args = make_args(tmp_path, precompute_ref_log_probs=True, precompute_ref_batch_size=batch_size, **settings)
    precomputed = make_trainer(args, ref_model=tiny_model(seed=1))
    assert_same_references(reference_of(precomputed), reference_of(online))
    loss, gradients = loss_and_gradients(precomputed)
    expected, expected_gradients = loss_and_gradients(online)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same_gradients(gradients, expected_gradients, atol=1e-5)


def test_precomputed_of_the_policy_itself(tmp_path):
    """Without a reference model, the policy before training is the reference, and no copy of it is kept."""
    trainer = make_trainer(make_args(tmp_path, precompute_ref_log_probs=True, max_steps=3))
    assert trainer.ref_model is None
    online = make_trainer(make_args(tmp_path), ref_model=tiny_model())
    assert_same_references(reference_of(trainer), reference_of(online))
    trainer.train()
    online.train()
    # At the start the rewards are zero, so that the alignment has the gradient of noise: see the next test.
    assert trainer.state.log_history[0]["loss"] == pytest.approx(online.state.log_history[0]["loss"], abs=1e-4)


def test_at_the_start_the_alignment_is_zero_for_dpo_and_not_for_simpo(tmp_path):
    dpo = make_trainer(make_args(tmp_path), ref_model=tiny_model())
    simpo = make_trainer(make_args(tmp_path, algorithm="simpo"))
    for trainer in (dpo, simpo):
        loss_and_gradients(trainer)
    assert dpo._metrics["train"]["solo/alignment"] == [0.0]
    assert simpo._metrics["train"]["solo/alignment"][0] > 1e-3


def test_the_cache_has_the_lengths_in_its_key(tmp_path, monkeypatch):
    """The same rows with other limits or another alignment are computed anew, the same ones are not."""
    from qwenlong_trl.solopo import reference

    computed, compute = [], reference._compute
    monkeypatch.setattr(reference, "_compute", lambda *args: computed.append(1) or compute(*args))
    twins().to_parquet(tmp_path / "rows.parquet")

    def train_dataset(**settings):
        from datasets import Dataset

        rows = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
        args = make_args(tmp_path, precompute_ref_log_probs=True, **settings)
        return make_trainer(args, rows).train_dataset

    first = train_dataset()
    assert "ref_long_chosen_logps" in first.column_names and "ref_long_rejected_logps" not in first.column_names
    assert train_dataset()["ref_chosen_logps"][:] == first["ref_chosen_logps"][:]
    assert len(computed) == 1
    for count, settings in enumerate(
        [{"max_length": 63}, {"max_long_length": 95}, {"solo_align": "both"}, {"objective": "long_po"}], start=2
    ):
        train_dataset(**settings)
        assert len(computed) == count, settings


def test_the_cache_knows_how_the_weights_are_read(tmp_path):
    """The same weights with other positions or another precision have other log-probabilities."""
    twins().to_parquet(tmp_path / "rows.parquet")

    def first_alignment(model=None, **settings):
        from datasets import Dataset

        rows = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
        trainer = make_trainer(make_args(tmp_path, precompute_ref_log_probs=True, **settings), rows, model=model)
        loss_and_gradients(trainer)
        return trainer._metrics["train"]["solo/alignment"][0]

    scaled = tiny_model()
    scaled.config.rope_parameters = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
    scaled = type(scaled)(scaled.config)
    scaled.load_state_dict(tiny_model().state_dict())
    assert first_alignment() < 1e-5
    assert first_alignment(scaled) < 1e-5
    assert first_alignment(bf16=True) < 1e-2


def test_evaluation_with_precomputed_references(tmp_path):
    rows = twins(4, seed=2)
    args = make_args(tmp_path, precompute_ref_log_probs=True)
    precomputed = make_trainer(args, eval_dataset=rows, ref_model=tiny_model(seed=1))
    online = make_trainer(make_args(tmp_path), eval_dataset=rows)
    assert precomputed.evaluate()["eval_loss"] == pytest.approx(online.evaluate()["eval_loss"], rel=1e-5)
    other = twins(4, seed=5)
    assert precomputed.evaluate(other)["eval_loss"] == pytest.approx(online.evaluate(other)["eval_loss"], rel=1e-5)


def test_the_reference_of_a_new_adapter_is_the_base_model(tmp_path):
    peft = make_trainer(make_args(tmp_path, max_steps=3, gradient_checkpointing=True), peft_config=lora())
    assert peft.ref_model is None
    peft.train()
    moved = [value for name, value in peft.model.named_parameters() if "lora_B" in name]
    assert any(value.abs().max() > 0 for value in moved)
    base = make_trainer(make_args(tmp_path), ref_model=tiny_model())
    assert_same_references(reference_of(peft), reference_of(base))
    entries = [entry for entry in peft.state.log_history if "loss" in entry]
    assert entries[0]["solo/alignment"] == 0.0 and entries[-1]["solo/alignment"] > 0


def test_the_reference_of_a_trained_adapter_is_that_adapter(tmp_path):
    model = get_peft_model(tiny_model(), lora(init_lora_weights=False))
    peft = make_trainer(make_args(tmp_path, max_steps=3, precompute_ref_log_probs=False), model=model, ref_model=None)
    before = reference_of(peft)
    peft.train()
    assert_same_references(reference_of(peft), before)
    base = reference_of(make_trainer(make_args(tmp_path), ref_model=tiny_model()))
    assert not torch.allclose(before["long_chosen"], base["long_chosen"], atol=1e-3)


def test_sequential_backward_with_an_adapter(tmp_path):
    runs = []
    for sequential in (False, True):
        model = get_peft_model(tiny_model(), lora(init_lora_weights=False))
        with torch.no_grad():
            for i, (name, value) in enumerate(model.named_parameters()):
                if "lora" in name:
                    value.copy_(torch.sin(torch.arange(value.numel()) + i).view_as(value) / 10)
        args = make_args(tmp_path, algorithm="simpo", sequential_backward=sequential, gradient_checkpointing=True)
        runs.append(loss_and_gradients(make_trainer(args, model=model)))
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-6)
    assert_same_gradients(runs[1][1], runs[0][1], atol=1e-5)


@pytest.mark.parametrize("algorithm", ["simpo", "orpo"])
def test_no_reference_is_loaded(tmp_path, monkeypatch, algorithm):
    import trl.trainer.dpo_trainer as dpo_trainer

    folder = save_tiny(tmp_path / "model")
    loaded, load = [], dpo_trainer.create_model_from_path
    monkeypatch.setattr(dpo_trainer, "create_model_from_path", lambda *a, **k: loaded.append(a) or load(*a, **k))
    trainer = make_trainer(make_args(tmp_path, algorithm=algorithm), model=folder)
    assert trainer.ref_model is None and len(loaded) == 1
    assert trainer.args.precompute_ref_log_probs is False and trainer.precompute_ref_logps is False
    trainer.train()
    trainer.evaluate(twins(4))  # which TRL refuses after training if references were precomputed
    dpo = make_trainer(make_args(tmp_path), model=folder, ref_model=None)
    assert len(loaded) == 3 and dpo.ref_model is not None
    for name, value in parameters(dpo).items():
        assert torch.equal(dpo.ref_model.get_parameter(name), value)
