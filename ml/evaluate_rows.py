"""What every data set is turned into to be judged, and the judgement: one code for all of them.

A row is one moment of one element (a link's channel, a router, a series) with a forecast and what came of it. An
event is a failure of an element with a window in which an alarm is in time: before its onset and early enough to
act where failures are *forecast*, from its onset to its end where they are *detected*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import Flags, Floats
from ml.metrics import (
    Bin,
    Interval,
    average_precision,
    brier_skill,
    by_event,
    calibration_error,
    precision_recall,
    reliability,
)

Ints = NDArray[np.intp]
DAY_S = 86_400.0
FALSE_RATES = (0.1, 1.0, 5.0)  # false alarms per element and day at which recall is reported
THRESHOLDS = 120
SHARE_POINTS = 200  # of a curve that is kept


@dataclass(frozen=True, slots=True)
class Events:
    """``element``: index; times in seconds. An alarm between ``open_s`` and ``shut_s`` is in time; alarms until
    ``end_s`` are not false. ``onset_s`` is what leads are counted to (delays: from)."""

    element: Ints
    onset_s: Floats
    open_s: Floats
    shut_s: Floats
    end_s: Floats

    def __len__(self) -> int:
        return len(self.element)

    @staticmethod
    def forecast(element: Ints, onset_s: Floats, end_s: Floats, *, horizon_s: float, act_s: float) -> Events:
        """To be foretold at most ``horizon_s`` and at least ``act_s`` before the onset."""
        return Events(element, onset_s, onset_s - horizon_s, onset_s - act_s, end_s)

    @staticmethod
    def detected(element: Ints, onset_s: Floats, end_s: Floats) -> Events:
        """To be noticed between onset and end."""
        return Events(element, onset_s, onset_s, end_s, end_s)


@dataclass(frozen=True, slots=True)
class Rows:
    """``score``: a probability if ``calibrated``, otherwise any number that grows with the danger. ``baselines``:
    scores of simpler forecasts on the same rows. ``observed_s``: element-seconds that were watched."""

    data: str
    mode: str
    split: str
    time_s: Floats
    element: Ints
    score: Floats
    outcome: Floats
    events: Events
    observed_s: float
    merge_s: float  # alarms of one element closer than this are one alarm
    baselines: dict[str, Floats] = field(default_factory=dict)
    calibrated: bool = True
    detects: bool = False  # events are noticed while they last, not foretold
    target: float | None = None  # average precision to reach
    notes: str = ""
    rates: tuple[float, ...] = FALSE_RATES


@dataclass(frozen=True, slots=True)
class AtRate:
    """Alarms at the lowest threshold that gives at most ``allowed`` false alarms per element-day."""

    allowed: float
    threshold: float
    false_per_day: float
    recall: Interval  # of events, with an alarm in time
    lead_median_s: float  # of the events with an alarm in time; negative where events are noticed after their onset
    lead_p10_s: float
    level_recall: float  # of the baseline "level", at the same rate; nan without it


@dataclass(frozen=True, slots=True)
class Verdict:
    data: str
    mode: str
    split: str
    rows: int
    elements: int
    events: int
    element_days: float
    base_rate: float
    average_precision: Interval
    baselines: dict[str, float]  # average precision
    gain: Interval  # average precision over that of the baseline "level"
    brier_skill: Interval | None
    calibration_error: float | None
    at: list[AtRate]
    reliability: list[Bin]
    curve: list[tuple[float, float]]  # (recall, precision)
    level_curve: list[tuple[float, float]]
    recall_by_false: list[tuple[float, float]]  # (false alarms per element-day, recall)
    level_recall_by_false: list[tuple[float, float]]
    leads_s: list[float]  # at the middle rate
    detects: bool
    target: float | None
    notes: str


def judge(rows: Rows, *, repeats: int = 100) -> Verdict:
    """All measures of one data set, mode and split. Raises ValueError when the rows have no failure at all."""
    y, score = rows.outcome, rows.score
    if not len(y) or not y.any():
        raise ValueError(f"{rows.data}, {rows.mode}: no row in which the failure comes")
    cluster = clusters(rows)
    level = rows.baselines.get("level")

    def drawn(measure: Callable[[Floats | None], float]) -> Interval:
        return Interval(measure(None), *by_event(measure, cluster, repeats=repeats))

    precision = _ranked(score, y)
    ap, gain = drawn(precision), Interval(float("nan"), float("nan"), float("nan"))
    if level is not None:
        of_level = _ranked(level, y)
        gain = drawn(lambda w: precision(w) - of_level(w))
    alarms = Alarms.of(rows, score)
    other = Alarms.of(rows, level) if level is not None else None
    middle = alarms.at(rows.rates[len(rows.rates) // 2])
    return Verdict(
        rows.data,
        rows.mode,
        rows.split,
        len(y),
        len(np.unique(rows.element)),
        len(rows.events),
        rows.observed_s / DAY_S,
        float(y.mean()),
        ap,
        {name: average_precision(value, y) for name, value in rows.baselines.items()},
        gain,
        drawn(lambda w: brier_skill(score, y, w)) if rows.calibrated else None,
        calibration_error(score, y) if rows.calibrated else None,
        [_at(rate, alarms, other, rows.events, repeats) for rate in rows.rates],
        reliability(score, y) if rows.calibrated else [],
        _thin(precision_recall(score, y)),
        _thin(precision_recall(level, y)) if level is not None else [],
        alarms.curve(),
        other.curve() if other is not None else [],
        alarms.leads(middle)[np.isfinite(alarms.leads(middle))].tolist() if middle is not None else [],
        rows.detects,
        rows.target,
        rows.notes,
    )


def clusters(rows: Rows) -> Ints:
    """Which event each row belongs to: the nearest one of its element; rows of an element without events are one
    group. Groups, not rows, are drawn anew for intervals."""
    found = np.zeros(len(rows.time_s), dtype=np.intp)
    count = 0
    order = np.argsort(rows.element, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(rows.element[order])) + 1):
        own = np.sort(rows.events.onset_s[rows.events.element == rows.element[part[0]]])
        found[part] = count + np.searchsorted((own[1:] + own[:-1]) / 2.0, rows.time_s[part])
        count += max(len(own), 1)
    return found


def explained(element: Ints, time_s: Floats, events: Events) -> Flags:
    """Which rows lie between the first useful moment before an event and its end; rows sorted by element and time."""
    change = np.zeros(len(time_s) + 1, dtype=np.int64)
    starts = np.searchsorted(element, events.element, side="left")
    ends = np.searchsorted(element, events.element, side="right")
    for i, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        change[a + np.searchsorted(time_s[a:b], events.open_s[i])] += 1
        change[a + np.searchsorted(time_s[a:b], events.end_s[i], side="right")] -= 1
    return np.cumsum(change[:-1]) > 0


def highest(element: Ints, span: Floats, value: Floats) -> Floats:
    """Highest value of each (element, span); rows sorted by both."""
    if not len(value):
        return np.empty(0)
    new = np.append(True, (np.diff(element) != 0) | (np.diff(span) != 0))
    most: Floats = np.maximum.reduceat(value, np.flatnonzero(new))
    return most


@dataclass(frozen=True, slots=True)
class Alarms:
    """Alarms of a score at many thresholds: rows sorted by element and time.

    False alarms are counted as spans of ``merge_s`` with an alarm that no event explains: a short alarm counts once,
    one that stays up for hours counts again and again.
    """

    rows: Rows
    element: Ints
    time_s: Floats
    score: Floats
    spans: Floats  # highest unexplained score of each span, ascending
    thresholds: Floats  # falling
    false_per_day: Floats
    recall: Floats

    @staticmethod
    def of(rows: Rows, score: Floats) -> Alarms:
        order = np.lexsort((rows.time_s, rows.element))
        element, time, value = rows.element[order], rows.time_s[order], score[order]
        unexplained = ~explained(element, time, rows.events)
        span = np.floor(time[unexplained] / rows.merge_s)
        spans = np.sort(highest(element[unexplained], span, value[unexplained]))
        ranked = np.sort(value)[::-1]
        ranks = np.unique(np.geomspace(1, len(ranked), THRESHOLDS).astype(int)) - 1
        limits = np.unique(np.concatenate((ranked[ranks], spans[:: max(len(spans) // THRESHOLDS, 1)])))[::-1]
        false = (len(spans) - np.searchsorted(spans, limits)) / max(rows.observed_s / DAY_S, 1e-12)
        found = Alarms(rows, element, time, value, spans, limits, false, np.empty(0))
        recall = [np.isfinite(found.leads(limit)).mean() if len(rows.events) else np.nan for limit in limits]
        return replace(found, recall=np.array(recall))

    def at(self, allowed: float) -> float | None:
        """The lowest threshold with at most so many false alarms per element-day."""
        fits = np.flatnonzero(self.false_per_day <= allowed)
        return float(self.thresholds[fits[-1]]) if len(fits) else None

    def leads(self, threshold: float) -> Floats:
        """Per event: seconds from the first alarm in time to the onset; nan without one."""
        high = np.flatnonzero(self.score >= threshold)
        events = self.rows.events
        found = np.full(len(events), np.nan)
        element, time = self.element[high], self.time_s[high]
        starts = np.searchsorted(element, events.element, side="left")
        ends = np.searchsorted(element, events.element, side="right")
        for i, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            k = a + int(np.searchsorted(time[a:b], events.open_s[i]))
            if k < b and time[k] <= events.shut_s[i]:
                found[i] = events.onset_s[i] - time[k]
        return found

    def curve(self) -> list[tuple[float, float]]:
        return list(zip(self.false_per_day.tolist(), self.recall.tolist(), strict=True))


def _at(allowed: float, alarms: Alarms, level: Alarms | None, events: Events, repeats: int) -> AtRate:
    threshold = alarms.at(allowed)
    nan = float("nan")
    other = nan
    if level is not None and len(events):
        limit = level.at(allowed)
        other = 0.0 if limit is None else float(np.isfinite(level.leads(limit)).mean())
    if threshold is None or not len(events):
        return AtRate(allowed, nan, nan, Interval(0.0, 0.0, 0.0), nan, nan, other)
    leads = alarms.leads(threshold)
    caught = np.isfinite(leads)
    draws = np.random.default_rng(1).integers(0, len(leads), (max(repeats, 1), len(leads)))
    low, high = np.quantile(caught[draws].mean(axis=1), [0.05, 0.95])
    known = leads[caught] if caught.any() else np.array([nan])
    place = int(np.argmin(np.abs(alarms.thresholds - threshold)))
    return AtRate(
        allowed,
        threshold,
        float(alarms.false_per_day[place]),
        Interval(float(caught.mean()), float(low), float(high)),
        float(np.median(known)),
        float(np.quantile(known, 0.1)),
        other,
    )


def _ranked(score: Floats, outcome: Floats) -> Callable[[Floats | None], float]:
    """Average precision by weight per row; the rows are sorted once."""
    order = np.argsort(-score, kind="stable")
    ranked, came = score[order], outcome[order]
    return lambda weight: average_precision(ranked, came, None if weight is None else weight[order])


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve's points at evenly spaced recalls."""
    recall = np.array([point[0] for point in points])
    wanted = np.searchsorted(recall, np.linspace(0.0, 1.0, SHARE_POINTS))
    return [points[i] for i in np.unique(np.minimum(wanted, len(points) - 1)).tolist()]
