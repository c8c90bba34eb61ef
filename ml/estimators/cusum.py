"""Change points: has the mean moved, which way, and since when."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import ZERO, Estimator, Flags, Floats, Step, fixed


class Change(NamedTuple):
    up: Floats  # evidence for a rise, in sigmas; 0: none
    down: Floats  # evidence for a fall
    since: Floats  # time since the stronger of the two started to grow; 0 without evidence


class Cusum(Estimator[Change]):
    """Page's two-sided cumulative sum [1] of standardised values (unit: sigmas from the baseline).

    ``drift`` is half of the smallest shift that matters, values count for at most ``clip`` (so one absurd
    sample proves nothing), sums stop at ``cap`` so that recovery is noticed soon.

    >>> cusum = Cusum()
    >>> for i in range(40):
    ...     cusum.learn_one(0, 0.1 * i, 0.0 if i < 20 else -3.0)
    >>> change = cusum.score_one(0)
    >>> float(change.up[0]), float(change.down[0]), round(float(change.since[0]), 1)
    (0.0, 50.0, 2.0)

    [1] E. S. Page, Continuous inspection schemes, Biometrika 41, 1954.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("up", "down", "up_since", "down_since")

    def __init__(
        self, rows: int = 1, signals: int = 1, *, drift: float = 0.5, clip: float = 5.0, cap: float = 50.0
    ) -> None:
        super().__init__(rows, signals)
        self.drift = self.positive("drift", drift)
        self.clip = self.positive("clip", clip)
        self.cap = self.positive("cap", cap)

    def bind(self, state: Floats) -> Step:
        sums, since = state[:2], state[2:]
        (up, down), (up_since, down_since) = sums, since
        bounded = np.empty_like(up)
        some = np.empty_like(sums, dtype=bool)
        drift, low, high, cap = (fixed(v) for v in (self.drift, -self.clip, self.clip, self.cap))

        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            np.maximum(value, low, out=bounded)
            np.minimum(bounded, high, out=bounded)
            np.add(up, bounded, out=up)
            np.subtract(down, bounded, out=down)
            np.multiply(taken, drift, out=bounded)
            np.subtract(up, bounded, out=up)
            np.subtract(down, bounded, out=down)
            np.maximum(sums, ZERO, out=sums)
            np.minimum(sums, cap, out=sums)
            np.add(up_since, elapsed, out=up_since)
            np.add(down_since, elapsed, out=down_since)
            np.equal(sums, ZERO, out=some)
            np.copyto(since, ZERO, where=some)

        return step

    def score(self, state: Floats) -> Change:
        up, down, up_since, down_since = state
        return Change(up.copy(), down.copy(), np.where(up >= down, up_since, down_since))
