"""The result of a Loong run in the folder of a model repository, where the hub reads it: `.eval_results/loong.yaml`.

```python
>>> report = json.loads(Path("runs/set1/report.json").read_text())
>>> write_eval_results("my-model", report, dataset_id="MozerWang/Loong", source_url="https://...")
PosixPath('my-model/.eval_results/loong.yaml')
```

Format: huggingface.co/docs/hub/eval-results. Every entry says in its notes how the value was made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import date as Date
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ..tables import policy_name, score_names


FILE = "loong.yaml"
# Figure of the report -> what it is called.
_JUDGED = {"fixed": ("strict_average", "Strict average"), "official": ("average", "{} (parsed)")}
_STRUCTURED = ("structured", "Structured score (deterministic, no judge; not the score of the benchmark)")


def write_eval_results(
    model_folder: str | Path,
    report: Mapping[str, Any],
    dataset_id: str,
    task_id: str = "loong",
    score: Literal["judge", "structured"] = "judge",
    date: str | None = None,
    source_url: str | None = None,
) -> Path:
    """
    Adds the result of a run, or replaces that of the same data set and task. Other entries of the file stay.

    Args:
        model_folder (`str` or `Path`):
            The model repository, which exists.
        report (`Mapping[str, Any]`):
            What `report.json` of the run holds.
        dataset_id (`str`):
            The benchmark on the hub, such as `"MozerWang/Loong"`.
        task_id (`str`, *optional*, defaults to `"loong"`):
            The task within it.
        score (`"judge"` or `"structured"`, *optional*, defaults to `"judge"`):
            The judge's score: in fixed mode the strict average, in official mode the average of what was parsed. Or
            the structured score, whose task is called `<task_id>_structured`.
        date (`str`, *optional*):
            Day or time of the evaluation, as ISO 8601 has it. The hub takes the time of the commit by default.
        source_url (`str`, *optional*):
            Where it is described or logged.

    Returns:
        `Path`: the file.

    Raises:
        `ValueError`: the run has no such score, an argument is not as it should be, or the file that is there holds
            no results. Nothing is written then.
        `OSError`: the folder is not there or cannot be written.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.constants import EVAL_RESULTS_FOLDER

    if score not in ("judge", "structured"):
        raise ValueError(f'score must be "judge" or "structured", got {score!r}')
    if not dataset_id or not task_id:
        raise ValueError("dataset_id and task_id must not be empty")
    if date is not None:
        datetime.fromisoformat(date)  # raises ValueError that names it
    if not Path(model_folder).is_dir():
        raise FileNotFoundError(f"{model_folder} is no folder; give that of a model repository")
    value, notes = _result(report, score)
    entry = EvalResultEntry(
        dataset_id=dataset_id,
        task_id=task_id if score == "judge" else f"{task_id}_structured",
        value=value,
        date=date,
        source_url=source_url,
        notes=notes,
    )
    (new,) = eval_result_entries_to_yaml([entry])
    file = Path(model_folder) / EVAL_RESULTS_FOLDER / FILE
    entries = [old for old in _read(file) if _key(old) != _key(new)]
    text = yaml.safe_dump([*entries, new], sort_keys=False, allow_unicode=True, width=118)
    file.parent.mkdir(exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)
    return file


def _result(report: Mapping[str, Any], score: str) -> tuple[float, str]:
    """The value of a run, and how it was made."""
    try:
        mode, overall = report["mode"], report["overall"]
        name, title = _JUDGED[mode] if score == "judge" else _STRUCTURED
        value, interval, total = overall[name], overall[f"{name}_interval"], overall["total"]
        judge, provenance = report["about"]["judge"], report["provenance"]
        title, unjudged = title.format(score_names(report["about"])[0]), overall["unjudged"]
        reasons = report["not_comparable_with_published"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the report is not what report.json of a run of Loong holds ({error!r}); write it again with "
            "`qwenlong-trl loong report`"
        ) from None
    if score == "judge" and (judge is None or not overall["parsed"]):
        raise ValueError(
            "the run has no scores of a judge, which the benchmark's results are; have it judged (`qwenlong-trl loong "
            'judge`), or write the structured score under a task of its own (score="structured")'
        )
    if score == "judge" and unjudged:
        raise ValueError(
            f"{unjudged:,} answers of the run have not been judged; run `qwenlong-trl loong judge` again first"
        )
    if value is None or not math.isfinite(value):
        raise ValueError(f"the run has no {title} to write: it is {value!r}")
    notes = [f"{title}, 0 to 100"]
    if score == "judge":
        notes += [provenance, f"prompt sha256 {judge.get('prompt_sha256', 'unknown')}"]
        notes.append(f"{overall['parsed']:,} of {total:,} records have a score of the judge")
    else:  # of a run that was judged, too, the judge has no part in this
        notes.append(f"{mode.capitalize()} mode · policy {policy_name(report['about'])}")
        notes.append(f"{overall['structured_total']:,} of {total:,} records have one")
    if interval is not None:
        notes.append(f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}, bootstrap over document sets")
    if reasons and score == "judge":
        notes.append(f"Not comparable with the published tables: {'; '.join(reasons)}")
    return round(float(value), 4), ". ".join(notes) + "."


def _read(file: Path) -> list[dict[str, Any]]:
    """The entries of a file, none if it is not there."""
    import yaml
    from huggingface_hub import parse_eval_result_entries

    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 text ({error}); repair or remove it") from None
    try:
        entries = yaml.safe_load(text)
        entries = [] if entries is None else entries
        if not isinstance(entries, list) or len(parse_eval_result_entries(entries)) < len(entries):
            raise ValueError("expected a list of entries")
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} holds no list of results ({error!r}); repair or remove it") from None
    return [_plain(entry) for entry in entries]


def _plain(value: Any) -> Any:
    """YAML reads unquoted dates as such; texts are what the hub's format asks for."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, Date) else value


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["dataset"]["id"], entry["dataset"]["task_id"]
