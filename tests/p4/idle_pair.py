"""Two switches and the link between them in virtual time, each with a packet generator that asks idle links less often.

```
host ─ 1 [a] 2 ──── 2 [b] 1 ─ host        port 3 of both: another way, which leads nowhere here
```

The generators follow the rules of ``engine/native/switchd/pktgen.c``, heartbeats that may wait those of ``ring.c``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from tests.p4 import frames as f
from tests.p4.embedded import START_US, Embedded
from tests.p4.target import nexthop

INTERVAL = 10_000
DEAD = 27_000
RELAX_AFTER = 1_000_000
FOLLOWED = 4
HOST, LINK, DETOUR = 1, 2, 3
NETWORKS = {"a": "10.0.1.0", "b": "10.0.2.0"}
ADDRESSES = {"a": "10.0.1.9", "b": "10.0.2.9"}


def is_heartbeat(frame: bytes) -> bool:
    return frame[12:14] == f.ETHERTYPE_HEARTBEAT.to_bytes(2, "big")


@dataclass(slots=True)
class Generator:
    """``stretch`` 0: every link is asked at each interval. ``defers``: heartbeats may wait for the next order."""

    phase: int = 0
    interval: int = INTERVAL
    stretch: int = 2
    defers: bool = True
    patient: bool = True  # False: what an older version sends, which lets nobody wait


@dataclass(slots=True)
class Node:
    switch: Embedded
    generator: Generator
    due: int = 0
    relaxed_due: int = 0
    relaxed: bool = False
    used: int = START_US
    follow: int = 0
    aside: list[tuple[int, bytes]] = field(default_factory=list)
    wakes: list[int] = field(default_factory=list)
    held_until: int = 0


class Pair:
    """``drop(time, sender, frame)``: frames that get lost on the link."""

    def __init__(self, a: Generator, b: Generator, delay: int = 100, dead: dict[str, int] | None = None) -> None:
        self.now = START_US
        self.delay = delay
        self.drop: Callable[[int, str, bytes], bool] = lambda _time, _sender, _frame: False
        self.delivered: list[tuple[int, str]] = []
        self.detoured: list[tuple[int, str]] = []
        self.sent = 0
        self._order = count()
        self._queue: list[tuple[int, int, str, int, bytes]] = []
        self.nodes = {name: Node(Embedded(), generator) for name, generator in (("a", a), ("b", b))}
        for name, node in self.nodes.items():
            node.due = node.relaxed_due = START_US + node.generator.phase
            for group, (where, network) in enumerate(NETWORKS.items(), 1):
                node.switch.insert("route_ipv4", {"dst": (network, 24)}, "set_group", {"group_id": group})
                port = HOST if where == name else LINK
                node.switch.insert("primary_nexthop", {"group_id": group}, "set_nexthop", nexthop(port))
                if port == LINK:
                    node.switch.insert("shadow_nexthop", {"group_id": group}, "set_nexthop", nexthop(DETOUR))
            interval = (dead or {}).get(name, DEAD)
            times = {"dead_interval": interval, "report_interval": 100_000, "rtt_delta": 5_000}
            node.switch.insert("liveness_config", {"port": LINK}, "monitor", times)

    def close(self) -> None:
        for node in self.nodes.values():
            node.switch.close()

    def lost(self, name: str) -> int:
        return self.nodes[name].switch.register("liveness_lost", LINK)

    def traffic(self, name: str, begin: int, duration: int, spacing: int = 500) -> None:
        """Packets of the host at ``name`` to the other one."""
        other = "b" if name == "a" else "a"
        for time in range(begin, begin + duration, spacing):
            self.sent += 1
            frame = f.udp4(ADDRESSES[other], src=ADDRESSES[name])
            heapq.heappush(self._queue, (time, next(self._order), name, HOST, frame))

    def carrier_lost(self, name: str, time: int) -> None:
        heapq.heappush(self._queue, (time, next(self._order), name, f.PKTGEN_PORT, f.command(f.PORT_DOWN, LINK)))

    def run(self, duration: int) -> None:
        end = self.now + duration
        while True:
            name, node = min(self.nodes.items(), key=lambda item: max(item[1].due, item[1].held_until))
            due = max(node.due, node.held_until)
            if min(due, self._queue[0][0] if self._queue else end) >= end:
                break
            if not self._queue or due <= self._queue[0][0]:
                self.now = due
                self._tick(name, node)
            else:
                self.now, _, name, port, frame = heapq.heappop(self._queue)
                self._arrive(name, port, frame)
        self.now = end

    # -- one switch --------------------------------------------------------------------------------------------------

    def _grid(self, node: Node, time: int, step: int) -> int:
        origin = START_US + node.generator.phase
        return origin + ((time - origin) // step + 1) * step

    def _schedule(self, node: Node, after: int) -> None:
        soon = self._grid(node, after, node.generator.interval)
        node.due = min(node.relaxed_due, soon) if not node.relaxed or soon < node.follow else node.relaxed_due

    def _tick(self, name: str, node: Node) -> None:
        self._wake(name, node)
        interval = node.generator.interval
        at = node.due + (self.now - node.due) // interval * interval
        every = at >= node.relaxed_due
        if every:
            node.relaxed_due = self._grid(node, at, interval << node.generator.stretch)
            if node.generator.stretch and not node.relaxed and at - node.used >= RELAX_AFTER:
                node.relaxed, node.follow = True, 0
        if every or not node.relaxed or at < node.follow:
            self._ask(name, node, at)
        self._schedule(node, at)

    def _ask(self, name: str, node: Node, at: int) -> None:
        stretch = node.generator.stretch if node.relaxed else 0
        self._process(name, node, f.PKTGEN_PORT, f.command(f.HEARTBEAT, LINK, stretch), at)

    def _use(self, name: str, node: Node, time: int) -> None:
        node.used = time
        if node.relaxed:
            node.relaxed = False
            self._ask(name, node, time)
            self._schedule(node, time)

    def _wake(self, name: str, node: Node) -> None:
        if not node.wakes or node.wakes[-1] != self.now:
            node.wakes.append(self.now)
        waiting, node.aside = node.aside, []
        for time, frame in waiting:
            self._process(name, node, LINK, frame, time)

    def _arrive(self, name: str, port: int, frame: bytes) -> None:
        node, time = self.nodes[name], self.now
        if time < node.held_until:
            heapq.heappush(self._queue, (node.held_until, next(self._order), name, port, frame))
            return
        beat = is_heartbeat(frame)
        if beat and node.generator.defers:
            request = f.parse_heartbeat(frame)
            patience = node.generator.interval << (node.generator.stretch if node.relaxed else 0)
            if request["op"] == f.REPLY or int(request["echo_time"]) >= patience:
                node.aside.append((time, frame))
                return
        self._wake(name, node)
        if beat and node.relaxed:
            node.follow = time + FOLLOWED * node.generator.interval
            self._schedule(node, time)
        elif not beat and port != f.PKTGEN_PORT and port == LINK:
            self._use(name, node, time)
        self._process(name, node, port, frame, time)

    def _process(self, name: str, node: Node, port: int, frame: bytes, time: int) -> None:
        node.switch.now_us = time
        used = False
        for out, data in node.switch.send(port, frame):
            if out == HOST:
                self.delivered.append((self.now, name))
            elif out == DETOUR:
                self.detoured.append((self.now, name))
            elif out == LINK:
                used |= not is_heartbeat(data)
                self._transmit(name, node, data, self.now - time)
        if used:
            self._use(name, node, time)

    def _transmit(self, name: str, node: Node, data: bytes, held: int) -> None:
        if is_heartbeat(data):
            beat = f.parse_heartbeat(data)
            patience = int(beat["echo_time"])
            if beat["op"] == f.REQUEST and not node.generator.patient:
                patience = 0
            tx_time = int(beat["tx_time"]) + (held if beat["op"] == f.REPLY else 0)  # as egress does it
            data = f.heartbeat(
                int(beat["op"]), port=int(beat["port"]), seq=int(beat["seq"]), tx_time=tx_time, echo_time=patience
            )
        if not self.drop(self.now, name, data):
            other = "b" if name == "a" else "a"
            heapq.heappush(self._queue, (self.now + self.delay, next(self._order), other, LINK, data))
