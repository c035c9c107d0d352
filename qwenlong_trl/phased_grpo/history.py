"""What a run of PhasedGRPO went through, read from the files that it leaves; nothing in them is trusted.

```python
>>> history = read_history("out/checkpoint-270")  # or a trainer_state.json that somebody sent
>>> [(phase.name, phase.first_step, phase.last_step) for phase in history.phases]
```

Everything is in `trainer_state.json`, which the trainer writes with every checkpoint; `curriculum_state.json` beside
it adds the names of the phases and which prompts were carried. Importing this module imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


MOST_ENTRIES = 5_000
MOST_PHASES = 32
MOST_BUCKETS = 32
_BUCKET = re.compile(r"curriculum/length_(\d{1,9})_(\d{1,9})/accuracy")
_SIGNED_PHASE = re.compile(r"phases\[(\d{1,3})\]")
SERIES = ("reward", "accuracy", "entropy", "zero_variance")


@dataclass(frozen=True)
class PhaseSpan:
    """A phase as the log shows it: steps `first_step` to `last_step`, prompts of up to `max_prompt_length` tokens, and
    how many prompts were `carried` into it."""

    name: str
    max_prompt_length: int
    first_step: int
    last_step: int
    carried: int


@dataclass(frozen=True)
class History:
    """
    Args:
        phases (`list[PhaseSpan]`):
            In their order, those that were entered.
        series (`dict[str, list[tuple[int, float]]]`):
            Steps and values of `reward`, `accuracy`, `entropy` and `zero_variance`, as far as they were logged.
        by_length (`dict[tuple[int, int], list[tuple[int, float]]]`):
            Accuracy of the prompts of more than the first and up to the second number of tokens.
        carried_share (`list[tuple[int, float]]`):
            Share of the prompts of a window that were carried into its phase.
        carried_prompts (`dict[int, list[str]]`, *optional*):
            Ids of the prompts carried into each phase, counted from 0; empty without `curriculum_state.json`.
    """

    phases: list[PhaseSpan]
    series: dict[str, list[tuple[int, float]]]
    by_length: dict[tuple[int, int], list[tuple[int, float]]]
    carried_share: list[tuple[int, float]]
    carried_prompts: dict[int, list[str]]

    @property
    def last_step(self) -> int:
        return self.phases[-1].last_step


def read_history(path: str | Path) -> History:
    """
    The history of a run, from a `trainer_state.json` or a folder with one: a checkpoint, or an `output_dir`, of whose
    checkpoints the newest is read.

    Raises:
        `ValueError`: there is no such file, it is no JSON, or not of a run of PhasedGRPO.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / "trainer_state.json", *path.glob("checkpoint-*/trainer_state.json")]
        found = [file for file in found if file.is_file()]
        if not found:
            raise ValueError(f"{path} holds no trainer_state.json, neither itself nor in a checkpoint")
        path = max(found, key=lambda file: (_number(file.parent.name), file.stat().st_mtime))
    beside = path.with_name("curriculum_state.json")
    return make_history(_load(path), _load(beside) if beside.is_file() else None)


def make_history(trainer_state: Any, curriculum_state: Any = None) -> History:
    """
    The history from the values of both files, whatever they hold.

    Args:
        trainer_state (`dict`):
            Of `trainer_state.json`.
        curriculum_state (`dict`, *optional*):
            Of `curriculum_state.json`.

    Raises:
        `ValueError`: says which field is not as a run of PhasedGRPO has it.
    """
    log = trainer_state.get("log_history") if isinstance(trainer_state, Mapping) else None
    if not isinstance(log, list):
        raise ValueError("the file has no list `log_history`: it is no trainer_state.json")
    return from_log(log, curriculum_state)


