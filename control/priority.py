"""Scheduling of the control plane: whoever waits for a compiler's time slice flips late.

Linux gives a process with a negative nice value more of a contended core, and one with a short slice (kernel 6.12 and
later: ``sched_setattr(2)``, field ``sched_runtime`` of ``SCHED_OTHER``) gets it sooner. Both hold for the calling
thread and those that it starts. Elsewhere, and where it is not permitted, the process runs as it is and says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from contextlib import suppress

from engine.priority import NICE, SLICE_NS, raise_priority

__all__ = ["NICE", "favour", "raise_priority", "shorten"]

_SCHED_OTHER = 0
_NUMBERS = {"x86_64": 314, "aarch64": 274}  # of sched_setattr: linux/arch/*/.../syscall tables
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # linux/sched/types.h: struct sched_attr, version 0


def favour() -> None:
    """The nice value for a thread that a real-time one starts: else it has none (:mod:`control.realtime`)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def shorten(nice: int) -> None:
    """An ordinary thread of this nice value with the short slice; kernels that know none ignore it."""
    number = _NUMBERS.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)
    ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, 0)
