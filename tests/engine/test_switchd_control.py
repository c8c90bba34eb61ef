"""The control socket: several clients, hostile ones, dead ones; the process goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api import Code, DatapathError, Digest, EngineError, PacketIn
from engine.build import INCLUDE, compiler
from engine.connection import connect
from engine.dataplane import Client, SwitchOp
from engine.library import ABI
from engine.process import spawn
from tests.engine.switchd_support import (
    Rig,
    burst,
    eventually,
    frame,
    needs_interfaces,
    number_of,
    numbered,
    pipeline,
    rig,
)

pytestmark = needs_interfaces()
HEADER = struct.Struct("<IIHH")
DIGEST_KIND, PUNT_KIND = 0x88B7, 0x88B6
TABLE_WRITE = 0x02


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as built:
        built.start()
        yield built


class Raw:
    """A client that says whatever it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        connect(self.socket, str(path), time.monotonic() + 10)

    def send(self, op: int, payload: bytes = b"", ident: int = 1, length: int | None = None) -> None:
        self.socket.sendall(HEADER.pack(len(payload) if length is None else length, ident, op, 0) + payload)

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise EOFError(f"{len(data)} of {count} bytes")
            data += chunk
        return data

    def reply(self) -> tuple[int, int, int, bytes]:
        length, ident, op, code = HEADER.unpack(self.take(HEADER.size))
        return ident, op, code, self.take(length)


def alive(switch: Rig) -> None:
    assert switch.process is not None
    assert switch.process.poll() is None, switch.log.read_text()
    switch.host[1].send(numbered(77))
    assert [number_of(data) for data, _ in switch.host[2].receive()] == [77]


def test_two_clients_at_once(switch: Rig) -> None:
    clients = [switch.client() for _ in range(2)]
    failures: list[BaseException] = []

    def work(client: Client, index: int) -> None:
        try:
            for round_ in range(300):
                key = f"key{index}"
                client.state_put(key, str(round_).encode())
                assert client.state_get(key) == str(round_).encode()
                client.register_write(0, 0, round_ % 2)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(client, index)) for index, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    clients[0].register_write(0, 0, 0)
    assert clients[1].register_read(0) == [0]
    alive(switch)


def test_digests_packet_ins_and_packet_outs(switch: Rig) -> None:
    client = switch.client(subscribe=True)
    switch.host[1].send(frame(kind=DIGEST_KIND, size=100))
    digest = eventually(lambda: switch.of_kind(Digest), "the digest")[0]
    assert (digest.digest, digest.values) == (0, ((100).to_bytes(4, "big"),))
    switch.host[2].send(frame(b"to the controller", kind=PUNT_KIND))
    punted = eventually(lambda: switch.of_kind(PacketIn), "the packet-in")[0]
    assert punted.data == (2 << 7).to_bytes(2, "big") + frame(b"to the controller", kind=PUNT_KIND)
    client.packet_out((3 << 7).to_bytes(2, "big") + frame(b"from the controller"))
    assert [data for data, _ in switch.host[3].receive()] == [frame(b"from the controller")]


def test_replies_carry_a_clock(switch: Rig) -> None:
    client = switch.client()
    first = client.register_write(0, 0, 1)
    second = client.register_write(0, 0, 0)
    assert 0 < first <= second <= client.clock_ns


