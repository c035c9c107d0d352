"""Batches of preference pairs with, apart from them, the answers on their long prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import pad


# Reference log-probabilities that may come with the data, see `reference.py`.
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps", "ref_long_chosen_logps", "ref_long_rejected_logps")


@dataclass
class DataCollatorForSoLoPO(DataCollatorForPreference):
    """
    [`~trl.trainer.dpo_trainer.DataCollatorForPreference`] for rows with a second prompt. Short and long rows are never
    padded to a common length.

    Besides `input_ids`, `attention_mask` and `completion_mask` of the pairs, of shape `(2 * batch_size, seq_len)` with
    the chosen answers first, a batch has

    - `long_input_ids`, `long_attention_mask` and `long_completion_mask` of shape `(len(aligned) * batch_size,
      long_seq_len)` if the rows have `long_prompt_ids`;
    - `ref_input_ids`, `ref_attention_mask` and `ref_completion_mask` of shape `(2 * batch_size, ref_seq_len)` if the
      rows have `ref_prompt_ids`;
    - the columns of precomputed reference log-probabilities that the rows have, of shape `(batch_size,)`.

    Args:
        aligned (`tuple[str, ...]`, *optional*, defaults to `("chosen",)`):
            The answers that are run on the long prompts.
    """

    aligned: tuple[str, ...] = ("chosen",)

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        if self.aligned and "long_prompt_ids" in examples[0]:
            batch |= self._rows(examples, "long", self.aligned)
        if "ref_prompt_ids" in examples[0]:
            batch |= self._rows(examples, "ref", ("chosen", "rejected"))
        for column in REFERENCE_COLUMNS:
            if column in examples[0]:
                batch[column] = torch.tensor([example[column] for example in examples])
        return batch

    def _rows(self, examples: list[dict[str, Any]], side: str, answers: tuple[str, ...]) -> dict[str, torch.Tensor]:
        ids, attention, completion = [], [], []
        for answer in answers:
            for example in examples:
                prompt, tokens = example[f"{side}_prompt_ids"], example[f"{answer}_ids"]
                ids.append(torch.tensor(prompt + tokens))
                attention.append(torch.ones(len(prompt) + len(tokens), dtype=torch.long))
                completion.append(torch.tensor([0] * len(prompt) + [1] * len(tokens)))
        values = {"input_ids": (ids, self.pad_token_id), "attention_mask": (attention, 0)}
        return {
            f"{side}_{name}": pad(rows, filler, padding_side="right", pad_to_multiple_of=self.pad_to_multiple_of)
            for name, (rows, filler) in (values | {"completion_mask": (completion, 0)}).items()
        }
