"""Run-to-failure telemetry with physical shapes, seeded: what models are trained and judged on.

Each element lives one run of its own, in units of time (see :mod:`ml.features`). Some fail after a precursor,
some fail without one, most never fail although many of those look unwell. Shapes:

===================  ============================================================================================
``healthy``          small noise
``noisy``            receive power noise up to 0.6 dB, a loose connector's steps and dips, all within the margin
``wandering``        attenuation that rises like a dying link's, stops at up to 45 % of the margin, may recover
``gray``             attenuation ramp (fibre bend, dirty connector, failing laser) until the FEC limit and beyond
``abrupt``           cut without precursor
``lossy``            begins with loss, optics unremarkable
``flapping``         link down and up again, several times
``bursts``           traffic bursts within capacity, up to 90 % of the line rate
``moved``            traffic that is moved here and away: steps that stay, up to 90 %
``ramp_within``      traffic ramp that stops at 55-86 %
``congestion``       traffic ramp beyond the line rate, queue fills, drops
``surge``            traffic jump beyond the line rate at once
===================  ============================================================================================

Devices: ``healthy``, ``spikes``, ``moved``, ``creep_within``, ``overload``, ``leak`` (memory), ``abrupt``. What is
read is a mean over a window, so a step that falls inside one gives low, mid, high.

A run's *event* is its first lost packet. Optics follow :mod:`ml.physics`: Q falls with the received power (dB for
dB, a receiver limited by optical noise), the FEC limit is where the margin is used up. A queue is a fluid with
an M/M/1-like ripple. Heartbeat round-trip times carry the stalls of a busy machine, shared by all elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.physics import FEC_LIMIT_BER, ber, q_factor
from ml.queueing import queue

LINK_KINDS: dict[str, float] = {
    "healthy": 0.22,
    "noisy": 0.15,
    "wandering": 0.10,
    "gray": 0.13,
    "abrupt": 0.04,
    "lossy": 0.03,
    "flapping": 0.02,
    "bursts": 0.08,
    "moved": 0.02,
    "ramp_within": 0.07,
    "congestion": 0.12,
    "surge": 0.02,
}
DEVICE_KINDS: dict[str, float] = {
    "healthy": 0.32,
    "spikes": 0.20,
    "moved": 0.03,
    "creep_within": 0.17,
    "overload": 0.18,
    "leak": 0.06,
    "abrupt": 0.04,
}
FORESEEABLE = ("gray", "congestion", "overload", "leak")
STEPS = 130  # samples per run, 0.05-0.1 units apart


@dataclass(frozen=True, slots=True)
class Runs:
    """``time``: (steps, elements); ``raw``: (steps, elements, inputs of the bank); ``failing``: loss at the sample
    time, (steps, elements); ``event``: first loss of the mode, inf without; ``kind``: per element."""

    time: Floats
    raw: Floats
    kind: np.ndarray[tuple[int], np.dtype[np.str_]]
    event: Floats
    failing: np.ndarray[tuple[int, int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class PortRuns:
    """The same runs seen as link failures and as congestion."""

    link: Runs
    congestion: Runs


def _kinds(
    rng: np.random.Generator, count: int, shares: Mapping[str, float]
) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    weights = np.array(list(shares.values()))
    return rng.choice(np.array(list(shares)), size=count, p=weights / weights.sum())


def _times(rng: np.random.Generator, count: int) -> Floats:
    """Jittered sampling with an occasional gap (a stalled server, lost samples)."""
    pace = rng.uniform(0.05, 0.1, count)
    gaps = rng.normal(1.0, 0.12, (STEPS, count)).clip(0.5, 2.0) * pace
    gaps += np.where(rng.random((STEPS, count)) < 0.01, rng.uniform(0.1, 0.5, (STEPS, count)), 0.0)
    times: Floats = np.cumsum(gaps, axis=0)
    return times


def _told(rng: np.random.Generator, time: Floats) -> Floats:
    """Sample times as the receiver is told them. Half of the elements stamp the reading itself; the others stamp a
    little late, much on a busy machine, so that a rate computed from them wavers while the counter is steady."""
    late = rng.exponential(0.001, time.shape) + (rng.random(time.shape) < 0.05) * rng.uniform(0.0, 0.04, time.shape)
    late *= rng.random(time.shape[1]) < 0.5
    told: Floats = np.maximum.accumulate(time + late, axis=0) + 1e-6 * np.arange(len(time))[:, None]
    return told


def _ramp(time: Floats, onset: Floats, length: Floats, power: Floats) -> Floats:
    """0 before ``onset``, 1 after ``length``, growing on beyond; ``power`` 1 is a straight line."""
    share: Floats = np.maximum(time - onset, 0.0) / length
    curve: Floats = np.where(share < 1.0, share**power, 1.0 + power * (share - 1.0))
    return curve


def _steps(rng: np.random.Generator, time: Floats, most: Floats) -> Floats:
    """Up to three steps up or down between 0 and ``most``, each taking 0.02-0.6 units."""
    count = time.shape[1]
    level = np.zeros(count)
    total = np.zeros(time.shape)
    for at in np.sort(rng.uniform(0.8, 9.0, (3, count)), axis=0):
        target = np.where(rng.random(count) < 0.6, rng.uniform(0.0, 1.0, count) * most, 0.0)
        total += np.clip((time - at) / rng.uniform(0.02, 0.6, count), 0.0, 1.0) * (target - level)
        level = target
    return total


def _since(time: Floats, moment: Floats, window: Floats) -> Floats:
    """What a mean over the last ``window`` units sees of a step at ``moment``: 0, 1, or anything between."""
    seen: Floats = np.clip((time - moment) / window, 0.0, 1.0)
    return seen


def _moved(rng: np.random.Generator, time: Floats, window: Floats, room: Floats) -> Floats:
    """Load above the usual: one to three steps that stay, up to a load of 30 to 90 %, of which ``room`` are left."""
    level, total = np.zeros(time.shape[1]), np.zeros(time.shape)
    for at in np.sort(rng.uniform(0.8, 9.0, (3, len(level))), axis=0):
        top = np.where(rng.random(len(level)) < 0.7, rng.uniform(0.3, 0.9, len(level)), 0.0)
        target = np.maximum(top - (1.0 - room), 0.0)
        total += (target - level) * _since(time, at, window)
        level = target
    return total


def _first(time: Floats, hit: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Floats:
    """Time of the first True per element, inf without."""
    found: Floats = np.where(hit.any(axis=0), time[hit.argmax(axis=0), np.arange(time.shape[1])], np.inf)
    return found


def _noise(rng: np.random.Generator, count: int, kind: np.ndarray[tuple[int], np.dtype[np.str_]]) -> Floats:
    calm = rng.uniform(0.02, 0.25, count)
    noise: Floats = np.where(kind == "noisy", rng.uniform(0.1, 0.6, count), calm)
    return noise


def ports(seed: int, count: int, shares: Mapping[str, float] = LINK_KINDS) -> PortRuns:
    """Simulate ``count`` ports; the same seed gives the same runs."""
    rng = np.random.default_rng(seed)
    kind = _kinds(rng, count, shares)
    time = _times(rng, count)
    elapsed = np.diff(time, axis=0, prepend=0.0)
    shape = time.shape
    onset = rng.uniform(1.2, 6.0, count)

    # Optics: attenuation against a margin.
    margin = rng.uniform(7.0, 8.8, count)
    power = rng.uniform(-12.0, -3.0, count)
    noise = _noise(rng, count, kind)
    length = rng.uniform(1.6, 3.5, count)
    bend = np.where(rng.random(count) < 0.6, 1.0, rng.uniform(0.7, 1.5, count))
    attenuation = np.where(kind == "gray", margin, 0.0) * _ramp(time, onset, length, bend)
    bump = np.minimum(_ramp(time, onset, length * 0.35, np.ones(count)), 1.0)
    back = np.minimum(
        _ramp(time, onset + rng.uniform(1.5, 4.0, count), rng.uniform(0.3, 2.0, count), np.ones(count)), 1.0
    )
    heals = rng.random(count) < 0.5
    peak = rng.uniform(0.05, 0.45, count) * margin
    attenuation += np.where(kind == "wandering", peak, 0.0) * (bump - heals * back)
    attenuation += _steps(rng, time, np.where(kind == "noisy", np.minimum(3.2, 0.42 * margin), 0.0))
    gray_loss = (kind == "gray") & (attenuation + 1.5 * noise >= margin)
    cut = (kind == "abrupt") & (time >= onset)
    lossy = (kind == "lossy") & (time >= onset)
    period = rng.uniform(0.6, 1.5, count)
    flapped = (kind == "flapping") & (time >= onset) & ((time - onset) % period < 0.5 * period)
    attenuation = np.where(cut | flapped, 40.0, attenuation)
    received = power - attenuation + rng.normal(0.0, 1.0, shape) * noise
    error_rate = ber(q_factor(FEC_LIMIT_BER) * 10 ** ((margin - attenuation + (received - power + attenuation)) / 20.0))
    error_rate = error_rate * rng.lognormal(0.0, 0.05, shape)
    loss = np.clip((error_rate / FEC_LIMIT_BER - 1.0) * 2.0, 0.0, 1.0) * (gray_loss | cut | flapped)
    growing = 0.02 + 0.6 * np.clip((time - onset) / 2.0, 0.0, 1.0)
    loss = np.where(lossy, growing, loss)
    link_failing = (loss > 0.0) | gray_loss | cut | flapped

    # Traffic: offered load against the line rate.
    usual = rng.uniform(0.02, 0.5, count)
    past = rng.uniform(1.08, 1.5, count)
    load = usual + np.where(kind == "congestion", past - usual, 0.0) * np.minimum(
        _ramp(time, onset, rng.uniform(1.8, 4.0, count), np.ones(count)), 1.0
    )
    within = rng.uniform(0.55, 0.86, count)
    load += np.where(kind == "ramp_within", np.maximum(within - usual, 0.0), 0.0) * np.minimum(
        _ramp(time, onset, rng.uniform(0.8, 3.0, count), np.ones(count)), 1.0
    )
    load += np.where((kind == "surge") & (time >= onset), past - usual, 0.0)
    for _ in range(4):
        start, wide = rng.uniform(0.5, 9.0, count), rng.uniform(0.08, 1.2, count)
        tall = np.where(kind == "bursts", np.maximum(rng.uniform(0.3, 0.9, count) - load.max(axis=0), 0.0), 0.0)
        load += tall * (_since(time, start, elapsed) - _since(time, start + wide, elapsed))
    load += np.where(kind == "moved", _moved(rng, time, elapsed, 1.0 - usual), 0.0)
    pps = 10 ** rng.uniform(3.2, 5.0, count)  # line rate in packets per unit
    packets = rng.poisson(np.maximum(load * pps * elapsed, 0.0))
    offered = packets / np.maximum(pps * elapsed, 1e-9)
    longest, dropped = queue(offered, elapsed, pps, np.full(count, 256.0), rng)
    overflows = np.isin(kind, ("congestion", "surge"))
    dropped = np.where(overflows, dropped, 0.0)
    carried = np.minimum(packets, np.ceil(pps * elapsed * 1.001))
    size = rng.uniform(200.0, 1400.0, count)

    # Heartbeats: round-trip times with stalls that hit everybody, losses that follow the link's.
    stall = 10 ** rng.uniform(2.5, 4.6, shape) * (rng.random((STEPS, 1)) < 0.04)
    quiver = 10 ** rng.normal(0.0, rng.uniform(0.05, 0.35, count), shape)
    rtt = rng.uniform(60.0, 2e4, count) * quiver + stall + 3e3 * rng.random(shape) * (loss > 0.0)
    beats = rng.poisson(elapsed * 100.0)
    lost = rng.binomial(beats, loss) + (rng.random(shape) < 2e-5)
    rtt = np.where(loss >= 1.0, np.nan, rtt)
    frames_lost = rng.poisson(loss * 200.0 * elapsed)
    words = rng.poisson(np.where(lossy, 0.0, np.minimum(loss, 1.0) * 1e4 * elapsed))

    raw = np.full((*shape, len(PortBank.INPUTS)), np.nan)  # the lab measures neither bias nor temperature
    raw[..., 0], raw[..., 1], raw[..., 2], raw[..., 3] = received, np.minimum(error_rate, 0.5), longest, rtt
    raw[..., 4] = 8.0 * size * pps
    raw[..., 5] = ~((cut & (rng.random(count) < 0.3)) | flapped)
    raw[..., 9], raw[..., 10] = np.cumsum(words, axis=0), np.cumsum(frames_lost, axis=0)
    raw[..., 11], raw[..., 12] = np.cumsum(carried * size, axis=0), np.cumsum(dropped, axis=0)
    raw[..., 13] = np.cumsum(lost, axis=0)
    _blind(rng, raw)
    dark = (raw[..., 5] == 0.0) & (rng.random(count) < 0.5)  # all that is left is a port that says it is down
    raw[..., [0, 1, 3]] = np.where(dark[..., None], np.nan, raw[..., [0, 1, 3]])
    raw[..., 9:] = np.where(dark[..., None], np.nan, raw[..., 9:])
    told = _told(rng, time)
    link = Runs(told, raw, kind, _first(time, link_failing), link_failing)
    full = dropped > 0.0
    return PortRuns(link, Runs(told, raw, kind, _first(time, full), full))


def _blind(rng: np.random.Generator, raw: Floats) -> None:
    """Some devices do not measure everything, and single readings get lost."""
    count = raw.shape[1]
    unseen = rng.choice(4, size=count, p=[0.85, 0.05, 0.05, 0.05])
    for index, inputs in ((1, (0,)), (2, (1,)), (3, (3, 13))):
        for k in inputs:
            raw[:, unseen == index, k] = np.nan
    raw[rng.random(raw.shape) < 0.003] = np.nan


def devices(seed: int, count: int, shares: Mapping[str, float] = DEVICE_KINDS) -> Runs:
    """Simulate ``count`` devices; an event is the first packet dropped because the backlog was full, or memory
    running out."""
    rng = np.random.default_rng(seed)
    kind = _kinds(rng, count, shares)
    time = _times(rng, count)
    elapsed = np.diff(time, axis=0, prepend=0.0)
    shape = time.shape
    ones = np.ones(count)
    onset = rng.uniform(1.2, 6.0, count)
    usual = rng.uniform(0.03, 0.5, count)
    past = rng.uniform(1.08, 1.5, count)
    load = usual + np.where(kind == "overload", past - usual, 0.0) * np.minimum(
        _ramp(time, onset, rng.uniform(1.8, 4.0, count), ones), 1.0
    )
    within = np.maximum(rng.uniform(0.5, 0.86, count) - usual, 0.0)
    load += np.where(kind == "creep_within", within, 0.0) * np.minimum(
        _ramp(time, onset, rng.uniform(0.8, 3.0, count), ones), 1.0
    )
    window = np.minimum(rng.uniform(0.02, 0.1, count), elapsed)  # the load is a mean over this long
    for _ in range(4):
        start, wide = rng.uniform(0.5, 9.0, count), rng.uniform(0.05, 0.5, count)
        tall = np.where(kind == "spikes", np.maximum(rng.uniform(0.4, 0.95, count) - load.max(axis=0), 0.0), 0.0)
        load += tall * (_since(time, start, window) - _since(time, start + wide, window))
    load += np.where(kind == "moved", _moved(rng, time, window, 1.0 - usual), 0.0)
    noise = rng.uniform(0.003, 0.04, count)
    shown = np.clip(load + rng.normal(0.0, 1.0, shape) * noise, 0.0, None)
    pps = 10 ** rng.uniform(3.5, 5.3, count)
    longest, dropped = queue(shown, elapsed, pps, np.full(count, 1024.0), rng)
    dropped = np.where(kind == "overload", dropped, 0.0)
    memory = rng.uniform(0.1, 0.8, count) + rng.normal(0.0, 0.003, shape)
    leaking = kind == "leak"
    start = rng.uniform(0.3, 0.7, count)
    memory = np.where(leaking, start + (1.0 - start) * _ramp(time, onset, rng.uniform(1.6, 3.8, count), ones), memory)
    cut = (kind == "abrupt") & (time >= onset)
    failing = (dropped > 0.0) | (leaking & (memory >= 1.0)) | cut
    raw = np.empty((*shape, len(DeviceBank.INPUTS)))
    raw[..., 0], raw[..., 1] = np.minimum(shown, 1.0), np.clip(memory, 0.0, 1.0)
    raw[..., 2], raw[..., 3] = longest, np.cumsum(dropped, axis=0)
    raw[cut] = np.nan  # a dead device says nothing
    raw[rng.random(raw.shape) < 0.003] = np.nan
    return Runs(_told(rng, time), raw, kind, _first(time, failing), failing)
