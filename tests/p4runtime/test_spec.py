"""The P4Runtime specification's rules, chapter by chapter, as far as no other module here has them.

Numbers are sections of the specification 1.4; each case names the rule and the code that it wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from engine.codec import Reader, read_replicas
from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    BALANCE,
    CONST,
    DELETE,
    EXACT,
    INSERT,
    LPM,
    METER,
    MODIFY,
    PROFILE,
    SAMPLE,
    RawClient,
    config_of,
    drop,
    errors_of,
    exact,
    forward,
    served,
)
from tests.p4runtime.library_backend import LibraryBackend

OK, INVALID, NOT_FOUND, EXISTS, DENIED, EXHAUSTED = 0, 3, 5, 6, 7, 8
PRECONDITION, UNIMPLEMENTED = 9, 12


@pytest.fixture
def client(raw: RawClient, primary: Any) -> RawClient:
    return raw


def code(raw: RawClient, type_: int, **entity: Any) -> int:
    """Code of a single update; 0 when it was accepted."""
    try:
        raw.write((type_, entity))
    except grpc.RpcError as error:
        (one,) = errors_of(error)
        assert one.message
        return int(one.canonical_code)
    return OK


def changed(**fields: Any) -> p4r.ForwardingPipelineConfig:
    """The sample's config with attributes of its action profile or tables set: ``profile=...``, ``const=...``."""
    info = p4i.P4Info()
    info.CopyFrom(SAMPLE)
    for name, value in fields.items():
        target = info.action_profiles[0]
        if name in ("sum_of_members",):
            target.sum_of_members.max_member_weight = value
        else:
            setattr(target, name, value)
    return config_of(info)


# -- 9.1 TableEntry: default entries, const entries ------------------------------------------------------------------


def default(**more: Any) -> dict[str, Any]:
    return {"table_entry": p4r.TableEntry(table_id=EXACT, is_default_action=True, **more)}


def test_default_entries_are_written_and_read_with_their_metadata(client: RawClient) -> None:
    client.write((MODIFY, default(action=forward(), metadata=b"mine")))
    (read,) = client.read(**default())
    assert (read.table_entry.metadata, read.table_entry.action) == (b"mine", forward())
    client.write((MODIFY, default()))
    (read,) = client.read(**default())
    assert read.table_entry.metadata == b"", "a reset takes it away"


@pytest.mark.parametrize(
    ("type_", "more", "expected"),
    [
        (INSERT, {"action": forward()}, INVALID),
        (DELETE, {}, INVALID),
        (MODIFY, {"action": forward(), "priority": 1}, INVALID),
        (MODIFY, {"action": forward(), "match": [exact(1).match[0]]}, INVALID),
        (MODIFY, {"action": forward(), "idle_timeout_ns": 5}, INVALID),
        (MODIFY, {"action": forward(), "counter_data": p4r.CounterData(packet_count=1)}, UNIMPLEMENTED),
        (MODIFY, {"action": forward(), "meter_config": p4r.MeterConfig()}, UNIMPLEMENTED),
    ],
)
def test_default_entries_have_no_more(client: RawClient, type_: int, more: dict[str, Any], expected: int) -> None:
    assert code(client, type_, **default(**more)) == expected


def const(action: p4r.TableAction | None = None, **more: Any) -> dict[str, Any]:
    match = [p4r.FieldMatch(field_id=1, exact=p4r.FieldMatch.Exact(value=b"\1"))]
    return {"table_entry": p4r.TableEntry(table_id=CONST, match=match, action=action, **more)}


def test_const_entries_cannot_be_changed(client: RawClient) -> None:
    for type_, entry in ((INSERT, const(forward())), (MODIFY, const(forward())), (DELETE, const())):
        assert code(client, type_, **entry) == DENIED
    assert code(client, MODIFY, table_entry=p4r.TableEntry(table_id=CONST, is_default_action=True)) == DENIED
    assert code(client, MODIFY, **const()) == NOT_FOUND, "direct resources may be modified, of entries that exist"


