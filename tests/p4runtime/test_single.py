"""Single writes by native code agree with Python's in every respect, and survive a data plane that does not answer."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.api import DatapathError
from engine.connection import Exchange
from engine.p4rt.single import SINGLE_MOST, Outcome
from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    FAILOVER,
    INSERT,
    MODIFY,
    OFFSET,
    SAMPLE,
    SEEN,
    TIMEOUT_S,
    RawClient,
    config_of,
    errors_of,
    exact,
    register,
    served,
)
from tests.p4runtime.test_decoder import a_value, an_entry

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="no C compiler"
)
HEADER = struct.Struct("<IIHH")
Reply = Callable[[int, int, bytes], bytes]


class DataPlane:
    """A control socket in front of a fake switch, or of whatever ``reply`` says to (id, op, payload)."""

    def __init__(self, path: Path, backend: FakeBackend) -> None:
        self.commands = 0
        self.connections = 0
        self.reply: Reply = self.obey
        self._backend = backend
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def obey(self, ident: int, op: int, payload: bytes) -> bytes:
        code, body = 0, b""
        try:
            body = self._backend.switch.command(op, payload)
        except DatapathError as error:
            code, body = int(error.code), str(error).encode()
        return HEADER.pack(8 + len(body), ident, op, code) + bytes(8) + body

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            # A client that closes before it has read everything resets the connection.
            with contextlib.suppress(ConnectionResetError), connection, connection.makefile("rb") as stream:
                while len(head := stream.read(HEADER.size)) == HEADER.size:
                    length, ident, op, _code = HEADER.unpack(head)
                    payload = stream.read(length)
                    self.commands += 1
                    answer = self.reply(ident, op, payload)
                    if not answer:
                        break
                    connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT_S)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Any, Any, DataPlane]]:
    """(server that writes natively, one that does not, the first one's data plane), as (backend, device, client)."""
    native, python = FakeBackend(), FakeBackend()
    plane = DataPlane(tmp_path / "socket", native)
    native.switch.exchange = exchange = Exchange(str(tmp_path / "socket"), TIMEOUT_S)
    with served(native) as (first, one), served(python) as (second, other):
        clients = [RawClient(address) for address in (one, other)]
        for client in clients:
            client.become_primary()
            client.set_config(config_of(SAMPLE))
        yield (native, first.device, clients[0]), (python, second.device, clients[1]), plane
        for client in clients:
            client.close()
    exchange.close()
    plane.close()


def a_cell(rng: random.Random) -> p4r.RegisterEntry:
    entry = p4r.RegisterEntry(register_id=rng.choice([*[FAILOVER, SEEN, OFFSET] * 5, 77]))
    if rng.random() < 0.9:
        entry.index.index = rng.choice([*[0, 1, 2, 3] * 4, 511, 512, 1 << 40, -1])
    kind = rng.random()
    if kind < 0.8:
        entry.data.bitstring = a_value(rng, rng.choice([1, 8, 48]))
    elif kind < 0.9:
        entry.data.bool = True
    return entry


def a_request(rng: random.Random) -> bytes:
    request = p4r.WriteRequest(device_id=rng.choice([1] * 20 + [2]))
    if rng.random() < 0.98:
        request.election_id.low, request.election_id.high = rng.choice([(1, 0)] * 30 + [(2, 0), (1, 1)])
    if rng.random() < 0.02:
        request.role = "other"
    if rng.random() < 0.02:
        request.role_id = 1
    if rng.random() < 0.05:
        request.atomicity = rng.choice([1, 2])
    for _ in range(rng.choice([1] * 20 + [0, 2])):
        update = request.updates.add(type=rng.choice([1, 1, 2, 2, 3, 0]))
        if rng.random() < 0.4:
            update.type = rng.choice([2, 2, 2, 2, update.type])
            update.entity.register_entry.CopyFrom(a_cell(rng))
        else:
            update.entity.table_entry.CopyFrom(an_entry(rng))
    data = request.SerializeToString()
    if rng.random() < 0.1:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + bytes([rng.getrandbits(8)]) + data[at + rng.randrange(2) :]
    return data


def test_it_agrees_with_python(both: Any) -> None:
    (native, one, _), (python, other, _), plane = both
    rng, done, asked = random.Random(5), 0, 0
    for _ in range(3000):
        data = a_request(rng)
        before = plane.commands
        result = one.write_quickly(data)
        assert result == other.write_quickly(data), data
        done += result
        asked += plane.commands > before
        assert native.switch.tables == python.switch.tables and native.switch.registers == python.switch.registers
    assert min(done, asked) > 300 and max(done, asked) < 2700, "some take it and some do not"


def test_who_writes_natively(both: Any) -> None:
    (_, _, raw), _, plane = both
    raw.write((MODIFY, register(1, b"\1")))
    raw.insert(exact(1))
    assert plane.commands == 2
    raw.insert(exact(2, metadata=b"m"))
    raw.insert(exact(3))  # entries may have metadata from now on, which this one's key may have had
    raw.write((MODIFY, register(None, b"\0")))
    raw.insert(*(exact(n) for n in range(10, 10 + SINGLE_MOST // 32)))
    assert plane.commands == 2
    raw.write((MODIFY, register(1, b"\0")))
    assert plane.commands == 3
    stream = raw.stream()
    stream.arbitrate(7)
    stream.next("arbitration")
    with pytest.raises(grpc.RpcError) as caught:
        raw.write((MODIFY, register(1, b"\0")))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert plane.commands == 3


def test_what_the_data_plane_refuses_is_worded_as_ever(both: Any) -> None:
    (_, _, raw), _, plane = both
    raw.insert(exact(1))
    with pytest.raises(grpc.RpcError) as caught:
        raw.insert(exact(1))
    (error,) = errors_of(caught.value)
    assert error.canonical_code == 6 and "exists already" in error.message
    assert plane.commands == 2


def test_a_write_waits_for_no_other_writer(both: Any) -> None:
    (_, device, _), _, plane = both
    request = p4r.WriteRequest(device_id=1, election_id=p4r.Uint128(low=1))
    request.updates.add(type=MODIFY, entity=p4r.Entity(**register(1, b"\1")))
    with device._write_lock:
        assert device.write_quickly(request.SerializeToString())
        request.updates[0].CopyFrom(p4r.Update(type=INSERT, entity=p4r.Entity(table_entry=exact(5))))
        assert not device.write_quickly(request.SerializeToString()), "the usual way waits for its turn"
    assert plane.commands == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",  # the connection ends
        HEADER.pack(8, 0xFFFFFFFF, 9, 0) + bytes(8),  # somebody else's
        HEADER.pack(7, 0, 9, 0) + bytes(7),
        HEADER.pack(1 << 20, 0, 9, 0) + bytes(4096),
    ],
)
def test_an_answer_that_is_none_ends_the_connection(both: Any, answer: bytes) -> None:
    (_, device, raw), _, plane = both
    single = device.pipeline.single
    request = p4r.WriteRequest(device_id=1, election_id=p4r.Uint128(low=1))
    request.updates.add(type=MODIFY, entity=p4r.Entity(**register(1, b"\1")))
    data = request.SerializeToString()

    def odd(ident: int, _op: int, _payload: bytes) -> bytes:
        if not answer:
            return b""
        length, given, op, code = HEADER.unpack_from(answer)
        return HEADER.pack(length, given or ident, op, code) + answer[HEADER.size :]

    plane.reply = odd
    assert single.write(data, 1, 1, tables=True) == Outcome.BROKEN
    raw.write((MODIFY, register(1, b"\1")))  # the usual way does it
    plane.reply = plane.obey
    assert single.write(data, 1, 1, tables=True) == Outcome.DONE, "over a new connection"
    assert plane.connections == 3


@pytest.mark.parametrize("count", [2, 200])  # in Python, and decoded natively
def test_a_former_primary_that_had_to_wait_writes_nothing(
    both: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    (backend, device, raw), _, _ = both
    checked, whole, failures = threading.Event(), device.streams.arbiter.check, list[grpc.RpcError]()

    def check(role: str, election: int | None) -> None:
        whole(role, election)
        checked.set()

    def write() -> None:
        try:
            raw.insert(*(exact(n) for n in range(count)))
        except grpc.RpcError as error:
            failures.append(error)

    monkeypatch.setattr(device.streams.arbiter, "check", check)
    with device._write_lock:
        thread = threading.Thread(target=write)
        thread.start()
        assert checked.wait(TIMEOUT_S)
        stream = raw.stream()
        stream.arbitrate(7)
        stream.next("arbitration")
    thread.join(TIMEOUT_S)
    (error,) = failures
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert not any(table.entries for table in backend.switch.tables)
