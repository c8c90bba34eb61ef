r"""Four switches in virtual time: the program's promises about a network, without processes or interfaces.

```
        s2
      1/  \2
     2/    \2
 h ─ s1     s4 ─ h         hosts at port 1
     3\    /3
      1\  /2
        s3
```

s1 sends to s4 by s2; its shadow goes by s3 with label 1042. Each switch has a packet generator.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count, groupby

import pytest

from tests.p4 import frames as f
from tests.p4.embedded import START_US, Embedded
from tests.p4.target import nexthop

HEARTBEAT = 10_000  # us
DEAD = 3 * HEARTBEAT
DELAY = 1_000  # us, each link, each way
SPACING = 500  # us between data packets: 2,000 packets/s
LABEL = 1042

LINKS = {
    ("s1", 2): ("s2", 1),
    ("s2", 2): ("s4", 2),
    ("s1", 3): ("s3", 1),
    ("s3", 2): ("s4", 3),
}
LINKS |= {there: here for here, there in LINKS.items()}
GROUP = {"10.0.4.0": 4, "10.0.1.0": 1}


class Network:
    """Switches, links with a delay, and a clock."""

    def __init__(self) -> None:
        self.switches = {name: Embedded() for name in ("s1", "s2", "s3", "s4")}
        self.now = START_US
        self.broken: set[tuple[str, int]] = set()  # transmitting ends whose frames vanish
        self.held: dict[str, int] = {}  # switches that handle nothing until then, and everything after
        self.delivered: list[tuple[int, int, str]] = []  # (number, time, last switch)
        self.visits: dict[int, list[str]] = {}
        self._order = count()
        self._queue: list[tuple[int, int, str, int, bytes]] = []
        self._configure()

    def _configure(self) -> None:
        ways = {  # switch: port towards (s1's host, s4's host)
            "s1": (1, 2),
            "s2": (1, 2),
            "s3": (1, 2),
            "s4": (2, 1),
        }
        for name, switch in self.switches.items():
            for (prefix, group), port in zip(GROUP.items(), reversed(ways[name]), strict=True):
                switch.insert("route_ipv4", {"dst": (prefix, 24)}, "set_group", {"group_id": group})
                switch.insert("primary_nexthop", {"group_id": group}, "set_nexthop", nexthop(port))
            for here, port in LINKS:
                if here == name:
                    parameters = {"dead_interval": DEAD, "report_interval": 1_000_000, "rtt_delta": 10_000}
                    switch.insert("liveness_config", {"port": port}, "monitor", parameters)
        shadow = nexthop(3) | {"label": LABEL}
        self.switches["s1"].insert("shadow_nexthop", {"group_id": 4}, "set_nexthop_label", shadow)
        self.switches["s3"].insert("label", {"label": LABEL}, "label_forward", nexthop(2))
        self.switches["s4"].insert("label", {"label": LABEL}, "label_pop")

    def close(self) -> None:
        for switch in self.switches.values():
            switch.close()

    def at(self, time: int, name: str, port: int, frame: bytes) -> None:
        heapq.heappush(self._queue, (time, next(self._order), name, port, frame))

    def heartbeats(self, duration: int, names: tuple[str, ...] = ("s1", "s2", "s3", "s4")) -> None:
        """Orders of the packet generators from now on."""
        for position, name in enumerate(names):
            for time in range(self.now + position * 700, self.now + duration, HEARTBEAT):
                for here, port in LINKS:
                    if here == name:
                        self.at(time, name, f.PKTGEN_PORT, f.command(f.HEARTBEAT, port))

    def traffic(self, duration: int) -> int:
        """Numbered packets from the host at s1 to the host at s4; returns how many."""
        times = range(self.now, self.now + duration, SPACING)
        for number, time in enumerate(times):
            self.at(time, "s1", 1, f.udp4("10.0.4.9", src="10.0.1.9", data=number.to_bytes(4, "big")))
        return len(times)

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self._queue and self._queue[0][0] < end:
            self.now, _, name, port, frame = heapq.heappop(self._queue)
            if self.now < self.held.get(name, 0):
                if port != f.PKTGEN_PORT:  # ticks of a switch that stands still are not made up for
                    self.at(self.held[name], name, port, frame)
                continue
            self._trace(name, port, frame)
            switch = self.switches[name]
            switch.now_us = self.now
            for out, data in switch.send(port, frame):
                if (name, out) in LINKS:
                    if (name, out) not in self.broken:
                        there, there_port = LINKS[name, out]
                        self.at(self.now + DELAY, there, there_port, data)
                elif out == 1:
                    assert data[23] == 17 and data[14] == 0x45, "hosts see plain IPv4"
                    self.delivered.append((int.from_bytes(data[-4:], "big"), self.now, name))
                    self.ttl = data[22]
        self.now = end
        for switch in self.switches.values():
            switch.now_us = end

    def _trace(self, name: str, port: int, frame: bytes) -> None:
        if frame[12:14] in (b"\x08\x00", b"\x88\x47") and port != f.PKTGEN_PORT:
            self.visits.setdefault(int.from_bytes(frame[-4:], "big"), []).append(name)

    def flip(self, name: str, group: int, bit: int) -> None:
        self.switches[name].send(f.CPU_PORT, f.command(f.SET_FAILOVER, group, bit))


@pytest.fixture
def network() -> Iterator[Network]:
    """A network whose ports have all heard of each other."""
    made = Network()
    made.heartbeats(1_000_000)
    made.run(3 * HEARTBEAT)
    for switch in made.switches.values():
        switch.digests()
    yield made
    made.close()


def lost(network: Network, sent: int) -> int:
    numbers = [number for number, _, _ in network.delivered]
    assert len(numbers) == len(set(numbers)), "duplicates"
    return sent - len(numbers)


def no_loops(network: Network) -> None:
    for number, names in network.visits.items():
        assert len(names) == len(set(names)), f"packet {number}: {names}"


def test_round_trip_time_is_twice_the_delay(network: Network) -> None:
    for name, port in LINKS:
        assert network.switches[name].register("liveness_rtt", port) == 2 * DELAY


def test_undisturbed(network: Network) -> None:
    sent = network.traffic(100_000)
    network.run(200_000)
    assert lost(network, sent) == 0
    assert all(names == ["s1", "s2", "s4"] for names in network.visits.values())
    assert network.ttl == 61


def test_flip_loses_nothing_and_ttl_counts_every_switch(network: Network) -> None:
    sent = network.traffic(100_000)
    network.run(50_000)
    network.flip("s1", 4, 1)
    network.run(150_000)
    assert lost(network, sent) == 0
    no_loops(network)
    ways = list(network.visits.values())
    change = ways.index(["s1", "s3", "s4"])
    assert change == 100  # 50 ms of 2,000 packets/s: the very next packet
    assert all(way == ["s1", "s3", "s4"] for way in ways[change:])
    assert network.ttl == 61


def test_silent_cut_heals_within_the_dead_interval(network: Network) -> None:
    sent = network.traffic(200_000)
    network.run(50_000)
    network.broken |= {("s1", 2), ("s2", 1)}
    network.run(250_000)
    no_loops(network)
    gone = lost(network, sent)
    assert 0 < gone <= (DEAD + 2 * DELAY) // SPACING + 1


def test_carrier_loss_heals_with_the_next_packet(network: Network) -> None:
    sent = network.traffic(100_000)
    network.run(50_000)
    network.broken |= {("s1", 2), ("s2", 1)}
    network.at(network.now, "s1", f.PKTGEN_PORT, f.command(f.PORT_DOWN, 2))
    network.run(150_000)
    assert lost(network, sent) <= DELAY // SPACING


def test_cut_in_the_sending_direction_only_is_noticed(network: Network) -> None:
    """s1 still hears s2, but s2 does not hear s1."""
    sent = network.traffic(200_000)
    network.run(50_000)
    network.broken.add(("s1", 2))
    network.run(250_000)
    assert lost(network, sent) <= (DEAD + 2 * HEARTBEAT + 2 * DELAY) // SPACING + 1


def test_neighbour_held_up_while_the_other_way_is_cut_costs_nothing(network: Network) -> None:
    """The shadow's neighbour stands still for twice the dead interval; its packets wait, and none is given up."""
    network.flip("s1", 4, 1)
    network.broken |= {("s1", 2), ("s2", 1)}
    network.run(100_000)
    sent = network.traffic(200_000)
    network.run(50_000)
    network.held["s3"] = network.now + 2 * DEAD
    network.run(300_000)
    assert lost(network, sent) == 0
    no_loops(network)
    assert network.switches["s1"].counter("group_fallback", 4)[0] > 0


