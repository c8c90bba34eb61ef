"""Cumulative counters: increments in spite of wraps and resets, and how much happened lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import FAR_S, ZERO, Estimator, Flags, Floats, Step

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

    FIELDS: ClassVar[tuple[str, ...]] = ("seen", "total", "resets", "recent", "amount", "span", "grown", "interval")

    def __init__(
        self, rows: int = 1, signals: int = 1, *, tau: float | Sequence[float] = 1.0, steady_tau: float = 1.0
    ) -> None:
        super().__init__(rows, signals)
        self.rates = np.stack((self.decays(tau), self.decays(steady_tau)))  # (2, signals)

    def faded(self, elapsed: Floats) -> Floats:
        """Shape (2, signals, rows): what is left of recent increments, and of increments and time."""
        left: Floats = np.exp(elapsed * self.rates[..., None])
        return left

    def bind(self, state: Floats) -> Step:
        seen, total, resets, recent, amount, span, last_grown, interval = state
        grown, lived, living = (np.empty_like(seen) for _ in range(3))
        known, back = np.empty_like(seen, dtype=bool), np.empty_like(seen, dtype=bool)

        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            np.greater(seen, ZERO, out=known)
            np.bitwise_and(known, ok, out=known)
            np.subtract(value, total, out=grown)
            np.copyto(living, known)
            np.multiply(grown, living, out=grown)
            np.less(grown, ZERO, out=back)
            if np.count_nonzero(back):
                for size in WRAPS:
                    wrapped = back & (total < size) & (total > size * (1.0 - NEAR)) & (value < size * NEAR)
                    np.add(grown, size, out=grown, where=wrapped)
                    back[wrapped] = False
                np.add(resets, back, out=resets)
                living[back] = 0.0
                grown[back] = 0.0
            lately, steady = fade
            np.multiply(recent, lately, out=recent)
            np.multiply(amount, steady, out=amount)
            np.multiply(span, steady, out=span)
            np.add(recent, grown, out=recent)
            np.add(amount, grown, out=amount)
            np.multiply(elapsed, living, out=lived)
            np.add(span, lived, out=span)
            np.copyto(last_grown, grown, where=ok)
            np.copyto(interval, lived, where=ok)
            np.copyto(total, value, where=ok)
            np.add(seen, taken, out=seen)

        return step

    def score(self, state: Floats) -> Rate:
        _, _, resets, recent, amount, span, grown, interval = state
        steady = np.where(span > 0.0, amount / np.maximum(span, 1.0 / FAR_S), np.nan)
        rate = np.where(interval > 0.0, grown / np.maximum(interval, 1.0 / FAR_S), np.nan)
        return Rate(rate, recent.copy(), resets.copy(), steady)
