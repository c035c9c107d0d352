"""docs/hub.md, block by block, against the Hub of the tests."""

import json
import re
import shlex
from pathlib import Path

import pytest
from card_runs import evaluation_report
from huggingface_hub import HfApi
from solopo_rows import twins
from test_sets import records
from tiny import save_tiny, tiny_prompts

from qwenlong_trl.cli.main import main
from qwenlong_trl.data import write_records
from qwenlong_trl.solopo.pair_statistics import PairStatistics, describe_pairs, save_pairs


BLOCKS = re.compile(r"^```(python|bash)\n(.*?)^```", re.S | re.M)
DOC = Path(__file__).parents[2] / "docs" / "hub.md"


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_every_block_runs_as_it_is_printed(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.tokens["token-of-ns"] = "me"
    # What the reader of the page has: a base model, prompts, records, pairs, a Space, an evaluation.
    HfApi().create_repo("me/base")
    HfApi().upload_folder(repo_id="me/base", folder_path=save_tiny(tmp_path / "base"))
    prompts = tiny_prompts([50] * 8 + [90] * 8)
    prompts = prompts.add_column("answers", [["w1"]] * 16).add_column("task", ["docqa"] * 16)
    prompts.to_parquet("prompts.parquet")
    write_records(records(), "questions.parquet")
    save_pairs(twins(4), "pairs", describe_pairs(PairStatistics(), {}))
    Path("compress").mkdir()
    Path("compress/README.md").write_text("---\ntitle: Compress\nsdk: gradio\napp_file: app.py\n---\n")
    Path("compress/app.py").write_text("")
    Path("runs/synthetic").mkdir(parents=True)
    Path("runs/synthetic/report.json").write_text(json.dumps(evaluation_report()))

    blocks = BLOCKS.findall(DOC.read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    names: dict = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(DOC), "exec"), names)
            continue
        for line in block.replace("\\\n", " ").splitlines():
            program, *argv = shlex.split(line)
            assert program == "qwenlong-trl" and main(argv) == 0, line
    assert names["checkpoint"] == "reader-again/checkpoint-4" and names["records"] == records()
    tree = hub.store.tree("model", "me/reader", "v2")
    assert {"README.md", "model.safetensors", "qwenlong_run.json"} <= set(tree)
    card = Path("reader/README.md").read_text(encoding="utf-8")
    assert "at 16K tokens" in card and "interval_95" in card