@pytest.mark.parametrize(
    ("op", "payload", "code"),
    [
        (0x999, b"", Code.UNIMPLEMENTED),
        (0x50, b"", Code.UNIMPLEMENTED),
        (SwitchOp.LOAD, b"/nonexistent.so", Code.INVALID_ARGUMENT),
        (SwitchOp.LOAD, b"/etc/passwd", Code.INVALID_ARGUMENT),
        (SwitchOp.LOAD, b"a\0b", Code.INVALID_ARGUMENT),
        (SwitchOp.LOAD, b"x" * 5000, Code.INVALID_ARGUMENT),
        (SwitchOp.PORTS, b"{", Code.INVALID_ARGUMENT),
        (SwitchOp.PORTS, b'{"add":[{"port":1,"name":"lo"}]}', Code.INVALID_ARGUMENT),
        (SwitchOp.PORTS, b'{"add":[{"port":510,"name":"lo"}]}', Code.INVALID_ARGUMENT),
        (SwitchOp.PORTS, b'{"add":[{"port":9,"name":"a/b"}]}', Code.INVALID_ARGUMENT),
        (SwitchOp.PORTS, b'{"add":[7]}', Code.INVALID_ARGUMENT),
        (SwitchOp.PORTS, b'{"remove":[7]}', Code.NOT_FOUND),
        (SwitchOp.IMPAIR, b"\xff\xfe", Code.INVALID_ARGUMENT),
        (SwitchOp.IMPAIR, b"[" * 100000, Code.INVALID_ARGUMENT),
        (SwitchOp.IMPAIR, b'{"port":1e999,"clear":true}', Code.NOT_FOUND),
        (SwitchOp.PKTGEN, b'{"interval_us":1}', Code.INVALID_ARGUMENT),
        (SwitchOp.PKTGEN, b'{"interval_us":"x"}', Code.INVALID_ARGUMENT),
        (SwitchOp.SUBSCRIBE, b"", Code.INVALID_ARGUMENT),
        (SwitchOp.STATE_PUT, b"", Code.INVALID_ARGUMENT),
        (SwitchOp.STATE_PUT, b"\x09short", Code.INVALID_ARGUMENT),
        (SwitchOp.STATE_GET, b"nothing", Code.NOT_FOUND),
        (SwitchOp.PACKET_OUT, b"x" * 70000, Code.INVALID_ARGUMENT),
        (SwitchOp.PCAP, b"/nonexistent", Code.INVALID_ARGUMENT),
        (0x09, b"", Code.INVALID_ARGUMENT),
    ],
)
def test_bad_commands_get_a_clear_answer(switch: Rig, op: int, payload: bytes, code: Code) -> None:
    client = switch.client()
    with pytest.raises(DatapathError) as caught:
        client.command(op, payload)
    assert caught.value.code is code
    assert str(caught.value)
    assert client.program is not None
    alive(switch)


def test_commands_without_a_program(tmp_path: Path) -> None:
    with rig(tmp_path, (1, 2)) as built:
        client = built.start(load=None)
        assert client.program is None
        for op in (0x01, 0x02, SwitchOp.PACKET_OUT):
            with pytest.raises(DatapathError) as caught:
                client.command(op, b"")
            assert caught.value.code is Code.FAILED_PRECONDITION
        built.host[1].send(numbered(1))
        assert built.host[2].silent()
        client.load(pipeline())
        alive(built)


def test_a_pipeline_of_another_version_is_refused_with_what_to_do(switch: Rig, tmp_path: Path) -> None:
    """As after an upgrade: the server compiles for the next interface, the process lives on and forwards."""
    source, newer = tmp_path / "newer.c", tmp_path / "newer.so"
    source.write_text(
        f'#include "sp_engine.h"\nstatic const struct sp_engine one = {{.abi = {ABI + 1}}};\n'
        "const struct sp_engine *sp_engine(void) { return &one; }\n"
    )
    subprocess.run([*compiler(), "-shared", "-fPIC", f"-I{INCLUDE}", str(source), "-o", str(newer)], check=True)
    with pytest.raises(DatapathError, match=f"another version .*is {ABI}, the pipeline's {ABI + 1}.*restart"):
        switch.client().load(newer)
    alive(switch)


def test_a_message_that_is_too_long_ends_the_connection_with_a_reason(switch: Rig) -> None:
    raw = Raw(switch.socket_path)
    raw.send(SwitchOp.HELLO, length=0xFFFFFFFF, ident=5)
    ident, op, code, body = raw.reply()
    assert (ident, op, code) == (5, SwitchOp.HELLO, Code.INVALID_ARGUMENT)
    assert b"4294967295" in body
    with pytest.raises(EOFError):
        raw.take(1)
    alive(switch)


def test_half_a_message_and_gone(switch: Rig) -> None:
    for cut in (1, HEADER.size - 1, HEADER.size, HEADER.size + 3):
        raw = Raw(switch.socket_path)
        raw.socket.sendall((HEADER.pack(10, 1, SwitchOp.HELLO, 0) + b"0123456789")[:cut])
        raw.socket.close()
    alive(switch)


def test_a_client_that_never_reads_its_replies_is_not_served_for_ever(switch: Rig) -> None:
    """Its replies stay bounded; everybody else is served, and frames flow."""
    raw, client = Raw(switch.socket_path), switch.client()
    raw.socket.settimeout(0.5)
    requests, place = HEADER.pack(0, 1, SwitchOp.HELLO, 0) * 200, 0

    def unsent() -> int:
        return int(max(entry["unsent"] for entry in client.hello()["clients"]))

    def full() -> bool:
        nonlocal place
        with contextlib.suppress(TimeoutError):
            while True:
                place = (place + raw.socket.send(requests[place:])) % len(requests)
        return unsent() >= 4 << 20

    eventually(full, "no more room for its replies")
    alive(switch)
    assert unsent() < 6 << 20


