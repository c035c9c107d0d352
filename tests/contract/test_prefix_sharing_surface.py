"""What `qwenlong_trl.prefix_sharing` relies on in TRL, transformers and PyTorch without a promise.

One test for each. When a new version fails one, its docstring says what we need it for and what to change in our code.
"""

import pytest
import torch
from observed import Observed, make
from tiny import tiny_model
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import Cache, DynamicLayer
from trl.trainer.utils import add_fused_lm_head


@pytest.fixture
def seen():
    """What attention layers are called with, noted by the function that "sdpa" stands for."""
    calls = []
    original = AttentionInterface()["sdpa"]

    def noting(module, query, key, value, attention_mask, **kwargs):
        calls.append({"module": module, "query": query, "key": key, "attention_mask": attention_mask, **kwargs})
        kwargs.pop("of_the_caller", None)
        return original(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("sdpa", noting)
    yield calls
    AttentionInterface.register("sdpa", original)


def test_a_registered_attention_function_is_what_layers_call(seen):
    """`attach` replaces the function of a model's implementation, which its layers look up at every call.

    If layers keep what they found once: attach before the model is built, or replace it in the layers.
    """
    model = tiny_model()
    assert model.config._attn_implementation == "sdpa"
    ids = torch.tensor([[4, 5, 6, 7]])
    model(ids)
    assert [call["module"] for call in seen] == [layer.self_attn for layer in model.model.layers]
    assert seen[0]["query"].shape == (1, 2, 4, 8) and seen[0]["key"].shape == (1, 1, 4, 8)
    assert seen[0]["scaling"] == 8**-0.5 and seen[0]["module"].is_causal and seen[1]["module"].layer_idx == 1


def test_a_mask_of_four_dimensions_goes_through_as_it_is(seen):
    """A packed row hands in one number, so that no mask is built of positions that start again.

    If a mask is checked or built all the same: find how to hand in a layout, and change `layout_arguments`.
    """
    model, mask = tiny_model(), torch.ones(1, 1, 1, 1)
    model(torch.tensor([[4, 5, 6, 7]]), position_ids=torch.tensor([[0, 1, 0, 1]]), attention_mask=mask)
    assert all(call["attention_mask"] is mask for call in seen)


def test_keyword_arguments_reach_the_attention_function(seen):
    """The layout of a packed row travels as one, also when gradient checkpointing computes a layer again.

    If they are stopped or checked on the way: models would be found not to be exact; another way is needed.
    """
    model = tiny_model()
    model.activation_checkpointing_enable()
    model.train()
    add_fused_lm_head(model)
    mark, ids = object(), torch.tensor([[4, 5, 6, 7]])
    outputs = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, fused_lm_head=True, of_the_caller=mark
    )
    outputs.loss.backward()
    assert len(seen) == 4 and all(call["of_the_caller"] is mark for call in seen)


def test_shift_labels_are_scored_without_shifting():
    """Each position of a packed row comes with the label that it predicts.

    If they are shifted now, or gone: pack `labels` one position later.
    """
    model = tiny_model()
    add_fused_lm_head(model)
    ids = torch.tensor([[4, 5, 6, 7]])
    labels = torch.tensor([[-100, 9, 8, -100]])
    with torch.no_grad():
        outputs = model(input_ids=ids, shift_labels=labels, fused_lm_head=True)
        expected = model(ids).logits.log_softmax(-1)
    assert outputs.log_probs.shape == outputs.label_mask.shape == (1, 4)
    torch.testing.assert_close(outputs.log_probs[0, 1:3], expected[0, [1, 2], [9, 8]])
    assert outputs.log_probs[0, [0, 3]].tolist() == [0, 0]


def test_models_are_called_with_these_arguments_alone(tmp_path):
    """A scorer takes the place of the model in `_get_per_token_logps_and_entropies`.

    If other arguments come, or other fields are read: take them into `SharedPrefixForward`.
    """
    trainer = make(tmp_path, max_steps=1)
    calls = []

    def model(**arguments):
        calls.append(set(arguments))
        return trainer.model(**arguments)

    ids = torch.tensor([[4, 5, 6, 7], [4, 5, 7, 6]])
    arguments = (ids, torch.ones_like(ids), 2)
    with torch.no_grad():
        ours = trainer._get_per_token_logps_and_entropies(model, *arguments, batch_size=1, compute_entropy=True)
        theirs = trainer._get_per_token_logps_and_entropies(trainer.model, *arguments, compute_entropy=True)
    assert calls == [{"input_ids", "attention_mask", "labels", "fused_lm_head"}] * 2
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(mine, other)


