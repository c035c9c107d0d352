"""Under `torchrun` on two processes: `critic_worker.py FOLDER`, where FOLDER has what one process came to."""

import json
import sys
from pathlib import Path

import torch


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from critic_runs import example, make_args, make_trainer  # noqa: E402
from processes import leave  # noqa: E402


SETTINGS = {"optim": "sgd", "max_steps": 2, "needle_rate": 0.0, "outside_drop_rate": 0.0, "eval_budgets": [0.3]}
RECORDS = [example(i) for i in range(8)]
KEPT_OUT = [example(i) for i in range(20, 25)]


def run(folder: Path, rows: int):
    """Two steps on all records, `rows` of them on each process, and an evaluation."""
    args = make_args(folder / "out", per_device_train_batch_size=rows, **SETTINGS)
    trainer = make_trainer(args, RECORDS, eval_dataset=KEPT_OUT)
    trainer.train()
    metrics = trainer.evaluate()
    return trainer, {name: value for name, value in metrics.items() if "@" in name or name == "eval_span_f1"}


def main(folder: Path) -> None:
    trainer, metrics = run(folder, 4)
    expected = torch.load(folder / "weights.pt", weights_only=True)
    for name, value in trainer.accelerator.unwrap_model(trainer.model).state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)
    one = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() == one.keys()
    for name, value in one.items():
        assert abs(metrics[name] - value) < 1e-6, (name, metrics[name], value)
    if trainer.accelerator.is_main_process:
        print("equal")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
