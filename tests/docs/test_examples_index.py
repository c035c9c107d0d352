"""The index of the examples names every file, with the command that its first lines have."""

import ast
import re

import pytest
from code_blocks import REPOSITORY


EXAMPLES = REPOSITORY / "examples"
INDEX = (EXAMPLES / "README.md").read_text(encoding="utf-8")
FILES = sorted(
    path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.*") if "__pycache__" not in path.parts
)
NOT_SCRIPTS = ("README.md", "benchmarks/small_models.py")


@pytest.mark.parametrize("name", [name for name in FILES if name not in NOT_SCRIPTS])
def test_every_file_is_listed(name):
    assert f"]({name})" in INDEX
    if name.endswith(".py"):
        assert f"python examples/{name}" in ast.get_docstring(ast.parse((EXAMPLES / name).read_text()))
        assert f"`python examples/{name}" in INDEX


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", INDEX):
        assert (EXAMPLES / target).exists(), target


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("recipes/")])
def test_a_recipe_begins_with_its_command(name):
    head = (EXAMPLES / name).read_text().split("\n\n")[0]
    assert re.search(rf"^# +qwenlong-trl [\w-]+ --config examples/{re.escape(name)}", head, re.MULTILINE)
