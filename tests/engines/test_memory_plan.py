"""The memory that a plan expects, against memory that was measured, and against figures by hand."""

import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, Qwen2Config, Qwen3Config

from qwenlong_trl.cli.main import main
from qwenlong_trl.engines.plan import (
    LEVERS,
    TILE_ENTRIES,
    TILE_TOKENS,
    Run,
    Sizes,
    cache_bytes,
    layer_bytes,
    levers,
    memory,
)


SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 100}
on_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak of a process")
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def sizes() -> Sizes:
    return Sizes.of(Qwen3Config(**SIZES, **HEADS, head_dim=16, tie_word_embeddings=False))


def check_against_measured_peaks(pairs) -> None:
    path = Path(__file__).parents[2] / "examples" / "benchmarks" / "plan_memory.py"
    sys.path.insert(0, str(path.parent))  # the process that measures imports it as well
    try:
        import plan_memory

        ratios = {}
        for case, way, measured in plan_memory.measure_all(pairs(plan_memory)):
            ratios[case, way] = plan_memory.expected(case, way) / measured
    finally:
        sys.path.remove(str(path.parent))
    assert len(ratios) >= 3
    assert all(0.8 < ratio < 1.25 for ratio in ratios.values()), ratios


@pytest.mark.slow
@on_linux
def test_plan_agrees_with_measured_peaks():
    check_against_measured_peaks(lambda benchmark: zip(benchmark.CASES, benchmark.WAYS, strict=True))


@pytest.mark.slow
@on_linux
def test_plan_agrees_with_measured_peaks_of_all_cases_in_all_ways():
    check_against_measured_peaks(lambda benchmark: product(benchmark.CASES, benchmark.WAYS))


def test_sizes_are_counted_on_the_model(sizes):
    attention = 64 * 64 * 2 + 64 * 32 * 2 + 2 * 16
    layer = attention + 3 * 64 * 160 + 2 * 64
    assert sizes.layer_parameters == layer
    assert sizes.parameters == 2 * 100 * 64 + 3 * layer + 64
    assert (sizes.queries, sizes.keys, sizes.head_norms, sizes.tied) == (64, 32, True, False)
    assert sizes.adapter_ends == 3 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 160))
    assert not Sizes.of(Qwen2Config(**SIZES, **HEADS)).head_norms
    assert Sizes.of(LlamaConfig(**SIZES, **HEADS, tie_word_embeddings=True)).tied


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50),
        MixtralConfig(**SIZES, **HEADS, num_local_experts=2, head_dim=16),
    ],
    ids=["gpt2", "mixtral"],
)
def test_other_architectures_are_refused(config):
    with pytest.raises(ValueError, match=f"{config.model_type}.*has to be measured"):
        Sizes.of(config)


def test_tokens_of_a_micro_batch():
    run = Run(prompt=100, completion=10, group=4)
    assert run.tokens(4) == 99 + 40
    assert run.tokens(8) == 2 * 99 + 80
    assert run.tokens(1) == 99 + 10  # nothing to share; a row by itself has one token more
    assert replace(run, prefix_sharing=False).tokens(4) == 440


@pytest.mark.parametrize("kind", [Qwen2Config, Qwen3Config, LlamaConfig])
@pytest.mark.parametrize("way", ["float32", "bfloat16", "autocast"])
def test_a_layer_keeps_what_the_formula_says(kind, way):
    config = kind(**SIZES, **HEADS, head_dim=16, attention_bias=False)
    sizes = Sizes.of(config)
    dtype = torch.bfloat16 if way == "bfloat16" else torch.float32
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    tokens, kept = 61, {}  # a prime that is no factor of a width: what is no multiple of it belongs to no token

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.numel() % tokens == 0:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    layer, hidden = model.model.layers[0], model.model.embed_tokens(torch.zeros(1, tokens, dtype=torch.long))
    rotary = model.model.rotary_emb(hidden, torch.arange(tokens)[None])
    weights |= {part.untyped_storage().data_ptr() for part in rotary}
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        after = layer(hidden, attention_mask=None, position_embeddings=rotary)
    assert after.dtype == hidden.dtype == dtype
    run = Run(
        prompt=tokens,
        completion=1,
        weight_bytes=hidden.element_size(),
        compute_bytes=4 if way == "float32" else 2,
        prefix_sharing=False,
    )
    assert sum(kept.values()) == pytest.approx(tokens * layer_bytes(sizes, run), rel=0.03)


