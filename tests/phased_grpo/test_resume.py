"""Stopping and resuming equals not stopping: index stream, carried prompts, statistics, and weights to the bit."""

import json
import shutil

import pytest
import torch
from runs import SETTINGS, WORKER, check_resume_everywhere, make_args, make_trainer, run_python
from tiny import tiny_prompts

from qwenlong_trl import CurriculumMismatchError, Phase


@pytest.mark.parametrize("name", SETTINGS)
def test_resume_at_every_window_boundary(tmp_path, name):
    count = check_resume_everywhere(tmp_path, SETTINGS[name])
    # 8 steps of 2 micro-steps, less the final step; windows of 4 micro-steps have half as many boundaries.
    assert count == (3 if name in ("mask_long_windows", "two_iterations") else 7)


def test_resume_after_several_passes_over_the_prompts(tmp_path):
    # 8 prompts a window and 9 a phase: every window is a pass of its own, with one prompt left out.
    assert check_resume_everywhere(tmp_path, SETTINGS["hard_zero"], lengths=(5,) * 9 + (12,) * 9) == 7


def test_resume_on_two_processes(tmp_path):
    done = run_python(
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", WORKER, "resume", str(tmp_path)]
    )
    assert "resumed {'hard_zero': 7, 'scored': 3, 'mask_long_windows': 3, 'resample': 3}" in done


def test_sigkill_within_a_window_and_restart(tmp_path):
    done = run_python([WORKER, "kill", str(tmp_path)])
    assert "exit codes [0, -9, -9, -9, 0]" in done
    assert "trained from checkpoint-6" in done
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
        ({}, (6,) * 20 + (12,) * 20, "dataset sha256"),
    ],
)
def test_another_plan_or_data_set_is_refused(tmp_path, checkpoint, overrides, lengths, named):
    args = make_args(tmp_path, **({"retrospective": "hard_zero"} | overrides))
    trainer = make_trainer(args, **({"lengths": lengths} if lengths else {}))
    with pytest.raises(CurriculumMismatchError) as error:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert named in str(error.value)


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


def test_train_twice_on_one_object_starts_anew(tmp_path):
    trainer = make_trainer(make_args(tmp_path, save_strategy="no", retrospective="hard_zero", steps_per_generation=4))
    trainer.train()
    first, trainer.batches = trainer.batches, []
    trainer.train()
    assert trainer.batches[:2] == first[:2]  # phase 1: the same prompts in the same order
    counted = sum(difficulty.rollouts for difficulty in trainer.curriculum.difficulty.values())
    assert counted == 2 * sum(map(len, trainer.batches))  # nothing is counted from the first run


def test_data_hash_ignores_how_the_data_was_loaded(tmp_path):
    from datasets import Dataset

    from qwenlong_trl.phased_grpo.lengths import dataset_hash

    data = tiny_prompts([5, 6, 7])
    data.to_parquet(tmp_path / "data.parquet")
    again = Dataset.from_parquet(str(tmp_path / "data.parquet"), cache_dir=str(tmp_path / "cache"))
    assert dataset_hash(data, ["a", "b", "c"], [5, 6, 7]) == dataset_hash(again, ["a", "b", "c"], [5, 6, 7])
    assert dataset_hash(data, ["a", "b", "c"], [5, 6, 7]) != dataset_hash(data, ["a", "b", "x"], [5, 6, 7])
