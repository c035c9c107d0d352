"""What a model is evaluated on: a synthetic suite made on the spot, any file of records, or the paper's seven sets.

```python
>>> from qwenlong_trl.evaluation import load_suite
>>> records = load_suite("synthetic", lengths=[1_024, 8_192, 32_768], per_length=8, tokenizer=tokenizer)
>>> records = load_suite("musique_ans_v1.0_dev.jsonl")
>>> records = load_suite("frames")  # from the Hub
>>> records = load_suite("frames", folder="downloads")  # from files that lie there already
```
"""

from __future__ import annotations

import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.prompts import render_prompt
from ..data.readers import read_records
from ..data.readers.files import read_rows
from ..data.record import InvalidRecordError, LongContextExample
from ..data.synthesize import SYNTHETIC_TASKS, synthesize
from ..generation.sampling import encode_prompt
from .protocol import EvaluationProtocol, protocol_prompt
from .public import LONGBENCH_NAMES, docmath_prompt, docmath_row, frames_row, in_prompts, longbench_row


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_LENGTHS = tuple(1024 * 2**i for i in range(8))  # 1K to 128K
# Synthetic questions whose longest one is taken for that of all, of each task; and tokens at the seams of the texts.
_MEASURED, _SEAMS = 16, 8

_NO_LIMIT = 10**9
_DOCMATH_SUBSETS = ("complong", "compshort", "simplong", "simpshort")
_REPOSITORIES = {
    "docmath": "Tongyi-Zhiwen/docmath",
    "frames": "Tongyi-Zhiwen/frames",
    **dict.fromkeys(LONGBENCH_NAMES, "Tongyi-Zhiwen/longbench"),
}
PUBLIC_NAMES = tuple(_REPOSITORIES)


def load_suite(
    name: str,
    lengths: Sequence[int] = DEFAULT_LENGTHS,
    per_length: int = 8,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
    folder: str | Path | None = None,
    format: str = "auto",
    on_invalid: Callable[[InvalidRecordError], None] | None = None,
    protocol: EvaluationProtocol | None = None,
) -> list[LongContextExample]:
    """The records of a suite.

    Args:
        name (`str`):
            `"synthetic"`; `"docmath"`, `"frames"`, `"2wiki"`, `"hotpotqa"`, `"musique"`, `"narrativeqa"` or `"qasper"`
            (200 to 824 questions each, from the Hub); or a file that [`read_records`] knows.
        lengths (`Sequence[int]`, *optional*, defaults to 1K, 2K, ... 128K):
            Synthetic: tokens of a whole prompt, which is at most so long, and less by about 100 tokens and 5 % or one
            document. Without a tokenizer it is off by as much as the estimate is.
        per_length (`int`, *optional*, defaults to `8`):
            Synthetic: questions of each of the four tasks at each length.
        seed (`int`, *optional*, defaults to `0`):
            Synthetic: seed of all draws.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Synthetic: what counts. By default 4 characters are a token.
        folder (`str` or `Path`, *optional*):
            Public names: where the files lie, anywhere below it, instead of the Hub.
        format (`str`, *optional*, defaults to `"auto"`):
            Files: see [`read_records`].
        on_invalid (`Callable`, *optional*):
            Files: see [`read_records`].
        protocol ([`EvaluationProtocol`], *optional*):
            Synthetic: its template and chat template are part of the length. By default those of the paper, and a chat
            if the tokenizer has a template for it.

    Raises:
        `ValueError`: an unknown name, a length that is too short, or a public set that cannot be had; the message says
            what to do.
        [`InvalidRecordError`]: a row cannot become a record.
    """
    if name == "synthetic":
        if protocol is None:
            protocol = EvaluationProtocol(chat=tokenizer is not None and tokenizer.chat_template is not None)
        return _synthetic(lengths, per_length, seed, tokenizer, protocol)
    if name in PUBLIC_NAMES:
        return _public(name, Path(folder) if folder is not None else _download(name))
    if not Path(name).is_file():
        raise ValueError(
            f"{name!r} is neither a file nor a suite; the suites are synthetic, {', '.join(PUBLIC_NAMES)}"
        )
    return list(read_records(name, format, on_invalid))


def spread_sample(
    records: Sequence[LongContextExample], count: int | None, seed: int = 0, lengths: Sequence[int] | None = None
) -> list[LongContextExample]:
    """Some of the records, in their order: drawn evenly from each task, and from each length if these are given. With
    a larger `count` come more of them, and none goes.

    Args:
        records (`Sequence[LongContextExample]`):
            All of them.
        count (`int`, *optional*):
            How many; by default all.
        seed (`int`, *optional*, defaults to `0`):
            Of the draw.
        lengths (`Sequence[int]`, *optional*):
            The length of each record, or any other number that it is to be drawn by beside its task.
    """
    lengths = [0] * len(records) if lengths is None else lengths
    tasks = sorted({record.source or record.task for record in records})
    steps = sorted(set(lengths))
    groups: dict[tuple[int, int, int], list[int]] = {}
    for i, record in enumerate(records):
        step, task = steps.index(lengths[i]), tasks.index(record.source or record.task)
        # Along diagonals, each beginning where the one before ended: the first groups have as many tasks and lengths
        # as there can be.
        diagonal = (task - step) % len(tasks)
        groups.setdefault((diagonal % len(steps), diagonal, step), []).append(i)
    order = []
    for group, places in sorted(groups.items()):
        drawn = random.Random(f"{seed}-{group}").sample(places, len(places))
        order += [(turn, group, i) for turn, i in enumerate(drawn)]
    return [records[i] for i in sorted(i for *_, i in sorted(order)[:count])]


