"""Microwave links in rain: will a deep fade begin within the next minutes?

Data: a table ``link,channel,time (epoch s),tx_dbm,rx_dbm`` (gzip or plain), about one sample a minute, as in
pycomlink's example data (BSD-3).

What is forecast, for a channel that is not in a fade: its attenuation exceeds its dry level by :data:`FADE_DB`
within :data:`AHEAD` minutes. The dry level that *defines* this is the channel's median over the whole record;
features know only the past. This definition is older than the models that are judged by it.
An *event* is a fade that begins at least :data:`AHEAD` minutes after the one before ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ml.datasets.cml_features import FADE_DB, MONOTONE, NAMES, build
from ml.datasets.errors import DataError
from ml.datasets.reading import columns, find, number, opened, rows
from ml.estimators.base import Flags, Floats
from ml.evaluate_rows import Events, Rows

AHEAD = 10  # minutes
ACT_S = 60.0  # an alarm later than this before the onset comes too late
TX_RANGE, RX_RANGE = (-20.0, 50.0), (-95.0, 0.0)  # dBm; -99 and 99.9 stand for missing
MOST_CELLS = 60_000_000  # minutes x channels
FOLDS, BLOCKS, BLOCK_MINUTES, EMBARGO_MINUTES, SEGMENTS = 5, 4, 240, 60, 6
QUIET_DB, QUIET_EVERY = 2.0, 5  # of the rows with nothing above this anywhere, one in so many is learned from
SEEDS = (1, 2, 3)
ROUNDS = 200
# What the trees start from: a line through what matters most. Trees alone, with few fades to learn from, do not
# even rank by the level as well as the level does.
STRAIGHT = ("excess", "mean_3", "highest_5", "other_now", "ahead_5", "travel_30", "room_10", "near_scaled_5", "near_5",
            "share_3")  # fmt: skip
STRAIGHT_RANGE = (-20.0, 40.0)  # dB
# What the channel itself says, with next to nothing to be learned: better than the trees after few fades.
OWN = ("excess", "mean_3", "highest_5")
HALF_TRUSTED = 100  # fades after which trees and the channel's own line count the same
SETTINGS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 4,
    "min_data_in_leaf": 300,
    "lambda_l2": 20.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "monotone_constraints": MONOTONE,
    "num_threads": 1,  # threads that wait for a busy core cost minutes
    "verbosity": -1,
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Channels:
    """``link``: which link each channel belongs to; ``attenuation``: dB, (minutes, channels), nan where missing;
    ``first_s``: epoch of the first minute."""

    link: NDArray[np.str_]
    attenuation: Floats
    first_s: float = 0.0


def load(path: Path) -> Channels:
    """Read one table, or all tables (``*.csv``, ``*.csv.gz``) of a folder side by side.

    Without a plausible transmit level, the received one alone is used (level changes are the same). Samples of one
    minute are averaged; a minute without one is a gap.
    """
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    paths = find(path, "*.csv", "*.csv.gz")
    for one in paths:
        with opened(one) as text:
            lines = rows(one, text)
            _, header = next(lines, (1, []))
            at = columns(one, header, ("link", "time", "rx_dbm"))
            channel = header.index("channel") if "channel" in header else None
            sent = header.index("tx_dbm") if "tx_dbm" in header else None
            for line, row in lines:
                if len(row) < len(header):
                    raise DataError(f"{one}:{line}: {len(row)} cells where the header has {len(header)}")
                time = number(one, line, row[at[1]], "time")
                if not 0.0 <= time < 1e11:  # nan too
                    raise DataError(f"{one}:{line}: time {row[at[1]][:40]!r} is no epoch in seconds")
                tx = number(one, line, row[sent], "tx_dbm") if sent is not None else float("nan")
                prefix = f"{one.name}:" if len(paths) > 1 else ""
                key = (prefix + row[at[0]], row[channel] if channel is not None else "")
                found.setdefault(key, []).append((time, tx, number(one, line, row[at[2]], "rx_dbm")))
    if not found:
        raise DataError(f"{path}: empty")
    first = min(item[0] for part in found.values() for item in part)
    last = max(item[0] for part in found.values() for item in part)
    minutes = int((last - first) // 60) + 1
    if minutes * len(found) > MOST_CELLS:
        raise DataError(f"{path}: {minutes:,} minutes of {len(found):,} channels are too many; cut the record")
    attenuation = np.full((minutes, len(found)), np.nan)
    for k, part in enumerate(found.values()):
        time_s, tx_dbm, rx_dbm = np.array(part).T
        plausible = (tx_dbm > TX_RANGE[0]) & (tx_dbm < TX_RANGE[1])
        tx_dbm = np.where(plausible, tx_dbm, np.nan) if plausible.mean() > 0.5 else np.zeros(len(tx_dbm))
        value = tx_dbm - np.where((rx_dbm > RX_RANGE[0]) & (rx_dbm < RX_RANGE[1]), rx_dbm, np.nan)
        there = ~np.isnan(value)
        place = ((time_s[there] - first) // 60).astype(int)
        number_of = np.bincount(place, minlength=minutes)
        with np.errstate(invalid="ignore"):
            attenuation[:, k] = np.bincount(place, value[there], minlength=minutes) / np.where(
                number_of, number_of, np.nan
            )
    return Channels(np.array([link for link, _ in found]), attenuation, first)


def labels(channels: Channels) -> tuple[Flags, Floats]:
    """(known and not in a fade now, fade within :data:`AHEAD` minutes), both (minutes, channels)."""
    excess = _excess(channels)
    minutes = len(excess)
    coming = np.full(excess.shape, np.nan)
    for k in range(1, min(AHEAD, minutes - 1) + 1):
        coming[: minutes - k] = np.fmax(coming[: minutes - k], excess[k:])
    known = ~np.isnan(excess) & (excess < FADE_DB) & ~np.isnan(coming)
    known[max(minutes - AHEAD, 0) :] = False
    return known, (coming >= FADE_DB).astype(np.float64)


def _excess(channels: Channels) -> Floats:
    there = ~np.isnan(channels.attenuation).all(axis=0)
    dry = np.full(channels.attenuation.shape[1], np.nan)
    if there.any():
        dry[there] = np.nanmedian(channels.attenuation[:, there], axis=0)
    excess: Floats = channels.attenuation - dry
    return excess


def fades(channels: Channels) -> tuple[NDArray[np.intp], Floats, Floats]:
    """(channel, first minute, last minute) of each event."""
    found = []
    for k, column in enumerate(_excess(channels).T):
        deep = np.flatnonzero(column >= FADE_DB)
        if len(deep):
            new = np.flatnonzero(np.append(True, np.diff(deep) > AHEAD))
            ends = np.append(new[1:], len(deep)) - 1
            found += [(k, deep[a], deep[b]) for a, b in zip(new, ends, strict=True)]
    table = np.array(found, dtype=np.float64).reshape(-1, 3)
    return table[:, 0].astype(np.intp), table[:, 1], table[:, 2]


@dataclass(frozen=True, slots=True)
class Split:
    name: str
    parts: list[tuple[Flags, Flags]]  # (train, test), each (minutes, channels)
    target: float | None
    notes: str


def splits(channels: Channels, known: Flags, coming: Floats) -> Iterator[Split]:
    """By link, by link and hours, by time; parts without a fade to learn from are left out."""
    links, place = np.unique(channels.link, return_inverse=True)
    minutes = len(known)
    folds = min(FOLDS, len(links))
    fold = np.random.default_rng(7).permutation(len(links))[place] % max(folds, 1)
    block = np.arange(minutes) // BLOCK_MINUTES % BLOCKS

    def usable(parts: list[tuple[Flags, Flags]]) -> list[tuple[Flags, Flags]]:
        return [(a, b) for a, b in parts if coming[a].any() and b.any()]

    if folds > 1:
        other = [(known & (fold != k), known & (fold == k)) for k in range(folds)]
        yield Split(
            "by link",
            usable(other),
            0.40,
            "Other links of the same hours are learned from, so what the rain did in these very hours is known.",
        )
        parts = []
        for k in range(BLOCKS):
            own = block == k
            near = np.convolve(own, np.ones(2 * EMBARGO_MINUTES + 1), "full")[EMBARGO_MINUTES:][:minutes] > 0
            parts += [(train & ~near[:, None], test & own[:, None]) for train, test in other]
        yield Split("by link and hours", usable(parts), None, "Neither the link nor these hours were learned from.")
    edges = np.linspace(0, minutes, SEGMENTS + 1).astype(int)
    parts = []
    at = np.arange(minutes)[:, None]
    for start, end in pairwise(edges[1:].tolist()):
        parts.append((known & (at < start - EMBARGO_MINUTES), known & (at >= start) & (at < end)))
    yield Split("by time", usable(parts), None, "Learned from all that was before; the first rain is seen by none.")


def forecasts(x: Floats, coming: Floats, parts: list[tuple[Flags, Flags]], say: Say) -> tuple[Floats, Floats]:
    """(probability, share of fades at this hour of the day in the training rows), nan where not judged."""
    probability, clock = np.full(coming.shape, np.nan), np.full(coming.shape, np.nan)
    hour = np.broadcast_to((np.arange(len(coming)) // 60 % 24)[:, None], coming.shape)
    wet = np.fmax(x[..., NAMES.index("highest_30")], x[..., NAMES.index("net_upper")]) > QUIET_DB
    kept = wet | (coming > 0) | (np.arange(coming.size).reshape(coming.shape) % QUIET_EVERY == 0)
    weight = np.where(wet | (coming > 0), 1.0, QUIET_EVERY)
    for k, (train, test) in enumerate(parts):
        say(f"part {k + 1} of {len(parts)}: {int(train.sum()):,} rows learned, {int(test.sum()):,} judged")
        rare = train & kept
        probability[test] = _fitted(x[rare], coming[rare], weight[rare], x[test])
        came = np.bincount(hour[train], coming[train], minlength=24)
        clock[test] = (came / np.maximum(np.bincount(hour[train], minlength=24), 1))[hour[test]]
    return probability, clock


def _fitted(x: Floats, y: Floats, weight: Floats, asked: Floats) -> Floats:
    """Learn from ``x``, ``y`` and say the probabilities of ``asked``: a logistic line, and trees on what it leaves,
    shrunk towards a line through the channel's own level as far as there were few fades to learn from."""
    start, asked_start = _line(STRAIGHT, x, y, weight, asked)
    found = np.zeros(len(asked))
    for seed in SEEDS:
        data = lightgbm.Dataset(x, y, weight=weight, init_score=start)
        model = lightgbm.train({**SETTINGS, "seed": seed}, data, ROUNDS)
        raw = np.asarray(model.predict(asked, raw_score=True, num_threads=1), dtype=np.float64)
        found += expit(raw + asked_start) / len(SEEDS)
    _, plain = _line(OWN, x, y, weight, asked)
    fades_seen = y.sum() / AHEAD  # each one is foretold by as many rows
    trust = fades_seen / (fades_seen + HALF_TRUSTED)
    result: Floats = trust * found + (1.0 - trust) * expit(plain)
    return result


