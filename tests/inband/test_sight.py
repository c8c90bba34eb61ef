"""What reports tell of ports and devices: joined per interval, checked, and put beside what is polled."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finsy import P4Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from control.history.reader import Query, Reader
from control.history.writer import Writer
from control.inband.report import WIDTHS, FlowFlag
from control.inband.runtime import InbandConfig, InbandTelemetry
from control.intake import Columns, Intake
from control.pha import HealthAnalyzer
from control.recorder import Recorder
from ml.schema import DeviceSample, Mode, PortSample
from tests.inband.inband_net import MEMBERS, report_values
from tests.p4.program import P4INFO_PATH
from topo.load import load
from topo.spec import Endpoint, Topology

SCHEMA = P4Schema(P4INFO_PATH)
TOPOLOGY = load("diamond")
RATED = replace(TOPOLOGY, links=tuple(replace(link, rate_mbps=10.0) for link in TOPOLOGY.links))
UNRATED = replace(TOPOLOGY, links=tuple(replace(link, rate_mbps=0.0) for link in TOPOLOGY.links))
WAY = ("h1", "s1", "s2", "s4", "h4")
NOW = 1000.0
INTERVAL = 0.05


def port(topology: Topology, here: str, there: str) -> str:
    return str(topology.links_between(here, there)[0].end(here))


class Feed:
    """Reports of one service, with its clock."""

    def __init__(self, topology: Topology = RATED, **config: Any) -> None:
        self.topology = topology
        self.inband = InbandTelemetry(topology, InbandConfig(max_interval_ms=50, **config), SCHEMA)
        self.now = NOW
        self.seq = 0
        self.inband.take(self.now)

    def report(self, sender: str = "s4", way: tuple[str, ...] = WAY, **values: Any) -> None:
        self.seq = values.pop("seq", self.seq + 1)
        values = {"seq": self.seq, "time_us": int(self.now * 1e6), **values}
        over = {name: values.pop(name) for name in list(values) if name in dict(MEMBERS) and name not in KNOWN}
        self.raw(sender, report_values(self.topology, way, **values) | over)

    def raw(self, sender: str, values: dict[str, int]) -> None:
        from finsy.proto import p4r

        digest = p4r.DigestList()
        data = digest.data.add()
        for name, _width in MEMBERS:
            value = values.get(name, 0)
            data.struct.members.add().bitstring = value.to_bytes(16, "big").lstrip(b"\0") or b"\0"
        self.inband.on_digest(sender, digest)

    def step(self, seconds: float = INTERVAL) -> dict[str, PortSample | DeviceSample]:
        """Let time pass; the samples that come of it, by element."""
        self.now += seconds
        return {sample.element: sample for sample in self.inband.take(self.now)}


KNOWN = {"seq", "packets", "flow_id", "sport"}


def test_one_interval() -> None:
    feed = Feed()
    feed.report(depths=(4, 40, 0), latencies=(0, 0, 0), packets=10, octets=10_000)
    feed.report(depths=(2, 10, 0), packets=20, octets=20_000, time_us=int(NOW * 1e6) + 100_000)
    found = feed.step()
    first, second = found[port(RATED, "s1", "s2")], found[port(RATED, "s2", "s4")]
    assert isinstance(first, PortSample) and isinstance(second, PortSample)
    assert (first.queue_max_packets, first.queue_mean_packets) == (4, 3)
    assert (second.queue_max_packets, second.queue_mean_packets) == (40, 25)
    # One packet in ten: 10,000 bytes in 0.1 s are 8 Mbit/s.
    assert second.watched_bps == pytest.approx(8e6)
    assert second.hop_latency_us == 0
    assert port(RATED, "s1", "s3") not in found, "no packet told: no sample, rather than zeros"
    assert all(sample.time_s == feed.now for sample in found.values())
    assert feed.step(INTERVAL / 2) == {}, "no interval has ended"


def test_the_delay_of_a_link_is_above_its_own_least() -> None:
    feed = Feed()
    for delay in (900, 150, 650):  # the switches' clocks may differ: only changes count
        feed.report(link_us=delay)
        found = feed.step()
    sample = found[port(RATED, "s2", "s4")]
    assert isinstance(sample, PortSample) and sample.link_delay_us == 500
    feed.report(link_us=3_000_000)  # a clock was set
    after = feed.step()[port(RATED, "s2", "s4")]
    assert isinstance(after, PortSample) and isnan(after.link_delay_us)
    feed.report(link_us=3_000_200)
    after = feed.step()[port(RATED, "s2", "s4")]
    assert isinstance(after, PortSample) and after.link_delay_us == 200


def test_backlog_is_what_the_queue_does_not_explain() -> None:
    """Little's law: 1,000 packets/s, of which every tenth carries telemetry, 20 ms longer than at best: 20 packets."""
    feed = Feed()

    def at(number: int, wait_us: int, depth: int) -> DeviceSample | None:
        queued_us = depth * 100 * 8 / 10
        feed.report(
            depths=(0, depth, 0),
            latencies=(0, wait_us + round(queued_us), 0),
            packets=10 * number,
            octets=1000 * number,
            time_us=int(NOW * 1e6) + 100_000 * number,
        )
        found = feed.step().get("s2")
        assert found is None or isinstance(found, DeviceSample)
        return found

    for number in range(9):  # until its best is known, nothing is said
        calm = at(number, 700, 3 if number > 1 else 0)
    assert calm is not None and calm.backlog_packets == pytest.approx(0.0, abs=0.3) and calm.cpu_utilization < 0.1
    for number in range(9, 20):
        loaded = at(number, 20_700, 0)
    assert loaded is not None and loaded.backlog_packets == pytest.approx(20.0)
    assert loaded.cpu_utilization == pytest.approx(1.0)


