"""The files of a folder or a zip file in the layout of Loong's release, and how each is read.

```python
>>> files = zip_files(Path("doc.zip"))  # nothing is unpacked until a file is read, and then into memory
>>> files["doc/paper/2405.21046.md"]()
```
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from .records import DOMAINS


_MOST_BYTES = 2**28  # of one file of a zip file, which could claim any size; legal.json is the largest, far below it


def folder_files(folder: Path) -> dict[str, Callable[[], bytes]]:
    """`domain/file` -> how to read it."""
    base = next((base for base in (folder, folder / "doc") if any((base / d).is_dir() for d in DOMAINS)), None)
    if base is None:
        raise ValueError(f"{folder} holds none of the folders {', '.join(DOMAINS)}")
    paths = [path for domain in DOMAINS for path in (base / domain).glob("*") if path.is_file()]
    return {f"{path.parent.name}/{path.name}": path.read_bytes for path in paths if not path.name.startswith(".")}


def zip_files(path: Path) -> dict[str, Callable[[], bytes]]:
    """`folder/domain/file` -> how to read it, of the folder with most files where there are several."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is neither a folder nor a zip file ({error})") from None

    def read(entry: zipfile.ZipInfo) -> bytes:
        if entry.file_size > _MOST_BYTES:
            raise ValueError(
                f"{path}: {entry.filename!r} claims {entry.file_size:,} bytes, more than any document has"
            )
        try:
            return archive.read(entry)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: {entry.filename!r} cannot be unpacked ({error})") from None

    by_folder: dict[str, dict[str, Callable[[], bytes]]] = {}
    for entry in archive.infolist():
        name = _entry_name(entry)
        *folders, domain, file = ["", *name.split("/")]
        hidden = file.startswith(".") or "__MACOSX" in folders
        if domain in DOMAINS and file and not hidden:
            by_folder.setdefault("/".join(folders), {})[name] = lambda entry=entry: read(entry)
    if not by_folder:
        raise ValueError(f"{path} holds none of the folders {', '.join(DOMAINS)}")
    return by_folder[min(by_folder, key=lambda folder: (-len(by_folder[folder]), folder))]


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """macOS writes names in UTF-8 without the flag (bit 11) that says so, and `zipfile` takes them for CP437."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:  # another encoding indeed
        return entry.filename
