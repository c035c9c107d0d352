"""What is said where vLLM is not installed. With it: `tests/engines`."""

import sys

import pytest

from qwenlong_trl.generation import VLLMSampler


def test_without_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match="VLLMSampler needs vLLM .*: pip install vllm, or .*--backend openai"):
        VLLMSampler("m")
