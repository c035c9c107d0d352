"""`{command-help} data compose`: what `qwenlong-trl data compose --help` prints, asked when the page is built."""

import contextlib
import io
import os
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import Directive

from qwenlong_trl.cli.main import main


def help_of(words: list[str]) -> str:
    """The help of a command, 100 characters wide."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS="100", NO_COLOR="1", PYTHON_COLORS="0"), contextlib.redirect_stdout(out):
        try:
            main([*words, "--help"])
        except SystemExit as stop:
            if stop.code:
                raise ValueError(f"qwenlong-trl {' '.join(words)} --help ended with {stop.code}") from None
    return out.getvalue().replace(os.path.expanduser("~"), "~").strip()


class CommandHelp(Directive):
    required_arguments = 0
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        words = self.arguments[0].split() if self.arguments else []
        text = help_of(words)
        return [nodes.literal_block(text, text, language="text")]


def setup(app):
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