class Buffering(Observed):
    def _prepare_inputs(self, batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(batch)
        self.note("prepare", before=before, after=self._buffered_inputs, inputs=inputs)
        return inputs


def test_buffered_inputs(tmp_path):
    """`_prepare_inputs` makes a new list of micro-batches of each window, which we regroup, and takes one by `_step`.

    If it is kept under another name or form: follow it in `PrefixSharingMixin._prepare_inputs`.
    """
    trainer = Buffering(**_arguments(tmp_path))
    trainer.train()
    for step, _, values in trainer.calls("prepare"):
        assert (values["after"] is values["before"]) == (step % 2 == 1)
        assert values["inputs"] is values["after"][step % 2]
        assert {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask"} <= set(values["inputs"])
    assert trainer._entropy_bonus_enabled is False and trainer.top_entropy_quantile == 1.0
    assert trainer.aux_loss_enabled is False and trainer._is_vlm is False


def _arguments(folder):
    trainer = make(folder, max_steps=2, save_strategy="no")
    return {
        "model": trainer.model,
        "reward_funcs": trainer.reward_funcs,
        "args": trainer.args,
        "train_dataset": trainer.train_dataset,
        "processing_class": trainer.processing_class,
    }


def test_generate_is_called_on_the_unwrapped_model(tmp_path):
    """While completions are sampled, the model's `generate` is replaced by one that reads equal prompts once.

    If another object or other arguments are used: follow them in `PrefixSharingMixin._shared_generate`.
    """
    trainer = make(tmp_path, max_steps=1)
    calls = []
    generate = trainer.model.generate

    def noting(**arguments):
        calls.append(arguments)
        return generate(**arguments)

    trainer.accelerator.unwrap_model(trainer.model_wrapped).generate = noting
    trainer.train()
    assert [set(call) for call in calls] == [{"input_ids", "attention_mask", "generation_config"}]
    assert calls[0]["generation_config"] is trainer.generation_config


def test_layers_of_a_cache():
    """`SharedPrefixCache` is a `DynamicCache` of layers of its own, whose length counts the prompt.

    If lengths or sizes of masks come from elsewhere: override that, too.
    """

    class Longer(DynamicLayer):
        def get_seq_length(self):
            return 5 + super().get_seq_length()

    class Own(DynamicCache):
        def __init__(self, layers):
            Cache.__init__(self, layers=layers)

    cache = Own([Longer(), Longer()])
    assert cache.get_seq_length() == 5
    keys, values = cache.update(torch.ones(2, 1, 3, 4), torch.ones(2, 1, 3, 4), 1)
    assert keys.shape == values.shape == (2, 1, 3, 4)
    assert cache.get_seq_length(1) == 8 and cache.get_mask_sizes(1, 1)[0] == 9


def test_the_backward_kernel_takes_a_merged_result():
    """The kernel of CPUs needs the result and its log-sum-exp, and asks for nothing else of the forward pass.

    If it has gone or changed: `_block_forward` and `_block_backward` do the same in plain operations.
    """
    aten, generator = torch.ops.aten, torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, 8, generator=generator) for n in (3, 6, 6))
    parts = [
        aten._scaled_dot_product_flash_attention_for_cpu(q, k[:, :, i], v[:, :, i]) for i in (slice(2), slice(2, 6))
    ]
    lse = torch.logaddexp(parts[0][1], parts[1][1])
    out = sum(part * (own - lse).exp().unsqueeze(-1) for part, own in parts)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(out, expected)
    grad = torch.randn(expected.shape, generator=generator)
    wanted = torch.autograd.grad(expected, (q, k, v), grad)
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
    found = [
        backward(grad, q, k[:, :, i], v[:, :, i], out, lse, 0.0, False, scale=8**-0.5) for i in (slice(2), slice(2, 6))
    ]
    torch.testing.assert_close(found[0][0] + found[1][0], wanted[0])
    for i in (1, 2):
        torch.testing.assert_close(torch.cat([found[0][i], found[1][i]], dim=2), wanted[i])
