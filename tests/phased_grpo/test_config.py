"""The config: what it computes, what it refuses, and that data is checked before a model is loaded."""

import dataclasses
import json
import logging

import pytest
from datasets import Dataset
from runs import make_args, make_trainer
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer
from transformers import HfArgumentParser
from trl import GRPOConfig

from qwenlong_trl import Phase, PhasedGRPOConfig, PhasedGRPOTrainer


TWO = [Phase(8, 4), Phase(16, 8)]


def test_max_steps_is_the_sum_of_the_phases(tmp_path):
    assert make_args(tmp_path, phases=TWO).max_steps == 12
    assert make_args(tmp_path, phases=TWO, max_steps=12).max_steps == 12
    with pytest.raises(ValueError, match="`max_steps` is 10, but the phases have 12 steps together"):
        make_args(tmp_path, phases=TWO, max_steps=10)


@pytest.mark.parametrize(
    ("settings", "steps", "fits"),
    [
        ({"gradient_accumulation_steps": 2}, 3, True),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 4}, 3, False),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 4}, 4, True),
        ({"gradient_accumulation_steps": 1, "num_iterations": 3}, 4, False),
        ({"gradient_accumulation_steps": 1, "num_iterations": 3}, 6, True),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 3}, 4, False),  # windows of 3, steps of 4
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 3}, 3, True),
    ],
)
def test_a_phase_fills_whole_windows(tmp_path, settings, steps, fits):
    phases = [Phase(8, 12), Phase(16, steps, name="long")]
    if fits:
        args = make_args(tmp_path, phases=phases, **settings)
        assert steps % args.steps_per_window_multiple == 0
    else:
        with pytest.raises(
            ValueError, match="long: .* a window would straddle two phases. Use a multiple of"
        ) as error:
            make_args(tmp_path, phases=phases, **settings)
        multiple = int(str(error.value).split("Use a multiple of ")[1].split()[0])
        make_args(tmp_path, phases=[Phase(8, 12), Phase(16, multiple)], **settings)  # the advice is good


def test_what_a_window_holds(tmp_path):
    args = make_args(tmp_path, steps_per_generation=4, num_iterations=2, phases=[Phase(8, 4)])
    assert args.micro_steps_per_window == 8
    assert args.prompts_per_window == 8 * 4 // 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phase_lr_schedule", "epoch"),
        ("retrospective", "all"),
        ("difficulty", "loss"),
        ("dynamic_sampling", "on"),
    ],
)
def test_choices_are_checked_and_listed(tmp_path, field, value):
    with pytest.raises(ValueError, match=f"`{field}` must be one of .* got '{value}'"):
        make_args(tmp_path, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retrospective_ratio", 0),
        ("retrospective_ratio", -0.5),
        ("retrospective_epsilon", 0),
        ("max_resample_rounds", 0),
        ("phases", None),
    ],
)
def test_impossible_values_are_refused(tmp_path, field, value):
    with pytest.raises(ValueError, match=f"`{field}`"):
        make_args(tmp_path, **{field: value})


def test_epsilon_follows_the_group_size(tmp_path):
    assert make_args(tmp_path, num_generations=4).retrospective_epsilon == 1 / 8
    assert make_args(tmp_path, retrospective_epsilon=0.3).retrospective_epsilon == 0.3


@pytest.mark.parametrize(
    "settings",
    [
        {"scale_rewards": "batch"},
        {"phases": [Phase(8, 4), Phase(16, 4, scale_rewards="batch")]},
        {"multi_objective_aggregation": "normalize_then_sum"},
    ],
)
def test_resampling_refuses_advantages_that_depend_on_the_whole_batch(tmp_path, settings):
    with pytest.raises(ValueError, match="dynamic_sampling='resample'"):
        make_args(tmp_path, dynamic_sampling="resample", **settings)
    make_args(tmp_path, dynamic_sampling="mask", **settings)


