"""A run of Loong in one folder: records, predictions, judgements and reports, each made once and gone on with.

    records.jsonl       the records that were asked, as in loong.jsonl
    predictions.jsonl   a line of settings, then the completion of each record and what became of its documents
    judgements.jsonl    a line of settings, then what the judge said of each prediction; other judges, other files
    report.*            made anew from the others, see [`~qwenlong_trl.loong.report`]; report-NAME.* from NAME.jsonl

`qwenlong-trl loong run|judge|report|compare` work on such folders; nothing but `run` needs the benchmark's files.
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..generation import Sampler, SampleStore, Sampling, read_lines
from ..generation.complete import complete
from ..generation.sampling import Prompt
from ..generation.store import JsonlStore
from ..rewards.answers import text_after_reasoning
from .assembly import Assembly, LoongPrompt, assemble, overlong
from .documents import LoongDocuments
from .judge import LoongJudge, LoongJudgement, read_judgements
from .judge_prompt import answer_of
from .metrics import MODES, Scored
from .records import LoongRecord, read_loong
from .scoring import structured_score


RECORDS, PREDICTIONS, JUDGEMENTS, REPORT = "records.jsonl", "predictions.jsonl", "judgements.jsonl", "report"


def write_records(folder: Path, records: Sequence[LoongRecord], add: bool = False) -> None:
    """
    The records of a run; whole or not at all.

    With `add` those that are there stay, too: before the new ones, unless all of them are given again, as the order of
    what is given is then that of all.
    """
    if add and (folder / RECORDS).is_file():
        known = {record.id: record for record in read_loong(folder / RECORDS)}
        given = {record.id: record for record in records}
        records = list((given if known.keys() <= given.keys() else known | given).values())
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
            What is asked for now. With the same settings, a run may be asked for some records first and for others
            later, and covers all of them; not in official mode, whose orders depend on all records.
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
        # Without any prediction there is no run yet, and records that lie there are those of another one.
        write_records(folder, records, add=assembly.mode == "fixed" and len(store) > 0)
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
    fixed mode it is not judged; it counts as 0 where the strict figures are made. A judge sees answers without their
    reasoning.

    Raises:
        `ValueError`: the folder holds no run, or other judgements under this name, or the name is a path.
        `OSError`: files cannot be read.
    """
    report_stem(name)  # a name that would have no report is refused before the judge is asked
    jobs = _jobs(*read_run(folder))
    with JsonlStore(folder / name, judge.settings) as store:
        judge.judge_all(jobs, store)


def read_run(folder: Path) -> tuple[list[LoongRecord], dict[str, dict[str, Any]], dict[str, Any]]:
    """
    The records of a run, its lines of `predictions.jsonl` by id, and its settings. Nothing is written or locked, so
    that a run may be looked at while it is being made.

    Raises:
        `ValueError`: the folder holds no run, or a file is damaged: with file, line or id, field and value.
    """
    for name in (RECORDS, PREDICTIONS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} holds no {name}, so it is no folder of a run; `qwenlong-trl loong run` makes one"
            )
    records = read_loong(folder / RECORDS)
    settings, lines = read_lines(folder / PREDICTIONS)
    _check_settings(folder / PREDICTIONS, settings)
    lines = {record.id: lines[record.id] for record in records if record.id in lines}
    for id, line in lines.items():
        _check_line(folder / PREDICTIONS, id, line)
    return records, lines, settings


def report_stem(judgements: str = JUDGEMENTS) -> str:
    """
    The name of the report of a file of judgements, for [`~qwenlong_trl.loong.report.write_report`]: each has its own.

    Raises:
        `ValueError`: it is no name of a file, but a path.
    """
    if Path(judgements).name != judgements or judgements in ("", ".."):
        raise ValueError(f"judgements must be a file's name, for one in the folder of the run, got {judgements!r}")
    return REPORT if judgements == JUDGEMENTS else f"{REPORT}-{Path(judgements).stem}"


