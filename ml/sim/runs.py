"""Puts shapes together: whole runs of ports and devices, as the telemetry that a controller would be told.

A run's *event* is its first lost packet (a device's: the first packet dropped, or memory running out). Events lie
half-way between the last good sample and the first bad one, because nobody looks in between. What a simulated
element is (its kind, margin, limits) stays here: models are given :attr:`Runs.raw` and :attr:`Runs.context` only.

==================  =========================================================================  ===========
links               what happens                                                               foreseeable
==================  =========================================================================  ===========
``bend``            attenuation grows smoothly until the margin is used up                     yes
``connector``       the same in uneven steps, wavering                                         yes
``bend_cut``        a bend that breaks at 60 to 95 % of the margin                             yes
``shared``          a bend in a duct: four ports of one shared-risk group fade together        yes
``laser``           bias rises to its ceiling, then the light falls                            yes
``receiver``        errors grow under constant light                                           yes
``rain``            a shower exceeds a microwave link's margin                                 yes
``congestion``      load swells past the line rate                                             yes
``incast``          bursts grow until the queue does not hold them, at a harmless mean load    yes
``abrupt``          cut                                                                        no
``lossy``           loses frames at once                                                       no
``flapping``        down and up                                                                no
``surge``           load beyond the line rate at once                                          no
``healthy`` and     ``noisy`` (wavering, patched), ``cycle`` (temperature), ``wandering`` (a fade that stops),
decoys              ``shower`` (rain within the margin), ``bursts``, ``moved`` (steps of load that stay),
                    ``ramp_within``, ``incast_within``
==================  =========================================================================  ===========

Devices: ``creep``, ``leak`` (foreseeable), ``abrupt``; ``healthy``, ``spikes``, ``moved``, ``creep_within``,
``sawtooth``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.bank import CONTEXT
from ml.estimators.base import Flags, Floats
from ml.features import DeviceBank, PortBank
from ml.physics import FEC_LIMIT_BER, ber, q_factor
from ml.queueing import queue
from ml.sim import abrupt, device, fibre, optics, quiet, radio, traffic
from ml.sim.world import Draw, Names, Scale, World, clock, dropouts, kinds

LINK_KINDS: dict[str, float] = {
    "healthy": 0.12, "noisy": 0.08, "cycle": 0.06, "wandering": 0.07, "shower": 0.04, "bursts": 0.06,
    "moved": 0.04, "ramp_within": 0.08, "incast_within": 0.05,
    "bend": 0.05, "connector": 0.04, "bend_cut": 0.03, "laser": 0.04, "receiver": 0.03, "rain": 0.04,
    "congestion": 0.09, "incast": 0.05,
    "abrupt": 0.03, "lossy": 0.02, "flapping": 0.01, "surge": 0.02,
}  # fmt: skip
DEVICE_KINDS: dict[str, float] = {
    "healthy": 0.20, "spikes": 0.15, "moved": 0.05, "creep_within": 0.15, "sawtooth": 0.10, "creep": 0.18, "leak": 0.13,
    "abrupt": 0.04,
}  # fmt: skip
FORESEEABLE = (
    "bend", "connector", "bend_cut", "shared", "laser", "receiver", "rain", "congestion", "incast", "creep", "leak",
)  # fmt: skip
SOUND = ("healthy", "noisy", "cycle", "wandering", "shower", "bursts", "moved", "ramp_within", "incast_within")
SOUND_DEVICES = ("healthy", "spikes", "moved", "creep_within", "sawtooth")
SHARED = 0.05  # share of groups of four whose fibre bends as one
GROUP = 4


@dataclass(frozen=True, slots=True)
class Runs:
    """``time``: told times (steps, elements) in s; ``raw``: (steps, elements, inputs of the bank); ``context``:
    (steps, elements, :data:`ml.bank.CONTEXT`); ``event``: s, inf: none; ``failing``: (steps, elements);
    ``groups``: shared-risk group per element; ``lost``: samples that never arrived (their ``raw`` is nan)."""

    time: Floats
    raw: Floats
    context: NDArray[np.float32] | None
    kind: Names
    event: Floats
    failing: Flags
    groups: NDArray[np.intp]

    @property
    def foreseeable(self) -> Flags:
        flags: Flags = np.isin(self.kind, FORESEEABLE)
        return flags


@dataclass(frozen=True, slots=True)
class PortRuns:
    """The same runs seen as link failures and as congestion."""

    link: Runs
    congestion: Runs


def _event(true: Floats, failing: Flags) -> Floats:
    first = failing.argmax(axis=0)
    each = np.arange(true.shape[1])
    half_way = 0.5 * (true[first, each] + true[np.maximum(first - 1, 0), each])
    return np.where(failing.any(axis=0), half_way, np.inf)


def _draws(
    rng: np.random.Generator,
    world: World,
    scale: Scale,
    true: Floats,
    margin: Floats,
    kind: Names,
    groups: NDArray[np.intp],
) -> dict[str, tuple[NDArray[np.intp], Draw]]:
    """Onsets and lengths that fit in the run, and one draw per kind with the elements it is for."""
    count, end = len(margin), true[-1]
    low, high = np.log(scale.precursor_s[0]), np.log(scale.precursor_s[1])
    length = np.minimum(np.exp(rng.uniform(low, high, count)), 0.8 * end)
    onset = end * rng.uniform(0.08, 1.0, count) * np.maximum(0.95 - length / end, 0.1)
    onset = np.maximum(onset, 0.05 * end)
    leader = np.where(kind == "shared", groups * GROUP, np.arange(count))  # a duct bends once
    onset, length = onset[leader], length[leader]
    found = {}
    for name in np.unique(kind).tolist():
        own = np.flatnonzero(kind == name)
        found[name] = own, Draw(rng, world, true[:, own], onset[own], length[own], margin[own])
    return found


def _restart(rng: np.random.Generator, world: World, totals: Floats) -> None:
    """Some devices restart their counters at 0 once, in place; ``totals`` is (steps, elements, counters)."""
    steps, count, _ = totals.shape
    at = rng.integers(steps // 10, steps, count)
    for k in np.flatnonzero(rng.random(count) < world.resets).tolist():
        totals[at[k] :, k] -= totals[at[k], k]


def ports(world: World, scale: Scale, seed: int, count: int, shares: Mapping[str, float] = LINK_KINDS) -> PortRuns:
    """Simulate ``count`` ports; the same arguments give the same runs."""
    rng = np.random.default_rng([seed, scale.steps, len(world.name)])
    kind = kinds(rng, count, {**shares, **world.shapes})
    groups = np.arange(count) // GROUP
    if any(name in FORESEEABLE for name in shares):
        bent = rng.random(groups[-1] + 1) < SHARED
        kind = np.where(bent[groups], "shared", kind)
    true, told = clock(rng, world, scale, count)
    elapsed = np.diff(true, axis=0, prepend=0.0)
    shape = true.shape
    is_radio = np.isin(kind, ("rain", "shower"))
    margin = np.where(is_radio, rng.uniform(*world.radio_margin_db, count), rng.uniform(*world.margin_db, count))
    noise = np.where(kind == "noisy", rng.uniform(*world.noisy_db, count), rng.uniform(*world.power_noise_db, count))
    noise = np.minimum(noise, 0.09 * margin)

    fade, penalty, warm = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    bias = np.ones(shape)
    dead, loss = np.zeros(shape, dtype=bool), np.zeros(shape)
    load, burst = np.empty(shape), np.zeros(shape)
    context: NDArray[np.float32] | None = None
    for name, (own, draw) in _draws(rng, world, scale, true, margin, kind, groups).items():
        load[:, own] = traffic.usual(draw)
        match name:
            case "bend" | "shared":
                fade[:, own] = fibre.bend(draw)
            case "connector":
                fade[:, own] = fibre.connector(draw)
            case "bend_cut":
                fade[:, own], dead[:, own] = fibre.bend_then_cut(draw)
            case "laser" | "receiver" | "cycle":
                worn = {"laser": optics.laser, "receiver": optics.receiver, "cycle": optics.swing}[name](draw)
                fade[:, own], penalty[:, own], bias[:, own], warm[:, own] = worn
            case "rain" | "shower":
                rain = radio.shower(draw, fails=name == "rain")
                fade[:, own] = rain.attenuation
                context = np.zeros((*shape, len(CONTEXT)), dtype=np.float32) if context is None else context
                for k, part in enumerate((rain.rain_mm_per_h, rain.rain_fade_db, rain.gust_m_per_s, rain.alert)):
                    context[:, own, k] = part
            case "wandering":
                fade[:, own] = fibre.stops(draw)
            case "noisy":
                fade[:, own] = quiet.patched(draw)
            case "abrupt":
                dead[:, own] = abrupt.cut(draw)
            case "flapping":
                dead[:, own] = abrupt.flapping(draw)
            case "lossy":
                loss[:, own] = abrupt.lossy(draw)
            case "congestion":
                load[:, own] = traffic.ramp(draw)
            case "ramp_within":
                load[:, own] = traffic.ramp_within(draw)
            case "surge":
                load[:, own] = traffic.surge(draw)
            case "bursts":
                load[:, own] = traffic.bursts(draw)
            case "moved":
                load[:, own] = traffic.moved(draw)
            case "incast" | "incast_within":
                load[:, own], burst[:, own] = traffic.incast(draw, fails=name == "incast")

    # Optics: Q falls with the light dB for dB; the limit of error correction is where the margin is used up.
    gone = (fade + penalty + 1.5 * noise >= margin) & np.isin(kind, FORESEEABLE)
    power = rng.uniform(-12.0, -3.0, count) - 30.0 * is_radio
    wavering = rng.normal(0.0, 1.0, shape) * noise
    received = np.where(dead, -60.0, np.maximum(power - fade + wavering, -60.0))
    limit = FEC_LIMIT_BER * np.exp(rng.normal(0.0, world.limit_spread, count))
    level = np.where(dead, -40.0, margin - fade - penalty + wavering)
    error_rate = np.minimum(ber(q_factor(limit) * 10 ** (level / 20.0)) * rng.lognormal(0.0, 0.05, shape), 0.5)
    loss = np.where(dead, 1.0, np.where(gone, np.clip((error_rate / limit - 1.0) * 2.0, 0.01, 1.0), loss))
    failing = gone | dead | (loss > 0.0)

    # Traffic.
    pps = 10 ** rng.uniform(3.5, 5.5, count)
    really = rng.uniform(*world.full_at, count)
    wobble = np.exp(rng.normal(0.0, 1.0, shape) * rng.uniform(*world.burstiness, count))
    packets = rng.poisson(np.maximum(load * pps * elapsed, 0.0)) + np.zeros(1)
    offered = packets / np.maximum(really * pps * elapsed, 1e-9)
    room = np.floor(rng.uniform(*world.queue_packets, count))
    overflows = np.isin(kind, ("congestion", "surge"))
    longest, dropped = queue(np.where(overflows, offered, np.minimum(offered, 0.98)), elapsed, really * pps, room, rng)
    longest = np.maximum(longest, np.round(np.minimum(burst, 1.0) * room))
    dropped = np.where(overflows, dropped, 0.0)
    dropped += np.where(kind == "incast", np.maximum(burst - 1.0, 0.0) * room, 0.0)
    carried = np.minimum(packets * wobble, really * pps * elapsed * 1.001)  # the reading wavers, not the traffic
    size = rng.uniform(200.0, 1400.0, count)

    # Heartbeats.
    rtt = rng.uniform(60.0, 2e4, count) * 10 ** (rng.normal(0.0, 1.0, shape) * rng.uniform(0.02, 0.2, count))
    beats = np.minimum(elapsed, 60.0) * 10.0
    lost = rng.poisson(loss * beats) + (rng.random(shape) < 2e-6)
    frames, words = rng.poisson(loss * 100.0 * elapsed), rng.poisson(np.where(gone, loss, 0.0) * 1e3 * elapsed)

    raw = np.full((*shape, len(PortBank.INPUTS)), np.nan)
    raw[..., 0], raw[..., 1], raw[..., 2] = received, error_rate, longest
    raw[..., 3] = np.where(loss >= 1.0, np.nan, rtt)
    raw[..., 4] = 8.0 * size * pps
    raw[..., 5] = ~(dead & (rng.random(count) < 0.5))
    raw[..., 6] = rng.uniform(20.0, 60.0, count) * bias * np.exp(rng.normal(0.0, 0.004, shape))
    raw[..., 7] = rng.uniform(25.0, 50.0, count) + warm + rng.normal(0.0, 0.3, shape)
    raw[..., 8] = np.where(rng.random(count) < world.queue_told, room, np.nan)
    for k, grown in enumerate((words, frames, carried * size, dropped, lost), start=PortBank.GAUGES):
        raw[..., k] = np.cumsum(grown, axis=0)
    _restart(rng, world, raw[..., PortBank.GAUGES :])
    for inputs in ((0,), (1,), (3, 13), (6, 7)):
        raw[:, rng.random(count) < world.blind, inputs[0] : inputs[-1] + 1 : max(inputs[-1] - inputs[0], 1)] = np.nan
    raw[rng.random(raw.shape) < rng.uniform(*world.lost_values, count)[:, None]] = np.nan
    raw[dropouts(rng, world, scale.steps, count)] = np.nan
    full = dropped > 0.0
    link = Runs(told, raw, context, kind, _event(true, failing), failing, groups)
    return PortRuns(link, Runs(told, raw, context, kind, _event(true, full), full, groups))


def devices(world: World, scale: Scale, seed: int, count: int, shares: Mapping[str, float] = DEVICE_KINDS) -> Runs:
    """Simulate ``count`` devices; the same arguments give the same runs."""
    rng = np.random.default_rng([seed, scale.steps, len(world.name), 7])
    kind = kinds(rng, count, {**shares, **world.shapes})
    groups = np.arange(count) // GROUP
    true, told = clock(rng, world, scale, count)
    elapsed = np.diff(true, axis=0, prepend=0.0)
    shape = true.shape
    load, dead = np.empty(shape), np.zeros(shape, dtype=bool)
    memory = rng.uniform(0.1, 0.8, count) * np.ones(shape)
    full = np.zeros(shape, dtype=bool)
    busy = {"creep": device.creep, "creep_within": device.creep_within, "spikes": device.spikes, "moved": device.moved}
    for name, (own, draw) in _draws(rng, world, scale, true, np.ones(count), kind, groups).items():
        load[:, own] = busy.get(name, traffic.usual)(draw)
        if name == "leak":
            memory[:, own], full[:, own] = device.leak(draw)
        elif name == "sawtooth":
            memory[:, own] = device.sawtooth(draw)
        elif name == "abrupt":
            dead[:, own] = abrupt.cut(draw)
    shown = np.clip(load + rng.normal(0.0, 1.0, shape) * rng.uniform(*world.cpu_noise, count), 0.0, None)
    creeping = kind == "creep"
    room = np.floor(rng.uniform(*world.backlog_packets, count))
    offered = np.where(creeping, load, np.minimum(load, 0.98))
    longest, dropped = queue(offered, elapsed, 10 ** rng.uniform(3.5, 5.3, count), room, rng)
    dropped = np.where(creeping, dropped, 0.0)
    failing = (dropped > 0.0) | full | dead
    raw = np.empty((*shape, len(DeviceBank.INPUTS)))
    raw[..., 0], raw[..., 2] = np.minimum(shown, 1.0), longest
    raw[..., 1] = np.clip(memory + rng.normal(0.0, 0.003, shape), 0.0, 1.0)
    raw[..., 3] = np.cumsum(dropped, axis=0)
    _restart(rng, world, raw[..., DeviceBank.GAUGES :])
    raw[dead] = np.nan  # a dead device says nothing
    raw[rng.random(raw.shape) < rng.uniform(*world.lost_values, count)[:, None]] = np.nan
    raw[dropouts(rng, world, scale.steps, count)] = np.nan
    return Runs(told, raw, None, kind, _event(true, failing), failing, groups)
