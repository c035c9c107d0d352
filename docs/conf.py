"""The documentation's build: `make docs` writes it to docs/_build/html. It loads nothing from the network."""

import sys
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

import qwenlong_trl  # noqa: E402


project = "qwenlong-trl"
author = "The qwenlong-trl contributors"
version = release = qwenlong_trl.__version__
project_copyright = "the qwenlong-trl contributors, Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "hf_docstrings",
    "command_help",
    "public_names",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say the types, in words where words say more
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "code"  # docstrings have single backticks for code, as TRL's

html_theme = "furo"
html_title = "qwenlong-trl"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_show_sphinx = False
html_copy_source = False
