"""Microwave links in rain: will a deep fade begin within the next minutes?

Data: pycomlink's example data (BSD-3), columns ``link, channel, time (epoch s), tx_dbm, rx_dbm``, about one sample
a minute. What is forecast for a channel that is not in a fade: its attenuation exceeds its dry level by
:data:`FADE_DB` within :data:`AHEAD` minutes.

The dry level that *defines* the event is the channel's median over the whole record; features know only the past
(a running baseline). Rain moves, so the state of the other links is a feature too; no feature knows the clock.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from ml.datasets.errors import DataError
from ml.estimators import RobustLevel, Trend, Variance
from ml.estimators.base import Flags, Floats
from ml.metrics import Interval, average_precision, brier_skill, by_event, calibration_error

FADE_DB = 10.0
AHEAD = 10  # minutes
TX_RANGE, RX_RANGE = (-20.0, 50.0), (-95.0, 0.0)  # dBm; -99 and 99.9 stand for missing
FEATURES = (
    "excess_db",  # over the running baseline
    "excess_quick_db",
    "excess_slow_db",
    "slope_quick_db_min",
    "slope_slow_db_min",
    "sigma_5_db",
    "sigma_20_db",
    "highest_10_db",
    "lowest_10_db",
    "since_highest_min",
    "other_channel_db",
    "others_mean_db",
    "others_upper_db",  # 90 % quantile
    "others_mean_slope",
    "others_upper_slope",
    "others_fading",  # share of links beyond 3 dB
)


@dataclass(frozen=True, slots=True)
class Channels:
    """``link``: which link each channel belongs to; ``attenuation``: dB, (minutes, channels), nan where missing."""

    link: np.ndarray[tuple[int], np.dtype[np.str_]]
    attenuation: Floats


def load(path: Path) -> Channels:
    """Read the table. Without a plausible transmit level, the received one alone is used (level changes the same)."""
    columns: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    try:
        with gzip.open(path, "rt", newline="") as file:
            for row in csv.DictReader(file):
                reading = (float(row["time"]), float(row["tx_dbm"] or "nan"), float(row["rx_dbm"] or "nan"))
                columns.setdefault((row["link"], row["channel"]), []).append(reading)
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not the expected table ({type(error).__name__}: {error})") from error
    if not columns:
        raise DataError(f"{path}: empty")
    every = np.array([item[0] for rows in columns.values() for item in rows])
    first, minutes = every.min(), int((every.max() - every.min()) // 60) + 1
    attenuation = np.full((minutes, len(columns)), np.nan)
    for k, rows in enumerate(columns.values()):
        time, tx, rx = np.array(rows).T
        sent = (tx > TX_RANGE[0]) & (tx < TX_RANGE[1])
        tx = np.where(sent, tx, np.nan) if sent.mean() > 0.5 else np.zeros(len(tx))
        rx = np.where((rx > RX_RANGE[0]) & (rx < RX_RANGE[1]), rx, np.nan)
        attenuation[((time - first) // 60).astype(int), k] = tx - rx
    return Channels(np.array([link for link, _ in columns]), attenuation)


def labels(channels: Channels) -> tuple[Flags, Floats]:
    """(known and not in a fade now, fade within :data:`AHEAD` minutes), both (minutes, channels)."""
    excess = channels.attenuation - np.nanmedian(channels.attenuation, axis=0)
    minutes = len(excess)
    coming = np.full(excess.shape, np.nan)
    for k in range(1, AHEAD + 1):
        coming[: minutes - k] = np.fmax(coming[: minutes - k], excess[k:])
    known = ~np.isnan(excess) & (excess < FADE_DB) & ~np.isnan(coming)
    known[minutes - AHEAD :] = False
    return known, (coming >= FADE_DB).astype(np.float64)


def features(channels: Channels) -> Floats:
    """Features from the past only, (minutes, channels, features); nan where unknown."""
    minutes, count = channels.attenuation.shape
    base = RobustLevel(count, tau=360.0)
    trend = Trend(count, 2, tau=[3.0, 10.0])
    spread = Variance(count, 2, tau=[5.0, 20.0])
    x = np.full((minutes, count, len(FEATURES)), np.nan)
    recent = np.full((10, count), np.nan)
    for i, value in enumerate(channels.attenuation):
        column = value[:, None]
        base.learn_many(slice(None), float(i), column)
        trend.learn_many(slice(None), float(i), np.repeat(column, 2, axis=1))
        spread.learn_many(slice(None), float(i), np.repeat(column, 2, axis=1))
        dry = base.score_many().level[:, 0]
        line, scatter = trend.score_many(), np.sqrt(spread.score_many().variance)
        recent[i % 10] = value
        excess = value - dry
        level = line.level - dry[:, None]
        x[i, :, 0:3] = np.column_stack((excess, level))
        x[i, :, 3:5], x[i, :, 5:7] = line.slope, scatter
        with np.errstate(invalid="ignore"):
            high, low = np.fmax.reduce(recent) - dry, np.fmin.reduce(recent) - dry
        x[i, :, 7], x[i, :, 8] = high, low
        age = (i - np.arange(10)) % 10
        order = np.where(recent - dry >= high, age[:, None], 99)
        x[i, :, 9] = np.where(np.isnan(high), np.nan, order.min(axis=0))
        x[i, :, 10] = _other_channel(channels.link, level[:, 0])
        if not np.isnan(level[:, 0]).all():
            x[i, :, 11] = np.nanmean(level[:, 0])
            x[i, :, 12] = np.nanquantile(level[:, 0], 0.9)
            x[i, :, 13] = np.nanmean(line.slope[:, 1])
            x[i, :, 14] = np.nanquantile(line.slope[:, 1], 0.9)
            x[i, :, 15] = np.nanmean(level[:, 0] > 3.0)
    return x


def _other_channel(link: np.ndarray[tuple[int], np.dtype[np.str_]], level: Floats) -> Floats:
    """Mean level of the same link's other channels."""
    _, place = np.unique(link, return_inverse=True)
    known = ~np.isnan(level)
    total = np.bincount(place, np.where(known, level, 0.0))[place] - np.where(known, level, 0.0)
    number = np.bincount(place, known)[place] - known
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = total / number
    return result


