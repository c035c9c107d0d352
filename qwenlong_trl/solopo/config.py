"""Configuration of [`SoLoPOTrainer`]: everything of [`~trl.DPOConfig`], and how short and long context are tied.

```python
>>> from qwenlong_trl import SoLoPOConfig
>>> args = SoLoPOConfig(output_dir="out", algorithm="dpo", solo_alpha=3.0, max_length=2048, max_long_length=8192)
```
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import DPOConfig

from .losses import ALGORITHMS, DISTANCES, REFERENCE_FREE


_CHOICES = {
    "algorithm": ALGORITHMS,
    "objective": ("solopo", "short_po", "long_po", "longpo"),
    "solo_align": ("chosen", "both", "none"),
    "solo_distance": DISTANCES,
}
_ALPHA = {"dpo": 3.0, "simpo": 1.0, "orpo": 1.0, "ipo": 1.0, "hinge": 1.0}
_BETA = {"dpo": 0.1, "simpo": 10.0, "orpo": 0.1, "ipo": 0.1, "hinge": 0.1}

# Options of DPOConfig that change a loss which is not computed here, with the value at which they do nothing.
_OF_DPO_ALONE = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "ld_alpha": None,
    "f_divergence_type": "reverse_kl",
    "label_smoothing": 0.0,
    "use_weighting": False,
    "padding_free": False,
    "truncation_mode": "keep_start",
}


@dataclass
class SoLoPOConfig(DPOConfig):
    # docstyle-ignore
    r"""
    Configuration class for the [`SoLoPOTrainer`].

    This class includes only the parameters that are specific to short-to-long preference optimisation (SoLoPO, arXiv
    2505.11166), or that mean something else here. For the others, see the [`~trl.DPOConfig`] documentation. What of
    the paper's settings is not known to us is marked as such: the paper's appendix and its code could not be read.

    > Parameters that control the loss

    Parameters:
        algorithm (`str`, *optional*, defaults to `"dpo"`):
            The preference loss and its reward: `"dpo"`, `"simpo"`, `"orpo"` (the paper's three), `"ipo"`, `"hinge"`.
            `"simpo"` and `"orpo"` use no reference model, and none is loaded.
        beta (`float`, *optional*):
            Scale of the reward (`"ipo"`: its tau; `"orpo"`: weight of the odds-ratio loss). Defaults to `10` for
            `"simpo"`, as SimPO's authors and LOGO (arXiv 2410.18533), its use on long contexts, set it; else to `0.1`,
            the default of TRL and of LLaMA-Factory, which SoLoPO's code is built on. The paper's values are not known.
        simpo_gamma (`float`, *optional*, defaults to `3.0`):
            Target margin of `"simpo"`, in units of the reward: SimPO's `gamma / beta` of `0.3` times its `beta`.
            LLaMA-Factory's defaults are `beta=0.1` and `gamma=0.5`.
        solo_alpha (`float`, *optional*):
            Weight of the alignment. Defaults to the paper's best on Qwen2.5-7B-Instruct: `3` for `"dpo"`, `1` for
            `"simpo"` and `"orpo"` (`4` for `"orpo"` on Llama-3.1-8B); `1`, the weight in Theorem 1, for `"ipo"` and
            `"hinge"`. It does not carry over from one algorithm to another.
        solo_align (`str`, *optional*, defaults to `"chosen"`):
            Which answers are aligned: `"chosen"` (the paper's), `"both"` (as in Theorem 1; one more long forward),
            `"none"` (the same as `objective="short_po"`).
        solo_distance (`str`, *optional*):
            Distance of the two rewards: `"l1"`, `"l2"`, `"huber"`, `"softplus"`, `"one_sided"` (not from the paper) or
            `"ipo"`, see [`~solopo.losses.alignment_distance`]. Defaults to `"l1"` (the paper's), and for `algorithm=
            "ipo"` to `"ipo"`, its bound.
        huber_delta (`float`, *optional*, defaults to `1.0`):
            Where `"huber"` goes over from a square to a line, in units of the reward.
        detach_short_reward (`bool`, *optional*, defaults to `False`):
            Whether the alignment moves the long reward alone. By default it moves both, as the formula is written,
            so it also pushes the short reward down to a lower long one; what the paper's code does is not known. On
            our small task (`examples/solopo_learning.py`) `True` was far better for `"simpo"` and `"orpo"`.
        objective (`str`, *optional*, defaults to `"solopo"`):
            `"solopo"`, or one of the paper's baselines: `"short_po"`, the preference loss on `prompt` alone;
            `"long_po"`, the preference loss on `long_prompt` (the paper's Expand-Long-PO on pairs that were sampled
            from short prompts, its Long-PO on pairs from `solopo-pairs --sample_from long`); `"longpo"`, the same
            with the reference on the short prompt, as in LongPO (arXiv 2502.13922; without its extra likelihood
            term), for `"dpo"`, `"ipo"` and `"hinge"`.

    > Parameters that control the lengths

        max_length (`int`, *optional*, defaults to `2048`):
            Most tokens of a short prompt with its longer answer. Rows over a limit are dropped and counted, on both
            sides, and never truncated.
        max_long_length (`int`, *optional*, defaults to `8192`):
            Most tokens of a long prompt with the answers that are run on it.
        max_drop_fraction (`float`, *optional*, defaults to `0.1`):
            Largest share of rows that may be dropped; above it, training does not start. `1.0` accepts whatever is
            left.

    > Parameters that control memory and speed

        prefix_sharing (`bool`, *optional*, defaults to `True`):
            Compute the prompt that a chosen and a rejected answer share once, where that is exact; elsewhere the log
            says why it is not.
        sequential_backward (`bool`, *optional*, defaults to `False`):
            Run the backward pass of the long context before the forward pass of the short one, so that activations
            of only one side are held at a time. The gradient is that of the joint loss. Costs one more forward pass
            of the short chosen answers without gradients. Not for DeepSpeed, which allows one backward pass per
            micro-batch.

    Raises:
        `ValueError`: for options of [`~trl.DPOConfig`] that change a loss which is not used here, and for combinations
        that would train nothing.
    """

    algorithm: str = field(
        default="dpo", metadata={"help": "The preference loss and its reward.", "choices": list(ALGORITHMS)}
    )
    beta: float | None = field(
        default=None,
        metadata={"help": "Scale of the reward; weight of the odds-ratio loss for orpo. 10 for simpo, else 0.1."},
    )
    simpo_gamma: float = field(default=3.0, metadata={"help": "Target margin of simpo, in units of the reward."})
    solo_alpha: float | None = field(
        default=None, metadata={"help": "Weight of the alignment. 3 for dpo, 1 for the others."}
    )
    solo_align: str = field(
        default="chosen",
        metadata={"help": "Which answers are aligned.", "choices": list(_CHOICES["solo_align"])},
    )
    solo_distance: str | None = field(
        default=None,
        metadata={
            "help": "Distance of the short and the long reward: l1, l2, huber, softplus, ipo or one_sided (not from "
            "the paper). l1 if not given, for ipo its own."
        },
    )
    huber_delta: float = field(default=1.0, metadata={"help": "Where huber goes over from a square to a line."})
    detach_short_reward: bool = field(
        default=False,
        metadata={"help": "Whether the alignment moves the long reward alone, and never the short one down to it."},
    )
    objective: str = field(
        default="solopo",
        metadata={
            "help": "'solopo', or a baseline: the preference loss on the short prompt ('short_po') or on the long one "
            "('long_po'), or the latter with the reference on the short prompt ('longpo').",
            "choices": list(_CHOICES["objective"]),
        },
    )
    max_length: int | None = field(
        default=2048,
        metadata={"help": "Most tokens of a short prompt with its longer answer; longer rows are dropped."},
    )
    max_long_length: int | None = field(
        default=8192,
        metadata={"help": "Most tokens of a long prompt with its answers; longer rows are dropped."},
    )
    max_drop_fraction: float = field(
        default=0.1, metadata={"help": "Largest share of rows that may be dropped for their length."}
    )
    prefix_sharing: bool = field(
        default=True,
        metadata={"help": "Compute the prompt of a chosen and a rejected answer once, where that is exact."},
    )
    sequential_backward: bool = field(
        default=False,
        metadata={
            "help": "Hold activations of one context at a time, for one more short forward pass without gradients."
        },
    )

    def __post_init__(self):
        if isinstance(self.loss_type, str):
            self.loss_type = [self.loss_type]
        for name, neutral in _OF_DPO_ALONE.items():
            if getattr(self, name) != neutral:
                raise ValueError(
                    f"`{name}={getattr(self, name)!r}` belongs to DPOTrainer and has no effect on the losses of "
                    f"SoLoPO, which `algorithm` chooses (one of {', '.join(ALGORITHMS)}). Leave it out."
                )
        if self.beta is None and self.algorithm in _BETA:
            self.beta = _BETA[self.algorithm]
        if self.solo_alpha is None and self.algorithm in _ALPHA:
            self.solo_alpha = _ALPHA[self.algorithm]
        if self.solo_distance is None:
            self.solo_distance = "ipo" if self.algorithm == "ipo" else "l1"
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name, least in {"beta": 0, "huber_delta": 0}.items():
            if not getattr(self, name) > least:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        for name in ("solo_alpha", "simpo_gamma"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}")
        if not 0 <= self.max_drop_fraction <= 1:
            raise ValueError(f"`max_drop_fraction` must be from 0 to 1, got {self.max_drop_fraction}")
        both = self.objective in ("solopo", "longpo")
        if both and self.max_length and self.max_long_length and self.max_long_length < self.max_length:
            raise ValueError(
                f"`max_long_length={self.max_long_length}` is below `max_length={self.max_length}`, the limit of the "
                "short prompts"
            )
        self._refuse_combinations()
        super().__post_init__()

    def _refuse_combinations(self) -> None:
        if self.objective == "longpo" and self.reference_free:
            raise ValueError(
                f"objective='longpo' is about the reference model, and algorithm={self.algorithm!r} has none. Use "
                "'dpo', 'ipo' or 'hinge'."
            )
        if self.reference_free and (self.precompute_ref_log_probs or self.sync_ref_model):
            name = "precompute_ref_log_probs" if self.precompute_ref_log_probs else "sync_ref_model"
            raise ValueError(f"algorithm={self.algorithm!r} has no reference model. Leave `{name}` out.")
        if self.objective == "longpo" and self.sync_ref_model:
            raise ValueError("objective='longpo' keeps its reference. Leave `sync_ref_model` out.")
        if self.sequential_backward and not self.disable_dropout:
            raise ValueError(
                "sequential_backward=True runs the short context twice, which is the same only without dropout. Leave "
                "`disable_dropout` at True."
            )
        fused = {"fused_linear_cross_entropy", "cross_entropy"} & {
            name for name, used in (self.liger_kernel_config or {}).items() if used
        }
        if self.use_liger_kernel and fused:
            raise ValueError(
                f"`liger_kernel_config` asks for {', '.join(sorted(fused))}, which computes a loss of its own from "
                "the logits. Liger's fused losses, its preference losses too, return log-probabilities without "
                "gradient: an alignment made of them trains nothing. Leave it out: the "
                "LM head is fused here without Liger."
            )

    @property
    def reference_free(self) -> bool:
        """Whether the algorithm needs no reference model."""
        return self.algorithm in REFERENCE_FREE

    @property
    def aligned(self) -> tuple[str, ...]:
        """The answers that are run on the long context besides the preference loss."""
        if self.objective != "solopo":
            return ()
        return {"chosen": ("chosen",), "both": ("chosen", "rejected"), "none": ()}[self.solo_align]
