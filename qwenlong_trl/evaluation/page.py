"""The page of a run, report.html: it loads nothing, needs no script, and shows the figures of [`report_data`].

```python
>>> page = html_report(report_data(run.answers, run.records, run.about), run)
```

Every sentence and every number is computed from the answers; equal answers give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

from ..loong.report_parts import settings, shown
from ..pages import STYLE, draw, render
from ..rewards.judge import encodable
from .figures import COLOURS, MARKS, plots, reached
from .report import group_of, tokens_name
from .scores import Answer
from .tables import Table, report_notes, report_tables


if TYPE_CHECKING:
    from .run import Run

# Tasks that examples are shown of, and characters of each of their texts.
EXAMPLE_TASKS, QUESTION_LIMIT, ANSWER_LIMIT = 6, 400, 500
EXAMPLES_NOTE = (
    "Of each task{} the first answer that is right and the first that is wrong, in the order of the questions; a "
    "missing or empty one only if no other is wrong. Then the first that only the judge accepts, if there is one. "
    "Texts are shortened."
)
_COUNTS = {
    "questions": "Questions",
    "answers": "Answers, with those that are missing",
    "failed": "Missing: the model or its server gave none",
    "empty": "Empty",
    "left_out": "Missing or empty, and left out of every mean",
    "cut_off": "Cut off at the limit of tokens",
    "unread": "Not empty, but the rule can read no answer in it",
    "judged": "Shown to the judge",
    "accepted_by_judge_alone": "Right for the judge and not for the rule",
    "without_verdict": "Shown to the judge, who gave no verdict",
    "truncated_prompts": "Prompts that lost their middle to fit",
}


def html_report(data: Mapping[str, Any], run: Run) -> str:
    """`report.html`.

    Args:
        data (`Mapping[str, Any]`):
            From [`report_data`].
        run ([`Run`]):
            What `data` was computed from, for the examples.
    """
    with matplotlib.rc_context(STYLE):
        figures = draw(plots(data), COLOURS)
    how, effective = _notes(data)
    values = {
        **{"model": model_name(data), "headline": headline(data), "how": how, "effective": effective},
        **{"missed": data["effective_length"]["tokens"] is None, "tiles": tiles(data), "figures": figures},
        **{"tables": _tables(data), "heat": heat(data)},
        **{"marks": _marks(data), "remarks": remarks(data), "counts": counts(data), "examples": [*examples(run)]},
        **{"examples_note": _examples_note(data), "settings": dict(settings(data["settings"]))},
    }
    template = Path(__file__).with_name("report.html.jinja")
    return encodable(render(template, values, COLOURS, accent="score", warning="threshold"))


def model_name(data: Mapping[str, Any]) -> str:
    """What answered, as the settings name it."""
    name = data["settings"].get("model_name_or_path") or data["settings"].get("model") or "unnamed"
    return shown(str(name), 200)


def headline(data: Mapping[str, Any]) -> str:
    """What came out, in two or three sentences."""
    score, asked = data["score"], data["counts"]
    of = f"{asked['questions']:,} questions and {asked['answers']:,} answers"
    if score["mean"] is None:
        return f"No answer counts, so there is no score: of {of}, all are missing or empty."
    text = f"The score is {_percent(score['mean'])} (95 % interval {_interval(score['interval'])}) over "
    text += f"{of}." if data["mode"] == "fixed" else f"{score['answers']:,} answers that count, of {of}."
    rows = [row for row in data["by_length"] if row["mean"] is not None]
    if len(rows) > 1:
        text += f" On the shortest prompts ({rows[0]['name']} tokens) it is {_percent(rows[0]['mean'])}, on the "
        text += f"longest ({rows[-1]['name']}) {_percent(rows[-1]['mean'])}."
    curve = data["pass_at_k"]
    if len(curve) > 1:
        text += f" Of {curve[-1]['k']} answers to a question, at least one is right for {_percent(curve[-1]['mean'])}"
        text += f" of {curve[-1]['questions']:,} questions."
    return text


def tiles(data: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The figures on top of the page, with what stands below each."""
    found = {"Score": data["score"]}
    if data["counts"]["judged"]:
        found["Rule alone"] = data["rule"]
    if data["judge"] is not None:
        found["Judge alone"] = data["judge"]
    if data["average"]["tasks"] > 1:
        found[f"Average of {data['average']['tasks']} tasks"] = data["average"]
    if len(data["pass_at_k"]) > 1:
        found[f"Pass@{data['pass_at_k'][-1]['k']}"] = data["pass_at_k"][-1]
    tiles = {
        name: (_percent(one["mean"]), f"95 % interval {_interval(one['interval'])}" if one["interval"] else "")
        for name, one in found.items()
    }
    effective = data["effective_length"]
    tokens = "none" if effective["tokens"] is None else tokens_name(effective["tokens"])
    return tiles | {"Effective length": (tokens, f"at a threshold of {_percent(effective['threshold'])}")}


