"""What a type of thing is, and what can be stated of it.

Every sentence pattern has one `{s}` (the subject: the name, or "the company") and one `{v}` (the value), so that the
facts can be read back from the text. An attribute's `noun` is unique over all types: "the population of Lake Obo".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """One thing that can be stated of an entity: a number, one of a few values, or a link to another entity.

    Args:
        noun (`str`): Completes "the ... of X".
        sentences (`tuple[str, ...]`): Patterns that state it.
        question (`str`): Asks for it, with `{e}` for the entity.
        low (`int`), high (`int`): Range of a number.
        superlatives (`tuple[str, str]`): Words for the largest and the smallest number.
        values (`tuple[str, ...]`): What a category can be.
        member (`str`): Completes "the companies that ...", with `{v}` for the category.
        target (`str`): The type that a link leads to.
        phrase (`str`): Names the entity that a link leads to, with `{e}` for where it starts.
    """

    noun: str
    sentences: tuple[str, ...]
    question: str
    low: int = 0
    high: int = 0
    superlatives: tuple[str, str] = ("greatest", "smallest")
    values: tuple[str, ...] = ()
    member: str = ""
    target: str = ""
    phrase: str = ""

    @property
    def kind(self) -> str:
        """`"number"`, `"category"` or `"link"`."""
        return "link" if self.target else "category" if self.values else "number"

    def show(self, value: int | str) -> str:
        """The value as it stands in a text: years plainly, other numbers with thousands separators."""
        return value if isinstance(value, str) else str(value) if self.noun.endswith("year") else f"{value:,}"


@dataclass(frozen=True)
class EntityType:
    """A type of thing. Its names are an invented word and one of `affixes`, or two invented words."""

    noun: str
    plural: str
    affixes: tuple[str, ...]
    affix_first: bool
    attributes: tuple[Attribute, ...]

    def of_kind(self, kind: str) -> list[Attribute]:
        """The attributes of one kind."""
        return [attribute for attribute in self.attributes if attribute.kind == kind]


def year_attribute(
    noun: str, sentences: tuple[str, ...], question: str, low: int = 1790, high: int = 2019
) -> Attribute:
    """A number that is a year: shown without separators, and the latest or earliest rather than the greatest."""
    return Attribute(noun, sentences, question, low, high, superlatives=("latest", "earliest"))