def test_a_queue_of_a_line_of_unknown_rate_says_nothing_of_the_backlog() -> None:
    feed = Feed(UNRATED)
    for number in (0, 1):
        feed.report(
            depths=(0, 9, 0), latencies=(0, 50_000, 0), packets=10 * number, octets=1000 * number,
            time_us=int(NOW * 1e6) + 100_000 * number,
        )  # fmt: skip
    assert "s2" not in feed.step()


ABSURD: dict[str, dict[str, int]] = {
    "a node that is not there": {"place1": 99 << 96 | 1 << 80 | 2 << 64},
    "a port that is not there": {"place1": 2 << 96 | 77 << 80 | 2 << 64},
    "a sink that is not the sender": {"sink_node": 3},
    "two nodes without a link": {"place2": 4 << 96 | 1 << 80 | 1 << 64},
    "a latency of ten minutes": {"place1": 2 << 96 | 1 << 80 | 2 << 64 | 600_000_000 << 32},
    "left before it came": {"times1": 2000 << 64 | 1000},
}


@pytest.mark.parametrize("wrong", ABSURD)
def test_an_absurd_report_changes_nothing(wrong: str) -> None:
    feed, clean = Feed(), Feed()
    for one in (feed, clean):
        one.report(depths=(1, 2, 0))
    feed.raw("s4", report_values(RATED, WAY, seq=2, time_us=int(NOW * 1e6), depths=(900, 900, 900)) | ABSURD[wrong])
    assert feed.inband.counts.absurd == 0
    assert same(feed.step(), clean.step())
    assert feed.inband.counts.absurd == 1


def test_members_are_as_wide_as_the_program_has_them() -> None:
    assert tuple(width for _, width in MEMBERS) == WIDTHS


