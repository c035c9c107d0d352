"""Weights in an engine on a CPU: with a plain trainer, and with an adapter on layers of all kinds."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import parity_reward, save_tiny, tiny_prompts, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer

from qwenlong_trl.engines import prepare_engine


pytestmark = pytest.mark.vllm


def make(folder, model, **settings) -> GRPOTrainer:
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        max_steps=4,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        use_vllm=True,
        vllm_mode="colocate",
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    trainer = GRPOTrainer(model, parity_reward, args, tiny_prompts([5] * 8), processing_class=tiny_tokenizer())
    prepare_engine(trainer)
    return trainer


def test_a_plain_trainer(engines, engine_model, tmp_path):
    trainer = make(tmp_path, engine_model)
    trainer.train()
    differences = [
        entry["sampling/sampling_logp_difference/mean"] for entry in trainer.state.log_history if "loss" in entry
    ]
    assert len(differences) == 4 and max(differences) < 0.01


def test_an_adapter_is_merged_in_the_engine_and_not_in_the_policy(engines, tmp_path):
    """The embedding has more rows in the engine, so its weights are taken over when the adapter is out again."""
    folder = save_tiny(tmp_path / "model", positions=512, width=128)
    generation = make(tmp_path, folder).vllm_generation
    config = LoraConfig(
        r=4, target_modules=["q_proj", "down_proj", "embed_tokens", "lm_head"], init_lora_weights=False
    )
    generation.model = get_peft_model(generation.model, config)
    before = {name: weight.clone() for name, weight in generation.model.named_parameters()}
    generation.sync_weights()
    assert all(torch.allclose(weight, before[name], atol=1e-6) for name, weight in generation.model.named_parameters())

    model = generation.llm.llm_engine.model_executor.driver_worker.model_runner.get_model()
    layer = generation.model.base_model.model.model.embed_tokens
    merged = layer.base_layer.weight + layer.get_delta_weight("default")
    assert (merged - layer.base_layer.weight).abs().max() > 0.01
    torch.testing.assert_close(
        model.model.embed_tokens.weight[: len(merged)].float(), merged, atol=1e-3, rtol=1e-2, check_dtype=False
    )
    prompt = [4, 9, 16, 25]
    _, (completion,), (sampled,), _ = generation.generate([prompt], None, 1)
    ids = torch.tensor([prompt + list(completion)])
    with torch.no_grad():
        scores = generation.model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
    own = scores.gather(1, ids[0, len(prompt) :, None])[:, 0]
    torch.testing.assert_close(torch.tensor([row[0] for row in sampled]), own, atol=0.05, rtol=0)
