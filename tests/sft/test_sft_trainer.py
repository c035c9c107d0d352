"""The mean over examples against Eq. 11 by hand: micro-batches, accumulation, processes, packing; long rows."""

from pathlib import Path

import pytest
import torch
from processes import run_on_two_processes
from sft_runs import EQUAL, UNEQUAL, assert_same_step, by_hand, make_args, make_trainer, one_step, rows
from tiny import tiny_tokenizer
from trl import SFTConfig

from qwenlong_trl.sft.trainer import sequence_weights


@pytest.mark.parametrize(("size", "accumulation"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_the_step_is_the_mean_over_examples(tmp_path, size, accumulation):
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    assert_same_step(one_step(tmp_path, **settings), by_hand())


def test_the_two_aggregations_differ_on_unequal_lengths():
    assert abs(by_hand()[0] - by_hand(aggregation="token")[0]) > 1e-3


def test_a_last_micro_batch_that_is_smaller_counts_its_examples(tmp_path):
    # 8 examples in micro-batches of 3, 3 and 2.
    settings = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 3}
    assert_same_step(one_step(tmp_path, **settings), by_hand())


def test_packed_rows_equal_padded_ones(tmp_path):
    # Every packed row of 40 tokens holds several examples, each with a weight of its own.
    trainer = make_trainer(make_args(tmp_path / "a", packing=True, max_length=40))
    assert 1 < len(trainer.train_dataset) < 8
    step = one_step(tmp_path / "b", packing=True, max_length=40, per_device_train_batch_size=4)
    assert_same_step(step, by_hand())


@pytest.mark.parametrize("size", [4, 8])
def test_without_padding(tmp_path, size):
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
    assert_same_step(one_step(tmp_path, padding_free=True, **settings), by_hand())


@pytest.mark.slow
def test_two_processes(tmp_path):
    worker = str(Path(__file__).parent / "sft_runs.py")
    done = run_on_two_processes([worker, str(tmp_path)])
    assert done.stdout.count("equal on two processes") == 2


def test_equal_lengths_equal_trl(tmp_path):
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    ours = one_step(tmp_path / "ours", EQUAL, **settings)
    assert_same_step(ours, one_step(tmp_path / "trl", EQUAL, config=SFTConfig, **settings))


def test_token_aggregation_is_trl(tmp_path):
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    ours = one_step(tmp_path / "ours", loss_aggregation="token", **settings)
    stock = one_step(tmp_path / "trl", config=SFTConfig, **settings)
    assert ours[0] == stock[0]
    assert all(torch.equal(ours[1][name], value) for name, value in stock[1].items())
    assert_same_step(ours, by_hand(aggregation="token"))


@pytest.mark.parametrize("size", [8, 3])
def test_evaluation_loss(tmp_path, size):
    args = make_args(tmp_path, per_device_eval_batch_size=size)
    trainer = make_trainer(args, eval_dataset=rows(UNEQUAL))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(by_hand()[0], abs=2e-5)


def test_long_rows_are_dropped_and_counted(tmp_path, transformers_log):
    # UNEQUAL has rows of 5, 24, 8, 33, 14, 12, 10 and 24 tokens, the end of the completion included.
    trainer = make_trainer(make_args(tmp_path, max_length=23))
    assert "3 of 8 rows of the train dataset have more than 23 tokens" in transformers_log.text
    assert [len(ids) for ids in trainer.train_dataset["input_ids"]] == [5, 8, 14, 12, 10]


def test_a_row_of_exactly_max_length_stays_whole(tmp_path):
    trainer = make_trainer(make_args(tmp_path, max_length=24))
    assert [len(ids) for ids in trainer.train_dataset["input_ids"]] == [5, 24, 8, 14, 12, 10, 24]
    assert trainer.train_dataset[1]["labels"][-1] == tiny_tokenizer().eos_token_id


def test_no_row_left_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="8 of 8 rows of the train dataset have more than 4 tokens.*none is left"):
        make_trainer(make_args(tmp_path, max_length=4))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"packing": True, "packing_strategy": "wrapped", "max_length": 40}, "packing_strategy='wrapped'"),
        ({"packing": True, "packing_strategy": "bfd_split", "max_length": 40}, "packing_strategy='bfd_split'"),
        ({"loss_type": "dft"}, "loss_type='dft'"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"average_tokens_across_devices": False}, "average_tokens_across_devices"),
        ({"loss_aggregation": "words"}, "must be one of"),
    ],
)
def test_what_would_not_be_exact_is_refused(tmp_path, overrides, reason):
    with pytest.raises(ValueError, match=reason):
        make_args(tmp_path, **overrides)


def test_the_token_mean_allows_what_the_sequence_mean_refuses(tmp_path):
    assert make_args(tmp_path, loss_aggregation="token", loss_type="dft").loss_type == "dft"


def test_weights_of_packed_and_padded_rows():
    mask = torch.tensor([[True, True, False, False], [False, True, False, False], [False] * 4])
    weights, sequences = sequence_weights(mask)
    assert sequences == 2  # the third row has no labels
    assert weights.tolist() == [[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    # Sequences of 3, 1 and 4 tokens in one row; the label at position i is the token at position i + 1.
    restarts = torch.tensor([[True, False, False, True, True, False, False, False]])
    mask = torch.tensor([[False, True, False, False, True, True, True]])
    weights, sequences = sequence_weights(mask, restarts)
    assert sequences == 2
    assert weights.tolist() == [[0, 1, 0, 0, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3)]]
