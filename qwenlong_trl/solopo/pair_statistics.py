"""What became of the records, prompts and samples of a preference set, and the files that say so.

```python
>>> dataset, statistics = build_pairs(...)
>>> print("\\n".join(statistics.lines()))
>>> save_pairs(dataset, "pairs", describe_pairs(statistics, {"model": model, "num_samples": 32}))
```
"""

from __future__ import annotations

import json
import os
import statistics as stats
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .scoring import ScoredCompletion, is_empty


if TYPE_CHECKING:
    from datasets import Dataset

    from ..generation import Completion

_LENGTHS = ("prompt", "long prompt", "chosen", "rejected")


@dataclass
class PairStatistics:
    """Counts that add up: every record is dropped or a prompt, every prompt a pair or dropped, every sample one thing.

    Args:
        dropped (`Counter[str]`):
            Records without twins, by reason.
        prompts (`Counter[str]`):
            Prompts by outcome: `"pair"`, `"all right"`, `"all wrong"`, `"no usable sample"`.
        samples (`Counter[str]`):
            Samples by outcome: `"right"`, `"wrong"`, `"duplicate"` (of another sample of its prompt), `"truncated"`,
            `"empty"`, `"no verdict"` (of the judge).
        no_answer (`int`):
            How many of the wrong ones state no answer at all.
        pass_rates (`list[float]`):
            Share of right ones among all samples of each prompt, duplicates counted.
        lengths (`dict[str, list[int]]`):
            Tokens in the pairs, of `"prompt"`, `"long prompt"`, `"chosen"` and `"rejected"`.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)
    no_answer: int = 0
    pass_rates: list[float] = field(default_factory=list)
    lengths: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in _LENGTHS})

    @property
    def pairs(self) -> int:
        return self.prompts["pair"]

    def drop(self, reason: str) -> None:
        """Counts a record that has no twins."""
        self.dropped[reason] += 1

    def add_prompt(self, completions: Sequence[Completion], scored: Sequence[ScoredCompletion]) -> None:
        """Counts the samples of a prompt, and what became of it."""
        truncated = sum(completion.finish_reason == "length" for completion in completions)
        empty = sum(is_empty(completion) for completion in completions)
        counts = Counter({True: "right", False: "wrong", None: "no verdict"}[one.right] for one in scored)
        counts += Counter(truncated=truncated, empty=empty, duplicate=sum(one.count - 1 for one in scored))
        self.samples += counts
        self.no_answer += sum(one.right is False and one.answer is None for one in scored)
        self.pass_rates.append(sum(one.count for one in scored if one.right) / len(completions))
        if counts["right"] and counts["wrong"]:
            self.prompts["pair"] += 1
        elif counts["right"]:
            self.prompts["all right"] += 1
        else:
            self.prompts["all wrong" if counts["wrong"] else "no usable sample"] += 1

    def add_lengths(self, row: Mapping[str, Any], chosen: int, rejected: int) -> None:
        """Notes the lengths of a pair in tokens."""
        for name, value in zip(
            _LENGTHS, (row["prompt_length"], row["long_prompt_length"], chosen, rejected), strict=True
        ):
            self.lengths[name].append(value)

    def lines(self) -> list[str]:
        """The statistics as lines of text."""
        records = self.dropped.total() + self.prompts.total()
        lines = [f"{records:,} records: {self.prompts.total():,} prompts{_reasons(self.dropped, ', dropped: ')}"]
        others = Counter({name: n for name, n in self.prompts.items() if name != "pair"})
        lines.append(f"{self.prompts.total():,} prompts: {self.pairs:,} pairs{_reasons(others, ', dropped: ')}")
        lines.append(f"{self.samples.total():,} samples{_reasons(self.samples, ': ')}")
        if self.no_answer:
            lines[-1] += f" ({self.no_answer:,} of the wrong ones without an answer)"
        if self.pass_rates:
            lines.append(f"pass rate: {stats.mean(self.pass_rates):.3f} (mean over the prompts, of all their samples)")
        for name, values in self.lengths.items():
            if values:
                shown = f"mean {stats.mean(values):,.0f}, min {min(values):,}, max {max(values):,}"
                lines.append(f"tokens of {name}: {shown}")
        return lines


def describe_pairs(
    statistics: PairStatistics, settings: Mapping[str, Any], judge: str | None = None
) -> dict[str, Any]:
    """What the card of a set is made of: how it was made and what was dropped, as plain data."""
    return {
        "pairs": statistics.pairs,
        "statistics": statistics.lines(),
        "settings": json.loads(json.dumps(settings)),
        "judge": judge,
    }


def save_pairs(dataset: Dataset, folder: str | os.PathLike, about: Mapping[str, Any]) -> None:
    """
    Writes `data/train.parquet`, `pairs.json` and `README.md`, for `datasets.load_dataset(folder)` and the Hub; each
    appears whole.

    Args:
        dataset (`Dataset`):
            The pairs.
        folder (`str` or `os.PathLike`):
            Made if it is not there.
        about (`Mapping[str, Any]`):
            From [`describe_pairs`].
    """
    from ..hub.files import write_json, write_text
    from ..hub.preference_sets import PAIRS_FILE, preference_set_card

    folder = Path(folder)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    temporary = folder / "data" / ".train.parquet.part"
    dataset.to_parquet(temporary)
    _replace(temporary, folder / "data" / "train.parquet")
    write_json(folder / PAIRS_FILE, dict(about))
    write_text(folder / "README.md", str(preference_set_card(about)))


def _replace(temporary: Path, path: Path) -> None:
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())  # the content first, then the name
    os.replace(temporary, path)


def _reasons(counts: Counter[str], before: str) -> str:
    return before + ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common()) if counts.total() else ""
