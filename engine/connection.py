"""Connections to the control socket of a switch process: messages out, messages in.

Message format: ``engine/native/switchd/control.c``.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from engine.api import Code, DatapathError

WINDOW = 16  # requests on the way
MESSAGE_MAX = 64 << 20  # bytes
_HEADER = struct.Struct("<IIHH")
_COPIED = 64 << 10  # bytes of a payload that goes out in one piece with its header
Message: TypeAlias = tuple[int, int, int, bytes]  # id, op, code, payload
_TIMEVAL = struct.Struct("@ll")  # of SO_RCVTIMEO: seconds and microseconds, both 0 for ever


class Connection:
    """One connection; not thread-safe."""

    def __init__(self, path: str, timeout: float | None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._received = bytearray()
        self._id = 0
        try:
            connect(self._socket, path, time.monotonic() + 5)
        except OSError as error:
            self._socket.close()
            raise DatapathError(Code.UNAVAILABLE, f"no switch process at {path}: {error}") from error
        self._limit(timeout)

    def _limit(self, timeout: float | None) -> None:
        """The kernel's time-outs: with Python's each ``send`` and ``recv`` is two system calls."""
        self._socket.settimeout(None)
        limit = _TIMEVAL.pack(*divmod(max(1, int(timeout * 1e6)) if timeout else 0, 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, limit)

    def send(self, op: int, payload: bytes) -> int:
        ident = self.new_id()
        header = _HEADER.pack(len(payload), ident, op, 0)
        if len(payload) < _COPIED:
            self._socket.sendall(header + payload)
        else:
            self._socket.sendall(header)
            self._socket.sendall(payload)
        return ident

    def fileno(self) -> int:
        return self._socket.fileno()

    def new_id(self) -> int:
        """For a request that somebody else sends."""
        self._id = self._id % 0xFFFFFFFF + 1
        return self._id

    def receive(self) -> Message:
        """The next message; ``ConnectionError`` at the end of the stream."""
        head = self._take(_HEADER.size)
        length, ident, op, code = _HEADER.unpack(head)
        if length > 2 * MESSAGE_MAX:
            raise ConnectionError(f"message of {length} bytes")
        return ident, op, code, self._take(length)

    def receive_some(self) -> list[Message]:
        """All that is here already, or else the next; errors as of :meth:`receive`."""
        messages = [self.receive()]
        data = self._received
        while len(data) >= _HEADER.size and len(data) >= _HEADER.size + _HEADER.unpack_from(data)[0]:
            messages.append(self.receive())
        return messages

    def _take(self, count: int) -> bytes:
        data = self._received
        while len(data) < count:
            try:
                chunk = self._socket.recv(max(65536, min(count - len(data), 1 << 20)))
            except BlockingIOError:
                raise TimeoutError("no answer in time") from None
            if not chunk:
                raise ConnectionError("the switch process closed the connection")
            data += chunk
        out = bytes(data[:count])
        del data[:count]
        return out

    def wait_forever(self) -> None:
        """From now on :meth:`receive` waits as long as it takes."""
        self._limit(None)

    def shutdown(self) -> None:
        """Ends a :meth:`receive` that waits in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


class Exchange:
    """Requests and their replies, in order, over a connection that is made when it is needed. Thread-safe.

    ``timeout`` (s) bounds each request. :class:`DatapathError` UNAVAILABLE: the process is gone or does not answer; the
    next request connects anew.
    """

    def __init__(self, path: str, timeout: float | None) -> None:
        self.path = path
        self.clock_ns = 0  # the data plane's clock in the last reply to :meth:`run`
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    def run(self, op: int, payloads: Sequence[bytes]) -> list[bytes]:
        """Send ``payloads`` with up to WINDOW of them unanswered; the replies in order, or the first refusal of any."""
        replies: list[bytes] = []
        failure: DatapathError | None = None
        with self._lock:
            connection = self._connected()
            try:
                expected: list[int] = []
                for position in range(len(payloads)):
                    while len(expected) < min(len(payloads), position + WINDOW):
                        expected.append(connection.send(op, payloads[len(expected)]))
                    ident, _op, code, body = connection.receive()
                    if ident != expected[position] or len(body) < 8:
                        raise ConnectionError("unexpected reply")
                    self.clock_ns = int.from_bytes(body[:8], "little")
                    if code:
                        failure = failure or DatapathError(code_of(code), body[8:].decode(errors="replace"))
                    replies.append(body[8:])
            except OSError as error:
                self._drop()
                raise DatapathError(Code.UNAVAILABLE, f"switch process at {self.path}: {error}") from error
        if failure:
            raise failure
        return replies

    def directly(self, use: Callable[[int, int], int]) -> int:
        """What ``use`` returns, which sends one request over the socket that it is given, with the id that it is given,
        and takes all of the reply; below 0: it could not, and the connection ends.
        """
        with self._lock:
            connection = self._connected()
            result = use(connection.fileno(), connection.new_id())
            if result < 0:
                self._drop()
            return result

    def _connected(self) -> Connection:
        if self._closed:
            raise DatapathError(Code.UNAVAILABLE, "the client is closed")
        if self._connection is None:
            self._connection = Connection(self.path, self._timeout)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """For good; waits for a request that is under way."""
        with self._lock:
            self._closed = True
            self._drop()


def code_of(value: int) -> Code:
    """A reply's code; UNKNOWN for what has no name here."""
    try:
        return Code(value)
    except ValueError:
        return Code.UNKNOWN


def connect(sock: socket.socket, path: str, deadline: float) -> None:
    """Connect; waits while the queue of connections is full (a Unix socket says EAGAIN)."""
    while True:
        try:
            sock.connect(path)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # the listener's queue is full, and nothing tells when it is not