def _line(features: Sequence[str], x: Floats, y: Floats, weight: Floats, asked: Floats) -> tuple[Floats, Floats]:
    """Log odds of a logistic line: (of the rows learned from, of those asked)."""
    places = [NAMES.index(name) for name in features]

    def table(rows: Floats) -> Floats:
        return np.clip(np.nan_to_num(rows[:, places]), *STRAIGHT_RANGE)

    line = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
    line.fit(table(x), y, logisticregression__sample_weight=weight)
    return line.decision_function(table(x)), line.decision_function(table(asked))


def evaluate(path: Path, say: Say = lambda _: None) -> list[Rows]:
    """Forecasts on links and hours that were not learned from, a list entry per split."""
    channels = load(path)
    known, coming = labels(channels)
    if not coming[known].any():
        raise DataError(f"{path}: no fade of {FADE_DB:g} dB in {len(known):,} minutes of {known.shape[1]} channels")
    say(f"{len(set(channels.link.tolist()))} links, {known.shape[1]} channels, {len(known):,} minutes")
    x = build(channels.link, channels.attenuation)
    channel, first, last = fades(channels)
    found = []
    for split in splits(channels, known, coming):
        if not split.parts:
            continue
        probability, clock = forecasts(x, coming, split.parts, partial(_say, say, split.name))
        judged = ~np.isnan(probability)
        minute, element = np.nonzero(judged)
        before = _judged_before(judged, channel, first)
        events = Events.forecast(
            channel[before],
            channels.first_s + 60.0 * first[before],
            channels.first_s + 60.0 * (last[before] + 1.0),
            horizon_s=60.0 * AHEAD,
            act_s=ACT_S,
        )
        base = np.full(len(minute), float(coming[judged].mean()))
        baselines = {
            "level": np.nan_to_num(x[..., NAMES.index("excess")][judged]),
            "persistence": np.nan_to_num(x[..., NAMES.index("highest_15")][judged]),
            "base rate": base,
            "clock only": clock[judged],
        }
        found.append(
            Rows(
                "microwave links",
                f"fade of {FADE_DB:g} dB within {AHEAD} min",
                split.name,
                channels.first_s + 60.0 * minute.astype(np.float64),
                element,
                probability[judged],
                coming[judged],
                events,
                60.0 * len(minute),
                60.0 * AHEAD,
                baselines,
                target=split.target,
                notes=split.notes,
            )
        )
    if not any(rows.outcome.any() for rows in found):
        raise DataError(f"{path}: too few links and fades to judge forecasts")
    return [rows for rows in found if rows.outcome.any()]


def _say(say: Say, name: str, text: str) -> None:
    say(f"{name}: {text}")


def _judged_before(judged: Flags, channel: NDArray[np.intp], first: Floats) -> Flags:
    """Which events have a judged minute early enough before them."""
    total = np.vstack((np.zeros((1, judged.shape[1])), np.cumsum(judged, axis=0)))
    start = np.maximum(first.astype(int) - AHEAD, 0)
    return np.asarray(total[np.maximum(first.astype(int), 0), channel] > total[start, channel])
