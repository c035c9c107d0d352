"""Measured results of a model: files in its folder `evaluation/`, which cards read.

```python
>>> from qwenlong_trl.hub import Measurement, write_measurements
>>> values = [Measurement("accuracy", 0.73, interval=(0.67, 0.78), count=256, name="at 177 tokens")]
>>> write_measurements("out", "cards", "text-generation", "Card indexes", values, how="Greedy decoding.")
PosixPath('out/evaluation/cards.json')
```

`report.json` of `qwenlong-trl eval` and of `qwenlong-trl loong` may lie there as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from .files import read_json, write_json


FOLDER = "evaluation"
KIND = "measurements"


@dataclass(frozen=True)
class Measurement:
    """
    One value that was measured.

    Args:
        metric (`str`):
            What it is, such as `"accuracy"`.
        value (`float`):
            The value.
        interval (`tuple[float, float]`, *optional*):
            95 % interval.
        count (`int`, *optional*):
            Of how many questions or records.
        name (`str`, *optional*):
            What tells it from others with the same metric.
        method (`str`, *optional*):
            Another method than the model of the card, such as a baseline, which is shown beside it. In the metadata,
            where a value is one of the model, there are none of these.
    """

    metric: str
    value: float
    interval: tuple[float, float] | None = None
    count: int | None = None
    name: str | None = None
    method: str | None = None

    def __post_init__(self):
        numbers = [self.value, *(self.interval or ())]
        if any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in numbers):
            raise ValueError(f"{self.metric}: a measured value and its interval must be finite numbers, got {self}")


@dataclass(frozen=True)
class Measurements:
    """The values of one file: of which task, on which data, and in one sentence how they were measured."""

    file: str
    task: str
    dataset: str
    values: tuple[Measurement, ...]
    how: str = ""
    dataset_id: str | None = None

    def results(self) -> list[EvalResult]:
        """As metadata of a card has them. The Hub's format has no field for intervals; they are among the `args`."""
        return [
            EvalResult(
                task_type=self.task,
                dataset_type=self.dataset_id or self.file.removesuffix(".json"),
                dataset_name=self.dataset,
                metric_type=re.sub(r"\W+", "_", one.metric),
                metric_name=f"{one.metric} {one.name}" if one.name else one.metric,
                metric_value=one.value,
                metric_args={
                    **({"interval_95": list(one.interval)} if one.interval else {}),
                    **({"count": one.count} if one.count is not None else {}),
                }
                or None,
            )
            for one in self.values
            if one.method is None
        ]


def write_measurements(
    folder: str | Path,
    name: str,
    task: str,
    dataset: str,
    values: Sequence[Measurement],
    how: str = "",
    dataset_id: str | None = None,
) -> Path:
    """
    Writes `evaluation/<name>.json` into the folder of a model.

    Args:
        folder (`str` or `Path`):
            Of the model.
        name (`str`):
            Of the file, without its ending.
        task (`str`):
            As the Hub calls it, such as `"text-generation"`.
        dataset (`str`):
            What it was measured on, in words.
        values (`Sequence[Measurement]`):
            What was measured.
        how (`str`, *optional*):
            How, in a sentence.
        dataset_id (`str`, *optional*):
            Name of the data on the Hub.
    """
    path = Path(folder) / FOLDER / f"{name}.json"
    about = {"kind": KIND, "task": task, "dataset": dataset, "dataset_id": dataset_id, "how": how}
    write_json(path, about | {"values": [asdict(value) for value in values]})
    return path


def read_measurements(folder: str | Path) -> list[Measurements]:
    """
    All measurements in the folder `evaluation` of a model's folder, by name of their file.

    Raises:
        `ValueError`: a file there is of no kind that is known.
    """
    return [read_result(path) for path in sorted((Path(folder) / FOLDER).glob("*.json"))]


def read_result(path: Path) -> Measurements:
    """
    The measurements in a file: what [`write_measurements`] wrote, or `report.json` of an evaluation.

    Raises:
        `ValueError`: it is neither.
    """
    data = read_json(path, "measurements")
    if data is None:
        raise ValueError(f"{path} is not there")
    try:
        if data.get("kind") == KIND:
            values = [Measurement(**{**one, "interval": _pair(one.get("interval"))}) for one in data["values"]]
            about = {name: data[name] for name in ("task", "dataset", "how", "dataset_id")}
            return Measurements(path.name, values=tuple(values), **about)
        if "provenance" in data and "overall" in data:
            return _of_loong(path.name, data)
        if "effective_length" in data and "score" in data:
            return _of_evaluation(path.name, data)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what this version writes ({type(error).__name__} {error})") from None
    raise ValueError(
        f"{path} holds no results that are known: give report.json of `qwenlong-trl eval` or `qwenlong-trl loong`, or "
        "what qwenlong_trl.hub.write_measurements wrote"
    )


def _of_evaluation(file: str, data: Mapping[str, Any]) -> Measurements:
    """`report.json` of `qwenlong-trl eval`: the score as a whole, by length of the prompt and by task."""
    rows = [(None, data["score"])]
    rows += [(f"on prompts of {row['name']} tokens", row) for row in data["by_length"]]
    rows += [(f"on {row['task']}", row) for row in data["by_task"] if len(data["by_task"]) > 1]
    values = [
        Measurement("accuracy", row["mean"], _pair(row["interval"]), row["questions"], name)
        for name, row in rows
        if row["mean"] is not None
    ]
    settings = data["settings"]
    judge = settings.get("judge")
    how = f"{data['mode'].capitalize()} mode, "
    how += f"rule or judge {judge['name']}" if judge else "rule alone"
    if "num_samples" in settings:
        how += f"; {settings['num_samples']} samples for each question at temperature {settings['temperature']}"
    tasks = [row["task"] for row in data["by_task"]]
    dataset = ", ".join(tasks) if len(tasks) <= 4 else f"{len(tasks)} sources of questions"
    return Measurements(file, "text-generation", dataset, tuple(values), f"{how}.")


def _of_loong(file: str, data: Mapping[str, Any]) -> Measurements:
    """`report.json` of `qwenlong-trl loong`: the judge score, if there is one, and the structured score."""
    overall, values = data["overall"], []
    for name, metric, count in (
        ("strict_average" if data["mode"] == "fixed" else "average", "judge score", overall["total"]),
        ("structured", "structured score", overall.get("structured_total")),
    ):
        if overall.get(name) is not None and (metric != "judge score" or overall["parsed"]):
            values.append(Measurement(metric, overall[name], _pair(overall[f"{name}_interval"]), count))
    how = f"{data['provenance']}. Scores from 0 to 100."
    if data["not_comparable_with_published"]:
        how += f" Not comparable with the published tables: {'; '.join(data['not_comparable_with_published'])}."
    return Measurements(file, "text-generation", "Loong", tuple(values), how, "MozerWang/Loong")


def _pair(interval) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