@dataclass(frozen=True, slots=True)
class Report:
    split: str
    rows: int
    base_rate: float
    average_precision: Interval
    level: float  # average precision of the current excess attenuation
    persistence: float  # of "as it changed over the last minutes": the slope
    brier_skill: float
    calibration_error: float


def _model(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=80,
        l2_regularization=1.0,
        random_state=seed,
    )


def evaluate(path: Path, *, folds: int = 5, repeats: int = 60) -> list[Report]:
    """Two splits: by link (all times), and by link and time (train on the first half of the record, test on other
    links in the second half, with an hour between)."""
    channels = load(path)
    known, coming = labels(channels)
    x = features(channels)
    links, place = np.unique(channels.link, return_inverse=True)
    fold = np.random.default_rng(7).permutation(len(links))[place] % folds
    minute = np.broadcast_to(np.arange(len(known))[:, None], known.shape)
    group = np.broadcast_to(fold, known.shape)
    half = len(known) // 2
    found = []
    for split, train_time, test_time in (
        ("by link", minute >= 0, minute >= 0),
        ("by link and time", minute < half - 60, minute >= half),
    ):
        p = np.full(known.shape, np.nan)
        for k in range(folds):
            train = known & (group != k) & train_time
            test = known & (group == k) & test_time
            if not coming[train].any() or not test.any():
                continue
            with threadpool_limits(limits=1, user_api="openmp"):  # threads that wait for a busy core cost minutes
                model = _model(k).fit(x[train], coming[train])
                p[test] = model.predict_proba(x[test])[:, 1]
        judged = ~np.isnan(p)
        y, score = coming[judged], p[judged]
        runs = np.broadcast_to(place, known.shape)[judged]
        ap = Interval(
            average_precision(score, y),
            *by_event(lambda w, s=score, o=y: average_precision(s, o, w), runs, repeats=repeats),  # type: ignore[misc]
        )
        excess, slope = x[..., 0][judged], x[..., 4][judged]
        found.append(
            Report(
                split,
                len(y),
                float(y.mean()),
                ap,
                average_precision(np.nan_to_num(excess), y),
                average_precision(np.nan_to_num(slope), y),
                brier_skill(score, y),
                calibration_error(score, y),
            )
        )
    return found


def text(reports: Sequence[Report]) -> str:
    """For people."""
    return "\n".join(
        f"microwave links, {AHEAD} min ahead, {r.split}: {r.rows:,} rows, base rate {r.base_rate:.3f}; "
        f"average precision {r.average_precision.value:.3f} "
        f"[{r.average_precision.low:.3f}, {r.average_precision.high:.3f}], level {r.level:.3f}, "
        f"persistence {r.persistence:.3f}; Brier skill {r.brier_skill:.3f}, "
        f"calibration error {r.calibration_error:.4f}"
        for r in reports
    )
