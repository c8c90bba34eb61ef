"""Small requests over the control socket in the middle of a long one, which here ends only when they have set a bit."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api import Code
from engine.codec import Command
from engine.dataplane import SwitchOp
from tests.engine.switchd_support import Rig, burst, frame, needs_interfaces, number_of, rig
from tests.engine.test_switchd_control import Raw, alive

pytestmark = needs_interfaces()
LONG = struct.pack("<BI", 1, 0xFFFFFFFF)  # the TABLE_WRITE that waits
PATIENCE_S = 90.0  # more than it waits


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as built:
        built.start()
        yield built


def raw(switch: Rig) -> Raw:
    client = Raw(switch.socket_path)
    client.socket.settimeout(PATIENCE_S)
    return client


def bit(value: int) -> bytes:
    return struct.pack("<IIB", 0, 0, value)


def clock(reply: tuple[int, int, int, bytes]) -> int:
    """The time (ns) of a reply that says OK."""
    _ident, _op, code, body = reply
    assert code == 0, body
    return int.from_bytes(body[:8], "little")


def well(switch: Rig) -> None:
    switch.client().register_write(0, 0, 0)  # from port 1 to port 2 again
    alive(switch)


def test_a_register_write_overtakes(switch: Rig) -> None:
    long, short = raw(switch), raw(switch)
    long.send(Command.TABLE_WRITE, LONG)
    short.send(Command.REGISTER_WRITE, bit(1))
    before = clock(short.reply())
    assert before <= clock(long.reply())
    assert switch.client().register_read(0) == [1]
    well(switch)


def test_so_does_one_of_a_client_that_comes_only_now(switch: Rig) -> None:
    long = raw(switch)
    long.send(Command.TABLE_WRITE, LONG)
    for value in (0, 0, 1):
        short = raw(switch)
        short.send(Command.REGISTER_WRITE, bit(value))
        clock(short.reply())
        short.socket.close()
    clock(long.reply())
    well(switch)


def test_replies_from_just_before_the_long_one_are_sent(switch: Rig) -> None:
    """Both requests are there when the process looks, and the short one may be executed first."""
    clients = [raw(switch) for _ in range(3)]
    for client in clients:  # all are known
        client.send(Command.REGISTER_WRITE, bit(0))
        clock(client.reply())
    assert switch.process is not None
    switch.process.send_signal(signal.SIGSTOP)
    clients[0].send(Command.REGISTER_WRITE, bit(0))
    clients[1].send(Command.TABLE_WRITE, LONG)
    clients[2].send(Command.REGISTER_WRITE, bit(0))
    switch.process.send_signal(signal.SIGCONT)
    for short in (clients[0], clients[2]):
        clock(short.reply())
    clients[2].send(Command.REGISTER_WRITE, bit(1))
    clock(clients[2].reply())
    clock(clients[1].reply())
    well(switch)


def test_packets_of_the_controller_and_of_others_go_on(switch: Rig) -> None:
    long, short = raw(switch), raw(switch)
    long.send(Command.TABLE_WRITE, LONG)
    for size in (60, 1500):
        short.send(SwitchOp.PACKET_OUT, (3 << 7).to_bytes(2, "big") + frame(b"in the middle", size=size))
        clock(short.reply())
        assert [data for data, _ in switch.host[3].receive()] == [frame(b"in the middle", size=size)]
    short.send(SwitchOp.PACKET_OUT, (3 << 7).to_bytes(2, "big") + frame(size=40_000))  # the interface cannot send it
    clock(short.reply())
    burst(switch.host[1], 5)
    assert [number_of(data) for data, _ in switch.host[2].receive(5)] == list(range(5))
    short.send(Command.REGISTER_WRITE, bit(1))
    clock(short.reply())
    clock(long.reply())
    well(switch)


@pytest.mark.parametrize(
    ("op", "payload"),
    [(SwitchOp.STATE_PUT, b"\1ab"), (Command.STATS, b""), (SwitchOp.HELLO, b""), (Command.TABLE_WRITE, bytes(5000))],
)
def test_others_wait_and_so_does_what_is_behind_them(switch: Rig, op: int, payload: bytes) -> None:
    long, short, orderly = raw(switch), raw(switch), raw(switch)
    long.send(Command.TABLE_WRITE, LONG)
    begun = b""
    while not any(begun):
        short.send(Command.REGISTER_READ, struct.pack("<III", 1, 7, 1))
        begun = short.reply()[3][8:]
    orderly.send(op, payload, ident=1)
    orderly.send(Command.REGISTER_WRITE, bit(0), ident=2)
    for value in (0, 0, 0, 1):
        short.send(Command.REGISTER_WRITE, bit(value))
        clock(short.reply())
    ended, first, second = long.reply(), orderly.reply(), orderly.reply()
    assert (first[0], second[0]) == (1, 2)
    assert clock(ended) <= clock(first) <= clock(second)
    well(switch)


def test_a_client_that_goes_away_in_the_middle(switch: Rig) -> None:
    """With requests that nobody will hear the answer of."""
    long, short = raw(switch), raw(switch)
    long.send(Command.TABLE_WRITE, LONG)
    for _ in range(20):
        gone = raw(switch)
        gone.send(Command.REGISTER_READ, struct.pack("<III", 0, 0, 1))
        gone.send(Command.REGISTER_READ, b"")
        gone.socket.close()
    short.send(Command.REGISTER_WRITE, bit(7)[:5])
    assert short.reply()[2] == Code.INVALID_ARGUMENT
    short.send(Command.REGISTER_WRITE, bit(1))
    clock(short.reply())
    clock(long.reply())
    well(switch)
