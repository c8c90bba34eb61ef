"""Clients that read slowly: they end with the state that they began with, and leave room for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from engine.p4rt.budget import MAX_READS, PATIENCE_S, SHARE, STALLED_S, Budget, Hold
from engine.p4rt.errors import P4Error, Rpc
from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    BALANCE,
    DELETE,
    MODIFY,
    SAMPLE,
    RawClient,
    config_of,
    exact,
    forward,
    register,
    served,
    until,
)

EVERYTHING = p4r.ReadRequest(device_id=1, entities=[p4r.Entity(table_entry=p4r.TableEntry())])


def test_what_a_read_has_begun_with_it_ends_with(backend: FakeBackend) -> None:
    """Entries, metadata and action sets that go while the client takes its time."""
    with served(backend) as (serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        one_shot = p4r.TableEntry(table_id=BALANCE, match=[exact(2).match[0]])
        one_shot.action.action_profile_action_set.action_profile_actions.add(action=forward(6).action, weight=2)
        raw.insert(*(exact(n, metadata=bytes(100)) for n in range(5000)))
        raw.insert(one_shot)
        messages = serving.device.read(EVERYTHING, "a client", lambda: None)
        first = next(messages)
        kept = serving.device._reads.held
        assert kept > 0
        raw.write((DELETE, {"table_entry": one_shot}), *((DELETE, {"table_entry": exact(n)}) for n in range(5000)))
        raw.write((MODIFY, register(0, b"\1")))
        second = next(messages)
        assert serving.device._reads.held < kept, "what has left is kept no longer"
        responses = [p4r.ReadResponse.FromString(data) for data in (first, second, *messages)]
        whole = [entity.table_entry for response in responses for entity in response.entities]
        assert sorted(e.metadata for e in whole) == [b"", *[bytes(100)] * 5000]
        assert one_shot in whole
        assert serving.device._reads.held == 0
        raw.close()


def test_reads_that_nobody_takes_leave_room_for_others(backend: FakeBackend) -> None:
    with served(backend) as (serving, address):
        serving.device._reads.clock = lambda: 0.0  # however long it takes here to ask: nobody's patience ends
        raw, *others = (RawClient(address) for _ in range(9))
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        raw.insert(*(exact(n, metadata=bytes(4000)) for n in range(2000)))
        reads = [other.call("Read", "unary_stream", p4r.ReadResponse) for other in others]
        calls = [read(EVERYTHING) for _ in range(MAX_READS // 4) for read in reads]
        try:
            until(lambda: sum(call.done() for call in calls) == MAX_READS)
            refused = {call.code() for call in calls if call.done()}
            assert refused == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            raw.insert(exact(5000))
        finally:
            for call in calls:
                call.cancel()
            for other in others:
                other.close()

        def room() -> bool:
            try:
                return len(raw.read(table_entry=p4r.TableEntry())) == 2001
            except grpc.RpcError:
                return False

        until(room)
        raw.close()


ENTRIES = 2000


def slow(client: RawClient) -> Any:
    """A read of a large table, of which the client takes the first message only; gRPC buffers some more."""
    client.become_primary()
    client.set_config(config_of(SAMPLE))
    client.insert(*(exact(n, metadata=bytes(15_000)) for n in range(ENTRIES)))
    call = client.call("Read", "unary_stream", p4r.ReadResponse)(EVERYTHING, timeout=60)
    next(call)
    return call


def cancelled(call: Any) -> bool:
    """Whether it ends so, once what had come before is read."""
    with pytest.raises(grpc.RpcError):
        for _ in call:
            pass
    return bool(call.code() is grpc.StatusCode.CANCELLED)


def everything(client: RawClient) -> int:
    """How many entries a read of everything gives; 0 when it is refused."""
    try:
        return len(client.read(table_entry=p4r.TableEntry()))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return 0


def test_a_read_that_stands_still_is_broken_off(backend: FakeBackend) -> None:
    with served(backend) as (serving, address):
        raw, budget = RawClient(address), serving.device._reads
        call = slow(raw)
        assert budget.held > 0
        budget.sweep()
        assert not call.done(), "not at once"
        budget.clock = lambda now=budget.clock: now() + STALLED_S  # type: ignore[misc]
        until(lambda: not (budget.sweep() or budget.held))  # type: ignore[func-returns-value]
        assert cancelled(call)
        assert everything(raw) == ENTRIES
        raw.close()


def test_a_slow_client_s_room_goes_to_whoever_needs_it(backend: FakeBackend) -> None:
    """Its reads keep all that one client may keep; another client's read needs no patience but time."""
    with served(backend) as (serving, address):
        raw, other, budget = RawClient(address), RawClient(address), serving.device._reads
        call = slow(raw)
        budget.most = budget.held  # as if the table were that large
        assert everything(raw) == everything(other) == 0
        budget.clock = lambda now=budget.clock: now() + PATIENCE_S  # type: ignore[misc]
        until(lambda: everything(other) == ENTRIES)
        assert cancelled(call)
        raw.close()
        other.close()


