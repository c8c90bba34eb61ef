"""Work that shares a thread with what is urgent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

import structlog

from control.plan import Plan

LOG = structlog.get_logger("shadowplane.steering")
SLICE_S = 0.0005  # planning leaves the event loop to others after so long
URGENT_S = 0.002  # ... where flips wait for it


async def in_slices(steps: Generator[None, None, Plan], slice_s: float = SLICE_S) -> Plan:
    """A plan, computed a little at a time: samples that arrive meanwhile are judged, and flips leave, in between."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as done:
            plan: Plan = done.value
            return plan
        if time.perf_counter() - began >= slice_s:
            await asyncio.sleep(0)
            began = time.perf_counter()


def report(task: asyncio.Task[None]) -> None:
    """Say what a task died of that nobody waits for."""
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("a task behind steering failed", task=task.get_name(), reason=str(error))