def _synthetic(
    lengths: Sequence[int], per_length: int, seed: int, tokenizer, protocol: EvaluationProtocol
) -> list[LongContextExample]:
    from tqdm import tqdm

    if per_length < 1:
        raise ValueError(f"per_length must be at least 1, got {per_length}")
    if len(set(lengths)) < len(lengths) or not lengths:
        raise ValueError(f"lengths must be at least one number, each once, got {list(lengths)}")
    measured = [record for task in SYNTHETIC_TASKS for record in synthesize(task, 2_000, seed, _MEASURED)]
    around = max(_around_context(record, tokenizer, protocol) for record in measured)
    for length in lengths:
        if length < around + 100:
            raise ValueError(f"a length must be at least {around + 100} tokens, got {length}")
    records = []
    total = len(lengths) * len(SYNTHETIC_TASKS) * per_length
    with tqdm(total=total, desc="Suite", unit=" questions") as bar:
        for length in sorted(lengths):
            for task in SYNTHETIC_TASKS:
                allowance, found = around, []
                while not found:
                    for record in synthesize(task, length - allowance, seed, per_length, tokenizer):
                        found.append(record)
                        bar.update()
                    # A question that is longer than all that were measured: once more, with room for it.
                    if (most := max(_around_context(record, tokenizer, protocol) for record in found)) > allowance:
                        bar.update(-len(found))
                        allowance, found = most, []
                records += found
    return records


def _around_context(record: LongContextExample, tokenizer, protocol: EvaluationProtocol) -> int:
    """Tokens of a prompt beside its context: template, question and chat template."""
    bare = replace(record, documents=(), evidence=())
    if tokenizer is None:
        return len(render_prompt(bare, protocol.template)) // 4 + _SEAMS
    prompt = protocol_prompt(bare, tokenizer, replace(protocol, max_input_tokens=_NO_LIMIT)).prompt
    return len(encode_prompt(prompt, tokenizer, protocol.chat_template_kwargs)) + _SEAMS


def _public(name: str, folder: Path) -> list[LongContextExample]:
    if name in LONGBENCH_NAMES:
        with _longbench_file(folder, LONGBENCH_NAMES[name]) as path:
            return _rows(path, partial(longbench_row, name=name))
    if name == "frames":
        return _rows(_file(folder, "test.jsonl", "frames"), frames_row)
    chosen = _file(folder, "docmath_all_test_200.jsonl", "docmath")
    prompts = list(_converted(chosen, docmath_prompt))
    records = []
    for subset in _DOCMATH_SUBSETS:
        path = _file(folder, f"{subset}_testmini.jsonl", "docmath")
        found = _rows(path, partial(docmath_row, subset=subset))
        records += [record for record in found if in_prompts(record, prompts)]
    if not records:
        raise ValueError(f"{chosen}: none of its prompts asks a question of the files *_testmini.jsonl beside it")
    return records


def _rows(path: Path, convert: Callable[[Any, int], LongContextExample]) -> list[LongContextExample]:
    records: dict[str, LongContextExample] = {}
    for record in _converted(path, convert):
        if record.id in records:
            raise InvalidRecordError("id", record.id, "stands in two rows", str(path))
        records[record.id] = record
    return list(records.values())


def _converted(path: Path, convert: Callable[[Any, int], Any]) -> Iterator[Any]:
    for row, value in read_rows(path):
        try:
            if isinstance(value, InvalidRecordError):
                raise value
            yield convert(value, row)
        except InvalidRecordError as error:
            raise error.at(str(path), row) from None


def _file(folder: Path, name: str, suite: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) > 1:  # several sets under one folder, as the authors lay them out
        found = [path for path in found if suite in path.relative_to(folder).parts] or found
    if not found:
        raise ValueError(f"no file {name} in or below {folder}; it is part of {_REPOSITORIES[suite]} on the Hub")
    return found[0]


@contextmanager
def _longbench_file(folder: Path, name: str) -> Iterator[Path]:
    """The rows of one set of LongBench, which come as `NAME.jsonl`, or as that inside of `data.zip`."""
    found = sorted(folder.rglob(f"{name}.jsonl")) or sorted(folder.rglob(f"{name}/test*.parquet"))
    if found:
        yield found[0]
        return
    for archive in sorted(folder.rglob("data.zip")):
        with zipfile.ZipFile(archive) as file:
            for member in file.namelist():
                if Path(member).name == f"{name}.jsonl":
                    with tempfile.TemporaryDirectory() as temporary:
                        path = Path(temporary) / f"{name}.jsonl"
                        path.write_bytes(file.read(member))
                        yield path
                        return
    raise ValueError(f"no file {name}.jsonl in or below {folder}, nor a data.zip with it; it is part of LongBench")


def _download(name: str) -> Path:
    """The folder with the files of a public set. By file rather than `datasets.load_dataset`: the authors read files,
    and a repository with a loading script, as LongBench has one, cannot be loaded by `datasets` 4 and later."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(_REPOSITORIES[name], repo_type="dataset"))
    except Exception as error:  # offline, no such repository, no permission, a broken connection: many kinds
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"cannot load {name} from the Hub ({_REPOSITORIES[name]}: {type(error).__name__}: {reason}). Try again "
            "with a connection and without HF_HUB_OFFLINE; or download the repository elsewhere and say where its "
            "files lie (--suite_folder, or folder=...); or take --suite synthetic, which needs no download"
        ) from None
