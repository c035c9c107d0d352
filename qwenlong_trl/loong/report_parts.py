"""What a Loong report says beside its tables of scores: what was lost on the way, examples, and the run's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from ..rewards.judge import encodable
from .metrics import Scored, split
from .report_table import ReportTable
from .tables import Summary, policy_name, provenance, set_label, truncated


EXAMPLES_NOTE = (
    "For each task, of the records with a score the one with the highest and the one with the lowest: the judge's, or "
    "without a judge the structured one. Of equals the first, and without scores the first two. Texts are shortened."
)
# Characters shown of each text of an example.
QUESTION_LIMIT, ANSWER_LIMIT = 400, 500
# Control characters, which HTML cannot hold, and those that turn the direction of the text around them.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def losses(summary: Summary, rows: Sequence[Scored]) -> list[str]:
    """What was not answered, not judged, not scored, cut or dropped, in sentences."""
    overall = summary.overall
    official = summary.mode == "official"
    fate = "are left out by the official rules" if official else "count as 0 in the strict figures"
    sentences = [f"All {overall.total:,} records have a prediction.", *_empty(rows)]
    if missing := overall.total - overall.answered:
        failed = sum(row.failed for row in rows)
        sentences[0] = f"{missing:,} of {overall.total:,} records have no completion"
        sentences[0] += "." if not summary.judged or failed else "; no judge saw them."
        if summary.judged and failed:
            sentences[0] += " As in the released code, the judge is shown an empty answer in their place."
        elif summary.judged:
            sentences[0] += f" They {fate}."
        sentences[0] += " Their structured score is 0, except where the gold answer is free text."
    if overall.truncated:
        sentences.append(f"{truncated(summary)}.")
    if summary.judged:
        seen = overall.parsed + overall.unparsed + overall.unjudged
        sentences.append(f"Of {seen:,} predictions for the judge, {_judged(summary, fate)}")
        if overall.judge_cut:
            sentences.append(
                f"{overall.judge_cut:,} of the judge's answers were cut off at its limit of tokens: raise "
                "--judge_max_tokens, with another --judgements."
            )
        if outside := sum(row.score is not None and not 0 <= row.score <= 100 for row in rows):
            sentences.append(f"{outside:,} scores lie outside of the scale of 100 and were taken as they are.")
    known = [row for row in rows if row.kept or row.dropped]
    if not known:
        return [*sentences, "What was kept of the documents is not recorded."]
    lacking = sum(row.cut or bool(row.dropped) for row in known)
    text = f"Documents were made to fit by {policy_name(summary.about)}: {lacking:,} of "
    text += f"{len(known):,} prompts lack some of their text; of {_dropped(known)} nothing is left."
    if tokens := [row.tokens for row in rows if row.tokens is not None]:
        text += f" Prompts have {min(tokens):,} to {max(tokens):,} tokens."
    return [*sentences, text]


def _empty(rows: Sequence[Scored]) -> list[str]:
    answered = [row for row in rows if row.answered]
    empty = sum(row.prediction == "" for row in answered)
    text = f"{empty:,} of {len(answered):,} predictions are empty: no answer came, or reasoning without one."
    return [text] if empty else []


def _judged(summary: Summary, fate: str) -> str:
    overall = summary.overall
    texts = []
    if overall.unjudged:
        texts.append(f"{overall.unjudged:,} have not been judged, as the judge failed or has not been asked yet")
    if overall.unparsed:
        texts.append(f"{overall.unparsed:,} were judged without a score that could be read")
    return f"{' and '.join(texts)}. These {fate}." if texts else "all gave a score."


def losses_table(summary: Summary, rows: Sequence[Scored]) -> ReportTable:
    """The same, in numbers of records and documents, for each set."""
    judged = ["Not judged", "No score", "Judge cut off"] if summary.judged else []
    header = ["Set", "n", "No completion", "Empty", "Answer cut off", *judged]
    header += ["Prompts cut", "With dropped documents", "Documents dropped"]
    cells = {"all": (summary.overall, list(rows))}
    cells |= {set_label(key): (summary.by["set"][key], cell) for key, cell in split(rows, "set").items()}
    table = []
    for label, (cell, of) in cells.items():
        counts = [cell.total, cell.total - cell.answered, sum(row.answered and row.prediction == "" for row in of)]
        counts += [cell.truncated, *((cell.unjudged, cell.unparsed, cell.judge_cut) if summary.judged else ())]
        counts += [sum(row.cut for row in of), sum(bool(row.dropped) for row in of)]
        table.append([label, *(f"{count:,}" for count in counts), _dropped(of).removesuffix(" documents")])
    note = f"{provenance(summary)}. Answer cut off: at the most tokens that it may have."
    if summary.judged:
        note += " Not judged: the judge failed, or was not asked yet. No score: none could be read in its answer."
    return ReportTable("losses", "Losses by set", note, tuple(header), table)


def examples(summary: Summary, rows: Sequence[Scored]) -> list[dict[str, Any]]:
    """Two records of each task, see `EXAMPLES_NOTE`: `id`, `title` and `texts` by name, shortened."""
    measure = "score" if summary.judged else "structured"
    found = []
    for task, cell in split(rows, "task").items():
        with_score = [row for row in cell if row.answered and getattr(row, measure) is not None]
        best, worst = (choose(with_score, key=attrgetter(measure), default=None) for choose in (max, min))
        for row in (best, worst) if best is not worst else (with_score or cell)[:2]:
            record = row.record
            about = f"{record.subtask}, {record.type}, {record.language}, set {record.set}"
            title = f"{task}: {shown(record.id, 80)} ({about})"
            found.append({"id": record.id, "title": title, "texts": _texts(summary, row)})
    return found


def settings(about: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """What a run says about itself as names and texts, those within an object with its name before theirs."""
    for name, value in about.items():
        name = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from settings(value, f"{name}, ")
        else:
            text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
            yield shown(name.replace("_", " "), 100), shown(text, 1_000)


def shown(text: str, limit: int) -> str:
    """A text that a page can hold: without control characters and, if longer than `limit`, without its middle."""
    text = _UNSEEN.sub("\ufffd", encodable(text)).strip()
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]} [… {len(text) - limit:,} characters …] {text[len(text) - (limit - head) :]}"


def _texts(summary: Summary, row: Scored) -> dict[str, str]:
    record = row.record
    gold = record.answer if isinstance(record.answer, str) else json.dumps(record.answer, ensure_ascii=False)
    texts = {"Question": shown(record.question or record.instruction, QUESTION_LIMIT)}
    texts["Gold answer"] = shown(gold, ANSWER_LIMIT)
    texts["Prediction"] = shown(row.prediction, ANSWER_LIMIT) if row.answered else "(no completion)"
    if summary.judged:
        nothing = "not judged yet" if row.unjudged else "no score"
        texts["Judge"] = nothing if row.score is None else f"{row.score:g} of 100"
    texts["Structured"] = "no structured score" if row.structured is None else f"{row.structured:.1f} of 100"
    return texts


def _dropped(rows: Sequence[Scored]) -> str:
    dropped = sum(len(row.dropped) for row in rows)
    return f"{dropped:,} of {dropped + sum(len(row.kept) for row in rows):,} documents"
