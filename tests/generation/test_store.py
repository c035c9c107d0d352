"""The file of samples: what is whole stays, what is half goes, what is other is refused."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenlong_trl.generation import Completion, SampleStore, SettingsMismatchError


SETTINGS = {"model": "m", "temperature": 0.85, "records": {"a.jsonl": "1"}, "sizes": (1, 2)}
TEXTS = st.text(max_size=20)
COMPLETIONS = st.lists(st.builds(Completion, TEXTS, st.sampled_from(["stop", "length"])), max_size=3)


def fill(path, samples, done=0):
    with SampleStore(path, SETTINGS) as store:
        for number, completions in enumerate(samples):
            if f"p{number}" not in store:
                store.add(f"p{number}", f"prompt {number}", completions)
                done += 1
    return done


@given(st.lists(COMPLETIONS, min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None)
def test_a_file_that_was_cut_anywhere_is_continued_to_the_same_bytes(samples, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.jsonl"
        assert fill(path, samples) == len(samples)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        assert fill(path, samples) == len(samples) - max(0, whole[:cut].count(b"\n") - 1)
        assert path.read_bytes() == whole
        with SampleStore(path, SETTINGS) as store:
            assert len(store) == len(samples)
            assert [store.get(f"p{i}", f"prompt {i}") for i in range(len(samples))] == samples


def test_a_sample_is_on_disk_before_the_next_one(tmp_path):
    path = tmp_path / "samples.jsonl"
    with SampleStore(path, SETTINGS) as store:
        for number in range(3):
            store.add(f"p{number}", "prompt", [Completion("a\nb\r\u2028", "stop")])
            assert len(path.read_bytes().splitlines()) == number + 2  # the settings are the first line


def test_other_settings_are_refused_by_name(tmp_path):
    path = tmp_path / "samples.jsonl"
    fill(path, [[]])
    before = path.read_bytes()
    other = {**SETTINGS, "temperature": 0.7, "top_p": 0.9}
    del other["model"]
    with pytest.raises(SettingsMismatchError) as error, SampleStore(path, other):
        pass
    assert "model was 'm' and is None; temperature was 0.85 and is 0.7; top_p was None and is 0.9. " in str(
        error.value
    )
    assert "records" not in str(error.value) and "sizes" not in str(error.value)
    assert path.read_bytes() == before
    fill(path, [[]])  # nobody holds the file


def test_samples_of_another_prompt_are_refused(tmp_path):
    with SampleStore(tmp_path / "samples.jsonl", SETTINGS) as store:
        store.add("p0", [{"role": "user", "content": "a"}], [])
        assert store.get("p0", [{"content": "a", "role": "user"}]) == []
        with pytest.raises(SettingsMismatchError, match="samples of 'p0' belong to another prompt"):
            store.get("p0", [{"role": "user", "content": "b"}])
        with pytest.raises(KeyError):
            store.get("p1", "a")


@pytest.mark.parametrize("line", ["no JSON", "[]", '{"id": "p0"}', "12", '"text"'])
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_file_is_refused_with_its_line(tmp_path, line, number):
    path = tmp_path / "samples.jsonl"
    lines = [json.dumps({"settings": SETTINGS}), line][2 - number :] + ["{}"]
    path.write_text("\n".join(lines) + "\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"samples.jsonl, line {number}: not what a run wrote"):
        SampleStore(path, SETTINGS).__enter__()
    assert path.read_bytes() == before


def test_two_runs_do_not_write_to_one_file(tmp_path):
    path = tmp_path / "samples.jsonl"
    with SampleStore(path, SETTINGS), pytest.raises(ValueError, match="another process writes to .*samples.jsonl"):
        SampleStore(path, SETTINGS).__enter__()
    fill(path, [[]])
