"""Which checkpoints become critics: saved ones, backbones, the release; and configurations that cannot be."""

import json

import pytest
import torch
from cprs_tiny import tiny_critic
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from qwenlong_trl.cprs import CPRSConfig, CPRSForTokenCritic


BACKBONES = ("qwen2", "qwen3", "llama")
SHAPE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 0,
}


def ids(*shape, seed=0) -> torch.Tensor:
    return torch.randint(1, 400, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_saved_and_loaded(tmp_path, backbone):
    model = tiny_critic(
        backbone=backbone, num_hidden_layers=4, bidirectional_start_layer=1, position_weights=[2.0, 1.0, 0.5, 2.0]
    )
    model.save_pretrained(tmp_path)
    for loaded in (CPRSForTokenCritic.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is CPRSForTokenCritic
        assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict() | {
            "_name_or_path": "",
            "dtype": loaded.config.to_dict()["dtype"],
            "architectures": loaded.config.architectures,
            "transformers_version": loaded.config.to_dict()["transformers_version"],
            "auto_map": loaded.config.to_dict().get("auto_map"),
        }
        torch.testing.assert_close(loaded.eval()(ids(1, 8)).logits, model(ids(1, 8)).logits)
    assert type(AutoConfig.from_pretrained(tmp_path)) is CPRSConfig


def backbone_of(kind: str, tied: bool = False):
    torch.manual_seed(0)
    shape = SHAPE | {"tie_word_embeddings": tied, "pad_token_id": None}
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=8))
    return (
        Qwen2ForCausalLM(Qwen2Config(**shape))
        if kind == "qwen2"
        else LlamaForCausalLM(LlamaConfig(**shape, head_dim=6))
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_from_a_backbone_with_its_weights(tmp_path, kind):
    """All layers causal, the critic computes what the backbone does."""
    backbone = backbone_of(kind).eval()
    backbone.save_pretrained(tmp_path)
    model = CPRSForTokenCritic.from_backbone(tmp_path, bidirectional_start_layer=4).eval()
    assert model.config.backbone_type == kind
    tokens = ids(2, 9) % 60
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, tag_ids=torch.arange(60)).tag_logits, backbone(tokens).logits)
    assert CPRSForTokenCritic.from_backbone(tmp_path).config.bidirectional_start_layer == 3


def test_a_tied_head_is_untied_unless_told_otherwise(tmp_path):
    backbone_of("qwen2", tied=True).save_pretrained(tmp_path)
    apart = CPRSForTokenCritic.from_backbone(tmp_path)
    assert apart.lm_head.weight.data_ptr() != apart.model.embed_tokens.weight.data_ptr()
    assert torch.equal(apart.lm_head.weight, apart.model.embed_tokens.weight)
    with torch.no_grad():
        apart.lm_head.weight.add_(1.0)
    apart.save_pretrained(tmp_path / "apart")
    again = CPRSForTokenCritic.from_pretrained(tmp_path / "apart")
    assert torch.equal(again.lm_head.weight, apart.lm_head.weight)
    assert torch.equal(again.model.embed_tokens.weight, apart.model.embed_tokens.weight)
    tied = CPRSForTokenCritic.from_backbone(tmp_path, untie=False)
    assert tied.lm_head.weight.data_ptr() == tied.model.embed_tokens.weight.data_ptr()


def test_loads_the_layout_of_the_release(tmp_path):
    """`model.*`, `lm_head.weight`, `cls_head.*`, a configuration of type qwen2 without a word on critics."""
    model = tiny_critic(num_hidden_layers=4)
    model.save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"lm_head.weight", "cls_head.weight", "cls_head.bias", "model.norm.weight"} <= names
    save_file(
        {name: value.half() for name, value in load_file(tmp_path / "model.safetensors").items()}, tmp_path / "m.st"
    )
    (tmp_path / "m.st").replace(tmp_path / "model.safetensors")
    plain = Qwen2Config(
        **{name: getattr(model.config, name) for name in Qwen2Config().to_dict() if hasattr(model.config, name)}
    ).to_dict()
    plain |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLMandBIO"], "dtype": "float16"}
    plain = {name: value for name, value in plain.items() if name not in ("id2label", "label2id")}
    (tmp_path / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    loaded, info = CPRSForTokenCritic.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.bidirectional_start_layer == 3 and loaded.config.window_tokens == 8192
    torch.testing.assert_close(loaded.eval()(ids(1, 8)).logits, model(ids(1, 8)).logits, atol=0.05, rtol=0.05)


def test_in_bfloat16_the_position_head_stays_exact(tmp_path):
    tiny_critic().save_pretrained(tmp_path)
    loaded = CPRSForTokenCritic.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.cls_head.weight.dtype == torch.float32
    assert loaded.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert loaded(ids(1, 8)).logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone_type": "gpt2"}, "`backbone_type` must be one of llama, qwen2, qwen3"),
        ({"bidirectional_start_layer": 40}, "between 0 and num_hidden_layers=32"),
        ({"bidirectional_start_layer": -1}, "`bidirectional_start_layer`"),
        ({"window_tokens": 1}, "`window_tokens` must be at least 2"),
        ({"position_loss": "hinge"}, "`position_loss` must be"),
        ({"position_weights": [1.0]}, "`position_weights` needs 4 numbers"),
        ({"tag_loss_weight": -1.0}, "`tag_loss_weight` must not be negative"),
        ({"use_sliding_window": True, "max_window_layers": 2}, "sliding-window attention"),
    ],
)
def test_a_configuration_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        CPRSConfig(**fields)


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}), encoding="utf-8")
    with pytest.raises(ValueError, match="holds a model of type 'bert'"):
        CPRSForTokenCritic.from_pretrained(tmp_path)
    tiny_critic().model.save_pretrained(tmp_path / "base")  # without heads, and names without `model.`
    with pytest.raises(ValueError, match="no backbone"):
        backbone_of("qwen2").save_pretrained(tmp_path / "cut")
        weights = load_file(tmp_path / "cut" / "model.safetensors")
        weights.pop("model.norm.weight")
        save_file(weights, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
        CPRSForTokenCritic.from_backbone(tmp_path / "cut")
