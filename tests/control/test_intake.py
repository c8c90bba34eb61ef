"""Port reports in batches: what they mean, what is counted, and what a stream in disorder does not do."""

from __future__ import annotations

import math
import random

import pytest
from control_helpers import make_topology
from finsy.proto import p4d

from control.capacity import Rate
from control.intake import MOST_OF_A_PORT, MOST_REPORTS, Intake, Taken
from control.program import Program
from control.telemetry import PortEvent, line_rates
from ml.schema import PortSample
from topo.builtin import diamond
from topo.spec import Topology

FIELDS = ("port", "seq", "time", "event", "rtt", "lost", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "errors",
          "queue_max")  # fmt: skip


def report(**fields: int) -> p4d.P4Data:
    data = p4d.P4Data()
    for name in FIELDS:
        value = fields.get(name, 0)
        data.struct.members.add(bitstring=value.to_bytes(8, "big").lstrip(b"\0") or b"\0")
    return data


@pytest.fixture
def intake(program: Program) -> Intake:
    return Intake(diamond(), program.schema)


def feed(intake: Intake, now_s: float, *reports: p4d.P4Data, traffic: bool = False) -> Taken:
    intake.put("s1", list(reports))
    return intake.take(now_s, frozenset({"s1"} if traffic else ()))


def reports_of(taken: Taken) -> int:
    return sum(len(columns.rows) for columns in taken.columns)


def only(taken: Taken) -> PortSample:
    (found,) = taken.samples
    assert isinstance(found, PortSample)
    return found


def test_members_are_the_programs(program: Program) -> None:
    assert tuple(program.schema.digests["port_report_t"].type_spec.members) == FIELDS


def test_reports_become_samples_and_events(intake: Intake) -> None:
    dead = feed(intake, 7.0, report(port=3, seq=1, event=2, time=2_500_000, rtt=100, lost=5))
    assert dead.events == [PortEvent("s1:3", 7.0, False, "heartbeat", 2.5)] and not dead.samples
    alive = feed(intake, 8.0, report(port=2, seq=1, event=1, rtt=100, lost=5))
    assert [event.up for event in alive.events] == [True]
    found = only(alive)
    assert (found.heartbeat_rtt_us, found.heartbeat_lost_total, found.time_s) == (100, 5, 8.0)
    assert math.isnan(found.tx_bytes_total)


def test_life_is_told_when_it_changes_and_once_in_a_while(intake: Intake) -> None:
    assert feed(intake, 0.0, report(port=2, seq=1)).events
    assert not feed(intake, 0.1, report(port=2, seq=2)).events
    assert feed(intake, 0.2, report(port=2, seq=3, event=2)).events
    assert feed(intake, 0.3, report(port=2, seq=4, event=2)).events, "death is repeated: it has to be confirmed"
    assert [event.up for event in feed(intake, 0.4, report(port=2, seq=5)).events] == [True]
    assert not feed(intake, 0.5, report(port=2, seq=6)).events
    assert feed(intake, 1.6, report(port=2, seq=7)).events
    intake.forget("s1")
    assert feed(intake, 1.7, report(port=2, seq=8)).events


def test_life_is_passed_on_after_the_clock_was_set_back(intake: Intake) -> None:
    for number, (now_s, told) in enumerate(((3600.0, True), (3600.5, False), (10.0, True), (10.5, False)), 1):
        assert bool(feed(intake, now_s, report(port=2, seq=number, time=number * 100_000)).events) is told, number


def test_heartbeats_missed_during_a_reported_outage_are_no_news_when_it_ends(intake: Intake) -> None:
    numbers = iter(range(1, 100))

    def lost(event: int, total: int) -> float:
        return only(feed(intake, 0.0, report(port=3, seq=next(numbers), event=event, rtt=1, lost=total))
                    ).heartbeat_lost_total  # fmt: skip

    assert lost(0, 2) == 2
    feed(intake, 0.0, report(port=3, seq=next(numbers), event=2, lost=2))
    assert lost(3, 238) == 2
    assert lost(1, 240) == 4
    assert lost(0, 0) == 0  # the switch started anew
    assert lost(1, 1) == 1


def test_disorder_is_counted_and_stale_reports_are_left_out(intake: Intake) -> None:
    feed(intake, 0.0, report(port=2, seq=10, lost=1))
    assert not feed(intake, 0.1, report(port=2, seq=10, lost=1)).samples, "twice"
    assert not feed(intake, 0.2, report(port=2, seq=8, lost=0)).samples, "late"
    assert only(feed(intake, 0.3, report(port=2, seq=15, lost=3))).heartbeat_lost_total == 3
    assert (intake.counts.stale, intake.counts.missing) == (2, 4)
    feed(intake, 0.4, report(port=2, seq=(1 << 32) - 1, lost=3))
    intake.forget("s1")
    feed(intake, 0.5, report(port=2, seq=(1 << 32) - 1, lost=3))
    assert reports_of(feed(intake, 0.6, report(port=2, seq=0, lost=3))) == 1, "the number wraps"
    assert reports_of(feed(intake, 0.7, report(port=2, seq=1, lost=3))) == 1
    intake.forget("s1")
    feed(intake, 0.8, report(port=2, seq=500, time=90_000_000, lost=9))
    assert reports_of(feed(intake, 0.9, report(port=2, seq=3, time=50_000, lost=0))) == 1, "its data plane began anew"


