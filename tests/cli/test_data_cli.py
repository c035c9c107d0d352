"""`qwenlong-trl data`: real files in, real files out, one-line errors."""

import subprocess
import sys
from dataclasses import replace

import pytest

from qwenlong_trl.cli.data import main
from qwenlong_trl.data import read_records, synthesize, write_records


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A saved byte-level BPE, trained here."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    texts = (d.text for e in synthesize("comparison", 2_000, seed=9, count=5) for d in e.documents)
    bpe.train_from_iterator(texts, vocab_size=600, show_progress=False)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(synthesize("chain_of_reasoning", 800, seed=0, count=12), path)
    return str(path)


def run(capsys, *argv):
    """Exit code, stdout, and the last line of stderr."""
    code = main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, (err.strip().splitlines() or [""])[-1]


def test_synthesize_compose_inspect(tmp_path, capsys, tokenizer_folder):
    short, long = tmp_path / "short.jsonl.gz", tmp_path / "long.parquet"
    code, out, _ = run(capsys, "synthesize", "--target_tokens", 500, "--count", 6, "--output", short)
    assert code == 0 and "24 records" in out and "estimated" in out
    assert [e.id for e in read_records(short)][:2] == ["spotlight_locating-500-0-0", "spotlight_locating-500-0-1"]

    flags = ["--input", short, "--target-tokens", 4_000, "--tokenizer", tokenizer_folder, "--depth", 1]
    code, out, _ = run(capsys, "compose", *flags, "--output", long, "--seed", 3)
    assert code == 0 and "24 records" in out and "skipped: 0" in out
    composed = list(read_records(long))
    for example in composed:
        assert example.evidence_documents[-1] == len(example.documents) - 1

    code, out, _ = run(capsys, "inspect", "--input", long, "--tokenizer", tokenizer_folder, "--show", 2)
    assert code == 0
    assert "24 records" in out and "duplicates: 0" in out and "evidence: 24 of 24 records" in out
    assert "synthetic/clustering 6" in out
    lengths = [line for line in out.splitlines() if line.startswith("tokens per context: min ")]
    assert len(lengths) == 1 and int(lengths[0].rsplit("max ", 1)[1].replace(",", "")) <= 4_000
    assert composed[0].question in out and composed[1].question in out and composed[2].question not in out


def test_config_file_and_flags(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"task: comparison\ntarget_tokens: 300\ncount: 2\noutput: {tmp_path / 'a.jsonl'}\n")
    assert run(capsys, "synthesize", "--config", recipe)[0] == 0
    assert len(list(read_records(tmp_path / "a.jsonl"))) == 2
    assert run(capsys, "synthesize", "--config", recipe, "--count", 3, "--output", tmp_path / "b.jsonl")[0] == 0
    assert len(list(read_records(tmp_path / "b.jsonl"))) == 3


def test_pool_from_config_may_be_one_file_or_a_list(tmp_path, capsys, records, tokenizer_folder):
    base = f"input: {records}\ntokenizer: {tokenizer_folder}\ntarget_tokens: 3000\ndepth: 0\n"
    outputs = []
    for name, pool in (("one", records), ("list", f"[{records}]")):
        recipe, output = tmp_path / f"{name}.yaml", tmp_path / f"{name}.jsonl"
        recipe.write_text(base + f"pool: {pool}\noutput: {output}\n")
        assert run(capsys, "compose", "--config", recipe)[0] == 0
        outputs.append(list(read_records(output)))
    assert outputs[0] == outputs[1]
    assert all(example.evidence_documents[0] == 0 for example in outputs[0])


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("target_tokens: [3]", "target_tokens should be int, got [3]"),
        ("target_tokens: 300\nseed: true", "seed should be int, got True"),
        ("target_tokens: 300\nsede: 1", "--sede"),
        ("- 1", "must contain a YAML mapping"),
    ],
)
def test_wrong_config(tmp_path, capsys, yaml, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml)
    code, _, error = run(capsys, "synthesize", "--output", tmp_path / "x.jsonl", "--config", recipe)
    assert code == 1 and message in error
    assert not (tmp_path / "x.jsonl").exists()


def test_overwrite_only_when_asked(tmp_path, capsys, records):
    flags = ["synthesize", "--target_tokens", 200, "--count", 1, "--task", "comparison", "--output", records]
    code, _, error = run(capsys, *flags)
    assert code == 1 and "exists; give --overwrite to replace it" in error
    assert len(list(read_records(records))) == 12
    assert run(capsys, *flags, "--overwrite")[0] == 0
    assert len(list(read_records(records))) == 1


