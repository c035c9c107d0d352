"""Training of the critic: exact on resume, equal however a batch is split, frozen layers, what evaluation reports."""

import math
from dataclasses import replace

import pytest
import torch
from cprs_tiny import tiny_critic, tiny_critic_tokenizer
from critic_runs import example, make_args, make_trainer
from datasets import Dataset

from qwenlong_trl.cprs import CPRSTrainer, CPRSTrainingArguments
from qwenlong_trl.cprs.instructions import INSTRUCTIONS
from qwenlong_trl.cprs.trainer import pad_rows
from qwenlong_trl.data import Evidence, to_dataset


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same(one, other) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_resume_equals_not_stopping(tmp_path):
    whole = make_trainer(make_args(tmp_path / "whole", save_strategy="steps", save_steps=2))
    whole.train()
    parts = make_trainer(make_args(tmp_path / "parts"), model=tiny_critic(seed=3))
    parts.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert same(weights(whole), weights(parts))
    assert not same(weights(whole), dict(tiny_critic().state_dict()))


@pytest.mark.parametrize("dropped", [0.0, 0.5])
def test_a_batch_may_be_split(tmp_path, dropped):
    """With nothing dropped, accumulated gradients are those of the whole batch."""
    losses, states = [], []
    for size, steps in ((4, 1), (1, 4)):
        args = make_args(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            outside_drop_rate=dropped,
            optim="sgd",
            max_steps=2,
        )
        trainer = make_trainer(args)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        states.append(weights(trainer))
    if dropped == 0.0:
        assert losses[0] == pytest.approx(losses[1], abs=2e-3)
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, atol=1e-5, rtol=1e-4)
    else:
        assert losses[0] == pytest.approx(losses[1], rel=0.3) and losses[0] != losses[1]


def test_outside_tokens_are_drawn_anew_for_each_step(tmp_path):
    seen = []

    class Watching(CPRSTrainer):
        def get_batch_samples(self, *args):
            batches, count = super().get_batch_samples(*args)
            assert count == sum((batch["labels"] != -100).sum() for batch in batches)
            for batch in batches:
                assert torch.equal(batch["labels"] == -100, batch["tag_labels"] == -100)
                seen.append(batch["labels"].clone())
            return batches, count

    row = {"input_ids": list(range(3, 203)), "labels": [2] * 200, "tag_labels": [9] * 200}
    rows = Dataset.from_list([row] * 4)
    trainer = Watching(tiny_critic(), make_args(tmp_path, max_steps=3), rows, processing_class=tiny_critic_tokenizer())
    trainer.train()
    assert len(seen) == 3
    for labels in seen:
        assert (labels == -100).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert not torch.equal(seen[0], seen[1])


def test_layers_below_stay_as_they_are(tmp_path):
    before = dict(tiny_critic(num_hidden_layers=4).state_dict())
    trainer = make_trainer(make_args(tmp_path, first_trainable_layer=3), model=tiny_critic(num_hidden_layers=4))
    trainer.train()
    changed = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert changed and all(
        name.startswith(("model.layers.3", "model.norm", "lm_head", "cls_head")) for name in changed
    )
    assert {"lm_head.weight", "cls_head.weight"} <= changed
    with pytest.raises(ValueError, match="`first_trainable_layer` must lie between 0 and 2"):
        make_trainer(make_args(tmp_path, first_trainable_layer=3))


def test_evaluation_reports_loss_and_compression(tmp_path):
    args = make_args(tmp_path, eval_strategy="steps", eval_steps=3, eval_budgets=[0.25, 0.5])
    kept_out = [example(i) for i in range(20, 23)]
    trainer = make_trainer(args, eval_dataset=kept_out)
    trainer.train()
    metrics = trainer.evaluate()
    names = {f"eval_{kind}@{b}" for kind in ("evidence_recall", "answer_in_context", "rate") for b in ("0.25", "0.5")}
    assert names | {"eval_loss", "eval_span_f1"} <= set(metrics)
    assert all(math.isfinite(metrics[name]) for name in names)
    assert metrics["eval_rate@0.25"] <= 0.25 and metrics["eval_rate@0.5"] <= 0.5
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert names <= logged
    assert trainer.model.config.window_tokens == 512


