"""Flow reports of the sink: what they say, and when one is made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.p4 import frames as f
from tests.p4 import telemetry as t
from tests.p4.embedded import Embedded
from tests.p4.scenario import IN, PRIMARY
from tests.p4.target import Target

NODE = 44
PERIODIC, PATH, LATENCY, QUEUE = range(4)
E, M, MORE, OPAQUE, IPV6 = 1, 2, 4, 8, 16


def configure(switch: Target, **limits: int) -> None:
    t.ports(switch, NODE, core=(IN,), edge=(PRIMARY,))
    params = {"flow_id": 5, "priority": 3, "sample": 0}
    switch.insert("classify", {}, "set_flow", params, priority=1)
    t.watch(switch, **limits)


def carry(*hops: Any, **changes: Any) -> bytes:
    """A packet with these hops, the latest first."""
    header = {key: changes.pop(key) for key in ("exceeded", "mtu") if key in changes}
    stack = t.Stack(words=tuple(word for hop in hops for word in hop), **header)
    return t.packet(dscp=t.DSCP, telemetry=stack.pack(), **changes)


def place(node: int, ports: tuple[int, int], latency: int, queue: int) -> int:
    return node << 96 | ports[0] << 80 | ports[1] << 64 | latency << 32 | queue


@pytest.mark.parametrize(("family", "protocol"), [(4, 17), (6, 6)], ids=["udp4", "tcp6"])
def test_contents(routed: Target, family: int, protocol: int) -> None:
    configure(routed)
    one, two = t.hop(1, (9, 2), 30, 3 << 24 | 4, (1000, 1030)), t.hop(2, (1, 2), 5, 3 << 24, (2000, 2005))
    assert len(routed.send(IN, carry(two, one, family=family, protocol=protocol))) == 1
    (report,) = routed.flow_reports()
    assert (report["flow_id"], report["priority"], report["seq"], report["event"]) == (5, 3, 1, PERIODIC)
    assert (report["hops"], report["protocol"], report["sport"], report["dport"]) == (2, protocol, 1000, 2000)
    if family == 4:
        assert report["flags"] == 0
        assert (report["ipv4_src"], report["ipv4_dst"]) == (t.address("10.0.0.1"), t.address("10.0.1.2"))
        assert report["ipv6_src"] == report["ipv6_dst"] == 0
    else:
        assert report["flags"] == IPV6
        assert (report["ipv6_src"], report["ipv6_dst"]) == (t.address("fd00::1"), t.address("fd00:1::2"))
        assert report["ipv4_src"] == report["ipv4_dst"] == 0
    assert report["place1"] == place(2, (1, 2), 5, 3 << 24)
    assert report["times1"] == 2000 << 64 | 2005
    assert report["place2"] == place(1, (9, 2), 30, 3 << 24 | 4)
    assert report["times2"] == 1000 << 64 | 1030
    assert (report["sink_node"], report["sink_ingress_port"], report["sink_egress_port"]) == (NODE, IN, PRIMARY)
    assert report["sink_time"] == report["sink_latency"] == report["sink_queue"] == 0
    assert report["time"] > 0


def test_packets_and_bytes_are_counted_without_the_telemetry(routed: Target) -> None:
    """Every packet with telemetry counts, as long as it was before the source."""
    configure(routed, min_interval=0, max_interval=0)
    plain = len(t.packet())
    one, two = t.hop(1, (9, 2), 30, 0, (1000, 1030)), t.hop(2, (1, 2), 5, 0, (2000, 2005))
    for packet in (carry(one), carry(two, one), carry(one), carry(two, one)):
        routed.send(IN, packet)
    reports = routed.flow_reports()
    assert [(report["packets"], report["bytes"]) for report in reports] == [(n, n * plain) for n in (1, 2, 3, 4)]


def test_eight_hops_and_what_lies_beyond(routed: Target) -> None:
    configure(routed)
    hops = [t.hop(n, (n, n + 1), n) for n in range(1, 12)]
    for count, flags in ((8, 0), (9, MORE)):
        routed.send(IN, carry(*hops[:count]))
        (report,) = routed.flow_reports()
        assert (report["hops"], report["flags"]) == (8, flags)
        assert [report[f"place{n}"] >> 96 for n in range(1, 9)] == list(range(1, 9))
    routed.send(IN, carry(*hops))
    assert routed.flow_reports() == []  # a change beyond the eighth hop is not seen


def test_flags(routed: Target) -> None:
    configure(routed)
    routed.send(IN, carry(t.hop(1, (1, 2)), exceeded=1))
    routed.send(IN, carry(t.hop(1, (1, 2)), mtu=1))
    opaque = t.Stack(instructions=0x8000, hop_words=1, words=(7, 8))
    routed.send(IN, t.packet(dscp=t.DSCP, telemetry=opaque.pack()))
    reports = routed.flow_reports()
    assert [(one["flags"], one["event"], one["hops"]) for one in reports] == [
        (E, PERIODIC, 1),
        (M, PATH, 1),
        (OPAQUE, PATH, 0),
    ]


def events(switch: Target, *frames: bytes) -> list[int | None]:
    """Event of the report that each frame causes, None where it causes none."""
    out: list[int | None] = []
    for frame in frames:
        assert len(switch.send(IN, frame)) == 1
        out += [one["event"] for one in switch.flow_reports()] or [None]
    return out


class TestFilter:
    def test_silent_while_nothing_changes(self, routed: Target) -> None:
        configure(routed)
        same = carry(t.hop(1, (1, 2), 10, 1))
        assert events(routed, same, same, same) == [PERIODIC, None, None]

    def test_path(self, routed: Target) -> None:
        configure(routed)
        ways = [((1, 2), (2, 3)), ((1, 2), (4, 3)), ((1, 5), (4, 3))]
        frames = [carry(t.hop(7, a), t.hop(8, b)) for a, b in ways]
        other = carry(t.hop(9, ways[2][0]), t.hop(8, ways[2][1]))
        shorter = carry(t.hop(9, ways[2][0]))
        assert events(routed, *frames, frames[2], other, shorter) == [PERIODIC, PATH, PATH, None, PATH, PATH]

    def test_latency_up_still_up_and_down(self, routed: Target) -> None:
        limit = 10_000_000  # BMv2's own latency is real, and counts
        configure(routed, latency=limit)
        low, high = (carry(t.hop(2, (1, 2)), t.hop(1, (1, 2), value)) for value in (limit, limit + 1))
        assert events(routed, low, high, high, low, low) == [PERIODIC, LATENCY, LATENCY, LATENCY, None]

    def test_queue_up_still_up_and_down(self, routed: Target) -> None:
        configure(routed, queue=32)
        low, high = carry(t.hop(1, (1, 2), 0, 3 << 24 | 32)), carry(t.hop(1, (1, 2), 0, 3 << 24 | 33))
        assert events(routed, low, high, high, low, low) == [PERIODIC, QUEUE, QUEUE, QUEUE, None]

    def test_values_that_a_hop_could_not_tell_cross_no_threshold(self, routed: Target) -> None:
        configure(routed, latency=10_000_000, queue=32)
        unknown = carry(t.hop(1, (1, 2), t.ONES, t.ONES))
        assert events(routed, unknown, unknown) == [PERIODIC, None]

    def test_flows_have_memories_of_their_own(self, routed: Target) -> None:
        configure(routed)
        frames = [carry(t.hop(1, (1, 2)), sport=1000 + n) for n in range(3)]
        assert events(routed, *frames, *frames) == [PERIODIC] * 3 + [None] * 3

    def test_priority_without_a_rule_reports_nothing(self, routed: Target) -> None:
        t.ports(routed, NODE, core=(IN,), edge=(PRIMARY,))
        t.watch(routed, priority=2)
        assert events(routed, carry(t.hop(1, (1, 2)))) == [None]  # unclassified: priority 0

    def test_interval_between_reports(self, engine: Embedded) -> None:
        """Time is the test's own: the largest silent interval, and the smallest between two reports."""
        engine.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        engine.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", {"port": PRIMARY, "src_mac": 1, "dst_mac": 2})
        configure(engine, min_interval=1000, max_interval=5000)
        one, two = carry(t.hop(1, (1, 2))), carry(t.hop(1, (1, 3)))
        assert events(engine, one) == [PERIODIC]
        engine.wait(999)
        assert events(engine, two) == [None]  # too early, but not forgotten
        engine.wait(1)
        assert events(engine, two) == [PATH]
        engine.wait(4999)
        assert events(engine, two) == [None]
        engine.wait(1)
        assert events(engine, two, two) == [PERIODIC, None]
        engine.now_us -= 100_000  # a clock that was set back silences nobody
        assert events(engine, two) == [PERIODIC]

    def test_flood_is_bounded(self, engine: Embedded) -> None:
        """Above the threshold for a second at 10,000 packets/s: a report each min_interval, no more."""
        engine.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        engine.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", {"port": PRIMARY, "src_mac": 1, "dst_mac": 2})
        configure(engine, latency=10, min_interval=10_000, max_interval=100_000)
        high = carry(t.hop(1, (1, 2), 11))
        for _ in range(10_000):
            engine.send(IN, high)
            engine.wait(100)
        reports = engine.flow_reports()
        assert len(reports) == 100
        assert [one["seq"] for one in reports] == list(range(1, 101))


