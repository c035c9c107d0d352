"""The TRL reward functions: dispatch, logging, errors that name the row, pickling, and how TRL finds them."""

import importlib
import pickle
import subprocess
import sys

import pytest

from qwenlong_trl import rewards
from qwenlong_trl.rewards import (
    docmath_reward,
    docqa_reward,
    get_rule_reward,
    multiple_choice_reward,
    rule_reward,
)


COMPLETIONS = ["The answer is Norway.", "the answer is -32.4", "The correct answer is (B).", "I do\nnot know."]
ANSWERS = [["Norge", "Norway"], ["32.4"], ["B"], ["Oslo"]]
TASKS = ["docqa", "docmath", "multiple_choice", "docqa"]


def test_one_run_mixes_tasks():
    assert rule_reward(COMPLETIONS, answers=ANSWERS, task=TASKS) == [1.0, 0.0, 1.0, 0.0]
    assert docqa_reward(COMPLETIONS, answers=ANSWERS, task=TASKS) == [1.0, None, None, 0.0]
    assert docmath_reward(COMPLETIONS, answers=ANSWERS, task=TASKS) == [None, 0.0, None, None]
    assert multiple_choice_reward(COMPLETIONS, answers=ANSWERS, task=TASKS) == [None, None, 1.0, None]


def test_a_single_task_needs_no_task_column():
    assert docqa_reward(["Norway"], answers=[["Norway"]]) == [1.0]
    assert docmath_reward(["32.4"], answers=[["32.4"]]) == [1.0]
    assert multiple_choice_reward(["B"], answers=[["B"]]) == [1.0]


def test_a_string_is_one_answer_and_not_its_letters():
    assert docqa_reward(["N", "Norway"], answers=["Norway", "Norway"]) == [0.0, 1.0]


def test_conversational_completions():
    def message(content, role="assistant"):
        return {"role": role, "content": content}

    completions = [
        [message("The answer is Norway.")],
        [message("The answer is Sweden."), message("42", "tool"), message("The answer is Norway.")],
        [
            message(
                [{"type": "text", "text": "The answer is "}, {"type": "image"}, {"type": "text", "text": "Norway."}]
            )
        ],
        [message(None)],
        [message("Norway", "tool")],
    ]
    assert docqa_reward(completions, answers=[["Norway"]] * 5) == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_logging():
    extra, metrics = {}, {}
    arguments = {"answers": ANSWERS, "task": TASKS, "log_extra": extra.__setitem__, "log_metric": metrics.__setitem__}
    rule_reward(COMPLETIONS, **arguments)
    assert extra == {"prediction": ["Norway", "-32.4", "B", None]}
    assert metrics == {"rule/parse_rate": 0.75}
    # Each function writes a column of its own, or TRL would join them to one that is longer than the table.
    docqa_reward(COMPLETIONS, **arguments)
    assert extra["docqa/prediction"] == ["Norway", None, None, None]
    assert metrics == {"rule/parse_rate": 0.5}


def test_no_rate_for_a_batch_without_rows_of_the_task():
    metrics = {}
    docmath_reward(["Norway"], answers=[["Norway"]], task=["docqa"], log_metric=metrics.__setitem__)
    assert metrics == {}


def test_columns_that_trl_adds_are_ignored():
    extra_columns = {"prompts": ["?"], "completion_ids": [[1]], "trainer_state": None, "id": ["1"], "source": ["x"]}
    assert rule_reward(completions=["Norway"], answers=[["Norway"]], task=["docqa"], **extra_columns) == [1.0]


@pytest.mark.parametrize("column", ["answer", "solution"])
def test_missing_answers_say_which_column_to_rename(column):
    with pytest.raises(ValueError, match=rf'no column `answers`.*rename_column\("{column}", "answers"\)'):
        docqa_reward(completions=["Norway"], prompts=["?"], **{column: ["Norway"]})


