"""Bounded queue of messages towards one stream.

A client that stops reading must cost nothing: past the limit, best-effort messages (packet-ins, digests, idle
notices) are dropped and counted. Arbitration updates and stream errors are never dropped for space; of waiting
arbitration updates only the newest is kept, because it supersedes the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from engine.api import DatapathError
from engine.p4rt.errors import P4Error, Rpc
from engine.p4rt.stubs import p4r

DEFAULT_LIMIT = 1024  # messages
BYTES_LIMIT = 4 << 20  # of best-effort messages
_ERROR_LIMIT = 64  # stream errors beyond the limit


class Outbox:
    """Thread-safe; iterate to send. Iteration ends after :meth:`close`."""

    def __init__(self, limit: int = DEFAULT_LIMIT, bytes_limit: int = BYTES_LIMIT) -> None:
        self.limit = limit
        self._bytes_limit = bytes_limit
        self._bytes = 0  # of waiting best-effort messages
        self.dropped = 0
        self._items: deque[p4r.StreamMessageResponse] = deque()
        self._ready = threading.Condition(threading.Lock())
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, message: p4r.StreamMessageResponse) -> bool:
        """Queue a best-effort message; False when it was dropped."""
        return self.put_all((message,)) == 1

    def put_all(self, messages: Sequence[p4r.StreamMessageResponse]) -> int:
        """Queue best-effort messages, and wake their reader once; how many were not dropped."""
        taken = 0
        with self._ready:
            if self._closed:
                return 0
            for message in messages:
                size = message.ByteSize()
                if len(self._items) >= self.limit or self._bytes + size > self._bytes_limit:
                    self.dropped += 1
                    continue
                self._items.append(message)
                self._bytes += size
                taken += 1
            if taken:
                self._ready.notify()
        return taken

    def put_error(self, message: p4r.StreamMessageResponse) -> None:
        """Queue a stream error; a client that provokes them without reading loses the surplus."""
        with self._ready:
            if len(self._items) < self.limit + _ERROR_LIMIT and not self._closed:
                self._items.append(message)
                self._ready.notify()
            else:
                self.dropped += 1

    def put_arbitration(self, update: p4r.MasterArbitrationUpdate) -> None:
        """Queue an arbitration update in place of an older one that still waits at the end of the queue."""
        message = p4r.StreamMessageResponse(arbitration=update)
        with self._ready:
            if len(self._items) >= self.limit and any(item.HasField("arbitration") for item in self._items):
                kept = [item for item in self._items if not item.HasField("arbitration")]
                self._items = deque(kept)
            self._items.append(message)
            self._ready.notify()

    def close(self) -> None:
        """End the iteration; what still waits is discarded."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def get(self, alive: Callable[[], bool], poll_s: float = 5.0) -> p4r.StreamMessageResponse | None:
        """The next message, waiting for it; None once closed, or when ``alive`` turns false."""
        with self._ready:
            while not self._items:
                if self._closed or not alive():
                    return None
                self._ready.wait(poll_s)
            if self._closed and not self._items:
                return None
            message = self._items.popleft()
            if not (message.HasField("arbitration") or message.HasField("error")):
                self._bytes -= message.ByteSize()
            return message


def stream_error(error: Exception, message: p4r.StreamMessageRequest, kind: str | None) -> p4r.StreamError:
    """What the specification answers to a stream message that could not be obeyed."""
    code = error.code if isinstance(error, (P4Error, DatapathError)) else Rpc.INTERNAL
    out = p4r.StreamError(canonical_code=int(code), message=str(error))
    if kind == "packet":
        out.packet_out.packet_out.metadata.extend(message.packet.metadata)
        out.packet_out.packet_out.payload = message.packet.payload[:256]
    elif kind == "digest_ack":
        out.digest_list_ack.digest_list_ack.CopyFrom(message.digest_ack)
    elif kind == "other":
        out.other.other.CopyFrom(message.other)
    return out