@pytest.mark.parametrize("member", [name for name, _ in MEMBERS])
def test_a_member_that_is_too_wide_ends_nothing(tmp_path: Path, member: str) -> None:
    """However large: the report is left out, or all that is made of it can be made."""
    writer = Writer(tmp_path)
    feed = Feed()
    feed.inband = InbandTelemetry(
        RATED,
        InbandConfig(export="127.0.0.1:32766"),
        SCHEMA,
        recorder=Recorder(writer, feed.inband.domain.elements),
    )
    width = dict(MEMBERS)[member]
    values = report_values(RATED, WAY, seq=1, time_us=int(NOW * 1e6))
    for number, bits in enumerate((128, width + 1, width), 1):
        feed.raw("s4", values | {"seq": number, member: (1 << min(bits, 128)) - 1})
        feed.step()
        assert feed.inband.status()
    feed.raw("s4", values | {"seq": 9, "sport": 7})
    feed.step()
    counts, exporter = feed.inband.counts, feed.inband.exporter
    assert counts.reports + counts.malformed == 4 and exporter is not None
    assert counts.malformed >= (2 if width < 128 else 0)
    assert feed.inband.status()["flows"][0]["flow"].startswith("0.0.0.1:7 ")
    exporter.send_waiting(list[object]().append)
    assert writer.flush()
    writer.close()


def test_counts_beyond_all_reason_are_malformed() -> None:
    feed = Feed()
    feed.report(octets=1 << 63)
    feed.step()
    assert (feed.inband.counts.malformed, feed.inband.counts.reports) == (1, 0)


def test_a_hop_that_left_by_a_hosts_port_tells_no_links_delay() -> None:
    """Behind a gap, what comes next need not be a neighbour: least of all the last switch, which -1 would be."""
    feed = Feed()
    host, line = RATED.host("h1"), RATED.links_between("s1", "s2")[0]
    values = report_values(RATED, WAY, time_us=int(NOW * 1e6))
    values |= {"hops": 1, "flags": int(FlowFlag.HOPS_EXCEEDED)}
    values |= {"place1": 1 << 96 | line.end("s1").port << 80 | host.port << 64}
    feed.raw("s4", values)
    feed.raw("s4", values | {"seq": 2})  # the first would only tell the least
    found = feed.step().get(str(Endpoint("s1", host.port)))
    assert feed.inband.counts.absurd == feed.inband.counts.malformed == 0
    assert isinstance(found, PortSample) and isnan(found.link_delay_us)


def test_reports_of_ports_and_of_flows_number_ports_alike() -> None:
    """History keeps both by one list of elements."""
    for name in ("diamond", "abilene"):
        topology = load(name)
        elements = InbandTelemetry(topology, InbandConfig(), SCHEMA).domain.elements
        assert elements == Intake(topology, SCHEMA).elements and len(set(elements)) == len(elements)


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return repr(ours) == repr(theirs)


def test_late_and_doubled_reports_are_left_out_missing_ones_counted() -> None:
    feed = Feed()
    feed.report(seq=5, depths=(0, 7, 0))
    feed.report(seq=5, depths=(0, 70, 0))
    feed.report(seq=4, depths=(0, 71, 0))
    feed.report(seq=8, depths=(0, 3, 0))
    sample = feed.step()[port(RATED, "s2", "s4")]
    assert isinstance(sample, PortSample) and sample.queue_max_packets == 7
    counts = feed.inband.counts
    assert (counts.reports, counts.stale, counts.missing) == (4, 2, 2)
    feed.report(seq=1, time_us=1000)  # the sink began again, and so did its numbers
    feed.step()
    assert feed.inband.counts.stale == 2


def test_a_rate_that_no_line_carries_is_not_believed() -> None:
    feed = Feed()
    feed.report(packets=1, octets=1000)
    feed.report(packets=2, octets=10_000_000, time_us=int(NOW * 1e6) + 100_000)
    sample = feed.step()[port(RATED, "s2", "s4")]
    assert isinstance(sample, PortSample) and sample.watched_bps == 0
    assert feed.inband.counts.absurd == 1


def test_flows_that_ended_carry_nothing() -> None:
    feed = Feed()
    feed.report()
    assert feed.step()
    assert feed.step(1.0) == {}


