"""Recordings of telemetry and failures: one folder, Parquet or CSV, that trains models and replays incidents.

=====================  =====================================================================================
``ports.parquet``      ``element`` ("s1:2"), ``time_s`` (epoch), then any fields of
                       :class:`~ml.schema.PortSample`; NULL: not measured; other columns are ignored
``devices.parquet``    likewise, :class:`~ml.schema.DeviceSample`
``events.csv``         ``element``, ``mode`` (link_failure, congestion, device_overload), ``time_s`` of the first
                       loss; optionally ``end_s`` and ``cause``
=====================  =====================================================================================

Each may have the ending ``.csv`` or ``.parquet``. What is malformed is refused with the file's name; what is merely
absurd (nan, infinite, out of range, late, twice) is for the banks to skip, as live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ml.bank import Bank
from ml.features import DeviceBank, PortBank
from ml.schema import DeviceSample, Mode, PortSample
from ml.sim.runs import PortRuns, Runs

ENDINGS = (".parquet", ".csv")
LONGEST_S = 120.0  # an event that stays open is taken to last this long


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
    """Samples in the order of time."""

    ports: list[PortSample]
    devices: list[DeviceSample]
    events: list[Event]


def _table(folder: Path, name: str, wanted: Sequence[str], needed: Sequence[str]) -> list[dict[str, Any]]:
    path = next((folder / (name + end) for end in ENDINGS if (folder / (name + end)).is_file()), None)
    if path is None:
        return []
    import duckdb  # a tenth of a second to load

    try:
        relation = duckdb.read_csv(str(path)) if path.suffix == ".csv" else duckdb.read_parquet(str(path))
        missing = [column for column in needed if column not in relation.columns]
        if missing:
            raise RecordingError(f"{path}: no column {missing[0]!r}")
        columns = [column for column in wanted if column in relation.columns]
        found = relation.select(", ".join(f'"{column}"' for column in columns)).order("time_s").fetchall()
    except duckdb.Error as error:
        raise RecordingError(f"{path}: {str(error).splitlines()[0]}") from error
    return [{key: value for key, value in zip(columns, row, strict=True) if value is not None} for row in found]


def load(folder: Path) -> Recording:
    """Read a recording. Raises :class:`RecordingError`."""
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such folder")
    needed = ("element", "time_s")
    try:
        ports = [PortSample(**row) for row in _table(folder, "ports", [f.name for f in fields(PortSample)], needed)]
        names = [f.name for f in fields(DeviceSample)]
        devices = [DeviceSample(**row) for row in _table(folder, "devices", names, needed)]
        rows = _table(folder, "events", [f.name for f in fields(Event)], (*needed, "mode"))
        events = [Event(**{**row, "mode": Mode(row["mode"])}) for row in rows]
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, RecordingError) else RecordingError(f"{folder}: {error}") from error
    if not ports and not devices:
        raise RecordingError(f"{folder}: neither ports nor devices ({' or '.join(ENDINGS)})")
    places = [(i.element, i.time_s) for i in ports] + [(i.element, i.time_s) for i in devices]
    for element, time_s in places + [(i.element, i.time_s) for i in events]:
        if not isinstance(time_s, (int, float)) or not isinstance(element, str):
            raise RecordingError(f"{folder}: {element!r} at {time_s!r} is no element at a time")
    return Recording(ports, devices, events)


def write(folder: Path, samples: Iterable[PortSample | DeviceSample], events: Iterable[Event]) -> None:
    """Write a recording as CSV."""
    import csv

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
    """The recording as runs of equal length, one per element, for :func:`ml.fit.collect`; None without samples.

    Elements that have fewer samples than the longest series are filled up with empty ones at its end.
    """
    ports = None
    if recording.ports:
        link = _runs(recording.ports, recording.events, PortBank, Mode.LINK_FAILURE)
        ports = PortRuns(link, _runs(recording.ports, recording.events, PortBank, Mode.CONGESTION))
    devices = None
    if recording.devices:
        devices = _runs(recording.devices, recording.events, DeviceBank, Mode.DEVICE_OVERLOAD)
    return ports, devices


def _runs(
    samples: Sequence[PortSample] | Sequence[DeviceSample], events: Sequence[Event], bank: type[Bank], mode: Mode
) -> Runs:
    series: dict[str, list[Any]] = {}
    for sample in samples:
        series.setdefault(sample.element, []).append(sample)
    names = sorted(series)
    steps, count = max(len(own) for own in series.values()), len(names)
    time = np.zeros((steps, count))
    raw = np.full((steps, count, len(bank.INPUTS)), np.nan)
    event = np.full(count, np.inf)
    failing = np.zeros((steps, count), dtype=bool)
    of = bank.values  # type: ignore[attr-defined]
    for k, name in enumerate(names):
        own = series[name]
        time[: len(own), k] = [sample.time_s for sample in own]
        time[len(own) :, k] = time[len(own) - 1, k]
        raw[: len(own), k] = [of(sample) for sample in own]
        for item in (e for e in events if e.mode is mode and e.element == name):
            event[k] = min(event[k], item.time_s)
            end = item.end_s if item.end_s > item.time_s else item.time_s + LONGEST_S
            failing[:, k] |= (time[:, k] >= item.time_s) & (time[:, k] <= end)
    kind = np.where(np.isfinite(event), "recorded failure", "recorded")
    return Runs(time, raw, None, kind, event, failing, np.arange(count))