def test_several_reports_of_one_port_in_a_batch_are_taken_in_order(intake: Intake) -> None:
    taken = feed(
        intake, 1.0, report(port=2, seq=1, lost=1), report(port=3, seq=1, lost=7), report(port=2, seq=2, lost=4)
    )
    found = [(item.element, item.heartbeat_lost_total) for item in taken.samples if isinstance(item, PortSample)]
    assert [pair for pair in found if pair[0] == "s1:2"] == [("s1:2", 1), ("s1:2", 4)] and ("s1:3", 7) in found


def test_what_does_not_fit_is_counted_and_skipped(intake: Intake) -> None:
    short = p4d.P4Data()
    short.struct.members.add(bitstring=b"\2")
    taken = feed(intake, 1.0, short, report(port=99, seq=1), report(port=2, seq=1), p4d.P4Data())
    assert len(taken.samples) == 1
    assert (intake.counts.malformed, intake.counts.unknown, intake.counts.reports) == (2, 1, 1)
    huge = report(port=2, seq=2, lost=1)
    huge.struct.members[4].bitstring = b"\xff" * 4096
    assert len(feed(intake, 1.1, huge).samples) == 0 and intake.counts.malformed == 3


def test_the_queue_is_bounded_and_drops_the_oldest(intake: Intake) -> None:
    part = [report(port=2, seq=1)] * 1024
    for _ in range(MOST_REPORTS // 1024 + 2):
        intake.put("s1", part)
    assert intake.counts.dropped == 2048
    taken = intake.take(0.0)
    assert intake.counts.reports == MOST_REPORTS and not intake
    assert intake.counts.dropped == 2048 + MOST_REPORTS - MOST_OF_A_PORT, "a port that floods holds nobody up"
    assert reports_of(taken) == 1


def test_without_gnmi_a_report_tells_the_traffic_at_the_time_of_its_reading(program: Program) -> None:
    net: Topology = make_topology([(1, 2)], rate_mbps=40.0)
    rates = line_rates(net, net.switches[0])
    assert rates == {net.links[0].a.port: 40e6}
    intake, bytes_per_s = Intake(net, program.schema), 1e6
    (port,) = rates
    loads = Rate()
    for step, delay_s in enumerate([0.02, 0.0, 0.05, 0.01, 0.09, 0.0, 0.03, 0.07] * 4):
        clock_s = 3.0 + step * 0.1
        fields = {"time": int(clock_s * 1e6), "tx_bytes": int(clock_s * bytes_per_s), "tx_packets": step}
        item = report(port=port, seq=step + 1, queue_max=4, **fields)
        found = only(feed(intake, 1000.0 + clock_s + delay_s, item, traffic=True))
        assert found.time_s <= 1000.0 + clock_s + delay_s
        assert (found.rate_bps, found.queue_max_packets, found.tx_packets_total) == (40e6, 4, step)
        if step:
            assert found.time_s == pytest.approx(1000.0 + clock_s, abs=1e-3)
            loads.update(found.tx_bytes_total, found.time_s)
    assert loads.bps == pytest.approx(8 * bytes_per_s, rel=0.01)
    found = only(feed(intake, 1020.0, report(port=port, seq=1, time=1000), traffic=True))
    assert found.time_s == pytest.approx(1020.0), "the switch started anew"


def test_no_order_of_reports_makes_a_counter_fall_or_time_run_ahead(intake: Intake) -> None:
    draw = random.Random(7)
    last: dict[str, float] = {}
    reports = [
        report(port=2 + n % 2, seq=1 + n // 2, lost=n // 10, event=draw.choice((0, 0, 0, 2))) for n in range(400)
    ]
    for start in range(0, 400, 20):
        part = reports[start : start + 20]
        draw.shuffle(part)
        for columns in feed(intake, float(start), *part, *part[:3]).columns:
            assert len(set(columns.rows.tolist())) == len(columns.rows)
            for row, lost in zip(columns.rows.tolist(), columns.values["heartbeat_lost_total"], strict=True):
                assert lost >= last.get(intake.elements[row], 0.0)
                last[intake.elements[row]] = lost
    assert intake.counts.stale > 20
