"""What the switch reports of its ports' liveness, and when, under the test's own clock."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tests.p4 import frames as f
from tests.p4.beats import (
    CHANGE,
    DEAD,
    DELTA,
    DIED,
    INTERVAL,
    PERIODIC,
    PORT,
    REPORT,
    REVIVED,
    RTT,
    peer_request,
    round_trip,
    tick,
)

if TYPE_CHECKING:
    from tests.p4.embedded import Embedded


class TestReports:
    def quiet(self, switch: Embedded) -> None:
        """Heartbeats until the first reports are out."""
        round_trip(switch)
        switch.wait(INTERVAL - RTT)
        round_trip(switch)
        switch.digests()

    def test_first_contact(self, monitored: Embedded) -> None:
        tick(monitored)
        first = monitored.digests()
        assert [(one["port"], one["seq"], one["event"]) for one in first] == [(PORT, 1, DIED)]
        round_trip(monitored)
        assert [(one["seq"], one["event"], one["rtt"]) for one in monitored.digests()] == [(2, REVIVED, RTT)]

    def test_nothing_to_tell(self, monitored: Embedded) -> None:
        self.quiet(monitored)
        for _ in range(5):
            round_trip(monitored, RTT + DELTA)
        assert monitored.digests() == []

    def test_round_trip_time_moves_by_more_than_the_threshold(self, monitored: Embedded) -> None:
        self.quiet(monitored)
        round_trip(monitored, RTT + DELTA + 1)
        assert [(one["event"], one["rtt"]) for one in monitored.digests()] == [(CHANGE, RTT + DELTA + 1)]
        round_trip(monitored, RTT)
        assert [(one["event"], one["rtt"]) for one in monitored.digests()] == [(CHANGE, RTT)]

    def test_loss(self, monitored: Embedded) -> None:
        peer_request(monitored, 1)
        self.quiet(monitored)
        peer_request(monitored, 4)
        assert monitored.digests() == []  # they may still come
        for seq, total in ((5, 1), (6, 2)):
            peer_request(monitored, seq)
            assert [(one["event"], one["lost"]) for one in monitored.digests()] == [(CHANGE, total)]
        peer_request(monitored, 7)
        assert monitored.digests() == []

    def test_silent_interval(self, monitored: Embedded) -> None:
        self.quiet(monitored)
        told = monitored.now_us
        seen = []
        for _ in range(40):
            monitored.wait(INTERVAL - RTT)
            round_trip(monitored)
            seen += monitored.digests()
        assert {one["event"] for one in seen} == {PERIODIC}
        times = [told, *(one["time"] for one in seen)]
        assert all(later - earlier <= REPORT + INTERVAL for earlier, later in pairwise(times))
        assert 3 <= len(seen) <= 4

    def test_numbers_have_no_gaps(self, monitored: Embedded) -> None:
        seen = []
        for step in range(30):
            round_trip(monitored, RTT + 1000 * (step % 2))
            seen += monitored.digests()
        assert [one["seq"] for one in seen] == list(range(1, len(seen) + 1))
        assert len(seen) > 20

    def test_death_is_told_once_and_then_repeated_seldom(self, monitored: Embedded) -> None:
        self.quiet(monitored)
        seen = []
        for _ in range(35):
            monitored.wait(INTERVAL)
            tick(monitored)
            seen += monitored.digests()
        assert [one["event"] for one in seen] == [DIED] * 4
        assert DEAD < seen[0]["time"] - monitored.register("liveness_last_seen", PORT) <= DEAD + INTERVAL

    def test_time_is_the_packets(self, monitored: Embedded) -> None:
        monitored.wait(77)
        tick(monitored)
        assert monitored.digests()[0]["time"] == monitored.now_us

    def test_traffic_and_errors(self, monitored: Embedded) -> None:
        self.quiet(monitored)
        before = self.report(monitored)
        size = len(f.udp4())
        for _ in range(5):
            monitored.send(1, f.udp4())
        monitored.send(PORT, f.udp4())
        monitored.send(PORT, f.udp4()[:20])
        bad = f.ethernet(f.ETHERTYPE_IPV4) + f.ipv4("10.0.0.1", "10.0.1.1", bad_checksum=True) + f.udp(1, 2)
        monitored.send(PORT, bad)
        after = self.report(monitored)
        assert after["errors"] - before["errors"] == 2
        # Data packets and the report's own heartbeats: one request out, one reply in.
        assert after["tx_packets"] - before["tx_packets"] == 5 + 1 + 1
        assert after["rx_packets"] - before["rx_packets"] == 3 + 1
        assert after["rx_bytes"] - before["rx_bytes"] == size + 20 + len(bad) + len(f.heartbeat(f.REPLY))
        assert after["tx_bytes"] - before["tx_bytes"] == 6 * size + len(f.command(f.HEARTBEAT, PORT))

    def test_unsupported_packets_are_no_errors_of_the_port(self, monitored: Embedded) -> None:
        head = f.ipv4("10.0.0.1", "10.0.1.1", options=b"\x94\x04\0\0")
        monitored.send(PORT, f.ethernet(f.ETHERTYPE_IPV4) + head + f.udp(1, 2))
        assert monitored.counter("drops", 13)[0] == 1
        assert monitored.register("port_errors", PORT) == 0

    def test_deepest_queue_since_the_last_report(self, monitored: Embedded) -> None:
        self.quiet(monitored)
        for depth in (3, 9, 4):
            monitored.depths[PORT] = depth
            monitored.send(1, f.udp4())
        monitored.depths[PORT] = 2
        assert self.report(monitored)["queue_max"] == 9
        assert self.report(monitored)["queue_max"] == 2

    def report(self, switch: Embedded) -> dict[str, int]:
        """A report provoked by a changed round-trip time."""
        rtt = switch.register("report_rtt", PORT) + DELTA + 1
        round_trip(switch, rtt)
        return switch.digests()[-1]
