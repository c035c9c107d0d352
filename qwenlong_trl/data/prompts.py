"""Prompts: the template of QwenLong-L1 (arXiv 2505.17667, Table 1) byte for byte, and how documents are joined."""

from __future__ import annotations

from .record import Document, LongContextExample


# Table 1 of the paper. `$DOC$` and `$Q$` are replaced by the context and the question, both stripped.
L1_TEMPLATE = (
    "Please read the following text and answer the question below.\n\n"
    "<text>\n$DOC$\n</text>\n\n"
    "$Q$\n\n"
    'Format your response as follows: "Therefore, the answer is (insert answer here)".'
)

# The paper's multiple-choice wording was not released; the scorer expects "The correct answer is (X)", so it is asked
# for.
L1_MULTIPLE_CHOICE_TEMPLATE = L1_TEMPLATE.replace(
    "Therefore, the answer is (insert answer here)", "The correct answer is (insert answer here)"
)


def render_document(document: Document) -> str:
    """`title\\ntext`, stripped; the text alone where there is no title (spec of the paper's Frames join)."""
    title, text = document.title.strip(), document.text.strip()
    return f"{title}\n{text}" if title else text


def render_context(documents: tuple[Document, ...] | list[Document]) -> str:
    """All documents in order, joined by one line feed."""
    return "\n".join(render_document(document) for document in documents)


def render_prompt(example: LongContextExample, template: str | None = None) -> str:
    """The user turn for a record.

    Args:
        example ([`LongContextExample`]):
            The record.
        template (`str`, *optional*):
            Text with one `$DOC$` and one `$Q$`. Defaults to [`L1_TEMPLATE`], and to [`L1_MULTIPLE_CHOICE_TEMPLATE`]
            for records whose task is `"multiple_choice"`.
    """
    if template is None:
        template = L1_MULTIPLE_CHOICE_TEMPLATE if example.task == "multiple_choice" else L1_TEMPLATE
    if template.count("$DOC$") != 1 or template.count("$Q$") != 1:
        raise ValueError(f"a prompt template needs exactly one $DOC$ and one $Q$, got: {template!r}")
    # Split instead of replace: a document that itself says "$Q$" must stay as it is.
    slots = {"$DOC$": render_context(example.documents).strip(), "$Q$": example.question.strip()}
    first, second = sorted(slots, key=template.index)
    head, rest = template.split(first)
    middle, tail = rest.split(second)
    return head + slots[first] + middle + slots[second] + tail
