"""Prefix sharing: what completions have in common is computed once, exactly. See `packing.py` for the picture.

Importing this package imports neither torch nor trl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names


_MODULE_OF = {
    "NotShareableError": "interface",
    "PrefixSharingMixin": "trainer",
    "SharedPrefixCache": "cache",
    "SharedPrefixForward": "forward",
    "SharedPrefixes": "packing",
    "generate_shared": "rollouts",
    "pack_rows": "packing",
    "why_not_decoding": "exactness",
    "why_not_scoring": "exactness",
}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from .cache import SharedPrefixCache as SharedPrefixCache
    from .exactness import why_not_decoding as why_not_decoding
    from .exactness import why_not_scoring as why_not_scoring
    from .forward import SharedPrefixForward as SharedPrefixForward
    from .interface import NotShareableError as NotShareableError
    from .packing import SharedPrefixes as SharedPrefixes
    from .packing import pack_rows as pack_rows
    from .rollouts import generate_shared as generate_shared
    from .trainer import PrefixSharingMixin as PrefixSharingMixin

__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
