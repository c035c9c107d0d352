"""Batches whose rows share prompts, as trainers make them, and tiny models that score them."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head


VOCABULARY = 60
OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def batch_of(groups, seed: int = 0, shuffle: bool = False, prompt_side: str = "left") -> dict[str, torch.Tensor]:
    """
    One row for each completion: `groups` is a list of (tokens of the prompt, tokens of each completion). Prompts are
    padded on one side, completions on the right.
    """
    generator = torch.Generator().manual_seed(seed)
    width = max(prompt for prompt, _ in groups)
    longest = max(max(completions) for _, completions in groups)
    rows, masks, scored = [], [], []
    for prompt, completions in groups:
        tokens = torch.randint(3, VOCABULARY, (prompt,), generator=generator)
        for completion in completions:
            answer = torch.randint(3, VOCABULARY, (completion,), generator=generator)
            parts = [torch.zeros(width - prompt), tokens, answer, torch.zeros(longest - completion)]
            kinds = [0, 1, 2, 0]
            if prompt_side == "right":  # as preference pairs: one padding, behind both
                parts, kinds = [tokens, answer, torch.zeros(width - prompt + longest - completion)], [1, 2, 0]
            kind = torch.cat([torch.full((len(part),), k) for part, k in zip(parts, kinds, strict=True)])
            rows.append(torch.cat(parts).long())
            masks.append((kind > 0).long())
            scored.append(kind == 2)
    ids, mask, scored = torch.stack(rows), torch.stack(masks), torch.stack(scored)
    if shuffle:
        order = torch.randperm(len(ids), generator=generator)
        ids, mask, scored = ids[order], mask[order], scored[order]
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~scored, -100)}


def small_qwen3(attention="sdpa", seed=0, width=32, peaked=True, **head) -> Qwen3ForCausalLM:
    """Grouped queries, norms of queries and keys, and TRL's head; `peaked` weights are larger than those of an
    initialisation, so that attention matters."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.2 if peaked else 0.02,
        pad_token_id=0,
        eos_token_id=1,
        attn_implementation=attention,
    )
    return with_head(Qwen3ForCausalLM(config), **head)


def small_llama(attention: str = "sdpa", seed: int = 0, **settings) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        **sizes,
        initializer_range=0.2,
        pad_token_id=0,
        attn_implementation=attention,
        **settings,
    )
    return with_head(LlamaForCausalLM(config))


def with_head(model, **head):
    add_fused_lm_head(model, **({"outputs": OUTPUTS} | head))
    return model


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-12)).item()


def assert_equal_gradients(found, expected, relative: float) -> None:
    assert found.keys() == expected.keys() and found
    # A gradient that is zero but for rounding (the bias of keys, for one) has no relative precision.
    largest = max(value.norm().item() for value in expected.values())
    for name, value in expected.items():
        if value.norm().item() > 1e-6 * largest:
            assert relative_difference(found[name], value) < relative, name
