"""Training with shared prefixes is TRL's training, step for step."""

import pytest
import torch
from peft import LoraConfig
from shared_rows import relative_difference
from shared_runs import Shared, Stock, total_change, train
from tiny import tiny_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig

from qwenlong_trl.prefix_sharing import attention


SETTINGS = {
    "defaults": {},
    "one micro-batch": {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 16},
    "small micro-batches": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8},
    "two iterations": {"num_iterations": 2, "importance_sampling_level": "sequence", "loss_type": "grpo"},
    "long windows": {"steps_per_generation": 4, "loss_type": "vespo"},
    "windows within a step": {"gradient_accumulation_steps": 4, "steps_per_generation": 2},
    "reference": {"beta": 0.1, "loss_type": "grpo", "temperature": 0.7, "cast_lm_head_to_fp32": True},
    "adapter": {"beta": 0.1, "peft_config": LoraConfig(target_modules="all-linear", r=4), "learning_rate": 0.5},
    "truncated": {"mask_truncated_completions": True, "gradient_checkpointing": False, "loss_type": "dr_grpo"},
    "entropy": {"top_entropy_quantile": 0.5, "pad_to_multiple_of": 8},
    "micro-batch means": {"loss_type": "bnpo"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_ten_steps(tmp_path, name):
    stock, shared = (train(kind, tmp_path / kind.__name__, **SETTINGS[name]) for kind in (Stock, Shared))
    assert shared.completions == stock.completions
    assert shared.rows_of_steps() == stock.rows_of_steps()
    # Sharing happened, and as much of it as there is.
    ratios = [log["prefix_sharing/token_ratio"] for log in shared.state.log_history if "loss" in log]
    assert len(ratios) == 10 and min(ratios) > (1 if name == "small micro-batches" else 1.2)
    for ours, theirs in zip(shared.state.log_history[:-1], stock.state.log_history[:-1], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=2e-6)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4, abs=1e-7)
        for metric in ("reward", "completions/mean_length", "num_tokens", "frac_reward_zero_std"):
            assert ours.get(metric) == theirs.get(metric)
    assert total_change(stock.moved).norm() > 1e-3
    assert relative_difference(total_change(shared.moved), total_change(stock.moved)) < 1e-4


def test_ten_steps_of_adam(tmp_path):
    settings = {"optim": "adamw_torch", "learning_rate": 1e-3, "num_iterations": 2}
    stock, shared = (train(kind, tmp_path / kind.__name__, **settings) for kind in (Stock, Shared))
    assert shared.completions == stock.completions
    for ours, theirs in zip(shared.state.log_history[:-1], stock.state.log_history[:-1], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_groups_meet_in_micro_batches(tmp_path):
    """TRL scatters them: eight rows of a micro-batch have two groups of four, not parts of more."""
    assert meetings(train(Shared, tmp_path, max_steps=1)) == [2, 2]
    # Where the loss depends on the composition of a micro-batch, TRL's stays.
    stock, shared = (train(kind, tmp_path, loss_type="bnpo", max_steps=1) for kind in (Stock, Shared))
    assert meetings(shared) == meetings(stock) != [2, 2]


def meetings(trainer) -> list[int]:
    """How many prompts the micro-batches of the last window have."""
    return [len(batch["prompt_ids"].unique(dim=0)) for batch in trainer._buffered_inputs]


def test_switched_off(tmp_path, monkeypatch):
    """Nothing of it runs, and the result is TRL's to the bit."""
    monkeypatch.setattr(GRPOConfig, "prefix_sharing", False, raising=False)
    monkeypatch.setattr(attention, "_piecewise_forward", None)
    stock, shared = (train(kind, tmp_path / kind.__name__, max_steps=3) for kind in (Stock, Shared))
    assert torch.equal(total_change(shared.moved), total_change(stock.moved))
    assert "prefix_sharing/token_ratio" not in shared.state.log_history[0]


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (lambda: dropout_model(), {}, "attention_dropout=0.1"),
        (tiny_model, {"peft_config": LoraConfig(target_modules=["q_proj"], lora_dropout=0.1)}, "p=0.1"),
    ],
    ids=["attention", "lora"],
)
def test_where_it_is_not_exact_the_log_says_so_once(tmp_path, transformers_log, model, settings, reason):
    settings = {"max_steps": 3, "learning_rate": 1e-3} | settings
    shared = train(Shared, tmp_path, model=model(), **settings)
    lines = [r.message for r in transformers_log.records if "Prefix sharing is off for the model" in r.message]
    assert len(lines) == 1 and reason in lines[0]
    assert "prefix_sharing/token_ratio" not in shared.state.log_history[0]


def dropout_model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=43, **sizes, attention_dropout=0.1, pad_token_id=0, eos_token_id=1))


def test_evaluation(tmp_path):
    evaluations = []
    for kind in (Stock, Shared):
        trainer = train(kind, tmp_path / kind.__name__, max_steps=1, per_device_eval_batch_size=8)
        torch.manual_seed(7)
        evaluations.append(trainer.evaluate(trainer.train_dataset.select(range(4))))
    theirs, ours = evaluations
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)
    assert ours["eval_reward"] == theirs["eval_reward"]
    assert ours["eval_entropy"] == pytest.approx(theirs["eval_entropy"], abs=1e-5)