def test_parts_that_belong_to_other_tables(client: RawClient) -> None:
    hit = p4r.TableEntry.IdleTimeout()
    assert code(client, INSERT, table_entry=exact(1, time_since_last_hit=hit)) == INVALID
    assert code(client, INSERT, table_entry=exact(1, meter_config=p4r.MeterConfig())) == INVALID
    assert code(client, INSERT, table_entry=exact(1, meter_counter_data=p4r.MeterCounterData())) == UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        client.read(table_entry=p4r.TableEntry(table_id=LPM, time_since_last_hit=hit))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        client.read(table_entry=p4r.TableEntry(table_id=EXACT, meter_counter_data=p4r.MeterCounterData()))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# -- 9.2 action profiles: sizes and weights --------------------------------------------------------------------------


def group(*weights: int, number: int = 1, max_size: int = 0) -> dict[str, Any]:
    made = p4r.ActionProfileGroup(action_profile_id=PROFILE, group_id=number, max_size=max_size)
    for member, weight in enumerate(weights, 1):
        made.members.add(member_id=member, weight=weight)
    return {"action_profile_group": made}


def members(raw: RawClient, count: int) -> None:
    for number in range(1, count + 1):
        member = p4r.ActionProfileMember(action_profile_id=PROFILE, member_id=number, action=forward(number).action)
        raw.write((INSERT, {"action_profile_member": member}))


def one_shot(*weights: int) -> dict[str, Any]:
    actions = p4r.ActionProfileActionSet()
    for port, weight in enumerate(weights, 1):
        actions.action_profile_actions.add(action=forward(port).action, weight=weight)
    entry = p4r.TableEntry(table_id=BALANCE, match=[exact(1).match[0]])
    entry.action.action_profile_action_set.CopyFrom(actions)
    return {"table_entry": entry}


def test_sizes_by_weight(client: RawClient) -> None:
    members(client, 3)
    assert code(client, INSERT, **group(1, 1, max_size=17)) == INVALID, "above max_group_size"
    assert code(client, INSERT, **group(10, 7)) == EXHAUSTED
    assert code(client, INSERT, **group(1, 0)) == INVALID
    assert code(client, INSERT, **group(2, 2, max_size=4)) == OK
    assert code(client, MODIFY, **group(2, 2, max_size=8)) == INVALID, "max_size is fixed at INSERT"
    assert code(client, INSERT, **one_shot(9, 9)) == INVALID


def test_sizes_by_number_of_members(client: RawClient) -> None:
    client.set_config(changed(sum_of_members=100))
    members(client, 3)
    assert code(client, INSERT, **group(100, 90)) == OK, "weights don't count"
    assert code(client, INSERT, **group(101, number=2)) == INVALID, "above max_member_weight"
    assert code(client, INSERT, **group(1, 1, 1, number=3, max_size=2)) == EXHAUSTED
    assert code(client, INSERT, **one_shot(100, 50)) == OK
    (read,) = client.read(table_entry=p4r.TableEntry(table_id=BALANCE))
    assert read.table_entry == one_shot(100, 50)["table_entry"]


def test_weights_can_be_disallowed(client: RawClient) -> None:
    client.set_config(changed(weights_disallowed=True))
    members(client, 2)
    assert code(client, INSERT, **group(1, 1)) == INVALID
    assert code(client, INSERT, **group(0, 0)) == OK
    (read,) = client.read(**group())
    assert read.action_profile_group == group(0, 0)["action_profile_group"]


# -- 9.5 meters ------------------------------------------------------------------------------------------------------


def test_meter_configurations(client: RawClient) -> None:
    def meter(**config: int) -> dict[str, Any]:
        entry = p4r.MeterEntry(meter_id=METER, index=p4r.Index(index=1), config=p4r.MeterConfig(**config))
        return {"meter_entry": entry}

    assert code(client, MODIFY, **meter(cir=1, cburst=1, pir=2, pburst=2)) == OK
    assert code(client, MODIFY, **meter(cir=1, cburst=1, pir=2, pburst=2, eburst=1)) == INVALID
    assert code(client, MODIFY, **meter(cir=3, cburst=1, pir=2, pburst=2)) == INVALID
    assert code(client, MODIFY, **meter(cir=-1, cburst=1, pir=2, pburst=2)) == INVALID
    assert code(client, INSERT, **meter(cir=1, cburst=1, pir=2, pburst=2)) == INVALID
    coloured = p4r.MeterEntry(meter_id=METER, index=p4r.Index(index=1), counter_data=p4r.MeterCounterData())
    assert code(client, MODIFY, meter_entry=coloured) == UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        client.read(meter_entry=coloured)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# -- 9.6 replication -------------------------------------------------------------------------------------------------


