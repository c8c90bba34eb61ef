"""Gaps: how long a series has been silent, against how often it usually speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import FAR_S, Estimator, Flags, Floats, Step


class Pace(NamedTuple):
    interval: Floats  # usual time between samples; nan before two
    samples: Floats


class Silence(Estimator[Pace]):
    """Learns the usual interval between samples; :meth:`silent` compares the present gap with it.

    >>> silence = Silence(tau=5.0)
    >>> for i in range(10):
    ...     silence.learn_one(0, 0.5 * i, 1.0)
    >>> float(silence.silent(5.5)[0, 0])
    1.0
    >>> round(float(silence.score_one(0).interval[0]), 3)
    0.5
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("samples", "weight", "interval")

    def __init__(self, rows: int = 1, signals: int = 1, *, tau: float | Sequence[float] = 5.0) -> None:
        super().__init__(rows, signals)
        self.decay = self.decays(tau)

    def faded(self, elapsed: Floats) -> Floats:
        left: Floats = np.exp(elapsed * self.decay[:, None])
        return left

    def bind(self, state: Floats) -> Step:
        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            samples, weight, interval = state
            again = ok & (samples > 0.0)
            weight *= fade
            weight += again
            interval += again * (elapsed - interval) / np.maximum(weight, 1.0)
            samples += ok

        return step

    def silent(self, now: float) -> Floats:
        """Time since the last sample of each (row, signal); :data:`FAR_S` where there was none."""
        return np.fmin(np.maximum(now - self.clock.last, 0.0), FAR_S)

    def score(self, state: Floats) -> Pace:
        samples, _, interval = state
        return Pace(np.where(samples > 1.0, interval, np.nan), samples.copy())
