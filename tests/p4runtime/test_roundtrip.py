"""Properties: what is written is read, canonical, whatever it is; and garbage never breaks the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.p4rt.stubs import gnmi, p4r
from engine.p4rt.values import encode
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    ACL,
    DELETE,
    DROP,
    EXACT,
    FORWARD,
    INSERT,
    LPM,
    MODIFY,
    SAMPLE,
    SEEN,
    TIMEOUT_S,
    RawClient,
    config_of,
    exact,
    register,
    served,
)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[RawClient, FakeBackend]]:
    backend = FakeBackend()
    with served(backend) as (_serving, address):
        client = RawClient(address)
        client.become_primary()
        client.set_config(config_of(SAMPLE))
        yield client, backend
        client.close()


def padded(value: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, 3).map(lambda zeros: bytes(zeros) + encode(value))


@st.composite
def actions(draw: st.DrawFn) -> tuple[p4r.TableAction, p4r.TableAction]:
    """(as written, as expected back)"""
    if draw(st.booleans()):
        both = p4r.TableAction(action=p4r.Action(action_id=DROP))
        return both, both
    port, mac = draw(st.integers(0, 511)), draw(st.integers(0, (1 << 48) - 1))
    out = []
    for values in ((draw(padded(port)), draw(padded(mac))), (encode(port), encode(mac))):
        params = [p4r.Action.Param(param_id=n + 1, value=value) for n, value in enumerate(values)]
        out.append(p4r.TableAction(action=p4r.Action(action_id=FORWARD, params=params)))
    return out[0], out[1]


def match(id_: int, **kind: Any) -> p4r.FieldMatch:
    return p4r.FieldMatch(field_id=id_, **kind)


@st.composite
def entries(draw: st.DrawFn) -> tuple[p4r.TableEntry, p4r.TableEntry]:
    written, expected = draw(actions())
    table = draw(st.sampled_from([EXACT, LPM, ACL]))
    pairs: list[tuple[p4r.FieldMatch, p4r.FieldMatch]] = []
    priority = 0
    if table == EXACT:
        for id_, width in ((1, 32), (2, 9)):
            value = draw(st.integers(0, (1 << width) - 1))
            raw, short = draw(padded(value)), encode(value)
            pairs.append((match(id_, exact={"value": raw}), match(id_, exact={"value": short})))
    elif table == LPM:
        length = draw(st.integers(0, 32))
        if length:
            value = draw(st.integers(0, (1 << length) - 1)) << (32 - length)
            raw = draw(padded(value))
            pairs.append(
                (
                    match(1, lpm={"value": raw, "prefix_len": length}),
                    match(1, lpm={"value": encode(value), "prefix_len": length}),
                )
            )
    else:
        priority = draw(st.integers(1, (1 << 31) - 1))
        for id_, width in ((1, 9), (4, 128)):
            mask = draw(st.integers(0, (1 << width) - 1))
            if mask:
                value = draw(st.integers(0, (1 << width) - 1)) & mask
                raw = {"value": draw(padded(value)), "mask": draw(padded(mask))}
                pairs.append(
                    (match(id_, ternary=raw), match(id_, ternary={"value": encode(value), "mask": encode(mask)}))
                )
        low = draw(st.integers(0, 0xFFFF))
        high = draw(st.integers(low, 0xFFFF))
        if (low, high) != (0, 0xFFFF):
            raw = {"low": draw(padded(low)), "high": draw(padded(high))}
            pairs.append((match(2, range=raw), match(2, range={"low": encode(low), "high": encode(high)})))
        if draw(st.booleans()):
            value = draw(st.integers(0, 4095))
            pairs.append(
                (match(3, optional={"value": draw(padded(value))}), match(3, optional={"value": encode(value)}))
            )
    order = draw(st.permutations(range(len(pairs))))
    pairs_sorted = sorted(pairs, key=lambda pair: pair[1].field_id)
    return (
        p4r.TableEntry(table_id=table, match=[pairs[n][0] for n in order], action=written, priority=priority),
        p4r.TableEntry(table_id=table, match=[p[1] for p in pairs_sorted], action=expected, priority=priority),
    )


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(pair=entries())
def test_entries_come_back_canonical(world: tuple[RawClient, FakeBackend], pair: tuple[Any, Any]) -> None:
    raw, _backend = world
    written, expected = pair
    raw.insert(written)
    try:
        wanted = p4r.TableEntry(table_id=expected.table_id, match=expected.match, priority=expected.priority)
        (read,) = raw.read(table_entry=wanted)
        assert read.table_entry == expected
    finally:
        raw.write((DELETE, {"table_entry": expected}))


@settings(deadline=None, max_examples=100)
@given(index=st.integers(0, 15), value=st.integers(0, (1 << 48) - 1), data=st.data())
def test_cells_come_back_canonical(
    world: tuple[RawClient, FakeBackend], index: int, value: int, data: st.DataObject
) -> None:
    raw, _backend = world
    raw.write((MODIFY, register(index, data.draw(padded(value)), SEEN)))
    (read,) = raw.read(register_entry=register(index, b"", SEEN)["register_entry"])
    assert read.register_entry.data.bitstring == encode(value)


def _survives(call: Any) -> None:
    """Any status but INTERNAL and UNKNOWN-without-details: the server understood what was wrong."""
    try:
        call()
    except grpc.RpcError as error:
        code = error.code()
        assert code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE), "the server is stuck"
        if code is grpc.StatusCode.INTERNAL:
            assert "deserializ" in (error.details() or ""), error  # gRPC's own answer to bytes that are no message
        elif code is grpc.StatusCode.UNKNOWN:
            assert any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ()), error


METHODS = [
    ("p4.v1.P4Runtime", "Write", "unary_unary"),
    ("p4.v1.P4Runtime", "Read", "unary_stream"),
    ("p4.v1.P4Runtime", "SetForwardingPipelineConfig", "unary_unary"),
    ("p4.v1.P4Runtime", "GetForwardingPipelineConfig", "unary_unary"),
    ("gnmi.gNMI", "Get", "unary_unary"),
    ("gnmi.gNMI", "Set", "unary_unary"),
]


@settings(deadline=None, max_examples=120)
@given(method=st.sampled_from(METHODS), body=st.binary(max_size=200))
def test_bytes_that_are_no_message(
    world: tuple[RawClient, FakeBackend], method: tuple[str, str, str], body: bytes
) -> None:
    raw, _backend = world
    service, name, shape = method
    call = getattr(raw.channel, shape)(f"/{service}/{name}", None, None)
    result = (
        (lambda: list(call(body, timeout=TIMEOUT_S)))
        if shape == "unary_stream"
        else (lambda: call(body, timeout=TIMEOUT_S))
    )
    _survives(result)


def messages(kind: Any, depth: int = 5) -> st.SearchStrategy[Any]:
    """Random messages of a protobuf type: well-formed, senseless."""

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        out = kind()
        fields = [f for f in kind.DESCRIPTOR.fields if f.message_type is None or depth > 0]
        fields = [f for f in fields if not (f.message_type and f.message_type.full_name.startswith("google."))]
        for field in draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda f: f.name)) if fields else []:
            repeated = field.is_repeated
            if field.message_type is not None:
                if field.message_type.GetOptions().map_entry:
                    continue
                value = draw(messages(_class(field.message_type), depth - 1))
                if repeated:
                    getattr(out, field.name).append(value)
                else:
                    getattr(out, field.name).CopyFrom(value)
                continue
            value = draw(_scalar(field))
            if repeated:
                getattr(out, field.name).append(value)
            else:
                setattr(out, field.name, value)
        return out

    return build()


def _class(descriptor: Any) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


_IDS = [i.preamble.id for kind in (SAMPLE.tables, SAMPLE.actions, SAMPLE.registers, SAMPLE.counters) for i in kind]


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([v.number for v in field.enum_type.values])
    if field.type == field.TYPE_BYTES:
        return st.binary(max_size=20)
    if field.type == field.TYPE_STRING:
        return st.sampled_from(["", "role", "x"])
    if field.type == field.TYPE_BOOL:
        return st.booleans()
    if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
        return st.just(1.5)
    if field.name.endswith("_id") and field.type == field.TYPE_UINT32:
        return st.sampled_from(
            [*_IDS, *(SAMPLE.digests[0].preamble.id, SAMPLE.action_profiles[0].preamble.id), 0, 1, 2, 9]
        )
    signed = field.type in (field.TYPE_INT32, field.TYPE_INT64)
    bits = 64 if field.type in (field.TYPE_INT64, field.TYPE_UINT64) else 32
    edge = (1 << (bits - 1)) - 1
    return st.sampled_from([0, 1, 2, 3, 511, edge] + ([-1, -edge - 1] if signed else [2 * edge + 1]))


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    updates=st.lists(messages(p4r.Update), min_size=1, max_size=4),
    atomicity=st.sampled_from([0, 1, 2]),
)
def test_senseless_updates_get_a_specified_code(
    world: tuple[RawClient, FakeBackend], updates: list[Any], atomicity: int
) -> None:
    raw, _backend = world
    request = p4r.WriteRequest(device_id=1, updates=updates, atomicity=atomicity)
    request.election_id.low = 1
    _survives(lambda: raw.call("Write", "unary_unary", p4r.WriteResponse)(request, timeout=TIMEOUT_S))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(entity=messages(p4r.Entity))
def test_senseless_reads_get_a_specified_code(world: tuple[RawClient, FakeBackend], entity: Any) -> None:
    raw, _backend = world
    request = p4r.ReadRequest(device_id=1, entities=[entity])
    _survives(lambda: list(raw.call("Read", "unary_stream", p4r.ReadResponse)(request, timeout=TIMEOUT_S)))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(request=messages(gnmi.GetRequest))
def test_senseless_gnmi_requests_get_a_specified_code(world: tuple[RawClient, FakeBackend], request: Any) -> None:
    raw, _backend = world
    _survives(lambda: raw.call("Get", "unary_unary", gnmi.GetResponse, "gnmi.gNMI")(request, timeout=TIMEOUT_S))


def test_the_server_still_works_after_all_that(world: tuple[RawClient, FakeBackend]) -> None:
    raw, _backend = world
    entry = exact(123, 4)
    raw.write((DELETE, {"table_entry": entry})) if raw.read(
        table_entry=p4r.TableEntry(table_id=EXACT, match=entry.match)
    ) else None
    raw.write((INSERT, {"table_entry": entry}))
    assert raw.read(table_entry=p4r.TableEntry(table_id=EXACT, match=entry.match))[0].table_entry == entry
