"""QwenLong methods for long contexts as plug-ins for TRL. Importing this module imports neither torch nor trl."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING


try:
    __version__ = _version("qwenlong-trl")
except PackageNotFoundError:  # running from a source tree that was not installed
    __version__ = "0.0.0"

# Public name -> module that defines it. Modules are imported when a name is first used.
_MODULES = {
    "Curriculum": "phased_grpo",
    "CurriculumCallback": "phased_grpo",
    "CurriculumMismatchError": "phased_grpo",
    "Document": "data",
    "Evidence": "data",
    "InvalidRecordError": "data",
    "LongContextExample": "data",
    "Phase": "phased_grpo",
    "PhasedGRPOConfig": "phased_grpo",
    "PhasedGRPOTrainer": "phased_grpo",
}

__all__ = [
    "Curriculum",
    "CurriculumCallback",
    "CurriculumMismatchError",
    "Document",
    "Evidence",
    "InvalidRecordError",
    "LongContextExample",
    "Phase",
    "PhasedGRPOConfig",
    "PhasedGRPOTrainer",
    "__version__",
]

if TYPE_CHECKING:
    from .data import Document, Evidence, InvalidRecordError, LongContextExample
    from .phased_grpo import (
        Curriculum,
        CurriculumCallback,
        CurriculumMismatchError,
        Phase,
        PhasedGRPOConfig,
        PhasedGRPOTrainer,
    )


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__():
    return __all__
