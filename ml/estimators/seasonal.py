"""What is usual at this time of the day: a profile per row, learned from its own past."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import HUGE, Floats, Rows, Value


class Usual(NamedTuple):
    level: Floats  # usual value at a time; nan where that phase has not been lived through on an earlier day
    days: Floats  # periods behind it


class Seasonal:
    """Means per phase of a period (24 hours of a day), each phase forgetting half of itself per ``half`` periods.

    The phase is only an index into a row's own past: no model ever sees the time of the day. Only phases of
    *earlier* periods answer, so a ramp of this very hour cannot pass itself off as usual.

    >>> season = Seasonal(1, 1, period=24.0, phases=24)
    >>> for hour in range(48):
    ...     season.learn(0, float(hour), np.array([0.75 if hour % 24 == 20 else 0.25]))
    >>> float(season.usual(slice(None), 68.0).level[0, 0]), float(season.usual(slice(None), 66.5).level[0, 0])
    (0.75, 0.25)
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("mean", "count")
    HALF = 0.5  # how far a new period moves a phase's mean, once there are two

    def __init__(self, rows: int, signals: int, *, period: float, phases: int) -> None:
        if not 0 < period < np.inf or phases < 2 or rows < 1 or signals < 1:
            raise ValueError(f"period {period}, phases {phases}, rows {rows} and signals {signals} must be positive")
        self.period, self.phases = period, phases
        self.past = np.full((rows, phases, signals), np.nan, dtype=np.float32)  # of periods that are over
        self.days = np.zeros((rows, phases, signals), dtype=np.float32)
        self.now = np.full(rows, -1, dtype=np.int64)  # the phase being lived through, counted from the epoch
        self.total = np.zeros((rows, signals))
        self.seen = np.zeros((rows, signals))

    def learn(self, rows: int | Rows, time: Value, value: Floats) -> None:
        """Take in values (rows, signals), nan: not measured; ``time`` is one or (rows, 1)."""
        pick = np.atleast_1d(np.arange(len(self.now))[rows])
        value = np.atleast_2d(value)
        clock = np.broadcast_to(np.asarray(time, dtype=np.float64).reshape(-1), (len(pick),))
        ok = (np.abs(clock) < HUGE) & np.isfinite(value).any(axis=-1)
        if not ok.any():
            return
        slot = np.floor(np.where(ok, clock, 0.0) * (self.phases / self.period)).astype(np.int64)
        over = ok & (slot > self.now[pick])
        if over.any():
            self._close(pick[over], slot[over])
        good = np.isfinite(value) & ok[:, None]
        self.total[pick] += np.where(good, value, 0.0)
        self.seen[pick] += good

    def _close(self, rows: NDArray[np.intp], slot: NDArray[np.int64]) -> None:
        """The phase that rows lived through is over: its mean joins the past."""
        phase = self.now[rows] % self.phases
        seen = self.seen[rows]
        mean = self.total[rows] / np.maximum(seen, 1.0)
        old, days = self.past[rows, phase], self.days[rows, phase]
        joined = np.where(days == 0.0, mean, old + (mean - old) * np.maximum(self.HALF, 1.0 / (days + 1.0)))
        lived = (seen > 0.0) & (self.now[rows] >= 0)[:, None]
        self.past[rows, phase] = np.where(lived, joined, old)
        self.days[rows, phase] += lived
        self.total[rows] = 0.0
        self.seen[rows] = 0.0
        self.now[rows] = slot

    def usual(self, rows: Rows, time: Value) -> Usual:
        """What is usual at ``time`` (one, or one per row), shape (rows, signals)."""
        pick = np.arange(len(self.now))[rows]
        clock = np.broadcast_to(np.asarray(time, dtype=np.float64), (len(pick),))
        sane = np.where(np.abs(clock) < HUGE, clock, 0.0)
        phase = np.floor(sane * (self.phases / self.period)).astype(np.int64) % self.phases
        return Usual(self.past[pick, phase].astype(np.float64), self.days[pick, phase].astype(np.float64))

    def forget(self, rows: int | Rows = slice(None)) -> None:
        self.past[rows] = np.nan
        self.days[rows] = 0.0
        self.now[rows] = -1
        self.total[rows] = 0.0
        self.seen[rows] = 0.0
