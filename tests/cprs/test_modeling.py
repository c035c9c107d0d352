"""The critic's masks, with and without padding and packing, and its two heads."""

import pytest
import torch
from cprs_tiny import tiny_critic

from qwenlong_trl.cprs import CPRSForTokenCritic


BACKBONES = ("qwen2", "qwen3", "llama")
IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2")


def critic(backbone="qwen2", attention="sdpa", **config) -> CPRSForTokenCritic:
    model = tiny_critic(backbone=backbone, num_hidden_layers=4, **config)
    model.config._attn_implementation = attention
    return model


@pytest.fixture(autouse=True)
def flash_on_any_device(monkeypatch):
    """Flash attention's kernel by plain matrices: everything up to the kernel's arguments is the real code."""

    def kernel(query, key, value, attention_mask, query_length, is_causal, softmax_scale=None, **kwargs):
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        seen = torch.ones(query_length, query_length, dtype=torch.bool)
        if is_causal:
            seen = seen.tril()
        seen = seen[None, None].expand(len(query), 1, -1, -1)
        if attention_mask is not None:
            seen = seen & attention_mask[:, None, None, :].bool()
        elif (positions := kwargs.get("position_ids")) is not None and len(query) == 1:  # as the real one
            packed = (positions == 0).cumsum(-1)
            seen = seen & (packed[:, None, :, None] == packed[:, None, None, :])
        scores = (query @ key.transpose(-1, -2)) * (softmax_scale or query.shape[-1] ** -0.5)
        scores = scores.masked_fill(~seen, -1e30)
        return (scores.softmax(-1) @ value).transpose(1, 2)

    monkeypatch.setattr("transformers.integrations.flash_attention._flash_attention_forward", kernel)


def ids(*shape, seed=0) -> torch.Tensor:
    return torch.randint(1, 400, shape, generator=torch.Generator().manual_seed(seed))


