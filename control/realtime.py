"""Real-time priority of the controller's threads, for as long as they leave the machine something.

A lab's switches, and whatever else forwards packets on the machine, run in real time; each packet takes the core from
an ordinary thread, which then waits for another one, however negative its nice value. A round of steering was cut into
dozens of pieces that way and took several times its computing time. As a round-robin real-time thread of the lowest
priority it takes turns with the switches and is moved to a core that none of them uses. All threads that run Python
code do: one that has the interpreter and waits for a core holds up the one that decides.

Real-time threads that never sleep starve others, so this is given up when the process fills most of a core for long
(a large network), when a thread does not sleep at all for :data:`LONGEST_S` (``RLIMIT_RTTIME``), and not begun on a
single core. Processes started meanwhile are ordinary ones (``SCHED_RESET_ON_FORK``), and so are threads until the next
look; see ``sched(7)``.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import structlog

from control.priority import shorten

LOG = structlog.get_logger("shadowplane.serve")
LEAST_CORES = 2
PRIORITY = 1  # the lowest, as the lab's switches
PERIOD_S = 0.1
HOT = 0.8  # share of a core, over about a second
SMOOTH = 0.1  # of each period
BACK_OFF_S = 10.0
LONGEST_S = 1.0


class Guard:
    """Whether a process may have real-time threads, by how much of a core it takes. Pure.

    >>> guard = Guard(0.0, 0.0)
    >>> guard.turn(0.1, 0.05), any(not guard.turn(0.1 + i / 10, 0.05 + i / 10) for i in range(1, 60))
    (True, True)
    """

    def __init__(self, now_s: float, cpu_s: float) -> None:
        self._last = now_s, cpu_s
        self._sustained = 0.0
        self._not_before_s = now_s

    def turn(self, now_s: float, cpu_s: float) -> bool:
        """Called about each :data:`PERIOD_S` with the time and the process's processor time, both in seconds."""
        (before_s, spent_s), self._last = self._last, (now_s, cpu_s)
        if now_s > before_s:
            self._sustained += SMOOTH * ((cpu_s - spent_s) / (now_s - before_s) - self._sustained)
        if self._sustained > HOT:
            self.hold(now_s)
        return now_s >= self._not_before_s

    def hold(self, now_s: float) -> None:
        """Not for a while."""
        self._sustained = 0.0
        self._not_before_s = now_s + BACK_OFF_S


class RealTime:
    """Of this process. ``active``: its threads are real-time ones now."""

    def __init__(self) -> None:
        self.active = False
        self._stuck = False
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)

    async def run(self) -> None:
        """Task of the main thread's event loop: until cancelled. Where it is not permitted, or there is one core only,
        nothing is done."""
        if not hasattr(os, "sched_getscheduler"):  # not Linux
            return
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:  # an operator's choice (chrt) stays
            return
        limits = resource.getrlimit(resource.RLIMIT_RTTIME)
        if limits[1] != resource.RLIM_INFINITY:  # who exceeds that one is killed
            return
        if len(os.sched_getaffinity(0)) < LEAST_CORES or not self._take():
            return
        before = signal.signal(signal.SIGXCPU, self._too_long)
        resource.setrlimit(resource.RLIMIT_RTTIME, (round(LONGEST_S * 1e6), limits[1]))
        guard = Guard(time.monotonic(), time.process_time())
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                if self._stuck:
                    self._stuck = False
                    guard.hold(time.monotonic())
                    LOG.warning("no real-time priority for a while: something took too long", seconds=LONGEST_S)
                if guard.turn(time.monotonic(), time.process_time()):
                    self._take()  # threads that were started meanwhile
                elif self.active:
                    self._give_up()
                    LOG.info("no real-time priority for a while: the controller fills a core")
        finally:
            self._give_up()
            resource.setrlimit(resource.RLIMIT_RTTIME, limits)
            signal.signal(signal.SIGXCPU, before)

    def _take(self) -> bool:
        """False where it is not permitted, or this is not Linux."""
        try:
            for thread in threading.enumerate():
                self._set(thread, os.SCHED_RR, PRIORITY)
        except (PermissionError, AttributeError):
            return False
        self.active = True
        return True

    def _give_up(self) -> None:
        if self.active:
            self.active = False
            for thread in threading.enumerate():
                self._set(thread, os.SCHED_OTHER, 0)
            shorten(self._nice)

    @staticmethod
    def _set(thread: threading.Thread, policy: int, priority: int) -> None:
        number = thread.native_id
        if number is None or not Path(f"/proc/self/task/{number}").exists():  # not begun, or a stranger's
            return
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setscheduler(number, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))

    def _too_long(self, _signal: int, _frame: FrameType | None) -> None:
        self._stuck = True
        self._give_up()
