"""Phases from Python, dictionaries, JSON and YAML; every error names the phase and the field."""

import json

import pytest

from qwenlong_trl import Phase
from qwenlong_trl.phased_grpo.phase import FROZEN_IN_A_PHASE, LIVE_ATTRIBUTES, parse_phases


PLAIN = [{"max_prompt_length": 20, "max_steps": 6}, {"max_prompt_length": 60, "max_steps": 4, "learning_rate": 1e-6}]
PARSED = [Phase(20, 6, name="phase_1"), Phase(60, 4, name="phase_2", learning_rate=1e-6)]


@pytest.mark.parametrize(
    "given",
    [
        [Phase(20, 6), Phase(60, 4, learning_rate=1e-6)],
        (Phase(20, 6), PLAIN[1]),
        PLAIN,
        json.dumps(PLAIN),
        "  " + json.dumps(PLAIN, indent=2) + "\n",
        [json.dumps(phase) for phase in PLAIN],
    ],
    ids=["phases", "tuple of both", "dictionaries", "json", "indented json", "json per phase"],
)
def test_equal_phases_from_every_form(given):
    assert parse_phases(given) == PARSED


def test_phases_from_files(tmp_path):
    (tmp_path / "phases.json").write_text(json.dumps(PLAIN))
    (tmp_path / "phases.yaml").write_text(
        "- max_prompt_length: 20\n"
        "  max_steps: 6\n"
        "- {max_prompt_length: 60, max_steps: 4, learning_rate: 1e-6}  # YAML 1.1 reads this rate as a string\n"
    )
    assert parse_phases(str(tmp_path / "phases.json")) == PARSED
    assert parse_phases(str(tmp_path / "phases.yaml")) == PARSED


def test_one_phase_needs_no_list():
    assert parse_phases(PLAIN[0]) == PARSED[:1]
    assert parse_phases(json.dumps(PLAIN[0])) == PARSED[:1]


def test_parsing_again_changes_nothing_and_names_are_kept():
    assert parse_phases(PARSED) == PARSED
    named = parse_phases([Phase(20, 6, name="short"), Phase(60, 4)])
    assert [phase.name for phase in named] == ["short", "phase_2"]


def test_the_phases_of_the_caller_are_left_alone():
    given = [Phase(20, 6)]
    parse_phases(given)[0].max_steps = 99
    assert given == [Phase(20, 6)]


@pytest.mark.parametrize("field", ["learning_rate", "epsilon", "epsilon_high", "top_entropy_quantile"])
def test_numbers_in_exponent_notation_may_be_strings(field):
    assert getattr(Phase(20, 6, **{field: "2e-6"}), field) == 2e-6


@pytest.mark.parametrize(
    ("second", "named"),
    [
        ({"max_steps": 4}, "`max_prompt_length` is missing"),
        ({"max_prompt_length": 60}, "`max_steps` is missing"),
        ({"max_prompt_length": 60, "max_steps": 0}, "`max_steps` to be a positive integer, got 0"),
        ({"max_prompt_length": 60, "max_steps": 4.0}, "`max_steps` to be a positive integer, got 4.0"),
        ({"max_prompt_length": "60k", "max_steps": 4}, "`max_prompt_length` to be a positive integer, got '60k'"),
        ({"max_prompt_length": True, "max_steps": 4}, "`max_prompt_length` to be a positive integer, got True"),
        ({"max_prompt_length": -1, "max_steps": 4}, "`max_prompt_length` to be a positive integer, got -1"),
        (
            {"max_prompt_length": 60, "max_steps": 4, "max_completion_length": 0},
            "`max_completion_length` to be a positive integer, got 0",
        ),
        (
            {"max_prompt_length": 60, "max_steps": 4, "learning_rate": "fast"},
            "`learning_rate` to be a number, got 'fast'",
        ),
        ({"max_prompt_length": 60, "max_steps": 4, "learning_rate": -1e-6}, "`learning_rate` to be a number of at"),
        ({"max_prompt_length": 60, "max_steps": 4, "epsilon": float("nan")}, "`epsilon` to be a number of at least 0"),
        ({"max_prompt_length": 60, "max_steps": 4, "epsilon_high": [1]}, "`epsilon_high` to be a number of at least"),
        ({"max_prompt_length": 60, "max_steps": 4, "loss_type": "ppo"}, "`loss_type` to be one of"),
        ({"max_prompt_length": 60, "max_steps": 4, "scale_rewards": "all"}, "`scale_rewards` to be one of"),
        (
            {"max_prompt_length": 60, "max_steps": 4, "mask_truncated_completions": "yes"},
            "`mask_truncated_completions` to be one of",
        ),
        ({"max_prompt_length": 60, "max_steps": 4, "lr": 1e-6}, "unknown field `lr`"),
        ({"max_prompt_length": 20, "max_steps": 4}, "`max_prompt_length` must grow from phase to phase, got 20 after"),
        ({"max_prompt_length": 10, "max_steps": 4}, "`max_prompt_length` must grow from phase to phase, got 10 after"),
        (7, "expected a Phase or a dictionary, got 7"),
    ],
)
def test_errors_name_the_phase_and_the_field(second, named):
    with pytest.raises(ValueError) as error:
        parse_phases([PLAIN[0], second])
    assert str(error.value).startswith("phases[1]: ")
    assert named in str(error.value)


def test_errors_of_a_phase_made_in_python_name_it():
    with pytest.raises(ValueError, match="phase 'long' needs `max_steps` to be a positive integer, got None"):
        Phase(max_prompt_length=60, max_steps=None, name="long")


@pytest.mark.parametrize("field", FROZEN_IN_A_PHASE)
def test_what_trl_cannot_switch_is_refused_with_the_reason(field):
    with pytest.raises(ValueError) as error:
        parse_phases([{**PLAIN[0], field: 1}])
    assert f"phases[0]: `{field}` cannot change during a run" in str(error.value)
    assert FROZEN_IN_A_PHASE[field] in str(error.value)


def test_a_field_is_either_frozen_or_of_a_phase():
    assert not set(FROZEN_IN_A_PHASE) & set(vars(Phase(20, 6)))
    assert set(LIVE_ATTRIBUTES) < set(vars(Phase(20, 6)))


@pytest.mark.parametrize("nothing", [None, [], ""])
def test_no_phases_shows_an_example(nothing):
    with pytest.raises(ValueError) as error:
        parse_phases(nothing)
    assert "max_prompt_length" in str(error.value)
    example = str(error.value).split("'")[1]
    assert [phase.max_steps for phase in parse_phases(example)] == [60, 40]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('[{"max_prompt_length": 20,', "not valid JSON"),
        ("phases.yaml", "neither a JSON list nor an existing file: phases.yaml"),
        (20, "must be a list of phases, got int"),
        ([Phase(20, 6, name="same"), Phase(60, 4, name="same")], "names of phases must differ"),
        ([Phase(20, 6), Phase(60, 4, name="phase_1")], "names of phases must differ"),
    ],
)
def test_other_errors(given, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        parse_phases(given)


def test_settings_hold_what_is_set():
    assert PARSED[1].settings() == {
        "max_prompt_length": 60,
        "max_steps": 4,
        "name": "phase_2",
        "learning_rate": 1e-6,
    }
