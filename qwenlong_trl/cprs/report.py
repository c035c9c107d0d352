"""Tables of what survives compression, with 95 % bootstrap intervals over examples; nothing here knows a model.

```python
>>> results = {"critic": evaluator.evaluate(examples, budgets)}
>>> results |= {name: evaluate_baseline(name, examples, tokenizer, budgets) for name in BASELINES}
>>> print(compression_table(results, budgets))
>>> print(difference_table("critic", results, budgets))
```

Methods that compress the same examples are compared within each example: intervals of two methods may overlap although
the interval of their difference, which is what says that one is better, excludes 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..hub.measurements import Measurement
from ..intervals import bootstrap_interval
from .evaluation import Evaluated, summarize


MEASURES = {"evidence_recall": "evidence recall", "has_answer": "answer in context"}


def compression_table(results: Mapping[str, Sequence[Evaluated]], budgets: Sequence[float]) -> str:
    """
    A Markdown table: a row for each method; evidence recall and answer in context at each budget, and span F1.

    Values are in percent, a mean and its interval. Span F1 is of all spans together and has no interval; methods that
    decode no spans have none.

    Args:
        results (`Mapping[str, Sequence[Evaluated]]`):
            By name of the method, for the same examples in the same order.
        budgets (`Sequence[float]`):
            Shares of the tokens, all of them evaluated.

    Raises:
        `ValueError`: there are no results, the methods have seen different examples, or a budget was not evaluated.
    """
    rows = []
    for name, found in _checked(results, budgets).items():
        cells = [_interval(_values(found, budget, measure)) for measure in MEASURES for budget in budgets]
        f1 = f"{100 * summarize(found)['span_f1']:.1f}" if any(one.wanted for one in found) else "–"
        rows.append([name, *cells, f1])
    header = [f"{title} at {_percent(budget)}" for title in MEASURES.values() for budget in budgets]
    return _table(["method", *header, "span F1"], rows)


def measurements(
    results: Mapping[str, Sequence[Evaluated]], budgets: Sequence[float], name: str = "critic"
) -> list[Measurement]:
    """
    What a method keeps at each budget, as the card of its model shows it: means over the records with their intervals,
    and the same of the other methods beside it.

    Args:
        results, budgets:
            As in [`compression_table`].
        name (`str`, *optional*, defaults to `"critic"`):
            The method that the card is about, which comes first.

    Raises:
        `ValueError`: as in [`compression_table`], or there is no such method.
    """
    found = _checked(results, budgets)
    if name not in found:
        raise ValueError(f"there are no results of {name!r}, only of {', '.join(found)}")
    return [
        Measurement(title, float(np.mean(values)), bootstrap_interval(values), len(values), told, other)
        for method in (name, *(other for other in found if other != name))
        for budget in budgets
        for measure, title in MEASURES.items()
        for values in [_values(found[method], budget, measure)]
        for told, other in [(f"at {budget:g} of the tokens", None if method == name else method)]
    ]


def difference_table(name: str, results: Mapping[str, Sequence[Evaluated]], budgets: Sequence[float]) -> str:
    """
    A Markdown table of the paired differences of a method to each of the others, in percentage points.

    The method is better than another one where the interval lies above 0.

    Args:
        name (`str`):
            The method, one of `results`.
        results, budgets:
            As in [`compression_table`].
    """
    results = _checked(results, budgets)
    if name not in results:
        raise ValueError(f"no results of {name!r}, there are those of {', '.join(results)}")
    rows = []
    for other, found in results.items():
        if other != name:
            columns = [(budget, measure) for measure in MEASURES for budget in budgets]
            cells = [_signed(*paired_difference(results[name], found, *column)) for column in columns]
            rows.append([f"{name} − {other}", *cells])
    header = [f"{title} at {_percent(budget)}" for title in MEASURES.values() for budget in budgets]
    return _table(["difference", *header], rows)


def paired_difference(
    ours: Sequence[Evaluated], theirs: Sequence[Evaluated], budget: float, measure: str = "evidence_recall"
) -> tuple[float, float, float]:
    """
    Mean over examples of what one method kept more than another, with the interval of this mean.

    Args:
        ours, theirs (`Sequence[Evaluated]`):
            For the same examples in the same order.
        budget (`float`):
            A share of the tokens.
        measure (`str`, *optional*, defaults to `"evidence_recall"`):
            `"evidence_recall"` or `"has_answer"`.

    Returns:
        `tuple[float, float, float]`: mean, and lower and upper end of its 95 % bootstrap interval.
    """
    _checked({"ours": ours, "theirs": theirs}, [budget])
    difference = _values(ours, budget, measure) - _values(theirs, budget, measure)  # (examples,)
    return float(difference.mean()), *bootstrap_interval(difference)


def _checked(
    results: Mapping[str, Sequence[Evaluated]], budgets: Sequence[float]
) -> Mapping[str, Sequence[Evaluated]]:
    names = list(results)
    if not names or not results[names[0]]:
        raise ValueError("there are no results to report")
    ids = [one.id for one in results[names[0]]]
    for name, found in results.items():
        if [one.id for one in found] != ids:
            raise ValueError(f"{names[0]!r} and {name!r} have compressed different examples, or in another order")
        missing = [budget for budget in budgets if any(budget not in one.at for one in found)]
        if missing:
            raise ValueError(f"{name!r} was not evaluated at the budgets {missing}")
    return results


def _values(found: Sequence[Evaluated], budget: float, measure: str) -> np.ndarray:
    return np.array([getattr(one.at[budget], measure) for one in found], dtype=np.float64)


def _interval(values: np.ndarray) -> str:
    low, high = bootstrap_interval(values)
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _signed(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _percent(budget: float) -> str:
    return f"{100 * budget:g} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