def test_slow_subscriber_loses_events_counted_and_blocks_nobody(switch: Rig) -> None:
    raw = Raw(switch.socket_path)
    raw.send(SwitchOp.SUBSCRIBE, struct.pack("<I", 0b0011))
    assert raw.reply()[2] == 0
    fast = switch.client(subscribe=True)
    count = 3000
    for start in range(0, count, 100):
        for _ in range(100):
            switch.host[1].send(frame(kind=PUNT_KIND, size=1500))
        eventually(lambda: len(switch.events) >= start + 100, "events of the fast one")  # noqa: B023
    assert fast.lost_events == 0
    lost = max(entry["lost"] for entry in fast.hello()["clients"])
    assert 0 < lost < count
    got = told = 0
    raw.socket.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while True:
            _, op, _, _body = raw.reply()
            got += op == 0x8001
    assert got == count - lost
    switch.host[1].send(frame(kind=PUNT_KIND))
    while told == 0:  # the next event is preceded by the news of the loss
        _, op, _, body = raw.reply()
        if op == 0x8004:
            told = struct.unpack("<QQ", body)[1]
    assert told == lost
    alive(switch)


def test_more_clients_than_places(switch: Rig) -> None:
    crowd = []
    for _ in range(80):
        raw = Raw(switch.socket_path)
        crowd.append(raw)
    alive(switch)
    for raw in crowd:
        raw.socket.close()

    def served() -> bool:
        try:
            return bool(Client(switch.socket_path).hello())
        except DatapathError:
            return False

    eventually(served, "a place for a new client")


def test_frames_flow_while_large_batches_are_applied(switch: Rig) -> None:
    """Nothing of a burst is lost or late by a whole batch: updates go in slices."""
    stop = threading.Event()

    def write() -> None:
        with switch.client() as client:
            body = struct.pack("<BI", 0, 64)
            while not stop.is_set():
                client._ordered.run(TABLE_WRITE, [body] * 200)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for start in range(0, 2000, 100):
            burst(switch.host[1], 100, first=start)
            received = switch.host[2].receive(100)
            assert [number_of(data) for data, _ in received] == list(range(start, start + 100))
    finally:
        stop.set()
        thread.join(60)


SERVER = """
import sys, time
from engine.dataplane import Client
from engine.process import spawn
process = spawn({ports}, {socket!r}, load={load!r}, log_file={log!r})
client = Client({socket!r})
client.state_put("pipeline", b"remember me")
client.register_write(0, 0, 1)
client.subscribe(print)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_the_process_outlives_its_server_and_is_taken_over(tmp_path: Path) -> None:
    with rig(tmp_path) as built:
        program = SERVER.format(
            ports=dict(built.port), socket=str(built.socket_path), load=str(pipeline()), log=str(built.log)
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as server:
            assert server.stdout is not None
            pid = int(server.stdout.readline())
            server.send_signal(signal.SIGKILL)
        try:
            built.host[1].send(numbered(3))
            assert [number_of(data) for data, _ in built.host[3].receive()] == [3]
            with Client(built.socket_path) as client:
                assert client.program is not None
                assert client.program.name == "switchd-test"
                assert client.hello()["pid"] == pid
                assert client.state_get("pipeline") == b"remember me"
                assert client.register_read(0) == [1]
                client.state_put("pipeline", b"")
                assert client.state_get("pipeline") is None
                client.shutdown()
                eventually(lambda: not built.socket_path.exists(), "the end of the process")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def test_state_is_bounded(switch: Rig) -> None:
    client = switch.client()
    with pytest.raises(DatapathError) as caught:
        for index in range(10):
            client.state_put(f"part{index}", b"x" * (16 << 20))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert len(client.state_get("part0") or b"") == 16 << 20


def test_a_socket_in_use_is_not_taken(switch: Rig) -> None:
    with pytest.raises(EngineError, match="is in use"):
        spawn({}, switch.socket_path, log_file=switch.directory / "second.log")
    alive(switch)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with rig(tmp_path, (1, 2)) as built:
        built.start()
        assert built.process is not None
        built.process.kill()
        built.process.wait()
        assert built.socket_path.exists()
        built.start()
        alive(built)


def test_client_of_a_dead_process(tmp_path: Path) -> None:
    with pytest.raises(DatapathError) as caught:
        Client(tmp_path / "nobody.sock")
    assert caught.value.code is Code.UNAVAILABLE
    with rig(tmp_path, (1, 2)) as built:
        client = built.start()
        assert built.process is not None
        built.process.terminate()
        assert built.process.wait(60) == 0
        with pytest.raises(DatapathError) as caught:
            client.hello()
        assert caught.value.code is Code.UNAVAILABLE
        built.start()
        assert client.hello()["pid"] == built.process.pid  # connects anew
