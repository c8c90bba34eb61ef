"""Recordings as rows: most of one is learned from, and its last part judges candidate and present models.

A recording is split by time alone: the same elements are on both sides, for there are no others. So its figures say
how well these elements will be judged later on, and nothing about other networks: for that there are simulated worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml import fit, recording
from ml.cascade import Cascade
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.metrics import average_precision, calibration_error
from ml.profiles import LAB, Profile
from ml.schema import Mode
from ml.sim.runs import Runs
from ml.train import Table, table

LEARNED, CALIBRATED = 0.6, 0.8  # quantiles of time: until the first it is learned from, then calibrated on, then judged
FEWEST = 5  # failures that a judgement needs: below, one more or less decides


@dataclass(frozen=True, slots=True)
class Part:
    """One recording. Any of the parts may be empty."""

    folder: Path
    learned: dict[Mode, fit.Rows]
    calibrated: dict[Mode, fit.Rows]
    judged: dict[Mode, fit.Rows]


def load(profile: Profile, folder: Path) -> Part:
    """Raises :class:`~ml.recording.RecordingError`."""
    cut = {mode: split(found, profile.horizon_s) for mode, found in rows(profile, folder).items()}
    return Part(folder, *({mode: parts[k] for mode, parts in cut.items()} for k in range(3)))


def rows(profile: Profile, folder: Path) -> dict[Mode, fit.Rows]:
    """Rows of a recording; times are its own."""
    ports, devices = recording.runs(recording.load(folder))
    if ports is None:
        raise recording.RecordingError(f"{folder}: no ports")
    if profile is not LAB:
        return fit.collect(profile, ports, devices, 0, span_s=0.0)
    ends = PortBank(ports.link.time.shape[1])
    link, congestion = [], []
    for time, raw in zip(ports.link.time, ports.link.raw, strict=True):
        ends.learn_many(slice(None), time, raw)
        x, y = ends.features()
        link.append(x)
        congestion.append(y)
    found = {
        Mode.LINK_FAILURE: _lab(ports.link, np.stack(link)),
        Mode.CONGESTION: _lab(ports.congestion, np.stack(congestion)),
    }
    if devices is not None:
        boxes = DeviceBank(devices.time.shape[1])
        overload = []
        for time, raw in zip(devices.time, devices.raw, strict=True):
            boxes.learn_many(slice(None), time, raw)
            overload.append(boxes.features())
        found[Mode.DEVICE_OVERLOAD] = _lab(devices, np.stack(overload))
    return found


def _lab(run: Runs, x: Floats) -> fit.Rows:
    told = ~np.isnan(run.raw).all(axis=-1, keepdims=True)  # the others only fill a run up
    own = table(run, np.where(told, x, np.nan))
    count = len(own.left)
    return fit.Rows(own.x, np.empty((count, 0)), own.left, own.seen, np.ones(count), own.time, own.run)


def split(found: fit.Rows, horizon_s: float) -> tuple[fit.Rows, fit.Rows, fit.Rows]:
    """(learned, calibrated, judged); those within a horizon before a border are in none: their outcome lies behind."""
    if not len(found):
        return found, found, found
    first, second = (float(q) for q in np.quantile(found.time, (LEARNED, CALIBRATED)))
    learned = found.time <= first - horizon_s
    calibrated = (found.time > first) & (found.time <= second - horizon_s)
    return found.pick(learned), found.pick(calibrated), found.pick(found.time > second)


def tables(parts: Mapping[Mode, fit.Rows]) -> dict[Mode, Table]:
    """Rows as the lab's models are fitted to them."""
    return {mode: Table(own.x, own.left, own.seen, own.run, own.time) for mode, own in parts.items()}


def failures(own: fit.Rows, horizon: float) -> int:
    """How many runs have a row whose failure is within the horizon."""
    known, struck = fit.outcome(own, horizon)
    return len(np.unique(own.run[known & (struck > 0)]))


def judge(cascade: Cascade, mode: Mode, several: Sequence[fit.Rows]) -> dict[str, Any] | None:
    """``average_precision``, ``calibration_error`` and ``events`` on judged parts; None with too few failures."""
    model = cascade.models[mode]
    several = [own for own in several if len(own)]
    if not several:
        return None
    own = fit.join(several)
    events = failures(own, model.horizon)
    known, struck = fit.outcome(own, model.horizon)
    if events < FEWEST or struck[known].all():
        return None
    probability = model.probability(own.x)
    if mode in cascade.screens:
        screen = cascade.screens[mode]
        probability = np.where(screen.score(list(own.screen.T)) >= 0.0, probability, screen.floor)
    said, came, weight = probability[known], struck[known], own.weight[known]
    return {
        "average_precision": average_precision(said, came, weight),
        "calibration_error": calibration_error(said, came, weight=weight),
        "events": events,
    }