def test_repair_brings_the_primary_back(network: Network) -> None:
    cut = {("s1", 2), ("s2", 1)}
    network.broken |= cut
    network.run(100_000)
    network.broken -= cut
    network.run(3 * HEARTBEAT)
    sent = network.traffic(20_000)
    network.run(100_000)
    assert lost(network, sent) == 0
    assert all(names == ["s1", "s2", "s4"] for names in network.visits.values())


def test_each_end_reports_death_and_then_revival(network: Network) -> None:
    cut = {("s1", 2), ("s2", 1)}
    network.broken |= cut
    network.run(100_000)
    network.broken -= cut
    network.run(100_000)
    for name, port in (("s1", 2), ("s2", 1)):
        events = [one["event"] for one in network.switches[name].digests() if one["port"] == port]
        # Death may be told again when the neighbour is heard before it hears us; revival comes once, and last.
        assert [event for event, _ in groupby(events)] == [2, 3]
        assert events.count(3) == 1
    for name, port in (("s3", 1), ("s4", 3)):
        assert [one for one in network.switches[name].digests() if one["port"] == port] == []


def test_gaps_are_counted_where_they_are_received(network: Network) -> None:
    network.broken.add(("s2", 1))
    network.run(2 * HEARTBEAT)
    network.broken.clear()
    network.run(3 * HEARTBEAT)
    assert network.switches["s1"].register("liveness_lost", 2) == 2
    assert network.switches["s2"].register("liveness_lost", 1) == 0
