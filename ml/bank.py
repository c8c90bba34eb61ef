"""State of many elements, updated in place: the part that ports and devices share.

Times are divided by ``unit_s``, the network's own unit of time: precursors last a few units. The lab lives in
compressed time (1 s); for optics that sicken over minutes it is 60 s or more. Everything behind this line,
features and models included, knows units only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.estimators import CounterRate, Cusum, Estimator, RobustLevel, Seasonal, Trend, Variance
from ml.estimators.base import FAR_S, Flags, Floats, Rows, Value, columns, pick_rows, tick
from ml.estimators.trend import Line

STEADY = 0.02  # units: rates are means over about this long; more would turn a burst's edge into a ramp
KEPT_BYTES = 16 << 20
FAR = 1e15  # units: no time is further from the epoch
QUICK, SLOW, BASE = 0.25, 0.7, 5.0  # usual time constants of the short line, the long line and the baseline, in units
LONG, DEEP = 6.0, 60.0  # ... of the longest line and of the lasting baseline
DAY_S, PHASES = 86_400.0, 24  # seasonality ...
DAYLESS_S = 10.0  # ... where the unit of time is at least this long: a lab in compressed time has no days
CONTEXT = ("rain_mm_per_h", "rain_fade_db", "gust_m_per_s", "alert_severity", "maintenance_reduced_redundancy")
DOUBT = (2.0, 5.0)  # standard errors that the slopes of the short and the long line must exceed
BACK = 2.0  # units: a sample that is this late may mean that the clock jumped ...
BACK_SAMPLES = 3  # ... and this many in a row do mean it

# What was wrong with a sample; bits of the result of learn_one.
ABSURD, LATE, RESET, JUMPED = 1, 2, 4, 8


def keep_memory() -> None:
    """Let the C library keep what scoring frees, for the next time.

    Scoring 1,000 links uses about 1 MB of temporary arrays. glibc gives memory at the end of its heap back to the
    kernel as soon as 128 KiB of it are free, and every call then pays for a few hundred page faults, three times
    the arithmetic. Freeing one large block raises that limit (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD,
    "dynamic"); the block is never touched, so it costs nothing. Elsewhere this does nothing.
    """
    np.empty(KEPT_BYTES, dtype=np.uint8)


class Taus(NamedTuple):
    """Time constants of the state, in units."""

    quick: float = QUICK
    slow: float = SLOW
    base: float = BASE
    long: float = LONG
    deep: float = DEEP


class Bank:
    """Estimator states of ``rows`` elements; subclasses name the inputs and compute features."""

    INPUTS: ClassVar[tuple[str, ...]]  # gauges first, then counters
    GAUGES: ClassVar[int]  # inputs that are gauges
    SIGNALS: ClassVar[tuple[str, ...]]  # the gauges that are followed by baseline, lines and CUSUM
    LOW: ClassVar[Floats]
    HIGH: ClassVar[Floats]
    TOLD: ClassVar[Flags]  # inputs that are measured each time; the others are settings or states
    FLOOR: ClassVar[Floats]  # smallest sigma of each signal that is believed
    JUMP: ClassVar[tuple[float, ...]]  # a larger change between two samples is a jump, no trend ...
    JUMP_RATE: ClassVar[tuple[float, ...]]  # ... plus this per unit of time between them
    SEASONAL: ClassVar[tuple[int, ...]]  # signals that people's days shape

    def __init__(self, rows: int, unit_s: float = 1.0, taus: Taus = Taus()) -> None:  # noqa: B008 (immutable)
        if not 0 < unit_s < np.inf:
            raise ValueError(f"unit_s must be positive and finite, not {unit_s}")
        keep_memory()
        self.unit_s = unit_s
        signals, counters = len(self.SIGNALS), len(self.INPUTS) - self.GAUGES
        self.taus = taus
        self.levels = RobustLevel(rows, 2 * signals, tau=[taus.base] * signals + [taus.deep] * signals)
        self.base, self.deep = self.levels.part(slice(signals)), self.levels.part(slice(signals, None))
        lines = [taus.quick] * signals + [taus.slow] * signals + [taus.long] * signals
        self.trend = Trend(rows, 3 * signals, tau=lines, jump=self.JUMP * 3, jump_rate=self.JUMP_RATE * 3)
        self.cusum = Cusum(rows, signals)
        self.spread = Variance(rows, signals, tau=taus.slow)
        self.season: Seasonal | None = None  # compressed time has no days
        if unit_s >= DAYLESS_S:
            self.season = Seasonal(rows, len(self.SEASONAL), period=DAY_S / unit_s, phases=PHASES)
        self.context = columns(rows, len(CONTEXT))  # unknown: 0
        self.counters = CounterRate(rows, counters, tau=taus.quick, steady_tau=STEADY)
        self.newest = np.full(rows, -np.inf)  # units
        self.samples = np.zeros(rows, dtype=np.int64)
        self.touched = np.ones(rows, dtype=bool)  # changed since :meth:`changed` was asked last
        self._late = np.zeros(rows, dtype=np.int64)
        self._resets = np.zeros(rows)

    def learn_one(self, row: int, time_s: float, values: Sequence[float]) -> int:
        """Take in one sample (``values`` as :attr:`INPUTS`, nan: not measured); returns bits such as :data:`LATE`.

        The same as :meth:`learn_many` with one row, in less time.
        """
        time = time_s / self.unit_s
        newest = float(self.newest[row])
        self.touched[row] = True
        faults = 0
        if not -FAR < time < FAR:
            return ABSURD
        if time < newest - BACK:
            self._late[row] += 1
            if self._late[row] < BACK_SAMPLES:
                return LATE
            self.forget(row)
            faults = JUMPED
        else:
            self._late[row] = 0
        raw = np.array(values, dtype=np.float64)
        bad = raw < self.LOW
        bad |= raw > self.HIGH
        if np.count_nonzero(bad):
            raw[bad] = np.nan
            faults |= ABSURD
        if not self._learn(row, time, raw):
            return faults | (LATE if (self.TOLD & ~np.isnan(raw)).any() else 0)
        if not time <= newest or faults & JUMPED:
            self.newest[row] = time
        self.samples[row] += 1
        resets = sum(self.counters.state[4, row].tolist())
        if resets != self._resets[row]:
            self._resets[row] = resets
            faults |= RESET
        return faults

    def learn_many(self, rows: Rows, time_s: Value, values: Floats) -> NDArray[np.int64]:
        """Take in one sample of each of ``rows`` (no row twice); ``time_s`` is one or one per row, ``values`` is
        (rows, inputs). Returns the fault bits of each row."""
        time = np.broadcast_to(np.asarray(time_s, dtype=np.float64) / self.unit_s, (len(values),))
        self.touched[rows] = True
        sane = np.abs(time) < FAR  # False for nan
        bad = (values < self.LOW) | (values > self.HIGH)
        back = sane & (time < self.newest[rows] - BACK)
        late = np.where(sane, (self._late[rows] + 1) * back, self._late[rows])
        jumped = back & (late >= BACK_SAMPLES)
        faults = np.where((bad.any(axis=-1) & (jumped | ~back)) | ~sane, ABSURD, 0)
        if back.any():
            self.forget(np.arange(len(self.newest))[rows][jumped])
            late = np.where(jumped, 0, late)
            faults |= np.where(jumped, JUMPED, np.where(back, LATE, 0))
        self._late[rows] = late
        taken = sane & (jumped | ~back)
        time = np.where(taken, time, np.nan)
        raw = np.where(bad | ~taken[:, None], np.nan, np.asfortranarray(values))
        fresh = self._learn(rows, time[:, None], raw)
        told = (self.TOLD & ~np.isnan(raw)).any(axis=-1)
        faults |= np.where(told & ~fresh, LATE, 0)
        self.newest[rows] = np.where(fresh, np.fmax(self.newest[rows], time), self.newest[rows])
        self.samples[rows] += fresh
        resets = self.counters.state[4, rows].sum(axis=-1)
        faults |= np.where(resets != self._resets[rows], RESET, 0)
        self._resets[rows] = resets
        return faults

    def _learn(self, pick: int | Rows, time: Value, raw: Floats) -> Flags:
        """Update all estimators; True where a sample brought anything new."""
        estimators: tuple[Estimator[Any], ...] = (self.counters, self.levels, self.trend, self.cusum, self.spread)
        clocks = (self.counters.clock, self.base.clock)
        if isinstance(pick, slice | np.ndarray):
            counters, levels, trend, cusum, spread = (pick_rows(item.state, pick) for item in estimators)
            counter_last, last = (pick_rows(clock.last, pick) for clock in clocks)
        else:
            counters, levels, trend, cusum, spread = (item.state[:, pick] for item in estimators)
            counter_last, last = (clock.last[pick] for clock in clocks)
        totals = raw[..., self.GAUGES :]
        ok, elapsed = tick(counter_last, time, totals)
        fresh: Flags = np.logical_or.reduce(ok, axis=-1)
        rates = np.full(counters.shape[1:], np.nan)
        if np.count_nonzero(fresh):
            self.counters.step(counters, ok, elapsed, np.where(ok, totals, 0.0))
            np.divide(counters[5], np.maximum(counters[6], 1e-6), out=rates, where=ok & (counters[6] > 0.0))
        values = self._signals(pick, raw, rates)
        ok, elapsed = tick(last, time, values)
        if np.count_nonzero(ok):
            fresh = fresh | np.logical_or.reduce(ok, axis=-1)
            np.copyto(values, 0.0, where=~ok)
            base = levels[..., : len(self.SIGNALS)]
            known = ok & (base[0] > 0.0)
            score = values - base[1]
            score /= np.maximum(base[2], self.FLOOR)
            score *= known
            self.cusum.step(cusum, known, elapsed, score)
            self.spread.step(spread, ok, elapsed, values)
            ok3 = np.concatenate((ok, ok, ok), axis=-1)
            elapsed3 = np.concatenate((elapsed, elapsed, elapsed), axis=-1)
            thrice = np.concatenate((values, values, values), axis=-1)
            two = 2 * len(self.SIGNALS)
            self.levels.step(levels, ok3[..., :two], elapsed3[..., :two], thrice[..., :two])
            self.trend.step(trend, ok3, elapsed3, thrice)
            if self.season is not None:
                self.season.learn(pick, time, np.where(ok, values, np.nan)[..., list(self.SEASONAL)])
        if isinstance(pick, np.ndarray):
            clocks[0].last[pick], clocks[1].last[pick] = counter_last, last
            for item, state in zip(estimators, (counters, levels, trend, cusum, spread), strict=True):
                item.state[:, pick] = state
        return fresh

    def forget(self, rows: int | Rows = slice(None)) -> None:
        self.base.clock.last[rows] = np.nan
        for item in (self.levels, self.trend, self.cusum, self.counters, self.spread):
            item.forget(rows)
        if self.season is not None:
            self.season.forget(rows)
        self.context[rows] = 0.0
        self.touched[rows] = True
        self.newest[rows] = -np.inf
        self.samples[rows] = 0
        self._late[rows] = 0
        self._resets[rows] = 0

    def told(self, row: int, conditions: Floats) -> None:
        """What is outside of one element, values as :data:`CONTEXT`."""
        self.context[row] = conditions
        self.touched[row] = True

    def changed(self) -> NDArray[np.intp]:
        """Rows whose state has changed since the last call."""
        rows = np.flatnonzero(self.touched)
        self.touched[rows] = False
        return rows

    def silent_s(self, now_s: float) -> Floats:
        """Seconds since the newest sample of each row; :data:`FAR_S` units where there was none."""
        silent: Floats = np.minimum(now_s / self.unit_s - self.newest, FAR_S) * self.unit_s
        return silent

    def newest_of(self, one: int, other: int) -> Floats:
        """Time (s) of the newest sample that measured one of two signals, per row; of any, where none did."""
        last = np.fmax(self.base.clock.last[:, one], self.base.clock.last[:, other])
        newest: Floats = np.where(np.isnan(last), self.newest, last) * self.unit_s
        return newest

    def describe(self, row: int, signal: str) -> tuple[float, float, float, float]:
        """(level, slope per second, baseline, sigma) of one signal, for people; nan where unknown."""
        k = self.SIGNALS.index(signal)
        line = self.trend.score_one(row)
        base = self.base.score_one(row)
        sigma = max(float(base.sigma[k]), float(self.FLOOR[k]))
        return float(line.level[k]), float(line.slope[k]) / self.unit_s, float(base.level[k]), sigma

    def recent(self, row: int, counter: str) -> float:
        """Increments of a counter lately, fading with :data:`QUICK`."""
        return float(self.counters.state[3, row, self.INPUTS.index(counter) - self.GAUGES])

    def _signals(self, pick: int | Rows, raw: Floats, rates: Floats) -> Floats:
        raise NotImplementedError

    def _mean(self, signal: int, rows: Rows = slice(None)) -> Floats:
        """Short mean of one signal, shape (rows,); 0 where unknown."""
        state = self.trend.state
        weight = np.maximum(state[0, rows, signal], 1e-12)
        mean: Floats = state[3, rows, signal] / weight + state[6, rows, signal]
        return mean

    def lines(self, rows: Rows = slice(None), count: int | None = None) -> Line:
        """Lines of every signal, or the first ``count`` of them: all short ones, the middle ones, the longest ones;
        each array (lines, rows)."""
        own = slice(count)
        line = self.trend.score(pick_rows(self.trend.state, rows)[..., own], own)
        return Line(*(part.T for part in line))

    def _lines(
        self, signals: int, rows: Rows = slice(None), lines: Line | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """(quick level, slow level, persistent slope) of the first ``signals``, each (signals, rows); levels nan
        where unknown.

        The persistent slope is the smaller of both lines' slopes, each shrunk by :data:`DOUBT` standard errors (more
        for the long line, which fits a step badly), and 0 when they disagree about the direction: noise and steps
        have little of it, ramps keep it.
        """
        n = len(self.SIGNALS)
        level, slope, error = lines or self.lines(rows, n + signals)
        near, far = slope[:signals], slope[n : n + signals]
        size = np.abs(near)
        size -= DOUBT[0] * error[:signals]
        other = np.abs(far)
        other -= DOUBT[1] * error[n : n + signals]
        np.minimum(size, other, out=size)
        np.multiply(near, far, out=other)
        size *= (size > 0.0) & (other > 0.0)
        return level[:n], level[n : 2 * n], np.copysign(size, far, out=size)

    def _line(self, which: int, rows: Rows = slice(None), lines: Line | None = None) -> tuple[Floats, Floats]:
        """(level, slope shrunk by two standard errors) of every signal on the short (0), middle (1) or longest (2)
        line, each (signals, rows)."""
        n = len(self.SIGNALS)
        own = slice(which * n, (which + 1) * n)
        level, slope, error = (part[own] for part in lines or self.lines(rows))
        return level, np.copysign(np.maximum(np.abs(slope) - DOUBT[0] * error, 0.0), slope)
