"""The time, as something that is handed in: the service gets the system's, tests get a virtual one."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """Seconds since the epoch, and a monotonic reading in seconds for intervals."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


class Moment(NamedTuple):
    """One moment on both clocks, in seconds. ``time_s``: since the epoch, comparable with samples, for what is shown
    and recorded; it may be set. ``steady_s``: monotonic, for everything that is waited for; it means nothing after a
    restart."""

    time_s: float
    steady_s: float

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        """Now."""
        return cls(clock.time(), clock.monotonic())


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class VirtualClock:
    """A clock that moves only when told to.

    >>> clock = VirtualClock(100.0)
    >>> clock.advance(2.5)
    >>> clock.set(40.0)
    >>> clock.time(), clock.monotonic()
    (40.0, 102.5)
    """

    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        self._steady_s = start

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self._steady_s

    def set(self, time_s: float) -> None:
        """Somebody sets the wall clock: the time since the epoch jumps, intervals do not."""
        self.now = time_s

    def advance(self, seconds: float) -> None:
        """Move forward; raises ``ValueError`` for a negative step."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self.now += seconds
        self._steady_s += seconds
