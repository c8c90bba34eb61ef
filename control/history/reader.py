"""Questions to a history folder, also while somebody writes there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.errors import HistoryError, InputError
from control.history.files import _literal, _literals, connect
from control.history.schema import COUNTERS, TABLES, TEXT
from control.history.segments import found

FORMATS = {"csv": "(FORMAT csv, HEADER)", "parquet": "(FORMAT parquet, COMPRESSION zstd)", "json": "(FORMAT json)"}


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows of ``table``: of these elements (all if empty), from ``since_s`` until before ``until_s`` (seconds
    since the epoch), these columns (all if empty), at most ``limit`` (0: all), newest last. ``rates``: counters as
    growth per second since the element's row before; a counter that went back gives NULL."""

    table: str = "ports"
    elements: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None
    columns: tuple[str, ...] = ()
    limit: int = 0
    rates: bool = False


class Reader:
    """Raises :class:`InputError` for a folder, table or column that does not exist."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no history; `shadowplane serve --history DIR` records one")
        self.folder = folder

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """The rows as dictionaries, by time."""
        connection = connect()
        try:
            return _rows(_run(connection, self._sql(query)))
        finally:
            connection.close()

    def export(self, query: Query, path: Path) -> int:
        """Write the rows to a CSV, JSON or Parquet file, by its suffix; returns their number."""
        form = FORMATS.get(path.suffix.lstrip(".").lower())
        if form is None:
            raise InputError(f"{path}: the suffix must be one of {', '.join('.' + name for name in FORMATS)}")
        connection = connect()
        try:
            done = _run(connection, f"COPY ({self._sql(query)}) TO {_literal(str(path))} {form}").fetchone()
            return int(done[0]) if done else 0
        finally:
            connection.close()

    def summary(self) -> list[dict[str, Any]]:
        """Per table: files, bytes, rows, first and last time."""
        found_rows = []
        connection = connect()
        try:
            for table in TABLES:
                segments, _ = found(self.folder / table)
                line: dict[str, Any] = {"table": table, "files": len(segments), "bytes": sum(s.size for s in segments)}
                sql = f"SELECT count(*) AS rows, min(time_s) AS first_s, max(time_s) AS last_s FROM {self._from(table)}"
                found_rows.append(line | _rows(_run(connection, sql))[0])
        finally:
            connection.close()
        return found_rows

    def _from(self, table: str) -> str:
        segments, _ = found(self.folder / table)
        columns = TABLES[table]
        if not segments:
            empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
            return f"(SELECT {empty} WHERE false)"
        return f"read_parquet({_literals([str(item.path) for item in segments])}, union_by_name=true)"

    def _sql(self, query: Query) -> str:
        if query.table not in TABLES:
            raise InputError(f"there is no table {query.table!r}; the tables are {', '.join(TABLES)}")
        known = TABLES[query.table]
        for name in query.columns:
            if name not in known:
                raise InputError(f"table {query.table} has no column {name!r}; it has {', '.join(known)}")
        fixed = [name for name, kind in known.items() if name == "time_s" or kind == TEXT]
        names = [name for name in known if not query.columns or name in query.columns or name in fixed[:2]]
        where = []
        key = "element"
        if query.elements:
            where.append(f"{key} IN ({', '.join(_literal(item) for item in query.elements)})")
        if query.until_s is not None:
            where.append(f"time_s < {query.until_s!r}")
        if query.since_s is not None and not query.rates:
            where.append(f"time_s >= {query.since_s!r}")
        conditions = f" WHERE {' AND '.join(where)}" if where else ""
        shown = ", ".join(_rate(name) if query.rates and name in COUNTERS else name for name in names)
        sql = f"SELECT {shown} FROM {self._from(query.table)}{conditions}"
        if query.rates and query.since_s is not None:  # the first rate needs the row before
            sql = f"SELECT * FROM ({sql}) WHERE time_s >= {query.since_s!r}"
        if query.limit:
            sql = f"SELECT * FROM ({sql} ORDER BY time_s DESC LIMIT {int(query.limit)})"
        return f"{sql} ORDER BY time_s, {names[1]}"


def _rate(name: str) -> str:
    """SQL of a counter's growth per second; samples that do not tell the counter are stepped over."""
    over = "OVER (PARTITION BY element ORDER BY time_s)"
    last = f"lag({name} IGNORE NULLS) {over}"
    when = f"lag(CASE WHEN {name} IS NOT NULL THEN time_s END IGNORE NULLS) {over}"
    label = name.removesuffix("_total") + "_per_s"
    return f"CASE WHEN {name} >= {last} AND time_s > {when} THEN ({name} - {last}) / (time_s - {when}) END AS {label}"


def _run(connection: Any, sql: str) -> Any:
    import duckdb

    try:
        return connection.execute(sql)
    except duckdb.Error as error:
        raise HistoryError(str(error).splitlines()[0]) from error


def _rows(result: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
