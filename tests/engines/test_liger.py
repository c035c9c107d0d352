"""Liger: that it comes into the models of all trainers, and that its GRPO loss is TRL's."""

from pathlib import Path

import pytest
import torch
from processes import run_python
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer
from qwenlong_trl.engines.liger import liger_grpo_loss


pytest.importorskip("liger_kernel", reason="pip install 'qwenlong-trl[liger]'")

SGD = {"optim": "sgd", "learning_rate": 0.5, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": 2}


class LigerTrainer(GRPOTrainer):
    def _compute_loss(self, model, inputs):
        return liger_grpo_loss(self, model, inputs)


def train(kind, folder, **settings) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Two steps of SGD on sampled completions; weights and logged losses."""
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_completion_length=5,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        **(SGD | settings),
    )
    folder.mkdir(exist_ok=True)
    tiny_model().save_pretrained(folder)  # where TRL finds the reference
    model = type(tiny_model()).from_pretrained(folder)
    trainer = kind(
        model,
        reward_funcs=parity_reward,
        args=args,
        train_dataset=tiny_prompts([5, 7, 6, 9] * 4),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {name: value.detach() for name, value in trainer.model.named_parameters()}, losses


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "dapo"},
        {"loss_type": "grpo", "beta": 0.1},
        pytest.param({"loss_type": "bnpo", "temperature": 0.7}, marks=pytest.mark.slow),
        pytest.param({"loss_type": "dr_grpo", "delta": 1.5}, marks=pytest.mark.slow),
        pytest.param({"loss_type": "luspo", "importance_sampling_level": "sequence"}, marks=pytest.mark.slow),
        pytest.param({"loss_type": "cispo", "epsilon_high": 5.0}, marks=pytest.mark.slow),
        {"loss_type": "dapo", "num_iterations": 2, "steps_per_generation": 4, "beta": 0.1},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_grpo_loss_is_that_of_trl(tmp_path, settings):
    found, losses = train(LigerTrainer, tmp_path / "liger", **settings)
    expected, native = train(GRPOTrainer, tmp_path / "trl", **settings)
    assert losses == pytest.approx(native, abs=1e-5)
    start = dict(tiny_model().named_parameters())
    assert any(not torch.equal(expected[name], value) for name, value in start.items())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"loss_type": "vespo"}, "loss_type='vespo'"),
        ({"top_entropy_quantile": 0.5}, "top_entropy_quantile"),
        ({"entropy_coef": 0.1}, "entropy_coef"),
    ],
)
def test_what_the_loss_cannot_do_is_refused(tmp_path, settings, named):
    with pytest.raises(ValueError, match=f"knows nothing of {named}: leave the loss to TRL"):
        train(LigerTrainer, tmp_path, **settings)


def test_as_an_option_it_is_the_same_also_with_masked_groups(tmp_path):
    def phased(folder, **settings):
        args = PhasedGRPOConfig(
            output_dir=str(folder),
            phases=[Phase(6, 2), Phase(9, 2)],
            dynamic_sampling="mask",
            per_device_train_batch_size=4,
            num_generations=4,
            generation_batch_size=8,
            gradient_accumulation_steps=2,
            max_completion_length=5,
            loss_type="dapo",
            logging_steps=1,
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            **{name: value for name, value in SGD.items() if name != "max_steps"},
            **settings,
        )
        trainer = PhasedGRPOTrainer(
            tiny_model(), parity_reward, args, tiny_prompts([5, 7, 6, 9] * 4), processing_class=tiny_tokenizer()
        )
        trainer.train()
        return trainer

    own, native = phased(tmp_path / "liger", use_liger_loss=True), phased(tmp_path / "own")
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (own, native)]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], abs=1e-5) and any(losses[1])
    for (name, value), expected in zip(own.model.named_parameters(), native.model.parameters(), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    with pytest.raises(ValueError, match="knows nothing of entropy_coef"):
        phased(tmp_path / "refused", use_liger_loss=True, entropy_coef=0.1)


def test_preference_losses_have_log_probabilities_without_gradient():
    # Why SoLoPO does not use them. When this fails, its alignment could be made of them.
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss

    hidden = torch.randn(2, 3, 8, requires_grad=True)
    loss, (chosen, rejected, *_) = LigerFusedLinearDPOLoss(compiled=False, use_ref_model=False)(
        torch.randn(11, 8), hidden, torch.randint(0, 11, (2, 3))
    )
    assert loss.requires_grad and not chosen.requires_grad and not rejected.requires_grad


@pytest.mark.slow
def test_layers_of_all_trainers_are_patched(tmp_path):
    said = run_python([str(Path(__file__).with_name("liger_worker.py")), str(tmp_path)]).stdout.splitlines()
    said = [line for line in said if line.startswith(("sft", "solopo", "phased", "cprs", "refused"))]
    fused = "'fused_linear_cross_entropy': False"
    # Two norms in each of two layers and the last norm, without and with an MLP in each layer.
    assert said[:3] == [f"{name} 5 {{'swiglu': False, {fused}}}" for name in ("sft", "solopo", "phased-grpo")]
    assert said[3:6] == [f"{name} 7 {{{fused}}}" for name in ("sft", "solopo", "phased-grpo")]
    config = "{'rms_norm': True}"
    # Qwen3 has norms of queries and keys besides.
    assert said[6:9] == [f"cprs 7 {config} qwen2", f"cprs 11 {config} qwen3", f"cprs 7 {config} llama"]
    assert "fused_linear_cross_entropy, but a critic has losses of its own" in said[9]
    assert "changed no layer of GPT2LMHeadModel: Liger has no kernels for 'gpt2'" in said[10]
    assert len(said) == 11