def test_more_flows_than_there_is_room_for() -> None:
    feed = Feed()
    for number in range(6000):
        feed.report(seq=1, sport=number)
    feed.step()
    assert len(feed.inband.flows.keys) <= feed.inband.flows.size
    assert feed.inband.counts.reports == 6000
    feed.report(seq=1, depths=(0, 9, 0), sport=70)
    assert feed.step()


def loaded(feed: Feed, seconds: float, bps: float, polls: Any = None) -> list[PortSample]:
    """A flow of so much for a while, polled by ``polls(now)``; what the models get of the port from s2 to s4."""
    name = port(RATED, "s2", "s4")
    got = []
    end = feed.now + seconds
    while feed.now < end - 1e-9:
        feed.octets = getattr(feed, "octets", 0) + round(bps * INTERVAL / 8 / 10)  # type: ignore[attr-defined]
        feed.report(octets=feed.octets, packets=feed.seq)  # type: ignore[attr-defined]
        sample = feed.step().get(name)
        if isinstance(sample, PortSample):
            got.append(sample)
        if polls is not None and (read := polls(feed.now)) is not None:
            joined = feed.inband.joined(PortSample(name, feed.now, tx_bytes_total=read, rate_bps=10e6), feed.now)
            got.append(joined)
    return got


def rates(samples: list[PortSample]) -> list[float]:
    """Bits per second between the byte counters that the models get."""
    told = [(sample.time_s, sample.tx_bytes_total) for sample in samples if not isnan(sample.tx_bytes_total)]
    return [8 * (b - a) / (t - s) for (s, a), (t, b) in pairwise(told) if t > s]


def test_reports_stand_in_for_a_port_that_nobody_polls() -> None:
    found = rates(loaded(Feed(), 1.0, 4e6))
    assert len(found) >= 15 and found[-1] == pytest.approx(4e6, rel=0.02)


def test_polling_goes_before_reports() -> None:
    """Read each 50 ms, a counter is the models' own: reports add nothing to it."""
    feed = Feed()
    found = loaded(feed, 1.0, 4e6, lambda now: (now - NOW) * 1e6)
    assert not feed.inband.standin.standing[feed.inband.domain.row[port(RATED, "s2", "s4")]]
    assert rates(found)[-1] == pytest.approx(8e6, rel=0.01)


def test_a_slow_reading_is_filled_up_and_what_nobody_watches_goes_on() -> None:
    """4 Mbit/s are watched, 6 flow: the other two are what the readings, a second apart, say beyond the reports."""
    feed = Feed()
    turns = {"next": NOW + 1.0}

    def read(now: float) -> float | None:
        if now < turns["next"]:
            return None
        turns["next"] += 1.0
        return (now - NOW) * 6e6 / 8

    found = loaded(feed, 4.0, 4e6, read)
    assert rates(found)[-1] == pytest.approx(6e6, rel=0.05)
    assert max(rates(found)) < 7e6 and min(rates(found)[2:]) > 3e6, "no jump where the sources meet"
    # Polling becomes fast again: the counter goes on from where ours ended.
    more = loaded(feed, 1.0, 4e6, lambda now: (now - NOW) * 6e6 / 8)
    assert not feed.inband.standin.standing[feed.inband.domain.row[port(RATED, "s2", "s4")]]
    assert min(rates(found + more)[2:]) > 0 and rates(more)[-1] == pytest.approx(6e6, rel=0.02)


def test_port_reports_that_tell_traffic_go_before() -> None:
    feed, name = Feed(), port(RATED, "s2", "s4")
    row = feed.inband.domain.row[name]
    rows = np.array([row])

    def told(bytes_: float) -> None:
        feed.inband.told(Columns(rows, np.array([feed.now]), {"tx_bytes_total": np.array([bytes_])}), feed.now)

    told(1000.0)
    assert all(isnan(sample.tx_bytes_total) for sample in loaded(feed, 1.0, 4e6))
    told(np.nan)
    assert all(isnan(sample.tx_bytes_total) for sample in loaded(feed, 1.0, 4e6))
    assert rates(loaded(feed, 15.0, 4e6))[-1] == pytest.approx(4e6, rel=0.02), "they fell silent"


