"""How long the event loop keeps what is ready waiting: the part of every latency that no other figure shows."""

from __future__ import annotations

import asyncio
import time

PERIOD_S = 0.05
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class LoopLag:
    """Sleeps and looks how late it wakes. ``counts`` per bound of :data:`BOUNDS_S` (not cumulative; the last one is
    beyond all), ``worst_s``, ``total_s``: since the start."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: what the start took is of no interest."""
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.worst_s = 0.0
        self.total_s = 0.0

    def note(self, late_s: float) -> None:
        late_s = max(0.0, late_s)
        self.counts[sum(late_s > bound for bound in BOUNDS_S)] += 1
        self.worst_s = max(self.worst_s, late_s)
        self.total_s += late_s

    async def run(self) -> None:
        """Task: until cancelled."""
        while True:
            due = time.perf_counter() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self.note(time.perf_counter() - due)
