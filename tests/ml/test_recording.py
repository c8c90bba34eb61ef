"""Recordings come back as they were written, and what is malformed is refused by name."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ml import recorded, recording
from ml.profiles import OPERATIONS
from ml.recording import Event, RecordingError
from ml.schema import DeviceSample, Mode, PortSample


def samples(count: int = 40) -> list[PortSample | DeviceSample]:
    found: list[PortSample | DeviceSample] = []
    for i in range(count):
        time = 1e9 + 10.0 * i
        found.append(PortSample("s1:1", time, rx_power_dbm=-8.0 - 0.1 * i, up=i < 35, tx_bytes_total=1e6 * i))
        found.append(PortSample("s2:1", time + 1.0, rx_power_dbm=nan, pre_fec_ber=1e-8))
        found.append(DeviceSample("s1", time, cpu_utilization=0.2, memory_utilization=nan))
    return found


EVENT = Event("s1:1", Mode.LINK_FAILURE, 1e9 + 345.0, 1e9 + 400.0, "fibre")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    recording.write(tmp_path, samples(), [EVENT])
    found = recording.load(tmp_path)
    assert len(found.ports) == 80 and len(found.devices) == 40 and found.events == [EVENT]
    assert [s.time_s for s in found.ports] == sorted(s.time_s for s in found.ports)
    first = next(s for s in found.ports if s.element == "s2:1")
    assert isnan(first.rx_power_dbm) and first.pre_fec_ber == 1e-8
    assert [s.up for s in found.ports if s.element == "s1:1"][-1] is False


def test_parquet_with_other_columns_is_read_too(tmp_path: Path) -> None:
    recording.write(tmp_path, samples(), [])
    source = tmp_path / "ports.csv"
    target = tmp_path / "ports.parquet"
    duckdb.sql(f"COPY (SELECT *, 'x' AS note FROM read_csv('{source}')) TO '{target}' (FORMAT parquet)")
    source.unlink()
    assert len(recording.load(tmp_path).ports) == 80


def test_runs_have_labels_and_one_row_per_element(tmp_path: Path) -> None:
    recording.write(tmp_path, samples(), [EVENT])
    ports, devices = recording.runs(recording.load(tmp_path))
    assert ports is not None and devices is not None
    assert ports.link.event.tolist() == [EVENT.time_s, np.inf]
    assert np.isinf(ports.congestion.event).all()
    failing = ports.link.time[ports.link.failing[:, 0], 0]
    assert failing.min() >= EVENT.time_s and failing.max() <= EVENT.end_s


def test_rows_for_training_come_from_a_recording(tmp_path: Path) -> None:
    recording.write(tmp_path, samples(400), [Event("s1:1", Mode.LINK_FAILURE, 1e9 + 3000.0)])
    rows = recorded.rows(OPERATIONS, tmp_path)[Mode.LINK_FAILURE]
    assert len(rows) and np.isfinite(rows.left).any()
    assert rows.time.min() >= 1e9  # its own times


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("ports.csv", "element,rx_power_dbm\ns1:1,3\n", "time_s"),
        ("ports.parquet", "no parquet", "ports.parquet"),
        ("events.csv", "element,time_s,mode\ns1:1,5,meteor\n", "meteor"),
        ("devices.csv", "element,time_s\ns1,yesterday\n", r"devices\.csv:2: time_s is no number: 'yesterday'"),
    ],
)
def test_what_is_malformed_is_refused_by_name(tmp_path: Path, name: str, content: str, why: str) -> None:
    if name == "events.csv":
        recording.write(tmp_path, samples(3), [])
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordingError, match=why):
        recording.load(tmp_path)


def test_an_empty_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="neither"):
        recording.load(tmp_path)
    with pytest.raises(RecordingError, match="no such folder"):
        recording.load(tmp_path / "none")
