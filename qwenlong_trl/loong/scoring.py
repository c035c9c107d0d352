"""The structured score: a deterministic look at an answer to Loong beside its judge, for all but free text.

```python
>>> from qwenlong_trl.loong.scoring import structured_score
>>> structured_score(record, "The company with the highest cash is **Harte Hanks**.")
StructuredScore(score=100.0, exact=True, kind='name')
```

It is no score of Loong (arXiv 2406.17419), whose "Avg Score" and "Perfect Rate" are what a judge model gives. What
is compared follows from the form of the gold answer:

| kind | records | score |
|---|---|---|
| `number` | financial level 1, counts of level 2 | 100 for the amount |
| `name` | financial level 1 and extrema of level 2 | 100 for the one company |
| `set` | legal level 1; financial and legal ranges of level 2 | F1 of the names |
| `sequence` | enumerations of level 2 | longest common subsequence over the longer of the two |
| `groups` | level 3 | F1 of the pairs of group and item |
| `chain` | paper level 4 | as `sequence` |
| `mapping` | legal level 4 | right keys over all keys of both, as a key too many counts as well |

An answer that leaves open which of several amounts or companies it means scores 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..data import InvalidRecordError
from ..rewards.answers import fold, normalize_answer, text_after_reasoning
from .mentions import MARK, find_amounts, find_counts, find_entries, mark_companies
from .records import LoongRecord
from .statements import after_answer, named, states
from .structures import Pairs, find_list, find_object, groups_in_lines, leaves, plain_text, titles_in_lines


# The longest gold answers take under 10,000 characters; of a text that goes on and on, the end is read.
LONGEST_ANSWER = 100_000
_MOST_PAIRS = 1000

_PAPER_GROUPS = {"refernce": "reference", "refernces": "reference", "references": "reference", "citations": "citation"}
_NOTHING = frozenset({"", "none", "null", "na", "无", "empty", "暂无", "没有"})
_CASE = re.compile(r"判决文书\s{0,3}[《<]?\s{0,3}(\d{1,4})(?!\d)")
_VERDICT = re.compile(r"判决结果\s{0,3}(\d{1,4})(?!\d)")

# Of letters beyond ASCII: an escaped quote or line feed belongs to its JSON string.
_ESCAPED = re.compile(r"\\u((?!00|[dD][89a-fA-F])[0-9a-fA-F]{4})")


@dataclass(frozen=True)
class StructuredScore:
    """
    The verdict on one prediction.

    Args:
        score (`float`):
            From 0 to 100.
        exact (`bool`):
            Whether the whole answer is right, and so the score 100.
        kind (`str`):
            `"number"`, `"name"`, `"set"`, `"sequence"`, `"groups"`, `"chain"` or `"mapping"`.
    """

    score: float
    exact: bool
    kind: str


def structured_score(record: LoongRecord, prediction: str) -> StructuredScore | None:
    """
    How much of a gold answer a prediction gives, or `None` where that is free text (financial level 4).

    The reasoning up to `</think>` is left out, and an answer that never leaves it scores 0. The last object or list of
    the text counts, as JSON or in Python's way, where there is one; else its lines and sentences are read. Names,
    titles and groups are compared by their letters and digits in lower case.

    Args:
        record ([`LoongRecord`]):
            With its gold answer.
        prediction (`str`):
            What the model wrote.

    Raises:
        [`~qwenlong_trl.data.InvalidRecordError`]: the gold answer has not the form that the task has in Loong.
    """
    if record.type == "financial" and record.level == 4:
        return None
    kind = _kind(record)
    text = fold(_unescaped((text_after_reasoning(prediction) or "")[-LONGEST_ANSWER:]))
    score = _SCORERS[kind](record, _marked(record, text)) if text.strip() else 0.0
    return StructuredScore(score, score == 100.0, kind)


def _kind(record: LoongRecord) -> str:
    is_text = record.level < 3 and not (record.type == "financial" and record.level == 2)
    forms = str if is_text else str | list if record.level < 3 else dict if record.type != "paper" else list
    answer = _groups(record) if record.level == 3 else record.answer
    if not isinstance(answer, dict if record.level == 3 else forms):
        raise InvalidRecordError("answer", record.answer, f"has not the form of {record.type} level {record.level}")
    if record.level == 4:
        return "chain" if record.type == "paper" else "mapping"
    if record.level == 3:
        return "groups"
    if record.type == "legal":
        return "sequence" if record.subtask == "Sequential Enumeration" else "set"
    if record.subtask == "Sequential Enumeration":
        return "sequence"
    if isinstance(record.answer, list):
        return "set"
    names = _companies(_gold(record))
    if record.subtask == "Spotlight":
        return "name" if names and not find_amounts(_gold(record)) else "number"
    if record.subtask == "Extremum Acquisition" or "哪一个" in record.question:
        return "name"
    return "set" if names else "number"


def _groups(record: LoongRecord) -> Any:
    if not isinstance(record.answer, str):
        return record.answer
    try:  # one gold answer is an object in a text
        return json.loads(record.answer)
    except ValueError:
        return None


def _gold(record: LoongRecord) -> str:
    answer = record.answer
    text = answer if isinstance(answer, str) else "\n".join(leaves(answer))
    return _marked(record, fold(text))


def _unescaped(text: str) -> str:
    r"""A text that was written as one JSON string is that string; \\u5224 is 判 anywhere."""
    if text.strip()[:1] == '"' == text.strip()[-1:]:
        try:
            text = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            pass
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), text)


def _marked(record: LoongRecord, text: str) -> str:
    return mark_companies(text, record.doc) if record.type == "financial" else MARK.sub("", text)


def _companies(text: str) -> list[Hashable]:
    return MARK.findall(text)


def _cases(text: str) -> list[Hashable]:
    return [int(number) for number in _CASE.findall(text)]


# --- One amount, one company ---


def _score_name(record: LoongRecord, text: str) -> float:
    gold = set(_companies(_gold(record)))
    if not gold:
        return 100.0 if normalize_answer(text) == normalize_answer(_gold(record)) else 0.0
    question = _marked(record, fold(record.question))
    return 100.0 if states(text, question, _companies, lambda name: name in gold and len(gold) == 1) else 0.0


def _score_number(record: LoongRecord, text: str) -> float:
    counted = record.level == 2
    gold_text = _gold(record)
    gold = find_counts(gold_text) if counted else [amount for _, amount in find_amounts(gold_text)]
    if len(gold) != 1:
        return 100.0 if normalize_answer(text) == normalize_answer(gold_text) else 0.0
    question = _marked(record, fold(record.question))
    asked = [amount for _, amount in find_amounts(question)]

    def read(clause: str) -> list[Hashable]:
        found = find_counts(clause) if counted else [amount for _, amount in find_amounts(clause)]
        return [one for one in found if one.equals(gold[0]) or all(one.value != other.value for other in asked)]

    return 100.0 if states(text, question, read, lambda amount: amount.equals(gold[0])) else 0.0


# --- Several, in any order or in order ---


def _score_set(record: LoongRecord, text: str) -> float:
    read = _cases if record.type == "legal" else _companies
    gold = set(read(_gold(record)))
    return _f1(gold, set(named(text, read)))


def _score_sequence(record: LoongRecord, text: str) -> float:
    if record.type == "legal":
        return _common(_cases(_gold(record)), _last_run(named(text, _cases), lambda case: case))
    gold = find_entries(_gold(record))
    found = find_entries(after_answer(text)) or find_entries(text)
    if not any(name for name, _ in gold):
        # The gold answer is amounts alone; a prediction may name the companies as well.
        amounts = [amount for _, amount in found if amount is not None]
        return _common([amount for _, amount in gold], amounts, lambda left, right: right.equals(left))
    found = _last_run([entry for entry in found if entry[0] is not None], lambda entry: entry[0])

    def same(left: tuple, right: tuple) -> bool:
        return left[0] == right[0] and (left[1] is None or (right[1] is not None and right[1].equals(left[1])))

    return _common(gold, found, same)


def _last_run(found: Sequence, key: Callable) -> list:
    """The longest stretch in which nothing comes twice, the last of equally long ones: the enumeration itself."""
    best: list = []
    run: list = []
    seen: set = set()
    for one in found:
        if key(one) in seen:
            run, seen = [], set()
        run.append(one)
        seen.add(key(one))
        if len(run) >= len(best):
            best = run
    return best


def _score_chain(record: LoongRecord, text: str) -> float:
    found = find_list(text)
    titles = [plain_text(title) for title in found] if found else titles_in_lines(text)
    # The title of one paper was lost: "" in the gold chain. Whatever stands in its place is right.
    return _common([plain_text(title) for title in record.answer], titles, lambda left, right: left in ("", right))


# --- Groups and mappings ---


def _score_groups(record: LoongRecord, text: str) -> float:
    answer = _groups(record)
    names = {plain_text(name): plain_text(name) for name in answer}
    for name in answer:  # "high assets (over $10,000,000)"
        names.setdefault(plain_text(_without_gloss(name)), plain_text(name))
    gold = _pairs(record, names, answer.items(), lambda item: _marked(record, fold(item)))

    def group_of(name: str) -> str | None:
        group = _group(name, names)
        return group if group in names.values() else None

    found = find_object(text, lambda key: group_of(key) is not None)
    if found is None:
        found = groups_in_lines(text, group_of)
    if not gold:
        return 100.0 if found and not _pairs(record, names, found, str) else 0.0
    return _f1(gold, _pairs(record, names, found, str))


def _pairs(record: LoongRecord, names: dict, groups: Iterable, mark: Callable[[str], str]) -> set[Hashable]:
    read = {"financial": _companies, "legal": _cases}.get(record.type)
    pairs: set[Hashable] = set()
    for name, value in groups:
        group = _group(name, names)
        for item in leaves(Pairs([("", value)]) if isinstance(value, str) else value):
            item = mark(item)
            found = read(item) if read else []
            if not found and (title := plain_text(item)) not in _NOTHING:
                found = [title]
            pairs.update((group, one) for one in found)
    return pairs


def _without_gloss(name: str) -> str:
    return re.split(r"\s?[(:]", fold(name).strip("*# "))[0]


def _group(name: str, names: dict[str, str]) -> str:
    """The gold group that a name means, with or without its gloss and in the prompt's spelling; else the name."""
    forms = plain_text(name), plain_text(_without_gloss(name))
    known = (names.get(form) or names.get(_PAPER_GROUPS.get(form, form)) for form in forms)
    return next(filter(None, known), forms[0])


