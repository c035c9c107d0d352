"""What a step computes, against TRL, plain logits and finite differences; sequential backward, metrics, resume."""

import pytest
import torch
from solopo_rows import twins
from solopo_runs import (
    ALGORITHMS,
    assert_same_gradients,
    batch_of,
    loss_and_gradients,
    make_args,
    make_trainer,
    parameters,
)
from tiny import tiny_model
from trl import DPOConfig

from qwenlong_trl.solopo.losses import alignment_distance
from qwenlong_trl.solopo.losses import rewards as reward_of


def equal_contexts():
    rows = twins()
    return rows.map(lambda row: {"long_prompt": row["prompt"]})


@pytest.mark.parametrize("algorithm", ["dpo", "simpo", "orpo", "ipo", "hinge"])
def test_equal_contexts_have_no_alignment(tmp_path, algorithm):
    # Batches of one pair, so that the padding is the same on both sides.
    both = make_trainer(make_args(tmp_path, algorithm=algorithm, solo_align="both"), equal_contexts())
    alone = make_trainer(make_args(tmp_path, algorithm=algorithm, objective="short_po"), equal_contexts())
    for row in range(3):
        loss, gradients = loss_and_gradients(both, batch_of(both, [row]))
        base, expected = loss_and_gradients(alone, batch_of(alone, [row]))
        assert loss == pytest.approx(base, abs=1e-6)
        assert_same_gradients(gradients, expected, atol=1e-5)
    assert max(both._metrics["train"]["solo/alignment"]) < 1e-5


@pytest.mark.parametrize(("algorithm", "loss_type"), [("dpo", "sigmoid"), ("hinge", "hinge"), ("ipo", "ipo")])
@pytest.mark.parametrize("settings", [{"solo_alpha": 0.0}, {"solo_align": "none"}, {"objective": "short_po"}])
def test_without_alignment_it_is_trl(tmp_path, algorithm, loss_type, settings):
    ours = make_trainer(make_args(tmp_path, algorithm=algorithm, **settings))
    trl = make_trainer(make_args(tmp_path, DPOConfig, loss_type=[loss_type]))
    loss, gradients = loss_and_gradients(ours)
    expected, expected_gradients = loss_and_gradients(trl)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert_same_gradients(gradients, expected_gradients)
    # Its metrics, too. For IPO, TRL logs beta times the summed log-ratio, which is not the reward of its loss.
    for name, values in trl._metrics["train"].items():
        if name == "num_tokens" or (algorithm == "ipo" and name in ("rewards/chosen", "rewards/rejected")):
            continue
        if algorithm == "ipo" and name in ("rewards/margins", "rewards/accuracies"):
            continue
        assert ours._metrics["train"][name] == pytest.approx(values, abs=1e-5), name


def test_long_po_is_trl_on_the_long_prompts(tmp_path):
    ours = make_trainer(make_args(tmp_path, objective="long_po"))
    rows = twins().remove_columns("prompt").rename_column("long_prompt", "prompt")
    trl = make_trainer(make_args(tmp_path, DPOConfig, max_length=96), rows)
    loss, gradients = loss_and_gradients(ours)
    expected, expected_gradients = loss_and_gradients(trl)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert_same_gradients(gradients, expected_gradients)


