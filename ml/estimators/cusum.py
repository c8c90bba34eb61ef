"""Change points: has the mean moved, which way, and since when."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import Estimator, Flags, Floats


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

    def step(self, state: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        sums, since = state[:2], state[2:]
        bounded = np.maximum(value, -self.clip)
        np.minimum(bounded, self.clip, out=bounded)
        sums[0] += bounded
        sums[1] -= bounded
        sums -= self.drift * ok
        np.maximum(sums, 0.0, out=sums)
        np.minimum(sums, self.cap, out=sums)
        since += elapsed
        since *= sums > 0.0

    def score(self, state: Floats) -> Change:
        up, down, up_since, down_since = state
        return Change(up.copy(), down.copy(), np.where(up >= down, up_since, down_since))
