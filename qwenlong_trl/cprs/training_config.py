"""Configuration of [`CPRSTrainer`]: everything of [`~transformers.TrainingArguments`], and how windows are made.

```python
>>> from qwenlong_trl.cprs import CPRSTrainingArguments
>>> args = CPRSTrainingArguments("out", granularities=["sentence", "paragraph"], needle_rate=0.1, bf16=True)
```
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from .instructions import INSTRUCTIONS


@dataclass
class CPRSTrainingArguments(TrainingArguments):
    # docstyle-ignore
    r"""
    Configuration class for the [`CPRSTrainer`].

    This class includes only the parameters that are specific to it. For the others, see the
    [`~transformers.TrainingArguments`] documentation. Learning rate and schedule default to the paper's
    (QwenLong-CPRS, arXiv 2505.18092, section 3.1): constant 1e-5, 3 epochs; its batches had 256 windows.

    Parameters:
        window_tokens (`int`, *optional*):
            Most tokens of a window, with instruction and question. Defaults to that of the model.
        granularities (`list[str]`, *optional*, defaults to `["sentence"]`):
            What the critic learns to extract: some of `"token"`, `"sentence"` and `"paragraph"`, drawn for each
            record.
        instruction_variants (`bool`, *optional*, defaults to `True`):
            Whether instructions vary in their wording. Otherwise the first of each granularity is the only one.
        needle_rate (`float`, *optional*, defaults to `0.1`):
            Share of records in which needles are hidden and asked for. The paper's mixture is not public.
        outside_drop_rate (`float`, *optional*, defaults to `0.5`):
            Share of the tokens outside of spans that do not count in a step, drawn anew for each step (section 3.1).
            Those beside a span always count, so that its ends stay sharp.
        first_trainable_layer (`int`, *optional*, defaults to `0`):
            Layers below this one, and the embeddings if it is above 0, stay as they are. The paper trains all.
        eval_budgets (`list[float]`, *optional*, defaults to `[0.1, 0.2, 0.4]`):
            Shares of the tokens at which evaluation compresses.
        dataset_num_proc (`int`, *optional*):
            Processes that cut and label windows.
    """

    window_tokens: int | None = field(
        default=None, metadata={"help": "Most tokens of a window, with the prefix. Defaults to that of the model."}
    )
    granularities: list[str] = field(
        default_factory=lambda: ["sentence"],
        metadata={"help": "What to learn to extract: some of token, sentence, paragraph."},
    )
    instruction_variants: bool = field(
        default=True, metadata={"help": "Vary the wording of the instructions; otherwise the first one is used."}
    )
    needle_rate: float = field(
        default=0.1, metadata={"help": "Share of records in which needles are hidden and asked for."}
    )
    outside_drop_rate: float = field(
        default=0.5, metadata={"help": "Share of outside tokens that do not count in a step, drawn for each step."}
    )
    first_trainable_layer: int = field(
        default=0, metadata={"help": "Layers below this one, and the embeddings, stay as they are; 0 trains all."}
    )
    eval_budgets: list[float] = field(
        default_factory=lambda: [0.1, 0.2, 0.4],
        metadata={"help": "Shares of the tokens at which evaluation compresses."},
    )
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that cut and label windows."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate (the paper's: 1e-5, constant)."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Schedule of the learning rate."})

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.granularities, str):  # one in YAML
            self.granularities = [self.granularities]
        if isinstance(self.eval_budgets, int | float):
            self.eval_budgets = [self.eval_budgets]
        unknown = [name for name in self.granularities if name not in INSTRUCTIONS]
        if unknown or not self.granularities:
            raise ValueError(f"`granularities` must be some of {', '.join(INSTRUCTIONS)}, got {self.granularities!r}")
        for name in ("needle_rate", "outside_drop_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1, got {getattr(self, name)}")
        for budget in self.eval_budgets:
            if not 0 < budget <= 1:
                raise ValueError(f"`eval_budgets` must lie above 0 and not above 1, got {self.eval_budgets!r}")
