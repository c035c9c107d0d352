"""A run that is interrupted anywhere, and goes on to the bytes of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from docqa_runs import WordsJudge, answers_sometimes, country_records, judge_server
from fault_server import FaultServer
from tiny import save_tiny, tiny_tokenizer

from qwenlong_trl.data import InvalidRecordError, write_records
from qwenlong_trl.evaluation import EvaluationProtocol, evaluate, load_run, unfinished, write_report
from qwenlong_trl.generation import GenerationError, OpenAISampler, Sampling, SettingsMismatchError


FILES = ("report.json", "report.md", "report.html", "scores.jsonl", "records.jsonl")
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3"


def read(folder) -> dict[str, bytes]:
    assert not list(folder.glob("*.part"))
    return {name: (folder / name).read_bytes() for name in FILES}


def run(folder, server, records, **options):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    sampling = options.pop("sampling", Sampling(num_samples=4))
    maker = options.pop("maker", lambda: OpenAISampler("m", server.base_url, concurrency=3, max_retries=0))
    return evaluate(records, maker, sampling, tokenizer, folder, settings={"model": "m"}, **options)


def test_a_run_and_the_same_again(tmp_path):
    records = country_records(12)
    with FaultServer(answer=answers_sometimes) as server:
        data = run(tmp_path / "a", server, records)
        assert server.requests == 12
        assert 0 < data["score"]["mean"] < 1 and data["counts"]["answers"] == 48
        assert data == json.loads((tmp_path / "a" / "report.json").read_text())
        first = read(tmp_path / "a")
        assert run(tmp_path / "a", server, records, maker=None) == data and server.requests == 12
        assert read(tmp_path / "a") == first
        # Answers that came in another order, one at a time.
        slow = lambda: OpenAISampler("m", server.base_url, concurrency=1)  # noqa: E731
        run(tmp_path / "b", server, records, maker=slow)
        assert read(tmp_path / "b") == first
    # The report needs nothing but the folder.
    for name in ("report.json", "report.md", "report.html"):
        (tmp_path / "a" / name).unlink()
    assert write_report(tmp_path / "a") == data and read(tmp_path / "a") == first
    loaded = load_run(tmp_path / "a")
    assert loaded.records == records and len(loaded.answers) == 48 and any(a.text for a in loaded.answers)


@pytest.mark.parametrize("mode", ["fixed", "official"])
def test_what_failed_is_asked_again(tmp_path, mode):
    records, protocol = country_records(12), EvaluationProtocol(mode, chat=True)
    with FaultServer(answer=answers_sometimes) as server:
        run(tmp_path / "whole", server, records, protocol=protocol)
    odd = lambda body: int(body["messages"][0]["content"].rsplit("number ", 1)[1].split()[0]) % 2  # noqa: E731
    with FaultServer(answer=answers_sometimes, fault="400", fault_share=odd) as server:
        data = run(tmp_path / "parts", server, records, protocol=protocol)
        assert data["counts"]["failed"] == 24
        assert data["score"]["questions"] == (12 if mode == "fixed" else len(answered(tmp_path / "parts")))
        server.fault, before = None, server.requests
        run(tmp_path / "parts", server, records, protocol=protocol)
        assert server.requests - before == 6
    assert read(tmp_path / "parts") == read(tmp_path / "whole")


def answered(folder) -> set[str]:
    return {answer.record_id for answer in load_run(folder).answers if answer.text}


def test_nothing_answers(tmp_path):
    with FaultServer(fault="400") as server, pytest.raises(GenerationError):
        run(tmp_path, server, country_records(3))


@pytest.mark.slow
def test_killed_while_it_asks_and_while_it_judges(tmp_path):
    """By SIGKILL: nothing is asked or judged twice, nothing is lost, and the report has the same bytes."""
    records = tmp_path / "records.jsonl"
    write_records(country_records(24), records)
    tokenizer = save_tiny(tmp_path / "tokenizer", CHAT_TEMPLATE)
    with (
        FaultServer(answer=answers_sometimes, latency=0.05) as server,
        FaultServer(answer=judge_server, latency=0.03) as judge,
    ):

        def command(folder) -> list[str]:
            options = {"records": records, "model_name_or_path": "m", "backend": "openai", "output": folder}
            options |= {"base_url": server.base_url, "tokenizer": tokenizer, "concurrency": 2, "num_samples": 4}
            options |= {"judge": "openai", "judge_model": "j", "judge_base_url": judge.base_url}
            options |= {"judge_all": "true", "judge_concurrency": 1}
            return ["eval", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]

        from qwenlong_trl.cli.main import main

        assert main(command(tmp_path / "whole")) == 0
        asked, judged = server.requests, judge.requests
        assert asked == 24 and judged > 20
        server.requests = judge.requests = 0
        folder = tmp_path / "parts"
        (kept,) = (tmp_path / "whole").glob("judgements-*.jsonl")
        killed = {"predictions.jsonl": 10, kept.name: 6}
        for name, lines in killed.items():
            process = subprocess.Popen(
                [sys.executable, "-m", "qwenlong_trl.cli.main", *command(folder)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            until = time.monotonic() + 120
            while not ((folder / name).exists() and (folder / name).read_bytes().count(b"\n") >= lines):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert not (folder / "report.md").exists() and not (folder / "report.html").exists()
        done = (folder / kept.name).read_bytes().count(b"\n") - 1
        before = judge.requests
        with open(folder / kept.name, "ab") as file:
            file.write(b'{"id": "half')
        assert main(command(folder)) == 0
        # Requests that were under way when the process died are asked again; and the judge is tried at each start.
        assert server.requests <= asked + 2 and judge.requests - before <= judged - done + 1
    assert read(folder) == read(tmp_path / "whole")


def test_a_folder_of_something_else(tmp_path):
    records = country_records(4)
    with FaultServer(answer=answers_sometimes) as server:
        run(tmp_path / "a", server, records)
        with pytest.raises(SettingsMismatchError, match="num_samples was 4 and is 2"):
            run(tmp_path / "a", server, records, sampling=Sampling(num_samples=2))
        with pytest.raises(SettingsMismatchError, match="protocol was"):
            run(tmp_path / "a", server, records, protocol=EvaluationProtocol("official"))
        changed = [replace(records[0], question="In which country does town number 3 lie?"), *records[1:]]
        with pytest.raises(SettingsMismatchError, match="'r0' belong to another record than it is now"):
            run(tmp_path / "a", server, changed)
        # More records, or fewer, are no other settings.
        before = server.requests
        assert run(tmp_path / "a", server, country_records(4)[:2])["counts"]["questions"] == 2
        assert server.requests == before


def test_each_judge_has_a_file_of_its_own(tmp_path):
    records, other = country_records(4), WordsJudge()
    other.name = "another"
    with FaultServer(answer=answers_sometimes) as server:
        run(tmp_path, server, records)
        judge = WordsJudge()
        judged = run(tmp_path, server, records, judge=judge, judge_all=True)
        assert judged["settings"]["judge"]["name"] == "words" and len(judged["settings"]["judge"]["prompt_hash"]) == 16
        page = (tmp_path / "report.md").read_text()
        hashes = judged["settings"]["judge"]["prompt_hash"], judged["settings"]["protocol"]["template_hash"]
        assert f"judge words, prompt default ({hashes[0]})" in page and f"Mode: fixed; prompt {hashes[1]}." in page
        (kept,) = tmp_path.glob("judgements-*.jsonl")
        said = kept.read_bytes()
        assert run(tmp_path, server, records, judge=other, judge_all=True)["score"] == judged["score"] and other.asked
        assert len([*tmp_path.glob("judgements-*.jsonl")]) == 2 and kept.read_bytes() == said
        # Without a judge nothing that one said is lost, nor asked again by the one who said it.
        unjudged = run(tmp_path, server, records)
        assert unjudged["settings"]["judge"] is None and server.requests == 4 and kept.read_bytes() == said
        assert "there was no judge" in (tmp_path / "report.md").read_text()
        again = WordsJudge()
        assert run(tmp_path, server, records, judge=again, judge_all=True) == judged and not again.asked


def test_a_file_of_judgements_that_cannot_be_read_stops_before_anything_is_asked(tmp_path):
    records, judge = country_records(4), WordsJudge()
    with FaultServer(answer=answers_sometimes) as server:
        run(tmp_path, server, records, judge=judge)
        (kept,) = tmp_path.glob("judgements-*.jsonl")
        kept.write_text("something else\n")
        (tmp_path / "predictions.jsonl").unlink()
        with pytest.raises(ValueError, match="not what a run wrote"):
            run(tmp_path, server, records, judge=judge)
        assert server.requests == 4


def test_a_server_that_dies_leaves_a_report_that_says_so(tmp_path):
    records, left = country_records(12), [5]

    def dies(body):
        left[0] -= 1
        return left[0] < 0

    with FaultServer(answer=answers_sometimes, fault="500", fault_share=dies) as server:
        data = run(tmp_path, server, records)
        assert data["counts"]["failed"] == 4 * (12 - 5) == 28
        assert sum(one["questions"] for one in data["failed"]) == 7 and not any(o["refused"] for o in data["failed"])
        assert unfinished(data) == ["7 questions have no answer yet, because the model or its server failed"]
        assert "questions without an answer: InternalServerError" in (tmp_path / "report.md").read_text()
        server.fault = None
        data = run(tmp_path, server, records)
        assert data["failed"] == [] and unfinished(data) == [] and data["counts"]["failed"] == 0


def test_the_report_again_keeps_threshold_and_edges(tmp_path):
    with FaultServer(answer=answers_sometimes) as server:
        data = run(tmp_path, server, country_records(6), threshold=0.1, length_edges=[90, 150])
    assert data["effective_length"]["threshold"] == 0.1 and data["by_length"][0]["name"] == "to 90"
    first = read(tmp_path)
    assert write_report(tmp_path) == data and read(tmp_path) == first
    assert write_report(tmp_path, 0.2)["effective_length"]["threshold"] == 0.2
    assert write_report(tmp_path, length_edges=[1000])["by_length"][0]["name"] == "to 1,000"


def test_what_is_read_after_the_cut_is_kept(tmp_path):
    with FaultServer(answer=answers_sometimes) as server:
        run(tmp_path, server, country_records(6, 60), protocol=EvaluationProtocol(max_input_tokens=110))
    prompts = load_run(tmp_path).about["prompts"].values()
    assert any(p["truncated"] for p in prompts) and not all(p["truncated"] for p in prompts)
    for prompt in prompts:
        assert prompt["kept_tokens"] <= 110 and (prompt["kept_tokens"] < prompt["tokens"]) == prompt["truncated"]


def test_whether_reasoning_must_end_is_no_matter_of_the_answers(tmp_path):
    with FaultServer(answer=answers_sometimes) as server:
        loose = run(tmp_path, server, country_records(12))
        strict = run(tmp_path, server, country_records(12), protocol=EvaluationProtocol(require_delimiter=True))
        assert server.requests == 12 and 0 < strict["score"]["mean"] < loose["score"]["mean"]
        assert strict["settings"]["require_delimiter"] and not loose["settings"]["require_delimiter"]


def test_records_that_cannot_be_evaluated(tmp_path):
    records = country_records(2)
    with pytest.raises(InvalidRecordError, match="is the id of two records"):
        run(tmp_path, None, [*records, records[0]])
    with pytest.raises(InvalidRecordError, match="'r0': expected one of docqa, docmath, multiple_choice"):
        run(tmp_path, None, [replace(records[0], task="summary")])
    with pytest.raises(ValueError, match="no task 'multiple_choice'"):
        choice = [replace(records[0], task="multiple_choice")]
        run(tmp_path, None, choice, protocol=EvaluationProtocol("official"))
    with pytest.raises(ValueError, match="no records to evaluate on"):
        run(tmp_path, None, [])


def test_a_damaged_folder(tmp_path):
    with pytest.raises(ValueError, match="holds no records.jsonl"):
        load_run(tmp_path)
    with FaultServer(answer=answers_sometimes) as server:
        run(tmp_path, server, country_records(2))
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    (tmp_path / "scores.jsonl").write_text("\n".join([lines[0], '{"record_id": "r0"}']) + "\n")
    with pytest.raises(ValueError, match=r"scores.jsonl, line 2: not what a run wrote \(KeyError"):
        load_run(tmp_path)
