"""Links on which nothing passes: asked less often, on the embedded switch's own clock and interfaces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.utils import RawPcapReader

from engine.dataplane import Client
from tests.engine.switchd_support import Rig, eventually, frame, hello_port, ip, needs_interfaces, numbered, rig
from tests.engine.test_switchd_ports import HEARTBEAT, received, request, sent_at, turns_and_ticks
from tests.engine.test_switchd_steering import PRIMARY, SHADOW, US_PER_S, Pair, packet, pair

__all__ = ["pair"]
pytestmark = needs_interfaces()
INTERVAL, LONG = 10_000, 40_000  # us
OFF_GRID = 20  # us: more than rounding


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as built:
        yield built


def resting(client: Client) -> set[int]:
    return {port["port"] for port in client.hello()["ports"] if port["relaxed"]}


def rest(switch: Rig, client: Client) -> None:
    eventually(lambda: resting(client) == set(switch.port), "ports at rest")


def orders(switch: Rig, port: int, count: int, since: int | None = None) -> list[int]:
    """Times (us) of the next orders for a port, or of those after ``since``."""
    since, found = time.time_ns() // 1000 if since is None else since, list[int]()
    while len(found) < count:
        seen = switch.host[port].receive(1, kind=HEARTBEAT)
        assert seen, "no more heartbeats"
        found += [at for data, _ in seen if (at := sent_at(data)) > since]
    return found


def test_ports_at_rest_are_asked_together_at_each_fourth_interval(switch: Rig) -> None:
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    assert client.hello()["pktgen"]["relaxed"] == 4
    rest(switch, client)
    times = {port: orders(switch, port, 6) for port in switch.port}
    phases = {time % LONG for found in times.values() for time in found}
    assert max(phases) - min(phases) <= 1 or max(phases) - min(phases) == LONG - 1  # us are cut off
    assert all(b - a >= LONG - 1 for found in times.values() for a, b in pairwise(found))


def test_what_comes_in_ends_the_rest_of_both_ports(switch: Rig) -> None:
    """Of the one that it comes by before it is processed, of the other because it leaves there."""
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    rest(switch, client)
    switch.host[1].send(numbered(1))  # to port 2
    eventually(lambda: resting(client) == {3}, "ports in use")
    rest(switch, client)


def test_the_change_is_ordered_at_once(switch: Rig) -> None:
    """Not on the grid of the others: at the time of the frame's arrival."""
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)

    def off_the_grid() -> bool:
        rest(switch, client)
        (grid,) = orders(switch, 1, 1)
        before = switch.host[1].send(numbered(1)) // 1000
        first, *later = orders(switch, 1, 3, before)
        off = (first - grid) % INTERVAL
        # Orders that a busy machine left out show nothing.
        return first - before < INTERVAL and off > OFF_GRID and later[1] - later[0] < LONG - 1

    eventually(off_the_grid, "an order when a frame comes")


def test_packet_outs_end_it_too(switch: Rig) -> None:
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    rest(switch, client)
    client.packet_out((3 << 7).to_bytes(2, "big") + frame(b"x"))
    eventually(lambda: resting(client) == {1, 2}, "port 3 in use")


def test_a_carrier_that_goes_and_comes_ends_it(switch: Rig) -> None:
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    rest(switch, client)
    ip("link", "set", switch.host[3].interface, "down")
    eventually(lambda: resting(client) == {1, 2}, "port 3 in use")
    eventually(lambda: resting(client) == {1, 2, 3}, "port 3 at rest, without carrier")
    ip("link", "set", switch.host[3].interface, "up")
    eventually(lambda: resting(client) == {1, 2}, "port 3 in use")


def test_heartbeats_do_not_end_it(switch: Rig) -> None:
    """Patient ones wake nobody; others do, and are followed, but the port stays at rest."""
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    rest(switch, client)

    def waits() -> bool:
        sleeps, ticks = turns_and_ticks(switch, client, request(LONG), waits=True)
        return sleeps <= 2 * ticks + 4

    eventually(waits, "a while without interfaces of other tests that come or go, of which the kernel tells all")
    sleeps, ticks = turns_and_ticks(switch, client, request(LONG - 1), waits=False)
    assert sleeps >= ticks + 30

    def followed() -> bool:
        switch.host[3].send(request(13_500))
        first, second = orders(switch, 3, 2)
        return second - first < LONG - 1

    eventually(followed, "orders at the usual interval")
    assert resting(client) == set(switch.port)


