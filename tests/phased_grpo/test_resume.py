"""Stopping and resuming equals not stopping: index stream, carried prompts, statistics, and weights to the bit."""

import json
import shutil
from datetime import date

import pytest
import torch
from datasets import Dataset, Image, Value
from PIL import Image as PIL
from processes import run_on_two_processes, run_python
from runs import LENGTHS, SETTINGS, WORKER, assert_equal_runs, check_resume_everywhere, make_args, make_trainer
from tiny import tiny_model, tiny_prompts, tiny_tokenizer

from qwenlong_trl import CurriculumMismatchError, Phase, PhasedGRPOTrainer
from qwenlong_trl.phased_grpo.fingerprint import fingerprint


SLOW = ("resample", "scored")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in SETTINGS])
def test_resume_at_every_window_boundary(tmp_path, name):
    count = check_resume_everywhere(tmp_path, SETTINGS[name])
    # 8 steps of 2 micro-steps, less the final step; windows of 4 micro-steps have half as many boundaries.
    assert count == (3 if name in ("mask_long_windows", "two_iterations") else 7)


@pytest.mark.slow
def test_resume_after_several_passes_over_the_prompts(tmp_path):
    # 8 prompts a window and 9 a phase: every window is a pass of its own, with one prompt left out.
    assert check_resume_everywhere(tmp_path, SETTINGS["hard_zero"], lengths=(5,) * 9 + (12,) * 9) == 7


@pytest.mark.slow
def test_resume_and_stop_on_two_processes(tmp_path):
    done = run_on_two_processes([WORKER, "resume", str(tmp_path)]).stdout
    assert "resumed {'hard_zero': 7, 'scored': 3, 'mask_long_windows': 3, 'resample': 3}" in done
    assert sorted(line for line in done.splitlines() if line.startswith("rank")) == [
        "rank 0: stopped by a signal to another process after step 4 of 8, resumed equal",
        "rank 1: stopped by SIGTERM after step 4 of 8, resumed equal",
    ]


@pytest.mark.slow
def test_sigkill_within_a_window_or_a_save_and_restart(tmp_path):
    done = run_python([WORKER, "kill", str(tmp_path)]).stdout
    assert "exit codes [0, -9, -9, -9, -9, 0]" in done
    assert [line.split()[-1] for line in done.splitlines() if line.startswith("from")] == [
        *("None", "None", "None", "checkpoint-2", "checkpoint-4", "checkpoint-6")
    ]
    expected = torch.load(tmp_path / "whole" / "final.pt", weights_only=True)
    for name, value in torch.load(tmp_path / "killed" / "final.pt", weights_only=True).items():
        assert torch.equal(value, expected[name]), name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_trainer(make_args(folder, retrospective="hard_zero", save_steps=4)).train()
    return folder / "checkpoint-4"


@pytest.mark.parametrize(
    ("overrides", "lengths", "named"),
    [
        ({"phases": [Phase(8, 4), Phase(20, 4)]}, None, "phases[1]"),
        ({"phases": [Phase(8, 4), Phase(16, 8)]}, None, "phases[1]"),
        ({"seed": 7}, None, "seed: 42 in the checkpoint, 7 now"),
        ({"retrospective": "none"}, None, "retrospective: 'hard_zero' in the checkpoint, 'none' now"),
        ({"num_generations": 4}, None, "num_generations"),
        ({}, (5,) * 20 + (12,) * 21, "dataset rows: 40 in the checkpoint, 41 now"),
        ({}, (6,) * 20 + (12,) * 20, "dataset sha256 of prompt_length"),
        ({"learning_rate": 1e-3}, None, "learning_rate: 0.01 in the checkpoint, 0.001 now"),
        ({"lr_scheduler_type": "cosine"}, None, "lr_scheduler_type: 'linear' in the checkpoint, 'cosine' now"),
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 2}},
            None,
            "lr_scheduler_kwargs: None in the checkpoint, {'num_cycles': 2} now",
        ),
        ({"warmup_steps": 2}, None, "warmup_steps: 0 in the checkpoint, 2 now"),
        ({"max_completion_length": 5}, None, "max_completion_length: 4 in the checkpoint, 5 now"),
        ({"temperature": 0.5}, None, "temperature: 1.0 in the checkpoint, 0.5 now"),
        ({"top_p": 0.9}, None, "top_p: 1.0 in the checkpoint, 0.9 now"),
        ({"top_k": 5}, None, "top_k: 0 in the checkpoint, 5 now"),
        ({"loss_type": "grpo"}, None, "loss_type: 'dapo' in the checkpoint, 'grpo' now"),
        ({"epsilon": 0.1}, None, "epsilon: 0.2 in the checkpoint, 0.1 now"),
        ({"epsilon_high": 0.3}, None, "epsilon_high: None in the checkpoint, 0.3 now"),
        ({"beta": 0.1}, None, "beta: 0.0 in the checkpoint, 0.1 now"),
        ({"scale_rewards": "none"}, None, "scale_rewards: 'group' in the checkpoint, 'none' now"),
        ({"mask_truncated_completions": True}, None, "mask_truncated_completions: False in the checkpoint, True now"),
        ({"reward_weights": [0.5]}, None, "reward_weights: None in the checkpoint, [0.5] now"),
    ],
)
def test_another_plan_data_set_or_setting_is_refused(tmp_path, checkpoint, overrides, lengths, named):
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")  # a reference model is loaded from there
    model.config._name_or_path = str(tmp_path / "model")
    args = make_args(tmp_path, **({"retrospective": "hard_zero"} | overrides))
    trainer = make_trainer(args, model=model, **({"lengths": lengths} if lengths else {}))
    with pytest.raises(CurriculumMismatchError) as error:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert named in str(error.value)


