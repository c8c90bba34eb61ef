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
from contextlib import suppress

NICE = -10  # as the data plane and the lab's traffic generators, which nobody must wait for either
SLICE_NS = 100_000
_SCHED_OTHER = 0
_NUMBERS = {"x86_64": 314, "aarch64": 274}  # of sched_setattr: linux/arch/*/.../syscall tables
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # linux/sched/types.h: struct sched_attr, version 0


def raise_priority(nice: int = NICE) -> bool:
    """Take priority over ordinary processes; whether that is permitted. One that has more already keeps it."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    had = os.getpriority(os.PRIO_PROCESS, 0)
    _slice(0, had, SLICE_NS)
    return had <= nice


def ordinary(pid: int) -> None:
    """Take from a child what it has inherited of :func:`raise_priority`: compilers are not urgent."""
    with suppress(OSError):  # it has ended already
        if os.getpriority(os.PRIO_PROCESS, pid) < 0:
            os.setpriority(os.PRIO_PROCESS, pid, 0)
            _slice(pid, 0, 0)


def _slice(pid: int, nice: int, slice_ns: int) -> None:
    """Ask for slices of this length, 0: the usual one; kernels that know none ignore it."""
    number = _NUMBERS.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    ctypes.CDLL(None, use_errno=True).syscall(number, pid, attributes, 0)