def test_no_heartbeat_is_missed_at_the_changes(switch: Rig, tmp_path: Path) -> None:
    """Some come by both rings, none by neither. Their patience is that of a neighbour not at rest."""
    client = switch.start(pcap=tmp_path)
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    number = 0
    for _ in range(2):
        while 3 not in resting(client):
            switch.host[3].send(request(13_500, number := number + 1))
        for _ in range(20):
            switch.host[3].send(request(13_500, number := number + 1))
        switch.host[3].send(numbered(0))
        for _ in range(20):
            switch.host[3].send(request(13_500, number := number + 1))
    switch.host[3].send(request(0, number := number + 1))
    eventually(lambda: received(client, 3) >= number + 2, "all frames")
    client.pcap(None)
    frames = [data for data, _ in RawPcapReader(str(tmp_path / f"{switch.port[3]}_in.pcap"))]
    beats = [int.from_bytes(data[15:19], "big") for data in frames if data[14] == 0x11]
    assert list(dict.fromkeys(beats)) == [*range(1, number + 1)]


@pytest.mark.parametrize(
    ("interval_us", "defer", "relaxed", "effective"),
    [(INTERVAL, True, 1, 1), (INTERVAL, False, 4, 1), (20_000, True, 4, 1), (20_000, True, 2, 2), (1_000, True, 8, 8)],
)
def test_when_it_applies(switch: Rig, interval_us: int, defer: bool, relaxed: int, effective: int) -> None:
    """Heartbeats must wait at all, and never for more than 50 ms."""
    client = switch.start(pktgen_interval_us=interval_us, pktgen_defer=defer, pktgen_relaxed=relaxed)
    assert client.hello()["pktgen"]["relaxed"] == effective
    client.pktgen(interval_us, defer=defer, relaxed=relaxed)
    assert client.hello()["pktgen"]["relaxed"] == effective


def test_switched_off_while_at_rest(switch: Rig) -> None:
    client = switch.start()
    client.pktgen(INTERVAL, defer=True, relaxed=4)
    rest(switch, client)
    client.pktgen(INTERVAL, defer=True)
    assert resting(client) == set()
    client.pktgen(0)
    client.pktgen(INTERVAL, defer=True, relaxed=2)
    rest(switch, client)
    client.pktgen(0)
    assert resting(client) == set()


def test_an_older_process_is_not_asked_for_it(switch: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = switch.start()
    older = client.hello()
    del older["pktgen"]["relaxed"]
    with monkeypatch.context() as patch:
        patch.setattr(client, "hello", lambda: older)
        client.pktgen(INTERVAL, defer=True, relaxed=4)
    assert client.hello()["pktgen"]["defer"] and client.hello()["pktgen"]["relaxed"] == 1


class TestSteering:
    """The steering program on two switches, see test_switchd_steering.py."""

    def at_rest(self, pair: Pair, port: int = PRIMARY) -> bool:
        return all(hello_port(client, port)["relaxed"] for client in pair.client.values())

    def rest(self, pair: Pair) -> None:
        for client in pair.client.values():
            client.pktgen(INTERVAL, defer=True, relaxed=4)
        eventually(lambda: self.at_rest(pair) and self.at_rest(pair, SHADOW), "links at rest")

    def test_what_passes_makes_the_link_a_usual_one_again(self, pair: Pair) -> None:
        pair.monitor(US_PER_S)
        self.rest(pair)
        eventually(lambda: pair.register("a", "liveness_dead_interval") == [4 * US_PER_S] * 2, "stretched")
        assert pair.crosses() == PRIMARY
        for switch in ("a", "b"):
            eventually(lambda switch=switch: pair.register(switch, "liveness_dead_interval")[0] == US_PER_S, "usual")
            assert pair.register(switch, "liveness_dead_interval")[1] == 4 * US_PER_S
            assert pair.register(switch, "liveness_lost") == [0, 0]
        eventually(lambda: self.at_rest(pair), "at rest again")

    def test_a_cut_of_a_link_at_rest_is_found_by_what_is_sent(self, pair: Pair) -> None:
        """By the usual interval, from the first packet on."""
        pair.monitor(2 * US_PER_S)
        self.rest(pair)
        for client in pair.client.values():
            client.impair(PRIMARY, {"loss": [(0, 1.0)]})
        cut = pair.client["a"].clock_ns
        pair.host["a"].send(packet())
        eventually(lambda: pair.dead_since(cut), "a report of the death")
        assert pair.register("a", "liveness_dead_interval") == [2 * US_PER_S, 8 * US_PER_S]
        assert pair.crosses() == SHADOW
        for client in pair.client.values():
            client.impair(PRIMARY, clear=True)
        eventually(lambda: pair.crosses() == PRIMARY, "the way back")
