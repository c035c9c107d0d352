"""The tables of a Loong run: the official script's 25 lines and the full ones, for the terminal, Markdown and JSON.

```python
>>> summary = summarize(rows, about, mode="fixed")
>>> print(*official_lines(summary), sep="\\n")
>>> for table in (official_table(summary), *full_tables(summary)):
...     rich.print(table.as_rich())  # or print(table.as_markdown())
>>> json.dumps(report_json(summary))
```

Every table says in which mode it was computed, who judged with which prompt, what made the documents fit, and over how
many records. "Avg Score" and "Perfect Rate" are what the judge of the published tables gives: figures of another
judge are called "Judge score" and "Judge perfect rate", and without a judge there is the structured score alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .assembly import OFFICIAL_MAX_TOKENS
from .metrics import FIELDS, Cell, Interval, Mode, Scored, aggregate, breakdown
from .records import SETS, TASKS
from .report_table import ReportTable


OFFICIAL_JUDGE = "gpt-4-turbo-2024-04-09"
RECORDS = 1600
# Of the one loong.jsonl that the authors ever released: the first 16 hex digits, as a run's settings hold them.
OFFICIAL_DATA = "sha256 cd640d3ca0e41d36"
MANY_TRUNCATED = 0.05  # the share of answers that may be cut off without a warning
TITLES = {"task": "task", "subtask": "sub-task", "set": "set", "type": "domain", "language": "language"}
BREAKDOWNS = (*TITLES, ("type", "level"))
NOTHING = "–"


@dataclass(frozen=True)
class Summary:
    """
    All figures of a run: `overall`, `by` field (or fields) and value, and the cells of the `official` table by set
    (`None`: all) and level (`None`: all), which are computed by the official rules in either mode.
    """

    about: Mapping[str, Any]
    mode: Mode
    overall: Cell
    by: Mapping[Any, Mapping[Any, Cell]]
    official: Mapping[tuple[int | None, int | None], Cell]

    @property
    def judged(self) -> bool:
        """Whether a judge was asked."""
        return self.about.get("judge") is not None


def summarize(
    rows: Sequence[Scored], about: Mapping[str, Any], mode: Mode = "fixed", samples: int = 2_000, seed: int = 0
) -> Summary:
    """
    Computes the figures of a run.

    Args:
        rows (`Sequence[Scored]`):
            All records of the run, those without a completion, too.
        about (`Mapping[str, Any]`):
            How the run was made, for JSON: `model`, `mode`, `assembly` (with `mode` and `policy`), `sampling`, `data`
            (digests of the records' files), `judge` (what [`LoongJudge.describe`] says; `None` if none was asked),
            `records`, `selection`, and all other settings of the run.
        mode (`"fixed"` or `"official"`, *optional*, defaults to `"fixed"`):
            See [`~qwenlong_trl.loong.metrics`].
        samples, seed (`int`, *optional*, default to 2,000 and 0):
            Of the bootstrap.

    Raises:
        `ValueError`: there are no rows, or one has a judge's score although `about` names no judge.
    """
    if not rows:
        raise ValueError("there are no records to report")
    judged = about.get("judge") is not None
    if not judged and (odd := [row.record.id for row in rows if row.score is not None]):
        raise ValueError(f"{odd[0]!r} has a judge's score, but `about` names no judge; say who judged")
    options = {"samples": samples, "seed": seed, "judged": judged}
    official = {}
    for number in (None, *SETS):
        for level in (None, *FIELDS["level"]) if number is None else (*FIELDS["level"], None):
            cell = [row for row in rows if number in (None, row.record.set) and level in (None, row.record.level)]
            official[number, level] = aggregate(cell, "official", lines=len(rows), **options)
    by = {fields: breakdown(rows, fields, mode, **options) for fields in BREAKDOWNS}
    return Summary(about, mode, aggregate(rows, mode, **options), by, official)


def provenance(summary: Summary, mode: Mode | None = None) -> str:
    """Mode, judge with prompt and hash, policy and number of records, in one line."""
    return f"{(mode or summary.mode).capitalize()} mode · {provenance_of(summary.about, summary.overall.total)}"


def provenance_of(about: Mapping[str, Any], records: int) -> str:
    """As [`provenance`], without the mode."""
    judge = about.get("judge")
    parts = ["no judge" if judge is None else f"judge {judge_name(judge)}"]
    if judge is not None:
        prompt, digest = judge.get("prompt", "unnamed"), str(judge.get("prompt_sha256", "unknown"))[:12]
        parts += [f"prompt {prompt} ({digest})", f"parse {judge.get('parse', 'unnamed')}"]
    return " · ".join([*parts, f"policy {policy_name(about)}", f"{records:,} record{'s' * (records != 1)}"])


def judge_name(judge: Mapping[str, Any]) -> str:
    """Its model, or what kind of judge it is."""
    return str(judge.get("model") or judge.get("judge") or "unnamed")


def policy_name(about: Mapping[str, Any]) -> str:
    """What made the documents fit, with the assembly's mode."""
    assembly = about.get("assembly") or {}
    policy = assembly.get("policy") or "skip"
    name = policy.get("name", "unnamed") if isinstance(policy, Mapping) else str(policy)
    return f"{name} ({assembly.get('mode', 'unnamed')} assembly)"


def score_names(about: Mapping[str, Any]) -> tuple[str, str]:
    """What mean and perfect rate are called: the benchmark's names are for the judge of the published tables alone."""
    official = about.get("judge") is not None and judge_name(about["judge"]) == OFFICIAL_JUDGE
    return ("Avg Score", "Perfect Rate") if official else ("Judge score", "Judge perfect rate")


def not_comparable(summary: Summary) -> list[str]:
    """In what the run differs from the published ones, which are in official mode, whole and by `OFFICIAL_JUDGE`."""
    about, judge, overall = summary.about, summary.about.get("judge"), summary.overall
    assembly, sampling = about.get("assembly") or {}, about.get("sampling") or {}
    mode, limit, temperature = assembly.get("mode", "unnamed"), assembly.get("max_tokens"), sampling.get("temperature")
    data = (about.get("data") or {}).get("loong.jsonl")
    reasons = ["no judge was asked"] * (judge is None)
    if judge is not None:
        if (model := judge_name(judge)) != OFFICIAL_JUDGE:
            reasons.append(f"the judge is {model}, not {OFFICIAL_JUDGE}")
        reasons += [
            f"the judge's {what} is {judge.get(what, 'unnamed')}, not official"
            for what in ("prompt", "parse")
            if judge.get(what) != "official"
        ]
        if judge.get("temperature") != 0:
            reasons.append(f"the judge's temperature is {_said(judge.get('temperature'))}, not 0")
    reasons += [f"the prompts were made in {mode} mode"] * (mode != "official")
    if limit != OFFICIAL_MAX_TOKENS:
        reasons.append(f"the limit of the prompts is {_said(limit)} tokens, not {OFFICIAL_MAX_TOKENS:,}")
    if temperature != 0:
        reasons.append(f"the temperature of the answers is {_said(temperature)}, not 0")
    if data != OFFICIAL_DATA:
        reasons.append(f"loong.jsonl has the digest {_said(data)}, not {OFFICIAL_DATA}")
    if overall.total != RECORDS:
        reasons.append(f"there are {overall.total:,} of {RECORDS:,} records")
    if overall.answered < overall.total:
        reasons.append(f"{overall.total - overall.answered:,} records have no completion")
    if overall.unjudged:
        reasons.append(f"{overall.unjudged:,} answers have not been judged")
    return reasons


def comparability(summary: Summary) -> str:
    """Whether the figures may stand beside the published ones, and what the released code does not limit."""
    judge = summary.about.get("judge")
    caps = _caps(summary.about)
    if reasons := not_comparable(summary):
        return f"Not comparable with the published numbers of Loong: {'; '.join(reasons)}.{caps}"
    if summary.mode == "official":
        server = f" at {judge['base_url']}" if judge.get("base_url") else ""
        text = f"Comparable with the published numbers of Loong: official mode, judged by {OFFICIAL_JUDGE}{server}."
        return f"{text}{caps}"
    text = "Comparable with the published numbers of Loong are those of the official table alone, not the strict ones."
    return f"{text}{caps}"


def warnings(summary: Summary) -> list[str]:
    """What to mend before the figures are used: answers that wait for the judge, and many that were cut off."""
    overall, found = summary.overall, []
    if overall.unjudged:
        seen = overall.parsed + overall.unparsed + overall.unjudged
        found.append(
            f"{overall.unjudged:,} of {seen:,} answers have not been judged: run `qwenlong-trl loong judge FOLDER "
            "...` again; strict figures count them as 0 until then."
        )
    if overall.truncated > MANY_TRUNCATED * overall.answered:
        found.append(
            f"{truncated(summary)}, which is more than {100 * MANY_TRUNCATED:.0f} %: raise --max_tokens, with another "
            "--output."
        )
    return found


def truncated(summary: Summary) -> str:
    """How many answers were cut off."""
    limit = (summary.about.get("sampling") or {}).get("max_tokens")
    where = f"at {_said(limit)} tokens" if limit is not None else "at their limit of tokens"
    return f"{summary.overall.truncated:,} of {summary.overall.answered:,} answers were cut off {where}"


def _caps(about: Mapping[str, Any]) -> str:
    limits = {"answers": about.get("sampling"), "the judge's words": about.get("judge")}
    caps = [f"{what} at {_said(of['max_tokens'])} tokens" for what, of in limits.items() if of and "max_tokens" in of]
    return f" This run cuts off {' and '.join(caps)}; the released code sets no such limit." if caps else ""


def _said(value: Any) -> str:
    """A setting in a sentence."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return "unknown" if value is None else value if isinstance(value, str) else json.dumps(value)


def official_table(summary: Summary) -> ReportTable:
    """The 25 lines of the released script, by its rules in either mode: see [`official_lines`]."""
    note = f"{provenance(summary, 'official')}. {comparability(summary)}"
    if not summary.judged:
        title = "Structured score, in the lines of the official table"
        header, columns = ("Cell", "n", "Structured score"), (("structured", 2),)
    else:
        title = f"Official table (the released script's aggregation), judge {judge_name(summary.about['judge'])}"
        header = ("Cell", "n", *score_names(summary.about), "Scoring success rate")
        columns = (("average", 1), ("perfect_rate", 2), ("parse_rate", 2))
        note = f"Over parsed judgements alone; the success rate of every cell is over all lines of the file. {note}"
    rows = [
        [_official_label(*key), f"{cell.total:,}", *(figure(cell, name, digits) for name, digits in columns)]
        for key, cell in summary.official.items()
    ]
    return ReportTable("official", title, note, header, rows)


def official_lines(summary: Summary) -> list[str]:
    """
    The 25 lines that the released script's table has, in its order and with its two decimals: overall, the four
    levels, and for each set the four levels and the set. The scoring success rate divides by all lines of the file in
    every line, as there; a cell without parsed judgements, by whose number that script would divide, has dashes.
    """
    mean, perfect = score_names(summary.about)

    def line(cell: Cell) -> str:
        if not summary.judged:
            return f"structured score {_number(cell.structured, 2)} (no judge)"
        texts = {mean: "average", perfect: "perfect_rate", "scoring success rate": "parse_rate"}
        return ", ".join(f"{text} {_number(getattr(cell, name), 2)}" for text, name in texts.items())

    return [f"{_official_label(*key)}: {line(cell)}" for key, cell in summary.official.items()]


def full_tables(summary: Summary) -> list[ReportTable]:
    """By task, sub-task, set, domain, language and domain × level: numbers of records, and figures with intervals."""
    columns = headline_columns(summary)
    header = ["n", "doc. sets", *(["parsed"] if summary.judged else ["answered"]), *columns.values()]
    notes = {
        "language": " Languages differ in their tasks and domains: compare them within one domain and level.",
        "type": " Domains differ in their tasks: papers have levels 3 and 4 alone.",
    }
    tables = []
    for by, cells in summary.by.items():
        title = TITLES[by] if isinstance(by, str) else "domain and level"
        labelled = {"all": summary.overall} | {label(by, key): cell for key, cell in cells.items()}
        rows = [
            [
                label,
                *(f"{cell.total:,}", f"{cell.document_sets:,}"),
                f"{cell.parsed if summary.judged else cell.answered:,}",
                *(figure(cell, name, 2 if "rate" in name else 1) for name in columns),
            ]
            for label, cell in labelled.items()
        ]
        note = (
            f"{provenance(summary)}. Beside figures: 95 % bootstrap intervals over document sets.{notes.get(by, '')}"
        )
        name = by if isinstance(by, str) else "-".join(by)
        tables.append(ReportTable(name, f"By {title}", note, (title.capitalize(), *header), rows))
    return tables


def headline_columns(summary: Summary) -> dict[str, str]:
    """The figures of a cell and their names, the headline of the mode first."""
    if not summary.judged:
        return {"structured": "Structured score"}
    strict = {"strict_average": "Strict average", "strict_perfect_rate": "Strict perfect rate"}
    mean, perfect = score_names(summary.about)
    parsed = {"average": f"{mean} (parsed)", "perfect_rate": f"{perfect} (parsed)"}
    if summary.mode == "fixed":
        return strict | {"parse_rate": "Parse rate"} | parsed | {"structured": "Structured score"}
    return parsed | {"parse_rate": "Success rate (of all lines)"} | strict | {"structured": "Structured score"}


def report_json(summary: Summary) -> dict[str, Any]:
    """All of it as plain data for JSON; what cannot be computed is `None`."""
    by = {}
    for fields, cells in summary.by.items():
        names = (fields,) if isinstance(fields, str) else fields
        keys = [(key,) if isinstance(fields, str) else key for key in cells]
        rows = zip(keys, cells.values(), strict=True)
        by["_".join(names)] = [dict(zip(names, key, strict=True)) | asdict(cell) for key, cell in rows]
    return {
        "about": dict(summary.about),
        "mode": summary.mode,
        "headline": next(iter(headline_columns(summary))),
        "provenance": provenance(summary),
        "warnings": warnings(summary),
        "not_comparable_with_published": not_comparable(summary),
        "overall": asdict(summary.overall),
        "by": by,
        "official": [{"set": key[0], "level": key[1]} | asdict(cell) for key, cell in summary.official.items()],
    }


def figure(cell: Cell, name: str, digits: int) -> tuple[str, ...]:
    """A figure of a cell with two decimals, its interval with `digits`, and over how many records if not over all."""
    value = getattr(cell, name)
    beside = [span(getattr(cell, f"{name}_interval"), digits)]
    if name == "structured" and value is not None and cell.structured_total < cell.total:
        beside.append(f"n = {cell.structured_total:,}")
    return _number(value, 2), *filter(None, beside)


def span(interval: Interval | None, digits: int) -> str:
    """An interval as a text, empty if there is none."""
    return "" if interval is None else f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"


def set_label(number: int) -> str:
    """With the tokens that the benchmark gives it."""
    return f"Set {number} ({SETS[number]})"


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def label(by: str | tuple[str, ...], key: Any) -> str:
    """Of a cell of [`~qwenlong_trl.loong.metrics.breakdown`], in a table."""
    if by == "set":
        return set_label(key)
    return str(key) if isinstance(by, str) else f"{key[0]}, level {key[1]}"


def _official_label(number: int | None, level: int | None) -> str:
    if level is None:
        return "Overall" if number is None else f"Set {number}"
    return f"Level {level} ({TASKS[level - 1]})" if number is None else f"Set {number}, level {level}"
