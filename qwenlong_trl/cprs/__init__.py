"""QwenLong-CPRS (arXiv 2505.18092): a token critic that compresses a context to what a question needs of it.

Importing this package imports torch and transformers, and makes them know the model (`AutoModel`) and the pipeline
(`pipeline("context-compression")`). The trainer is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .._lazy import lazy_names
from .configuration_cprs import CPRSConfig
from .modeling_cprs import CPRSForTokenCritic, CPRSModel, TokenCriticOutput
from .pipeline_cprs import ContextCompressionPipeline


AutoConfig.register("cprs", CPRSConfig)
AutoModel.register(CPRSConfig, CPRSForTokenCritic)
CPRSConfig.register_for_auto_class()
CPRSForTokenCritic.register_for_auto_class("AutoModel")
PIPELINE_REGISTRY.register_pipeline(
    "context-compression", pipeline_class=ContextCompressionPipeline, pt_model=AutoModel, type="text"
)

_MODULE_OF = {
    "CPRSTrainer": "trainer",
    "CPRSTrainingArguments": "training_config",
}

__all__ = [
    "CPRSConfig",
    "CPRSForTokenCritic",
    "CPRSModel",
    "CPRSTrainer",
    "CPRSTrainingArguments",
    "ContextCompressionPipeline",
    "TokenCriticOutput",
]

if TYPE_CHECKING:
    from .trainer import CPRSTrainer as CPRSTrainer
    from .training_config import CPRSTrainingArguments as CPRSTrainingArguments

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
