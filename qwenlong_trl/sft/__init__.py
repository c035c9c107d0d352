"""Warm-up SFT before reinforcement learning, with the per-example loss of QwenLong-L1 (arXiv 2505.17667, Eq. 11)."""

from .config import LongSFTConfig
from .trainer import LongSFTTrainer


__all__ = ["LongSFTConfig", "LongSFTTrainer"]
