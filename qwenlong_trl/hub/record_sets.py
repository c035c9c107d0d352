"""Record sets on the Hub: Parquet files, a card, and the counts that the card is made of, in one commit.

```python
>>> from qwenlong_trl.data import read_records
>>> from qwenlong_trl.hub import push_records
>>> push_records(read_records("musique-16k.parquet"), "me/musique-16k", license="cc-by-4.0", private=True)
>>> load_dataset("me/musique-16k", split="train")
```
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import DatasetCard, DatasetCardData

from .files import write_json, write_text
from .render import check_card, render_card


if TYPE_CHECKING:
    from ..data import LongContextExample

RECORDS_FILE = "records.json"
SHARD_BYTES = 500 * 2**20
_SIZES = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M", 1e8: "10M<n<100M"}


def save_record_set(
    examples: Iterable[LongContextExample],
    folder: str | Path,
    name: str | None = None,
    how: str = "",
    license: str | None = None,
    language: str | list[str] | None = None,
    split: str = "train",
    repo_id: str | None = None,
) -> Path:
    """
    Writes `data/<split>-….parquet`, `records.json` and `README.md`, for `datasets.load_dataset(folder)` and the Hub.

    Args:
        examples (`Iterable[LongContextExample]`):
            The records.
        folder (`str` or `Path`):
            Made if it is not there.
        name (`str`, *optional*):
            Of the set. Defaults to that of the folder.
        how (`str`, *optional*):
            How the set was made, in a sentence or a command.
        license, language (*optional*):
            As the Hub calls them.
        split (`str`, *optional*, defaults to `"train"`):
            Name of the split.
        repo_id (`str`, *optional*):
            Where the set will be on the Hub, for the code in its card.

    Returns:
        `Path`: the folder.
    """
    from ..data import to_dataset

    folder = Path(folder)
    if not re.fullmatch(r"\w+(\.\w+)*", split):
        raise ValueError(f"a split is named by letters, digits, `_` and dots, got {split!r}")
    examples = list(examples)
    if not examples:
        raise ValueError("there are no records to write")
    dataset = to_dataset(examples)
    shards = max(1, -(-dataset.data.nbytes // SHARD_BYTES))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for i in range(shards):
        path = folder / "data" / f"{split}-{i:05d}-of-{shards:05d}.parquet"
        part = path.with_name(f".{path.name}.part")
        dataset.shard(shards, i, contiguous=True).to_parquet(part)
        part.replace(path)
    about = describe_records(examples) | {"name": name or folder.resolve().name, "how": how, "split": split}
    write_json(folder / RECORDS_FILE, about)
    card = str(record_set_card(about, license=license, language=language, repo_id=repo_id))
    check_card(card, "dataset")
    write_text(folder / "README.md", card)
    return folder


def push_records(
    examples: Iterable[LongContextExample],
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    **options: Any,
) -> str:
    """
    Pushes records as a data set with a card, in one commit. (`Dataset.push_to_hub` takes two where the card is to be
    another than its own, so that a failure between them would leave data without its description.)

    Args:
        examples, options:
            As in [`save_record_set`].
        repo_id, private, revision, token:
            As in [`push_folder`].

    Returns:
        `str`: address of the commit.
    """
    from .push import push_folder

    with tempfile.TemporaryDirectory() as folder:
        saved = save_record_set(examples, Path(folder) / repo_id.split("/")[-1], repo_id=repo_id, **options)
        return push_folder(saved, repo_id, "dataset", private=private, revision=revision, token=token)


def describe_records(examples: Sequence[LongContextExample]) -> dict[str, Any]:
    """The counts of a record set: records by source and task, documents, characters, evidence."""
    characters = [sum(len(document.text) for document in example.documents) for example in examples]
    documents = [len(example.documents) for example in examples]
    return {
        "records": len(examples),
        "sources": dict(Counter(example.source or "not stated" for example in examples).most_common()),
        "tasks": dict(Counter(example.task for example in examples).most_common()),
        "with_evidence": sum(bool(example.evidence) for example in examples),
        "documents": {"least": min(documents), "most": max(documents), "sum": sum(documents)},
        "characters": {"least": min(characters), "most": max(characters), "sum": sum(characters)},
    }


def record_set_card(
    about: Mapping[str, Any],
    name: str | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    repo_id: str | None = None,
) -> DatasetCard:
    """The card of a record set, from `records.json`."""
    name = name or about["name"]
    metadata = DatasetCardData(
        pretty_name=name,
        license=license,
        language=language,
        task_categories=["question-answering"],
        size_categories=[next((word for most, word in _SIZES.items() if about["records"] < most), "n>1T")],
        tags=["long-context", "qwenlong-trl"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": about["split"], "path": f"data/{about['split']}-*.parquet"}],
            }
        ],
    )
    values = {"name": name, "repo_id": repo_id, "about": about, "license": license}
    return render_card("dataset", "record_set", metadata, values)
