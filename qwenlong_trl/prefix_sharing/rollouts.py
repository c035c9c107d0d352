"""Completions with transformers' `generate`, for which equal prompts are read once.

```python
>>> generate = functools.partial(generate_shared, model, model.generate, share_decoding=True)
>>> generate(input_ids=input_ids, attention_mask=attention_mask, generation_config=config)
```
"""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from .cache import SharedPrefixCache, is_ordinary
from .interface import decoding, has_virtual_tokens


def read_prompts(model: torch.nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
    """The key-value cache of prompts of shape `(U, K)`, padded on the left."""
    # Not the model's default positions, which count the padding, and as `generate` does it.
    positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    # Of the model itself: that of PEFT takes anything.
    parameters = signature(getattr(model, "get_base_model", lambda: model)().forward).parameters
    options = {"position_ids": positions} if "position_ids" in parameters else {}
    if "logits_to_keep" in parameters:
        options["logits_to_keep"] = 1
    outputs = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=True, **options)
    return getattr(outputs, "past_key_values", None)


def equal_rows(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[list[int], list[int]]:
    """The first row of each prompt, and for every row the number of its prompt among these."""
    numbers: dict[bytes, int] = {}
    first, owners = [], []
    for row, prompt in enumerate(torch.stack([input_ids, attention_mask.to(input_ids)], dim=1).cpu().numpy()):
        number = numbers.setdefault(prompt.tobytes(), len(numbers))
        if number == len(first):
            first.append(row)
        owners.append(number)
    return first, owners


def generate_shared(
    model: torch.nn.Module,
    generate: Callable[..., torch.Tensor],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    generation_config: GenerationConfig,
    share_decoding: bool,
    decide: Callable[[bool, bool], bool] = operator.and_,
    **inputs,
) -> torch.Tensor:
    """
    What `generate` returns for these arguments, up to rounding.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model that `generate` belongs to.
        generate (`Callable`):
            Its method, or another with these arguments.
        input_ids, attention_mask (`torch.Tensor` of shape `(B, W)`):
            Prompts, padded on the left.
        generation_config ([`~transformers.GenerationConfig`]):
            Beams, several sequences for each row, and caches other than the default go the ordinary way.
        share_decoding (`bool`):
            Whether the prompts stay in the cache once while completions grow, which the model's attention must allow
            ([`~prefix_sharing.exactness.why_not_decoding`]). Otherwise the cache is repeated once they are read.
        decide (`Callable[[bool, bool], bool]`, *optional*):
            Whether prompts are read first, given whether equal ones are among them and whether all can be. Where
            weights are sharded, a forward pass is a collective, and all processes must decide alike. Defaults to both.
        inputs:
            Anything else goes the ordinary way.
    """
    arguments = {"input_ids": input_ids, "attention_mask": attention_mask, "generation_config": generation_config}
    if inputs or not _is_plain(generation_config, model) or has_virtual_tokens(model):
        return generate(**arguments, **inputs)
    first, owners = equal_rows(input_ids, attention_mask)
    read = attention_mask[first, :-1]
    # A prompt of one token has nothing that could be read before its completions begin.
    if not decide(len(first) < len(owners), bool(read.any(dim=1).all())):
        return generate(**arguments)
    with torch.no_grad():
        prompts = read_prompts(model, input_ids[first, :-1], read)
    if not is_ordinary(prompts):
        return generate(**arguments)
    with caches(model, prompts, read, owners, share_decoding) as cache:
        return generate(**arguments, past_key_values=cache)


@contextlib.contextmanager
def caches(
    model: torch.nn.Module,
    prompts: DynamicCache | None,
    mask: torch.Tensor,
    owners: Sequence[int],
    share_decoding: bool,
    last: bool = True,
) -> Iterator[DynamicCache | None]:
    """
    The cache for continuations of prompts that were read, within which `generate` runs.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model that continues.
        prompts ([`~transformers.DynamicCache`], *optional*):
            From [`read_prompts`]; `None` gives `None`.
        mask (`torch.Tensor` of shape `(U, K)`):
            Of what was read.
        owners (`Sequence[int]`):
            The prompt of each continuation.
        share_decoding (`bool`):
            Whether the prompts stay there once, where none of them is empty.
        last (`bool`, *optional*, defaults to `True`):
            Whether `prompts` is not needed again.
    """
    if prompts is None:
        yield None
    elif share_decoding and is_ordinary(prompts, sliding=False) and bool(mask.any(dim=1).all()):
        cache = SharedPrefixCache(prompts, mask, owners)
        with decoding(model, cache):
            yield cache
    else:
        cache = prompts if last else copy.deepcopy(prompts)
        if len(owners) > mask.size(0):
            cache.batch_select_indices(torch.tensor(owners))  # on CPU, as layers may lie on several devices
        yield cache


def _is_plain(config: GenerationConfig, model: torch.nn.Module) -> bool:
    """Whether `generate` reads each row once and continues it by itself. What the configuration leaves open, the
    model's own decides, as in `generate`."""
    own = getattr(getattr(model, "get_base_model", lambda: model)(), "generation_config", None)
    plain = {
        "num_beams": 1,
        "num_return_sequences": 1,
        "use_cache": True,
        "cache_implementation": None,
        "guidance_scale": 1,
        "prompt_lookup_num_tokens": None,
        "assistant_early_exit": None,
    }
    for name, value in plain.items():
        given = getattr(config, name, None)
        if (getattr(own, name, None) if given is None else given) not in (None, value):
            return False
    return True
