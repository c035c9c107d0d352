"""`GRPOTrainer` with shared prefixes: a prompt is computed once per group, in rollouts, in scoring and in the loss.

```python
>>> class Trainer(PrefixSharingMixin, GRPOTrainer):
...     pass
```

What TRL computes stays what it is: its own methods run, with a model that computes equal prompts once in the place of
the model, and with `generate` replaced by [`~prefix_sharing.rollouts.generate_shared`] while completions are sampled.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import gather_object
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils import logging

from .exactness import why_not_decoding
from .regroup import regroup
from .rollouts import generate_shared
from .scorers import Scorers


logger = logging.get_logger(__name__)


class PrefixSharingMixin:
    """
    Put it before [`~trl.GRPOTrainer`] among the bases of a trainer. It is on unless `args.prefix_sharing` is there and
    `False`, and off, with one line in the log, for models for which it would not be exact.

    Rows of one optimizer step are exchanged between its micro-batches so that those with the same prompt meet. A
    micro-batch of `per_device_train_batch_size` rows shares at most that many, so set it to `num_generations` or a
    multiple, and lower `gradient_accumulation_steps` instead.
    """

    _scorers: Scorers | None = None
    _share_decoding: bool | None = None

    # ---- scoring ----------------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        compute_aux_loss=False,
        **inputs,
    ):
        plain = not compute_aux_loss and all(value is None for value in inputs.values())
        scorer = self._scorer(model) if plain else model
        if scorer is not model and batch_size is not None and not torch.is_grad_enabled():
            batch_size = self._rows_without_gradient(batch_size, input_ids.size(1), logits_to_keep)
        result = super()._get_per_token_logps_and_entropies(
            scorer,
            input_ids,
            attention_mask,
            logits_to_keep,
            batch_size,
            compute_entropy,
            compute_aux_loss,
            **inputs,
        )
        if scorer is not model and torch.is_grad_enabled():
            rows, computed = scorer.tokens
            self._metrics["train"]["prefix_sharing/token_ratio"].append(rows / computed)
        return result

    def _rows_without_gradient(self, batch_size: int, width: int, completion: int) -> int:
        """Rows in one forward pass without gradient, where TRL takes `batch_size`: whole groups, so that they share,
        as long as that is at most twice as many tokens."""
        group = self.num_generations if self.model.training else self.num_generations_eval
        fitting = (2 * batch_size * width - (width - completion)) // completion
        rows = max(batch_size, min(math.ceil(batch_size / group) * group, fitting))
        # Prompts and completions are padded by each process for itself, and all make as many forward passes.
        return min(gather_object([rows]))

    def _scorer(self, model):
        if self._scorers is None:
            self._scorers = Scorers(self)
        return self._scorers(model)

    # ---- micro-batches ----------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training or self._buffered_inputs is before:
            return inputs
        # The first scoring of a process, whatever its batch: all processes compare together.
        if self._scorer(self.model_wrapped) is not self.model_wrapped and not self._composition_counts():
            self._buffered_inputs = regroup(self._buffered_inputs, self.args.gradient_accumulation_steps)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _composition_counts(self) -> bool:
        """Whether the loss of an optimizer step depends on which of its rows share a micro-batch."""
        return self.loss_type == "bnpo" or self.top_entropy_quantile < 1.0 or self._entropy_bonus_enabled

    # ---- rollouts ---------------------------------------------------------------------------------------------------

    def _generate_single_turn(self, *args, **kwargs):
        with self._shared_generate():
            return super()._generate_single_turn(*args, **kwargs)

    @contextmanager
    def _shared_generate(self) -> Iterator[None]:
        """Within it, the model's `generate` reads equal prompts once."""
        if (
            not getattr(self.args, "prefix_sharing", True)
            or self.use_vllm
            or self.use_transformers_continuous_batching
            or self._is_vlm
        ):
            yield
            return
        model = self.accelerator.unwrap_model(self.model_wrapped)
        before = vars(model).get("generate")  # of whoever else has replaced it
        generate = model.generate

        @functools.wraps(generate)
        def shared(**inputs):
            if self._share_decoding is None:
                with torch.no_grad(), self.accelerator.autocast():
                    reason = next(filter(None, gather_object([why_not_decoding(model)])), None)
                self._share_decoding = reason is None
                if reason is None:
                    logger.info("Prefix sharing is on for rollouts.")
                else:
                    logger.info(
                        f"Rollouts read a prompt once and repeat its cache, as the model cannot share it: {reason}."
                    )
            return generate_shared(
                model, generate, share_decoding=self._share_decoding, decide=self._read_prompts_first, **inputs
            )

        model.generate = shared
        try:
            yield
        finally:
            if before is None:
                del model.generate
            else:
                model.generate = before

    def _read_prompts_first(self, useful: bool, possible: bool) -> bool:
        if not self.is_fsdp_enabled and not is_deepspeed_zero3_enabled():
            return useful and possible
        # Reading is one forward pass more, in which all processes gather the weights.
        everywhere = gather_object([(useful, possible)])
        return any(useful for useful, _ in everywhere) and all(possible for _, possible in everywhere)
