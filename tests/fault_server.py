"""A small OpenAI-compatible server that misbehaves on demand, for tests and the benchmark of the judge client."""

import argparse
import contextlib
import json
import socket
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


ERROR = {"error": {"message": "made to fail", "type": "test_error", "param": None, "code": None}}
# The faults with the same answer to every request, and the others.
FIXED = {"400": (400, ERROR), "429": (429, ERROR), "429_once": (429, ERROR), "500": (500, ERROR)}
FIXED |= {"wrong_shape": (200, [1, 2]), "not_json": (200, "<html><body>Bad gateway</body></html>")}
OTHERS = "slow hang truncated_json empty_choices null_content close_before close_mid_answer huge"
FAULTS = (*FIXED, *OTHERS.split())
SLOW_SECONDS = 30.0
HUGE_CHARACTERS = 5_000_000


def _completion(body: dict, reply) -> dict:
    """The answer to a chat or a text completion whose choices have the texts, or the fields, of `reply`."""
    is_chat = "messages" in body
    choices = []
    for index, fields in enumerate(reply if isinstance(reply, list) else [reply]):
        fields = fields if isinstance(fields, dict) else {"content": fields}
        end = {"index": index, "finish_reason": fields.get("finish_reason", "stop")}
        said = {name: value for name, value in fields.items() if name != "finish_reason"}
        choices.append(end | ({"message": {"role": "assistant", **said}} if is_chat else {"text": said["content"]}))
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    kind = "chat.completion" if is_chat else "text_completion"
    answer = {"id": "completion-test", "object": kind, "created": int(time.time())}
    return answer | {"model": body.get("model", "test-judge"), "choices": choices, "usage": usage}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and content are two writes; with Nagle's algorithm the second can wait 40 ms for an acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        if self.path != "/v1/models":
            return self.send_error(404)
        model = {"id": "test-judge", "object": "model", "created": 0, "owned_by": "test"}
        self._send(200, {"object": "list", "data": [model]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != ("/v1/chat/completions" if "messages" in body else "/v1/completions"):
            return self.send_error(404)
        with self.server._counted(body) as fault:
            reply = self._reply(body, fault)
        # Sent when no longer counted: its reader may send the next request at once, and the two would both count.
        if reply is not None:
            self._send(*reply, stop_half_way=fault == "close_mid_answer")
        self.close_connection |= reply is None or fault == "close_mid_answer"

    def _reply(self, body: dict, fault: str | None) -> tuple[int, object] | None:
        """The status and content to send, or None to close the connection without a byte."""
        if fault == "close_before" or (fault in ("hang", "slow") and self._reader_left(fault)):
            return None
        if fault in FIXED:
            return FIXED[fault]
        text = None if fault == "null_content" else self.server.answer(body)
        good = _completion(body, "a" * HUGE_CHARACTERS if fault == "huge" else text)
        if fault == "empty_choices":
            good["choices"] = []
        if fault == "truncated_json":
            return 200, json.dumps(good)[: len(json.dumps(good)) // 2].encode()
        if fault is None:
            time.sleep(self.server.latency)
        return 200, good

    def _reader_left(self, fault: str) -> bool:
        """Wait until the reader or the shutdown ends the connection; False if a slow answer is due before that."""
        self.connection.settimeout(SLOW_SECONDS if fault == "slow" else None)
        with contextlib.suppress(TimeoutError):
            self.connection.recv(1, socket.MSG_PEEK)
            return True
        self.connection.settimeout(None)
        return False

    def _send(self, status: int, content: object, stop_half_way: bool = False) -> None:
        kind = "text/html" if isinstance(content, str) else "application/json"
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if stop_half_way else content)


class FaultServer(ThreadingHTTPServer):
    """Serves chat and text completions on 127.0.0.1 inside a with block; all or some of the requests get the fault.

    `answer` makes the text of a good answer from the request's body, or a list of texts, one for each choice; in place
    of a text there may be the fields of a message, among them `content` and `finish_reason`. `fault_share` chooses
    which requests get the fault: a function of the body, or a share, chosen by a hash of the messages or the prompt.
    `requests`, `bodies` (in order of arrival) and `most_at_once` tell what was received; a hanging request counts
    until its reader gives up.
    """

    request_queue_size = 512  # a burst of new connections must not be refused

    def __init__(self, answer: Callable | None = None, fault: str | None = None, fault_share=1.0, latency=0.0, port=0):
        if fault not in (None, *FAULTS):
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}; got {fault!r}")
        self.answer = answer or (lambda body: "They differ.\n[[NO]]")
        self.fault, self.fault_share, self.latency = fault, fault_share, latency
        self.requests, self.most_at_once, self._at_once, self.bodies = 0, 0, 0, []
        self._connections, self._lock = weakref.WeakSet(), threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler, bind_and_activate=False)

    def __enter__(self) -> "FaultServer":
        self.server_bind()
        self.server_activate()
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"
        # The poll interval bounds how long the shutdown takes.
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self.shutdown()
        self.server_close()
        # Wakes the handlers that hang or wait for the next request; each then closes its own socket.
        for connection in self._connections.copy():
            with contextlib.suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request, client_address):
        self._connections.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        # A reader that went away is part of the tests; anything else, such as a bug in `answer`, should be seen.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @contextlib.contextmanager
    def _counted(self, body: dict):
        """Counts a request while it is being answered, and gives its fault."""
        with self._lock:
            again = self.fault == "429_once" and body in self.bodies
            self.requests, self._at_once = self.requests + 1, self._at_once + 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.bodies.append(body)
        try:
            yield self.fault if self._chosen(body) and not again else None
        finally:
            with self._lock:
                self._at_once -= 1

    def _chosen(self, body: dict) -> bool:
        if callable(self.fault_share):
            return self.fault_share(body)
        return zlib.crc32(json.dumps(body.get("messages", body.get("prompt"))).encode()) < self.fault_share * 2**32


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--fault-share", type=float, default=1.0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before a good answer")
    args = parser.parse_args()
    with FaultServer(**vars(args)) as server, contextlib.suppress(KeyboardInterrupt):
        print(server.base_url, flush=True)
        threading.Event().wait()
