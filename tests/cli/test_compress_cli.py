"""`qwenlong-trl compress` on files and standard input, with a tiny critic in a folder."""

import io
import json
import subprocess
import sys

import pytest
from cprs_tiny import tiny_critic_tokenizer, tiny_pipeline

from qwenlong_trl.cli.main import main


TEXT = "The station stands on a glacier.\r\nIt was built in 1987. Who built it? 🧑‍🚀 did. " * 8
QUERY = "When was it built?"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("critic")
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def file(tmp_path) -> str:
    (tmp_path / "station.txt").write_bytes(TEXT.encode())
    return str(tmp_path / "station.txt")


def compress(model, *argv) -> int:
    return main(["compress", "--model", model, "--query", QUERY, "--device", "cpu", *map(str, argv)])


def test_prints_the_text_and_a_summary(model, file, capsys):
    assert compress(model, file, "--target-tokens", 90) == 0
    out, err = capsys.readouterr()
    wanted = tiny_pipeline()({"context": TEXT, "query": QUERY}, target_tokens=90, granularity="sentence")
    assert out == wanted["compressed"] + "\n"
    assert 0 < wanted["compressed_tokens"] <= 90
    line = f"{wanted['input_tokens']:,} tokens in, {wanted['compressed_tokens']} out, ratio {wanted['ratio']:.1f}, "
    assert line in err and f"{wanted['windows']} windows, " in err


def test_json_holds_the_whole_result(model, file, capsys):
    options = [
        "--rate",
        "0.3",
        "--granularity",
        "token",
        "--threshold",
        "0.4",
        "--window_tokens",
        "600",
        "--keep",
        "4:11",
    ]
    assert compress(model, file, *options, "--instruction", "Keep the numbers.", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    example = {"context": TEXT, "query": QUERY, "keep": [(4, 11)], "instruction": "Keep the numbers."}
    assert result == tiny_pipeline()(example, rate=0.3, threshold=0.4, window_tokens=600)
    assert any(span["start"] <= 4 and span["end"] >= 11 for span in result["spans"])


def test_several_files_are_documents(model, file, tmp_path, capsys):
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "more.md").write_bytes("\ufeffSnow fell. The crew left.".encode())
    names = [file, tmp_path / "empty.md", tmp_path / "more.md"]
    assert compress(model, *names, "--json", "--keep", "2:0:5") == 0
    result = json.loads(capsys.readouterr().out)
    assert [document["index"] for document in result["documents"]] == [0, 1, 2]
    assert result["documents"][2]["compressed"].startswith("more.md\nSnow ")
    assert result["documents"][1]["compressed"] == ""


@pytest.mark.slow
def test_standard_input_with_line_ends_as_they_are(model):
    command = [sys.executable, "-m", "qwenlong_trl.cli.main", "compress", "-", "--model", model, "--query", QUERY]
    done = subprocess.run(
        [*command, "--rate", "1", "--device", "cpu"], input=TEXT.encode(), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == TEXT.encode() + b"\n"


def test_output_file(model, file, tmp_path, capsys):
    target = tmp_path / "out.txt"
    assert compress(model, file, "--target_tokens", 60, "--output", target) == 0
    assert capsys.readouterr().out == ""
    wanted = tiny_pipeline()({"context": TEXT, "query": QUERY}, target_tokens=60, granularity="sentence")
    assert target.read_bytes() == wanted["compressed"].encode() + b"\n"
    assert compress(model, file, "--output", target) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert compress(model, file, "--output", target, "--overwrite", "--rate", 1) == 0
    assert target.read_bytes() == TEXT.encode() + b"\n"


def test_the_reader_counts(model, file, tmp_path, capsys):
    tokenizer = tiny_critic_tokenizer()
    tokenizer.save_pretrained(tmp_path / "reader")
    assert compress(model, file, "--target_tokens", 70, "--reader-tokenizer", tmp_path / "reader", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["compressed_tokens"] == len(tokenizer(result["compressed"])["input_ids"]) <= 70


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", "bad.bin is not UTF-8 text: byte 0x89 at position 0"),
        ("Grüße".encode("latin-1"), "bad.bin is not UTF-8 text: byte 0xfc at position 2"),
    ],
)
def test_binary_files_are_refused(model, tmp_path, capsys, data, message):
    (tmp_path / "bad.bin").write_bytes(data)
    assert compress(model, tmp_path / "bad.bin") == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err


def test_binary_standard_input_is_refused(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    assert compress(model, "-") == 1
    assert "standard input is not UTF-8 text: byte 0xff at position 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["missing.txt"], "missing.txt"),
        (["FILE", "--target_tokens", "-1"], "`target_tokens` must be a whole number, 0 or more, got -1"),
        (["FILE", "--rate", "1.5"], "`rate` must be a number between 0 and 1, got 1.5"),
        (["FILE", "--keep", "3"], "--keep must be START:END, got '3'"),
        (["FILE", "--keep", "0:100000"], "is not within the context"),
        (["FILE", "--window_tokens", "20"], "more than three quarters of a window of 20"),
        (["-", "-"], "only once"),
        (["FILE", "--output", "no/such/folder/out.txt"], "no folder"),
    ],
)
def test_what_is_wrong_is_said(model, file, capsys, argv, message):
    assert compress(model, *[file if part == "FILE" else part for part in argv]) == 1
    assert message in capsys.readouterr().err


def test_wrong_command_lines(model, file, capsys):
    for argv in (["--rate", "0.5", "--target_tokens", "3"], ["--granularity", "word"], ["--targets", "3"]):
        with pytest.raises(SystemExit) as stopped:
            compress(model, file, *argv)
        assert stopped.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["compress", "--help"])
    assert stopped.value.code == 0
    assert "--target-tokens" in capsys.readouterr().out
