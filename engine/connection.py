"""One connection to the control socket of a switch process: messages out, messages in.

Message format: ``engine/native/switchd/control.c``.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from engine.api import Code, DatapathError

MESSAGE_MAX = 64 << 20  # bytes
_HEADER = struct.Struct("<IIHH")
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
        self._id = self._id % 0xFFFFFFFF + 1
        self._socket.sendall(_HEADER.pack(len(payload), self._id, op, 0) + payload)
        return self._id

    def receive(self) -> tuple[int, int, int, bytes]:
        """(id, op, code, payload) of the next message; ``ConnectionError`` at the end of the stream."""
        head = self._take(_HEADER.size)
        length, ident, op, code = _HEADER.unpack(head)
        if length > 2 * MESSAGE_MAX:
            raise ConnectionError(f"message of {length} bytes")
        return ident, op, code, self._take(length)

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
