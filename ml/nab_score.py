"""The score of the Numenta Anomaly Benchmark, written anew from its definition.

A. Lavin, S. Ahmad, Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark, ICMLA 2015
(and its weights of version 1.1): a labelled window earns up to 1 for its *first* detection, the more the earlier
(a sigmoid over the window); each detection outside costs up to ``false``, less just after a window; a window
without detection costs ``missed``. The first 15 % of each series, 750 samples at most, do not count. One threshold
for the whole corpus, the best one for each profile. The sum is scaled so that no detections at all give 0 and
perfect ones 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml.datasets.nab import Series, inside
from ml.estimators.base import Floats

PROBATION, PROBATION_ROWS = 0.15, 5000  # share of a series, and of at most this many samples
STEEP = 5.0  # of the sigmoid
FAR = 3.0  # window widths after a window from which a false detection costs in full


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    false: float  # cost of a detection outside
    missed: float  # cost of a window without detection


PROFILES = (Profile("standard", 0.11, 1.0), Profile("reward_low_FP", 0.22, 1.0), Profile("reward_low_FN", 0.11, 2.0))

# Published on all 58 series with the same rules (scoreboard in the README of github.com/numenta/NAB, as stored copies
# have it): standard profile, few false positives rewarded, few false negatives rewarded. HTM is given as a range
# (70.5 to 69.7, 62.6 to 61.7, 75.2 to 74.2), here its middle.
PUBLISHED: dict[str, tuple[float, float, float]] = {
    "ARTime": (74.9, 65.1, 80.4),
    "Numenta HTM": (70.1, 62.2, 74.7),
    "CAD OSE": (69.9, 67.0, 73.2),
    "earthgecko Skyline": (58.2, 46.2, 63.9),
    "KNN CAD": (58.0, 43.4, 64.8),
    "Relative Entropy": (54.6, 47.6, 58.8),
    "Random Cut Forest": (51.7, 38.4, 59.7),
    "Twitter ADVec": (47.1, 33.6, 53.5),
    "Windowed Gaussian": (39.6, 20.9, 47.4),
    "Etsy Skyline": (35.7, 27.1, 44.5),
    "Bayesian Changepoint": (17.7, 3.2, 32.2),
    "EXPoSE": (16.4, 3.2, 26.9),
    "Random": (11.0, 1.2, 19.5),
    "Null": (0.0, 0.0, 0.0),
}


def sigmoid(position: Floats) -> Floats:
    """Worth of a detection at a position: -1 first sample of a window, 0 its end, beyond it is false.

    >>> sigmoid(np.array([-1.0, 0.0, 1.0, 3.0])).round(3).tolist()
    [0.987, 0.0, -0.987, -1.0]
    """
    worth: Floats = 2.0 / (1.0 + np.exp(STEEP * np.minimum(position, 10.0))) - 1.0
    return np.where(position >= FAR, -1.0, worth)


def probation(count: int) -> int:
    """How many samples at the start do not count.

    >>> probation(1000), probation(20_000)
    (150, 750)
    """
    return int(min(PROBATION * count, PROBATION * PROBATION_ROWS))


@dataclass(frozen=True, slots=True)
class Worth:
    """``window``: number of the window of each sample, -1 outside; ``value``: what a detection there is worth (before
    the cost of a false one); ``counts``: not on probation."""

    window: np.ndarray[tuple[int], np.dtype[np.intp]]
    value: Floats
    counts: np.ndarray[tuple[int], np.dtype[np.bool_]]


def worth(item: Series) -> Worth:
    """What a detection at each sample is worth."""
    count = len(item.time_s)
    place = np.arange(count, dtype=np.float64)
    window = np.full(count, -1, dtype=np.intp)
    position = np.full(count, FAR)
    for k, (first, last) in enumerate(item.windows):
        width = last - first + 1
        window[first : last + 1] = k
        after = slice(last + 1, count)
        position[after] = (place[after] - last) / max(width - 1, 1)
        position[first : last + 1] = -(last - place[first : last + 1] + 1) / width
    value = sigmoid(position)
    value[window >= 0] /= sigmoid(np.array([-1.0]))[0]
    return Worth(window, value, np.arange(count) >= probation(count))


@dataclass(frozen=True, slots=True)
class Score:
    profile: str
    score: float  # 0: as no detections, 100: perfect
    threshold: float
    windows: int
    found: int
    false: int  # samples above the threshold outside of windows


def score(corpus: Sequence[Series], anomaly: Sequence[Floats], profile: Profile) -> Score:
    """The best score over all thresholds; ``anomaly`` is one value per sample of each series, more is odder."""
    return _sweep(corpus, anomaly, profile, None)


def score_at(corpus: Sequence[Series], anomaly: Sequence[Floats], profile: Profile, threshold: float) -> Score:
    """The score at a given threshold: samples of at least that value are detections."""
    return _sweep(corpus, anomaly, profile, threshold)


def _sweep(corpus: Sequence[Series], anomaly: Sequence[Floats], profile: Profile, fixed: float | None) -> Score:
    levels, changes, news, outs = [], [], [], []
    windows = sum(len(item.windows) for item in corpus)
    for item, odd in zip(corpus, anomaly, strict=True):
        if len(odd) != len(item.time_s):
            raise ValueError(f"{item.name}: {len(odd)} scores for {len(item.time_s)} samples")
        found = worth(item)
        outside = found.counts & ~inside(item)
        levels.append(odd[outside])
        changes.append(found.value[outside] * profile.false)
        news.append(np.zeros(int(outside.sum())))
        outs.append(np.ones(int(outside.sum())))
        for k in range(len(item.windows)):
            own = (found.window == k) & found.counts
            level, value = odd[own], found.value[own]
            order = np.argsort(-level, kind="stable")
            gain = np.diff(np.maximum.accumulate(value[order]), prepend=-profile.missed)
            levels.append(level[order])
            changes.append(gain)
            news.append((np.arange(len(order)) == 0).astype(np.float64))
            outs.append(np.zeros(len(order)))
    level, change = np.concatenate(levels), np.concatenate(changes)
    order = np.argsort(-level, kind="stable")
    total = -profile.missed * windows + np.cumsum(change[order])
    found_windows, false = np.cumsum(np.concatenate(news)[order]), np.cumsum(np.concatenate(outs)[order])
    last = np.append(np.diff(level[order]) != 0.0, True)  # samples of equal value come together
    total, at = np.append(-profile.missed * windows, total[last]), np.append(np.inf, level[order][last])
    hits, wrong = np.append(0.0, found_windows[last]), np.append(0.0, false[last])
    best = int(np.argmax(total)) if fixed is None else int((at >= fixed).sum()) - 1
    scale = (1.0 + profile.missed) * windows
    value = 100.0 * float(total[best] + profile.missed * windows) / scale if windows else 0.0
    return Score(profile.name, value, float(at[best]), windows, int(hits[best]), int(wrong[best]))
