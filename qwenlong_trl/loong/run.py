"""A run of Loong in one folder: records, predictions, judgements and reports, each made once and gone on with.

    records.jsonl       the records that were asked, as in loong.jsonl
    predictions.jsonl   a line of settings, then the completion of each record and what became of its documents
    judgements.jsonl    a line of settings, then what the judge said of each prediction
    report.*            made anew from the others, see [`~qwenlong_trl.loong.report`]

`qwenlong-trl loong run|judge|report|compare` work on such folders; nothing but `run` needs the benchmark's files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..generation import Sampler, SampleStore, Sampling, read_settings
from ..generation.complete import complete
from ..generation.sampling import Prompt
from ..generation.store import JsonlStore
from ..rewards.answers import text_after_reasoning
from .assembly import Assembly, LoongPrompt, assemble, overlong
from .documents import LoongDocuments
from .judge import LoongJudge, read_judgements
from .metrics import Scored
from .records import LoongRecord, read_loong
from .scoring import structured_score


RECORDS, PREDICTIONS, JUDGEMENTS = "records.jsonl", "predictions.jsonl", "judgements.jsonl"


def write_records(folder: Path, records: Sequence[LoongRecord]) -> None:
    """The records of a run; whole or not at all."""
    part = folder / f".{RECORDS}.part"
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(record.to_dict(), ensure_ascii=False) + "\n" for record in records)
    os.replace(part, folder / RECORDS)


def records_digest(records: Sequence[LoongRecord]) -> str:
    """A digest of records in their order, as part of the settings of what was made of them."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record.to_dict(), sort_keys=True).encode())
    return f"sha256 {digest.hexdigest()[:16]}"


def generate(
    folder: Path,
    records: Sequence[LoongRecord],
    documents: LoongDocuments,
    assembly: Assembly,
    make_sampler: Callable[[], Sampler],
    sampling: Sampling,
    settings: Mapping[str, Any],
    chat: bool = True,
) -> dict[str, str]:
    """
    The completions of records, into `predictions.jsonl`; those that are there are kept.

    Args:
        folder (`Path`):
            The folder of the run, which exists.
        records (`Sequence[LoongRecord]`):
            All of the run. With the same settings they may become more from run to run; not in official mode, whose
            orders depend on all records.
        documents ([`LoongDocuments`]):
            Their documents, none of which is missing.
        assembly ([`Assembly`]):
            How prompts are put together.
        make_sampler (`Callable`):
            Makes what draws completions, if any is to be drawn.
        sampling ([`~qwenlong_trl.generation.Sampling`]):
            How they are drawn: one for each record.
        settings (`Mapping[str, Any]`):
            What completions depend on beside `assembly` and `sampling`.
        chat (`bool`, *optional*, defaults to `True`):
            Whether prompts are chats with one message of the user, else plain texts.

    Returns:
        `dict[str, str]`: why, by the ids of the records without a completion. A question that does not fit the budget
        without any document is one of these.

    Raises:
        [`~qwenlong_trl.generation.SettingsMismatchError`]: the folder holds predictions with other settings.
        [`~qwenlong_trl.generation.GenerationError`]: no record got a completion.
        [`MissingDocumentsError`]: documents are missing.
    """
    failed: dict[str, str] = {}
    if assembly.mode == "fixed":
        failed = {
            id: f"question and instruction alone take {tokens:,} tokens, of a budget of {assembly.max_tokens:,}"
            for id, tokens in overlong(records, assembly).items()
        }
    asked = [record for record in records if record.id not in failed]
    prompts = _Prompts(asked, documents, assembly, chat)
    with SampleStore(folder / PREDICTIONS, settings) as store:
        write_records(folder, records)
        return failed | complete(
            [record.id for record in asked], prompts.prompt, make_sampler, sampling, store, about_of=prompts.about
        )


class _Prompts:
    """Prompts by id, put together when they are asked for. In official mode they come from one stream, in order."""

    def __init__(self, records: Sequence[LoongRecord], documents: LoongDocuments, assembly: Assembly, chat: bool):
        self.records = {record.id: record for record in records}
        self.documents, self.assembly, self.chat = documents, assembly, chat
        self.stream = assemble(records, documents, assembly) if assembly.mode == "official" else None
        self.made: dict[str, dict[str, Any]] = {}

    def prompt(self, id: str) -> Prompt:
        if self.stream is None:
            made = next(assemble([self.records[id]], self.documents, self.assembly))
        else:
            made = next(one for one in self.stream if one.id == id)
        self.made[id] = _about(made)
        return [{"role": "user", "content": made.prompt}] if self.chat else made.prompt

    def about(self, id: str) -> dict[str, Any]:
        return self.made.pop(id)


