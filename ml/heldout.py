"""Models played over simulated worlds that they have not seen: what every judgement of them rests on.

:func:`play` gives times, probabilities and outcomes per mode; :func:`healthy_days` counts false flips on links that
never fail. Both go through the same banks and the same cascade as the live analyzer. Nothing that the simulator knows
about an element reaches the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml import simulate, wide
from ml.boosted import expit
from ml.cascade import Cascade
from ml.estimators.base import Flags, Floats
from ml.features import DeviceBank, PortBank
from ml.neighbours import Neighbours
from ml.profiles import LAB, PROFILES, WARM_UP, Profile
from ml.schema import Mode
from ml.sim import runs as sim
from ml.sim.world import FAMILIAR, SCALES, UNSEEN, Names, Scale, World

LIMITS: tuple[float, ...] = tuple(float(v) for v in expit(np.arange(-7.0, 9.01, 0.125)).round(6))  # thresholds tried
AT_ONCE = 3_000  # ports played at a time: more would not fit in a small machine's memory
Scores = Callable[[PortBank | DeviceBank], dict[Mode, Floats]]


@dataclass(frozen=True, slots=True)
class Played:
    """One mode over many runs. ``time`` (s), ``probability`` (within ``horizon_s``; nan: not judged), ``flip`` (the
    score that alarms are decided on; None: ``probability``), ``failing``, ``level`` and ``line`` (what
    simpler forecasts say) are (steps, elements); ``event`` (s, inf: none), ``kind``
    and ``foreseeable`` are (elements,)."""

    mode: Mode
    profile: str
    time: Floats
    probability: Floats
    event: Floats
    failing: Flags
    kind: Names
    foreseeable: Flags
    level: Floats
    line: Floats
    horizon_s: float
    raise_at: float
    confirm_s: float
    act_s: float
    soon_s: float
    confirm_samples: int = 2
    flip: Floats | None = None
    confirm_at: float = 1.0

    @property
    def score(self) -> Floats:
        """What alarms are decided on."""
        return self.probability if self.flip is None else self.flip

    def rows(self) -> tuple[Floats, Floats, Floats, NDArray[np.intp]]:
        """(score, label, time, element) of the judged rows whose outcome within the horizon is known and that are
        not failing yet; all flat."""
        keep, label = self.known()
        element = np.broadcast_to(np.arange(len(self.event)), self.time.shape)
        return self.probability[keep], label[keep].astype(np.float64), self.time[keep], element[keep]

    def known(self) -> tuple[Flags, Flags]:
        """((steps, elements) rows that :meth:`rows` gives, failure within the horizon)."""
        left = self.event - self.time
        label = left <= self.horizon_s
        seen = np.nanmax(self.time, axis=0) - self.time
        keep = ~np.isnan(self.probability) & (left > 0.0) & ~self.failing & (label | (seen >= self.horizon_s))
        return keep, label

    def alarms(self, raise_at: float | None = None) -> Floats:
        """When each element's alarm is raised (s), inf for never."""
        limit = self.raise_at if raise_at is None else raise_at
        return raised_at(self.time, self.score, limit, self.confirm_s, self.confirm_samples, self.confirm_at)


def raised_at(
    time: Floats, score: Floats, limit: float, confirm_s: float, samples: int, confirm_at: float = 1.0
) -> Floats:
    """When each element's alarm is raised (s), inf for never: the score is at least ``limit``, and has been at least
    ``confirm_at`` (or ``limit``, if that is lower) over ``confirm_s`` and ``samples`` judged samples. Arrays are
    (steps, elements); nan is no judgement and changes nothing."""
    least = min(limit, confirm_at)
    count = time.shape[1]
    since, run, raised = np.full(count, np.inf), np.zeros(count), np.full(count, np.inf)
    for now, p in zip(time, score, strict=True):
        high, low = p >= least, p < least
        run = np.where(high, run + 1.0, np.where(low, 0.0, run))
        since = np.where(high, np.minimum(since, now), np.where(low, np.inf, since))
        confirmed = (p >= limit) & (run >= samples) & (now - since >= confirm_s)
        raised = np.where(confirmed, np.minimum(raised, now), raised)
    return raised


