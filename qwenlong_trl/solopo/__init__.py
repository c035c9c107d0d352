"""Short-to-long preference optimisation (SoLoPO, arXiv 2505.11166): a subclass of TRL's `DPOTrainer`, and its data.

Importing this package imports neither torch nor trl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "DataCollatorForSoLoPO": "collator",
    "PairStatistics": "pair_statistics",
    "SoLoPOConfig": "config",
    "SoLoPOTrainer": "trainer",
    "Twin": "twins",
    "build_pairs": "pairs",
    "make_twin": "twins",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .collator import DataCollatorForSoLoPO as DataCollatorForSoLoPO
    from .config import SoLoPOConfig as SoLoPOConfig
    from .pair_statistics import PairStatistics as PairStatistics
    from .pairs import build_pairs as build_pairs
    from .trainer import SoLoPOTrainer as SoLoPOTrainer
    from .twins import Twin as Twin
    from .twins import make_twin as make_twin

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
