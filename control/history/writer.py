"""The one writer of a history: a thread that takes what was collected, in batches, and never holds anybody up.

What cannot be written yet (a full disk, a folder that somebody else writes to) is kept up to a limit, then the oldest
goes and is counted; each kind of failure is reported once until it is over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from control.errors import HistoryError
from control.history.files import Columns, Files, Retention
from control.history.schema import TABLES, TEXT
from ml.schema import DeviceSample, PortSample

LOG = structlog.get_logger("shadowplane.history")
FLUSH_S = 2.0
MOST_ROWS = 1_000_000  # waiting; about 150 MB of them
RETRY_S = 10.0  # after a failure
HOUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one table as columns; ``names`` are what the integer column ``element`` counts in, where there is one."""

    table: str
    columns: Columns
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.columns["time_s"])

    def resolved(self) -> Columns:
        """With names instead of numbers."""
        if self.names is None:
            return self.columns
        return {**self.columns, "element": np.array(self.names, dtype=object)[self.columns["element"]]}


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one source, or dictionaries, as they came."""

    table: str
    items: Sequence[Any]
    source: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def resolved(self) -> Columns:
        columns: dict[str, Any] = {}
        for name, kind in TABLES[self.table].items():
            if name == "source" and self.source:
                columns[name] = np.full(len(self.items), self.source, dtype=object)
                continue
            missing = None if kind == TEXT else np.nan
            if isinstance(self.items[0], PortSample | DeviceSample):
                values = [getattr(item, name, missing) for item in self.items]
            else:
                values = [item.get(name, missing) for item in self.items]
            columns[name] = np.array(values, dtype=object if kind == TEXT else None)
        return columns


@dataclass(slots=True)
class Counts:
    """What the writer did, for metrics: rows and batches written, rows dropped, failures."""

    written: int = 0
    batches: int = 0
    dropped: int = 0
    failures: int = 0
    error: str = ""


@dataclass(slots=True)
class Writer:
    """Started by :meth:`start`, ended by :meth:`close`, which writes what is left. :meth:`put` may be called from any
    thread and never blocks for longer than it takes to append to a list."""

    folder: Path
    retention: Retention = field(default_factory=Retention)
    flush_s: float = FLUSH_S
    most_rows: int = MOST_ROWS
    counts: Counts = field(default_factory=Counts)
    _waiting: deque[Block | Rows] = field(default_factory=deque)
    _rows: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _ended: bool = False
    _thread: threading.Thread | None = None
    _files: Files | None = None
    _full: bool = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def put(self, block: Block | Rows) -> None:
        """Take rows; those that waited longest go when too many wait."""
        if not len(block):
            return
        with self._lock:
            self._waiting.append(block)
            self._rows += len(block)
            while self._rows > self.most_rows and len(self._waiting) > 1:
                gone = len(self._waiting.popleft())
                self._rows -= gone
                self.counts.dropped += gone
                if not self._full:
                    self._full = True
                    LOG.warning("history cannot keep up; the oldest rows are dropped and counted", rows=self.most_rows)

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return self._rows

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is left and end; may be called twice."""
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def flush(self) -> bool:
        """Write everything that waits, now, on the calling thread; False (and all kept) when that fails."""
        with self._lock:
            taken, self._waiting, self._rows = self._waiting, deque(), 0
        try:
            if self._files is None:
                self._files = Files(self.folder, self.retention)
            for table in TABLES:
                parts = [part for part in taken if part.table == table]
                if parts:
                    self.counts.written += self._files.write(table, _joined(table, parts))
                    self.counts.batches += 1
                    taken = deque(part for part in taken if part.table != table)
        except HistoryError as error:
            self.counts.failures += 1
            if str(error) != self.counts.error:
                LOG.error("history not written; kept in memory for now", reason=str(error))
            self.counts.error = str(error)
            with self._lock:
                self._waiting.extendleft(reversed(taken))
                self._rows += sum(len(part) for part in taken)
            return False
        if self.counts.error:
            LOG.info("history is written again", dropped=self.counts.dropped)
        self.counts.error, self._full = "", False
        return True

    def _run(self) -> None:
        housed = time.monotonic()
        pause = self.flush_s
        while not self._ended:
            self._wake.wait(pause)
            try:
                pause = self.flush_s if self.flush() else max(RETRY_S, self.flush_s)
                if self._files is not None and time.monotonic() - housed >= HOUSE_S:
                    housed = time.monotonic()
                    self._files.keep_house()
            except HistoryError as error:
                LOG.error("history not tidied", reason=str(error))
            except Exception:  # the writer must outlive whatever a batch contains
                self.counts.failures += 1
                LOG.exception("a batch of history was lost")
        try:
            self.flush()
        finally:
            if self._files is not None:
                self._files.close()


def _joined(table: str, parts: Sequence[Block | Rows]) -> Columns:
    """One set of columns for all parts; what a part lacks is nan or None."""
    found = [(part.resolved(), len(part)) for part in parts]
    if len(found) == 1:
        return found[0][0]
    columns: dict[str, Any] = {}
    for name, kind in TABLES[table].items():
        if not any(name in have for have, _ in found):
            continue
        missing = None if kind == TEXT else np.nan
        pieces = [have[name] if name in have else np.full(rows, missing) for have, rows in found]
        if kind == TEXT:
            pieces = [piece.astype(object) for piece in pieces]
        columns[name] = np.concatenate(pieces)
    return columns
