"""Where a text tells its answer: one that compares first is told from one that leaves open what it means.

```python
>>> from qwenlong_trl.loong.statements import states
>>> read = re.compile("Oslo|Rome").findall
>>> [states(text, "Where?", read, "Oslo".__eq__) for text in ("Rome is far. So it is Oslo.", "Oslo or Rome")]
[True, False]
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

from .structures import find_list


_ANSWER_FOLLOWS = re.compile(r"\banswer(?:\s+is|\s*[:=])|答案\s*(?:是|为|:)|\\boxed\s*\{", re.IGNORECASE)
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_CLAUSE = re.compile(
    r"[!?。;\n|]|\.(?=\s|$)"
    r"|,?\s?\b(?:followed by|compared (?:to|with)|while|whereas|versus|vs|than|(?:up|down) from|based on|divided by)\b"
    r"|其次|相比|高于|低于|,\s?(?=not\b|而)",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(r"\b(?:therefore|thus|hence|so|in conclusion)\b|因此|所以|综上|故", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|neither|nor|cannot)\b|n['’]t\b|不是|并非|不为|不属于|不在|无法|不能", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|might|alternatively|could|unsure|uncertain)\b|或|可能|也许|不确定", re.IGNORECASE
)
_STOP_WORDS = frozenset(
    "a an and are as be by company for has have how in is its list many of on or the to was what which".split()
)
# What questions say beside what they ask for.
_PHRASES = re.compile("请回答|请问|的?公司|是?哪一个|是?多少|的?数量|的?名称")


def states(text: str, question: str, read: Callable[[str], list[Hashable]], right: Callable[[Hashable], bool]) -> bool:
    """
    Whether a text says the right thing, and no other, where it tells its answer: after "the answer is", in bold type,
    in the clauses that take up the question or conclude, or anywhere.
    """
    clauses = [clause for clause in _CLAUSE.split(text) if not _NEGATION.search(clause)]
    telling = _telling(clauses, question)
    concluding = [clause for clause in clauses if _CONCLUSION.search(clause)]
    joined = ("\n".join(one) for one in (_BOLD.findall(text), telling, concluding, clauses))
    stages = [_line_of_answer(text), *joined]
    for position, stage in enumerate(stages):
        found = read(stage)
        if found and all(map(right, found)):
            break
        # One thing, but a wrong one; or several after "the answer is".
        if found and (position == 0 or (position > 1 and len(set(found)) == 1)):
            return False
    else:
        return False
    return not any(_HEDGE.search(one) and not all(map(right, read(one))) for one in clauses)


def after_answer(text: str) -> str:
    r"""The text after the last "the answer is", "答案是" or `\\boxed{`; empty without any."""
    marks = list(_ANSWER_FOLLOWS.finditer(text))
    return text[marks[-1].end() :] if marks else ""


def _line_of_answer(text: str) -> str:
    lines = after_answer(text).lstrip(" \t\n*:#").splitlines()
    return _CLAUSE.split(lines[0].partition("}")[0])[0] if lines else ""


def _telling(clauses: Sequence[str], question: str) -> list[str]:
    """The clauses that share the most words with the question, where they share half of its words."""
    asked = _terms(question)
    shared = [len(asked & _terms(clause)) for clause in clauses]
    most = max(shared, default=0)
    return [clause for clause, count in zip(clauses, shared, strict=True) if count == most and 2 * most >= len(asked)]


def _terms(text: str) -> set[str]:
    words = re.findall(r"[a-z][a-z']*|[\ue000-\uf8ff]", text.lower())
    chinese = re.findall("[\u4e00-\u9fff]{2,}", _PHRASES.sub(" ", text))
    pairs = (run[i : i + 2] for run in chinese for i in range(len(run) - 1))
    return {word for word in words if word not in _STOP_WORDS} | set(pairs)


def named(text: str, read: Callable[[str], list[Hashable]]) -> list[Hashable]:
    """The names of the last list; of the text after "the answer is"; of all that is not negated."""
    listed = find_list(text)
    if listed is not None and (found := read("\n".join(listed))):
        return found
    if found := read(after_answer(text)):
        return found
    return read("\n".join(part for part in re.split(r"[。;\n]|\.(?=\s|$)", text) if not _NEGATION.search(part)))
