"""Rewards of every kind: several, missing, failing, without signal; and what the metrics say of them."""

import math

import pandas as pd
import pytest
import torch
from runs import RecordingTrainer, make_args, make_trainer, parameters
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer

from qwenlong_trl.phased_grpo.dynamic_sampling import live_groups


def logs(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def nothing(completions, **kwargs):
    return [0.0] * len(completions)


def of_some_prompts(completions, id, **kwargs):
    """A signal for every fourth prompt, zero for the others."""
    return [float(i % 2) if int(name[1:]) % 4 == 0 else 0.0 for i, name in enumerate(id)]


class Windows(RecordingTrainer):
    """Remembers what every process knows of the windows that are trained on."""

    def _log_rollouts(self, k, output, rollouts):
        self.windows = [*getattr(self, "windows", []), rollouts]
        super()._log_rollouts(k, output, rollouts)


def train(folder, rewards, lengths=(5,) * 40 + (12,) * 40, **overrides) -> Windows:
    trainer = Windows(
        tiny_model(),
        rewards,
        make_args(folder, **({"save_strategy": "no"} | overrides)),
        tiny_prompts(list(lengths)),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    return trainer


# ---- dynamic sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difficulty", ["rollouts", "scoring"])
def test_resampling_fills_every_group_where_it_can(tmp_path, difficulty):
    # Ten of forty prompts have a signal and eight are needed; a round tries as many others as are missing.
    settings = {"dynamic_sampling": "resample", "max_resample_rounds": 40, "retrospective": "hard_zero"}
    trainer = train(tmp_path, of_some_prompts, difficulty=difficulty, **settings)
    assert [entry["curriculum/unfilled_groups"] for entry in logs(trainer)] == [0] * 8
    assert all(entry["curriculum/resample_rounds"] >= 1 for entry in logs(trainer))
    assert [entry["zero_variance"] for entry in logs(trainer)] == [0] * 8
    for window in trainer.windows:
        assert live_groups(window.accuracies, 2) == [True] * 8
        assert all(row % 4 == 0 for row in window.rows)
        assert len(window.rows) == 16


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "cispo"])
def test_a_run_without_any_reward_changes_nothing_and_counts(tmp_path, loss_type):
    settings = {"dynamic_sampling": "resample", "max_resample_rounds": 2, "loss_type": loss_type}
    trainer = train(tmp_path, nothing, **settings)
    assert trainer.state.global_step == 8
    assert [entry["curriculum/unfilled_groups"] for entry in logs(trainer)] == [8] * 8
    assert [entry["curriculum/resample_rounds"] for entry in logs(trainer)] == [2] * 8
    assert [entry["zero_variance/none"] for entry in logs(trainer)] == [1] * 8
    start = dict(tiny_model().named_parameters())
    for name, value in parameters(trainer).items():
        assert torch.equal(value, start[name]), name


def test_a_phase_without_any_reward_is_carried_whole(tmp_path):
    trainer = train(tmp_path, nothing, lengths=(5,) * 20 + (12,) * 20, retrospective="hard_zero")
    seen = {f"p{row}" for batch in trainer.batches[:4] for row in batch}
    assert set(trainer.curriculum.carried[1]) == seen


def test_masking_is_decided_on_the_accuracy_and_not_on_a_shaped_reward(tmp_path):
    def longer_is_worse(completion_ids, **kwargs):
        return [-0.1 * len(ids) for ids in completion_ids]

    # The accuracy is flat everywhere, the sum is not: without the mask the model would change.
    trainer = train(tmp_path / "masked", [nothing, longer_is_worse], dynamic_sampling="mask")
    start = dict(tiny_model().named_parameters())
    assert all(torch.equal(value, start[name]) for name, value in parameters(trainer).items())
    assert any(entry["reward_std"] > 0 for entry in logs(trainer))
    trainer = train(tmp_path / "off", [nothing, longer_is_worse])
    assert not all(torch.equal(value, start[name]) for name, value in parameters(trainer).items())


