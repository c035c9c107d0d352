"""Short-to-long preference optimisation: the preference loss on the short context, an alignment to the long one.

Paper: SoLoPO (arXiv 2505.11166). One step runs

```txt
 prompt      + chosen    ┐                 ┌── preference loss ──────────────┐
 prompt      + rejected  ┘ 2B short rows ──┤                                 ├── loss
 long_prompt + chosen    ─ B long rows ────┴── alpha * distance of rewards ──┘
```

where DPO on long prompts runs 2B long rows. The two groups of rows are never padded to one length.

```python
>>> from qwenlong_trl import SoLoPOConfig, SoLoPOTrainer
>>> args = SoLoPOConfig(output_dir="out", algorithm="dpo", solo_alpha=3.0, max_length=2048, max_long_length=8192)
>>> SoLoPOTrainer(model="Qwen/Qwen2.5-7B-Instruct", args=args, train_dataset=ds).train()
```
"""

from __future__ import annotations

import contextlib
import warnings
from copy import copy

import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from torch.nn.parallel import DistributedDataParallel
from trl import DPOTrainer

from ..engines.activation_checkpointing import fix_activation_checkpointing
from ..engines.liger import LigerCheck
from ..hub.trainer import HubCards
from ..prefix_sharing.scorers import Scorers
from .collator import REFERENCE_COLUMNS, DataCollatorForSoLoPO
from .config import SoLoPOConfig
from .losses import alignment_distance, preference_loss, rewards
from .metrics import Means, add_pair_metrics
from .prepare import prepare_twins
from .reference import Answers, add_reference_logps, chosen_rows, reference_logps, score