def multicast(*replicas: p4r.Replica, number: int = 1, metadata: bytes = b"") -> dict[str, Any]:
    entry = p4r.MulticastGroupEntry(multicast_group_id=number, replicas=replicas, metadata=metadata)
    return {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(multicast_group_entry=entry)}


def replica(port: int, instance: int = 1, *backups: tuple[int, int]) -> p4r.Replica:
    made = p4r.Replica(port=bytes([port]), instance=instance)
    for number, its in backups:
        made.backup_replicas.add(port=bytes([number]), instance=its)
    return made


def test_backup_replicas(client: RawClient, backend: FakeBackend) -> None:
    wanted = multicast(replica(5), replica(12, 2, (13, 5)), replica(18, 3, (19, 6), (20, 7)), metadata=b"m")
    client.write((INSERT, wanted))
    (read,) = client.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())
    assert read.packet_replication_engine_entry == wanted["packet_replication_engine_entry"], "in order, verbatim"
    pairs = read_replicas(Reader(backend.switch.multicast[1]))
    assert pairs == [(5, 1), (12, 2), (13 | 1 << 31, 5), (18, 3), (19 | 1 << 31, 6), (20 | 1 << 31, 7)]
    assert code(client, INSERT, **multicast(replica(5, 1, (5, 2)), number=2)) == INVALID, "a backup on its own port"
    assert code(client, INSERT, **multicast(replica(5, 1, (6, 1)), replica(6, 1), number=2)) == INVALID, "twice"
    assert code(client, INSERT, **multicast(replica(5, 1, (6, 1), (6, 1)), number=2)) == INVALID


def test_clone_sessions(client: RawClient, backend: FakeBackend) -> None:
    entry = p4r.CloneSessionEntry(session_id=3, replicas=[replica(5, 1, (6, 1))], class_of_service=7)
    client.write(
        (INSERT, {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(clone_session_entry=entry)})
    )
    assert int.from_bytes(backend.switch.clones[3][4:8], "little") == 7
    (read,) = client.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())
    assert read.packet_replication_engine_entry.clone_session_entry == entry


# -- 9.7 value sets --------------------------------------------------------------------------------------------------


def test_members_of_every_kind(client: RawClient, backend: FakeBackend) -> None:
    info = p4i.P4Info()
    info.CopyFrom(SAMPLE)
    del info.value_sets[0].match[:]
    info.value_sets[0].size = 4
    for number, (name, kind, width) in enumerate(
        (("e", "EXACT", 4), ("l", "LPM", 8), ("t", "TERNARY", 4), ("r", "RANGE", 3), ("o", "OPTIONAL", 5)), 1
    ):
        kind_number = p4i.MatchField.MatchType.Value(kind)
        info.value_sets[0].match.add(id=number, name=name, bitwidth=width, match_type=kind_number)
    client.set_config(config_of(info))
    entry = p4r.ValueSetEntry(value_set_id=info.value_sets[0].preamble.id)
    member = entry.members.add()
    member.match.add(field_id=1).exact.value = b"\x0a"
    lpm = member.match.add(field_id=2).lpm
    lpm.value, lpm.prefix_len = b"\xc0", 2
    ternary = member.match.add(field_id=3).ternary
    ternary.value, ternary.mask = b"\1", b"\3"
    between = member.match.add(field_id=4).range
    between.low, between.high = b"\1", b"\3"
    assert code(client, MODIFY, value_set_entry=entry) == OK
    raw = backend.switch.value_sets[0]
    count = int.from_bytes(raw[:4], "little")
    cells = [int.from_bytes(raw[4 + 3 * i : 7 + 3 * i], "big") for i in range(2 * count)]
    pairs = list(zip(cells[::2], cells[1::2], strict=True))

    def pack(e: int, low: int, t: int, r: int, o: int) -> int:
        return (((e << 8 | low) << 4 | t) << 3 | r) << 5 | o

    assert pairs == [
        (pack(10, 0xC0, 1, 1, 0), pack(15, 0xC0, 3, 7, 0)),
        (pack(10, 0xC0, 1, 2, 0), pack(15, 0xC0, 3, 6, 0)),
    ]
    (read,) = client.read(value_set_entry=p4r.ValueSetEntry())
    assert read.value_set_entry == entry
    del member.match[0]
    assert code(client, MODIFY, value_set_entry=entry) == INVALID, "an exact field must be given"
    member.match.add(field_id=9).exact.value = b"\1"
    assert code(client, MODIFY, value_set_entry=entry) == INVALID
    for _ in range(5):
        entry.members.add()
    assert code(client, MODIFY, value_set_entry=entry) in (EXHAUSTED, INVALID)


