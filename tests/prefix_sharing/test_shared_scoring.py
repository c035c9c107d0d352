"""A packed row against the rows themselves, through whole models: values, and the gradient of every parameter."""

import copy

import pytest
import torch
import trl.trainer.utils
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from shared_rows import (
    OUTPUTS,
    VOCABULARY,
    assert_equal_gradients,
    batch_of,
    gradients,
    relative_difference,
    small_llama,
    small_qwen3,
    with_head,
)
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from qwenlong_trl.prefix_sharing import SharedPrefixForward, attention, forward, why_not_scoring


# Prompts and completions: one group; several, of different length; an empty completion; groups of one row; a prompt of
# the fewest tokens; long prompts with short completions.
SHAPES = {
    "one group": [(9, [5, 5, 5, 5])],
    "ragged groups": [(9, [5, 2, 6]), (4, [1, 3]), (12, [6, 6])],
    "empty completion": [(6, [4, 0, 3])],
    "single rows": [(7, [3]), (5, [4, 2]), (8, [6])],
    "short prompt": [(2, [5, 3]), (11, [1, 1])],
    "long prompts": [(70, [3, 4, 2, 1]), (64, [2, 2])],
}


def compare(shared, plain, batch, values=1e-5, relative=1e-5, autocast=False):
    """Both models hold the same weights; returns what the shared one computed."""
    shared.train(), plain.train()
    generator = torch.Generator().manual_seed(1)
    found = []
    scorer = SharedPrefixForward(shared)
    for model, score in ((shared, scorer), (plain, plain)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            outputs = score(**batch, fused_lm_head=True)
        generator.manual_seed(1)
        weights = torch.randn(outputs.log_probs.shape, generator=generator)
        loss = (outputs.log_probs * weights).sum()
        if outputs.entropy is not None:
            loss = loss + (outputs.entropy * weights.roll(1)).sum()
        loss.backward()
        found.append((outputs, gradients(model)))
    (ours, our_gradients), (theirs, their_gradients) = found
    for name in OUTPUTS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if other is None or other.dtype == torch.bool:
            assert mine is None or autocast or torch.equal(mine, other)
        else:
            torch.testing.assert_close(mine, other, atol=values, rtol=values)
    assert torch.equal(ours.label_mask, theirs.label_mask)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=values, rtol=values)
    assert_equal_gradients(our_gradients, their_gradients, relative)
    return scorer


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("kind", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_the_rows_themselves(shape, kind, checkpointing):
    shared = small_qwen3(kind)
    if checkpointing:
        shared.gradient_checkpointing_enable()
    batch = batch_of(SHAPES[shape], shuffle=True)
    scorer = compare(shared, small_qwen3(), batch)
    rows, computed = scorer.tokens
    assert rows == int(batch["attention_mask"].sum()) and computed < rows


@pytest.mark.parametrize("shape", ["ragged groups", "long prompts"])
def test_flash_attention_2(shape, monkeypatch):
    """Its kernels need a GPU; here our attention takes the place of the library's, as it does there."""
    shared = small_qwen3()
    shared.config._attn_implementation = "flash_attention_2"
    compare(shared, small_qwen3(), batch_of(SHAPES[shape]))


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_padding_behind_both_as_in_preference_pairs(kind):
    compare(small_qwen3(kind), small_qwen3(), batch_of(SHAPES["ragged groups"], prompt_side="right"))


SHAPE = st.lists(
    st.tuples(st.integers(2, 20), st.lists(st.integers(0, 8), min_size=1, max_size=4)), min_size=1, max_size=4
).filter(lambda groups: any(len(lengths) > 1 and max(lengths) > 0 for _, lengths in groups))


@settings(max_examples=25, deadline=None)
@given(
    groups=SHAPE,
    seed=st.integers(0, 99),
    kind=st.sampled_from(["sdpa", "eager"]),
    side=st.sampled_from(["left", "right"]),
)
def test_any_shape(groups, seed, kind, side):
    compare(small_qwen3(kind), small_qwen3(), batch_of(groups, seed, shuffle=True, prompt_side=side))


@pytest.mark.parametrize(
    "head", [{"temperature": 0.7}, {"cast_lm_head_to_fp32": True}, {"outputs": ("log_probs",)}], ids=str
)
def test_settings_of_the_fused_head(head):
    compare(small_qwen3(**head), small_qwen3(**head), batch_of(SHAPES["ragged groups"]))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_peft(checkpointing):
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        model = get_peft_model(small_qwen3(), LoraConfig(target_modules="all-linear", r=4, init_lora_weights=False))
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable()
        models.append(model)
    compare(*models, batch_of(SHAPES["ragged groups"]))


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_mixed_precision(kind):
    compare(
        small_qwen3(kind),
        small_qwen3(kind),
        batch_of(SHAPES["ragged groups"]),
        values=0.1,
        relative=0.05,
        autocast=True,
    )


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "weights"])
@pytest.mark.parametrize("peaked", [False, True], ids=["initial", "peaked"])
def test_bfloat16_differs_less_than_two_attention_implementations_do(peaked, autocast):
    """Every other order of summation rounds otherwise. Log-probabilities are within 1e-2 of those of the rows, and so
    are gradients as TRL trains (weights in float32, autocast) from an initialisation; with weights in bfloat16, or
    larger ones, they are about as near as the rows under sdpa are to the rows under eager attention, or to float32."""
    batch = batch_of(SHAPES["long prompts"])
    width = 32 if peaked else 256
    exact, shared, plain, eager = (
        small_qwen3(kind, width=width, peaked=peaked) for kind in ("sdpa", "sdpa", "sdpa", "eager")
    )
    found = []
    for model, score in ((exact, exact), (shared, SharedPrefixForward(shared)), (plain, plain), (eager, eager)):
        if model is not exact and not autocast:
            model.bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast and model is not exact):
            log_probs = score(**batch, fused_lm_head=True).log_probs
        (log_probs * torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        found.append((log_probs.detach(), torch.cat([g.flatten() for g in gradients(model).values()])))
    for i in range(2):
        reference, ours, theirs, others = (values[i] for values in found)
        difference = relative_difference(ours, theirs)
        assert relative_difference(ours, reference) < 1.5 * relative_difference(theirs, reference)
        if i == 0 or (autocast and not peaked):
            assert difference < 1e-2
        if i == 1:
            assert difference < 1.2 * relative_difference(others, theirs)


def test_other_architectures():
    compare(small_llama(), small_llama(), batch_of(SHAPES["ragged groups"]))
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2, "head_dim": 16}
        config = Qwen3MoeConfig(vocab_size=VOCABULARY, **sizes, **experts, initializer_range=0.2, pad_token_id=0)
        models.append(with_head(Qwen3MoeForCausalLM(config)))
    assert why_not_scoring(models[0]) is None
    compare(*models, batch_of(SHAPES["ragged groups"]))


