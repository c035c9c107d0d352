"""Numbers in answers, read without `eval`: "-$1,234.5", "approximately 32.4 million", "3.24 × 10^1", "32.4%".

```python
>>> from qwenlong_trl.rewards import parse_number
>>> parse_number("approximately -$1.5 million").value
Decimal('-1.5E+6')
```

What counts as a number:

- Thousands are separated by commas ("1,234.5", "12,34,567"). A comma that does not separate thousands ("32,4") and
  several points ("1.2.3") make no number, as both could mean two things.
- Parentheses around a number are the prompt's, "(insert answer here)", and not an accountant's minus: "(32.4)" is
  32.4.
- A whole number and a fraction are added up: "3 1/2" and 3½ are 3.5. A fraction alone is no number here.
- Words of scale multiply ("32.4 million", "$5B", 32.4万); currencies and other units are ignored.
- A percent sign is remembered in [`Number.percent`] and does not change the value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import islice

from .answers import fold


# Within 0.15 % of the gold answer, as in the released code of QwenLong-L1 (arXiv 2505.17667).
RELATIVE_TOLERANCE = 0.0015

# A longer run of digits is no measurement; the bound keeps decimal arithmetic cheap on hostile input.
_LONGEST_NUMBER = 400

# Nor does an answer hold this many numbers.
_MOST_NUMBERS = 100

_TOKEN = re.compile(r"(?<![A-Za-z_.\d])(?<!\d,)(?:\d|\.\d)[\d.,]*", re.ASCII)
_WELL_FORMED = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+", re.ASCII)
_EXPONENT = re.compile(
    r"[eE]([+-]?\d{1,3})(?!\d|\.\d)|\s{0,4}[x×·*]\s{0,4}10(?:\^|\*\*)\(?([+-]?\d{1,3})(?!\d|\.\d)\)?", re.ASCII
)
_FRACTION = re.compile(r"\s{1,4}(\d{1,4})\s{0,4}[/⁄]\s{0,4}(\d{1,4})(?!\s{0,4}[/⁄]|[\d.,]*\d)", re.ASCII)
_BEFORE_FRACTION = re.compile(r"\d{1,3}(?:,\d{3})*", re.ASCII)
_FRACTION_BEGINS = re.compile(r"\s{1,4}\d+\s{0,4}[/⁄]", re.ASCII)
_POWER_OF_TEN = re.compile(r"(?:\^|\*\*)\(?([+-]?\d{1,3})(?!\d|\.\d)\)?", re.ASCII)
_BROKEN_EXPONENT = re.compile(r"[eE][+-]?\d|(?:\^|\*\*)[-+(\d]")
_CURRENCY = re.compile(
    r"(?:(?<![A-Za-z])(?:US|HK|CA|AU|C|A|R)\s?)?[$€£¥₹₩]"
    r"|(?<![A-Za-z])(?:USD|EUR|GBP|RMB|CNY|JPY|HKD|INR|CHF|AUD|CAD)(?![A-Za-z])"
)
_PERCENT = re.compile(r"\s{0,4}(?:%|(?:percent|per cent|percentage points?)(?![A-Za-z]))", re.IGNORECASE)
_SCALE = re.compile(
    r"\s{0,4}(thousand|million|billion|trillion|mn|bn)s?(?![A-Za-z])|((?-i:[KMB]))(?![A-Za-z])|\s?(百万|千万|万亿|万|亿)",
    re.IGNORECASE,
)
_SCALE_EXPONENT = {"thousand": 3, "k": 3, "million": 6, "mn": 6, "m": 6, "billion": 9, "bn": 9, "b": 9, "trillion": 12}
_SCALE_EXPONENT |= {"万": 4, "百万": 6, "千万": 7, "亿": 8, "万亿": 12}

# Right after a number, these open an alternative, a range or a fraction: "10 or 32.4", "5-10", "1, 2, 3", "1/2".
_ALTERNATIVE = re.compile(r"\s{0,4}(?:[-–~/⁄,;&、]|to|or|and|到|至|或|和)\s{0,4}[-+(]?(?=\.?\d)", re.ASCII)
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|no|cannot)\b|n't|n’t|不|非|没", re.IGNORECASE)
_MINUS_WORD = re.compile(r"(?:\b(?:minus|negative)\s{1,4}|负\s?)$", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_LEAD_IN = frozenset(
    "a about almost an approx approximately around circa equal equals exactly is minus nearly negative of only"
    " roughly the therefore thus to total 为 共 大约 大约为 大约是 是 约 約 约为 约是 负 百分之".split()
)


@dataclass(frozen=True)
class Number:
    """A number of an answer.

    Args:
        value (`Decimal`):
            The signed value, words of scale and exponents applied.
        percent (`bool`, *optional*, defaults to `False`):
            Whether it was written with a percent sign: "32.4%" has the value 32.4.
        whole (`bool`, *optional*, defaults to `False`):
            Whether it was written out as a whole number ("2019", "1,234", "5.0"), hence a count, a year or an amount
            that is meant exactly, unlike "1.2 million".
    """

    value: Decimal
    percent: bool = False
    whole: bool = False


def parse_number(text: str) -> Number | None:
    """The number that an answer, as extracted, states, or `None` if it states none or offers several to choose from.

    With an equation, the right-hand side counts. A number at the start (after words such as "approximately") is the
    answer, whatever follows: "32.4 (in 2019)". Otherwise the last number of the text is, unless a negation stands
    before it: "for 2019 it was 32.4", but not "not 32.4".
    """
    text = _CURRENCY.sub(
        lambda match: "" if match.string[match.start() - 1 : match.start()] in "-–" else " ", fold(text)
    )
    equation = max(text.rfind("="), text.rfind("≈"))
    if equation >= 0 and _TOKEN.search(text, equation + 1):
        text = text[equation + 1 :]
    tokens = list(islice(_TOKEN.finditer(text), _MOST_NUMBERS + 1))
    if len(tokens) > _MOST_NUMBERS:
        return None
    found: list[tuple[Number, int, int]] = []
    for token in tokens:
        # Not the exponent or the fraction of the number before.
        if (not found or token.start() >= found[-1][2]) and (read := _read(text, token)) is not None:
            found.append(read)
    if not found:
        return None
    if _only_lead_in(text[: tokens[0].start()]):
        number, start, end = found[0]
        # A malformed number in the leading place is not replaced by one further on.
        return None if start != tokens[0].start() or _ALTERNATIVE.match(text, end) else number
    number, start, _ = found[-1]
    if len(found) > 1 and (alternative := _ALTERNATIVE.match(text, found[-2][2])) and alternative.end() >= start:
        return None
    return None if _NEGATION.search(text, 0, start) else number


def numbers_match(
    prediction: Number,
    gold: Number,
    scale_factors: Sequence[float] = (),
    relative_tolerance: float = RELATIVE_TOLERANCE,
) -> bool:
    """Whether two numbers are the same, sign included.

    Two whole numbers must be equal, as 2018 is within 0.15 % of 2019. Otherwise `|prediction - gold|` must be at most
    `relative_tolerance * |gold|`, so a gold answer of 0 asks for exactly 0. If one of the two carries a percent sign
    and the other does not, it is read as written and as a fraction: "32.4%" equals 32.4 and 0.324.

    Args:
        prediction ([`Number`]):
            The number of the completion.
        gold ([`Number`]):
            The number of the gold answer.
        scale_factors (`Sequence[float]`, *optional*, defaults to `()`):
            Factors by which the two may differ, in either direction, for example `(100, 1000, 1e6, 1e9)`.
        relative_tolerance (`float`, *optional*, defaults to `0.0015`):
            Largest accepted relative error.
    """
    exact = prediction.whole and gold.whole
    tolerance = Decimal(0) if exact else Decimal(str(relative_tolerance))
    factors = [Decimal(1), *(Decimal(str(factor)) for factor in scale_factors)]
    with localcontext() as context:
        context.prec = 2 * _LONGEST_NUMBER
        pairs = [(prediction.value * factor, gold.value) for factor in factors]
        pairs += [(prediction.value, gold.value * factor) for factor in factors]
        if prediction.percent and not gold.percent:
            pairs.append((prediction.value, gold.value * 100))
        if gold.percent and not prediction.percent:
            pairs.append((prediction.value * 100, gold.value))
        return any(abs(left - right) <= tolerance * abs(right) for left, right in pairs)


def _read(text: str, token: re.Match) -> tuple[Number, int, int] | None:
    """The number at a token, with its first character and the one after its unit; `None` if it is malformed."""
    start = token.start()
    digits = token.group().rstrip(".,")
    if len(digits) > _LONGEST_NUMBER or not _WELL_FORMED.fullmatch(digits):
        return None
    end, exponent = start + len(digits), 0
    digits = digits.replace(",", "")
    whole = digits.partition(".")[2].strip("0") == ""
    if power := _EXPONENT.match(text, end):
        exponent, whole, end = int(power.group(1) or power.group(2)), False, power.end()
    elif digits == "10" and (power := _POWER_OF_TEN.match(text, end)):
        digits, exponent, whole, end = "1", int(power.group(1)), False, power.end()
    elif _BROKEN_EXPONENT.match(text, end):
        return None
    elif _FRACTION_BEGINS.match(text, end):
        fraction = _FRACTION.match(text, end)
        numerator, denominator = (int(part) for part in fraction.groups()) if fraction else (1, 0)
        # Neither "3 5/2" nor "2019 12/31" nor "3 1/2/2019" says what it means.
        if numerator >= denominator or not _BEFORE_FRACTION.fullmatch(text[start:end]):
            return None
        # As digits, see below.
        digits = f"{digits}.{numerator * 10**30 // denominator:030d}"
        whole, end = False, fraction.end()
    if scale := _SCALE.match(text, end):
        exponent += _SCALE_EXPONENT[next(filter(None, scale.groups())).lower()]
        whole, end = False, scale.end()
    before = text[max(0, start - 40) : start]
    percent = before.endswith("百分之")
    if sign := _PERCENT.match(text, end):
        percent, end = True, sign.end()
    minus = "-" if _is_negative(before) else ""
    # Built from its digits: arithmetic would round a long number to the context's precision.
    return Number(Decimal(f"{minus}{digits}E{exponent}"), percent, whole), start, end


def _is_negative(before: str) -> bool:
    """Whether the characters before a number end in a minus sign, and not in the dash of "5-3" or "COVID-19"."""
    if _MINUS_WORD.search(before):
        return True
    head = before.rstrip()
    if not head.endswith(("-", "–")):
        return False
    if head == before:
        return re.search(r"[A-Za-z0-9)%\]][-–]$", head) is None
    return re.search(r"\w", head) is None


def _only_lead_in(text: str) -> bool:
    return all(word.group().lower() in _LEAD_IN for word in _WORD.finditer(text)) and not _TOKEN.search(text)
