"""The loss of both heads against plain sums, its normalisation, and which outside tokens count in a step."""

import pytest
import torch
from cprs_tiny import tiny_critic
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from qwenlong_trl.cprs.trainer import outside_to_drop


TOKENS = torch.randint(1, 400, (2, 12), generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[-100, -100, 2, 2, 0, 1, 1, 3, 2, 2, 2, 2], [-100, 2, 0, 2, 2, -100, 2, 2, 0, 3, -100, -100]])
TAGS = torch.where(LABELS == -100, -100, torch.where(LABELS == 2, 9, 7))


def losses_of(model):
    """Of each labelled token: position and tag cross entropy, unweighted."""
    with torch.no_grad():
        output = model(TOKENS, tag_ids=torch.arange(400))
    keep = LABELS != -100
    position = F.cross_entropy(output.logits[keep], LABELS[keep], reduction="none")
    tag = F.cross_entropy(output.tag_logits[keep], TAGS[keep], reduction="none")
    return position.double(), tag.double(), LABELS[keep]


def test_cross_entropy_is_the_mean_over_labelled_tokens():
    model = tiny_critic()
    position, tag, _ = losses_of(model)
    assert model(TOKENS, labels=LABELS).loss.item() == pytest.approx(position.mean().item(), rel=1e-5)
    both = model(TOKENS, labels=LABELS, tag_labels=TAGS).loss.item()
    assert both == pytest.approx((position + tag).mean().item(), rel=1e-5)


def test_class_weights():
    weights = torch.tensor([10.0, 2.0, 0.5, 10.0])
    model = tiny_critic(position_weights=weights.tolist(), outside_tag_weight=0.25, tag_loss_weight=0.5)
    position, tag, labels = losses_of(model)
    expected = (weights[labels] * position).mean() + 0.5 * (torch.where(labels == 2, 0.25, 1.0) * tag).mean()
    assert model(TOKENS, labels=LABELS, tag_labels=TAGS).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_probability_is_free_of_the_class_weight():
    weights = torch.tensor([10.0, 2.0, 0.5, 10.0])
    model = tiny_critic(position_loss="focal", focal_gamma=2.0, position_weights=weights.tolist())
    position, _, labels = losses_of(model)
    expected = (weights[labels] * (1 - torch.exp(-position)) ** 2 * position).mean()
    assert model(TOKENS, labels=LABELS).loss.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = tiny_critic(position_loss="focal", focal_gamma=0.0)
    assert plain(TOKENS, labels=LABELS).loss.item() == pytest.approx(position.mean().item(), rel=1e-5)


def test_parts_of_a_batch_add_up_to_the_whole():
    model = tiny_critic()
    count = (LABELS != -100).sum()
    whole = model(TOKENS, labels=LABELS, tag_labels=TAGS).loss
    parts = sum(
        model(TOKENS[i : i + 1], labels=LABELS[i : i + 1], tag_labels=TAGS[i : i + 1], num_items_in_batch=count).loss
        for i in range(2)
    )
    torch.testing.assert_close(parts, whole)


def test_without_its_weight_the_tag_critic_is_not_run():
    model = tiny_critic(tag_loss_weight=0.0)
    model.lm_head.register_forward_pre_hook(lambda *_: pytest.fail("the LM head was run"))
    position, _, _ = losses_of(tiny_critic())
    loss = model(TOKENS, labels=LABELS, tag_labels=TAGS).loss.item()
    assert loss == pytest.approx(position.mean().item(), rel=1e-5)


def test_a_batch_without_labels_has_a_loss_of_zero():
    model = tiny_critic()
    nothing = torch.full_like(LABELS, -100)
    loss = model(TOKENS, labels=nothing, tag_labels=nothing, num_items_in_batch=5).loss
    assert loss.item() == 0.0
    loss.backward()


@given(st.lists(st.sampled_from([-100, 0, 1, 2, 3]), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 2**32))
def test_what_may_be_dropped(row, rate, seed):
    labels = torch.tensor([row])
    dropped = outside_to_drop(labels, rate, torch.Generator().manual_seed(seed))[0].tolist()
    for i, (label, out) in enumerate(zip(row, dropped, strict=True)):
        neighbours = row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
        if out:
            assert label == 2 and not {0, 1, 3} & set(neighbours)
        elif rate == 1 and label == 2:
            assert {0, 1, 3} & set(neighbours)
    if rate == 0:
        assert not any(dropped)


def test_the_share_that_is_dropped():
    labels = torch.full((4, 5000), 2)
    dropped = outside_to_drop(labels, 0.5, torch.Generator().manual_seed(0))
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.02)
    again = outside_to_drop(labels, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(dropped, again)
    assert not torch.equal(dropped, outside_to_drop(labels, 0.5, torch.Generator().manual_seed(1)))
