"""Level and slope by recursive regression, and the time left until a threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ml.estimators.base import FAR_S, ONE, TWO, ZERO, Estimator, Flags, Floats, Step, Value, fixed

_LEAST, _APART, _TINY, _HALF, _UNKNOWN = (fixed(v) for v in (1e-12, 1e-9, 1e-300, 0.5, np.nan))


JUMP_SAMPLES = 2  # changes in a row that may be one jump


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

    A mean over a window in which the level stepped lies between the levels: low, mid, high are a jump as well. Two
    changes in the same direction (:data:`JUMP_SAMPLES`) that surpass the limit for the time of both shift the past
    along, and what the line held of the first one is taken back.

    >>> trend = Trend(tau=2.0)
    >>> for i in range(20):
    ...     trend.learn_one(0, 0.1 * i, 3.0 - 0.5 * i)
    >>> line = trend.score_one(0)
    >>> round(float(line.level[0]), 6), round(float(line.slope[0]), 6)
    (-6.5, -5.0)

    [1] R. G. Brown, Smoothing, Forecasting and Prediction of Discrete Time Series, 1963 (discounted least squares).
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        "s0", "s1", "s2", "y0", "y1", "yy", "origin",
        "last",  # value ...
        "change",  # ... what it was above the one before (0: that was the end of a jump over two) ...
        "held",  # ... how much of this was no jump ...
        "span",  # ... and the time between them
    )  # fmt: skip

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

    def faded(self, elapsed: Floats) -> Floats:
        left: Floats = np.exp(elapsed * self.decay[:, None])
        return left

    def bind(self, state: Floats) -> Step:
        s0, s1, s2, y0, y1, yy, origin, last, change, held, span = state
        sums = state[:6]
        delta, limit, size, moved = (np.empty_like(s0) for _ in range(4))
        fresh, jumped, twice, along, able = (np.empty_like(s0, dtype=bool) for _ in range(5))
        jump, jump_rate = (np.zeros_like(s0) + np.reshape(v, (-1, 1)) for v in (self.jump, self.jump_rate))

        def step(ok: Flags, taken: Floats, elapsed: Floats, value: Floats, fade: Floats) -> None:
            np.equal(s0, ZERO, out=fresh)
            np.subtract(value, last, out=delta)
            np.multiply(elapsed, jump_rate, out=limit)
            np.add(limit, jump, out=limit)
            np.abs(delta, out=size)
            np.greater(size, limit, out=jumped)
            np.add(elapsed, span, out=limit)  # and with the change before
            np.multiply(limit, jump_rate, out=limit)
            np.add(limit, jump, out=limit)
            np.add(delta, change, out=size)
            np.abs(size, out=size)
            np.greater(size, limit, out=twice)
            np.multiply(delta, change, out=size)
            np.greater(size, ZERO, out=along)
            np.bitwise_and(twice, along, out=twice)
            np.bitwise_or(jumped, twice, out=jumped)
            np.greater(ok, fresh, out=able)  # not the first sample
            np.bitwise_and(jumped, able, out=jumped)
            np.bitwise_and(twice, able, out=twice)
            np.copyto(change, delta, where=ok)
            if np.count_nonzero(jumped):
                if np.count_nonzero(twice):
                    np.subtract(last, origin, out=moved)
                    np.multiply(moved, TWO, out=moved)
                    np.subtract(held, moved, out=moved)
                    np.multiply(moved, held, out=moved)
                    np.add(yy, moved, out=yy, where=twice)
                    np.subtract(y0, held, out=y0, where=twice)
                    np.add(delta, held, out=delta, where=twice)
                np.multiply(delta, jumped, out=delta)
                np.add(origin, delta, out=origin)
            np.copyto(held, change, where=ok)
            np.bitwise_and(fresh, ok, out=fresh)
            np.bitwise_or(jumped, fresh, out=jumped)
            np.copyto(held, ZERO, where=jumped)
            np.bitwise_or(twice, fresh, out=twice)
            np.copyto(change, ZERO, where=twice)
            np.copyto(origin, value, where=fresh)  # values near 0 keep the sums well conditioned
            np.copyto(last, value, where=ok)
            np.copyto(span, elapsed, where=ok)
            np.multiply(s0, elapsed, out=moved)
            np.multiply(s1, TWO, out=delta)
            np.subtract(moved, delta, out=delta)
            np.multiply(delta, elapsed, out=delta)
            np.add(s2, delta, out=s2)
            np.subtract(s1, moved, out=s1)
            np.multiply(y0, elapsed, out=moved)
            np.subtract(y1, moved, out=y1)
            np.multiply(sums, fade, out=sums)
            np.subtract(value, origin, out=delta)
            np.multiply(delta, taken, out=delta)
            np.add(s0, taken, out=s0)
            np.add(y0, delta, out=y0)
            np.multiply(delta, delta, out=delta)
            np.add(yy, delta, out=yy)

        return step

    def score(self, state: Floats) -> Line:
        line = self.reader(state, self.decay)()
        return Line(*(part.copy() for part in line))

    @staticmethod
    def reader(state: Floats, decay: Floats) -> Callable[[], Line]:
        """A function that fits the lines of one view of the state, whose ``decay`` broadcasts to one field of it. Its
        answers are scratch arrays, which its next call overwrites."""
        s0, origin, sums = state[0], state[6], state[1:6]
        inverse, level, slope, work = (np.empty_like(s0) for _ in range(4))
        means = np.empty_like(sums)
        age, spread, mean, covariance, squares = means
        unable, some = np.empty_like(s0, dtype=bool), np.empty_like(s0, dtype=bool)
        line = Line(level, slope, squares)

        def read() -> Line:
            # Weighted means, then covariances around them: few passes over many rows.
            np.maximum(s0, _LEAST, out=inverse)
            np.divide(ONE, inverse, out=inverse)
            np.multiply(sums, inverse, out=means)
            np.multiply(age, age, out=work)
            np.subtract(spread, work, out=spread)
            np.multiply(age, mean, out=work)
            np.subtract(covariance, work, out=covariance)
            # A slope needs more than two effective samples that are not all at one instant; no slope: no error.
            np.multiply(spread, decay, out=work)
            np.multiply(work, decay, out=work)
            np.less_equal(work, _APART, out=unable)
            np.less_equal(s0, TWO, out=some)
            np.bitwise_or(unable, some, out=unable)
            np.maximum(spread, _TINY, out=spread)
            np.divide(ONE, spread, out=spread)  # now its inverse, 0 where there is no slope
            np.copyto(spread, ZERO, where=unable)
            np.multiply(covariance, spread, out=slope)
            np.multiply(slope, age, out=work)
            np.subtract(mean, work, out=level)
            np.add(level, origin, out=level)
            np.multiply(mean, mean, out=mean)
            np.subtract(squares, mean, out=squares)
            np.multiply(covariance, slope, out=covariance)
            np.subtract(squares, covariance, out=squares)
            np.maximum(squares, ZERO, out=squares)
            np.multiply(squares, spread, out=squares)
            np.subtract(s0, TWO, out=work)
            np.maximum(work, _HALF, out=work)
            np.divide(squares, work, out=squares)
            np.sqrt(squares, out=squares)
            np.multiply(squares, _HALF, out=squares)
            np.equal(s0, ZERO, out=some)
            np.copyto(level, _UNKNOWN, where=some)
            return line

        return read


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
