"""Attention over packed rows against the same with the mask spelled out."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_rows import relative_difference

from qwenlong_trl.prefix_sharing import SharedPrefixes, attention
from qwenlong_trl.prefix_sharing.attention import merge, shared_prefix_attention


LAYOUTS = [([5], [[3, 4, 1]]), ([1], [[1]]), ([7, 600], [[3, 4, 1], [1, 700]])]
LAYOUT = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 7), min_size=1, max_size=5)), min_size=1, max_size=4
).map(lambda groups: ([p for p, _ in groups], [b for _, b in groups]))


def tensors(layout, heads=4, shared=2, head_dim=16, value_dim=None, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    sizes = [(heads, head_dim), (shared, head_dim), (shared, value_dim or head_dim)]
    return [torch.randn(1, n, layout.tokens, d).to(dtype).requires_grad_() for n, d in sizes]


def with_a_mask(q, k, v, layout, scale=None):
    repeats = q.size(1) // k.size(1)
    k, v = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    mask = layout.mask(q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)


def compare(layout, relative=2e-6, scale=None, **kwargs):
    inputs = tensors(layout, **kwargs)
    found = shared_prefix_attention(*inputs, layout, scale)
    expected = with_a_mask(*inputs, layout, scale)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert relative_difference(found, expected) < relative
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        # A query that sees one token has no gradient but rounding.
        assert (mine - other).norm() < relative * other.norm() + 1e-5


@pytest.fixture(params=["kernel", "blocks"])
def way(request, monkeypatch):
    """The processor's kernel, and the plain operations for where there is none."""
    if request.param == "blocks":
        monkeypatch.setattr(attention, "_cpu_forward", attention._block_forward)
        monkeypatch.setattr(attention, "_cpu_backward", attention._block_backward)
    return request.param


@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_equal_to_attention_with_a_mask(way, layout, shared):
    compare(SharedPrefixes(*layout), shared=shared)


@settings(max_examples=60, deadline=None)
@given(layout=LAYOUT, seed=st.integers(0, 99), scale=st.sampled_from([None, 0.3]))
def test_any_layout(layout, seed, scale):
    compare(SharedPrefixes(*layout), seed=seed, scale=scale)


def test_values_narrower_than_queries(way):
    compare(SharedPrefixes(*LAYOUTS[0]), value_dim=8)


def test_half_precision(way):
    compare(SharedPrefixes(*LAYOUTS[2]), dtype=torch.bfloat16, relative=1e-2)


def test_autocast_and_mixed_types():
    """Norms of queries and keys may leave them in float32 where values are not."""
    layout = SharedPrefixes(*LAYOUTS[0])
    q, k, v = tensors(layout)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert shared_prefix_attention(q, k, v, layout).dtype == torch.bfloat16
    out = shared_prefix_attention(q, k, v.bfloat16(), layout)
    assert out.dtype == torch.bfloat16
    assert relative_difference(out, with_a_mask(q, k, v, layout)) < 1e-2


def test_merge_of_disjoint_keys():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 8), torch.randn(10, 8), torch.randn(10, 4)
    parts = [(s.softmax(-1) @ v[i], s.logsumexp(-1)) for i in (slice(4), slice(4, 10)) for s in [q @ k[i].T]]
    out, lse = merge(*parts[0], *parts[1])
    torch.testing.assert_close(out, (q @ k.T).softmax(-1) @ v)
    torch.testing.assert_close(lse, (q @ k.T).logsumexp(-1))


# ---- the kernels of GPUs: plain operations with the same arguments and results take their place --------------------


def pieces(cu_q, cu_k):
    ends = zip(cu_q.tolist()[:-1], cu_q.tolist()[1:], cu_k.tolist()[:-1], cu_k.tolist()[1:], strict=True)
    return [(slice(a, b), slice(c, d)) for a, b, c, d in ends]


def plain_forward(q, k, v, cu_q, cu_k, max_q, max_k, dropout, causal, debug, *, scale):
    assert dropout == 0.0 and not debug
    assert max_q == int(cu_q.diff().max()) and max_k == int(cu_k.diff().max())
    assert (int(cu_q[-1]), int(cu_k[-1])) == (len(q), len(k))
    out, lse = torch.empty_like(q), q.new_empty((q.size(1), len(q)), dtype=torch.float32)
    for queries, keys in pieces(cu_q, cu_k):
        part = (x[i].transpose(0, 1)[None] for x, i in ((q, queries), (k, keys), (v, keys)))
        o, s = attention._block_forward(*part, causal, scale)
        out[queries], lse[:, queries] = o[0].transpose(0, 1), s[0]
    return out, lse, torch.tensor(7), torch.tensor(8 if causal else 9), torch.empty(0)


def plain_backward(grad, q, k, v, out, lse, cu_q, cu_k, max_q, max_k, dropout, causal, state, unused, *, scale):
    assert (state.item(), unused.item()) == (7, 8 if causal else 9)  # of the forward pass with the same queries
    grads = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for queries, keys in pieces(cu_q, cu_k):
        of_q = (x[queries].transpose(0, 1)[None] for x in (grad, q, out))
        of_k = (x[keys].transpose(0, 1)[None] for x in (k, v))
        g, own, o = of_q
        parts = attention._block_backward(g, own, o, lse[None, :, queries], *of_k, causal, scale)
        for total, part, place in zip(grads, parts, (queries, keys, keys), strict=True):
            total[place] = part[0].transpose(0, 1)
    return grads


@pytest.mark.parametrize("layout", LAYOUTS[:2] + [([3, 4], [[2, 5], [1, 1, 3]])], ids=str)
def test_two_calls_of_a_variable_length_kernel(monkeypatch, layout):
    monkeypatch.setattr(attention, "_has_flash", lambda query: True)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", plain_forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", plain_backward)
    compare(SharedPrefixes(*layout))


def test_the_kernels_of_gpus_take_our_arguments():
    """Shapes and types alone, which need no GPU: the signatures are those of the installed PyTorch."""
    layout = SharedPrefixes([64, 32], [[8, 16], [24]])
    q, k, v = (torch.empty(1, n, layout.tokens, 64, device="meta", dtype=torch.bfloat16) for n in (4, 2, 2))
    out, lse, states = attention._flash_forward(q, k, v, layout, 0.125)
    assert out.shape == q.shape and lse.shape == (4, layout.tokens) and lse.dtype == torch.float32
    grads = attention._flash_backward(torch.empty_like(out), q, k, v, out, lse, states, layout, 0.125)
    assert [grad.shape for grad in grads] == [q.shape, k.shape, v.shape]
