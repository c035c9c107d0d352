"""Rows of MuSiQue, HotpotQA and NQ-open as records: each function takes a parsed row and its number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..record import Document, Evidence, InvalidRecordError, LongContextExample
from .fields import as_kind, find_spans, merge, take, take_strings, unique, whole


def musique(value: Any, row: int) -> LongContextExample | None:
    """A MuSiQue question (arXiv 2108.00573).

    Evidence of a hop is its answer, wherever it stands in the hop's supporting paragraph, and the whole paragraph
    where it does not stand there in so many words (MuSiQue's answers were partly normalised) or where no hop names it.
    """
    if not take(value, "answerable", bool, default=True):
        return None
    documents, supporting, index_of = [], set(), {}
    for i, paragraph in enumerate(take(value, "paragraphs", list)):
        where = f"paragraphs[{i}]"
        documents.append(Document(take(paragraph, "title", str, where), take(paragraph, "paragraph_text", str, where)))
        idx = take(paragraph, "idx", int, where, default=i)
        if idx in index_of:
            raise InvalidRecordError(f"{where}.idx", idx, f"is already the idx of paragraphs[{index_of[idx]}]")
        index_of[idx] = i
        if take(paragraph, "is_supporting", bool, where, default=False):
            supporting.add(i)
    spans = []
    for i, hop in enumerate(take(value, "question_decomposition", list, default=[])):
        where = f"question_decomposition[{i}]"
        idx, answer = take(hop, "paragraph_support_idx", int, where), take(hop, "answer", str, where)
        if idx not in index_of:
            raise InvalidRecordError(f"{where}.paragraph_support_idx", idx, "expected the idx of one of `paragraphs`")
        supporting.add(index_of[idx])
        found = find_spans(documents[index_of[idx]].text, answer)
        spans += [Evidence(index_of[idx], start, end) for start, end in found]
    located = {span.document for span in spans}
    spans += [whole(documents, i) for i in supporting - located]
    return LongContextExample(
        id=take(value, "id", str),
        question=take(value, "question", str),
        answers=unique([take(value, "answer", str), *take_strings(value, "answer_aliases", default=[])]),
        documents=tuple(documents),
        evidence=merge(spans),
        source="musique",
    ).validate()


def hotpotqa(value: Any, row: int) -> LongContextExample:
    """A HotpotQA question (arXiv 1809.09600), distractor setting.

    A paragraph's text is its sentences put together as they are: they bring their own blanks, and some are cut inside
    a word or a quotation. Each supporting fact becomes the characters of its sentence, without the white space around
    it. A fact that names no paragraph or no sentence is an error; the published dev set holds one such row.
    """
    documents, sentence_spans, index_of = [], [], {}
    for i, paragraph in enumerate(take(value, "context", list)):
        field = f"context[{i}]"
        if len(as_kind(paragraph, list, field)) != 2:
            raise InvalidRecordError(field, paragraph, "expected [title, [sentence, ...]]")
        title, text, spans = as_kind(paragraph[0], str, f"{field}[0]"), "", []
        for j, sentence in enumerate(as_kind(paragraph[1], list, f"{field}[1]")):
            sentence = as_kind(sentence, str, f"{field}[1][{j}]")
            start = len(text) + len(sentence) - len(sentence.lstrip())
            spans.append((start, start + len(sentence.strip())))
            text += sentence
        documents.append(Document(title, text))
        sentence_spans.append(spans)
        index_of.setdefault(title, i)
    evidence = []
    for i, fact in enumerate(take(value, "supporting_facts", list)):
        field = f"supporting_facts[{i}]"
        if len(as_kind(fact, list, field)) != 2:
            raise InvalidRecordError(field, fact, "expected [title, sentence index]")
        title, sentence = as_kind(fact[0], str, f"{field}[0]"), as_kind(fact[1], int, f"{field}[1]")
        if title not in index_of:
            reason = (
                "names no paragraph of `context` (the fullwiki files miss gold paragraphs: use the distractor ones)"
            )
            raise InvalidRecordError(f"{field}[0]", title, reason)
        spans = sentence_spans[index_of[title]]
        if not 0 <= sentence < len(spans):
            raise InvalidRecordError(f"{field}[1]", sentence, f"expected the index of one of {len(spans)} sentences")
        start, end = spans[sentence]
        if start < end:  # a blank sentence shows nothing
            evidence.append(Evidence(index_of[title], start, end))
    return LongContextExample(
        id=take(value, "_id", str),
        question=take(value, "question", str),
        answers=(take(value, "answer", str),),
        documents=tuple(documents),
        evidence=merge(evidence),
        source="hotpotqa",
    ).validate()


def nq_open(value: Any, row: int) -> LongContextExample:
    """A Natural Questions row of Lost in the Middle (arXiv 2307.03172): `question`, `answers`, `ctxs`.

    Evidence is every answer wherever it stands in a gold passage, and the whole gold passage where none does. Rows
    have no id; their number in the file is used.
    """
    answers, documents, evidence = unique(take_strings(value, "answers")), [], []
    for i, passage in enumerate(take(value, "ctxs", list)):
        where = f"ctxs[{i}]"
        passage = as_kind(passage, Mapping, where)
        documents.append(Document(take(passage, "title", str, where, default=""), take(passage, "text", str, where)))
        if take(passage, "isgold", bool, where, default=False):
            found = [span for answer in answers for span in find_spans(documents[i].text, answer)]
            evidence += [Evidence(i, start, end) for start, end in found] or [whole(documents, i)]
    return LongContextExample(
        id=f"nq_open/{row}",
        question=take(value, "question", str),
        answers=answers,
        documents=tuple(documents),
        evidence=merge(evidence),
        source="nq_open",
    ).validate()
