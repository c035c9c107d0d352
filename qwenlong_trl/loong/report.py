"""The report of a Loong run: report.html (one page that loads nothing), report.md and report.json.

```python
>>> summary = write_report("runs/bm25", rows, about, mode="fixed")  # of judgements.jsonl
>>> write_report("runs/bm25", other_rows, other_about, mode="fixed", stem="report-gpt-4o")  # of gpt-4o.jsonl
>>> print_report(summary)
```

Every sentence and every number is computed from the rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..rewards.judge import encodable
from .metrics import Mode, Scored
from .report_parts import EXAMPLES_NOTE, examples, losses, losses_table, settings, shown
from .report_table import escape_markdown, one_line
from .tables import (
    Summary,
    comparability,
    figure,
    full_tables,
    headline_columns,
    judge_name,
    not_comparable,
    official_lines,
    official_table,
    provenance,
    report_json,
    score_names,
    summarize,
    warnings,
)


_FLAT = " An interval without width means that all of its records have the same value, not that the value is certain."


def write_report(
    folder: str | Path,
    rows: Sequence[Scored],
    about: Mapping[str, Any],
    mode: Mode = "fixed",
    samples: int = 2_000,
    seed: int = 0,
    stem: str = "report",
) -> Summary:
    """
    Writes `report.json`, `report.md` and `report.html`, or those of another stem, into a folder, which is made.

    Args:
        folder (`str` or `Path`):
            Where to write.
        rows, about, mode, samples, seed:
            As in [`~qwenlong_trl.loong.tables.summarize`], which says what is an error.
        stem (`str`, *optional*, defaults to `"report"`):
            Name of the files, see [`~qwenlong_trl.loong.run.report_stem`].

    Returns:
        `Summary`: what was written, for the terminal.
    """
    import matplotlib

    from ..pages import STYLE, draw, render
    from .figures import COLOURS, plots

    summary = summarize(rows, about, mode, samples, seed)
    tables = (*full_tables(summary), official_table(summary), losses_table(summary, rows))
    values = {
        **{"model": shown(str(about.get("model", "unnamed")), 200), "provenance": provenance(summary)},
        **{"warnings": warnings(summary), "headline": headline(summary), "comparability": comparability(summary)},
        **{"warn": bool(not_comparable(summary)), "tiles": tiles(summary), "captions": captions(summary)},
        **{"tables": {table.name: table for table in tables}, "losses": losses(summary, rows)},
        **{"examples": examples(summary, rows), "examples_note": EXAMPLES_NOTE},
        **{"settings": dict(settings(about)), "how": _intervals_note(summary, samples)},
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = report_json(summary) | {"losses": values["losses"], "examples": [one["id"] for one in values["examples"]]}
    (folder / f"{stem}.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / f"{stem}.md").write_text(encodable(_markdown(values)), encoding="utf-8")
    with matplotlib.rc_context(STYLE):
        values["figures"] = draw(plots(summary), COLOURS)
    template = Path(__file__).with_name("report.html.jinja")
    page = render(template, values, COLOURS, accent="judge", warning="structured")
    (folder / f"{stem}.html").write_text(encodable(page), encoding="utf-8")
    return summary


def print_report(summary: Summary) -> None:
    """Prints the 25 lines of the official script, the full tables and the headline to the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    official = official_table(summary)
    console.print(Text(official.title, style="bold"), *map(Text, official_lines(summary)), sep="\n")
    console.print(Text(f"{official.note}\n", style="dim"))
    for table in full_tables(summary):
        console.print(table.as_rich())
    for text in warnings(summary):
        console.print(Text(f"Warning: {text}", style="bold red"))
    console.print(Text(headline(summary), style="bold"))
    console.print(Text(comparability(summary)))


