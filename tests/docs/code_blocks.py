"""The fenced code blocks of a Markdown page, and what about them can be checked without running them."""

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt


REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "examples" / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
LANGUAGES = ("bash", "bibtex", "python", "text", "yaml")
_MARKER = re.compile(r"<!--\s*not run:(.*?)-->", re.DOTALL)

sys.path.insert(0, str(REPOSITORY / "docs" / "_ext"))  # what the site's build has, too


@dataclass(frozen=True)
class Block:
    """A block of a page; `reason` says why it is not run, and is `None` where it is."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{os.path.relpath(self.page, REPOSITORY)}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    """
    All blocks of a page in order, without the directives of the site (```` ```{toctree} ````), which its build checks.

    Raises:
        `ValueError`: for a marker that gives no reason or stands above no block.
    """
    blocks, marker = [], None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block" and (found := _MARKER.search(token.content)):
            marker = (found[1].strip(), token.map[0] + 1)
            if not marker[0]:
                raise ValueError(f"{page.name}:{marker[1]}: 'not run' without a reason")
            continue
        if token.type == "fence" and not token.info.startswith("{"):
            reason = marker[0] if marker else None
            blocks.append(Block(page, token.map[0] + 1, token.info.strip(), token.content, reason))
            marker = None
        elif marker is not None:
            raise ValueError(f"{page.name}:{marker[1]}: 'not run' must stand right above a code block")
    if marker is not None:
        raise ValueError(f"{page.name}:{marker[1]}: 'not run' stands above nothing")
    return blocks


def check_unrun(block: Block) -> None:
    """
    What can be known of a block that is not run: its syntax, and the options, targets and files that it names.

    Raises:
        `ValueError`: names the block and what is wrong with it.
    """
    if block.language == "python":
        ast.parse(block.text, str(block))
    if block.language != "bash":
        return
    syntax = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    if syntax.returncode:
        raise ValueError(f"{block}: {syntax.stderr}")
    for words in _commands(block.text):
        _check_command(block, words)


def _commands(text: str) -> list[list[str]]:
    """The commands of a script as words, each from its program on."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        words = []
        for word in [*lexer, ";"]:
            if word.strip("();<>|&"):
                words.append(word)
            elif word not in ("<", ">", ">>"):
                found += [words] if words else []
                words = []
    return [words[[*("=" in word for word in words), False].index(False) :] for words in found]


def _check_command(block: Block, words: list[str]) -> None:
    program, arguments = words[0] if words else "", words[1:]
    if program == "accelerate" and "qwenlong_trl.cli.main" in arguments:
        program, arguments = "qwenlong-trl", arguments[arguments.index("qwenlong_trl.cli.main") + 1 :]
    if program == "qwenlong-trl":
        known = set(re.findall(r"--[\w-]+", _help(*_subcommand(arguments)))) | {"--config"}
        known |= {option.replace("_", "-") for option in known}
        options = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        if unknown := sorted(options - known):
            raise ValueError(f"{block}: qwenlong-trl {arguments[0]} has no {', '.join(unknown)}")
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        if missing := [word for word in arguments if "=" not in word and word not in targets]:
            raise ValueError(f"{block}: the Makefile has no target {', '.join(missing)}")
    for word in arguments:
        if word.startswith("examples/") and not (REPOSITORY / word).exists():
            raise ValueError(f"{block}: there is no {word}")


def _subcommand(arguments: list[str]) -> list[str]:
    groups = {"data": ("compose", "synthesize", "inspect"), "loong": ("run", "judge", "report", "compare")}
    groups |= {"eval": ("report", "compare"), "hub": ("push", "card", "space")}
    two = arguments[1:2] if arguments[1:2] and arguments[1] in groups.get(arguments[0], ()) else []
    return [*arguments[:1], *two]


@cache
def _help(*words: str) -> str:
    from help_text import help_of

    return help_of([*words])
