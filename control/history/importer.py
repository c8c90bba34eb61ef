"""Past telemetry from CSV and Parquet files into a history.

Columns are named as in :mod:`control.history.schema` or mapped: ``theirs=ours`` or ``theirs=ours*factor`` (a value in
Mbit/s becomes bit/s by ``speed=rate_bps*1e6``). Times are seconds since the epoch or ISO 8601 (without a zone: UTC).
Empty cells, ``nan`` and ``null`` mean that nothing was measured; everything else that is not a number is an error that
names file, line and column, and then nothing of the file is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.errors import HistoryError, InputError
from control.history.files import Files, Retention, _literal, connect
from control.history.schema import SIGNALS

NOTHING = ("", "nan", "null", "none", "na", "n/a")
BATCH = 1_000_000  # rows
_MAPPING = re.compile(r"^(?P<theirs>.+?)=(?P<ours>[a-z_0-9]+)(?:\*(?P<factor>[0-9.eE+-]+))?$")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a column of a file is: a column of ours, its values times ``factor``."""

    ours: str
    factor: float = 1.0


def mapping(texts: Sequence[str]) -> dict[str, Meaning]:
    """``theirs=ours`` and ``theirs=ours*factor`` read; raises :class:`InputError`.

    >>> mapping(["speed=rate_bps*1e6"])
    {'speed': Meaning(ours='rate_bps', factor=1000000.0)}
    """
    found = {}
    for text in texts:
        match = _MAPPING.match(text)
        if match is None:
            raise InputError(f"{text!r} is no mapping; expected THEIRS=OURS or THEIRS=OURS*FACTOR")
        try:
            factor = float(match["factor"] or 1.0)
        except ValueError:
            raise InputError(f"{text!r}: {match['factor']!r} is no number") from None
        found[match["theirs"]] = Meaning(match["ours"], factor)
    return found


def load(
    path: Path,
    folder: Path,
    table: str,
    *,
    names: Mapping[str, Meaning] | None = None,
    element: str = "",
    source: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Append a file's rows to the history in ``folder``; returns their number.

    ``element``: of all rows, where the file has no such column; ``source``: likewise, the file's name by default.
    ``tell`` hears of columns with values that the models will skip as absurd: a unit may be another.
    Raises :class:`InputError` for a file that cannot be used, :class:`HistoryError` for a history that cannot.
    """
    if table not in SIGNALS:
        raise InputError(f"table {table!r} cannot be imported into; {', '.join(SIGNALS)} can")
    connection = connect()
    try:
        raw = _open(connection, path)
        meanings = _meanings(path, raw, table, names or {}, element)
        _check(connection, path, table, meanings)
        for text in _absurd(connection, table, meanings):
            tell(f"{path}: {text}")
        count = _append(connection, path, folder, table, meanings, element, source or path.name)
    finally:
        connection.close()
    return count


def _open(connection: Any, path: Path) -> list[str]:
    """Make the file the table ``raw`` with a column ``line__`` in front; returns its columns."""
    import duckdb

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        reader = f"read_parquet({_literal(str(path))})"
        first = 1
    elif suffix in (".csv", ".tsv", ".gz"):
        reader = f"read_csv({_literal(str(path))}, all_varchar=true, header=true, nullstr='')"
        first = 2  # after the header
    else:
        raise InputError(f"{path}: the suffix must be .csv, .tsv, .csv.gz or .parquet")
    try:
        connection.execute(f"CREATE TABLE raw AS SELECT row_number() OVER () + {first - 1} AS line__, * FROM {reader}")
        described = connection.execute("DESCRIBE raw").fetchall()
    except duckdb.Error as error:
        raise InputError(f"{path}: {_short(error)}") from error
    return [row[0] for row in described][1:]


def _short(error: Exception) -> str:
    """The library's words without its type, and without our SQL, which it shows below them."""
    told = str(error).partition("LINE 1:")[0].removeprefix("Invalid Input Error: ")
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]


def _meanings(
    path: Path, columns: Sequence[str], table: str, names: Mapping[str, Meaning], element: str
) -> dict[str, tuple[str, float]]:
    """Ours -> (theirs, factor)."""
    known = {"time_s", "element", "source", *SIGNALS[table]}
    found: dict[str, tuple[str, float]] = {}
    for theirs, meaning in names.items():
        if theirs not in columns:
            raise InputError(f"{path}: there is no column {theirs!r}; it has {', '.join(columns)}")
        if meaning.ours not in known:
            raise InputError(f"{path}: {theirs}={meaning.ours}: table {table} has no column {meaning.ours!r}; "
                             f"it has {', '.join(sorted(known))}")  # fmt: skip
        found[meaning.ours] = (theirs, meaning.factor)
    for column in columns:
        if column in known and column not in found and column not in names:
            found[column] = (column, 1.0)
    if "time_s" not in found:
        raise InputError(f"{path}: no column is the time; name it with --map COLUMN=time_s")
    if "element" not in found and not element:
        raise InputError(f"{path}: no column is the element; name it with --map COLUMN=element, or give --element")
    if not any(name in SIGNALS[table] for name in found):
        raise InputError(f"{path}: no column is a signal of table {table}: {', '.join(SIGNALS[table])}")
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _number(name: str, theirs: str) -> str:
    """SQL of a number; NULL for what is not measured and for what is none."""
    text = f"trim(CAST({_quoted(theirs)} AS VARCHAR))"
    nothing = ", ".join(_literal(word) for word in NOTHING)
    plain = f"TRY_CAST({text} AS DOUBLE)"
    if name == "time_s":
        plain = f"coalesce({plain}, epoch(TRY_CAST({text} AS TIMESTAMPTZ)))"
    elif name == "up":
        plain = f"coalesce({plain}, CAST(TRY_CAST({text} AS BOOLEAN) AS DOUBLE))"
    return f"CASE WHEN lower({text}) IN ({nothing}) THEN NULL ELSE {plain} END"


