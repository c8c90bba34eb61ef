"""Judgements of ports as judgements of links: which ports can be judged now, and which end of a link fares worse. Pure.

Done at every look at the alarms, for all ports, so it is written for few array operations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import ZERO, Flags, Floats, fixed
from ml.features import PortBank
from ml.profiles import WARM_UP

LEAST = fixed(-1.0)  # less than any probability
_NEVER, _WARM_UP, _UNKNOWN = fixed(-np.inf), np.array(WARM_UP, dtype=np.int64), fixed(np.nan)


class Ends:
    """The ports of a topology's links: ``2 k`` and ``2 k + 1`` are the ends of link ``k``."""

    def __init__(self, bank: PortBank, count: int, stale_s: float) -> None:
        self.bank, self.count = bank, count
        self.sighted = np.zeros(count, dtype=bool)  # what announces a failure of the link is measured
        self.metered = np.zeros(count, dtype=bool)  # ... congestion
        self.worse: NDArray[np.bool_] = np.zeros(count // 2, dtype=bool)  # the second end is
        self._ready = np.zeros(count, dtype=bool)
        self._some, self._age = np.zeros(count, dtype=bool), np.zeros(count)
        self._now, self._stale, self._unit = fixed(0.0), fixed(stale_s), fixed(bank.unit_s)

    def look(self, now_s: float) -> None:
        """What can be judged at a time; before :meth:`links` and :meth:`ports`."""
        bank, some, age, count = self.bank, self._some, self._age, self.count
        power, margin, load, queue, trip = bank.short_weights[:5, :count]
        beats = bank.counters_seen[-1, :count]
        np.add(power, margin, out=age)
        np.add(age, trip, out=age)
        np.add(age, beats, out=age)
        np.greater(age, ZERO, out=self.sighted)
        np.add(load, queue, out=age)
        np.greater(age, ZERO, out=self.metered)
        self._now.fill(now_s / bank.unit_s)
        np.subtract(self._now, bank.newest[:count], out=age)
        np.abs(age, out=age)
        np.multiply(age, self._unit, out=age)
        np.less_equal(age, self._stale, out=self._ready)
        np.greater_equal(bank.samples[:count], _WARM_UP, out=some)
        np.bitwise_and(self._ready, some, out=self._ready)

    def _judged(self, probability: Floats, able: Flags) -> Floats:
        """Probabilities, nan where nothing can be said."""
        found = probability[: self.count].copy()
        np.bitwise_and(able, self._ready, out=self._some)
        np.bitwise_not(self._some, out=self._some)
        np.copyto(found, _UNKNOWN, where=self._some)
        return found

    def _newest_s(self, one: int, other: int) -> Floats:
        """When one of two signals was measured last (s); any, where neither was."""
        last = self.bank.last_told[:, : self.count]
        found: Floats = np.maximum(last[one], last[other])
        np.equal(found, _NEVER, out=self._some)
        np.copyto(found, self.bank.newest[: self.count], where=self._some)
        return np.multiply(found, self._unit, out=found)

    def links(self, probability: Floats, flip: Floats | None) -> tuple[Floats, Floats, Floats | None]:
        """(probability, time of the newest sample, flip score) of each link, from those of the ports."""
        ends = self._judged(probability, self.sighted)
        one, other = ends[0::2], ends[1::2]
        self.worse = np.greater(np.fmax(other, LEAST), np.fmax(one, LEAST))
        newest = self._newest_s(0, 1)  # receive power, margin
        seen = newest[0::2].copy()
        np.copyto(seen, newest[1::2], where=self.worse)
        soon = None
        if flip is not None:
            scores = np.where(np.isnan(ends), 0.0, flip[: self.count])
            soon = np.maximum(scores[0::2], scores[1::2])
        return np.fmax(one, other), seen, soon

    def ports(self, probability: Floats, flip: Floats | None) -> tuple[Floats, Floats, Floats | None]:
        """The same of each port, for congestion."""
        full = self._judged(probability, self.metered)
        soon = None if flip is None else np.where(np.isnan(full), 0.0, flip[: self.count])
        return full, self._newest_s(2, 3), soon
