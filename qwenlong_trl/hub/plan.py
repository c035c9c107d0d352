"""What of a folder goes to the Hub, and what stays here: secrets, optimizer states, checkpoints, caches.

```python
>>> plan = plan_push("out")
>>> print(plan.table())
>>> plan.repo_type
'model'
```
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .preference_sets import PAIRS_FILE
from .record_sets import RECORDS_FILE


_SECRET = "looks like a secret"
# By pattern of the name, or of the path with its folders: why a file stays. The first that fits counts.
_SECRET_NAMES = (".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*", ".netrc", ".npmrc")
_SECRET_NAMES += (".pypirc", "*credential*", "*secret*", "token", "*.token", "stored_tokens", ".git-credentials")
_KEPT = (
    ((".git/*", ".git"), "belongs to git"),
    (("__pycache__/*", ".cache/*", ".ipynb_checkpoints/*", ".pytest_cache/*", ".ruff_cache/*", ".venv/*"), "a cache"),
    (("*.pyc", ".DS_Store", "Thumbs.db", "*.lock", "*.tmp", "*.part"), "a temporary file"),
    (("checkpoint-[0-9]*/*",), "a checkpoint"),
    (("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "global_step*"), "state of the optimizer"),
    (("training_args.bin",), "a pickle that nothing needs; qwenlong_run.json says the same"),
    (("samples.jsonl",), "the samples that the pairs were made of"),
    (("runs/*", "wandb/*", "trackio/*", "events.out.tfevents*"), "logs of a tracker"),
)
_HIDDEN = (".gitattributes", ".gitignore", ".eval_results", ".streamlit")
_SECRET_TEXT = re.compile(
    rb"\bhf_[A-Za-z0-9]{30,}\b|\bsk-[A-Za-z0-9_-]{32,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|"
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_TEXT_BYTES = 4 * 2**20  # what is larger is data and not looked through
_TEXT_SUFFIXES = {"", ".cfg", ".ini", ".ipynb", ".jinja", ".json", ".jsonl", ".md", ".py", ".sh", ".toml", ".txt"}
_TEXT_SUFFIXES |= {".yaml", ".yml", ".html", ".csv"}


@dataclass(frozen=True)
class PlannedFile:
    """A file: its path within the folder, with `/`, and its bytes; why it stays, if it does."""

    path: str
    size: int
    reason: str | None = None


@dataclass(frozen=True)
class PushPlan:
    """
    What of a folder is pushed, and what is not.

    Args:
        folder (`Path`):
            The folder.
        repo_type (`str`):
            `"model"`, `"dataset"` or `"space"`.
        files, kept_back (`tuple[PlannedFile, ...]`):
            By path.
    """

    folder: Path
    repo_type: str
    files: tuple[PlannedFile, ...]
    kept_back: tuple[PlannedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files that are pushed."""
        return sum(file.size for file in self.files)

    def table(self) -> str:
        """The plan as text: a line for each file, those that stay below, with the reason."""
        lines = [f"{size_name(file.size):>10}  {file.path}" for file in self.files]
        lines.append(f"{size_name(self.size):>10}  in {len(self.files)} files, as a {self.repo_type}")
        if self.kept_back:
            lines += ["", "not pushed:"]
            lines += [f"{size_name(file.size):>10}  {file.path}  ({file.reason})" for file in self.kept_back]
        return "\n".join(lines)


def plan_push(folder: str | Path, repo_type: str | None = None, include: Sequence[str] = ()) -> PushPlan:
    """
    Decides what of a folder is pushed; reads it and changes nothing.

    Args:
        folder (`str` or `Path`):
            The folder.
        repo_type (`str`, *optional*):
            `"model"`, `"dataset"` or `"space"`. By default what the files say.
        include (`Sequence[str]`, *optional*):
            Patterns of paths that go although they would stay, such as `"checkpoint-8/*"`. What looks like a secret
            stays all the same.

    Raises:
        `ValueError`: the folder is not there, nothing in it is to be pushed, or its type is not clear.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    files, kept = [], []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        reason = _reason(folder, path, name, include)
        size = path.stat().st_size if path.exists() else 0
        (files if reason is None else kept).append(PlannedFile(name, size, reason))
    if not files:
        raise ValueError(f"{folder} holds nothing to push{_why(kept)}")
    return PushPlan(folder, repo_type or _repo_type(folder, files), tuple(files), tuple(kept))


def _reason(folder: Path, path: Path, name: str, include: Sequence[str]) -> str | None:
    parts = name.split("/")
    # Each part with what lies below it, so that a pattern fits at any depth.
    tails = ["/".join(parts[i:]) for i in range(len(parts))]
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        return "a link out of the folder"
    if not path.is_file():
        return "no plain file"
    if any(fnmatchcase(part.lower(), pattern) for part in parts for pattern in _SECRET_NAMES) or _has_secret(path):
        return _SECRET
    if any(fnmatchcase(name, pattern) for pattern in include):
        return None
    for patterns, reason in _KEPT:
        if any(fnmatchcase(tail, pattern) for tail in tails for pattern in patterns):
            return reason
    return "a hidden file" if any(part.startswith(".") and part not in _HIDDEN for part in parts) else None


def _has_secret(path: Path) -> bool:
    if path.suffix.lower() not in _TEXT_SUFFIXES or path.stat().st_size > _TEXT_BYTES:
        return False
    return _SECRET_TEXT.search(path.read_bytes()) is not None


def _repo_type(folder: Path, files: Sequence[PlannedFile]) -> str:
    names = {file.path for file in files}
    if {"README.md", "app.py"} <= names or "Dockerfile" in names:
        return "space"
    if {"config.json", "adapter_config.json"} & names or any(name.endswith(".safetensors") for name in names):
        return "model"
    if {PAIRS_FILE, RECORDS_FILE, "report.json"} & names:
        return "dataset"
    if any(name.endswith((".parquet", ".arrow", ".jsonl", ".csv")) for name in names):
        return "dataset"
    raise ValueError(
        f"{folder} does not tell what it is: a model has config.json or adapter_config.json, a data set Parquet or "
        "JSON Lines files, a Space README.md and app.py. Give the type (--repo_type)"
    )


def _why(kept: Sequence[PlannedFile]) -> str:
    return ": " + ", ".join(f"{file.path} ({file.reason})" for file in kept[:5]) if kept else ""


def size_name(size: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, bytes in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes:
            return f"{size / bytes:.1f} {unit}"
    return f"{size} B"