# -- 12, 14: writes and pipeline configs -----------------------------------------------------------------------------


def test_tables_that_did_not_change_keep_their_entries(client: RawClient) -> None:
    client.insert(exact(1, metadata=b"kept"))
    lpm = p4r.FieldMatch(field_id=1, lpm=p4r.FieldMatch.LPM(value=b"\x0a\0\0\0", prefix_len=8))
    client.insert(p4r.TableEntry(table_id=LPM, match=[lpm], action=forward()))
    client.write((INSERT, multicast(replica(5, 1, (6, 1)))))
    info = p4i.P4Info()
    info.CopyFrom(SAMPLE)
    info.tables[1].size = 1000  # the LPM table is another one now
    client.set_config(config_of(info), "RECONCILE_AND_COMMIT")
    (read,) = client.read(table_entry=p4r.TableEntry())
    assert read.table_entry == exact(1, metadata=b"kept")
    assert len(client.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())) == 1


def test_an_entry_that_is_not_there_has_no_direct_counter(client: RawClient) -> None:
    wanted = p4r.DirectCounterEntry(table_entry=p4r.TableEntry(table_id=EXACT, match=exact(1).match))
    with pytest.raises(grpc.RpcError) as caught:
        client.read(direct_counter_entry=wanted)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert code(client, MODIFY, direct_counter_entry=wanted) == NOT_FOUND


@pytest.mark.parametrize(
    ("type_", "entity", "expected"),
    [
        (0, {"table_entry": exact(1)}, INVALID),
        (INSERT, {}, INVALID),
        (INSERT, {"table_entry": p4r.TableEntry(table_id=99)}, NOT_FOUND),
        (INSERT, {"table_entry": p4r.TableEntry(table_id=EXACT, match=exact(1).match)}, INVALID),
        (INSERT, {"table_entry": exact(1 << 33)}, 11),
        (DELETE, {"table_entry": exact(1)}, NOT_FOUND),
        (MODIFY, {"table_entry": exact(1)}, NOT_FOUND),
        (INSERT, {"table_entry": p4r.TableEntry(table_id=BALANCE, match=[exact(1).match[0]], action=drop())}, INVALID),
        (DELETE, group(), NOT_FOUND),
        (INSERT, group(1), NOT_FOUND),
        (INSERT, {"extern_entry": p4r.ExternEntry(extern_type_id=1)}, UNIMPLEMENTED),
        (MODIFY, {"register_entry": p4r.RegisterEntry(register_id=1)}, NOT_FOUND),
        (MODIFY, {"counter_entry": p4r.CounterEntry(counter_id=1)}, NOT_FOUND),
        (MODIFY, {"meter_entry": p4r.MeterEntry(meter_id=1)}, NOT_FOUND),
        (MODIFY, {"value_set_entry": p4r.ValueSetEntry(value_set_id=1)}, NOT_FOUND),
        (INSERT, {"digest_entry": p4r.DigestEntry(digest_id=1)}, NOT_FOUND),
        (INSERT, {"action_profile_member": p4r.ActionProfileMember(action_profile_id=1, member_id=1)}, NOT_FOUND),
    ],
)
def test_what_cannot_be_is_refused_with_its_code(
    client: RawClient, type_: int, entity: dict[str, Any], expected: int
) -> None:
    assert code(client, type_, **entity) == expected


def test_a_duplicate_and_a_full_table(client: RawClient) -> None:
    client.insert(exact(1))
    assert code(client, INSERT, table_entry=exact(1)) == EXISTS
    members(client, 1)
    assert code(client, INSERT, **group(1)) == OK
    assert code(
        client, DELETE, action_profile_member=p4r.ActionProfileMember(action_profile_id=PROFILE, member_id=1)
    ) == (PRECONDITION)


# -- 9.1.6 preinitialized tables, with the native data plane --------------------------------------------------------


PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def initial() -> Iterator[RawClient]:
    with served(LibraryBackend()) as (_serving, address):
        made = RawClient(address)
        made.become_primary()
        made.set_config(initial_config())
        yield made
        made.close()


