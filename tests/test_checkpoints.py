"""Which checkpoint of a folder is taken: the newest that was written to its end, by every process."""

import json

import pytest
import torch

from qwenlong_trl.checkpoints import missing_part, newest_complete_checkpoint


def write(folder, step: int, *random_states: str, processes: int | None = None):
    """A checkpoint with these random states, and nothing else that matters."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (path / "model.safetensors").write_bytes(b"weights")
    for name in ("optimizer.pt", "scheduler.pt", *random_states):
        torch.save({"cpu": torch.random.get_rng_state()}, path / name)
    if processes is not None:
        (path / "curriculum_state.json").write_text(json.dumps({"processes": processes}))
    return path


def test_the_newest_by_number_and_not_by_name(tmp_path):
    for step in (9, 10, 8):
        write(tmp_path, step, "rng_state.pth")
    (tmp_path / "checkpoint-11").write_text("a file")
    (tmp_path / "checkpoint-best").mkdir()
    assert newest_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_no_folder_and_no_checkpoint(tmp_path):
    assert newest_complete_checkpoint(tmp_path / "nowhere") is None
    assert newest_complete_checkpoint(tmp_path) is None


def test_what_is_passed_over_is_said(tmp_path):
    write(tmp_path, 1, "rng_state.pth")
    (write(tmp_path, 2, "rng_state.pth") / "trainer_state.json").write_text('{"global_step"')
    (write(tmp_path, 3, "rng_state.pth") / "trainer_state.json").unlink()
    said = []
    assert newest_complete_checkpoint(tmp_path, said.append) == str(tmp_path / "checkpoint-1")
    assert [line.split(" was cut short")[0] for line in said] == [str(tmp_path / f"checkpoint-{i}") for i in (3, 2)]
    assert all("trainer_state.json is not there or not whole" in line for line in said)


@pytest.mark.parametrize(
    ("states", "processes", "missing"),
    [
        (["rng_state.pth"], 1, None),
        (["rng_state.pth"], None, None),
        ([], 1, "rng_state.pth"),
        ([], None, "rng_state.pth"),
        (["rng_state_0.pth", "rng_state_1.pth"], 2, None),
        (["rng_state_0.pth", "rng_state_1.pth"], None, None),
        (["rng_state_0.pth"], 2, "rng_state_1.pth"),
        (["rng_state_0.pth"], None, "rng_state_1.pth"),
        (["rng_state_1.pth"], None, "rng_state_0.pth"),
        (["rng_state_0.pth", "rng_state_2.pth"], None, "rng_state_1.pth"),
        (["rng_state_0.pth", "rng_state_1.pth"], 4, "rng_state_2.pth"),
        ([], 2, "rng_state_0.pth"),
    ],
)
def test_every_process_has_saved_its_random_state(tmp_path, states, processes, missing):
    assert missing_part(write(tmp_path, 5, *states, processes=processes)) == missing


def test_half_a_random_state_is_none(tmp_path):
    path = write(tmp_path, 5, "rng_state_0.pth", "rng_state_1.pth", processes=2)
    whole = (path / "rng_state_1.pth").read_bytes()
    (path / "rng_state_1.pth").write_bytes(whole[: len(whole) // 2])
    assert missing_part(path) == "rng_state_1.pth"


def test_a_checkpoint_of_the_model_alone_is_complete(tmp_path):
    path = write(tmp_path, 5)
    (path / "optimizer.pt").unlink()
    assert missing_part(path) is None
