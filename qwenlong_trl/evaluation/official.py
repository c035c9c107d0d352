r"""How the released evaluation code of QwenLong-L1 (arXiv 2505.17667, section 4.1) scores an answer, flaws included.

```python
>>> from qwenlong_trl.evaluation.official import official_rule
>>> official_rule("Hmm.</think>Therefore, the answer is Sweden, Norway, or Finland.", "Norway", "docqa")
(1.0, 'Sweden, Norway, or Finland')
```

What is reproduced: only the first answer of a record counts; without `</think>` the whole response is the answer;
"the answer is" is case-sensitive for text and not for numbers; texts match if one contains the other, numbers up to
sign, powers of ten and rounding up to 2 decimals (3 in training); the judge is asked about every answer, also where
nothing could be read, and "YES" anywhere in its words is a yes.

What is not: a gold number that the released code cannot parse ends that code with an error, and here the rule scores
0; a judge that fails drops the answer there or scores 0, depending on how it fails, and scores 0 here.

The judge reads the texts as they are, whole: an answer that tells the judge what to say may have its way, as it may in
the released code. Mode `"fixed"` makes them harmless first.
"""

from __future__ import annotations

import math

from ..rewards import l1_compat
from ..rewards.judge import encodable
from ..rewards.judge_prompt import PROMPTS, Comparison


TASKS = ("docqa", "docmath")


def official_rule(response: str, gold: str, task: str) -> tuple[float, str | None]:
    """Score and prediction of a response.

    Args:
        response (`str`):
            The whole completion.
        gold (`str`):
            The first answer of the record.
        task (`str`):
            `"docqa"` or `"docmath"`.

    Raises:
        `ValueError`: for another task; the released evaluation has none.
    """
    check_official_task(task)
    prediction = _prediction(response, task)
    if not prediction:
        return 0.0, None
    if task == "docqa":
        left, right = l1_compat.squad_normalized(prediction), l1_compat.squad_normalized(gold)
        return float(left in right or right in left), prediction
    expected = _first_number(f"Therefore, the answer is {gold}.")
    if not expected:
        return 0.0, prediction
    return float(_same_number(l1_compat.evaluated(prediction), l1_compat.evaluated(expected))), prediction


def official_comparison(response: str, question: str, gold: str, task: str) -> Comparison:
    """What the judge is asked about a response."""
    check_official_task(task)
    prediction = _prediction(response, task)
    if task == "docmath" and not prediction:
        prediction = _answer_text(response).replace("Therefore, the answer is", "").strip().rstrip(".").strip()
    return Comparison(question, str(prediction), gold)  # "None" where nothing was read, as there


def official_messages(comparison: Comparison) -> list[dict[str, str]]:
    """The chat messages of the released judge, with the texts as they are."""
    system, user = PROMPTS["l1"]
    texts = (comparison.question, comparison.prediction, comparison.gold)
    names = ("question", "prediction", "gold")
    filled = user.format(**{name: encodable(text) for name, text in zip(names, texts, strict=True)})
    return [{"role": "system", "content": system}, {"role": "user", "content": filled}]


def official_verdict(text: str) -> bool:
    """Whether a judge's words are a yes."""
    return "YES" in text


def check_official_task(task: str) -> None:
    """Raises `ValueError` for a task that the released evaluation does not have."""
    if task not in TASKS:
        raise ValueError(f"the official evaluation has no task {task!r}, only {' and '.join(TASKS)}; use mode fixed")


def _prediction(response: str, task: str) -> str | None:
    text = _answer_text(response)
    return l1_compat.text_after_marker(text) if task == "docqa" else _first_number(text)


def _answer_text(response: str) -> str:
    response = response.strip()
    _, _, tail = response.rpartition("</think>")
    return tail.strip() or response


def _first_number(text: str) -> str | None:
    # As in training, but parentheses are taken out, too.
    return l1_compat.first_number(text.replace("(", "").replace(")", ""))


def _same_number(prediction: int | float, gold: int | float) -> bool:
    larger, smaller = max(abs(gold), abs(prediction)), min(abs(gold), abs(prediction))
    try:
        if larger != 0 and smaller != 0:
            magnitude = math.log10(larger / smaller)  # of the quotient; the training subtracts logarithms
            if int(magnitude) == magnitude:
                return True
        # A guard that holds without its match lets the next one try.
        for guard, factor in ((50, 100), (500, 1000), (50_000, 100_000)):
            if smaller <= larger / guard and l1_compat.within_tolerance(smaller * factor, larger):
                return True
        if math.ceil(larger * 100) / 100 == math.ceil(smaller * 100) / 100:
            return True
        return l1_compat.within_tolerance(prediction, gold)
    except (OverflowError, ValueError):  # numbers beyond a float, on which the released code raises
        return False
