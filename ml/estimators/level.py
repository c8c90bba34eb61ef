"""A baseline that outliers and short excursions do not drag along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import ONE, ZERO, Clock, Estimator, Flags, Floats, Step, fixed

ABS_TO_SIGMA = 1.2533  # sigma of a normal distribution over its mean absolute deviation
SETTLING = 5.0  # effective samples before clipping starts
_SIGMA, _SETTLING, _ANY, _MORE = fixed(ABS_TO_SIGMA), fixed(SETTLING), fixed(np.inf), fixed(1.5)


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

    def faded(self, elapsed: Floats) -> Floats:
        left: Floats = np.exp(elapsed * self.decay[:, None])
        return left

    def bind(self, state: Floats) -> Step:
        weight, level, sigma = state
        gain, residual, size, bound, part = (np.empty_like(weight) for _ in range(5))
        flag = np.empty_like(weight, dtype=bool)
        clip = fixed(self.clip)

        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            np.equal(weight, ZERO, out=flag)
            np.bitwise_and(flag, ok, out=flag)
            np.copyto(level, value, where=flag)
            np.multiply(weight, fade, out=weight)
            np.add(weight, taken, out=weight)
            np.maximum(weight, ONE, out=gain)
            np.divide(taken, gain, out=gain)
            np.subtract(value, level, out=residual)
            np.abs(residual, out=size)
            np.multiply(sigma, clip, out=bound)
            np.less(weight, _SETTLING, out=flag)
            np.copyto(bound, _ANY, where=flag)
            np.minimum(size, bound, out=part)
            np.copysign(part, residual, out=part)
            np.multiply(part, gain, out=part)
            np.add(level, part, out=level)
            np.multiply(size, _SIGMA, out=size)
            np.multiply(bound, _MORE, out=bound)
            np.minimum(size, bound, out=size)
            np.subtract(size, sigma, out=size)
            np.multiply(size, gain, out=size)
            np.add(sigma, size, out=sigma)

        return step

    def score(self, state: Floats) -> Level:
        weight, level, sigma = state
        return Level(np.where(weight > 0, level, np.nan), sigma.copy(), weight.copy())
