"""What a critic is taught to be asked for: instructions with their tag word and the size of what they ask for.

The paper trains on several granularities with instructions of its own for each (section 2.3, table 4); its training
set is not public. The first instruction of each granularity is the paper's or its release's, the others are ours, so
that a critic learns to read the instruction rather than to expect one. The last of each has no tagging rule, as in
the paper's figure 9.
"""

from __future__ import annotations

from dataclasses import dataclass

from .configuration_cprs import QA_INSTRUCTION
from .prefix import NEEDLE_INSTRUCTION


@dataclass(frozen=True)
class Instruction:
    """An instruction `text`, the `tag` word of what it asks for, and the `granularity` of that."""

    text: str
    tag: str
    granularity: str


def _rule(text: str, tag: str, granularity: str, what: str) -> Instruction:
    return Instruction(f"{text}\n## tagging rule:\n- tag the {what} with '{tag}'", tag, granularity)


INSTRUCTIONS: dict[str, tuple[Instruction, ...]] = {
    "token": (
        _rule("Extract the keywords according the user's query", "key", "token", "keywords"),
        _rule(
            "Mark the words of the documents that answer the question, and nothing around them.",
            "answer",
            "token",
            "words",
        ),
        Instruction("Which names, dates or numbers in the documents answer the question?", "answer", "token"),
    ),
    "sentence": (
        Instruction(QA_INSTRUCTION, "fact", "sentence"),
        _rule(
            "Select the sentences of the documents that the question cannot be answered without.",
            "evidence",
            "sentence",
            "sentences",
        ),
        Instruction(
            "Extract some sentences from the documents as the supporting facts for answering the user's question.",
            "fact",
            "sentence",
        ),
    ),
    "paragraph": (
        _rule(
            "Retrieve chunks or paragraphs from the document that are related to the user's query.",
            "paragraph",
            "paragraph",
            "paragraphs",
        ),
        _rule(
            "Select whole paragraphs that hold something of use for the question.",
            "passage",
            "paragraph",
            "paragraphs",
        ),
        Instruction(
            "Extract the paragraphs or tables in the context that related to the query.", "paragraph", "paragraph"
        ),
    ),
}

NEEDLES = Instruction(NEEDLE_INSTRUCTION, "needle", "sentence")