def first_word(completions, answers, **kwargs):
    return [float(completion.split(" ")[0] in right) for completion, right in zip(completions, answers, strict=True)]


def any_word(completions, answers, **kwargs):
    said = [{*completion.split(" ")} for completion in completions]
    return [float(bool(words & {*right})) for words, right in zip(said, answers, strict=True)]


def with_answers(folder, word: str, reward=first_word):
    data = tiny_prompts(list(LENGTHS)).add_column("answers", [[word]] * len(LENGTHS))
    args = make_args(folder, save_steps=4)
    return PhasedGRPOTrainer(tiny_model(), reward, args, data, processing_class=tiny_tokenizer())


def test_other_answers_or_rewards_are_refused(tmp_path):
    with_answers(tmp_path / "one", "w1").train()
    checkpoint = str(tmp_path / "one" / "checkpoint-4")
    with pytest.raises(CurriculumMismatchError) as error:
        with_answers(tmp_path / "two", "w2").train(resume_from_checkpoint=checkpoint)
    assert "dataset sha256 of answers: '" in str(error.value)
    assert str(error.value).count(" in the checkpoint, ") == 1  # and nothing else differs
    with pytest.raises(CurriculumMismatchError) as error:
        with_answers(tmp_path / "two", "w1", any_word).train(resume_from_checkpoint=checkpoint)
    assert "reward functions: ['first_word'] in the checkpoint, ['any_word'] now" in str(error.value)


def test_another_version_is_refused(tmp_path, checkpoint):
    copy = tmp_path / "checkpoint-4"
    shutil.copytree(checkpoint, copy)
    state = json.loads((copy / "curriculum_state.json").read_text())
    state["signature"]["trl version"] = "1.0.0"
    (copy / "curriculum_state.json").write_text(json.dumps(state))
    trainer = make_trainer(make_args(tmp_path / "out", retrospective="hard_zero"))
    with pytest.raises(CurriculumMismatchError, match="trl version: '1.0.0' in the checkpoint"):
        trainer.train(resume_from_checkpoint=str(copy))


def test_a_checkpoint_without_our_state_is_refused(tmp_path, checkpoint):
    copy = tmp_path / "checkpoint-4"
    shutil.copytree(checkpoint, copy)
    (copy / "curriculum_state.json").unlink()
    trainer = make_trainer(make_args(tmp_path / "out", retrospective="hard_zero"))
    with pytest.raises(CurriculumMismatchError, match="not written by PhasedGRPOTrainer"):
        trainer.train(resume_from_checkpoint=str(copy))


def test_saves_wait_for_the_end_of_a_window(tmp_path):
    # Windows of two steps; a save at every step would fall within them, every third step half the time.
    make_trainer(make_args(tmp_path, steps_per_generation=4, save_steps=3)).train()
    saved = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
    assert saved == [4, 6, 8]  # due at 3 and 6; the phases end at 4 and 8


@pytest.mark.parametrize(
    ("save_steps", "settings", "expected"),
    [
        # Windows of one step and a half: they end with a step after each third.
        (2, {"steps_per_generation": 3}, [3, 6, 9, 12]),
        (4, {"steps_per_generation": 3}, [6, 9, 12]),
        (5, {"gradient_accumulation_steps": 4, "steps_per_generation": 2, "num_iterations": 3}, [6, 12]),
        (5, {"gradient_accumulation_steps": 4, "steps_per_generation": 2}, [5, 10, 12]),  # two windows a step
    ],
)
def test_no_save_is_lost_where_windows_and_steps_do_not_divide_each_other(tmp_path, save_steps, settings, expected):
    make_trainer(make_args(tmp_path, phases=[Phase(8, 12)], save_steps=save_steps, **settings)).train()
    assert sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*")) == expected


