"""Recordings teach, calibrate and judge, each part of time one of the three."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml import recorded, recording, retrain, simulate
from ml.features import PortBank
from ml.profiles import LAB
from ml.recording import Event
from ml.schema import Mode, PortSample
from ml.store import packaged

START = 1.8e9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ports of the lab's simulator, one after the other in time, as somebody would have recorded them."""
    place = tmp_path_factory.mktemp("recording")
    run = simulate.ports(11, 300).link
    samples, events = [], []
    failing = np.flatnonzero(np.isfinite(run.event)).tolist()
    for place_in_time, k in enumerate(sorted(failing + list(range(0, 300, 8)))):
        name, shift = f"s{k}:1", START + 5.0 * place_in_time
        for time, raw in zip(run.time[:, k], run.raw[:, k], strict=True):
            values = dict(zip(PortBank.INPUTS, (float(v) for v in raw), strict=True))
            values["up"] = values["up"] > 0.5
            samples.append(PortSample(name, shift + float(time), **values))
        if np.isfinite(run.event[k]):
            events.append(Event(name, Mode.LINK_FAILURE, shift + float(run.event[k])))
    recording.write(place, samples, events)
    return place


def test_parts_follow_each_other_with_a_horizon_between(folder: Path) -> None:
    part = recorded.load(LAB, folder)
    learned, calibrated, judged = (rows[Mode.LINK_FAILURE] for rows in (part.learned, part.calibrated, part.judged))
    assert min(len(learned), len(calibrated), len(judged)) > 100
    assert learned.time.max() + LAB.horizon_s <= calibrated.time.min()
    assert calibrated.time.max() + LAB.horizon_s <= judged.time.min()
    assert recorded.failures(learned, LAB.edges[-1]) > recorded.failures(judged, LAB.edges[-1]) >= recorded.FEWEST


def test_a_recording_changes_what_is_learned_and_is_compared_on(folder: Path) -> None:
    part = recorded.load(LAB, folder)
    without = retrain.candidate(LAB, seed=1, elements=60, version="a")
    new = retrain.candidate(LAB, seed=1, elements=60, version="b", recordings=[part])
    row = part.judged[Mode.LINK_FAILURE].x
    assert (new.models[Mode.LINK_FAILURE].probability(row) != without.models[Mode.LINK_FAILURE].probability(row)).any()
    assert new.training["recordings"] == [str(folder)]
    said: list[str] = []
    verdict = retrain.compare(new, packaged("lab"), 10_001, 60, recordings=[part], say=said.append)
    judged = [(mode, fresh, former) for world, mode, fresh, former in verdict.rows if world == "recorded"]
    assert [mode for mode, _, _ in judged] == ["link_failure"] and judged[0][1].events >= recorded.FEWEST
    assert 0.0 < judged[0][1].average_precision <= 1.0 and judged[0][2] is not None
    assert any("congestion" in text and "nothing is compared" in text for text in said)
    json.dumps(verdict.document(), allow_nan=False)


def test_worse_on_the_recording_keeps_a_candidate_back(folder: Path) -> None:
    part = recorded.load(LAB, folder)
    good = packaged("lab")
    model = good.models[Mode.LINK_FAILURE]
    bad = replace(good, models={**good.models, Mode.LINK_FAILURE: replace(model, weights=0.0 * model.weights)})
    found = retrain.recorded_figures(bad, Mode.LINK_FAILURE, [part.judged[Mode.LINK_FAILURE]])
    present = retrain.recorded_figures(good, Mode.LINK_FAILURE, [part.judged[Mode.LINK_FAILURE]])
    assert found is not None and any("average precision" in text for text in retrain.worse(found, present))
