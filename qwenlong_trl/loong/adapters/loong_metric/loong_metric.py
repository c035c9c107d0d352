"""Loong as a metric of `evaluate`: the structured score, and a judge's scores from what it said.

```python
>>> import evaluate
>>> from qwenlong_trl.loong.adapters import METRIC_FOLDER
>>> loong = evaluate.load(str(METRIC_FOLDER))
>>> loong.compute(predictions=["-$0.04"], references=[record.to_dict()])["structured"]
100.0
```
"""

import json

import datasets
import evaluate

from qwenlong_trl.loong.judge import parse_score
from qwenlong_trl.loong.metrics import MODES, Scored, aggregate, breakdown
from qwenlong_trl.loong.records import LoongRecord
from qwenlong_trl.loong.scoring import structured_score


_DESCRIPTION = """\
Loong asks questions over 2 to 54 documents. Its "Avg Score" and "Perfect Rate" are what a judge model gives, 1 to \
100. The structured score, 0 to 100, is another one: it compares numbers, names, lists, groups and chains without a \
judge. Financial records of level 4 have free text for an answer, and no structured score.
"""

_CITATION = """\
@inproceedings{loong,
  title = {Leave No Document Behind: Benchmarking Long-Context LLMs with Extended Multi-Doc QA},
  author = {Wang, Minzheng and others},
  booktitle = {EMNLP},
  year = {2024},
  note = {arXiv 2406.17419}
}
"""

_INPUTS = """
Args:
    predictions (`list[str]`): what the model wrote; `""` where it gave no answer, which scores 0 (`evaluate` takes no
        `None` for a text), with `None` for the judgement of it.
    references (`list[str | dict]`): the records, as objects of `loong.jsonl` or as JSON.
    judgements (`list[str | None]`, *optional*): what a judge said of each prediction; `None` where it failed.
    mode (`str`, *optional*, defaults to `"fixed"`): how scores are read from that. `"official"` as the released code,
        `"fixed"` strictly.
    samples (`int`, *optional*, defaults to 2,000): of the bootstrap.

Returns:
    `structured` and `exact` (share of the answers that are wholly right) over the `structured_total` records that have
    one; of a judge `average`, `perfect_rate` and `parse_rate`, and `strict_average` and `strict_perfect_rate` with 0
    where nothing could be read; 95 % intervals by bootstrap over document sets, where there are several (`None` where
    all values are equal, too, from which no interval can be had); and `by_task` the same for each task. `None` where
    there is nothing to average.
"""

_OF_A_JUDGE = ("average", "perfect_rate", "parse_rate", "strict_average", "strict_perfect_rate")


class Loong(evaluate.Metric):
    """Scores predictions against records of Loong."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Json()}),
            homepage="https://github.com/MozerWang/Loong",
        )

    def _compute(self, predictions, references, judgements=None, mode="fixed", samples=2000):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if judgements is not None and len(judgements) != len(predictions):
            raise ValueError(f"{len(judgements)} judgements for {len(predictions)} predictions; give one for each")
        parse = "official" if mode == "official" else "robust"
        rows, exact = [], {}
        for i, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            record = _record(reference, i)
            said = None if judgements is None else judgements[i]
            score = None if said is None else parse_score(said, parse)
            found = structured_score(record, prediction)
            structured = None if found is None else found.score
            if found is not None:
                exact.setdefault(record.task, []).append(found.exact)
            rows.append(Scored(record, prediction, score, structured))
        judged = judgements is not None
        options = {"mode": mode, "samples": samples, "judged": judged}
        result = _figures(aggregate(rows, **options), sum(exact.values(), []), judged)
        by_task = breakdown(rows, "task", **options)
        result["by_task"] = {task: _figures(cell, exact.get(task, []), judged) for task, cell in by_task.items()}
        return {**result, "mode": mode}


def _record(reference, i):
    """Strings of JSON, maybe in JSON once more, or objects."""
    try:
        row = json.loads(reference) if isinstance(reference, str) else reference
    except ValueError as error:
        raise ValueError(f"reference {i} is no JSON ({error}): {reference[:80]!r}") from None
    try:
        return LoongRecord.from_dict(row)
    except ValueError as error:
        raise ValueError(f"reference {i} is no record of Loong: {error}") from None


def _figures(cell, exact, judged):
    names = ("structured", *(_OF_A_JUDGE if judged else ()))
    figures = {"total": cell.total, "structured_total": cell.structured_total}
    for name in names:
        interval = getattr(cell, f"{name}_interval")
        wide = interval is not None and interval[0] < interval[1]
        figures |= {name: getattr(cell, name), f"{name}_interval": interval if wide else None}
    return figures | {"exact": sum(exact) / len(exact) if exact else None}
