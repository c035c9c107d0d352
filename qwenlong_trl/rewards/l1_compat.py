r"""The verdicts of the released rule reward of QwenLong-L1 (arXiv 2505.17667), to compare with published behaviour.

```python
>>> from qwenlong_trl.rewards import score_docqa
>>> score_docqa("</think>the answer is Sweden, Norway, or Finland.", "the answer is Norway", mode="l1_compat").score
1.0
```

This reproduces what that code *does*, flaws included: nothing without `</think>`, gold answers only as full sentences,
case-sensitive markers, substrings in both directions, numbers regardless of sign and power of ten. Train with the
strict mode of [`~qwenlong_trl.rewards.score_docqa`] and its siblings instead. The code is our own: where the released
one evaluates text as Python, the outcome is computed here by a parser of the few strings that can get there.
"""

from __future__ import annotations

import math
import re
import string


class UnparsableGoldError(ValueError, AttributeError):
    """A gold answer that the released code cannot parse; there it ends as an `AttributeError` that stops the batch."""

    def __init__(self, task: str, gold: str, expected: str):
        super().__init__(
            f"{task} in mode 'l1_compat': no answer can be read from the gold string {gold!r}, on which the released "
            f"code raises an error. Store it as a sentence, {expected}, or use mode 'strict'."
        )


_NUMBER = re.compile(r"the answer is (\=?\≈?\`?\%?\$?\°?\£?\€?\¥?-?[0-9\.,]+)", re.IGNORECASE)
_LETTER_IN_PARENTHESES = re.compile(r"The correct answer is \(([A-D])\)")
_LETTER = re.compile(r"The correct answer is ([A-D])")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SYMBOLS = str.maketrans("", "", "=≈`%$°£€¥")


def compat_docqa(completion: str, gold: str) -> tuple[float, str | None]:
    """Score and prediction: the normalised prediction is contained in the gold answer, or contains it."""
    prediction = text_after_marker(_answer_text(completion))
    if not prediction:
        return 0.0, None
    expected = text_after_marker(gold)
    if expected is None:
        raise UnparsableGoldError("docqa", gold, '"Therefore, the answer is ..."')
    left, right = squad_normalized(prediction), squad_normalized(expected)
    return float(left in right or right in left), prediction


def compat_docmath(completion: str, gold: str) -> tuple[float, str | None]:
    """Score and prediction: the first number right after "the answer is", compared as in [`_same_number`]."""
    prediction = first_number(_answer_text(completion))
    if not prediction:
        return 0.0, None
    expected = first_number(gold)
    if expected is None:
        raise UnparsableGoldError("docmath", gold, '"Therefore, the answer is 32.4"')
    left, right = evaluated(prediction), evaluated(expected)
    if abs(left) == abs(right) == math.inf:
        # Two numbers beyond the range of a float: the released code then raises ValueError, comparing not-a-number.
        raise UnparsableGoldError("docmath", gold, '"Therefore, the answer is 32.4"')
    return float(_same_number(left, right)), prediction


def compat_multiple_choice(completion: str, gold: str) -> tuple[float, str | None]:
    """Score and prediction: the first capital A to D right after "The correct answer is", even if it begins a word."""
    prediction, expected = _first_letter(_answer_text(completion)), _first_letter(gold)
    return float(prediction is not None and prediction == expected), prediction


def _answer_text(completion: str) -> str:
    _, found, tail = completion.rpartition("</think>")
    return tail.strip() if found else ""


def text_after_marker(text: str) -> str | None:
    _, found, tail = text.replace("*", "").rpartition("the answer is")
    if not found:
        return None
    tail = tail.strip().replace("<｜Assistant｜>", "").replace("<｜end▁of▁sentence｜>", "")
    return tail.strip().strip(".").strip()


def squad_normalized(text: str) -> str:
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", text).split())


def _first_letter(text: str) -> str | None:
    text = text.replace("*", "")
    match = _LETTER_IN_PARENTHESES.search(text) or _LETTER.search(text)
    return match.group(1) if match else None


def first_number(text: str) -> str | None:
    match = _NUMBER.search(text.replace("*", ""))
    return match.group(1).replace(",", "").rstrip(".") if match else None


def evaluated(text: str) -> int | float:
    """The value of a matched number as a Python literal, 0 where it is none ("1.2.3", "-", "007", 4,301 digits)."""
    text = text.translate(_SYMBOLS)
    # The released code takes one or two points at the start for a unit: ".5" is 5, "..5" is 5, ".1.2" is 1.2.
    if without_unit := re.fullmatch(r"\.{1,2}([0-9]*\.*[0-9]+)", text):
        text = without_unit.group(1)
    try:
        if re.fullmatch(r"-?(?:0+|[1-9][0-9]*)", text):
            return int(text)
        if re.fullmatch(r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+)", text):
            return float(text)
    except ValueError:
        pass
    return 0


def _same_number(prediction: int | float, gold: int | float) -> bool:
    """Equal up to sign and any power of ten, or x100, x1000, x100000 within 0.15 %, or rounded up to 3 decimals."""
    larger, smaller = max(abs(gold), abs(prediction)), min(abs(gold), abs(prediction))
    try:
        if larger != 0 and smaller != 0:
            magnitude = math.log10(larger) - math.log10(smaller)
            if int(magnitude) == magnitude:
                return True
        # A guard that holds without its match lets the next one try.
        for guard, factor in ((50, 100), (500, 1000), (50_000, 100_000)):
            if smaller <= larger / guard and within_tolerance(smaller * factor, larger):
                return True
        if math.ceil(larger * 1000) / 1000 == math.ceil(smaller * 1000) / 1000:
            return True
        return within_tolerance(prediction, gold)
    except OverflowError:
        return False


def within_tolerance(value: int | float, reference: int | float) -> bool:
    tolerance = abs(reference) * 0.0015
    return reference - tolerance <= value <= reference + tolerance
