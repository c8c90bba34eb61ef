"""The embedded switch and BMv2 get the same random tables and packets, and must send the same frames.

BMv2 is the reference of the P4 language on v1model; where both agree on packets nobody thought of, the embedded
switch means by the program what p4c meant. Heartbeats' own time stamps are masked: the clocks differ.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.differential.cases import Case, configure, masked
from tests.p4 import frames as f
from tests.p4.bmv2 import Bmv2
from tests.p4.target import nexthop

if TYPE_CHECKING:
    from tests.p4.embedded import Embedded

STEP_US = 10_000  # BMv2's clock moves between packets; so does the embedded switch's
PORTS = (1, 2, 3, 4)

Pair = tuple["Embedded", Bmv2]

# SHADOWPLANE_EXAMPLES=50 looks fifty times as long.
FACTOR = int(os.environ.get("SHADOWPLANE_EXAMPLES", "1"))

SETTINGS = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


# -- packets ---------------------------------------------------------------------------------------------------------

addresses4 = st.sampled_from(["10.0.0.1", "10.0.1.1", "10.0.1.129", "10.0.2.9", "10.0.8.1", "224.0.0.1", "0.0.0.0"])
addresses6 = st.sampled_from(["fd00:1::1", "fd00:1::8000:0:0:1", "fd00:8::1", "ff02::1", "::"])
ports = st.one_of(st.sampled_from([0, 53, 1000, 65535]), st.integers(0, 65535))
ttls = st.sampled_from([0, 1, 2, 64, 255])
bodies = st.binary(max_size=40)
dscps = st.sampled_from([0, 10, 46, 63])
labels = st.one_of(
    st.just(b""),
    st.builds(f.mpls, st.sampled_from([77, 78, 79, 1042]), ttl=ttls, bottom=st.integers(0, 1)),
)


@st.composite
def ipv4_frames(draw: st.DrawFn) -> bytes:
    body = draw(bodies)
    options = draw(st.sampled_from([b"", b"", b"", b"\x94\x04\0\0"]))
    head = f.ipv4(
        draw(addresses4),
        draw(addresses4),
        ttl=draw(ttls),
        protocol=draw(st.sampled_from([1, 6, 17, 132, 255])),
        dscp=draw(dscps),
        ecn=draw(st.integers(0, 3)),
        payload=len(body),
        options=options,
        fragment_offset=draw(st.sampled_from([0, 0, 0, 5])),
        bad_checksum=draw(st.sampled_from([False, False, False, True])),
    )
    stack = draw(labels)
    ether_type = f.ETHERTYPE_MPLS if stack else f.ETHERTYPE_IPV4
    return f.ethernet(ether_type) + stack + head + f.udp(draw(ports), draw(ports))[: draw(st.integers(4, 8))] + body


@st.composite
def ipv6_frames(draw: st.DrawFn) -> bytes:
    body = draw(bodies)
    head = f.ipv6(
        draw(addresses6),
        draw(addresses6),
        hop_limit=draw(ttls),
        next_header=draw(st.sampled_from([0, 6, 17, 58, 132])),
        dscp=draw(dscps),
        flow_label=draw(st.integers(0, (1 << 20) - 1)),
        payload=len(body),
    )
    stack = draw(labels)
    ether_type = f.ETHERTYPE_MPLS if stack else f.ETHERTYPE_IPV6
    return f.ethernet(ether_type) + stack + head + f.udp(draw(ports), draw(ports)) + body


heartbeats = st.builds(
    f.heartbeat,
    st.integers(0, 3),
    port=st.integers(0, 65535),
    seq=st.integers(0, 20),
    version=st.sampled_from([1, 1, 1, 0, 2]),
)
noise = st.binary(min_size=15, max_size=80)
frames = st.one_of(ipv4_frames(), ipv6_frames(), heartbeats, noise)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A frame with a few bytes changed, or its end missing. Raw sockets send no less than 15 bytes."""
    data = bytearray(draw(frames))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(15, len(data)))])


generator_orders = st.builds(
    lambda opcode, index, cut: f.command(opcode, index, 1, 7)[:cut],
    st.integers(0, 127),
    st.sampled_from([1, 2, 3, 4, 511, 512, 16384, 0xFFFFFFFF]),
    st.integers(15, 18),
)
arrivals = st.one_of(
    st.tuples(st.sampled_from(PORTS), st.one_of(frames, damaged())),
    st.tuples(st.just(f.PKTGEN_PORT), generator_orders),
    st.tuples(
        st.just(f.CPU_PORT),
        st.builds(f.command, st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 2, 3, 16384]), st.integers(0, 1)),
    ),
)