class TestSinksOwnHop:
    def test_told_with_the_next_packet(self, engine: Embedded) -> None:
        engine.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        engine.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", {"port": PRIMARY, "src_mac": 1, "dst_mac": 2})
        configure(engine, queue=32)
        frame = carry(t.hop(1, (1, 2)))
        engine.depths[PRIMARY] = 40
        first = engine.now_us
        assert events(engine, frame) == [PERIODIC]
        engine.depths[PRIMARY] = 0
        engine.wait(500)
        assert len(engine.send(IN, frame)) == 1
        (report,) = engine.flow_reports()
        assert (report["event"], report["sink_time"], report["sink_queue"]) == (QUEUE, first, 3 << 24 | 40)

    def test_noted_by_every_switch(self, routed: Target) -> None:
        configure(routed)
        routed.send(IN, carry(t.hop(1, (1, 2))))
        (first,) = routed.flow_reports()
        routed.send(IN, carry(t.hop(2, (1, 2))))
        (second,) = routed.flow_reports()
        assert (second["event"], second["seq"]) == (PATH, 2)
        assert second["sink_time"] == first["time"]
        assert second["sink_queue"] == 3 << 24


def test_reports_and_port_reports_do_not_mix(routed: Target) -> None:
    configure(routed)
    monitor = {"dead_interval": 0, "report_interval": 0, "rtt_delta": 0}
    routed.insert("liveness_config", {"port": IN}, "monitor", monitor)
    routed.send(IN, f.heartbeat(f.REQUEST, port=IN))
    routed.send(IN, carry(t.hop(1, (1, 2))))
    assert len(routed.digests()) == 1
    assert len(routed.flow_reports()) == 1
