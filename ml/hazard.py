"""Discrete-time hazards: the probability that a failure strikes within a horizon, from a readable JSON file.

Time ahead is cut at ``edges`` into intervals; each has a logistic hazard, the probability to fail in it given
survival until it (D. R. Cox, Regression models and life tables, 1972, section 6; P. D. Allison, 1982). The
probability to fail within the first k intervals is one minus the product of the survivals: a longer horizon is
never less probable. A monotone Platt correction fitted on later data calibrates the last horizon.

Weights are never negative and features are 0 where nothing is wrong (:mod:`ml.features`), so worse telemetry
never lowers a probability, and a reason is simply a weight times a feature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml import compiled, kernels
from ml.estimators.base import ONE, Floats, fixed
from ml.features import FEATURES, Feature, schema_digest
from ml.schema import Mode

FORMAT = 1
MODELS = Path(__file__).parent / "models"
EXTREME = 30.0  # log odds beyond this are all the same to a float and to a reader
_LOW, _HIGH = fixed(-EXTREME), fixed(EXTREME)


class ModelError(ValueError):
    """A model file that cannot be used; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class HazardModel:
    """``weights``: (intervals, features) per unit of each feature; ``edges``: ends of the intervals, in units of
    time; ``calibration``: (slope, offset) on the log odds."""

    mode: Mode
    features: tuple[Feature, ...]
    edges: tuple[float, ...]
    intercepts: Floats
    weights: Floats
    calibration: tuple[float, float] = (1.0, 0.0)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.edges), len(self.features))
        if self.weights.shape != shape or self.intercepts.shape != shape[:1]:
            raise ModelError(f"{self.mode} model: weights are {self.weights.shape}, not {shape}")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.intercepts).all()):
            raise ModelError(f"{self.mode} model: weights that are not finite")
        if list(self.edges) != sorted(set(self.edges)) or self.edges[0] <= 0:
            raise ModelError(f"{self.mode} model: edges must be positive and increasing, not {self.edges}")
        if (self.weights < 0).any() or self.calibration[0] <= 0:
            raise ModelError(f"{self.mode} model: negative weights, or a calibration that turns the order round")

    @property
    def horizon(self) -> float:
        """The last horizon, in units of time: what :meth:`probability` is about."""
        return self.edges[-1]

    def hazards(self, x: Floats) -> Floats:
        """Log odds of failing in each interval; ``x`` is (rows, features), the result (rows, intervals)."""
        odds: Floats = x @ self.weights.T
        odds += self.intercepts
        np.maximum(odds, -EXTREME, out=odds)
        np.minimum(odds, EXTREME, out=odds)
        return odds

    def raw(self, x: Floats) -> Floats:
        """Uncalibrated log odds of failing within the horizon, shape (rows,)."""
        each = np.exp(self.hazards(x))
        odds = each[..., 0].copy()
        for k in range(1, len(self.edges)):  # (1 + a)(1 + b) - 1, without losing small ones to the 1
            odds += each[..., k] * (1.0 + odds)
        result: Floats = np.log(odds)
        return result

    def probability(self, x: Floats) -> Floats:
        """Calibrated probability of failing within :attr:`horizon`, shape (rows,)."""
        slope, offset = self.calibration
        odds = slope * self.raw(x) + offset
        result: Floats = 1.0 / (1.0 + np.exp(-np.minimum(np.maximum(odds, -EXTREME), EXTREME)))
        return result

    def contributions(self, x: Floats) -> Floats:
        """What each feature of one row adds to the log odds, compared with the feature at 0; shape (features,).

        The intervals' weights are mixed by how much each of them contributes to the hazard as a whole.
        """
        odds = self.hazards(x[None, :])[0]
        share = 1.0 / (1.0 + np.exp(-odds))
        mixed: Floats = (share / share.sum()) @ self.weights * x * self.calibration[0]
        return mixed

    def document(self) -> dict[str, Any]:
        """The artefact, ready for JSON."""
        names = [f.name for f in self.features]
        return {
            "format": FORMAT,
            "mode": str(self.mode),
            "feature_schema": schema_digest(self.features),
            "features": names,
            "edges": list(self.edges),
            "intercepts": [round(float(v), 5) for v in self.intercepts],
            "weights": [dict(zip(names, (round(float(v), 5) for v in row), strict=True)) for row in self.weights],
            "calibration": {"slope": round(self.calibration[0], 5), "offset": round(self.calibration[1], 5)},
            "about": dict(self.about),
        }

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.document(), indent=1) + "\n")


