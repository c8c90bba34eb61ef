"""The short way of flips: HTTP/2 frames as servers send them, and whatever else may come."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_service import until

from control.shortway import Call, Odd, ShortWay, harvest, succeeded

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OPENING = b"\x88\x00\x0ccontent-type\x10application/grpc"  # :status 200
DONE = b"\x00\x0bgrpc-status\x010"
EMPTY = b"\0\0\0\0\0"  # a message without content
Answer = Callable[[int], bytes]


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def done(stream: int, trailers: bytes = DONE) -> bytes:
    """What a server answers."""
    return frame(HEADERS, 4, stream, OPENING) + frame(DATA, 0, stream, EMPTY) + frame(HEADERS, 5, stream, trailers)


def long_block(stream: int, size: int) -> bytes:
    """Trailers of success in a header block of ``size`` bytes, cut into frames; its filling says nothing."""
    block = DONE + b"\x20" * (size - len(DONE))
    pieces = [block[at : at + 16_384] for at in range(0, size, 16_384)]
    first, *between = (frame(CONTINUATION if at else HEADERS, 0 if at else 1, stream, x) for at, x in enumerate(pieces))
    return first + b"".join(between) + frame(CONTINUATION, 4, stream)


class Peer:
    """A server that answers each call with the bytes that it is told to."""

    def __init__(self, answer: Answer, *, settings: bytes = b"", chunk: int = 0) -> None:
        self.answer, self.settings, self.chunk = answer, settings, chunk
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.answered = 0

    async def __aenter__(self) -> Peer:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            await self._send(writer, frame(SETTINGS, 0, 0, self.settings) + frame(SETTINGS, 1, 0))
            while True:
                head = await reader.readexactly(9)
                body = await reader.readexactly(int.from_bytes(head[:3], "big"))
                got = (head[3], head[4], int.from_bytes(head[5:], "big"), body)
                self.frames.append(got)
                if got[0] == DATA:
                    await self._send(writer, self.answer(got[2]))
                    self.answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it left
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for at in range(0, len(data), self.chunk or max(1, len(data))):
            writer.write(data[at : at + (self.chunk or len(data))])
            await writer.drain()
            await asyncio.sleep(0)


def talk(peer: Peer, work: Callable[[ShortWay], Awaitable[None]]) -> None:
    """Open a short way to the peer and do ``work`` with it."""

    async def scenario() -> None:
        async with peer, asyncio.timeout(60):
            way = ShortWay(peer.address, "/p4.v1.P4Runtime/Write", timeout_s=1.0)
            assert await way.open()
            await work(way)
            way.close()

    asyncio.run(scenario())


def outcome(answer: Answer, *, chunk: int = 0) -> bool:
    """Whether a call succeeds that a peer answers so."""
    found: list[bool] = []

    async def work(way: ShortWay) -> None:
        call = way.send(b"request")
        assert call is not None
        found.append(await call.wait())

    talk(Peer(answer, chunk=chunk), work)
    return found[0]


@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_a_call_is_done_however_its_answer_is_cut(chunk: int) -> None:
    assert outcome(done, chunk=chunk)


@pytest.mark.parametrize(
    ("trailers", "ok"),
    [
        (DONE, True),
        (b"\x00\x88" + bytes.fromhex("9acac8b21234da8f") + b"\x81\x07", True),  # Huffman code
        (b"\x40\x0bgrpc-status\x010", True),  # to be remembered: with a table of 0 bytes it is not
        (b"\x20" + DONE, True),  # the table's size is 0 from now on
        (DONE + b"\x0f\x2b\x03abc", True),  # a name from the static table
        (b"\x00\x0bgrpc-status\x017", False),
        (b"\x00\x0bgrpc-status\x0210", False),
        (b"\x00\x0cgrpc-message\x010", False),
        (b"\x88", False),
    ],
)
def test_trailers(trailers: bytes, ok: bool) -> None:
    assert succeeded(trailers) is ok
    assert outcome(lambda stream: done(stream, trailers)) is ok


@pytest.mark.parametrize(
    "trailers",
    [b"\xbe", b"\x80", b"\x3f\xff\x01", b"\x7f\x01\x010", b"\x00\x0bgrpc", b"\x00", b"\xff\xff\xff\xff\xff\xff\xff"],
)
def test_header_blocks_that_are_none_end_the_connection(trailers: bytes) -> None:
    with pytest.raises((Odd, IndexError)):
        succeeded(trailers)
    assert not outcome(lambda stream: done(stream, trailers))


@given(st.binary(max_size=64))
def test_any_bytes_are_judged_or_odd(block: bytes) -> None:
    try:
        assert succeeded(block) in (True, False)
    except (Odd, IndexError):
        return


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (lambda stream: frame(HEADERS, 0xD, stream, b"\x02" + DONE + b"\0\0"), True),  # padded; trailers only
        (lambda stream: frame(HEADERS, 0x25, stream, b"\0\0\0\0\x10" + DONE), True),  # with a priority
        (lambda stream: frame(HEADERS, 1, stream, DONE[:4]) + frame(CONTINUATION, 4, stream, DONE[4:]), True),
        (lambda stream: frame(PING, 0, 0, b"12345678") + frame(WINDOW, 0, stream, b"\0\0\0\x09") + done(stream), True),
        (lambda stream: frame(0x77, 0xFF, 3, b"unknown") + done(stream), True),  # frames of unknown type are ignored
        (lambda stream: frame(GOAWAY, 0, 0, struct.pack("!II", stream, 0)) + done(stream), True),
        (lambda _stream: frame(GOAWAY, 0, 0, struct.pack("!II", 0, 0)), False),
        (lambda stream: frame(RST, 0, stream, b"\0\0\0\x07"), False),
        (lambda stream: frame(HEADERS, 4, stream, OPENING) + frame(DATA, 1, stream, EMPTY), False),  # no trailers
        (lambda stream: frame(HEADERS, 1, stream, DONE[:4]) + frame(PING, 0, 0, b"12345678"), False),
        (lambda stream: frame(CONTINUATION, 4, stream, DONE), False),
        (lambda stream: long_block(stream, 65_536), True),
        (lambda stream: long_block(stream, 65_537), False),  # nobody's trailers are so long
        (lambda stream: frame(5, 4, stream, b"\0\0\0\2" + OPENING), False),  # a push
        (lambda stream: frame(HEADERS, 0xD, stream, b"\xff" + DONE), False),  # more padding than frame
        (lambda _stream: b"\x01\x00\x00" + bytes(70_000), False),  # a frame larger than allowed
        (lambda _stream: b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
    ],
)
def test_answers(answer: Answer, ok: bool) -> None:
    assert outcome(answer) is ok


def test_pings_are_answered_and_windows_topped_up() -> None:
    peer = Peer(lambda stream: frame(PING, 0, 0, b"12345678") + frame(DATA, 0, 0, bytes(9_000)) + done(stream))

    async def work(way: ShortWay) -> None:
        for _ in range(4):
            call = way.send(b"request")
            assert call is not None and await call.wait()
        await until(lambda: (PING, 1, 0, b"12345678") in peer.frames)
        await until(lambda: any(kind == WINDOW for kind, *_ in peer.frames))

    talk(peer, work)
    returned = sum(int.from_bytes(body, "big") for kind, _, _, body in peer.frames if kind == WINDOW)
    assert 2 * 9_000 <= returned <= 4 * 9_005


def test_what_does_not_fit_the_peers_windows_goes_the_usual_way() -> None:
    async def small(way: ShortWay) -> None:
        assert way.send(bytes(200)) is None
        assert way.send(bytes(20)) is not None

    talk(Peer(done, settings=struct.pack("!HI", 4, 100)), small)

    async def used_up(way: ShortWay) -> None:
        calls = [way.send(bytes(10_000)) for _ in range(7)]
        assert calls[5] is not None and calls[6] is None  # 65,535 bytes for all until more is granted
        assert way.send(bytes(20_000)) is None

    talk(Peer(done), used_up)


def test_harvest_takes_what_is_there_and_leaves_the_rest() -> None:
    async def scenario() -> None:
        async with Peer(done) as quick, Peer(lambda _stream: b"") as slow, asyncio.timeout(60):
            ways = [ShortWay(peer.address, "/m", timeout_s=1.0) for peer in (quick, slow, quick)]
            for way in ways:
                assert await way.open()
            calls = [way.send(b"request") for way in ways]
            sent = [call for call in calls if call is not None]
            assert len(sent) == 3
            # the peers live on this loop, which harvest() holds: their answers are there only after a turn of it
            harvest(sent, 0.001)
            assert not any(call.done for call in sent)
            for way in ways:
                asyncio.get_running_loop().remove_reader(way.fileno())
            await until(lambda: quick.answered == 2)
            harvest(sent, 1.0 / 128)
            assert [call.ok for call in sent] == [True, False, True]
            assert not sent[1].done and sent[0].answered >= sent[0].began
            for way in ways:
                way.close()
            assert sent[1].done and not sent[1].ok

    asyncio.run(scenario())


def test_nobody_there_or_nobody_who_speaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.shortway.OPEN_S", 0.2)

    async def scenario() -> None:
        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await asyncio.sleep(1)
            finally:
                writer.close()

        async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        for handler in (silent, other):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            way = ShortWay(address, "/m", timeout_s=1.0)
            assert not await way.open()
            assert way.send(b"") is None and way.fileno() == -1
            server.close()
        assert not await ShortWay(address, "/m", timeout_s=1.0).open()
        assert not await ShortWay("unix:/nowhere", "/m", timeout_s=1.0).open()

    asyncio.run(scenario())


def test_a_settled_call_stays_as_it_is() -> None:
    call = Call(ShortWay("127.0.0.1:1", "/m", timeout_s=1.0))
    call.settle(ok=True)
    answered = call.answered
    call.settle(ok=False)
    assert call.ok and call.answered == answered
