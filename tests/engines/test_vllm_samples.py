"""Samples with a vLLM engine: the sampler itself, an evaluation, and pairs for SoLoPO."""

import json
import sys
from dataclasses import astuple
from pathlib import Path

import pytest
from datasets import load_dataset
from tiny import save_tiny

from qwenlong_trl.cli.main import main
from qwenlong_trl.data import write_records
from qwenlong_trl.generation import PromptsRefusedError, Sampling, TransformersSampler, VLLMSampler


sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("evaluation", "solopo")]

from docqa_runs import country_records  # noqa: E402
from pair_records import TEMPLATE, pair_examples, save_pair_model  # noqa: E402


pytestmark = pytest.mark.vllm


CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3"


def draw(sampler, prompts, ids, **settings) -> dict:
    found = dict(sampler.sample(prompts, ids, Sampling(**settings)))
    return {ids[i]: [astuple(completion) for completion in completions] for i, completions in found.items()}


def test_samples(engines, tmp_path):
    model = save_tiny(tmp_path / "model", CHAT_TEMPLATE, positions=128, width=64)
    sampler = VLLMSampler(model, dtype="float32", max_model_len=128)
    chats, ids = [[{"role": "user", "content": f"w{i} w{i + 1}"}] for i in range(4)], list("abcd")

    # The most probable tokens are the same, so prompt, template and ends are. vLLM keeps the space between the prompt
    # and the first word, which is part of no token of this tokenizer.
    own = draw(TransformersSampler(model, dtype="float32"), chats, ids, temperature=0, max_tokens=12)
    own = {id: [(f" {text}", end) for text, end in completions] for id, completions in own.items()}
    assert draw(sampler, chats, ids, temperature=0, max_tokens=12) == own

    samples = draw(sampler, chats, ids, num_samples=8, max_tokens=12, seed=1)
    assert draw(sampler, chats[::-1], ids[::-1], num_samples=8, max_tokens=12, seed=1) == samples
    text = draw(sampler, ["w1 w2"], ["a"], num_samples=4, max_tokens=12, seed=1)
    for completions in [*samples.values(), *text.values()]:
        assert len({text for text, _ in completions}) > 2
        for text, reason in completions:
            assert reason in ("stop", "length") and "<" not in text and len(text.split()) <= 12
    assert [len(completions) for completions in samples.values()] == [8] * 4
    assert {reason for completions in samples.values() for _, reason in completions} == {"stop", "length"}

    with pytest.raises(PromptsRefusedError, match="the prompt has 200 tokens, and max_model_len is 128") as refused:
        draw(sampler, [" ".join(["w1"] * 200), "w1 w2"], ["long", "a"], max_tokens=2)
    assert refused.value.ids == ["long"]


def test_an_evaluation(engines, tmp_path, capsys):
    model = save_tiny(tmp_path / "model", CHAT_TEMPLATE, positions=512, width=64)
    write_records(country_records(12), tmp_path / "records.jsonl")
    command = ["eval", "--records", str(tmp_path / "records.jsonl"), "--model_name_or_path", model]
    command += ["--num_samples", "2", "--max_tokens", "4", "--dtype", "float32"]
    assert main([*command, "--backend", "vllm", "--output", str(tmp_path / "vllm")]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "vllm" / "report.json").read_text())
    assert report["counts"]["questions"] == 12 and report["counts"]["answers"] == 24
    # What is there is not drawn again.
    drawn = (tmp_path / "vllm" / "predictions.jsonl").read_bytes()
    assert main([*command, "--backend", "vllm", "--output", str(tmp_path / "vllm")]) == 0
    assert (tmp_path / "vllm" / "predictions.jsonl").read_bytes() == drawn


def test_pairs_for_solopo(engines, tmp_path, capsys):
    model = save_pair_model(tmp_path / "model", width=64)
    write_records(pair_examples(24), tmp_path / "records.jsonl")
    options = {"records": tmp_path / "records.jsonl", "model_name_or_path": model, "backend": "vllm"}
    options |= {"prompt_template": TEMPLATE, "short_tokens": 20, "long_tokens": 60, "num_samples": 8, "max_tokens": 8}
    options |= {"dtype": "float32", "output": tmp_path / "pairs"}
    command = ["solopo-pairs", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    assert main(command) == 0, capsys.readouterr().err
    pairs = load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert f"{len(pairs)} pairs -> {tmp_path / 'pairs'}" in capsys.readouterr().out and len(pairs) > 2
    assert set(pairs.column_names) >= {"prompt", "long_prompt", "chosen", "rejected"}
    before = (tmp_path / "pairs" / "data" / "train.parquet").read_bytes()
    assert main(command) == 0
    assert (tmp_path / "pairs" / "data" / "train.parquet").read_bytes() == before
