"""Events of the switch process: who gets which digests, from when on, and what arrives together."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.api import Code, DatapathError, Digest, Event, PacketIn
from engine.events import Events
from engine.operations import EventKind, SwitchOp
from tests.engine.switchd_support import Rig, eventually, frame, needs_interfaces, rig

HEADER = struct.Struct("<IIHH")
DIGEST_KIND, PUNT_KIND = 0x88B7, 0x88B6  # tests/engine/switchd_pipeline.c: digest 0, packet-in
TIMEOUT_S = 60.0


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as built:
        built.start()
        yield built


class Heard:
    """A follower."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, events: Sequence[Event]) -> None:
        self.events += events

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in tuple(self.events))


@needs_interfaces()
def test_only_digests_that_somebody_wants_are_sent(switch: Rig) -> None:
    heard, client = Heard(), switch.client()
    client.follow(heard, ())
    for number, wanted in enumerate(((), (1, 300), (0,), (0, 1), ())):
        client.follow(heard, wanted)
        switch.host[1].send(frame(kind=DIGEST_KIND, size=100 + number))
        switch.host[1].send(frame(kind=PUNT_KIND))
        eventually(lambda: heard.count(PacketIn) > number, "the packet-in behind the digest")  # noqa: B023
    lengths = [int.from_bytes(event.values[0], "big") for event in heard.events if isinstance(event, Digest)]
    assert lengths == [102, 103]
    statistics = client.hello()["statistics"]
    assert (statistics["digests"], statistics["digests_unwanted"]) == (5, 3)


@needs_interfaces()
def test_nothing_emitted_after_the_answer_is_lost(switch: Rig) -> None:
    heard, client = Heard(), switch.client()
    for number in range(50):
        client.follow(heard, (0,))
        switch.host[1].send(frame(kind=DIGEST_KIND, size=100))
        eventually(lambda: heard.count(Digest) > number, "the digest")  # noqa: B023
        client.follow(heard, ())


@needs_interfaces()
def test_followers_of_one_client_and_other_clients(switch: Rig) -> None:
    client, few, none = switch.client(subscribe=True), Heard(), Heard()
    client.follow(few, (1,))
    client.follow(none, ())
    other, theirs = switch.client(), Heard()
    other.follow(theirs, (0,))
    switch.host[1].send(frame(kind=DIGEST_KIND, size=100))
    switch.host[1].send(frame(kind=PUNT_KIND))
    for each in (few, none, theirs):
        eventually(lambda: each.count(PacketIn), "the packet-in")  # noqa: B023
    eventually(lambda: switch.of_kind(PacketIn), "the packet-in")
    assert [len(switch.of_kind(Digest)), few.count(Digest), none.count(Digest), theirs.count(Digest)] == [1, 0, 0, 1]


class Process:
    """The other end of a control socket: one client, whose subscriptions are answered with ``codes``."""

    def __init__(self, path: Path, *codes: int) -> None:
        self.asked: list[bytes] = []
        self.path = str(path)
        self._codes = list(codes)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        self.connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self.connection, _ = self._listener.accept()
        with self.connection.makefile("rb") as stream:
            for code in self._codes:
                length, ident, op, _ = HEADER.unpack(stream.read(HEADER.size))
                assert op == SwitchOp.SUBSCRIBE
                self.asked.append(stream.read(length))
                self.connection.sendall(self.event(EventKind.PACKET_IN, b"before"))
                self.connection.sendall(HEADER.pack(8, ident, op, code) + bytes(8))

    @staticmethod
    def event(kind: int, body: bytes) -> bytes:
        return HEADER.pack(8 + len(body), 0, kind, 0) + bytes(8) + body

    def events(self, *, lists: bool = True) -> Events:
        return Events(self.path, TIMEOUT_S, lambda _op, body: PacketIn(body[8:]), lambda: True, lists=lists)

    def close(self) -> None:
        self._thread.join(TIMEOUT_S)
        if self.connection is not None:
            self.connection.close()
        self._listener.close()


def test_what_an_older_process_is_asked(tmp_path: Path) -> None:
    process = Process(tmp_path / "old", 0, 0, 0)
    events, heard = process.events(lists=False), Heard()
    events.follow(heard, (3,))
    events.follow(heard, ())
    events.follow(Heard(), None)
    assert process.asked == [struct.pack("<I", mask) for mask in (0b1111, 0b1110, 0b1111)]
    process.close()
    events.close()


def test_what_a_process_is_asked(tmp_path: Path) -> None:
    process = Process(tmp_path / "new", 0, 0, 0, 0)
    events, heard, other = process.events(), Heard(), Heard()
    events.follow(heard, ())
    events.follow(heard, (7, 3))
    events.follow(heard, [3, 7])  # nothing new
    events.follow(other, (9,))
    events.follow(other, None)
    asked = [struct.unpack(f"<{len(payload) // 4}I", payload) for payload in process.asked]
    assert asked == [(0b1110,), (0b1111, 3, 7), (0b1111, 3, 7, 9), (0b1111,)]
    assert eventually(lambda: heard.events[:1], "what came before the answer") == [PacketIn(b"before")]
    process.close()
    events.close()


def test_what_arrives_together_is_handed_over_together(tmp_path: Path) -> None:
    process, parts, here = Process(tmp_path / "s", 0), list[int](), threading.Event()

    def follower(events: Sequence[Event]) -> None:
        parts.append(len(events))
        if sum(parts) == 101:
            here.set()

    events = process.events()
    events.follow(follower, ())
    process._thread.join(TIMEOUT_S)
    assert process.connection is not None
    process.connection.sendall(b"".join(process.event(EventKind.PACKET_IN, b"x") for _ in range(100)))
    assert here.wait(TIMEOUT_S)
    assert len(parts) <= 3  # the one before the answer, and what one or two calls of recv took
    process.close()
    events.close()


def test_a_subscription_that_fails_changes_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path / "s", 0, int(Code.INTERNAL), 0)
    events, heard, refused = process.events(), Heard(), Heard()
    events.follow(heard, ())
    with pytest.raises(DatapathError) as caught:
        events.follow(refused, (1,))
    assert caught.value.code is Code.INTERNAL
    events.follow(heard, ())  # what is in force now is not known: it is asked for again
    assert len(process.asked) == 3
    process._thread.join(TIMEOUT_S)
    assert process.connection is not None
    before = refused.count(PacketIn)  # what came while it was being asked
    process.connection.sendall(process.event(EventKind.PACKET_IN, b"after"))
    eventually(lambda: PacketIn(b"after") in heard.events, "an event for those who follow")
    assert refused.count(PacketIn) == before
    process.close()
    with pytest.raises(DatapathError) as caught:
        events.follow(heard, (1,))
    assert caught.value.code is Code.UNAVAILABLE
    events.close()
