"""What a written page holds, for the tests of all reports."""

import re
from html.parser import HTMLParser


LOADING = {"script", "link", "img", "iframe", "object", "embed", "image", "base", "video", "audio", "source"}


class Page(HTMLParser):
    """Start tags with attributes, text by element, and the cells of every table by its id: the parts of their text."""

    def __init__(self, source: str):
        super().__init__()
        self.source, self.tags, self.tables, self.texts, self.path = source, [], {}, {}, []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        self.path += [] if tag == "meta" else [tag]
        if tag == "table":
            self.table = self.tables.setdefault(dict(attrs).get("id"), [])
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append([])

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.path.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.texts.setdefault(self.path[-1] if self.path else "", []).append(data)
        if {"td", "th"} & set(self.path) and data.strip():
            self.table[-1][-1].append(data.strip())

    def rows(self, table: str | None) -> list[list[str]]:
        """Cells as text, parts of a cell (a value and its interval) joined by a space."""
        return [[" ".join(cell) for cell in row] for row in self.tables[table]]

    @property
    def prose(self) -> str:
        """The text of all paragraphs, on one line."""
        return plain(" ".join([*self.texts["p"], *self.texts.get("strong", [])]))


def plain(text: str) -> str:
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


def check_page_needs_nothing_else(page: Page) -> None:
    """It is well formed, loads nothing, and refers to what is there."""
    assert page.path == [], "an element is not closed"
    assert not LOADING & {tag for tag, _ in page.tags}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "data", "onload"} & set(attrs)
        inside = [attrs[key].removeprefix("#") for key in ("href", "xlink:href") if key in attrs and tag != "a"]
        inside += re.findall(r"url\(#(.*?)\)", " ".join(map(str, attrs.values())))
        assert {*inside, *attrs.get("aria-labelledby", "").split()} <= set(ids)
    assert not re.search(r"@import|url\((?!#)", page.source)
