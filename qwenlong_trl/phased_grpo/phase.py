"""A phase of the length curriculum, and how a list of phases is read from Python, JSON or YAML.

Paper: QwenLong-L1 (arXiv 2505.17667), section 2.3, Eq. 9.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


# What TRL fixes when the trainer is built, and why a phase cannot change it. Shown to whoever tries.
FROZEN_IN_A_PHASE = {
    "temperature": "the fused LM head and the generation settings close over it when the trainer is built",
    "num_generations": "the group size is baked into the sampler and into the shape of a generation batch",
    "per_device_train_batch_size": "the data loader and the process group are built once",
    "gradient_accumulation_steps": "the data loader and the optimizer schedule are built once",
    "steps_per_generation": "completions are buffered in slices of this size",
    "generation_batch_size": "completions are buffered in batches of this size",
    "num_iterations": "it decides how often completions are generated",
    "vllm_max_model_length": "the vLLM engine allocates its cache when it starts; set it for the longest phase",
    "beta": "the reference model is loaded, or not, when the trainer is built",
    "reward_funcs": "accuracies of different phases could not be compared",
}

_CHOICES = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "mask_truncated_completions": (True, False),
}

# Fields of a phase that are plain attributes of the trainer, read at every step: (field, trainer attribute).
LIVE_ATTRIBUTES = {
    "epsilon": "epsilon_low",
    "epsilon_high": "epsilon_high",
    "loss_type": "loss_type",
    "scale_rewards": "scale_rewards",
    "mask_truncated_completions": "mask_truncated_completions",
    "top_entropy_quantile": "top_entropy_quantile",
}


@dataclass
class Phase:
    """
    One phase: how long, on which prompt lengths, with which settings. A setting that is left `None` keeps the value of
    the [`PhasedGRPOConfig`].

    Args:
        max_prompt_length (`int`):
            Upper bound L_k of the phase, in tokens of the prompt as the policy sees it. Phase k trains on prompts with
            L_{k-1} < length <= L_k (Eq. 9: left-open, right-closed), plus what retrospective sampling carries over.
        max_steps (`int`):
            Optimizer steps of the phase. Must fill whole generation windows.
        name (`str`, *optional*):
            Name in logs and reports. Defaults to `phase_1`, `phase_2`, …
        max_completion_length (`int`, *optional*):
            New tokens a rollout may have in this phase.
        learning_rate (`float`, *optional*):
            Peak learning rate of the phase.
        epsilon, epsilon_high (`float`, *optional*):
            Clip range of the phase.
        loss_type, scale_rewards (`str`, *optional*):
            As in [`~trl.GRPOConfig`].
        mask_truncated_completions (`bool`, *optional*):
            As in [`~trl.GRPOConfig`].
        top_entropy_quantile (`float`, *optional*):
            As in [`~trl.GRPOConfig`].
    """

    max_prompt_length: int
    max_steps: int
    name: str | None = None
    max_completion_length: int | None = None
    learning_rate: float | None = None
    epsilon: float | None = None
    epsilon_high: float | None = None
    loss_type: str | None = None
    scale_rewards: str | None = None
    mask_truncated_completions: bool | None = None
    top_entropy_quantile: float | None = None

    def __post_init__(self):
        for name in ("max_prompt_length", "max_steps", "max_completion_length"):
            value = getattr(self, name)
            if value is None and name == "max_completion_length":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise self._error(name, "a positive integer")
        for name in ("learning_rate", "epsilon", "epsilon_high", "top_entropy_quantile"):
            value = getattr(self, name)
            if isinstance(value, str):  # YAML reads `2e-6` as a string (it wants `2.0e-6`); users write it so
                try:
                    value = float(value)
                except ValueError:
                    raise self._error(name, "a number") from None
                setattr(self, name, value)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
                raise self._error(name, "a number of at least 0")
        # What TRL would find out only when the phase begins.
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in (None, *choices):
                raise self._error(name, f"one of {choices}")

    def _error(self, field: str, wanted: str) -> ValueError:
        phase = "a phase" if self.name is None else f"phase {self.name!r}"
        return ValueError(f"{phase} needs `{field}` to be {wanted}, got {getattr(self, field)!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Phase:
        known = [f.name for f in fields(cls)]
        for key in values:
            if key in FROZEN_IN_A_PHASE:
                raise ValueError(
                    f"{where}: `{key}` cannot change during a run: {FROZEN_IN_A_PHASE[key]}. Set it once in the "
                    "config, or run the phases as separate trainings."
                )
            if key not in known:
                raise ValueError(f"{where}: unknown field `{key}`; a phase has {', '.join(known)}")
        missing = [name for name in ("max_prompt_length", "max_steps") if name not in values]
        if missing:
            raise ValueError(f"{where}: `{missing[0]}` is missing")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def settings(self) -> dict[str, Any]:
        """Everything that is set, for logs, reports and the resume check."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def parse_phases(phases: Any) -> list[Phase]:
    """
    Phases from a list of [`Phase`] or dictionaries (Python, YAML), a JSON string (command line), or the path of a
    JSON or YAML file that holds such a list.

    Raises:
        `ValueError`: if a phase is malformed, or the prompt lengths do not grow.
    """
    if phases is None or phases == [] or phases == "":
        raise ValueError(
            "PhasedGRPO needs `phases`, for example "
            '\'[{"max_prompt_length": 20000, "max_steps": 60}, {"max_prompt_length": 60000, "max_steps": 40}]\''
        )
    if isinstance(phases, list) and len(phases) == 1 and isinstance(phases[0], str):
        phases = phases[0]  # the command line gives a list, here of one file or one JSON list
    if isinstance(phases, str):
        phases = _read(phases)
    if isinstance(phases, Mapping):
        phases = [phases]
    if not isinstance(phases, list | tuple):
        raise ValueError(f"`phases` must be a list of phases, got {type(phases).__name__}")
    parsed = []
    for k, phase in enumerate(phases):
        where = f"phases[{k}]"
        if isinstance(phase, str):  # a list on the command line or in YAML may hold JSON objects
            phase = _read(phase)
        if isinstance(phase, Mapping):
            phase = Phase.from_dict(phase, where)
        elif not isinstance(phase, Phase):
            raise ValueError(f"{where}: expected a Phase or a dictionary, got {phase!r}")
        if parsed and phase.max_prompt_length <= parsed[-1].max_prompt_length:
            raise ValueError(
                f"{where}: `max_prompt_length` must grow from phase to phase, got {phase.max_prompt_length} after "
                f"{parsed[-1].max_prompt_length}"
            )
        parsed.append(phase)
    names = [phase.name or f"phase_{k}" for k, phase in enumerate(parsed, start=1)]
    if len(set(names)) < len(names):
        raise ValueError(f"names of phases must differ, got {names}")
    return [Phase(**{**asdict(phase), "name": name}) for phase, name in zip(parsed, names, strict=True)]


def _read(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] in "[{":
        try:
            return json.loads(stripped)
        except json.JSONDecodeError as error:
            raise ValueError(f"`phases` is not valid JSON ({error}): {stripped[:200]}") from None
    path = Path(stripped)
    if not path.is_file():
        raise ValueError(f"`phases` is neither a JSON list nor an existing file: {stripped[:200]}")
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))
