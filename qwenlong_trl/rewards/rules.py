r"""Rule scorers: is the answer of a completion one of the gold answers? 1.0 or 0.0, without a model.

```python
>>> from qwenlong_trl.rewards import score_docmath, score_docqa, score_multiple_choice
>>> score_docqa("The answer is Norway.", ["Norway", "Kingdom of Norway"])
RuleScore(score=1.0, prediction='Norway', gold='Norway')
>>> score_docmath("The answer is 324.", "32.4", scale_factors=(10,)).score
1.0
>>> score_multiple_choice(r"\boxed{B}", "The correct answer is (B).").score
1.0
```

Mode `"strict"`, the default, is the exact match of the paper (arXiv 2505.17667, Eq. 12) with forgiving extraction: it
reads an answer however it is dressed and accepts no other answer. Gold answers may be bare ("Norway") or sentences
("Therefore, the answer is Norway."). Mode `"l1_compat"` gives the verdicts of the released code, see
[`~qwenlong_trl.rewards.l1_compat`].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from . import l1_compat
from .answers import extract_answer, extract_gold, normalize_answer
from .numbers import RELATIVE_TOLERANCE, numbers_match, parse_number


Mode = Literal["strict", "l1_compat"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_TRUE = frozenset({"true", "yes", "correct", "是", "是的", "对", "正确"})
_FALSE = frozenset({"false", "no", "incorrect", "否", "不是", "不对", "错误"})

# A letter that ends the answer or is set apart from the words after it: "(B) Norway", "B. Norway", "option B".
_OPTION = re.compile(
    r"(?:(?:option|choice|answer|选项|选)\s{0,4})?"
    r"(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])(?=\s*$|\s?[.):,;]|\s[-–—]\s|,?\s(?:because|since)\b))",
    re.IGNORECASE,
)
_OTHER_OPTION = re.compile(
    r"[.)\]]?\s{0,4}(?:[,/;&+、]|or\b|and\b|或|和)\s{0,4}[(\[]?[A-Za-z](?![A-Za-z])", re.IGNORECASE
)


@dataclass(frozen=True)
class RuleScore:
    """The verdict on one completion.

    Args:
        score (`float`):
            1.0 if the prediction is one of the gold answers, else 0.0.
        prediction (`str`, *optional*):
            The answer found in the completion; `None` if there is none that the scorer can read.
        gold (`str`):
            The gold answer that was met, as given; the first one if none was.
    """

    score: float
    prediction: str | None
    gold: str


def score_docqa(
    completion: str,
    golds: str | Sequence[str],
    *,
    mode: Mode = "strict",
    delimiter: str | None = "</think>",
    require_delimiter: bool = False,
) -> RuleScore:
    """Free-text answers: equal to a gold answer after [`~qwenlong_trl.rewards.normalize_answer`].

    "Sweden, Norway, or Finland", "not yes, it is no", "No." for Norway score 0, as does anything that is empty after
    normalisation, a gold answer included. Words around the answer ("Norway, I think") score 0 too: an exact match
    cannot tell them from a hedge. Only the line of the last "the answer is" counts, see
    [`~qwenlong_trl.rewards.extract_answer`].

    Args:
        completion (`str`):
            Text of the completion, reasoning included.
        golds (`str` or `Sequence[str]`):
            The accepted answers; the best verdict over them counts.
        mode (`str`, *optional*, defaults to `"strict"`):
            `"strict"` or `"l1_compat"`. The latter always asks for `</think>`, ignores the other options, and raises
            [`~qwenlong_trl.rewards.UnparsableGoldError`] where the released code crashes.
        delimiter (`str`, *optional*, defaults to `"</think>"`):
            What ends the reasoning; `None` if completions hold no reasoning.
        require_delimiter (`bool`, *optional*, defaults to `False`):
            Whether a completion without the delimiter scores 0.

    Raises:
        `ValueError`: if there is no gold answer, or the mode is unknown.
    """
    golds = _checked(golds, mode)
    if mode == "l1_compat":
        return _best_compat(l1_compat.compat_docqa, completion, golds)
    prediction = extract_answer(completion, delimiter, require_delimiter)
    for gold in golds:
        if _same_text(prediction, extract_gold(gold)):
            return RuleScore(1.0, prediction, gold)
    return RuleScore(0.0, prediction, golds[0])


def score_docmath(
    completion: str,
    golds: str | Sequence[str],
    *,
    mode: Mode = "strict",
    delimiter: str | None = "</think>",
    require_delimiter: bool = False,
    scale_factors: Sequence[float] = (),
    relative_tolerance: float = RELATIVE_TOLERANCE,
) -> RuleScore:
    """Numeric answers: the same number, sign included, within 0.15 %; or the same truth value.

    How numbers are read is told in [`~qwenlong_trl.rewards.numbers`] and how they are compared in
    [`~qwenlong_trl.rewards.numbers.numbers_match`]. Verdicts one might argue about, for the gold answer 32.4: "(32.4)"
    is right, as the prompt asks for parentheses; "-$32.4" is wrong, as it is negative; "32.4%" is right, as the bare
    gold answer may be in percent, and right for 0.324 as well; "$32.4 million" is wrong unless `scale_factors` has
    1e6, "0.324" unless it has 100; "10 or 32.4" is wrong. A gold answer that is neither a number nor a truth value
    ("N/A") is matched as text.

    Args:
        completion (`str`):
            Text of the completion, reasoning included.
        golds (`str` or `Sequence[str]`):
            The accepted answers: numbers, or one of true, yes, false, no.
        mode, delimiter, require_delimiter:
            As in [`~qwenlong_trl.rewards.score_docqa`].
        scale_factors (`Sequence[float]`, *optional*, defaults to `()`):
            Factors by which the answer may be off, either way. `(100, 1000, 1e6, 1e9)` forgives percentages written as
            fractions and amounts in thousands, millions and billions.
        relative_tolerance (`float`, *optional*, defaults to `0.0015`):
            Largest relative error, 0.15 % as in the released code of QwenLong-L1. Two whole numbers must be equal. The
            released code's second test, equality after rounding up to 3 decimals, is absolute and left out: it makes
            0.0001 equal 0.0009.

    Raises:
        `ValueError`: if there is no gold answer, the mode is unknown, a factor is not positive or the tolerance not in
        [0, 1).
    """
    golds = _checked(golds, mode)
    check_scale_factors(scale_factors)
    if not 0 <= relative_tolerance < 1:
        raise ValueError(f"relative_tolerance must be at least 0 and below 1, got {relative_tolerance!r}")
    if mode == "l1_compat":
        return _best_compat(l1_compat.compat_docmath, completion, golds)
    answer = extract_answer(completion, delimiter, require_delimiter)
    number, truth = (None, None) if answer is None else (parse_number(answer), _truth(answer))
    readable = number is not None or truth is not None
    for gold in golds:
        expected = extract_gold(gold)
        expected_truth = None if expected is None else _truth(expected)
        expected_number = None if expected is None else parse_number(expected)
        if expected_truth is not None:
            right = truth == expected_truth
        elif expected_number is not None:
            right = number is not None and numbers_match(number, expected_number, scale_factors, relative_tolerance)
        else:
            readable = readable or answer is not None
            right = _same_text(answer, expected)
        if right:
            return RuleScore(1.0, answer, gold)
    return RuleScore(0.0, answer if readable else None, golds[0])


def score_multiple_choice(
    completion: str,
    golds: str | Sequence[str],
    *,
    mode: Mode = "strict",
    delimiter: str | None = "</think>",
    require_delimiter: bool = False,
    letters: str = LETTERS,
) -> RuleScore:
    r"""Multiple choice: the same letter.

    Read are "A", "(a)", "\boxed{A}", "option A", "(A) Norway", "A. Norway", after the last "the (correct) answer is"
    or as the whole completion. "Apple", "A Norway" and "A or B" are no letter. Markers and letters are read in any
    case.

    Args:
        completion (`str`):
            Text of the completion, reasoning included.
        golds (`str` or `Sequence[str]`):
            The accepted answers: "B", "(B)", "B. Norway" or "The correct answer is (B)."
        mode, delimiter, require_delimiter:
            As in [`~qwenlong_trl.rewards.score_docqa`]. In `"l1_compat"` a bare letter as gold answer scores 0.
        letters (`str`, *optional*, defaults to A to Z):
            The letters that options can have. Any other one is no answer.

    Raises:
        `ValueError`: if there is no gold answer, none of them states a letter, or the mode is unknown.
    """
    golds = _checked(golds, mode)
    if mode == "l1_compat":
        return _best_compat(l1_compat.compat_multiple_choice, completion, golds)
    expected = {gold: _letter(extract_gold(gold), letters) for gold in golds}
    if not any(expected.values()):
        raise ValueError(
            f"multiple_choice: none of the gold answers {list(golds)!r} states one of the letters {letters!r}; "
            'store "B" or "The correct answer is (B)."'
        )
    prediction = _letter(extract_answer(completion, delimiter, require_delimiter), letters)
    for gold, letter in expected.items():
        if prediction is not None and prediction == letter:
            return RuleScore(1.0, prediction, gold)
    return RuleScore(0.0, prediction, golds[0])


def check_scale_factors(scale_factors: Sequence[float]) -> None:
    """Raises `ValueError` unless all factors are positive and finite."""
    for factor in scale_factors:
        if not 0 < factor < float("inf"):
            raise ValueError(f"scale_factors must be positive and finite, got {factor!r}")


def _checked(golds: str | Sequence[str], mode: str) -> tuple[str, ...]:
    if mode not in ("strict", "l1_compat"):
        raise ValueError(f"mode must be 'strict' or 'l1_compat', got {mode!r}")
    golds = (golds,) if isinstance(golds, str) else tuple(golds)
    if not golds or not all(isinstance(gold, str) for gold in golds):
        raise ValueError(f"gold answers must be at least one string, got {golds!r}")
    return golds


def _best_compat(
    scorer: Callable[[str, str], tuple[float, str | None]], completion: str, golds: tuple[str, ...]
) -> RuleScore:
    verdicts = [RuleScore(*scorer(completion, gold), gold) for gold in golds]
    return max(verdicts, key=lambda verdict: verdict.score)


def _same_text(prediction: str | None, gold: str | None) -> bool:
    normalized = normalize_answer(prediction) if prediction is not None else ""
    return normalized != "" and gold is not None and normalized == normalize_answer(gold)


def _truth(answer: str) -> bool | None:
    word = normalize_answer(answer) if len(answer) <= 40 else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _letter(answer: str | None, letters: str) -> str | None:
    match = _OPTION.match(answer) if answer is not None else None
    if match is None or _OTHER_OPTION.match(answer, match.end()):
        return None
    letter = (match.group(1) or match.group(2)).upper()
    return letter if letter in letters.upper() else None
