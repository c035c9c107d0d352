"""Phased GRPO: reinforcement learning over phases of growing context length (QwenLong-L1, arXiv 2505.17667)."""

from .callback import CurriculumCallback
from .config import PhasedGRPOConfig
from .curriculum import Curriculum, CurriculumMismatchError
from .phase import Phase
from .reward_faults import RewardError
from .trainer import PhasedGRPOTrainer


__all__ = [
    "Curriculum",
    "CurriculumCallback",
    "CurriculumMismatchError",
    "Phase",
    "PhasedGRPOConfig",
    "PhasedGRPOTrainer",
    "RewardError",
]