@pytest.mark.parametrize(
    ("settings", "phases"),
    [
        ({"loss_type": "bnpo"}, [Phase(8, 4), Phase(16, 4)]),
        ({}, [Phase(8, 4), Phase(16, 4, loss_type="bnpo")]),
    ],
)
@pytest.mark.parametrize("dynamic_sampling", ["mask", "resample"])
def test_a_normaliser_per_micro_batch_cannot_go_with_masks(tmp_path, dynamic_sampling, settings, phases):
    with pytest.raises(ValueError, match=r"cannot go with loss_type='bnpo' \(.*phase_2\): each micro-batch"):
        make_args(tmp_path, dynamic_sampling=dynamic_sampling, phases=phases, **settings)
    make_args(tmp_path, phases=phases, **settings)


def test_bnpo_may_be_the_config_of_phases_that_have_other_losses(tmp_path):
    phases = [Phase(8, 4, loss_type="dapo"), Phase(16, 4, loss_type="grpo")]
    make_args(tmp_path, dynamic_sampling="mask", phases=phases, loss_type="bnpo")


def test_a_moving_reference_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sync_ref_model=True is not exact on resume"):
        make_args(tmp_path, beta=0.1, sync_ref_model=True)


def test_serialises(tmp_path):
    args = make_args(tmp_path, phases=TWO)
    written = json.loads(args.to_json_string())
    assert written["phases"][1] == {"max_prompt_length": 16, "max_steps": 8, "name": "phase_2"}
    assert json.loads(json.dumps(args.to_sanitized_dict()))["max_steps"] == 12
    again = make_args(tmp_path, phases=written["phases"])
    assert again.phases == args.phases


def test_a_dictionary_of_the_config_makes_an_equal_config(tmp_path):
    args = make_args(tmp_path, phases=TWO, retrospective="weighted", dynamic_sampling="mask")
    values = {name: value for name, value in dataclasses.asdict(args).items() if name != "generation_batch_size"}
    assert PhasedGRPOConfig(**values) == args


def test_every_default_of_grpo_is_kept(tmp_path):
    shared = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "max_steps": 12}
    stock, own = GRPOConfig(**shared), PhasedGRPOConfig(phases=TWO, **shared)
    for field in dataclasses.fields(stock):
        assert getattr(own, field.name) == getattr(stock, field.name), field.name


SHORT, LONG = '{"max_prompt_length": 8, "max_steps": 4}', '{"max_prompt_length": 16, "max_steps": 8}'


@pytest.mark.parametrize("phases", [[f"[{SHORT}, {LONG}]"], [SHORT, LONG], ["phases.json"]])
def test_phases_on_the_command_line(tmp_path, monkeypatch, phases):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phases.json").write_text(f"[{SHORT}, {LONG}]")
    arguments = ["--output_dir", "out", "--use_cpu", "--bf16", "False", "--retrospective", "weighted"]
    (args,) = HfArgumentParser(PhasedGRPOConfig).parse_args_into_dataclasses([*arguments, "--phases", *phases])
    assert [phase.max_steps for phase in args.phases] == [4, 8]
    assert args.retrospective == "weighted"


def test_every_field_of_ours_is_explained_as_a_flag():
    text = HfArgumentParser(PhasedGRPOConfig).format_help()
    for field in {field.name for field in dataclasses.fields(PhasedGRPOConfig)} - set(vars(GRPOConfig)):
        assert f"--{field} " in text, field


# ---- data, checked before a model is loaded -------------------------------------------------------------------------


def test_too_few_prompts_are_found_before_a_model_is_loaded(tmp_path):
    with pytest.raises(ValueError) as error:
        PhasedGRPOTrainer(
            model=str(tmp_path / "no-such-model"),
            reward_funcs=parity_reward,
            args=make_args(tmp_path),
            train_dataset=tiny_prompts([5] * 20 + [12] * 7),
            processing_class=tiny_tokenizer(),
        )
    message = str(error.value)
    assert "phase_2 has 7 prompts of 9 to 16 tokens, but one generation batch needs 8" in message
    assert "generation_batch_size 16 / num_generations 2" in message


