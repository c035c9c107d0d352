"""Rows of the seven sets that QwenLong-L1 is evaluated on (arXiv 2505.17667, Table 3), as records.

The rows and files are those that the authors' evaluation scripts read. The Hub repositories themselves,
`Tongyi-Zhiwen/docmath`, `Tongyi-Zhiwen/frames` and `Tongyi-Zhiwen/longbench`, could not be looked into when this was
written: that they hold these files with these fields is inferred from those scripts (names of files and fields), from
LongBench's and DocMath-Eval's own descriptions (ids, evidence) and is not verified; neither are the types of `Answer`
and `ground_truth`. A row of another shape is an error that names its file, row, field and value.

Each context is one document, joined as the authors join it, so that a prompt that is not cut is theirs to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..data.readers.fields import as_kind, merge, take, take_strings, unique
from ..data.record import Document, Evidence, InvalidRecordError, LongContextExample


# Public name: name in LongBench.
LONGBENCH_NAMES = {
    "2wiki": "2wikimqa",
    "hotpotqa": "hotpotqa",
    "musique": "musique",
    "narrativeqa": "narrativeqa",
    "qasper": "qasper",
}


def longbench_row(value: Any, row: int, name: str) -> LongContextExample:
    """A row of LongBench: `input` (the question), `context`, `answers`, `_id`. It marks no evidence."""
    answers = [answer for answer in take_strings(value, "answers") if answer.strip()]
    return LongContextExample(
        id=f"{name}/{take(value, '_id', str, default=str(row))}",
        question=take(value, "input", str),
        answers=unique(answers),
        documents=(Document("", take(value, "context", str)),),
        source=name,
    ).validate()


def frames_row(value: Any, row: int) -> LongContextExample:
    """A row of Frames: `Prompt` (the question), `Answer`, `wiki_items` of `title` and `text`; its number is its id."""
    parts = []
    for i, item in enumerate(take(value, "wiki_items", list)):
        item = as_kind(item, Mapping, f"wiki_items[{i}]")
        parts.append(f"{take(item, 'title', str, f'wiki_items[{i}]')}\n{take(item, 'text', str, f'wiki_items[{i}]')}")
    return LongContextExample(
        id=f"frames/{row}",
        question=take(value, "Prompt", str),
        answers=(_plain(value, "Answer"),),
        documents=(Document("", "\n".join(parts)),),
        source="frames",
    ).validate()


def docmath_row(value: Any, row: int, subset: str = "") -> LongContextExample:
    """A row of DocMath: `question`, `paragraphs`, `ground_truth`, `question_id`.

    The paragraphs that `table_evidence` and `paragraph_evidence` number, from 0, are the evidence, where they do.
    """
    paragraphs = take_strings(value, "paragraphs")
    starts = [0]
    for paragraph in paragraphs:
        starts.append(starts[-1] + len(paragraph) + 1)
    numbers = [
        number
        for name in ("table_evidence", "paragraph_evidence")
        for number in (value.get(name) if isinstance(value.get(name), list) else [])
        if isinstance(number, int) and 0 <= number < len(paragraphs) and paragraphs[number]
    ]
    spans = [Evidence(0, starts[n], starts[n] + len(paragraphs[n])) for n in unique(numbers)]
    name = "/".join(part for part in ("docmath", subset, take(value, "question_id", str, default=str(row))) if part)
    return LongContextExample(
        id=name,
        question=take(value, "question", str),
        answers=(_plain(value, "ground_truth"),),
        documents=(Document("", "\n".join(paragraphs)),),
        evidence=merge(spans),
        task="docmath",
        source="docmath",
    ).validate()


def docmath_prompt(value: Any, row: int) -> str:
    """A row of the file that says which questions of DocMath are evaluated: its `prompt[0].content`."""
    messages = take(value, "prompt", list)
    if not messages:
        raise InvalidRecordError("prompt", messages, "expected a list with one message")
    return take(messages[0], "content", str, "prompt[0]")


def in_prompts(example: LongContextExample, prompts: Iterable[str]) -> bool:
    """Whether one of the prompts asks the record's question over its context; this is how the authors choose."""
    question, context = example.question.strip(), example.documents[0].text.strip()
    return any(question in prompt and context in prompt for prompt in prompts)


def _plain(value: Any, name: str) -> str:
    """A text, a number or a truth value as text."""
    value = as_kind(value, Mapping, "<row>")
    found = value.get(name)
    if not isinstance(found, str | int | float):
        raise InvalidRecordError(name, found, "expected a text or a number")
    return str(found)
