"""Some rows of a bank's state, with all that learning from a sample needs: views and scratch arrays, made once.

Many kinds of state change with every sample, and an array operation on a few rows costs the same fraction of a
microsecond whatever its size. So all state of a row lies together (:class:`Parts`), is fetched and put back in one
operation, several series share an operation, and nothing is allocated in between.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ml import compiled
from ml.estimators import CounterRate, Cusum, RobustLevel, Trend, Variance
from ml.estimators.base import FAR_S, ZERO, Flags, Floats, Value, fixed
from ml.estimators.trend import Line

if TYPE_CHECKING:
    from ml.bank import Bank

LINES, LEVELS = 3, 2  # lines (short, middle, longest) and baselines (usual, lasting) of each signal
FEW = 64  # rows: up to so many, an operation costs the same
_FAR = fixed(FAR_S)


class Parts(NamedTuple):
    """Views of a state of shape (:func:`height`, rows)."""

    trend: Floats  # (fields, lines, signals, rows)
    levels: Floats  # (fields, baselines, signals, rows)
    cusum: Floats  # (fields, signals, rows)
    spread: Floats  # (fields, signals, rows)
    counters: Floats  # (fields, counters, rows)
    last: Floats  # (signals and counters, rows): times of the last accepted samples, -inf: none
    held: Floats  # (settings, rows): kept until they are told anew


def _shapes(signals: int, counters: int, held: int) -> tuple[tuple[int, ...], ...]:
    return (
        (len(Trend.FIELDS), LINES, signals),
        (len(RobustLevel.FIELDS), LEVELS, signals),
        (len(Cusum.FIELDS), signals),
        (len(Variance.FIELDS), signals),
        (len(CounterRate.FIELDS), counters),
        (signals + counters,),
        (held,),
    )


def height(signals: int, counters: int, held: int) -> int:
    """Numbers that make up the state of one row."""
    return sum(prod(shape) for shape in _shapes(signals, counters, held))


def parts(state: Floats, signals: int, counters: int, held: int) -> Parts:
    """The views of a state of shape (:func:`height`, rows)."""
    found, start = [], 0
    for shape in _shapes(signals, counters, held):
        end = start + prod(shape)
        found.append(state[start:end].reshape(*shape, state.shape[1]))
        start = end
    return Parts(*found)


class Block:
    """``state``: (:func:`height`, rows), a copy of some rows of a bank, or the bank's own.

    Put samples into :attr:`raw`, then call :meth:`learn`.
    """

    def __init__(self, bank: Bank, state: Floats) -> None:
        signals, counters = len(bank.SIGNALS), len(bank.INPUTS) - bank.GAUGES
        self.bank, self.state, self.rows = bank, state, state.shape[1]
        self.parts = own = parts(state, signals, counters, len(bank.HELD))
        rows = self.rows
        self.raw = np.zeros((len(bank.INPUTS), rows))  # what is to be learned; nan: not measured
        self.values = np.zeros((signals, rows))  # of the signals, from what is measured
        self.bad = np.zeros(self.raw.shape, dtype=bool)
        self.told, self._newer = np.zeros((2, signals + counters, rows), dtype=bool)  # which were news
        self.counted, self._now = self.told[signals:], self.told[:signals]
        self.resets = own.counters[CounterRate.FIELDS.index("resets")]
        self.places = self.state.ctypes.data, self.told.ctypes.data, self.resets.ctypes.data  # for compiled code
        self._compiled = None if bank.kernels is None else compiled.Learning(bank.kernels, self)
        if self._compiled is None:
            self._bind(bank, signals, counters)

    def _bind(self, bank: Bank, signals: int, counters: int) -> None:
        """Room and recursions of numpy's."""
        own, rows = self.parts, self.rows
        self._over = np.zeros_like(self.bad)
        self._low, self._high = (np.repeat(limit[:, None], rows, axis=1) for limit in (bank.LOW, bank.HIGH))
        self._elapsed, self._time = np.zeros((2, signals + counters, rows))
        self._score, self._scale = np.zeros((2, signals, rows))
        self._floor = np.repeat(bank.FLOOR[:, None], rows, axis=1)
        self._counts, self._counting = np.zeros((2, counters, rows))
        self._known, self._sure = np.zeros((signals, rows), dtype=bool), np.zeros((signals, rows))
        self._counter_rates = np.repeat(bank.counters.rates[..., None], rows, axis=2)
        self._counter_fade = np.zeros(self._counter_rates.shape)
        rates = np.concatenate((bank.trend.decay, bank.levels.decay))
        self._rates = np.repeat(rates[:, None], rows, axis=1)  # of lines, then baselines
        self._fade, self._passed, self._each, self._on = np.zeros((4, *self._rates.shape))
        self._ok = np.zeros(self._rates.shape, dtype=bool)
        series = (LINES + LEVELS, signals, rows)
        self._all_passed, self._all_values = self._passed.reshape(series), self._each.reshape(series)
        self._taken, self._all_ok = self._on.reshape(series), self._ok.reshape(series)
        self._weight, self._level, self._sigma = own.levels[:, 0]
        self._read = bank.bind_signals(self)
        self._count = bank.counters.bind(own.counters)
        self._change = bank.cusum.bind(own.cusum)
        self._scatter = bank.spread.bind(own.spread)
        self._lines = bank.trend.bind(own.trend.reshape(len(own.trend), LINES * signals, rows))
        self._levels = bank.levels.bind(own.levels.reshape(len(own.levels), LEVELS * signals, rows))

    def absurd(self) -> int:
        """Mark measurements that are absurd in :attr:`bad` and make them nan; how many there are."""
        if self._compiled is not None:
            return self._compiled.absurd()
        np.less(self.raw, self._low, out=self.bad)
        np.greater(self.raw, self._high, out=self._over)
        np.bitwise_or(self.bad, self._over, out=self.bad)
        count = int(np.count_nonzero(self.bad))
        if count:
            np.copyto(self.raw, np.nan, where=self.bad)
        return count

    def learn(self, time: Value) -> int:
        """Take in :attr:`raw`, measured at ``time`` (one, or one per row; finite). :attr:`told` says which signals and
        counters were news; returns how many."""
        if self._compiled is not None:
            return self._compiled.learn(time)
        signals = len(self.values)
        elapsed, newer, last = self._elapsed, self._newer, self.parts.last
        self._time[:] = time
        np.less(last, self._time, out=newer)
        np.subtract(self._time, last, out=elapsed)
        np.minimum(elapsed, _FAR, out=elapsed)
        self._learn_counters(newer[signals:], elapsed[signals:])
        self._read()
        np.equal(self.values, self.values, out=self._now)
        np.bitwise_and(self._now, newer[:signals], out=self._now)
        if np.count_nonzero(self._now):
            self._learn_signals(elapsed[:signals])
        count = int(np.count_nonzero(self.told))
        if count:
            np.copyto(last, self._time, where=self.told)
        return count

    def _learn_counters(self, newer: Flags, elapsed: Floats) -> None:
        totals, ok, counts = self.raw[self.bank.GAUGES :], self.counted, self._counts
        np.equal(totals, totals, out=ok)
        np.bitwise_and(ok, newer, out=ok)
        if not np.count_nonzero(ok):
            return
        np.copyto(self._counting, ok)
        np.multiply(elapsed, self._counting, out=elapsed)
        counts.fill(0.0)
        np.copyto(counts, totals, where=ok)
        np.multiply(self._counter_rates, elapsed, out=self._counter_fade)
        np.exp(self._counter_fade, out=self._counter_fade)
        self._count(ok, self._counting, elapsed, counts, self._counter_fade)

    def _learn_signals(self, elapsed: Floats) -> None:
        values, now, score, known, taken = self.values, self._now, self._score, self._known, self._taken
        signals = len(values)
        np.copyto(taken[0], now)
        np.multiply(elapsed, taken[0], out=elapsed)
        np.bitwise_not(now, out=known)
        np.copyto(values, ZERO, where=known)
        # How far the values are from what is usual, before they have a part in that.
        np.greater(self._weight, ZERO, out=known)
        np.bitwise_and(known, now, out=known)
        np.subtract(values, self._level, out=score)
        np.copyto(self._sure, known)
        np.multiply(score, self._sure, out=score)
        np.maximum(self._sigma, self._floor, out=self._scale)
        np.divide(score, self._scale, out=score)
        self._change(known, self._sure, elapsed, score, elapsed)
        # All lines and baselines side by side.
        self._all_ok[:] = now
        taken[1:] = taken[0]
        self._all_passed[:] = elapsed
        self._all_values[:] = values
        ok, on, passed, value, fade = self._ok, self._on, self._passed, self._each, self._fade
        np.multiply(passed, self._rates, out=fade)
        np.exp(fade, out=fade)
        lines = LINES * signals
        self._scatter(now, taken[0], elapsed, values, fade[signals : 2 * signals])  # forgets as the middle line does
        self._lines(ok[:lines], on[:lines], passed[:lines], value[:lines], fade[:lines])
        self._levels(ok[lines:], on[lines:], passed[lines:], value[lines:], fade[lines:])

    @cached_property
    def wide(self) -> Callable[[], tuple[Line, Floats]]:
        """A function that fits the lines of all signals (arrays (lines and signals, rows)) and makes the features as
        :attr:`features`: both scratch."""
        signals, rows = len(self.values), self.rows
        series = LINES * signals
        if self.bank.kernels is not None:
            every, read = compiled.lines(self.bank.kernels, self, LINES, signals)
            kept = Line(*(part.reshape(series, rows) for part in every))
            made = self.bank.bind_features(self, every)

            def compiled_found() -> tuple[Line, Floats]:
                read()
                return kept, made()

            return compiled_found
        fit = Trend.reader(self.parts.trend.reshape(len(self.parts.trend), series, rows), self._rates[:series])
        lines = fit()
        features = self.bank.bind_features(self, Line(*(part.reshape(LINES, signals, rows) for part in lines)))

        def found() -> tuple[Line, Floats]:
            return fit(), features()

        return found

    @cached_property
    def further(self) -> compiled.Further:
        """The features of suspicious rows, in compiled code; only where there is such."""
        assert self.bank.kernels is not None
        return compiled.Further(self.bank.kernels, self)

    @cached_property
    def features(self) -> Callable[[], Floats]:
        """What the bank's :meth:`~ml.bank.Bank.bind_features` gives, with the lines that it needs."""
        judged, rows = self.bank.JUDGED, self.rows
        signals = len(self.values)
        read: Callable[[], object]
        if self.bank.kernels is not None:
            fitted, read = compiled.lines(self.bank.kernels, self, 2, judged)
        elif rows <= FEW:  # the price is that of the operations: what lies together, although some of it is not needed
            state = self.parts.trend.reshape(len(self.parts.trend), LINES * signals, rows)[:, : 2 * signals]
            read = Trend.reader(state, self._rates[: 2 * signals])
            fitted = Line(*(part.reshape(2, signals, rows) for part in read()))
        else:
            decay = self._rates.reshape(LINES + LEVELS, signals, rows)[:2, :judged, :1]
            read = Trend.reader(self.parts.trend[:, :2, :judged], decay)
            fitted = read()
        features = self.bank.bind_features(self, fitted)

        def found() -> Floats:
            read()
            return features()

        return found
