"""Writes batches of rows as Parquet files, merges small ones and removes what is too old or too much.

Blocking; one thread uses it at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.errors import HistoryError
from control.history.schema import TABLES, TEXT
from control.history.segments import DRAFT, Lock, Segment, drafts, found, name, sync

Columns = Mapping[str, "NDArray[Any]"]
MERGE_AT = 32  # small files of a table that become one
MERGED_BYTES = 64 << 20  # a file of this size is not merged again
THREADS = 1  # of DuckDB: it runs beside steering


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: rows up to ``age_s`` old, and ``size_bytes`` in all; the oldest files go first. 0: no limit."""

    age_s: float = 7 * 86400.0
    size_bytes: int = 2 << 30


def connect() -> Any:
    """A DuckDB connection in memory: it reads and writes Parquet files and keeps nothing."""
    import duckdb

    return duckdb.connect(":memory:", config={"threads": THREADS, "memory_limit": "512MB"})


class Files:
    """The writer's side of one history folder. Every method may raise :class:`HistoryError` (disk full, no access);
    what was there before is untouched then."""

    def __init__(self, folder: Path, retention: Retention | None = None) -> None:
        """Take the writer's lock and remove what a crash left unfinished."""
        self.folder = folder
        self.retention = retention or Retention()
        self._lock = Lock(folder)
        self._connection = connect()
        self._next: dict[str, int] = {}
        try:
            for table in TABLES:
                place = folder / table
                place.mkdir(exist_ok=True)
                kept, replaced = found(place)
                for path in (*drafts(place), *(item.path for item in replaced)):
                    path.unlink(missing_ok=True)
                self._next[table] = kept[-1].last + 1 if kept else 0
        except OSError as error:
            self.close()
            raise HistoryError(f"history {folder}: {error.strerror or error}") from error

    def close(self) -> None:
        self._connection.close()
        self._lock.close()

    def write(self, table: str, columns: Columns) -> int:
        """Append rows; ``columns`` are arrays of equal length by name, missing ones are NULL, nan too. Returns the
        number of rows."""
        rows = len(columns["time_s"])
        if rows == 0:
            return 0
        number = self._next[table]
        source = {key: _clean(column) for key, column in columns.items()}
        self._connection.register("batch", source)
        newest = float(np.max(columns["time_s"]))
        self._copy(table, f"SELECT {_select(table, columns)} FROM batch ORDER BY time_s", number, number, newest)
        self._connection.unregister("batch")
        self._next[table] = number + 1
        return rows

    def keep_house(self, now_s: float | None = None) -> int:
        """Merge small files and drop what retention does not allow; returns the number of files removed."""
        removed = 0
        for table in TABLES:
            kept, _ = found(self.folder / table)
            small = _run_of_small(kept)
            if len(small) >= MERGE_AT:
                removed += self._merge(table, small)
        return removed + self._expire(time.time() if now_s is None else now_s)

    def _merge(self, table: str, small: Sequence[Segment]) -> int:
        paths = [str(item.path) for item in small]
        query = f"SELECT * FROM read_parquet({_literals(paths)}, union_by_name=true) ORDER BY time_s"
        self._copy(table, query, small[0].first, small[-1].last, max(item.newest_s for item in small))
        for item in small:
            item.path.unlink(missing_ok=True)
        return len(small)

    def _expire(self, now_s: float) -> int:
        every = [item for table in TABLES for item in found(self.folder / table)[0]]
        every.sort(key=lambda item: item.newest_s)
        age, limit = self.retention.age_s, self.retention.size_bytes
        total = sum(item.size for item in every)
        removed = 0
        for item in every:
            old = age > 0 and now_s - item.newest_s > age
            if not (old or 0 < limit < total):
                break
            total -= item.size
            item.path.unlink(missing_ok=True)
            removed += 1
        return removed

    def _copy(self, table: str, query: str, first: int, last: int, newest_s: float) -> None:
        import duckdb

        place = self.folder / table
        final = place / name(first, last, newest_s)
        draft = final.with_suffix(DRAFT)
        try:
            place.mkdir(exist_ok=True)
            self._connection.execute(f"COPY ({query}) TO {_literal(str(draft))} (FORMAT parquet, COMPRESSION zstd)")
            sync(draft)
            draft.replace(final)
            sync(place)
        except (duckdb.Error, OSError) as error:
            draft.unlink(missing_ok=True)
            raise HistoryError(f"history {self.folder}: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0] if str(text) else type(error).__name__


def _run_of_small(kept: Sequence[Segment]) -> list[Segment]:
    """The newest files in a row that are small enough to be merged."""
    small: list[Segment] = []
    for item in reversed(kept):
        if item.size >= MERGED_BYTES:
            break
        small.append(item)
    return small[::-1]


def _clean(column: NDArray[Any]) -> NDArray[Any]:
    return column if column.dtype == object else np.ascontiguousarray(column)


def _select(table: str, columns: Columns) -> str:
    return ", ".join(f"{_value(name, kind, columns)} AS {name}" for name, kind in TABLES[table].items())


def _value(name: str, kind: str, columns: Columns) -> str:
    """SQL of one column; what is not a number is NULL."""
    if name not in columns:
        return f"CAST(NULL AS {kind})"
    if kind == TEXT or name == "time_s":
        return f"CAST({name} AS {kind})"
    number = f"CAST({name} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN CAST({number} AS {kind}) END"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literals(texts: Sequence[str]) -> str:
    return "[" + ", ".join(_literal(text) for text in texts) + "]"
