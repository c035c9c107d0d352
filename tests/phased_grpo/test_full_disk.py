"""A checkpoint that the file system does not take: a clear error, and the one before it is there and goes on."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import run_python
from runs import make_args, make_trainer

from qwenlong_trl import Phase
from qwenlong_trl.checkpoints import make_way, missing_part, newest_complete_checkpoint, whole_or_nothing


WORKER = str(Path(__file__).with_name("disk_worker.py"))


def result_of(done: subprocess.CompletedProcess) -> dict:
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(line.removeprefix("RESULT "))


def check(result: dict, out: Path) -> None:
    assert result["checkpoints"] == {"checkpoint-2": None}  # whole, though the limit is one checkpoint
    assert result["temporary"] == []
    assert result["windows after"] == 2 and result["equal"]
    assert f"resume from {out / 'checkpoint-2'}, which is whole" in result["error"]
    assert "Make room" in result["error"] and " MiB were free there" in result["error"]
    assert result["error"].endswith(f"'{out / 'checkpoint-3'}'")


@pytest.mark.slow
def test_a_file_system_that_refuses_large_files(tmp_path):
    found = result_of(run_python([WORKER, str(tmp_path), "limits"]))
    for name, result in found.items():
        check(result, tmp_path / name)
    assert [result["cause"] for result in found.values()] == ["OSError", "SafetensorError", "RuntimeError"]
    assert [result["number"] for result in found.values()] == [errno.EFBIG, errno.EFBIG, errno.EIO]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0,
    reason="this system lets nobody mount a file system of their own",
)
def test_a_file_system_that_is_full(tmp_path):
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, WORKER, str(tmp_path), "tmpfs"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = result_of(done)
    check(result, tmp_path / "small")
    assert ". 0 MiB were free there" in result["error"]


# ---- the parts ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    make_trainer(make_args(folder, phases=[Phase(8, 4)], save_steps=2, max_completion_length=1)).train()
    return folder


@pytest.fixture
def run(tmp_path, trained):
    """A folder with the checkpoints 2 and 4."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_a_checkpoint_without_one_of_its_files_is_not_complete(run, name):
    (run / "checkpoint-4" / name).unlink()
    assert missing_part(run / "checkpoint-4") == name
    assert newest_complete_checkpoint(run) == str(run / "checkpoint-2")


def test_weights_in_parts_are_all_there(run):
    whole = run / "checkpoint-4"
    (whole / "model.safetensors").rename(whole / "model-00001-of-00002.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (whole / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", names, strict=True))})
    )
    assert missing_part(whole) == names[1]
    (whole / names[1]).touch()
    assert missing_part(whole) is None


def test_rotation_does_not_count_what_was_cut_short(run):
    shutil.copytree(run / "checkpoint-2", run / "checkpoint-6")
    (run / "checkpoint-6" / "trainer_state.json").unlink()
    make_way(run / "checkpoint-8", save_total_limit=None)
    assert (run / "checkpoint-6").exists()  # nobody asked for anything to be deleted
    make_way(run / "checkpoint-8", save_total_limit=1)
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_a_checkpoint_that_is_written_again_is_not_complete_meanwhile(run):
    make_way(run / "checkpoint-4", save_total_limit=1)
    assert missing_part(run / "checkpoint-4") == "trainer_state.json"
    assert (run / "checkpoint-4" / "optimizer.pt").exists()  # other processes may be writing theirs


def test_other_errors_stay_what_they_are(run):
    folder = run / "checkpoint-6"
    with pytest.raises(KeyError, match="weights"), whole_or_nothing(folder):
        folder.mkdir()
        raise KeyError("weights")
    assert not folder.exists()
    with pytest.raises(OSError, match="no hub") as error, whole_or_nothing(run / "checkpoint-4"):
        raise OSError("no hub")  # the push, after all was written
    assert "could not be written" not in str(error.value)
    assert missing_part(run / "checkpoint-4") is None


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(OSError, match="start anew: no checkpoint had been completed") as error:
        with whole_or_nothing(tmp_path / "checkpoint-1"):
            (tmp_path / "checkpoint-1").mkdir()
            torch.save({}, "/dev/full")
    assert isinstance(error.value.__cause__, RuntimeError)