def heat(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Cells of task by bucket, each with its share between 0 and 1; `None` for one task or one bucket, or no score."""
    names = {row["low"]: row["name"] for row in data["by_length"]}
    tasks = [row["task"] for row in data["by_task"]]
    if len(names) < 2 or len(tasks) < 2 or data["score"]["mean"] is None:
        return None
    found = {(row["task"], row["low"]): row for row in data["by_task_and_length"]}
    rows = [(shown(task, 100), [_cell(found.get((task, low))) for low in names]) for task in tasks]
    return {"columns": [*names.values()], "rows": rows}


def counts(data: Mapping[str, Any]) -> dict[str, str]:
    """How many there are of what a mean does not tell, and which share of the answers or questions."""
    judged = data["settings"].get("judge") is not None or data["counts"]["judged"]
    only_judged = ("judged", "accepted_by_judge_alone", "without_verdict")
    names = [name for name in _COUNTS if judged or name not in only_judged]
    names = [name for name in names if data["mode"] == "official" or name != "left_out"]
    found = {}
    for name in names:
        count, whole = data["counts"][name], data["counts"]["questions" if name == "truncated_prompts" else "answers"]
        share = f" ({_percent(count / whole)})" if count and name not in ("questions", "answers") else ""
        found[_COUNTS[name]] = f"{count:,}{share}"
    return found


def remarks(data: Mapping[str, Any]) -> dict[str, str]:
    """What is said of a section beside its figure, by name: computed, like all."""
    rows, tasks = data["by_length"], len(data["by_task"])
    found = dict.fromkeys(("length", "length_caption", "tasks", "depth", "judge"), "")
    if len(rows) == 1:
        found["length"] = f"All prompts lie in one bucket, {rows[0]['name']} tokens, so no line can be drawn."
    elif sum(row["mean"] is not None for row in rows) < 2:
        found["length"] = "Fewer than two buckets have a score, so no line can be drawn."
    else:
        mark = " Shaded: the effective length, up to which no bucket scores below it." if reached(data) else ""
        found["length_caption"] = f"Upright lines are 95 % intervals. Dashed: the threshold.{mark}"
    if tasks > len(MARKS) and heat(data):
        found["tasks"] = f"Lines of {tasks} tasks could not be told apart; the table has them all."
    if not data["by_depth"]:
        found["depth"] = "No record whose prompt is whole says where its evidence stands."
    elif sum(row["mean"] is not None for row in data["by_depth"]) < 2:
        found["depth"] = "At most one part of the context has a score, so no line can be drawn."
    if data["counts"]["judged"] and data["judge"] is None:
        found["judge"] = "The judge was not asked about all answers, so what it alone would say is not known."
    elif data["judge"] is not None:
        found["judge"] = "The judge's own mean is over the questions of the tasks that it judges."
    return found


def examples(run: Run) -> Iterator[dict[str, Any]]:
    """Some answers, see `EXAMPLES_NOTE`: `title`, `right`, and `texts` by name, shortened."""
    group = {record.id: group_of(record) for record in run.records}
    chosen: list[Answer] = []
    for task in sorted(set(group.values()))[:EXAMPLE_TASKS]:
        own = [answer for answer in run.answers if group[answer.record_id] == task]
        right = next((answer for answer in own if answer.score > 0), None)
        wrong = [answer for answer in own if answer.score <= 0]
        chosen += [answer for answer in (right, min(wrong, key=lambda one: not one.text, default=None)) if answer]
    by_judge = next((answer for answer in run.answers if answer.score > answer.rule), None)
    chosen += [] if by_judge is None or by_judge in chosen else [by_judge]
    records = {record.id: record for record in run.records}
    for answer in chosen:
        record = records[answer.record_id]
        verdict = "right" if answer.score > 0 else "wrong"
        tokens = run.about["prompts"][record.id]["tokens"]
        texts = {"Question": shown(record.question, QUESTION_LIMIT)}
        texts["Gold answer"] = shown(" · ".join(record.answers), ANSWER_LIMIT)
        texts["Answer"] = shown(answer.text, ANSWER_LIMIT) if answer.text else f"({_nothing(answer)})"
        texts["Read as"] = "(nothing)" if answer.prediction is None else shown(answer.prediction, ANSWER_LIMIT)
        texts["Score"] = f"{answer.score:g}: {_apart(answer)}"
        if answer.finish_reason == "length":
            texts["Score"] += "; cut off at the limit of tokens"
        title = f"{shown(group[record.id], 80)}: {shown(record.id, 80)}, answer {answer.sample + 1}"
        yield {"title": title, "verdict": verdict, "about": f"{tokens:,} prompt tokens", "texts": texts}


def _notes(data: Mapping[str, Any]) -> tuple[list[str], str]:
    """Those of report.md on how it was scored, and on the effective length; the others are in the counts."""
    first, second, effective, *_ = report_notes(data)
    lost = {"fixed": "count as 0.", "official": "are left out of every mean, as in the released evaluation code."}
    return [shown(first, 500), f"Missing and empty answers {lost[data['mode']]}", shown(second, 500)], effective


def _tables(data: Mapping[str, Any]) -> dict[str, Table]:
    """Those of report.md by title; what they name is made fit for a page."""
    tables = report_tables(data)
    return {t.title: replace(t, rows=[(shown(row[0], 100), *row[1:]) for row in t.rows]) for t in tables}


def _examples_note(data: Mapping[str, Any]) -> str:
    first = f" (the first {EXAMPLE_TASKS} by name)" if len(data["by_task"]) > EXAMPLE_TASKS else ""
    return EXAMPLES_NOTE.format(first)


def _marks(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Colour, mark and name of each line of the figure by task."""
    tasks = [shown(row["task"], 60) for row in data["by_task"]]
    return [(name, mark, task) for (name, (_, mark)), task in zip(MARKS.items(), tasks, strict=False)]


def _cell(row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None or row["mean"] is None:
        return {"share": None, "text": "–", "beside": ()}
    beside = _interval(row["interval"]), f"n = {row['questions']:,}"
    return {"share": round(row["mean"], 3), "text": f"{100 * row['mean']:.1f}", "beside": beside}


def _nothing(answer: Answer) -> str:
    return "missing" if answer.finish_reason == "failed" else "empty"


def _apart(answer: Answer) -> str:
    if not answer.judged:
        return f"rule {answer.rule:g}"
    return f"rule {answer.rule:g}, judge {'without verdict' if answer.judge is None else f'{answer.judge:g}'}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _interval(interval: tuple[float, float] | list[float] | None) -> str:
    return "–" if interval is None else "–".join(f"{100 * edge:.1f}" for edge in interval)
