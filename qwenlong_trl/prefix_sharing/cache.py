"""A key-value cache for several continuations of a prompt, in which the prompt stands once.

Decoding G completions of a prompt with P tokens, an ordinary cache holds and reads G * P keys in every layer, and
copies them at every step as it grows. Here a layer holds P keys for the group and the few of each continuation; the
queries of the group read the prompt together, as one matrix product (the idea of Hydragen, arXiv 2402.05099).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from .attention import merge
from .interface import NotShareableError


class SharedPrefixCache(DynamicCache):
    """
    The cache of B continuations of U prompts. It looks to `generate` as if each continuation had its prompt; forward
    passes with it, of one token for each row, run within [`~prefix_sharing.interface.decoding`].

    Args:
        prompts ([`~transformers.DynamicCache`]):
            What the model keeps of the prompts: U rows and K columns, of which some may be padding.
        mask (`torch.Tensor` of shape `(U, K)`):
            1 where a column is a token. Every prompt has at least one.
        owners (`Sequence[int]` of length B):
            The prompt of each continuation.
    """

    def __init__(self, prompts: DynamicCache, mask: torch.Tensor, owners: Sequence[int]):
        # Past `DynamicCache`, which builds its layers by itself.
        Cache.__init__(self, layers=[_Branches(layer.keys, layer.values) for layer in prompts.layers])
        places: list[list[int]] = [[] for _ in range(mask.size(0))]
        for row, owner in enumerate(owners):
            places[owner].append(row)
        self._most = max(map(len, places))
        # The queries of each prompt as a row of a table with `_most` columns; row 0 fills what is left of it.
        table = [row for rows in places for row in rows + [0] * (self._most - len(rows))]
        slots = [owner * self._most + places[owner].index(row) for row, owner in enumerate(owners)]
        self._table, self._slots = (torch.tensor(x, device=mask.device) for x in (table, slots))
        self._hidden = None if bool(mask.all()) else (mask == 0)[:, None, None]  # (U, 1, 1, K)

    def attend(
        self, layer_idx: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        """
        Attention of one token in each row to its prompt and to what its own row holds, itself included.

        Args:
            layer_idx (`int`):
                The layer.
            query (`torch.Tensor` of shape `(B, heads, 1, head_dim)`):
                The token's query.
            key, value (`torch.Tensor` of shape `(B, key_value_heads, T, head_dim)`):
                Those of the row's own tokens, as `update` returned them.
            scale (`float`, *optional*):
                Of the scores. Defaults to `head_dim ** -0.5`.

        Returns:
            `torch.Tensor` of shape `(B, 1, heads, head_dim of value)`.
        """
        if query.size(2) != 1:
            raise NotShareableError(f"it decodes {query.size(2)} tokens at once")
        layer = self.layers[layer_idx]
        device = query.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
        layer.convert_prompts(dtype)
        scale = query.size(-1) ** -0.5 if scale is None else scale
        rows, heads = query.shape[:2]
        shared = key.size(1)  # key-value heads
        # (B, heads, 1, head_dim) -> (B, key_value_heads, queries of each, head_dim)
        query = (query.to(dtype) * scale).view(rows, shared, heads // shared, -1)
        with torch.autocast(device, enabled=False):
            own, own_lse = _attend(query, key.to(dtype), value.to(dtype))
            # The queries of a prompt, side by side: (U, key_value_heads, most * queries of each, head_dim)
            together = query[self._table].unflatten(0, (-1, self._most)).transpose(1, 2)
            out, lse = _attend(together.flatten(2, 3), layer.prompt_keys, layer.prompt_values, self._hidden)
            shape = (self._most, heads // shared)
            out, lse = (
                x.unflatten(2, shape).transpose(1, 2).flatten(0, 1)[self._slots] for x in (out, lse)
            )  # (B, key_value_heads, queries of each, …)
            merged, _ = merge(own, own_lse, out, lse)
        return merged.reshape(rows, 1, heads, -1)


class _Branches(DynamicLayer):
    """One layer: the keys and values of the prompts, and, as an ordinary layer, those of what comes after."""

    def __init__(self, prompt_keys: torch.Tensor, prompt_values: torch.Tensor):
        super().__init__()
        self.prompt_keys, self.prompt_values = prompt_keys, prompt_values  # (U, key_value_heads, K, head_dim)

    def get_seq_length(self) -> int:
        return self.prompt_keys.size(2) + super().get_seq_length()

    def convert_prompts(self, dtype: torch.dtype) -> None:
        if self.prompt_keys.dtype != dtype or self.prompt_values.dtype != dtype:
            self.prompt_keys, self.prompt_values = self.prompt_keys.to(dtype), self.prompt_values.to(dtype)


def _attend(query, key, value, hidden=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries `(n, heads, q, head_dim)`, scaled, on keys `(n, heads, k, head_dim)`: the result and its log-sum-exp."""
    scores = (query @ key.transpose(-1, -2)).float()
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    lse = scores.logsumexp(dim=-1)
    return (scores - lse.unsqueeze(-1)).exp().to(value.dtype) @ value, lse


def is_ordinary(cache: object, sliding: bool = True) -> bool:
    """Whether what a model keeps of a text is keys and values alone, which can be repeated and padded; without
    `sliding`, the keys and values of all tokens."""
    # Types and not `isinstance`: layers with a further state are subclasses of these.
    ordinary = (DynamicLayer, DynamicSlidingWindowLayer) if sliding else (DynamicLayer,)
    return type(cache) is DynamicCache and all(type(layer) in ordinary for layer in cache.layers)