def test_too_long_records_stop_or_are_counted(tmp_path, capsys, records, tokenizer_folder):
    with open(records, "rb") as file:
        first = file.readline()
    small, output = tmp_path / "small.jsonl", tmp_path / "out.jsonl"
    write_records(synthesize("spotlight_locating", 100, seed=0, count=3), small)
    small.write_bytes(small.read_bytes() + first)
    flags = ["compose", "--input", small, "--pool", records, "--target_tokens", 700, "--tokenizer", tokenizer_folder]
    code, _, error = run(capsys, *flags, "--output", output)
    assert code == 1 and "record 'chain_of_reasoning-800-0-0' already takes" in error and "--skip_too_long" in error
    assert not output.exists()
    code, out, _ = run(capsys, *flags, "--output", output, "--skip_too_long")
    assert code == 0 and "3 records" in out and "skipped: 1\n  record 'chain_of_reasoning-800-0-0'" in out
    assert len(list(read_records(output))) == 3


def test_small_pool(tmp_path, capsys, records, tokenizer_folder):
    output = tmp_path / "out.jsonl"
    flags = ["compose", "--input", records, "--target_tokens", 10**6, "--tokenizer", tokenizer_folder, "--limit", 2]
    code, _, error = run(capsys, *flags, "--output", output)
    assert code == 1 and "tokens too small" in error and "--allow_short" in error
    assert run(capsys, *flags, "--output", output, "--allow_short")[0] == 0
    assert len(list(read_records(output))) == 2


def test_invalid_rows(tmp_path, capsys, records):
    with open(records, "a") as file:
        file.write('{"id": "bad", "question": 7, "answers": ["a"], "documents": []}\n')
    code, _, error = run(capsys, "inspect", "--input", records)
    assert code == 1 and "records.jsonl, row 13: field `question`" in error
    code, out, _ = run(capsys, "inspect", "--input", records, "--skip-invalid")
    assert code == 0 and "12 records" in out
    assert "skipped: 1\n" in out and "row 13: field `question` is 7" in out


def test_a_file_without_a_valid_row_is_told_about(tmp_path, capsys, tokenizer_folder):
    path, output = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"id": "a", "question": 7, "answers": ["a"], "documents": []}\n' * 2)
    code, out, _ = run(capsys, "inspect", "--input", path, "--format", "records", "--skip_invalid")
    assert code == 0 and "0 records in " in out and "evidence: 0 of 0 records" in out
    assert "skipped: 2\n" in out and "row 2: field `question` is 7" in out
    flags = ["--input", path, "--format", "records", "--target_tokens", 500, "--tokenizer", tokenizer_folder]
    code, _, error = run(capsys, "compose", *flags, "--output", output, "--skip_invalid")
    assert code == 1 and f"no records to write to {output}" in error


def test_duplicates_and_contamination_are_reported(tmp_path, capsys, records):
    examples = list(read_records(records))
    twin = tmp_path / "twin.jsonl"
    write_records([*examples, replace(examples[3], id="again")], twin)
    evaluation = tmp_path / "evaluation.jsonl"
    write_records(examples[:7], evaluation)
    code, out, _ = run(capsys, "inspect", "--input", twin, "--against", evaluation)
    assert code == 0
    assert f"duplicates: 1\n  again: same question and context as {examples[3].id!r}" in out
    assert f"contamination by {evaluation}: 8\n" in out and "and 3 more" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["inspect", "--input", "missing.jsonl"], "no file missing.jsonl"),
        (["synthesize", "--target_tokens", "300", "--output", "missing/x.jsonl"], "no folder"),
        (["synthesize", "--target_tokens", "300", "--output", "x.csv"], ".parquet"),
        (["synthesize", "--target_tokens", "10", "--output", "x.jsonl"], "ask for at least 100"),
        (["synthesize", "--target_tokens", "300", "--task", "needle", "--output", "x.jsonl"], "unknown task 'needle'"),
        (["synthesize", "--config", "missing.yaml"], "missing.yaml"),
        (["inspect", "--input", "x", "--tokenizer", "missing/folder/here"], "cannot load a tokenizer"),
    ],
)
def test_bad_values_give_one_line_and_code_1(tmp_path, capsys, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, *argv)
    assert code == 1 and message in error and error.startswith(f"qwenlong-trl data {argv[0]}: error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [[], ["compos"], ["inspect"], ["synthesize", "--target_tokens", "many", "--output", "x"], ["inspect", "--config"]],
)
def test_wrong_command_line_is_code_2(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2
    assert "usage: qwenlong-trl data" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compose", "synthesize", "inspect"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as error:
        main([command, "--help"])
    assert error.value.code == 0
    out = capsys.readouterr().out
    assert "--config recipe.yaml" in out and f"example:\n  qwenlong-trl data {command} --" in out
    assert "default: None" not in out
    assert main(["--help"]) == 0
    assert command in capsys.readouterr().out


def test_help_does_not_import_torch():
    code = (
        "import sys\nfrom qwenlong_trl.cli.data import main\n"
        "try: main(['compose', '--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
