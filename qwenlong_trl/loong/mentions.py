"""The amounts, counts and companies that a text of Loong's financial domain names.

```python
>>> from qwenlong_trl.loong.mentions import find_amounts
>>> [amount.value for _, amount in find_amounts("As of March 31, 2024: $(10,135) in thousands")]
[Decimal('-1.0135E+7')]
```

Texts are to be folded by [`~qwenlong_trl.rewards.answers.fold`] first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import islice

from ..rewards.answers import fold
from ..rewards.numbers import parse_number


_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_COUNT_WORD = re.compile(
    rf"\b({'|'.join(_NUMBER_WORDS)}|no|none)\b(?=\s+(?:of\b|compan)|\W*$)", re.IGNORECASE | re.MULTILINE
)
_COUNT_ZH = re.compile("([零一二两三四五六七八九十])(?=[家个])")

# The longest enumeration of a gold answer has 12.
_MOST_NUMBERS = 500
_NUMBER = re.compile(r"(?<![A-Za-z\d_.])(?<!\d,)(?:\d[\d,]{0,60}(?:\.\d{1,30})?|\.\d{1,30})(?![\d_])", re.ASCII)
_HEAD = re.compile(r"(?:[-–($¥€£]|\bminus\b|\bnegative\b|负|\s|\bRMB|\bUS)*$", re.IGNORECASE)
_TAIL = re.compile(
    r"\s?(?P<percent>%)?(?P<close>\s?\))?(?:\s{0,2}[(,]?\s{0,2}\bin)?\s{0,2}"
    r"(?P<scale>(?:thousand|million|billion|trillion)s?\b|[KMB]\b|百万|千万|万亿|千|万|亿)?(?P<late>\s?%)?",
    re.IGNORECASE,
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\b"
_DATE = re.compile(r"\b(?:(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d\d)\b")
_DATE_AFTER = re.compile(rf"\s?(?:年|月|日|季|-[A-Za-z]|(?:st|nd|rd|th)\b|{_MONTH})", re.IGNORECASE)
_MONTH_BEFORE = re.compile(rf"{_MONTH}\.?\s$|第\s?$", re.IGNORECASE)
_ENUMERATED = re.compile(r"[.)、](?!\d)")
_PART = re.compile(r"[;。\n]|\.\s")
_LOSS = re.compile(r"\b(?:loss(?:es)?|deficit|outflows?|used in)\b|亏损|流出", re.IGNORECASE)


@dataclass(frozen=True)
class Amount:
    """
    A number of an answer.

    Args:
        value (`Decimal`):
            Signed, with its word of scale: "$10,135 in thousands" is 10,135,000.
        plain (`Decimal`):
            Without the word of scale.
        scaled, percent (`bool`):
            Whether it has a word of scale, a percent sign.
        either_sign (`bool`, *optional*, defaults to `False`):
            Whether it may be meant as negative: in parentheses, or said to be a loss.
    """

    value: Decimal
    plain: Decimal
    scaled: bool
    percent: bool
    either_sign: bool = False

    def equals(self, gold: Amount) -> bool:
        """Whether this is the gold amount, as it is or rounded to at least 3 digits."""
        pairs = [(self.value, gold.value)]
        if self.scaled != gold.scaled:  # reports count in thousands, and gold answers do not always say so
            pairs.append((self.plain, gold.plain))
        if self.percent != gold.percent:
            hundred = Decimal(100)
            pairs.append((self.value, gold.value * hundred) if self.percent else (self.value * hundred, gold.value))
        signs = (1, -1) if self.either_sign else (1,)
        return any(_close(left * sign, right) for left, right in pairs for sign in signs)


def find_amounts(text: str) -> list[tuple[int, Amount]]:
    """`(position, amount)` of the numbers of a folded text but dates, "10-Q" and the numbers that count a list."""
    text = _DATE.sub(lambda match: " " * len(match.group()), text)
    found = []
    for match in islice(_NUMBER.finditer(text), _MOST_NUMBERS):
        start, end = match.span()
        digits = match.group().rstrip(",")
        window = text[max(0, start - 24) : start]
        head = _HEAD.search(window).group()
        before = window[: len(window) - len(head)]
        line_start = not before.strip(" \t*#|>-") or before.rstrip(" \t*#|>-").endswith("\n") or "\n" in head
        if line_start and len(digits) < 4 and digits.isdigit() and _ENUMERATED.match(text, end):
            continue
        if len(digits) < 4 and re.search(r"\S\s?\[$", window) and text[end : end + 1] == "]":  # cites a document
            continue
        bare = digits.isdigit() and not head.strip()
        year = bare and len(digits) == 4 and digits[:2] in ("19", "20")
        if year or _DATE_AFTER.match(text, end) or (digits.isdigit() and _MONTH_BEFORE.search(window)):
            continue
        tail = _TAIL.match(text, end)
        scale = {"千": "thousand"}.get(tail["scale"] or "", tail["scale"] or "")
        if len(scale) == 1:
            scale = scale.upper()
        plain = parse_number(digits)
        scaled = parse_number(digits + (scale if len(scale) == 1 else f" {scale}")) if scale else plain
        if plain is None or scaled is None:
            continue
        in_parentheses = "(" in head and tail["close"] is not None
        minus = re.search(r"[-–]|minus|negative|负", head, re.IGNORECASE) is not None
        if minus and head[0] in "-–" and re.search(r"[A-Za-z0-9]$", before):  # "5-10", "2023-03"
            minus = False
        accountant = in_parentheses and re.search(r"[$¥€£]\s?\(", head) is not None
        sign = -1 if minus or accountant else 1
        clause = _PART.split(text[max(0, start - 120) : start])[-1]
        loss = sign > 0 and (in_parentheses or _LOSS.search(clause) is not None)
        percent = tail["percent"] is not None or tail["late"] is not None
        found.append((start, Amount(sign * scaled.value, sign * plain.value, bool(scale), percent, loss)))
    return found


def find_counts(text: str) -> list[Amount]:
    """The small whole numbers, also in words, of a text that tells how many."""
    numbers = [amount.value for _, amount in find_amounts(text) if not amount.scaled and not amount.percent]
    values = [int(value) for value in numbers if value == value.to_integral_value() and 0 <= value < 100]
    words = [match.group(1).lower() for match in _COUNT_WORD.finditer(text)]
    values += [0 if word in ("no", "none") else _NUMBER_WORDS.index(word) for word in words]
    characters = [match.group(1) for match in _COUNT_ZH.finditer(text)]
    values += [2 if one == "两" else "零一二三四五六七八九十".index(one) for one in characters]
    return [Amount(Decimal(value), Decimal(value), False, False) for value in values]


def _close(left: Decimal, right: Decimal) -> bool:
    if left == right:
        return True
    for rounded, other in ((left, right), (right, left)):
        _, digits, exponent = rounded.as_tuple()
        if len(digits) >= 3 and exponent > other.as_tuple().exponent:
            return abs(rounded - other) <= Decimal(5).scaleb(exponent - 1)
    return False


# A character of Unicode's private use area stands for each company, so that text can be split around names.
_FIRST_MARK = 0xE000
MARK = re.compile("[\ue000-\uf8ff]")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SUFFIXES = frozenset("inc incorporated corp corporation co company ltd limited llc lp plc".split())
# The state of BROADWAY FINANCIAL CORP \DE\, whose last backslash may come to lie before a quote.
_SUFFIX = rf"(?:[\s,]{{1,3}}(?:{'|'.join(sorted(_SUFFIXES))})\b\.?){{0,2}}(?:\s?[\\/]{{1,2}}[a-z]{{2}}[\\/]{{1,2}})?"


def find_entries(text: str) -> list[tuple[str | None, Amount | None]]:
    """The companies of an enumeration, each with the first amount that follows it; or its amounts alone."""
    text = re.sub(r"\bcompared (?:to|with)\b[^,;\n]{0,80}", "", text)
    amounts = find_amounts(text)
    marks = [(match.start(), match.group()) for match in MARK.finditer(text)]
    if not marks:
        return [(None, amount) for _, amount in amounts]
    entries: list[tuple[str, Amount | None]] = []
    at = 0
    for (start, name), (end, _) in zip(marks, [*marks[1:], (len(text), "")], strict=True):
        while at < len(amounts) and amounts[at][0] < start:
            at += 1
        entries.append((name, amounts[at][1] if at < len(amounts) and amounts[at][0] < end else None))
    valued = [entry for entry in entries if entry[1] is not None]
    return valued or entries


def mark_companies(text: str, names: tuple[str, ...]) -> str:
    """
    A folded text with one character in place of each name of a company: in any case, with or
    without "Inc." and the like at its end. A name of one word counts with a capital, of one letter only alone.
    """
    text = MARK.sub("", text)
    pattern, short = _pattern(names)
    if (alone := short.get(text.strip(" .'\"*()"))) is not None:
        return chr(_FIRST_MARK + alone)
    if pattern is None:
        return text

    def mark(match: re.Match) -> str:
        name = match.group()
        index = int(match.lastgroup[1:])
        if " " not in name and name[0].islower() and not names[index][0].islower():
            return name
        return chr(_FIRST_MARK + index)

    return pattern.sub(mark, text)


@lru_cache(maxsize=512)
def _pattern(names: tuple[str, ...]) -> tuple[re.Pattern | None, dict[str, int]]:
    words = {index: _words(fold(name)) for index, name in enumerate(names)}
    short = {"".join(words[index]): index for index in words if sum(map(len, words[index])) < 2}
    parts = []
    for index in sorted(words, key=lambda index: -sum(map(len, words[index]))):
        if sum(map(len, words[index])) < 2:
            continue
        joined = r"[\W_]{0,3}".join(map(re.escape, words[index]))
        cjk = _CJK.search(joined)
        parts.append(f"(?P<n{index}>{joined})" if cjk else rf"(?P<n{index}>\b{joined}{_SUFFIX}(?![^\W_]))")
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None, short


def _words(name: str) -> list[str]:
    """The words of a name that tell it: not "Inc." nor what stands in parentheses or between backslashes."""
    words = re.findall(r"[^\W_]+", re.split(r"\s[(\\]", name)[0])
    while len(words) > 1 and words[-1].lower() in _SUFFIXES:
        words.pop()
    return words
