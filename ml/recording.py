"""Recordings of telemetry and failures: one folder, Parquet or CSV, that trains models and replays incidents.

=====================  =====================================================================================
``ports.parquet``      ``element`` ("s1:2"), ``time_s`` (epoch), then any fields of
                       :class:`~ml.schema.PortSample`; NULL: not measured; other columns are ignored
``devices.parquet``    likewise, :class:`~ml.schema.DeviceSample`
``events.csv``         ``element``, ``mode`` (link_failure, congestion, device_overload), ``time_s`` of the first
                       loss; optionally ``end_s`` and ``cause``
=====================  =====================================================================================

Each may have the ending ``.csv`` or ``.parquet``, or be a folder of Parquet files: what ``shadowplane serve --history
DIR`` writes is a recording (:mod:`ml.service_events` reads its events). What is malformed is refused with the file's
name; what is merely absurd (nan, infinite, out of range, late, twice) is for the banks to skip, as live.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.bank import Bank
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.schema import DeviceSample, Mode, PortSample
from ml.service_events import COLUMNS as SERVICE_COLUMNS
from ml.service_events import Hidden, understood
from ml.sim.runs import PortRuns, Runs

ENDINGS = (".parquet", ".csv")
TEXTS = ("element", "mode", "cause", "kind", "detail")  # all other columns are numbers
NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
           "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")  # fmt: skip
LONGEST_S = 120.0  # an event that stays open is taken to last this long
MOST_ROWS = 5_000_000  # of a table; they are in memory while rows for training are drawn
MOST_CELLS = 200_000_000  # numbers of all runs beside each other
PIECE = 20_000  # samples of one run: one long series must not make all the others as long
# A silence longer than so many usual intervals may hide anything: what is after it is another run.
SILENT, SILENT_S = 50.0, 5.0


class RecordingError(ValueError):
    """A recording that cannot be used; the text names the file."""


@dataclass(frozen=True, slots=True)
class Event:
    """A failure: first loss at ``time_s``, over at ``end_s``."""

    element: str
    mode: Mode
    time_s: float
    end_s: float = float("nan")
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """Samples in the order of time. ``hidden``: from when on nobody can tell what would have become of an element."""

    ports: list[PortSample]
    devices: list[DeviceSample]
    events: list[Event]
    hidden: list[Hidden] = field(default_factory=list)


def _paths(folder: Path, name: str) -> list[Path]:
    """The table's files; of a service's history all segments."""
    single = next((folder / (name + end) for end in ENDINGS if (folder / (name + end)).is_file()), None)
    return [single] if single is not None else sorted((folder / name).glob("*.parquet"))


def _table(folder: Path, name: str, wanted: Sequence[str], needed: Sequence[str]) -> list[dict[str, Any]]:
    paths = _paths(folder, name)
    if not paths:
        return []
    import duckdb  # a tenth of a second to load

    path = paths[0] if len(paths) == 1 else paths[0].parent
    try:
        if paths[0].suffix == ".csv":
            relation = duckdb.read_csv(str(paths[0]))
        else:
            relation = duckdb.read_parquet([str(one) for one in paths], union_by_name=True)
        missing = [column for column in needed if column not in relation.columns]
        if missing:
            raise RecordingError(f"{path}: no column {missing[0]!r}")
        columns = [column for column in wanted if column in relation.columns]
        ((rows,),) = relation.aggregate("count(*)").fetchall()
        if rows > MOST_ROWS:
            raise RecordingError(
                f"{path}: {rows:,} rows are more than {MOST_ROWS:,}; take a part of them with "
                f"`shadowplane history query --table {name} --since TIME --export NEW_FOLDER/{name}.parquet`"
            )
        chosen = relation.select(", ".join(f'"{column}"' for column in columns))
        found = chosen.order("time_s").fetchall()
    except duckdb.Error as error:
        raise RecordingError(f"{path}: {str(error).splitlines()[0]}") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: no text in UTF-8 ({error.reason})") from error
    for place, (column, kind) in enumerate(zip(columns, map(str, chosen.types), strict=True)):
        # A column without a single value is taken for text.
        numbers = kind.startswith(NUMBERS)
        wrong = None
        if (column not in TEXTS and not numbers) or (column == "element" and kind != "VARCHAR"):
            wrong = next((row[place] for row in found if row[place] is not None), None)
        if wrong is not None:
            raise RecordingError(_told(path, column, numbers, wrong))
    return [{key: value for key, value in zip(columns, row, strict=True) if value is not None} for row in found]


def _told(path: Path, column: str, numbers: bool, wrong: Any) -> str:
    """What is wrong with a column, and in a CSV file on which line first."""
    what = "no name of an element" if numbers or column == "element" else "no number"
    if path.suffix != ".csv":
        return f"{path}: {column} is {what}: {str(wrong)[:40]!r}"
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(line.replace("\0", "\ufffd") for line in file)
        try:
            place = next(reader).index(column)
            for row in reader:
                cell = row[place].strip() if place < len(row) else ""
                if cell and _number(cell) == (column == "element"):
                    return f"{path}:{reader.line_num}: {column} is {what}: {cell[:40]!r}"
        except (csv.Error, StopIteration, ValueError):
            pass  # the reader above understands more forms of CSV than this one: without a line, then
    return f"{path}: {column} is {what}: {str(wrong)[:40]!r}"


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.lower() in ("true", "false")
    return True


def _events(folder: Path) -> tuple[list[Event], list[Hidden]]:
    """Failures as one noted them, or as a service did (which names a ``kind``)."""
    names = [item.name for item in fields(Event)]
    rows = _table(folder, "events", list(dict.fromkeys((*names, *SERVICE_COLUMNS))), ("element", "time_s", "mode"))
    try:
        own = [Event(**{**row, "mode": Mode(row["mode"])}) for row in rows if "kind" not in row]
    except (KeyError, ValueError, TypeError) as error:
        raise RecordingError(f"{_paths(folder, 'events')[0]}: an event without what it needs: {error}") from error
    failures, hidden = understood([row for row in rows if "kind" in row])
    return own + [Event(*failure) for failure in failures], hidden


def load(folder: Path) -> Recording:
    """Read a recording. Raises :class:`RecordingError`."""
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such folder")
    needed = ("element", "time_s")
    try:
        ports = [PortSample(**row) for row in _table(folder, "ports", [f.name for f in fields(PortSample)], needed)]
        names = [f.name for f in fields(DeviceSample)]
        devices = [DeviceSample(**row) for row in _table(folder, "devices", names, needed)]
        events, hidden = _events(folder)
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, RecordingError) else RecordingError(f"{folder}: {error}") from error
    if not ports and not devices:
        raise RecordingError(f"{folder}: neither ports nor devices ({' or '.join(ENDINGS)})")
    places = [(i.element, i.time_s) for i in ports] + [(i.element, i.time_s) for i in devices]
    for element, time_s in places + [(i.element, i.time_s) for i in events]:
        if not isinstance(time_s, (int, float)) or not isinstance(element, str):
            raise RecordingError(f"{folder}: {element!r} at {time_s!r} is no element at a time")
    return Recording(ports, devices, events, hidden)


def write(folder: Path, samples: Iterable[PortSample | DeviceSample], events: Iterable[Event]) -> None:
    """Write a recording as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    items = list(samples)
    for name, kind in (("ports", PortSample), ("devices", DeviceSample), ("events", Event)):
        own: list[Any] = list(events) if kind is Event else [item for item in items if isinstance(item, kind)]
        if not own and kind is not Event:
            continue
        names = [f.name for f in fields(kind)]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for item in own:
                values = (getattr(item, column) for column in names)
                writer.writerow("" if isinstance(v, float) and np.isnan(v) else v for v in values)