class SoLoPOTrainer(HubCards, DPOTrainer):
    """
    [`~trl.DPOTrainer`] with the losses of SoLoPO and of the baselines in its paper. Every argument that is not named
    here is the same there.

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The policy.
        ref_model ([`~transformers.PreTrainedModel`], *optional*):
            The reference, for the algorithms that have one. By default a copy of the model, or the model without its
            adapter under PEFT; none is kept with `precompute_ref_log_probs`.
        args ([`SoLoPOConfig`]):
            The configuration.
        train_dataset ([`~datasets.Dataset`]):
            Rows with `prompt`, `long_prompt`, `chosen` and `rejected`, as text or as lists of messages.

    Raises:
        `TypeError`: for a streaming data set.
        `ValueError`: for rows that cannot be trained on, see [`~solopo.prepare.prepare_twins`]; for vision data,
        mixture-of-experts models with a load-balancing loss, and `sequential_backward` under DeepSpeed.
    """

    _tag_names = ["trl", "dpo", "qwenlong-trl", "solopo"]
    _name = "SoLoPO"
    _card_template = "solopo"
    _card_arguments = (
        "algorithm",
        "objective",
        "beta",
        "simpo_gamma",
        "solo_alpha",
        "solo_align",
        "solo_distance",
        "detach_short_reward",
        "max_length",
        "max_long_length",
    )
    _paper = {
        "title": "SoLoPO: Unlocking Long-Context Capabilities in LLMs via Short-to-Long Preference Optimization",
        "id": "2505.11166",
        "citation": (
            "@misc{sun2025solopo,\n"
            "    title = {{SoLoPO: Unlocking Long-Context Capabilities in LLMs via Short-to-Long Preference "
            "Optimization}},\n"
            "    author = {Huashan Sun and others},\n"
            "    year = 2025,\n"
            "    eprint = {2505.11166},\n"
            "    archivePrefix = {arXiv}\n}"
        ),
    }

    def __init__(self, model, ref_model=None, args=None, **kwargs):
        if not isinstance(args, SoLoPOConfig):
            raise TypeError(f"SoLoPOTrainer needs `args` to be a SoLoPOConfig, got {type(args).__name__}")
        if args.reference_free and ref_model is not None:
            raise ValueError(f"algorithm={args.algorithm!r} has no reference model. Leave `ref_model` out.")
        for name in ("train_dataset", "eval_dataset"):
            given = kwargs.get(name)
            for rows in given.values() if isinstance(given, dict) else [given]:
                if isinstance(rows, Dataset) and len(rows) == 0:
                    raise ValueError(f"`{name}` has no rows")
        # With this flag DPOTrainer keeps no copy of the model (under FSDP it loads one and lets it go again).
        args.precompute_ref_log_probs |= args.reference_free
        self.scorers = Scorers(self)
        try:
            super().__init__(model, ref_model, args=args, **kwargs)
        finally:
            args.precompute_ref_log_probs &= not args.reference_free
        self.scorers = Scorers(self)  # anew: a reference that is let go of is not kept
        self.precompute_ref_logps &= not args.reference_free
        fix_activation_checkpointing(self.model, args)
        self._use_twin_collator()
        self.add_callback(LigerCheck)
        if self._is_vision_dataset:
            raise ValueError("SoLoPOTrainer trains on text; the data set has a column `image` or `images`")
        if self.aux_loss_enabled:
            raise ValueError(
                f"{type(self.model).__name__} adds a load-balancing loss, which SoLoPOTrainer does not. Set "
                "`router_aux_loss_coef=0.0` to train without it."
            )
        if args.sequential_backward and self.accelerator.distributed_type == DistributedType.DEEPSPEED:
            raise ValueError("DeepSpeed allows one backward pass per micro-batch. Set `sequential_backward=False`.")

    # ---- data -------------------------------------------------------------------------------------------------------

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        def tokenize(side):
            whole = copy(args)  # rows that are too long are dropped later, on both sides at once
            whole.max_length = None
            return super(SoLoPOTrainer, self)._prepare_dataset(side, processing_class, whole, dataset_name)

        return prepare_twins(dataset, tokenize, args, dataset_name)

    def _use_twin_collator(self) -> None:
        """Replaces the collator that DPOTrainer has made; one that the user gave stays."""
        made = self.data_collator
        if type(made).__name__ == "DataCollatorForPreference":
            self.data_collator = DataCollatorForSoLoPO(
                pad_token_id=made.pad_token_id, pad_to_multiple_of=made.pad_to_multiple_of, aligned=self.args.aligned
            )

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        new = ("long_prompt_ids", "ref_prompt_ids", *REFERENCE_COLUMNS)
        self._signature_columns += [name for name in new if name not in self._signature_columns]

    def _precompute_ref_logps(self, dataset, name, batch_size):
        if self.args.reference_free:
            return dataset
        self._use_twin_collator()
        return add_reference_logps(self, dataset, name, batch_size)

    # ---- loss -------------------------------------------------------------------------------------------------------

    def _compute_loss(self, model, inputs, return_outputs):
        args = self.args
        reference = reference_logps(self, inputs)
        scorer = self.scorers(model)
        aligned = args.aligned
        long_rewards = None
        if aligned and args.sequential_backward and torch.is_grad_enabled():
            long_rewards, long = self._backward_long(model, inputs, reference)

        pair = score(scorer, inputs)
        chosen_rewards, rejected_rewards = self._rewards(pair, [reference.get("chosen"), reference.get("rejected")])
        half = len(pair.logps) // 2
        po_loss = preference_loss(
            args.algorithm,
            chosen_rewards,
            rejected_rewards,
            beta=args.beta,
            gamma=args.simpo_gamma,
            chosen_mean_logps=pair.logps[:half] / pair.lengths[:half],
        )
        loss = po_loss.mean()

        means = Means()
        add_pair_metrics(means, pair, chosen_rewards, rejected_rewards)
        if aligned:
            if long_rewards is None:
                long = score(scorer, inputs, "long_")
                long_rewards = self._rewards(long, [reference.get(f"long_{answer}") for answer in aligned])
                self._require_gradient(long)
            alignment = self._alignment((chosen_rewards, rejected_rewards), long_rewards)
            loss = loss + args.solo_alpha * alignment.mean()
            means.add("solo/po_loss", po_loss)
            means.add("solo/alignment", alignment)
            means.add("solo/gap", chosen_rewards - long_rewards[0])
            for answer, value, logps in zip(aligned, long_rewards, long.logps.chunk(len(aligned)), strict=True):
                means.add(f"rewards/long_{answer}", value)
                means.add(f"logps/long_{answer}", logps)
        self._log_means(means, inputs)
        return (loss, self._logits(model, inputs)) if return_outputs else loss

    def _rewards(self, answers: Answers, references: list[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
        """The rewards of each of the equal parts of some rows, each of shape `(batch_size,)`."""
        parts = len(references)
        return tuple(
            rewards(self.args.algorithm, logps, lengths, reference, self.args.beta)
            for logps, lengths, reference in zip(
                answers.logps.chunk(parts), answers.lengths.chunk(parts), references, strict=True
            )
        )

    def _alignment(self, short: tuple[torch.Tensor, ...], long: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The distance of the rewards, summed over the aligned answers, of shape `(batch_size,)`."""
        args = self.args
        total = 0.0
        for answer, on_short, on_long in zip(args.aligned, short, long, strict=False):
            if args.detach_short_reward:
                on_short = on_short.detach()
            total = total + alignment_distance(
                args.solo_distance, on_short - on_long, args.beta, args.huber_delta, rejected=answer == "rejected"
            )
        return total

    def _backward_long(self, model, inputs, reference) -> tuple[tuple[torch.Tensor, ...], Answers]:
        """
        The backward pass of the alignment on the long context, before the short context has a graph.

        The alignment depends on the short context through its rewards alone, and its gradient is the sum of those with
        respect to either side while the other is held: here the short rewards are numbers from a pass without
        gradients, and in the loss of the short context the long rewards will be.

        Returns:
            `tuple`: the long rewards without gradient, and the scored rows.
        """
        args = self.args
        scorer = self.scorers(model)
        # The short rows cost a fraction of the long ones, so they are the ones that are run twice.
        with torch.no_grad():
            if args.aligned == ("chosen",):
                short = self._rewards(score(scorer, chosen_rows(inputs)), [reference.get("chosen")])
            else:
                short = self._rewards(score(scorer, inputs), [reference.get("chosen"), reference.get("rejected")])
        # The gradients of all processes meet in the backward pass of the short context.
        alone = model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()
        with alone:
            long = score(scorer, inputs, "long_")
            self._require_gradient(long)
            long_rewards = self._rewards(long, [reference.get(f"long_{answer}") for answer in args.aligned])
            loss = args.solo_alpha * self._alignment(short, long_rewards).mean()
            self.accelerator.backward(loss / self.current_gradient_accumulation_steps)
        return tuple(value.detach() for value in long_rewards), long._replace(logps=long.logps.detach(), outputs=None)

    @staticmethod
    def _require_gradient(long: Answers) -> None:
        if torch.is_grad_enabled() and not long.logps.requires_grad:
            raise RuntimeError(
                "the log-probabilities on the long prompts carry no gradient, so the alignment would train nothing. A "
                "patched forward (Liger's fused losses, for example) that computes them without one must be removed."
            )

    # ---- metrics ----------------------------------------------------------------------------------------------------

    def _log_means(self, means: Means, inputs) -> None:
        mode = "train" if self.model.training else "eval"
        for name, value in means.reduce(self.accelerator).items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            tokens = sum(inputs[name].sum() for name in ("attention_mask", "long_attention_mask") if name in inputs)
            self._total_train_tokens += self.accelerator.reduce(tokens, reduction="sum").item() // self._tp_size
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    @staticmethod
    def _logits(model, inputs):
        """What `compute_metrics` gets: logits of the pairs, from one more forward pass, as in DPOTrainer."""
        warnings.warn("Logits for `compute_metrics` cost one more forward pass over the pairs.", stacklevel=2)
        with torch.no_grad():
            return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
