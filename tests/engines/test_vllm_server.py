"""A real vLLM server: the judge of the hybrid reward, and the engine of a trainer up to where CUDA is needed."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from processes import run_on_two_processes

from qwenlong_trl.rewards import Comparison, HybridReward, OpenAIJudge


pytestmark = pytest.mark.vllm

WORKER = str(Path(__file__).parent / "server_worker.py")


def test_as_a_judge(server):
    """An untrained judge gives words without a verdict: invalid, not failed; a model it does not serve fails."""
    comparisons = [Comparison("Q?", f"w{i}", "w7") for i in range(20)]
    address = f"{server.address}/v1"
    judge = OpenAIJudge("judge", address, api_key="none", max_tokens=8, deadline=100)
    judgements = asyncio.run(judge.judge(comparisons))
    assert [(j.error, j.verdict) for j in judgements] == [(None, None)] * 20
    assert all(j.text and j.seconds > 0 for j in judgements)
    again = asyncio.run(judge.judge(comparisons))
    assert [j.text for j in again] == [j.text for j in judgements]  # temperature 0

    other = OpenAIJudge("another", address, api_key="none", deadline=100)
    columns = {"answers": [["w7"]], "task": ["docqa"], "question": ["Q?"]}
    metrics = {}
    rewards = asyncio.run(HybridReward(other)(completions=["w5"], log_metric=metrics.__setitem__, **columns))
    assert rewards == [0.0] and metrics["judge/failed"] == 1.0


@pytest.fixture
def proxy(server):
    """In front of the server: hands requests on and notes them."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format, *args):
            pass

        def do(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.path, json.loads(body) if body else None))
            url = server.address + self.path
            answer = requests.request(self.command, url, data=body, headers={"Content-Type": "application/json"})
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", seen
        running.shutdown()


def test_as_an_engine_of_two_processes(server, proxy, tmp_path):
    """
    What does not fit is refused on both processes before anything is generated, and a fitting run has the completion
    length of each phase. Weights get to the point where NCCL would take them.
    """
    address, seen = proxy
    done = run_on_two_processes([WORKER, address, server.model, str(tmp_path)], OMP_NUM_THREADS="1")
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for one in said:
        assert "phase_2: 20 prompts do not fit the vLLM engine, which takes 2048 tokens" in one["refused"], done.stderr
        assert "(max_model_len of the server). The first is 'p20' with 12 tokens" in one["refused"]
        assert "evaluation set 'eval': 1 prompts do not fit" in one["refused_evaluation"]
        assert one["steps"] == 4
    assert "NCCL weight-transfer engine, which needs a CUDA device" in said[0]["edge"]
    assert said[0]["sent"] == 4 and said[1]["sent"] == 0  # the first process sends, once a step

    paths = [path for path, _ in seen]
    assert "/v1/completions" in paths
    bodies = [body for path, body in seen if path == "/v1/completions"]
    windows = [paths[i] for i, path in enumerate(paths) if path in ("/v1/completions", "/reset_prefix_cache")]
    # Each window first empties the cache and then asks for all its groups; a request may be split.
    assert windows[0] == "/reset_prefix_cache" and windows.count("/reset_prefix_cache") == 4
    lengths, groups, n = [], [], set()
    for path, body in seen:
        if path == "/reset_prefix_cache":
            lengths.append(set())
            groups.append(0)
        elif path == "/v1/completions":
            lengths[-1].add(body["max_tokens"])
            groups[-1] += len(body["prompt"])
            n.add(body["n"])
    assert lengths == [{4}, {4}, {12}, {12}] and groups == [2] * 4 and n == {4}
    assert all(len(prompt) in (5, 12) for body in bodies for prompt in body["prompt"])


def test_the_server_tells_whether_it_caches_prefixes(server):
    """`prepare_engine` reads it there; if the name changed, follow it."""
    info = requests.get(f"{server.address}/server_info", params={"config_format": "json"}).json()
    assert info["vllm_config"]["cache_config"]["enable_prefix_caching"] is True


def test_equal_prompts_hit_the_cache_of_the_server(server):
    before = cache_counts(server.address)
    prompt = [3 + i % 40 for i in range(300)]
    body = {"model": "judge", "prompt": [prompt] * 8, "max_tokens": 1}
    assert requests.post(f"{server.address}/v1/completions", json=body).ok
    queries, hits = (now - then for now, then in zip(cache_counts(server.address), before, strict=True))
    # Seven of eight find the whole blocks of 128 tokens.
    assert (queries, hits) == (8 * 300, 7 * 256)


def cache_counts(address: str) -> list[int]:
    """Tokens looked up in the prefix cache, and tokens found."""
    lines = requests.get(f"{address}/metrics").text.splitlines()
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    return [int(float(line.split()[-1])) for name in names for line in lines if line.startswith(name + "{")]