def test_just_enough_prompts_are_enough(tmp_path):
    assert make_trainer(make_args(tmp_path), lengths=(5,) * 8 + (12,) * 8).curriculum.dropped == []


def test_streams_are_refused(tmp_path):
    with pytest.raises(TypeError, match="got IterableDataset. Phases are chosen by prompt length"):
        PhasedGRPOTrainer(
            model=str(tmp_path / "no-such-model"),
            reward_funcs=parity_reward,
            args=make_args(tmp_path),
            train_dataset=tiny_prompts([5] * 20).to_iterable_dataset(),
            processing_class=tiny_tokenizer(),
        )


def test_a_stock_config_is_refused(tmp_path):
    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(TypeError, match="PhasedGRPOConfig, got GRPOConfig"):
        make_trainer(args)


def test_longer_prompts_are_dropped_with_a_count(tmp_path, caplog):
    from transformers.utils import logging as transformers_logging

    transformers_logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            trainer = make_trainer(make_args(tmp_path), lengths=(5,) * 20 + (16,) * 20 + (17, 30, 17))
    finally:
        transformers_logging.disable_propagation()
    assert trainer.curriculum.dropped == [40, 41, 42]
    assert "3 of 43 prompts are dropped: they are longer than the 16 tokens of the last phase" in caplog.text
    assert "the longest has 30" in caplog.text


def with_columns(folder, lengths=(5,) * 20 + (12,) * 20, **columns):
    data = tiny_prompts(list(lengths))
    for name, values in columns.items():
        data = data.add_column(name, values) if values is not None else data.remove_columns(name)
    return PhasedGRPOTrainer(tiny_model(), parity_reward, make_args(folder), data, processing_class=tiny_tokenizer())


def test_without_ids_rows_are_counted(tmp_path):
    assert with_columns(tmp_path, id=None).curriculum.ids == [str(row) for row in range(40)]


def test_duplicate_ids_are_refused(tmp_path):
    data = tiny_prompts([5] * 20 + [12] * 20).remove_columns("id").add_column("id", ["x", *map(str, range(38)), "x"])
    with pytest.raises(ValueError, match="'x' stands in more than one row"):
        PhasedGRPOTrainer(tiny_model(), parity_reward, make_args(tmp_path), data, processing_class=tiny_tokenizer())


def test_a_column_of_lengths_is_used_and_checked(tmp_path):
    lengths = [5] * 20 + [12] * 20
    assert with_columns(tmp_path, prompt_length=lengths).curriculum.lengths == lengths
    with pytest.raises(ValueError, match="row 0: `prompt_length` is 6, but the prompt has 5 tokens"):
        with_columns(tmp_path, prompt_length=[6] * 20 + [12] * 20)


def test_prompts_are_needed(tmp_path):
    data = Dataset.from_list([{"question": "w1 w2"}] * 40)
    with pytest.raises(ValueError, match=r"needs a column `prompt`, it has \['question'\]"):
        PhasedGRPOTrainer(tiny_model(), parity_reward, make_args(tmp_path), data, processing_class=tiny_tokenizer())


def test_the_engine_must_fit_the_longest_phase(tmp_path):
    """Before a model is loaded; each prompt counts, with the completions of its own phase."""
    args = make_args(tmp_path, phases=[Phase(8, 4, max_completion_length=30), Phase(16, 4)])
    args.use_vllm, args.vllm_max_model_length = True, 34
    message = (
        "phase_1: 20 prompts do not fit the vLLM engine, which takes 34 tokens .* The first is 'p0' with 5 tokens"
    )
    with pytest.raises(ValueError, match=message):
        make_trainer(args)


def test_the_accuracy_must_be_one_of_the_rewards(tmp_path):
    with pytest.raises(ValueError, match=r"accuracy_reward='exact' is none of the reward functions \['parity_reward'"):
        make_trainer(make_args(tmp_path, accuracy_reward="exact"))
