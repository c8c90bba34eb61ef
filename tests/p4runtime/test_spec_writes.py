"""What the specification says of single writes, and who hears of what: sections 5 (arbitration), 9, 12 to 16."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2

from engine.api import ActionCall, Digest, IdleTimeout, Match, TableEntry
from engine.p4rt.arbitration import Client
from engine.p4rt.stubs import p4r, stratum
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    BALANCE,
    COUNTER,
    DELETE,
    DIGEST,
    EXACT,
    INSERT,
    LPM,
    MODIFY,
    NOACTION,
    PROFILE,
    SAMPLE,
    RawClient,
    Stream,
    config_of,
    drop,
    errors_of,
    exact,
    forward,
    prefix,
    served,
)

OK, INVALID, NOT_FOUND, EXISTS, DENIED = 0, 3, 5, 6, 7


def code(raw: RawClient, type_: int, **entity: Any) -> int:
    try:
        raw.write((type_, entity))
    except grpc.RpcError as error:
        return int(errors_of(error)[0].canonical_code)
    return OK


def bare(entry: p4r.TableEntry, **more: Any) -> p4r.TableEntry:
    """The entry's key, with other parts."""
    return p4r.TableEntry(table_id=entry.table_id, match=entry.match, priority=entry.priority, **more)


def entries(raw: RawClient, **more: Any) -> list[p4r.TableEntry]:
    return [entity.table_entry for entity in raw.read(table_entry=p4r.TableEntry(**more))]


@pytest.fixture
def client(raw: RawClient, primary: Stream) -> RawClient:
    return raw


# -- entries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", [INSERT, MODIFY, DELETE])
def test_nobody_writes_is_const(client: RawClient, type_: int) -> None:
    client.insert(exact(1))
    entry = exact(2 if type_ == INSERT else 1, is_const=True)
    assert code(client, type_, table_entry=entry) == INVALID
    assert entries(client) == [exact(1)]


def test_a_delete_needs_the_key_only(client: RawClient) -> None:
    client.insert(prefix(0x0A000000, 8), exact(1))
    nonsense = p4r.TableAction(action=p4r.Action(action_id=99))
    hit = p4r.TableEntry.IdleTimeout()
    assert code(client, DELETE, table_entry=bare(prefix(0x0A000000, 8), idle_timeout_ns=-5, action=nonsense)) == OK
    assert code(client, DELETE, table_entry=bare(exact(1), time_since_last_hit=hit, metadata=b"m")) == OK
    assert entries(client) == []


def test_a_modify_without_action_keeps_it(client: RawClient) -> None:
    client.insert(exact(1, action=forward(7), idle_timeout_ns=5))
    assert code(client, MODIFY, table_entry=bare(exact(1), idle_timeout_ns=9, metadata=b"m")) == OK
    assert entries(client) == [exact(1, action=forward(7), idle_timeout_ns=9, metadata=b"m")]
    data = p4r.CounterData(packet_count=3, byte_count=300)
    assert code(client, MODIFY, table_entry=bare(exact(1), counter_data=data)) == OK
    (read,) = entries(client, counter_data=p4r.CounterData())
    assert (read.action, read.counter_data, read.idle_timeout_ns, read.metadata) == (forward(7), data, 0, b"")
    assert code(client, MODIFY, table_entry=bare(exact(2))) == NOT_FOUND
    assert code(client, MODIFY, table_entry=bare(prefix(0x0A000000, 8), idle_timeout_ns=1)) == INVALID
    assert code(client, INSERT, table_entry=bare(exact(2))) == INVALID, "an insert needs one"


def test_a_modify_without_action_keeps_a_member_and_a_one_shot_set(client: RawClient) -> None:
    member = p4r.ActionProfileMember(action_profile_id=PROFILE, member_id=5, action=forward(5).action)
    client.write((INSERT, {"action_profile_member": member}))
    key = [exact(1).match[0]]
    of_member = p4r.TableEntry(table_id=BALANCE, match=key, action=p4r.TableAction(action_profile_member_id=5))
    one_shot = p4r.TableEntry(table_id=BALANCE, match=[exact(2).match[0]])
    one_shot.action.action_profile_action_set.action_profile_actions.add(action=forward(6).action, weight=2)
    client.insert(of_member)
    client.write((INSERT, {"table_entry": one_shot}))
    for entry in (of_member, one_shot):
        assert code(client, MODIFY, table_entry=bare(entry, metadata=b"new")) == OK
        entry.metadata = b"new"
    read = sorted(entries(client, table_id=BALANCE), key=lambda entry: entry.match[0].exact.value)
    assert read == [of_member, one_shot]


@pytest.mark.parametrize("atomicity", [0, 1, 2])
def test_scopes_of_actions_are_permissions(client: RawClient, atomicity: int) -> None:
    wrong = exact(1, action=p4r.TableAction(action=p4r.Action(action_id=NOACTION)))
    with pytest.raises(grpc.RpcError) as caught:
        client.write((INSERT, {"table_entry": wrong}), atomicity=atomicity)
    assert errors_of(caught.value)[0].canonical_code == DENIED


# -- counters --------------------------------------------------------------------------------------------------------


