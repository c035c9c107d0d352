"""What all policies share: the protocol, the result, and the loop that keeps a result within its budget exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .records import LoongRecord


if TYPE_CHECKING:
    from .documents import LoongDocument

# Stands where text of a document is left out, in front of other text of it.
MARKER = "\n[...]\n"
END = "\n\n"  # of every document


@dataclass(frozen=True)
class Fitted:
    """
    Args:
        texts (`list[str]`):
            What is left of each document, in the order of the documents: its header line, text, and a blank line;
            `""` where nothing is left.
    """

    texts: list[str]


class Policy(Protocol):
    """How documents are made to fit a budget of tokens."""

    name: str

    def describe(self) -> dict[str, Any]:
        """The name and all that changes the result, for JSON."""

    def fit(
        self,
        record: LoongRecord,
        documents: Sequence[LoongDocument],
        rendered: Sequence[str],
        budget: int,
        count: Callable[[str], int],
    ) -> Fitted:
        """
        Makes the documents fit.

        Args:
            record ([`LoongRecord`]):
                Whose documents they are.
            documents (`list[LoongDocument]`):
                In the order of the prompt.
            rendered (`list[str]`):
                The whole text of each: header line, body, blank line.
            budget (`int`):
                Most tokens of the result: `count("".join(texts)) <= budget`. Below 1 nothing is left.
            count (`Callable`):
                Tokens of a text, without special tokens.
        """


def water_level(sizes: Sequence[int], budget: int) -> int:
    """The largest whole number that, as the limit of each of the sizes, keeps their sum within the budget."""
    left = budget
    for i, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - i)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def fit_to(
    make: Callable[[int], tuple[list[str], int]],
    rendered: Sequence[str],
    budget: int,
    count: Callable[[str], int],
) -> Fitted:
    """
    What `make` gives for a limit, and the tokens that this should have. What is joined may have more tokens than its
    parts: then the limit is lowered in proportion, below what was used, so that something has to go each time.
    """
    limit = budget
    while limit > 0:
        texts, used = make(limit)
        tokens = count("".join(texts))
        if tokens <= budget:
            return Fitted(texts)
        limit = min(used - 1, used * budget // tokens)
    return Fitted([""] * len(rendered))


def parts_of(document: LoongDocument, rendered: str) -> tuple[str, str]:
    """The header line, with its line feed, and the body without the blank line at the end."""
    head = document.header + "\n"
    if not rendered.startswith(head) or not rendered.endswith(END) or len(rendered) < len(head) + len(END):
        raise ValueError(f"the text of document {document.name!r} must be its header line, its text and a blank line")
    return head, rendered[len(head) : -len(END)]
