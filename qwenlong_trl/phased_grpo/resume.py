"""What a checkpoint remembers of the curriculum, and the refusal to resume something else.

One file, `curriculum_state.json`, beside the trainer's own: the signature of the run, the difficulty of every prompt,
and which prompts were carried into which phase.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .config import PhasedGRPOConfig
from .curriculum import Curriculum, CurriculumMismatchError


STATE_FILE = "curriculum_state.json"

# Settings that decide which prompts a window holds. The number of processes is not among them.
_SIGNED = (
    "phase_lr_schedule",
    "retrospective",
    "retrospective_ratio",
    "retrospective_epsilon",
    "difficulty",
    "dynamic_sampling",
    "max_resample_rounds",
    "accuracy_reward",
    "seed",
    "shuffle_dataset",
    "num_generations",
    "num_iterations",
    "generation_batch_size",
    "steps_per_generation",
    "gradient_accumulation_steps",
)


def run_signature(args: PhasedGRPOConfig, rows: int, data_hash: str) -> dict[str, Any]:
    """Everything that must be equal for a resumed run to equal the undisturbed one, as flat JSON values."""
    signature: dict[str, Any] = {f"phases[{k}]": phase.settings() for k, phase in enumerate(args.phases)}
    signature |= {name: getattr(args, name) for name in _SIGNED}
    signature |= {"dataset rows": rows, "dataset sha256": data_hash}
    signature |= {f"{package} version": version(package) for package in ("qwenlong-trl", "trl")}
    return json.loads(json.dumps(signature))


def check_signature(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> None:
    """Raises [`CurriculumMismatchError`] that lists every difference."""
    names = list(dict.fromkeys([*saved, *current]))
    differences = [
        f"  {name}: {saved.get(name, '(absent)')!r} in the checkpoint, {current.get(name, '(absent)')!r} now"
        for name in names
        if saved.get(name) != current.get(name)
    ]
    if differences:
        raise CurriculumMismatchError(
            f"{where} belongs to another run; resuming it would not continue that run:\n"
            + "\n".join(differences)
            + "\nRestore these settings, or start anew from the checkpoint's weights (pass it as the model)."
        )


def write_json(path: Path, value: Any) -> None:
    """Writes all or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_curriculum(folder: str | Path, curriculum: Curriculum, signature: Mapping[str, Any]) -> None:
    write_json(Path(folder) / STATE_FILE, {"signature": dict(signature), **curriculum.state_dict()})


def load_curriculum(folder: str | Path, curriculum: Curriculum, signature: Mapping[str, Any]) -> None:
    path = Path(folder) / STATE_FILE
    if not path.is_file():
        raise CurriculumMismatchError(
            f"{folder} has no {STATE_FILE}: it was not written by PhasedGRPOTrainer, or the write was cut short. "
            "Resume from another checkpoint, or start anew with this one's weights (pass it as the model)."
        )
    state = json.loads(path.read_text(encoding="utf-8"))
    check_signature(state["signature"], signature, str(folder))
    curriculum.load_state_dict(state)
