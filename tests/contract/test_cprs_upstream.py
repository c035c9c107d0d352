"""What `qwenlong_trl.cprs` relies on in transformers beyond its documented surface.

One test for each private or undocumented name. When a new version fails one, its docstring says what we need the name
for and what to change in our code.
"""

import inspect

import pytest
import torch
from observed import parameters_of
from transformers import (
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Trainer,
    masking_utils,
)
from transformers.integrations import flash_attention, sdpa_attention
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline, Pipeline


SHAPE = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
BACKBONES = [
    (modeling_llama, "Llama", LlamaConfig),
    (modeling_qwen2, "Qwen2", Qwen2Config),
    (modeling_qwen3, "Qwen3", Qwen3Config),
]


@pytest.mark.parametrize(
    ("module", "name", "config"), BACKBONES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_parts_of_the_backbones(module, name, config):
    """`CPRSModel` puts layers, norm and rotary embedding together itself, since no forward of a backbone takes a mask
    for each layer. If one changed: give the layer what the backbone's own `forward` gives it.
    """
    settings = config(**SHAPE, vocab_size=9, num_hidden_layers=1)
    layer = getattr(module, f"{name}DecoderLayer")(settings, 0)
    assert isinstance(layer, GradientCheckpointingLayer)
    wanted = {"hidden_states", "attention_mask", "position_ids", "use_cache", "position_embeddings"}
    assert wanted <= set(parameters_of(type(layer).forward))
    assert layer.self_attn.is_causal is True
    hidden = torch.randn(1, 3, 8)
    rotary = getattr(module, f"{name}RotaryEmbedding")(config=settings)(hidden, torch.arange(3)[None])
    settings._attn_implementation = "sdpa"
    assert layer(hidden, attention_mask=None, position_embeddings=rotary, use_cache=False).shape == hidden.shape
    assert getattr(module, f"{name}RMSNorm")(8, eps=1e-6)(hidden).shape == hidden.shape


def test_the_flag_decides_where_there_is_no_mask():
    """A layer looks ahead by `self_attn.is_causal = False`. If attention stopped reading it: pass it to the layers."""
    assert 'getattr(module, "is_causal", True)' in inspect.getsource(sdpa_attention.sdpa_attention_forward)
    assert "module.is_causal" in inspect.getsource(flash_attention.flash_attention_forward)


def test_masks():
    """Both masks are made by transformers for whatever implementation is set; without padding they are `None`.

    The bidirectional one does not find packed rows, so we tell it. If it does: drop `and_mask_function`.
    """
    config = Qwen2Config(**SHAPE, vocab_size=9, num_hidden_layers=1, attn_implementation="sdpa")
    given = {"config": config, "inputs_embeds": torch.zeros(1, 5, 8), "attention_mask": None}
    assert masking_utils.create_causal_mask(**given, past_key_values=None) is None
    assert masking_utils.create_bidirectional_mask(**given) is None
    positions = torch.tensor([[0, 1, 0, 1, 2]])
    packed = masking_utils.find_packed_sequence_indices(positions)
    assert packed.tolist() == [[0, 0, 1, 1, 1]]
    assert masking_utils.find_packed_sequence_indices(torch.arange(5)[None]) is None
    apart = masking_utils.packed_sequence_mask_function(packed)
    mask = masking_utils.create_bidirectional_mask(**given, and_mask_function=apart)
    assert torch.equal(mask[0, 0], packed[0][:, None] == packed[0][None, :])
    causal = masking_utils.create_causal_mask(**given, past_key_values=None, position_ids=positions)
    assert torch.equal(causal[0, 0], (packed[0][:, None] == packed[0][None, :]).tril())


def test_configurations_are_dataclasses_that_take_any_field():
    """`CPRSConfig.__post_init__` fills in the fields of the backbone and passes them on. If it is not called any more:
    do the same in `__init__`.
    """
    assert "kwargs" in parameters_of(PreTrainedConfig.__post_init__)
    assert PreTrainedConfig(something_new=3).something_new == 3
    assert PreTrainedConfig.get_config_dict.__func__ is not None
    kept = Qwen2Config(**SHAPE, num_hidden_layers=1).to_diff_dict()
    assert {"hidden_size", "num_hidden_layers"} <= set(kept)


@pytest.mark.parametrize("backbone", ["llama", "qwen2", "qwen3"])
def test_fsdp_finds_the_layers_to_wrap(backbone):
    """accelerate refuses a name in `_no_split_modules` that the model lacks. If it reads another list: set that."""
    from accelerate import FullyShardedDataParallelPlugin
    from cprs_tiny import tiny_critic

    plugin = FullyShardedDataParallelPlugin(auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(tiny_critic(backbone=backbone))
    assert [cls.__name__.lower() for cls in plugin.auto_wrap_policy.keywords["transformer_layer_cls"]] == [
        f"{backbone}decoderlayer"
    ]


def test_one_head_in_float32():
    """`_keep_in_fp32_modules_strict` keeps `cls_head` in float32 whatever `dtype` is. If it is gone: cast on load."""
    assert hasattr(PreTrainedModel, "_keep_in_fp32_modules_strict")


def test_tied_weights_are_a_mapping_that_may_be_emptied():
    """`from_backbone` unties by setting `all_tied_weights_keys` to `{}` after loading. If that has no effect: load
    with `tie_word_embeddings=False` and copy the embeddings.
    """
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, vocab_size=9, num_hidden_layers=1, tie_word_embeddings=True))
    assert model.all_tied_weights_keys == {"lm_head.weight": "model.embed_tokens.weight"}


def test_batches_of_a_step():
    """`get_batch_samples` is where outside tokens lose their labels, and `_get_num_items_in_batch` counts the rest.

    If they changed: drop labels where the batches of a step come together, and count after that.
    """
    assert parameters_of(Trainer.get_batch_samples) == ["self", "epoch_iterator", "num_batches", "device"]
    assert parameters_of(Trainer._get_num_items_in_batch) == ["self", "batch_samples", "device"]
    source = inspect.getsource(Trainer)
    assert source.count("self.get_batch_samples(") == 1


def test_everything_a_pipeline_is_called_with_goes_through_one_iterator():
    """`ContextCompressionPipeline` replaces `get_iterator`, to put windows of all inputs into batches by length.

    If inputs take another way: put the batches together there.
    """
    names = [
        "self",
        "inputs",
        "num_workers",
        "batch_size",
        "preprocess_params",
        "forward_params",
        "postprocess_params",
    ]
    assert parameters_of(ChunkPipeline.get_iterator) == names
    assert inspect.getsource(Pipeline.__call__).count("self.get_iterator(") == 3  # lists, streams, one input


def test_registration():
    """`save_pretrained` of a pipeline writes `custom_pipelines` from `_registered_impl`, which registration sets."""
    from qwenlong_trl.cprs import ContextCompressionPipeline

    assert set(ContextCompressionPipeline._registered_impl) == {"context-compression"}
    assert "context-compression" in PIPELINE_REGISTRY.get_supported_tasks()
