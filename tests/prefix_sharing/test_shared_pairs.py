"""SoLoPO with shared prefixes is SoLoPO: chosen and rejected answers have their prompt in common."""

import sys
from pathlib import Path

import pytest
import torch

from qwenlong_trl.prefix_sharing import SharedPrefixForward


sys.path.insert(0, str(Path(__file__).parents[1] / "solopo"))

from solopo_runs import batch_of, loss_and_gradients, make_args, make_trainer  # noqa: E402


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"algorithm": "simpo", "solo_align": "both"},
        {"algorithm": "orpo", "gradient_checkpointing": True},
        {"sequential_backward": True},
        {"precompute_ref_log_probs": True},
        {"objective": "long_po"},
        {"objective": "longpo"},
    ],
    ids=str,
)
def test_equal_losses_gradients_and_metrics(tmp_path, settings):
    found = []
    for sharing in (False, True):
        trainer = make_trainer(make_args(tmp_path / str(sharing), prefix_sharing=sharing, **settings))
        loss, gradients = loss_and_gradients(trainer)
        metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
        found.append((loss, torch.cat([g.flatten() for g in gradients.values()]), metrics))
    (expected, expected_gradients, expected_metrics), (loss, gradients, metrics) = found
    assert loss == pytest.approx(expected, abs=1e-5)
    assert (gradients - expected_gradients).norm() < 1e-5 * expected_gradients.norm()
    assert metrics.keys() == expected_metrics.keys()
    for name, value in expected_metrics.items():
        assert metrics[name] == pytest.approx(value, abs=1e-5, rel=1e-4), name


def test_a_pair_is_computed_with_one_prompt(tmp_path):
    trainer = make_trainer(make_args(tmp_path, algorithm="simpo"))
    batch = batch_of(trainer, [0, 1])
    loss_and_gradients(trainer, batch)
    scorer = trainer.scorers(trainer.model)
    assert isinstance(scorer, SharedPrefixForward)
    scorer(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100),
        fused_lm_head=True,
    )
    prompts = [len(trainer.train_dataset[i]["prompt_ids"]) for i in (0, 1)]
    # Each prompt but its last token once less, and two completions without their last token and with an opening one.
    assert scorer.tokens[0] - scorer.tokens[1] == sum(prompts) + 2
