"""Scheduling: whoever waits for a compiler's time slice answers late.

Linux gives a process with a negative nice value more of a contended core, and one with a short slice (kernel 6.12 and
later: ``sched_setattr(2)``, field ``sched_runtime`` of ``SCHED_OTHER``) gets it sooner. Both hold for the calling
thread and those that it starts. Elsewhere, and where it is not permitted, the process runs as it is and says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Started = TypeVar("Started")

NICE = -10  # as the data plane and the lab's traffic generators, which nobody must wait for either
SLICE_NS = 100_000
_RESET_ON_FORK, _KEEP_PARAMS = 0x01, 0x10  # sched_flags; the latter keeps nice value, slice or real-time priority
_NUMBERS = {"x86_64": 314, "aarch64": 274}  # of sched_setattr: linux/arch/*/.../syscall tables
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # linux/sched/types.h: struct sched_attr, version 0


def raise_priority(nice: int = NICE) -> bool:
    """Take priority over ordinary processes; whether that is permitted.

    One that has more already keeps it, and so does one to which somebody gave another policy than the usual one
    (``chrt``, systemd's ``CPUSchedulingPolicy=``).
    """
    if _policy() != os.SCHED_OTHER:
        return os.sched_getparam(0).sched_priority > 0
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    had = os.getpriority(os.PRIO_PROCESS, 0)
    _set_attributes(0, nice=had, slice_ns=SLICE_NS)
    return had <= nice


def ordinarily(start: Callable[[], Started]) -> Started:
    """What ``start`` returns; children that it starts inherit nothing of :func:`raise_priority`.

    It runs in a thread that tells the kernel so and then ends: nobody else's children are touched, and nothing has to
    be taken back, which needs a privilege.
    """

    def told() -> Started:
        _set_attributes(_RESET_ON_FORK | _KEEP_PARAMS)
        return start()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(told).result()


def shorten(nice: int) -> None:
    """Make the calling thread an ordinary one of this nice value, with the short slice."""
    _set_attributes(0, nice=nice, slice_ns=SLICE_NS, policy=os.SCHED_OTHER)


def ordinary_threads() -> None:
    """All threads of this process as :func:`raise_priority` left it, after they were real-time ones."""
    nice = min(NICE, os.getpriority(os.PRIO_PROCESS, 0))
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
            _set_attributes(0, nice=nice, slice_ns=SLICE_NS, thread=int(task.name), policy=os.SCHED_OTHER)


def _policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def _set_attributes(
    flags: int, *, nice: int = 0, slice_ns: int = 0, thread: int = 0, policy: int | None = None
) -> None:
    """For a thread (0: the calling one), by default with the calling thread's policy; what the kernel does not know or
    permit is left."""
    number = _NUMBERS.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, _policy() if policy is None else policy, flags, nice, 0, slice_ns, 0, 0
    )
    ctypes.CDLL(None, use_errno=True).syscall(number, thread, attributes, 0)
