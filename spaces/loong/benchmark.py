"""What the page shows of Loong: its records, a prompt, and one answer with its score."""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qwenlong_trl.loong import Assembly, LoongDocuments, LoongPrompt, LoongRecord, assemble, find_loong, read_loong
from qwenlong_trl.loong.made_up import made_up
from qwenlong_trl.loong.policies import MiddlePolicy, SkipPolicy
from qwenlong_trl.loong.records import SETS, TASKS
from qwenlong_trl.loong.report_parts import shown
from qwenlong_trl.loong.scoring import structured_score
from qwenlong_trl.spaces.look import tiles
from qwenlong_trl.spaces.reader import Answer, Reader


PROMPT_LIMIT, ANSWER_LIMIT, QUESTION_LIMIT = 30_000, 8_000, 4_000  # characters that a page shows


@dataclass(frozen=True)
class Benchmark:
    """
    Records and documents, of `LOONG_DATA` or made up.

    Args:
        records_path, documents_path (`Path`):
            Where they lie.
        is_made_up (`bool`):
            Whether they are the small invented set.
    """

    records_path: Path
    documents_path: Path
    is_made_up: bool

    @classmethod
    def find(cls) -> Benchmark:
        """That of `LOONG_DATA`, or the invented one, which is written into a folder for temporary files."""
        if os.environ.get("LOONG_DATA"):
            return cls(*find_loong(), False)
        folder = Path(tempfile.mkdtemp(prefix="loong-"))
        made_up(folder)
        return cls(*find_loong(folder), True)

    @cached_property
    def records(self) -> dict[str, LoongRecord]:
        return {record.id: record for record in read_loong(self.records_path)}

    @cached_property
    def documents(self) -> LoongDocuments:
        return LoongDocuments(self.documents_path)

    def choose(self, set: int | None, level: int | None, domain: str | None) -> list[LoongRecord]:
        """Records of a set, a task and a domain; `None` stands for all. There may be none."""
        wanted = {"set": set, "level": level, "type": domain}
        return [
            record
            for record in self.records.values()
            if all(value is None or getattr(record, name) == value for name, value in wanted.items())
        ]

    def prompt(self, record: LoongRecord) -> LoongPrompt:
        """As the official code puts it together, with this record as the first of its run."""
        return next(assemble([record], self.documents, Assembly("official")))

    def answer(self, record: LoongRecord, reader: Reader, policy: str) -> tuple[LoongPrompt, Answer]:
        """
        A reader's answer, to a prompt within what it reads.

        Args:
            policy (`str`):
                `"middle"`: every document loses its middle; `"skip"`: whole documents are left out.
        """
        fits = MiddlePolicy(reader.tokenizer) if policy == "middle" else SkipPolicy()
        overhead = reader.count("") if reader.tokenizer.chat_template else 0
        assembly = Assembly("fixed", reader.most_tokens - overhead, fits, 0, reader.tokenizer)
        made = next(assemble([record], self.documents, assembly))
        return made, reader.answer(made.prompt)


def name_of(record: LoongRecord) -> str:
    """For the list: what it is about, on one line."""
    question = " ".join((record.question or record.instruction).split())
    return f"{record.id[:24]} · {record.subtask} · {question[:70]}"


def details(record: LoongRecord, tokens: int) -> str:
    """The record with its gold answer, as HTML; `tokens` are those of its prompt."""
    gold = record.answer if isinstance(record.answer, str) else json.dumps(record.answer, ensure_ascii=False, indent=1)
    head = tiles(
        {
            "Task": record.task,
            "Set": f"{record.set} ({SETS[record.set]})",
            "Domain": f"{record.type}, {record.language}",
            "Documents": str(len(record.doc)),
            "Prompt, cl100k": f"{tokens:,} tokens",
        }
    )
    names = "".join(f"<li>{html.escape(shown(name, 120))}</li>" for name in record.doc)
    parts = {
        "Question": text(record.question or "(none: the instruction says it all)", QUESTION_LIMIT),
        "Instruction": text(record.instruction, QUESTION_LIMIT),
        "Gold answer": text(gold, ANSWER_LIMIT),
    }
    body = "".join(f"<h3>{name}</h3>{content}" for name, content in parts.items())
    documents = f"<details><summary>Documents ({len(record.doc)})</summary><ol>{names}</ol></details>"
    return f'{head}<div class="record" lang="{record.language}">{body}{documents}</div>'


