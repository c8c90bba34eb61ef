"""Cumulative counters: increments in spite of wraps and resets, and how much happened lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import FAR_S, Estimator, Flags, Floats

WRAPS = (2.0**32, 2.0**64)
NEAR = 1.0 / 16.0  # a counter that was in the last sixteenth of its range may have wrapped


class Rate(NamedTuple):
    rate: Floats  # per unit of time, over the last interval; nan before two samples and after a reset
    recent: Floats  # increments, each fading with ``tau``
    resets: Floats  # times the counter went backwards without wrapping
    steady: Floats  # per unit of time, increments over time with both fading with ``steady_tau``


class CounterRate(Estimator[Rate]):
    """Rate of a counter that only grows, until it wraps at 2^32 or 2^64 or its device restarts.

    ``rate`` is that of the last interval. ``steady`` divides increments by time after fading both: where samples
    are stamped a little late now and then, single rates are far off, while this is off by the lateness over a
    whole window.

    A step back from near the end of a range to near its beginning is a wrap; any other step back is a
    reset, whose interval is unknown: no increment, no rate.

    >>> counter = CounterRate(tau=1.0)
    >>> for i, total in enumerate([2**32 - 20, 2**32 - 10, 0, 10]):
    ...     counter.learn_one(0, i, total)
    >>> float(counter.score_one(0).rate[0]), float(counter.score_one(0).resets[0])
    (10.0, 0.0)
    >>> counter.learn_one(0, 4, 3)
    >>> float(counter.score_one(0).rate[0]), float(counter.score_one(0).resets[0])
    (nan, 1.0)
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("seen", "total", "rate", "recent", "resets", "amount", "span")

    def __init__(
        self, rows: int = 1, signals: int = 1, *, tau: float | Sequence[float] = 1.0, steady_tau: float = 1.0
    ) -> None:
        super().__init__(rows, signals)
        self.decay = self.decays(tau)
        self.fading = self.decays(steady_tau)

    def step(self, state: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        seen, total, rate, recent, resets, amount, span = state
        known = ok & (seen > 0.0)
        grown = np.where(known, value - total, 0.0)
        back = grown < 0.0
        if back.any():
            for size in WRAPS:
                wrapped = back & (total < size) & (total > size * (1.0 - NEAR)) & (value < size * NEAR)
                grown = np.where(wrapped, grown + size, grown)
                back &= ~wrapped
            resets += back
            known &= ~back
            grown = np.where(back, 0.0, grown)
        recent *= np.exp(elapsed * self.decay)
        recent += grown
        state[5:] *= np.exp(elapsed * self.fading)
        amount += grown
        span += elapsed * known
        np.copyto(rate, grown / np.maximum(elapsed, 1.0 / FAR_S), where=known)
        np.copyto(rate, np.nan, where=ok & ~known)
        np.copyto(total, value, where=ok)
        seen += ok

    def score(self, state: Floats) -> Rate:
        seen, _, rate, recent, resets, amount, span = state
        steady = np.where(span > 0.0, amount / np.maximum(span, 1.0 / FAR_S), np.nan)
        return Rate(np.where(seen > 1.0, rate, np.nan), recent.copy(), resets.copy(), steady)
