"""What the specification says of reads: filters, roles, and one state for all of it (sections 9.1.7, 12 and 13)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2

from engine.codec import Command
from engine.p4rt.budget import Budget
from engine.p4rt.device import MAX_READS
from engine.p4rt.errors import P4Error
from engine.p4rt.stubs import p4r, stratum
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    BALANCE,
    DELETE,
    DROP,
    EXACT,
    FORWARD,
    LPM,
    MODIFY,
    RawClient,
    Stream,
    drop,
    exact,
    forward,
    prefix,
    register,
    served,
    until,
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
                assert self.go_on.wait(10)
        return self._plain(op, payload)


@pytest.fixture
def half_written(client: RawClient, backend: FakeBackend, address: str) -> Iterator[threading.Event]:
    """A Write of 1,100 entries that waits when some of them are in; the event lets it go on."""
    gate = Gate(backend)
    writer = RawClient(address)
    writer.election = client.election
    thread = threading.Thread(target=lambda: writer.insert(*(exact(n) for n in range(1100))))
    thread.start()
    assert gate.entered.wait(10)
    yield gate.go_on
    gate.go_on.set()
    thread.join(10)
    writer.close()


def test_a_read_sees_no_half_of_a_write(client: RawClient, half_written: threading.Event) -> None:
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(entries(client))))
    reader.start()
    reader.join(0.3)
    assert not found, "it waits"
    half_written.set()
    reader.join(10)
    assert found == [1100]


def test_cells_are_read_while_others_write(client: RawClient, half_written: threading.Event) -> None:
    (read,) = client.read(register_entry=p4r.RegisterEntry(register_id=0x16000001, index=p4r.Index(index=3)))
    assert read.register_entry.data.bitstring == b"\0"
    assert not half_written.is_set()


def test_what_a_read_has_begun_with_it_ends_with(backend: FakeBackend) -> None:
    """Entries, metadata and action sets that go while the client takes its time."""
    from tests.p4runtime.harness import SAMPLE, config_of

    with served(backend) as (serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        one_shot = p4r.TableEntry(table_id=BALANCE, match=[exact(2).match[0]])
        one_shot.action.action_profile_action_set.action_profile_actions.add(action=forward(6).action, weight=2)
        raw.insert(*(exact(n, metadata=bytes(100)) for n in range(5000)))
        raw.insert(one_shot)
        request = p4r.ReadRequest(device_id=1, entities=[p4r.Entity(table_entry=p4r.TableEntry())])
        messages = serving.device.read(request)
        first = next(messages)
        raw.write((DELETE, {"table_entry": one_shot}), *((DELETE, {"table_entry": exact(n)}) for n in range(5000)))
        raw.write((MODIFY, register(0, b"\1")))
        whole = [e.table_entry for data in (first, *messages) for e in p4r.ReadResponse.FromString(data).entities]
        assert sorted(e.metadata for e in whole) == [b"", *[bytes(100)] * 5000]
        assert one_shot in whole
        assert serving.device._kept.held == 0
        raw.close()


def test_reads_that_nobody_takes_leave_room_for_others(client: RawClient, address: str) -> None:
    client.insert(*(exact(n, metadata=bytes(4000)) for n in range(2000)))
    request = p4r.ReadRequest(device_id=1, entities=[p4r.Entity(table_entry=p4r.TableEntry())])
    others = [RawClient(address) for _ in range(8)]
    calls = [
        other.call("Read", "unary_stream", p4r.ReadResponse)(request) for _ in range(MAX_READS // 4) for other in others
    ]
    try:
        until(lambda: sum(call.done() for call in calls) == MAX_READS)
        refused = {call.code() for call in calls if call.done()}
        assert refused == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        client.insert(exact(5000))
    finally:
        for call in calls:
            call.cancel()
        for other in others:
            other.close()

    def room() -> bool:
        try:
            return len(entries(client)) == 2001
        except grpc.RpcError:
            return False

    until(room)


def test_a_budget_bounds_all_but_one() -> None:
    budget = Budget(100)
    with budget.hold(1000), budget.hold(0):
        with pytest.raises(P4Error, match="read slowly") as caught, budget.hold(1):
            raise AssertionError("never reached")
        assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    with budget.hold(60), budget.hold(40):
        assert budget.held == 100
    assert budget.held == 0