class Table:
    """A budget of 100 bytes and 4 reads with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.budget = Budget(100, 4, lambda: self.now)
        self.ended: list[str] = []
        self.open = ExitStack()

    def read(self, name: str, size: int = 0) -> Hold:
        """Of the client whose name is the first letter; a first message waits for it."""
        with ExitStack() as refused:
            hold = refused.enter_context(self.budget.admit(name[0], lambda: self.ended.append(name)))
            hold.take(size)
            self.open.push(refused.pop_all())
        hold.offered()
        return hold


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table()
    with made.open:
        yield made
    assert made.budget.held == 0


def refused(what: Callable[[], object], why: str) -> None:
    with pytest.raises(P4Error, match=why) as caught:
        what()
    assert caught.value.code == Rpc.RESOURCE_EXHAUSTED


def test_one_read_alone_may_keep_any_number_and_counts_as_its_client_s_share(table: Table) -> None:
    first = table.read("a1", 1000)
    refused(lambda: table.read("a2", 1), "of this client")
    table.read("b1", 50)
    refused(lambda: table.read("c1", 1), "read slowly")
    table.read("c2")
    first.give(980)
    table.read("a3", 30)
    assert table.budget.held == 100
    assert not table.ended


def test_a_read_may_grow_as_long_as_others_leave_room(table: Table) -> None:
    one, two = table.read("a", 30), table.read("b", 30)
    one.take(40)
    refused(lambda: two.take(30), "read slowly")
    assert (one.size, two.size) == (70, 30)


def test_one_client_has_half_of_the_places(table: Table) -> None:
    for number in range(4 // SHARE):
        table.read(f"a{number}")
    refused(lambda: table.read("a9"), "2 reads at a time of one client")
    table.read("b1")
    table.read("c1")
    refused(lambda: table.read("d1"), "4 reads at a time")
    assert len(table.budget._holds) == 4


def test_reads_that_stand_still_make_room_and_those_that_move_do_not(table: Table) -> None:
    still, moving = table.read("a1", 40), table.read("a2", 10)
    table.now += PATIENCE_S
    moving.taken()
    moving.offered()
    table.read("b1", 60)
    assert table.ended == ["a1"] and table.budget.held == 70
    refused(still.taken, "stood still")
    refused(lambda: table.read("c1", 50), "read slowly")
    assert table.ended == ["a1"], "nobody is ended in vain twice"


def test_a_read_that_the_server_works_for_does_not_stand_still(table: Table) -> None:
    table.read("a", 60).taken()
    table.now += STALLED_S
    refused(lambda: table.read("b", 60), "read slowly")
    table.budget.sweep()
    assert not table.ended


def test_places_are_made_like_room(table: Table) -> None:
    for name in ("a1", "a2", "b1", "b2"):
        table.read(name)
    table.now += PATIENCE_S
    table.read("c1")
    assert len(table.ended) == 1
    table.read("a3")
    assert len(table.ended) == 2


def test_nobody_is_ended_for_what_that_does_not_help(table: Table) -> None:
    """Neither others for a client's own share, nor anybody while those that move leave too little."""
    table.read("b1", 10)
    table.now += PATIENCE_S
    for name in ("a1", "a2"):
        table.read(name, 20)
    refused(lambda: table.read("a3"), "2 reads at a time of one client")
    refused(lambda: table.read("c1", 90), "read slowly")
    assert not table.ended
    table.read("c1", 55)
    assert table.ended == ["b1"]


def test_no_more_are_ended_than_need_be(table: Table) -> None:
    for name, size in (("a1", 10), ("b1", 30), ("a2", 40)):
        table.read(name, size)
        table.now += 1
    table.now += PATIENCE_S
    table.read("c1", 45)
    assert table.ended == ["b1"], "a1, longer still, would not have been enough"


def test_a_sweep_ends_what_stands_still_though_nobody_needs_it(table: Table) -> None:
    table.read("a", 10)
    table.now += STALLED_S - 1
    table.read("b", 10)
    table.budget.sweep()
    assert not table.ended
    table.now += 1
    table.budget.sweep()
    assert table.ended == ["a"] and table.budget.held == 10


def test_only_a_moment_s_reads_are_limited(table: Table) -> None:
    for _ in range(100):
        with table.budget.admit("a", lambda: None) as hold:
            hold.take(90)
            hold.give(80)
    assert table.budget.held == 0 and MAX_READS > 4