@dataclass(frozen=True, slots=True)
class Tally:
    """Alarms against events. An alarm is right when the failure comes within ``soon_s`` of it, in time when at least
    ``act_s`` before; elements that would have failed after the end of their run are left out."""

    raise_at: float
    events: int  # foreseeable ones
    hits: int
    recall: float  # of foreseeable events, alarms in time
    recall_all: float  # of all events
    precision: float
    false: int
    lead_median_s: float
    lead_p10_s: float
    right: int = 0  # alarms in time, of any event


def _outcomes(played: Played, limit: float) -> tuple[Flags, Flags, Floats]:
    """(alarm in time, false alarm, lead: -inf without) per element."""
    at = played.alarms(limit)
    struck, raised = np.isfinite(played.event), np.isfinite(at)
    lead = np.where(struck & raised, played.event - np.where(raised, at, 0.0), -np.inf)
    early = raised & struck & (lead > played.soon_s)  # too long before: the alarm was about something else
    hit = struck & (lead >= played.act_s) & ~early
    undecided = played.foreseeable & ~struck
    return hit, (raised & ~struck & ~undecided) | early, lead


def tally(played: Played, raise_at: float | None = None) -> Tally:
    limit = played.raise_at if raise_at is None else raise_at
    hit, false, lead = _outcomes(played, limit)
    struck = np.isfinite(played.event)
    known = struck & played.foreseeable
    leads = lead[hit & played.foreseeable]
    return Tally(
        limit,
        int(known.sum()),
        int((hit & known).sum()),
        float(hit[known].mean()) if known.any() else float("nan"),
        float(hit[struck].mean()) if struck.any() else float("nan"),
        float(hit.sum() / max(int((hit | false).sum()), 1)),
        int(false.sum()),
        float(np.median(leads)) if len(leads) else float("nan"),
        float(np.quantile(leads, 0.1)) if len(leads) else float("nan"),
        int(hit.sum()),
    )


def worth(played: Played, price: float, raise_at: float | None = None) -> Floats:
    """What flips did for each run: 1 where one came in time, ``-price`` where it was false, else 0. As :func:`tally`
    counts; shape (elements,)."""
    hit, false, _ = _outcomes(played, played.raise_at if raise_at is None else raise_at)
    found: Floats = np.where(hit, 1.0, np.where(false, -price, 0.0))
    return found


def at_recall(played: Played, recall: float = 0.9) -> Tally:
    """The tally at the highest threshold that reaches a recall of foreseeable events (of any, where none does)."""
    found = tally(played, LIMITS[0])
    for limit in LIMITS[::-1]:
        found = tally(played, limit)
        if found.recall >= recall:
            break
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """One moment of a stream."""

    index: int
    bank: PortBank | DeviceBank


def neighbours(groups: NDArray[np.intp]) -> Neighbours:
    return Neighbours(len(groups), [np.flatnonzero(groups == g).tolist() for g in np.unique(groups)])


def stream(bank: PortBank | DeviceBank, run: sim.Runs) -> Iterator[int]:
    """Feed a bank one step of all elements at a time."""
    for i in range(len(run.time)):
        if run.context is not None:
            bank.context[:] = run.context[i]
        bank.learn_many(slice(None), run.time[i], run.raw[i])
        yield i


def came(run: sim.Runs, step: int) -> Flags:
    """Elements whose sample arrived; what was lost confirms nothing."""
    arrived: Flags = ~np.isnan(run.raw[step]).all(axis=-1)
    return arrived


def port_levels(bank: PortBank, ahead: float) -> tuple[Floats, Floats, Floats, Floats]:
    """What simpler forecasts say: (link level, link line, load, load line); a line is the level so many units ahead on
    the long slope."""
    margin, load = wide.short_mean(bank, wide.MARGIN), wide.short_mean(bank, wide.LOAD)
    _, slope = bank._line(2)
    return -margin, -(margin + ahead * slope[wide.MARGIN]), load, load + ahead * slope[wide.LOAD]