class Together:
    """Several models evaluated at once: the features of each follow those of the one before. As
    :meth:`HazardModel.probability` but for the order of the sums."""

    def __init__(self, models: Sequence[HazardModel]) -> None:
        widths = [len(model.features) for model in models]
        ends = np.cumsum(widths).tolist()
        self.parts = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]  # of each model
        most = max(len(model.edges) for model in models)
        weights = np.zeros((most, len(models), sum(widths)))  # interval by interval, all models each
        self._intercepts = np.zeros((most, len(models), 1))
        self._missing = np.zeros((most, len(models), 1), dtype=bool)
        for k, (model, end, width) in enumerate(zip(models, ends, widths, strict=True)):
            weights[: len(model.edges), k, end - width : end] = model.weights
            self._intercepts[: len(model.edges), k, 0] = model.intercepts
            self._missing[len(model.edges) :, k] = True
        self._weights = weights.reshape(-1, sum(widths))
        slope, offset = np.array([model.calibration for model in models]).T
        self._slope, self._offset = slope[:, None], offset[:, None]
        self._compiled: tuple[kernels.Kernels, compiled.Hazards] | None = None

    def __call__(self, x: Floats) -> Floats:
        """Calibrated probabilities for columns ``x`` (features of all models, rows): shape (models, rows)."""
        library = kernels.active()
        if library is not None:
            if self._compiled is None or self._compiled[0] is not library:
                parts = self._intercepts, self._missing, self._slope, self._offset
                self._compiled = library, compiled.Hazards(library, *parts)
            return self._compiled[1](self._weights @ x)
        each = (self._weights @ x).reshape(len(self._intercepts), len(self._slope), -1)
        each += self._intercepts
        np.maximum(each, _LOW, out=each)
        np.minimum(each, _HIGH, out=each)
        np.exp(each, out=each)
        if np.count_nonzero(self._missing):
            np.copyto(each, 0.0, where=self._missing)
        odds = each[0]
        part = np.empty_like(odds)
        for more in each[1:]:  # (1 + a)(1 + b) - 1, without losing small ones to the 1
            np.add(odds, ONE, out=part)
            np.multiply(part, more, out=part)
            np.add(odds, part, out=odds)
        np.log(odds, out=odds)
        np.multiply(odds, self._slope, out=odds)
        np.add(odds, self._offset, out=odds)
        np.maximum(odds, _LOW, out=odds)
        np.minimum(odds, _HIGH, out=odds)
        np.negative(odds, out=odds)
        np.exp(odds, out=odds)
        np.add(odds, ONE, out=odds)
        found: Floats = np.divide(ONE, odds)
        return found


def load(path: Path) -> HazardModel:
    """Read an artefact. Raises :class:`ModelError` when it is damaged or made for other features."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a whole JSON document ({error})") from error
    try:
        return parse(content)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: malformed ({type(error).__name__}: {error})") from error


def other_features(content: Mapping[str, Any], names: Sequence[str], digest: str) -> str:
    """What tells a model's features from those of this version, and what to do."""
    made = [str(name) for name in content["features"]]
    gone, new = [n for n in made if n not in names], [n for n in names if n not in made]
    apart = [f"without {', '.join(new[:4])}"] if new else []
    apart += [f"with {', '.join(gone[:4])}"] if gone else []
    how = "; it is " + " and ".join(apart) if apart else ", which are computed otherwise"
    return f"made for features {content['feature_schema']}, while this version computes {digest}{how}; train it anew"


def parse(content: Mapping[str, Any]) -> HazardModel:
    """The model of a document; raises :class:`ModelError` when it is made for something else."""
    if content["format"] != FORMAT:
        raise ModelError(f"format {content['format']!r}, not {FORMAT}")
    mode = Mode(content["mode"])
    features = FEATURES[mode]
    names = [f.name for f in features]
    if content["features"] != names or content["feature_schema"] != schema_digest(features):
        raise ModelError(other_features(content, names, schema_digest(features)))
    rows: Sequence[Mapping[str, float]] = content["weights"]
    calibration = content["calibration"]
    return HazardModel(
        mode,
        features,
        tuple(float(v) for v in content["edges"]),
        np.array(content["intercepts"], dtype=np.float64),
        np.array([[float(row[name]) for name in names] for row in rows]),
        (float(calibration["slope"]), float(calibration["offset"])),
        content["about"],
    )


def load_all(folder: Path = MODELS) -> dict[Mode, HazardModel]:
    """The models that come with the project, one per mode."""
    return {mode: load(folder / f"{mode}.json") for mode in FEATURES}
