"""Training on a small population finds a model that works on another one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ml import train
from ml.features import FEATURES
from ml.hazard import HazardModel, load
from ml.schema import Mode

Fitted = tuple[dict[Mode, HazardModel], dict[Mode, train.Table]]


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    models = train.train(3, 500)
    return models, train.tables(77, 500)


@pytest.mark.parametrize("mode", list(FEATURES))
def test_skill_over_the_base_rate_on_other_runs(fitted: Fitted, mode: Mode) -> None:
    models, later = fitted
    known, outcome = train.judged(later[mode], models[mode].horizon)
    y = outcome[known]
    brier = float(((models[mode].probability(later[mode].x[known]) - y) ** 2).mean())
    assert brier < 0.65 * float(y.mean() * (1.0 - y.mean()))  # abrupt failures, which nothing foresees, are among them


@pytest.mark.parametrize("mode", list(FEATURES))
def test_calibrated_on_other_runs(fitted: Fitted, mode: Mode) -> None:
    models, later = fitted
    known, outcome = train.judged(later[mode], models[mode].horizon)
    p = models[mode].probability(later[mode].x[known])
    assert abs(float(p.mean() - outcome[known].mean())) < 0.02


def test_weights_keep_their_bounds(fitted: Fitted) -> None:
    for mode, model in fitted[0].items():
        assert (model.weights >= 0.0).all()
        names = [f.name for f in FEATURES[mode]]
        if "rtt" in names:
            k = names.index("rtt")
            assert (model.weights[:, k] * FEATURES[mode][k].bound <= train.RTT_MOST + 1e-9).all()


def test_labels_say_when_and_what_was_seen() -> None:
    rows = train.tables(4, 200)[Mode.LINK_FAILURE]
    assert (rows.left >= 0.0).all()
    assert (rows.seen >= 0.0).all()
    struck = np.isfinite(rows.left) & (rows.left > 0.0)
    assert (rows.left[struck] <= rows.seen[struck] + 1e-9).all()  # events are observed ones
    known, outcome = train.judged(rows, 1.5)
    assert not known[rows.left == 0.0].any()  # already failing: nothing left to predict
    assert set(outcome[known & np.isinf(rows.left)]) == {0.0}


def test_the_command_writes_artefacts_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--seed", "9", "--elements", "200", "--out", str(tmp_path / "m")]) == 0
    written = sorted((tmp_path / "m").iterdir())
    assert [path.stem for path in written] == sorted(FEATURES)
    for path in written:
        assert load(path).about["seed"] == 9
        assert json.loads(path.read_text())["about"]["elements"] == 200
    assert "link_failure" in capsys.readouterr().out
