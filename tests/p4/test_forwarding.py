"""Routes, steering, labels, ACL, classification and balancing: what goes in, what comes out, on every target."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.p4 import frames as f
from tests.p4.scenario import GROUP, IN, LABEL, PRIMARY, SHADOW, dropped, flip, kill, onward4, onward6, pause
from tests.p4.target import Target, dst_mac, nexthop, src_mac


class TestRouting:
    def test_ipv4(self, routed: Target) -> None:
        assert routed.send(IN, f.udp4()) == [(PRIMARY, onward4(PRIMARY))]

    def test_ipv6(self, routed: Target) -> None:
        assert routed.send(IN, f.udp6()) == [(PRIMARY, onward6(PRIMARY))]

    def test_longest_prefix_wins(self, routed: Target) -> None:
        routed.insert("route_ipv4", {"dst": ("10.0.1.128", 25)}, "set_group", {"group_id": 9})
        routed.insert("route_ipv4", {"dst": ("10.0.1.200", 32)}, "set_group", {"group_id": GROUP})
        routed.insert("route_ipv4", {"dst": ("0.0.0.0", 0)}, "set_group", {"group_id": 9})
        routed.insert("primary_nexthop", {"group_id": 9}, "set_nexthop", nexthop(4))
        ways = {dst: routed.send(IN, f.udp4(dst))[0][0] for dst in ("10.0.1.1", "10.0.1.129", "10.0.1.200", "9.9.9.9")}
        assert ways == {"10.0.1.1": PRIMARY, "10.0.1.129": 4, "10.0.1.200": PRIMARY, "9.9.9.9": 4}

    def test_longest_ipv6_prefix_wins(self, routed: Target) -> None:
        routed.insert("route_ipv6", {"dst": ("fd00:1::8000:0:0:0", 65)}, "set_group", {"group_id": 9})
        routed.insert("primary_nexthop", {"group_id": 9}, "set_nexthop", nexthop(4))
        assert routed.send(IN, f.udp6("fd00:1::7fff:0:0:1"))[0][0] == PRIMARY
        assert routed.send(IN, f.udp6("fd00:1::8000:0:0:1"))[0][0] == 4

    def test_no_route(self, routed: Target) -> None:
        dropped(routed, IN, f.udp4("10.0.2.1"), "no_route")
        dropped(routed, IN, f.udp6("fd00:2::1"), "no_route")

    def test_route_drop(self, routed: Target) -> None:
        routed.insert("route_ipv4", {"dst": ("10.0.1.66", 32)}, "route_drop")
        dropped(routed, IN, f.udp4("10.0.1.66"), "route_drop")

    def test_deleted_route_is_gone(self, routed: Target) -> None:
        routed.delete("route_ipv4", {"dst": ("10.0.1.0", 24)})
        dropped(routed, IN, f.udp4(), "no_route")

    @pytest.mark.parametrize("ttl", [0, 1])
    def test_ttl_expired(self, routed: Target, ttl: int) -> None:
        dropped(routed, IN, f.udp4(ttl=ttl), "ttl_expired")
        dropped(routed, IN, f.udp6(hop_limit=ttl), "ttl_expired")

    def test_ttl_two_is_the_last_to_pass(self, routed: Target) -> None:
        assert routed.send(IN, f.udp4(ttl=2)) == [(PRIMARY, onward4(PRIMARY, ttl=1))]

    def test_payload_of_any_kind_passes_unchanged(self, routed: Target) -> None:
        for protocol in (1, 6, 17, 50, 132, 255):
            payload = bytes(range(40))
            head = f.ipv4("10.0.0.1", "10.0.1.1", protocol=protocol, payload=40, dscp=46, ecn=1)
            seen = routed.send(IN, f.ethernet(f.ETHERTYPE_IPV4) + head + payload)
            assert [(port, frame[34:]) for port, frame in seen] == [(PRIMARY, payload)]

    def test_fragments_pass(self, routed: Target) -> None:
        head = f.ipv4("10.0.0.1", "10.0.1.1", fragment_offset=100, payload=3)
        seen = routed.send(IN, f.ethernet(f.ETHERTYPE_IPV4) + head + b"xyz")
        assert [(port, frame[34:]) for port, frame in seen] == [(PRIMARY, b"xyz")]

    def test_trailing_padding_stays(self, routed: Target) -> None:
        frame = f.udp4(data=b"") + b"\0" * 18
        assert routed.send(IN, frame) == [(PRIMARY, onward4(PRIMARY, data=b"") + b"\0" * 18)]

    def test_largest_frame(self, routed: Target) -> None:
        data = b"z" * (1500 - 28)
        assert routed.send(IN, f.udp4(data=data)) == [(PRIMARY, onward4(PRIMARY, data=data))]

    def test_group_without_next_hop(self, routed: Target) -> None:
        routed.insert("route_ipv4", {"dst": ("10.0.9.0", 24)}, "set_group", {"group_id": 99})
        dropped(routed, IN, f.udp4("10.0.9.1"), "no_nexthop")

    def test_port_counters(self, routed: Target) -> None:
        frame = f.udp4()
        before = routed.counter("port_rx", IN), routed.counter("port_tx", PRIMARY)
        routed.send(IN, frame)
        after = routed.counter("port_rx", IN), routed.counter("port_tx", PRIMARY)
        assert after == tuple((packets + 1, octets + len(frame)) for packets, octets in before)


class TestSteering:
    def test_flip_and_back(self, routed: Target) -> None:
        flip(routed, GROUP, 1)
        label = f.mpls(LABEL, ttl=63)
        assert routed.send(IN, f.udp4()) == [(SHADOW, onward4(SHADOW, labels=label))]
        assert routed.send(IN, f.udp6()) == [(SHADOW, onward6(SHADOW, labels=label))]
        flip(routed, GROUP, 0)
        assert routed.send(IN, f.udp4()) == [(PRIMARY, onward4(PRIMARY))]
        size = len(f.udp4())
        assert routed.counter("group_tx", 2 * GROUP) == (1, size)
        assert routed.counter("group_tx", 2 * GROUP + 1) == (2, size + len(f.udp6()))

    def test_one_bit_moves_every_prefix_of_the_group_and_no_other(self, routed: Target) -> None:
        routed.insert("route_ipv4", {"dst": ("10.0.3.0", 24)}, "set_group", {"group_id": GROUP})
        routed.insert("route_ipv4", {"dst": ("10.0.4.0", 24)}, "set_group", {"group_id": GROUP + 1})
        routed.insert("primary_nexthop", {"group_id": GROUP + 1}, "set_nexthop", nexthop(PRIMARY))
        routed.insert("shadow_nexthop", {"group_id": GROUP + 1}, "set_nexthop", nexthop(SHADOW))
        flip(routed, GROUP, 1)
        ways = [routed.send(IN, f.udp4(dst))[0][0] for dst in ("10.0.1.1", "10.0.3.1", "10.0.4.1")]
        assert ways == [SHADOW, SHADOW, PRIMARY]

    def test_shadow_without_label(self, routed: Target) -> None:
        routed.modify("shadow_nexthop", {"group_id": GROUP}, "set_nexthop", nexthop(SHADOW))
        flip(routed, GROUP, 1)
        assert routed.send(IN, f.udp4()) == [(SHADOW, onward4(SHADOW))]

    def test_highest_group(self, routed: Target) -> None:
        last = 16383 - 1  # 16383 is BMv2's probe in these tests
        routed.insert("route_ipv4", {"dst": ("10.0.5.0", 24)}, "set_group", {"group_id": last})
        routed.insert("primary_nexthop", {"group_id": last}, "set_nexthop", nexthop(PRIMARY))
        routed.insert("shadow_nexthop", {"group_id": last}, "set_nexthop", nexthop(SHADOW))
        flip(routed, last, 1)
        assert routed.send(IN, f.udp4("10.0.5.1"))[0][0] == SHADOW
        assert routed.counter("group_tx", 2 * last + 1)[0] == 1

    def test_bit_without_shadow_stays_on_the_primary_and_is_counted(self, routed: Target) -> None:
        routed.delete("shadow_nexthop", {"group_id": GROUP})
        flip(routed, GROUP, 1)
        assert routed.send(IN, f.udp4()) == [(PRIMARY, onward4(PRIMARY))]
        assert routed.counter("group_fallback", GROUP) == (1, len(f.udp4()))
        assert routed.counter("group_tx", 2 * GROUP)[0] == 1

    def test_dead_primary_moves_to_the_shadow_by_itself(self, routed: Target) -> None:
        kill(routed, PRIMARY)
        assert routed.send(IN, f.udp4()) == [(SHADOW, onward4(SHADOW, labels=f.mpls(LABEL, ttl=63)))]

    def test_bit_with_dead_shadow_stays_on_the_primary(self, routed: Target) -> None:
        kill(routed, SHADOW)
        flip(routed, GROUP, 1)
        assert routed.send(IN, f.udp4()) == [(PRIMARY, onward4(PRIMARY))]
        assert routed.counter("group_fallback", GROUP)[0] == 1

    def test_both_dead_since_ever_leaves_it_to_the_bit(self, routed: Target) -> None:
        kill(routed, PRIMARY)
        kill(routed, SHADOW)
        assert routed.send(IN, f.udp4())[0][0] == PRIMARY
        flip(routed, GROUP, 1)
        assert routed.send(IN, f.udp4())[0][0] == SHADOW
        assert routed.counter("group_fallback", GROUP)[0] == 2

    def test_both_dead_goes_where_life_was_seen_last(self, routed: Target) -> None:
        kill(routed, PRIMARY)
        kill(routed, SHADOW)
        for bit in (0, 1):
            flip(routed, GROUP, bit)
            for port in (PRIMARY, SHADOW, PRIMARY):
                assert routed.send(port, f.heartbeat(f.REPLY)) == []
                pause(routed)
                assert routed.send(IN, f.udp4())[0][0] == port
        assert routed.counter("group_fallback", GROUP)[0] == 6

    def test_dead_primary_without_shadow_is_better_than_nothing(self, routed: Target) -> None:
        routed.delete("shadow_nexthop", {"group_id": GROUP})
        kill(routed, PRIMARY)
        assert routed.send(IN, f.udp4()) == [(PRIMARY, onward4(PRIMARY))]
        assert routed.counter("group_fallback", GROUP)[0] == 1

    def test_dead_shadow_without_primary_is_better_than_nothing(self, routed: Target) -> None:
        routed.delete("primary_nexthop", {"group_id": GROUP})
        kill(routed, SHADOW)
        assert routed.send(IN, f.udp4())[0][0] == SHADOW
        assert routed.counter("group_fallback", GROUP)[0] == 1

    def test_missing_primary_counts_as_dead(self, routed: Target) -> None:
        routed.delete("primary_nexthop", {"group_id": GROUP})
        assert routed.send(IN, f.udp4())[0][0] == SHADOW

    def test_every_combination(self, switch: Target) -> None:
        """Bit, primary and shadow in all their states against the table in p4/README.md."""
        kill(switch, 3)
        kill(switch, 4)
        ports = {"missing": None, "alive": (1, 2), "dead": (3, 4)}  # (as primary, as shadow)
        group = 100
        for bit in (0, 1):
            for primary, primary_ports in ports.items():
                for shadow, shadow_ports in ports.items():
                    group += 1
                    destination = f"10.1.{group}.1"
                    switch.insert("route_ipv4", {"dst": (destination, 32)}, "set_group", {"group_id": group})
                    if primary_ports:
                        switch.insert("primary_nexthop", {"group_id": group}, "set_nexthop", nexthop(primary_ports[0]))
                    if shadow_ports:
                        switch.insert("shadow_nexthop", {"group_id": group}, "set_nexthop", nexthop(shadow_ports[1]))
                    flip(switch, group, bit)
                    wanted, fallback = self.wanted(bit, primary, shadow)
                    where = [port for port, _ in switch.send(IN, f.udp4(destination))]
                    assert where == wanted, f"bit {bit}, primary {primary}, shadow {shadow}"
                    assert switch.counter("group_tx", 2 * group)[0] == (wanted in ([1], [3]))
                    assert switch.counter("group_tx", 2 * group + 1)[0] == (wanted in ([2], [4]))
                    assert switch.counter("group_fallback", group)[0] == fallback

    def wanted(self, bit: int, primary: str, shadow: str) -> tuple[list[int], bool]:
        """Where the packet goes, and whether that counts as falling back."""
        if primary == "alive" and not bit:
            return [1], False
        if shadow == "alive":
            return [2], False
        if primary == "alive":
            return [1], True
        if primary == shadow == "missing":
            return [], False
        if primary == "missing" or (bit and shadow == "dead"):
            return [4], True
        return [3], True


class TestLabels:
    def test_transit(self, switch: Target) -> None:
        switch.insert("label", {"label": LABEL}, "label_forward", nexthop(4))
        frame = f.udp4(labels=f.mpls(LABEL, ttl=9, traffic_class=5))
        expected = f.udp4(labels=f.mpls(LABEL, ttl=8, traffic_class=5), src_mac=src_mac(4), dst_mac=dst_mac(4))
        assert switch.send(IN, frame) == [(4, expected)]

    def test_transit_of_a_stack_looks_at_the_top(self, switch: Target) -> None:
        switch.insert("label", {"label": LABEL}, "label_forward", nexthop(4))
        frame = f.udp4(labels=f.mpls(LABEL, bottom=0) + f.mpls(3))
        assert [port for port, _ in switch.send(IN, frame)] == [4]

    def test_pop_at_the_last_hop_routes_what_is_beneath(self, routed: Target) -> None:
        routed.insert("label", {"label": LABEL}, "label_pop")
        assert routed.send(IN, f.udp4(labels=f.mpls(LABEL, ttl=50))) == [(PRIMARY, onward4(PRIMARY, ttl=49))]
        assert routed.send(IN, f.udp6(labels=f.mpls(LABEL, ttl=50))) == [(PRIMARY, onward6(PRIMARY, hop_limit=49))]

    def test_popped_packet_may_be_diverted_again(self, routed: Target) -> None:
        routed.insert("label", {"label": 5}, "label_pop")
        flip(routed, GROUP, 1)
        seen = routed.send(IN, f.udp4(labels=f.mpls(5, ttl=50)))
        assert seen == [(SHADOW, onward4(SHADOW, ttl=49, labels=f.mpls(LABEL, ttl=49)))]

    def test_label_ttl_expires(self, routed: Target) -> None:
        routed.insert("label", {"label": LABEL}, "label_forward", nexthop(4))
        routed.insert("label", {"label": 5}, "label_pop")
        dropped(routed, IN, f.udp4(labels=f.mpls(LABEL, ttl=1)), "ttl_expired")
        dropped(routed, IN, f.udp4(labels=f.mpls(5, ttl=1)), "ttl_expired")

    def test_unknown_label(self, routed: Target) -> None:
        dropped(routed, IN, f.udp4(labels=f.mpls(LABEL)), "unknown_label")

    def test_dead_port_is_counted_and_tried(self, routed: Target) -> None:
        routed.insert("label", {"label": LABEL}, "label_forward", nexthop(4))
        assert len(routed.send(IN, f.udp4(labels=f.mpls(LABEL)))) == 1
        assert routed.counter("label_dead_port", 4) == (0, 0)
        kill(routed, 4)
        frame = f.udp4(labels=f.mpls(LABEL))
        assert [port for port, _ in routed.send(IN, frame)] == [4]
        assert routed.counter("label_dead_port", 4) == (1, len(frame))

    def test_pop_of_a_stack(self, routed: Target) -> None:
        routed.insert("label", {"label": LABEL}, "label_pop")
        dropped(routed, IN, f.udp4(labels=f.mpls(LABEL, bottom=0) + f.mpls(3)), "unsupported")

    def test_pop_of_something_else(self, routed: Target) -> None:
        routed.insert("label", {"label": LABEL}, "label_pop")
        frame = f.ethernet(f.ETHERTYPE_MPLS) + f.mpls(LABEL) + b"\x00" * 30
        dropped(routed, IN, frame, "unknown_ethertype")


class TestAcl:
    def test_deny_by_each_field(self, routed: Target) -> None:
        rules: list[dict[str, Any]] = [
            {"ingress_port": IN},
            {"ether_type": f.ETHERTYPE_IPV4},
            {"ipv4_src": ("10.0.0.0", 0xFFFFFF00)},
            {"ipv4_dst": "10.0.1.2"},
            {"ip_proto": 17},
            {"l4_sport": (1000, 1000)},
            {"l4_dport": (1999, 2001)},
            {"dscp": 10},
        ]
        frame = f.udp4(dscp=10)
        for rule in rules:
            routed.insert("acl", rule, "acl_deny", priority=10)
            dropped(routed, IN, frame, "acl_deny")
            assert routed.direct_counter("acl", rule, priority=10) == (1, len(frame))
            routed.delete("acl", rule, priority=10)
        assert routed.send(IN, frame) == [(PRIMARY, onward4(PRIMARY, dscp=10))]

    def test_what_does_not_match_passes(self, routed: Target) -> None:
        rules: list[dict[str, Any]] = [
            {"ingress_port": 9},
            {"ether_type": f.ETHERTYPE_IPV6},
            {"ipv4_src": ("10.0.1.0", 0xFFFFFF00)},
            {"ipv6_dst": "fd00:1::2"},
            {"ip_proto": 6},
            {"l4_sport": (1001, 65535)},
            {"l4_dport": (0, 1999)},
            {"dscp": 11},
        ]
        for priority, rule in enumerate(rules, 1):
            routed.insert("acl", rule, "acl_deny", priority=priority)
        assert routed.send(IN, f.udp4(dscp=10)) == [(PRIMARY, onward4(PRIMARY, dscp=10))]

    def test_larger_priority_wins(self, routed: Target) -> None:
        routed.insert("acl", {"ip_proto": 17}, "acl_deny", priority=10)
        routed.insert("acl", {"ipv4_src": "10.0.0.1"}, "acl_permit", priority=20)
        assert routed.send(IN, f.udp4()) != []
        dropped(routed, IN, f.udp4(src="10.0.0.9"), "acl_deny")

    def test_ipv6(self, routed: Target) -> None:
        prefix = ("fd00::", 0xFFFFFFFFFFFFFFFF << 64)
        routed.insert("acl", {"ipv6_src": prefix, "l4_dport": (2000, 2000)}, "acl_deny", priority=1)
        dropped(routed, IN, f.udp6(), "acl_deny")
        assert routed.send(IN, f.udp6(dport=2001)) != []

    def test_ports_are_those_of_tcp_udp_and_sctp(self, routed: Target) -> None:
        """Other protocols, and all fragments but the first, have ports 0 for the ACL."""
        routed.insert("acl", {"l4_sport": (7, 7), "l4_dport": (9, 9)}, "acl_deny", priority=1)
        body = f.udp(7, 9)
        for protocol in (1, 6, 17, 58, 132):
            four = f.ethernet(f.ETHERTYPE_IPV4) + f.ipv4("10.0.0.1", "10.0.1.1", protocol=protocol) + body
            six = f.ethernet(f.ETHERTYPE_IPV6) + f.ipv6("fd00::1", "fd00:1::1", next_header=protocol) + body
            has_ports = protocol in (6, 17, 132)
            for frame in (four, six):
                assert (routed.send(IN, frame) == []) is has_ports, f"protocol {protocol}"
        later = f.ipv4("10.0.0.1", "10.0.1.1", fragment_offset=1)
        assert routed.send(IN, f.ethernet(f.ETHERTYPE_IPV4) + later + body) != []

    def test_diverted_packets_are_judged_by_what_is_beneath_the_label(self, routed: Target) -> None:
        routed.insert("label", {"label": LABEL}, "label_forward", nexthop(4))
        routed.insert("acl", {"l4_dport": (2000, 2000)}, "acl_deny", priority=1)
        dropped(routed, IN, f.udp4(labels=f.mpls(LABEL)), "acl_deny")

    def test_punt(self, routed: Target) -> None:
        routed.insert("acl", {"ether_type": f.ETHERTYPE_ARP}, "acl_punt", priority=1)
        frame = f.ethernet(f.ETHERTYPE_ARP) + bytes(28)
        assert routed.send(IN, frame) == [(f.CPU_PORT, f.packet_in(IN, 0) + frame)]
        routed.insert("acl", {"ipv4_dst": "10.0.1.2"}, "acl_punt", priority=2)
        assert routed.send(4, f.udp4()) == [(f.CPU_PORT, f.packet_in(4, 0) + f.udp4())]


class TestClassify:
    def test_counts_and_marks_labels_with_the_priority(self, routed: Target) -> None:
        rule = {"dscp": 46, "l4_dport": (2000, 2999)}
        routed.insert("classify", rule, "set_flow", {"flow_id": 3, "priority": 5, "sample": 1}, priority=1)
        flip(routed, GROUP, 1)
        frame = f.udp4(dscp=46)
        labels = f.mpls(LABEL, ttl=63, traffic_class=5)
        assert routed.send(IN, frame) == [(SHADOW, onward4(SHADOW, dscp=46, labels=labels))]
        routed.send(IN, f.udp4(dscp=46, dport=3000))
        assert routed.direct_counter("classify", rule, priority=1) == (1, len(frame))


class TestBalance:
    def balanced(self, switch: Target, groups: dict[int, int]) -> None:
        switch.insert("route_ipv4", {"dst": ("10.0.8.0", 24)}, "set_balance", {"balance_id": 4})
        switch.insert("route_ipv6", {"dst": ("fd00:8::", 64)}, "set_balance", {"balance_id": 4})
        for group in groups:
            switch.insert("primary_nexthop", {"group_id": group}, "set_nexthop", nexthop(group))
        switch.balance(4, groups)

    def test_spreads_flows_by_weight(self, switch: Target) -> None:
        self.balanced(switch, {2: 1, 3: 3})
        ways = Counter(switch.send(IN, f.udp4("10.0.8.1", sport=sport))[0][0] for sport in range(1000, 1200))
        assert set(ways) == {2, 3}
        assert 25 <= ways[2] <= 75  # a quarter of 200, four standard deviations either way

    def test_a_flow_keeps_its_way(self, switch: Target) -> None:
        self.balanced(switch, {2: 1, 3: 1, 4: 1})
        for sport in range(20):
            assert len({switch.send(IN, f.udp6("fd00:8::1", sport=sport))[0][0] for _ in range(3)}) == 1

    def test_members_fail_over_like_any_group(self, switch: Target) -> None:
        self.balanced(switch, {2: 1})
        switch.insert("shadow_nexthop", {"group_id": 2}, "set_nexthop", nexthop(3))
        flip(switch, 2, 1)
        assert switch.send(IN, f.udp4("10.0.8.1"))[0][0] == 3

    def test_unknown_balance(self, switch: Target) -> None:
        switch.insert("route_ipv4", {"dst": ("10.0.8.0", 24)}, "set_balance", {"balance_id": 4})
        dropped(switch, IN, f.udp4("10.0.8.1"), "no_balance")
