"""Samples with vLLM, where it is installed (`QWENLONG_TRL_VLLM` may name a Python that has it)."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import save_tiny

from qwenlong_trl.generation import Sampling, TransformersSampler, VLLMSampler


PYTHON = os.environ.get("QWENLONG_TRL_VLLM") or (sys.executable if find_spec("vllm") else None)


def test_without_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match="VLLMSampler needs vLLM .*: pip install vllm, or .*--backend openai"):
        VLLMSampler("m")


@pytest.mark.skipif(PYTHON is None, reason="vLLM is not installed, and QWENLONG_TRL_VLLM names no Python that has it")
def test_a_real_engine(tmp_path):
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3"
    model = save_tiny(tmp_path / "model", template, positions=128, width=64)
    package = str(Path(__file__).parents[2])
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": package}
    command = [PYTHON, str(Path(__file__).with_name("vllm_worker.py")), model, str(tmp_path / "drawn.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = json.loads((tmp_path / "drawn.json").read_text())

    # The most probable tokens are the same, so prompt, template and ends are.
    chats = [[{"role": "user", "content": f"w{i} w{i + 1}"}] for i in range(4)]
    sampler, sampling = TransformersSampler(model, dtype="float32"), Sampling(temperature=0, max_tokens=12)
    # vLLM keeps the space between the prompt and the first word, which is part of no token of this tokenizer.
    own = {
        "abcd"[i]: [[f" {completion.text}", completion.finish_reason] for completion in completions]
        for i, completions in sampler.sample(chats, list("abcd"), sampling)
    }
    assert drawn["greedy"] == own
    assert drawn["again"] == drawn["samples"]
    message, ids = drawn.pop("refused")
    assert ids == ["long"] and "the prompt has 200 tokens, and max_model_len is 128" in message
    for completions in [*drawn["samples"].values(), *drawn["text"].values()]:
        assert len({text for text, _ in completions}) > 2
        for text, reason in completions:
            assert reason in ("stop", "length") and "<" not in text and len(text.split()) <= 12
    assert [len(completions) for completions in drawn["samples"].values()] == [8] * 4
    assert {reason for completions in drawn["samples"].values() for _, reason in completions} == {"stop", "length"}