def test_the_larger_maximum_counts() -> None:
    feed, name = Feed(), port(RATED, "s2", "s4")
    feed.inband.joined(PortSample(name, feed.now, queue_max_packets=20), feed.now)
    feed.report(depths=(0, 12, 0))
    smaller = feed.step()[name]
    feed.report(depths=(0, 40, 0))
    larger = feed.step()[name]
    assert isinstance(smaller, PortSample) and isnan(smaller.queue_max_packets)
    assert isinstance(larger, PortSample) and larger.queue_max_packets == 40


def test_reports_are_kept_a_row_per_switch_and_intervals_as_samples(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    feed = Feed()
    feed.inband = InbandTelemetry(RATED, InbandConfig(), SCHEMA, recorder=Recorder(writer, feed.inband.domain.elements))
    feed.report(depths=(4, 0, 1), latencies=(120, -1, 80))
    feed.step()
    assert writer.flush()
    rows = Reader(tmp_path).rows(Query("flows"))
    found = sorted((row["hop"], row["element"], row["latency_us"], row["queue_packets"]) for row in rows)
    ends = [port(RATED, "s1", "s2"), port(RATED, "s2", "s4"), str(Endpoint("s4", RATED.host("h4").port))]
    assert found == [(0.0, ends[0], 120.0, 4.0), (1.0, ends[1], None, 0.0), (2.0, ends[2], 80.0, 1.0)]
    assert {row["flow"] for row in rows} == {"0.0.0.1:5000>0.0.0.2:5001/17"}
    told = {row["element"]: row for row in Reader(tmp_path).rows(Query("ports"))}
    assert told[ends[0]]["queue_max_packets"] == 4 and told[ends[0]]["source"] == "inband"
    assert told[ends[0]]["tx_bytes_total"] is None, "a counter that stands in is for the models only"


def test_a_ramp_seen_in_band_alone_is_foreseen() -> None:
    """A line that fills up in three seconds, told by reports and by nothing else."""
    feed = Feed()
    analyzer = HealthAnalyzer(RATED)
    filling = {port(RATED, "s1", "s2"), port(RATED, "s2", "s4")}
    octets, alarm_s = 0, None
    while feed.now < NOW + 4.0:
        share = min(1.0, max(0.0, (feed.now - NOW - 1.0) / 3.0)) * 1.2 + 0.1
        octets += round(share * 10e6 * INTERVAL / 8 / 10)
        feed.report(octets=octets, packets=feed.seq)
        for sample in feed.step().values():
            analyzer.observe(sample)
        if share > 1.0:
            break
        alarms = [one for one in analyzer.alarms(feed.now) if one.mode is Mode.CONGESTION]
        if alarms and alarm_s is None:
            alarm_s = feed.now
            assert {one.element for one in alarms} <= filling
    assert alarm_s is not None and alarm_s < NOW + 3.25 - 0.3, "before the line is full"
    assert analyzer.notes() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=18), min_size=30, max_size=40), max_size=4), st.floats(0, 2))
def test_any_bytes(lists: list[list[bytes]], wait: float) -> None:
    from finsy.proto import p4r

    feed = Feed()
    digest = p4r.DigestList()
    for values in lists:
        data = digest.data.add()
        for value in values:
            data.struct.members.add().bitstring = value
    feed.inband.on_digest("s4", digest)
    feed.report(depths=(0, 5, 0))
    found = feed.step(INTERVAL + wait)[port(RATED, "s2", "s4")]
    assert isinstance(found, PortSample) and found.queue_max_packets == 5
    assert feed.inband.counts.malformed + feed.inband.counts.reports == len(lists) + 1
