"""What a training says about itself, in `qwenlong_run.json` beside the model, and how it is read again.

The card of a model is made from this file, from `trainer_state.json`, from the configuration and from measurements,
never from the objects in memory: whoever has the folder can make the card again, and check each of its numbers.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import plain, read_json, write_json


if TYPE_CHECKING:
    from transformers import Trainer


RUN_FILE = "qwenlong_run.json"
STATE_FILE = "trainer_state.json"
FORMAT = 1
_PACKAGES = ("qwenlong-trl", "trl", "transformers", "torch", "datasets", "accelerate", "peft")
# Arguments of every training that say how it went; each trainer adds its own.
_ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "optim",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_steps",
    "num_train_epochs",
    "bf16",
    "seed",
)


@dataclass(frozen=True)
class RunFiles:
    """
    What a run left in a folder.

    Args:
        folder (`Path`):
            The folder.
        about (`dict[str, Any]`):
            `qwenlong_run.json`: method, base model, arguments, data, versions, hardware.
        log (`list[dict[str, Any]]`):
            The log history of `trainer_state.json`; empty if there is none.
        steps (`int`, *optional*):
            Its global step.
        config, adapter, tokenizer (`dict[str, Any]`):
            `config.json`, `adapter_config.json` and `tokenizer_config.json`; empty if they are not there.
    """

    folder: Path
    about: dict[str, Any]
    log: list[dict[str, Any]] = field(default_factory=list)
    steps: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)

    @property
    def tokenizer_class(self) -> str:
        """What loads the tokenizer: `AutoTokenizer` goes by the model, and takes a plain one for that model's own."""
        plain_class = self.tokenizer.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
        return "PreTrainedTokenizerFast" if plain_class else "AutoTokenizer"

    def last(self, name: str) -> float | None:
        """The value that was logged last under a name."""
        return next((entry[name] for entry in reversed(self.log) if entry.get(name) is not None), None)

    def first(self, name: str) -> float | None:
        """The value that was logged first under a name."""
        return next((entry[name] for entry in self.log if entry.get(name) is not None), None)


def describe_run(trainer: Trainer, dataset_name: str | None, details: Mapping[str, Any]) -> dict[str, Any]:
    """
    What is written about a training.

    Args:
        trainer ([`~transformers.Trainer`]):
            A trainer with [`~qwenlong_trl.hub.trainer.HubCards`].
        dataset_name (`str`, *optional*):
            The data set's name on the Hub.
        details (`Mapping[str, Any]`):
            What only this trainer knows.
    """
    model, args = trainer.model, trainer.args
    total = sum(p.numel() for p in model.parameters())
    names = [*_ARGUMENTS, *trainer._card_arguments]
    unused = "num_train_epochs" if args.max_steps > 0 else "max_steps"  # the other one says how long
    return plain(
        {
            "format": FORMAT,
            "method": trainer._card_template,
            "trainer": type(trainer).__name__,
            "base_model": _base_model(model),
            "tags": [*trainer._tag_names],
            "paper": dict(trainer._paper),
            "parameters": {
                "total": total,
                "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            },
            "arguments": {name: getattr(args, name) for name in names if hasattr(args, name) and name != unused},
            "data": {
                "name": dataset_name,
                "train_rows": _rows(trainer.train_dataset),
                "eval_rows": _rows(trainer.eval_dataset),
            },
            **details,
            "versions": {"python": platform.python_version()} | _versions(),
            "hardware": {"device": _device(args.device), "processes": args.world_size},
        }
    )


def write_run(trainer: Trainer, about: Mapping[str, Any]) -> Path:
    """Writes both files of a run into its `output_dir`, and returns the folder."""
    folder = Path(trainer.args.output_dir)
    write_json(folder / RUN_FILE, about)
    write_json(
        folder / STATE_FILE,
        {"global_step": trainer.state.global_step, "log_history": plain(trainer.state.log_history)},
    )
    return folder


def read_run(folder: str | Path) -> RunFiles:
    """
    Reads what a run left in a folder.

    Raises:
        `ValueError`: `qwenlong_run.json` is not there, or a file is not what it should be.
    """
    folder = Path(folder)
    about = read_json(folder / RUN_FILE, "what a trainer wrote about its run")
    if about is None:
        raise ValueError(
            f"{folder} has no {RUN_FILE}, from which its card is made. The trainers of qwenlong-trl write it with "
            "every checkpoint and at the end; of a trainer in memory, trainer.create_model_card() does"
        )
    missing = [name for name in ("format", "method", "arguments", "data", "versions", "hardware") if name not in about]
    if missing or about["format"] != FORMAT:
        raise ValueError(
            f"{folder / RUN_FILE} is of another format than this version writes ({FORMAT}): "
            f"{'it lacks ' + ', '.join(missing) if missing else about['format']}"
        )
    state = read_json(folder / STATE_FILE, "the state of a trainer") or {}
    config = read_json(folder / "config.json", "a model's configuration") or {}
    adapter = read_json(folder / "adapter_config.json", "an adapter's configuration") or {}
    tokenizer = read_json(folder / "tokenizer_config.json", "a tokenizer's configuration") or {}
    return RunFiles(folder, about, state.get("log_history", []), state.get("global_step"), config, adapter, tokenizer)


def _base_model(model) -> str | None:
    """The name on the Hub of what was trained; of a folder nothing, as its path says something to nobody else."""
    config = getattr(model, "peft_config", {}).get("default") or model.config
    for name in ("base_model_name_or_path", "_name_or_path"):
        value = getattr(config, name, None)
        if value and not Path(value).exists() and not Path(value).is_absolute():
            return value
    return None


def _rows(dataset) -> int | None:
    if isinstance(dataset, Mapping):
        return sum(_rows(part) or 0 for part in dataset.values())
    return len(dataset) if hasattr(dataset, "__len__") else None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        if name == "peft" and "peft" not in sys.modules:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def _device(device) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return device.type
