"""Packet I/O, digests, idle notifications, and clients that do not read."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import grpc
import pytest

from engine.api import ActionCall, Digest, IdleTimeout, Match, PacketIn, TableEntry
from engine.events import Follower
from engine.p4rt.outbox import Outbox
from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    DELETE,
    DIGEST,
    EXACT,
    INSERT,
    MODIFY,
    SAMPLE,
    RawClient,
    Stream,
    config_of,
    exact,
    served,
    until,
)

LONG_NS = 3_600_000_000_000


def packet_out(port: int, opcode: int = 0, payload: bytes = b"data") -> p4r.PacketOut:
    return p4r.PacketOut(
        payload=payload,
        metadata=[
            p4r.PacketMetadata(metadata_id=1, value=port.to_bytes(2, "big")),
            p4r.PacketMetadata(metadata_id=2, value=bytes([opcode])),
        ],
    )


def test_packet_out_gets_its_header(primary: Stream, backend: FakeBackend) -> None:
    primary.send(packet=packet_out(510, 3, b"abc"))
    until(lambda: bool(backend.sent))
    assert backend.sent == [((510 << 7) | 3).to_bytes(2, "big") + b"abc"]


def test_packet_in_loses_its_header(primary: Stream, backend: FakeBackend) -> None:
    backend.emit(PacketIn(((2 << 7) | 5).to_bytes(2, "big") + b"frame"))
    packet = primary.next("packet")
    assert packet.payload == b"frame"
    assert [(m.metadata_id, m.value) for m in packet.metadata] == [(1, b"\2"), (2, b"\5")]


@pytest.mark.parametrize(
    ("packet", "word"),
    [
        (p4r.PacketOut(payload=b"x"), "egress_port is missing"),
        (packet_out(512), "bit<9>"),
        (p4r.PacketOut(metadata=[*packet_out(1).metadata, p4r.PacketMetadata(metadata_id=9, value=b"\1")]), "id 9"),
        (p4r.PacketOut(metadata=[*packet_out(1).metadata, *packet_out(1).metadata]), "given twice"),
    ],
)
def test_a_bad_packet_out_is_answered_by_a_stream_error(
    primary: Stream, backend: FakeBackend, packet: p4r.PacketOut, word: str
) -> None:
    primary.send(packet=packet)
    error = primary.next("error")
    assert error.canonical_code in (3, 11)
    assert word in error.message
    assert error.packet_out.packet_out.metadata == packet.metadata
    primary.send(packet=packet_out(1))
    until(lambda: len(backend.sent) == 1)


def test_a_backup_may_not_send_packets_or_acks(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    backup = raw.stream()
    backup.arbitrate(0)
    backup.next("arbitration")
    backup.send(packet=packet_out(1))
    assert backup.next("error").canonical_code == 7
    backup.send(digest_ack=p4r.DigestListAck(digest_id=DIGEST, list_id=1))
    error = backup.next("error")
    assert error.canonical_code == 7 and error.digest_list_ack.digest_list_ack.digest_id == DIGEST
    backend.emit(PacketIn(b"\1\5frame"))
    primary.next("packet")
    assert backup.inbox.empty() and backend.sent == []


def configure(raw: RawClient, type_: int = INSERT, **config: int) -> None:
    entry = p4r.DigestEntry(digest_id=DIGEST, config=p4r.DigestEntry.Config(**config))
    raw.write((type_, {"digest_entry": entry}))


def report(port: int, seq: int) -> Digest:
    return Digest(0, (port.to_bytes(2, "big"), seq.to_bytes(4, "big")), 0)


def contents(message: p4r.DigestList) -> list[tuple[int, ...]]:
    return [tuple(int.from_bytes(m.bitstring, "big") for m in item.struct.members) for item in message.data]


def test_digests_come_at_once_without_a_timeout(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    backend.emit(report(9, 9))  # not configured yet
    configure(raw)
    backend.emit(report(1, 2))
    backend.emit(report(1, 3))
    first, second = primary.next("digest"), primary.next("digest")
    assert (first.digest_id, contents(first), contents(second)) == (DIGEST, [(1, 2)], [(1, 3)])
    assert second.list_id != first.list_id
    assert first.data[0].struct.members[0].bitstring == b"\1"


def wanted(backend: FakeBackend) -> set[int]:
    """Numbers of the digests that the server has the data plane send."""
    (found,) = backend.followers.values()
    return set(found)


def test_the_data_plane_sends_what_is_configured(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    assert wanted(backend) == set()
    configure(raw)
    assert wanted(backend) == {0}
    configure(raw, MODIFY, max_list_size=2)
    assert wanted(backend) == {0}
    raw.set_config(config_of(SAMPLE, cookie=8), "RECONCILE_AND_COMMIT")
    assert wanted(backend) == {0}
    configure(raw, DELETE)
    assert wanted(backend) == set()
    configure(raw)
    raw.set_config(config_of(SAMPLE))
    assert wanted(backend) == set(), "a new pipeline has none"


def test_a_batch_that_fails_wants_no_digests(
    raw: RawClient, primary: Stream, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"digest_entry": p4r.DigestEntry(digest_id=DIGEST)}
    bad = {"digest_entry": p4r.DigestEntry(digest_id=1)}
    asked: list[frozenset[int]] = []
    follow = backend.follow

    def listen(follower: Follower, digests: Collection[int]) -> None:
        asked.append(frozenset(digests))
        follow(follower, digests)

    monkeypatch.setattr(backend, "follow", listen)
    with pytest.raises(grpc.RpcError):
        raw.write((INSERT, good), (INSERT, bad), atomicity=1)
    assert wanted(backend) == set()
    assert asked == [{0}, set()], "before any of the batch takes effect, and no longer than needed"
    with pytest.raises(grpc.RpcError):
        raw.write((INSERT, good), (INSERT, bad))
    assert wanted(backend) == {0}
    with pytest.raises(grpc.RpcError):
        raw.write((DELETE, good), (INSERT, bad), atomicity=1)
    assert wanted(backend) == {0}


def test_a_saved_config_wants_no_digests(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    raw.set_config(config_of(SAMPLE), "VERIFY_AND_SAVE")
    configure(raw)
    assert wanted(backend) == set(), "it does not run yet"
    raw.set_config(None, "COMMIT")
    assert wanted(backend) == {0}


def test_what_arrives_together_leaves_in_order(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    configure(raw)
    packet = PacketIn(b"\1\5frame")
    backend.emit(report(1, 1), packet, report(1, 2), *(report(2, seq) for seq in range(50)))
    assert contents(primary.next("digest")) == [(1, 1)]
    primary.next("packet")
    assert contents(primary.next("digest")) == [(1, 2)]
    assert [contents(primary.next("digest")) for _ in range(50)] == [[(2, seq)] for seq in range(50)]


def test_digest_lists_fill_up(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    configure(raw, max_list_size=3, max_timeout_ns=LONG_NS)
    for seq in range(6):
        backend.emit(report(1, seq))
    assert [len(primary.next("digest").data) for _ in range(2)] == [3, 3]


def test_digest_lists_leave_at_their_timeout(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    configure(raw, max_list_size=100, max_timeout_ns=20_000_000)
    backend.emit(report(1, 1))
    backend.emit(report(1, 2))
    assert contents(primary.next("digest")) == [(1, 1), (1, 2)]


def test_equal_digests_are_suppressed_until_acknowledged(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    configure(raw, ack_timeout_ns=LONG_NS)
    backend.emit(report(1, 1))
    first = primary.next("digest")
    backend.emit(report(1, 1))
    backend.emit(report(1, 2))  # a different one is not held up by the missing ack
    assert contents(primary.next("digest")) == [(1, 2)]
    primary.send(digest_ack=p4r.DigestListAck(digest_id=DIGEST, list_id=first.list_id))
    primary.send(packet=packet_out(1))  # in order behind the ack
    until(lambda: bool(backend.sent))
    backend.emit(report(1, 1))
    assert contents(primary.next("digest")) == [(1, 1)]


def test_an_ack_for_an_unknown_digest(raw: RawClient, primary: Stream) -> None:
    primary.send(digest_ack=p4r.DigestListAck(digest_id=5, list_id=1))
    assert primary.next("error").canonical_code == 3, "not in the P4Info"
    primary.send(digest_ack=p4r.DigestListAck(digest_id=DIGEST, list_id=1))
    assert primary.next("error").canonical_code == 5, "not configured"


def test_idle_notifications(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    raw.insert(exact(1, idle_timeout_ns=10**9, metadata=b"m"))
    key = (Match(b"\0\0\0\1"), Match(b"\0\1"))
    backend.emit(IdleTimeout(TableEntry(0, key, ActionCall(1), idle_timeout_ns=10**9), 5))
    (entry,) = primary.next("idle_timeout_notification").table_entry
    assert (entry.table_id, entry.match, entry.metadata) == (EXACT, exact(1).match, b"m")
    assert entry.idle_timeout_ns == 10**9


def test_roles_that_want_no_packets_get_none(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    stream = raw.stream()
    stream.arbitrate(1, role="observer")
    stream.next("arbitration")
    backend.emit(PacketIn(b"\1\5frame"))
    assert stream.next("packet").payload == primary.next("packet").payload == b"frame"


def test_a_stalled_client_costs_a_bounded_queue(backend: FakeBackend) -> None:
    """The client stops reading; what doesn't fit is dropped and counted, and other requests go on."""
    with served(backend) as (serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        call = raw.call("StreamChannel", "stream_stream", p4r.StreamMessageResponse)
        update = p4r.MasterArbitrationUpdate(device_id=1, election_id=p4r.Uint128(low=9))
        stalled = call(_held(update))
        next(stalled)
        raw.election = 9
        payload = bytes(8192)
        for _ in range(4000):
            backend.emit(PacketIn(b"\1\5" + payload))
        boxes = list(serving.device.streams._outboxes.values())
        assert all(len(box) <= box.limit for box in boxes)
        assert sum(box.dropped for box in boxes) > 0
        raw.insert(exact(1))
        stalled.cancel()
        until(lambda: len(serving.device.streams) == 1)
        assert serving.device.streams.dropped > 0
        raw.close()


def _held(update: p4r.MasterArbitrationUpdate) -> Any:
    yield p4r.StreamMessageRequest(arbitration=update)
    time.sleep(20)


def test_a_lost_stream_leaves_nothing_behind(backend: FakeBackend) -> None:
    with served(backend) as (serving, address):
        for _ in range(20):
            raw = RawClient(address)
            raw.become_primary()
            raw.close()
        until(lambda: not len(serving.device.streams))
        assert serving.device.streams.arbiter.primaries() == []


def test_a_clean_half_close_ends_the_stream(raw: RawClient) -> None:
    stream = raw.become_primary()
    stream._out.put(None)
    assert stream.next() is None


def test_outbox_keeps_the_newest_arbitration_when_full() -> None:
    box = Outbox(limit=2)
    for n in range(5):
        box.put(p4r.StreamMessageResponse(packet=p4r.PacketIn(payload=bytes([n]))))
        box.put_arbitration(p4r.MasterArbitrationUpdate(device_id=n))
    kept = []
    while len(box):
        kept.append(box.get(lambda: True))
    assert [m.arbitration.device_id for m in kept if m is not None and m.HasField("arbitration")][-1] == 4
    assert len(kept) <= 3
    assert box.dropped > 0
    box.close()
    assert box.get(lambda: True) is None


def test_unknown_stream_messages(primary: Stream) -> None:
    primary.send()
    assert primary.next("error").canonical_code == 3


def test_large_messages_that_wait_are_bounded_by_bytes() -> None:
    from engine.p4rt.outbox import Outbox

    box = Outbox(limit=1000, bytes_limit=10_000)
    message = p4r.StreamMessageResponse(packet=p4r.PacketIn(payload=bytes(3000)))
    assert [box.put(message) for _ in range(5)] == [True, True, True, False, False]
    assert box.dropped == 2
    box.put_arbitration(p4r.MasterArbitrationUpdate(device_id=1))
    assert box.get(lambda: True) == message and box.put(message)
    for _ in range(4):
        assert box.get(lambda: True) is not None
    assert [box.put(message) for _ in range(4)] == [True, True, True, False], "nothing is left over"