def test_padded_rows(sizes):
    run = Run(prompt=8, completion=8)
    padded = replace(run, padded=True, prefix_sharing=False)
    assert layer_bytes(sizes, padded) - layer_bytes(sizes, run) == 2 * 2 * 32  # keys and values as wide as queries
    assert memory(sizes, padded).step["attention mask"] == 8 * 16**2


def test_tiles_are_those_of_trl():
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    assert TILE_TOKENS == chunked_logprob.TOKEN_CHUNK_SIZE
    assert TILE_ENTRIES == utils._CHUNKED_LOGPROB_CHUNK_SIZE


def test_state_of_the_model(sizes):
    run = Run(prompt=8, completion=8)
    assert sum(memory(sizes, run).state.values()) == 16 * sizes.parameters
    eight = memory(sizes, replace(run, gpus=8, reference=True))
    assert sum(eight.state.values()) == pytest.approx(18 * sizes.parameters / 8, abs=8)
    assert sum(memory(sizes, replace(run, gpus=8, sharded=False)).state.values()) == 16 * sizes.parameters
    half = memory(sizes, replace(run, weight_bytes=2, optimizer="adamw_8bit")).state
    assert half["optimizer"] == pytest.approx(2.03 * sizes.parameters, rel=0.001)
    adapters = memory(sizes, replace(run, lora_rank=4, reference=True)).state
    assert adapters["gradients"] == 4 * 4 * sizes.adapter_ends
    assert "reference model" not in adapters
    offloaded = memory(sizes, replace(run, gpus=2, offload=True))
    assert offloaded.state == {} and offloaded.host == pytest.approx(16 * sizes.parameters, abs=8)


def test_cache_of_rollouts(sizes):
    run = Run(prompt=100, completion=10, group=4)
    of_token = 3 * 2 * 32 * 2
    assert cache_bytes(sizes, run, 4) == 139 * of_token
    assert cache_bytes(sizes, replace(run, prefix_sharing=False), 4) == 440 * of_token
    assert memory(sizes, replace(run, rollouts="server")).rollout == {}
    assert memory(sizes, replace(run, rollouts="colocate", vllm_share=0.5)).rollout == {"vLLM": 40 * 2**30}


def test_every_lever_saves_where_it_is_the_one_that_is_missing(sizes):
    run = Run(
        prompt=4000, completion=500, gpus=4, sharded=False, prefix_sharing=False, checkpointing=False, reference=True
    )
    first = dict(levers(sizes, run))
    assert next(iter(first)).startswith(("activation checkpointing", "one completion"))
    assert "rollouts on other GPUs (vllm_mode: server)" not in first  # sampling is not what takes the most
    assert "activations on the host (activation_checkpointing_kwargs: {offload: true})" not in first
    again = dict(levers(sizes, replace(run, checkpointing=True)))
    assert set(first) | set(again) == set(LEVERS) - {"rollouts on other GPUs (vllm_mode: server)"}
    sampling = replace(run, checkpointing=True, rows=1, rollout_rows=64, prefix_sharing=True)
    assert "rollouts on other GPUs (vllm_mode: server)" in dict(levers(sizes, sampling))


def test_command(tmp_path, capsys):
    Qwen3Config(**SIZES, **HEADS, head_dim=16).save_pretrained(tmp_path)
    line = ["plan", "--model", str(tmp_path), "--prompt", "60000", "--completion", "10000", "--gpus", "8"]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["run"]["gpus"] == 8
    parts = found["bytes"]
    most = max(sum(parts["step"].values()), sum(parts["rollout"].values()))
    assert found["peak_bytes"] == sum(parts["state"].values()) + most
    assert main([*line, "--gpu_memory", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "It does not fit: 0.4 of 0.5 GiB" in shown and "saves the most" in shown
    assert main([*line, "--gpu_memory", "0"]) == 1
    assert "must be positive, got 0.0" in capsys.readouterr().err
    assert main(["plan", "--model", str(tmp_path / "none"), "--prompt", "1", "--completion", "1"]) == 1


def test_prompt_of_no_tokens():
    with pytest.raises(ValueError, match="`prompt` must be at least 1, got 0"):
        Run(prompt=0, completion=1)
