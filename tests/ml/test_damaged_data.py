"""Loaders on varied, odd and damaged files: what they read keeps its promises, what they refuse is named by file (and
line, where it is one line's fault), and nothing ever ends in an error of another kind."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml import recording
from ml.datasets import cml, kddi, nab, telemetry
from ml.datasets.errors import DataError
from ml.recording import RecordingError

Table = list[list[str]]
T = TypeVar("T")

ODD_CELLS = (
    *("", " ", "nan", "NaN", "inf", "-inf", "1e400", "-1", "0", "x", "é", "\x00", '"', '"a,b"', "1,5", "0x10", "1_0"),
    *("9" * 400, "2020-13-40 99:00:00", "20201340990000", "None", "True", "\u0661", "\ud7ff", "a" * 70_000),
)
ODD_WINDOWS = (
    *(b"[]", b"{}", b"null", b"[" * 5000, b'{"some/a.csv": {"a": 1}}', b'{"some/a.csv": "2020"}'),
    *(b'{"some/a.csv": [["x", "y"]]}', b'{"some/a.csv": [[1, 2]]}', b'{"some/a.csv": [["2020-01-01"]]}'),
    b'{"some/a.csv": [["0001-01-01 00:00:00", "9999-12-31 23:59:59"]]}',
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252")


def text(table: Table, delimiter: str, end: str = "\n") -> str:
    return end.join(delimiter.join(row) for row in table) + end


@st.composite
def damaged(draw: st.DrawFn, table: Table, delimiter: str) -> bytes:
    """A table, more or less as it ought to be."""
    rows = [list(row) for row in table]
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(("cell", "short", "long", "twice", "swap", "column", "header", "blank", "cut")))
        line = draw(st.integers(0, max(len(rows) - 1, 0)))
        if not rows:
            break
        if kind == "cell" and rows[line]:
            rows[line][draw(st.integers(0, len(rows[line]) - 1))] = draw(st.sampled_from(ODD_CELLS))
        elif kind == "short" and rows[line]:
            del rows[line][draw(st.integers(0, len(rows[line]) - 1))]
        elif kind == "long":
            rows[line].append("7")
        elif kind == "twice":
            rows.insert(line, list(rows[line]))
        elif kind == "swap":
            rows[line], rows[-1] = rows[-1], rows[line]
        elif kind == "column":
            place = draw(st.integers(0, max(len(rows[0]) - 1, 0)))
            rows = [row[:place] + row[place + 1 :] for row in rows]
        elif kind == "header":
            rows = rows[1:]
        elif kind == "blank":
            rows.insert(line, [])
        else:
            rows = rows[:line]
    body = text(rows, delimiter, draw(st.sampled_from(("\n", "\r\n", "\r")))).encode(
        draw(st.sampled_from(ENCODINGS)), "replace"
    )
    broken = draw(st.sampled_from(("whole", "whole", "whole", "cut", "byte", "none", "zipped", "zip cut", "zip byte")))
    if broken == "none":
        return b""
    if broken.startswith("zip"):
        body = gzip.compress(body, mtime=0)
    if broken.endswith("cut"):
        body = body[: draw(st.integers(0, len(body)))]
    if broken.endswith("byte") and body:
        place = draw(st.integers(0, len(body) - 1))
        body = body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
    return body


def read_or_told(load: Callable[[], T], path: Path, *errors: type[ValueError]) -> T | None:
    """What was read; None where it was refused in words that name the file."""
    try:
        return load()
    except errors as error:
        assert str(path) in str(error), error
        assert "Traceback" not in str(error) and "object at 0x" not in str(error)
        return None


some = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
few = settings(some, max_examples=20)  # each starts a database

LINKS: Table = [["link", "channel", "time", "tx_dbm", "rx_dbm"]] + [
    [str(link), "1", str(60 * i), "14", str(-46 - i)] for link in (1, 2) for i in range(5)
]
STAMPS = [f"202006291{i // 60:01d}{i % 60:02d}00" for i in range(6)]
LABELS: Table = [["", "status", "timestamp"]] + [[str(i), "3.0" if i % 2 else "0.0", t] for i, t in enumerate(STAMPS)]
PACKETS: Table = [["", "r1+l1", "r2+l1", "timestamp"]] + [[str(i), f"{i}.0", "", t] for i, t in enumerate(STAMPS)]
SERIES: Table = [["timestamp", "value"]] + [[f"2020-01-01 00:{i:02d}:00", str(i)] for i in range(8)]
WINDOWS = '{"some/a.csv": [["2020-01-01 00:02:00", "2020-01-01 00:04:00.5"]]}'
EVENTS: Table = [["timestamp", "event", "duration", "device", "interface", "comment"],
                 ["1579714641.9", "traffic", "", "", "", ""],
                 ["1579714660.0", "shutdown_interface", "", "leaf1", "eth0", ""]]  # fmt: skip
RATES: Table = [["", "Producer", "interface-name", "rate", "state"]] + [
    [f"2020-01-22 17:37:{i:02d}.770000+00:00", "leaf1", "eth0", str(100 + i), "im-state-up"] for i in range(0, 30, 5)
]
PORTS: Table = [["element", "time_s", "rx_power_dbm", "up"]] + [
    [f"s{1 + i % 2}:1", str(1e9 + 10.0 * i), "-8.5", "true"] for i in range(12)
]
FAILURES: Table = [["element", "mode", "time_s", "end_s", "cause"], ["s1:1", "link_failure", "1000000050.0", "", "cut"]]


@some
@given(data=st.data())
def test_microwave_links(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "links.csv"
        path.write_bytes(data.draw(damaged(LINKS, ",")))
        found = read_or_told(lambda: cml.load(path), path, DataError)
        if found is not None:
            assert found.attenuation.shape[1] == len(found.link) > 0
            assert not np.isinf(found.attenuation).any() and np.isfinite(found.first_s)
            known, coming = cml.labels(found)
            assert known.shape == coming.shape == found.attenuation.shape


@some
@given(data=st.data())
def test_router_faults(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        which = data.draw(st.sampled_from(("label", "network-incoming-packets-rate")))
        for stem, table in (("label", LABELS), ("network-incoming-packets-rate", PACKETS)):
            body = data.draw(damaged(table, "\t")) if stem == which else text(table, "\t").encode()
            (folder / f"{stem}.tsv").write_bytes(body)
        found = read_or_told(lambda: kddi.load(folder), folder, DataError)
        if found is not None:
            assert (np.diff(found.time_s) >= 0.0).all() and len(found.label) == len(found.time_s) > 0
            assert set(found.label.tolist()) <= set(range(len(kddi.CLASSES)))
            assert all(len(part) == len(found.label) for part in found.tables.values())
            assert not any(np.isinf(part).any() for part in found.tables.values())


@some
@given(data=st.data())
def test_series_with_windows(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data" / "some").mkdir(parents=True)
        (folder / "labels").mkdir()
        (folder / "data" / "some" / "a.csv").write_bytes(data.draw(damaged(SERIES, ",")))
        windows = WINDOWS.encode()
        if data.draw(st.booleans()):
            windows = data.draw(
                st.one_of(
                    st.binary(max_size=40),
                    st.integers(0, len(windows)).map(lambda n: windows[:n]),
                    st.sampled_from((*ODD_WINDOWS, WINDOWS.encode("utf-16"))),
                )
            )
        (folder / "labels" / "combined_windows.json").write_bytes(windows)
        found = read_or_told(lambda: nab.load(folder), folder, DataError)
        for item in found or []:
            assert (np.diff(item.time_s) >= 0.0).all() and not np.isinf(item.value).any()
            assert all(0 <= first <= last < len(item.time_s) for first, last in item.windows)


@some
@given(data=st.data())
def test_telemetry_archives(data: st.DataObject) -> None:
    which = data.draw(st.sampled_from(("events", "rates", "archive")))
    tables = {"x/events.csv": EVENTS, "x/yang_models/leaf1/A-oper:b_c.csv": RATES}
    bodies = {place: text(table, ",").encode() for place, table in tables.items()}
    if which != "archive":
        place = list(bodies)[which == "rates"]
        bodies[place] = data.draw(damaged(EVENTS if which == "events" else RATES, ","))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, body in bodies.items():
            info = tarfile.TarInfo(member)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    whole = packed.getvalue()
    if which == "archive":
        place_of = data.draw(st.integers(0, len(whole) - 1))
        cut = data.draw(st.booleans())
        whole = whole[:place_of] if cut else whole[:place_of] + b"\x5a" + whole[place_of + 1 :]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.tar.gz"
        path.write_bytes(whole)
        found = read_or_told(lambda: telemetry.load(path), path, DataError)
        if found is not None:
            assert all((np.diff(m.time_s) > 0.0).all() and np.isfinite(m.value).all() for m in found.metrics)
            assert all(np.isfinite(event.time_s) for event in found.events)


@few
@given(data=st.data())
def test_recordings(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        which = data.draw(st.sampled_from(("ports", "events")))
        for stem, table in (("ports", PORTS), ("events", FAILURES)):
            body = data.draw(damaged(table, ",")) if stem == which else text(table, ",").encode()
            (folder / f"{stem}.csv").write_bytes(body)
        found = read_or_told(lambda: recording.load(folder), folder, RecordingError)
        if found is not None:
            times = [sample.time_s for sample in found.ports]
            assert times == sorted(times) and all(isinstance(sample.element, str) for sample in found.ports)
            ports, _ = recording.runs(found)
            assert ports is None or ports.link.raw.shape[:2] == ports.link.time.shape


BAD_CELLS = {  # what is put into a column of a line, and how the error names it
    "cml": (LINKS, ",", "time", "soon", DataError),
    "kddi": (LABELS, "\t", "timestamp", "soon", DataError),
    "nab": (SERIES, ",", "timestamp", "soon", DataError),
    "nab value": (SERIES, ",", "value", "much", DataError),
    "recording": (PORTS, ",", "rx_power_dbm", "much", RecordingError),
    "recording time": (PORTS, ",", "time_s", "soon", RecordingError),
}


@pytest.mark.parametrize("name", BAD_CELLS)
@few
@given(data=st.data())
def test_a_bad_cell_is_named_by_file_and_line(name: str, data: st.DataObject) -> None:
    table, delimiter, column, cell, kind = BAD_CELLS[name]
    rows = [list(row) for row in table]
    line = data.draw(st.integers(2, len(rows)))
    rows[line - 1][rows[0].index(column)] = cell
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        body = text(rows, delimiter).encode()
        loader = name.split()[0]
        if loader == "cml":
            path = folder / "links.csv"
            load: Callable[[], object] = lambda: cml.load(path)  # noqa: E731
        elif loader == "kddi":
            path = folder / "label.tsv"
            load = lambda: kddi.load(folder)  # noqa: E731
        elif loader == "nab":
            path = folder / "a.csv"
            load = lambda: nab.series(path, "a.csv", [])  # noqa: E731
        else:
            path = folder / "ports.csv"
            load = lambda: recording.load(folder)  # noqa: E731
        path.write_bytes(body)
        with pytest.raises(kind) as told:
            load()
        assert f"{path}:{line}:" in str(told.value) and repr(cell) in str(told.value)


def test_a_series_that_goes_back_in_time_is_refused_by_line() -> None:
    rows = [*SERIES, ["2020-01-01 00:00:30", "1"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text(text(rows, ","))
        with pytest.raises(DataError, match=f"a.csv:{len(rows)}: .*earlier than the one before"):
            nab.series(path, "a.csv", [])
