"""`qwenlong-trl loong`: from the benchmark's files to reports, however often a run was killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from fault_server import FaultServer
from loong_cli import flags, judged_by, lines_of, rating, report, run, says

from qwenlong_trl.cli.main import main
from qwenlong_trl.loong import Assembly, LoongDocuments, assemble, read_loong
from qwenlong_trl.loong.judge import judge_messages, parse_score


@pytest.fixture
def model(loong_model):
    return loong_model


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, loong, model):
    """SIGKILL while the model answers and while the judge scores, and half a line: nothing twice, the same report."""
    options = {"backend": "openai", "tokenizer": model, "context_tokens": 1_200, "concurrency": 2, "policy": "bm25"}
    options |= {"chunk_tokens": 64, "judge_concurrency": 2}
    with (
        FaultServer(answer=says, latency=0.1) as server,
        FaultServer(answer=rating, latency=0.02) as judge,
    ):
        urls = {"base_url": server.base_url, **judged_by(judge)}
        assert run(loong, tmp_path / "whole", "m", **options, **urls) == 0
        count = (tmp_path / "whole" / "records.jsonl").read_bytes().count(b"\n")
        assert server.requests == count and judge.requests == count + 1  # and one to see that it answers

        folder = tmp_path / "parts"
        command = [sys.executable, "-m", "qwenlong_trl.cli.main", "loong", "run"]
        command += flags(loong, folder, "m", **options, **urls)
        asked, judged = server.requests, judge.requests
        for name, lines in (("predictions.jsonl", 5), ("judgements.jsonl", 6)):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until = time.monotonic() + 120
            while not ((folder / name).exists() and (folder / name).read_bytes().count(b"\n") >= lines):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert not (folder / "report.html").exists()
        with (folder / "judgements.jsonl").open("ab") as file:
            file.write(b'{"id": "')
        assert run(loong, folder, "m", **options, **urls) == 0
        # Asked again is what was under way when it was killed, two at a time, and whether the judge is there.
        assert count <= server.requests - asked <= count + 2
        assert count <= judge.requests - judged <= count + 2 + 3
        before = server.requests, judge.requests
        assert run(loong, folder, "m", **options, **urls) == 0
        assert (server.requests, judge.requests) == before
    assert report(folder) == report(tmp_path / "whole")
    ids = [json.loads(line)["id"] for line in (folder / "predictions.jsonl").read_text().splitlines()[1:]]
    assert len(ids) == len({*ids}) == count


def test_a_model_in_this_process(tmp_path, capsys, loong, model, monkeypatch):
    monkeypatch.setenv("LOONG_DATA", str(loong))
    flags = ["--output", str(tmp_path / "a"), "--model_name_or_path", model, "--max_tokens", "8", "--dtype", "float32"]
    assert main(["loong", "run", *flags, "--policy", "middle"]) == 0
    out = capsys.readouterr().out
    assert "mode fixed, policy middle" in out and "Structured score" in out and "Avg Score" not in out
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()]
    settings = lines[0]["settings"]
    assert settings["assembly"]["max_tokens"] < 1_500 - 8 and settings["sampling"]["temperature"] == 0
    assert settings["assembly"]["policy"]["name"] == "middle" and settings["chat"] is True
    assert data["about"]["assembly"] == settings["assembly"]
    # Other settings are refused by name, and nothing is overwritten.
    before = report(tmp_path / "a")
    assert main(["loong", "run", *flags, "--policy", "skip"]) == 1
    assert "assembly was" in capsys.readouterr().err and report(tmp_path / "a") == before
    # A part of the records first, then all: the folder grows.
    assert (
        main(["loong", "run", *flags[2:], "--output", str(tmp_path / "b"), "--policy", "middle", "--limit", "3"]) == 0
    )
    assert main(["loong", "run", *flags[2:], "--output", str(tmp_path / "b"), "--policy", "middle"]) == 0
    assert json.loads((tmp_path / "b" / "report.json").read_text())["overall"]["total"] == len(lines) - 1


def test_official_mode(tmp_path, capsys, loong):
    """No tokenizer is needed; the stream of random numbers is that of the records of the run."""
    with FaultServer(answer=says) as server, FaultServer(answer=rating) as judge:
        options = {"mode": "official", "backend": "openai", "base_url": server.base_url, **judged_by(judge)}
        assert run(loong, tmp_path / "a", "m", **options) == 0
        out = capsys.readouterr().out
        assert "Not comparable with the published numbers" in out and "official" in out
        # What was asked is what the official assembly makes of these records, and nothing beside it.
        records = read_loong(tmp_path / "a" / "records.jsonl")
        prompts = [one.prompt for one in assemble(records, LoongDocuments(loong / "doc"), Assembly("official"))]
        assert sorted(body["messages"][0]["content"] for body in server.bodies) == sorted(prompts)
        # The judge saw each answer without its reasoning, in the official prompt.
        texts = {line["id"]: line["completions"][0]["text"] for line in lines_of(tmp_path / "a" / "predictions.jsonl")}
        shown = [judge_messages(record, texts[record.id], "official")[0]["content"] for record in records]
        assert sorted(body["messages"][-1]["content"] for body in judge.bodies[1:]) == sorted(shown)
        assert all(body["max_tokens"] == 1024 and body["temperature"] == 0 for body in judge.bodies)
        # And scores are read in the official way.
        scores = {one["id"]: parse_score(one["text"], "official") for one in lines_of(tmp_path / "a/judgements.jsonl")}
        parsed = [score for score in scores.values() if score is not None]
        cell = json.loads((tmp_path / "a" / "report.json").read_text())["overall"]
        assert cell["average"] == pytest.approx(sum(parsed) / len(parsed)) and cell["parsed"] == len(parsed)
        assert run(loong, tmp_path / "a", "m", limit=3, **options) == 1
        assert "records was 'sha256" in capsys.readouterr().err


def test_failures_stay_in_the_denominator(tmp_path, capsys, loong, model):
    options = {"backend": "openai", "tokenizer": model, "context_tokens": 1_200}
    with FaultServer(answer=says, fault="wrong_shape", fault_share=0.4) as server, FaultServer(answer=rating) as judge:
        urls = {"base_url": server.base_url, **judged_by(judge)}
        assert run(loong, tmp_path / "a", "m", **options, **urls) == 0
        out = capsys.readouterr().out
        cell = json.loads((tmp_path / "a" / "report.json").read_text())["overall"]
        assert cell["answered"] < cell["total"]
        assert f"{cell['total'] - cell['answered']} of {cell['total']} records have no answer" in out
        assert cell["strict_average"] == pytest.approx(cell["average"] * cell["parsed"] / cell["total"])
        assert judge.requests == cell["answered"] + 1
    with FaultServer(answer=says) as server, FaultServer(answer=rating) as judge:  # moved to other ports
        assert run(loong, tmp_path / "a", "m", **options, base_url=server.base_url, **judged_by(judge)) == 0
        assert server.requests == cell["total"] - cell["answered"] == judge.requests - 1
        assert json.loads((tmp_path / "a" / "report.json").read_text())["overall"]["answered"] == cell["total"]


def test_a_question_that_does_not_fit_counts_as_unanswered(tmp_path, capsys, loong, model):
    """The others are answered."""
    with FaultServer(answer=says) as server:
        options = {"backend": "openai", "tokenizer": model, "base_url": server.base_url, "context_tokens": 320}
        assert run(loong, tmp_path / "a", "m", **options) == 0
    cell = json.loads((tmp_path / "a" / "report.json").read_text())["overall"]
    assert 0 < cell["answered"] < cell["total"]
    assert "question and instruction alone take" in capsys.readouterr().out


def test_judge_report_and_compare(tmp_path, capsys, loong, model):
    with FaultServer(answer=says) as server, FaultServer(answer=rating) as judge:
        options = {"backend": "openai", "tokenizer": model, "base_url": server.base_url}
        assert run(loong, tmp_path / "full", "m", **options, context_tokens=1_200) == 0
        assert run(loong, tmp_path / "bm25", "m", **options, context_tokens=400, policy="bm25", chunk_tokens=32) == 0
        for name in ("full", "bm25"):
            argv = [str(part) for item in judged_by(judge).items() for part in (f"--{item[0]}", item[1])]
            assert main(["loong", "judge", str(tmp_path / name), *argv]) == 0
        # Another judge, or prompt, needs another file.
        assert main(["loong", "judge", str(tmp_path / "full"), *argv, "--judge_prompt", "official"]) == 1
        assert "prompt was 'default' and is 'official'" in capsys.readouterr().err
        other = ["--judge_prompt", "official", "--judgements", "official.jsonl"]
        assert main(["loong", "judge", str(tmp_path / "full"), *argv, *other]) == 0
    assert (tmp_path / "full" / "official.jsonl").is_file()
    (tmp_path / "repo").mkdir()
    assert main(["loong", "report", str(tmp_path / "full"), "--eval_results", str(tmp_path / "repo")]) == 0
    (entry,) = yaml.safe_load((tmp_path / "repo" / ".eval_results" / "loong.yaml").read_text())
    assert entry["dataset"]["id"] == "MozerWang/Loong" and "fixed" in entry["notes"]
    capsys.readouterr()
    assert main(["loong", "compare", str(tmp_path / "full"), str(tmp_path / "bm25")]) == 0
    assert "full" in (out := capsys.readouterr().out) and "bm25" in out
    compared = json.loads((tmp_path / "full" / "against-bm25" / "comparison.json").read_text())
    a, b = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("full", "bm25"))
    found = compared["overall"]["strict_average"]
    assert found["difference"] == pytest.approx(a["overall"]["strict_average"] - b["overall"]["strict_average"])


def test_retrieval_against_long_context_in_one_command(tmp_path, capsys, loong, model):
    with FaultServer(answer=says) as server:
        argv = flags(loong, tmp_path / "a", "m", backend="openai", tokenizer=model, base_url=server.base_url)
        argv += ["--context_tokens", "900", "--chunk_tokens", "32", "--policy", "skip", "bm25:3", "bm25"]
        assert main(["loong", "run", *argv]) == 0
        asked = server.requests
        assert main(["loong", "run", *argv]) == 0 and server.requests == asked
    folder = tmp_path / "a"
    assert sorted(one.name for one in folder.iterdir()) == [
        *("bm25", "bm25-3", "skip", "skip-against-bm25", "skip-against-bm25-3")
    ]
    compared = json.loads((folder / "skip-against-bm25-3" / "comparison.json").read_text())
    assert compared["names"] == ["skip", "bm25-3"]
    assert compared["b"]["assembly"]["policy"]["top_k"] == 3
    assert len({report(folder / name) for name in ("skip", "bm25", "bm25-3")}) == 3


def test_documents_that_are_not_there(tmp_path, capsys, loong, model):
    (tmp_path / "doc").mkdir()
    (tmp_path / "loong.jsonl").write_bytes((loong / "loong.jsonl").read_bytes())
    os.symlink(loong / "doc" / "financial", tmp_path / "doc" / "financial")
    with FaultServer(answer=says) as server:
        options = {"backend": "openai", "tokenizer": model, "base_url": server.base_url, "context_tokens": 1_200}
        assert run(tmp_path, tmp_path / "a", "m", **options) == 1
        error = capsys.readouterr().err
        assert "records lack documents in" in error and "(legal, paper)" in error and "--skip_missing" in error
        assert run(tmp_path, tmp_path / "a", "m", **options, skip_missing="") == 0
    assert {json.loads(line)["type"] for line in (tmp_path / "a" / "records.jsonl").read_text().splitlines()} == {
        "financial"
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--output", "x", "--model_name_or_path", "m", "--data", "nowhere"], "holds no loong.jsonl"),
        (["run", "--output", "x", "--model_name_or_path", "m", "--policy", "dense"], "--policy dense go together"),
        (["run", "--output", "x", "--model_name_or_path", "m", "--compressor", "c"], "--policy cprs go together"),
        (
            ["run", "--output", "x", "--model_name_or_path", "m", "--mode", "official", "--policy", "bm25"],
            "needs --mode fixed",
        ),
        (["run", "--output", "x", "--model_name_or_path", "m", "--policy", "skip:3"], "a number of chunks goes with"),
        (["run", "--output", "x", "--model_name_or_path", "m", "--policy", "skip", "skip"], "names one twice"),
        (["run", "--output", "x", "--model_name_or_path", "m", "--policy", "best"], "must be some of skip, middle"),
        (["report", "nowhere"], "holds no records.jsonl, so it is no folder of a run"),
        (["judge", "nowhere"], "holds no records.jsonl"),
    ],
)
def test_wrong_use(argv, message, capsys):
    assert main(["loong", *argv]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["compare", "only-one"], ["report"], ["judge", "--judge", "openai"]]
)
def test_wrong_command_lines(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["loong", *argv])
    assert stopped.value.code == 2 and "usage: qwenlong-trl loong" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["judge"], ["report"], ["compare"]])
def test_help(command, capsys):
    try:
        main(["loong", *command, "--help"])
    except SystemExit as stopped:
        assert stopped.code == 0
    assert f"usage: qwenlong-trl loong {' '.join(command)}".rstrip() in capsys.readouterr().out
