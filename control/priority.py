"""Scheduling of the control plane: :mod:`engine.priority`, and what threads that a real-time one starts need."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from engine.priority import NICE, raise_priority, shorten

__all__ = ["NICE", "favour", "raise_priority", "shorten"]


def favour() -> None:
    """The nice value for a thread that a real-time one starts: else it has none (:mod:`control.realtime`)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
