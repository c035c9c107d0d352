"""What goes wrong in long runs: rewards that fail, empty answers, phases without signal, rows that changed."""

import json
import math
import os
import re

import numpy as np
import pytest
import torch
from runs import LENGTHS, assert_equal_runs, make_args, make_trainer, parameters
from tiny import parity_reward, tiny_model, tiny_prompts, tiny_tokenizer

from qwenlong_trl import CurriculumMismatchError, Phase, PhasedGRPOTrainer, RewardError
from qwenlong_trl.checkpoints import newest_complete_checkpoint
from qwenlong_trl.phased_grpo.rollouts import require_tokens


SHORT = {"phases": [Phase(max_prompt_length=8, max_steps=2), Phase(max_prompt_length=16, max_steps=2)]}


def logs(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def train(folder, rewards, **settings):
    trainer = make_trainer(make_args(folder, **(SHORT | {"save_strategy": "no"} | settings)), rewards=rewards)
    trainer.train()
    return trainer


# ---- a reward function that raises ----------------------------------------------------------------------------------


def raising(bad: set[str], asynchronous: bool):
    """The parity of the answer, but for some rows once the curriculum has got to them; and how often it was called."""
    calls = []

    def parity(completions, id, trainer_state, **columns):
        calls.append(len(id))
        if trainer_state.global_step >= 2 and bad & set(id):
            raise ZeroDivisionError("no tokens to divide by")
        return parity_reward(completions)

    async def waiting(**columns):
        return parity(**columns)

    waiting.__name__ = "parity"
    return (waiting if asynchronous else parity), calls


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_reward_that_raises_on_one_row_is_named_with_the_row_and_the_step(tmp_path, asynchronous):
    settings = SHORT | {"retrospective": "weighted"}
    whole = make_trainer(make_args(tmp_path / "whole", **settings), rewards=raising(set(), asynchronous)[0])
    whole.train()
    guilty = f"p{whole.batches[2][3]}"  # a row of the third window
    out = tmp_path / "out"
    broken, calls = raising({guilty}, asynchronous)
    trainer = make_trainer(make_args(out, **settings), rewards=broken)
    with pytest.raises(RewardError) as error:
        trainer.train()
    assert str(error.value).startswith(
        f"the reward function 'parity', in step 3, raised ZeroDivisionError on row '{guilty}': no tokens to divide by"
    )
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert sum(calls) <= 16 * 3 + 2 * 16 + 2  # the search costs about another window
    # Nothing of the step is there, and the last checkpoint goes on.
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    assert not list(out.rglob("*.tmp*"))
    assert trainer.reward_funcs == [broken] and trainer._rollouts is None
    resumed = make_trainer(make_args(out, **settings), rewards=raising(set(), asynchronous)[0])
    resumed.train(resume_from_checkpoint=True)
    assert_equal_runs(resumed, whole)


def test_a_reward_that_raises_only_on_whole_batches(tmp_path):
    def greedy(completions, **columns):
        if len(completions) > 2:
            raise MemoryError("too many")
        return parity_reward(completions)

    with pytest.raises(RewardError, match="'greedy', in step 1, raised MemoryError on 16 rows together, on none of"):
        train(tmp_path, greedy)


def test_without_ids_the_number_of_the_row_names_it(tmp_path):
    seen = []

    def wrong(completions, prompts, **columns):
        seen.append(prompts[6])
        return ["1.0" if prompt == prompts[6] else 1.0 for prompt in prompts]

    rows = tiny_prompts(list(LENGTHS)).remove_columns("id")
    args = make_args(tmp_path, **SHORT)
    trainer = PhasedGRPOTrainer(tiny_model(), wrong, args, rows, processing_class=tiny_tokenizer())
    with pytest.raises(RewardError, match=r"returned '1.0', a str, for row '(\d+)'") as error:
        trainer.train()
    number = int(re.search(r"for row '(\d+)'", str(error.value))[1])
    assert rows[number]["prompt"] == seen[0]


# ---- rewards that are none ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """Scores four completions in a trainer, with a function in the place of a plain or of an asynchronous one."""

    async def waiting(completions, **columns):
        return parity_reward(completions)

    args = make_args(tmp_path_factory.mktemp("scorer"), **SHORT)
    trainer = make_trainer(args, rewards=[parity_reward, waiting])

    def score(function, asynchronous: bool) -> list[float]:
        async def awaited(**columns):
            return function(**columns)

        functions = trainer.reward_funcs
        trainer.reward_funcs = [functions[0], awaited] if asynchronous else [function, functions[1]]
        rows = [trainer.train_dataset[i] for i in range(4)]
        try:
            texts = [f"w{i}" for i in range(4)]
            rewards = trainer._calculate_rewards(rows, [row["prompt"] for row in rows], texts, [[i] for i in range(4)])
        finally:
            trainer.reward_funcs = functions
        return rewards[:, int(asynchronous)].tolist()

    return score


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([0.0, 1.0, 0.0], "returned 3 rewards for 4 completions"),
        ([], "returned 0 rewards for 4 completions"),
        (None, "returned None, a NoneType; a list of 4 numbers was expected"),
        (1.0, "returned 1.0, a float; a list of 4 numbers was expected"),
        ("1111", "returned '1111', a str; a list of 4 numbers was expected"),
        ({0: 1.0}, "returned {0: 1.0}, a dict; a list of 4 numbers was expected"),
        (torch.tensor(1.0), r"returned tensor\(1.\), a Tensor; a list of 4 numbers was expected"),
        ([0.0, 0.0, "1.0", 0.0], "returned '1.0', a str, for row 'p2'"),
        ([0.0, 0.0, [1.0], 0.0], r"returned \[1.0\], a list, for row 'p2'"),
        ([0.0, 0.0, 1j, 0.0], "returned 1j, a complex, for row 'p2'"),
        (
            [0.0, 0.0, math.inf, 0.0],
            "returned inf for row 'p2', which would make the advantages",
        ),
        (torch.tensor([0.0, 0.0, -math.inf, 0.0]), r"returned tensor\(-inf\) for row 'p2'"),
    ],
)
@pytest.mark.parametrize(("asynchronous", "name"), [(False, "parity_reward"), (True, "waiting")])
def test_what_is_no_reward_is_refused(scorer, returned, message, asynchronous, name):
    with pytest.raises(RewardError, match=f"^the reward function '{name}', in step 1, {message}"):
        scorer(lambda **columns: returned, asynchronous)


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, np.array, torch.tensor, lambda values: [np.float32(v) for v in values]]
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_numbers_of_every_kind_are_rewards(scorer, kind, asynchronous):
    assert scorer(lambda **columns: kind([0, 1.5, True, -2.25]), asynchronous) == [0, 1.5, 1, -2.25]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_cannot_be_scored(scorer, asynchronous):
    found = scorer(lambda **columns: [None, math.nan, torch.tensor(math.nan), 0.5], asynchronous)
    assert [math.isnan(value) for value in found] == [True, True, True, False]


