"""Mean and variance with exponential forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import ONE, Estimator, Flags, Floats, Step


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

    def faded(self, elapsed: Floats) -> Floats:
        left: Floats = np.exp(elapsed * self.decay[:, None])
        return left

    def bind(self, state: Floats) -> Step:
        weight, mean, squares = state
        residual, part = np.empty_like(weight), np.empty_like(weight)

        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            np.multiply(weight, fade, out=weight)
            np.multiply(squares, fade, out=squares)
            np.add(weight, taken, out=weight)
            np.subtract(value, mean, out=residual)
            np.multiply(residual, taken, out=residual)
            np.maximum(weight, ONE, out=part)
            np.divide(residual, part, out=part)
            np.add(mean, part, out=mean)
            np.subtract(value, mean, out=part)
            np.multiply(residual, part, out=residual)
            np.add(squares, residual, out=squares)

        return step

    def score(self, state: Floats) -> Spread:
        weight, mean, squares = state
        return Spread(np.where(weight > 0, mean, np.nan), np.maximum(squares, 0.0) / np.maximum(weight, 1.0))