# ---- kinds of rewards -----------------------------------------------------------------------------------------------


def assert_bucket_rewards(trainer) -> None:
    """Rewards of the length buckets, weighted by their scored rollouts, make up the reward that TRL logs."""
    for entry, window in zip(logs(trainer), trainer.windows, strict=True):
        scored = [
            row for row, accuracy in zip(window.rows, window.accuracies, strict=True) if not math.isnan(accuracy)
        ]
        share = sum(row < 40 for row in scored) / len(scored)
        short, long = (entry.get(f"curriculum/{bucket}/reward") or 0 for bucket in ("length_0_8", "length_8_16"))
        assert share * short + (1 - share) * long == pytest.approx(entry["reward"])


def penalty(completions, **kwargs):
    return [-3.0] * len(completions)


def test_the_accuracy_is_the_raw_value_of_the_named_reward(tmp_path):
    settings = {"accuracy_reward": "parity_reward", "reward_weights": [1.0, 0.5], "retrospective": "weighted"}
    trainer = train(tmp_path, [penalty, parity_reward], **settings)
    table = trainer.curriculum.difficulty
    assert all(0 <= entry.mean <= 1 for entry in table.values())
    rewarded = [entry["rewards/parity_reward/mean"] for entry in logs(trainer)]
    assert [entry["accuracy"] for entry in logs(trainer)] == pytest.approx(rewarded)
    assert sum(entry.total for entry in table.values()) == pytest.approx(16 * sum(rewarded))
    assert [entry["reward"] for entry in logs(trainer)] == pytest.approx([-3 + r / 2 for r in rewarded])
    assert_bucket_rewards(trainer)


def test_the_first_reward_is_the_accuracy_by_default(tmp_path):
    trainer = train(tmp_path, [parity_reward, penalty])
    rewarded = [entry["rewards/parity_reward/mean"] for entry in logs(trainer)]
    assert [entry["accuracy"] for entry in logs(trainer)] == pytest.approx(rewarded)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_rollouts_without_a_reward_are_left_out(tmp_path, missing):
    def of_even_prompts(completions, id, **kwargs):
        values = parity_reward(completions)
        return [value if int(name[1:]) % 2 == 0 else missing for value, name in zip(values, id, strict=True)]

    trainer = train(tmp_path, of_even_prompts, dynamic_sampling="mask", retrospective="hard_zero")
    assert trainer.state.global_step == 8
    assert all(int(name[1:]) % 2 == 0 for name in trainer.curriculum.difficulty)
    assert all(int(name[1:]) % 2 == 0 for name in trainer.curriculum.carried[1])
    assert all(torch.isfinite(value).all() for value in parameters(trainer).values())
    for entry, window in zip(logs(trainer), trainer.windows, strict=True):
        scored = [a for a in window.accuracies if not math.isnan(a)]
        assert entry["accuracy"] == pytest.approx(sum(scored) / len(scored))
        assert entry["reward"] == pytest.approx(entry["accuracy"])
    assert_bucket_rewards(trainer)


def test_a_run_in_which_nothing_can_be_scored_ends(tmp_path):
    def unscorable(completions, **kwargs):
        return [None] * len(completions)

    settings = {"dynamic_sampling": "resample", "max_resample_rounds": 1, "retrospective": "weighted"}
    trainer = train(tmp_path, unscorable, **settings)
    assert trainer.curriculum.difficulty == {}
    assert trainer.curriculum.carried == {1: {}}
    assert [entry["accuracy"] for entry in logs(trainer)] == [None] * 8
    assert [entry["zero_variance"] for entry in logs(trainer)] == [1] * 8