def test_a_counter_without_data_is_left_alone(client: RawClient) -> None:
    data = p4r.CounterData(packet_count=3, byte_count=300)
    cell = p4r.CounterEntry(counter_id=COUNTER, index=p4r.Index(index=2))
    assert code(client, MODIFY, counter_entry=p4r.CounterEntry(counter_id=COUNTER, index=cell.index, data=data)) == OK
    assert code(client, MODIFY, counter_entry=cell) == OK
    assert code(client, MODIFY, counter_entry=p4r.CounterEntry(counter_id=COUNTER)) == OK, "all cells"
    (read,) = client.read(counter_entry=cell)
    assert read.counter_entry.data == data
    client.insert(exact(1, counter_data=data))
    direct = p4r.DirectCounterEntry(table_entry=bare(exact(1)))
    assert code(client, MODIFY, direct_counter_entry=direct) == OK
    (read,) = client.read(direct_counter_entry=direct)
    assert read.direct_counter_entry.data == data
    direct.data.SetInParent()
    assert code(client, MODIFY, direct_counter_entry=direct) == OK
    (read,) = client.read(direct_counter_entry=direct)
    assert not read.direct_counter_entry.data.packet_count, "given as zero"


# -- replication -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "instance", "expected"), [(1, 0xFFFF, OK), (1, 0x10000, INVALID), (0x10000, 1, 3)])
def test_groups_and_instances_have_16_bits(client: RawClient, number: int, instance: int, expected: int) -> None:
    group = p4r.MulticastGroupEntry(multicast_group_id=number, replicas=[p4r.Replica(port=b"\1", instance=instance)])
    entry = p4r.PacketReplicationEngineEntry(multicast_group_entry=group)
    assert code(client, INSERT, packet_replication_engine_entry=entry) == expected


# -- digests ---------------------------------------------------------------------------------------------------------


def report(port: int) -> Digest:
    return Digest(0, (port.to_bytes(2, "big"), bytes(4)), 0)


def test_the_messages_of_a_digest_list_are_distinct(client: RawClient, primary: Stream, backend: FakeBackend) -> None:
    config = p4r.DigestEntry.Config(max_list_size=3, max_timeout_ns=3_600_000_000_000)
    client.write((INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST, config=config)}))
    for port in (1, 1, 2, 1, 3):
        backend.emit(report(port))
    first = primary.next("digest")
    assert [item.struct.members[0].bitstring for item in first.data] == [b"\1", b"\2", b"\3"]
    for port in (1, 2, 3):
        backend.emit(report(port))
    assert len(primary.next("digest").data) == 3, "without a time-out for acknowledgements no list is remembered"


# -- roles -----------------------------------------------------------------------------------------------------------


def packed(*ids: int) -> any_pb2.Any:
    config = any_pb2.Any()
    config.Pack(stratum.P4RoleConfig(exclusive_p4_ids=ids))
    return config


def join(raw: RawClient, election: int, *ids: int) -> Stream:
    stream = raw.stream()
    role = p4r.Role(name="some", config=packed(*ids))
    stream.send(arbitration=p4r.MasterArbitrationUpdate(device_id=1, role=role, election_id=p4r.Uint128(low=election)))
    return stream


def test_only_the_primary_says_what_its_role_may(client: RawClient, address: str) -> None:
    other = RawClient(address)
    try:
        first = join(other, 5, LPM)
        assert first.next("arbitration").role.config == packed(LPM)
        second = join(other, 4, EXACT)
        assert second.next("arbitration").role.config == packed(LPM), "the primary's"
        other.election, other.role = 5, "some"
        other.insert(prefix(0x0A000000, 8))
        assert code(other, INSERT, table_entry=exact(1)) == DENIED
        second.arbitrate(6, role="some")  # without a config: full access
        assert not second.next("arbitration").role.HasField("config")
        other.election = 6
        other.insert(exact(1))
    finally:
        other.close()


def test_a_role_hears_of_its_own_objects_only(client: RawClient, backend: FakeBackend, address: str) -> None:
    client.write((INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST)}))
    other = RawClient(address)
    try:
        stream = join(other, 5, EXACT)
        stream.next("arbitration")
        backend.emit(report(1))
        key = (Match(b"\0\0\0\1"), Match(b"\0\1"))
        backend.emit(IdleTimeout(TableEntry(0, key, ActionCall(1), idle_timeout_ns=9), 5))
        assert stream.next("idle_timeout_notification").table_entry[0].table_id == EXACT
        assert stream.inbox.empty(), "the digest is not the role's"
    finally:
        other.close()


@pytest.mark.parametrize("value", [b"", b"\xff\xff"])
def test_role_configs_of_other_schemes(client: RawClient, value: bytes) -> None:
    name = "p4.tmp.P4RoleConfig" if value else "nobody.Knows"
    if value:
        name = stratum.P4RoleConfig.DESCRIPTOR.full_name
    stream = client.stream()
    role = p4r.Role(name="some", config=any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=value))
    stream.send(arbitration=p4r.MasterArbitrationUpdate(device_id=1, role=role, election_id=p4r.Uint128(low=9)))
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_role_is_not_found(client: RawClient) -> None:
    client.role = "nobody"
    for attempt in (lambda: client.insert(exact(1)), lambda: client.set_config(config_of(SAMPLE))):
        with pytest.raises(grpc.RpcError) as caught:
            attempt()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_its_device(client: RawClient, primary: Stream) -> None:
    primary.arbitrate(1, device_id=2)
    with pytest.raises(grpc.RpcError) as caught:
        primary.next()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_an_arbitration_that_comes_after_its_stream_s_end_counts_for_nothing(backend: FakeBackend) -> None:
    with served(backend) as (serving, address):
        device, gone = serving.device, Client()
        update = p4r.StreamMessageRequest()
        update.arbitration.device_id, update.arbitration.election_id.low = 1, 1
        device.streams.attach(gone)
        device.streams.detach(gone)
        device.receive(gone, update)
        assert device.streams.arbiter.primaries() == []
        raw = RawClient(address)
        raw.become_primary(1)
        raw.set_config(config_of(SAMPLE))
        raw.insert(exact(1, action=drop()))
        raw.close()
