"""Fit the hazard models on simulated run-to-failure telemetry: ``python -m ml.train``.

Weights are bounded: never negative, and the heartbeat round-trip time, which a busy machine turns into noise,
may add at most :data:`RTT_MOST` to the log odds, far from enough to raise an alarm alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ml import simulate
from ml.estimators.base import Floats
from ml.features import FEATURES, DeviceBank, Feature, PortBank
from ml.hazard import MODELS, HazardModel
from ml.schema import Mode
from ml.sim import runs as sim
from ml.simulate import Runs

EDGES = (0.5, 1.0, 1.5)  # units of time
WARM_UP = 8  # samples before an element is judged
RTT_MOST = 1.0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one mode. ``left``: time until the event (inf: none, 0: failing now); ``seen``: observed time ahead;
    ``run``: element, for grouping by event; ``time``: time in the run."""

    x: Floats
    left: Floats
    seen: Floats
    run: np.ndarray[tuple[int], np.dtype[np.intp]]
    time: Floats


def table(runs: Runs | sim.Runs, x: Floats) -> Table:
    """Label features (steps, elements, features): healthy rows, rows before the event, rows while failing."""
    steps, count = runs.time.shape
    left = np.where(runs.failing, 0.0, runs.event - runs.time)
    keep = (np.arange(steps)[:, None] >= WARM_UP) & ((left > 0.0) | runs.failing)
    keep &= ~np.isnan(x).any(axis=-1)
    run = np.broadcast_to(np.arange(count), (steps, count))
    seen = np.broadcast_to(runs.time[-1], (steps, count)) - runs.time
    return Table(x[keep], left[keep], seen[keep], run[keep], runs.time[keep])


def played(seed: int, count: int) -> dict[Mode, tuple[Table, Runs, Floats]]:
    """Simulated runs through the feature banks: rows, runs and features (steps, elements, features) of each mode.

    Devices are half as many as ports.
    """
    ports, ends = simulate.ports(seed, count), PortBank(count)
    link, congestion = [], []
    for time, raw in zip(ports.link.time, ports.link.raw, strict=True):
        ends.learn_many(slice(None), time, raw)
        x, y = ends.features()
        link.append(x)
        congestion.append(y)
    devices = simulate.devices(seed + 1, max(count // 2, 1))
    boxes = DeviceBank(len(devices.event))
    overload = []
    for time, raw in zip(devices.time, devices.raw, strict=True):
        boxes.learn_many(slice(None), time, raw)
        overload.append(boxes.features())
    found = {}
    for mode, runs, steps in (
        (Mode.LINK_FAILURE, ports.link, link),
        (Mode.CONGESTION, ports.congestion, congestion),
        (Mode.DEVICE_OVERLOAD, devices, overload),
    ):
        features = np.stack(steps)
        found[mode] = table(runs, features), runs, features
    return found


def tables(seed: int, count: int) -> dict[Mode, Table]:
    """The rows of :func:`played`."""
    return {mode: rows for mode, (rows, _, _) in played(seed, count).items()}


def _fit_interval(x: Floats, y: Floats, features: Sequence[Feature], ridge: float) -> tuple[float, Floats]:
    """Logistic regression with bounds: (intercept, weights). Features are scaled by their bounds."""
    bounds = np.array([f.bound for f in features])
    scaled = x / bounds

    def loss(theta: Floats) -> tuple[float, Floats]:
        odds = scaled @ theta[1:] + theta[0]
        p = 1.0 / (1.0 + np.exp(-np.clip(odds, -60.0, 60.0)))
        value = (np.logaddexp(0.0, odds) - y * odds).mean() + ridge * (theta[1:] ** 2).sum()
        slope = (p - y) / len(y)
        return float(value), np.concatenate(([slope.sum()], scaled.T @ slope + 2.0 * ridge * theta[1:]))

    limits = [(-20.0, 5.0)] + [(0.0, RTT_MOST if f.name == "rtt" else 60.0) for f in features]
    start = np.concatenate(([-4.0], np.full(len(features), 0.5)))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 500})
    return float(found.x[0]), found.x[1:] / bounds