def headline(summary: Summary) -> str:
    """What came out, in a few sentences."""
    overall, total = summary.overall, f"{summary.overall.total:,}"

    def told(name: str, digits: int) -> str:
        value, *beside = figure(overall, name, digits)
        if getattr(overall, f"{name}_interval") is not None:
            beside[0] = f"95 % interval {beside[0]}"
        return one_line((value, *beside))

    structured = "No record has a structured score."
    if overall.structured is not None:
        structured = f"The structured score, which takes no judge, is {told('structured', 1)}."
    if not summary.judged:
        return f"No judge was asked, so the benchmark's own score is not known. {structured}"
    mean, perfect = score_names(summary.about)
    if summary.mode == "fixed":
        text = (
            f"Over all {total} records, the strict average is {told('strict_average', 1)} of 100, and the strict "
            f"perfect rate {told('strict_perfect_rate', 2)}. Strict: a record without a completion, or without a "
            "score that could be read, counts as 0."
        )
    elif overall.parsed:
        text = (
            f"Official mode: over the {overall.parsed:,} of {total} records whose judgement could be read, {mean} "
            f"(of {judge_name(summary.about['judge'])}) is {told('average', 1)} and {perfect} "
            f"{told('perfect_rate', 2)}. Any other records are left out, as in the released script."
        )
        if missing := overall.total - overall.answered:
            text += f" {missing:,} have no completion; what the judge is shown of them, as there, is an empty answer."
    else:
        text = f"Official mode: none of the {total} records has a judgement that could be read."
    return f"{text} {structured}"


def tiles(summary: Summary) -> dict[str, tuple[str, ...]]:
    """The figures on top of the page: those of the headline, and the structured score."""
    names = headline_columns(summary)
    chosen = [*[*names][: 3 if summary.judged else 0], "structured"]
    return {names[name]: figure(summary.overall, name, 2 if "rate" in name else 1) for name in chosen}


def captions(summary: Summary) -> dict[str, str]:
    """What the figures show."""
    mean = score_names(summary.about)[0]
    by_mode = {"fixed": "Strict average of the judge's scores", "official": f"{mean} over parsed judgements"}
    what = f"{by_mode[summary.mode]}, and the structured score" if summary.judged else "Structured score"
    one_set = any(cell.document_sets < 2 for cell in summary.by["set"].values())
    text = f"{what}, of 100. Lines are 95 % intervals over document sets" + "; one set has none" * one_set
    return {"sets": f"{text}.", "bars": f"{text}."}


def _intervals_note(summary: Summary, samples: int) -> str:
    cells = [summary.overall, *(cell for cells in summary.by.values() for cell in cells.values())]
    spans = [getattr(cell, f"{name}_interval") for cell in cells for name in headline_columns(summary)]
    flat = any(one is not None and one[0] == one[1] for one in spans)
    return (
        f"Intervals: 95 % percentile bootstrap over document sets, {samples:,} samples; over few document sets they "
        f"are too narrow, and over one there is none.{_FLAT * flat}"
    )


def _markdown(values: Mapping[str, Any]) -> str:
    tables = dict(values["tables"])
    official, lost = tables.pop("official"), tables.pop("losses")
    text = escape_markdown
    parts = [f"# Loong report: {text(values['model'])}", text(values["provenance"])]
    parts += [*(f"**Warning: {text(one)}**" for one in values["warnings"]), text(values["headline"])]
    parts += [f"**{text(values['comparability'])}**", "## Scores", *(table.as_markdown() for table in tables.values())]
    parts += ["## In the lines of the official script", official.as_markdown()]
    parts += ["## What has no score, and what was cut", *map(text, values["losses"]), lost.as_markdown()]
    parts += ["## Examples", text(values["examples_note"])]
    for example in values["examples"]:
        parts.append(f"### {text(example['title'])}")
        parts.append("\n".join(f"- {name}: {text(one)}" for name, one in example["texts"].items()))
    parts += ["## How it was run", "\n".join(f"- {text(k)}: {text(v)}" for k, v in values["settings"].items())]
    return "\n\n".join(part.strip("\n") for part in [*parts, text(values["how"])]) + "\n"
