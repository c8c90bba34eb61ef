"""Gradient-boosted discrete-time hazards: the second stage of the cascade, for suspicious elements only.

Time ahead is cut at ``edges``; each interval has its own ensemble of small trees for the log odds of failing in it
given survival until it, as in :mod:`ml.hazard`. The probability to fail until each edge is then corrected by a beta
calibration [1] fitted on later data: ``logit p' = a ln p - b ln(1 - p) + c`` with a, b >= 0, which never turns the
order round. Trees are monotone in every feature that says "worse" (LightGBM's constraints), so worse telemetry
never lowers a probability.

Beside the hazards stands one more ensemble, the *flip*: not when, but whether it is already settled. It is asked which
states only those reach that fail, so a flip neither waits for a minute that cannot be told nor goes for what may stop.

A reason's weight is what its signal adds to the log odds: the mean of what is lost when it alone were well, and of
what it alone would bring (the two ends of Shapley's average [2]).

[1] M. Kull, T. Silva Filho, P. Flach, Beta calibration, AISTATS 2017.
[2] L. S. Shapley, A value for n-person games, 1953.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml.estimators.base import Floats
from ml.features import Feature
from ml.hazard import EXTREME, ModelError, other_features
from ml.schema import Mode
from ml.trees import Forest, TreesError, parse
from ml.wide import WIDE, wide_digest

FORMAT = 3
TINY = 1e-9
FLIP_FROM = 0.1  # probability within the last horizon below which no flip is considered
Beta = tuple[float, float, float]
Betas = tuple[Floats, Floats, Floats]  # several, each array (edges, 1)


def logit(p: Floats) -> Floats:
    inside = np.clip(p, TINY, 1.0 - TINY)
    odds: Floats = np.log(inside / (1.0 - inside))
    return odds


def expit(z: Floats) -> Floats:
    p: Floats = 1.0 / (1.0 + np.exp(-np.minimum(np.maximum(z, -EXTREME), EXTREME)))
    return p


def corrected(p: Floats, beta: Beta | Betas) -> Floats:
    """Beta calibration.

    >>> [round(float(v), 2) for v in corrected(np.array([0.1, 0.5, 0.9]), (1.0, 1.0, 0.0))]
    [0.1, 0.5, 0.9]
    """
    a, b, c = beta
    inside = np.minimum(np.maximum(p, TINY), 1.0 - TINY)
    return expit(a * np.log(inside) - b * np.log1p(-inside) + c)


@dataclass(frozen=True)
class BoostedModel:
    """``texts``: one LightGBM text model per interval; ``calibration``: one correction per edge; ``flip``: the text
    model of the flip score (empty: flips are decided on the probability)."""

    mode: Mode
    edges: tuple[float, ...]
    texts: tuple[str, ...]
    calibration: tuple[Beta, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    flip: str = ""
    _forest: Forest = field(init=False, repr=False, compare=False)  # made of ``texts`` and ``flip``
    _betas: Betas = field(init=False, repr=False, compare=False)  # ``calibration`` as columns

    def __post_init__(self) -> None:
        if not (len(self.edges) == len(self.texts) == len(self.calibration) > 0):
            raise ModelError(f"{self.mode} model: edges, ensembles and calibrations differ in number")
        if list(self.edges) != sorted(set(self.edges)) or not 0 < self.edges[0] <= self.edges[-1] < np.inf:
            raise ModelError(f"{self.mode} model: edges must be positive and increasing, not {self.edges}")
        for a, b, c in self.calibration:
            if not (a >= 0 and b >= 0 and a + b > 0 and np.isfinite((a, b, c)).all()):
                raise ModelError(f"{self.mode} model: a calibration that turns the order round")
        names = [f.name for f in self.features]
        try:
            forest = Forest([parse(text, names) for text in (*self.texts, self.flip) if text])
        except TreesError as error:
            raise ModelError(f"{self.mode} model: {error}") from error
        object.__setattr__(self, "_forest", forest)
        object.__setattr__(self, "_betas", tuple(np.array(self.calibration, dtype=np.float64).T[:, :, None]))

    @property
    def features(self) -> tuple[Feature, ...]:
        return WIDE[self.mode]

    @property
    def horizon(self) -> float:
        """The last horizon, in units of time: what :meth:`probability` is about."""
        return self.edges[-1]

    def raw(self, x: Floats) -> Floats:
        """Uncalibrated probabilities of failing until each edge, shape (edges, rows)."""
        return self._failed(self._forest(x))

    def probabilities(self, x: Floats) -> Floats:
        """Calibrated probabilities until each edge, shape (edges, rows): a longer horizon is never less probable."""
        return self._calibrated(self._forest(x))

    def probability(self, x: Floats) -> Floats:
        """Calibrated probability of failing within :attr:`horizon`, shape (rows,)."""
        last: Floats = self.probabilities(x)[-1]
        return last

    def judge(self, x: Floats) -> tuple[Floats, Floats]:
        """(:meth:`probability`, flip score within 0..1), each (rows,), from one pass over all trees."""
        sums = self._forest(x)
        probability = self._calibrated(sums)[-1]
        if not self.flip:
            return probability, probability
        return probability, np.where(probability >= FLIP_FROM, expit(sums[-1]), 0.0)

    def _failed(self, sums: Floats) -> Floats:
        survival = np.cumprod(1.0 - expit(sums[: len(self.edges)]), axis=0)
        return np.asarray(1.0 - survival, dtype=np.float64)

    def _calibrated(self, sums: Floats) -> Floats:
        each = corrected(self._failed(sums), self._betas)
        return np.asarray(np.maximum.accumulate(each, axis=0), dtype=np.float64)

    def contributions(self, x: Floats) -> Floats:
        """What each *signal* of one row adds to the log odds, given to the first feature of that signal, 0 to its other
        ones; shape (features,)."""
        signals = list(dict.fromkeys(f.signal for f in self.features))
        of = np.array([signals.index(f.signal) for f in self.features])
        own = of == np.arange(len(signals))[:, None]
        rows = np.concatenate((x[None, :], np.zeros((1, len(x))), np.where(own, 0.0, x), np.where(own, x, 0.0)))
        odds = logit(self.probability(rows))
        without, alone = odds[2 : 2 + len(signals)], odds[2 + len(signals) :]
        weight = 0.5 * ((odds[0] - without) + (alone - odds[1]))
        found = np.zeros(len(x))
        found[own.argmax(axis=1)] = weight
        return found

    def document(self) -> dict[str, Any]:
        """The artefact, ready for JSON. LightGBM's text is kept line by line; joined with newlines it loads there."""
        return {
            "format": FORMAT,
            "mode": str(self.mode),
            "feature_schema": wide_digest(self.features),
            "features": [f.name for f in self.features],
            "edges": list(self.edges),
            "calibration": [{"a": a, "b": b, "c": c} for a, b, c in self.calibration],
            "about": dict(self.about),
            "lightgbm": [text.splitlines() for text in self.texts],
            "flip": self.flip.splitlines(),
        }


def from_document(content: Mapping[str, Any]) -> BoostedModel:
    """The model of a document; raises :class:`~ml.hazard.ModelError` when it does not fit this version."""
    if content["format"] != FORMAT:
        raise ModelError(f"format {content['format']!r}, not {FORMAT}")
    mode = Mode(content["mode"])
    if mode not in WIDE:
        raise ModelError(f"no model is made for {mode}")
    features = WIDE[mode]
    names = [f.name for f in features]
    if content["features"] != names or content["feature_schema"] != wide_digest(features):
        raise ModelError(other_features(content, names, wide_digest(features)))
    texts: Sequence[Sequence[str]] = content["lightgbm"]
    flip: Sequence[str] = content["flip"]
    return BoostedModel(
        mode,
        tuple(float(v) for v in content["edges"]),
        tuple("\n".join(lines) + "\n" for lines in texts),
        tuple((float(v["a"]), float(v["b"]), float(v["c"])) for v in content["calibration"]),
        content["about"],
        "\n".join((*flip, "")),
    )
