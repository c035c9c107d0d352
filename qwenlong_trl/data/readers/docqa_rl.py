"""Rows of DocQA-RL-1.6K (training set of QwenLong-L1, arXiv 2505.17667, Table 3; verl's Parquet layout) as records.

A row has `prompt` (messages), `data_source`, `ability`, `reward_model.ground_truth` and `extra_info`. The prompt is
the paper's template (Table 1) already filled in, so the context and the question are taken out of it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..record import Document, InvalidRecordError, LongContextExample
from .fields import as_kind, take, unique


_FORMAT = re.compile(r"Format your (?:response|answer) as follows:")
_ABILITIES = {"doc-qa": "docqa", "doc-math": "docmath", "doc-mc": "multiple_choice"}
# In the order in which the paper's code tests `data_source`.
_SOURCES = {
    "long_toc_choices": "multiple_choice",
    "docmath": "docmath",
    "multihoprag": "docqa",
    "musique": "docqa",
}
_LETTER = re.compile(r"(?:The correct answer is\s*)?(?:\(([A-D])\)|([A-D]))\s*\.?")


def docqa_rl(value: Any, row: int) -> LongContextExample:
    """One DocQA-RL row. Its number is its id: nothing says that `extra_info.index` is unique. It marks no evidence."""
    source = take(value, "data_source", str)
    task = _task(take(value, "ability", str, default=""), source)
    context, question = _split_prompt(value)
    gold = take(value, "reward_model", Mapping).get("ground_truth")
    golds = gold if isinstance(gold, list) else [gold]
    return LongContextExample(
        id=f"docqa_rl/{row}",
        question=question,
        answers=unique(_answer(as_kind(gold, str, "reward_model.ground_truth"), task) for gold in golds),
        documents=(Document("", context),),
        task=task,
        source=f"docqa_rl/{source}",
    ).validate()


def _task(ability: str, source: str) -> str:
    if ability in _ABILITIES:
        return _ABILITIES[ability]
    for part, task in _SOURCES.items():
        if part in source:
            return task
    reason = f"tells no task: expected one of {', '.join(_ABILITIES)}, or a data_source with {' or '.join(_SOURCES)}"
    raise InvalidRecordError("ability", ability, f"{reason}, got data_source {source!r}")


def _split_prompt(value: Any) -> tuple[str, str]:
    """The context and the question of the filled-in template.

    A document may itself say `</text>`, and so may a question. The tag that ends the context is the last one, unless
    `extra_info.input_question` is known: then it is the last one that is followed by that question.
    """
    messages = take(value, "prompt", list)
    users = [i for i, message in enumerate(messages) if take(message, "role", str, f"prompt[{i}]") == "user"]
    if not users:
        raise InvalidRecordError("prompt", messages, "holds no message of the role user")
    field = f"prompt[{users[-1]}].content"
    content = take(messages[users[-1]], "content", str, f"prompt[{users[-1]}]")
    extra = take(value, "extra_info", Mapping, default={})
    known = take(extra, "input_question", str, "extra_info", default="").strip()
    start = content.find("<text>")
    closed = [match for match in re.finditer(r"</text>\s*" + re.escape(known), content) if match.start() > start >= 0]
    closed = closed or [match for match in re.finditer("</text>", content) if match.start() > start >= 0]
    if not closed:
        raise InvalidRecordError(field, content, "holds no context between <text> and </text>")
    # A known question may itself speak of the format: only what comes after it is cut off, at the last mention.
    mentions = [match.start() for match in _FORMAT.finditer(content, closed[-1].end())]
    question = content[closed[-1].start() + len("</text>") : mentions[-1] if mentions else len(content)]
    return content[start + len("<text>") : closed[-1].start()].strip(), question.strip()


def _answer(gold: str, task: str) -> str:
    """The answer in a gold sentence ("Therefore, the answer is X.", "The correct answer is (X)"), or a bare gold."""
    gold = gold.replace("*", "").strip()
    if task == "multiple_choice":
        match = _LETTER.fullmatch(gold)
        if match is None:
            raise InvalidRecordError(
                "reward_model.ground_truth", gold, 'expected "The correct answer is (X)", X from A to D'
            )
        return match[1] or match[2]
    answer = re.split(r"the answer is", gold, flags=re.IGNORECASE)[-1].strip().removesuffix(".").rstrip()
    if not answer:
        raise InvalidRecordError("reward_model.ground_truth", gold, 'expected "Therefore, the answer is X."')
    return answer
