"""A bound on what slow clients may make the server keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.p4rt.errors import P4Error, Rpc


class Budget:
    """Bytes that requests hold at the same time; one alone may hold any number. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Count ``size`` bytes meanwhile; RESOURCE_EXHAUSTED when they are too many beside others'."""
        with self._lock:
            if size and self.held and self.held + size > self.most:
                raise P4Error(Rpc.RESOURCE_EXHAUSTED, f"{self.held >> 20} MiB wait for clients that read slowly")
            self.held += size
        try:
            yield
        finally:
            with self._lock:
                self.held -= size
