"""A model with TRL's fused LM head that computes equal prompts of a batch once.

```python
>>> from trl.trainer.utils import add_fused_lm_head
>>> add_fused_lm_head(model)
>>> shared = SharedPrefixForward(model)
>>> labels = input_ids.masked_fill(attention_mask == 0, -100)
>>> labels[:, :prompt_width] = -100
>>> shared(input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True).log_probs
```
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from .interface import NotShareableError, attach, attention_name, layout_arguments, text_config
from .packing import pack_rows


# Tokens of a packed row up to which a mask is spelled out for eager attention, whose scores are as large per head.
LONGEST_MASK = 8192


class SharedPrefixForward:
    """
    Called like a model with TRL's fused LM head, and returns what that returns, in the same shape.

    A batch in which no two rows share a prompt goes to the model as it is, and so does one for eager attention that is
    longer than `LONGEST_MASK`, and one with other inputs than tokens.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            A causal language model after TRL's `add_fused_lm_head`, PEFT and wrappers of processes included.

    Attributes:
        tokens (`tuple[int, int]`):
            Of the last call, how many tokens the rows had, and how many were computed.

    Raises:
        [`NotShareableError`]: if the model's attention cannot serve shared prefixes.
    """

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.tokens = (0, 0)
        self._attention = attention_name(model)
        if self._attention != "eager":
            attach(self._attention)

    def __call__(self, *, input_ids, attention_mask, labels, fused_lm_head=True, use_cache=False, **inputs):
        packed = None if inputs or not fused_lm_head else pack_rows(input_ids, attention_mask, labels)
        length = None if packed is None else packed.prefixes.tokens
        if packed is None or (self._attention == "eager" and length > LONGEST_MASK):
            self.tokens = (int(attention_mask.sum()),) * 2
            batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
            return self.model(**batch, fused_lm_head=fused_lm_head, use_cache=use_cache, **inputs)
        self.tokens = (packed.row_tokens, length)
        outputs = self.model(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            shift_labels=packed.labels,
            fused_lm_head=True,
            use_cache=False,
            **layout_arguments(self._attention, packed.prefixes, input_ids.device, self._mask_dtype()),
        )
        shape = (input_ids.size(0), input_ids.size(1) - 1)
        per_token = {f.name: getattr(outputs, f.name) for f in fields(outputs) if f.name not in ("loss", "aux_loss")}
        return replace(outputs, **{name: packed.unpack(x, shape) for name, x in per_token.items() if x is not None})

    def _mask_dtype(self) -> torch.dtype:
        return text_config(self.model).dtype or torch.float32


__all__ = ["LONGEST_MASK", "NotShareableError", "SharedPrefixForward"]
