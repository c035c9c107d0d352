"""How TRL computes a loss, as far as `qwenlong_trl.phased_grpo` relies on it without a promise.

One test for each private or undocumented name. When a new version fails one, its docstring says what we need the name
for and what to change in our code.
"""

import inspect
import math

import pytest
import torch
from observed import parameters_of
from peft import LoraConfig, get_peft_model
from tiny import tiny_model
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from qwenlong_trl.phased_grpo.masked_loss import forget_last
from qwenlong_trl.phased_grpo.phase import _CHOICES, LIVE_ATTRIBUTES


def test_tool_mask_takes_tokens_out_of_the_loss(loss):
    """Masked groups leave the loss by `tool_mask`, since the completion mask is also the attention mask.

    If the key has gone: find the mask that the loss multiplies with, and set it in `mask_rows`.
    """
    nothing = torch.zeros_like(loss.batch["completion_mask"])
    assert loss() != 0
    assert loss({"tool_mask": nothing}) == 0
    assert loss({"tool_mask": nothing + 1}) == loss()


def test_num_items_in_batch_normalises_the_window(loss, trained):
    """`_mask` counts the tokens of the live groups anew, over all processes and the whole window.

    If another count is read: compute that one in `_mask`.
    """
    items = loss.batch["num_items_in_batch"]
    whole = trained.calls("generate")[0][2]["output"]
    assert items == whole["completion_mask"].sum()
    assert loss({"num_items_in_batch": items / 2}, loss_type="dapo") == pytest.approx(2 * loss(loss_type="dapo"))
    assert loss({"num_items_in_batch": items / 2}, loss_type="grpo") == loss(loss_type="grpo")


@pytest.mark.parametrize("loss_type", _CHOICES["loss_type"])
def test_metrics_of_a_micro_batch(loss, trained, loss_type):
    """Where no token is left, means over a micro-batch are 0 (a ratio of 1); `masked_loss` makes this value NaN.

    If a mean is NaN by itself now: drop it from `_MEANS`. If the names changed, or another is 0: follow them there.
    """
    nothing = torch.zeros_like(loss.batch["completion_mask"])
    trained._metrics["train"].clear()
    loss({"tool_mask": nothing}, loss_type=loss_type, beta=0.1)
    means = dict(trained._metrics["train"])
    ratios = [name for name in means if name.startswith("clip_ratio/")]
    assert set(means) == {"entropy", "kl", *ratios} | set(means) & {"cispo_clip_ratio", "vespo/phi_seq_mean"}
    assert len(means) > 2 or loss_type == "sapo"
    for name, values in means.items():
        if name in ("clip_ratio/low_min", "clip_ratio/high_max"):
            assert math.isnan(values[0])
        else:
            assert values == [1.0 if name == "vespo/phi_seq_mean" else 0.0], name
    forget_last(means)
    assert all(math.isnan(values[-1]) for values in means.values())
    trained._metrics["train"].clear()


def test_beta_is_read_with_every_loss(loss):
    """`_compute_loss` scales it while a masked batch is computed.

    If it is read from elsewhere: scale it there.
    """
    one, two, three = (loss(beta=beta) for beta in (0.1, 0.2, 0.3))
    assert one != loss()
    assert three - two == pytest.approx(two - one, rel=1e-3)


@pytest.mark.parametrize("loss_type", _CHOICES["loss_type"])
def test_loss_types(loss, loss_type):
    """A phase may choose among them, so all of them, and no others, are accepted here.

    If one has gone or is new: change `_CHOICES` in `phase.py`, and `_ROW_NORMALISED` if it averages over rows.
    """
    assert loss(loss_type=loss_type) != 0
    with pytest.raises(ValueError, match="Unknown loss type"):
        loss(loss_type="none of these")


@pytest.mark.parametrize("attribute", LIVE_ATTRIBUTES.values())
def test_live_attributes(trained, attribute):
    """Settings of a phase are set on the trainer, which reads them at every step.

    If one is read when the trainer is built: move it from `LIVE_ATTRIBUTES` to `FROZEN_IN_A_PHASE`.
    """
    assert hasattr(trained, attribute)
    methods = (GRPOTrainer._compute_loss, GRPOTrainer._generate_and_score_completions)
    assert any(f"self.{attribute}" in inspect.getsource(method) for method in methods)


def test_per_token_logps_and_entropies(trained):
    """`StartPolicy` scores rollouts with it, under the policy and under the start.

    If the parameters or the three results changed: follow them in `StartPolicy.measure`.
    """
    names = parameters_of(GRPOTrainer._get_per_token_logps_and_entropies)
    assert names[:7] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
    ]
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        log_probs, entropies, _ = trained._get_per_token_logps_and_entropies(
            trained.model, ids, torch.ones_like(ids), 2, batch_size=1, compute_entropy=True
        )
        expected = trained.model(ids).logits[:, :-1].log_softmax(-1)  # temperature 1
    torch.testing.assert_close(log_probs, expected.gather(2, ids[:, 1:, None])[:, 1:, 0])
    torch.testing.assert_close(entropies, -(expected.exp() * expected).sum(-1)[:, 1:])


def test_disable_gradient_checkpointing():
    """`StartPolicy` scores without recomputation, and training goes on with it.

    If it has gone: leave it out; it only saves time.
    """
    model = tiny_model()
    model.gradient_checkpointing_enable()
    with disable_gradient_checkpointing(model, None):
        assert not model.is_gradient_checkpointing
    assert model.is_gradient_checkpointing


def test_use_adapter():
    """Without a name the adapter is off, and the model is the one that training started with.

    If it has gone: use PEFT's `disable_adapter()`.
    """
    torch.manual_seed(0)
    base = tiny_model()
    ids = torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        expected = base(ids).logits
        model = get_peft_model(base, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
        assert not torch.equal(model(ids).logits, expected)
        with use_adapter(model, adapter_name=None):
            assert torch.equal(model(ids).logits, expected)
        assert not torch.equal(model(ids).logits, expected)
