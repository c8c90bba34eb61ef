"""CONTINUE_ON_ERROR, ROLLBACK_ON_ERROR and DATAPLANE_ATOMIC."""

from __future__ import annotations

import copy
from typing import Any

import grpc
import pytest

from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    BALANCE,
    COUNTER,
    DELETE,
    DIGEST,
    INSERT,
    METER,
    MODIFY,
    PROFILE,
    VALUE_SET,
    RawClient,
    errors_of,
    exact,
    forward,
    prefix,
    register,
)

CONTINUE, ROLLBACK, ATOMIC = 0, 1, 2
ABORTED, EXISTS = 10, 6
pytestmark = pytest.mark.usefixtures("primary")


def codes(raw: RawClient, *updates: tuple[int, dict[str, Any]], atomicity: int) -> list[int]:
    with pytest.raises(grpc.RpcError) as caught:
        raw.write(*updates, atomicity=atomicity)
    return [error.canonical_code for error in errors_of(caught.value)]


def table(entry: p4r.TableEntry) -> dict[str, Any]:
    return {"table_entry": entry}


def state(backend: FakeBackend) -> Any:
    """All that the data plane holds."""
    switch = backend.switch
    return copy.deepcopy(
        [
            [(t.entries, t.default) for t in switch.tables],
            switch.members,
            switch.groups,
            switch.registers,
            switch.counters,
            switch.meters,
            switch.multicast,
            switch.clones,
            {number: body for number, body in switch.value_sets.items() if body[:4] != bytes(4)},
        ]
    )


def test_continue_keeps_what_worked(raw: RawClient) -> None:
    raw.insert(exact(2))
    batch = [(INSERT, table(exact(n))) for n in (1, 2, 3)]
    assert codes(raw, *batch, atomicity=CONTINUE) == [0, EXISTS, 0]
    assert len(raw.read(table_entry=p4r.TableEntry())) == 3


@pytest.mark.parametrize("atomicity", [ROLLBACK, ATOMIC])
def test_tables_all_or_nothing(raw: RawClient, backend: FakeBackend, atomicity: int) -> None:
    raw.insert(exact(2), prefix(0x0A000000, 8))
    before = state(backend)
    batch = [
        (INSERT, table(exact(1))),
        (DELETE, table(prefix(0x0A000000, 8))),
        (INSERT, table(exact(2))),
        (INSERT, table(exact(3))),
    ]
    assert codes(raw, *batch, atomicity=atomicity) == [ABORTED, ABORTED, EXISTS, ABORTED]
    assert state(backend) == before
    raw.write(*batch[:2], batch[3], atomicity=atomicity)
    assert len(raw.read(table_entry=p4r.TableEntry())) == 3


@pytest.mark.parametrize("atomicity", [ROLLBACK, ATOMIC])
def test_a_malformed_update_spoils_the_whole_batch(raw: RawClient, backend: FakeBackend, atomicity: int) -> None:
    before = state(backend)
    bad = exact(2)
    bad.priority = 1
    assert codes(raw, (INSERT, table(exact(1))), (INSERT, table(bad)), atomicity=atomicity) == [ABORTED, 3]
    assert state(backend) == before


def everything() -> list[tuple[int, dict[str, Any]]]:
    """One update of each kind, on top of :func:`prepare`."""
    action_set = p4r.ActionProfileActionSet()
    action_set.action_profile_actions.add(action=forward(5).action, weight=1)
    one_shot = p4r.TableEntry(
        table_id=BALANCE, match=[exact(1).match[0]], action=p4r.TableAction(action_profile_action_set=action_set)
    )
    multicast = p4r.MulticastGroupEntry(multicast_group_id=1, replicas=[p4r.Replica(egress_port=2, instance=1)])
    clone = p4r.CloneSessionEntry(session_id=1, replicas=[p4r.Replica(egress_port=2, instance=1)])
    default = p4r.TableEntry(table_id=exact(1).table_id, is_default_action=True, action=forward(6))
    config = p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
    members = [p4r.ActionProfileGroup.Member(member_id=1, weight=2)]
    value = p4r.ValueSetMember(match=[p4r.FieldMatch(field_id=1, exact=p4r.FieldMatch.Exact(value=b"\x50"))])
    return [
        (MODIFY, table(exact(1, action=forward(9), metadata=b"new"))),
        (DELETE, table(exact(2))),
        (INSERT, table(exact(3))),
        (MODIFY, table(default)),
        (MODIFY, table(one_shot)),
        (MODIFY, register(1, b"\1")),
        (MODIFY, register(None, b"\2", 0x16000002)),
        (MODIFY, {"counter_entry": p4r.CounterEntry(counter_id=COUNTER, index=p4r.Index(index=3))}),
        (MODIFY, {"meter_entry": p4r.MeterEntry(meter_id=METER, index=p4r.Index(index=2), config=config)}),
        (
            MODIFY,
            {
                "action_profile_member": p4r.ActionProfileMember(
                    action_profile_id=PROFILE, member_id=1, action=forward(8).action
                )
            },
        ),
        (
            MODIFY,
            {"action_profile_group": p4r.ActionProfileGroup(action_profile_id=PROFILE, group_id=1, members=members)},
        ),
        (
            INSERT,
            {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(multicast_group_entry=multicast)},
        ),
        (INSERT, {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(clone_session_entry=clone)}),
        (INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST)}),
        (MODIFY, {"value_set_entry": p4r.ValueSetEntry(value_set_id=VALUE_SET, members=[value])}),
    ]