def initial_config() -> p4r.ForwardingPipelineConfig:
    config = p4r.ForwardingPipelineConfig(p4_device_config=(PROGRAMS / "initial.json").read_bytes())
    text_format.Parse((PROGRAMS / "initial.p4info.txtpb").read_text(), config.p4info)
    return config


def test_initial_entries_may_be_changed(initial: RawClient) -> None:
    table = next(t for t in initial_config().p4info.tables if t.preamble.name == "I.pre")

    def rows() -> dict[bytes, p4r.TableEntry]:
        found = initial.read(table_entry=p4r.TableEntry(table_id=table.preamble.id))
        return {e.table_entry.match[0].exact.value: e.table_entry for e in found}

    assert set(rows()) == {b"\1", b"\2"} and not rows()[b"\1"].is_const
    first, second = rows()[b"\1"], rows()[b"\2"]
    initial.write((DELETE, {"table_entry": first}))
    second.action.action.params[0].value = b"\7"
    initial.write((MODIFY, {"table_entry": second}))
    third = p4r.TableEntry()
    third.CopyFrom(second)
    third.match[0].exact.value = b"\3"
    initial.insert(third)
    assert rows() == {b"\2": second, b"\3": third}
    other = initial_config()
    other.p4info.tables[1].size = 77
    initial.set_config(other, "RECONCILE_AND_COMMIT")
    assert rows() == {b"\2": second, b"\3": third}, "reconciled: neither back to the program's, nor lost"
    initial.set_config(initial_config())
    assert set(rows()) == {b"\1", b"\2"}, "committed afresh: the program's"


# -- 12.2 batch atomicity, with the native data plane ----------------------------------------------------------------


def test_an_atomic_batch_of_the_steering_program() -> None:
    """Action set, register and routes together, then not at all because of the last update."""
    build = Path(__file__).parents[2] / "p4" / "build"
    config = p4r.ForwardingPipelineConfig(p4_device_config=(build / "shadowplane.json").read_bytes())
    text_format.Parse((build / "shadowplane.p4info.txtpb").read_text(), config.p4info)
    tables = {table.preamble.name: table for table in config.p4info.tables}
    actions = {action.preamble.name: action.preamble.id for action in config.p4info.actions}
    failover = next(r.preamble.id for r in config.p4info.registers if r.preamble.name == "failover")

    def balance(number: int, *groups: int) -> p4r.TableEntry:
        match = [p4r.FieldMatch(field_id=1, exact=p4r.FieldMatch.Exact(value=bytes([number])))]
        made = p4r.TableEntry(table_id=tables["balance"].preamble.id, match=match)
        for group_ in groups:
            one = made.action.action_profile_action_set.action_profile_actions.add(weight=group_)
            one.action.action_id = actions["set_group"]
            one.action.params.add(param_id=1, value=bytes([group_]))
        return made

    def bit(value: int) -> dict[str, Any]:
        entry = p4r.RegisterEntry(register_id=failover, index=p4r.Index(index=3))
        entry.data.bitstring = bytes([value])
        return {"register_entry": entry}

    def state(raw: RawClient) -> tuple[Any, ...]:
        entries = raw.read(table_entry=p4r.TableEntry(table_id=tables["balance"].preamble.id))
        return [e.table_entry for e in entries], raw.read(**bit(0))[0].register_entry.data.bitstring

    with served(LibraryBackend()) as (_serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config)
        raw.write((INSERT, {"table_entry": balance(1, 1, 2)}), (MODIFY, bit(1)), atomicity=2)
        assert state(raw) == ([balance(1, 1, 2)], b"\1")
        with pytest.raises(grpc.RpcError) as caught:
            raw.write(
                (MODIFY, {"table_entry": balance(1, 3)}),
                (INSERT, {"table_entry": balance(2, 4, 5, 6)}),
                (MODIFY, bit(0)),
                (DELETE, {"table_entry": balance(9)}),
                atomicity=2,
            )
        assert [error.canonical_code for error in errors_of(caught.value)] == [10, 10, 10, NOT_FOUND]
        assert state(raw) == ([balance(1, 1, 2)], b"\1")
        raw.write((MODIFY, {"table_entry": balance(1, 3)}), (MODIFY, bit(0)), atomicity=1)
        assert state(raw) == ([balance(1, 3)], b"\0")
        raw.write((DELETE, {"table_entry": balance(1, 3)}), (MODIFY, bit(1)), atomicity=2)
        raw.close()