def _score_mapping(record: LoongRecord, text: str) -> float:
    is_link = all(_CASE.search(key) for key in record.answer)
    value_of = _VERDICT if is_link else _CASE

    def key_of(key: str) -> Hashable:
        match = _CASE.search(fold(key)) if is_link else None
        return int(match.group(1)) if match else plain_text(key)

    def read(pairs: Iterable) -> dict[Hashable, set[Hashable]]:
        values: dict[Hashable, set[Hashable]] = {}
        for key, value in pairs:
            said = "\n".join(leaves(Pairs([("", value)])))
            bare = re.fullmatch(r"\s*(\d{1,4})\s*", said, re.ASCII)
            numbers = bare.groups() if bare else value_of.findall(fold(said))
            values.setdefault(key_of(key), set()).update(map(int, numbers) if numbers else [plain_text(said)])
        return values

    gold = read(record.answer.items())
    found = find_object(text, lambda key: key_of(key) in gold)
    values = read(_mapping_in_text(text, gold, value_of, is_link) if found is None else found)
    right = sum(values.get(key) == value for key, value in gold.items())
    return 100.0 * right / len(gold.keys() | values.keys())


def _mapping_in_text(text: str, gold: dict, value_of: re.Pattern, is_link: bool) -> Pairs:
    """The pairs of prose: each value belongs to the key that stands last before it."""
    pairs = Pairs()
    last = 0
    for match in islice(value_of.finditer(text), _MOST_PAIRS):
        before = text[max(last, match.start() - 200) : match.start()]
        last = match.end()
        if is_link:
            cases = _CASE.findall(before)
            key = f"判决文书{cases[-1]}" if cases else ""
        else:
            plain = plain_text(before)
            key = max((one for one in gold if plain.endswith(one)), key=len, default="")
        if key:
            pairs.append((key, match.group()))
    return pairs


def _f1(gold: set, found: set) -> float:
    return 200.0 * len(gold & found) / (len(gold) + len(found)) if gold else 0.0


def _common(gold: Sequence, found: Sequence, same: Callable = lambda left, right: left == right) -> float:
    """Length of the longest common subsequence over that of the longer sequence."""
    if not gold:
        return 0.0
    row = [0] * (len(gold) + 1)
    for one in found:
        diagonal = 0
        for j, wanted in enumerate(gold, start=1):
            above = row[j]
            row[j] = diagonal + 1 if same(wanted, one) else max(above, row[j - 1])
            diagonal = above
    return 100.0 * row[-1] / max(len(gold), len(found))


_SCORERS = {
    "number": _score_number,
    "name": _score_name,
    "set": _score_set,
    "sequence": _score_sequence,
    "groups": _score_groups,
    "chain": _score_chain,
    "mapping": _score_mapping,
}
