"""What a checkpoint remembers of the curriculum, and the refusal to resume something else.

One file, `curriculum_state.json`, beside the trainer's own: the signature of the run, how many processes wrote the
checkpoint, the difficulty of every prompt, and which prompts were carried into which phase.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..checkpoints import newest_complete_checkpoint
from .config import PhasedGRPOConfig
from .curriculum import Curriculum, CurriculumMismatchError
from .fingerprint import Fingerprint, rows_that_differ


STATE_FILE = "curriculum_state.json"
_ROWS = "dataset rows by id"  # too many to be shown as a difference

# Settings that decide which prompts a window holds, how they are answered and rewarded, and what a step does. How many
# processes share the work is not among them, nor is what only costs time or memory.
_SIGNED = (
    # the curriculum
    "phase_lr_schedule",
    "retrospective",
    "retrospective_ratio",
    "retrospective_epsilon",
    "difficulty",
    "dynamic_sampling",
    "max_resample_rounds",
    "accuracy_reward",
    # windows
    "seed",
    "shuffle_dataset",
    "num_generations",
    "num_iterations",
    "generation_batch_size",
    "steps_per_generation",
    "gradient_accumulation_steps",
    # completions
    "max_completion_length",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "generation_kwargs",
    "chat_template_kwargs",
    # rewards and advantages
    "reward_weights",
    "scale_rewards",
    "multi_objective_aggregation",
    # the loss
    "loss_type",
    "epsilon",
    "epsilon_high",
    "delta",
    "beta",
    "use_bias_correction_kl",
    "importance_sampling_level",
    "mask_truncated_completions",
    "off_policy_mask_threshold",
    "top_entropy_quantile",
    "entropy_coef",
    "use_adaptive_entropy",
    # the optimizer
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "max_grad_norm",
)


def run_signature(args: PhasedGRPOConfig, data: Fingerprint, reward_names: Sequence[str]) -> dict[str, Any]:
    """
    What has to be equal for a resumed run to equal the undisturbed one, as JSON values: plan, data, settings,
    versions. Of the reward functions it is the names, and of the model nothing: both are in the hands of the caller.
    """
    signature: dict[str, Any] = {f"phases[{k}]": phase.settings() for k, phase in enumerate(args.phases)}
    signature |= {name: getattr(args, name) for name in _SIGNED}
    signature |= {"reward functions": list(reward_names), "dataset rows": len(data.rows)}
    signature |= {f"dataset sha256 of {column}": digest for column, digest in data.columns.items()}
    signature |= {f"{package} version": version(package) for package in ("qwenlong-trl", "trl")}
    return json.loads(json.dumps(signature | {_ROWS: data.rows}, default=str))


def check_signature(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> None:
    """Raises [`CurriculumMismatchError`] that lists every difference."""
    names = [name for name in dict.fromkeys([*saved, *current]) if name != _ROWS]
    differences = [
        f"  {name}: {saved.get(name, '(absent)')!r} in the checkpoint, {current.get(name, '(absent)')!r} now"
        for name in names
        if saved.get(name) != current.get(name)
    ]
    if _ROWS in saved:
        differences += [f"  {line}" for line in rows_that_differ(saved[_ROWS], current[_ROWS])]
    if differences:
        raise CurriculumMismatchError(
            f"{where} belongs to another run; resuming it would not continue that run:\n"
            + "\n".join(differences)
            + "\nRestore these settings, or start anew from the checkpoint's weights (pass it as the model)."
        )


def write_json(path: Path, value: Any) -> None:
    """Writes all or nothing: a reader never sees half a file, and one that cannot be written leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"could not be written ({error.strerror})", str(path)) from error


def checkpoint_to_resume(output_dir: str | Path) -> str:
    """The newest complete checkpoint; `ValueError` if there is none, as [`~transformers.Trainer`] has it."""
    checkpoint = newest_complete_checkpoint(output_dir)
    if checkpoint is None:
        raise ValueError(
            f"resume_from_checkpoint=True, but {output_dir} has no complete checkpoint. Give the folder of one, or "
            "leave resume_from_checkpoint out to start anew."
        )
    return checkpoint


def save_curriculum(folder: str | Path, curriculum: Curriculum, signature: Mapping[str, Any], processes: int) -> None:
    """Writes our part of a checkpoint that `processes` processes write."""
    state = {"signature": dict(signature), "processes": processes, **curriculum.state_dict()}
    write_json(Path(folder) / STATE_FILE, state)


def load_curriculum(folder: str | Path, curriculum: Curriculum, signature: Mapping[str, Any]) -> None:
    """Reads our part of a checkpoint; raises [`CurriculumMismatchError`] if it is of another run or not there."""
    path = Path(folder) / STATE_FILE
    if not path.is_file():
        raise CurriculumMismatchError(
            f"{folder} has no {STATE_FILE}: it was not written by PhasedGRPOTrainer, or the write was cut short. "
            "Resume from another checkpoint, or start anew with this one's weights (pass it as the model)."
        )
    state = json.loads(path.read_text(encoding="utf-8"))
    check_signature(state["signature"], signature, str(folder))
    curriculum.load_state_dict(state)
