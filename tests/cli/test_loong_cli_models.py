"""`qwenlong-trl loong`: judges and models that fail, change, come late or must not be mixed up."""

import gc
import json
import os
import shutil
from pathlib import Path

import pytest
from cprs_tiny import tiny_pipeline
from fault_server import FaultServer
from loong_cli import flags, judged_by, lines_of, rating, report, run, says
from transformers import PreTrainedTokenizerFast

from qwenlong_trl.cli.main import main
from qwenlong_trl.cprs import ContextCompressionPipeline
from qwenlong_trl.generation import TransformersSampler, read_settings
from qwenlong_trl.loong import CPRSPolicy, read_loong
from qwenlong_trl.loong.records import SUBTASKS
from qwenlong_trl.rewards import TransformersJudge


@pytest.fixture
def model(loong_model):
    return loong_model


@pytest.mark.parametrize("command", ["run", "judge"])
def test_a_judge_that_fails_on_some_answers(tmp_path, capsys, loong, model, command):
    """They have no score, the report is there, and the exit code tells; the same command asks for them again."""
    options = {"backend": "openai", "tokenizer": model, "context_tokens": 1_200}

    def fails(body):
        return "North Lamp" in body["messages"][-1]["content"]

    with FaultServer(answer=says) as server:
        options["base_url"] = server.base_url

        def go(judge):
            argv = [str(part) for item in judged_by(judge).items() for part in (f"--{item[0]}", item[1])]
            if command == "run":
                return run(loong, tmp_path / "a", "m", **options, **judged_by(judge))
            return main(["loong", "judge", str(tmp_path / "a"), *argv])

        if command == "judge":
            assert run(loong, tmp_path / "a", "m", **options) == 0
        capsys.readouterr()
        with FaultServer(answer=rating, fault="400", fault_share=fails) as judge:
            assert go(judge) == 1
            failed = len({json.dumps(body) for body in judge.bodies if fails(body)})
            assert sum(map(fails, judge.bodies)) == 2 * failed > 0  # once more at the end
        count = len(lines_of(tmp_path / "a" / "predictions.jsonl"))
        assert f"{failed} of {count} answers are not judged" in capsys.readouterr().out
        assert (tmp_path / "a" / "report.html").is_file()
        assert len(lines_of(tmp_path / "a" / "judgements.jsonl")) == count - failed
        with FaultServer(answer=rating) as judge:
            assert go(judge) == 0
            assert judge.requests == failed + 1
        assert "not judged" not in capsys.readouterr().out


def test_a_judge_that_is_not_there(tmp_path, capsys, loong, model):
    """It is found out before the model is asked anything."""
    options = {"backend": "openai", "tokenizer": model, "context_tokens": 1_200}
    with FaultServer(answer=says) as server, FaultServer(answer=rating, fault="400") as judge:
        options["base_url"] = server.base_url
        assert run(loong, tmp_path / "a", "m", **options, **judged_by(judge)) == 1
        assert "the judge does not answer" in capsys.readouterr().err
        assert server.requests == 0 and judge.requests == 1


