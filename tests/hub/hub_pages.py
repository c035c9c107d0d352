"""The pages of the Hub of the tests: what it answers to whom."""

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from card_rules import metadata_errors
from hub_store import HubError


LFS_BYTES = 4096  # from here on a file is uploaded as a large one
PART_BYTES = 65536  # above it in parts
REPO = r"(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{REPO}"
WEB = rf"/(?:(?P<kind>dataset|space)s/)?{REPO}"


class Pages:
    """Methods of a request handler, by route; what they return is sent as JSON, and `None` if they have sent it."""

    # ---- who asks, and for what -------------------------------------------------------------------------------------

    def _user(self) -> tuple[str | None, bool]:
        """Who asks, and whether the token may write."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.hub.tokens:
            return self.hub.tokens[token], True
        if token and token not in self.hub.readers:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.hub.readers.get(token), False

    def _must_write(self, owner: str) -> None:
        user, writes = self._user()
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user != owner or not writes:
            raise HubError(403, "You don't have the rights to write under this namespace")

    def _repo(self, kind: str | None, owner: str, name: str):
        """A repository, which of private ones only its owner sees: type, name, content."""
        kind, repo_id = kind or "model", f"{owner}/{name}"
        repo = self.store.repo(kind, repo_id)
        if repo["private"] and self._user()[0] != owner:
            raise HubError(401, "Repository not found", "RepoNotFound")
        return kind, repo_id, repo

    # ---- pages ------------------------------------------------------------------------------------------------------

    def whoami(self):
        user, writes = self._user()
        if user is None:
            raise HubError(401, "Invalid username or password.")
        role = "write" if writes else "read"
        return {"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": role}}}

    def create(self):
        wanted = json.loads(self.body)
        user, _ = self._user()
        owner = wanted.get("organization") or user
        self._must_write(owner)
        kind, repo_id = wanted.get("type", "model"), f"{owner}/{wanted['name']}"
        url = f"{self.hub.url}/{'' if kind == 'model' else f'{kind}s/'}{repo_id}"
        try:
            self.store.create(kind, repo_id, wanted.get("visibility") == "private", wanted.get("sdk"))
        except HubError as error:
            raise HubError(error.status, error.message, body={"url": url}) from None
        return {"url": url, "name": repo_id, "id": repo_id}

    def validate_yaml(self):
        wanted = json.loads(self.body)
        errors = metadata_errors(wanted["content"], wanted["repoType"])
        if errors:
            raise HubError(400, "Invalid metadata", body={"errors": [{"message": e} for e in errors], "warnings": []})
        return {"errors": [], "warnings": []}

    def preupload(self, kind, owner, name, revision):
        self._must_write(owner)
        kind, repo_id, _ = self._repo(kind, owner, name)
        tree = self.store.tree(kind, repo_id, revision)
        files = []
        for file in json.loads(self.body)["files"]:
            large = file["size"] >= LFS_BYTES or b"\0" in base64.b64decode(file["sample"])
            entry = tree.get(file["path"], {})
            known = entry.get("object" if entry.get("lfs") else "oid")
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
        return {"files": files}

    def lfs_batch(self, kind, owner, name):
        self._must_write(owner)
        self._repo(kind, owner, name)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            answer = {"oid": oid, "size": size}
            if not self.store.has(oid):
                upload = {"href": f"{self.hub.url}/lfs/{oid}"}
                if size > PART_BYTES:
                    count = -(-size // PART_BYTES)
                    parts = {f"{i:05d}": f"{self.hub.url}/lfs/{oid}/part/{i}" for i in range(1, count + 1)}
                    upload = {
                        "href": f"{self.hub.url}/lfs/{oid}/complete",
                        "header": {"chunk_size": PART_BYTES, **parts},
                    }
                verify = {"href": f"{self.hub.url}/lfs/{oid}/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, oid):
        if self.store.put(self.body) != oid:
            raise HubError(400, "the content is not what was announced")
        return b""

    def lfs_part(self, oid, part):
        path = self.store.folder / f"{oid}-{int(part)}.part"
        path.write_bytes(self.body)
        self._send(200, b"", {"ETag": f'"{oid[:8]}-{part}"'})

    def lfs_complete(self, oid):
        paths = [self.store.folder / f"{oid}-{part['partNumber']}.part" for part in json.loads(self.body)["parts"]]
        if self.store.put(b"".join(path.read_bytes() for path in paths)) != oid:
            raise HubError(400, "the parts are not what was announced")
        for path in paths:
            path.unlink()
        return {}

    def lfs_verify(self, oid):
        if not self.store.has(oid):
            raise HubError(404, "no such object")
        return {}

    def commit(self, kind, owner, name, revision):
        self._must_write(owner)
        kind, repo_id, _ = self._repo(kind, owner, name)
        lines = [json.loads(line) for line in self.body.splitlines()]
        for line in lines:
            if line["key"] == "file":
                line["value"]["content"] = base64.b64decode(line["value"]["content"])
        oid = self.store.commit(kind, repo_id, revision, lines)
        return {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}", "commitOid": oid}

    def branch(self, kind, owner, name, branch):
        self._must_write(owner)
        kind, repo_id, _ = self._repo(kind, owner, name)
        self.store.branch(kind, repo_id, branch, json.loads(self.body or b"{}").get("startingPoint"))
        return {}

    def refs(self, kind, owner, name):
        _, _, repo = self._repo(kind, owner, name)
        branches = [
            {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": oid}
            for branch, oid in repo["branches"].items()
        ]
        return {"branches": branches, "converts": [], "tags": []}

    def info(self, kind, owner, name, revision="main"):
        kind, repo_id, repo = self._repo(kind, owner, name)
        oid = self.store.resolve(repo, revision)
        files = repo["commits"][oid]["tree"]
        about = {"id": repo_id, "_id": repo_id, "sha": oid, "private": repo["private"], "tags": [], "gated": False}
        about |= {"lastModified": "2026-01-01T00:00:00.000Z", "disabled": False, "downloads": 0, "likes": 0}
        return about | {"sdk": repo["sdk"], "siblings": [{"rfilename": path} for path in sorted(files)]}

    def tree(self, kind, owner, name, revision, path=None):
        kind, repo_id, _ = self._repo(kind, owner, name)
        tree, prefix = self.store.tree(kind, repo_id, revision), f"{path}/" if path else ""
        found = {p: entry for p, entry in tree.items() if p.startswith(prefix)}
        if path and not found:
            raise HubError(404, f"{path} does not exist", "EntryNotFound")
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        answer = [_file(p, e) for p, e in sorted(found.items()) if recursive or "/" not in p[len(prefix) :]]
        return answer + [_folder(p) for p in _folders(found) if p.startswith(prefix) and p != path
                         and (recursive or "/" not in p[len(prefix) :])]  # fmt: skip

    def paths_info(self, kind, owner, name, revision):
        kind, repo_id, _ = self._repo(kind, owner, name)
        tree = self.store.tree(kind, repo_id, revision)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        files = [_file(path, tree[path]) for path in paths if path in tree]
        return files + [_folder(path) for path in paths if path in _folders(tree)]

    def file(self, owner, name, revision, path, kind=None):
        kind, repo_id, repo = self._repo(kind, owner, name)
        oid = self.store.resolve(repo, revision)
        entry = repo["commits"][oid]["tree"].get(path)
        commit = {"X-Repo-Commit": oid}
        if entry is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self._send(404, b"Entry not found", commit | headers)
        if entry["lfs"]:
            linked = {"X-Linked-Size": str(entry["size"]), "X-Linked-ETag": f'"{entry["object"]}"'}
            return self._send(
                302, b"", commit | linked | {"Location": f"{self.hub.content_url}/large/{entry['object']}"}
            )
        self._content(self.store.get(entry["object"]), commit | {"ETag": f'"{entry["oid"]}"'})

    def large(self, oid):
        if "Authorization" in self.headers:
            raise HubError(400, "a token was sent to the host of the contents")
        self._content(self.store.get(oid), {"ETag": f'"{oid}"'})

    def _content(self, content: bytes, headers: Mapping[str, str]) -> None:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        if (wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) is None:
            return self._send(200, content, headers)
        start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        span = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self._send(206, content[start : end + 1], {**headers, **span})


def _file(path: str, entry: Mapping) -> dict:
    about = {"type": "file", "path": path, "oid": entry["oid"], "size": entry["size"]}
    if entry["lfs"]:
        about["lfs"] = {"oid": entry["object"], "size": entry["size"], "pointerSize": 128}
    return about


def _folder(path: str) -> dict:
    return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}


def _folders(paths) -> list[str]:
    return sorted({"/".join(path.split("/")[:i]) for path in paths for i in range(1, path.count("/") + 1)})


OID, REVISION = r"(?P<oid>[0-9a-f]{64})", r"(?P<revision>[^/]+)"
ROUTES = [
    (r"GET /api/whoami-v2", Pages.whoami),
    (r"POST /api/repos/create", Pages.create),
    (r"POST /api/validate-yaml", Pages.validate_yaml),
    (rf"POST {API}/preupload/{REVISION}", Pages.preupload),
    (rf"POST {WEB}\.git/info/lfs/objects/batch", Pages.lfs_batch),
    (rf"PUT /lfs/{OID}", Pages.lfs_put),
    (rf"PUT /lfs/{OID}/part/(?P<part>\d+)", Pages.lfs_part),
    (rf"POST /lfs/{OID}/complete", Pages.lfs_complete),
    (rf"POST /lfs/{OID}/verify", Pages.lfs_verify),
    (rf"POST {API}/commit/{REVISION}", Pages.commit),
    (rf"POST {API}/branch/(?P<branch>[^/]+)", Pages.branch),
    (rf"GET {API}/refs", Pages.refs),
    (rf"GET {API}(?:/revision/{REVISION})?", lambda self, kind, owner, name, revision: self.info(
        kind, owner, name, revision or "main")),
    (rf"GET {API}/tree/{REVISION}(?:/(?P<path>.+))?", Pages.tree),
    (rf"POST {API}/paths-info/{REVISION}", Pages.paths_info),
    (rf"(?:GET|HEAD) {WEB}/resolve/{REVISION}/(?P<path>.+)", Pages.file),
    (rf"(?:GET|HEAD) /large/{OID}", Pages.large),
]  # fmt: skip