# -- tables ----------------------------------------------------------------------------------------------------------


def ternary(width: int, values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    full = (1 << width) - 1
    masks = st.one_of(st.just(full), st.integers(1, full), st.integers(1, width).map(lambda n: full >> n << n or full))
    return st.tuples(values, masks)


def bounds(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    """Ranges; none from 0 to whole bytes of ones, which BMv2 takes for a range over everything and refuses."""
    ends = st.one_of(st.integers(low, high), st.sampled_from([low, high, 53, 1000]))
    ordered = st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))
    return ordered.filter(lambda pair: pair not in ((0, 0xFF), (0, 0xFFFF)))


as_number = addresses4.map(lambda text: int(ipaddress.IPv4Address(text)))
as_number6 = addresses6.map(lambda text: int(ipaddress.IPv6Address(text)))

acl_matches = st.fixed_dictionaries(
    {},
    optional={
        "ingress_port": ternary(9, st.sampled_from(PORTS)),
        "ether_type": ternary(16, st.sampled_from([0x0800, 0x86DD, 0x8847])),
        "ipv4_src": ternary(32, as_number),
        "ipv4_dst": ternary(32, as_number),
        "ipv6_dst": ternary(128, as_number6),
        "ip_proto": ternary(8, st.sampled_from([6, 17, 58])),
        "l4_sport": bounds(0, 65535),
        "l4_dport": bounds(0, 65535),
        "dscp": ternary(6, dscps),
    },
)
acl_rules = st.lists(st.tuples(acl_matches, st.sampled_from(["acl_permit", "acl_deny", "acl_punt"])), max_size=8).map(
    # Equal priorities leave the choice to the target: make them differ.
    lambda rules: [
        {"table": "acl", "match": match, "action": action, "priority": priority}
        for priority, (match, action) in enumerate(rules, 1)
    ]
)


