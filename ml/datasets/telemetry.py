"""Router telemetry archives with labelled faults, in the format of cisco-ie/telemetry (CDLA-Permissive-1.0).

A ``.tar.gz`` holds ``<name>/events.csv`` (``timestamp,event,duration,device,interface,comment``, times in epoch
seconds) and ``<name>/yang_models/<device>/<model>:<path>.csv``: the time first, then a column per leaf. Columns of
text name the row (interface, node), numbers are series. The archive is read as a stream, nothing is unpacked to
disk, and what is no sensor table (router configurations, the publisher's own merges and detectors) is skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np

from ml.datasets.errors import DataError
from ml.datasets.reading import Bounded, columns, number, rows
from ml.estimators.base import Floats

LARGEST_MEMBER, LARGEST_ALL, MOST_MEMBERS = 64 << 20, 1 << 30, 20_000
MOST_SERIES, MOST_POINTS = 200_000, 20_000_000
SENSOR = "-oper:"  # in the name of a table of operational data
NAMED_BY = ("interface-name", "interface", "node-name", "location", "client-name", "vrf-name", "subscription-id")
NOT_MEASURED = ("telemetry-model-driven", "wjt-analysis")  # about the collection itself
NO_FAULT = ("traffic",)  # events that start or stop the load generator
STATES = {"up": 1.0, "down": 0.0, "admin-down": 0.0, "true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class Event:
    time_s: float
    name: str
    device: str  # empty: not told
    interface: str
    comment: str

    @property
    def fault(self) -> bool:
        return not any(word in self.name.lower() for word in NO_FAULT)


@dataclass(frozen=True, slots=True)
class Metric:
    """One leaf of one row. ``time_s`` ascends; counters are as reported, not yet rates."""

    device: str
    sensor: str  # "generic-counters"
    key: str  # "HundredGigE0/0/0/4", empty for tables of one row
    leaf: str  # "packets-sent"
    time_s: Floats
    value: Floats


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    events: tuple[Event, ...]
    metrics: tuple[Metric, ...]

    @property
    def devices(self) -> list[str]:
        return sorted({m.device for m in self.metrics})

    @property
    def span_s(self) -> tuple[float, float]:
        return min(float(m.time_s[0]) for m in self.metrics), max(float(m.time_s[-1]) for m in self.metrics)


def load(path: Path) -> Recording:
    """Read one archive. Raises :class:`DataError` naming the archive, the table in it and the line."""
    events: list[Event] = []
    found: dict[tuple[str, str, str, str], tuple[list[float], list[float]]] = {}
    points = 0
    try:
        with (
            path.open("rb") as raw,
            gzip.GzipFile(fileobj=raw) as unzipped,
            tarfile.open(fileobj=io.BufferedReader(Bounded(unzipped, LARGEST_ALL)), mode="r|") as archive,
        ):
            for member, body in _members(path, archive):
                place = Path(f"{path}!{member}")
                text = io.TextIOWrapper(io.BytesIO(body), "utf-8", newline="")
                if member.name == "events.csv":
                    events += _events(place, text)
                else:
                    points += _table(place, member, text, found)
                    if points > MOST_POINTS or len(found) > MOST_SERIES:
                        raise DataError(f"{path}: more than {MOST_POINTS:,} values or {MOST_SERIES:,} series")
    except DataError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except EOFError as error:
        raise DataError(f"{path}: cut short (the compressed stream does not end)") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a table is no text in UTF-8 ({error.reason})") from error
    except (OSError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path}: not a readable .tar.gz ({type(error).__name__}: {error})") from error
    metrics = []
    for (device, sensor, key, leaf), (time, value) in sorted(found.items()):
        at, what = np.array(time), np.array(value)
        order = np.argsort(at, kind="stable")
        at, what = at[order], what[order]
        new = np.append(True, np.diff(at) > 0.0) & ~np.isnan(what)
        if new.sum() >= 2:
            metrics.append(Metric(device, sensor, key, leaf, at[new], what[new]))
    if not metrics:
        raise DataError(f"{path}: no telemetry tables (yang_models/<device>/*{SENSOR}*.csv)")
    name = path.name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    return Recording(name, tuple(sorted(events, key=lambda e: e.time_s)), tuple(metrics))


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Tables of the archive, read one at a time; names only tell what a member is, nothing is written anywhere."""
    for count, member in enumerate(archive):
        if count >= MOST_MEMBERS:
            raise DataError(f"{path}: more than {MOST_MEMBERS:,} members")
        name = PurePosixPath(member.name)
        sensor = SENSOR in name.name and "yang_models" in name.parts and name.suffix == ".csv"
        if not member.isfile() or not (sensor or name.name == "events.csv"):
            continue
        if sensor and any(word in name.name for word in NOT_MEASURED):
            continue
        if member.size > LARGEST_MEMBER:
            raise DataError(f"{path}!{name}: {member.size:,} bytes, more than {LARGEST_MEMBER:,}")
        file = archive.extractfile(member)
        body = file.read(LARGEST_MEMBER + 1) if file else b""
        if len(body) != member.size:
            raise EOFError
        yield name, body


