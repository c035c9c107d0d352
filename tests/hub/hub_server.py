"""A Hub for tests: the part of its HTTP interface that `huggingface_hub` and `datasets` use, with faults on demand.

```python
with HubServer(folder, tokens={"secret": "ns"}) as hub:
    hub.fail(r"PUT /lfs/", "cut")  # the next upload breaks off in its middle
    HfApi(endpoint=hub.url, token="secret").create_repo("ns/model")
    hub.store.file("model", "ns/model", "README.md")
```

What clients see of the real one: revisions, private repositories, tokens that may read but not write, LFS uploads in
one piece and in parts, redirects to where large files lie, ranges, and the check of a card's metadata.
"""

import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from hub_pages import ROUTES, Pages
from hub_store import HubError, HubStore


@dataclass
class Fault:
    """The next `times` requests whose method and path match `pattern` fail: a status, `"cut"` or `"cut_after"`."""

    pattern: str
    kind: int | str
    times: int


class HubServer:
    """
    A running server.

    Args:
        folder (`Path`):
            Where repositories are stored.
        tokens (`Mapping[str, str]`):
            Owner that a token may write for.
        readers (`Mapping[str, str]`, *optional*):
            The same for tokens that may only read.
    """

    def __init__(self, folder: Path, tokens: Mapping[str, str], readers: Mapping[str, str] | None = None):
        self.store = HubStore(Path(folder))
        self.tokens, self.readers = dict(tokens), dict(readers or {})
        self.requests: list[str] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self
        port = self._server.server_address[1]
        # Two hosts, as large files lie on another one than the Hub, where the token must not go.
        self.url, self.content_url = f"http://127.0.0.1:{port}", f"http://localhost:{port}"

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, pattern: str, kind: int | str, times: int = 1) -> None:
        with self._lock:
            self._faults.append(Fault(pattern, kind, times))

    def heal(self) -> None:
        with self._lock:
            self._faults.clear()

    def fault_of(self, request: str) -> int | str | None:
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.times and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault.kind
        return None


class _Handler(Pages, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    # ---- one request ------------------------------------------------------------------------------------------------

    def _handle(self) -> None:
        self.hub: HubServer = self.server.hub
        self.store = self.hub.store
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        fault = self.hub.fault_of(f"{self.command} {parts.path}")
        if fault == "cut":
            self.rfile.read(min(1000, int(self.headers.get("Content-Length", 0))))
            return self._cut()
        self.body = self._read_body()
        try:
            if isinstance(fault, int):
                raise HubError(fault, "made to fail")
            for pattern, function in ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {parts.path}"):
                    answer = function(self, **{name: v and unquote(v) for name, v in match.groupdict().items()})
                    break
            else:
                raise HubError(404, f"no such page: {self.command} {parts.path}")
        except HubError as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            return self._send(error.status, {"error": error.message, **error.body}, headers)
        if fault == "cut_after":
            return self._cut()
        if answer is not None:
            self._send(200, answer)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, content, headers: Mapping[str, str] | None = None) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        headers = {"Content-Length": str(len(content)), **(headers or {})}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
