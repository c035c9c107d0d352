"""Runs of the stock trainer that several tests look at."""

import pytest
import torch
from observed import Observed, make
from trl.trainer.utils import split_tensor_dict


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Observed:
    trainer = make(tmp_path_factory.mktemp("trained"))
    trainer.train()
    return trainer


@pytest.fixture(scope="session")
def resumed(trained, tmp_path_factory) -> Observed:
    trainer = make(tmp_path_factory.mktemp("resumed"), save_strategy="no")
    trainer.train(resume_from_checkpoint=f"{trained.args.output_dir}/checkpoint-2")
    return trainer


@pytest.fixture(scope="session")
def loss(trained):
    """The loss of one generated micro-batch, with parts of it or attributes of the trainer replaced."""
    _, _, values = trained.calls("generate")[0]
    batch = split_tensor_dict(values["output"], trained.args.steps_per_generation)[0]
    batch["advantages"] = torch.tensor([1.0, -1.0, 0.5, -0.25])
    batch["old_per_token_logps"] = torch.full_like(batch["completion_mask"], -3.5, dtype=torch.float32)
    batch["ref_per_token_logps"] = torch.full_like(batch["completion_mask"], -3.0, dtype=torch.float32)
    trained.model.train()
    trained.current_gradient_accumulation_steps = 2

    def compute(replaced=None, **attributes) -> float:
        before = {name: getattr(trained, name) for name in attributes}
        try:
            for name, value in attributes.items():
                setattr(trained, name, value)
            return trained._compute_loss(trained.model, batch | (replaced or {})).item()
        finally:
            for name, value in before.items():
                setattr(trained, name, value)

    compute.batch = batch
    return compute