def _events(place: Path, text: io.TextIOWrapper) -> list[Event]:
    lines = rows(place, text)
    _, header = next(lines, (1, []))
    at, what = columns(place, header, ("timestamp", "event"))
    found = []
    for line, row in lines:
        if len(row) < len(header):
            raise DataError(f"{place}:{line}: {len(row)} cells, fewer than the header's")
        named = dict(zip(header, row, strict=False))
        time = number(place, line, row[at], "timestamp")
        if not np.isnan(time):
            told = (named.get(key, "").strip() for key in ("device", "interface", "comment"))
            found.append(Event(time, row[what].strip(), *told))
    return found


def _table(
    place: Path,
    member: PurePosixPath,
    text: io.TextIOWrapper,
    found: dict[tuple[str, str, str, str], tuple[list[float], list[float]]],
) -> int:
    """Add a table's numbers to ``found``; returns how many. Empty tables are none."""
    lines = rows(place, text)
    _, header = next(lines, (1, []))
    if len(header) < 2 or header[0] not in ("", "timestamp", "ts"):
        return 0
    sensor = member.stem.partition(SENSOR)[2].rpartition("_")[2]
    names = [i for i, column in enumerate(header) if column in NAMED_BY]
    leaves = [
        (i, column)
        for i, column in enumerate(header)
        if i and column not in NAMED_BY and column not in ("EncodingPath", "Producer", "Target", "host", "id")
    ]
    count, skipped = 0, set[int]()
    device = member.parent.name
    try:
        for line, row in lines:
            if len(row) != len(header):
                raise DataError(f"{place}:{line}: {len(row)} cells where the header has {len(header)}")
            try:
                time = datetime.fromisoformat(row[0]).timestamp()
            except ValueError:
                raise DataError(f"{place}:{line}: time is none: {row[0][:40]!r}") from None
            key = "/".join(dict.fromkeys(row[i] for i in names if row[i]))
            for i, leaf in leaves:
                cell = row[i]
                if not cell or i in skipped:
                    continue
                value = STATES.get(cell.removeprefix("im-state-"))
                if value is None:
                    try:
                        value = float(cell)
                    except ValueError:
                        skipped.add(i)  # a text: an address, a state with words of its own
                        continue
                times, values = found.setdefault((device, sensor, key, leaf), ([], []))
                times.append(time)
                values.append(value if abs(value) < 1e100 else float("nan"))
                count += 1
    except csv.Error as error:
        raise DataError(f"{place}: {error}") from error
    return count


def rate(metric: Metric) -> tuple[Floats, Floats]:
    """(time, value): a cumulative counter as its rate per second, anything else as it is.

    A counter never falls and its name does not say otherwise; a reset gives a gap.
    """
    steps = np.diff(metric.value)
    counting = metric.leaf.endswith(("-received", "-sent", "-count", "-packets", "-drops", "-errors", "transitions"))
    if counting and (steps >= 0).mean() > 0.95 and metric.value[-1] > 1.0:
        return metric.time_s[1:], np.where(steps >= 0, steps / np.diff(metric.time_s), np.nan)
    return metric.time_s, metric.value
