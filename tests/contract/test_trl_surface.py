"""How TRL generates and scores a window, as far as `qwenlong_trl.phased_grpo` relies on it without a promise.

One test for each private or undocumented name. When a new version fails one, its docstring says what we need the name
for and what to change in our code.
"""

import copy
import inspect

import pytest
import torch
from observed import Observed, make, parameters_of
from trl import GRPOTrainer
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict


def test_generate_and_score_completions(trained):
    """We replace its `inputs` by the rows of our window, and edit the dictionary it returns (masking, resampling).

    If the parameters or keys changed: follow them in `_roll_out`, `mask_rows` and `replace_rows`.
    """
    assert parameters_of(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    calls = trained.calls("generate")
    assert [step for step, _, _ in calls] == [0, 2, 4]  # once per window of two micro-steps
    for _, _, values in calls:
        assert [set(row) for row in values["inputs"]] == [{"id", "prompt"}] * 8
        output = values["output"]
        assert {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages"} < set(output)
        rows = {name: value.shape[0] for name, value in output.items() if value.dim() > 0}
        assert set(rows.values()) == {8}
        assert output["num_items_in_batch"].dim() == 0


def test_padding_sides(trained):
    """`replace_rows` pads prompts on the left and everything else on the right, as TRL does.

    If the sides changed: change `_LEFT_PADDED`.
    """
    output = trained.calls("generate")[0][2]["output"]
    assert (output["prompt_mask"].diff(dim=1) >= 0).all()
    assert (output["completion_mask"].diff(dim=1) <= 0).all()


def test_calculate_rewards(trained):
    """It gives us the raw value of every reward function for every rollout, gathered, in the order of the inputs.

    If it returns weighted or local values: gather, or take the raw values from elsewhere, in our `_calculate_rewards`.
    """
    names = ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert parameters_of(GRPOTrainer._calculate_rewards) == names
    for _, _, values in trained.calls("rewards"):
        assert values["rewards"].shape == (8, 2)
        assert set(values["rewards"][:, 0].tolist()) <= {0.0, 1.0}
        assert values["rewards"][:, 1].tolist() == [3.0] * 8
        assert [row["prompt"] for row in values["inputs"]] == values["prompts"]
        assert all(1 <= len(ids) <= 4 for ids in values["ids"])  # not padded


def test_groups_are_contiguous(trained):
    """`live_groups` cuts the rollouts into consecutive groups of `num_generations`.

    If rollouts are interleaved: undo it where `Rollouts` are filled.
    """
    prompts = trained.calls("rewards")[0][2]["prompts"]
    assert prompts[::2] == prompts[1::2]
    assert len(set(prompts)) == 4


def test_tokenize_prompts(trained):
    """We call it on one prompt per group and repeat the result.

    If it returns something else: follow it in our `_tokenize_prompts`, or drop ours, which only saves time.
    """
    assert parameters_of(GRPOTrainer._tokenize_prompts) == ["self", "prompts"]
    ids, images, fields = trained._tokenize_prompts(["w1 w2", "w3"])
    assert [list(row) for row in ids] == [[4, 5], [6]]
    assert images is None
    assert fields == {}


def test_prepare_inputs_and_buffered_inputs(trained, resumed):
    """A window is generated at multiples of its micro-steps in `_step`, or where `_buffered_inputs` is `None`.

    If this changed: `phase_at_window(self._step // window)` and the reset in our `train` must follow.
    """
    assert len(trained._buffered_inputs) == trained.args.steps_per_generation
    assert trained._step == 3 * 2
    assert [step for step, _, _ in resumed.calls("generate")] == [0]  # for the third step; see the next test
    fresh = copy.copy(trained)
    fresh._step, fresh._buffered_inputs = 3, None
    fresh._prepare_inputs(trained.calls("generate")[0][2]["inputs"])
    assert fresh._buffered_inputs is not None


def test_step_is_not_restored_on_resume(resumed):
    """We set `_step` on resume, since windows are counted from it.

    If `_step` is restored now: drop our line in `_load_optimizer_and_scheduler`.
    """
    assert resumed.state.global_step == 3
    assert resumed._step == 2


def test_zero_dimensional_values_pass_to_every_micro_batch():
    """`num_items_in_batch` and our `kl_scale` are such values.

    If they are dropped or split: repeat `kl_scale` for every row in `mask_rows`.
    """
    chunks = split_tensor_dict(shuffle_sequence_dict({"x": torch.arange(4), "kl_scale": torch.tensor(2.0)}), 2)
    assert [chunk["kl_scale"].item() for chunk in chunks] == [2.0, 2.0]


def test_a_loader_draws_one_number_for_every_pass():
    """We draw the same number at the start of a pass, to have TRL's random numbers without its loader.

    If this fails: change or drop the draw in our `_generate_and_score_completions`.
    """
    loader = torch.utils.data.DataLoader([1, 2, 3])
    torch.manual_seed(0)
    list(loader)
    after = torch.rand(3)
    torch.manual_seed(0)
    torch.empty((), dtype=torch.int64).random_()
    assert torch.equal(torch.rand(3), after)


def test_get_train_dataloader_and_sampler(tmp_path):
    """Our loader counts windows: `train_dataset` is a `range` while it is built, and the sampler is ours.

    If the loader is built in another way: build one there that yields local rows of a window per micro-batch.
    """
    assert parameters_of(GRPOTrainer._get_train_sampler) == ["self", "dataset"]

    class Counting(Observed):
        def _get_train_sampler(self, dataset=None):
            return torch.utils.data.SequentialSampler(range(16))

    trainer = make(tmp_path)
    trainer.__class__ = Counting
    trainer.train_dataset = range(100, 116)
    # Rows of one process for one micro-step: per_device_train_batch_size * steps_per_generation.
    assert list(trainer.get_train_dataloader()) == [list(range(100, 108)), list(range(108, 116))]


def test_generation_config_limits_the_completions(trained):
    """The completion length of a phase is set in `generation_config.max_new_tokens`.

    If another object is read: set that one, too, in `_apply_phase`.
    """
    limited = copy.copy(trained)
    limited.generation_config = copy.deepcopy(trained.generation_config)
    limited.generation_config.max_new_tokens = 2
    limited.generation_kwargs = {**trained.generation_kwargs, "max_new_tokens": 2}
    assert trained.generation_kwargs["max_new_tokens"] == trained.max_completion_length == 4
    output = limited._generate_and_score_completions(trained.calls("generate")[0][2]["inputs"])
    assert output["completion_ids"].shape[1] <= 2


def test_max_completion_length_normalises_dr_grpo(loss):
    """A phase with longer completions also has another constant in this loss.

    If the constant is kept elsewhere: set it in `_apply_phase`.
    """
    assert loss(loss_type="dr_grpo", max_completion_length=8) == pytest.approx(loss(loss_type="dr_grpo") / 2)


def test_vllm_generation_reads_the_length_at_every_call():
    """With vLLM, the completion length of a phase is set on `vllm_generation`.

    If it is fixed when the engine starts: refuse `max_completion_length` of phases with vLLM.
    """
    module = pytest.importorskip("trl.generation.vllm_generation")
    assert "self.max_completion_length" in inspect.getsource(module.VLLMGeneration.generate)


def test_eos_token_ids_and_tokenizer(trained):
    """A completion whose last token is neither an end nor padding was truncated; TRL says the same.

    If the names changed: follow them in our `_calculate_rewards`.
    """
    assert list(trained.eos_token_ids) == [1]
    assert trained._tokenizer.pad_token_id == 0
    ids = [ids for _, _, values in trained.calls("rewards") for ids in values["ids"]]
    cut = [row[-1] not in (0, 1) for row in ids]
    logged = [entry["completions/clipped_ratio"] for entry in trained.state.log_history if "loss" in entry]
    assert sum(cut) / len(cut) == pytest.approx(sum(logged) / len(logged))


def test_attributes_that_are_only_read(trained):
    """`_is_vlm` and `environment_factories` switch our tokenisation off; the others choose prompts and accuracies.

    If one has gone: find what replaced it; each is read in one place of `trainer.py`.
    """
    assert not trained._is_vlm
    assert trained.environment_factories is None
    assert trained.shuffle_dataset is True
    assert trained.reward_func_names[0] == "parity_reward"
    assert trained.reward_weights.tolist() == [1.0, 1.0]
    assert (trained.num_generations, trained.use_vllm, trained.ref_model) == (2, False, None)
