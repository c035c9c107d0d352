"""Docstrings as Hugging Face writes them, in Markdown with [`Name`] for links, as what Sphinx reads."""

import re
from importlib import import_module
from pkgutil import iter_modules

import qwenlong_trl


_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_ITEM = re.compile(r"^\s*(-|\d+\.) ")
_HEADING = re.compile(r"^#+ (.+)$")
_LINK = re.compile(r"\[([^\]`]+)\]\((https?://[^)\s]+)\)")
_REFERENCE = re.compile(r"\[`(~?)([\w.]+)`\]")
_LITERAL = re.compile(r"``.+?``|(?<![`\w:])`[^`]+`(?![`<])")


def public_modules() -> dict[str, list[str]]:
    """Names of `__all__` by module: of the package, of its subpackages, and of the modules that stand beside them."""
    found = {"qwenlong_trl": [name for name in qwenlong_trl.__all__ if name != "__version__"]}
    for module in iter_modules(qwenlong_trl.__path__, "qwenlong_trl."):
        names = getattr(import_module(module.name), "__all__", None) if module.ispkg else None
        if names:
            found[module.name] = list(names)
    return found


def _paths() -> dict[str, str]:
    """The documented path of each public name."""
    modules = public_modules()
    top = {name: f"qwenlong_trl.{name}" for name in modules.pop("qwenlong_trl")}
    return top | {name: f"{module}.{name}" for module, names in modules.items() for name in names}


def to_rst(lines: list[str], paths: dict[str, str]) -> list[str]:
    """The lines of a docstring, without what would be read in another way than it was meant."""
    result, fence, previous = [], None, ""
    for line in lines:
        if match := _FENCE.match(line):
            if fence is None:
                fence = match[1]
                result += ["", f"{fence}.. code-block:: {_language(match[2])}", ""]
            else:
                fence = None
                result += [""]
            previous = ""
            continue
        if fence is not None:
            result.append(f"{fence}   {line[len(fence) :]}" if line.strip() else "")
            continue
        if match := _HEADING.match(line):
            line = f".. rubric:: {match[1]}"
        starts = _ITEM.match(line) and previous.strip() and not _ITEM.match(previous)
        if starts and _indent(line) <= _indent(previous) and not previous.rstrip().endswith(("Args:", "Raises:")):
            within = _indent(line) < _indent(previous)  # the item before goes on over several lines
            result += [] if within else [""]
        line = _LINK.sub(r"`\1 <\2>`__", line)
        result.append(_REFERENCE.sub(lambda match: _reference(match[2], paths), line))
        previous = line
    return result


def _language(name: str) -> str:
    return {"": "text", "txt": "text", "python": "pycon"}.get(name, name)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _reference(name: str, paths: dict[str, str]) -> str:
    last = name.rpartition(".")[2]
    if last in paths:
        return f":py:obj:`{last} <{paths[last]}>`"
    owner, _, attribute = name.rpartition(".")
    if (owner := owner.rpartition(".")[2]) in paths:
        return f":py:obj:`{owner}.{attribute} <{paths[owner]}.{attribute}>`"
    return f"`{last}`"


def setup(app):
    paths = _paths()

    def process(app, what, name, obj, options, lines):
        lines[:] = to_rst(lines, paths)

    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
