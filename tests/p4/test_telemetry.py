"""In-band telemetry of the program: what the INT specification 2.1 asks of source, transit hop and sink."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from tests.p4 import frames as f
from tests.p4 import telemetry as t
from tests.p4.scenario import GROUP, IN, LABEL, PRIMARY, SHADOW, dropped, flip
from tests.p4.target import Target, dst_mac, src_mac

NODE = 0xA0B0C0D0
EDGE_OUT = (src_mac(PRIMARY), dst_mac(PRIMARY))
FAMILIES = [(4, 17), (6, 17), (4, 6), (6, 6)]
FAMILY_IDS = ["udp4", "udp6", "tcp4", "tcp6"]
TCP_OPTIONS = bytes.fromhex("0101080a0000000100000002")


def onward(**changes: Any) -> bytes:
    return t.packet(**({"via": EDGE_OUT, "ttl": 63} | changes))


def only(switch: Target, port: int, frame: bytes, out: int = PRIMARY) -> bytes:
    """The one frame that leaves, by ``out``."""
    sent = switch.send(port, frame)
    assert [number for number, _ in sent] == [out]
    return sent[0][1]


def right(frame: bytes, at: int = 14) -> None:
    """Lengths and checksums of an IP packet are right."""
    ip = frame[at:]
    if ip[0] >> 4 == 4:
        assert f.checksum(ip[:20]) == 0
        assert struct.unpack("!H", ip[2:4])[0] == len(ip)
        protocol, l4 = ip[9], ip[20:]
    else:
        assert struct.unpack("!H", ip[4:6])[0] == len(ip) - 40
        protocol, l4 = ip[6], ip[40:]
    if protocol == 17:
        assert struct.unpack("!H", l4[4:6])[0] == len(l4)
    assert t.l4_checksum(ip) == 0


class TestSource:
    @pytest.mark.parametrize(("family", "protocol"), FAMILIES, ids=FAMILY_IDS)
    def test_headers_and_own_metadata(self, routed: Target, family: int, protocol: int) -> None:
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        t.source(routed)
        options = TCP_OPTIONS if protocol == 6 else b""
        out = only(routed, IN, t.packet(family=family, protocol=protocol, dscp=10, options=options))
        right(out)
        dscp, rest = t.find(out, len(options))
        assert dscp == t.DSCP
        stack, body = t.parse(rest)
        assert body == b"shadowplane!"
        times = stack.words[4:]
        assert stack == t.Stack(
            dscp=10, remaining=7, words=t.hop(NODE, (IN, PRIMARY), stack.words[2], 3 << 24)[:4] + times
        )
        arrival, departure = (times[0] << 32 | times[1]), (times[2] << 32 | times[3])
        assert departure - arrival == stack.words[2] >= 0
        assert arrival > 0

    def test_udp_without_checksum_stays_without(self, routed: Target) -> None:
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        t.source(routed)
        out = only(routed, IN, t.packet(checksum=False))
        assert out[40:42] == b"\0\0"

    def test_broken_checksum_stays_broken(self, routed: Target) -> None:
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        t.source(routed)
        frame = bytearray(t.packet())
        frame[-1] ^= 1
        out = only(routed, IN, bytes(frame))
        assert t.parse(t.find(out)[1])[0].remaining == 7
        assert t.l4_checksum(out[14:]) != 0

    @pytest.mark.parametrize("seed", range(12))
    def test_checksum_right_for_any_payload(self, routed: Target, seed: int) -> None:
        chance = random.Random(seed)
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        t.source(routed, instructions=chance.choice([0x8000, 0xA000, 0xF000, 0xFC00, 0xFF80]), hop_words=14)
        right(only(routed, IN, t.packet(chance.randbytes(chance.randrange(60)))))

    def test_one_in_n_per_flow(self, routed: Target) -> None:
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        t.source(routed, one_in=3)
        marked = [t.find(only(routed, IN, t.packet()))[0] == t.DSCP for _ in range(7)]
        assert marked == [True, False, False, True, False, False, True]

    def test_not_sampled_not_ruled_not_core(self, routed: Target) -> None:
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        routed.insert("classify", {}, "set_flow", {"flow_id": 5, "priority": 3, "sample": 1}, priority=1)
        assert only(routed, IN, t.packet()) == onward()  # no rule
        rule = {"instructions": t.FULL, "hop_words": 8, "hop_limit": 8, "one_in": 1}
        routed.insert("int_source", {"flow_id": 6}, "int_start", rule, priority=1)
        assert only(routed, IN, t.packet()) == onward()  # another flow's
        routed.insert("int_source", {"ingress_port": IN, "priority": 3}, "int_start", rule, priority=1)
        assert t.find(only(routed, IN, t.packet()))[0] == t.DSCP
        routed.insert("classify", {"l4_dport": 7}, "set_flow", {"flow_id": 5, "priority": 3, "sample": 0}, priority=9)
        assert only(routed, IN, t.packet(dport=7)) == onward(dport=7)  # not sampled
        routed.delete("int_egress", {"port": PRIMARY})
        assert only(routed, IN, t.packet()) == onward()  # not towards a port outside
        routed.insert("int_egress", {"port": PRIMARY}, "int_to_edge", {"node_id": NODE, "dscp": t.DSCP})
        assert only(routed, IN, t.packet()) == onward()  # nor towards a host

    def test_left_alone(self, routed: Target) -> None:
        """Fragments, other protocols, lengths that disagree."""
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        t.source(routed)
        assert only(routed, IN, t.packet(flags=0x2000)) == onward(flags=0x2000)
        assert only(routed, IN, t.packet(flags=3)) == onward(flags=3)
        icmp = f.ipv4("10.0.0.1", "10.0.1.2", protocol=1, payload=8) + bytes(8)
        out = only(routed, IN, f.ethernet(f.ETHERTYPE_IPV4) + icmp)
        assert len(out) == 14 + len(icmp)
        odd = bytearray(t.packet())
        odd[39] += 4  # UDP length
        assert len(only(routed, IN, bytes(odd))) == len(odd)

    def test_mtu(self, routed: Target) -> None:
        """No room for the headers: nothing; none for the metadata: M; room for both: both."""
        size = 20 + 8 + 12
        t.source(routed)
        for mtu, expected in (
            (size + 15, None),
            (size + 16, (1, 8, 0)),
            (size + 47, (1, 8, 0)),
            (size + 48, (0, 7, 8)),
        ):
            t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,), mtu=mtu)
            out = only(routed, IN, t.packet())
            if expected is None:
                assert out == onward()
            else:
                right(out)
                stack = t.parse(t.find(out)[1])[0]
                assert (stack.mtu, stack.remaining, len(stack.words)) == expected
            for table in ("int_ingress", "int_egress"):
                for port in (IN, PRIMARY):
                    routed.delete(table, {"port": port})

    def test_host_that_uses_the_dscp_loses_it(self, routed: Target) -> None:
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        assert only(routed, IN, t.packet(dscp=t.DSCP)) == onward(dscp=0)
        assert only(routed, IN, t.packet(dscp=t.DSCP, family=6)) == onward(dscp=0, family=6)
        spoofed = t.Stack(words=t.hop(1, (2, 3))).pack()
        assert only(routed, IN, t.packet(dscp=t.DSCP, telemetry=spoofed)) == onward(telemetry=spoofed)

    def test_other_dscps_of_the_pool_pass(self, routed: Target) -> None:
        """What looks like telemetry but is not announced as such is payload."""
        t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
        alike = t.Stack(words=t.hop(1, (2, 3)) * 3).pack()
        for telemetry in (alike, alike[:20], b"\x10\xff" + alike[2:], b"\x10\x04" + alike[2:40]):
            assert only(routed, IN, t.packet(dscp=3, telemetry=telemetry)) == onward(dscp=3, telemetry=telemetry)
            tcp = {"protocol": 6, "options": TCP_OPTIONS, "dscp": 3, "telemetry": telemetry}
            assert only(routed, IN, t.packet(**tcp)) == onward(**tcp)


class TestTransit:
    def push(self, switch: Target, stack: t.Stack, **changes: Any) -> t.Stack:
        """The stack as it leaves a transit hop."""
        out = only(switch, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack(), **changes))
        right(out)
        dscp, rest = t.find(out, len(changes.get("options", b"")))
        assert dscp == t.DSCP
        found, body = t.parse(rest)
        assert body == b"shadowplane!"
        return found

    @pytest.fixture
    def transit(self, routed: Target) -> Target:
        t.ports(routed, NODE, core=(IN, PRIMARY, SHADOW), edge=())
        return routed

    @pytest.mark.parametrize(("family", "protocol"), FAMILIES, ids=FAMILY_IDS)
    def test_own_hop_on_top(self, transit: Target, family: int, protocol: int) -> None:
        before = t.hop(7, (1, 2), 30, 4, (5, 35))
        options = TCP_OPTIONS if protocol == 6 else b""
        found = self.push(transit, t.Stack(words=before, dscp=46), family=family, protocol=protocol, options=options)
        assert found.words[8:] == before
        assert found.words[:2] == (NODE, IN << 16 | PRIMARY)
        assert (found.remaining, found.dscp, found.exceeded, found.mtu) == (7, 46, 0, 0)

    def test_labelled(self, transit: Target) -> None:
        """A diverted packet gets its metadata beneath the path label."""
        flip(transit, GROUP, 1)
        stack = t.Stack(words=t.hop(7, (1, 2)))
        out = only(transit, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack()), SHADOW)
        assert out[12:14] == b"\x88\x47" and out[14:18] == f.mpls(LABEL, ttl=63)
        right(out, 18)
        found = t.parse(t.find(out[:14] + out[18:])[1])[0]
        assert found.words[1] == IN << 16 | SHADOW and len(found.words) == 16

    @pytest.mark.parametrize(
        ("bits", "words", "expected"),
        [
            pytest.param(0x8000, 1, ["node"], id="node"),
            pytest.param(0x4000, 1, ["ports"], id="ports"),
            pytest.param(0x9000, 2, ["node", "queue"], id="node-queue"),
            pytest.param(0x2400, 3, ["latency", "egress", "egress"], id="latency-egress-time"),
            pytest.param(0x8200, 3, ["node", "ones", "ones"], id="level-2"),
            pytest.param(0x8180, 3, ["node", "ones", "ones"], id="utilization-buffer"),
            pytest.param(0x807E, 7, ["node"] + ["ones"] * 6, id="reserved"),
            pytest.param(0x8001, 2, ["node", "ones"], id="checksum-complement"),
            pytest.param(0xFFFF, 19, ["node", "ports", "latency", "queue"] + ["time"] * 4 + ["ones"] * 11, id="all"),
            pytest.param(0x8000, 4, ["node", "ones", "ones", "ones"], id="domain-specific"),
            pytest.param(0x8000, 16, ["node"] + ["ones"] * 15, id="most-filler"),
        ],
    )
    def test_instructions(self, transit: Target, bits: int, words: int, expected: list[str]) -> None:
        found = self.push(transit, t.Stack(instructions=bits, hop_words=words, domain=9, ds_instructions=1, ds_flags=2))
        assert len(found.words) == words and found.remaining == 7
        assert (found.instructions, found.domain, found.ds_instructions, found.ds_flags) == (bits, 9, 1, 2)
        for word, kind in zip(found.words, expected, strict=True):
            if kind == "node":
                assert word == NODE
            elif kind == "ports":
                assert word == IN << 16 | PRIMARY
            elif kind == "queue":
                assert word == 0
            elif kind == "ones":
                assert word == t.ONES
            else:
                assert word != t.ONES

    @pytest.mark.parametrize(
        ("stack", "reason"),
        [
            pytest.param(t.Stack(instructions=0xFC00, hop_words=7), "fewer words than instructions", id="short"),
            pytest.param(t.Stack(instructions=0x8000, hop_words=17), "more filler than supported", id="long"),
            pytest.param(t.Stack(instructions=0, hop_words=0), "nothing asked", id="nothing"),
            pytest.param(t.Stack(words=(1,) * 250, hop_words=8), "longer than the shim can say", id="full"),
        ],
    )
    def test_skipped(self, transit: Target, stack: t.Stack, reason: str) -> None:
        """A hop that cannot answer adds nothing and counts nothing."""
        assert self.push(transit, stack) == stack, reason

    def test_hop_limit(self, transit: Target) -> None:
        stack = t.Stack(remaining=0, words=t.hop(7, (1, 2)))
        assert self.push(transit, stack) == t.Stack(remaining=0, exceeded=1, words=t.hop(7, (1, 2)))
        last = self.push(transit, t.Stack(remaining=1))
        assert (last.remaining, last.exceeded, len(last.words)) == (0, 0, 8)

    def test_mtu(self, routed: Target) -> None:
        size = 20 + 8 + 16 + 32 + 12
        stack = t.Stack(words=t.hop(7, (1, 2)))
        t.ports(routed, NODE, core=(IN, PRIMARY), edge=(), mtu=size + 31)
        assert self.push(routed, stack) == t.Stack(mtu=1, words=stack.words)
        assert self.push(routed, t.Stack(mtu=1, words=stack.words)) == t.Stack(mtu=1, words=stack.words)
        assert len(self.push(routed, t.Stack()).words) == 8

    def test_not_ours(self, transit: Target) -> None:
        """Other types, versions and DSCPs are not touched."""
        for stack in (t.Stack(shim_type=2), t.Stack(shim_type=3), t.Stack(version=1), t.Stack(length=2)):
            assert only(transit, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack())) == onward(
                dscp=t.DSCP, telemetry=stack.pack()
            )
        other = {"dscp": 0x27, "telemetry": t.Stack().pack()}
        assert only(transit, IN, t.packet(**other)) == onward(**other)

    def test_outside_ports_pass_it_on(self, routed: Target) -> None:
        frame = {"dscp": t.DSCP, "telemetry": t.Stack(words=t.hop(7, (1, 2))).pack()}
        assert only(routed, IN, t.packet(**frame)) == onward(**frame)

    def test_classified_by_the_original_dscp(self, transit: Target) -> None:
        transit.insert("acl", {"dscp": 46}, "acl_deny", priority=1)
        dropped(transit, IN, t.packet(dscp=t.DSCP, telemetry=t.Stack(dscp=46).pack()), "acl_deny")
        assert self.push(transit, t.Stack(dscp=45)).remaining == 7


class TestSink:
    @pytest.fixture
    def sink(self, routed: Target) -> Target:
        t.ports(routed, NODE, core=(IN,), edge=(PRIMARY,))
        routed.insert("classify", {}, "set_flow", {"flow_id": 5, "priority": 3, "sample": 1}, priority=1)
        return routed

    @pytest.mark.parametrize(("family", "protocol"), FAMILIES, ids=FAMILY_IDS)
    @pytest.mark.parametrize("hops", [0, 1, 3, 8, 9, 16])
    def test_takes_everything_off(self, sink: Target, family: int, protocol: int, hops: int) -> None:
        words = tuple(word for n in range(hops) for word in t.hop(n + 1, (n, n + 1), 7 * n, 3 << 24 | n, (n, 9 * n)))
        options = TCP_OPTIONS if protocol == 6 else b""
        spec = {"family": family, "protocol": protocol, "options": options}
        stack = t.Stack(dscp=46, words=words)
        out = only(sink, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack(), **spec))
        assert out == onward(dscp=46, **spec)
        right(out)

    @pytest.mark.parametrize("words", [1, 7, 33, 64])
    def test_other_instructions(self, sink: Target, words: int) -> None:
        stack = t.Stack(instructions=0x8000, hop_words=1, words=tuple(range(0x12340000, 0x12340000 + words)))
        assert only(sink, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack())) == onward()
        assert only(sink, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack(), checksum=False)) == onward(checksum=False)

    def test_what_cannot_be_taken_out_never_reaches_the_host(self, sink: Target) -> None:
        for stack in (
            t.Stack(instructions=0x8000, hop_words=1, words=(1,) * 65),
            t.Stack(shim_type=3),
            t.Stack(version=3),
            t.Stack(length=200),
        ):
            dropped(sink, IN, t.packet(dscp=t.DSCP, telemetry=stack.pack()), "bad_int")
        dropped(sink, IN, t.packet(dscp=t.DSCP), "bad_int")
        odd = bytearray(t.packet(dscp=t.DSCP, telemetry=t.Stack().pack()) + bytes(8))
        odd[39] += 4  # a UDP length beyond the IP packet
        dropped(sink, IN, bytes(odd), "bad_int")

    def test_discard_bit(self, sink: Target) -> None:
        """D: a copy made for telemetry; it ends here, and that is no loss."""
        t.watch(sink)
        assert sink.send(IN, t.packet(dscp=t.DSCP, telemetry=t.Stack(discard=1, words=t.hop(1, (1, 2))).pack())) == []
        assert [sink.counter("drops", n) for n in range(16)] == [(0, 0)] * 16
        assert len(sink.flow_reports()) == 1

    def test_no_report_without_a_rule(self, sink: Target) -> None:
        only(sink, IN, t.packet(dscp=t.DSCP, telemetry=t.Stack(words=t.hop(1, (1, 2))).pack()))
        assert sink.flow_reports() == []


def test_sampling_position_survives_a_shorter_turn(routed: Target) -> None:
    t.ports(routed, NODE, core=(PRIMARY,), edge=(IN,))
    t.source(routed, one_in=100)
    for _ in range(5):
        only(routed, IN, t.packet())
    routed.delete("int_source", {"flow_id": 5}, priority=1)
    rule = {"instructions": t.FULL, "hop_words": 8, "hop_limit": 8, "one_in": 2}
    routed.insert("int_source", {"flow_id": 5}, "int_start", rule, priority=1)
    marked = [t.find(only(routed, IN, t.packet()))[0] == t.DSCP for _ in range(4)]
    assert marked == [True, False, True, False]
