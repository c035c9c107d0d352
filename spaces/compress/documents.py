"""What a person pasted or uploaded, as documents; and documents with what was kept of them, as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from qwenlong_trl.data import Document
from qwenlong_trl.data.prompts import render_document
from qwenlong_trl.spaces.limits import check_length, read_upload


MOST_CHARACTERS = 200_000
MOST_BYTES = 800_000  # of one file: four bytes for each of so many characters
MOST_DOCUMENTS = 64
SUFFIXES = (".txt", ".md")
_SEPARATOR = re.compile(r"^[ \t]*-{3,}[ \t]*$", re.MULTILINE)
_SHOWN = 60_000  # characters of unkept text that the page shows; a browser should not have to lay out a book


def read_documents(text: str, files: Sequence[str] | None = None) -> list[Document]:
    """
    Documents from a text box and from files, in this order.

    Args:
        text (`str`):
            Documents with lines of three or more dashes between them. A first line that begins with `# ` is a title.
        files (`Sequence[str]`, *optional*):
            Paths of uploads: each is one document, and its name the title.

    Raises:
        `ValueError`: there is no text, too much of it, or a file that cannot be read.
    """
    documents = [_titled(part) for part in _SEPARATOR.split(text) if part.strip()]
    for path in files or ():
        content = read_upload(path, SUFFIXES, MOST_BYTES)
        if content.strip():
            documents.append(Document(title=Path(path).name, text=content.strip()))
    if not documents:
        raise ValueError("There is no text yet: paste one, upload a file, or click an example below.")
    if len(documents) > MOST_DOCUMENTS:
        raise ValueError(f"There are {len(documents)} documents; this page takes up to {MOST_DOCUMENTS}.")
    check_length("The text", join(documents), MOST_CHARACTERS)
    return documents


def _titled(part: str) -> Document:
    part = part.strip()
    first, _, rest = part.partition("\n")
    if first.startswith("# ") and rest.strip():
        return Document(title=first[2:].strip(), text=rest.strip())
    return Document(title="", text=part)


def join(documents: Sequence[Document]) -> str:
    """Titles above texts, a blank line between documents: what the reader is given of the full context."""
    return "\n\n".join(map(render_document, documents))


def as_text(documents: Sequence[Document]) -> str:
    """The inverse of [`read_documents`], for examples."""
    return "\n---\n".join(f"# {d.title}\n{d.text}" if d.title else d.text for d in documents)


def highlighted(documents: Sequence[Document], spans: Sequence[dict]) -> str:
    """
    The documents as HTML with their kept spans marked, the stronger the higher the score, which stands behind each.

    Everything is escaped. Of very long contexts the documents without a kept span are left out, and counted.

    Args:
        documents (`Sequence[Document]`):
            As they were compressed.
        spans (`Sequence[dict]`):
            Of the pipeline's output: `start` and `end` in characters of the text of `document`, and `score`.
    """
    of: dict[int, list[dict]] = {}
    for span in spans:
        of.setdefault(span.get("document", 0), []).append(span)
    room, left_out, parts = _SHOWN, 0, []
    for i, document in enumerate(documents):
        if i not in of:
            room -= len(document.text)
            if room < 0:
                left_out += 1
                continue
        title = html.escape(document.title or (f"Document {i + 1}" if len(documents) > 1 else "Text"))
        kept = len(of.get(i, ()))
        note = f"{kept} part{'s' * (kept != 1)} kept" if kept else "nothing kept"
        body = _marked(document.text, of.get(i, []))
        parts.append(
            f'<section><h3>{title} <span class="quiet">{note}</span></h3><p class="text">{body}</p></section>'
        )
    if left_out:
        parts.append(f'<p class="quiet">{left_out:,} more documents, of which nothing was kept, are not shown.</p>')
    label = "The context with what was kept marked"
    return f'<div class="marked" role="region" aria-label="{label}" tabindex="0">{"".join(parts)}</div>'


def _marked(text: str, spans: Sequence[dict]) -> str:
    parts, at = [], 0
    for span in sorted(spans, key=lambda span: span["start"]):
        score = min(max(float(span["score"]), 0.0), 1.0)
        parts += [
            html.escape(text[at : span["start"]]),
            f'<mark style="--score: {score:.2f}">{html.escape(text[span["start"] : span["end"]])}'
            f'<sup aria-label="score {score:.2f}">{score:.2f}</sup></mark>',
        ]
        at = span["end"]
    return "".join([*parts, html.escape(text[at:])])


RULES = """
.marked { max-height: 560px; overflow-y: auto; padding: 0 12px; border: 1px solid var(--line); border-radius: 6px; }
.marked section { padding: 10px 0; border-bottom: 1px solid var(--line); }
.marked section:last-child { border-bottom: 0; }
.marked h3 { font-size: .95rem; font-weight: 650; margin: 0 0 2px; overflow-wrap: anywhere; }
.marked h3 span { font-weight: 400; }
.marked .text { line-height: 1.3; white-space: pre-wrap; overflow-wrap: anywhere; color: var(--muted); margin: 0;
  max-width: none; }
.marked mark { color: var(--ink); border-bottom: 2px solid var(--accent); border-radius: 2px; padding: 1px 2px;
  background: color-mix(in srgb, var(--accent) calc(8% + var(--score) * 26%), transparent);
  box-decoration-break: clone; -webkit-box-decoration-break: clone; }
.marked sup { font-size: .68em; margin-left: 3px; font-variant-numeric: tabular-nums; }
"""
