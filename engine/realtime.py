"""Real-time priority of the P4Runtime server's threads, for as long as they take little of the machine.

A data plane, and whatever else forwards packets on the machine, runs in real time; each packet takes the core from an
ordinary thread, however negative its nice value. A write waits at each change of threads then: for milliseconds, and
for hundreds of them where a real-time controller asks eleven switches on four cores. As round-robin real-time threads
of the same, lowest, priority they take turns with both.

A server that works, on thousands of entries or on a new program, is ordinary: packets must not wait for it. So it
begins as one, and is one again after each look that found it busy. See ``sched(7)``.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from engine.priority import ordinary_threads

log = logging.getLogger(__name__)
LEAST_CORES = 2
PRIORITY = 1  # the lowest, as the data plane's: above it, it would take the core from a controller for each packet
BUSY = 0.4  # share of a core, between two looks
CALM_S = 2.0
LOOK_AGAIN = 20  # turns after which threads are looked at again that were all found in real time


class Guard:
    """Whether a process may have real-time threads, by how much of a core it takes. Pure.

    >>> guard = Guard(0.0, 0.0)
    >>> [guard.turn(0.5 * i, 0.05 * i) for i in range(1, 6)]
    [False, False, False, True, True]
    """

    def __init__(self, now_s: float, cpu_s: float) -> None:
        self._last = now_s, cpu_s
        self._not_before_s = now_s + CALM_S

    def turn(self, now_s: float, cpu_s: float) -> bool:
        """``now_s`` and the process's processor time, both in seconds."""
        (before_s, spent_s), self._last = self._last, (now_s, cpu_s)
        if cpu_s - spent_s > BUSY * (now_s - before_s):
            self._not_before_s = now_s + CALM_S
        return now_s >= self._not_before_s


class RealTime:
    """Of this process, threads of libraries included. ``active``: they are real-time ones now.

    ``wanted``: False does nothing; so does a machine with one core, and a policy that somebody chose for the process.
    """

    def __init__(self, wanted: bool) -> None:
        self.active = False
        usual = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
        self._wanted = wanted and usual and len(os.sched_getaffinity(0)) >= LEAST_CORES
        self._guard = Guard(time.monotonic(), time.process_time())
        self._known: set[str] = set()  # threads that are in real time
        self._rests = 0  # turns until they are looked at again

    def turn(self) -> None:
        """To be called about twice a second, by a thread that sleeps in between."""
        if not self._wanted:
            return
        if self._guard.turn(time.monotonic(), time.process_time()):
            self._rests -= 1
            if self._rests <= 0:
                self._take()
        elif self.active:
            self.active, self._rests = False, 0
            self._known.clear()
            ordinary_threads()

    def _take(self) -> None:
        """What a thread in real time starts is in real time: once a look has found nobody else, looks may be rare."""
        try:
            found = {task.name for task in Path("/proc/self/task").iterdir()}
            for task in found - self._known:
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setscheduler(int(task), os.SCHED_RR, os.sched_param(PRIORITY))
        except PermissionError as error:
            self._wanted = False
            log.info("no real-time priority: %s", error.strerror)
        else:
            self.active = True
            self._rests = LOOK_AGAIN if found <= self._known else 0
            self._known = found
