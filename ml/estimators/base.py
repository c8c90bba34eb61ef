"""What all estimators share: state arrays updated in place, a clock per row and signal, score before learn.

An estimator watches ``rows`` x ``signals`` series at once (a row is a port or a device). Its state is one
array of shape ``(fields, rows, signals)``; learning from a sample of one row touches a view of that row only,
learning from many rows runs the same code on many rows: there is one implementation of each recursion, and
1,000 links cost little more than one. In memory the rows lie side by side (:func:`columns`): one signal of all rows,
which is what scores are made of, is contiguous.

For a few rows the price is the number of array operations, not the arithmetic: 0.3 µs for one on contiguous arrays of
one shape, up to four times that where numpy has to make an array of a Python number, convert flags, broadcast, or
allocate. So a recursion is written as :meth:`Estimator.bind`, which is given the state once and makes its views and its
scratch arrays then; the function that it returns works in them only, as often as it is called, and its constants are
arrays (:func:`fixed`).

Every estimator keeps these promises, and one shared suite of tests holds them to it:

* ``learn_one`` repeated gives what ``learn_many`` gives;
* a value that is nan, infinite or beyond 1e100, or whose time is not after the last one, changes nothing at all;
* a row never changes another row; ``forget`` brings a row back to its first day;
* scores are finite or nan, never infinite, and scoring changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Rows: TypeAlias = "NDArray[np.intp] | slice"
Value: TypeAlias = "float | Floats"
Step: TypeAlias = "Callable[[Flags, Floats, Floats, Floats, Floats], None]"  # ok, taken, elapsed, value, fade
S = TypeVar("S")

HUGE = 1e100  # values from here on are refused like infinite ones; their squares would not be finite
FAR_S = 1e6  # the distance in time to a sample that never was; keeps the arithmetic finite


def fixed(value: float) -> Floats:
    """A constant as an array, for operations that are done often."""
    return np.array(value, dtype=np.float64)


ZERO, ONE, TWO = fixed(0.0), fixed(1.0), fixed(2.0)


def columns(*shape: int, fill: float = 0.0) -> Floats:
    """An array of shape (..., rows, signals) in which the rows of one signal lie side by side."""
    *outer, rows, signals = shape
    return np.full((*outer, signals, rows), fill).swapaxes(-1, -2)


def pick_rows(state: Floats, rows: Rows) -> Floats:
    """``state[..., rows, :]``: a view for a slice, else a copy with the rows side by side."""
    if isinstance(rows, slice):
        return state[..., rows, :]
    return state.swapaxes(-1, -2).take(rows, axis=-1).swapaxes(-1, -2)


class Clock:
    """Times of the last accepted sample, nan before the first; shape (rows, signals)."""

    def __init__(self, rows: int, signals: int) -> None:
        self.last = columns(rows, signals, fill=np.nan)


def tick(last: Floats, time: Value, value: Value) -> tuple[Flags, Floats]:
    """Accept or refuse samples: returns (accepted, time since the last one), and moves ``last`` in place.

    Refused are values that are not finite (or absurdly large) and times that are not after the last. The time
    since the last sample is 0 where refused and :data:`FAR_S` at most.
    """
    ok = (np.abs(value) < HUGE) & ~(time <= last) & (np.abs(time) < HUGE)  # nan compares False
    elapsed = np.fmin(time - last, FAR_S)
    if np.count_nonzero(ok) < ok.size:
        elapsed = np.where(ok, elapsed, 0.0)
    np.copyto(last, time, where=ok)
    return ok, elapsed


class Estimator(ABC, Generic[S]):
    """Base of all estimators. ``S`` is the named tuple of arrays that scoring returns."""

    FIELDS: ClassVar[tuple[str, ...]]

    def __init__(self, rows: int = 1, signals: int = 1) -> None:
        if rows < 1 or signals < 1:
            raise ValueError(f"rows and signals must be positive, not {rows} and {signals}")
        self.clock = Clock(rows, signals)
        self.state = columns(len(self.FIELDS), rows, signals)

    @staticmethod
    def positive(name: str, value: float) -> float:
        """Check a setting."""
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, not {value}")
        return value

    def decays(self, tau: float | Sequence[float]) -> Floats:
        """Check a time constant, or one per signal, and return ``-1 / tau`` of shape (signals,)."""
        taus = np.broadcast_to(np.asarray(tau, dtype=np.float64), (self.clock.last.shape[1],))
        for value in taus.tolist():
            self.positive("tau", value)
        inverse: Floats = -1.0 / taus
        return inverse

    def learn_one(self, row: int, time: float, value: Value) -> None:
        """Take in one sample of one row; ``value`` is a number or one per signal (nan: not measured)."""
        ok, elapsed = tick(self.clock.last[row], time, value)
        self._run(self.state[:, row : row + 1], ok[None], elapsed[None], np.where(ok, value, 0.0)[None])

    def learn_many(self, rows: Rows, time: Value, value: Value) -> None:
        """Take in one sample of each of ``rows`` (no row twice); ``time`` is one or one per row, ``value``
        broadcasts to ``(rows, signals)``."""
        time = time[:, None] if isinstance(time, np.ndarray) and time.ndim == 1 else time
        value = np.asarray(value, dtype=np.float64, order="F")
        last = pick_rows(self.clock.last, rows)
        ok, elapsed = tick(last, time, value)
        block = pick_rows(self.state, rows)
        self._run(block, ok, elapsed, np.where(ok, value, 0.0))
        if not isinstance(rows, slice):
            self.clock.last[rows] = last
            self.state[:, rows] = block

    def _run(self, block: Floats, ok: Flags, elapsed: Floats, value: Floats) -> None:
        self.bind(block.swapaxes(-1, -2))(ok.T, ok.T.astype(np.float64), elapsed.T, value.T, self.faded(elapsed.T))

    def score_one(self, row: int) -> S:
        """What is known about one row; arrays of shape (signals,)."""
        return self.score(self.state[:, row])

    def score_many(self, rows: Rows = slice(None)) -> S:
        """What is known about many rows; arrays of shape (rows, signals)."""
        return self.score(self.state[:, rows])

    def forget(self, rows: int | Rows = slice(None)) -> None:
        self.clock.last[rows] = np.nan
        self.state[:, rows] = 0.0

    def faded(self, elapsed: Floats) -> Floats:
        """What is left of the past after ``elapsed`` units, (signals, rows); for recursions that forget by age."""
        return elapsed

    @abstractmethod
    def bind(self, state: Floats) -> Step:
        """The recursion over one view of the state, shape (fields, signals, rows): a function of (ok, taken,
        elapsed, value, fade), each (signals, rows), that updates the view in place where ``ok``; ``taken`` is ``ok`` as
        1.0 and 0.0, ``value`` and ``elapsed`` are 0 where it is not, ``fade`` is what :meth:`faded` gives."""

    @abstractmethod
    def score(self, state: Floats) -> S:
        """Turn a view of the state into a score."""
