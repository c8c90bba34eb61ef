"""History: what is written comes back, gaps are told, crashes and full disks cost little, old files go."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from control.errors import HistoryError, InputError
from control.history import files as files_module
from control.history.files import Files, Retention
from control.history.importer import load, mapping
from control.history.reader import Query, Reader
from control.history.segments import Lock, found, name
from control.history.writer import Block, Rows, Writer
from control.intake import Columns
from control.recorder import Recorder
from control.telemetry import PortEvent
from ml import recorded, recording
from ml.profiles import OPERATIONS
from ml.schema import DeviceSample, Mode, PortSample

ROOT = Path(__file__).resolve().parent.parent.parent


def ports(count: int, start_s: float = 1000.0) -> Rows:
    items = [PortSample("s1:2", start_s + n, rx_power_dbm=-5.0 - n, tx_bytes_total=n * 100.0) for n in range(count)]
    return Rows("ports", items, "gnmi")


def test_samples_come_back_with_what_was_not_measured_as_null(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.put(ports(3))
    writer.put(Rows("devices", [DeviceSample("s1", 5.0, cpu_utilization=0.5, dropped_total=math.inf)], "gnmi"))
    shared = {"time_s": np.array([1001.5]), "element": np.array([1]), "heartbeat_rtt_us": np.array([900.0])}
    writer.put(Block("ports", shared, ["s1:1", "s1:2"]))
    assert writer.flush() and writer.counts.written == 5 and writer.waiting == 0
    rows = Reader(tmp_path).rows(Query())
    assert [row["time_s"] for row in rows] == [1000.0, 1001.0, 1001.5, 1002.0]
    assert {row["element"] for row in rows} == {"s1:2"}
    assert rows[0]["rx_power_dbm"] == -5.0 and rows[0]["up"] is True and rows[0]["pre_fec_ber"] is None
    assert rows[2]["heartbeat_rtt_us"] == 900.0 and rows[2]["up"] is None
    (device,) = Reader(tmp_path).rows(Query("devices"))
    assert device["cpu_utilization"] == 0.5 and device["dropped_total"] is None


def test_queries_choose_elements_times_columns_and_rates(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    items = [PortSample("s1:2", float(n), tx_bytes_total=total) for n, total in enumerate((0.0, 500.0, 100.0, 300.0))]
    writer.put(Rows("ports", [*items, PortSample("s2:1", 0.5)], "gnmi"))
    writer.flush()
    reader = Reader(tmp_path)
    asked = Query(elements=("s1:2",), since_s=1.0, until_s=4.0, columns=("tx_bytes_total",), rates=True)
    assert [row["tx_bytes_per_s"] for row in reader.rows(asked)] == [500.0, None, 200.0], "a reset gives no rate"
    assert list(reader.rows(Query(columns=("up",), limit=1))[0]) == ["time_s", "element", "up"]
    assert len(reader.rows(Query(elements=("s'1",)))) == 0
    with pytest.raises(InputError, match="no column 'speed'"):
        reader.rows(Query(columns=("speed",)))
    with pytest.raises(InputError, match="no table"):
        reader.rows(Query("nothing"))
    for suffix in ("csv", "json", "parquet"):
        assert reader.export(Query(elements=("s1:2",)), tmp_path / f"out.{suffix}") == 4
    with pytest.raises(InputError, match="suffix"):
        reader.export(Query(), tmp_path / "out.xls")
    assert {line["table"]: line["rows"] for line in reader.summary()}["ports"] == 5
    with pytest.raises(InputError, match="no history"):
        Reader(tmp_path / "none")


def test_only_one_writes_and_readers_do_not_mind(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.put(ports(2))
    assert writer.flush()
    other = Writer(tmp_path)
    other.put(ports(2))
    assert not other.flush() and "is being written by process" in other.counts.error and other.waiting == 2
    assert len(Reader(tmp_path).rows(Query())) == 2
    assert not other.flush() and other.counts.failures == 2, "nothing is lost meanwhile"
    assert writer._files is not None
    writer._files.close()
    assert other.flush() and len(Reader(tmp_path).rows(Query())) == 4


def test_a_disk_that_refuses_costs_the_oldest_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path, most_rows=25)
    writer.put(ports(5, 0.0))
    assert writer.flush()
    real = files_module.sync

    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module, "sync", full)
    for part in range(4):
        writer.put(ports(10, 100.0 * (part + 1)))
        assert not writer.flush() and "No space left" in writer.counts.error
    assert writer.waiting <= 30 and writer.counts.dropped >= 10
    assert not list(tmp_path.rglob("*.draft"))
    monkeypatch.setattr(files_module, "sync", real)
    assert writer.flush() and not writer.counts.error
    times = {row["time_s"] for row in Reader(tmp_path).rows(Query())}
    assert 400.0 in times and 0.0 in times


def test_killed_in_the_middle_it_opens_again_and_lost_the_last_batch_at_most(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from control.history.writer import Rows, Writer\n"
        "from ml.schema import PortSample\n"
        "writer = Writer(Path(sys.argv[1]))\n"
        "for n in range(100000):\n"
        "    writer.put(Rows('ports', [PortSample('s1:2', float(n))] * 50, 'gnmi'))\n"
        "    assert writer.flush()\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 5:
            break
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    told = max([5, *(int(text) for text in rest)])
    (tmp_path / "ports" / "0000000099-0000000099-1.draft").write_bytes(b"PAR1 half a file")
    times = {row["time_s"] for row in Reader(tmp_path).rows(Query(columns=("up",)))}
    assert times >= set(map(float, range(told + 1))), "what was written is there"
    writer = Writer(tmp_path)
    writer.put(ports(1, 1e6))
    assert writer.flush() and not list(tmp_path.rglob("*.draft"))
    assert 1e6 in {row["time_s"] for row in Reader(tmp_path).rows(Query())}


def test_small_files_are_merged_and_a_crash_between_doubles_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path, Retention(0, 0))
    for number in range(files_module.MERGE_AT):
        files.write("ports", ports(1, float(number)).resolved())
    place = tmp_path / "ports"
    kept = {path: path.read_bytes() for path in list(place.iterdir())[:3]}
    assert files.keep_house() == files_module.MERGE_AT
    assert len(found(place)[0]) == 1
    for path, content in kept.items():  # as if the crash came before they were removed
        path.write_bytes(content)
    assert len(Reader(tmp_path).rows(Query())) == files_module.MERGE_AT
    files.close()
    Files(tmp_path).close()
    assert len(list(place.glob("*.parquet"))) == 1


def test_what_is_too_old_or_too_much_goes_oldest_first(tmp_path: Path) -> None:
    files = Files(tmp_path, Retention(age_s=100.0, size_bytes=0))
    for start in (0.0, 500.0, 950.0):
        files.write("ports", ports(1, start).resolved())
    assert files.keep_house(1000.0) == 2
    assert [row["time_s"] for row in Reader(tmp_path).rows(Query())] == [950.0]
    files.close()
    size = sum(item.size for item in found(tmp_path / "ports")[0])
    files = Files(tmp_path, Retention(age_s=0, size_bytes=int(size * 2.5)))
    for start in (960.0, 970.0, 980.0):
        files.write("ports", ports(1, start).resolved())
    files.keep_house(1000.0)
    assert [row["time_s"] for row in Reader(tmp_path).rows(Query())] == [970.0, 980.0]
    files.close()


def test_segment_names_sort_by_batch() -> None:
    assert name(9, 9, 1.0) < name(10, 10, 1.0) < name(100000, 100000, -5.0)


def test_gaps_and_events_are_kept(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    recorder = Recorder(writer, ["s1:1", "s1:2"], gap_s=1.0)
    for time_s in (0.0, 0.5, 4.0):
        recorder.samples([PortSample("s1:2", time_s)], "gnmi")
    for time_s in (0.0, 3.0):
        columns = {"heartbeat_lost_total": np.zeros(2)}
        recorder.reports(Columns(np.array([0, 1]), np.full(2, time_s), columns))
    for up in (True, False, False, True):
        recorder.port(PortEvent("s1:2", 9.0, up, "heartbeat"))
    assert writer.flush()
    reader = Reader(tmp_path)
    gaps = [(row["element"], row["source"], row["time_s"], row["end_s"]) for row in reader.rows(Query("gaps"))]
    assert sorted(gaps) == [("s1:1", "digest", 0.0, 3.0), ("s1:2", "digest", 0.0, 3.0), ("s1:2", "gnmi", 0.5, 4.0)]
    assert sorted(row["kind"] for row in reader.rows(Query("events"))) == ["port_down", "port_up"]


def test_a_recorder_without_a_folder_keeps_nothing() -> None:
    recorder = Recorder(None, ["s1:1"])
    recorder.samples([PortSample("s1:2", 0.0)], "gnmi")
    recorder.port(PortEvent("s1:2", 9.0, False, "heartbeat"))
    recorder.close()
    assert recorder.counts.written == 0


def test_the_thread_writes_by_itself_and_at_the_end(tmp_path: Path) -> None:
    writer = Writer(tmp_path, flush_s=0.01)
    writer.start()
    writer.put(ports(2))
    deadline = time.monotonic() + 60
    while writer.counts.written < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # the writer's thread tells nobody
    writer.put(ports(3, 2000.0))
    writer.close()
    assert len(Reader(tmp_path).rows(Query())) == 5
    Lock(tmp_path).close()


def test_csv_is_imported_with_names_units_and_times(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text('when,if,rx,speed\n2026-11-21T10:00:00Z,"s1:2",-5.5,10\n1795255800.5,s1:3,NaN,\n')
    names = mapping(["when=time_s", "if=element", "rx=rx_power_dbm", "speed=rate_bps*1e6"])
    assert load(file, tmp_path / "h", "ports", names=names) == 2
    first, second = Reader(tmp_path / "h").rows(Query())
    assert (first["element"], first["rx_power_dbm"], first["rate_bps"]) == ("s1:2", -5.5, 1e7)
    assert first["time_s"] == 1795255200.0 and first["source"] == "old.csv"
    assert second["rx_power_dbm"] is None and second["rate_bps"] is None


def test_parquet_that_was_exported_is_imported_alike(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a")
    writer.put(ports(5))
    writer.flush()
    Reader(tmp_path / "a").export(Query(), tmp_path / "out.parquet")
    assert load(tmp_path / "out.parquet", tmp_path / "b", "ports") == 5
    assert Reader(tmp_path / "b").rows(Query()) == Reader(tmp_path / "a").rows(Query())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "time_s,element,rx_power_dbm\n1,s1:2,-5\n2,s1:2,dark\n",
            r"line 3, column 'rx_power_dbm': 'dark' is no number",
        ),
        ("time_s,element,rx_power_dbm\nsoon,s1:2,-5\n", r"line 2, column 'time_s': 'soon' is no time"),
        ("time_s,element,rx_power_dbm\n1,,-5\n", r"line 2, column 'element': is empty"),
        ("element,rx_power_dbm\ns1:2,-5\n", "no column is the time"),
        ("time_s,rx_power_dbm\n1,-5\n", "no column is the element"),
        ("time_s,element,light\n1,s1:2,-5\n", "no column is a signal"),
        ("", "old.csv"),
    ],
)
def test_a_wrong_file_is_refused_whole_and_says_where(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        load(file, tmp_path / "h", "ports")
    assert not list((tmp_path / "h").rglob("*.parquet"))


def test_unknown_names_and_files_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text("time_s,element,rx_power_dbm\n1,s1:2,-5\n")
    for names, words in ((["x=time_s"], "no column 'x'"), (["rx_power_dbm=glow"], "no column 'glow'")):
        with pytest.raises(InputError, match=words):
            load(file, tmp_path / "h", "ports", names=mapping(names))
    for text in ("x", "=a", "a=b*c*"):
        with pytest.raises(InputError):
            mapping([text])
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "none.csv", tmp_path / "h", "ports")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1\0\0")
    with pytest.raises(InputError, match=r"broken\.parquet"):
        load(broken, tmp_path / "h", "ports")
    lock = Lock(tmp_path / "h")
    with pytest.raises(HistoryError, match=f"process {os.getpid()}"):
        load(file, tmp_path / "h", "ports")
    lock.close()


def test_values_that_no_model_takes_in_are_told_and_kept(tmp_path: Path) -> None:
    file, told = tmp_path / "cpu.csv", list[str]()
    file.write_text("time_s,element,load\n1,s1,50\n2,s1,NaN\n3,s1,7e3\n")
    assert load(file, tmp_path / "h", "devices", names=mapping(["load=cpu_utilization*0.01"]), tell=told.append) == 3
    assert len(told) == 1 and "column 'load': 1 values between 70 and 70 are outside" in told[0]
    assert [row["cpu_utilization"] for row in Reader(tmp_path / "h").rows(Query("devices"))] == [0.5, None, 70.0]


def test_the_command_line_queries_exports_and_imports(tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text("time_s,element,rx_power_dbm\n1,s1:2,-5\n2,s1:2,-6\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "control", "history", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    folder = str(tmp_path / "h")
    assert run("import", str(file), "--dir", folder).stdout.startswith("2 rows")
    found = run("query", "--dir", folder, "--since", "1970-01-01T00:00:02", "-o", "json")
    assert [row["rx_power_dbm"] for row in json.loads(found.stdout)] == [-6.0]
    assert json.loads(found.stdout)[0]["time_s"] == 2.0
    assert "1970-01-01 00:00:01.000Z" in run("query", "--dir", folder).stdout
    assert "1970-01-01 00:00:02.000Z" in run("info", "--dir", folder).stdout
    assert run("query", "--dir", folder, "--format", "csv").stdout.splitlines()[1].startswith("1.0,s1:2")
    wrong = run("query", "--dir", folder, "--since", "soon")
    assert wrong.returncode == 2 and "soon" in wrong.stderr and "Traceback" not in wrong.stderr


def test_what_a_service_recorded_trains_models(tmp_path: Path) -> None:
    """Segments are read as they lie there; loss that lasts is one failure; a flip hides what would have come."""
    writer = Writer(tmp_path)
    recorder = Recorder(writer, ["s1:2", "s2:1"])
    start = 1_795_255_800.0
    for n in range(200):
        now = start + 10.0 * n
        recorder.samples([PortSample("s1:2", now, rx_power_dbm=-8.0, tx_bytes_total=1e6 * n)], "gnmi")
        recorder.samples([DeviceSample("s1", now + 1.0, cpu_utilization=0.3)], "gnmi")
        if n % 50 == 49:
            assert writer.flush()  # several segments
    recorder.port(PortEvent("s1:2", start + 600.0, False, "carrier"))
    recorder.port(PortEvent("s1:2", start + 640.0, True, "carrier"))
    for n in range(40):
        recorder.failure(start + 1200.0 + 0.1 * n, "s1:2", "congestion", "a full queue")
    recorder.event(start + 1500.0, "s1", "flip", mode="device_overload", detail="cpu")
    recorder.event(start + 1600.0, "s1:2", "refuse", mode="link_failure", detail="full")
    assert writer.flush()
    assert [row["kind"] for row in Reader(tmp_path).rows(Query("events"))].count("failure") == 4  # once a second

    found = recording.load(tmp_path)
    assert len(found.ports) == 200 and len(found.devices) == 200
    cut, full = found.events
    assert (cut.element, cut.mode, cut.time_s, cut.end_s) == ("s1:2", Mode.LINK_FAILURE, start + 600, start + 640)
    assert (full.mode, full.time_s, full.end_s) == (Mode.CONGESTION, start + 1200.0, start + 1203.0)
    assert [(item.element, item.time_s) for item in found.hidden] == [("s1", start + 1500.0)]
    ports, devices = recording.runs(found)
    assert ports is not None and devices is not None
    assert ports.link.event.tolist() == [start + 600.0, math.inf, math.inf]
    assert ports.congestion.event.tolist() == [math.inf, start + 1200.0, math.inf]
    assert devices.time.max(axis=0)[0] <= start + 1500.0  # what was hidden is not called healthy
    assert set(ports.link.groups.tolist()) == {0}
    rows = recorded.rows(OPERATIONS, tmp_path)
    assert np.isfinite(rows[Mode.LINK_FAILURE].left).any() and np.isfinite(rows[Mode.CONGESTION].left).any()