def test_true_means_the_newest_complete_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="out has no complete checkpoint"):
        make_trainer(make_args(tmp_path / "out")).train(resume_from_checkpoint=True)
    whole = make_trainer(make_args(tmp_path / "out", retrospective="hard_zero"))
    whole.train()
    # As if it had been killed while it wrote the seventh.
    shutil.rmtree(tmp_path / "out" / "checkpoint-8")
    (tmp_path / "out" / "checkpoint-7" / "trainer_state.json").unlink()
    resumed = make_trainer(make_args(tmp_path / "out", retrospective="hard_zero", save_strategy="no"))
    resumed.train(resume_from_checkpoint=True)
    assert len(resumed.batches) == 2
    assert_equal_runs(resumed, whole)


def test_train_twice_on_one_object_starts_anew(tmp_path):
    trainer = make_trainer(make_args(tmp_path, save_strategy="no", retrospective="hard_zero", steps_per_generation=4))
    trainer.train()
    first, trainer.batches = trainer.batches, []
    trainer.train()
    assert trainer.batches[:2] == first[:2]  # phase 1: the same prompts in the same order
    counted = sum(difficulty.rollouts for difficulty in trainer.curriculum.difficulty.values())
    assert counted == 2 * sum(map(len, trainer.batches))  # nothing is counted from the first run


def test_data_hash_ignores_how_the_data_was_loaded(tmp_path):
    columns = {
        "answers": [["w1"], [], ["w2", "w3"]],
        "evidence": [[{"document": 0, "start": 1}], [], []],
        "when": [date(2025, 5, 1), None, date(2026, 1, 1)],
        "blob": [b"\x00", b"\xff", b""],
        "score": [0.5, None, 1.0],
    }
    data = tiny_prompts([5, 6, 7])
    for name, values in columns.items():
        data = data.add_column(name, values)
    expected = fingerprint(data, ["a", "b", "c"], [5, 6, 7])
    assert list(expected.rows) == ["a", "b", "c"]
    assert set(expected.columns) == {"id", "prompt_length", "prompt", *columns}

    data.to_parquet(tmp_path / "data.parquet")
    again = Dataset.from_parquet(str(tmp_path / "data.parquet"), cache_dir=str(tmp_path / "cache"))
    shuffled = data.select([2, 0, 1]).select([1, 2, 0])  # the same rows by way of indices
    measured = data.add_column("prompt_length", [5, 6, 7]).remove_columns("id")
    large = data.cast_column("prompt", Value("large_string")).with_format("numpy")
    for other in (again, shuffled, measured, large):
        assert fingerprint(other, ["a", "b", "c"], [5, 6, 7]) == expected


def test_data_hash_names_the_column_that_differs(tmp_path):
    data = tiny_prompts([5, 6, 7]).add_column("answers", [["w1"], [], ["w2", "w3"]])
    ids, lengths = ["a", "b", "c"], [5, 6, 7]
    before = fingerprint(data, ids, lengths).columns

    def differing(*arguments) -> set[str]:
        after = fingerprint(*arguments).columns
        return {name for name in {*before, *after} if before.get(name) != after.get(name)}

    assert differing(data, ["a", "b", "x"], lengths) == {"id"}
    assert differing(data, ids, [5, 6, 8]) == {"prompt_length"}
    answers = data.remove_columns("answers").add_column("answers", [["w1"], [], ["w3", "w2"]])
    assert differing(answers, ids, lengths) == {"answers"}
    assert differing(data.add_column("task", ["docqa"] * 3), ids, lengths) == {"task"}
    assert differing(data.select([1, 0, 2]), ids, lengths) == {"prompt", "answers"}


def test_data_hash_of_images_is_that_of_their_bytes(tmp_path):
    hashes = []
    for name, colour in (("one", 0), ("two", 0), ("three", 255)):
        (tmp_path / name).mkdir()
        PIL.new("L", (2, 2), colour).save(tmp_path / name / "a.png")
        content = (tmp_path / name / "a.png").read_bytes()
        for value in ({"bytes": content, "path": str(tmp_path / name / "a.png")}, {"bytes": content, "path": None}):
            data = tiny_prompts([5]).add_column("image", [value], feature=Image())
            hashes.append(fingerprint(data, ["a"], [5]).columns["image"])
    assert len({*hashes[:4]}) == len({*hashes[4:]}) == 1
    assert hashes[0] != hashes[4]
