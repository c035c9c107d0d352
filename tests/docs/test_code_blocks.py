"""Every code block of the README and of the documentation runs as it is printed, or says why it does not.

The blocks of a page run in order in one folder (`reader_folder`): Python in one namespace, bash with `-euo pipefail`.
A YAML block begins with the name of its file, which a later block of the page reads.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from code_blocks import LANGUAGES, PAGES, Block, check_unrun, read_blocks
from command_server import CommandServer


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    from reader_folder import make_folder

    folder = tmp_path_factory.mktemp("reader")
    make_folder(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
            patch.setenv(name, str(folder / name))
        for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"):
            patch.setenv(name, "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(PAGES[0].parent), os.environ.get("PYTHONPATH", "")]))
        with CommandServer(folder) as running:
            yield running


def page_id(page: Path) -> str:
    return str(page.relative_to(PAGES[0].parent))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_blocks_are_marked(page):
    for block in read_blocks(page):
        assert block.language in LANGUAGES, f"{block}: unknown language {block.language!r}; one of {LANGUAGES}"
        assert block.reason is None or block.language in ("bash", "python"), f"{block}: only code needs a marker"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_blocks_that_are_not_run(page):
    for block in read_blocks(page):
        if block.reason is not None:
            check_unrun(block)


# docs/hub.md needs a Hub and is run by tests/hub/test_hub_doc.py.
WITH_BLOCKS = [page for page in PAGES if "```" in page.read_text() and page.name != "hub.md"]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=page_id)
def test_blocks_run(page, original, server, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    shutil.copytree(original, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__main__"}
    blocks = read_blocks(page)
    for i, block in enumerate(blocks):
        if block.reason is None:
            _run(block, blocks[i + 1 :], namespace, server)


def _run(block: Block, later: list[Block], namespace: dict, server: CommandServer) -> None:
    if block.language == "python":
        exec(compile("\n" * block.line + block.text, str(block.page), "exec"), namespace)
    elif block.language == "bash":
        script = ["bash", "-euo", "pipefail", "-c", block.text]
        ended = subprocess.run(script, env=server.environment, capture_output=True, text=True, timeout=280)
        assert ended.returncode == 0, f"{block} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    elif block.language == "yaml":
        first = block.text.splitlines()[0]
        name = re.fullmatch(r"# ([\w.-]+\.yaml)\b.*", first)
        assert name, f"{block}: begin a YAML block with the name of its file, such as '# recipe.yaml', not {first!r}"
        assert any(name[1] in one.text for one in later if one.language in ("bash", "python")), f"{block}: unused"
        Path(name[1]).write_text(block.text, encoding="utf-8")
    elif block.language == "bibtex":
        assert re.fullmatch(r"(@\w+\{[\w-]+,\n(  \w+ += \{.+\},?\n)+\}\n*)+", block.text), f"{block}: not an entry"
