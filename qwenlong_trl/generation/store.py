"""Completions in a file that a killed run leaves whole: one line for each prompt, after a line with the settings.

```python
>>> with SampleStore("samples.jsonl", {"model": "m", "temperature": 0.85}) as store:
...     missing = [id for id in ids if id not in store]
...     for index, completions in sampler.sample([prompts[id] for id in missing], missing, sampling):
...         store.add(missing[index], prompts[missing[index]], completions)
...     completions = store.get(id, prompts[id])
```
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Self

from filelock import FileLock, Timeout

from .sampling import Completion, Prompt


class SettingsMismatchError(ValueError):
    """The file was made with other settings, or another prompt, than those of this run."""


class JsonlStore:
    """What a run has so far, on disk and by id: a line with its settings, then one for each id. One process at a time;
    use it in a `with` block.

    A line counts once it is whole: what a killed run had half written is cut off with the next opening. Of several
    lines of an id the last one counts.

    Args:
        path (`str` or `os.PathLike`):
            File to make or to continue, `.jsonl`, in an existing folder.
        settings (`dict[str, Any]`):
            What the lines depend on, as JSON has it.

    Raises:
        [`SettingsMismatchError`]: the file has other settings; the message says which.
        `ValueError`: the file is no such file, or another process writes to it.
    """

    # What a line must have beside its id.
    _fields: tuple[str, ...] = ()

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any]):
        self.path = Path(path)
        self.settings = json.loads(json.dumps(settings))  # as they come back: tuples are lists
        self._places: dict[str, int] = {}  # where the line of an id starts; the texts of a large set stay on disk
        self._file: BinaryIO | None = None
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)

    def __enter__(self) -> Self:
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"another process writes to {self.path}; wait for it, or end it") from None
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def __contains__(self, id: str) -> bool:
        return id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def ids(self) -> list[str]:
        """All ids, in the order in which they first came."""
        return list(self._places)

    def write(self, id: str, **payload: Any) -> None:
        """Writes what belongs to an id down, as JSON has it."""
        self._places[id] = self._write({"id": id, **payload})

    def read(self, id: str) -> dict[str, Any]:
        """What was written down for an id, with the id; raises `KeyError` where there is nothing."""
        self._file.seek(self._places[id])
        return json.loads(self._file.readline())

    def _write(self, line: dict[str, Any]) -> int:
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()
        return place

    def _open(self) -> None:
        self._file = open(self.path, "a+b")
        self._file.seek(0)
        whole = 0
        for number, raw in enumerate(self._file, start=1):
            if not raw.endswith(b"\n"):
                break
            known, _ = _parse(raw, number, self.path, self._fields)
            if number == 1:
                self._check(known)
            else:
                self._places[known] = whole
            whole += len(raw)
        self._file.truncate(whole)
        if whole == 0:
            self._write({"settings": self.settings})

    def _check(self, known: dict[str, Any]) -> None:
        names = [n for n in {**known, **self.settings} if known.get(n) != self.settings.get(n)]
        if names:
            differences = "; ".join(f"{n} was {known.get(n)!r} and is {self.settings.get(n)!r}" for n in names)
            raise SettingsMismatchError(
                f"{self.path} was made with other settings: {differences}. Give the same ones to continue, or another "
                "output folder"
            )


class SampleStore(JsonlStore):
    """A [`JsonlStore`] of completions. A prompt is stored as a digest, so that one which changed is noticed."""

    _fields = ("prompt", "completions")

    def add(self, id: str, prompt: Prompt, completions: list[Completion], about: dict[str, Any] | None = None) -> None:
        """Writes the completions of a prompt down, before anything else is sampled, with what is to be kept of it."""
        plain = [{"text": c.text, "finish_reason": c.finish_reason} for c in completions]
        self.write(id, prompt=_digest(prompt), completions=plain, **({} if about is None else {"about": about}))

    def get(self, id: str, prompt: Prompt) -> list[Completion]:
        """The completions of a prompt.

        Raises:
            `KeyError`: there are none.
            [`SettingsMismatchError`]: they belong to another prompt of the same id.
        """
        line = self.read(id)
        if line.get("prompt") != _digest(prompt):
            raise SettingsMismatchError(
                f"{self.path}: the samples of {id!r} belong to another prompt than it has now; the records changed "
                "since then. Take another output folder, or remove the file to sample again"
            )
        return _completions(line, self.path)

    def completions(self, id: str) -> list[Completion]:
        """The completions of an id, whatever its prompt was; raises `KeyError` where there are none."""
        return _completions(self.read(id), self.path)

    def about(self, id: str) -> dict[str, Any]:
        """What was kept of the prompt of an id beside its completions; raises `KeyError` for an unknown id."""
        return self.read(id).get("about", {})


def read_lines(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """
    The settings of a file and its lines by id, of several the last, without a lock and without writing to it: a run
    may be going on. A line that is half written is left out.

    Raises:
        `OSError`: there is no such file.
        `ValueError`: it is no such file.
    """
    settings: dict[str, Any] | None = None
    lines: dict[str, dict[str, Any]] = {}
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                break
            known, line = _parse(raw, number, path)
            if number == 1:
                settings = known
            else:
                lines[known] = line
    if settings is None:
        raise ValueError(f"{path}, line 1: holds no settings, so no run wrote this file")
    return settings, lines


def read_settings(path: str | os.PathLike) -> dict[str, Any]:
    """The settings that a file was made with; raises what [`read_lines`] raises."""
    return read_lines(path)[0]


def _parse(raw: bytes, number: int, path: str | os.PathLike, fields: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """The settings of the first line, or the id of another one, and the whole line."""
    try:
        line = json.loads(raw)
        known = line["settings"] if number == 1 else line["id"]
        if not isinstance(known, dict if number == 1 else str):
            raise TypeError(f"{known!r:.80} is neither settings nor an id")
        if number > 1:
            [line[name] for name in fields]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {number}: not what a run wrote ({type(error).__name__}: {error}); restore the file, or "
            "remove it to start again"
        ) from None
    return known, line


def _completions(line: dict[str, Any], path: Path) -> list[Completion]:
    try:
        return [Completion(**completion) for completion in line["completions"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: the line of {line['id']!r} holds no completions ({error})") from None


def _digest(prompt: Prompt) -> str:
    text = json.dumps(prompt, ensure_ascii=True, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
