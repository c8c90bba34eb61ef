"""Mean and variance with exponential forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import Estimator, Flags, Floats


class Spread(NamedTuple):
    mean: Floats  # nan before the first sample
    variance: Floats


class Variance(Estimator[Spread]):
    """West's incremental mean and variance [1]; the age of samples, not their number, makes them fade.

    >>> spread = Variance(tau=1e5)
    >>> for i, x in enumerate([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]):
    ...     spread.learn_one(0, i, x)
    >>> mean, variance = spread.score_one(0)
    >>> round(float(mean[0]), 3), round(float(variance[0]), 3)
    (5.0, 4.0)

    [1] D. H. D. West, Updating mean and variance estimates, Comm. ACM 22(9), 1979.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("weight", "mean", "squares")

    def __init__(self, rows: int = 1, signals: int = 1, *, tau: float | Sequence[float] = 1.0) -> None:
        super().__init__(rows, signals)
        self.decay = self.decays(tau)

    def step(self, state: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        weight, mean, squares = state
        decay = np.exp(elapsed * self.decay)
        weight *= decay
        weight += ok
        squares *= decay
        residual = value - mean
        residual *= ok
        mean += residual / np.maximum(weight, 1.0)
        residual *= ok
        residual *= value - mean
        squares += residual

    def score(self, state: Floats) -> Spread:
        weight, mean, squares = state
        return Spread(np.where(weight > 0, mean, np.nan), np.maximum(squares, 0.0) / np.maximum(weight, 1.0))
