import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_rows import batch_of

from qwenlong_trl.prefix_sharing import SharedPrefixes, pack_rows, packing


GROUPS = st.lists(
    st.tuples(st.integers(2, 9), st.lists(st.integers(0, 6), min_size=1, max_size=4)), min_size=1, max_size=4
).filter(lambda groups: any(max(lengths) > 0 for _, lengths in groups))


def pack(batch):
    return pack_rows(batch["input_ids"], batch["attention_mask"], batch["labels"])


def test_the_drawing_of_the_module():
    """Three completions of 4, 3 and 3 tokens behind a prompt of 5, as drawn."""
    packed = pack(batch_of([(5, [4, 3, 3])]))
    layout = packed.prefixes
    assert (layout.prefixes, layout.branches, layout.tokens) == ([4], [[4, 3, 3]], 14)
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 4, 5, 6]]
    drawn = [line.count("■") for line in packing.__doc__.splitlines() if "■" in line]
    assert drawn == layout.mask(torch.device("cpu")).sum(dim=1).tolist()


@settings(max_examples=150, deadline=None)
@given(groups=GROUPS, seed=st.integers(0, 99), shuffle=st.booleans(), side=st.sampled_from(["left", "right"]))
def test_every_prediction_has_its_context(groups, seed, shuffle, side):
    """Walking back through what each packed token sees gives the row that it came from, token by token."""
    batch = batch_of(groups, seed, shuffle, side)
    packed = pack(batch)
    ids, mask, labels = (batch[name] for name in ("input_ids", "attention_mask", "labels"))
    prompts = [tuple(row[(m == 1) & (t == -100)].tolist()) for row, m, t in zip(ids, mask, labels, strict=True)]
    scored = (labels != -100).any(dim=1)
    if packed is None:
        shared = [p for p, s in zip(prompts, scored, strict=True)]
        assert len(set(shared)) == len(shared)
        return
    seen = packed.prefixes.mask(torch.device("cpu"))
    assert packed.input_ids.shape == packed.position_ids.shape == packed.labels.shape == (1, len(seen))
    predicted = 0
    for row, column, source in zip(
        packed.rows.tolist(), packed.columns.tolist(), packed.sources.tolist(), strict=True
    ):
        context = ids[row, :column][mask[row, :column] == 1]
        assert torch.equal(packed.input_ids[0, seen[source]], context)
        assert torch.equal(packed.position_ids[0, seen[source]], torch.arange(len(context)))
        assert packed.labels[0, source] == labels[row, column]
        predicted += 1
    assert predicted == int((labels != -100).sum())
    assert int((packed.labels != -100).sum()) == predicted
    # Each prompt once, one more token for every completion but for its last, one for an empty one.
    distinct = dict.fromkeys(prompts)
    lengths = [max(int((t != -100).sum()), 1) for t in labels]
    assert len(seen) == sum(len(p) - 1 for p in distinct) + sum(lengths)
    assert packed.row_tokens == int(mask.sum())


def test_unpacked_values_stand_where_a_model_would_put_them():
    batch = batch_of([(4, [2, 3]), (3, [1])])
    packed = pack(batch)
    marked = packed.unpack(torch.where(packed.labels == -100, 0, packed.labels), (3, 6))
    assert torch.equal(marked, batch["labels"][:, 1:].masked_fill(batch["labels"][:, 1:] == -100, 0))


@pytest.mark.parametrize(
    "groups", [[(4, [3])], [(4, [3]), (4, [2]), (6, [1])], [(1, [2, 2])], [(1, [2]), (4, [2, 2])]]
)
def test_nothing_is_packed_where_nothing_is_shared_or_a_prompt_is_too_short(groups):
    assert pack(batch_of(groups)) is None


def test_padding_in_the_middle_is_left_to_the_model():
    batch = batch_of([(5, [3, 3])])
    for column in (2, 6):
        holed = {name: value.clone() for name, value in batch.items()}
        holed["attention_mask"][0, column] = 0
        assert pack(holed) is None


def test_masked_labels_within_a_completion_are_context_only():
    """Tokens of a tool, for example: seen by what follows, not predicted."""
    batch = batch_of([(4, [5, 5])])
    batch["labels"][:, 6] = -100
    packed = pack(batch)
    assert int((packed.labels != -100).sum()) == 8
    assert packed.prefixes.branches == [[5, 5]]


def test_offsets_of_variable_length_kernels():
    layout = SharedPrefixes([3, 2], [[2, 1], [4]])
    own, branches, prefixes = layout.offsets(torch.device("cpu"))
    assert own.tolist() == [0, 3, 5, 7, 8, 12] and own.dtype == torch.int32
    assert (branches.tolist(), prefixes.tolist()) == ([0, 3, 7], [0, 3, 5])
    assert np.diff(own).tolist() == layout.segments
