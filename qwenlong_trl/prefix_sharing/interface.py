"""Where shared prefixes enter the models of transformers: the function that a model's attention layers call.

`AttentionInterface.register` is transformers' public way to add or replace such functions. The one that a model uses
is replaced by itself with two more cases: a packed row (the layout comes with the call, as `shared_prefixes`, through
the model's keyword arguments, so that gradient checkpointing has it again when it recomputes), and one step of
decoding behind prompts that are held once (within [`decoding`]). All other calls go on to the original.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from transformers import AttentionInterface

from .attention import shared_prefix_attention
from .packing import SharedPrefixes


if TYPE_CHECKING:
    from .cache import SharedPrefixCache


_DECODING: ContextVar[SharedPrefixCache | None] = ContextVar("decoding", default=None)

# What attention layers may ask for besides scores, causality and a scale; each changes the result.
_FOREIGN = ("sliding_window", "softcap", "s_aux", "position_bias", "head_mask", "cache")


class NotShareableError(ValueError):
    """A model does something for which a shared prefix would not be exact."""


def attention_name(model: torch.nn.Module) -> str | None:
    """The attention implementation of a model, which may be wrapped: `"sdpa"`, `"flash_attention_2"` …"""
    return text_config(model)._attn_implementation


def text_config(model: torch.nn.Module):
    """The configuration of a model's language part, through the wrappers of DDP, FSDP and DeepSpeed."""
    while not hasattr(model, "config") or isinstance(model.config, dict):
        model = model.module
    return model.config.get_text_config()


def attach(name: str) -> None:
    """
    Lets the attention implementation `name` serve shared prefixes, once per process.

    Raises:
        [`NotShareableError`]: for `"eager"`, which is no registered function but part of each model, and for names
        that are not registered.
    """
    interface = AttentionInterface()
    if name not in interface:
        raise NotShareableError(f"the attention implementation {name!r} is not a registered one")
    original = interface[name]
    if getattr(original, "serves_shared_prefixes", False):
        return

    @functools.wraps(original)
    def attention(module, query, key, value, attention_mask, *args, shared_prefixes=None, **kwargs):
        cache = _DECODING.get()
        if shared_prefixes is None and cache is None:
            return original(module, query, key, value, attention_mask, *args, **kwargs)
        scale = _plain_scale(module, args, kwargs)
        if cache is not None:
            return cache.attend(module.layer_idx, query, key, value, scale), None
        return shared_prefix_attention(query, key, value, shared_prefixes, scale), None

    attention.serves_shared_prefixes = True
    AttentionInterface.register(name, attention)


def _plain_scale(module: torch.nn.Module, args: tuple, kwargs: dict) -> float | None:
    """The scale of the scores, if nothing else is asked for."""
    names = [name for name in _FOREIGN if kwargs.get(name) is not None]
    if args:
        names.append("positional arguments")
    if kwargs.get("dropout"):
        names.append("dropout")
    causal = kwargs.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        names.append("attention to later tokens")
    if names:
        raise NotShareableError(f"its {type(module).__name__} uses {', '.join(names)}")
    return kwargs.get("scaling")


@contextmanager
def decoding(model: torch.nn.Module, cache: SharedPrefixCache) -> Iterator[None]:
    """
    Within it, forward passes of `model` with `cache` attend to the prompts that it holds.

    Raises:
        [`NotShareableError`]: as [`attach`].
    """
    attach(attention_name(model))
    token = _DECODING.set(cache)
    try:
        yield
    finally:
        _DECODING.reset(token)


def layout_arguments(name: str, prefixes: SharedPrefixes, device: torch.device, dtype: torch.dtype) -> dict:
    """How a forward pass is told the layout of a packed row: by `shared_prefixes`, or, for `"eager"`, by a mask."""
    if name != "eager":
        # Any mask of four dimensions goes through to the attention function as it is. None would make transformers
        # find "packed sequences" where positions start again, and build a mask of L x L.
        return {"attention_mask": torch.ones(1, 1, 1, 1, device=device), "shared_prefixes": prefixes}
    seen = prefixes.mask(device)
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
    return {"attention_mask": mask[None, None]}
