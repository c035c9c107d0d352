"""Under `torchrun`: `everywhere_worker.py FOLDER replicated/NAME... sharded/NAME...` leaves results in FOLDER."""

import os
import sys
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parent)]

import torch  # noqa: E402
from everywhere import CASES, SAMPLED, grpo, outcome  # noqa: E402
from fsdp_on_cpu import FSDP2, allow_fsdp_on_cpu, assert_still_needed  # noqa: E402
from processes import leave  # noqa: E402
from torch.distributed.tensor import DTensor  # noqa: E402


def main(folder: Path, tasks: list[str]) -> None:
    processes = int(os.environ["WORLD_SIZE"])
    for task in tasks:
        mode, name = task.split("/")
        if mode == "sharded":
            assert_still_needed()
            allow_fsdp_on_cpu()
        options = FSDP2 if mode == "sharded" else {}
        make, settings = CASES[name] if name in CASES else (grpo, {"sampled": True} | SAMPLED[name])
        trainer = make(folder, processes, **settings, **options)
        passes = count_passes(trainer.model)
        result = outcome(trainer)
        sharded = [isinstance(value, DTensor) for value in trainer.model.parameters()]
        assert all(sharded) if mode == "sharded" else not any(sharded), name
        everywhere = [None] * processes
        torch.distributed.all_gather_object(everywhere, passes)
        # Each is a collective for weights that are sharded, whatever a process has to compute in it.
        if mode == "sharded":
            assert all(other == passes for other in everywhere), (name, everywhere)
        if trainer.accelerator.is_main_process:
            torch.save(result, folder / f"{name} {mode}.pt")
            print("done", task, flush=True)


def resume_sharded(folder: Path) -> None:
    """Stops between the phases, and resumes: the same prompts, and the same weights to the bit."""
    settings = {"optim": "adamw_torch", "learning_rate": 1e-2, "retrospective": "hard_zero", **FSDP2}
    whole = grpo(folder, 2, **settings, save_strategy="steps", save_steps=2)
    expected = outcome(whole)["weights"]
    resumed = grpo(folder, 2, **settings)
    resumed.train(resume_from_checkpoint=str(folder / "out" / "checkpoint-2"))
    assert resumed.batches == whole.batches[2:]
    assert resumed.curriculum.carried == whole.curriculum.carried
    for name, value in resumed.model.named_parameters():
        assert torch.equal(value.full_tensor(), expected[name]), name
    if whole.accelerator.is_main_process:
        print("resumed", flush=True)


def count_passes(model) -> list[bool]:
    """A list that grows with each forward pass of the model's first layer, by whether it is part of a graph."""
    passes: list[bool] = []
    layers = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    layers[0].register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    return passes


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    if sys.argv[-1].startswith("sharded"):
        resume_sharded(Path(sys.argv[1]))
    leave()
