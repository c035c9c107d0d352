"""The site builds without a warning, describes every public name and command, and loads nothing from outside."""

import inspect
import posixpath
import re
import subprocess
import sys
from importlib import import_module

import pytest
from code_blocks import REPOSITORY


pytest.importorskip("furo", reason="needs the extra docs")
pytest.importorskip("myst_parser", reason="needs the extra docs")
pytest.importorskip("sphinx", reason="needs the extra docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    ended = subprocess.run([*build, str(REPOSITORY / "docs"), str(folder / "html")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def described(site) -> set[str]:
    from sphinx.util.inventory import InventoryFile

    with open(site / "objects.inv", "rb") as file:
        inventory = InventoryFile.load(file, "", posixpath.join)
    return {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}


def test_every_public_name_is_described(described):
    from hf_docstrings import public_modules

    modules = public_modules()
    assert len(modules) > 10
    for module, names in modules.items():
        page = f"docs/api/{module.partition('.')[2] or 'index'}.md"
        missing = [name for name in names if f"{module}.{name}" not in described]
        assert not missing, f"{module}: {', '.join(missing)} are in __all__ and not in {page}"
        for name in names:
            value = getattr(import_module(module), name)
            if inspect.isclass(value):
                assert vars(value).get("__doc__"), f"{module}.{name} has no docstring of its own"
            elif callable(value):
                assert inspect.getdoc(value), f"{module}.{name} has no docstring"


def test_every_command_is_described(site):
    from qwenlong_trl.cli.main import COMMANDS

    text = (REPOSITORY / "docs" / "cli.md").read_text()
    shown = {words.split()[0] for words in re.findall(r"```\{command-help\} (.+)", text)}
    assert shown == set(COMMANDS)
    page = (site / "cli.html").read_text()
    assert page.count("usage:") > len(COMMANDS) and "--solo_alpha" in page


def test_links_between_docstrings_lead_somewhere(site):
    page = (site / "api" / "phased_grpo.html").read_text()
    assert 'href="#qwenlong_trl.phased_grpo.PhasedGRPOConfig"' in page
    assert "[<code" not in page, "a [`Name`] of a docstring was not read"


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']+["']""")
    for page in site.rglob("*.html"):
        assert not loads.findall(page.read_text()), page