def runs(recording: Recording) -> tuple[PortRuns | None, Runs | None]:
    """The recording as runs of equal length for :func:`ml.fit.collect`; None without samples.

    An element is one run from event to event: what follows a failure is learned from anew, and so is what follows a
    long silence or a flip that hid the outcome. Shorter runs are filled up with empty samples.
    """
    ports = None
    if recording.ports:
        link, congestion = _runs(recording.ports, recording, PortBank, (Mode.LINK_FAILURE, Mode.CONGESTION))
        ports = PortRuns(link, congestion)
    devices = None
    if recording.devices:
        (devices,) = _runs(recording.devices, recording, DeviceBank, (Mode.DEVICE_OVERLOAD,))
    return ports, devices


def _runs(
    samples: Sequence[PortSample] | Sequence[DeviceSample],
    recording: Recording,
    bank: type[Bank],
    modes: Sequence[Mode],
) -> list[Runs]:
    """The same series seen as each of the modes."""
    series: dict[str, list[Any]] = {}
    for sample in samples:
        series.setdefault(sample.element, []).append(sample)
    ends: dict[str, list[float]] = {}
    for event in recording.events:
        if event.mode in modes:
            ends.setdefault(event.element, []).append(_over(event))
    for hidden in recording.hidden:
        if hidden.mode in modes:
            ends.setdefault(hidden.element, []).append(hidden.time_s)
    pieces: list[tuple[str, list[Any]]] = []
    for name in sorted(series):
        pieces += [(name, part) for part in _pieces(series[name], sorted(ends.get(name, ())))]
    steps, count = max(len(part) for _, part in pieces), len(pieces)
    if steps * count * len(bank.INPUTS) > MOST_CELLS:
        raise RecordingError(f"{count:,} runs of up to {steps:,} samples are too many at once; take a part of them")
    time = np.zeros((steps, count))
    raw = np.full((steps, count, len(bank.INPUTS)), np.nan)
    of = bank.values  # type: ignore[attr-defined]
    for k, (_, part) in enumerate(pieces):
        time[: len(part), k] = [sample.time_s for sample in part]
        time[len(part) :, k] = time[len(part) - 1, k]
        raw[: len(part), k] = [of(sample) for sample in part]
    names = sorted(series)
    groups = np.array([names.index(name) for name, _ in pieces], dtype=np.intp)
    return [_labelled(time, raw, [name for name, _ in pieces], groups, recording.events, mode) for mode in modes]


