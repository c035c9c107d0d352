"""The repositories of the Hub of the tests, on disk: contents by their hash, commits, and branches."""

import hashlib
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any


class HubError(Exception):
    """An answer other than success: a status, and the headers by which the client tells what is meant."""

    def __init__(self, status: int, message: str, code: str | None = None, body: dict | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body or {}


def git_oid(content: bytes) -> str:
    """The name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def lfs_pointer(oid: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


class HubStore:
    """
    Repositories by `(type, "owner/name")`. A commit appears whole or not at all: contents come first, and then one
    replacement of the file with the branches.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        for name in ("objects", "repos"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # ---- contents ---------------------------------------------------------------------------------------------------

    def put(self, content: bytes) -> str:
        """Stores a content and returns its SHA-256."""
        oid = hashlib.sha256(content).hexdigest()
        _write(self.folder / "objects" / oid, content)
        return oid

    def get(self, oid: str) -> bytes:
        return (self.folder / "objects" / oid).read_bytes()

    def has(self, oid: str) -> bool:
        return re.fullmatch(r"[0-9a-f]{64}", oid) is not None and (self.folder / "objects" / oid).is_file()

    # ---- repositories -----------------------------------------------------------------------------------------------

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / "repos" / f"{kind}-{name.replace('/', '--')}.json"

    def repo(self, kind: str, name: str) -> dict[str, Any]:
        """`{"private", "sdk", "branches": {name: commit}, "commits": {oid: {...}}}`."""
        path = self._path(kind, name)
        if not path.is_file():
            raise HubError(404, "Repository not found", "RepoNotFound")
        return json.loads(path.read_text(encoding="utf-8"))

    def create(self, kind: str, name: str, private: bool, sdk: str | None) -> None:
        with self.lock:
            if self._path(kind, name).is_file():
                raise HubError(409, "You already created this repo")
            repo = {"private": private, "sdk": sdk, "branches": {}, "commits": {}}
            first = {".gitattributes": self._regular(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")}
            repo["branches"]["main"] = _commit(repo, None, "initial commit", first)
            self._save(kind, name, repo)

    def branch(self, kind: str, name: str, branch: str, start: str | None) -> None:
        with self.lock:
            repo = self.repo(kind, name)
            if branch in repo["branches"]:
                raise HubError(409, f"Reference already exists: {branch}")
            repo["branches"][branch] = self.resolve(repo, start or "main")
            self._save(kind, name, repo)

    def resolve(self, repo: dict[str, Any], revision: str) -> str:
        """The commit that a branch or a commit's name means."""
        if revision in repo["branches"]:
            return repo["branches"][revision]
        if revision in repo["commits"]:
            return revision
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def tree(self, kind: str, name: str, revision: str = "main") -> dict[str, dict[str, Any]]:
        repo = self.repo(kind, name)
        return repo["commits"][self.resolve(repo, revision)]["tree"]

    def file(self, kind: str, name: str, path: str, revision: str = "main") -> bytes:
        return self.get(self.tree(kind, name, revision)[path]["object"])

    def commits(self, kind: str, name: str, revision: str = "main") -> list[str]:
        """The titles of a branch's commits, the newest first."""
        repo = self.repo(kind, name)
        titles, oid = [], self.resolve(repo, revision)
        while oid is not None:
            titles.append(repo["commits"][oid]["title"])
            oid = repo["commits"][oid]["parent"]
        return titles

    def commit(self, kind: str, name: str, branch: str, lines: list[dict[str, Any]]) -> str:
        """Applies the lines of a commit (`header`, `file`, `lfsFile`, `deletedFile`, `deletedFolder`) at once."""
        with self.lock:
            repo = self.repo(kind, name)
            if branch not in repo["branches"]:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = repo["branches"][branch]
            tree = dict(repo["commits"][head]["tree"])
            title = ""
            for line in lines:
                key, value = line["key"], line["value"]
                if key == "header":
                    title = value["summary"]
                    if value.get("parentCommit") not in (None, head):
                        raise HubError(412, "A commit has happened since. Please refresh and try again.")
                elif key == "file":
                    tree[value["path"]] = self._regular(value["content"])
                elif key == "lfsFile":
                    if not self.has(value["oid"]):
                        raise HubError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                    content = self.get(value["oid"])
                    oid = git_oid(lfs_pointer(value["oid"], len(content)))
                    tree[value["path"]] = {"oid": oid, "size": len(content), "object": value["oid"], "lfs": True}
                elif key == "deletedFile":
                    if tree.pop(value["path"], None) is None:
                        raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
                elif key == "deletedFolder":
                    tree = {path: entry for path, entry in tree.items() if not path.startswith(value["path"])}
            oid = repo["branches"][branch] = _commit(repo, head, title, tree)
            self._save(kind, name, repo)
            return oid

    def _regular(self, content: bytes) -> dict[str, Any]:
        return {"oid": git_oid(content), "size": len(content), "object": self.put(content), "lfs": False}

    def _save(self, kind: str, name: str, repo: dict[str, Any]) -> None:
        _write(self._path(kind, name), json.dumps(repo).encode())


def _commit(repo: dict[str, Any], parent: str | None, title: str, tree: dict[str, Any]) -> str:
    content = {"parent": parent, "title": title, "tree": tree, "date": time.time()}
    oid = hashlib.sha1(json.dumps(content).encode(), usedforsecurity=False).hexdigest()
    repo["commits"][oid] = content
    return oid


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{threading.get_ident()}.part")
    part.write_bytes(content)
    os.replace(part, path)