def test_the_position_head_alone_has_a_loss_in_evaluation_too(tmp_path):
    args = make_args(tmp_path, max_steps=1)
    trainer = make_trainer(args, model=tiny_critic(tag_loss_weight=0.0), eval_dataset=[example(20)])
    assert "tag_labels" not in trainer.eval_dataset.column_names
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_loss"])
    others = trainer.evaluate([example(i) for i in range(30, 33)], metric_key_prefix="other")
    assert math.isfinite(others["other_loss"]) and "other_evidence_recall@0.2" in others
    with pytest.raises(TypeError, match="several evaluation sets"):
        trainer.evaluate({"a": [example(20)]})


def test_blank_evidence_is_none(tmp_path):
    blank = replace(example(21), evidence=(Evidence(0, 20, 21),))
    assert blank.evidence_text(blank.evidence[0]) == " "
    trainer = make_trainer(make_args(tmp_path), eval_dataset=[blank, example(20)])
    assert [e.id for e in trainer.eval_examples] == ["born/20"]


@pytest.mark.parametrize("kinds", [["token"], ["paragraph", "token"], ["token", "sentence"]])
def test_a_critic_asks_for_what_it_learnt(tmp_path, kinds):
    trainer = make_trainer(make_args(tmp_path, granularities=kinds))
    asked = next(k for k, those in INSTRUCTIONS.items() if trainer.model.config.instruction in [i.text for i in those])
    assert asked == ("sentence" if "sentence" in kinds else kinds[0])


def test_the_best_model_may_be_chosen_by_compression(tmp_path):
    args = make_args(
        tmp_path,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=3,
        save_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="evidence_recall@0.2",
        greater_is_better=True,
    )
    trainer = make_trainer(args, eval_dataset=[example(20)])
    trainer.train()
    assert trainer.state.best_metric is not None


def test_learns_to_point(tmp_path):
    """Sixty steps are enough to learn that the sentence after the first one is wanted."""
    records = [example(i, documents=1) for i in range(16)]
    args = make_args(tmp_path, max_steps=60, needle_rate=0.0, learning_rate=2e-2, eval_budgets=[0.6])
    trainer = make_trainer(args, records, model=tiny_critic(hidden_size=32, head_dim=16), eval_dataset=records[:8])
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.5 * before["eval_loss"]
    assert after["eval_span_f1"] > 0.8 > before["eval_span_f1"]


def test_records_as_a_dataset_give_the_same_rows(tmp_path):
    records = [example(i) for i in range(6)]
    one = make_trainer(make_args(tmp_path), records).train_dataset
    other = make_trainer(make_args(tmp_path), to_dataset(records)).train_dataset
    assert one[:] == other[:] and len(one) >= 6


def test_padding_of_rows():
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 0, 3], "tag_labels": [-100, 9, 9]},
        {"input_ids": [8], "labels": [2], "tag_labels": [4]},
    ]
    batch = pad_rows(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 0, 3], [2, -100, -100]]
    assert batch["tag_labels"].tolist() == [[-100, 9, 9], [4, -100, -100]]
    assert "attention_mask" not in pad_rows(rows[:1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"granularities": ["word"]}, "`granularities` must be some of token, sentence, paragraph"),
        ({"granularities": []}, "`granularities`"),
        ({"needle_rate": 1.5}, "`needle_rate` must lie between 0 and 1"),
        ({"outside_drop_rate": -0.1}, "`outside_drop_rate` must lie between 0 and 1"),
        ({"eval_budgets": [0.0]}, "`eval_budgets` must lie above 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        make_args(tmp_path, **fields)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(TypeError, match="CPRSTrainingArguments"):
        CPRSTrainer(tiny_critic(), None)
    with pytest.raises(ValueError, match="processing_class"):
        CPRSTrainer(tiny_critic(), CPRSTrainingArguments(str(tmp_path), use_cpu=True))
    with pytest.raises(ValueError, match="leave less than a quarter"):
        make_trainer(make_args(tmp_path, window_tokens=64))
