"""Long-context question answering data: one record, readers, composing and synthesising, views for trainers, filters.

Names are loaded on first use, so importing this package imports none of numpy, datasets, transformers and torch.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from .._lazy import lazy_names


if TYPE_CHECKING:
    from .compose import ContextBudgetError, DocumentPool, compose, shorten
    from .filters import Dropped, drop_contaminated, drop_duplicates, filter_length
    from .prompts import (
        L1_MULTIPLE_CHOICE_TEMPLATE,
        L1_TEMPLATE,
        render_context,
        render_document,
        render_prompt,
    )
    from .readers import read_records, write_records
    from .record import (
        Document,
        Evidence,
        InvalidRecordError,
        LongContextExample,
        from_dataset,
        record_features,
        to_dataset,
    )
    from .synthesize import SYNTHETIC_TASKS, synthesize
    from .views import prompt_dataset, prompt_view, sft_view, twin_view


_MODULE_OF = {
    "ContextBudgetError": "compose",
    "DocumentPool": "compose",
    "compose": "compose",
    "shorten": "compose",
    "Dropped": "filters",
    "drop_contaminated": "filters",
    "drop_duplicates": "filters",
    "filter_length": "filters",
    "L1_MULTIPLE_CHOICE_TEMPLATE": "prompts",
    "L1_TEMPLATE": "prompts",
    "render_context": "prompts",
    "render_document": "prompts",
    "render_prompt": "prompts",
    "read_records": "readers",
    "write_records": "readers",
    "Document": "record",
    "Evidence": "record",
    "InvalidRecordError": "record",
    "LongContextExample": "record",
    "from_dataset": "record",
    "record_features": "record",
    "to_dataset": "record",
    "SYNTHETIC_TASKS": "synthesize",
    "synthesize": "synthesize",
    "prompt_dataset": "views",
    "prompt_view": "views",
    "sft_view": "views",
    "twin_view": "views",
}

__all__ = [
    "ContextBudgetError",
    "Document",
    "DocumentPool",
    "Dropped",
    "Evidence",
    "InvalidRecordError",
    "L1_MULTIPLE_CHOICE_TEMPLATE",
    "L1_TEMPLATE",
    "LongContextExample",
    "SYNTHETIC_TASKS",
    "compose",
    "drop_contaminated",
    "drop_duplicates",
    "filter_length",
    "from_dataset",
    "prompt_dataset",
    "prompt_view",
    "read_records",
    "record_features",
    "render_context",
    "render_document",
    "render_prompt",
    "sft_view",
    "shorten",
    "synthesize",
    "to_dataset",
    "twin_view",
    "write_records",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)


class _Package(ModuleType):
    """Keeps `compose` and `synthesize` functions: importing the modules of these names would put those in place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _MODULE_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
