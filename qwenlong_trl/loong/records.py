"""The records of Loong: a question over 2 to 54 documents with its gold answer, and the task that it belongs to.

```python
>>> from qwenlong_trl.loong import read_loong, select
>>> records = read_loong("loong.jsonl")
>>> len(records), len(select(records, sets=[1], domains=["financial"]))
(1600, 103)
```

Paper: Loong (arXiv 2406.17419), section 2.2 and Table 7. The data are `data/loong.jsonl` of the official repository.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..data import InvalidRecordError


TASKS = ("Spotlight Locating", "Comparison", "Clustering", "Chain of Reasoning")  # levels 1 to 4
SUBTASKS = (
    "Spotlight",
    *("Sequential Enumeration", "Extremum Acquisition", "Range Awareness"),
    *("Report Integration", "Citation&Reference", "Case Classification"),
    *("Temporal Analysis", "Citation Chain", "Link the Links", "Solitaire"),
)
DOMAINS = ("financial", "paper", "legal")
LANGUAGES = ("en", "zh")
SETS = {1: "10-50K", 2: "50-100K", 3: "100-200K", 4: "200-250K"}  # tokens, as the paper labels them

_BY_DOMAIN = {
    3: {"financial": "Report Integration", "paper": "Citation&Reference", "legal": "Case Classification"},
    4: {"financial": "Temporal Analysis", "paper": "Citation Chain"},
}
# What the question of "Link the Links" says before it lists the verdicts.
VERDICTS_FOLLOW = "我将给你若干份判决结果"
_RANGE = re.compile(r"以上所有判决文书中|这些判决文书中，哪几篇")
_EXTREMUM = re.compile("最高|最低|最多|最少|最大|最小|highest|lowest|largest|smallest")
_SEQUENCE = re.compile("按顺序|递增|递减|in order|ascending|descending|列举上述每个")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Levels of lists and objects in one another: those of the released answers have two.
_DEPTH = 20


@dataclass(frozen=True)
class LoongRecord:
    """
    One line of `loong.jsonl`; the fields have the names and the values of the file.

    Args:
        id (`str`):
            Unique.
        set (`int`):
            Length bucket 1 to 4, see `SETS`. A label: what a prompt takes in tokens may lie outside of it.
        level (`int`):
            Task 1 to 4, see `TASKS`.
        type (`str`):
            Domain: `"financial"`, `"paper"` or `"legal"`.
        language (`str`):
            `"en"` or `"zh"`.
        length (`int`):
            Tokens of the documents as the authors count them (cl100k); for papers not those that were released.
        question (`str`):
            Empty for the citation chains. Of "Link the Links" it lists the verdicts.
        instruction (`str`):
            How to answer.
        prompt_template (`str`):
            With `{docs}` and `{instruction}`, mostly also `{question}`.
        doc (`tuple[str, ...]`):
            Names of the documents. Their order tells the answer where `shuffle_doc` is true.
        answer (`str`, `list` or `dict`):
            Gold answer.
        shuffle_doc (`bool`):
            Whether the documents are to be shuffled.
    """

    id: str
    set: int
    level: int
    type: str
    language: str
    length: int
    question: str
    instruction: str
    prompt_template: str
    doc: tuple[str, ...]
    answer: str | list | dict
    shuffle_doc: bool

    @property
    def task(self) -> str:
        """One of `TASKS`."""
        return TASKS[self.level - 1]

    @property
    def subtask(self) -> str:
        """
        One of `SUBTASKS`, by a rule that gives the counts of the paper's Table 7 in every cell. The authors published
        no labels of single records, so those of level 2 are inferred.
        """
        if self.level == 1:
            return "Spotlight"
        if self.level == 2 and self.type == "legal":
            return "Range Awareness" if _RANGE.match(self.question) else "Sequential Enumeration"
        if self.level == 2:
            if _EXTREMUM.search(self.question):
                return "Extremum Acquisition"
            return "Sequential Enumeration" if _SEQUENCE.search(self.question) else "Range Awareness"
        if self.level == 4 and self.type == "legal":
            return "Link the Links" if VERDICTS_FOLLOW in self.question else "Solitaire"
        return _BY_DOMAIN[self.level][self.type]

    @property
    def document_set(self) -> str:
        """A key that records share which ask about exactly the same documents, in whatever order."""
        names = json.dumps([self.type, *sorted(self.doc)])
        return hashlib.blake2b(names.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As in the file."""
        return asdict(self) | {"doc": list(self.doc)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LoongRecord:
        """The inverse of [`~LoongRecord.to_dict`]; raises [`~qwenlong_trl.data.InvalidRecordError`]."""
        if not isinstance(row, Mapping):
            raise InvalidRecordError("<row>", row, "expected an object")
        for field in fields(cls):
            _check(field.name, row.get(field.name), field.name in row)
        values = {field.name: row[field.name] for field in fields(cls)}
        record = cls(**values | {"doc": tuple(row["doc"])})
        if record.level < 3 and record.type == "paper":
            raise InvalidRecordError("level", record.level, "papers have the levels 3 and 4")
        return record


def read_loong(path: str | Path) -> list[LoongRecord]:
    """
    The records of a `loong.jsonl`, in its order.

    Raises:
        [`~qwenlong_trl.data.InvalidRecordError`]: with file, row, field and value, for a line of another shape, or an
            id that stands there twice.
        `OSError`: the file cannot be read.
    """
    records: dict[str, LoongRecord] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = LoongRecord.from_dict(_parse(line))
                if record.id in records:
                    raise InvalidRecordError("id", record.id, "stands in an earlier row, too")
            except InvalidRecordError as error:
                raise error.at(str(path), number) from None
            records[record.id] = record
    if not records:
        raise ValueError(f"{path} holds no records")
    return list(records.values())


def select(
    records: Iterable[LoongRecord],
    sets: Sequence[int] | None = None,
    levels: Sequence[int] | None = None,
    domains: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[LoongRecord]:
    """
    The records of some sets, levels, domains and languages (`None`: of all), or a sample of them, in their order.

    The first records of the file are all about papers, so that a sample is drawn: as many records of each sub-task as
    of any other, as far as there are so many. It depends on the records and `seed` alone, and is part of every larger
    one.

    Args:
        records (`Iterable[LoongRecord]`):
            To select from.
        sets, levels, domains, languages (*optional*):
            Several values of each.
        limit (`int`, *optional*):
            At most so many records.
        seed (`int`, *optional*, defaults to `0`):
            Of the sample.

    Raises:
        `ValueError`: for a set, level, domain or language that there is not, and where no record is left.
    """
    for name, wanted, known in (
        ("set", sets, SETS),
        ("level", levels, range(1, 5)),
        ("domain", domains, DOMAINS),
        ("language", languages, LANGUAGES),
    ):
        for value in wanted or ():
            if value not in known:
                raise ValueError(f"no {name} {value!r} in Loong, expected some of {', '.join(map(str, known))}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    chosen = [
        record
        for record in records
        if (not sets or record.set in sets)
        and (not levels or record.level in levels)
        and (not domains or record.type in domains)
        and (not languages or record.language in languages)
    ]
    if not chosen:
        raise ValueError("no record is of all of these sets, levels, domains and languages")
    return chosen if limit is None else _sample(chosen, limit, seed)


def _sample(records: list[LoongRecord], limit: int, seed: int) -> list[LoongRecord]:
    """One record of each sub-task in turn, those of a sub-task in an order by digests."""

    def draw(record: LoongRecord) -> bytes:
        return hashlib.blake2b(f"{seed}/{record.id}".encode(), digest_size=8).digest()

    turns, seen = [], Counter[str]()
    for record in sorted(records, key=draw):
        turns.append((seen[record.subtask], SUBTASKS.index(record.subtask), record.id))
        seen[record.subtask] += 1
    ids = {id for _, _, id in sorted(turns)[:limit]}
    return [record for record in records if record.id in ids]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidRecordError("<row>", line[:80], f"is no JSON, or nested too deeply ({error})") from None


def _check(name: str, value: Any, there: bool) -> None:
    def expect(right: bool, reason: str) -> None:
        if not right:
            raise InvalidRecordError(name, value, reason)

    expect(there, "is missing")
    _check_texts(name, value)
    if name in ("set", "level", "length"):
        expect(isinstance(value, int) and not isinstance(value, bool), "expected a whole number")
        expect(name == "length" or 1 <= value <= 4, "expected 1, 2, 3 or 4")
    elif name == "type":
        expect(value in DOMAINS, f"expected one of {', '.join(DOMAINS)}")
    elif name == "language":
        expect(value in LANGUAGES, f"expected one of {', '.join(LANGUAGES)}")
    elif name == "doc":
        right = isinstance(value, list | tuple) and value and all(isinstance(one, str) and one for one in value)
        expect(bool(right), "expected a list of names")
    elif name == "answer":
        expect(isinstance(value, str | list | dict) and len(value) > 0, "expected a text, a list or an object")
    elif name == "shuffle_doc":
        expect(isinstance(value, bool), "expected true or false")
    else:
        expect(isinstance(value, str), "expected a text")
        expect(name not in ("id", "prompt_template") or value.strip() != "", "must not be empty")
        expect(name != "prompt_template" or "{docs}" in value, "needs {docs}")


def _check_texts(name: str, value: Any) -> None:
    """Nothing that no file can hold or no recursion can read, wherever in the value it stands."""
    level, depth = [value], 0
    while level:
        for text in level:
            if isinstance(text, str) and _SURROGATE.search(text):
                raise InvalidRecordError(name, text, "holds half a surrogate pair, which is no text")
        if depth > _DEPTH:  # the value may be too deep to be shown
            raise InvalidRecordError(name, reprlib.repr(value), f"is nested more than {_DEPTH} levels deep")
        inner = [(*one, *one.values()) if isinstance(one, Mapping) else one for one in level]
        level = [part for one in inner if isinstance(one, list | tuple) for part in one]
        depth += 1