def fit(mode: Mode, rows: Table, *, edges: Sequence[float] = EDGES, ridge: float = 1e-6) -> HazardModel:
    """Fit one hazard per interval on the rows still at risk in it and observed through it.

    Rows of elements that already lose packets count as failing in the first interval, so that degradation
    without a precursor is answered by the same model.
    """
    features = FEATURES[mode]
    intercepts, weights = [], []
    begin = 0.0
    for end in edges:
        at_risk = (rows.left > begin) if begin else np.ones(len(rows.left), dtype=bool)
        struck = rows.left <= end
        at_risk &= struck | (rows.seen >= end)
        y = struck[at_risk].astype(np.float64)
        intercept, row = _fit_interval(rows.x[at_risk], y, features, ridge)
        intercepts.append(intercept)
        weights.append(row)
        begin = end
    return HazardModel(mode, features, tuple(edges), np.array(intercepts), np.array(weights))


def judged(rows: Table, horizon: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], Floats]:
    """(rows whose outcome within the horizon is known and that are not failing yet, outcome as 0 or 1)."""
    struck = rows.left <= horizon
    known = (rows.left > 0.0) & (struck | (rows.seen >= horizon))
    return known, struck.astype(np.float64)


def calibrate(model: HazardModel, rows: Table) -> HazardModel:
    """Platt's correction [1] on later, unseen rows.

    [1] J. Platt, Probabilistic outputs for support vector machines, 1999.
    """
    known, outcome = judged(rows, model.horizon)
    odds, y = model.raw(rows.x[known]), outcome[known]

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = theta[0] * odds + theta[1]
        slope = 1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0))) - y
        return float((np.logaddexp(0.0, z) - y * z).mean()), np.array([(slope * odds).mean(), slope.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.1, 5.0), (-5.0, 5.0)])
    calibration = (float(found.x[0]), float(found.x[1]))
    return HazardModel(
        model.mode, model.features, model.edges, model.intercepts, model.weights, calibration, model.about
    )


def join(several: Sequence[Table]) -> Table:
    """Rows of several populations; runs stay apart."""
    shifts = np.cumsum([0] + [int(part.run.max(initial=-1)) + 1 for part in several])
    return Table(
        np.concatenate([part.x for part in several]),
        np.concatenate([part.left for part in several]),
        np.concatenate([part.seen for part in several]),
        np.concatenate([part.run + shift for part, shift in zip(several, shifts, strict=False)]),
        np.concatenate([part.time for part in several]),
    )


def train(
    seed: int, count: int, recorded: Sequence[tuple[Mapping[Mode, Table], Mapping[Mode, Table]]] = ()
) -> dict[Mode, HazardModel]:
    """Fit on one simulated population, calibrate on another; ``recorded``: (more to fit on, more to calibrate on)."""
    with threadpool_limits(1, "blas"):  # threads that wait for a busy core make it ten times as long
        return _train(seed, count, recorded)


def _train(
    seed: int, count: int, recorded: Sequence[tuple[Mapping[Mode, Table], Mapping[Mode, Table]]]
) -> dict[Mode, HazardModel]:
    fitting, later = tables(seed, count), tables(seed + 1000, count)
    models = {}
    for mode in fitting:
        rows = join([fitting[mode], *(more[mode] for more, _ in recorded if mode in more)])
        model = calibrate(fit(mode, rows), join([later[mode], *(more[mode] for _, more in recorded if mode in more)]))
        about = {"source": "ml.simulate", "seed": seed, "elements": count, "rows": len(rows.left)}
        models[mode] = HazardModel(
            mode, model.features, model.edges, model.intercepts, model.weights, model.calibration, about
        )
    return models


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ml.train", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--elements", type=int, default=3000, help="simulated ports; half as many devices")
    parser.add_argument("--out", type=Path, default=MODELS)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    for mode, model in train(options.seed, options.elements).items():
        model.save(options.out / f"{mode}.json")
        print(f"{mode}: {options.out / f'{mode}.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
