"""Broken packets, orders of controller and packet generator, heartbeats: on every target."""

from __future__ import annotations

import pytest

from tests.p4 import frames as f
from tests.p4.scenario import DROPS, GROUP, IN, LABEL, PRIMARY, SHADOW, dropped, flip
from tests.p4.target import Target


class TestBrokenPackets:
    def test_bad_checksum(self, routed: Target) -> None:
        head = f.ipv4("10.0.0.1", "10.0.1.1", bad_checksum=True)
        dropped(routed, IN, f.ethernet(f.ETHERTYPE_IPV4) + head + f.udp(1, 2), "bad_checksum")

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(f.ipv4("10.0.0.1", "10.0.1.1", version=5), id="version"),
            pytest.param(f.ipv4("10.0.0.1", "10.0.1.1", ihl=4), id="ihl"),
            pytest.param(f.ipv4("10.0.0.1", "10.0.1.1", total_length=19), id="length"),
        ],
    )
    def test_contradicting_ipv4(self, routed: Target, head: bytes) -> None:
        dropped(routed, IN, f.ethernet(f.ETHERTYPE_IPV4) + head + f.udp(1, 2), "malformed")

    def test_contradicting_ipv6(self, routed: Target) -> None:
        frame = f.ethernet(f.ETHERTYPE_IPV6) + f.ipv6("fd00::1", "fd00:1::1", version=4) + f.udp(1, 2)
        dropped(routed, IN, frame, "malformed")

    def test_ipv4_options(self, routed: Target) -> None:
        head = f.ipv4("10.0.0.1", "10.0.1.1", options=b"\x94\x04\0\0")
        dropped(routed, IN, f.ethernet(f.ETHERTYPE_IPV4) + head + f.udp(1, 2), "unsupported")

    @pytest.mark.parametrize("ether_type", [0, 0x0806, 0x8100, 0x88CC, 0xFFFF])
    def test_unknown_ethertype(self, routed: Target, ether_type: int) -> None:
        dropped(routed, IN, f.ethernet(ether_type) + bytes(46), "unknown_ethertype")

    @pytest.mark.parametrize(
        ("frame", "headers"),
        [
            pytest.param(f.udp4(), 14 + 20 + 4, id="ipv4"),
            pytest.param(f.udp6(), 14 + 40 + 4, id="ipv6"),
            pytest.param(f.udp4(labels=f.mpls(LABEL)), 14 + 4 + 20 + 4, id="mpls"),
            pytest.param(f.heartbeat(f.REQUEST), 14 + 19, id="heartbeat"),
        ],
    )
    def test_truncated_anywhere(self, routed: Target, frame: bytes, headers: int) -> None:
        for length in range(15, headers):
            dropped(routed, IN, frame[:length], "malformed")


class TestCommands:
    def test_get_tells_what_set_wrote(self, switch: Target) -> None:
        get = f.command(f.GET_FAILOVER, 5, 0, 1)
        assert switch.send(f.CPU_PORT, get) == [(f.CPU_PORT, f.answer(f.GET_FAILOVER, 5, 0, 1))]
        flip(switch, 5, 1)
        assert switch.send(f.CPU_PORT, get) == [(f.CPU_PORT, f.answer(f.GET_FAILOVER, 5, 1, 1))]
        assert switch.send(f.CPU_PORT, f.command(f.GET_FAILOVER, 6, 0, 1)) == [
            (f.CPU_PORT, f.answer(f.GET_FAILOVER, 6, 0, 1))
        ]

    def test_group_that_does_not_exist_is_refused(self, switch: Target) -> None:
        for opcode in (f.SET_FAILOVER, f.GET_FAILOVER):
            for index in (16384, 65536 + 5, 0xFFFFFFFF):
                refused = f.answer(opcode, index, 0xFFFFFFFF, 2)
                assert switch.send(f.CPU_PORT, f.command(opcode, index, 1, 2)) == [(f.CPU_PORT, refused)]
        get = f.command(f.GET_FAILOVER, 5, 0, 1)
        assert switch.send(f.CPU_PORT, get) == [(f.CPU_PORT, f.answer(f.GET_FAILOVER, 5, 0, 1))]

    def test_plain_packet_out(self, switch: Target) -> None:
        frame = f.udp4(ttl=1)  # nothing is checked or changed
        assert switch.send(f.CPU_PORT, f.packet_out(f.PLAIN, 3) + frame) == [(3, frame)]

    @pytest.mark.parametrize("opcode", [f.PORT_DOWN, 5, 64, 127])
    def test_not_for_the_cpu(self, switch: Target, opcode: int) -> None:
        dropped_from_cpu(switch, f.command(opcode, 1))

    @pytest.mark.parametrize("opcode", [f.PLAIN, f.SET_FAILOVER, f.GET_FAILOVER, 5, 127])
    def test_not_for_the_packet_generator(self, switch: Target, opcode: int) -> None:
        dropped(switch, f.PKTGEN_PORT, f.command(opcode, 1, 1), "bad_command")
        get = f.command(f.GET_FAILOVER, 1, 0, 1)
        assert switch.send(f.CPU_PORT, get) == [(f.CPU_PORT, f.answer(f.GET_FAILOVER, 1, 0, 1))]

    def test_not_from_other_ports(self, routed: Target) -> None:
        """On an ordinary port the same bytes are a frame like any other."""
        flip_order = f.command(f.SET_FAILOVER, GROUP, 1, 1)
        assert routed.send(IN, flip_order + bytes(30)) == []
        assert routed.send(IN, f.udp4())[0][0] == PRIMARY

    def test_ports_that_do_not_exist(self, switch: Target) -> None:
        for opcode in (f.HEARTBEAT, f.PORT_DOWN):
            dropped(switch, f.PKTGEN_PORT, f.command(opcode, 512), "bad_command")

    def test_truncated_command(self, switch: Target) -> None:
        dropped(switch, f.PKTGEN_PORT, f.command(f.HEARTBEAT, 1)[:17], "malformed")


