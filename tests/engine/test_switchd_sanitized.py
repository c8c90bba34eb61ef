"""Garbage of every kind against a build with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api import DatapathError
from engine.connection import connect
from engine.dataplane import SwitchOp
from engine.process import executable
from tests.engine.engine_support import no_sanitizers
from tests.engine.switchd_support import Rig, eventually, missing, number_of, numbered, pipeline, rig

HEADER = struct.Struct("<IIHH")


pytestmark = pytest.mark.skipif(bool(missing() or no_sanitizers()), reason=missing() or no_sanitizers())


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("ASAN_OPTIONS", "exitcode=99:detect_leaks=1")
    monkeypatch.setenv("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1:exitcode=99")
    with rig(tmp_path) as built:
        built.start(binary=executable(sanitize=True), log_level="info")
        yield built
    # The rig's end asserts exit code 0: a leak is a failure, too.


def healthy(switch: Rig) -> None:
    assert switch.process is not None
    assert switch.process.poll() is None, switch.log.read_text()[-4000:]

    def crosses() -> bool:
        switch.host[1].send(numbered(4242))
        return any(number_of(data) == 4242 for data, _ in switch.host[2].receive(64, seconds=0.3))

    eventually(crosses, "a frame through the switch")


def test_garbage_frames(switch: Rig) -> None:
    rng = random.Random(1)
    client = switch.client()
    client.impair(1, {"corrupt": [(0, 0.5)], "delay_ms": [(0, 1)], "jitter_ms": [(0, 2)]})
    client.impair(2, {"rate_mbps": [(0, 500)]})
    client.pktgen(1000, defer=True)
    for round_ in range(2000):
        size = rng.choice((14, 15, 18, 60, rng.randrange(14, 1515)))
        data = bytearray(rng.randbytes(size))
        if round_ % 2:
            kind = rng.choice((0x0800, 0x86DD, 0x8100, 0x88A8, 0x88B5, 0x88B6, 0x88B7, 0x8847))
            data[12:14] = kind.to_bytes(2, "big")
        with contextlib.suppress(OSError):
            switch.host[rng.choice((1, 2, 3))].send(bytes(data))
        if round_ % 20 == 0:
            with contextlib.suppress(DatapathError):
                client.packet_out(rng.randbytes(rng.randrange(0, 3000)))
    client.impair(1, clear=True)
    client.impair(2, clear=True)
    client.impair(None, {"capacity_pps": [(0, 1e6)]})
    healthy(switch)


def test_garbage_offloaded_frames(switch: Rig) -> None:
    """Frames whose checksums the kernel left unfinished, of all transports and lengths."""
    interface = switch.host[1].interface
    subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", interface], check=True)
    subprocess.run(
        ["ip", "neigh", "replace", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", interface, "nud", "permanent"],
        check=True,
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        for size in (*range(0, 40), 1471, 1472, 4000):
            sender.sendto(b"x" * size, ("192.0.2.9", 4242))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sender.connect(("192.0.2.9", 4242))
    healthy(switch)


def mutations(rng: random.Random) -> bytes:
    seeds = [
        b'{"port":1,"schedule":{"loss":[[0,0.1],[2.5e-1,0]]},"seed":7}',
        b'{"port":null,"schedule":{"capacity_pps":[[0,5]],"memory":null},"base":true}',
        b'{"add":[{"port":9,"name":"\\u0041\\n\\""}],"remove":[3,2]}',
        b'{"interval_us":1000,"port_down":false,"defer":true}',
        b"",
    ]
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randrange(4)):
        if not data:
            break
        where = rng.randrange(len(data))
        action = rng.randrange(4)
        if action == 0:
            data[where] = rng.randrange(256)
        elif action == 1:
            del data[where : where + rng.randrange(1, 6)]
        elif action == 2:
            data[where:where] = rng.choice((b"[", b"{", b'"', b"\\u12", b"1e400", b"-", b",", b"null", b"\0"))
        else:
            data += data[:where]
    return bytes(data)


def test_garbage_messages(switch: Rig) -> None:
    rng = random.Random(2)
    ops = [op for op in range(0x100, 0x110) if op not in (SwitchOp.SHUTDOWN, SwitchOp.PCAP)] + [2, 9, 11, 0x17, 0xFFFF]
    for _ in range(60):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.settimeout(5)
            connect(raw, str(switch.socket_path), time.monotonic() + 10)
            for _ in range(rng.randrange(1, 40)):
                payload = mutations(rng) if rng.random() < 0.7 else rng.randbytes(rng.randrange(0, 200))
                op = rng.choice(ops)
                length = len(payload)
                if rng.random() < 0.03:
                    length = rng.choice((0xFFFFFFFF, 64 << 20, length + 5, max(0, length - 1)))
                message = HEADER.pack(length, rng.randrange(1 << 32), op, rng.randrange(1 << 16)) + payload
                try:
                    raw.sendall(message)
                except ConnectionError:
                    break  # a length beyond the limit ended the connection
            if rng.random() < 0.5:
                raw.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    raw.recv(1 << 16)
    client = switch.client()
    known = {port["port"] for port in client.hello()["ports"]}
    for port, interface in switch.port.items():
        if port not in known:
            client.add_port(port, interface)
    for port in switch.port:
        client.impair(port, clear=True)
        client.impair(port, clear=True, base=True)
    client.impair(None, clear=True)
    client.impair(None, clear=True, base=True)
    client.register_write(0, 0, 0)
    healthy(switch)


def test_interfaces_vanish_under_load(switch: Rig) -> None:
    client = switch.client()
    client.pktgen(500, defer=True)
    client.impair(2, {"delay_ms": [(0, 3)], "rate_mbps": [(0, 5)]})
    for round_ in range(6):
        for number in range(200):
            switch.host[1].send(numbered(number, size=1000))
        switch.unplug(2 if round_ % 2 else 3)
        switch.plug(2 if round_ % 2 else 3)
    client.impair(2, clear=True)
    client.pktgen(0)
    eventually(lambda: all(port.up for port in client.device_state().ports), "all ports up")
    healthy(switch)


def test_reload_and_ports_under_load(switch: Rig) -> None:
    client = switch.client()
    client.pktgen(500, defer=True)
    for round_ in range(10):
        for number in range(50):
            switch.host[1].send(numbered(number))
        client.load(pipeline())
        client.remove_port(2 + round_ % 2)
        client.add_port(2 + round_ % 2, switch.port[2 + round_ % 2])
    client.pktgen(0)
    healthy(switch)
