"""QwenLong methods for long contexts as plug-ins for TRL. Importing this module imports neither torch nor trl."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

from ._lazy import lazy_names


try:
    __version__ = _version("qwenlong-trl")
except PackageNotFoundError:  # running from a source tree that was not installed
    __version__ = "0.0.0"

# Public name -> module that defines it. Modules are imported when a name is first used.
_MODULE_OF = {
    "CPRSConfig": "cprs",
    "CPRSForTokenCritic": "cprs",
    "CPRSModel": "cprs",
    "CPRSTrainer": "cprs",
    "CPRSTrainingArguments": "cprs",
    "ContextCompressionPipeline": "cprs",
    "Curriculum": "phased_grpo",
    "CurriculumCallback": "phased_grpo",
    "CurriculumMismatchError": "phased_grpo",
    "Document": "data",
    "Evidence": "data",
    "InvalidRecordError": "data",
    "LongContextExample": "data",
    "LongSFTConfig": "sft",
    "LongSFTTrainer": "sft",
    "Phase": "phased_grpo",
    "PhasedGRPOConfig": "phased_grpo",
    "PhasedGRPOTrainer": "phased_grpo",
    "RewardError": "phased_grpo",
    "SoLoPOConfig": "solopo",
    "SoLoPOTrainer": "solopo",
    "StopOnSignal": "stopping",
}

__all__ = [
    "CPRSConfig",
    "CPRSForTokenCritic",
    "CPRSModel",
    "CPRSTrainer",
    "CPRSTrainingArguments",
    "ContextCompressionPipeline",
    "Curriculum",
    "CurriculumCallback",
    "CurriculumMismatchError",
    "Document",
    "Evidence",
    "InvalidRecordError",
    "LongContextExample",
    "LongSFTConfig",
    "LongSFTTrainer",
    "Phase",
    "PhasedGRPOConfig",
    "PhasedGRPOTrainer",
    "RewardError",
    "SoLoPOConfig",
    "SoLoPOTrainer",
    "StopOnSignal",
    "__version__",
]

if TYPE_CHECKING:
    from .cprs import (
        ContextCompressionPipeline,
        CPRSConfig,
        CPRSForTokenCritic,
        CPRSModel,
        CPRSTrainer,
        CPRSTrainingArguments,
    )
    from .data import Document, Evidence, InvalidRecordError, LongContextExample
    from .phased_grpo import (
        Curriculum,
        CurriculumCallback,
        CurriculumMismatchError,
        Phase,
        PhasedGRPOConfig,
        PhasedGRPOTrainer,
        RewardError,
    )
    from .sft import LongSFTConfig, LongSFTTrainer
    from .solopo import SoLoPOConfig, SoLoPOTrainer
    from .stopping import StopOnSignal

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