def prefixes(table: str, width: int, values: st.SearchStrategy[int]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Distinct prefixes over few addresses, so that they nest."""

    def entry(pair: tuple[int, int], group: int) -> dict[str, Any]:
        if group == 0:
            return {"table": table, "match": {"dst": pair}, "action": "route_drop"}
        return {"table": table, "match": {"dst": pair}, "action": "set_group", "params": {"group_id": group}}

    def cut(pair: tuple[int, int]) -> tuple[int, int]:
        value, length = pair
        return value >> (width - length) << (width - length), length

    pairs = st.tuples(values, st.integers(0, width)).map(cut)
    return st.dictionaries(pairs, st.integers(0, 4), max_size=8).map(
        lambda chosen: [entry(pair, group) for pair, group in chosen.items()]
    )


def fixed() -> Case:
    """Something behind every branch of the program."""
    entries: list[dict[str, Any]] = [
        {"table": "route_ipv4", "match": {"dst": ("10.0.1.0", 24)}, "action": "set_group", "params": {"group_id": 1}},
        {"table": "route_ipv4", "match": {"dst": ("10.0.1.128", 25)}, "action": "set_group", "params": {"group_id": 2}},
        {"table": "route_ipv4", "match": {"dst": ("10.0.2.0", 24)}, "action": "set_group", "params": {"group_id": 3}},
        {"table": "route_ipv4", "match": {"dst": ("0.0.0.0", 8)}, "action": "route_drop"},
        {
            "table": "route_ipv4",
            "match": {"dst": ("10.0.8.0", 24)},
            "action": "set_balance",
            "params": {"balance_id": 4},
        },
        {"table": "route_ipv6", "match": {"dst": ("fd00:1::", 64)}, "action": "set_group", "params": {"group_id": 1}},
        {
            "table": "route_ipv6",
            "match": {"dst": ("fd00:8::", 64)},
            "action": "set_balance",
            "params": {"balance_id": 4},
        },
        {"table": "label", "match": {"label": 77}, "action": "label_forward", "params": nexthop(4)},
        {"table": "label", "match": {"label": 78}, "action": "label_pop"},
        {"table": "label", "match": {"label": 79}, "action": "label_forward", "params": nexthop(3)},
        {"table": "acl", "match": {"l4_dport": (53, 53)}, "action": "acl_deny", "priority": 3},
        {"table": "acl", "match": {"dscp": 63}, "action": "acl_punt", "priority": 4},
        {
            "table": "classify",
            "match": {"dscp": 46},
            "action": "set_flow",
            "params": {"flow_id": 1, "priority": 6, "sample": 1},
            "priority": 1,
        },
        {"table": "primary_nexthop", "match": {"group_id": 1}, "action": "set_nexthop", "params": nexthop(2)},
        {"table": "primary_nexthop", "match": {"group_id": 2}, "action": "set_nexthop", "params": nexthop(3)},
        {"table": "primary_nexthop", "match": {"group_id": 3}, "action": "set_nexthop", "params": nexthop(4)},
        {
            "table": "shadow_nexthop",
            "match": {"group_id": 1},
            "action": "set_nexthop_label",
            "params": nexthop(4) | {"label": 1042},
        },
        {"table": "shadow_nexthop", "match": {"group_id": 2}, "action": "set_nexthop", "params": nexthop(1)},
        # Port 3 has heartbeats; an interval of 1 us makes it dead between them.
        {
            "table": "liveness_config",
            "match": {"port": 3},
            "action": "monitor",
            "params": {"dead_interval": 1, "report_interval": 0, "rtt_delta": 0},
        },
        {
            "table": "liveness_config",
            "match": {"port": 2},
            "action": "monitor",
            "params": {"dead_interval": 0, "report_interval": 1 << 40, "rtt_delta": 1 << 31},
        },
    ]
    # Equal weights: P4Runtime leaves it open which hash values the copies of a heavier member get.
    return Case("fixed", entries, {4: {1: 1, 2: 1, 3: 1}})


pytestmark = pytest.mark.timeout(300 * FACTOR)


@pytest.fixture
def pair(engine: Embedded, running_bmv2: Bmv2) -> Iterator[Pair]:
    running_bmv2.reset()
    yield engine, running_bmv2


def same(pair: Pair, port: int, data: bytes) -> None:
    engine, bmv2 = pair
    engine.wait(STEP_US)
    ours, theirs = masked(engine.send(port, data)), masked(bmv2.send(port, data))
    assert ours == theirs, f"port {port}: {data.hex()}"


def counters(pair: Pair) -> None:
    """Counters of both, but for what BMv2's sentinel adds on its own port."""
    engine, bmv2 = pair
    for name, cells in (
        ("drops", range(1, 16)),
        ("group_tx", range(2, 8)),
        ("group_fallback", range(1, 4)),
        ("label_dead_port", PORTS),
    ):
        for index in cells:
            ours, theirs = engine.counter(name, index), bmv2.counter(name, index)
            assert ours == theirs, f"{name}[{index}]"
    for name in ("port_rx", "port_tx"):
        for index in PORTS:
            assert engine.counter(name, index) == bmv2.counter(name, index), f"{name}[{index}]"


def test_random_packets(pair: Pair) -> None:
    for target in pair:
        configure(target, fixed())

    @settings(SETTINGS, max_examples=120 * FACTOR)
    @given(st.lists(arrivals, min_size=1, max_size=12))
    def run(sequence: list[tuple[int, bytes]]) -> None:
        for port, data in sequence:
            same(pair, port, data)

    run()
    counters(pair)
    ours, theirs = pair[0].digests(), pair[1].digests()
    stable = ("port", "seq", "event", "lost", "errors")
    assert [[one[key] for key in stable] for one in ours] == [[one[key] for key in stable] for one in theirs]


def test_random_tables(pair: Pair) -> None:
    engine, bmv2 = pair
    nexthops = [
        {"table": "primary_nexthop", "match": {"group_id": group}, "action": "set_nexthop", "params": nexthop(group)}
        for group in PORTS
    ]
    for target in pair:
        configure(target, Case("next hops", nexthops))

    @settings(SETTINGS, max_examples=40 * FACTOR)
    @given(
        acl_rules,
        prefixes("route_ipv4", 32, as_number),
        prefixes("route_ipv6", 128, as_number6),
        st.lists(st.tuples(st.sampled_from(PORTS), st.one_of(ipv4_frames(), ipv6_frames())), min_size=5, max_size=20),
    )
    def run(
        acl: list[dict[str, Any]],
        routes4: list[dict[str, Any]],
        routes6: list[dict[str, Any]],
        sequence: list[tuple[int, bytes]],
    ) -> None:
        entries = acl + routes4 + routes6
        for target in pair:
            configure(target, Case("random", entries))
        try:
            for port, data in sequence:
                same(pair, port, data)
            for entry in acl:
                ours, theirs = (
                    one.direct_counter("acl", entry["match"], priority=entry["priority"]) for one in (engine, bmv2)
                )
                assert ours == theirs
        finally:
            for target in pair:
                for entry in entries:
                    target.delete(entry["table"], entry["match"], priority=entry.get("priority", 0))

    run()
    counters(pair)
