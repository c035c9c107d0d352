"""Completions behind prompts that are read once, against those of the ordinary way."""

import pytest
import torch
from shared_rows import VOCABULARY, small_llama, small_qwen3
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, GenerationConfig

from qwenlong_trl.prefix_sharing import NotShareableError, SharedPrefixCache, generate_shared
from qwenlong_trl.prefix_sharing.interface import decoding
from qwenlong_trl.prefix_sharing.rollouts import equal_rows, read_prompts


def prompts_of(lengths, repeats, seed=0):
    """Prompts padded on the left, each as often as said."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = torch.randint(3, VOCABULARY, (length,), generator=generator)
        mask[row, width - length :] = 1
    owners = [i for i, count in enumerate(repeats) for _ in range(count)]
    return ids[owners], mask[owners]


def config_of(**settings):
    plain = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": 1}
    return GenerationConfig(**(plain | settings))


def both_ways(model, ids, mask, config, share_decoding, seed=0):
    model.eval()
    results = []
    for shared in (False, True):
        torch.manual_seed(seed)
        batch = {"input_ids": ids, "attention_mask": mask, "generation_config": config}
        with torch.no_grad():
            if shared:
                results.append(generate_shared(model, model.generate, **batch, share_decoding=share_decoding))
            else:
                results.append(model.generate(**batch))
    return results


SHARED = pytest.mark.parametrize("share_decoding", [True, False], ids=["shared", "repeated"])
BATCHES = [([9], [4]), ([9, 4, 6], [3, 3, 3]), ([5, 12, 2], [1, 4, 2]), ([7, 3], [2, 5])]


@SHARED
@pytest.mark.parametrize(("lengths", "repeats"), BATCHES)
@pytest.mark.parametrize("make", [small_qwen3, small_llama])
def test_equal_greedy_tokens(make, lengths, repeats, share_decoding):
    expected, found = both_ways(make(), *prompts_of(lengths, repeats), config_of(), share_decoding)
    assert torch.equal(found, expected)


@SHARED
@pytest.mark.parametrize(("lengths", "repeats"), BATCHES)
def test_equal_logits_at_every_step(lengths, repeats, share_decoding):
    config = config_of(return_dict_in_generate=True, output_logits=True, eos_token_id=None)
    expected, found = both_ways(small_qwen3(), *prompts_of(lengths, repeats), config, share_decoding)
    assert len(found.logits) == 12
    for ours, theirs in zip(found.logits, expected.logits, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@SHARED
def test_equal_samples_with_the_same_random_numbers(share_decoding):
    config = config_of(do_sample=True, temperature=0.8, top_k=0, max_new_tokens=20)
    expected, found = both_ways(small_qwen3(), *prompts_of([9, 4], [6, 6]), config, share_decoding, seed=5)
    assert torch.equal(found, expected) and len(set(map(tuple, found.tolist()))) > 6


@SHARED
def test_rows_in_any_order(share_decoding):
    ids, mask = prompts_of([8, 5, 3], [3, 2, 2])
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    expected, found = both_ways(small_qwen3(), ids[order], mask[order], config_of(), share_decoding)
    assert torch.equal(found, expected)


def test_equal_rows():
    ids, mask = prompts_of([4, 3], [2, 2])
    assert equal_rows(ids[[0, 2, 1, 3]], mask[[0, 2, 1, 3]]) == ([0, 1], [0, 1, 0, 1])
    # The same tokens, of which some are padding in one row, are not the same prompt.
    assert equal_rows(ids[[0, 0]], torch.stack([mask[0], mask[0] * torch.tensor([0, 1, 1, 1])]))[0] == [0, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """As near to float32 as the ordinary way is."""
    ids, mask = prompts_of([9, 4], [3, 3])
    config = config_of(return_dict_in_generate=True, output_logits=True, max_new_tokens=1)
    exact, _ = both_ways(small_qwen3(), ids, mask, config, True)
    expected, found = both_ways(small_qwen3().to(dtype), ids, mask, config, True)
    reference = exact.logits[0]
    assert (found.logits[0] - reference).norm() < 1.5 * (expected.logits[0] - reference).norm() + 1e-3


def test_autocast():
    ids, mask = prompts_of([9, 4], [3, 3])
    config = config_of(return_dict_in_generate=True, output_logits=True, max_new_tokens=3, eos_token_id=None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = both_ways(small_qwen3(), ids, mask, config, True)
    torch.testing.assert_close(found.logits[0], expected.logits[0], atol=0.3, rtol=0.1)


def test_the_cache_holds_a_prompt_once():
    model = small_qwen3().eval()
    ids, mask = prompts_of([9], [8])
    with torch.no_grad():
        cache = SharedPrefixCache(read_prompts(model, ids[:1], mask[:1]), mask[:1], [0] * 8)
        with decoding(model, cache):
            model(input_ids=ids[:, :1], position_ids=torch.full((8, 1), 9), past_key_values=cache, use_cache=True)
    assert cache.get_seq_length() == 10 and isinstance(cache, DynamicCache)
    for layer in cache.layers:
        assert layer.prompt_keys.shape == (1, 2, 9, 16) and layer.keys.shape == (8, 2, 1, 16)


def test_several_tokens_at_once_are_refused():
    model = small_qwen3().eval()
    ids, mask = prompts_of([9], [2])
    with torch.no_grad():
        cache = SharedPrefixCache(read_prompts(model, ids[:1], mask[:1]), mask[:1], [0, 0])
        with decoding(model, cache), pytest.raises(NotShareableError, match="2 tokens at once"):
            model(input_ids=ids[:, :2], past_key_values=cache, use_cache=True)


def test_sliding_windows_repeat_their_cache():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes["num_key_value_heads"] = 2
    config = AutoConfig.for_model("mistral", vocab_size=VOCABULARY, **sizes, sliding_window=4, initializer_range=0.2)
    model = AutoModelForCausalLM.from_config(config)
    expected, found = both_ways(model, *prompts_of([9, 6], [3, 3]), config_of(), share_decoding=False)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("lengths", "repeats", "settings"),
    [
        ([9, 5], [1, 1], {}),  # nothing is shared
        ([4, 1], [2, 2], {}),  # nothing to read of the second
        ([9], [3], {"num_beams": 2}),
        ([9], [3], {"do_sample": True, "num_return_sequences": 2}),
        ([9], [3], {"use_cache": False}),
        ([9], [3], {"cache_implementation": "static"}),
    ],
    ids=str,
)
def test_what_goes_the_ordinary_way(lengths, repeats, settings):
    model = small_qwen3().eval()
    ids, mask = prompts_of(lengths, repeats)
    seen = []

    def generate(**arguments):
        seen.append(arguments)
        return model.generate(**arguments)

    config = config_of(**settings)
    torch.manual_seed(0)
    found = generate_shared(model, generate, ids, mask, config, True)
    torch.manual_seed(0)
    assert torch.equal(found, model.generate(input_ids=ids, attention_mask=mask, generation_config=config))
    assert set(seen[0]) == {"input_ids", "attention_mask", "generation_config"}
