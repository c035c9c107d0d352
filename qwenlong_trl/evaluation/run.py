"""An evaluation from records to a folder with a report, which goes on where it was killed.

```python
>>> from qwenlong_trl.evaluation import L1_SAMPLING, EvaluationProtocol, evaluate
>>> data = evaluate(
...     load_suite("synthetic", tokenizer=tokenizer), lambda: OpenAISampler("Qwen/Qwen3-4B", base_url), L1_SAMPLING,
...     tokenizer, "results/qwen3-4b", settings={"model": "Qwen/Qwen3-4B"},
... )
>>> data["score"]["mean"], data["score"]["interval"]
```

The folder holds all that a report or a comparison needs: `records.jsonl`, `predictions.jsonl` (every completion, as
soon as it is there), `judgements-….jsonl` (every answer of a judge; each judge has a file of its own),
`scores.jsonl`, `report.json`, `report.md` and `report.html`. The same call goes on with what is missing, and gives the
bytes that it would have given at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.readers import read_records, write_records
from ..data.record import InvalidRecordError, LongContextExample
from ..generation.complete import complete
from ..generation.sampling import Sampler, Sampling
from ..generation.store import JsonlStore, SampleStore, SettingsMismatchError
from ..rewards.judge import Judge
from ..rewards.judge_prompt import PROMPTS
from ..rewards.rule_rewards import TASKS
from .metrics import DEFAULT_THRESHOLD
from .official import check_official_task
from .protocol import EvaluationProtocol, ProtocolPrompt, protocol_prompt, text_hash
from .report import report_data
from .scores import FAILED, Answer, score_completions
from .tables import markdown_report


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Run:
    """What lies in the folder of a run: records, scored answers, and `about` as [`report_data`] takes it."""

    records: list[LongContextExample]
    answers: list[Answer]
    about: dict[str, Any]


def evaluate(
    records: Sequence[LongContextExample],
    make_sampler: Callable[[], Sampler],
    sampling: Sampling,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | os.PathLike,
    protocol: EvaluationProtocol | None = None,
    judge: Judge | None = None,
    judge_all: bool = False,
    settings: Mapping[str, Any] | None = None,
    judge_settings: Mapping[str, Any] | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    length_edges: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Asks, scores and reports.

    Args:
        records (`Sequence[LongContextExample]`):
            What is asked; ids unique. More of them may be given to a folder later on, or fewer.
        make_sampler (`Callable`):
            Makes what answers; called only if an answer is missing.
        sampling ([`Sampling`]):
            How answers are drawn; [`L1_SAMPLING`] is the paper's.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Of the model that answers.
        folder (`str` or `os.PathLike`):
            To make, or to continue.
        protocol ([`EvaluationProtocol`], *optional*):
            Prompts and scoring.
        judge ([`Judge`], *optional*):
            Without one, scores are the rule's.
        judge_all (`bool`, *optional*, defaults to `False`):
            See [`score_completions`].
        settings (`Mapping[str, Any]`, *optional*):
            What the answers depend on beside `sampling` and `protocol`, such as the model; a folder with others is
            refused.
        judge_settings (`Mapping[str, Any]`, *optional*):
            The same for the judge, beside its name, its prompt and the hash of that, where it has them. Another judge
            has another file of judgements in the folder.
        threshold, length_edges:
            See [`report_data`].

    Returns:
        `dict[str, Any]`: see [`report_data`]. `failed` and `judge_failed` say what another call would go on with.

    Raises:
        [`SettingsMismatchError`]: the folder was made with other settings, or one of its records has changed.
        [`GenerationError`]: no question was answered.
        `ValueError`: there are no records, ids are not unique, or a record cannot be scored.
    """
    protocol = protocol or EvaluationProtocol()
    by_id = _checked(records, protocol)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    built: dict[str, ProtocolPrompt] = {}

    def build(id: str) -> ProtocolPrompt:
        return protocol_prompt(by_id[id], tokenizer, protocol)

    def prompt_of(id: str):
        found = build(id)
        built[id] = replace(found, prompt="")  # without the text, which may be long
        return found.prompt

    def about_of(id: str) -> dict[str, Any]:
        return _lengths(asdict(built[id])) | {"record": _digest(by_id[id])}

    depends_on = {**(settings or {}), **asdict(sampling), "protocol": protocol.describe()}
    about_judge = None if judge is None else _about_judge(judge, protocol.mode) | dict(judge_settings or {})
    with ExitStack() as files:
        # Before anything is asked: whatever is wrong with a file is known in time.
        store = files.enter_context(SampleStore(folder / "predictions.jsonl", depends_on))
        judgements = None
        if judge is not None:
            judgements = files.enter_context(JsonlStore(_judgements(folder, about_judge), about_judge))
        for id in by_id:
            if id in store and store.about(id).get("record") != _digest(by_id[id]):
                raise SettingsMismatchError(
                    f"{store.path}: the answers to {id!r} belong to another record than it is now; the records "
                    "changed since then. Take another output folder, or remove the file to ask again"
                )
        failed = complete(list(by_id), prompt_of, make_sampler, sampling, store, "Answering", about_of)
        completions = {id: store.completions(id) for id in by_id if id in store}
        prompts = {}
        for id in by_id:
            known = store.about(id) if id in store else asdict(built[id] if id in built else build(id))
            prompts[id] = _lengths(known)
        answers = score_completions(
            *(records, completions, sampling.num_samples, protocol.mode, judge, judge_all, judgements),
            require_delimiter=protocol.require_delimiter,
        )
    depends_on |= {"require_delimiter": protocol.require_delimiter, "judge": about_judge, "judge_all": judge_all}
    about = {"mode": protocol.mode, "prompts": prompts, "failed": failed, "settings": depends_on}
    about |= {"threshold": threshold, "length_edges": None if length_edges is None else list(length_edges)}
    run = Run(list(records), answers, about)
    write_run(folder, run)
    return _write_report(folder, run, threshold, length_edges)


