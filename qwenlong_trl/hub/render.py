"""From a template and values to a card, with `huggingface_hub`'s classes: the undefined is an error, text is data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.repocard_data import CardData, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id
from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

from ..loong.report_table import escape_inline


_CARDS = {"model": ModelCard, "dataset": DatasetCard}


def render_card(kind: str, template: str, metadata: CardData, values: Mapping[str, Any]) -> ModelCard | DatasetCard:
    """
    Args:
        kind (`str`):
            `"model"` or `"dataset"`.
        template (`str`):
            Name of a file in `templates`, without its ending.
        metadata (`CardData`):
            What stands in the front matter.
        values (`Mapping[str, Any]`):
            What the template asks for; all of it has to be there.
    """
    # It stands in code that people copy, so that it has to be a name and nothing else.
    where = values.get("repo_id")
    values = {**values, "repo_id": where if where and is_repo_id(where) else "owner/name"}
    try:
        body = _environment().get_template(f"{template}.md").render(**values)
    except UndefinedError as error:
        raise ValueError(f"the card cannot be made, since what it is made of lacks something: {error}") from None
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    # The body is data here: a card's text is not a template.
    return _CARDS[kind].from_template(metadata, template_str="---\n{{ card_data }}\n---\n\n{{ body }}\n", body=body)


def is_repo_id(name: str) -> bool:
    """Whether a text can be the name of a repository."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def number(value: float | int | None) -> str:
    """A measured number as cards show it: whole ones with commas, others with three decimals or three digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.3g}"


def cell(value: Any) -> str:
    """A value in a table: a number, or a text that Markdown takes for nothing but a text."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"  # a setting, such as a learning rate
    if value is None or isinstance(value, bool | int | float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(cell(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{escape_inline(str(name))} {cell(one)}" for name, one in value.items())
    return escape_inline(str(value))


def code(text: Any) -> str:
    """A text in backticks, of which it may have some."""
    text = " ".join(str(text).split())
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def json_cell(value: Any) -> str:
    """A setting in a table, as JSON. A template has lines, and may have the bar that ends a cell."""
    return code(json.dumps(value, ensure_ascii=False)).replace("|", "\\|")


def check_card(text: str, kind: str) -> None:
    """
    What can be said of a card's metadata without the Hub, by `huggingface_hub`'s own parser: that there are some, that
    they are what a card of this kind may have, and that results are the same when they are written and read again.

    Raises:
        `ValueError`: with what is wrong.
    """
    if not text.lstrip().startswith("---"):
        raise ValueError("the card has no metadata: it must begin with a line of three dashes")
    if kind == "space":
        return check_space_metadata(text)
    try:
        card = _CARDS[kind](text)
        if isinstance(card.data, ModelCardData) and card.data.eval_results:
            again = ModelCard(str(card)).data
            if again.to_dict() != card.data.to_dict():
                raise ValueError("the results are not the same when they are read again")
    except ValueError as error:
        raise ValueError(f"the card's metadata are not valid: {error}") from None
    except Exception as error:  # of the YAML parser, whose errors share no base with others
        if type(error).__module__.split(".")[0] != "yaml":
            raise
        raise ValueError(f"the card's metadata are not YAML: {' '.join(str(error).split())}") from None


def check_space_metadata(text: str) -> None:
    """The fields without which a Space does not start; raises `ValueError` that names what is missing."""
    from huggingface_hub import SpaceCard

    data = SpaceCard(text).data
    for name in ("title", "sdk", "app_file"):
        if not data.get(name):
            raise ValueError(f"the README of a Space needs `{name}` in its front matter")
    if data.sdk not in ("gradio", "docker", "static"):
        raise ValueError(f"the README's `sdk` must be gradio, docker or static, got {data.sdk!r}")


@cache
def _environment():
    environment = Environment(
        loader=PackageLoader("qwenlong_trl.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "cell": cell, "code": code, "tojson_cell": json_cell}
    return environment
