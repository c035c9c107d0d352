"""Which models may share prefixes: said with its reason for those that may not."""

import re

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from shared_rows import VOCABULARY, small_llama, small_qwen3, with_head
from transformers import AutoConfig, AutoModelForCausalLM

from qwenlong_trl.prefix_sharing import why_not_decoding, why_not_scoring


_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


_NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}


def model_of(kind: str, attention: str | None = "sdpa", **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(_SIZES | settings))
    flash = attention == "flash_attention_2"  # needs a library and a GPU to be asked for, and nothing to be looked up
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if flash else attention)
    model.config._attn_implementation = attention
    return with_head(model)


def reasons(model) -> tuple[str | None, str | None]:
    with torch.no_grad():
        return why_not_scoring(model), why_not_decoding(model)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("qwen2", {}),
        ("qwen3", {}),
        ("llama", {}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}),
        ("mistral", {"sliding_window": None}),
        ("phi3", {}),
        ("granite", {"attention_multiplier": 0.3, "logits_scaling": 2.0}),
        ("olmo2", {}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
        ("smollm3", {}),
    ],
)
def test_exact_for_plain_attention(kind, settings):
    assert reasons(model_of(kind, **settings)) == (None, None)


@pytest.mark.parametrize(
    ("kind", "settings", "attention", "reason"),
    [
        ("mistral", {"sliding_window": 4}, "sdpa", "sliding_window=4"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sdpa", "sliding"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "flash_attention_2", "softcap"),
        ("gpt_oss", {**_EXPERTS, "layer_types": ["full_attention"] * 2}, "flash_attention_2", "s_aux"),
        ("qwen2", {"attention_dropout": 0.1}, "sdpa", "attention_dropout=0.1"),
        ("gpt2", {"n_head": 4, "n_embd": 32, "n_layer": 2}, "sdpa", "pdrop"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "sdpa", "longest"),
        # Positions are counted with the padding there, which shifts nothing but in a table of positions.
        ("gpt2", {"n_embd": 32, "n_layer": 2, **_NO_DROPOUT}, "sdpa", "differ"),
        # States, which run through a packed row from one completion into the next.
        ("mamba", {"state_size": 4}, "eager", "kind linear_attention"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "sdpa", "kind conv"),
        ("bloom", {"n_head": 4, "n_layer": 2, "hidden_dropout": 0.0}, "eager", "failed|differ"),
    ],
)  # fmt: skip
def test_not_exact(kind, settings, attention, reason):
    model = model_of(kind, attention, **settings)
    with torch.no_grad():
        assert re.search(reason, why_not_scoring(model) or "exact")
        # GPT-2 counts positions right while it generates; the dropout is what speaks against the other one.
        assert (why_not_decoding(model) is None) == (kind == "gpt2" and reason == "differ")


def test_dropout_of_lora():
    model = get_peft_model(small_llama(), LoraConfig(target_modules=["q_proj"], lora_dropout=0.05))
    assert "p=0.05" in reasons(model)[0]
    model = get_peft_model(small_llama(), LoraConfig(target_modules=["q_proj"]))
    assert reasons(model) == (None, None)


def test_virtual_tokens():
    """Prefix tuning puts keys in front of every row: a packed row has them once more than it should, or not at all."""
    model = get_peft_model(small_llama(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert why_not_scoring(model) is not None


def test_eager_attention_scores_with_a_mask_and_does_not_decode():
    scoring, decoding = reasons(small_qwen3("eager"))
    assert scoring is None and "eager" in decoding


def test_an_attention_of_its_own():
    """A model whose attention does not come to us at all."""
    model = small_qwen3()
    for layer in model.model.layers:
        forward = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, forward=forward, **kwargs: forward(
            *args, **{name: value for name, value in kwargs.items() if name != "shared_prefixes"}
        )
    scoring, _ = reasons(model)
    assert scoring is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_asking_changes_nothing(dtype):
    model = small_qwen3().to(dtype).train()
    before = torch.random.get_rng_state()
    assert reasons(model) == (None, None)
    assert torch.equal(torch.random.get_rng_state(), before) and model.training
    assert all(p.grad is None for p in model.parameters())


def test_models_that_look_ahead():
    """Attention to later tokens, as in the upper layers of a critic of CPRS."""
    model = small_qwen3()
    model.model.layers[1].self_attn.is_causal = False
    assert "later tokens" in reasons(model)[0]
