"""What the specification says of reads: filters, roles, and one state for all of it (sections 9.1.7, 12 and 13)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import any_pb2

from engine.codec import Command
from engine.p4rt.stubs import p4r, stratum
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    DROP,
    EXACT,
    FORWARD,
    LPM,
    TIMEOUT_S,
    RawClient,
    Stream,
    drop,
    exact,
    forward,
    prefix,
)


@pytest.fixture
def client(raw: RawClient, primary: Stream) -> RawClient:
    return raw


def entries(raw: RawClient, role: str = "", **more: Any) -> list[p4r.TableEntry]:
    return [entity.table_entry for entity in raw.read(role, table_entry=p4r.TableEntry(**more))]


def action(id_: int) -> p4r.TableAction:
    return p4r.TableAction(action=p4r.Action(action_id=id_))


def test_filters(client: RawClient) -> None:
    client.insert(
        exact(1, action=forward(1)), exact(2, action=forward(2), controller_metadata=7), exact(3, action=drop())
    )
    assert len(entries(client, table_id=EXACT, action=action(FORWARD))) == 2, "whatever its parameters"
    assert len(entries(client, table_id=EXACT, action=forward(9))) == 2
    assert [e.match[0].exact.value for e in entries(client, action=action(DROP))] == [b"\3"]
    assert [e.match[0].exact.value for e in entries(client, controller_metadata=7)] == [b"\2"]
    assert entries(client, controller_metadata=7, action=action(DROP)) == [], "all of them count"
    one = exact(2).match
    assert entries(client, table_id=EXACT, match=one, controller_metadata=8) == []
    assert len(entries(client, table_id=EXACT, match=one, controller_metadata=7)) == 1
    default = entries(client, table_id=EXACT, is_default_action=True)
    assert entries(client, table_id=EXACT, is_default_action=True, action=default[0].action) == default
    assert entries(client, table_id=EXACT, is_default_action=True, metadata=b"other") == []


def test_a_role_filters(client: RawClient, address: str) -> None:
    client.insert(exact(1), prefix(0x0A000000, 8))
    config = any_pb2.Any()
    config.Pack(stratum.P4RoleConfig(shared_p4_ids=[LPM]))
    other = RawClient(address)
    try:
        stream = other.stream()
        role = p4r.Role(name="routes", config=config)
        stream.send(arbitration=p4r.MasterArbitrationUpdate(device_id=1, role=role, election_id=p4r.Uint128(low=3)))
        stream.next("arbitration")
        assert [entry.table_id for entry in entries(client, "routes")] == [LPM]
        assert client.read("routes", register_entry=p4r.RegisterEntry()) == []
        assert len(entries(client)) == 2, "without a role: everything"
    finally:
        other.close()


class Gate:
    """Lets a command of the fake data plane wait in the middle of a Write."""

    def __init__(self, backend: FakeBackend) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self._plain = backend.switch.command
        self._calls = 0
        backend.switch.command = self._command  # type: ignore[method-assign]

    def _command(self, op: int, payload: bytes) -> bytes:
        if op == Command.TABLE_WRITE:
            self._calls += 1
            if self._calls == 2:
                self.entered.set()
                assert self.go_on.wait(TIMEOUT_S)
        return self._plain(op, payload)


@pytest.fixture
def half_written(client: RawClient, backend: FakeBackend, address: str) -> Iterator[threading.Event]:
    """A Write of 1,100 entries that waits when some of them are in; the event lets it go on."""
    gate = Gate(backend)
    writer = RawClient(address)
    writer.election = client.election
    thread = threading.Thread(target=lambda: writer.insert(*(exact(n) for n in range(1100))))
    thread.start()
    assert gate.entered.wait(TIMEOUT_S)
    yield gate.go_on
    gate.go_on.set()
    thread.join(TIMEOUT_S)
    writer.close()


def test_a_read_sees_no_half_of_a_write(client: RawClient, half_written: threading.Event) -> None:
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(entries(client))))
    reader.start()
    reader.join(0.3)
    assert not found, "it waits"
    half_written.set()
    reader.join(TIMEOUT_S)
    assert found == [1100]


def test_cells_are_read_while_others_write(client: RawClient, half_written: threading.Event) -> None:
    (read,) = client.read(register_entry=p4r.RegisterEntry(register_id=0x16000001, index=p4r.Index(index=3)))
    assert read.register_entry.data.bitstring == b"\0"
    assert not half_written.is_set()
