"""Level and slope by recursive regression, and the time left until a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import FAR_S, Estimator, Flags, Floats, Value


class Line(NamedTuple):
    level: Floats  # fitted value at the time of the last sample; nan before the first
    slope: Floats  # per unit of time; 0 while it cannot be told
    slope_error: Floats  # standard error of the slope; 0 while it cannot be told


class Trend(Estimator[Line]):
    """Discounted least squares of a line [1], as sums over ages that are shifted when time moves on.

    Samples may come at irregular times; a gap longer than a few ``tau`` starts the line anew. The standard
    error takes the residuals as independent and the window as full: with exponential weights the variance of
    the slope is sigma^2 / (4 n tau^2), where n is the sum of the weights.

    A jump moves the line and does not tilt it: when a sample is more than ``jump + jump_rate * elapsed`` away
    from the one before, the line's past is shifted along. So a burst of traffic that begins at once is a new
    level at once, and never looks like a ramp. Both are one value or one per signal; infinite: no jumps.

    >>> trend = Trend(tau=2.0)
    >>> for i in range(20):
    ...     trend.learn_one(0, 0.1 * i, 3.0 - 0.5 * i)
    >>> line = trend.score_one(0)
    >>> round(float(line.level[0]), 6), round(float(line.slope[0]), 6)
    (-6.5, -5.0)

    [1] R. G. Brown, Smoothing, Forecasting and Prediction of Discrete Time Series, 1963 (discounted least squares).
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("s0", "s1", "s2", "y0", "y1", "yy", "origin", "last")

    def __init__(
        self,
        rows: int = 1,
        signals: int = 1,
        *,
        tau: float | Sequence[float] = 1.0,
        jump: float | Sequence[float] = np.inf,
        jump_rate: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(rows, signals)
        self.decay = self.decays(tau)
        self.jump = np.asarray(jump, dtype=np.float64)
        self.jump_rate = np.asarray(jump_rate, dtype=np.float64)

    def step(self, state: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        s0, s1, s2, y0, _, yy, origin, last = state
        fresh = s0 == 0.0
        delta = value - last
        jumped = np.abs(delta) > self.jump + self.jump_rate * elapsed
        jumped &= ok > fresh
        if np.count_nonzero(jumped):
            origin += delta * jumped
        fresh &= ok
        if np.count_nonzero(fresh):
            np.copyto(origin, value, where=fresh)  # values near 0 keep the sums well conditioned
        np.copyto(last, value, where=ok)
        s2 += elapsed * (elapsed * s0 - 2.0 * s1)
        state[1:5:3] -= elapsed * state[0:4:3]  # s1 by s0, y1 by y0
        state[:6] *= np.exp(elapsed * self.decay)
        shifted = ok * (value - origin)
        s0 += ok
        y0 += shifted
        yy += shifted * shifted

    def score(self, state: Floats, signals: slice = slice(None)) -> Line:
        """``state`` may hold some of the signals only: which, says ``signals``."""
        decay = self.decay[signals]
        s0, origin = state[0], state[6]
        # Weighted means, then covariances around them: few passes over many rows, few arrays.
        inverse = np.maximum(s0, 1e-12)
        np.divide(1.0, inverse, out=inverse)
        means = state[1:6] * inverse
        age, _, mean, _, squares = means
        spread, covariance = means[1:4:2]
        means[1:4:2] -= age * means[0:3:2]  # spread by age * age, covariance by age * mean
        # A slope needs more than two effective samples that are not all at one instant; no slope: no error.
        work = np.multiply(spread, decay, out=inverse)
        work *= decay
        able = work > 1e-9
        able &= s0 > 2.0
        np.maximum(spread, 1e-300, out=spread)
        per_spread = np.divide(able, spread, out=spread)
        slope = covariance * per_spread
        np.multiply(slope, age, out=work)
        level = mean - work
        level += origin
        mean *= mean
        squares -= mean
        covariance *= slope
        squares -= covariance
        residual = np.maximum(squares, 0.0, out=squares)
        residual *= per_spread
        np.subtract(s0, 2.0, out=work)
        residual /= np.maximum(work, 0.5, out=work)
        error = np.sqrt(residual, out=residual)
        error *= 0.5
        empty = s0 == 0.0
        if np.count_nonzero(empty):
            level[empty] = np.nan
        return Line(level, slope, error)


def time_to_threshold(level: Value, slope: Value, threshold: Value) -> Floats:
    """Time until a line reaches a threshold: 0 when it is on it, :data:`FAR_S` when it moves away or stands still.

    The line comes from either side; being "beyond" is the caller's to know.

    >>> float(time_to_threshold(-10.0, -2.0, -16.0)), float(time_to_threshold(-10.0, 2.0, -16.0))
    (3.0, 1000000.0)
    """
    distance = np.asarray(threshold, dtype=np.float64) - level
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(distance == 0.0, 0.0, distance / slope)
    return np.where((left >= 0.0) & (left < FAR_S), left, FAR_S)


class Crossing(Trend):
    """A trend that knows its threshold: ``score_one(...)`` gives the line, :meth:`left_one` the time left.

    >>> crossing = Crossing(tau=1.0, threshold=0.0)
    >>> for i in range(10):
    ...     crossing.learn_one(0, 0.1 * i, 2.0 - 0.1 * i)
    >>> round(float(crossing.left_one(0)[0]), 3)
    1.1
    """

    def __init__(
        self, rows: int = 1, signals: int = 1, *, tau: float | Sequence[float] = 1.0, threshold: float = 0.0
    ) -> None:
        super().__init__(rows, signals, tau=tau)
        self.threshold = threshold

    def left_one(self, row: int) -> Floats:
        line = self.score_one(row)
        return time_to_threshold(line.level, line.slope, self.threshold)

    def left_many(self) -> Floats:
        line = self.score_many()
        return time_to_threshold(line.level, line.slope, self.threshold)
