"""Measures of skill, each with weights per row so that intervals can be drawn by event.

Accuracy is left out on purpose: with a few per cent of failing rows it says nothing. So is point-adjusted F1,
which flatters random scores (S. Kim et al., Towards a rigorous evaluation of time-series anomaly detection,
AAAI 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import Flags, Floats

Runs = NDArray[np.intp]  # element of each row


class Interval(NamedTuple):
    value: float
    low: float  # 5 % quantile over resampled events, unless said otherwise
    high: float  # 95 %


def average_precision(score: Floats, outcome: Floats, weight: Floats | None = None) -> float:
    """Area under the precision-recall curve, as a sum over recall steps; rows of equal score come together.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1.0, 0.0, 1.0]))
    0.8333333333333333
    >>> average_precision(np.array([0.5, 0.5, 0.5, 0.5]), np.array([1.0, 0.0, 0.0, 0.0]))
    0.25
    """
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    hits, rows = np.cumsum((outcome * weight)[order]), np.cumsum(weight[order])
    if not len(hits) or hits[-1] == 0.0:
        return float("nan")
    last = np.append(np.diff(score[order]) != 0.0, True)  # the last row of each group of ties
    hits, rows = hits[last], rows[last]
    steps = np.diff(hits, prepend=0.0)
    seen = rows > 0.0
    return float((steps[seen] * hits[seen] / rows[seen]).sum() / hits[-1])


def precision_recall(score: Floats, outcome: Floats) -> list[tuple[float, float]]:
    """(recall, precision) at each threshold, the highest first.

    >>> precision_recall(np.array([0.9, 0.8, 0.7]), np.array([1.0, 0.0, 1.0]))
    [(0.5, 1.0), (0.5, 0.5), (1.0, 0.6666666666666666)]
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0.0, True)
    hits, rows = np.cumsum(outcome[order])[last], (np.arange(len(score)) + 1.0)[last]
    if not len(hits) or hits[-1] == 0.0:
        return []
    return list(zip((hits / hits[-1]).tolist(), (hits / rows).tolist(), strict=True))


def brier_skill(probability: Floats, outcome: Floats, weight: Floats | None = None) -> float:
    """1 is perfect, 0 is no better than always saying the base rate, negative is worse.

    >>> brier_skill(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    1.0
    >>> brier_skill(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    0.0
    """
    weight = np.ones(len(outcome)) if weight is None else weight
    base = np.average(outcome, weights=weight)
    reference = np.average((outcome - base) ** 2, weights=weight)
    return float(1.0 - np.average((probability - outcome) ** 2, weights=weight) / reference)


class Bin(NamedTuple):
    said: float  # mean probability
    came: float  # share of rows in which the failure came
    rows: int


def reliability(probability: Floats, outcome: Floats, bins: int = 10) -> list[Bin]:
    """The reliability diagram's points, bins of equal width; empty ones are left out."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    found = []
    for k in range(bins):
        inside = place == k
        if inside.any():
            found.append(Bin(float(probability[inside].mean()), float(outcome[inside].mean()), int(inside.sum())))
    return found


def calibration_error(probability: Floats, outcome: Floats, bins: int = 10, *, weight: Floats | None = None) -> float:
    """Expected calibration error: mean distance of said and came, weighted by rows (or what rows stand for).

    >>> calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1.0, 1.0, 1.0, 0.0]))
    0.0
    """
    weight = np.ones(len(outcome)) if weight is None else weight
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, weight * (probability - outcome))).sum() / weight.sum())


def calibration_interval(
    probability: Floats, outcome: Floats, runs: Runs, bins: int = 10, *, repeats: int = 200, seed: int = 1
) -> Interval:
    """:func:`calibration_error` with its 95 % interval, whole runs (``runs``: of each row) drawn with replacement.
    Drawing adds scatter to every bin, so the interval lies a little high: it never flatters.

    >>> said = np.full(400, 0.5)
    >>> error, low, high = calibration_interval(said, (np.arange(400) % 4 > 0) * 1.0, np.arange(400))
    >>> error, low < error < high
    (0.25, True)
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    present, run = np.unique(runs, return_inverse=True)
    apart = np.bincount(run * bins + place, probability - outcome, minlength=len(present) * bins).reshape(-1, bins)
    rows, rng = np.bincount(run).astype(np.float64), np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        drawn = np.bincount(rng.integers(0, len(present), len(present)), minlength=len(present)).astype(np.float64)
        found.append(float(np.abs(drawn @ apart).sum() / (drawn @ rows)))
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(calibration_error(probability, outcome, bins), float(low), float(high))


def by_event(
    measure: Callable[[Floats], float], runs: Runs, *, repeats: int = 100, seed: int = 1
) -> tuple[float, float]:
    """(5 %, 95 %) of a measure when whole runs are drawn with replacement: rows of one run are not independent.

    ``measure`` takes a weight per row.
    """
    rng = np.random.default_rng(seed)
    count = int(runs.max()) + 1
    present = np.unique(runs)
    found = []
    for _ in range(repeats):
        drawn = np.bincount(rng.choice(present, size=len(present)), minlength=count).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without any failure says nothing
            value = measure(drawn[runs])
        if np.isfinite(value):
            found.append(value)
    if not found:
        return float("nan"), float("nan")
    low, high = np.quantile(found, [0.05, 0.95])
    return float(low), float(high)


def alarm_times(time: Floats, probability: Floats, raise_at: float, confirm: float = 0.04) -> Floats:
    """When each element's alarm is raised, inf for never: the probability has been at least ``raise_at`` over
    ``confirm`` units of samples. ``time`` and ``probability`` are (steps, elements); nan is no judgement.
    """
    count = time.shape[1]
    since = np.full(count, np.inf)
    raised = np.full(count, np.inf)
    for i in range(len(time)):
        high: Flags = probability[i] >= raise_at
        since = np.where(high, np.minimum(since, time[i]), np.inf)
        now = high & (time[i] - since >= confirm) & np.isinf(raised)
        raised[now] = time[i][now]
    return raised
