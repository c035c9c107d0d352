"""SQuAD files (SQuAD 1.1 and 2.0, COVID-QA, XQuAD and their like) as records, one per answerable question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..record import Document, Evidence, InvalidRecordError, LongContextExample
from .fields import merge, take, unique


# How far an answer may stand from its `answer_start` and still be taken for the one that was marked.
NEAR = 32


class SquadQuestion(NamedTuple):
    """One entry of `qas`, with the paragraph around it and its path inside the article."""

    title: str
    context: str
    question: Any
    where: str


def squad_questions(articles: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Yields `(article number, SquadQuestion)`, or the error in place of a malformed article or paragraph."""
    for row, article in articles:
        try:
            title = take(article, "title", str, default="")
            paragraphs = take(article, "paragraphs", list)
        except InvalidRecordError as error:
            yield row, error
            continue
        for i, paragraph in enumerate(paragraphs):
            where = f"paragraphs[{i}]"
            try:
                context, questions = take(paragraph, "context", str, where), take(paragraph, "qas", list, where)
            except InvalidRecordError as error:
                yield row, error
                continue
            for j, question in enumerate(questions):
                yield row, SquadQuestion(title, context, question, f"{where}.qas[{j}]")


def squad(value: SquadQuestion, row: int) -> LongContextExample | None:
    """One SQuAD question over its paragraph; `None` where `is_impossible` says that it has no answer."""
    title, context, question, where = value
    if take(question, "is_impossible", bool, where, default=False):
        return None
    answers, evidence = [], []
    for i, answer in enumerate(take(question, "answers", list, where)):
        field = f"{where}.answers[{i}]"
        text, start = take(answer, "text", str, field), take(answer, "answer_start", int, field)
        evidence.append(Evidence(0, *locate_answer(context, text, start, field)))
        answers.append(text.strip())
    if not answers:
        raise InvalidRecordError(f"{where}.answers", answers, "needs an answer, or is_impossible to be true")
    id = question.get("id")
    return LongContextExample(
        id=str(id) if isinstance(id, int) and not isinstance(id, bool) else take(question, "id", str, where),
        question=take(question, "question", str, where),
        answers=unique(answers),
        documents=(Document(title, context),),
        evidence=merge(evidence),
        source="squad",
    ).validate()


def locate_answer(context: str, text: str, start: int, field: str = "answers[0]") -> tuple[int, int]:
    """Characters `(start, end)` of an answer in its paragraph.

    White space around the answer never counts: COVID-QA has answers with a leading blank whose `answer_start` is that
    of the first letter. An answer that does not stand at `start` is repaired by one rule, in this order:

    1. the nearest exact occurrence within 32 characters of `start`, the earlier of two at the same distance;
    2. the nearest occurrence within 32 characters with other white space between its words;
    3. its only occurrence in the paragraph, exact or with other white space.

    Anything else would be a guess and raises [`InvalidRecordError`].
    """
    answer = text.strip()
    if not answer:
        raise InvalidRecordError(f"{field}.text", text, "must not be empty")
    if context.startswith(answer, start) and start >= 0:
        return start, start + len(answer)
    exact = [match.start() for match in re.finditer(f"(?={re.escape(answer)})", context)]
    spans = [(found, found + len(answer)) for found in exact]
    loose = [match.span() for match in re.finditer(r"\s+".join(map(re.escape, answer.split())), context)]
    for candidates in (spans, loose):
        near = [span for span in candidates if abs(span[0] - start) <= NEAR]
        if near:
            return min(near, key=lambda span: abs(span[0] - start))
    for candidates in (spans, loose):
        if len(candidates) == 1:
            return candidates[0]
    if loose:
        reason = f"`text` stands {len(loose)} times in the paragraph, none within {NEAR} characters of answer_start"
        raise InvalidRecordError(f"{field}.answer_start", start, reason)
    raise InvalidRecordError(f"{field}.text", text, f"does not stand in the paragraph (answer_start is {start})")