def test_nan_counts_as_not_scored_and_leaves_the_rest_alone(tmp_path):
    """NaN of a second function is none of its reward; of all functions, the completion is in no mean."""

    def second(value):
        def half_scored(completions, id, **columns):
            return [value if int(name[1:]) % 2 else 0.25 for name in id]

        return half_scored

    trainers = [train(tmp_path / str(i), [parity_reward, second(value)]) for i, value in enumerate((math.nan, None))]
    for entry, other in zip(*map(logs, trainers), strict=True):
        assert entry["rewards/half_scored/mean"] == other["rewards/half_scored/mean"] == 0.25
        assert math.isfinite(entry["loss"]) and entry["reward"] == other["reward"]
    expected = parameters(trainers[1])
    assert all(torch.equal(value, expected[name]) for name, value in parameters(trainers[0]).items())


# ---- empty answers --------------------------------------------------------------------------------------------------

SILENT = {"suppress_tokens": [0, *range(2, 43)]}  # nothing but the end is left
OFTEN_SILENT = {"sequence_bias": [[[1], 3.5]]}


@pytest.mark.parametrize("settings", [{}, {"dynamic_sampling": "resample"}, {"prefix_sharing": False}])
def test_runs_of_empty_completions_change_nothing_and_end(tmp_path, settings):
    seen = []

    def saying(completions, **columns):
        seen.extend(completions)
        return parity_reward(completions)

    trainer = train(tmp_path, saying, generation_kwargs=SILENT, **({"max_resample_rounds": 1} | settings))
    assert trainer.state.global_step == 4
    assert set(seen) == {""}
    assert [entry["truncated"] for entry in logs(trainer)] == [0] * 4
    start = dict(tiny_model().named_parameters())
    assert all(torch.equal(value, start[name]) for name, value in parameters(trainer).items())


def test_some_empty_completions(tmp_path):
    seen = []

    def saying(completions, **columns):
        seen.extend(completions)
        return [float(completion == "") for completion in completions]

    trainer = train(tmp_path, saying, generation_kwargs=OFTEN_SILENT, dynamic_sampling="mask")
    assert 0.1 < seen.count("") / len(seen) < 0.9
    assert all(math.isfinite(entry["loss"]) for entry in logs(trainer))
    assert all(torch.isfinite(value).all() for value in parameters(trainer).values())


