"""Packets through a running switch while batches change two tables together: all pass, by the old state or by the new.

With sending cores, so that the packets of one flow leave on another thread than the one that writes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.api import ActionCall, Code, Match, Op, ProgramInfo, TableUpdate
from engine.library import compile_program
from tests.engine.switchd_support import Host, Rig, needs_interfaces, rig
from tests.engine.test_switchd_steering import MAC, PROGRAM, entry, packet

pytestmark = needs_interfaces()
BATCHES = 40
OTHERS = 1500  # entries that come and go in each batch, so that packets pass in the middle
OUTSTANDING = 64  # frames: a queue holds more
PREFIX = Match(socket.inet_aton("10.0.2.0"), prefix_len=24)


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    program = compile_program(PROGRAM, packet_out_bytes=2, packet_in_bytes=2)
    with rig(tmp_path, (1, 2)) as built:
        built.start(load=program.path, log_level="info", extra=("--cores", "3"))
        yield built


class Stream:
    """Frames from one host to the other, never more than some under way, until :meth:`stop`."""

    def __init__(self, near: Host, far: Host) -> None:
        self._near, self._far = near, far
        self._stop = threading.Event()
        self.sent = 0
        self.received: list[bytes] = []
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            if self.sent - len(self.received) < OUTSTANDING:
                self.sent += 1
                self._near.send(packet())
            else:
                time.sleep(0.0002)  # as many as may be under way are; the receiver takes some meanwhile

    def _receive(self) -> None:
        while not self._stop.is_set() or len(self.received) < self.sent:
            stopped = self._stop.is_set()
            found = self._far.receive(kind=0x0800, seconds=30.0 if stopped else 0.5)
            if not found and stopped:
                return  # lost: the caller sees it
            self.received += [data for data, _time in found]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def nexthop(info: ProgramInfo, number: int) -> TableUpdate:
    """Group ``number`` leads to a neighbour whose address ends in it."""
    target = (0x020000000000 + number).to_bytes(6, "big")
    key = Match(number.to_bytes(2, "big"))
    return entry(info, "primary_nexthop", key, "set_nexthop", (2).to_bytes(2, "big"), MAC[1], target)


def routed(info: ProgramInfo, number: int) -> TableUpdate:
    return entry(info, "route_ipv4", PREFIX, "set_group", number.to_bytes(2, "big"))


def others(info: ProgramInfo, op: Op) -> list[TableUpdate]:
    params = ((2).to_bytes(2, "big"), MAC[1], MAC[2])
    found = [entry(info, "label", Match((n + 16).to_bytes(3, "big")), "label_forward", *params) for n in range(OTHERS)]
    return [replace(update, op=op, action=None if op is Op.DELETE else update.action) for update in found]


def test_no_packet_meets_half_a_batch(switch: Rig) -> None:
    """Each batch gives the route another group, whose neighbour comes with it, and takes away the last one first.

    A packet that met the old route and the new neighbours, or the other way round, would be dropped.
    """
    client = switch.client()
    info = client.program
    assert info is not None
    assert isinstance(nexthop(info, 1).action, ActionCall)
    first = [nexthop(info, 1), routed(info, 1)]
    assert client.table_write(first, atomic=True) == [Code.OK] * 2
    stream = Stream(switch.host[1], switch.host[2])
    try:
        for number in range(2, BATCHES + 2):
            gone = replace(nexthop(info, number - 1), op=Op.DELETE, action=None)
            filling = others(info, Op.INSERT if number % 2 == 0 else Op.DELETE)
            changed = replace(routed(info, number), op=Op.MODIFY)
            middle = len(filling) // 2
            batch = [gone, *filling[:middle], changed, *filling[middle:], nexthop(info, number)]
            if number % 5 == 0:  # one that fails at its very end changes nothing
                refused = client.table_write([*batch, nexthop(info, number)], atomic=True)
                assert refused == [Code.ABORTED] * len(batch) + [Code.ALREADY_EXISTS]
            assert client.table_write(batch, atomic=True) == [Code.OK] * len(batch)
    finally:
        stream.stop()
    assert len(stream.received) == stream.sent
    numbers = [int.from_bytes(data[3:6], "big") for data in stream.received]
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(range(1, BATCHES + 2))
    assert {data[:3] for data in stream.received} == {b"\x02\0\0"}
