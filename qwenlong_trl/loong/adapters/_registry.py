"""What inspect-ai finds by the entry point of this package: `inspect eval qwenlong_trl/loong`."""

from .inspect_task import judge, loong, perfect_rate, structured


__all__ = ["judge", "loong", "perfect_rate", "structured"]
