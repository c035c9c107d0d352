"""Fixtures: real vLLM engines and a real server, started once for all tests that need the same."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest


CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3"


@pytest.fixture(scope="session")
def engine_model(tmp_path_factory) -> str:
    """A folder with a model whose LM head is the embedding, of a size for which vLLM has kernels."""
    from tiny import save_tiny

    folder = tmp_path_factory.mktemp("engine_model")
    return save_tiny(folder, CHAT_TEMPLATE, positions=512, width=128, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def packed_weights():
    """
    Linear layers whose weights are packed once they are loaded, which makes loading others hard. vLLM does so on
    processors with AVX-512 or AMX. On others, its own code for packing runs here with copies for packed weights.
    """
    import torch
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    layer = torch.nn.Linear(128, 128, bias=False, dtype=torch.bfloat16)
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    if layer.weight.numel() == 0:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "_supports_onednn", True)
        patch.setattr(ops, "create_onednn_mm", lambda weight, _: weight.t().clone())
        patch.setattr(
            ops, "onednn_mm", lambda packed, x, bias: torch.nn.functional.linear(x, packed, bias), raising=False
        )
        yield


@pytest.fixture(scope="session")
def start_engine(packed_weights):
    """`vllm.LLM`, but the same arguments give the engine that runs already. None is let go, which ends them all."""
    from vllm import LLM

    running = {}

    def start(**options):
        # Not compiled, as that takes most of the time of a start; with the engine's own counts; little memory.
        options = {"enforce_eager": True, "disable_log_stats": False, "kv_cache_memory_bytes": 2**27, **options}
        key = json.dumps(options, sort_keys=True, default=str)
        if key not in running:
            running[key] = LLM(**options)
        return running[key]

    return start


@pytest.fixture
def engines(start_engine, monkeypatch):
    """What trainers and samplers start are the shared engines."""
    monkeypatch.setattr("vllm.LLM", start_engine)
    monkeypatch.setattr("trl.generation.vllm_generation.LLM", start_engine)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A vLLM server as TRL wants it, with its `address` and `model`. It cannot take weights, which needs CUDA."""
    from tiny import save_tiny

    folder = tmp_path_factory.mktemp("server")
    model = save_tiny(folder / "model", CHAT_TEMPLATE, positions=2048, width=64)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What an engine in this process has set for itself is not for another one.
    own = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "VLLM_ENABLE_V1_MULTIPROCESSING")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    # Not `vllm serve`: its builds for CPUs are distributed under another name, which that command does not find.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
    command += ["--served-model-name", "judge", "--enforce-eager", "--logprobs-mode", "processed_logprobs"]
    log = (folder / "log.txt").open("w+")
    process = subprocess.Popen(
        [*command, "--max-logprobs", "-1", "--weight-transfer-config", '{"backend": "nccl"}'],
        env={**environment, "VLLM_SERVER_DEV_MODE": "1"},
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 500
        while True:
            try:
                urllib.request.urlopen(f"{address}/v1/models", timeout=2).read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"the server did not start:\n{log.read()[-3000:]}") from None
                time.sleep(0.5)
        yield SimpleNamespace(address=address, model=model)
    finally:
        process.terminate()
        process.wait(60)
        log.close()