def _check(connection: Any, path: Path, table: str, meanings: Mapping[str, tuple[str, float]]) -> None:
    """Raise :class:`InputError` for the first cell that is not what its column is."""
    connection.execute("SET TimeZone = 'UTC'")
    nothing = ", ".join(_literal(word) for word in NOTHING)
    worst: tuple[int, str] | None = None
    for name, (theirs, _) in meanings.items():
        text = f"trim(CAST({_quoted(theirs)} AS VARCHAR))"
        if name in ("element", "source"):
            wrong, what = f"({text} IS NULL OR {text} = '')", "is empty"
        elif name == "time_s":
            wrong = f"coalesce(NOT isfinite({_number(name, theirs)}), true)"
            what = "is no time (seconds since the epoch or ISO 8601)"
        else:
            wrong = f"{text} IS NOT NULL AND lower({text}) NOT IN ({nothing}) AND {_number(name, theirs)} IS NULL"
            what = "is no number"
        row = connection.execute(f"SELECT line__, {text} FROM raw WHERE {wrong} ORDER BY line__ LIMIT 1").fetchone()
        if row is not None and (worst is None or row[0] < worst[0]):
            shown = "" if row[1] is None else f"{str(row[1])[:60]!r} "
            worst = (row[0], f"{path}: line {row[0]}, column {theirs!r}: {shown}{what}")
    if worst is not None:
        raise InputError(worst[1])


def _absurd(connection: Any, table: str, meanings: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    """Columns with values beyond what a bank takes in; they are kept as they are, but worth a look at their unit."""
    from ml.features import DeviceBank, PortBank

    bank = PortBank if table == "ports" else DeviceBank
    limits = dict(zip(bank.INPUTS, zip(bank.LOW.tolist(), bank.HIGH.tolist(), strict=True), strict=True))
    for name, (theirs, factor) in meanings.items():
        if name not in limits:
            continue
        low, high = limits[name]
        value = f"({_number(name, theirs)}) * {factor!r}"
        found = f"SELECT count(*), min({value}), max({value}) FROM raw WHERE NOT ({value} BETWEEN {low!r} AND {high!r})"
        count, least, most = connection.execute(found).fetchone()
        if count:
            yield (
                f"column {theirs!r}: {count} values between {least:g} and {most:g} are outside of {low:g} to {high:g}, "
                f"which {name} can be, and will be skipped; is a factor missing (--map {theirs}={name}*FACTOR)?"
            )


def _append(
    connection: Any,
    path: Path,
    folder: Path,
    table: str,
    meanings: Mapping[str, tuple[str, float]],
    element: str,
    source: str,
) -> int:
    parts = []
    for name, (theirs, factor) in meanings.items():
        if name in ("element", "source"):
            parts.append(f"trim(CAST({_quoted(theirs)} AS VARCHAR)) AS {name}")
        else:
            times = "" if factor == 1.0 else f" * {factor!r}"
            parts.append(f"{_number(name, theirs)}{times} AS {name}")
    if "element" not in meanings:
        parts.append(f"{_literal(element)} AS element")
    if "source" not in meanings:
        parts.append(f"{_literal(source)} AS source")
    result = connection.execute(f"SELECT {', '.join(parts)} FROM raw ORDER BY time_s")
    # The operator decides what is kept when the control plane writes; an import of old data deletes nothing.
    files = Files(folder, Retention(0.0, 0))
    count = 0
    try:
        while True:
            columns = _filled(result.fetchmany(BATCH), [item[0] for item in result.description])
            if columns is None:
                break
            count += files.write(table, columns)
    except HistoryError as error:
        raise HistoryError(f"{path}: {count} rows were imported, then: {error}") from error
    finally:
        files.close()
    return count


def _filled(rows: list[tuple[Any, ...]], names: Sequence[str]) -> dict[str, Any] | None:
    import numpy as np

    if not rows:
        return None
    columns = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        if name in ("element", "source"):
            columns[name] = np.array(values, dtype=object)
        else:
            columns[name] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return columns
