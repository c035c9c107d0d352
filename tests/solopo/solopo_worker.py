"""Under `torchrun` on two processes: `solopo_worker.py FOLDER`, where FOLDER has what one process came to."""

import sys
from pathlib import Path

import torch


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from processes import leave  # noqa: E402
from solopo_runs import SETTINGS, make_args, make_trainer, parameters  # noqa: E402


def main(folder: Path) -> None:
    for name, settings in SETTINGS.items():
        trainer = make_trainer(make_args(folder / name, per_device_train_batch_size=4, **settings))
        trainer.train()
        expected = torch.load(folder / f"{name}.pt", weights_only=True)
        for parameter, value in parameters(trainer).items():
            torch.testing.assert_close(value, expected["parameters"][parameter], atol=1e-6, rtol=1e-4)
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        for entry, other in zip(log, expected["log"], strict=True):
            assert entry.keys() == other.keys()
            for key, value in other.items():
                assert abs(entry[key] - value) < 1e-4 * max(1, abs(value)), (name, key, entry[key], value)
        if trainer.accelerator.is_main_process:
            print("equal", name)
    settings = SETTINGS["simpo_sequential"] | {"save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch"}
    whole = make_trainer(make_args(folder / "whole", per_device_train_batch_size=2, **settings))
    whole.train()
    args = make_args(folder / "resumed", per_device_train_batch_size=2, **(settings | {"save_strategy": "no"}))
    resumed = make_trainer(args)
    resumed.train(resume_from_checkpoint=str(folder / "whole" / "checkpoint-1"))
    for name, value in parameters(resumed).items():
        assert torch.equal(value, parameters(whole)[name]), name
    if whole.accelerator.is_main_process:
        print("resumed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
