"""A table of a Loong report, for the terminal, Markdown and HTML.

```python
>>> table = ReportTable("set", "By set", "All records.", ("Set", "n", "Score"), [["1", "20", ("81.00", "75.1–86.2")]])
>>> rich.print(table.as_rich())
>>> print(table.as_markdown())
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text


_MARKUP = re.compile(r"[\\`*_<>\[\]|~$]|&(?=#?\w+;)")
_BLOCK = re.compile(r"^(?:[#+-]|\d+[.)])")  # what begins a heading or a list


@dataclass(frozen=True)
class ReportTable:
    """
    A table for every output. `rows` hold a label and cells, each a text, or a figure and what is said beside it.

    Args:
        name (`str`):
            For anchors.
        title, note (`str`):
            What it shows, and how it was computed.
        header (`tuple[str, ...]`), rows (`list[list[str | tuple[str, ...]]]`):
            Of equal lengths.
    """

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: list[list[str | tuple[str, ...]]]

    def as_markdown(self) -> str:
        """A heading, the table and the note; no text in it is taken for Markdown or HTML."""
        lines = [[*map(escape_inline, self.header)], ["---", *["---:"] * (len(self.header) - 1)]]
        lines += [[escape_inline(one_line(cell)) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {escape_markdown(self.title)}\n\n{table}\n\n{escape_markdown(self.note)}\n"

    def as_rich(self) -> Table:
        """For a `rich` console, intervals below their figures; no text in it is taken for markup."""
        table = Table(box=box.SIMPLE_HEAD, title=Text(self.title, style="bold"), title_justify="left")
        table.caption, table.caption_justify = Text(self.note, style="dim"), "left"
        for i, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*(Text(cell if isinstance(cell, str) else "\n".join(cell)) for cell in row))
        return table


def one_line(cell: str | tuple[str, ...]) -> str:
    """A cell of a [`ReportTable`] as a text."""
    if isinstance(cell, str):
        return cell
    return f"{cell[0]} ({', '.join(cell[1:])})" if cell[1:] else cell[0]


def escape_markdown(text: str) -> str:
    """So that Markdown shows the text as it is, on one line."""
    return _BLOCK.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", escape_inline(text))


def escape_inline(text: str) -> str:
    """As [`escape_markdown`], for a text that does not begin a line, such as a cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