def test_a_batch_without_labels_stays_a_part_of_the_graph():
    """All completions masked as truncated: zeros that a backward pass runs through, as with the rows themselves."""
    model = small_qwen3()
    batch = batch_of([(5, [0, 0, 1])])
    batch = {name: value[:2] for name, value in batch.items()}
    outputs = SharedPrefixForward(model)(**batch, fused_lm_head=True)
    assert not outputs.log_probs.any() and outputs.log_probs.shape == (2, 5)
    outputs.log_probs.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


class Largest(TorchDispatchMode):
    """The most numbers that any operation returns."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.numbers = max(self.numbers, value.numel())
        return result


def test_nothing_grows_with_the_square_of_the_length(monkeypatch):
    """The largest tensor is linear in the tokens; with the mask spelled out it is not."""
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", VOCABULARY)  # else the largest is its tile
    largest = {}
    for kind in ("sdpa", "eager"):
        for length in (200, 400):
            with Largest() as seen:
                outputs = SharedPrefixForward(small_qwen3(kind))(**batch_of([(length, [20] * 4)]), fused_lm_head=True)
                outputs.loss.backward()
            largest[kind, length] = seen.numbers
    assert largest["sdpa", 400] <= 2 * largest["sdpa", 200]
    assert largest["eager", 400] > 2.5 * largest["eager", 200]


def test_eager_attention_beyond_the_longest_mask_goes_to_the_model(monkeypatch):
    monkeypatch.setattr(forward, "LONGEST_MASK", 24)
    batch = batch_of(SHAPES["one group"])
    scorer = SharedPrefixForward(small_qwen3("eager"))
    scorer(**batch, fused_lm_head=True)
    assert scorer.tokens == (56, 56)
    scorer = SharedPrefixForward(small_qwen3())
    scorer(**batch, fused_lm_head=True)
    assert scorer.tokens == (56, 28)


def test_other_inputs_and_other_heads_go_to_the_model():
    model = small_qwen3()
    batch = batch_of(SHAPES["one group"])
    scorer = SharedPrefixForward(model)
    assert scorer(**batch, fused_lm_head=False).logits.shape == (4, 14, VOCABULARY)
    positions = torch.arange(14).expand(4, -1)
    torch.testing.assert_close(
        scorer(**batch, position_ids=positions, fused_lm_head=True).log_probs,
        model(**batch, fused_lm_head=True).log_probs,
    )


def test_a_name_that_is_registered_again():
    """Loading a kernel from the Hub does that; without our function the mask of a packed row would show everything."""
    model = small_qwen3()
    scorer = SharedPrefixForward(model)
    AttentionInterface.register("sdpa", sdpa_attention_forward)
    batch = batch_of(SHAPES["one group"])
    torch.testing.assert_close(
        scorer(**batch, fused_lm_head=True).log_probs, model(**batch, fused_lm_head=True).log_probs
    )


def test_calls_without_shared_prefixes_reach_the_original_attention(monkeypatch):
    SharedPrefixForward(small_qwen3())
    monkeypatch.setattr(attention, "_piecewise_forward", None)
    model = small_qwen3()
    batch = batch_of(SHAPES["ragged groups"])
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    for name in ("log_probs", "entropy"):
        torch.testing.assert_close(
            getattr(model(**batch, fused_lm_head=True), name), getattr(plain(**batch, fused_lm_head=True), name)
        )
