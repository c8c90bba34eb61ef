"""Is the network still the one that the models were trained on, and do probabilities still come true?

* **Features**: the population stability index of each feature of suspicious elements against training's deciles,
  ``sum (share - share') ln(share / share')``; by custom more than 0.25 means a different population [1].
* **Calibration**: outcomes against what was said, per mode; more failures (or fewer) than chance explains.

[1] N. Siddiqi, Credit Risk Scorecards, 2006, chapter 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from ml.estimators.base import Floats
from ml.features import Feature
from ml.schema import Mode

MOVED = 0.25
FEWEST_ROWS = 1_000
FEWEST_OUTCOMES = 30
SURPRISE = 3.0  # standard errors
LEAST = 1e-3  # share of a bin, so that empty ones stay finite
FADING = 0.9999  # what a row's weight loses with each later one


def reference(x: Floats, weight: Floats, features: Sequence[Feature], bins: int = 8) -> dict[str, Any]:
    """What training saw: inner borders and shares of each feature's bins; features that hardly move have none."""
    found: dict[str, Any] = {}
    for k, feature in enumerate(features):
        order = np.argsort(x[:, k], kind="stable")
        share = np.cumsum(weight[order]) / weight.sum()
        at = np.searchsorted(share, np.arange(1, bins) / bins).clip(0, len(order) - 1)
        edges = np.unique(np.round(x[order[at], k], 4))
        if len(edges) < 2:
            continue
        counts = np.bincount(np.searchsorted(edges, x[:, k]), weights=weight, minlength=len(edges) + 1)
        found[feature.name] = {
            "edges": edges.tolist(),
            "shares": [round(float(v), 5) for v in counts / counts.sum()],
        }
    return found


def psi(shares: Floats, expected: Floats) -> float:
    """Population stability index.

    >>> even = np.array([0.5, 0.5])
    >>> round(psi(even, even), 3), round(psi(np.array([0.9, 0.1]), even), 3)
    (0.0, 0.879)
    """
    a, b = np.maximum(shares, LEAST), np.maximum(expected, LEAST)
    return float(((a - b) * np.log(a / b)).sum())


class FeatureDrift:
    """Live features of one mode against training's."""

    def __init__(self, features: Sequence[Feature], known: Mapping[str, Any]) -> None:
        names = [f.name for f in features]
        self.watched = [(names.index(name), name) for name in known if name in names]
        self.edges = [np.array(known[name]["edges"], dtype=np.float64) for _, name in self.watched]
        self.expected = [np.array(known[name]["shares"], dtype=np.float64) for _, name in self.watched]
        self.counts = [np.zeros(len(shares)) for shares in self.expected]
        self.rows = 0.0

    def learn(self, x: Floats) -> None:
        """Take in the features of some rows."""
        if not len(x):
            return
        fade = FADING ** len(x)
        self.rows = self.rows * fade + len(x)
        for (k, _), edges, counts in zip(self.watched, self.edges, self.counts, strict=True):
            counts *= fade
            counts += np.bincount(np.searchsorted(edges, x[:, k]), minlength=len(counts))

    def moved(self) -> dict[str, float]:
        """Features whose index is above :data:`MOVED`, worst first; nothing before :data:`FEWEST_ROWS`."""
        if self.rows < FEWEST_ROWS:
            return {}
        found = {}
        for (_, name), counts, expected in zip(self.watched, self.counts, self.expected, strict=True):
            value = psi(counts / counts.sum(), expected)
            if value > MOVED:
                found[name] = round(value, 3)
        return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass(slots=True)
class CalibrationDrift:
    """Realised outcomes of one mode against the probabilities that were given."""

    count: float = 0.0
    said: float = 0.0
    came: float = 0.0
    variance: float = 0.0
    fading: float = 0.995  # per outcome: about the last 200 count

    def add(self, probability: float, struck: bool) -> None:
        """One outcome; a probability that is none is refused."""
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"{probability} is no probability")
        for name in ("count", "said", "came", "variance"):
            setattr(self, name, getattr(self, name) * self.fading)
        self.count += 1.0
        self.said += probability
        self.came += struck
        self.variance += probability * (1.0 - probability)

    def surprise(self) -> float:
        """Standard errors by which more failures came than said (negative: fewer); 0 before :data:`FEWEST_OUTCOMES`."""
        if self.count < FEWEST_OUTCOMES:
            return 0.0
        return (self.came - self.said) / sqrt(max(self.variance, 0.25))


class Drift:
    """All modes: what ``shadowplane status`` shows. ``known``: the manifest's reference per mode."""

    def __init__(self, features: Mapping[Mode, Sequence[Feature]], known: Mapping[str, Any]) -> None:
        self.features = {mode: FeatureDrift(features[mode], known.get(str(mode), {})) for mode in features}
        self.outcomes = {mode: CalibrationDrift() for mode in features}

    def report(self) -> list[str]:
        """What has drifted, in words; empty when all is as it was."""
        found = []
        for mode, drift in self.features.items():
            moved = drift.moved()
            if moved:
                worst = ", ".join(f"{name} {value:.2f}" for name, value in list(moved.items())[:3])
                found.append(
                    f"{mode}: {len(moved)} of {len(drift.watched)} features are distributed otherwise than in training "
                    f"(stability index above {MOVED}: {worst})"
                )
        for mode, outcomes in self.outcomes.items():
            surprise = outcomes.surprise()
            if abs(surprise) > SURPRISE:
                found.append(
                    f"{mode}: {outcomes.came:.0f} failures came where {outcomes.said:.0f} were said, "
                    f"{abs(surprise):.1f} standard errors too {'many' if surprise > 0 else 'few'}: calibrate anew"
                )
        return found
