"""A message's text as lines and table rows, whether it came as HTML or plain.

Read with the standard library's event parser: no tree, so no recursion, and time linear in the size. Cells of layout
tables (those that hold another table) are no cells here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TypeAlias

Row: TypeAlias = list[str]
MOST_CHARACTERS = 500_000
_SKIPPED = {"script", "style", "title"}
_BREAKS = {"br", "p", "div", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "dt", "dd",
           "td", "th", "blockquote", "section", "article", "pre", "center"}  # fmt: skip
_DECLARATION = re.compile(r"<[!?][^<>]{0,1000}>")
_NO_TAG = re.compile(r"<(?!/?[A-Za-z])")
_SPACE = re.compile(r"[ \t\r\n\f\v]+")


@dataclass(slots=True)
class Page:
    """``lines``: not empty, in order. ``tables``: rows of cells; a cell's own lines are joined by a line break."""

    lines: list[str] = field(default_factory=list)
    tables: list[list[Row]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def value(self, *labels: str, start: int = 0) -> str | None:
        """What follows the first line that begins with one of the labels: the rest of the line, else the next one."""
        found = self.find(*labels, start=start)
        return (found[1] or None) if found is not None else None

    def find(self, *labels: str, start: int = 0) -> tuple[int, str] | None:
        """As :meth:`value`, with the number of the line on which the label stands."""
        for index in range(start, len(self.lines)):
            for label in labels:
                rest = after_label(self.lines[index], label)
                if rest is None:
                    continue
                following = index
                if not rest and self._is_blank(label):
                    return index, ""
                while not rest and following + 1 < min(len(self.lines), index + 3):
                    following += 1
                    rest = self.lines[following].lstrip(" :*|\xa0").rstrip(" *|\xa0")
                return index, rest
        return None

    def _is_blank(self, label: str) -> bool:
        """Whether the label stands in a cell and the cell beside it is empty: then the next line is another's."""
        return any(len(row) == 2 and not row[1] and after_label(row[0], label) == "" for row in self.rows())

    def all_values(self, *labels: str) -> list[str]:
        """The values of every such line, in order."""
        found, start = [], 0
        while (hit := self.find(*labels, start=start)) is not None:
            found.append(hit[1])
            start = hit[0] + 1
        return found

    def rows(self) -> Iterator[Row]:
        for table in self.tables:
            yield from table

    def records(self, *headers: str) -> list[dict[str, str]]:
        """The rows under the first header row that names all ``headers``, by the headers' normalised names.

        They end at a row with fewer than two cells or at the table's end.
        """
        wanted = [key(name) for name in headers]
        for table in self.tables:
            for number, row in enumerate(table):
                names = [key(cell) for cell in row]
                if all(any(name.startswith(item) for name in names) for item in wanted):
                    return list(_under(names, table[number + 1 :]))
        return []


def _under(names: Sequence[str], rows: list[Row]) -> Iterator[dict[str, str]]:
    for row in rows:
        if len(row) < 2 and len(names) > 1:
            return
        yield dict(zip(names, row, strict=False))


def column(record: dict[str, str], *names: str) -> str:
    """A record's value under a header that begins with one of the names; empty where there is none."""
    for name in names:
        for title, value in record.items():
            if title.startswith(key(name)):
                return value
    return ""


def key(text: str) -> str:
    """A header for comparison: lower case, letters and digits only."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def after_label(line: str, label: str) -> str | None:
    """What follows a label at a line's start (case, colons, stars and spaces do not count); None if it is not there."""
    bare = line.lstrip(" *•-|\xa0")
    if bare[: len(label)].lower() != label.lower():
        return None
    rest = bare[len(label) :]
    if rest[:1].isalnum():
        return None
    return rest.lstrip(" :*|\t\xa0").rstrip(" *|\t\xa0")


def from_text(text: str) -> Page:
    """A page of plain text; lines with tabs are also rows."""
    lines, rows = [], []
    for line in text[:MOST_CHARACTERS].splitlines():
        cells = [squeeze(cell) for cell in line.split("\t")]
        if len(cells) > 1 and any(cells):
            rows.append(cells)
        if any(cells):
            lines.append(squeeze(" ".join(cells)))
    return Page(lines, [rows] if rows else [])


def from_html(text: str) -> Page:
    """A page of HTML, however broken."""
    reader = _Reader()
    reader.feed(_tame(text[:MOST_CHARACTERS]))
    reader.close()
    return reader.page()


def _tame(text: str) -> str:
    """Without comments and declarations, and with ``<`` that begins no tag as text: on many of these that are never
    closed, the standard library's parser takes time quadratic in their number."""
    pieces, at = [], 0
    while (begin := text.find("<!--", at)) >= 0 and (end := text.find("-->", begin + 4)) >= 0:
        pieces.append(text[at:begin])
        at = end + 3
    rest = _DECLARATION.sub(" ", "".join([*pieces, text[at:]]))
    return _NO_TAG.sub("&lt;", rest)


def squeeze(text: str) -> str:
    """White space as a browser shows it: runs of it are one space, but no-break spaces stay as many as they are."""
    return _SPACE.sub(" ", text).replace("\u200b", "").strip(" ").replace("\xa0", " ").strip()


@dataclass(slots=True)
class _Table:
    rows: list[Row] = field(default_factory=list)
    row: Row | None = None
    cell: list[str] | None = None  # pieces of text
    layout: bool = False  # the open cell holds a table

    def close_cell(self) -> None:
        if self.cell is not None and self.row is not None and not self.layout:
            lines = (squeeze(line) for line in "".join(self.cell).split("\x00"))
            self.row.append("\n".join(line for line in lines if line))
        self.cell, self.layout = None, False

    def close_row(self) -> None:
        self.close_cell()
        if self.row is not None and any(self.row):
            self.rows.append(self.row)
        self.row = None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._open: list[_Table] = []
        self._done: list[_Table] = []
        self._skip = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skip:
            return
        if tag in _SKIPPED:
            self._skip = tag
            return
        if tag in _BREAKS:
            self._text("\x00")
        if tag == "table":
            if self._open:
                self._open[-1].layout = True
            self._open.append(_Table())
            self._done.append(self._open[-1])
        elif self._open and tag == "tr":
            self._open[-1].close_row()
            self._open[-1].row = []
        elif self._open and tag in ("td", "th"):
            table = self._open[-1]
            table.close_cell()
            if table.row is None:
                table.row = []
            table.cell = []

    def handle_endtag(self, tag: str) -> None:
        if self._skip:
            if tag == self._skip:
                self._skip = ""
            return
        if tag in _BREAKS:
            self._text("\x00")
        if not self._open:
            return
        if tag in ("td", "th"):
            self._open[-1].close_cell()
        elif tag == "tr":
            self._open[-1].close_row()
        elif tag == "table":
            self._open.pop().close_row()

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self._text(data.replace("\x00", " "))

    def _text(self, text: str) -> None:
        self._pieces.append(text)
        if self._open and self._open[-1].cell is not None:
            self._open[-1].cell.append(text)

    def page(self) -> Page:
        for table in self._open:
            table.close_row()
        lines = (squeeze(line) for line in "".join(self._pieces).split("\x00"))
        return Page([line for line in lines if line], [table.rows for table in self._done if table.rows])
