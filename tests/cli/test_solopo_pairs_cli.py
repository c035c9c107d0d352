"""`qwenlong-trl solopo-pairs`: records in, a set that loads out, however often it was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import load_dataset
from fault_server import FaultServer

from qwenlong_trl.cli.main import main
from qwenlong_trl.data import write_records


sys.path.insert(0, str(Path(__file__).parents[1] / "solopo"))

from pair_records import TEMPLATE, numbers, pair_examples, save_pair_model, says_a_word  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_pair_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    write_records(pair_examples(24), path)
    return str(path)


def flags(records, model, output, **options) -> list[str]:
    settings = {"records": records, "model_name_or_path": model, "output": output, "prompt_template": TEMPLATE}
    settings |= {"short_tokens": 20, "long_tokens": 60, "num_samples": 8, "max_tokens": 8, **options}
    return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]


def run(*args, **options) -> int:
    return main(["solopo-pairs", *flags(*args, **options)])


def data(folder) -> tuple[bytes, bytes]:
    """The set and its card."""
    assert not list(folder.rglob("*.part"))
    return (folder / "data" / "train.parquet").read_bytes(), (folder / "README.md").read_bytes()


def test_with_a_model_in_this_process(tmp_path, capsys, records, model):
    assert run(records, model, tmp_path / "a") == 0
    out = capsys.readouterr().out
    dataset = load_dataset(str(tmp_path / "a"), split="train", cache_dir=str(tmp_path / "cache"))
    assert f"{len(dataset)} pairs -> {tmp_path / 'a'}" in out and len(dataset) > 4
    lines = out.splitlines()
    for start in ("24 records: ", "24 prompts: ", "192 samples: "):
        found = numbers(next(line for line in lines if line.startswith(start)))
        assert found[0] == sum(found[1:])
    assert dataset[0]["prompt"][0]["role"] == "user" and dataset[0]["chosen"][0]["role"] == "assistant"
    # Again, with fewer rows at a time and as plain text: other samples, in a folder of their own.
    assert run(records, model, tmp_path / "b", chat="false", rows_per_batch=3, tie_break="shortest") == 0
    plain = load_dataset(str(tmp_path / "b"), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(plain[0]["prompt"], str) and isinstance(plain[0]["rejected"], str)


def test_again_is_the_same_and_loads_no_model(tmp_path, capsys, records, model, monkeypatch):
    assert run(records, model, tmp_path / "a") == 0
    first = data(tmp_path / "a")
    assert run(records, model, tmp_path / "b") == 0
    assert data(tmp_path / "b") == first
    monkeypatch.setattr("qwenlong_trl.generation.transformers_sampler.TransformersSampler.__init__", None)
    capsys.readouterr()
    assert run(records, model, tmp_path / "a") == 0
    assert data(tmp_path / "a") == first and "24 prompts are in " in capsys.readouterr().out
    # More pairs than wanted, a part of the records, another choice: no sampling either.
    assert run(records, model, tmp_path / "a", max_pairs=2, limit=20, tie_break="shortest") == 0
    assert "2 pairs -> " in capsys.readouterr().out


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, records, model):
    """By SIGKILL, and with half a line left: the same bytes, and no prompt is sampled twice."""
    options = {"backend": "openai", "tokenizer": model, "concurrency": 2}
    with FaultServer(answer=says_a_word, latency=0.15) as server:
        assert run(records, "m", tmp_path / "whole", base_url=server.base_url, **options) == 0
        asked = [json.dumps(body) for body in server.bodies]
        assert len(asked) == len({*asked}) == 24

        folder = tmp_path / "parts"
        samples = folder / "samples.jsonl"
        argv = flags(records, "m", folder, base_url=server.base_url, **options)
        command = [sys.executable, "-m", "qwenlong_trl.cli.main", "solopo-pairs", *argv]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not (samples.exists() and samples.read_bytes().count(b"\n") >= 10):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "data").exists()
        done = {
            json.loads(line)["id"] for line in samples.read_bytes().splitlines(keepends=True)[1:] if line[-1:] == b"\n"
        }
        assert 9 <= len(done) < 24
        with samples.open("ab") as file:
            file.write(b'{"id": "r23", "prompt": "12')
        before = server.requests
        assert run(records, "m", folder, base_url=server.base_url, **options) == 0
        assert server.requests - before == 24 - len(done)
    assert data(folder) == data(tmp_path / "whole")
    assert sorted(samples.read_bytes().splitlines()) == sorted(
        (tmp_path / "whole" / "samples.jsonl").read_bytes().splitlines()
    )


def test_a_server_that_fails_loses_nothing(tmp_path, capsys, records, model):
    options = {"backend": "openai", "tokenizer": model}
    failing = {"fault": "wrong_shape", "fault_share": 0.3}
    with FaultServer(answer=says_a_word, **failing) as server:
        assert run(records, "m", tmp_path / "a", base_url=server.base_url, **options) == 1
        assert server.requests == 24
    error = capsys.readouterr().err.splitlines()[-1]
    missing = 24 - (tmp_path / "a" / "samples.jsonl").read_text().count("\n") + 1
    assert f"error: {missing} of 24 prompts got no completions; the first: 'r" in error and 0 < missing < 24
    assert not (tmp_path / "a" / "data").exists()
    with FaultServer(answer=says_a_word) as server:  # moved to another port
        assert run(records, "m", tmp_path / "a", base_url=server.base_url, **options) == 0
        assert server.requests == missing
        assert run(records, "m", tmp_path / "b", base_url=server.base_url, **options) == 0
    assert data(tmp_path / "a") == data(tmp_path / "b")


def test_with_a_judge(tmp_path, capsys, records, model):
    """The judge is of another opinion: what the rule calls wrong is right, except for one word."""
    options = {"backend": "openai", "tokenizer": model}
    with (
        FaultServer(answer=says_a_word) as server,
        FaultServer(answer=lambda body: f"[[{'NO' if 'w5' in body['messages'][1]['content'] else 'YES'}]]") as judge,
    ):
        flags_of_judge = {"judge": "openai", "judge_base_url": judge.base_url, "judge_model": "some-judge"}
        code = run(records, "m", tmp_path / "a", base_url=server.base_url, **options, **flags_of_judge)
        asked = server.requests
        # The same samples without it.
        again = run(records, "m", tmp_path / "a", base_url=server.base_url, **options)
        assert code == again == 0 and server.requests == asked == 24 and judge.requests > 24
    first, second = (out.split("samples: ")[1] for out in capsys.readouterr().out.split("pairs -> ")[:2])
    assert numbers(first) != numbers(second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5, "num_samples": 4}, "num_samples was 8 and is 4; temperature was 0.85 and is 0.5. Give"),
        ({"long_tokens": 70}, "long_tokens was 60 and is 70. Give"),
        ({"chat": "false"}, "chat was True and is False. Give"),
        ({"seed": 3}, "seed was 0 and is 3. Give"),
    ],
)
def test_other_settings_are_refused(tmp_path, capsys, records, model, options, message):
    (tmp_path / "samples.jsonl").write_text("")
    with FaultServer(answer=says_a_word) as server:
        server_flags = {"backend": "openai", "tokenizer": model, "base_url": server.base_url, "limit": 4}
        assert run(records, "m", tmp_path, **server_flags) == 0
        before = data(tmp_path)
        assert run(records, "m", tmp_path, **server_flags, **options) == 1
        assert server.requests == 4
    assert message in capsys.readouterr().err and data(tmp_path) == before


def test_other_records_are_refused(tmp_path, capsys, records, model):
    assert run(records, model, tmp_path / "a", limit=6) == 0
    other = tmp_path / "records.jsonl"
    write_records(pair_examples(24, seed=1), other)
    assert run(other, model, tmp_path / "a", limit=6) == 1
    assert "records was {'records.jsonl': 'sha256 " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_tokens": 60}, "short_tokens must be positive and below long_tokens, got 60 and 60"),
        ({"records": "nowhere.jsonl"}, "no file nowhere.jsonl"),
        ({"pool": "nowhere.jsonl"}, "no file nowhere.jsonl"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"max_pairs": -1}, "max_pairs must be at least 1, got -1"),
        ({"temperature": -1}, "temperature must be at least 0 and finite, got -1.0"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "--base_url goes with --backend openai"),
        ({"vllm_options": "{}"}, "--vllm_options goes with --backend vllm"),
        ({"chat_template_kwargs": "[1]"}, "chat_template_kwargs must be a JSON object, got [1]"),
        ({"chat_template_kwargs": "{a"}, "chat_template_kwargs is not JSON"),
        ({"prompt_template": "no slots"}, "prompt_template is neither a text with $DOC$ and $Q$ nor a file"),
        ({"tokenizer": "nowhere"}, "cannot load a tokenizer from 'nowhere'"),
        ({"judge": "openai"}, "--judge openai needs --judge_model"),
    ],
)
def test_wrong_options(tmp_path, capsys, records, model, options, message):
    assert main(["solopo-pairs", *flags(records, model, tmp_path / "a"), *flags_of(options)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def flags_of(options: dict) -> list[str]:
    return [str(part) for name, value in options.items() for part in (f"--{name}", value)]


def test_without_records_and_without_vllm(tmp_path, capsys, records, model, monkeypatch):
    assert main(["solopo-pairs", "--model_name_or_path", model, "--output", str(tmp_path)]) == 1
    assert "give --records FILE..." in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert run(records, model, tmp_path, backend="vllm") == 1
    assert "VLLMSampler needs vLLM" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        run(records, model, tmp_path, backend="sglang")
    assert exit.value.code == 2


def test_no_pair_is_an_error_that_keeps_the_samples(tmp_path, capsys, records, model):
    with FaultServer(answer=lambda body: ["The answer is w39."] * body["n"]) as server:
        server_flags = {"backend": "openai", "tokenizer": model, "base_url": server.base_url}
        assert run(records, "m", tmp_path, **server_flags) == 1
    out, err = capsys.readouterr()
    assert "24 prompts: 0 pairs, dropped: 24 all wrong" in out and "no pair came of it" in err
    assert (tmp_path / "samples.jsonl").read_text().count("\n") == 25 and not (tmp_path / "data").exists()


def test_help_and_recipe(tmp_path, records, model):
    done = subprocess.run(
        [sys.executable, "-m", "qwenlong_trl.cli.main", "solopo-pairs", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0 and "--num_samples" in done.stdout and "--judge_model" in done.stdout
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"records: {records}\npool: {records}\nmodel_name_or_path: {model}\noutput: {tmp_path / 'a'}\nlimit: 6\n"
        f"prompt_template: {TEMPLATE}\nshort_tokens: 20\nlong_tokens: 60\nnum_samples: 8\nmax_tokens: 8\n"
        "chat: true\nchat_template_kwargs: {a: 1}\n"
    )
    assert main(["solopo-pairs", "--config", str(recipe)]) == 0
    assert (tmp_path / "a" / "data" / "train.parquet").exists()
