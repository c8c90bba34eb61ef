"""State of many elements, updated in place: the part that ports and devices share.

Times are divided by ``unit_s``, the network's own unit of time: precursors last a few units. The lab lives in
compressed time (1 s); for optics that sicken over minutes it is 60 s or more. Everything behind this line,
features and models included, knows units only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml import compiled, kernels
from ml.block import FEW, Block, height, parts
from ml.compiled import BACK, FAR
from ml.estimators import CounterRate, Cusum, Estimator, RobustLevel, Seasonal, Trend, Variance
from ml.estimators.base import FAR_S, ZERO, Flags, Floats, Rows, Value, columns, fixed
from ml.estimators.trend import Line

STEADY = 0.02  # units: rates are means over about this long; more would turn a burst's edge into a ramp
KEPT_BYTES = 16 << 20
QUICK, SLOW, BASE = 0.25, 0.7, 5.0  # usual time constants of the short line, the long line and the baseline, in units
LONG, DEEP = 6.0, 60.0  # ... of the longest line and of the lasting baseline
DAY_S, PHASES = 86_400.0, 24  # seasonality ...
DAYLESS_S = 10.0  # ... where the unit of time is at least this long: a lab in compressed time has no days
CONTEXT = ("rain_mm_per_h", "rain_fade_db", "gust_m_per_s", "alert_severity", "maintenance_reduced_redundancy")
DOUBT = (2.0, 5.0)  # standard errors that the slopes of the short and the long line must exceed
BACK_SAMPLES = 3  # samples in a row from the past (ml.compiled.BACK) that do mean a clock that jumped
EXACT = 8  # rows: room is made for so many, above for multiples of it
MANY, KEPT_SIZES = 1024, 2

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
    steady: float = STEADY  # of rates


class Bank:
    """Estimator states of ``rows`` elements; subclasses name the inputs and compute features."""

    INPUTS: ClassVar[tuple[str, ...]]  # gauges first, then counters
    GAUGES: ClassVar[int]  # inputs that are gauges
    SIGNALS: ClassVar[tuple[str, ...]]  # the gauges that are followed by baseline, lines and CUSUM
    JUDGED: ClassVar[int]  # signals, the first ones, whose lines the features of this bank read
    LOW: ClassVar[Floats]
    HIGH: ClassVar[Floats]
    TOLD: ClassVar[Flags]  # inputs that are measured each time; the others are settings or states
    FLOOR: ClassVar[Floats]  # smallest sigma of each signal that is believed
    JUMP: ClassVar[tuple[float, ...]]  # a larger change between two samples is a jump, no trend ...
    JUMP_RATE: ClassVar[tuple[float, ...]]  # ... plus this per unit of time between them
    LATE_JUMP: ClassVar[tuple[float, ...]]  # JUMP where samples take seconds: a late stamp must not look like one
    SEASONAL: ClassVar[tuple[int, ...]]  # signals that people's days shape
    HELD: ClassVar[Mapping[str, float]]  # settings that are kept until told anew, with what they are before that

    def __init__(self, rows: int, unit_s: float = 1.0, taus: Taus = Taus()) -> None:  # noqa: B008 (immutable)
        if not 0 < unit_s < np.inf:
            raise ValueError(f"unit_s must be positive and finite, not {unit_s}")
        keep_memory()
        self.kernels = kernels.active()
        self.unit_s = unit_s
        signals, counters, held = len(self.SIGNALS), len(self.INPUTS) - self.GAUGES, len(self.HELD)
        self.taus = taus
        self.state = np.zeros((height(signals, counters, held), rows))
        self.parts = own = parts(self.state, signals, counters, held)
        own.last[:] = -np.inf
        own.held.T[:] = list(self.HELD.values())
        self.last, self.held = own.last.T, own.held
        self.last_told, self.short_weights, self.counters_seen = own.last, own.trend[0, 0], own.counters[0]
        self._first = self.state[:, 0].copy()  # of a row that never had a sample
        lines = [taus.quick] * signals + [taus.slow] * signals + [taus.long] * signals
        jump = self.JUMP if unit_s < DAYLESS_S else self.LATE_JUMP
        self.trend = Trend(1, 3 * signals, tau=lines, jump=jump * 3, jump_rate=self.JUMP_RATE * 3)
        self.levels = RobustLevel(1, 2 * signals, tau=[taus.base] * signals + [taus.deep] * signals)
        self.cusum = Cusum(1, signals)
        self.spread = Variance(1, signals, tau=taus.slow)
        self.counters = CounterRate(1, counters, tau=taus.quick, steady_tau=taus.steady)
        estimators: tuple[Estimator[Any], ...] = (self.trend, self.levels, self.cusum, self.spread, self.counters)
        for item, state in zip(estimators, own, strict=False):
            item.state = state.reshape(len(state), -1, rows).swapaxes(-1, -2)
        self.base, self.deep = self.levels.part(slice(signals)), self.levels.part(slice(signals, None))
        self.season: Seasonal | None = None  # compressed time has no days
        if unit_s >= DAYLESS_S:
            self.season = Seasonal(rows, len(self.SEASONAL), period=DAY_S / unit_s, phases=PHASES)
        self.context = columns(rows, len(CONTEXT))  # unknown: 0
        self.newest = np.full(rows, -np.inf)  # units
        self.samples = np.zeros(rows, dtype=np.int64)
        self.touched = np.ones(rows, dtype=bool)  # changed since :meth:`changed` was asked last
        self._late = np.zeros(rows, dtype=np.int64)
        self._resets = np.zeros(rows)
        arrivals = None if self.kernels is None else compiled.Arrivals(self.kernels, self, self._late, self._resets)
        self._arrivals = arrivals
        self._blocks: dict[int, Block] = {}  # of so many rows, fetched and put back
        self._whole: Block | None = None  # all rows, where they are
        room = np.zeros((len(Trend.FIELDS), signals, 1))
        self._teller = room, Trend.reader(room, self.trend.decay[:signals, None])  # short lines of one row
        self._line_of, self._described = self._teller[1](), (-1, 0, 0.0)

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
        block = self._block(1)
        kept, mine = self.state[:, row], block.state[:, 0]
        mine[:] = kept
        block.raw[:, 0] = values
        if block.absurd():
            faults |= ABSURD
        if not block.learn(time):
            kept[:] = mine  # settings may have been told
            return faults | (LATE if (self.TOLD & ~np.isnan(block.raw[:, 0])).any() else 0)
        if self.season is not None:
            self._learn_season(row, time, block)
        kept[:] = mine
        if not time <= newest or faults & JUMPED:
            self.newest[row] = time
        self.samples[row] += 1
        resets = sum(block.resets[:, 0].tolist())
        if resets != self._resets[row]:
            self._resets[row] = resets
            faults |= RESET
        return faults

    def learn_many(self, rows: Rows, time_s: Value, values: Floats) -> NDArray[np.int64]:
        """Take in one sample of each of ``rows`` (no row twice); ``time_s`` is one or one per row, ``values`` is
        (rows, inputs). Returns the fault bits of each row."""
        if isinstance(rows, slice):
            rows = rows if rows == slice(None) else np.arange(len(self.newest))[rows]
        else:
            rows = np.ascontiguousarray(rows, dtype=np.int64)
        count = len(values)
        time, faults, skipped = np.empty(count), np.zeros(count, dtype=np.int64), None
        if not count:
            return faults
        np.divide(time_s, self.unit_s, out=time)
        if self._arrivals is None or self._arrivals.look(rows, time):
            skipped = self._sort_out(rows, time, faults)
        block = self._roomy(rows)
        raw = block.raw[:, :count].T
        raw[:] = values
        if block.rows > count:
            block.raw[:, count:] = np.nan
        if skipped is not None:
            raw[skipped] = np.nan
        if block.absurd():
            faults |= np.where(block.bad[:, :count].any(axis=0), ABSURD, 0)
        block.learn(time if block.rows == count else np.append(time, np.zeros(block.rows - count)))
        if self.season is not None:
            self._learn_season(rows, time[:, None], block)
        fresh, again = (self._keep if self._arrivals is None else self._arrivals.keep)(rows, time, block)
        if fresh is not None:
            faults |= np.where((self.TOLD & ~np.isnan(raw)).any(axis=-1) & ~fresh, LATE, 0)
        if again is not None:
            faults |= np.where(again, RESET, 0)
        return faults

    def _sort_out(self, rows: Rows, time: Floats, faults: NDArray[np.int64]) -> Flags | None:
        """Samples of absurd times and late ones, which are skipped (None: no such), unless several in a row say that
        the clock jumped. Says so in ``faults``; times that are skipped become 0."""
        self.touched[rows] = True
        sane = np.abs(time) < FAR  # False for nan
        back = time < self.newest[rows] - BACK
        if np.count_nonzero(sane) == len(sane) and not np.count_nonzero(back):
            self._late[rows] = 0
            return None
        back &= sane
        late = np.where(sane, (self._late[rows] + 1) * back, self._late[rows])
        jumped = back & (late >= BACK_SAMPLES)
        faults |= np.where(sane, np.where(jumped, JUMPED, np.where(back, LATE, 0)), ABSURD)
        self.forget(np.arange(len(self.newest))[rows][jumped])
        self._late[rows] = np.where(jumped, 0, late)
        skipped: Flags = ~sane | (back & ~jumped)
        time[skipped] = 0.0
        return skipped

    def _keep(self, rows: Rows, time: Floats, block: Block) -> tuple[Flags | None, Flags | None]:
        """Put back what was learned. Gives which samples had news, and where counters began anew; None: all, none."""
        count = len(time)
        if block is not self._whole:
            self.state[:, rows] = block.state[:, :count]
        fresh = np.logical_or.reduce(block.told[:, :count], axis=0)
        every = np.count_nonzero(fresh) == count
        self.newest[rows] = np.maximum(self.newest[rows], time if every else np.where(fresh, time, -np.inf))
        self.samples[rows] += fresh
        resets = np.add.reduce(block.resets[:, :count], axis=0)
        again = resets != self._resets[rows]
        self._resets[rows] = resets
        return None if every else fresh, again if np.count_nonzero(again) else None

    def _learn_season(self, pick: int | Rows, time: Value, block: Block) -> None:
        assert self.season is not None
        which, count = list(self.SEASONAL), np.size(time)
        values = np.where(block.told[which, :count], block.values[which, :count], np.nan)
        self.season.learn(pick, time, values.T)

    def _block(self, count: int) -> Block:
        """Room for so many rows. It is kept up to :data:`MANY` rows, of more that of the latest :data:`KEPT_SIZES`."""
        found = self._blocks.get(count)
        if found is None:
            large = [size for size in self._blocks if size > MANY]
            if count > MANY and len(large) >= KEPT_SIZES:
                del self._blocks[large[0]]
            found = self._blocks[count] = Block(self, np.zeros((len(self.state), count)))
        return found

    def _roomy(self, rows: Rows) -> Block:
        """As :meth:`_fetched`, in a block that may have room for more: how many report, or are suspicious, changes from
        moment to moment, and new room costs more than the rows that are too many."""
        if isinstance(rows, slice):
            return self._fetched(rows)
        count = len(rows)
        if count <= EXACT:
            size = count
        else:
            size = -(-count // EXACT) * EXACT if count <= FEW else 1 << (count - 1).bit_length()
        block = self._block(size)
        if self._arrivals is not None:
            self._arrivals.fetch(np.ascontiguousarray(rows, dtype=np.int64), block)
        elif size == count:
            self.state.take(rows, axis=1, out=block.state, mode="clip")
        else:
            block.state[:, :count] = self.state.take(rows, axis=1, mode="clip")
        return block

    def _fetched(self, rows: Rows) -> Block:
        """A block with the state of ``rows`` in it; the bank's own state for all of them."""
        if isinstance(rows, slice):
            if rows == slice(None):
                if self._whole is None:
                    self._whole = Block(self, self.state)
                return self._whole
            rows = np.arange(len(self.newest))[rows]
        block = self._block(len(rows))
        self.state.take(rows, axis=1, out=block.state, mode="clip")
        return block

    def prepare(self, most: int) -> None:
        """Make the room that up to ``most`` rows at a time need now, and not with the first sample."""
        for count in range(1, min(most, len(self.newest), FEW) + 1):
            self._block(count).features()

    def forget(self, rows: int | Rows = slice(None)) -> None:
        self.state[:, rows] = self._first if isinstance(rows, int | np.integer) else self._first[:, None]
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
        last = np.maximum(self.last[:, one], self.last[:, other])
        newest: Floats = np.where(last == -np.inf, self.newest, last) * self.unit_s
        return newest

    def describe(self, row: int, signal: str) -> tuple[float, float, float, float]:
        """(level, slope per second, baseline, sigma) of one signal, for people; nan where unknown."""
        k, state, read = self.SIGNALS.index(signal), *self._teller
        now = (row, int(self.samples[row]), float(self.newest[row]))
        if now != self._described:  # several signals of one row are asked about, one after the other
            state[..., 0] = self.trend.state[:, row, : len(self.SIGNALS)]
            self._line_of, self._described = read(), now
        line = self._line_of
        weight, base, sigma = self.base.state[:, row, k].tolist()
        level = base if weight > 0.0 else np.nan
        found = float(line.level[k, 0]), float(line.slope[k, 0]) / self.unit_s
        return *found, level, max(sigma, float(self.FLOOR[k]))

    def recent(self, row: int, counter: str) -> float:
        """Increments of a counter lately, fading with :data:`QUICK`."""
        return float(self.counters.state[3, row, self.INPUTS.index(counter) - self.GAUGES])

    def bind_signals(self, block: Block) -> Callable[[], None]:
        """A function that makes ``block.values`` of ``block.raw``, of what is held, and of the counters that are news
        (``block.counted``)."""
        raise NotImplementedError

    def bind_features(self, block: Block, line: Line) -> Callable[[], Floats]:
        """A function that makes the features of the rows of ``block`` whose lines are ``line``: (features, rows), a
        scratch array that its next call overwrites."""
        raise NotImplementedError

    def narrow(self, rows: Rows = slice(None)) -> Floats:
        """The features of some rows as scratch, see :meth:`bind_features`; to be copied before the next call."""
        found = self._roomy(rows).features()
        return found if isinstance(rows, slice) else found[:, : len(rows)]

    def bind_lasting(self, line: Line, signals: int) -> Callable[[], Floats]:
        """A function that finds how fast the first ``signals`` move lastingly, shape (signals, rows), as scratch.

        The lasting slope is the smaller of the slopes of the short and the middle line, each shrunk by :data:`DOUBT`
        standard errors (more for the middle line, which fits a step badly), and 0 when they disagree about the
        direction: noise and steps have little of it, ramps keep it.
        """
        (near, far), (near_error, far_error) = line.slope[:2, :signals], line.slope_error[:2, :signals]
        size: Floats = np.empty_like(near)
        other, doubt = np.empty_like(near), np.empty_like(near)
        some, more = np.empty_like(size, dtype=bool), np.empty_like(size, dtype=bool)
        near_doubt, far_doubt = (fixed(v) for v in DOUBT)

        def read() -> Floats:
            np.abs(near, out=size)
            np.multiply(near_error, near_doubt, out=doubt)
            np.subtract(size, doubt, out=size)
            np.abs(far, out=other)
            np.multiply(far_error, far_doubt, out=doubt)
            np.subtract(other, doubt, out=other)
            np.minimum(size, other, out=size)
            np.multiply(near, far, out=other)
            np.greater(size, ZERO, out=some)
            np.greater(other, ZERO, out=more)
            np.bitwise_and(some, more, out=some)
            np.multiply(size, some, out=size)
            np.copysign(size, far, out=size)
            return size

        return read

    def lines(self, rows: Rows = slice(None)) -> Line:
        """Lines of every signal: all short ones, the middle ones, the longest ones; each array (lines, rows)."""
        lines, _ = self._fetched(rows).wide()
        return Line(*(part.copy() for part in lines))

    def heading(self, rows: Rows = slice(None)) -> tuple[Floats, Floats]:
        """(level, slope per unit of time shrunk by two standard errors) of every signal by the short lines, each
        (signals, rows)."""
        return self._line(0, rows)

    def fetch(self, rows: Rows) -> Block:
        """The state of some rows, to be read (``block.parts``, ``block.wide``) before the next call of any method."""
        return self._fetched(rows)

    def roomy(self, rows: Rows) -> Block:
        """As :meth:`fetch`; there may be more rows in it, of no meaning, after those that were asked for."""
        return self._roomy(rows)

    def _line(self, which: int, rows: Rows = slice(None), lines: Line | None = None) -> tuple[Floats, Floats]:
        """(level, slope shrunk by two standard errors) of every signal on the short (0), middle (1) or longest (2)
        line, each (signals, rows)."""
        n = len(self.SIGNALS)
        own = slice(which * n, (which + 1) * n)
        level, slope, error = (part[own] for part in lines or self.lines(rows))
        return level, np.copysign(np.maximum(np.abs(slope) - DOUBT[0] * error, 0.0), slope)
