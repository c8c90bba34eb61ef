"""A bound on what slow clients may make the server keep: memory for their reads, and the threads that serve them.

A read's state is taken at once and leaves as the client takes it (:mod:`engine.p4rt.reader`), so a client that reads
slowly keeps what it has not yet taken. Nobody may keep more than a share of what there is, a read that stands still
ends when others need its room, and after a while in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from engine.p4rt.errors import P4Error, Rpc

MAX_READS = 64  # at a time: a thread each
MOST_KEPT = 256 << 20  # bytes
SHARE = 2  # one client may have half of either
PATIENCE_S = 5.0  # a read that stands still keeps its room that long while others want it,
STALLED_S = 60.0  # and that long while nobody does


class Hold:
    """One read: whose, the bytes that are kept for it, and since when a message waits for the client to take it."""

    __slots__ = ("_budget", "_cancel", "_gone", "peer", "size", "waits_since")

    def __init__(self, budget: Budget, peer: str, cancel: Callable[[], None]) -> None:
        self.peer = peer
        self.size = 0
        self.waits_since: float | None = None
        self._budget = budget
        self._cancel = cancel
        self._gone = False

    def take(self, size: int) -> None:
        """Keep ``size`` bytes more; RESOURCE_EXHAUSTED when they are too many beside others'."""
        self._budget.grow(self, size)

    def give(self, size: int) -> None:
        """``size`` bytes have left."""
        self.size -= size

    def offered(self) -> None:
        """A message is there for the client."""
        self.waits_since = self._budget.clock()

    def taken(self) -> None:
        """The client took it; RESOURCE_EXHAUSTED when it came too late for that."""
        self.waits_since = None
        if self._gone:
            raise P4Error(Rpc.RESOURCE_EXHAUSTED, "the read stood still for too long")

    def end(self) -> None:
        """Break the read off: its place and room count as free from now on."""
        self._gone = True
        self._cancel()


class Budget:
    """Reads under way, and what they keep. Thread-safe.

    One read may keep any number of bytes while nobody else keeps any. A client is told apart by its ``peer``, the
    address of its connection; at most its share counts against others, so that one large table leaves them room.
    """

    def __init__(
        self, most: int = MOST_KEPT, reads: int = MAX_READS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most, self.reads, self.clock = most, reads, clock
        self._holds: set[Hold] = set()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes that are kept now."""
        with self._lock:
            return sum(hold.size for hold in self._holds)

    @contextmanager
    def admit(self, peer: str, cancel: Callable[[], None]) -> Iterator[Hold]:
        """A new read of ``peer``, which ``cancel`` breaks off; RESOURCE_EXHAUSTED beyond the number of reads."""
        hold = Hold(self, peer, cancel)
        self._make_room(lambda others: self._no_place(peer, others), lambda: self._holds.add(hold))
        try:
            yield hold
        finally:
            with self._lock:
                self._holds.discard(hold)

    def grow(self, hold: Hold, size: int) -> None:
        """:meth:`Hold.take`."""
        self._make_room(lambda others: self._no_room(hold, size, others), lambda: hold.give(-size))

    def sweep(self) -> None:
        """End the reads that have stood still for :data:`STALLED_S`; to be called now and then."""
        with self._lock:
            ended = self._still(STALLED_S)
            self._holds.difference_update(ended)
        for hold in ended:
            hold.end()

    def _make_room(self, refusal: Callable[[Collection[Hold]], str], enter: Callable[[], object]) -> None:
        """``enter``, if need be in place of reads that stand still: of no more than it needs, the longest still first.

        ``refusal`` says what is in the way beside these others; empty: nothing. RESOURCE_EXHAUSTED when something is
        even beside those that move.
        """
        ended: list[Hold] = []
        with self._lock:
            why = refusal(self._holds)
            left = set(self._holds)
            for still in self._still(PATIENCE_S) if why else ():
                left.discard(still)
                ended.append(still)
                if not refusal(left):
                    break
            if why and refusal(left):
                raise P4Error(Rpc.RESOURCE_EXHAUSTED, why)
            for one in tuple(ended):
                if not refusal(left | {one}):
                    left.add(one)
                    ended.remove(one)
            self._holds = left
            enter()
        for hold in ended:
            hold.end()

    def _still(self, seconds: float) -> list[Hold]:
        """The reads whose clients have taken nothing for so long, the longest first."""
        before = self.clock() - seconds
        waiting = [(hold.waits_since, hold) for hold in self._holds if hold.waits_since is not None]
        return [hold for since, hold in sorted(waiting, key=lambda item: item[0]) if since <= before]

    def _no_place(self, peer: str, others: Collection[Hold]) -> str:
        if sum(other.peer == peer for other in others) >= self.reads // SHARE:
            return f"more than {self.reads // SHARE} reads at a time of one client"
        return f"more than {self.reads} reads at a time" if len(others) >= self.reads else ""

    def _no_room(self, hold: Hold, size: int, others: Collection[Hold]) -> str:
        share = self.most // SHARE
        by_peer: dict[str, int] = {}
        for other in others:
            if other is not hold:
                by_peer[other.peer] = by_peer.get(other.peer, 0) + other.size
        own = by_peer.pop(hold.peer, 0)
        kept = own + sum(min(bytes_, share) for bytes_ in by_peer.values())
        wanted = hold.size + size
        if own and own + wanted > share:
            return f"{own >> 20} MiB wait for other reads of this client"
        return f"{kept >> 20} MiB wait for clients that read slowly" if kept and kept + wanted > self.most else ""