def text(content: str, limit: int) -> str:
    return f'<p class="text">{html.escape(shown(content, limit))}</p>'


def outcome(record: LoongRecord, made: LoongPrompt, answer: Answer) -> str:
    """The answer with its structured score, as HTML."""
    if answer.refused:
        return f'<p class="quiet" role="status">{html.escape(answer.refused)}</p>'
    scored = structured_score(record, answer.text)
    cut = ", some of them cut" if made.cut else ""
    figures = {
        "Structured score": "free text: none" if scored is None else f"{scored.score:.0f} of 100",
        "Prompt": f"{answer.tokens:,} tokens",
        "Documents in it": f"{len(made.kept)} of {len(record.doc)}{cut}",
        "Time": f"{answer.seconds:.1f} s",
    }
    return f'{tiles(figures)}<div class="record"><h3>Answer</h3>{text(answer.text or "(nothing)", ANSWER_LIMIT)}</div>'


def board(rows: Sequence, level: int | None, set: int | None) -> str:
    """The leaderboard as HTML; rows are those of [`~qwenlong_trl.loong.leaderboard.leaderboard`]."""

    def cell(value: float | None, interval, digits: int) -> str:
        if value is None:
            return '<td class="num">–</td>'
        beside = "" if interval is None else f"<small>{interval[0]:.{digits}f}–{interval[1]:.{digits}f}</small>"
        return f'<td class="num">{value:.2f}{beside}</td>'

    lines = []
    for result, figures in rows:
        kind = "published" if result.published else "run"
        note = "; ".join(result.reasons)
        about = f"judge {result.judge}, {result.mode} mode, {result.policy}"
        warn = "" if result.published or not note else f"<br>Not comparable with published ones: {html.escape(note)}"
        lines.append(
            f'<tr><th scope="row">{html.escape(result.name)} <span class="tag {kind}">{kind}</span>'
            f'<div class="quiet">{"" if result.published else html.escape(about)}{warn}</div></th>'
            + cell(figures.score, figures.score_interval, 1)
            + cell(figures.perfect_rate, figures.perfect_rate_interval, 2)
            + cell(figures.structured, figures.structured_interval, 1)
            + f'<td class="num">{"–" if figures.total is None else f"{figures.total:,}"}</td></tr>'
        )
    where = "all sets, " if set is None else f"set {set} ({SETS[set]}), "
    where += "all tasks" if level is None else TASKS[level - 1]
    if not lines:
        return f'<p class="quiet" role="status">No result has records there: {where}.</p>'
    heads = ("Score", "Perfect rate", "Structured score", "Records")
    head = '<th scope="col">Model</th>' + "".join(f'<th scope="col" class="num">{name}</th>' for name in heads)
    caption = f'<p class="quiet">{where}; 95 % intervals beside figures of runs</p>'
    table = f'<table class="board"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'{caption}<div class="scroll" tabindex="0" role="region" aria-label="Leaderboard">{table}</div>'


RULES = """
.record h3 { font-size: .95rem; margin: 12px 0 2px; }
.record .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; max-width: none; }
.record details { margin-top: 12px; }
.record summary { cursor: pointer; font-weight: 600; }
.record li { overflow-wrap: anywhere; }
.board { min-width: 560px; }
.board tbody th { font-weight: 500; min-width: 180px; max-width: 420px; overflow-wrap: anywhere; }
.board .quiet { font-weight: 400; }
.tag { font-size: .75rem; border: 1px solid var(--line); border-radius: 4px; padding: 0 5px; color: var(--muted); }
.tag.run { border-color: var(--accent); color: var(--accent); }
"""
