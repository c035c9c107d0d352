"""Phases in a run: what switches when, what is carried, where it saves, and what may be used with it."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from processes import run_python
from runs import LENGTHS, WORKER, RecordingTrainer, assert_equal_runs, make_args, make_trainer, parameters
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer
from transformers import AutoModelForCausalLM

from qwenlong_trl import Phase, PhasedGRPOTrainer


def logs(trainer, key: str = "loss") -> list[dict]:
    return [entry for entry in trainer.state.log_history if key in entry]


class Watching(RecordingTrainer):
    """Remembers the settings that every loss was computed with, and the completions of every window."""

    def _compute_loss(self, model, inputs):
        rate = self.optimizer.param_groups[0]["lr"]
        settings = (self.epsilon_low, self.epsilon_high, self.loss_type, self.max_completion_length, rate)
        self.settings = [*getattr(self, "settings", []), (self.state.global_step, *settings)]
        return super()._compute_loss(model, inputs)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        longest = max(map(len, completion_ids_list))
        self.longest = [*getattr(self, "longest", []), (self.model.training, self.state.global_step, longest)]
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)


def watch(args, **kwargs) -> Watching:
    trainer = Watching(
        tiny_model(), parity_reward, args, tiny_prompts(list(LENGTHS)), processing_class=tiny_tokenizer(), **kwargs
    )
    trainer.train()
    return trainer


def test_settings_switch_at_the_first_step_of_a_phase_and_back(tmp_path):
    phases = [
        Phase(8, 2),
        Phase(10, 2, max_completion_length=7, epsilon=0.1, loss_type="grpo", learning_rate=5e-3),
        Phase(16, 2, epsilon=0.3, epsilon_high=0.4),
    ]
    args = make_args(tmp_path, phases=phases, lr_scheduler_type="constant", save_strategy="no")
    trainer = Watching(
        tiny_model(),
        parity_reward,
        args,
        tiny_prompts([5] * 20 + [9] * 20 + [12] * 20),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    first, second = (0.2, 0.2, "dapo", 4, 1e-2), (0.1, 0.1, "grpo", 7, 5e-3)
    third = (0.3, 0.4, "dapo", 4, 1e-2)
    expected = [(step, *s) for step, s in enumerate([first] * 2 + [second] * 2 + [third] * 2) for _ in range(2)]
    assert trainer.settings == expected
    # An untrained model seldom ends a completion, so the longest of a window has the length of the limit.
    assert trainer.longest == [(True, step, 7 if step in (2, 3) else 4) for step in range(6)]


def test_the_other_live_settings_reach_the_trainer(tmp_path):
    settings = {"scale_rewards": "none", "mask_truncated_completions": True, "top_entropy_quantile": 0.5}
    trainer = make_trainer(make_args(tmp_path, phases=[Phase(8, 4), Phase(16, 4, **settings)]))
    trainer._apply_phase(1)
    assert {name: getattr(trainer, name) for name in settings} == settings
    trainer._apply_phase(0)
    assert {name: getattr(trainer, name) for name in settings} == {
        "scale_rewards": "group",
        "mask_truncated_completions": False,
        "top_entropy_quantile": 1.0,
    }


def test_every_phase_trains_on_its_own_lengths(tmp_path):
    trainer = make_trainer(make_args(tmp_path, save_strategy="no"), lengths=(5, 12) * 20)
    trainer.train()
    of_phase = [{trainer.curriculum.phase_of_row[row] for row in batch} for batch in trainer.batches]
    assert of_phase == [{0}] * 4 + [{1}] * 4


# ---- retrospective sampling -----------------------------------------------------------------------------------------


def solves_even_prompts(completions, id, **kwargs):
    return [float(int(name[1:]) % 2 == 0) for name in id]


def test_hard_zero_carries_what_was_never_solved_and_says_so(tmp_path):
    args = make_args(tmp_path, retrospective="hard_zero", save_strategy="no")
    trainer = make_trainer(args, rewards=solves_even_prompts)
    trainer.train()
    seen = {row for batch in trainer.batches[:4] for row in batch}
    expected = [f"p{row}" for row in sorted(seen) if row % 2]
    assert list(trainer.curriculum.carried[1]) == expected
    written = json.loads((tmp_path / "curriculum" / "carried_phase_2.json").read_text())
    assert [entry["id"] for entry in written] == expected
    assert written == trainer.curriculum.carried_table(1)

    pool = trainer.curriculum.pool(1)
    assert pool == [*range(20, 40), *(row for row in sorted(seen) if row % 2)]
    later = [row for batch in trainer.batches[4:] for row in batch]
    assert set(later) <= set(pool)
    carried_rows = sum(row < 20 for row in later)
    assert carried_rows > 0
    shares = [entry["curriculum/carried_share"] for entry in logs(trainer)]
    assert shares[:4] == [0.0] * 4
    assert sum(shares) * 8 == carried_rows
    assert [entry["curriculum/carried"] for entry in logs(trainer)] == [0] * 4 + [len(expected)] * 4
    assert [entry["curriculum/pool"] for entry in logs(trainer)] == [20] * 4 + [len(pool)] * 4


def test_scoring_measures_every_earlier_prompt_with_the_limits_of_the_new_phase(tmp_path):
    args = make_args(
        tmp_path,
        phases=[Phase(8, 4), Phase(16, 4, max_completion_length=6)],
        retrospective="hard_zero",
        difficulty="scoring",
        save_strategy="no",
    )
    trainer = Watching(
        tiny_model(),
        solves_even_prompts,
        args,
        tiny_prompts(list(LENGTHS)),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    # 20 prompts in batches of 8: three rounds between the phases, the last one filled up.
    assert [len(batch) for batch in trainer.batches] == [8] * 11
    assert {row for batch in trainer.batches[4:7] for row in batch} == set(range(20))
    assert [length for _, _, length in trainer.longest] == [4] * 4 + [6] * 7
    assert list(trainer.curriculum.carried[1]) == [f"p{row}" for row in range(1, 20, 2)]
    # Scoring stays out of the metrics and of the difficulty of training, but its tokens are counted.
    assert sum(d.rollouts for d in trainer.curriculum.difficulty.values()) == 2 * 8 * 8
    accuracies = [entry["accuracy"] for entry in logs(trainer)]
    assert [entry["rewards/solves_even_prompts/mean"] for entry in logs(trainer)] == pytest.approx(accuracies)
    tokens = logs(trainer)[4]["num_tokens"] - logs(trainer)[3]["num_tokens"]
    assert tokens > 2 * 20 * 5 + 2 * 8 * 5  # the prompts of the scoring pass and of the step


# ---- logs, evaluation, checkpoints ----------------------------------------------------------------------------------


def test_evaluates_saves_and_logs_where_a_phase_ends(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1000, "save_steps": 1000, "logging_steps": 3}
    trainer = make_trainer(make_args(tmp_path, **settings), eval_dataset=tiny_prompts([5] * 8))
    trainer.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    assert [entry["step"] for entry in logs(trainer, "eval_loss")] == [4, 8]
    assert [entry["step"] for entry in logs(trainer)] == [3, 4, 6, 8]
    assert [entry["curriculum/phase"] for entry in logs(trainer)] == [1, 1, 2, 2]  # no average over two phases


def test_neither_evaluates_nor_saves_unasked(tmp_path):
    trainer = make_trainer(make_args(tmp_path, save_strategy="no"), eval_dataset=tiny_prompts([5] * 8))
    trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))
    assert not logs(trainer, "eval_loss")


def test_evaluation_does_not_count_as_training(tmp_path):
    args = make_args(tmp_path, eval_strategy="steps", eval_steps=1, save_strategy="no", retrospective="weighted")
    trainer = watch(args, eval_dataset=tiny_prompts([5] * 8))  # with ids that the training set has, too
    assert sum(not training for training, _, _ in trainer.longest) == 8 * 2
    assert sum(d.rollouts for d in trainer.curriculum.difficulty.values()) == 2 * 8 * 8
    assert sum(map(len, trainer.batches)) == 8 * 8
    for entry in logs(trainer, "eval_loss"):
        assert "eval_reward" in entry
        assert not [key for key in entry if "curriculum" in key]


def test_a_run_from_a_path_saves_a_model_that_loads(tmp_path):
    # The reference model of a positive beta is loaded from the path, too.
    tiny_model().save_pretrained(tmp_path / "start")
    args = make_args(tmp_path / "out", beta=0.1, log_kl_to_start=True, dynamic_sampling="mask", loss_type="grpo")
    data = tiny_prompts(list(LENGTHS))
    path = str(tmp_path / "start")
    trainer = PhasedGRPOTrainer(path, parity_reward, args, data, processing_class=tiny_tokenizer())
    trainer.train()
    assert trainer._start_policy.model is trainer.ref_model
    assert all(entry["kl_to_start"] >= 0 for entry in logs(trainer))
    trainer.save_model(str(tmp_path / "final"))
    loaded = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "final").named_parameters())
    for name, value in parameters(trainer).items():
        assert torch.equal(loaded[name], value), name


def test_the_model_card_names_the_method(tmp_path):
    trainer = make_trainer(make_args(tmp_path, save_strategy="no"))
    trainer.create_model_card(model_name="reader")
    card = Path(tmp_path / "README.md").read_text()
    assert "2505.17667" in card
    assert "phased-grpo" in card


# ---- PEFT and conversations -----------------------------------------------------------------------------------------


def peft_trainer(folder, **overrides):
    args = make_args(folder, retrospective="hard_zero", log_kl_to_start=True, **overrides)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return make_trainer(args, peft_config=lora)


def test_peft_trains_the_adapter_and_resumes(tmp_path):
    whole = peft_trainer(tmp_path / "whole")
    start = parameters(whole)
    whole.train()
    changed = {name for name, value in parameters(whole).items() if not torch.equal(value, start[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    divergences = [entry["kl_to_start"] for entry in logs(whole)]
    assert divergences[0] == pytest.approx(0, abs=1e-9)  # an adapter starts as the base model
    assert divergences[-1] > divergences[0]
    for step in (3, 4):  # within a phase, and between phases
        resumed = peft_trainer(tmp_path / f"resumed-{step}", save_strategy="no")
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert_equal_runs(resumed, whole)


class Conversations(RecordingTrainer):
    """Remembers how long the prompts are that the policy sees."""

    def _tokenize_prompts(self, prompts):
        ids, images, fields = super()._tokenize_prompts(prompts)
        self.prompt_lengths = {*getattr(self, "prompt_lengths", ()), *map(len, ids)}
        return ids, images, fields


def answer_is_text(completions, **kwargs):
    assert all(completion[0]["role"] == "assistant" for completion in completions)
    return parity_reward([completion[0]["content"] for completion in completions])


def test_prompts_may_be_conversations(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}w0 {{ message['content'] }} w1 {% endfor %}"
        "{% if add_generation_prompt %}w2{% endif %}"
    )
    plain = tiny_prompts([5] * 20 + [12] * 20)
    data = Dataset.from_list([{"id": x["id"], "prompt": [{"role": "user", "content": x["prompt"]}]} for x in plain])
    trainer = Conversations(
        tiny_model(), answer_is_text, make_args(tmp_path, save_strategy="no"), data, processing_class=tokenizer
    )
    assert trainer.curriculum.lengths == [5 + 3] * 20 + [12 + 3] * 20  # the template is part of the length
    trainer.train()
    assert trainer.prompt_lengths == {5 + 3, 12 + 3}
    assert trainer.state.global_step == 8


def test_a_group_is_tokenised_once_and_as_trl_would(tmp_path):
    trainer = make_trainer(make_args(tmp_path))
    prompts = ["w1 w2", "w1 w2", "w3", "w3", "w1 w2", "w1 w2"]
    calls = []
    tokenizer = trainer.processing_class

    class Counting(type(tokenizer)):
        def __call__(self, *args, **kwargs):
            calls.append(kwargs["text"])
            return super().__call__(*args, **kwargs)

    expected = super(PhasedGRPOTrainer, trainer)._tokenize_prompts(prompts)
    tokenizer.__class__ = Counting
    found = trainer._tokenize_prompts(prompts)
    assert found == expected
    assert calls == [["w1 w2", "w3", "w1 w2"]]
    assert found[0][0] is not found[0][1]  # TRL may extend a row in place


@pytest.mark.slow
def test_trackio_gets_the_metrics_and_the_phases(tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed")
    # A process of its own: trackio reads where it writes to when it is imported.
    logged = json.loads(
        run_python([WORKER, "track", str(tmp_path)], TRACKIO_DIR=str(tmp_path)).stdout.splitlines()[-1]
    )
    assert {"curriculum/phase", "curriculum/pool", "accuracy", "reward", "entropy"} <= {
        name.removeprefix("train/") for name in logged["metrics"]
    }
    assert [phase["name"] for phase in logged["phases"]] == ["phase_1", "phase_2"]
