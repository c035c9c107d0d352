"""`qwenlong-trl eval`: the synthetic suite, files of records, reports, comparisons, and errors in one line."""

import json

import pytest
from docqa_runs import answers_sometimes, country_records, judge_server
from fault_server import FaultServer
from tiny import save_tiny

from qwenlong_trl.cli.eval import EvalArguments, parse_tokens
from qwenlong_trl.cli.generation import GenerationArguments
from qwenlong_trl.cli.main import main
from qwenlong_trl.cli.windows import context_window, longest_prompt
from qwenlong_trl.data import write_records


CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w3"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), CHAT_TEMPLATE, positions=200_000)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    write_records(country_records(12), path)
    return str(path)


def flags(**options) -> list[str]:
    parts = [
        ["--" + name, *map(str, value if isinstance(value, list) else [value])] for name, value in options.items()
    ]
    return ["eval", *(part for group in parts for part in group)]


def error_of(capsys, *argv) -> str:
    assert main([*argv]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("qwenlong-trl eval: error: ")
    return line


def test_a_model_in_this_process_on_the_synthetic_suite(tmp_path, capsys, model):
    options = {"model_name_or_path": model, "lengths": ["250", "512"], "per_length": 1, "num_samples": 2}
    options |= {"max_tokens": 4, "max_input_tokens": 300}
    assert main(flags(suite="synthetic", output=tmp_path / "a", **options)) == 0
    out = capsys.readouterr().out
    assert "By task and prompt tokens" in out and "prompts lost their middle" in out
    data = json.loads((tmp_path / "a" / "report.json").read_text())
    assert data["counts"]["questions"] == 8 and data["counts"]["answers"] == 16
    assert data["counts"]["truncated_prompts"] == 4 and len(data["by_task"]) == 4 and len(data["pass_at_k"]) == 2
    assert data["settings"]["model_name_or_path"] == model and data["settings"]["protocol"]["max_input_tokens"] == 300
    # The default suite, and the same bytes.
    assert main(flags(output=tmp_path / "b", **options)) == 0
    for name in ("report.json", "report.md", "scores.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # As text, for a model without a chat template; and from a recipe.
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"suite: synthetic\nlengths: 1K\nper_length: 1\nmodel_name_or_path: {model}\nmax_tokens: 4\n")
    assert main(["eval", "--config", str(recipe), "--chat", "false", "--output", str(tmp_path / "c")]) == 0
    assert json.loads((tmp_path / "c" / "report.json").read_text())["by_length"][0]["name"] == "to 1K"


def test_a_server_and_a_judge_on_a_file(tmp_path, capsys, model, records):
    with FaultServer(answer=answers_sometimes) as server, FaultServer(answer=judge_server) as judge:
        options = {"model_name_or_path": "m", "tokenizer": model, "backend": "openai", "base_url": server.base_url}
        options |= {"records": records, "num_samples": 4}
        judged = {"judge": "openai", "judge_model": "j", "judge_base_url": judge.base_url}
        for name, extra in {
            "rule": {},
            "judge": judged,
            "all": {**judged, "judge_all": "true"},
            "official": {**judged, "mode": "official"},
        }.items():
            assert main(flags(output=tmp_path / name, **options, **extra)) == 0
    data = {path.name: json.loads((path / "report.json").read_text()) for path in tmp_path.iterdir()}
    assert data["rule"]["judge"] is None and data["judge"]["judge"] is None
    assert data["rule"]["score"]["mean"] < data["judge"]["score"]["mean"] == data["all"]["score"]["mean"]
    assert data["all"]["judge"]["mean"] > 0
    assert data["official"]["counts"]["left_out"] == data["rule"]["counts"]["empty"] > 0
    assert data["official"]["settings"]["judge"]["prompt"] == "l1"
    assert data["official"]["score"]["answers"] == 48 - data["official"]["counts"]["left_out"]
    # Report and comparison ask nobody: the servers are gone.
    capsys.readouterr()
    assert main(["eval", "report", str(tmp_path / "judge"), "--threshold", "0.1"]) == 0
    assert "10.0 % or more" in capsys.readouterr().out
    page = tmp_path / "comparison.md"
    assert main(["eval", "compare", str(tmp_path / "judge"), str(tmp_path / "rule"), "--output", str(page)]) == 0
    assert "judge is better on" in capsys.readouterr().out and page.read_text().startswith("# judge against rule")
    same = error_of(capsys, "eval", "compare", str(tmp_path / "judge"), str(tmp_path / "official"))
    assert "different modes, fixed and official" in same


def test_limit_and_files_as_suites(tmp_path, model, records):
    with FaultServer(answer=answers_sometimes) as server:
        options = {"model_name_or_path": "m", "tokenizer": model, "backend": "openai", "base_url": server.base_url}
        assert main(flags(suite=records, limit=5, output=tmp_path / "a", **options)) == 0
        assert server.requests == 5
        countries = {
            a["record_id"] for a in map(json.loads, (tmp_path / "a" / "scores.jsonl").open()) if "sample" in a
        }
        # Of each of the two sources; and more of them with a larger limit, which asks for those alone.
        assert {int(id[1:]) % 2 for id in countries} == {0, 1} and countries != {f"r{i}" for i in range(5)}
        assert main(flags(suite=records, limit=8, output=tmp_path / "a", **options)) == 0
        assert server.requests == 8


def test_errors_say_what_to_do(tmp_path, capsys, model, records):
    base = {"model_name_or_path": model, "output": tmp_path / "x"}
    assert "'framez' is neither a file nor a suite" in error_of(capsys, *flags(suite="framez", **base))
    assert "expected numbers of tokens such as 4096 or 4K, got '4M'" in error_of(capsys, *flags(lengths="4M", **base))
    assert "tokens, got 100" in error_of(capsys, *flags(lengths="100", **base))
    assert "--judge_all needs a judge" in error_of(capsys, *flags(judge_all="true", **base))
    assert "length_edges must ascend, got 4K 2K" in error_of(capsys, *flags(length_edges=["4K", "2K"], **base))
    assert "threshold must be above 0" in error_of(capsys, *flags(threshold="85.6", **base))
    assert "top_p must be above 0" in error_of(capsys, *flags(top_p="0", **base))
    assert "limit must be at least 1" in error_of(capsys, *flags(limit="0", **base))
    assert "no file" in error_of(capsys, *flags(records=tmp_path / "none.jsonl", **base))
    tight = error_of(capsys, *flags(records=records, max_input_tokens="10", **base))
    assert "even without its context, and max_input_tokens is 10; raise it" in tight
    gone = flags(records=records, **base, judge="openai", judge_model="j", judge_base_url="http://127.0.0.1:9/v1")
    assert "the judge does not answer" in error_of(capsys, *gone)
    assert "holds no records.jsonl" in error_of(capsys, "eval", "report", str(tmp_path))
    assert "--suite_folder" in error_of(capsys, *flags(suite="qasper", **base))


def test_a_window_too_small_for_the_answer(tmp_path, capsys, records):
    from transformers import AutoTokenizer

    model = save_tiny(tmp_path / "model", CHAT_TEMPLATE, positions=256)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(model)
    options = {"model_name_or_path": model, "records": records, "output": tmp_path / "x"}
    for mode in ("fixed", "official"):
        said = error_of(capsys, *flags(mode=mode, **options))
        assert "give a smaller --max_tokens, or --max_input_tokens" in said
    assert main(flags(max_tokens=4, **options)) == 0
    assert "prompts have at most 252 tokens" in capsys.readouterr().out
    report = json.loads((tmp_path / "x" / "report.json").read_text())
    assert report["settings"]["protocol"]["max_input_tokens"] == 252


def test_lengths_beyond_the_window_are_left_out(tmp_path, capsys):
    """The configuration says what the model takes where its tokenizer does not."""
    model = save_tiny(tmp_path / "model", CHAT_TEMPLATE, positions=1024)
    options = {"model_name_or_path": model, "per_length": 1, "max_tokens": 4}
    assert main(flags(output=tmp_path / "a", lengths=["512", "1K", "2K"], **options)) == 0
    out = capsys.readouterr().out
    assert "left out of the synthetic suite: prompts of 1,024, 2,048 tokens, as the model takes 1,020" in out
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["counts"]["questions"] == 4 and report["counts"]["truncated_prompts"] == 0
    assert report["settings"]["protocol"]["max_input_tokens"] == 1020
    none = error_of(capsys, *flags(output=tmp_path / "b", lengths=["1K", "2K"], **options))
    assert "no length fits: the model takes 1,024 tokens" in none


def test_windows(tmp_path):
    from transformers import AutoTokenizer

    model = save_tiny(tmp_path / "model", CHAT_TEMPLATE, positions=512)
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert context_window(GenerationArguments(model)) == context_window(GenerationArguments(model), tokenizer) == 512
    tokenizer.model_max_length = 300
    assert context_window(GenerationArguments(model), tokenizer) == 300
    server = GenerationArguments("m", backend="openai", tokenizer=model)
    assert context_window(server) is None and context_window(server, tokenizer) == 300
    engine = GenerationArguments(model, backend="vllm", vllm_options='{"max_model_len": 4096}')
    assert context_window(engine, tokenizer) == 4096
    assert context_window(GenerationArguments(str(tmp_path / "nothing"))) is None


def test_the_longest_prompt_by_default(capsys):
    def longest(window, lengths=(), **options):
        args = EvalArguments("out", **options)
        return longest_prompt(args, window, [*lengths]), capsys.readouterr().out

    assert longest(1_000_000) == (120_000, "") and longest(1_000_000, [1024, 131_072]) == (131_072, "")
    assert longest(131_072)[0] == 120_000 and longest(131_072, [131_072])[0] == 121_072
    assert longest(40_960)[0] == 30_960 and longest(40_960, mode="official")[0] == 30_960 - 64
    assert longest(40_960, max_input_tokens=50_000) == (50_000, "")
    tokens, said = longest(None, [131_072])
    assert tokens == 131_072 and "warning: nothing says how many tokens the model takes" in said


def test_reasoning_that_the_template_opens(tmp_path):
    """Answers without </think> were cut off within it, and get no credit unless the options say otherwise."""
    opening = save_tiny(tmp_path / "model", CHAT_TEMPLATE + "<think>", positions=4096)
    write_records(country_records(12), tmp_path / "records.jsonl")
    with FaultServer(answer=answers_sometimes) as server:
        options = {"model_name_or_path": "m", "tokenizer": opening, "backend": "openai", "base_url": server.base_url}
        options |= {"records": tmp_path / "records.jsonl", "num_samples": 4, "max_tokens": 100}
        score = {}
        for choice in ("auto", "true", "false"):
            folder = tmp_path / choice
            assert main(flags(require_delimiter=choice, output=folder, **options)) == 0
            data = json.loads((folder / "report.json").read_text())
            assert data["settings"]["require_delimiter"] == (choice != "false")
            score[choice] = data["score"]["mean"]
    assert 0 < score["auto"] == score["true"] < score["false"]


def test_a_judge_that_goes_away_is_exit_code_1(tmp_path, capsys, model, records):
    with FaultServer(answer=answers_sometimes) as server, FaultServer(answer=judge_server, fault="500") as judge:
        options = {"model_name_or_path": "m", "tokenizer": model, "backend": "openai", "base_url": server.base_url}
        options |= {"records": records, "judge": "openai", "judge_model": "j", "judge_base_url": judge.base_url}
        options |= {"judge_deadline": 1, "output": tmp_path / "a", "num_samples": 2}
        judge.fault_share = lambda body: "town" in json.dumps(body)  # not the question that it is tried with
        assert main(flags(**options)) == 1
        out = capsys.readouterr().out
        assert "answers are not judged yet, because the judge failed; the same command goes on with them" in out
        assert (tmp_path / "a" / "report.md").exists()
        judge.fault = None
        before = server.requests
        assert main(flags(**options)) == 0 and server.requests == before
        assert "not judged yet" not in capsys.readouterr().out


def test_wrong_command_lines(capsys):
    for argv in (["eval"], ["eval", "compare", "a"], ["eval", "report"], ["eval", "--nonsense", "1"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2
    capsys.readouterr()
    for argv, said in ((["eval", "--help"], "--suite_folder"), (["eval", "compare", "--help"], "That of the run")):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0 and said in capsys.readouterr().out


def test_numbers_of_tokens():
    assert [parse_tokens(text, "n") for text in ("1K", "128k", "300", 512)] == [1024, 131072, 300, 512]
    for text in ("K", "0", "-1", "1.5K", ""):
        with pytest.raises(ValueError, match="n: expected numbers of tokens"):
            parse_tokens(text, "n")
