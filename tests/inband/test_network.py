"""Telemetry from host to host through the real program, configured by the real functions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from control.errors import InputError
from control.inband.entries import (
    InbandSettings,
    ReportFilter,
    WatchedFlow,
    digest_entry,
    inband_entries,
    wildcards,
)
from control.inband.report import FlowEvent, FlowFlag
from tests.inband.inband_net import LINK_US, Diamond
from tests.p4 import telemetry as t
from topo.load import load

WAY = ["s1", "s2", "s4"]


def ip(name: str) -> str:
    return load("diamond").host(name).ipv4.split("/")[0]


def far_host() -> str:
    """A host on s4."""
    return load("diamond").hosts_of("s4")[0].name


@pytest.fixture
def diamond() -> Iterator[Diamond]:
    target = far_host()
    flows = (WatchedFlow(1, "h1", target, priority=5, protocol=17), WatchedFlow(2, "h2", target, priority=2, one_in=2))
    made = Diamond(flows, InbandSettings(filter=ReportFilter(min_interval_ms=0, max_interval_ms=500)))
    made.route(target, WAY)
    yield made
    made.close()


def frame(source: str = "h1", **changes: object) -> bytes:
    return t.packet(src=ip(source), dst=ip(far_host()), **changes)  # type: ignore[arg-type]


def test_way_ports_times_and_links(diamond: Diamond) -> None:
    diamond.switches["s2"].depths[diamond.topology.links_between("s2", "s4")[0].end("s2").port] = 7
    diamond.send("h1", frame())
    (report,) = diamond.reports("s4")
    assert report.path == (1, 2, 4)
    assert (report.src, report.dst, report.protocol) == (ip("h1"), ip(far_host()), 17)
    assert (report.flow_id, report.priority, report.event, report.complete) == (1, 5, FlowEvent.PERIODIC, True)
    first, second = report.hops
    topology = diamond.topology
    link = topology.links_between("s1", "s2")[0]
    assert (first.ingress_port, first.egress_port) == (topology.host("h1").port, link.end("s1").port)
    assert second.ingress_port == link.end("s2").port
    assert (first.queue_packets, second.queue_packets, second.queue_id) == (0, 7, 5)
    assert report.max_queue_packets == 7
    assert report.link_delays_us() == ((1, 2, LINK_US), (2, 4, LINK_US))


def test_hosts_see_plain_packets(diamond: Diamond) -> None:
    for protocol in (17, 6):
        for source in ("h1", "h2"):
            diamond.to_hosts.clear()
            diamond.send(source, frame(source, protocol=protocol, dscp=46))
            ((host, got),) = diamond.to_hosts
            assert host == far_host()
            sent = frame(source, protocol=protocol, dscp=46, ttl=61)
            assert got[14:] == sent[14:]
            assert got[:12] == bytes.fromhex("000000000002000000000001")


def test_sampled_where_the_flow_enters_only(diamond: Diamond) -> None:
    marked = []
    for _ in range(4):
        diamond.wire.clear()
        diamond.send("h2", frame("h2"))
        marked.append([t.find(data)[0] == t.DSCP for data in diamond.wire])
    assert marked == [[True, True], [False, False], [True, True], [False, False]]


def test_unwatched_traffic_is_left_alone(diamond: Diamond) -> None:
    diamond.send("h1", frame(protocol=6))  # flow 1 is UDP only
    assert all(t.find(data)[0] == 0 for data in diamond.wire)
    assert diamond.reports("s4") == []


def test_change_of_the_way_is_reported(diamond: Diamond) -> None:
    diamond.send("h1", frame())
    switch = diamond.switches["s1"]
    port = diamond.topology.links_between("s1", "s3")[0].end("s1").port
    back = diamond.topology.links_between("s3", "s4")[0].end("s3").port
    for name, out in (("s1", port), ("s3", back)):
        group = {"group_id": 60}
        diamond.switches[name].insert(
            "primary_nexthop", group, "set_nexthop", {"port": out, "src_mac": 1, "dst_mac": 2}
        )
    match = {"dst": (ip(far_host()), 32)}
    switch.delete("route_ipv4", match)
    for name in ("s1", "s3"):
        diamond.switches[name].insert("route_ipv4", match, "set_group", {"group_id": 60})
    diamond.send("h1", frame())
    first, second = diamond.reports("s4")
    assert (first.path, second.path, second.event) == ((1, 2, 4), (1, 3, 4), FlowEvent.PATH)


def test_hop_limit_reaches_the_report() -> None:
    target = far_host()
    made = Diamond((WatchedFlow(1, "h1", target),), InbandSettings(hop_limit=1))
    try:
        made.route(target, WAY)
        made.send("h1", frame())
        (report,) = made.reports("s4")
        assert (report.path, report.flags, report.complete) == ((1, 4), FlowFlag.HOPS_EXCEEDED, False)
    finally:
        made.close()


def test_entries_fit_the_program() -> None:
    from finsy import P4Schema

    from tests.p4.program import P4INFO_PATH

    schema = P4Schema(P4INFO_PATH)
    topology = load("abilene")
    names = [host.name for host in topology.hosts]
    flows = [WatchedFlow(n, a, b, n % 8, 17, n) for n, (a, b) in enumerate(pairwise(names), 1)]
    for entries in inband_entries(topology, flows).values():
        keys = {(entry.table_id, str(entry.match)) for entry in entries}
        assert len(keys) == len(entries), "duplicates"
        for entry in entries:
            entry.encode(schema)
    digest_entry().encode(schema)
    for entry in wildcards():
        entry.encode(schema)


@pytest.mark.parametrize(
    ("flows", "text"),
    [
        ((WatchedFlow(1, "h1", "h9"),), "no host 'h9'"),
        ((WatchedFlow(1, "h1", "h2"), WatchedFlow(1, "h2", "h1")), "same id"),
        ((WatchedFlow(0, "h1", "h2"),), "out of range"),
        ((WatchedFlow(1, "h1", "h2", priority=8),), "out of range"),
        ((WatchedFlow(1, "h1", "h2", dport=70000),), "out of range"),
    ],
)
def test_wrong_flows_are_named(flows: tuple[WatchedFlow, ...], text: str) -> None:
    with pytest.raises(InputError, match=text):
        inband_entries(load("diamond"), flows)


@pytest.mark.parametrize(
    "change", [{"dscp": 46}, {"dscp": 64}, {"instructions": 0x1FFFF}, {"hop_limit": 0}, {"mtu": 70000}]
)
def test_wrong_settings_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError):
        InbandSettings(**change)  # type: ignore[arg-type]
