"""Random telemetry through the embedded switch and BMv2: the same packets, reports and counters."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.differential.test_random import Pair, pair
from tests.p4 import frames as f
from tests.p4 import telemetry as t
from tests.p4.target import Frames, Target, nexthop

__all__ = ["pair"]
NODE = 9
IN, CORE, EDGE = 1, 2, 3

word = st.sampled_from([0, 1, 0xFFFF, 0x10000, t.ONES]) | st.integers(0, t.ONES)
full = st.tuples(st.just(t.FULL), st.just(8), st.integers(0, 12).flatmap(lambda n: words(8 * n)))
other = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 31), st.integers(0, 70).flatmap(lambda n: words(n)))


def words(count: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(word, min_size=count, max_size=count).map(tuple)


@st.composite
def arrivals(draw: st.DrawFn) -> bytes:
    bits, size, content = draw(full | other)
    stack = t.Stack(
        instructions=bits,
        hop_words=size,
        words=content,
        remaining=draw(st.sampled_from([0, 1, 8, 255])),
        dscp=draw(st.integers(0, 63)),
        discard=draw(st.integers(0, 1)),
        exceeded=draw(st.integers(0, 1)),
        mtu=draw(st.integers(0, 1)),
        domain=draw(st.sampled_from([0, 7])),
        ds_instructions=draw(st.sampled_from([0, 1])),
        shim_type=draw(st.sampled_from([1, 1, 1, 2, 3])),
        version=draw(st.sampled_from([2, 2, 2, 1])),
        length=draw(st.none() | st.none() | st.integers(0, 255)),
    )
    protocol = draw(st.sampled_from([6, 17, 17, 132]))
    options = draw(st.sampled_from([b"", bytes(4), bytes(40)])) if protocol == 6 else b""
    frame = t.packet(
        draw(st.binary(max_size=20)),
        protocol=protocol if protocol != 132 else 17,
        family=draw(st.sampled_from([4, 4, 6])),
        dscp=draw(st.sampled_from([t.DSCP, t.DSCP, t.DSCP, 3, 0])),
        options=options,
        telemetry=draw(st.sampled_from([stack.pack(), stack.pack(), b""])),
        checksum=draw(st.booleans()) if protocol == 17 else True,
        dst=None,
        sport=draw(st.sampled_from([1, 2])),
        labels=draw(st.sampled_from([b"", b"", f.mpls(77)])),
    )
    if draw(st.integers(0, 5)) == 0:
        frame = frame[: draw(st.integers(14, len(frame)))]
    return frame


def configure(target: Target) -> None:
    target.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
    target.insert("route_ipv6", {"dst": ("fd00:1::", 64)}, "set_group", {"group_id": 1})
    target.insert("label", {"label": 77}, "label_pop")


def lasting(report: Mapping[str, int]) -> dict[str, int]:
    """A report without what is a matter of each switch's clock; hops that mean nothing are left out."""
    hops = report["hops"]
    out = {}
    for name, value in report.items():
        if name in ("time", "sink_time", "sink_latency"):
            continue
        if name.startswith(("place", "times")) and int(name[5:]) > hops:
            continue
        out[name] = value
    return out


def test_sink(pair: Pair) -> None:
    """Everything that goes to a host is the same, byte by byte, and so is what is told about it."""
    for target in pair:
        configure(target)
        target.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", nexthop(EDGE))
        t.ports(target, NODE, core=(IN, CORE), edge=(EDGE,))
        t.watch(target, latency=1 << 31, queue=1 << 23, priority=0)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(arrivals(), min_size=1, max_size=8))
    def run(sequence: list[bytes]) -> None:
        engine, bmv2 = pair
        for data in sequence:
            engine.wait(1000)
            assert engine.send(IN, data) == bmv2.send(IN, data), data.hex()

    run()
    engine, bmv2 = pair
    for reason in range(1, 16):
        assert engine.counter("drops", reason) == bmv2.counter("drops", reason)
    ours, theirs = engine.flow_reports(), bmv2.flow_reports()
    assert len(ours) > 10
    assert [lasting(one) for one in ours] == [lasting(one) for one in theirs]


def test_transit(pair: Pair) -> None:
    """Towards a switch the times differ; everything else is the same, and the checksums are right or wrong alike."""
    for target in pair:
        configure(target)
        target.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", nexthop(CORE))
        t.ports(target, NODE, core=(IN, CORE), edge=(EDGE,), mtu=400)

    def timeless(frames: Frames, size: int) -> list[tuple[int, bytes, bool]]:
        # A frame that has grown carries our times: its length and its checksum's being right have to do.
        out = []
        for port, data in frames:
            out.append((port, data if len(data) <= size else b"", checksum_right(data)))
        return out

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(arrivals(), min_size=1, max_size=8))
    def run(sequence: list[bytes]) -> None:
        engine, bmv2 = pair
        for data in sequence:
            engine.wait(1000)
            ours, theirs = engine.send(IN, data), bmv2.send(IN, data)
            assert [len(one) for _, one in ours] == [len(one) for _, one in theirs], data.hex()
            assert timeless(ours, len(data)) == timeless(theirs, len(data)), data.hex()

    run()


def checksum_right(frame: bytes) -> bool:
    """Of TCP or UDP over plain IP; False for anything else."""
    ip = frame[14:]
    if len(ip) < 20 or frame[12:14] not in (b"\x08\x00", b"\x86\xdd") or (ip[0] >> 4 == 6 and len(ip) < 40):
        return False
    return t.l4_checksum(ip) == 0