def prepare(raw: RawClient) -> None:
    member = p4r.ActionProfileMember(action_profile_id=PROFILE, member_id=1, action=forward(7).action)
    group = p4r.ActionProfileGroup(action_profile_id=PROFILE, group_id=1)
    group.members.add(member_id=1, weight=1)
    counter = p4r.CounterEntry(counter_id=COUNTER, index=p4r.Index(index=3))
    counter.data.packet_count = 44
    balance = p4r.TableEntry(
        table_id=BALANCE, match=[exact(1).match[0]], action=p4r.TableAction(action_profile_group_id=1)
    )
    raw.write(
        (INSERT, table(exact(1, metadata=b"old", counter_data=p4r.CounterData(packet_count=5)))),
        (INSERT, table(exact(2))),
        (INSERT, {"action_profile_member": member}),
        (INSERT, {"action_profile_group": group}),
        (INSERT, table(balance)),
        (MODIFY, {"counter_entry": counter}),
        (MODIFY, register(None, b"\5", 0x16000002)),
    )


@pytest.mark.parametrize("atomicity", [ROLLBACK, ATOMIC])
def test_every_kind_of_update_is_taken_back(raw: RawClient, backend: FakeBackend, atomicity: int) -> None:
    prepare(raw)
    before = state(backend)
    batch = [*everything(), (INSERT, table(exact(1)))]
    result = codes(raw, *batch, atomicity=atomicity)
    assert result == [ABORTED] * (len(batch) - 1) + [EXISTS]
    assert state(backend) == before
    assert raw.read(digest_entry=p4r.DigestEntry()) == []
    assert raw.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry()) == []
    (kept,) = raw.read(table_entry=p4r.TableEntry(table_id=exact(1).table_id, match=exact(1).match))
    assert kept.table_entry.metadata == b"old"


@pytest.mark.parametrize("atomicity", [ROLLBACK, ATOMIC])
def test_every_kind_of_update_is_applied(raw: RawClient, backend: FakeBackend, atomicity: int) -> None:
    prepare(raw)
    sent = backend.switch.batches
    raw.write(*everything(), atomicity=atomicity)
    assert backend.switch.batches == sent + 1
    assert backend.switch.registers[0][1] == b"\1"
    assert len(raw.read(table_entry=p4r.TableEntry(table_id=exact(1).table_id))) == 2
    assert len(backend.switch.multicast) == len(backend.switch.clones) == 1
    assert len(backend.switch.groups[0]) == 2, "the client's group and the one of the action set"


def test_what_depends_on_another_update_of_the_batch(raw: RawClient, backend: FakeBackend) -> None:
    """A member, a group of it and an entry that uses the group, in one batch and out again in one."""
    member = p4r.ActionProfileMember(action_profile_id=PROFILE, member_id=1, action=forward(7).action)
    group = p4r.ActionProfileGroup(action_profile_id=PROFILE, group_id=1)
    group.members.add(member_id=1, weight=1)
    entry = p4r.TableEntry(
        table_id=BALANCE, match=[exact(1).match[0]], action=p4r.TableAction(action_profile_group_id=1)
    )
    updates = [{"action_profile_member": member}, {"action_profile_group": group}, table(entry)]
    empty = state(backend)
    raw.write(*((INSERT, update) for update in updates), atomicity=ATOMIC)
    assert state(backend) != empty
    raw.write(*((DELETE, update) for update in reversed(updates)), atomicity=ATOMIC)
    assert state(backend) == empty


def test_unknown_modes_are_refused(raw: RawClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw.write((INSERT, table(exact(1))), atomicity=7)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
