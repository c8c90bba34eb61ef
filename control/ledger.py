"""The ledger: every flip, revert and refusal, kept in memory for quick answers and in the store for good."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from control.errors import StoreError
from control.store import FlipRecord, Store

LOG = structlog.get_logger("shadowplane.ledger")


class Ledger:
    """Appends without waiting: one writer thread does the database work, in order."""

    def __init__(self, store: Store, *, limit: int = 10_000) -> None:
        self.store = store
        self.dropped = 0
        self._recent: deque[FlipRecord] = deque(store.ledger(limit=limit), maxlen=limit)
        self._next = (self._recent[-1].id if self._recent else 0) + 1
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._pending = 0
        self._count = threading.Lock()  # of what is pending: two threads change it
        self._limit = limit

    def add(self, records: list[FlipRecord]) -> None:
        """Append lines; a database that cannot keep up costs lines on disk, counted, never the loop's time."""
        for record in records:
            record.id, self._next = self._next, self._next + 1
            self._recent.append(record)
        self.submit(self.store.add_flips, list(records))

    def relabel(self, record: FlipRecord) -> None:
        """A line's outcome became known (a line not yet entered takes it along)."""
        if record.id and record.struck is not None:
            self.submit(self.store.label, [record.id], record.struck)

    def submit(self, work: Callable[..., Any], *args: Any) -> None:
        """Do store work on the writer thread, after everything submitted before."""
        with self._count:
            if self._pending >= self._limit:
                self.dropped += 1
                return
            self._pending += 1

        def done() -> None:
            try:
                work(*args)
            except Exception as error:  # this thread also does what was submitted after it
                LOG.error("the state database refused a write", reason=str(error))
            finally:
                with self._count:
                    self._pending -= 1

        self._writer.submit(done)

    def lines(
        self, *, since_id: int = 0, since_s: float = 0.0, limit: int = 1000, kind: str | None = None
    ) -> list[FlipRecord]:
        """Lines, newest last."""
        found = [
            record
            for record in self._recent
            if record.id > since_id and record.time_s >= since_s and kind in (None, record.kind)
        ]
        return found[-limit:]

    async def flush(self) -> None:
        """Wait until everything submitted so far is in the database."""
        await asyncio.get_running_loop().run_in_executor(self._writer, lambda: None)

    def close(self) -> None:
        """Finish the writes and close the store."""
        self._writer.shutdown(wait=True)
        try:
            self.store.close()
        except StoreError as error:
            LOG.error("the state database did not close", reason=str(error))
