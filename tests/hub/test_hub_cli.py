"""`qwenlong-trl hub`: what it prints, what it changes, and how it ends."""

import json

import pytest
from card_runs import evaluation_report, loong_report
from huggingface_hub import ModelCard
from test_sets import records

from qwenlong_trl.cli.main import main
from qwenlong_trl.data import write_records


SPACE = "---\ntitle: Compress\nsdk: gradio\napp_file: app.py\ncolorFrom: blue\n---\n\n# Compress\n"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    about = {
        "format": 1,
        "method": "long_sft",
        "arguments": {"learning_rate": 3e-4},
        "data": {"train_rows": 12, "eval_rows": None},
    }
    about |= {"versions": {"torch": "2.13.0"}, "hardware": {"device": "cpu", "processes": 1}, "tags": ["qwenlong-trl"]}
    about |= {"paper": {"id": "2505.17667", "title": "A title", "citation": "@misc{x}"}, "base_model": "ns/base"}
    (folder / "qwenlong_run.json").write_text(json.dumps(about))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(9_000))
    (folder / "optimizer.pt").write_bytes(bytes(18_000))
    return folder


@pytest.fixture
def space(tmp_path):
    folder = tmp_path / "compress"
    folder.mkdir()
    (folder / "README.md").write_text(SPACE)
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "requirements.txt").write_text("gradio\n")
    return folder


def everything(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_card_then_a_dry_run_then_a_push(hub, model, capsys):
    assert main(["hub", "card", str(model), "--name", "reader", "--license", "mit", "--repo_id", "ns/reader"]) == 0
    assert "card written: " in capsys.readouterr().out
    before = everything(model)
    command = ["hub", "push", str(model), "--repo_id", "ns/reader", "--private"]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "    9.0 kB  model.safetensors" in out and "   18.0 kB  optimizer.pt  (state of the optimizer)" in out
    assert "This would go to ns/reader (private, if it is new), branch main. Nothing was changed." in out
    assert hub.requests == [] and everything(model) == before
    assert main([*command, "--message", "First"]) == 0
    assert f"pushed: {hub.url}/ns/reader/commit/" in capsys.readouterr().out
    assert hub.store.commits("model", "ns/reader") == ["First", "initial commit"]
    assert hub.store.repo("model", "ns/reader")["private"] and everything(model) == before
    assert set(hub.store.tree("model", "ns/reader")) == {
        *(".gitattributes", "README.md", "config.json", "model.safetensors", "qwenlong_run.json")
    }
    card = ModelCard.load("ns/reader")
    assert (card.data.license, card.data.base_model) == ("mit", "ns/base")
    assert main([*command, "--include", "optimizer.pt", "--revision", "v2"]) == 0
    assert "optimizer.pt" in hub.store.tree("model", "ns/reader", "v2")


def test_results_are_copied_beside_the_model(model, tmp_path):
    for name, report in (("synthetic", evaluation_report()), ("set1", loong_report())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    results = [str(tmp_path / name / "report.json") for name in ("synthetic", "set1")]
    assert main(["hub", "card", str(model), "--results", *results]) == 0
    assert {path.name for path in (model / "evaluation").iterdir()} == {"synthetic.json", "set1.json"}
    text = (model / "README.md").read_text(encoding="utf-8")
    assert "### Loong" in text and "judge score" in text and "model-index" in text


def test_results_that_are_none_change_nothing(model, tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    assert main(["hub", "card", str(model), "--results", str(tmp_path / "report.json")]) == 1
    assert "holds no results that are known" in capsys.readouterr().err
    assert not (model / "evaluation").exists() and not (model / "README.md").exists()
    (tmp_path / "report.json").write_text(json.dumps(loong_report()))
    twice = [str(tmp_path / "report.json")] * 2
    assert main(["hub", "card", str(model), "--results", *twice]) == 1
    assert "would have the same name" in capsys.readouterr().err


def test_a_space(hub, space, capsys):
    assert main(["hub", "space", str(space), "--repo_id", "ns/compress", "--dry_run"]) == 0
    assert "in 3 files, as a space" in capsys.readouterr().out and hub.requests == []
    assert main(["hub", "space", str(space), "--repo_id", "ns/compress"]) == 0
    assert hub.store.repo("space", "ns/compress")["sdk"] == "gradio"
    assert hub.store.file("space", "ns/compress", "app.py") == b"print('hello')\n"


@pytest.mark.parametrize(
    ("readme", "told"),
    [
        (None, "a Space needs one"),
        ("# no front matter\n", "no metadata"),
        ("---\ntitle: x\nsdk: gradio\n---\n", "needs `app_file`"),
        ("---\ntitle: x\napp_file: app.py\n---\n", "needs `sdk`"),
        ("---\ntitle: x\nsdk: cobol\napp_file: app.py\n---\n", "must be gradio, docker or static"),
        ("---\ntitle: x\nsdk: gradio\napp_file: main.py\n---\n", "names 'main.py' as its `app_file`"),
    ],
)
def test_a_space_that_would_not_start(hub, space, readme, told, capsys):
    if readme is None:
        (space / "README.md").unlink()
    else:
        (space / "README.md").write_text(readme)
    assert main(["hub", "space", str(space), "--repo_id", "ns/compress"]) == 1
    assert told in capsys.readouterr().err and hub.requests == []


def test_a_file_of_records(hub, tmp_path, capsys):
    write_records(records(), tmp_path / "questions.parquet")
    command = ["hub", "push", str(tmp_path / "questions.parquet"), "--repo_id", "ns/questions"]
    assert main([*command, "--dry-run"]) == 0
    assert "data/train-00000-of-00001.parquet" in capsys.readouterr().out and hub.requests == []
    assert main(command) == 0
    assert b"from questions.parquet" in hub.store.file("dataset", "ns/questions", "README.md")
    assert b'load_dataset("ns/questions"' in hub.store.file("dataset", "ns/questions", "README.md")
    assert main([*command, "--repo_type", "model"]) == 1
    assert "must be one of records" in capsys.readouterr().err


def test_faults_end_in_one_line_and_1(hub, model, capsys):
    main(["hub", "card", str(model)])
    capsys.readouterr()
    command = ["hub", "push", str(model), "--repo_id", "ns/reader"]
    for pattern, kind, told in [
        ("POST /api/repos/create", 401, "hf auth login"),
        ("POST .*/preupload/", 403, "may not write to ns/reader"),
        ("PUT /lfs/", 500, "Wait a while"),
        ("PUT /lfs/", "cut", "the connection to the Hub broke"),
        ("POST .*/commit/", 409, "run the same command again"),
    ]:
        hub.fail(pattern, kind, times=99)
        assert main(command) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "qwenlong-trl hub: error: " in error and told in error and "Nothing was published" in error
        assert "Traceback" not in error
        hub.heal()
    assert hub.store.commits("model", "ns/reader") == ["initial commit"]
    assert main(command) == 0


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["push", "nowhere", "--repo_id", "ns/x"], "nowhere is no folder"),
        (["card", "nowhere"], "nowhere is no folder"),
        (["card", "."], "nothing in . says what it is"),
    ],
)
def test_wrong_folders(argv, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["hub", *argv]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["push", "--help"], ["card", "--help"], ["space", "--help"]])
def test_help(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["hub", *argv])
    assert ended.value.code == 0 and "usage: qwenlong-trl hub" in capsys.readouterr().out


def test_a_wrong_command_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["hub", "push", "out"])
    assert ended.value.code == 2 and "--repo_id" in capsys.readouterr().err
