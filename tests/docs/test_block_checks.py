"""The checks of the pages' blocks find what they are there to find."""

import pytest
from code_blocks import Block, check_unrun, read_blocks


def blocks_of(tmp_path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return read_blocks(page)


def test_blocks_in_order_with_their_markers(tmp_path):
    first, second, third = blocks_of(
        tmp_path,
        "```bash\na\n```\n\n```{toctree}\nx\n```\n\n<!-- not run: needs\na GPU -->\n```python\nb\n```\n\n- item\n\n"
        "  ```yaml\n  c: 1\n  ```\n",
    )
    assert (first.language, first.text, first.line, first.reason) == ("bash", "a\n", 1, None)
    assert (second.language, second.line, second.reason) == ("python", 11, "needs\na GPU")
    assert (third.language, third.text, third.reason) == ("yaml", "c: 1\n", None)


@pytest.mark.parametrize(
    "text, error",
    [
        ("<!-- not run: -->\n```bash\na\n```\n", "without a reason"),
        ("<!-- not run: slow -->\n\ntext\n\n```bash\na\n```\n", "right above"),
        ("text\n\n<!-- not run: slow -->\n", "above nothing"),
    ],
)
def test_markers_that_say_nothing(tmp_path, text, error):
    with pytest.raises(ValueError, match=error):
        blocks_of(tmp_path, text)


@pytest.mark.parametrize(
    "text, error",
    [
        ("if true; then", "syntax error"),
        ("qwenlong-trl data inspect --input a --nope 1", "data has no --nope"),
        ("A=1 qwenlong-trl data compose --input a \\\n    --target-tokens 1 --budget 2", "data has no --budget"),
        ("cat a | qwenlong-trl loong judge runs/a --sets 1 > out", "loong has no --sets"),
        ("make tests", "no target tests"),
        ("python examples/nothing.py", "there is no examples/nothing.py"),
    ],
)
def test_commands_that_cannot_work(tmp_path, text, error):
    (block,) = blocks_of(tmp_path, f"<!-- not run: slow -->\n```bash\n{text}\n```\n")
    with pytest.raises(ValueError, match=error):
        check_unrun(block)


def test_commands_that_can(tmp_path):
    text = "qwenlong-trl data inspect --input a --show 2  # --not-this\nmake test ARGS='-k resume'\npip install -e ."
    (block,) = blocks_of(tmp_path, f"<!-- not run: slow -->\n```bash\n{text}\n```\n")
    check_unrun(block)


def test_python_that_is_none(tmp_path):
    (block,) = blocks_of(tmp_path, "<!-- not run: slow -->\n```python\nprint(\n```\n")
    with pytest.raises(SyntaxError):
        check_unrun(block)