def logps_by_hand(model, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()


def loss_by_hand(trainer, model, reference) -> torch.Tensor:
    """The objective, row by row from plain logits, without padding, masks, or anything of the trainer's."""
    args = trainer.args
    losses = []
    for row in trainer.train_dataset:
        reward, mean = {}, None
        for answer in ("chosen", "rejected"):
            for side in ("prompt", "long_prompt"):
                ids = (row[f"{side}_ids"], row[f"{answer}_ids"])
                logps, n = logps_by_hand(model, *ids), len(ids[1])
                if args.algorithm == "dpo":
                    with torch.no_grad():
                        base = logps_by_hand(reference, *ids)
                    reward[answer, side] = 0.1 * (logps - base)
                elif args.algorithm == "simpo":
                    reward[answer, side] = 10 * logps / n
                else:
                    p = (logps / n).exp()
                    reward[answer, side] = (p / (1 - p)).log()
                if (answer, side) == ("chosen", "prompt"):
                    mean = logps / n
        margin = reward["chosen", "prompt"] - reward["rejected", "prompt"]
        loss = -(margin - (3.0 if args.algorithm == "simpo" else 0)).sigmoid().log()
        if args.algorithm == "orpo":
            loss = -mean + 0.1 * loss
        for answer in args.aligned:
            loss = loss + args.solo_alpha * (reward[answer, "prompt"] - reward[answer, "long_prompt"]).abs()
        losses.append(loss)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("align", ["chosen", "both"])
def test_the_objective_from_plain_logits(tmp_path, algorithm, align):
    """Fused log-probabilities, padding, halves of batches and the loss, against the formula row by row."""
    trainer = make_trainer(make_args(tmp_path, algorithm=algorithm, solo_align=align))
    loss, gradients = loss_and_gradients(trainer)
    model = tiny_model()
    expected = loss_by_hand(trainer, model, tiny_model(seed=1))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(gradients, {name: p.grad for name, p in model.named_parameters()}, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_finite_differences(tmp_path, algorithm):
    """The slope of the loss in a random direction of the parameters, in float64."""
    args = make_args(tmp_path, algorithm=algorithm, solo_distance="softplus")
    trainer = make_trainer(args, model=tiny_model().double())
    if trainer.ref_model is not None:
        trainer.ref_model.double()
    _, gradients = loss_and_gradients(trainer)
    torch.manual_seed(0)
    direction = {name: torch.randn_like(value) for name, value in gradients.items()}
    slope = sum((gradients[name] * direction[name]).sum() for name in gradients).item()
    step, losses = 1e-4, []
    for sign in (1, -2):
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                parameter += sign * step * direction[name]
        with torch.no_grad():
            losses.append(trainer.compute_loss(trainer.model, batch_of(trainer)).item())
    # The LM head is computed in float32 whatever the model is in.
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, rel=2e-2, abs=1e-3)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "ipo", "hinge"])
@pytest.mark.parametrize("align", ["chosen", "both"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("distance", ["l1", "softplus"])
def test_sequential_backward_is_the_joint_gradient(tmp_path, algorithm, align, detach, distance):
    settings = {"algorithm": algorithm, "solo_align": align, "detach_short_reward": detach, "solo_distance": distance}
    joint = make_trainer(make_args(tmp_path, **settings))
    loss, gradients = loss_and_gradients(joint)
    sequential = make_trainer(make_args(tmp_path, sequential_backward=True, **settings))
    found, found_gradients = loss_and_gradients(sequential)
    assert found == pytest.approx(loss, rel=1e-6)
    scale = max(gradient.abs().max().item() for gradient in gradients.values())
    assert_same_gradients(found_gradients, gradients, atol=1e-5 * scale, rtol=1e-5)
    for name, values in joint._metrics["train"].items():
        assert sequential._metrics["train"][name] == pytest.approx(values, rel=1e-4, abs=1e-5), name


def test_sequential_backward_through_checkpointing_and_accumulation(tmp_path):
    settings = {"algorithm": "simpo", "gradient_checkpointing": True, "gradient_accumulation_steps": 2}
    settings |= {"per_device_train_batch_size": 2, "max_steps": 3}
    runs = []
    for sequential in (False, True):
        trainer = make_trainer(make_args(tmp_path, sequential_backward=sequential, **settings))
        trainer.train()
        runs.append((parameters(trainer), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))
    assert runs[1][1] == pytest.approx(runs[0][1], rel=1e-4)
    for name, value in runs[0][0].items():
        torch.testing.assert_close(runs[1][0][name], value, atol=1e-5, rtol=1e-4)


def test_detached_short_reward_moves_the_long_side_alone(tmp_path):
    """The gradient is that of the preference loss plus that of the long rewards, whose sign is known here."""
    settings = {"algorithm": "simpo", "solo_distance": "l2", "solo_alpha": 1.0}
    trainer = make_trainer(make_args(tmp_path, detach_short_reward=True, **settings))
    _, gradients = loss_and_gradients(trainer)
    alone = make_trainer(make_args(tmp_path, algorithm="simpo", objective="short_po"))
    _, expected = loss_and_gradients(alone)
    model, total = tiny_model(), 0
    for row in trainer.train_dataset:
        values = []
        for side in ("prompt", "long_prompt"):
            logps = logps_by_hand(model, row[f"{side}_ids"], row["chosen_ids"])
            values.append(reward_of("simpo", logps, torch.tensor(len(row["chosen_ids"])), None, 10.0))
        total = total + alignment_distance("l2", values[0].detach() - values[1]) / len(trainer.train_dataset)
    total.backward()
    for name, parameter in model.named_parameters():
        expected[name] += parameter.grad
    assert_same_gradients(gradients, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rejected_answers_never_run_on_the_long_prompts(tmp_path, algorithm):
    trainer = make_trainer(make_args(tmp_path, algorithm=algorithm, prefix_sharing=False))
    batch = batch_of(trainer)
    ids = [row[row != 0].tolist() for row in batch["long_input_ids"]]
    assert ids == [row["long_prompt_ids"] + row["chosen_ids"] for row in trainer.train_dataset]
    assert batch["input_ids"].shape[1] < batch["long_input_ids"].shape[1]  # not padded to one length
    shapes = []
    forward = trainer.model.forward
    trainer.model.forward = lambda *args, **kwargs: (
        shapes.append(tuple(kwargs["input_ids"].shape)),
        forward(*args, **kwargs),
    )[1]
    loss_and_gradients(trainer)
    assert shapes == [tuple(batch["input_ids"].shape), tuple(batch["long_input_ids"].shape)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_distractors_change_the_gap_alone(tmp_path, algorithm):
    def shuffled(row):
        words = row["long_prompt"].split()
        n = len(row["prompt"].split())
        return {"long_prompt": " ".join([*reversed(words[:-n]), *words[-n:]]) + " "}

    metrics = []
    for rows in (twins(), twins().map(shuffled)):
        trainer = make_trainer(make_args(tmp_path, algorithm=algorithm), rows)
        loss_and_gradients(trainer)
        metrics.append(trainer._metrics["train"])
    assert metrics[0]["solo/po_loss"] == metrics[1]["solo/po_loss"]
    assert metrics[0]["solo/gap"] != metrics[1]["solo/gap"]
    assert metrics[0]["rewards/long_chosen"] != metrics[1]["rewards/long_chosen"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_alignment_falls(tmp_path, algorithm):
    """Trained on hardly anything else, the long rewards come to the short ones."""
    settings = {"algorithm": algorithm, "solo_alpha": 100.0, "max_steps": 60, "learning_rate": 3e-3}
    trainer = make_trainer(make_args(tmp_path, **settings, per_device_train_batch_size=8))
    trainer.train()
    gaps = [entry["solo/alignment"] for entry in trainer.state.log_history if "solo/alignment" in entry]
    assert sum(gaps[-5:]) < 0.5 * sum(gaps[:5])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_preferences_are_learnt(tmp_path, algorithm):
    settings = {"algorithm": algorithm, "max_steps": 40, "learning_rate": 5e-3, "per_device_train_batch_size": 8}
    trainer = make_trainer(make_args(tmp_path, **settings))
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert log[-1]["rewards/accuracies"] == 1.0
    assert log[-1]["loss"] < log[0]["loss"]


def test_metrics(tmp_path):
    trainer = make_trainer(make_args(tmp_path, solo_align="both", max_steps=2))
    trainer.train()
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    for name in ("alignment", "gap", "po_loss"):
        assert f"solo/{name}" in first
    for name in ("chosen", "rejected", "long_chosen", "long_rejected"):
        assert {f"rewards/{name}", f"logps/{name}"} <= set(first)
    assert first["solo/gap"] == pytest.approx(first["rewards/chosen"] - first["rewards/long_chosen"], abs=1e-6)
    assert first["loss"] == pytest.approx(first["solo/po_loss"] + 3 * first["solo/alignment"], rel=1e-4)
    lengths = [
        2 * len(row["prompt_ids"]) + 2 * len(row["long_prompt_ids"]) + 2 * len(row["chosen_ids"] + row["rejected_ids"])
        for row in trainer.train_dataset
    ]
    assert second["num_tokens"] == sum(lengths)  # two batches of four are all rows; both sides count


def test_evaluation(tmp_path):
    trainer = make_trainer(make_args(tmp_path, per_device_eval_batch_size=8), eval_dataset=twins(8))
    metrics = trainer.evaluate()
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model.eval(), batch_of(trainer)).item()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-6)
    assert metrics["eval_solo/alignment"] > 0
    other = trainer.evaluate(twins(4, seed=3))  # a data set that is prepared only now
    assert other["eval_loss"] != metrics["eval_loss"]


def test_compute_metrics_gets_logits_of_the_pairs(tmp_path):
    seen = []
    trainer = make_trainer(
        make_args(tmp_path),
        eval_dataset=twins(4, unequal=False),
        compute_metrics=lambda prediction: seen.append(prediction.predictions.shape) or {"n": 1},
    )
    with pytest.warns(UserWarning, match="one more forward pass"):
        assert trainer.evaluate()["eval_n"] == 1
    assert [shape[1:] for shape in seen] == [(10, 43)]


def test_log_probabilities_without_gradient_are_refused(tmp_path):
    """As Liger's fused losses return them: without this check the alignment would silently train nothing."""
    trainer = make_trainer(make_args(tmp_path))
    forward = trainer.model.forward

    def without_gradient(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        outputs.log_probs = outputs.log_probs.detach()
        return outputs

    trainer.model.forward = without_gradient
    with pytest.raises(RuntimeError, match="carry no gradient"):
        loss_and_gradients(trainer)


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match="needs `args` to be a SoLoPOConfig, got NoneType"):
        make_trainer_without_args()
    with pytest.raises(ValueError, match="algorithm='simpo' has no reference model"):
        make_trainer(make_args(tmp_path, algorithm="simpo"), ref_model=tiny_model())


def make_trainer_without_args():
    from qwenlong_trl import SoLoPOTrainer

    return SoLoPOTrainer(tiny_model())


@pytest.mark.parametrize("settings", [{}, {"algorithm": "simpo", "sequential_backward": True}, {"algorithm": "orpo"}])
def test_resuming_equals_not_stopping(tmp_path, settings):
    settings = settings | {"max_steps": 5, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(make_args(tmp_path / "whole", **settings))
    whole.train()
    for step in (1, 3):
        args = make_args(tmp_path / f"from_{step}", **(settings | {"save_strategy": "no"}))
        resumed = make_trainer(args)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        for name, value in parameters(resumed).items():
            assert torch.equal(value, parameters(whole)[name]), (step, name)


def test_a_saved_model_loads_and_its_card_names_the_paper(tmp_path):
    from transformers import AutoModelForCausalLM

    trainer = make_trainer(make_args(tmp_path, max_steps=2, save_strategy="steps", save_steps=2))
    trainer.train()
    trainer.save_model(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, value in parameters(trainer).items():
        assert torch.equal(loaded.get_parameter(name), value)
    card = (tmp_path / "README.md").read_text()
    assert "SoLoPO" in card and "2505.11166" in card
