"""Configuration of [`PhasedGRPOTrainer`]: everything of [`~trl.GRPOConfig`], the phases, and how they are connected.

```python
>>> from qwenlong_trl import Phase, PhasedGRPOConfig
>>> args = PhasedGRPOConfig(
...     output_dir="out",
...     phases=[Phase(max_prompt_length=20_000, max_steps=60), Phase(max_prompt_length=60_000, max_steps=40)],
...     retrospective="hard_zero",
... )
```
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import GRPOConfig

from .phase import Phase, parse_phases


_CHOICES = {
    "phase_lr_schedule": ("run", "phase"),
    "retrospective": ("none", "hard_zero", "weighted"),
    "difficulty": ("rollouts", "scoring"),
    "dynamic_sampling": ("off", "mask", "resample"),
}


@dataclass
class PhasedGRPOConfig(GRPOConfig):
    # docstyle-ignore
    r"""
    Configuration class for the [`PhasedGRPOTrainer`].

    This class includes only the parameters that are specific to phased training. For the others, see the
    [`~trl.GRPOConfig`] documentation. `max_steps` is the sum of the phases' steps and is set by this class.

    > Parameters that control the phases (QwenLong-L1, arXiv 2505.17667, section 2.3)

    Parameters:
        phases (`list[Phase | dict]` or `str`):
            The phases in order, as [`Phase`] objects, dictionaries, a JSON string, or the path of a JSON or YAML file.
        phase_lr_schedule (`str`, *optional*, defaults to `"run"`):
            `"run"`: one schedule over all phases, scaled by the phase's `learning_rate`. `"phase"`: the schedule,
            warm-up included, starts anew in each phase. The paper does not state its schedule.
        retrospective (`str`, *optional*, defaults to `"none"`):
            Which prompts of earlier phases join a phase. `"hard_zero"`: all whose mean accuracy is zero (what the
            paper did, section 3.2). `"weighted"`: drawn without replacement with weight 1/(mean + epsilon) (Eq. 10,
            which is infinite at mean zero without the epsilon).
        retrospective_ratio (`float`, *optional*, defaults to `0.25`):
            With `"weighted"`: number of carried prompts as a share of the phase's own prompts.
        retrospective_epsilon (`float`, *optional*):
            The epsilon of `"weighted"`. Defaults to 1 / (2 * num_generations).
        difficulty (`str`, *optional*, defaults to `"rollouts"`):
            Where mean accuracies come from. `"rollouts"`: all rollouts of the training so far; free. `"scoring"`:
            before a phase, `num_generations` rollouts of every earlier prompt by the policy that enters it, with its
            limits.

    > Parameters that control dynamic sampling (DAPO, arXiv 2503.14476, Eq. 11)

    Parameters:
        dynamic_sampling (`str`, *optional*, defaults to `"off"`):
            What happens to groups whose accuracies are all equal. `"mask"`: they leave the loss and its normaliser.
            `"resample"`: other prompts of the phase replace them for up to `max_resample_rounds`; groups that could
            not be replaced are masked and counted. Decided on the accuracy, never on a shaped reward. Not with
            `loss_type="bnpo"`. The entropy bonus of TRL (`entropy_coef`) is a mean per micro-batch, and zero in one
            whose groups are all masked, so that it weakens with the share of such micro-batches.
        max_resample_rounds (`int`, *optional*, defaults to `9`):
            Further rounds of generation for one window (the official script allows 10 in all).

    > Parameters that control speed

    Parameters:
        prefix_sharing (`bool`, *optional*, defaults to `True`):
            Compute a prompt once for all its completions, in rollouts with transformers, in scoring and in the loss,
            where that is exact; elsewhere the log says why it is not. A micro-batch shares at most its own rows, so
            set `per_device_train_batch_size` to `num_generations` or a multiple. See [`PrefixSharingMixin`].
        use_liger_loss (`bool`, *optional*, defaults to `False`):
            Compute the loss by Liger's chunked GRPO loss instead of TRL's fused head, to which it is equal, on one
            process and without shared prefixes in the loss; see [`~engines.liger.liger_grpo_loss`]. Entropy and clip
            ratios are not logged then.

    > Parameters that control the statistics

    Parameters:
        accuracy_reward (`str`, *optional*):
            Name of the reward function whose raw values are the accuracy in [0, 1] used for difficulty, dynamic
            sampling and metrics. Defaults to the first one, so put length penalties and the like after it.
        log_kl_to_start (`bool`, *optional*, defaults to `False`):
            Log the KL divergence from the starting policy, also at `beta=0`. Keeps a copy of the starting model (with
            PEFT of the adapter alone, and none of a new LoRA, which is switched off instead) and costs two forward
            passes per generation.
    """

    # `list` alone: the argument parser cannot build a list of dataclasses; `parse_phases` reads what it is given.
    phases: list[str] | None = field(
        default=None,
        metadata={"help": "Phases: a JSON list, or the path of a JSON or YAML file. In a YAML recipe, a plain list."},
    )
    phase_lr_schedule: str = field(
        default="run",
        metadata={
            "help": "'run': one learning rate schedule over all phases. 'phase': it starts anew in each phase.",
            "choices": _CHOICES["phase_lr_schedule"],
        },
    )
    retrospective: str = field(
        default="none",
        metadata={
            "help": "Which prompts of earlier phases join a phase: 'none', 'hard_zero' (mean accuracy zero) or "
            "'weighted' (drawn with weight 1/(mean + epsilon)).",
            "choices": _CHOICES["retrospective"],
        },
    )
    retrospective_ratio: float = field(
        default=0.25,
        metadata={"help": "With 'weighted': carried prompts as a share of the phase's own prompts."},
    )
    retrospective_epsilon: float | None = field(
        default=None, metadata={"help": "Epsilon of 'weighted'. Defaults to 1 / (2 * num_generations)."}
    )
    difficulty: str = field(
        default="rollouts",
        metadata={
            "help": "Mean accuracies come from the training 'rollouts', or from a 'scoring' pass before a phase.",
            "choices": _CHOICES["difficulty"],
        },
    )
    dynamic_sampling: str = field(
        default="off",
        metadata={
            "help": "Groups of equal accuracy: 'off' keeps them, 'mask' takes them out of the loss, 'resample' "
            "replaces them by fresh prompts.",
            "choices": _CHOICES["dynamic_sampling"],
        },
    )
    max_resample_rounds: int = field(
        default=9, metadata={"help": "With 'resample': further rounds of generation for one window."}
    )
    prefix_sharing: bool = field(
        default=True,
        metadata={"help": "Compute a prompt once for all its completions, where that is exact."},
    )
    use_liger_loss: bool = field(
        default=False,
        metadata={"help": "Compute the loss by Liger's chunked GRPO loss; equal, for comparisons. One process only."},
    )
    accuracy_reward: str | None = field(
        default=None,
        metadata={"help": "Name of the reward function that is the accuracy. Defaults to the first one."},
    )
    log_kl_to_start: bool = field(
        default=False, metadata={"help": "Log the KL divergence from the starting policy, also at beta 0."}
    )

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {choices}, got {getattr(self, name)!r}")
        if self.retrospective_ratio <= 0:
            raise ValueError(f"`retrospective_ratio` must be positive, got {self.retrospective_ratio}")
        if self.max_resample_rounds < 1:
            raise ValueError(f"`max_resample_rounds` must be at least 1, got {self.max_resample_rounds}")
        self.phases: list[Phase] = parse_phases(self.phases)
        total = sum(phase.max_steps for phase in self.phases)
        if self.max_steps not in (-1, total):
            raise ValueError(
                f"`max_steps` is {self.max_steps}, but the phases have {total} steps together. Leave it out: the "
                "steps belong to the phases."
            )
        self.max_steps = total
        super().__post_init__()

        if self.retrospective_epsilon is None:
            self.retrospective_epsilon = 1 / (2 * self.num_generations)
        if self.retrospective_epsilon <= 0:
            raise ValueError(f"`retrospective_epsilon` must be positive, got {self.retrospective_epsilon}")
        for phase in self.phases:
            if phase.max_steps * self.gradient_accumulation_steps % self.micro_steps_per_window:
                raise ValueError(
                    f"{phase.name}: {phase.max_steps} steps are {phase.max_steps * self.gradient_accumulation_steps} "
                    f"micro-steps, not a multiple of the {self.micro_steps_per_window} of a generation window "
                    "(steps_per_generation * num_iterations), so a window would straddle two phases. Use a multiple "
                    f"of {self.steps_per_window_multiple} steps."
                )
        if self.sync_ref_model:
            raise ValueError(
                "sync_ref_model=True is not exact on resume: the reference model moves during the run, but is no part "
                "of a checkpoint. Leave it False; the reference is then the model that training starts with."
            )
        if self.dynamic_sampling != "off":
            bnpo = [phase.name for phase in self.phases if (phase.loss_type or self.loss_type) == "bnpo"]
            if bnpo:
                raise ValueError(
                    f"dynamic_sampling='{self.dynamic_sampling}' cannot go with loss_type='bnpo' ({', '.join(bnpo)}): "
                    "each micro-batch is divided by its own tokens and then by their number, so groups without signal "
                    "would stay in the normaliser. Use 'dapo', which divides by the tokens of the whole batch."
                )
        if self.dynamic_sampling == "resample":
            if self.scale_rewards == "batch" or any(p.scale_rewards == "batch" for p in self.phases):
                raise ValueError(
                    "dynamic_sampling='resample' replaces groups after their advantages are known, which "
                    "scale_rewards='batch' makes depend on the whole batch. Use scale_rewards='group' or 'none'."
                )
            if self.multi_objective_aggregation != "sum_then_normalize":
                raise ValueError(
                    "dynamic_sampling='resample' needs multi_objective_aggregation='sum_then_normalize', since "
                    f"'{self.multi_objective_aggregation}' makes advantages depend on the whole batch."
                )

    def to_dict(self) -> dict:
        # Trackers and `to_json_string` need plain values.
        return {**super().to_dict(), "phases": [phase.settings() for phase in self.phases]}

    @property
    def micro_steps_per_window(self) -> int:
        """Micro-batches trained on one generation window."""
        return self.steps_per_generation * self.num_iterations

    @property
    def steps_per_window_multiple(self) -> int:
        """The smallest number of optimizer steps that fills whole windows."""
        import math

        every, accumulation = self.micro_steps_per_window, self.gradient_accumulation_steps
        return math.lcm(every, accumulation) // accumulation

    @property
    def prompts_per_window(self) -> int:
        """Different prompts in one generation batch."""
        return self.generation_batch_size // self.num_generations