def test_errors_name_the_row_and_the_value():
    with pytest.raises(ValueError, match="no column `task`.*docqa, docmath, multiple_choice"):
        rule_reward(["Norway"], answers=[["Norway"]])
    with pytest.raises(ValueError, match="row 1 of the batch: `task` is 'docqua', expected one of docqa"):
        rule_reward(["a", "b"], answers=[["a"], ["b"]], task=["docqa", "docqua"])
    with pytest.raises(ValueError, match="row 1 of the batch: `task` is None"):
        docqa_reward(["a", "b"], answers=[["a"], ["b"]], task=["docqa", None])
    with pytest.raises(ValueError, match=r"row 1 of the batch, task 'docqa', `answers` \[\]: .*at least one"):
        docqa_reward(["a", "b"], answers=[["a"], []])
    with pytest.raises(ValueError, match="row 0 of the batch, task 'docqa', `answers` None"):
        docqa_reward(["a"], answers=[None])
    with pytest.raises(ValueError, match=r"row 0 of the batch, task 'multiple_choice', `answers` \['Norway'\]"):
        multiple_choice_reward(["A"], answers=[["Norway"]])
    with pytest.raises(ValueError):
        docqa_reward(["a", "b"], answers=[["a"]])


def test_options_reach_the_scorers():
    strict = get_rule_reward(require_delimiter=True, delimiter="###", scale_factors=[100])
    arguments = {"answers": [["32.4"]] * 2, "task": ["docmath"] * 2}
    assert strict(["x###0.324", "0.324"], **arguments) == [1.0, 0.0]
    compat = get_rule_reward(mode="l1_compat", task="docmath")
    assert compat(["</think>the answer is 324", "324"], answers=["the answer is 32.4"] * 2) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "exact"}, "mode must be"),
        ({"task": "math"}, "task must be one of docqa, docmath, multiple_choice"),
        ({"delimiter": ""}, "delimiter must not be empty"),
        ({"scale_factors": (-1,)}, "scale_factors"),
        ({"mode": "l1_compat", "scale_factors": (100,)}, "l1_compat"),
        ({"mode": "l1_compat", "delimiter": None}, "l1_compat"),
        ({"mode": "l1_compat", "require_delimiter": True}, "l1_compat"),
    ],
)
def test_bad_options_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        get_rule_reward(**options)


@pytest.mark.parametrize(
    "function",
    [rule_reward, docqa_reward, docmath_reward, multiple_choice_reward, get_rule_reward(scale_factors=(100,))],
)
def test_pickle_round_trip(function):
    copy = pickle.loads(pickle.dumps(function))
    assert copy.__name__ == function.__name__
    arguments = {"answers": ANSWERS, "task": TASKS}
    assert copy(COMPLETIONS, **arguments) == function(COMPLETIONS, **arguments)


def test_trl_names_them_and_sees_them_as_synchronous():
    utils = pytest.importorskip("trl.trainer.utils")
    named = {
        "rule_reward": rule_reward,
        "docqa_reward": docqa_reward,
        "docmath_reward": get_rule_reward(task="docmath"),
    }
    for name, function in named.items():
        assert utils.get_callable_name(function) == name
        assert not utils.is_async_callable(function)
    assert utils.get_callable_name(get_rule_reward()) == "rule_reward"


def test_the_dotted_path_of_the_command_line_resolves():
    module, _, name = "qwenlong_trl.rewards.rule_reward".rpartition(".")
    assert getattr(importlib.import_module(module), name) is rule_reward


def test_public_names_are_sorted_and_lazy():
    assert rewards.__all__ == sorted(rewards.__all__)
    assert set(rewards.__all__) <= set(dir(rewards))
    for name in rewards.__all__:
        assert getattr(rewards, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rewards.nothing
    code = (
        "import sys, qwenlong_trl.rewards as r; assert 'qwenlong_trl.rewards.rules' not in sys.modules; "
        "r.rule_reward; assert not {'torch', 'trl', 'datasets', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_overlong_shaping_of_trl_fits_the_paper():
    trl_rewards = pytest.importorskip("trl.rewards")
    overlong = trl_rewards.get_soft_overlong_punishment(max_completion_len=10_000, soft_punish_cache=1_000)
    assert overlong(completion_ids=[[1] * length for length in (9_000, 9_500, 10_000)]) == [0.0, -0.5, -1.0]
