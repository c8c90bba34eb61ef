"""Unary gRPC calls whose answer is a bare "done", straight on a socket: as much of HTTP/2 as that needs.

gRPC's Python client takes a call through several objects, locks and threads; a flip is one prepared request to each of
a few switches, and whoever sends it waits. Here a call is one ``send`` and its answer one ``recv``, without a change of
threads, and the answers of several switches are waited for together (:func:`harvest`).

Only success is understood. Whatever else an answer is (an error status, a reset stream, a lost connection, anything
odd), the call counts as not done, and the caller asks again the usual way, which knows all of gRPC and words the error:
so this is for requests that may be repeated. Connections in plain text only; no compression, no dynamic header table
(RFC 7541 section 4.2: announced as 0), which spares decoding: names and values are compared in both of their encodings.

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), grpc/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import time
from collections.abc import Iterable
from enum import IntEnum

import structlog

LOG = structlog.get_logger("shadowplane.shortway")
OPEN_S = 2.0  # for connecting and agreeing on settings
MOST_BYTES = 16_000  # of a request: one frame, within any peer's windows
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 65_535  # of connection and streams, until told otherwise
_RETURN_AFTER = 16_384  # bytes received until the peer's window is topped up
_MOST_HEADERS = 65_536  # bytes of a header block
_LAST_STREAM = 2**31 - 1
_STATIC = 61  # entries of HPACK's static table
_STATUS = {(False, b"grpc-status"), (True, bytes.fromhex("9acac8b21234da8f"))}  # plain, and in HPACK's Huffman code
_OK = {(False, b"0"), (True, b"\x07")}
_HEAD = struct.Struct("!HBBBI")  # length (16 and 8 bits), type, flags, stream


class _Frame(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 1, 2, 4


class Odd(Exception):
    """The peer says something that is not understood here, or that RFC 9113 forbids: the connection ends."""


class Call:
    """One request on its way. ``done``: something is known of it; ``ok``: it was answered with success.

    ``began`` and ``answered`` are ``time.perf_counter``.
    """

    __slots__ = ("_waiter", "answered", "began", "done", "ok", "way")

    def __init__(self, way: ShortWay) -> None:
        self.way = way
        self.began = time.perf_counter()
        self.answered = 0.0
        self.done = False
        self.ok = False
        self._waiter: asyncio.Future[None] | None = None

    def settle(self, *, ok: bool) -> None:
        if self.done:
            return
        self.done, self.ok, self.answered = True, ok, time.perf_counter()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> bool:
        """Until something is known; whether it succeeded. One waiter at a time."""
        if not self.done:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.ok


class ShortWay:
    """A connection for calls of one method at one server. Not thread-safe: it belongs to an event loop."""

    def __init__(self, address: str, method: str, *, timeout_s: float) -> None:
        self._address = address
        self._headers = _request_headers(address, method, timeout_s)
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._agreed: asyncio.Future[bool] | None = None
        self._begin()

    def _begin(self) -> None:
        """As a connection is at its beginning."""
        self._calls: dict[int, Call] = {}
        self._next = 1
        self._received = bytearray()
        self._block: bytearray | None = None  # of a header block that goes on
        self._block_stream, self._block_ends = 0, False
        self._window = self._stream_window = _WINDOW  # what may be sent
        self._unreturned = 0
        self._acked = self._told = False  # our settings are acknowledged, theirs known
        self._leaving = False  # the peer takes no new calls

    @property
    def ready(self) -> bool:
        """Whether :meth:`send` can take a call."""
        return self._acked and self._told and not self._leaving and self._socket is not None

    def fileno(self) -> int:
        """The socket's descriptor, -1 when there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    async def open(self) -> bool:
        """Connect (anew); False when there is nobody who speaks HTTP/2 in plain text."""
        self.close()
        self._begin()
        self._loop = asyncio.get_running_loop()
        host, _, port = self._address.rpartition(":")
        try:
            async with asyncio.timeout(OPEN_S):
                self._socket = await _connected(self._loop, host.strip("[]"), int(port))
                self._agreed = self._loop.create_future()
                settings = struct.pack("!HIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0)
                self._put(_PREFACE + _frame(_Frame.SETTINGS, 0, 0, settings))
                self._loop.add_reader(self._socket, self.read)
                return await self._agreed
        except (OSError, ValueError, TimeoutError) as error:  # ValueError: an address that gRPC only understands
            LOG.debug("no short way", address=self._address, reason=str(error))
            self.close()
            return False
        except BaseException:
            self.close()
            raise

    def send(self, body: bytes) -> Call | None:
        """Send a serialized request; None when that must go the usual way."""
        size = len(body) + 5
        if not self.ready or size > min(self._window, self._stream_window, MOST_BYTES) or self._next > _LAST_STREAM:
            return None
        stream, self._next = self._next, self._next + 2
        call = self._calls[stream] = Call(self)
        self._window -= size
        message = struct.pack("!BI", 0, len(body)) + body
        self._put(
            _frame(_Frame.HEADERS, _END_HEADERS, stream, self._headers)
            + _frame(_Frame.DATA, _END_STREAM, stream, message)
        )
        return call

    def read(self) -> None:
        """Take in what has arrived; calls that are answered are settled. Does not wait."""
        if self._socket is None:
            return
        try:
            data = self._socket.recv(65_536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if not data:
            self._end("closed by the switch")
            return
        self._received += data
        try:
            self._frames()
        except (Odd, IndexError, struct.error) as error:
            self._end(f"not understood: {error}")

    def close(self) -> None:
        """End the connection; calls under way count as not done."""
        self._end("")

    # -- frames -------------------------------------------------------------------------------------------

    def _frames(self) -> None:
        data, at = self._received, 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > 1 << 14:
                raise Odd(f"frame of {length} bytes")
            if len(data) - at < 9 + length:
                break
            self._frame(kind, flags, stream & _LAST_STREAM, bytes(data[at + 9 : at + 9 + length]))
            at += 9 + length
        del data[:at]

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if self._block is not None and (kind != _Frame.CONTINUATION or stream != self._block_stream):
            raise Odd("a header block was interrupted")
        if kind == _Frame.DATA:
            self._data(flags, stream, len(body))
        elif kind == _Frame.HEADERS:
            self._block_stream, self._block_ends = stream, bool(flags & _END_STREAM)
            self._block = bytearray(_unpadded(flags, body))
            self._headers_end(flags)
        elif kind == _Frame.CONTINUATION:
            if self._block is None:
                raise Odd("a continuation of nothing")
            if len(self._block) + len(body) > _MOST_HEADERS:
                raise Odd("a header block without end")
            self._block += body
            self._headers_end(flags)
        elif kind == _Frame.RST_STREAM:
            self._settle(stream, ok=False)
        elif kind == _Frame.SETTINGS:
            self._settings(flags, body)
        elif kind == _Frame.PING:
            if not flags & _ACK:
                self._put(_frame(_Frame.PING, _ACK, 0, body))
        elif kind == _Frame.GOAWAY:
            self._leaving = True
            last = int.from_bytes(body[:4], "big") & _LAST_STREAM
            for number in [number for number in self._calls if number > last]:
                self._settle(number, ok=False)
        elif kind == _Frame.WINDOW_UPDATE:
            if stream == 0:  # a request is sent whole or not at all: windows of single streams are of no interest
                self._window += int.from_bytes(body[:4], "big") & _LAST_STREAM
        elif kind == _Frame.PUSH_PROMISE:
            raise Odd("a push that was not wanted")

    def _data(self, flags: int, stream: int, size: int) -> None:
        self._unreturned += size
        if self._unreturned >= _RETURN_AFTER:
            self._put(_frame(_Frame.WINDOW_UPDATE, 0, 0, self._unreturned.to_bytes(4, "big")))
            self._unreturned = 0
        if flags & _END_STREAM:  # without trailers: no status
            self._settle(stream, ok=False)

    def _headers_end(self, flags: int) -> None:
        if not flags & _END_HEADERS or self._block is None:
            return
        block, self._block = bytes(self._block), None
        if self._block_ends:
            self._settle(self._block_stream, ok=succeeded(block))

    def _settings(self, flags: int, body: bytes) -> None:
        if flags & _ACK:
            self._acked = True
        else:
            for name, value in struct.iter_unpack("!HI", body):
                if name == _INITIAL_WINDOW_SIZE:
                    self._stream_window = value
            self._told = True
            self._put(_frame(_Frame.SETTINGS, _ACK, 0, b""))
        if self.ready and self._agreed is not None and not self._agreed.done():
            self._agreed.set_result(True)

    def _settle(self, stream: int, *, ok: bool) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            call.settle(ok=ok)

    def _put(self, data: bytes) -> None:
        if self._socket is None:
            return
        try:
            sent = self._socket.send(data)
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if sent != len(data):  # a peer that reads so little hangs
            self._end("the switch does not read")

    def _end(self, reason: str) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(sock)
            sock.close()
            if reason:
                LOG.debug("a short way ended", address=self._address, reason=reason)
        if self._agreed is not None and not self._agreed.done():
            self._agreed.set_result(False)
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.settle(ok=False)


def harvest(calls: Iterable[Call], seconds: float) -> None:
    """Wait for the answers of all ``calls``, at most ``seconds`` (rounded up to milliseconds).

    This holds the event loop, on purpose: a switch confirms within fractions of a millisecond, and whatever else the
    loop would do meanwhile delays what is known of a flip by more.
    """
    waiting = {call.way.fileno(): call for call in calls if not call.done}
    waiting.pop(-1, None)
    poller = select.poll()
    for number in waiting:
        poller.register(number, select.POLLIN)
    deadline = time.perf_counter() + seconds
    while waiting and (left := deadline - time.perf_counter()) > 0:
        for number, _ in poller.poll(left * 1000):
            call = waiting[number]
            call.way.read()
            if call.done:
                del waiting[number]
                poller.unregister(number)


def succeeded(block: bytes) -> bool:
    """Whether a block of trailers says ``grpc-status: 0``; raises :class:`Odd` or ``IndexError`` for what is none.

    >>> succeeded(b"\\x00\\x0bgrpc-status\\x010"), succeeded(b"\\x00\\x0bgrpc-status\\x012"), succeeded(b"\\x88")
    (True, False, False)
    """
    at, ok = 0, False
    while at < len(block):
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            if not 0 < index <= _STATIC:
                raise Odd(f"header {index} of a table without entries")
            continue
        if first & 0xE0 == 0x20:
            size, at = _integer(block, at, 5)
            if size:
                raise Odd("a header table larger than announced")
            continue
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        if index > _STATIC:
            raise Odd(f"header name {index} of a table without entries")
        name = (False, b"")
        if not index:
            name, at = _text(block, at)
        value, at = _text(block, at)
        if name in _STATUS:
            ok = value in _OK
    return ok


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """RFC 7541 section 5.1: (number, place behind it)."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 28, 7):
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Odd("a number of more than 28 bits")


def _text(block: bytes, at: int) -> tuple[tuple[bool, bytes], int]:
    """RFC 7541 section 5.2: ((in Huffman code, bytes), place behind them)."""
    huffman = block[at] >= 128
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise Odd("a header that ends early")
    return (huffman, block[at : at + length]), at + length


def _unpadded(flags: int, body: bytes) -> bytes:
    end = len(body)
    at = 0
    if flags & _PADDED:
        at, end = 1, end - body[0]
    if flags & _PRIORITY:
        at += 5
    if at > end:
        raise Odd("more padding than frame")
    return body[at:end]


def _frame(kind: _Frame, flags: int, stream: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body) >> 8, len(body) & 255, kind, flags, stream) + body


def _request_headers(authority: str, method: str, timeout_s: float) -> bytes:
    """The header block of every call: indices of the static table, literals that nobody is to remember."""

    def text(value: str) -> bytes:
        data = value.encode()
        if len(data) > 126:
            raise ValueError(f"{value!r} is too long for a header")
        return bytes([len(data)]) + data

    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + text(method),  # :path
            b"\x01" + text(authority),  # :authority
            b"\x0f\x10" + text("application/grpc"),  # content-type
            b"\x0f\x2b" + text("shadowplane"),  # user-agent
            b"\x00" + text("te") + text("trailers"),
            b"\x00" + text("grpc-timeout") + text(f"{max(1, round(timeout_s * 1000))}m"),
        )
    )


async def _connected(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A connection to the first address that takes it; ``OSError``."""
    failure: OSError = OSError("no address")
    for family, kind, number, _, target in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, number)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, target)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure
