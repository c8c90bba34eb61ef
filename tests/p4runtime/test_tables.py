"""Table entries: every match kind, priorities, defaults, const tables, limits, and errors that name the object."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    ACL,
    CONST,
    DELETE,
    DROP,
    EXACT,
    INSERT,
    LPM,
    MODIFY,
    NOACTION,
    TIMEOUT_S,
    RawClient,
    drop,
    errors_of,
    exact,
    forward,
    prefix,
)

INVALID, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, RANGE = 3, 5, 6, 7, 8, 11
pytestmark = pytest.mark.usefixtures("primary")


def fails(raw: RawClient, entry: p4r.TableEntry, code: int, *words: str, type_: int = INSERT) -> None:
    """The write is refused with ``code`` and a text that holds all ``words``."""
    with pytest.raises(grpc.RpcError) as caught:
        raw.write((type_, {"table_entry": entry}))
    (error,) = errors_of(caught.value)
    assert error.canonical_code == code, error
    for word in words:
        assert word in error.message, error.message


def acl(priority: int = 10, **fields: p4r.FieldMatch) -> p4r.TableEntry:
    return p4r.TableEntry(table_id=ACL, match=list(fields.values()), action=drop(), priority=priority)


def ternary(id_: int, value: bytes, mask: bytes) -> p4r.FieldMatch:
    return p4r.FieldMatch(field_id=id_, ternary=p4r.FieldMatch.Ternary(value=value, mask=mask))


def between(low: bytes, high: bytes, id_: int = 2) -> p4r.FieldMatch:
    return p4r.FieldMatch(field_id=id_, range=p4r.FieldMatch.Range(low=low, high=high))


def optional(value: bytes) -> p4r.FieldMatch:
    return p4r.FieldMatch(field_id=3, optional=p4r.FieldMatch.Optional(value=value))


def entries(raw: RawClient, **more: Any) -> list[p4r.TableEntry]:
    return [entity.table_entry for entity in raw.read(table_entry=p4r.TableEntry(**more))]


def test_all_kinds_read_back_as_written(raw: RawClient) -> None:
    written = [
        exact(7, 3),
        prefix(0x0A000000, 8),
        acl(5, port=ternary(1, b"\1\0", b"\1\xff"), sport=between(b"\x50", b"\x5a"), vlan=optional(b"\x0f\xff")),
        acl(6, v6=ternary(4, b"\x20\1" + bytes(14), b"\xff\xff" + bytes(14))),
        acl(7),
    ]
    raw.insert(*written)
    read = entries(raw)
    assert sorted(e.SerializeToString() for e in read) == sorted(e.SerializeToString() for e in written)


def test_long_strings_are_accepted_and_come_back_short(raw: RawClient) -> None:
    entry = exact(7)
    entry.match[0].exact.value = bytes(9) + b"\7"
    entry.action.action.params[1].value = bytes(7) + b"\2"
    raw.insert(entry)
    assert entries(raw) == [exact(7)]


def test_fields_in_any_order(raw: RawClient) -> None:
    entry = exact(7, 3)
    entry.match.reverse()
    entry.action.action.params.reverse()
    raw.insert(entry)
    assert entries(raw) == [exact(7, 3)]


def test_modify_and_delete(raw: RawClient) -> None:
    raw.insert(exact(1))
    raw.write((MODIFY, {"table_entry": exact(1, action=drop())}))
    assert entries(raw)[0].action == drop()
    raw.write((DELETE, {"table_entry": p4r.TableEntry(table_id=EXACT, match=exact(1).match)}))
    assert entries(raw) == []


def test_existing_missing_full(raw: RawClient) -> None:
    raw.insert(exact(1))
    fails(raw, exact(1), EXISTS, "exact_t", "exists already")
    fails(raw, exact(2), NOT_FOUND, "exact_t", type_=MODIFY)
    fails(raw, exact(2), NOT_FOUND, "exact_t", type_=DELETE)
    raw.insert(*(acl(10 + n) for n in range(8)))
    fails(raw, acl(99), EXHAUSTED, "acl_t", "full", "8")


def test_unknown_ids_are_named(raw: RawClient) -> None:
    fails(raw, p4r.TableEntry(table_id=0x02FFFFFF, action=drop()), NOT_FOUND, "0x02ffffff", "exact_t")
    entry = exact(1)
    entry.match[1].field_id = 9
    fails(raw, entry, INVALID, "exact_t", "match field with id 9")
    entry = exact(1)
    entry.action.action.action_id = 0x01FFFFFF
    fails(raw, entry, INVALID, "exact_t", "no action with id")
    entry = exact(1)
    entry.action.action.params[0].param_id = 9
    fails(raw, entry, INVALID, "forward", "parameter with id 9")
    entry = exact(1)
    del entry.action.action.params[1]
    fails(raw, entry, INVALID, "forward", "mac is missing")
    entry = exact(1)
    entry.action.action.params[1].param_id = 1
    fails(raw, entry, INVALID, "forward", "port is given twice")


def test_widths_are_checked_and_named(raw: RawClient) -> None:
    entry = exact(1)
    entry.match[1].exact.value = b"\2\0"
    fails(raw, entry, RANGE, "exact_t", "match field b", "bit<9>")
    fails(raw, exact(1, action=forward(port=512)), RANGE, "forward", "port", "bit<9>")
    entry = exact(1)
    entry.match[0].exact.value = b""
    fails(raw, entry, INVALID, "match field a", "empty")


def test_keys_must_be_well_formed(raw: RawClient) -> None:
    entry = exact(1)
    del entry.match[1]
    fails(raw, entry, INVALID, "match field b", "must be given")
    entry = exact(1)
    entry.match[1].field_id = 1
    fails(raw, entry, INVALID, "match field a is given twice")
    entry = exact(1)
    entry.match[0].lpm.value = b"\1"
    fails(raw, entry, INVALID, "match field a is exact", "lpm")
    fails(raw, prefix(0x0A000001, 8), INVALID, "beyond the prefix")
    fails(raw, prefix(0x0A000000, 33), INVALID, "1..32")
    fails(raw, prefix(0, 0), INVALID, "leave the field out")
    fails(raw, acl(1, p=ternary(1, b"\1", b"\0")), INVALID, "leave the field out")
    fails(raw, acl(1, p=ternary(1, b"\3", b"\1")), INVALID, "outside the mask")
    fails(raw, acl(1, p=between(b"\5", b"\4")), INVALID, "sport", "above")
    fails(raw, acl(1, p=between(b"\0", b"\xff\xff")), INVALID, "leave the field out")
    fails(raw, acl(1, p=between(b"\0", b"\1\0\0")), RANGE, "sport", "bit<16>")


def test_priority_where_it_belongs(raw: RawClient) -> None:
    fails(raw, acl(0), INVALID, "acl_t", "priority above 0")
    fails(raw, acl(-1), INVALID, "acl_t", "priority above 0")
    entry = exact(1)
    entry.priority = 3
    fails(raw, entry, INVALID, "exact_t", "priority must be 0")
    raw.insert(acl(1), acl(2))
    assert len(entries(raw, table_id=ACL)) == 2
    assert [e.priority for e in entries(raw, table_id=ACL, priority=2)] == [2]


def test_default_entries(raw: RawClient, backend: FakeBackend) -> None:
    def default(action: p4r.TableAction | None, **more: Any) -> p4r.TableEntry:
        return p4r.TableEntry(table_id=EXACT, is_default_action=True, action=action, **more)

    raw.write((MODIFY, {"table_entry": default(forward(3, 4))}))
    (read,) = entries(raw, table_id=EXACT, is_default_action=True)
    assert read == default(forward(3, 4))
    raw.write((MODIFY, {"table_entry": default(p4r.TableAction(action=p4r.Action(action_id=NOACTION)))}))
    raw.write((MODIFY, {"table_entry": default(None)}))
    (read,) = entries(raw, table_id=EXACT, is_default_action=True)
    assert read.action.action.action_id == DROP  # the fake's own default is the first action without parameters
    fails(raw, default(drop()), INVALID, "only be modified")
    fails(raw, default(drop()), INVALID, "only be modified", type_=DELETE)
    fails(raw, default(drop(), match=exact(1).match), INVALID, "no match", type_=MODIFY)
    fails(raw, default(drop(), priority=1), INVALID, "no priority", type_=MODIFY)
    assert len(entries(raw, is_default_action=True)) == 5
    assert entries(raw) == []


def test_action_scopes(raw: RawClient) -> None:
    entry = exact(1, action=p4r.TableAction(action=p4r.Action(action_id=NOACTION)))
    fails(raw, entry, DENIED, "NoAction", "defaultonly")


def test_const_tables_are_refused(raw: RawClient) -> None:
    entry = p4r.TableEntry(table_id=CONST, match=[exact(1).match[0]], action=forward())
    fails(raw, entry, DENIED, "const_t")
    fails(raw, entry, DENIED, "const_t", type_=DELETE)
    default = p4r.TableEntry(table_id=CONST, is_default_action=True, action=forward())
    fails(raw, default, DENIED, "const_t", "const default", type_=MODIFY)
    (read,) = entries(raw, table_id=CONST, is_default_action=True)
    assert read.is_const


def test_missing_parts_of_an_update(raw: RawClient) -> None:
    for update, word in (
        (p4r.Update(type=INSERT), "no entity"),
        (p4r.Update(entity=p4r.Entity(table_entry=exact(1))), "no type"),
        (p4r.Update(type=INSERT, entity=p4r.Entity(table_entry=p4r.TableEntry(table_id=LPM))), "action is missing"),
    ):
        request = p4r.WriteRequest(device_id=1, updates=[update])
        request.election_id.low = 1
        with pytest.raises(grpc.RpcError) as caught:
            raw.call("Write", "unary_unary", p4r.WriteResponse)(request, timeout=TIMEOUT_S)
        assert word in errors_of(caught.value)[0].message


def test_metadata_is_kept_and_goes_with_the_entry(raw: RawClient) -> None:
    raw.insert(exact(1, metadata=b"cookie", controller_metadata=5), exact(2))
    found = {entry.match[0].exact.value: entry for entry in entries(raw)}
    assert (found[b"\1"].metadata, found[b"\1"].controller_metadata) == (b"cookie", 5)
    assert found[b"\2"].metadata == b""
    assert len(entries(raw, metadata=b"cookie")) == 1
    raw.write((DELETE, {"table_entry": exact(1)}))
    raw.insert(exact(1))
    assert all(entry.metadata == b"" for entry in entries(raw))


def test_idle_timeouts_only_where_the_table_has_them(raw: RawClient) -> None:
    raw.insert(exact(1, idle_timeout_ns=10**9))
    (read,) = entries(raw, time_since_last_hit=p4r.TableEntry.IdleTimeout())
    assert read.idle_timeout_ns == 10**9
    assert read.time_since_last_hit.elapsed_ns == 7
    entry = prefix(0x0A000000, 8)
    entry.idle_timeout_ns = 5
    fails(raw, entry, INVALID, "lpm_t", "idle")
    fails(raw, exact(2, idle_timeout_ns=-1), INVALID, "negative")


def test_direct_counters(raw: RawClient) -> None:
    raw.insert(exact(1, counter_data=p4r.CounterData(packet_count=3, byte_count=300)), exact(2))
    assert all(not entry.HasField("counter_data") for entry in entries(raw))
    found = {e.match[0].exact.value: e.counter_data for e in entries(raw, counter_data=p4r.CounterData())}
    assert (found[b"\1"].packet_count, found[b"\1"].byte_count) == (3, 300)
    assert (found[b"\2"].packet_count, found[b"\2"].byte_count) == (0, 0)
    key = p4r.TableEntry(table_id=EXACT, match=exact(2).match)
    raw.write(
        (
            MODIFY,
            {"direct_counter_entry": p4r.DirectCounterEntry(table_entry=key, data=p4r.CounterData(packet_count=9))},
        )
    )
    (one,) = raw.read(direct_counter_entry=p4r.DirectCounterEntry(table_entry=key))
    assert one.direct_counter_entry.data.packet_count == 9
    assert one.direct_counter_entry.table_entry == key
    everything = raw.read(direct_counter_entry=p4r.DirectCounterEntry())
    assert len(everything) == 2
    lpm = prefix(0x0A000000, 8)
    lpm.counter_data.packet_count = 1
    fails(raw, lpm, INVALID, "lpm_t", "no direct counter")


def test_reading_one_entry(raw: RawClient) -> None:
    raw.insert(exact(1), exact(2))
    assert entries(raw, table_id=EXACT, match=exact(2).match) == [exact(2)]
    assert entries(raw, table_id=EXACT, match=exact(3).match) == []
    with pytest.raises(grpc.RpcError) as caught:
        entries(raw, table_id=0x02FFFFFF)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert entries(raw, action=forward()) == [exact(1), exact(2)]
    assert entries(raw, action=drop()) == []


def test_large_writes_and_reads(raw: RawClient, backend: FakeBackend) -> None:
    """Sent in slices, read in several messages, and every entry exactly once."""
    for first in range(0, 20_000, 5_000):
        raw.insert(*(exact(n + 1) for n in range(first, first + 5_000)))
    assert max(backend.switch.sizes) <= 512
    request = p4r.ReadRequest(device_id=1, entities=[p4r.Entity(table_entry=p4r.TableEntry(table_id=EXACT))])
    messages = list(raw.call("Read", "unary_stream", p4r.ReadResponse)(request, timeout=60))
    assert len(messages) > 1
    assert all(message.ByteSize() < 4 << 20 for message in messages)
    keys = [e.table_entry.match[0].exact.value for m in messages for e in m.entities]
    assert len(keys) == len(set(keys)) == 20_000


def test_one_error_per_update_in_order(raw: RawClient) -> None:
    raw.insert(exact(2))
    with pytest.raises(grpc.RpcError) as caught:
        raw.insert(exact(1), exact(2), exact(3), p4r.TableEntry(table_id=1))
    codes = [error.canonical_code for error in errors_of(caught.value)]
    assert codes == [0, EXISTS, 0, NOT_FOUND]
    assert len(entries(raw)) == 3


def test_a_long_list_of_errors_still_arrives(raw: RawClient) -> None:
    raw.insert(exact(1))
    with pytest.raises(grpc.RpcError) as caught:
        raw.insert(*(exact(1) for _ in range(400)))
    assert [error.canonical_code for error in errors_of(caught.value)] == [EXISTS] * 400
    with pytest.raises(grpc.RpcError) as caught:  # more than any client's metadata limit: the summary remains
        raw.insert(*(exact(1) for _ in range(5000)))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert "5000 of 5000 failed; first is #0: ALREADY_EXISTS" in caught.value.details()


def test_another_device_is_not_found(raw: RawClient) -> None:
    for attempt in (
        lambda: raw.write((INSERT, {"table_entry": exact(1)}), device_id=9),
        lambda: list(
            raw.call("Read", "unary_stream", p4r.ReadResponse)(p4r.ReadRequest(device_id=9), timeout=TIMEOUT_S)
        ),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            attempt()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
