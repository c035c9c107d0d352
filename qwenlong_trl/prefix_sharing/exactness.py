"""For which models a shared prefix is exact: asked of the model itself, with a few tokens, once.

No list of architectures: what would change the result is either seen in the configuration (dropout, windows, rotary
scalings that depend on the longest row), said by the attention layers (sinks, caps), or shows in a comparison with
the ordinary way (recurrent states, position tables that count padding, attention that does not come to us).
"""

from __future__ import annotations

import torch

from .cache import SharedPrefixCache, is_ordinary
from .forward import SharedPrefixForward
from .interface import NotShareableError, decoding, text_config
from .rollouts import read_prompts


# Mean differences of log-probabilities that are rounding. Were a branch to see its siblings, or its prompt not, a
# trained model would be off by whole units.
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}
_ROUNDING_HALF = 0.05

# Dropout of classification heads, which language models do not have.
_OTHER_HEADS = ("classifier", "summary")

_LENGTH_DEPENDENT = ("dynamic", "longrope")


def why_not_scoring(model: torch.nn.Module) -> str | None:
    """
    Why [`SharedPrefixForward`] would not be exact for a model, or `None` where it is. Costs two forward passes of some
    40 tokens, the same on every process. To be called without gradient and without activation checkpointing.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            With TRL's fused LM head; wrappers of PEFT and of processes included.
    """
    reason = _seen_in_configuration(model)
    if reason is not None:
        return reason
    batch = _probe(model)
    try:
        ours = SharedPrefixForward(model)(**batch, fused_lm_head=True).log_probs
    except NotShareableError as error:
        return str(error)
    except Exception as error:  # whatever a foreign forward does with an argument that it does not know
        return f"its forward pass failed on a packed row ({type(error).__name__}: {error})"
    return _compare(model, ours, model(**batch, fused_lm_head=True, use_cache=False).log_probs)


def why_not_decoding(model: torch.nn.Module) -> str | None:
    """
    Why [`SharedPrefixCache`] would not be exact for a model, or `None` where it is. As [`why_not_scoring`], for a
    model without the wrappers of processes.
    """
    reason = _seen_in_configuration(model)
    if reason is not None:
        return reason
    batch = _probe(model)
    ids, mask, rows = batch["input_ids"], batch["attention_mask"], [0, 2]
    width = 9
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    try:
        prompts = read_prompts(model, ids[rows, : width - 1], mask[rows, : width - 1])
        if not is_ordinary(prompts, sliding=False):
            return "its cache is not that of plain attention"
        cache = SharedPrefixCache(prompts, mask[rows, : width - 1], [0, 0, 1, 1])
        ours = []
        with decoding(model, cache):
            for place in (width - 1, width):
                step = {"input_ids": ids[:, place, None], "position_ids": positions[:, place, None]}
                outputs = model(**step, attention_mask=mask[:, : place + 1], past_key_values=cache, use_cache=True)
                ours.append(outputs.logits[:, -1])
    except NotShareableError as error:
        return str(error)
    except Exception as error:
        return f"a step of decoding failed behind shared prompts ({type(error).__name__}: {error})"
    whole = model(
        input_ids=ids[:, : width + 1],
        attention_mask=mask[:, : width + 1],
        position_ids=positions[:, : width + 1],
        use_cache=False,
    ).logits[:, -2:]
    return _compare(model, torch.stack(ours, dim=1).log_softmax(dim=-1), whole.log_softmax(dim=-1))


def _seen_in_configuration(model: torch.nn.Module) -> str | None:
    config = text_config(model)
    for name, value in config.to_dict().items():
        random = ("drop" in name or "jitter" in name) and isinstance(value, float) and value > 0
        if random and not name.startswith(_OTHER_HEADS):
            return f"it is random (`{name}={value}`): a shared prompt would be drawn once for its group"
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p > 0:
            return f"it has dropout (p={module.p}): a shared prompt would be drawn once for its group"
    # Said by the layers as well, but from within a forward pass, which sharded models do not like to be broken off.
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if kinds:
        return f"it has layers of the kind {', '.join(sorted(kinds))}"
    if getattr(config, "sliding_window", None) and not hasattr(config, "layer_types"):
        return f"its attention has a window (sliding_window={config.sliding_window})"
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type") if isinstance(rope, dict) else None
    if kind in _LENGTH_DEPENDENT:
        return f"its rotary embedding ({kind}) depends on the longest row of a batch"
    return None


def _probe(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Two prompts, of 9 and 7 tokens, with two completions each, of 5, 3, 4 and 5: padded on both sides."""
    config = text_config(model)
    device = next(model.parameters()).device
    tokens = (torch.arange(4 * 14, device=device) * 7919 + 13).view(4, 14) % config.vocab_size
    tokens[[1, 3], :9] = tokens[[0, 2], :9]
    columns = torch.arange(14, device=device)
    starts, ends = (torch.tensor(x, device=device)[:, None] for x in ([0, 0, 2, 2], [14, 12, 13, 14]))
    mask = ((columns >= starts) & (columns < ends)).long()
    labels = tokens.masked_fill((mask == 0) | (columns < 9), -100)
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def _compare(model: torch.nn.Module, ours: torch.Tensor, theirs: torch.Tensor) -> str | None:
    compared = theirs != 0  # the rest is predicted by neither
    difference = (ours.float() - theirs.float())[compared].abs().mean().item()
    precise = not torch.is_autocast_enabled(ours.device.type)
    allowed = _ROUNDING.get(next(model.parameters()).dtype, _ROUNDING_HALF) if precise else _ROUNDING_HALF
    if difference <= allowed:  # NaN is not
        return None
    return f"log-probabilities with and without sharing differ by {difference:.2g} on average"