def scored_rows(folder: Path, parse: str, name: str = JUDGEMENTS) -> tuple[list[Scored], dict[str, Any]]:
    """
    The rows of a run for [`~qwenlong_trl.loong.metrics`], and what a report says about it: all of its settings.

    Args:
        folder (`Path`):
            The folder of the run.
        parse (`str`):
            How scores are read from the judge's words: `"robust"` or `"official"`.
        name (`str`, *optional*, defaults to `"judgements.jsonl"`):
            Judgements in the folder. Without the default file no judge was asked, and no record has a judge's score.

    Raises:
        `ValueError`: the folder holds no run, or not the judgements, or a file is damaged.
    """
    report_stem(name)
    records, predictions, settings = read_run(folder)
    judge, judged = None, {}
    if (folder / name).is_file():
        judge, lines = read_lines(folder / name)
        judge = judge | {"parse": parse}
        judged = read_judgements(_jobs(records, predictions, settings), lines, parse, folder / name)
    elif name != JUDGEMENTS:
        there = sorted({path.name for path in folder.glob("*.jsonl")} - {RECORDS, PREDICTIONS})
        raise ValueError(f"{folder} holds no judgements {name}; there are: {', '.join(there) or 'none'}")
    rows = [
        _scored(record, predictions.get(record.id), judged.get(record.id), settings, judge is not None)
        for record in records
    ]
    # `records` of the settings is a digest of them.
    others = {"records_digest" if key == "records" else key: value for key, value in settings.items()}
    about = {
        "model": others.pop("model_name_or_path"),
        "mode": settings["assembly"]["mode"],
        **others,
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


def answer_text(line: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """
    The answer of a line of predictions, which is judged, scored and shown: what follows the reasoning. It is empty if
    the reasoning never ended, which with the setting `require_delimiter` holds for all completions without `</think>`.
    """
    text = line["completions"][0]["text"]
    if text_after_reasoning(text, require_delimiter=settings.get("require_delimiter", False)) is None:
        return ""
    return answer_of(text)


def _jobs(records, predictions, settings) -> list[tuple[LoongRecord, str]]:
    official = settings["assembly"]["mode"] == "official"
    texts = {id: answer_text(line, settings) for id, line in predictions.items()}
    return [(r, texts.get(r.id, "")) for r in records if official or r.id in texts]


def _scored(record: LoongRecord, line, judgement: LoongJudgement | None, settings, judged: bool) -> Scored:
    unjudged = judged and judgement is None
    said = {} if judgement is None else {"score": judgement.score, "judge_cut": judgement.cut_off}
    if line is None:
        structured = None if structured_score(record, "") is None else 0.0
        if settings["assembly"]["mode"] == "fixed":
            return Scored(record, structured=structured)
        return Scored(record, prediction="", structured=structured, failed=True, unjudged=unjudged, **said)
    text, about = answer_text(line, settings), line.get("about", {})
    structured = structured_score(record, text)
    return Scored(
        record,
        prediction=text.strip(),
        structured=None if structured is None else structured.score,
        kept=tuple(about.get("kept", ())),
        dropped=tuple(about.get("dropped", ())),
        cut=about.get("cut", False),
        tokens=about.get("tokens"),
        truncated=line["completions"][0]["finish_reason"] == "length",
        unjudged=unjudged,
        **said,
    )


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    def expect(name: str, value: Any, right: bool, what: str) -> None:
        _expect(right, path, "line 1", f"settings.{name}", value, what)

    for name in ("assembly", "sampling"):
        expect(name, settings.get(name), isinstance(settings.get(name), dict), "an object")
    mode = settings["assembly"].get("mode")
    expect("assembly.mode", mode, mode in MODES, f"one of {', '.join(MODES)}")
    model = settings.get("model_name_or_path")
    expect("model_name_or_path", model, isinstance(model, str), "a text")
    for name, kind, what in (("data", dict, "an object"), ("require_delimiter", bool, "true or false")):
        expect(name, settings.get(name), isinstance(settings.get(name, kind()), kind), what)


def _check_line(path: Path, id: str, line: Mapping[str, Any]) -> None:
    def expect(name: str, value: Any, right: bool, what: str) -> None:
        _expect(right, path, f"the line of {id!r}", name, value, what)

    completions = line.get("completions")
    expect(
        "completions", completions, isinstance(completions, list) and len(completions) > 0, "a list with completions"
    )
    expect("completions[0]", completions[0], isinstance(completions[0], dict), "an object")
    for name in ("text", "finish_reason"):
        value = completions[0].get(name)
        expect(f"completions[0].{name}", value, isinstance(value, str), "a text")
    about = line.get("about", {})
    expect("about", about, isinstance(about, dict), "an object")
    for name in ("kept", "dropped"):
        value = about.get(name, [])
        right = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
        expect(f"about.{name}", value, right, "a list of indices of documents")
    expect("about.cut", about.get("cut"), isinstance(about.get("cut", False), bool), "true or false")
    tokens = about.get("tokens")
    expect("about.tokens", tokens, tokens is None or type(tokens) is int and tokens >= 0, "a number of tokens")


def _expect(right: bool, path: Path, where: str, field: str, value: Any, what: str) -> None:
    if not right:
        raise ValueError(
            f"{path}, {where}, field `{field}`: expected {what}, got {reprlib.repr(value)}; restore the file, or "
            "remove it to start again"
        )
