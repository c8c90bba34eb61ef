"""Hazard models: probabilities that behave like ones, artefacts that are refused when they do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.estimators.base import Floats
from ml.features import FEATURES
from ml.hazard import MODELS, HazardModel, ModelError, load, load_all
from ml.schema import Mode

MODES = list(FEATURES)


@pytest.fixture(scope="module")
def models() -> dict[Mode, HazardModel]:
    return load_all()


def rows(mode: Mode, draw: Floats) -> Floats:
    return draw[:, : len(FEATURES[mode])] * np.array([f.bound for f in FEATURES[mode]])


seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds)
def test_worse_telemetry_never_lowers_a_probability(mode: Mode, seed: int) -> None:
    model = load(MODELS / f"{mode}.json")
    rng = np.random.default_rng(seed)
    x = rows(mode, rng.random((5, 20)) ** 3)
    worse = x + rows(mode, rng.random((5, 20)) ** 3) * 0.2
    assert (model.probability(worse) >= model.probability(x) - 1e-12).all()


@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds)
def test_a_longer_horizon_is_never_less_probable(mode: Mode, seed: int) -> None:
    model = load(MODELS / f"{mode}.json")
    x = rows(mode, np.random.default_rng(seed).random((5, 20)))
    shorter = replace(model, edges=model.edges[:-1], weights=model.weights[:-1], intercepts=model.intercepts[:-1])
    assert (shorter.probability(x) <= model.probability(x) + 1e-12).all()


@pytest.mark.parametrize("mode", MODES)
def test_probabilities_are_finite_at_the_extremes(mode: Mode, models: dict[Mode, HazardModel]) -> None:
    x = rows(mode, np.array([[0.0] * 20, [1.0] * 20]))
    low, high = models[mode].probability(x)
    assert 0.0 < low < 0.05
    assert 0.99 < high <= 1.0


def test_the_probability_is_what_the_hazards_say() -> None:
    features = FEATURES[Mode.CONGESTION]
    weights = np.zeros((2, len(features)))
    model = HazardModel(Mode.CONGESTION, features, (1.0, 2.0), np.log(np.array([0.25, 1.0])), weights)
    # hazards 0.2 and 0.5: 1 - 0.8 * 0.5
    assert model.probability(np.zeros((1, len(features))))[0] == pytest.approx(0.6)


def test_round_trip_times_alone_never_come_near_an_alarm(models: dict[Mode, HazardModel]) -> None:
    model = models[Mode.LINK_FAILURE]
    x = np.array([[f.bound if f.name == "rtt" else 0.0 for f in model.features]])
    assert model.probability(x)[0] < 0.1


def test_a_port_that_is_down_is_an_alarm(models: dict[Mode, HazardModel]) -> None:
    model = models[Mode.LINK_FAILURE]
    x = np.array([[f.bound if f.name == "down" else 0.0 for f in model.features]])
    assert model.probability(x)[0] > 0.9


@pytest.mark.parametrize("mode", MODES)
def test_contributions_belong_to_the_features_that_are_there(mode: Mode, models: dict[Mode, HazardModel]) -> None:
    model = models[mode]
    x = np.zeros(len(model.features))
    k = int((model.weights.sum(axis=0)).argmax())
    x[k] = model.features[k].bound
    parts = model.contributions(x)
    assert parts[k] > 0.0
    assert (np.delete(parts, k) == 0.0).all()


@pytest.mark.parametrize("mode", MODES)
def test_an_artefact_survives_being_written_and_read(
    mode: Mode, models: dict[Mode, HazardModel], tmp_path: Path
) -> None:
    path = tmp_path / "model.json"
    models[mode].save(path)
    again = load(path)
    assert again.document() == models[mode].document()
    assert json.loads(path.read_text())["about"]["source"] == "ml.simulate"


def broken(change: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MODELS / "congestion.json").read_text())
    return content | change


def renamed() -> dict[str, Any]:
    content = broken({})
    content["features"] = ["something_else", *content["features"][1:]]
    return content


def negative() -> dict[str, Any]:
    content = broken({})
    content["weights"][0]["load_quick"] = -1.0
    return content


def without_a_weight() -> dict[str, Any]:
    content = broken({})
    del content["weights"][0]["load_quick"]
    return content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (broken({"format": 2}), "format 2"),
        (broken({"feature_schema": "0123"}), "train it anew"),
        (renamed(), "train it anew"),
        (broken({"mode": "earthquake"}), "earthquake"),
        (broken({"mode": "maintenance"}), "malformed"),
        (broken({"edges": [1.0, 0.5, 2.0]}), "increasing"),
        (broken({"edges": [0.5]}), "weights are"),
        (broken({"intercepts": [float("nan"), 0.0, 0.0]}), "not finite"),
        (broken({"calibration": {"slope": -1.0, "offset": 0.0}}), "turns the order"),
        (broken({"weights": "many"}), "malformed"),
        (negative(), "negative"),
        (without_a_weight(), "load_quick"),
        ([], "malformed"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_name(content: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=text) as raised:
        load(path)
    assert "odd.json" in str(raised.value)


def test_a_model_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    whole = (MODELS / "congestion.json").read_text()
    for length in range(0, len(whole) - 2, 37):
        path.write_text(whole[:length])
        with pytest.raises(ModelError, match="not a whole JSON document"):
            load(path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"link_failure\.json: No such file"):
        load_all(tmp_path)
