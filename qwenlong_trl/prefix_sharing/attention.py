"""Attention over a packed row: no mask, memory linear in its tokens, and gradients that are exact.

Every piece of the row attends to itself, causally; the branches of a group attend to their prefix besides, all in one
call, since each of them sees the whole of it. A branch's two partial results are merged by their log-sum-exps:

```txt
lse = log(exp(lse_own) + exp(lse_prefix))      out = out_own exp(lse_own - lse) + out_prefix exp(lse_prefix - lse)
```

With `out` and `lse` of the merged result, the backward kernels of flash attention give, for each part, exactly its
share of the gradient: they need the probabilities, `exp(score - lse)`, and `sum(out * grad_out)`, nothing else of the
forward pass (FlashAttention-2, arXiv 2307.08691, Algorithm 2). Ring attention (arXiv 2310.01889) rests on the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from .packing import SharedPrefixes


# Queries at a time where no kernel does it: scores of shape (heads, block, keys) are held.
_BLOCK = 512

_HALF = (torch.float16, torch.bfloat16)


def shared_prefix_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, prefixes: SharedPrefixes, scale: float | None = None
) -> torch.Tensor:
    """
    Attention of a packed row.

    Args:
        query (`torch.Tensor` of shape `(1, heads, L, head_dim)`):
            In the layout of transformers' attention functions.
        key, value (`torch.Tensor` of shape `(1, key_value_heads, L, head_dim)`):
            `heads` is a multiple of `key_value_heads`. A `value` may have a smaller `head_dim`.
        prefixes ([`SharedPrefixes`]):
            The layout of the L tokens, see `packing.py`.
        scale (`float`, *optional*):
            Of the scores. Defaults to `head_dim ** -0.5`.

    Returns:
        `torch.Tensor` of shape `(1, L, heads, head_dim of value)`.
    """
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    width, missing = value.size(-1), query.size(-1) - value.size(-1)
    if missing:
        value = F.pad(value, (0, missing))
    scale = query.size(-1) ** -0.5 if scale is None else scale
    with torch.autocast(device, enabled=False):
        out = _Attention.apply(query, key, value, prefixes, scale)
    return out[..., :width].transpose(1, 2)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, prefixes, scale):
        forward = _flash_forward if _has_flash(query) else _piecewise_forward
        out, lse, extra = forward(query, key, value, prefixes, scale)
        ctx.save_for_backward(query, key, value, out, lse, *extra)
        ctx.prefixes, ctx.scale = prefixes, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        query, key, value, out, lse, *extra = ctx.saved_tensors
        backward = _flash_backward if _has_flash(query) else _piecewise_backward
        with torch.autocast(query.device.type, enabled=False):
            grads = backward(grad_out, query, key, value, out, lse, extra, ctx.prefixes, ctx.scale)
        return *grads, None, None


def merge(out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor):
    """Two partial results over disjoint keys as one: `out` of shape `(…, head_dim)`, `lse` of shape `(…)`, float32."""
    total = torch.logaddexp(lse, other_lse)
    merged = out * (lse - total).exp().unsqueeze(-1) + other * (other_lse - total).exp().unsqueeze(-1)
    return merged.to(out.dtype), total


# ---- variable-length kernels of flash attention, on GPUs ------------------------------------------------------------


def _has_flash(query: torch.Tensor) -> bool:
    head_dim = query.size(-1)
    return query.is_cuda and query.dtype in _HALF and head_dim <= 256 and head_dim % 8 == 0


def _rows(x: torch.Tensor) -> torch.Tensor:
    return x[0].transpose(0, 1)  # (1, heads, L, head_dim) -> (L, heads, head_dim)


def _calls(prefixes: SharedPrefixes, device: torch.device):
    """Queries, keys and the other arguments of both calls: pieces with themselves, branches with their prefix."""
    own, branches, prompts = prefixes.offsets(device)
    start = prefixes.prefix_tokens
    longest = max(prefixes.segments)
    yield slice(None), slice(None), (own, own, longest, longest, 0.0, True)
    sizes = (max(prefixes.branch_tokens), max(prefixes.prefixes))
    yield slice(start, None), slice(0, start), (branches, prompts, *sizes, 0.0, False)


def _flash_forward(query, key, value, prefixes, scale):
    q, k, v = _rows(query), _rows(key), _rows(value)
    flash = torch.ops.aten._flash_attention_forward
    parts = []
    for queries, keys, arguments in _calls(prefixes, query.device):
        parts.append(flash(q[queries], k[keys], v[keys], *arguments, False, scale=scale))
    (out, lse, *own), (other, other_lse, *cross) = parts  # out (L, heads, head_dim), lse (heads, L)
    start = prefixes.prefix_tokens
    merged, total = merge(out[start:], lse[:, start:].T, other, other_lse.T)
    out[start:], lse[:, start:] = merged, total.T
    return out.transpose(0, 1)[None], lse, [*own[:2], *cross[:2]]  # with the states of a dropout that is off


def _flash_backward(grad_out, query, key, value, out, lse, states, prefixes, scale):
    q, k, v, out, grad_out = (_rows(x) for x in (query, key, value, out, grad_out))
    flash = torch.ops.aten._flash_attention_backward
    grads = None
    for i, (queries, keys, arguments) in enumerate(_calls(prefixes, query.device)):
        dq, dk, dv = flash(
            grad_out[queries],
            q[queries],
            k[keys],
            v[keys],
            out[queries],
            lse[:, queries].contiguous(),
            *arguments,
            *states[2 * i : 2 * i + 2],
            scale=scale,
        )
        if grads is None:
            grads = dq, dk, dv
        else:
            for total, part, place in zip(grads, (dq, dk, dv), (queries, keys, keys), strict=True):
                total[place] += part
    return tuple(x.transpose(0, 1)[None] for x in grads)


# ---- piece by piece, elsewhere --------------------------------------------------------------------------------------


def _pieces(prefixes: SharedPrefixes) -> Iterator[tuple[slice, slice, bool]]:
    """Queries and keys of each piece, and whether it is causal: with themselves first, then with the prefixes."""
    place = 0
    for length in prefixes.segments:
        yield slice(place, place + length), slice(place, place + length), True
        place += length
    prompt, branch = 0, prefixes.prefix_tokens
    for length, tokens in zip(prefixes.prefixes, prefixes.branch_tokens, strict=True):
        yield slice(branch, branch + tokens), slice(prompt, prompt + length), False
        prompt, branch = prompt + length, branch + tokens


def _piecewise_forward(query, key, value, prefixes, scale):
    attend: Callable = _cpu_forward if query.device.type == "cpu" else _block_forward
    out = torch.empty_like(query)
    lse = query.new_empty(query.shape[:-1], dtype=torch.float32)
    for queries, keys, causal in _pieces(prefixes):
        part, part_lse = attend(query[:, :, queries], key[:, :, keys], value[:, :, keys], causal, scale)
        if not causal:
            part, part_lse = merge(out[:, :, queries], lse[:, :, queries], part, part_lse)
        out[:, :, queries], lse[:, :, queries] = part, part_lse
    return out, lse, []


def _piecewise_backward(grad_out, query, key, value, out, lse, _, prefixes, scale):
    attend: Callable = _cpu_backward if query.device.type == "cpu" else _block_backward
    dtype = query.dtype
    if query.device.type == "cpu":
        # The backward kernel in half precision takes several times as long as the one in float32.
        query, key, value, out, grad_out = (x.float() for x in (query, key, value, out, grad_out))
    grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    for queries, keys, causal in _pieces(prefixes):
        of_queries = (x[:, :, queries] for x in (grad_out, query, out, lse))
        parts = attend(*of_queries, key[:, :, keys], value[:, :, keys], causal, scale)
        for total, part, place in zip(grads, parts, (queries, keys, keys), strict=True):
            if causal:
                total[:, :, place] = part
            else:
                total[:, :, place] += part
    return tuple(grad.to(dtype) for grad in grads)


def _cpu_forward(q, k, v, causal, scale):
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)


def _cpu_backward(grad_out, q, out, lse, k, v, causal, scale):
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return backward(grad_out, q, k, v, out, lse, 0.0, causal, scale=scale)


def _blocks(length: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK))


def _scores(q: torch.Tensor, k: torch.Tensor, block: slice, causal: bool, scale: float) -> torch.Tensor:
    """Scores of a block of queries, `(1, key_value_heads, heads of each, block, keys)`, float32."""
    scores = q[:, :, :, block].float() @ k.float().transpose(-1, -2)[:, :, None] * scale
    if causal:
        place = torch.arange(block.start, block.stop, device=q.device)
        scores.masked_fill_(place[:, None] < torch.arange(k.size(2), device=q.device), float("-inf"))
    return scores


def _block_forward(q, k, v, causal, scale):
    """As the kernels, in plain operations: for float32 on GPUs and for devices without a kernel."""
    shape = q.shape
    q = q.unflatten(1, (k.size(1), -1))
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)
    for block in _blocks(q.size(3)):
        scores = _scores(q, k, block, causal, scale)
        lse[:, :, :, block] = scores.logsumexp(dim=-1)
        out[:, :, :, block] = (scores.softmax(dim=-1) @ v.float()[:, :, None]).to(q.dtype)
    return out.view(shape), lse.view(shape[:-1])


def _block_backward(grad_out, q, out, lse, k, v, causal, scale):
    shape = q.shape
    grad_out, q, out, lse = (x.unflatten(1, (k.size(1), -1)) for x in (grad_out, q, out, lse))
    dq, dk, dv = (
        torch.empty_like(q),
        torch.zeros_like(k, dtype=torch.float32),
        torch.zeros_like(v, dtype=torch.float32),
    )
    for block in _blocks(q.size(3)):
        grad, own = grad_out[:, :, :, block].float(), q[:, :, :, block].float()
        probabilities = (_scores(q, k, block, causal, scale) - lse[:, :, :, block, None]).exp()
        inner = (grad * out[:, :, :, block].float()).sum(dim=-1, keepdim=True)
        of_scores = probabilities * (grad @ v.float().transpose(-1, -2)[:, :, None] - inner) * scale
        dq[:, :, :, block] = (of_scores @ k.float()[:, :, None]).to(q.dtype)
        dk += (of_scores.transpose(-1, -2) @ own).sum(dim=2)
        dv += (probabilities.transpose(-1, -2) @ grad).sum(dim=2)
    return dq.view(shape), dk.to(k.dtype), dv.to(v.dtype)
