"""Judges' answers on disk, for later runs and other processes: `OpenAIJudge(..., cache="judge-cache")`."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


logger = logging.getLogger(__name__)

# Seconds that a write waits for other processes. It has a thread of its own, so nothing else waits with it.
_LOCK_PATIENCE = 5.0
# Seconds that a batch waits for what is known of it, and for its last answers to be written.
_READ_PATIENCE, _WRITE_PATIENCE = 1.0, 0.3


class JudgeCache:
    """
    Judges' answers in a folder, which several processes may use at once. Texts only, nothing is unpickled. A cache
    that fails later on, on a full disk for example, or that another process holds locked, knows nothing and keeps
    nothing for the rest of a batch, with a warning. It never holds up an event loop.

    Raises:
        `OSError`: if the folder cannot be made or holds something else.
        `ImportError`: without the extra `judge`.
    """

    def __init__(self, folder: str | Path):
        self.folder = str(folder)
        self._reset()
        try:
            self._open()
        except sqlite3.Error as error:
            raise OSError(f"{self.folder} cannot be the cache of a judge: {error}") from error

    async def read(self, keys, patience: float = _READ_PATIENCE) -> dict[str, str]:
        """What is known of these keys, with which a batch begins. Nothing if it takes longer than `patience`."""
        found = await self._done(patience, self._read, list(keys))
        if found is None:
            logger.warning(f"the judge's cache {self.folder} cannot be read: it did not answer in {patience} s")
        return found or {}

    def write(self, key: str, text: str) -> None:
        """Keeps an answer, soon. The last one wins."""
        self._own_thread().submit(self._write, key, text)

    async def flush(self) -> None:
        """Waits a little until what is to be kept is there. What takes longer is still written afterwards."""
        await self._done(_WRITE_PATIENCE, lambda: None)

    async def _done(self, patience: float, work, *args):
        """What the work returns, in the cache's own thread and after all that waits there; `None` if it is late."""
        future = asyncio.wrap_future(self._own_thread().submit(work, *args))
        await asyncio.wait({future}, timeout=patience)
        if future.done():
            return future.result()
        future.cancel()
        return None

    def _read(self, keys: list[str]) -> dict[str, str]:
        self._broken = False
        try:
            cache = self._open()
            found = {key: cache.get(key) for key in keys}
        except Exception as error:
            self._give_up("read", error)
            return {}
        return {key: text for key, text in found.items() if isinstance(text, str)}

    def _write(self, key: str, text: str) -> None:
        if self._broken:
            return
        try:
            self._open().set(key, text)
        except Exception as error:
            self._give_up("written", error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._broken = True
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        logger.warning(f"the judge's cache {self.folder} cannot be {what}: {reason}")

    def __getstate__(self):
        return {"folder": self.folder}  # rewards are pickled for other processes

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._cache, self._thread, self._broken = None, None, False

    def _own_thread(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge-cache")
        return self._thread

    def _open(self):
        if self._cache is None:
            try:
                import diskcache
            except ImportError:
                raise ImportError('a judge\'s cache needs diskcache: pip install "qwenlong-trl[judge]"') from None

            class TextDisk(diskcache.Disk):
                def fetch(self, mode, filename, value, read):
                    # Keys and values are text, so a pickle was not written by us.
                    return None if mode == diskcache.core.MODE_PICKLE else super().fetch(mode, filename, value, read)

            self._cache = diskcache.Cache(
                self.folder, timeout=_LOCK_PATIENCE, disk=TextDisk, eviction_policy="none", cull_limit=0
            )
        return self._cache
