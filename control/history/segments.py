"""The files of one history folder: how they are named, which ones count, and who may write.

``DIR/TABLE/FIRST-LAST-NEWEST.parquet``: the numbers of the first and the last batch in the file, and the time of its
newest row (whole seconds). A file appears by a rename once it is complete and on disk. Small ones are merged: the
merged file spans the numbers of those that it replaces, which are removed after it is there; should a crash come
between, readers leave out every file whose numbers a wider one spans, and the next writer removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from control.errors import HistoryError

_NAME = re.compile(r"^(\d{10})-(\d{10})-(-?\d+)\.parquet$")
DRAFT = ".draft"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file. ``first``, ``last``: batch numbers; ``newest_s``: of its rows, seconds since the epoch."""

    path: Path
    first: int
    last: int
    newest_s: int

    @property
    def size(self) -> int:
        """Bytes; 0 when it is gone."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def name(first: int, last: int, newest_s: float) -> str:
    """File name of a segment.

    >>> name(3, 7, 1795255800.9)
    '0000000003-0000000007-1795255801.parquet'
    """
    return f"{first:010d}-{last:010d}-{-int(-newest_s // 1)}.parquet"


def found(folder: Path) -> tuple[list[Segment], list[Segment]]:
    """(segments that count, oldest batch first; those that a wider one replaced)."""
    every = []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return [], []
    for entry in entries:
        match = _NAME.match(entry.name)
        if match:
            every.append(Segment(Path(entry.path), int(match[1]), int(match[2]), int(match[3])))
    every.sort(key=lambda item: (item.first, -item.last))
    kept: list[Segment] = []
    replaced: list[Segment] = []
    for item in every:
        (replaced if kept and item.last <= kept[-1].last else kept).append(item)
    return kept, replaced


def drafts(folder: Path) -> Iterable[Path]:
    """Files that a writer had not finished."""
    return list(folder.glob(f"*{DRAFT}"))


class Lock:
    """At most one writer per folder; freed by the kernel when its process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Raises :class:`HistoryError` when somebody else writes there, or the folder cannot be used."""
        path = folder / "writer.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise HistoryError(f"history {folder}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise HistoryError(f"history {folder} is being written by process {holder or 'unknown'}") from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._file)


def sync(path: Path) -> None:
    """Bring a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