def write_run(folder: str | os.PathLike, run: Run) -> None:
    """Writes `records.jsonl` and `scores.jsonl`, whole or not at all; the texts stay in `predictions.jsonl`."""
    folder = Path(folder)
    write_records(run.records, folder / "records.jsonl")
    lines = [{"about": {name: value for name, value in run.about.items() if name != "prompts"}}]
    for answer in run.answers:
        row = {name: value for name, value in asdict(answer).items() if name != "text"}
        lines.append(row | {"prompt": run.about["prompts"][answer.record_id]})
    _write(folder / "scores.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def load_run(folder: str | os.PathLike) -> Run:
    """The run in a folder; raises `ValueError` that says what is missing or wrong."""
    folder = Path(folder)
    for name in ("records.jsonl", "scores.jsonl", "predictions.jsonl"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}: give the output folder of a finished `qwenlong-trl eval`")
    records = list(read_records(folder / "records.jsonl", "records"))
    texts = _texts(folder / "predictions.jsonl")
    answers, prompts = [], {}
    with open(folder / "scores.jsonl", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                if number == 1:
                    about = row["about"]
                    continue
                prompts[row["record_id"]] = row.pop("prompt")
                found = texts.get(row["record_id"], [])
                text = found[row["sample"]] if row["finish_reason"] != FAILED else ""
                answers.append(Answer(text=text, **row))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise ValueError(
                    f"{folder / 'scores.jsonl'}, line {number}: not what a run wrote ({type(error).__name__} {error});"
                    " run the evaluation again, which keeps its answers"
                ) from None
    return Run(records, answers, {**about, "prompts": prompts})


def write_report(
    folder: str | os.PathLike, threshold: float | None = None, length_edges: Sequence[int] | None = None
) -> dict[str, Any]:
    """
    Makes `report.json`, `report.md` and `report.html` of what lies in the folder; returns what is in the first. The
    threshold and the edges are those of the run if not given.
    """
    run = load_run(folder)
    if threshold is None:
        threshold = run.about.get("threshold", DEFAULT_THRESHOLD)
    return _write_report(Path(folder), run, threshold, length_edges or run.about.get("length_edges"))


def _write_report(folder: Path, run: Run, threshold: float, length_edges: Sequence[int] | None) -> dict[str, Any]:
    from .page import html_report  # draws with matplotlib, which takes a second to import

    data = report_data(run.answers, run.records, run.about, threshold, length_edges)
    _write(folder / "report.json", json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    _write(folder / "report.md", markdown_report(data))
    _write(folder / "report.html", html_report(data, run))
    return data


def _checked(records: Sequence[LongContextExample], protocol: EvaluationProtocol) -> dict[str, LongContextExample]:
    by_id: dict[str, LongContextExample] = {}
    for record in records:
        if record.id in by_id:
            raise InvalidRecordError("id", record.id, "is the id of two records; ids must differ")
        if record.task not in TASKS:
            raise InvalidRecordError("task", record.task, f"record {record.id!r}: expected one of {', '.join(TASKS)}")
        if protocol.mode == "official":
            check_official_task(record.task)
        by_id[record.id] = record
    if not by_id:
        raise ValueError("there are no records to evaluate on")
    return by_id


def _lengths(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in ("tokens", "truncated", "kept_tokens") if name in about}


def _judgements(folder: Path, about_judge: Mapping[str, Any]) -> Path:
    """Each judge has a file of its own, so that what one said is never lost to another."""
    return folder / f"judgements-{text_hash(json.dumps(about_judge, sort_keys=True))[:8]}.jsonl"


def _about_judge(judge: Judge, mode: str) -> dict[str, Any]:
    as_released = mode == "official" and callable(getattr(judge, "answers", None))
    prompt = "l1" if as_released else getattr(judge, "prompt", None)
    hashed = text_hash(*PROMPTS[prompt]) if prompt in PROMPTS else None
    about = {"name": getattr(judge, "name", type(judge).__name__), "prompt": prompt, "prompt_hash": hashed}
    return about | ({"texts": "as they are"} if as_released else {})


def _texts(path: Path) -> dict[str, list[str]]:
    texts = {}
    with open(path, encoding="utf-8", errors="surrogatepass") as file:
        for number, line in enumerate(file, start=1):
            if number > 1 and line.endswith("\n"):
                row = json.loads(line)
                texts[row["id"]] = [completion["text"] for completion in row["completions"]]
    return texts


def _digest(record: LongContextExample) -> str:
    text = json.dumps(record.to_dict(), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(text, encoding="utf-8", errors="surrogatepass")
    os.replace(temporary, path)
