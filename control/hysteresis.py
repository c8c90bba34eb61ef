"""When a probability becomes an alarm, and when an alarm is over: thresholds with hysteresis. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.estimators.base import Floats


@dataclass(frozen=True, slots=True)
class Threshold:
    """Hysteresis of one mode: an alarm is raised once the flip score has been at least ``raise_at`` over
    ``confirm_s`` seconds of *samples*, ``confirm_samples`` of them (so one odd sample never raises it), and cleared
    once the probability has been below ``clear_at`` for ``clear_s``. Before the newest sample a score of
    ``confirm_at`` is enough, where that is lower."""

    raise_at: float = 0.8
    clear_at: float = 0.3
    confirm_s: float = 0.04
    clear_s: float = 1.0
    confirm_samples: int = 2
    confirm_at: float = 1.0


class Watch:
    """One mode over a list of keys (ports, links or devices): probabilities and alarms with hysteresis."""

    def __init__(self, count: int, threshold: Threshold) -> None:
        self.threshold = threshold
        self.least = min(threshold.raise_at, threshold.confirm_at)  # a score that counts at all
        self.probability = np.full(count, np.nan)
        self.raised = np.zeros(count, dtype=bool)
        self._above = np.full(count, np.inf)  # sample time since which the score is high; inf: it isn't
        self._below = np.full(count, np.inf)
        self._seen = np.full(count, -np.inf)  # sample time of the last update
        self._streak = np.zeros(count)  # samples in a row with a high score
        self._stirred = False  # whether there is an alarm, or a high score that may become one

    def update(self, probability: Floats, newest_s: Floats, flip: Floats | None = None) -> None:
        """``probability`` is nan for what can't be judged: it neither raises nor clears an alarm. ``flip``: the
        score that alarms are raised on, where it is another one."""
        limit = self.threshold
        self.probability = probability
        if flip is None:
            high = probability >= self.least
            judged = None
        else:
            judged = probability == probability  # not nan; nan is neither high nor low
            high = judged & (flip >= self.least)
        seen, self._seen = self._seen, np.array(newest_s)
        if not np.count_nonzero(high):
            if not self._stirred:  # all is quiet, and was: nothing to begin, to count or to end
                return
        else:
            self._stirred = True
        if judged is None:
            judged = probability == probability
        low = probability < limit.clear_at
        if flip is not None:
            low &= flip < limit.raise_at
        fresh = newest_s != seen  # a clock may jump back
        self._streak += fresh & high
        for since, holds in ((self._above, high), (self._below, low)):
            np.minimum(since, newest_s, out=since, where=holds)
            np.copyto(since, np.inf, where=judged > holds)
        np.copyto(self._streak, 0.0, where=judged > high)
        # Half a microsecond: times of today in float64 seconds are no more exact.
        if np.count_nonzero(high):
            steady = high & (self._streak >= limit.confirm_samples)
            if self.least < limit.raise_at:
                steady &= (probability if flip is None else flip) >= limit.raise_at
            self.raised |= steady & (newest_s - self._above >= limit.confirm_s - 5e-7)
        if np.count_nonzero(self.raised):
            self.raised &= ~(low & (newest_s - self._below >= limit.clear_s - 5e-7))
        elif not np.count_nonzero(self._streak) and np.isinf(self._above).all():
            self._stirred = False  # what was low since when only matters to alarms, and their beginning is never low