def dropped_from_cpu(switch: Target, frame: bytes) -> None:
    before = switch.counter("drops", DROPS["bad_command"])[0]
    assert switch.send(f.CPU_PORT, frame) == []
    assert switch.counter("drops", DROPS["bad_command"])[0] == before + 1


class TestHeartbeats:
    """What can be said about liveness without stopping the clock; the rest is in test_liveness.py."""

    SLOW = 500_000  # us: no machine is that late

    def monitor(self, switch: Target, port: int) -> None:
        parameters = {"dead_interval": self.SLOW, "report_interval": 1 << 40, "rtt_delta": 1 << 31}
        switch.insert("liveness_config", {"port": port}, "monitor", parameters)

    def request(self, switch: Target, port: int) -> dict[str, int | str]:
        ((out, frame),) = switch.send(f.CPU_PORT, f.command(f.HEARTBEAT, port))
        assert out == port
        return f.parse_heartbeat(frame)

    def reply(self, switch: Target, port: int, request: dict[str, int | str]) -> None:
        frame = f.heartbeat(f.REPLY, seq=int(request["seq"]), tx_time=int(request["tx_time"]), echo_time=5)
        assert switch.send(port, frame) == []

    def test_echo(self, switch: Target) -> None:
        ((out, frame),) = switch.send(4, f.heartbeat(f.REQUEST, port=9, seq=3, tx_time=44))
        echo = f.parse_heartbeat(frame)
        assert (out, echo["op"], echo["port"], echo["seq"]) == (4, f.REPLY, 4, 3)
        assert 44 <= int(echo["tx_time"]) < 44 + self.SLOW  # later by the time in which the answer was made
        assert int(echo["echo_time"]) > 0

    def test_requests_are_numbered(self, switch: Target) -> None:
        self.monitor(switch, 4)
        first, second = self.request(switch, 4), self.request(switch, 4)
        assert (first["seq"], second["seq"]) == (1, 2)
        assert int(second["tx_time"]) >= int(first["tx_time"]) > 0

    def test_life_and_carrier_loss(self, routed: Target) -> None:
        self.monitor(routed, PRIMARY)
        self.reply(routed, PRIMARY, self.request(routed, PRIMARY))
        assert routed.send(IN, f.udp4())[0][0] == PRIMARY
        assert routed.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PRIMARY)) == []
        assert routed.send(IN, f.udp4())[0][0] == SHADOW
        reports = routed.digests()
        assert [one["event"] for one in reports] == [3, 2]
        assert [one["seq"] for one in reports] == [1, 2]

    def test_what_was_under_way_when_the_carrier_went_does_not_revive(self, routed: Target) -> None:
        self.monitor(routed, PRIMARY)
        before = self.request(routed, PRIMARY)
        assert before["echo_time"] == 0  # nobody knows yet that the neighbour lives
        self.reply(routed, PRIMARY, before)
        assert routed.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PRIMARY)) == []
        self.reply(routed, PRIMARY, before)
        assert len(routed.send(PRIMARY, f.heartbeat(f.REQUEST))) == 1
        assert routed.send(IN, f.udp4())[0][0] == SHADOW
        after = self.request(routed, PRIMARY)
        assert after["echo_time"] == 0
        assert routed.send(IN, f.udp4())[0][0] == SHADOW
        self.reply(routed, PRIMARY, after)
        assert routed.send(IN, f.udp4())[0][0] == PRIMARY
        assert self.request(routed, PRIMARY)["echo_time"] == self.SLOW // 2

    def test_loss_is_reported(self, switch: Target) -> None:
        self.monitor(switch, 4)
        for seq in (1, 2, 5, 6, 7):
            switch.send(4, f.heartbeat(f.REQUEST, seq=seq))
        told = [(one["port"], one["event"], one["lost"]) for one in switch.digests()]
        assert told == [(4, 3, 0), (4, 1, 1), (4, 1, 2)]