@pytest.mark.slow
def test_another_judge_needs_another_file(tmp_path, capsys, loong, model):
    options = {"backend": "openai", "tokenizer": model, "context_tokens": 1_200}
    with FaultServer(answer=says) as server, FaultServer(answer=rating) as judge:
        options |= {"base_url": server.base_url}
        assert run(loong, tmp_path / "a", "m", **options, **judged_by(judge)) == 0
        before, asked = report(tmp_path / "a"), (server.requests, judge.requests)
        other = judged_by(judge) | {"judge_model": "k"}
        assert run(loong, tmp_path / "a", "m", **options, **other) == 1
        error = capsys.readouterr().err
        assert "model was 'j' and is 'k'" in error and "another --judgements FILE" in error and "folder" not in error
        assert (server.requests, judge.requests) == asked  # nobody was asked anything
        assert run(loong, tmp_path / "a", "m", **options, **other, judgements="k.jsonl") == 0
        assert server.requests == asked[0]
        assert run(loong, tmp_path / "a", "m", **options, judgements="k.jsonl") == 1
        assert "--judgements goes with --judge" in capsys.readouterr().err
        assert run(loong, tmp_path / "a", "m", **options, **other, judgements="../k.jsonl") == 1
        assert "must be a file's name" in capsys.readouterr().err
    assert report(tmp_path / "a") == before  # each judge has its own report
    data = json.loads((tmp_path / "a" / "report-k.json").read_text())
    assert data["about"]["judge"]["model"] == "k"
    assert main(["loong", "report", str(tmp_path / "a"), "--judgements", "none.jsonl"]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    # What a run left that was killed before it wrote anything is no other judge.
    (tmp_path / "a" / "half.jsonl").write_text('{"settings": {')
    with FaultServer(answer=says) as server, FaultServer(answer=rating) as judge:
        options |= {"base_url": server.base_url}
        assert run(loong, tmp_path / "a", "m", **options, **judged_by(judge), judgements="half.jsonl") == 0


@pytest.mark.slow
def test_reasoning_that_the_chat_template_opens(tmp_path, capsys, loong, model):
    """What was cut off before `</think>` is no answer, although it looks like one."""
    thinks = tmp_path / "thinks"
    shutil.copytree(model, thinks)
    template = "{% for m in messages %}Q: {{ m['content'] }}\nA:<think>{% endfor %}"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(thinks)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(thinks)

    def cut(body):
        return {"content": "Net sales are $412,350, but let me", "finish_reason": "length"}

    options = {"backend": "openai", "context_tokens": 1_200}
    cases = [(thinks, {}, True), (thinks, {"require_delimiter": "false"}, False), (model, {}, False)]
    cases += [(model, {"require_delimiter": "true"}, True), (thinks, {"chat": "false"}, False)]
    with FaultServer(answer=cut) as server, FaultServer(answer=rating) as judge:
        options |= {"base_url": server.base_url, **judged_by(judge)}
        for number, (tokenizer, more, required) in enumerate(cases):
            folder = tmp_path / str(number)
            judge.bodies.clear()
            assert run(loong, folder, "m", **options, **more, tokenizer=tokenizer) == 0
            assert read_settings(folder / "predictions.jsonl")["require_delimiter"] is required
            asked = json.dumps(judge.bodies)
            assert ("but let me" in asked) is not required and len(judge.bodies) > 5
    # Of a server that takes the reasoning out nothing would be left, so that it is refused, unless that is known.
    with FaultServer(answer=lambda body: {"content": "$412,350", "reasoning_content": "hm"}) as server:
        options = {"backend": "openai", "context_tokens": 1_200, "tokenizer": thinks, "base_url": server.base_url}
        assert run(loong, tmp_path / "b", "m", **options) == 1
        assert "reasoning" in capsys.readouterr().err
        assert run(loong, tmp_path / "b2", "m", **options, require_delimiter="false") == 0


@pytest.mark.slow
def test_models_come_and_go(tmp_path, capsys, loong, model, monkeypatch):
    """The judge in this process is loaded when the model that answers is gone, and a finished run loads nothing."""
    loaded = []
    load_judge = TransformersJudge._load
    make_model = TransformersSampler.__init__

    def start(self, *args, **kwargs):
        loaded.append("model")
        make_model(self, *args, **kwargs)

    def judge(self):
        gc.collect()
        assert not any(isinstance(one, TransformersSampler) for one in gc.get_objects())
        loaded.append("judge")
        return load_judge(self)

    monkeypatch.setattr(TransformersJudge, "_load", judge)
    monkeypatch.setattr(TransformersSampler, "__init__", start)
    argv = flags(loong, tmp_path / "a", model, dtype="float32", judge="transformers", judge_model=model, limit=4)
    argv += ["--judge_max_tokens", "4", "--policy", "skip", "middle"]
    assert main(["loong", "run", *argv]) == 0
    assert loaded == ["model", "judge"]  # for two policies
    assert main(["loong", "run", *argv]) == 0
    assert loaded == ["model", "judge"]
    assert lines_of(tmp_path / "a" / "skip" / "judgements.jsonl")


def test_what_retrieves_and_compresses_is_loaded_when_it_has_to(tmp_path, capsys, loong, model, monkeypatch):
    critic = tiny_pipeline()
    critic.save_pretrained(tmp_path / "critic")
    loaded = []

    def retriever(name):
        loaded.append(name)
        return lambda question, chunks: [float(len(set(question) & set(chunk))) for chunk in chunks]

    load_critic = ContextCompressionPipeline.from_pretrained.__func__

    def load(cls, name, **kwargs):
        loaded.append(Path(name).name)
        return load_critic(cls, name, **kwargs)

    monkeypatch.setattr("qwenlong_trl.loong.sentence_transformers_retriever", retriever)
    monkeypatch.setattr("qwenlong_trl.cli.loong_options.find_spec", lambda name: True)
    monkeypatch.setattr(ContextCompressionPipeline, "from_pretrained", classmethod(load))
    with FaultServer(answer=says) as server:
        argv = flags(loong, tmp_path / "a", "m", backend="openai", tokenizer=model, base_url=server.base_url, limit=4)
        argv += ["--context_tokens", "600", "--chunk_tokens", "32", "--policy", "dense:3", "cprs"]
        argv += ["--retriever", "r", "--compressor", str(tmp_path / "critic")]
        assert main(["loong", "run", *argv]) == 0
        assert loaded == ["r", "critic"] and server.requests == 8
        assert main(["loong", "run", *argv]) == 0
        assert loaded == ["r", "critic"] and server.requests == 8
    policy = read_settings(tmp_path / "a" / "cprs" / "predictions.jsonl")["assembly"]["policy"]
    whole = ContextCompressionPipeline.from_pretrained(str(tmp_path / "critic"))
    assert policy == CPRSPolicy(whole, str(tmp_path / "critic")).describe()
    assert read_settings(tmp_path / "a" / "dense-3" / "predictions.jsonl")["assembly"]["policy"]["retriever"] == "r"


@pytest.mark.slow
def test_runs_of_policies_and_a_run_do_not_share_a_folder(tmp_path, capsys, loong, model):
    with FaultServer(answer=says) as server:
        options = {"backend": "openai", "tokenizer": model, "base_url": server.base_url, "context_tokens": 1_200}
        argv = flags(loong, tmp_path / "a", "m", **options)
        assert main(["loong", "run", *argv, "--policy", "skip"]) == 0
        asked = server.requests
        assert main(["loong", "run", *argv, "--policy", "skip", "bm25"]) == 1
        assert "is the folder of a run" in capsys.readouterr().err
        argv = flags(loong, tmp_path / "b", "m", **options)
        assert main(["loong", "run", *argv, "--policy", "skip", "middle"]) == 0
        both = server.requests - asked
        assert main(["loong", "run", *argv, "--policy", "middle"]) == 1
        assert "the runs of several policies (middle, skip)" in (error := capsys.readouterr().err)
        assert f"--output {tmp_path / 'b' / 'middle'}" in error
        assert server.requests == asked + both and not (tmp_path / "b" / "records.jsonl").exists()
        # Another one beside them, and one of them on its own.
        assert main(["loong", "run", *argv, "--policy", "skip", "middle", "bm25"]) == 0
        assert run(loong, tmp_path / "b" / "middle", "m", **options, policy="middle") == 0
        assert server.requests == asked + both + asked


def test_a_sample_of_the_records(tmp_path, capsys, loong, model):
    """One of each sub-task before a second one; those without documents are left out before it is drawn."""
    with FaultServer(answer=says) as server:
        options = {"backend": "openai", "tokenizer": model, "base_url": server.base_url, "context_tokens": 1_200}
        assert run(loong, tmp_path / "a", "m", **options, limit=11) == 0
        assert {r.subtask for r in read_loong(tmp_path / "a" / "records.jsonl")} == {*SUBTASKS}
        (tmp_path / "doc").mkdir()
        (tmp_path / "loong.jsonl").write_bytes((loong / "loong.jsonl").read_bytes())
        os.symlink(loong / "doc" / "financial", tmp_path / "doc" / "financial")
        assert run(tmp_path, tmp_path / "b", "m", **options, limit=5, skip_missing="") == 0
        assert [r.type for r in read_loong(tmp_path / "b" / "records.jsonl")] == ["financial"] * 5


def test_what_others_wrote_cannot_speak_to_the_terminal(tmp_path, capsys, loong, model):
    escape = "\x1b]0;owned\x07\u202e"
    rows = [json.loads(line) for line in (loong / "loong.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["id"] = f"{escape}{number}"
        row["doc"] = [f"{name}{escape}" if row["type"] == "paper" else name for name in row["doc"]]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "loong.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.symlink(loong / "doc", tmp_path / "data" / "doc")
    options = {"backend": "openai", "tokenizer": model, "context_tokens": 1_200}

    def fails(body):
        return "RIVER" in body["messages"][-1]["content"]

    def fails_too(body):
        return "青木" in body["messages"][-1]["content"]

    with FaultServer(answer=lambda body: escape + says(body), fault="400", fault_share=fails) as server:
        options |= {"base_url": server.base_url}
        with FaultServer(answer=lambda body: escape + rating(body), fault="400", fault_share=fails_too) as judge:
            assert run(tmp_path / "data", tmp_path / "a", "m", **options, **judged_by(judge)) == 1
            assert run(tmp_path / "data", tmp_path / "a", "m", **options, **judged_by(judge), skip_missing="") == 1
    out, err = capsys.readouterr()
    assert "records have no answer" in out and "left out: " in out and "not judged" in out
    assert "\x1b" not in out + err and "\x07" not in out + err and "\u202e" not in out + err