def from_log(log: Sequence[Any], curriculum_state: Any = None) -> History:
    """The history from log entries, as `trainer_state.json` lists them; errors as in [`make_history`]."""
    if len(log) > MOST_ENTRIES:
        raise ValueError(f"the log has {len(log):,} entries; up to {MOST_ENTRIES:,} can be shown")
    entries = {}
    for entry in log:
        if not isinstance(entry, Mapping) or not (_finite(entry.get("step")) and _finite(entry.get("reward"))):
            continue  # of an evaluation, or the summary at the end
        if not 0 <= entry["step"] <= 10**9:
            raise ValueError(f"a log entry has the step {entry['step']!r:.40}")
        entries[int(entry["step"])] = entry
    rows = sorted(entries.items())
    if not rows:
        raise ValueError("the log holds no training step with a reward: it is not of a GRPO run, or it has just begun")
    if not any(_finite(entry.get("curriculum/phase")) for _, entry in rows):
        raise ValueError("the log names no phase: it is of a GRPO run without phases")
    signature = curriculum_state.get("signature") if isinstance(curriculum_state, Mapping) else None
    phases = _phases(rows, _signed_names(signature))
    by_length: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for step, entry in rows:
        for key, value in entry.items():
            match = _BUCKET.fullmatch(key) if isinstance(key, str) else None
            if match and _finite(value):
                by_length.setdefault((int(match[1]), int(match[2])), []).append((step, float(value)))
    if len(by_length) > MOST_BUCKETS:
        raise ValueError(f"the log has {len(by_length)} length buckets; up to {MOST_BUCKETS} can be shown")
    series = {name: points for name in SERIES if (points := _points(rows, name))}
    carried = _points(rows, "curriculum/carried_share")
    return History(phases, series, dict(sorted(by_length.items())), carried, _carried_prompts(curriculum_state))


def _points(rows, name: str) -> list[tuple[int, float]]:
    return [(step, float(entry[name])) for step, entry in rows if _finite(entry.get(name))]


def _phases(rows, names: Mapping[int, str]) -> list[PhaseSpan]:
    found: dict[int, list[tuple[int, Mapping]]] = {}
    for step, entry in rows:
        number = entry.get("curriculum/phase")
        if not _finite(number):
            continue
        if not 1 <= round(number) <= MOST_PHASES:
            raise ValueError(f"a log entry has the phase {number!r:.40}; up to {MOST_PHASES} can be shown")
        found.setdefault(round(number) - 1, []).append((step, entry))
    spans, before = [], 0
    for k, of in sorted(found.items()):
        last = of[-1][1]
        length, carried = last.get("curriculum/max_prompt_length"), last.get("curriculum/carried")
        end = of[-1][0]
        if end <= before:
            raise ValueError("the phases of the log overlap, so that it is not of one run")
        spans.append(
            PhaseSpan(
                names.get(k, f"phase_{k + 1}"),
                int(length) if _finite(length) else 0,
                before + 1,
                end,
                int(carried) if _finite(carried) else 0,
            )
        )
        before = end
    return spans


def _signed_names(signature: Any) -> dict[int, str]:
    """Names of phases from the signature of the run."""
    names = {}
    for key, value in signature.items() if isinstance(signature, Mapping) else ():
        match = _SIGNED_PHASE.fullmatch(key) if isinstance(key, str) else None
        if match and isinstance(value, Mapping) and isinstance(value.get("name"), str):
            names[int(match[1])] = value["name"][:40]
    return names


def _carried_prompts(state: Any) -> dict[int, list[str]]:
    carried = state.get("carried") if isinstance(state, Mapping) else None
    found = {}
    for key, prompts in carried.items() if isinstance(carried, Mapping) else ():
        if str(key).isdecimal() and int(key) < MOST_PHASES and isinstance(prompts, Mapping):
            found[int(key)] = [str(id)[:200] for id in prompts]
    return found


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12  # and so no NaN


def _number(name: str) -> int:
    return int(name.rpartition("-")[2]) if name.rpartition("-")[2].isdecimal() else -1


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({str(error)[:100]})") from None
