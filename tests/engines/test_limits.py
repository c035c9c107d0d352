"""What a server says of its limit, and which prompts are refused; without vLLM."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests
from accelerate import Accelerator

from qwenlong_trl.engines import check_limits, engine_limit, prepare_engine


def test_prompts_up_to_the_limit_fit():
    prompts = [("a", 10), ("b", 12), ("c", 11), ("d", 14)]
    check_limits(prompts, 6, 20, "the engine", "phase_1")
    check_limits(prompts, 6, None, "the engine", "phase_1")
    with pytest.raises(ValueError, match="phase_1: 2 prompts .* takes 17 tokens .* first is 'b' with 12 .* least 20"):
        check_limits(prompts, 6, 17, "the engine", "phase_1")


@contextlib.contextmanager
def server_with(status: int, *models: dict):
    """A server that lists models, as a trainer's client sees it."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

        def do_GET(self):
            body = json.dumps({"data": models}).encode()
            self.send_response(status if self.path == "/v1/models" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}"
        client = SimpleNamespace(session=requests.Session(), base_url=address, model="policy")
        generation = SimpleNamespace(mode="server", vllm_client=client)
        yield SimpleNamespace(use_vllm=True, vllm_generation=generation, accelerator=Accelerator(cpu=True))
        running.shutdown()


@pytest.mark.parametrize(
    ("status", "models", "limit"),
    [
        (200, [{"id": "adapter"}, {"id": "policy", "max_model_len": 4096}], 4096),
        (200, [{"id": "policy"}], None),
        (200, [{"id": "policy", "max_model_len": None}], None),
        (200, [], None),
        (404, [], None),
    ],
)
def test_the_limit_of_a_server(transformers_log, status, models, limit):
    with server_with(status, *models) as trainer:
        assert engine_limit(trainer) == limit
    warned = f"`max_model_len` in /v1/models, status {status}" in transformers_log.text
    assert warned == (limit is None)


def test_without_vllm_nothing_is_done():
    trainer = SimpleNamespace(use_vllm=False)
    assert engine_limit(trainer) is None
    prepare_engine(trainer)
