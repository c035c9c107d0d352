"""The history of a run from its files, which may be a stranger's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenlong_trl.phased_grpo.history import MOST_ENTRIES, make_history, read_history


def entry(step, phase, **more):
    length = {1: 33, 2: 81}.get(phase, 100)
    known = {"curriculum/phase": phase, "curriculum/max_prompt_length": length, "curriculum/carried": 5 * (phase - 1)}
    return {"step": step, "reward": step / 10, "entropy": 1.0, **known, **more}


LOG = [
    entry(5, 1.0, **{"curriculum/length_0_33/accuracy": 0.25}),
    entry(10, 1.0, accuracy=0.5),
    {"step": 10, "eval_loss": 1.0},
    entry(15, 2.0, **{"curriculum/length_0_33/accuracy": 0.5, "curriculum/length_33_81/accuracy": 0.125}),
    {"step": 15, "train_runtime": 9.0},
]
STATE = {
    "signature": {"phases[0]": {"name": "short"}, "phases[1]": {"name": 3}, "phases[x]": {}},
    "carried": {"1": {"a": 1.0, "<b>": 1.0}, "many": {}, "-1": {}},
}


def test_phases_series_and_buckets():
    history = make_history({"log_history": LOG}, STATE)
    spans = [(p.name, p.max_prompt_length, p.first_step, p.last_step, p.carried) for p in history.phases]
    assert spans == [("short", 33, 1, 10, 0), ("phase_2", 81, 11, 15, 5)]
    assert history.series["reward"] == [(5, 0.5), (10, 1.0), (15, 1.5)]
    assert history.series["accuracy"] == [(10, 0.5)]
    assert history.by_length == {(0, 33): [(5, 0.25), (15, 0.5)], (33, 81): [(15, 0.125)]}
    assert history.carried_prompts == {1: ["a", "<b>"]}
    assert history.last_step == 15


def test_from_an_output_folder_the_newest_checkpoint(tmp_path):
    for step, log in ((9, LOG[:1]), (10, LOG)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    (tmp_path / "checkpoint-10" / "curriculum_state.json").write_text(json.dumps(STATE))
    history = read_history(tmp_path)
    assert history.last_step == 15 and history.phases[0].name == "short"
    assert read_history(tmp_path / "checkpoint-9").last_step == 5
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no trainer_state.json"):
        read_history(tmp_path / "empty")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ([], "no list `log_history`"),
        ({"log_history": {}}, "no list `log_history`"),
        ({"log_history": []}, "no training step with a reward"),
        ({"log_history": [{"step": "5", "reward": 1.0}]}, "no training step with a reward"),
        ({"log_history": [{"step": 5, "reward": 1.0}]}, "names no phase"),
        ({"log_history": [entry(-5, 1)]}, "has the step -5"),
        ({"log_history": [entry(5, 1e6)]}, "has the phase"),
        ({"log_history": [entry(5, 1), entry(6, 2), entry(7, 1)]}, "overlap"),
        ({"log_history": [entry(1, 1)] * (MOST_ENTRIES + 1)}, "entries"),
    ],
)
def test_what_is_no_history_is_named(state, said):
    with pytest.raises(ValueError, match=said):
        make_history(state)


def test_a_file_that_is_no_json(tmp_path):
    (tmp_path / "trainer_state.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no JSON"):
        read_history(tmp_path / "trainer_state.json")
    with pytest.raises(ValueError, match="is not there"):
        read_history(tmp_path / "another.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["step", "reward", "entropy", "curriculum/phase", "curriculum/carried", "curriculum/length_0_33/accuracy"]


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=4), VALUES)
def test_whatever_a_file_holds_is_a_history_or_a_message(log, state):
    try:
        history = make_history({"log_history": log}, state)
    except ValueError:
        return
    points = [value for of in (*history.series.values(), *history.by_length.values()) for _, value in of]
    assert all(abs(value) < 1e12 for value in points)
    assert history.last_step >= 0