def test_an_error_of_a_reward_stops_the_run(tmp_path):
    def broken(completions, trainer_state, **kwargs):
        if trainer_state.global_step == 2:
            raise RuntimeError("the judge did not answer")
        return parity_reward(completions)

    trainer = make_trainer(make_args(tmp_path, save_strategy="no"), rewards=broken)
    with pytest.raises(RuntimeError, match="the judge did not answer"):
        trainer.train()
    assert trainer._rollouts is None


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_agree_with_those_of_trl(tmp_path):
    trainer = train(tmp_path, parity_reward, retrospective="weighted")
    for step, entry in enumerate(logs(trainer)):
        phase = "phase_1" if step < 4 else "phase_2"
        assert entry["curriculum/phase"] == 1 + (step >= 4)
        assert entry["curriculum/max_prompt_length"] == (16 if step >= 4 else 8)
        assert entry["curriculum/max_completion_length"] == 4
        assert entry["accuracy"] == pytest.approx(entry["reward"])
        assert entry["truncated"] == pytest.approx(entry["completions/clipped_ratio"])
        assert entry["zero_variance"] == pytest.approx(entry["frac_reward_zero_std"])
        assert entry["zero_variance"] == entry["zero_variance/none"] + entry["zero_variance/all"]
        for name in ("reward", "accuracy", "entropy", "zero_variance", "truncated"):
            assert entry[f"curriculum/{phase}/{name}"] == entry[name]
        other = "phase_2" if step < 4 else "phase_1"
        assert not [key for key in entry if key.startswith(f"curriculum/{other}/")]
    assert_bucket_rewards(trainer)


def test_all_generated_tokens_are_counted(tmp_path):
    tokens = []

    def counting(prompts, completion_ids, completions, **kwargs):
        tokens.append(sum(len(p.split()) for p in prompts) + sum(map(len, completion_ids)))
        return of_some_prompts(completions, **kwargs)

    trainer = train(tmp_path, counting, dynamic_sampling="resample", retrospective="weighted", difficulty="scoring")
    assert len(tokens) > 8 + 5  # windows, rounds of resampling, and the scoring pass
    assert trainer.state.num_input_tokens_seen == sum(tokens)
    assert logs(trainer)[-1]["num_tokens"] == sum(tokens)


def test_the_table_of_completions_is_written_with_scoring_and_resampling(tmp_path):
    settings = {"dynamic_sampling": "resample", "retrospective": "hard_zero", "difficulty": "scoring"}
    trainer = train(tmp_path, of_some_prompts, log_completions=True, num_completions_to_print=0, **settings)
    assert trainer.state.global_step == 8
    for step in range(1, 9):
        table = pd.read_parquet(tmp_path / "completions" / f"completions_{step:05d}.parquet")
        assert len(table) == 16
        phase = [len(prompt.split()) > 8 for prompt in table["prompt"]]
        assert any(phase) if step > 4 else not any(phase)


def test_divergence_from_the_start_begins_at_zero_and_grows(tmp_path):
    trainer = train(tmp_path, parity_reward, log_kl_to_start=True, retrospective="weighted")
    divergences = [entry["kl_to_start"] for entry in logs(trainer)]
    assert divergences[0] == pytest.approx(0, abs=1e-9)
    assert all(value > 0 for value in divergences[1:])
    assert divergences[-1] > 3 * divergences[1]
    for entry in logs(trainer)[:4]:
        assert entry["curriculum/length_0_8/kl_to_start"] == pytest.approx(entry["kl_to_start"])
        # Measured before the steps of the window, where TRL's is measured in them: equal at one step per window.
        assert entry["curriculum/length_0_8/entropy"] == pytest.approx(entry["entropy"], rel=1e-4)
        assert entry["curriculum/phase_1/kl_to_start"] == entry["kl_to_start"]


def test_measuring_the_divergence_does_not_change_the_run(tmp_path):
    with_it = train(tmp_path / "with", parity_reward, log_kl_to_start=True)
    without = train(tmp_path / "without", parity_reward)
    expected = parameters(without)
    assert all(torch.equal(value, expected[name]) for name, value in parameters(with_it).items())
