import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenlong_trl.prefix_sharing.regroup import arrange, regroup


def meetings(groups, order, batches):
    """How many different groups each part has, summed: what a pass over them computes prompts for."""
    size = len(groups) // batches
    return sum(len({groups[row] for row in order[i * size : (i + 1) * size]}) for i in range(batches))


@settings(max_examples=200, deadline=None)
@given(batches=st.integers(1, 6), size=st.integers(1, 8), names=st.integers(1, 8), data=st.data())
def test_rows_are_exchanged_and_never_scattered_more(batches, size, names, data):
    groups = data.draw(st.lists(st.integers(0, names), min_size=batches * size, max_size=batches * size))
    order = arrange(groups, batches)
    assert sorted(order) == list(range(batches * size))
    # No order does with fewer than this, and a group is cut only where parts are full.
    least = sum(-(-groups.count(g) // size) for g in set(groups))
    found = meetings(groups, order, batches)
    assert least <= found <= len(set(groups)) + batches - 1


@pytest.mark.parametrize(("batches", "size", "group"), [(4, 8, 8), (4, 8, 4), (8, 4, 8), (2, 16, 8), (8, 1, 8)])
def test_whole_groups_meet_where_they_fit(batches, size, group):
    count = batches * size // group
    groups = [row % count for row in range(batches * size)]  # scattered
    assert meetings(groups, arrange(groups, batches), batches) == batches * max(1, size // group)


def window(batches=4, size=4, group=4, seed=0):
    """What TRL buffers: shuffled rows in micro-batches."""
    torch.manual_seed(seed)
    rows = batches * size
    prompts = torch.randint(3, 50, (rows // group, 5)).repeat_interleave(group, dim=0)
    order = torch.randperm(rows)
    batch = {
        "prompt_ids": prompts[order],
        "prompt_mask": torch.ones(rows, 5, dtype=torch.long),
        "completion_ids": torch.arange(rows)[order][:, None].repeat(1, 3),
        "advantages": torch.arange(rows)[order].float(),
    }
    parts = [{name: value[i * size : (i + 1) * size] for name, value in batch.items()} for i in range(batches)]
    return [part | {"num_items_in_batch": torch.tensor(7.0), "nothing": None} for part in parts]


def rows_of(batches):
    return sorted(row for batch in batches for row in batch["advantages"].tolist())


@pytest.mark.parametrize("accumulation", [1, 2, 3, 4, 6, 8, 12])
def test_an_optimizer_step_keeps_its_rows(accumulation):
    before = window()
    after = regroup(before, accumulation)
    for first in range(0, 4 * accumulation, 4):  # the micro-step at which a pass over the window begins
        steps = {(first + i) // accumulation for i in range(4)}
        for step in steps:
            own = [i for i in range(4) if (first + i) // accumulation == step]
            assert rows_of([after[i] for i in own]) == rows_of([before[i] for i in own])
    for batch in after:
        assert torch.equal(batch["completion_ids"][:, 0].float(), batch["advantages"])  # rows stay whole
        assert batch["num_items_in_batch"] == 7 and batch["nothing"] is None
        assert list(batch) == list(before[0])


def test_groups_meet_within_a_step():
    after = regroup(window(), 4)
    assert all(len(batch["prompt_ids"].unique(dim=0)) == 1 for batch in after)
    before = window()
    assert any(len(batch["prompt_ids"].unique(dim=0)) > 1 for batch in before)


def test_padding_tells_prompts_apart():
    """Equal tokens of which some are padding are another prompt."""
    before = window(batches=2, size=2, group=4)
    before[0]["prompt_mask"] = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    before[1]["prompt_mask"] = before[0]["prompt_mask"].clone()
    after = regroup(before, 2)
    assert [len(batch["prompt_mask"].unique(dim=0)) for batch in after] == [1, 1]


@pytest.mark.parametrize(
    "extra", [{"images": [None] * 4}, {"pixel_values": torch.zeros(9, 2)}], ids=["list", "tensor"]
)
def test_what_belongs_to_no_row_leaves_the_window_alone(extra):
    before = [batch | extra for batch in window()]
    after = regroup(before, 4)
    assert all(a is b for a, b in zip(after, before, strict=True))