def device_levels(bank: DeviceBank, ahead: float) -> tuple[Floats, Floats]:
    cpu, memory = wide.short_mean(bank, wide.CPU), wide.short_mean(bank, wide.MEMORY)
    _, slope = bank._line(2)
    return np.fmax(cpu, memory), np.fmax(cpu + ahead * slope[wide.CPU], memory + ahead * slope[wide.MEMORY])


def _as_runs(run: simulate.Runs) -> sim.Runs:
    """The lab's simulated runs in the shape of the others."""
    groups = np.arange(len(run.event))
    return sim.Runs(run.time, run.raw, None, run.kind, run.event, run.failing, groups)


def worlds(profile: Profile, world: World, seed: int, count: int) -> Iterator[tuple[sim.PortRuns, sim.Runs]]:
    """Ports and devices (half as many), in parts of one time scale each."""
    if profile is LAB:
        lab = simulate.ports(seed, count)
        ports = sim.PortRuns(_as_runs(lab.link), _as_runs(lab.congestion))
        yield ports, _as_runs(simulate.devices(seed + 1, max(count // 2, 1)))
        return
    for scale in SCALES:
        part = max(count // len(SCALES), 4)
        yield sim.ports(world, scale, seed, part), sim.devices(world, scale, seed, max(part // 2, 4))


def _given_or_packaged(
    profile: str, models: Cascade | None, raise_at: dict[Mode, float] | None
) -> tuple[Cascade, dict[Mode, float]]:
    """Models and thresholds to play; what is not given is the packaged set's, which is read only then."""
    from ml.store import packaged

    if models is not None and raise_at is not None:
        return models, raise_at
    own = packaged(profile)
    return (own.cascade() if models is None else models), (own.raise_at if raise_at is None else raise_at)


def play(
    profile: str, seed: int, count: int, *, unseen: bool = True, models: Cascade | None = None,
    raise_at: dict[Mode, float] | None = None, baselines: bool = True, world: World | None = None,
) -> dict[Mode, Played]:  # fmt: skip
    """Play models over ``count`` ports and half as many devices. ``unseen`` chooses the world that training never
    saw, or ``world`` any (of the lab's simulator there is one only). Seeds below 10,000 belong to training. More than
    :data:`AT_ONCE` ports are made in parts, of seeds that follow."""
    life = PROFILES[profile]
    cascade, limits = _given_or_packaged(profile, models, raise_at)
    parts: dict[Mode, list[Played]] = {}
    for number, first in enumerate(range(0, count, AT_ONCE)):
        size = min(AT_ONCE, count - first)
        for ports, devices in worlds(life, world or (UNSEEN if unseen else FAMILIAR), seed + number, size):
            for played in _part(life, cascade, limits, ports, devices, baselines):
                parts.setdefault(played.mode, []).append(played)
    return {mode: _join(items) for mode, items in parts.items()}


def _part(
    life: Profile, cascade: Cascade, limits: dict[Mode, float], ports: sim.PortRuns, devices: sim.Runs, baselines: bool
) -> Iterator[Played]:
    shape = ports.link.time.shape
    ends = PortBank(shape[1], life.unit_s, taus=life.taus)
    cascade = replace(cascade, neighbours=neighbours(ports.link.groups))
    found = np.full((8, *shape), np.nan)
    ahead = life.edges[-1]
    for i in stream(ends, ports.link):
        if i < WARM_UP:
            continue
        link, congestion = cascade.ports(ends)
        ready = ends.samples >= WARM_UP
        found[0, i] = np.where(ready, link.probability, np.nan)
        found[1, i] = np.where(ready, congestion.probability, np.nan)
        found[6, i], found[7, i] = np.where(ready & came(ports.link, i), (link.flip, congestion.flip), np.nan)
        if baselines:
            found[2:6, i] = port_levels(ends, ahead)
    for k, (mode, run) in enumerate(((Mode.LINK_FAILURE, ports.link), (Mode.CONGESTION, ports.congestion))):
        yield _played(life, mode, limits[mode], run, found[k], found[2 + 2 * k], found[3 + 2 * k], found[6 + k])
    boxes = DeviceBank(devices.time.shape[1], life.unit_s, life.taus)
    found = np.full((4, *devices.time.shape), np.nan)
    for i in stream(boxes, devices):
        if i < WARM_UP:
            continue
        item = cascade.devices(boxes)
        ready = boxes.samples >= WARM_UP
        found[0, i] = np.where(ready, item.probability, np.nan)
        found[3, i] = np.where(ready & came(devices, i), item.flip, np.nan)
        if baselines:
            found[1:3, i] = device_levels(boxes, ahead)
    mode = Mode.DEVICE_OVERLOAD
    yield _played(life, mode, limits[mode], devices, *found)


def _played(
    life: Profile,
    mode: Mode,
    raise_at: float,
    run: sim.Runs,
    probability: Floats,
    level: Floats,
    line: Floats,
    flip: Floats,
) -> Played:
    foreseeable = np.isin(run.kind, simulate.FORESEEABLE) if life is LAB else run.foreseeable
    # Only what belongs to the mode: a port that congests is no undecided link failure.
    own = np.isin(run.kind, CONGESTING if mode is Mode.CONGESTION else FADING if mode is Mode.LINK_FAILURE else BUSY)
    return Played(
        mode, life.name, run.time, probability, run.event, run.failing, run.kind, foreseeable & own,
        level, line, life.horizon_s, raise_at, life.confirm_s, life.act_s, life.soon_s, life.confirm_samples,
        flip, life.confirm_at,
    )  # fmt: skip


CONGESTING = ("congestion", "incast")
FADING = ("gray", "bend", "connector", "bend_cut", "shared", "laser", "receiver", "rain")
BUSY = ("creep", "overload", "leak")


def _join(parts: Sequence[Played]) -> Played:
    """Runs of several time scales beside each other; shorter ones are filled up with rows that nobody judged."""
    if len(parts) == 1:
        return parts[0]
    steps = max(len(part.time) for part in parts)

    def wide_as(array: Floats, fill: float) -> Floats:
        return np.pad(array.astype(np.float64), ((0, steps - len(array)), (0, 0)), constant_values=fill)

    def beside(name: str, fill: float) -> Floats:
        return np.concatenate([wide_as(getattr(part, name), fill) for part in parts], axis=1)

    return replace(
        parts[0],
        time=beside("time", np.nan),
        probability=beside("probability", np.nan),
        failing=beside("failing", 0.0) > 0.0,
        level=beside("level", np.nan),
        line=beside("line", np.nan),
        flip=beside("flip", np.nan),
        event=np.concatenate([part.event for part in parts]),
        kind=np.concatenate([part.kind for part in parts]),
        foreseeable=np.concatenate([part.foreseeable for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class HealthyDays:
    """False flips on links that never fail. ``low`` and ``high`` bound the rate per 1,000 link-days (95 %, exact for a
    Poisson count). ``strongest``: (link failure and congestion, ends of links with days), the highest threshold at
    which each would have flipped. ``end_days``: days of one end that were played, by kind."""

    link_days: float
    false: int
    by_kind: dict[str, int]
    per_1000: float
    low: float
    high: float
    strongest: Floats
    end_days: dict[str, float]

    def among(self, shares: Mapping[str, float]) -> float:
        """False flips per 1,000 link-days where the ends' kinds have other shares (of 1) than those played."""
        played = {name: days for name, days in self.end_days.items() if days > 0.0}
        return 2e3 * sum(share * self.by_kind.get(name, 0) / played[name] for name, share in shares.items())


def poisson_rate(count: int, days: float) -> tuple[float, float, float]:
    """(rate, low, high) per 1,000 days of a count, 95 %, exact.

    >>> [round(v, 1) for v in poisson_rate(3, 3_000.0)]
    [1.0, 0.2, 2.9]
    """
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * count)) / 2.0 if count else 0.0
    return 1e3 * count / days, 1e3 * low / days, 1e3 * float(chi2.ppf(0.975, 2 * count + 2)) / 2.0 / days


class Strongest:
    """The highest threshold at which a score would have raised an alarm, per element: :func:`raised_at` for all
    thresholds at once, while samples come."""

    def __init__(self, shape: tuple[int, ...], samples: int, confirm_s: float, confirm_at: float = 1.0) -> None:
        self.scores, self.times = np.zeros((samples, *shape)), np.full((samples, *shape), np.nan)
        self.found, self.confirm_s, self.confirm_at = np.zeros(shape), confirm_s, confirm_at

    def add(self, time: Floats, score: Floats) -> None:
        """Take in one sample of each element; nan: it did not come."""
        came = ~np.isnan(score)
        self.scores = np.where(came, np.concatenate((self.scores[1:], score[None])), self.scores)
        times = np.broadcast_to(time, score.shape)
        self.times = np.where(came, np.concatenate((self.times[1:], times[None])), self.times)
        long = self.times[-1] - self.times[0] >= self.confirm_s
        least = self.scores.min(axis=0)
        reached = np.where(least >= self.confirm_at, self.scores[-1], least)
        self.found = np.where(long & came, np.maximum(self.found, reached), self.found)


DAY = Scale("day", (600.0, 43_200.0), (18.0, 26.0), 3_900)


def healthy_days(
    link_days: int, seed: int, profile: str = "operations", *, models: Cascade | None = None,
    raise_at: dict[Mode, float] | None = None, unseen: bool = True, progress: Callable[[int], None] | None = None,
    world: World | None = None,
) -> HealthyDays:  # fmt: skip
    """Days of links that look unwell and are not: half of them noisy, patched, faded in part, rained upon, or loaded by
    bursts and by ramps that stop. Both ends of a link count, and each end at most once a day."""
    life = PROFILES[profile]
    if life is LAB:
        raise ValueError("the lab's compressed time has no days; use the operations profile")
    cascade, limits = _given_or_packaged(profile, models, raise_at)
    shares = {name: sim.LINK_KINDS[name] for name in sim.SOUND}
    shares["healthy"] = sum(shares.values())  # half of all
    if life.confirm_s > 0.0:
        raise ValueError("days are counted for profiles that confirm by samples only")
    false, days, by_kind, strengths = 0, 0.0, dict[str, int](), list[Floats]()
    end_days = dict.fromkeys(shares, 0.0)
    bars = np.array([[limits[Mode.LINK_FAILURE]], [limits[Mode.CONGESTION]]])
    like = replace(world or (UNSEEN if unseen else FAMILIAR), stretch=(0.9, 1.1))
    while days < link_days:
        run = sim.ports(like, DAY, seed, 2 * min(500, max(int(link_days - days), 1)), shares).link
        seed += 1
        bank = PortBank(len(run.event), life.unit_s, taus=life.taus)
        ring = replace(cascade, neighbours=neighbours(run.groups))
        best = Strongest((2, len(run.event)), life.confirm_samples, life.confirm_s, life.confirm_at)
        for i in stream(bank, run):
            if i >= WARM_UP:
                flips = np.array([item.flip for item in ring.ports(bank)])
                best.add(run.time[i], np.where(came(run, i), flips, np.nan))
        strengths.append(best.found)
        raised = (best.found >= bars).any(axis=0)
        for name in run.kind[raised].tolist():
            by_kind[name] = by_kind.get(name, 0) + 1
        false += int(raised.sum())
        spans = (run.time[-1] - run.time[0]) / 86_400.0
        for name in shares:
            end_days[name] += float(spans[run.kind == name].sum())
        days += float(spans.sum()) / 2.0
        if progress is not None:
            progress(int(days))
    strongest = np.concatenate(strengths, axis=1)
    return HealthyDays(days, false, by_kind, *poisson_rate(false, days), strongest, end_days)
