"""Client arbitration: roles, 128-bit election ids, primary and backup, and what each client is told."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2

from engine.p4rt.stubs import p4r, stratum
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    EXACT,
    INSERT,
    LPM,
    SAMPLE,
    RawClient,
    config_of,
    errors_of,
    exact,
    prefix,
    register,
)

OK, ALREADY_EXISTS, NOT_FOUND = 0, 6, 5


def told(update: p4r.MasterArbitrationUpdate) -> tuple[int, int]:
    return update.status.code, update.election_id.high << 64 | update.election_id.low


def test_the_highest_id_is_primary_and_everybody_is_told(raw: RawClient) -> None:
    first, second = raw.stream(), raw.stream()
    first.arbitrate(5)
    assert told(first.next("arbitration")) == (OK, 5)
    second.arbitrate(3)
    assert told(second.next("arbitration")) == (ALREADY_EXISTS, 5)
    second.arbitrate(9)
    assert told(second.next("arbitration")) == (OK, 9)
    assert told(first.next("arbitration")) == (ALREADY_EXISTS, 9)


def test_election_ids_have_128_bits(raw: RawClient) -> None:
    low, high = raw.stream(), raw.stream()
    low.arbitrate((1 << 64) - 1)
    assert told(low.next("arbitration"))[0] == OK
    high.arbitrate(1 << 64)
    assert told(high.next("arbitration")) == (OK, 1 << 64)
    assert told(low.next("arbitration")) == (ALREADY_EXISTS, 1 << 64)


def test_a_role_stays_without_primary_until_somebody_offers_as_much(raw: RawClient) -> None:
    primary, backup = raw.stream(), raw.stream()
    primary.arbitrate(10)
    primary.next("arbitration")
    backup.arbitrate(4)
    backup.next("arbitration")
    primary.close()
    assert told(backup.next("arbitration")) == (NOT_FOUND, 10)
    backup.arbitrate(9)
    assert told(backup.next("arbitration")) == (NOT_FOUND, 10)
    backup.arbitrate(10)
    assert told(backup.next("arbitration")) == (OK, 10)


def test_a_used_id_ends_the_stream_but_not_the_primary(raw: RawClient, primary: object) -> None:
    second = raw.stream()
    second.arbitrate(1)
    with pytest.raises(grpc.RpcError) as caught:
        second.next()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "already used" in caught.value.details()
    raw.insert(exact(1))


def test_no_election_id_means_backup(raw: RawClient) -> None:
    stream = raw.stream()
    stream.arbitrate(None)
    assert told(stream.next("arbitration")) == (NOT_FOUND, 0)


def test_roles_have_their_own_primaries(raw: RawClient) -> None:
    first, second = raw.stream(), raw.stream()
    first.arbitrate(5, role="a")
    assert told(first.next("arbitration"))[0] == OK
    second.arbitrate(2, role="b")
    update = second.next("arbitration")
    assert told(update) == (OK, 2)
    assert update.role.name == "b"


@pytest.mark.parametrize(("device_id", "code"), [(2, grpc.StatusCode.NOT_FOUND), (0, grpc.StatusCode.NOT_FOUND)])
def test_another_device_is_not_found(raw: RawClient, device_id: int, code: grpc.StatusCode) -> None:
    stream = raw.stream()
    stream.arbitrate(1, device_id=device_id)
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert caught.value.code() is code


def test_a_stream_keeps_its_role(raw: RawClient) -> None:
    stream = raw.stream()
    stream.arbitrate(1, role="a")
    stream.next("arbitration")
    stream.arbitrate(2, role="b")
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_the_first_message_must_be_arbitration(raw: RawClient) -> None:
    stream = raw.stream()
    stream.send(packet=p4r.PacketOut(payload=b"x"))
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_only_the_primary_writes_and_pushes(raw: RawClient, primary: object) -> None:
    for election in (0, 2):
        raw.election = election
        for attempt in (lambda: raw.insert(exact(1)), lambda: raw.set_config(config_of(SAMPLE))):
            with pytest.raises(grpc.RpcError) as caught:
                attempt()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "not the primary" in caught.value.details()
    assert raw.read(table_entry=p4r.TableEntry()) == []


def test_writes_without_any_controller_are_refused(raw: RawClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw.write((INSERT, register(0, b"\1")))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_role_config_limits_its_role(raw: RawClient, primary: object, backend: FakeBackend, address: str) -> None:
    config = stratum.P4RoleConfig(shared_p4_ids=[LPM], receives_packet_ins=False, can_push_pipeline=False)
    packed = any_pb2.Any()
    packed.Pack(config)
    other = RawClient(address)
    try:
        stream = other.stream()
        stream.send(
            arbitration=p4r.MasterArbitrationUpdate(
                device_id=1, role=p4r.Role(name="routes", config=packed), election_id=p4r.Uint128(low=3)
            )
        )
        assert stream.next("arbitration").status.code == OK
        other.election, other.role = 3, "routes"
        other.insert(prefix(0x0A000000, 8))
        with pytest.raises(grpc.RpcError) as caught:
            other.insert(prefix(0x0B000000, 8), exact(1))
        assert [error.canonical_code for error in errors_of(caught.value)] == [10, 7]
        with pytest.raises(grpc.RpcError) as caught:
            other.set_config(config_of(SAMPLE))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    finally:
        other.close()
    assert {entity.table_entry.table_id for entity in raw.read(table_entry=p4r.TableEntry())} == {LPM}
    assert EXACT != LPM


def test_a_thousand_streams_do_not_fall_over(raw: RawClient, primary: object) -> None:
    """Beyond the limit streams are refused at once; the primary works on."""
    streams = [raw.stream() for _ in range(300)]
    refused = 0
    for number, stream in enumerate(streams):
        stream.arbitrate(None)
        try:
            stream.next("arbitration")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, number
            refused += 1
    assert refused >= 300 - 255
    raw.insert(exact(1))
