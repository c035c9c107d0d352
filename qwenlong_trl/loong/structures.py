r"""The objects and lists in a model's answer: written as JSON, in Python's way, nearly so, or as lines of Markdown.

```python
>>> from qwenlong_trl.loong.structures import find_object
>>> find_object("So:\n```json\n{{'Refernce': [], 'Citation': ['Lory',]}}\n```", lambda key: key == "Citation")
[('Refernce', []), ('Citation', ['Lory'])]
```

Answers are hostile input: nothing is evaluated, nesting and lengths are bounded, and every step takes time linear
in the length of the text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..rewards.answers import fold


# Gold answers of Loong nest 2 deep and take under 10,000 characters.
_DEEPEST = 8
_LONGEST = 30_000
# How many objects and lists are looked at, from the end of the text.
_MOST = 100

_STRING_OR_BRACKET = re.compile(
    r'"(?:[^"\\\n]|\\.){0,400}+"|(?<=[\[{,:\s])\'(?:[^\'\\\n]|\\.){0,400}+\'(?=\s{0,9}[,:\]}])|[\[\]{}]'
)
_BRACKET = re.compile(r"[\[\]{}]")
_CLOSING = {"{": "}", "[": "]"}
# Brackets, strings, numbers and constants: literals without the operators and calls that Python would parse, too.
_ESCAPE = r"\\[\\'\"nrtbfuUx]"
_LITERALS = re.compile(
    rf"(?:[\s\[\]{{}},:]++|\"(?:[^\"\\\n]|{_ESCAPE})*+\"|'(?:[^'\\\n]|{_ESCAPE})*+'"
    r"|-?\d++(?:\.\d++)?|None|True|False|null|true|false)*+"
)
# A quote closes where a comma, a colon or a bracket follows: 'Aspira Women's Health Inc.', "BROADWAY \DE\".
_QUOTED = re.compile(r"([\"'])((?:(?!\1\s{0,9}[,:\]}]).){0,400}+)\1(?=\s{0,9}[,:\]}])", re.DOTALL)
_TRAILING_COMMA = re.compile(r",\s{0,9}(?=[\]}])")
_STRAIGHT = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})
_BETWEEN_OBJECTS = re.compile(r"(?:[\s,;`]|json|python|and|和)*+")


class Pairs(list):
    """The `(key, value)` pairs of an object, in order; a key may come twice."""


def find_object(text: str, is_key: Callable[[str], bool]) -> Pairs | None:
    """
    The last object of a text with a key that is asked for. Objects with nothing between them, the objects of a list,
    and an object within one are read, too: `{"Reference": []}, {"Citation": []}`, `{"answer": {...}}`.
    """
    for structures in _readings(text):
        if (found := _last_object(text, structures, is_key)) is not None:
            return found
    return None


def _last_object(text: str, structures: Iterable[tuple[int, int, Any]], is_key: Callable[[str], bool]) -> Pairs | None:
    found, start = None, 0
    for begin, end, value in structures:
        pairs = _object(value, is_key, _DEEPEST)
        if found is None:
            found, start = pairs, begin
        elif pairs is not None and _BETWEEN_OBJECTS.fullmatch(text, end, start):
            if {key for key, _ in pairs} & {key for key, _ in found}:
                break  # an answer that is said twice
            found, start = Pairs([*pairs, *found]), begin
        else:
            break
    return found


def find_list(text: str) -> list[str] | None:
    """The last list of texts in a text, alone or in an object, as in `{"chain": [...]}`."""
    empty = None
    for _, _, value in (structure for structures in _readings(text) for structure in structures):
        if isinstance(value, Pairs):
            value = next((inner for _, inner in value if isinstance(inner, list) and type(inner) is list), None)
        if not isinstance(value, list):
            continue
        items = list(leaves(value))
        if items and not all(re.fullmatch(r"[\d\s.,-]*", item) for item in items):
            return items
        empty = [] if not items else empty
    return empty


def leaves(value: Any) -> Iterator[str]:
    """The texts of a list, of the values of an object, or of a text itself."""
    if isinstance(value, Pairs):
        for _, inner in value:
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value


def _object(value: Any, is_key: Callable[[str], bool], depth: int) -> Pairs | None:
    if depth == 0 or not isinstance(value, list):
        return None
    if not isinstance(value, Pairs):
        inner = [_object(one, is_key, depth - 1) for one in value]
        return Pairs(pair for pairs in inner if pairs for pair in pairs) if any(inner) else None
    if any(is_key(key) for key, _ in value):
        return value
    for _, one in reversed(value):
        if (pairs := _object(one, is_key, depth - 1)) is not None:
            return pairs
    return None


def _readings(text: str) -> Iterator[Iterator[tuple[int, int, Any]]]:
    """`(start, end, value)` of the objects and lists of a text, from its end; those within others are not told."""
    # A bracket in a string counts in the second reading only, for text where a lone quote upsets the first.
    for pattern in (_STRING_OR_BRACKET, _BRACKET):
        spans = reversed(_spans(text, pattern)[-_MOST:])
        parsed = ((start, end, _parse(text[start:end])) for start, end in spans)
        yield (structure for structure in parsed if structure[2] is not None)


def _spans(text: str, pattern: re.Pattern) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []
    for match in pattern.finditer(text):
        mark = match.group()
        if mark in _CLOSING:
            opened.append((_CLOSING[mark], match.start()))
        elif opened and mark == opened[-1][0]:
            _, start = opened.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, match.end()))
    return spans


def _parse(source: str) -> Any:
    """The value of an object or a list as JSON, as a Python literal, or with its quotes mended; `None` for none."""
    for _ in range(2):
        if re.match(r"\{\s*\{", source) and re.search(r"\}\s{0,9}\}$", source):
            source = source[1:-1].strip()
    if len(source) > _LONGEST or _nesting(source) > _DEEPEST:
        return None
    for read in (_from_json, _from_literal, _from_mended):
        try:
            return read(source)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _nesting(source: str) -> int:
    depth = deepest = 0
    for match in _BRACKET.finditer(source):
        depth += 1 if match.group() in "[{" else -1
        deepest = max(depth, deepest)
    return deepest


def _from_json(source: str) -> Any:
    return json.loads(source, object_pairs_hook=Pairs, parse_int=str, parse_float=str, strict=False)


def _from_literal(source: str) -> Any:
    if not _LITERALS.fullmatch(source):
        raise ValueError("is no literal")
    return _value(ast.parse(source.strip(), mode="eval").body)


def _from_mended(source: str) -> Any:
    def as_json(match: re.Match) -> str:
        return json.dumps(match.group(2).replace("\\" + match.group(1), match.group(1)))

    mended = _QUOTED.sub(as_json, source.translate(_STRAIGHT))
    return _from_json(_TRAILING_COMMA.sub("", mended))


def _value(node: ast.expr) -> Any:
    """As `ast.literal_eval`, but a key may come twice, and a set keeps its order."""
    if isinstance(node, ast.Dict) and None not in node.keys:
        return Pairs((str(_value(key)), _value(value)) for key, value in zip(node.keys, node.values, strict=True))
    if isinstance(node, ast.List | ast.Set):
        return [_value(one) for one in node.elts]
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) or node.value is None else str(node.value)
    if isinstance(node, ast.UnaryOp | ast.Name):
        return ast.unparse(node)
    raise ValueError("is no literal")


_ARROW = re.compile("->|→|⟶|=>")
_ENUMERATOR = re.compile(r"^[\s>|#]*(?:[-*•·]+\s|\**[(\[]?\d{1,3}[.):、\]])?[\s*#]*")


def plain_text(text: str) -> str:
    """Letters and digits only, in lower case: how titles, groups and keys are compared."""
    return "".join(character for character in fold(text).casefold() if character.isalnum())


def titles_in_lines(text: str) -> list[str]:
    """The titles of an answer in lines, or in one line with arrows or quotes."""
    lines = [line for line in text.splitlines() if line.strip()]
    numbered = [line for line in lines if re.match(r"[\s>|*#]*(?:[(\[]?\d{1,3}[.):、\]]|[-*•·]\s|#)", line)]
    if not numbered:
        arrows = [line for line in lines if _ARROW.search(line)]
        parts = _ARROW.split(arrows[-1]) if arrows else re.findall(r'["“]([^"“”\n]+)["”]', text) or lines
        return [plain_text(part) for part in parts]
    return [plain_text(_ENUMERATOR.sub("", line, count=1)) for line in numbered]


def groups_in_lines(text: str, group_of: Callable[[str], str | None]) -> Pairs:
    """Groups that are headings: "High assets: A, B", or a line with the name and the items in the lines below."""
    groups = Pairs()
    for line in text.splitlines():
        bare = _ENUMERATOR.sub("", line, count=1).strip().strip("|").strip()
        head, colon, rest = (part.strip(" *|\"'") for part in re.split(r"([:|])", bare + ":", maxsplit=1))
        if re.search(r"\([^()]*$", head):  # the colon of a gloss, "(above 0: ...)"
            head, _, rest = (part.strip(" *|\"'") for part in bare.partition("):"))
        if (group := group_of(head)) is not None:
            groups.append((group, [rest.rstrip(":")] if rest.rstrip(":") else []))
        elif groups and bare:
            groups[-1][1].append(bare)
    return groups
