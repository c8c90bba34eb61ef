"""Reading tables that others wrote: bounded, gzip or plain, and errors that name file and line."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from ml.datasets.errors import DataError

LARGEST_FILE = 1 << 30  # bytes after decompression: what expands beyond is a bomb or no table of ours
LONGEST_CELL = 1 << 16  # characters
GZIP_MAGIC = b"\x1f\x8b"


class Bounded(io.RawIOBase):
    """A binary stream that refuses to give more than ``limit`` bytes."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self.source, self.left, self.limit = source, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        found = self.source.read(len(buffer))
        self.left -= len(found)
        if self.left < 0:
            raise DataError(f"larger than {self.limit:,} bytes")
        buffer[: len(found)] = found
        return len(found)


@contextmanager
def opened(path: Path, limit: int = LARGEST_FILE) -> Iterator[TextIO]:
    """Text of a file, gzip or not (told by its first bytes). Raises :class:`DataError` that names the file."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            source: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if zipped else raw
            with io.TextIOWrapper(io.BufferedReader(Bounded(source, limit)), "utf-8-sig", newline="") as text:
                yield text
    except DataError as error:
        told = str(error)
        raise DataError(told if str(path) in told else f"{path}: {told}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except EOFError as error:
        raise DataError(f"{path}: cut short (the compressed stream does not end)") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error


def rows(path: Path, text: TextIO, *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not empty; the first is the header."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(text, delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}") from error
        if row:
            yield reader.line_num, row


def columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> list[int]:
    """Where the needed columns are."""
    missing = [name for name in needed if name not in header]
    if missing:
        told = ", ".join(header[:12]) or "nothing"
        raise DataError(f"{path}:1: no column {', '.join(missing)}; there are {told}")
    return [header.index(name) for name in needed]


def number(path: Path, line: int, cell: str, name: str) -> float:
    """A number; an empty cell is nan, and so is what is beyond 1e100."""
    if not cell.strip():
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        raise DataError(f"{path}:{line}: {name} is no number: {cell[:40]!r}") from None
    return value if abs(value) < 1e100 else float("nan")


def find(path: Path, *patterns: str) -> list[Path]:
    """Files below a folder that match one of the patterns, sorted; the path itself when it is a file."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    return sorted({found for pattern in patterns for found in path.rglob(pattern) if found.is_file()})
