"""What a command prints for `--help`; for the site, and for the tests of the pages."""

import contextlib
import io
import os
from unittest import mock

from qwenlong_trl.cli.main import main


def help_of(words: list[str]) -> str:
    """The help of a command, 96 characters wide."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS="96", NO_COLOR="1", PYTHON_COLORS="0"), contextlib.redirect_stdout(out):
        try:
            main([*words, "--help"])
        except SystemExit as stop:
            if stop.code:
                raise ValueError(f"qwenlong-trl {' '.join(words)} --help ended with {stop.code}") from None
    return out.getvalue().replace(os.path.expanduser("~"), "~").strip()