def test_completions_without_any_token_are_refused(tmp_path):
    def rollout(prompts, trainer):
        ids = [trainer.processing_class(prompt)["input_ids"] for prompt in prompts]
        answers = [[7, 1] if i != 5 else [] for i in range(len(prompts))]
        return {"prompt_ids": ids, "completion_ids": answers, "logprobs": [[0.0] * len(a) for a in answers]}

    trainer = make_trainer(make_args(tmp_path, save_strategy="no", **SHORT), rollout_func=rollout)
    with pytest.raises(ValueError, match="in step 1, 1 of 16 completions have no token at all"):
        trainer.train()
    with pytest.raises(ValueError, match="2 of 3 completions have no token at all"):
        require_tokens([[], [1], []], step=1)


# ---- a phase without signal -----------------------------------------------------------------------------------------


def no_signal_at_first(completions, id, **columns):
    """All short prompts are answered wrong, or all right: no signal in the first phase."""
    values = parity_reward(completions)
    return [float(os.environ["FLAT"]) if int(name[1:]) < 20 else value for value, name in zip(values, id, strict=True)]


@pytest.mark.parametrize(("sampling", "flat"), [("off", "0"), ("off", "1"), ("mask", "0"), ("resample", "1")])
def test_a_phase_without_signal_leaves_the_weights_and_the_next_one_trains(tmp_path, monkeypatch, flat, sampling):
    monkeypatch.setenv("FLAT", flat)
    settings = {"dynamic_sampling": sampling, "max_resample_rounds": 2, "save_strategy": "steps"}
    whole = train(tmp_path, no_signal_at_first, **settings)
    assert [entry["zero_variance"] for entry in logs(whole)[:2]] == [1, 1]
    assert [entry[f"zero_variance/{'all' if flat == '1' else 'none'}"] for entry in logs(whole)[:2]] == [1, 1]
    assert all(math.isfinite(entry["loss"]) for entry in logs(whole))
    start = tiny_model().state_dict()
    after = [type(tiny_model()).from_pretrained(tmp_path / f"checkpoint-{step}").state_dict() for step in (2, 4)]
    assert all(torch.equal(value, start[name]) for name, value in after[0].items())
    assert not all(torch.equal(value, start[name]) for name, value in after[1].items())
    args = make_args(tmp_path / "resumed", **(SHORT | settings | {"save_strategy": "no"}))
    resumed = make_trainer(args, rewards=no_signal_at_first)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert_equal_runs(resumed, whole)


# ---- rows that changed ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_trainer(make_args(folder, save_steps=2, **SHORT)).train()
    return folder / "checkpoint-2"


def changed(rows):
    return rows.map(lambda row: row | {"prompt": row["prompt"][::-1]} if row["id"] in ("p3", "p30") else row)


@pytest.mark.parametrize(
    ("edit", "lines"),
    [
        (changed, ["rows changed: 'p3', 'p30'"]),
        (lambda rows: rows.select([i for i in range(40) if i != 7]), ["rows gone: 'p7'"]),
        (lambda rows: rows.select(range(10, 40)), ["rows gone: 'p0', 'p1', 'p2', 'p3', 'p4' and 5 more"]),
        (
            lambda rows: rows.map(lambda row: row | {"id": "q1" if row["id"] == "p1" else row["id"]}),
            ["rows gone: 'p1'", "rows new: 'q1'"],
        ),
        (lambda rows: rows.select([0, 2, 1, *range(3, 40)]), ["rows in another order, from: 'p1'"]),
    ],
)
def test_rows_that_changed_are_refused_by_name(tmp_path, checkpoint, edit, lines):
    rows = edit(tiny_prompts(list(LENGTHS)))
    args = make_args(tmp_path, **SHORT)
    trainer = PhasedGRPOTrainer(tiny_model(), parity_reward, args, rows, processing_class=tiny_tokenizer())
    with pytest.raises(CurriculumMismatchError) as error:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert [line.strip() for line in str(error.value).splitlines() if line.startswith("  rows ")] == lines


def test_a_checkpoint_of_before_rows_were_named_goes_on(tmp_path, checkpoint):
    trainer = make_trainer(make_args(tmp_path, **SHORT))
    state = json.loads((checkpoint / "curriculum_state.json").read_text())
    assert list(state["signature"].pop("dataset rows by id")) == [f"p{i}" for i in range(40)]
    copy = tmp_path / "checkpoint-2"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "curriculum_state.json").write_text(json.dumps(state))
    assert newest_complete_checkpoint(tmp_path) == str(copy)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 4
