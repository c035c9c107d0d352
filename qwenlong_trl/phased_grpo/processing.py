"""The tokenizer or processor of a model, as TRL loads it; ours measures prompts before the model is there."""

from __future__ import annotations

from transformers import AutoProcessor
from trl.trainer.utils import get_config_model_id


def load_processing_class(model, args):
    """The tokenizer or processor beside a model, which is a name or an object."""
    return AutoProcessor.from_pretrained(
        model if isinstance(model, str) else get_config_model_id(model.config),
        revision=(args.model_init_kwargs or {}).get("revision"),
        trust_remote_code=args.trust_remote_code,
        truncation_side="left",
        padding_side="left",
    )
