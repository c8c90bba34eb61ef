"""Anomalies without labels: how unlike its own past is each series, sample by sample.

An ensemble of simple views of one series (its value, its last step, short and longer means, short and longer
scatter, and the same against the usual value of this hour), each standardised by its own long mean and deviation.
The oddity is the mean of the absolute standardised values: one view alone, which a heavy tail would move, is
outvoted. After a peak a series has to surpass what is left of that peak before it counts again, so that an episode
is told once. Nothing is trained, all state is of fixed size, thousands of series cost one numpy pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import Estimator, Flags, Floats, Step

RAISE_AT = 3.0  # mean sigmas that are told; see docs/prediction.md for what this gives on public data
LONG, FAST, MID = 6400.0, 12.0, 60.0  # samples
WARM = 100  # samples before a view is judged
LEFT, FADE = 0.7, 500.0  # share of a peak to be surpassed, and samples in which it fades by e
SEASONS, SEASON_SEEN, SEASON_LONG = 48, 3.0, 30.0  # bins of a period; samples before one is known; samples it averages
FLOOR = 1e-3  # of the level: smaller deviations count as this large
MOST_SIGMAS = 1e6

VIEWS = (
    "value",
    "step",
    "short mean",
    "longer mean",
    "short scatter",
    "longer scatter",
    "value for this hour",
    "short mean for this hour",
    "longer mean for this hour",
)
N, SEASONLESS = len(VIEWS), 6  # the last three need a season


class Odd(NamedTuple):
    """Of the last sample of each series; arrays of shape (..., signals)."""

    odd: Floats  # oddity beyond what is left of an earlier peak, mean sigmas; 0 while learning
    whole: Floats  # oddity without regard to earlier peaks
    view: NDArray[np.intp]  # index into VIEWS of the view that stands out most
    sigmas: Floats  # of that view, with sign
    level: Floats  # long mean, unit of the signal


class Oddity(Estimator[Odd]):
    """Streaming anomaly score; see the module's text. ``period`` (0: none) is the season's length in the unit of
    time, ``long``, ``fast``, ``mid``, ``fade`` and ``warm`` count samples.

    >>> odd = Oddity(warm=20)
    >>> for i in range(100):
    ...     odd.learn_one(0, i, 50.0 + (i * 7919) % 13)
    >>> bool(odd.score_one(0).odd[0] < 3.0)
    True
    >>> odd.learn_one(0, 100, 300.0)
    >>> bool(odd.score_one(0).odd[0] > 3.0), VIEWS[odd.score_one(0).view[0]]
    (True, 'value')
    """

    FIELDS = (
        "weight", "level", "last", "phase", "fast", "mid", "fast_var", "mid_var", "season_weight", "season_fast",
        "season_mid", "peak", "odd", "whole", *(f"sigmas_{v}" for v in VIEWS), *(f"count_{v}" for v in VIEWS),
        *(f"mean_{v}" for v in VIEWS), *(f"variance_{v}" for v in VIEWS),
    )  # fmt: skip
    VIEW0 = 14

    def __init__(
        self,
        rows: int = 1,
        signals: int = 1,
        *,
        period: float = 0.0,
        warm: int = WARM,
        long: float = LONG,
        fast: float = FAST,
        mid: float = MID,
        fade: float = FADE,
    ) -> None:
        super().__init__(rows, signals)
        if not 0 <= period < np.inf:
            raise ValueError(f"period must be finite and not negative, not {period}")
        self.period, self.warm = period, self.positive("warm", warm)
        self.long, self.fast = self.positive("long", long), self.positive("fast", fast)
        self.mid, self.fade = self.positive("mid", mid), float(np.exp(-1.0 / self.positive("fade", fade)))
        seasons = 2 * SEASONS if period else 0
        self.state = np.zeros((len(self.FIELDS) + seasons, rows, signals))

    def bind(self, state: Floats) -> Step:
        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            self._learn(state, ok, elapsed, value)

        return step

    def _learn(self, state: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        weight, level, last, phase, fast, mid, fast_var, mid_var = state[:8]
        fresh = ok & (weight == 0.0)
        if fresh.any():
            for item in (level, last, fast, mid):
                np.copyto(item, value, where=fresh)
        value = np.where(ok, value, level)
        weight += ok
        many = np.maximum(weight, 1.0)
        level += ok / np.minimum(many, self.long) * (value - level)
        floor = FLOOR * np.abs(level) + 1e-9
        used = N if self.period else SEASONLESS
        views = np.empty((used, *value.shape))
        known = np.broadcast_to(ok, views.shape)
        views[0], views[1] = value, value - last
        np.copyto(last, value, where=ok)
        for k, (mean, variance, span) in enumerate(((fast, fast_var, self.fast), (mid, mid_var, self.mid))):
            gain, apart = ok / np.minimum(many, span), value - mean
            mean += gain * apart
            variance += gain * (apart * (value - mean) - variance)
            views[2 + k], views[4 + k] = mean, np.log(np.maximum(variance, 0.0) + floor * floor)
        floors = np.empty(views.shape)
        floors[:] = floor
        floors[4:6] = 0.1  # of a logarithm
        if self.period:
            known = known.copy()
            self._season(state, ok, elapsed, value, views[SEASONLESS:], known[SEASONLESS:], phase)
        self._judge(state, ok, views, known, floors)

    def _season(
        self, state: Floats, ok: Flags, elapsed: Floats, value: Floats, views: Floats, known: Flags, phase: Floats
    ) -> None:
        """Against the usual value of this part of the period. The phase counts from the first sample: no clock."""
        phase += elapsed
        phase %= self.period
        table = state[len(self.FIELDS) :]
        place = np.minimum((phase / self.period * SEASONS).astype(np.intp), SEASONS - 1)
        at = (place, *np.indices(place.shape))
        usual, seen = table[:SEASONS], table[SEASONS:]
        sure = ok & (seen[at] >= SEASON_SEEN)
        apart = np.where(sure, value - usual[at], 0.0)
        weight, fast, mid = state[8:11]
        weight += sure
        for mean, span in ((fast, self.fast), (mid, self.mid)):
            mean += sure * (apart - mean) / np.minimum(np.maximum(weight, 1.0), span)
        views[:] = apart, fast, mid
        known[:] = sure
        usual[at] += ok / np.minimum(seen[at] + 1.0, SEASON_LONG) * (value - usual[at])
        seen[at] += ok

    def _judge(self, state: Floats, ok: Flags, views: Floats, known: Flags, floors: Floats) -> None:
        """Standardise each view by its own past, then take it in; oddity from all of them."""
        start, used = self.VIEW0, len(views)
        sigmas, count, mean, variance = (state[start + k * N : start + k * N + used] for k in range(4))
        apart = views - mean
        scored = np.sqrt(np.maximum(variance, 0.0))
        scored += floors
        np.divide(apart, scored, out=scored)
        np.minimum(np.maximum(scored, -MOST_SIGMAS, out=scored), MOST_SIGMAS, out=scored)
        scored *= known & (count >= self.warm)
        np.copyto(sigmas, scored, where=ok)
        count += known
        gain = known / np.minimum(np.maximum(count, 1.0), self.long)
        step = gain * apart
        mean += step
        apart *= apart - step  # (views - old mean) * (views - new mean)
        apart -= variance
        variance += gain * apart
        peak, odd, whole = state[11:14]
        np.copyto(whole, np.abs(scored).sum(axis=0) / used, where=ok)
        peak *= np.where(ok, self.fade, 1.0)
        np.copyto(odd, np.maximum(whole - LEFT * peak, 0.0), where=ok)
        np.copyto(peak, np.maximum(peak, whole), where=ok)

    def score(self, state: Floats) -> Odd:
        sigmas = state[self.VIEW0 : self.VIEW0 + N]
        view = np.abs(sigmas).argmax(axis=0)
        most = np.take_along_axis(sigmas, view[None], axis=0)[0]
        level = np.where(state[0] > 0.0, state[1], np.nan)
        return Odd(state[12].copy(), state[13].copy(), view, most, level)


def play(series: Sequence[tuple[Floats, Floats]], detector: Oddity) -> list[Floats]:
    """Oddity of every sample of many series (time, value), one row each, as if they came in one by one."""
    longest = max((len(time) for time, _ in series), default=0)
    times, values = np.full((longest, len(series)), np.nan), np.full((longest, len(series)), np.nan)
    for k, (time, value) in enumerate(series):
        times[: len(time), k], values[: len(value), k] = time, value
    found = np.zeros((longest, len(series)))
    for i in range(longest):
        there = ~np.isnan(values[i])
        detector.learn_many(slice(None), times[i], values[i][:, None])
        found[i] = np.where(there, detector.score_many().odd[:, 0], 0.0)
    return [found[: len(time), k] for k, (time, _) in enumerate(series)]