def hidden_of(model, *args, **kwargs):
    with torch.no_grad():
        return model(*args, **kwargs, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_last_token_reaches_the_first_in_upper_layers_only(backbone, attention):
    model = critic(backbone, attention)
    assert model.config.bidirectional_start_layer == 3
    tokens = ids(2, 12)
    other = tokens.clone()
    other[:, -1] = other[:, -1] % 399 + 1
    before, after = hidden_of(model, tokens), hidden_of(model, other)
    reached = [not torch.equal(a[:, 0], b[:, 0]) for a, b in zip(before, after, strict=True)]
    assert reached == [False, False, False, False, True]  # embeddings, three causal layers, one that looks ahead
    assert all(torch.equal(a[:, :-1], b[:, :-1]) for a, b in zip(before[:-1], after[:-1], strict=True))


@pytest.mark.parametrize("start", [0, 2, 4])
def test_any_layer_may_be_the_first_that_looks_ahead(start):
    model = critic(bidirectional_start_layer=start)
    tokens = ids(1, 9)
    other = tokens.clone()
    other[:, -1] = other[:, -1] % 399 + 1
    before, after = hidden_of(model, tokens), hidden_of(model, other)
    reached = [not torch.equal(a[:, 0], b[:, 0]) for a, b in zip(before, after, strict=True)]
    assert reached == [layer > start for layer in range(5)]


@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_padding_on_either_side_changes_nothing(backbone, attention):
    model = critic(backbone, attention)
    short, long = ids(1, 7), ids(1, 12, seed=1)
    with torch.no_grad():
        alone, other = model(short).logits, model(long).logits
    for left in (False, True):
        padding = torch.zeros(1, 5, dtype=torch.long)
        row = torch.cat([padding, short] if left else [short, padding], 1)
        mask = (torch.cat([padding, torch.ones_like(short)] if left else [torch.ones_like(short), padding], 1)).long()
        with torch.no_grad():
            both = model(torch.cat([row, long]), attention_mask=torch.cat([mask, torch.ones_like(long)])).logits
        torch.testing.assert_close(both[:1][:, mask[0].bool()], alone, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(both[1:], other, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_implementations_agree(backbone):
    tokens = ids(2, 12)
    mask = torch.ones_like(tokens)
    mask[0, 8:] = 0
    outputs = []
    for attention in IMPLEMENTATIONS:
        with torch.no_grad():
            outputs.append(critic(backbone, attention)(tokens, attention_mask=mask).logits[mask.bool()])
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
def test_packed_windows_do_not_see_each_other(attention):
    model = critic(attention=attention)
    first, second = ids(1, 5), ids(1, 8, seed=1)
    positions = torch.cat([torch.arange(5), torch.arange(8)])[None]
    with torch.no_grad():
        packed = model(torch.cat([first, second], 1), position_ids=positions).logits
        torch.testing.assert_close(packed[:, :5], model(first).logits, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(packed[:, 5:], model(second).logits, atol=2e-5, rtol=1e-5)


def test_packed_rows_of_a_batch():
    rows, positions = ids(2, 13), torch.cat([torch.arange(5), torch.arange(8)])[None]
    model = critic()
    with torch.no_grad():
        together = model(rows, position_ids=positions).logits
        for i in range(2):
            torch.testing.assert_close(
                together[i : i + 1, :5], model(rows[i : i + 1, :5]).logits, atol=2e-5, rtol=1e-5
            )
        with pytest.raises(ValueError, match="a single row only"):
            critic(attention="flash_attention_2")(rows, position_ids=positions)


def test_a_mask_of_four_dimensions_is_used_as_it_is():
    model, tokens = critic(), ids(1, 6)
    diagonal = torch.eye(6, dtype=torch.bool)[None, None]
    other = tokens.clone()
    other[0, 0] = other[0, 0] % 399 + 1
    with torch.no_grad():
        change = model(tokens, attention_mask=diagonal).logits - model(other, attention_mask=diagonal).logits
    assert change[0, 1:].abs().max() == 0 and change[0, 0].abs().max() > 0


def test_under_autocast_the_position_head_stays_in_float32():
    seen = []
    model = critic()
    model.cls_head.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(ids(1, 6))
    assert seen == [torch.float32]


def test_nothing_is_cached_and_both_inputs_are_refused():
    model = critic()
    assert model.config.use_cache is False
    assert "past_key_values" not in model(ids(1, 4))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()
    embedded = model.model.embed_tokens(ids(1, 4))
    torch.testing.assert_close(model(inputs_embeds=embedded).logits, model(ids(1, 4)).logits)


def test_tag_logits_are_rows_of_the_lm_head():
    model = critic()
    tokens, tags = ids(2, 6), torch.tensor([7, 300, 2])
    with torch.no_grad():
        output = model(tokens, tag_ids=tags)
        full = model.lm_head(hidden_of(model, tokens)[-1])
    assert output.tag_logits.shape == (2, 6, 3) and output.logits.shape == (2, 6, 4)
    torch.testing.assert_close(output.tag_logits, full[..., tags])


def test_only_labelled_positions_reach_the_lm_head():
    model = critic()
    seen = []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    labels = torch.full((2, 10), -100)
    labels[0, 3:5], labels[1, 2] = 1, 2
    model(ids(2, 10), labels=labels, tag_labels=labels.clamp(min=-100))
    assert seen == [(3, 400)]
    model(ids(2, 10), tag_ids=torch.tensor([1]))
    assert seen[1:] == [(2, 10, 1)]  # never the whole vocabulary


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_reach_both_heads_and_all_layers(backbone):
    model = critic(backbone).train()
    labels = torch.randint(0, 4, (2, 10))
    model(ids(2, 10), labels=labels, tag_labels=labels + 5).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_gradient_checkpointing_gives_the_same_gradients():
    labels = torch.randint(0, 4, (2, 10))
    mask = torch.ones_like(labels)
    mask[1, 7:] = 0
    gradients = []
    for checkpointing in (False, True):
        model = critic().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(ids(2, 10), attention_mask=mask, labels=labels.masked_fill(mask == 0, -100)).loss.backward()
        gradients.append([p.grad for p in model.model.layers.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_lora_trains_and_merges():
    from peft import LoraConfig, get_peft_model

    model = critic()
    with torch.no_grad():
        before = model(ids(1, 8)).logits
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["cls_head"]))
    torch.testing.assert_close(peft(ids(1, 8)).logits, before)
    optimizer = torch.optim.SGD([p for p in peft.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        peft(input_ids=ids(1, 8), labels=torch.ones(1, 8, dtype=torch.long)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        trained = peft.eval()(ids(1, 8)).logits
        merged = peft.merge_and_unload()
        assert type(merged) is CPRSForTokenCritic
        torch.testing.assert_close(merged(ids(1, 8)).logits, trained, atol=1e-5, rtol=1e-4)
    assert (trained - before).abs().max() > 0.01
