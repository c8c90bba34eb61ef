"""Everything that is not a table entry: profiles, registers, counters, meters, replication, digests, value sets."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from engine.p4rt.stubs import p4d, p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    BALANCE,
    COUNTER,
    DELETE,
    DIGEST,
    FAILOVER,
    INSERT,
    METER,
    MODIFY,
    OFFSET,
    PROFILE,
    SEEN,
    VALUE_SET,
    RawClient,
    errors_of,
    exact,
    forward,
    register,
)

INVALID, NOT_FOUND, EXISTS, EXHAUSTED, PRECONDITION, RANGE, UNIMPLEMENTED = 3, 5, 6, 8, 9, 11, 12
pytestmark = pytest.mark.usefixtures("primary")


def code(raw: RawClient, type_: int, **entity: Any) -> int:
    with pytest.raises(grpc.RpcError) as caught:
        raw.write((type_, entity))
    (error,) = errors_of(caught.value)
    assert error.message
    return error.canonical_code


def member(id_: int, port: int = 1, profile: int = PROFILE) -> dict[str, Any]:
    action = forward(port).action
    return {"action_profile_member": p4r.ActionProfileMember(action_profile_id=profile, member_id=id_, action=action)}


def group(id_: int, *members: tuple[int, int], max_size: int = 0, watch: int | None = None) -> dict[str, Any]:
    entry = p4r.ActionProfileGroup(action_profile_id=PROFILE, group_id=id_, max_size=max_size)
    for number, weight in members:
        item = entry.members.add(member_id=number, weight=weight)
        if watch is not None:
            item.watch_port = bytes([watch])
    return {"action_profile_group": entry}


def balance(key: int, **action: Any) -> dict[str, Any]:
    entry = p4r.TableEntry(table_id=BALANCE, match=[exact(key).match[0]], action=p4r.TableAction(**action))
    return {"table_entry": entry}


def test_members_and_groups(raw: RawClient) -> None:
    raw.write((INSERT, member(1)), (INSERT, member(2, 2)), (INSERT, group(1, (1, 1), (2, 3), max_size=8, watch=2)))
    raw.write((INSERT, balance(1, action_profile_group_id=1)), (INSERT, balance(2, action_profile_member_id=2)))
    members = [e.action_profile_member for e in raw.read(action_profile_member=p4r.ActionProfileMember())]
    assert members == [member(1)["action_profile_member"], member(2, 2)["action_profile_member"]]
    groups = [e.action_profile_group for e in raw.read(action_profile_group=p4r.ActionProfileGroup())]
    assert groups == [group(1, (1, 1), (2, 3), max_size=8, watch=2)["action_profile_group"]]
    wanted = p4r.ActionProfileMember(action_profile_id=PROFILE, member_id=2)
    assert len(raw.read(action_profile_member=wanted)) == 1
    read = {e.table_entry.match[0].exact.value: e.table_entry.action for e in raw.read(table_entry=p4r.TableEntry())}
    assert read[b"\1"].action_profile_group_id == 1
    assert read[b"\2"].action_profile_member_id == 2
    raw.write((MODIFY, member(1, 7)), (MODIFY, group(1, (1, 2))))
    (changed,) = raw.read(action_profile_group=p4r.ActionProfileGroup(action_profile_id=PROFILE, group_id=1))
    assert [m.member_id for m in changed.action_profile_group.members] == [1]
    assert code(raw, DELETE, **member(1)) == PRECONDITION
    assert code(raw, DELETE, **group(1)) == PRECONDITION
    raw.write((DELETE, balance(1)), (DELETE, group(1)), (DELETE, member(1)))


def test_profile_errors(raw: RawClient) -> None:
    raw.write((INSERT, member(1)))
    assert code(raw, INSERT, **member(1)) == EXISTS
    assert code(raw, MODIFY, **member(9)) == NOT_FOUND
    assert code(raw, INSERT, **member(0)) == INVALID
    assert code(raw, INSERT, **member(0xC0000000)) == INVALID
    assert code(raw, INSERT, **member(2, profile=0x11FFFFFF)) == NOT_FOUND
    assert code(raw, INSERT, **group(1, (9, 1))) == NOT_FOUND
    assert code(raw, INSERT, **group(1, (1, 0))) == INVALID
    assert code(raw, INSERT, **group(1, (1, 1), (1, 1))) == INVALID
    assert code(raw, INSERT, **group(1, (1, 17))) == EXHAUSTED
    assert code(raw, INSERT, **group(1, (1, 3), max_size=2)) == EXHAUSTED
    assert code(raw, INSERT, **group(1, max_size=17)) == INVALID
    assert code(raw, INSERT, **balance(1, action=forward().action)) == INVALID
    assert code(raw, INSERT, **balance(1, action_profile_group_id=9)) == NOT_FOUND
    assert code(raw, INSERT, table_entry=exact(1, action=p4r.TableAction(action_profile_member_id=1))) == INVALID


def action_set(*ports: int, weight: int = 1) -> p4r.ActionProfileActionSet:
    out = p4r.ActionProfileActionSet()
    for port in ports:
        out.action_profile_actions.add(action=forward(port).action, weight=weight, watch_port=bytes([port]))
    return out


def replicated(**replica: Any) -> dict[str, Any]:
    entry = p4r.PacketReplicationEngineEntry()
    entry.multicast_group_entry.multicast_group_id = 3
    entry.multicast_group_entry.replicas.add(**replica)
    return {"packet_replication_engine_entry": entry}


@pytest.mark.parametrize("port", [b"\x02\x00", b"\x01\x00\x00", b"\xff\xff\xff\xff", b"\1" + bytes(8), b""])
def test_ports_that_cannot_be_are_refused(raw: RawClient, port: bytes) -> None:
    """Spec, ActionProfileGroup and MulticastGroupEntry: a port of the device, else INVALID_ARGUMENT."""
    raw.write((INSERT, member(1)))
    watched = group(1, (1, 1))
    watched["action_profile_group"].members[0].watch_port = port
    assert code(raw, INSERT, **watched) == INVALID
    one_shot = action_set(1)
    one_shot.action_profile_actions[0].watch_port = port
    assert code(raw, INSERT, **balance(1, action_profile_action_set=one_shot)) == INVALID
    assert code(raw, INSERT, **replicated(port=port)) == INVALID
    assert code(raw, INSERT, **replicated(port=b"\1", backup_replicas=[{"port": port}])) == INVALID
    session = p4r.PacketReplicationEngineEntry()
    session.clone_session_entry.session_id = 1
    session.clone_session_entry.replicas.add(port=port)
    assert code(raw, INSERT, packet_replication_engine_entry=session) == INVALID


def test_numbers_in_the_deprecated_fields_are_checked_too(raw: RawClient) -> None:
    raw.write((INSERT, member(1)))
    watched = group(1, (1, 1))
    for number in (-1, 512):
        watched["action_profile_group"].members[0].watch = number
        assert code(raw, INSERT, **watched) == INVALID
    assert code(raw, INSERT, **replicated(egress_port=512)) == INVALID


def test_ports_that_may_come_later_are_taken(raw: RawClient) -> None:
    raw.write((INSERT, member(1)), (INSERT, replicated(port=b"\x00\x01\xfd")))
    watched = group(1, (1, 1))
    watched["action_profile_group"].members[0].watch_port = b"\x01\xfd"
    raw.write((INSERT, watched))
    (read,) = raw.read(action_profile_group=p4r.ActionProfileGroup())
    assert read.action_profile_group.members[0].watch_port == b"\x01\xfd"


def test_one_shot_action_sets(raw: RawClient, backend: FakeBackend) -> None:
    raw.write((INSERT, balance(1, action_profile_action_set=action_set(1, 2))))
    (read,) = raw.read(table_entry=p4r.TableEntry())
    assert read.table_entry.action.action_profile_action_set == action_set(1, 2)
    assert raw.read(action_profile_member=p4r.ActionProfileMember()) == []
    assert raw.read(action_profile_group=p4r.ActionProfileGroup()) == []
    raw.write((MODIFY, balance(1, action_profile_action_set=action_set(3))))
    (read,) = raw.read(table_entry=p4r.TableEntry())
    assert read.table_entry.action.action_profile_action_set == action_set(3)
    assert (len(backend.switch.members[0]), len(backend.switch.groups[0])) == (1, 1)
    assert code(raw, INSERT, **balance(1, action_profile_action_set=action_set(4))) == EXISTS
    assert (len(backend.switch.members[0]), len(backend.switch.groups[0])) == (1, 1)
    assert code(raw, INSERT, **balance(2, action_profile_action_set=action_set(4, weight=0))) == INVALID
    assert code(raw, INSERT, **balance(2, action_profile_action_set=action_set(4, weight=99))) == INVALID
    entry = exact(1, action=p4r.TableAction(action_profile_action_set=action_set(1)))
    assert code(raw, INSERT, table_entry=entry) == INVALID
    raw.write((DELETE, balance(1)))
    assert (backend.switch.members[0], backend.switch.groups[0]) == ({}, {})


def cells(raw: RawClient, id_: int, index: int | None = None) -> list[bytes]:
    wanted = p4r.RegisterEntry(register_id=id_)
    if index is not None:
        wanted.index.index = index
    return [e.register_entry.data.bitstring for e in raw.read(register_entry=wanted)]


def test_registers(raw: RawClient) -> None:
    raw.write((MODIFY, register(16383, b"\1")), (MODIFY, register(3, b"\0\0\x12\x34", SEEN)))
    assert cells(raw, FAILOVER, 16383) == [b"\1"]
    assert cells(raw, SEEN, 3) == [b"\x12\x34"]
    everything = cells(raw, FAILOVER)
    assert len(everything) == 16384 and everything.count(b"\1") == 1 and everything[16383] == b"\1"
    raw.write((MODIFY, register(None, b"\7", SEEN)))
    assert cells(raw, SEEN) == [b"\7"] * 16
    assert len(raw.read(register_entry=p4r.RegisterEntry())) == 16384 + 16 + 4
    raw.write((MODIFY, register(1, b"\xff", OFFSET)))
    assert cells(raw, OFFSET, 1) == [b"\xff"]
    (entity,) = raw.read(register_entry=register(1, b"", OFFSET)["register_entry"])
    assert int.from_bytes(entity.register_entry.data.bitstring, "big", signed=True) == -1


def test_register_errors(raw: RawClient) -> None:
    assert code(raw, MODIFY, **register(16384, b"\1")) == RANGE
    assert code(raw, MODIFY, **register(-1, b"\1")) == RANGE
    assert code(raw, MODIFY, **register(0, b"\2")) == RANGE
    assert code(raw, MODIFY, **register(0, b"")) == INVALID
    assert code(raw, INSERT, **register(0, b"\1")) == INVALID
    assert code(raw, DELETE, **register(0, b"\1")) == INVALID
    assert code(raw, MODIFY, **register(0, b"\1", 0x16FFFFFF)) == NOT_FOUND
    assert code(raw, MODIFY, register_entry=p4r.RegisterEntry(register_id=FAILOVER)) == INVALID
    wrong = p4r.RegisterEntry(register_id=FAILOVER, data=p4d.P4Data(bool=True))
    assert code(raw, MODIFY, register_entry=wrong) == INVALID
    for entry in (register(16384, b"")["register_entry"], p4r.RegisterEntry(register_id=0x16FFFFFF)):
        with pytest.raises(grpc.RpcError):
            raw.read(register_entry=entry)


def test_counters_and_meters(raw: RawClient) -> None:
    counter = p4r.CounterEntry(counter_id=COUNTER, index=p4r.Index(index=3))
    counter.data.packet_count, counter.data.byte_count = 5, 1 << 40
    raw.write((MODIFY, {"counter_entry": counter}))
    (read,) = raw.read(counter_entry=p4r.CounterEntry(counter_id=COUNTER, index=p4r.Index(index=3)))
    assert read.counter_entry == counter
    assert len(raw.read(counter_entry=p4r.CounterEntry())) == 512
    meter = p4r.MeterEntry(meter_id=METER, index=p4r.Index(index=1))
    meter.config.CopyFrom(p4r.MeterConfig(cir=10, cburst=20, pir=30, pburst=40))
    raw.write((MODIFY, {"meter_entry": meter}))
    found = [e.meter_entry for e in raw.read(meter_entry=p4r.MeterEntry(meter_id=METER))]
    assert found[1] == meter and len(found) == 8 and not found[0].HasField("config")
    meter.ClearField("config")
    raw.write((MODIFY, {"meter_entry": meter}))
    (unset,) = raw.read(meter_entry=p4r.MeterEntry(meter_id=METER, index=p4r.Index(index=1)))
    assert not unset.meter_entry.HasField("config")


def test_counter_and_meter_errors(raw: RawClient) -> None:
    assert code(raw, MODIFY, counter_entry=p4r.CounterEntry(counter_id=1)) == NOT_FOUND
    beyond = p4r.CounterEntry(counter_id=COUNTER, index=p4r.Index(index=512))
    assert code(raw, MODIFY, counter_entry=beyond) == RANGE
    assert code(raw, INSERT, counter_entry=p4r.CounterEntry(counter_id=COUNTER)) == INVALID
    negative = p4r.CounterEntry(counter_id=COUNTER, data=p4r.CounterData(packet_count=-1))
    assert code(raw, MODIFY, counter_entry=negative) == INVALID
    bad = p4r.MeterEntry(meter_id=METER, config=p4r.MeterConfig(cir=5, pir=4))
    assert code(raw, MODIFY, meter_entry=bad) == INVALID
    assert code(raw, MODIFY, meter_entry=p4r.MeterEntry(meter_id=1)) == NOT_FOUND
    assert code(raw, MODIFY, extern_entry=p4r.ExternEntry()) == UNIMPLEMENTED


def multicast(id_: int, *ports: int) -> dict[str, Any]:
    entry = p4r.MulticastGroupEntry(multicast_group_id=id_, metadata=b"m")
    for port in ports:
        entry.replicas.add(port=bytes([port]), instance=1)
    return {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(multicast_group_entry=entry)}


def clone(id_: int, **more: Any) -> dict[str, Any]:
    entry = p4r.CloneSessionEntry(session_id=id_, **more)
    entry.replicas.add(egress_port=3, instance=2)
    return {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(clone_session_entry=entry)}


def test_replication(raw: RawClient, backend: FakeBackend) -> None:
    raw.write((INSERT, multicast(1, 1, 2)), (INSERT, multicast(2, 3)), (INSERT, clone(1, packet_length_bytes=64)))
    read = raw.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())
    assert [e.packet_replication_engine_entry for e in read] == [
        multicast(1, 1, 2)["packet_replication_engine_entry"],
        multicast(2, 3)["packet_replication_engine_entry"],
        clone(1, packet_length_bytes=64)["packet_replication_engine_entry"],
    ]
    one = p4r.PacketReplicationEngineEntry(multicast_group_entry=p4r.MulticastGroupEntry(multicast_group_id=2))
    assert len(raw.read(packet_replication_engine_entry=one)) == 1
    raw.write((MODIFY, multicast(1, 4)), (DELETE, multicast(2)), (DELETE, clone(1)))
    assert list(backend.switch.multicast) == [1] and backend.switch.clones == {}


def test_replication_errors(raw: RawClient) -> None:
    raw.write((INSERT, multicast(1, 1)))
    assert code(raw, INSERT, **multicast(1, 1)) == EXISTS
    assert code(raw, MODIFY, **multicast(2, 1)) == NOT_FOUND
    assert code(raw, DELETE, **clone(2)) == NOT_FOUND
    assert code(raw, INSERT, **multicast(0, 1)) == INVALID
    assert code(raw, INSERT, **multicast(3, 1, 1)) == INVALID
    assert code(raw, INSERT, **clone(3, class_of_service=8)) == INVALID
    assert code(raw, INSERT, **clone(3, packet_length_bytes=-1)) == INVALID
    empty = p4r.PacketReplicationEngineEntry()
    assert code(raw, INSERT, packet_replication_engine_entry=empty) == INVALID
    portless = p4r.MulticastGroupEntry(multicast_group_id=5, replicas=[p4r.Replica(instance=1)])
    entry = p4r.PacketReplicationEngineEntry(multicast_group_entry=portless)
    assert code(raw, INSERT, packet_replication_engine_entry=entry) == INVALID


def values(*numbers: int) -> dict[str, Any]:
    entry = p4r.ValueSetEntry(value_set_id=VALUE_SET)
    for number in numbers:
        entry.members.add().match.add(field_id=1).exact.value = number.to_bytes(2, "big")
    return {"value_set_entry": entry}


def test_value_sets(raw: RawClient, backend: FakeBackend) -> None:
    (empty,) = raw.read(value_set_entry=p4r.ValueSetEntry())
    assert empty.value_set_entry == p4r.ValueSetEntry(value_set_id=VALUE_SET)
    raw.write((MODIFY, values(80, 443)))
    assert backend.switch.value_sets[0] == b"\2\0\0\0" + b"\0\x50\xff\xff\1\xbb\xff\xff"
    (read,) = raw.read(value_set_entry=p4r.ValueSetEntry(value_set_id=VALUE_SET))
    assert read.value_set_entry == values(80, 443)["value_set_entry"]
    assert code(raw, MODIFY, **values(1, 2, 3)) == EXHAUSTED
    assert code(raw, INSERT, **values(1)) == INVALID


def test_digest_configs(raw: RawClient) -> None:
    entry = p4r.DigestEntry(digest_id=DIGEST, config=p4r.DigestEntry.Config(max_list_size=4, max_timeout_ns=5))
    raw.write((INSERT, {"digest_entry": entry}))
    (read,) = raw.read(digest_entry=p4r.DigestEntry())
    assert read.digest_entry == entry
    assert code(raw, INSERT, digest_entry=entry) == EXISTS
    assert code(raw, INSERT, digest_entry=p4r.DigestEntry(digest_id=1)) == NOT_FOUND
    negative = p4r.DigestEntry(digest_id=DIGEST, config=p4r.DigestEntry.Config(max_timeout_ns=-1))
    assert code(raw, MODIFY, digest_entry=negative) == INVALID
    raw.write((DELETE, {"digest_entry": entry}))
    assert code(raw, DELETE, digest_entry=entry) == NOT_FOUND


def test_reads_of_what_is_not_there(raw: RawClient) -> None:
    for entity in (
        {"counter_entry": p4r.CounterEntry(counter_id=1)},
        {"meter_entry": p4r.MeterEntry(meter_id=1)},
        {"digest_entry": p4r.DigestEntry(digest_id=1)},
        {"value_set_entry": p4r.ValueSetEntry(value_set_id=1)},
        {"action_profile_member": p4r.ActionProfileMember(action_profile_id=1)},
        {"direct_counter_entry": p4r.DirectCounterEntry(table_entry=p4r.TableEntry(table_id=1))},
    ):
        with pytest.raises(grpc.RpcError) as caught:
            raw.read(**entity)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND, entity
