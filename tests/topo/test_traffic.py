"""Accounting with made-up records, and the native sender and receiver over loopback."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ports import free_base, free_port
from topo.spec import Host, Switch, Topology, TopologyError
from topo.traffic import NOT_SENT, RECORD, FlowSpec, Records, Traffic, TrafficError, account, total

MS = 1_000_000


def sent(count: int, interval_ms: float = 1.0) -> Records:
    records = np.zeros(count, dtype=RECORD)
    records["sequence"] = np.arange(count)
    records["sent_ns"] = 10**18 + (np.arange(count) * interval_ms * MS).astype(np.uint64)
    records["size"] = 200
    return records


def arrived(records: Records, delay_ms: float = 5.0, ttl: int = 60) -> Records:
    found = records.copy()
    found["received_ns"] = found["sent_ns"] + np.uint64(delay_ms * MS)
    found["ttl"] = ttl
    return found


def test_a_perfect_flow() -> None:
    report = account("f", sent(100), arrived(sent(100)))
    assert (report.sent, report.received, report.lost, report.reordered, report.duplicated) == (100, 100, 0, 0, 0)
    assert report.outage_ms == 0
    assert report.delay_ms_p50 == pytest.approx(5)
    assert (report.ttl_min, report.ttl_max, report.first_loss_ns) == (60, 60, 0)


def test_losses_and_the_outage_they_make() -> None:
    records = sent(100)
    keep = np.ones(100, dtype=bool)
    keep[40:50] = False
    report = account("f", records, arrived(records)[keep])
    assert report.lost == 10
    assert report.outage_ms == pytest.approx(10)  # 11 ms between arrivals, less one sending interval
    assert report.first_loss_ns == records["sent_ns"][40]
    assert report.last_loss_ns == records["sent_ns"][49]


def test_a_longer_way_is_an_outage_without_loss() -> None:
    records = sent(100)
    found = arrived(records)
    found["received_ns"][50:] += np.uint64(7 * MS)
    report = account("f", records, found)
    assert (report.lost, report.reordered) == (0, 0)
    assert report.outage_ms == pytest.approx(7)


def test_a_shorter_way_reorders() -> None:
    records = sent(100)
    found = arrived(records, delay_ms=5)
    found["received_ns"][50:] -= np.uint64(int(2.5 * MS))
    report = account("f", records, found)
    assert report.lost == 0
    assert report.reordered == 2  # 48 and 49 arrive after 50
    assert report.outage_ms == pytest.approx(0)


def test_duplicates_count_and_nothing_else() -> None:
    records = sent(100)
    found = arrived(records)
    again = found[[10, 10, 20]].copy()
    again["received_ns"] += np.uint64(3 * MS)
    report = account("f", records, np.concatenate([found, again]))
    assert (report.received, report.lost, report.duplicated, report.reordered) == (100, 0, 3, 0)


def test_a_dead_end_counts_until_the_last_packet() -> None:
    records = sent(100)
    assert account("f", records, arrived(records)[:60]).outage_ms == pytest.approx(40)
    assert account("f", records, arrived(records)[60:]).outage_ms == pytest.approx(60)
    nothing = account("f", records, arrived(records)[:0])
    assert (nothing.lost, nothing.outage_ms) == (100, pytest.approx(100))


def test_what_was_not_sent_is_not_lost() -> None:
    records = sent(10)
    records["flags"][3] = NOT_SENT
    keep = records["flags"] == 0
    report = account("f", records, arrived(records)[keep])
    assert (report.sent, report.send_errors, report.lost) == (9, 1, 0)


def test_arrivals_of_another_window_are_left_out() -> None:
    records = sent(100)
    report = account("f", records[50:], arrived(records))
    assert (report.sent, report.received, report.lost, report.duplicated) == (50, 50, 0, 0)


def test_empty() -> None:
    report = account("f", sent(0), sent(0))
    assert (report.sent, report.lost, report.outage_ms) == (0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_books_balance(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    records = sent(count)
    copies = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    found = np.repeat(arrived(records), copies)
    late = data.draw(st.lists(st.integers(0, 20 * MS), min_size=len(found), max_size=len(found)))
    found["received_ns"] += np.array(late, dtype=np.uint64)
    order = data.draw(st.permutations(range(len(found))))
    report = account("f", records, found[list(order)])
    assert report.received + report.lost == report.sent == count
    assert report.received + report.duplicated == len(found)
    assert 0 <= report.reordered < max(1, report.received)
    assert report.outage_ms >= 0


def test_total() -> None:
    records = sent(100)
    summed = total([account("a", records, arrived(records)[:90]), account("b", records, arrived(records))])
    assert (summed["sent"], summed["lost"], summed["outage_ms"]) == (200, 10, pytest.approx(10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 10}, "size 10 is not in 24..1400"),
        ({"dst": "h1"}, "source and destination are both h1"),
        ({"dst": "h9"}, "no host 'h9'"),
        ({"dscp": 64}, "dscp 64"),
        ({"family": 5}, "family 5"),
        ({"schedule": ((1.0, 5.0), (0.0, 5.0))}, "runs backwards"),
    ],
)
def test_flows_are_checked(change: dict[str, Any], message: str) -> None:
    flow = FlowSpec(**{"name": "f", "src": "h1", "dst": "h2", "rate_pps": 100.0, **change})
    with pytest.raises((ValueError, TopologyError), match=message):
        flow.check(LOOPBACK)


# --- the real sender and receiver ---

LOOPBACK = Topology(
    "loopback",
    (Switch("s1", 1),),
    (
        Host("h1", "127.0.0.1/8", "::1/128", "02:00:00:00:00:01", "s1", 1),
        Host("h2", "127.0.0.2/8", "::1/128", "02:00:00:00:00:02", "s1", 2),
    ),
    (),
)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="the traffic tool needs a C compiler")


class Loopback:
    """Hosts that are all this machine."""

    topology = LOOPBACK

    def host_popen(self, host: str, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(argv, text=True, **kwargs)


@needs_cc
def test_loopback_loses_nothing(tmp_path: Path) -> None:
    base = free_base(2)
    flows = [
        FlowSpec("v4", "h1", "h2", 1000, port=base + 1),
        FlowSpec("v6", "h1", "h2", 500, port=base + 1, family=6, size=1000),
        FlowSpec("ramp", "h2", "h1", 0, port=base + 2, schedule=((0.0, 0.0), (0.4, 2000.0), (0.8, 0.0))),
    ]

    def middle(folder: Path) -> int:
        traffic = Traffic(Loopback(), flows, folder, duration_s=1.0)
        traffic.start()
        traffic.wait()
        reports = traffic.report()
        assert {name: report.sent for name, report in reports.items()} == {"v4": 1000, "v6": 500, "ramp": 800}
        assert total(list(reports.values()))["lost"] == traffic.overflow == 0
        assert reports["v4"].ttl_min == 64
        records, _ = traffic.records("ramp")
        offsets = (records["sent_ns"] - records["sent_ns"][0]) / 1e9
        return int(np.count_nonzero((offsets > 0.2) & (offsets < 0.6)))

    # Three quarters of a triangle. A busy machine shifts some: it may take several looks to see that.
    assert any(middle(tmp_path / str(look)) == pytest.approx(600, abs=120) for look in range(10))


@needs_cc
def test_stop_ends_a_long_flow(tmp_path: Path) -> None:
    traffic = Traffic(Loopback(), [FlowSpec("f", "h1", "h2", 200, port=free_port())], tmp_path, duration_s=600)
    traffic.start()
    assert traffic.running
    with pytest.raises(TrafficError, match="has not ended"):
        traffic.report()
    traffic.stop()
    assert traffic.report()["f"].lost == 0


@needs_cc
def test_a_taken_port_is_named(tmp_path: Path) -> None:
    port = free_port()
    flow = [FlowSpec("f", "h1", "h2", 200, port=port)]
    first = Traffic(Loopback(), flow, tmp_path / "a", duration_s=600)
    first.start()
    try:
        with pytest.raises(TrafficError, match=f"recv on h2 did not start: traffic: UDP port {port}"):
            Traffic(Loopback(), flow, tmp_path / "b", duration_s=1).start()
    finally:
        first.stop()
