"""A baseline that outliers and short excursions do not drag along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import Clock, Estimator, Flags, Floats

ABS_TO_SIGMA = 1.2533  # sigma of a normal distribution over its mean absolute deviation
SETTLING = 5.0  # effective samples before clipping starts


class Level(NamedTuple):
    level: Floats  # unit of the signal; nan before the first sample
    sigma: Floats  # robust standard deviation, same unit
    weight: Floats  # effective number of samples behind it


class RobustLevel(Estimator[Level]):
    """Exponentially forgetting level with Huber's clipped residuals [1].

    A residual counts for at most ``clip`` sigmas, so that one wild sample moves the level by at most
    ``clip * sigma / weight``, and a ramp is followed late: that lateness is the signal.

    >>> level = RobustLevel(tau=10.0)
    >>> for i in range(50):
    ...     level.learn_one(0, i, 100.0 if i == 30 else 5.0 + 0.1 * (-1) ** i)
    >>> bool(abs(level.score_one(0).level[0] - 5.0) < 0.1)
    True

    [1] P. J. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35, 1964.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("weight", "level", "sigma")

    def __init__(
        self, rows: int = 1, signals: int = 1, *, tau: float | Sequence[float] = 5.0, clip: float = 2.0
    ) -> None:
        super().__init__(rows, signals)
        self.decay = self.decays(tau)
        self.clip = self.positive("clip", clip)

    def part(self, signals: slice) -> RobustLevel:
        """Some of the signals, as an estimator of their own on the same state; its clock is its own."""
        found = RobustLevel(1, 1, clip=self.clip)
        found.state, found.decay = self.state[..., signals], self.decay[signals]
        found.clock = Clock(*found.state.shape[1:])
        return found

    def step(self, state: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        weight, level, sigma = state
        fresh = weight == 0.0
        if np.count_nonzero(fresh):
            np.copyto(level, value, where=ok & fresh)
        weight *= np.exp(elapsed * self.decay)
        weight += ok
        gain = ok / np.maximum(weight, 1.0)
        residual = value - level
        size = np.abs(residual)
        bound = self.clip * sigma
        np.copyto(bound, np.inf, where=weight < SETTLING)
        level += gain * np.copysign(np.minimum(size, bound), residual)
        size *= ABS_TO_SIGMA
        bound *= 1.5
        sigma += gain * (np.minimum(size, bound, out=size) - sigma)

    def score(self, state: Floats) -> Level:
        weight, level, sigma = state
        return Level(np.where(weight > 0, level, np.nan), sigma.copy(), weight.copy())
