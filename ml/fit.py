"""Fitting the cascade: rows from telemetry, boosted hazards, calibration on later rows, and the screen.

Rows are drawn from runs: all that lie near an event, and a share of the others with its inverse as weight, so that
probabilities stay those of the whole.

The flip's ensemble learns from other rows (:func:`tempting`): from what the hazards already call possible, on runs
that they have not seen. What comes within half a unit of its failure stands against what never fails; what fails later
is neither. Each run weighs as much as any other, however many of its rows look like trouble.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ml import heldout, wide
from ml.boosted import FLIP_FROM, TINY, Beta, BoostedModel, expit
from ml.cascade import Cascade, Judgement, Screen
from ml.estimators.base import Flags, Floats
from ml.features import DeviceBank, PortBank
from ml.profiles import WARM_UP, Profile
from ml.schema import Mode
from ml.screen import screen_devices, screen_ports
from ml.sim import runs as sim
from ml.sim.world import FAMILIAR, SCALES, TEMPTING, World

# Shares of rows kept: far from events, far but unwell, near, already failing. Rows of one run are much alike: many
# runs with few rows each teach more than few runs with many.
CALM, WARM, NEAR, FAILING = 0.01, 0.12, 0.3, 0.03
LAST = 3.0  # units before an event in which every row is kept: what flips are decided from
PART = 3_000  # elements simulated at once
MISSED = 0.005  # share of probable rows that the screen may lose
PROBABLE = 0.6
TREES, LEAVES = 60, 8
SETTLED = 0.5  # units before an event within which a flip is right to come
DAYS_SEEDS, TEMPTING_SEEDS, MINUTES_SEEDS = 10, 30, 110  # where each kind of them begins among the flip's seeds
CALM_KINDS = ("healthy", "cycle")  # hardly ever look unwell
HARDER = 3.0  # what all rows that nothing follows weigh beside all others: a false flip costs more than a late one


@dataclass(frozen=True, slots=True)
class Rows:
    """``left``: units until the event (inf: none, 0: failing now); ``seen``: units observed ahead; ``weight``: rows
    that one stands for; ``time``: absolute, s; ``run``: element. ``screen``: columns of the screen."""

    x: Floats
    screen: Floats
    left: Floats
    seen: Floats
    weight: Floats
    time: Floats
    run: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.left)

    def pick(self, keep: Flags) -> Rows:
        return Rows(
            self.x[keep],
            self.screen[keep],
            self.left[keep],
            self.seen[keep],
            self.weight[keep],
            self.time[keep],
            self.run[keep],
        )


def join(parts: Sequence[Rows]) -> Rows:
    """Rows of several populations; runs stay apart."""
    shift, runs = 0, []
    for part in parts:
        runs.append(part.run + shift)
        shift += int(part.run.max(initial=-1)) + 1
    return Rows(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.screen for part in parts]),
        np.concatenate([part.left for part in parts]),
        np.concatenate([part.seen for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate(runs),
    )


def _kept(rng: np.random.Generator, left: Floats, unwell: Flags, failing: Flags, near: float) -> tuple[Flags, Floats]:
    share = np.where(unwell, WARM, CALM)
    share = np.where(left <= near, NEAR, share)
    share = np.where(left <= LAST, 1.0, share)
    share = np.where(failing, FAILING, share)
    share = np.where((left <= 0.0) & ~failing, 0.0, share)  # between two blows of one that flaps: nothing to learn
    keep: Flags = rng.random(len(left)) < share
    return keep, 1.0 / np.maximum(share, TINY)


class _Collector:
    def __init__(self, run: sim.Runs, start: Floats, unit_s: float, edge: float) -> None:
        self.run, self.start, self.unit_s, self.near = run, start, unit_s, edge / 3.0
        self.parts: list[tuple[Any, ...]] = []

    def wanted(
        self, rng: np.random.Generator, i: int, unwell: Flags, samples: NDArray[np.int64]
    ) -> tuple[Flags, Floats]:
        run = self.run
        left = np.where(run.failing[i], 0.0, (run.event - run.time[i]) / self.unit_s)
        keep, weight = _kept(rng, left, unwell, run.failing[i], self.near)
        return keep & (samples >= WARM_UP) & ~np.isnan(run.raw[i]).all(axis=-1), weight

    def add(self, i: int, rows: NDArray[np.intp], x: Floats, screen: Floats, weight: Floats) -> None:
        run = self.run
        left = np.where(run.failing[i], 0.0, (run.event - run.time[i]) / self.unit_s)
        seen = (run.time[-1] - run.time[i]) / self.unit_s
        time = self.start + run.time[i]
        self.parts.append((x, screen, left[rows], seen[rows], weight[rows], time[rows], rows))

    def take(self, i: int, judged: Judgement, samples: NDArray[np.int64]) -> None:
        """The judged rows of one step that a flip might be thought of for."""
        run, rows = self.run, judged.rows
        able = (samples >= WARM_UP) & ~run.failing[i] & heldout.came(run, i) & (judged.probability >= FLIP_FROM)
        keep = able[rows]
        if keep.any():
            none = np.empty((int(keep.sum()), 0))
            x = judged.x[keep].astype(np.float32)  # there are millions of them
            self.add(i, rows[keep], x, none, np.ones(len(run.event)))

    def rows(self) -> Rows:
        return Rows(*(np.concatenate([part[k] for part in self.parts]) for k in range(7)))


def collect(
    profile: Profile, ports: sim.PortRuns, devices: sim.Runs | None, seed: int, span_s: float = 90 * 86_400.0
) -> dict[Mode, Rows]:
    """Rows of one population. Runs start at random within ``span_s``, so that time can be split."""
    rng = np.random.default_rng([seed, 99])
    edge = profile.edges[-1]
    count = len(ports.link.event)
    start = rng.uniform(0.0, span_s, count)
    bank, around = PortBank(count, profile.unit_s, taus=profile.taus), heldout.neighbours(ports.link.groups)
    makers = [_Collector(run, start, profile.unit_s, edge) for run in (ports.link, ports.congestion)]
    for i in heldout.stream(bank, ports.link):
        screens = screen_ports(bank)
        unwell = (screens[0][0] > 1.0) | (screens[0][2] > 1.0), (screens[1][0] > 0.05) | (screens[1][1] > 0.1)
        wanted = [maker.wanted(rng, i, bad, bank.samples) for maker, bad in zip(makers, unwell, strict=True)]
        rows = np.flatnonzero(wanted[0][0] | wanted[1][0])
        if not len(rows):
            continue
        both = wide.ports(bank, rows, around)
        for k, maker in enumerate(makers):
            keep, weight = wanted[k]
            own = keep[rows]
            maker.add(i, rows[own], both[k][own], np.array(screens[k]).T[rows[own]], weight)
    modes = (Mode.LINK_FAILURE, Mode.CONGESTION)  # a short recording may have no row that is wanted
    found = {mode: maker.rows() for mode, maker in zip(modes, makers, strict=True) if maker.parts}
    if devices is not None:
        count = len(devices.event)
        boxes = DeviceBank(count, profile.unit_s, profile.taus)
        maker = _Collector(devices, rng.uniform(0.0, span_s, count), profile.unit_s, edge)
        for i in heldout.stream(boxes, devices):
            screen = screen_devices(boxes)
            keep, weight = maker.wanted(rng, i, (screen[0] > 0.05) | (screen[1] > 0.1), boxes.samples)
            rows = np.flatnonzero(keep)
            if len(rows):
                maker.add(i, rows, wide.devices(boxes, rows), np.array(screen).T[rows], weight)
        if maker.parts:
            found[Mode.DEVICE_OVERLOAD] = maker.rows()
    return found


def split(rows: Rows, until: float, embargo_s: float) -> tuple[Rows, Rows]:
    """(earlier, later) rows around the quantile ``until`` of time; rows within ``embargo_s`` before the border are in
    neither, and runs that cross it are earlier only."""
    border = float(np.quantile(rows.time, until))
    early = rows.time <= border - embargo_s
    crossing = np.unique(rows.run[early])
    late = (rows.time > border) & ~np.isin(rows.run, crossing)
    return rows.pick(early), rows.pick(late)


def _settings(mode: Mode, seed: int, threads: int) -> dict[str, Any]:
    return {
        "objective": "binary", "num_leaves": LEAVES, "learning_rate": 0.2, "min_data_in_leaf": 50,
        "min_sum_hessian_in_leaf": 10.0, "lambda_l2": 3.0, "max_bin": 127, "feature_fraction": 0.8, "seed": seed,
        "monotone_constraints": [f.direction for f in wide.WIDE[mode]], "deterministic": True, "force_row_wise": True,
        "num_threads": threads, "verbosity": -1, "use_missing": False,
    }  # fmt: skip


def boost(
    rows: Rows, mode: Mode, edges: Sequence[float], *, seed: int, trees: int = TREES, threads: int = 2
) -> list[str]:
    """One LightGBM text model per interval, on the rows still at risk in it and observed through it."""
    import lightgbm

    features, settings = wide.WIDE[mode], _settings(mode, seed, threads)
    texts, begin = [], 0.0
    for end in edges:
        at_risk = (rows.left > begin) if begin else np.ones(len(rows), dtype=bool)
        struck = rows.left <= end
        at_risk &= struck | (rows.seen >= end)
        data = lightgbm.Dataset(
            rows.x[at_risk],
            struck[at_risk].astype(np.float64),
            weight=rows.weight[at_risk],
            feature_name=[f.name for f in features],
            params={"verbosity": -1},
        )
        booster = lightgbm.train(settings, data, num_boost_round=trees)
        texts.append(booster.model_to_string(importance_type="gain"))
        begin = end
    return texts


def tempting(profile: Profile, cascade: Cascade, ports: sim.PortRuns, devices: sim.Runs | None) -> dict[Mode, Rows]:
    """Rows that the flip's ensemble has to tell apart: all whose failure within the last horizon is at least
    :data:`~ml.boosted.FLIP_FROM` probable. Shape and meaning as of :func:`collect`, each row stands for itself;
    features are rounded to float32."""
    found: dict[Mode, Rows] = {}
    count = len(ports.link.event)
    bank = PortBank(count, profile.unit_s, taus=profile.taus)
    around = replace(cascade, neighbours=heldout.neighbours(ports.link.groups))
    edge = profile.edges[-1]
    makers = [_Collector(run, np.zeros(count), profile.unit_s, edge) for run in (ports.link, ports.congestion)]
    for i in heldout.stream(bank, ports.link):
        if i >= WARM_UP:
            for maker, judged in zip(makers, around.ports(bank), strict=True):
                maker.take(i, judged, bank.samples)
    modes = (Mode.LINK_FAILURE, Mode.CONGESTION)
    found.update({mode: maker.rows() for mode, maker in zip(modes, makers, strict=True) if maker.parts})
    if devices is not None:
        count = len(devices.event)
        boxes = DeviceBank(count, profile.unit_s, profile.taus)
        maker = _Collector(devices, np.zeros(count), profile.unit_s, edge)
        for i in heldout.stream(boxes, devices):
            if i >= WARM_UP:
                maker.take(i, cascade.devices(boxes), boxes.samples)
        if maker.parts:
            found[Mode.DEVICE_OVERLOAD] = maker.rows()
    return found


def flip(rows: Rows, mode: Mode, horizon: float, *, seed: int, trees: int = TREES, threads: int = 2) -> str:
    """The text model of the flip score: rows at most :data:`SETTLED` units before their event against rows that nothing
    follows within the horizon; those between are left out, for a flip then is neither wrong nor needed. A run's rows
    of either kind count as one together: a false flip is one, however long it seems right. Empty where there is nothing
    to tell apart."""
    import lightgbm

    features = wide.WIDE[mode]
    late = (rows.left > 0.0) & (rows.left <= SETTLED)
    sound = (rows.left > 2.0 * horizon) & (rows.seen >= horizon)
    if not late.any() or not sound.any():
        return ""
    runs = int(rows.run.max()) + 1
    before, after = (np.bincount(rows.run[kind], minlength=runs)[rows.run] for kind in (late, sound))
    weight = 1.0 / np.maximum(np.where(late, before, after), 1)
    weight *= np.where(late, 0.5 / weight[late].sum(), HARDER * 0.5 / weight[sound].sum())
    keep = late | sound
    data = lightgbm.Dataset(
        rows.x[keep].astype(np.float64),
        late[keep].astype(np.float64),
        weight=weight[keep] * keep.sum(),
        feature_name=[f.name for f in features],
        params={"verbosity": -1},
    )
    settings = _settings(mode, seed, threads) | {"learning_rate": 0.15, "min_sum_hessian_in_leaf": 1e-3}
    booster = lightgbm.train(settings, data, num_boost_round=trees)
    return str(booster.model_to_string(importance_type="gain"))


def outcome(rows: Rows, horizon: float) -> tuple[Flags, Floats]:
    """(rows whose outcome within the horizon is known and that are not failing yet, outcome as 0 or 1)."""
    struck = rows.left <= horizon
    known = (rows.left > 0.0) & (struck | (rows.seen >= horizon))
    return known, struck.astype(np.float64)


def beta(p: Floats, y: Floats, weight: Floats) -> Beta:
    """Beta calibration by weighted maximum likelihood; both slopes stay positive."""
    inside = np.clip(p, TINY, 1.0 - TINY)
    first, second = np.log(inside), -np.log1p(-inside)
    weight = weight / weight.sum()

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = theta[0] * first + theta[1] * second + theta[2]
        slope = weight * (expit(z) - y)
        value = float((weight * (np.logaddexp(0.0, z) - y * z)).sum())
        return value, np.array([(slope * first).sum(), (slope * second).sum(), slope.sum()])

    limits = [(0.05, 5.0), (0.05, 5.0), (-8.0, 8.0)]
    found = minimize(loss, np.array([1.0, 1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=limits)
    a, b, c = (round(float(v), 6) for v in found.x)
    return a, b, c


def fit(
    mode: Mode, earlier: Rows, later: Rows, edges: Sequence[float], *, seed: int, trees: int = TREES
) -> BoostedModel:
    """Boosted hazards from earlier rows, calibrated on later ones."""
    texts = tuple(boost(earlier, mode, edges, seed=seed, trees=trees))
    model = BoostedModel(mode, tuple(edges), texts, ((1.0, 1.0, 0.0),) * len(edges))
    raw = model.raw(later.x)
    corrections = []
    for k, edge in enumerate(edges):
        known, y = outcome(later, edge)
        corrections.append(beta(raw[k][known], y[known], later.weight[known]))
    return replace(model, calibration=tuple(corrections))


def screen(model: BoostedModel, rows: Rows) -> Screen:
    """A screen that lets all but :data:`MISSED` of the rows pass that the model calls probable."""
    probability = model.probability(rows.x)
    wanted = (probability >= PROBABLE).astype(np.float64)
    scale = np.maximum(rows.screen.max(axis=0), 1e-9)
    columns = rows.screen / scale
    weight = np.where(wanted > 0, 0.5 / max(wanted.sum(), 1.0), 0.5 / max((1.0 - wanted).sum(), 1.0))

    def loss(theta: Floats) -> tuple[float, Floats]:
        odds = columns @ theta[1:] + theta[0]
        slope = weight * (expit(odds) - wanted)
        value = float((weight * (np.logaddexp(0.0, odds) - wanted * odds)).sum() + 1e-6 * (theta[1:] ** 2).sum())
        return value, np.concatenate(([slope.sum()], columns.T @ slope + 2e-6 * theta[1:]))

    limits = [(-60.0, 10.0)] + [(0.0, 100.0)] * columns.shape[1]
    start = np.concatenate(([-2.0], np.ones(columns.shape[1])))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 300}).x
    scores = columns @ found[1:]
    gate = float(np.quantile(scores[wanted > 0], MISSED)) if wanted.any() else float(scores.min())
    below = scores < gate
    known, y = outcome(rows, model.horizon)
    calm = below & known
    floor = float(np.average(y[calm], weights=rows.weight[calm])) if calm.any() else 0.0
    weights = tuple(round(float(v), 6) for v in found[1:] / scale)
    return Screen(model.mode, weights, -gate, round(min(floor, 0.999), 6))


def populations(profile: Profile, world: World, seed: int, count: int) -> Iterator[dict[Mode, Rows]]:
    """Rows of simulated populations of together ``count`` ports, a part and a time scale at a time."""
    number = 0
    for first in range(0, count, PART):
        for ports, devices in heldout.worlds(profile, world, seed + number, min(PART, count - first)):
            yield collect(profile, ports, devices, seed + number)
            number += 1


def temptations(profile: Profile, cascade: Cascade, seed: int, count: int) -> Iterator[dict[Mode, Rows]]:
    """:func:`tempting` rows of familiar populations of ``count`` ports; of half as many that only look unwell, in
    trouble that stops later (:data:`~ml.sim.world.TEMPTING`); and of days of two thirds as many of these, twice: of
    familiar trouble, and of such that stops later. What is hardest to tell from a failure is rare elsewhere."""
    for number, first in enumerate(range(0, count, PART)):
        for ports, devices in heldout.worlds(profile, FAMILIAR, seed + number, min(PART, count - first)):
            yield tempting(profile, cascade, ports, devices)
    shares = {name: sim.LINK_KINDS[name] for name in sim.SOUND if name not in CALM_KINDS}
    busy = {name: sim.DEVICE_KINDS[name] for name in sim.SOUND_DEVICES if name not in CALM_KINDS}
    for number, first in enumerate(range(0, count // 2, PART // 2)):
        part = max(min(PART // 2, count // 2 - first) // len(SCALES), sim.GROUP)
        for scale in SCALES:
            own = seed + MINUTES_SEEDS + number
            decoys = sim.devices(TEMPTING, scale, own, max(part // 2, sim.GROUP), busy)
            yield tempting(profile, cascade, sim.ports(TEMPTING, scale, own, part, shares), decoys)
    for world, offset in ((FAMILIAR, DAYS_SEEDS), (TEMPTING, TEMPTING_SEEDS)):
        for number, first in enumerate(range(0, 2 * count // 3, PART // 3)):
            ends = max(min(PART // 3, 2 * count // 3 - first), sim.GROUP)
            days = sim.ports(world, heldout.DAY, seed + offset + number, ends, shares)
            yield tempting(profile, cascade, days, None)