def _labelled(
    time: Floats, raw: Floats, names: Sequence[str], groups: NDArray[np.intp], events: Sequence[Event], mode: Mode
) -> Runs:
    event = np.full(len(names), np.inf)
    failing = np.zeros(time.shape, dtype=bool)
    own: dict[str, list[Event]] = {}
    for item in events:
        if item.mode is mode:
            own.setdefault(item.element, []).append(item)
    for k, name in enumerate(names):
        first, last = time[0, k], time[-1, k]
        for item in own.get(name, ()):
            if first <= _over(item) and item.time_s <= last:
                event[k] = min(event[k], item.time_s)
                failing[:, k] |= (time[:, k] >= item.time_s) & (time[:, k] <= _over(item))
    kind = np.where(np.isfinite(event), "recorded failure", "recorded")
    return Runs(time, raw, None, kind, event, failing, groups)


def _over(event: Event) -> float:
    return event.end_s if event.end_s > event.time_s else event.time_s + LONGEST_S


def _pieces(series: Sequence[Any], ends: Sequence[float]) -> Iterator[list[Any]]:
    """A series cut behind each of ``ends``, at long silences, and where it gets too long."""
    usual = float(np.median(np.diff([sample.time_s for sample in series]))) if len(series) > 1 else 0.0
    begin, waiting = 0, list(ends)
    for i in range(1, len(series)):
        before, now = series[i - 1].time_s, series[i].time_s
        passed = 0
        while passed < len(waiting) and waiting[passed] < now:
            passed += 1
        del waiting[:passed]
        if passed or now - before > max(SILENT * usual, SILENT_S) or i - begin >= PIECE:
            yield list(series[begin:i])
            begin = i
    yield list(series[begin:])
