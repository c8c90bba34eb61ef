"""Tables that come as attachments: CSV (any common delimiter and encoding) and the first sheet of an XLSX workbook."""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from xml.etree.ElementTree import Element

from control.feeds.errors import FeedError
from control.feeds.page import Row, squeeze
from control.feeds.xml import parse_xml

MOST_BYTES = 4 * 1024 * 1024  # of one unpacked part
MOST_ROWS = 20_000
_NS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def from_csv(data: bytes) -> list[Row]:
    """Rows of a CSV file; raises :class:`FeedError`."""
    text = decode(data)
    first = text.split("\n", 1)[0]
    delimiter = max("\t,;|", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text.replace("\x00", ""), newline=""), delimiter=delimiter)
        rows = []
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([squeeze(cell) for cell in row])
            if len(rows) > MOST_ROWS:
                raise FeedError(f"a table of more than {MOST_ROWS} rows")
    except csv.Error as error:
        raise FeedError(f"not CSV: {error}") from error
    return rows


def decode(data: bytes) -> str:
    """Text of unknown encoding: by its mark, as UTF-16 if every other byte is zero, as UTF-8, else Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[:3] == b"\xef\xbb\xbf":
        return data.decode("utf-8-sig", "replace")
    if len(data) > 3 and data[1] == 0 and data[3] == 0:
        return data.decode("utf-16-le", "replace")
    try:
        return data.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def from_xlsx(data: bytes) -> list[Row]:
    """Rows of a workbook's first sheet; raises :class:`FeedError`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            names = book.namelist()
            sheets = sorted(name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            if not sheets:
                raise FeedError("a workbook without sheets")
            words: list[str] = []
            if "xl/sharedStrings.xml" in names:
                words = ["".join(item.itertext()) for item in _part(book, "xl/sharedStrings.xml").iter(f"{_NS}si")]
            return [row for row in _rows(_part(book, sheets[0]), words) if any(row)]
    except FeedError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, KeyError, ValueError, NotImplementedError, RuntimeError,
            EOFError) as error:  # fmt: skip
        raise FeedError(f"not an XLSX workbook: {error}") from error


def _part(book: zipfile.ZipFile, name: str) -> Element:
    with book.open(name) as part:
        return parse_xml(part.read(MOST_BYTES + 1), name, MOST_BYTES)


def _rows(sheet: Element, words: list[str]) -> list[Row]:
    rows = []
    for line in sheet.iter(f"{_NS}row"):
        row: Row = []
        for cell in line.iter(f"{_NS}c"):
            place = _place(cell.get("r", ""), len(row))
            row += [""] * (place - len(row))
            value = cell.find(f"{_NS}v")
            text = value.text or "" if value is not None else "".join(cell.itertext())
            if cell.get("t") == "s" and text.isascii() and text.isdigit() and int(text[:9]) < len(words):
                text = words[int(text[:9])]
            row.append(squeeze(text))
        rows.append(row)
        if len(rows) > MOST_ROWS:
            raise FeedError(f"a table of more than {MOST_ROWS} rows")
    return rows


def _place(reference: str, following: int) -> int:
    """Column number of ``"B7"``, from 0; bounded, so that a lie about it costs no memory."""
    letters = re.match(r"[A-Z]{1,2}(?=\d)", reference)
    if letters is None:
        return following
    number = 0
    for letter in letters[0]:
        number = number * 26 + ord(letter) - 64
    return max(following, number - 1)