def _about(made: LoongPrompt) -> dict[str, Any]:
    return {"kept": list(made.kept), "dropped": list(made.dropped), "cut": made.cut, "tokens": made.tokens}


def judge_run(folder: Path, judge: LoongJudge, name: str = JUDGEMENTS) -> None:
    """
    Has a judge score the predictions of a run, into `name`; what is judged already is kept.

    In official mode a record without a completion is judged as one with an empty one, as the released code does. In
    fixed mode it is not judged; it counts as 0 where the strict figures are made.

    Raises:
        `ValueError`: the folder holds no run, or other judgements under this name.
        `OSError`: files cannot be read.
    """
    records, predictions, settings = read_run(folder)
    jobs = _jobs(records, predictions, settings)
    with JsonlStore(folder / name, judge.settings) as store:
        judge.judge_all(jobs, store)


def read_run(folder: Path) -> tuple[list[LoongRecord], dict[str, dict[str, Any]], dict[str, Any]]:
    """
    The records of a run, its lines of `predictions.jsonl` by id, and its settings.

    Raises:
        `ValueError`: the folder holds no run, or a file is damaged.
    """
    for name in (RECORDS, PREDICTIONS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}, so it is no folder of a run; `qwenlong-trl loong run` makes one"
            )
    records = read_loong(folder / RECORDS)
    settings = read_settings(folder / PREDICTIONS)
    with SampleStore(folder / PREDICTIONS, settings) as store:
        lines = {record.id: store.read(record.id) for record in records if record.id in store}
        for id in lines:
            lines[id]["completions"] = store.completions(id)
    return records, lines, settings


def scored_rows(folder: Path, parse: str, name: str = JUDGEMENTS) -> tuple[list[Scored], dict[str, Any]]:
    """
    The rows of a run for [`~qwenlong_trl.loong.metrics`], and what a report says about it.

    Args:
        folder (`Path`):
            The folder of the run.
        parse (`str`):
            How scores are read from the judge's words: `"robust"` or `"official"`.
        name (`str`, *optional*, defaults to `"judgements.jsonl"`):
            Judgements in the folder; without such a file no record has a judge's score.

    Raises:
        `ValueError`: the folder holds no run, or a file is damaged.
    """
    records, predictions, settings = read_run(folder)
    judge, judged = None, {}
    if (folder / name).is_file():
        judge = read_settings(folder / name) | {"parse": parse}
        with JsonlStore(folder / name, read_settings(folder / name)) as store:
            judged = read_judgements(_jobs(records, predictions, settings), store, parse)
    rows = [_scored(record, predictions.get(record.id), judged.get(record.id), settings) for record in records]
    about = {
        "model": settings["model_name_or_path"],
        "mode": settings["assembly"]["mode"],
        **{key: settings[key] for key in ("assembly", "sampling")},
        "judge": judge,
        "records": len(records),
        "selection": {
            "sets": sorted({record.set for record in records}),
            "levels": sorted({record.level for record in records}),
            "domains": sorted({record.type for record in records}),
            "languages": sorted({record.language for record in records}),
        },
    }
    return rows, about


def _jobs(records, predictions, settings) -> list[tuple[LoongRecord, str]]:
    official = settings["assembly"]["mode"] == "official"
    texts = {id: line["completions"][0].text for id, line in predictions.items()}
    return [(r, texts.get(r.id, "")) for r in records if official or r.id in texts]


def _scored(record: LoongRecord, line, judgement, settings) -> Scored:
    score = None if judgement is None else judgement.score
    if line is None:
        if settings["assembly"]["mode"] == "fixed":
            return Scored(record, structured=None if structured_score(record, "") is None else 0.0)
        text, about = "", {}
    else:
        text, about = line["completions"][0].text, line.get("about", {})
    structured = structured_score(record, text)
    return Scored(
        record,
        # Reasoning that never ended leaves no answer.
        prediction=(text_after_reasoning(text) or "").strip(),
        score=score,
        structured=None if structured is None else structured.score,
        kept=tuple(about.get("kept", ())),
        dropped=tuple(about.get("dropped", ())),
        cut=bool(about.get("cut")),
        tokens=about.get("tokens"),
    )
