"""Devices: processors that creep up, memory that leaks, and what only looks like it."""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Flags, Floats
from ml.sim import traffic
from ml.sim.world import Draw


def creep(draw: Draw) -> Floats:
    """CPU load that creeps past what the processor can do at the end of the precursor."""
    return traffic.ramp(draw)


def creep_within(draw: Draw) -> Floats:
    return traffic.ramp_within(draw)


def _window(draw: Draw) -> Floats:
    """Share of the sampling interval over which each device takes the mean of its load."""
    return draw.uniform(0.05, 1.0)


def moved(draw: Draw) -> Floats:
    """Work that is moved here and away: steps (a decoy)."""
    return traffic.moved(draw, _window(draw))


def spikes(draw: Draw) -> Floats:
    """Batch jobs and scans: short, up to 95 % (a decoy)."""
    load, window = traffic.usual(draw), _window(draw)
    for at in draw.moments(6):
        wide = 10 ** draw.uniform(1.0, 2.5)
        tall = np.maximum(draw.uniform(0.4, 0.95) - load.max(axis=0), 0.0)
        load = load + tall * (draw.since(at, window) - draw.since(at + wide, window))
    return load


def leak(draw: Draw) -> tuple[Floats, Flags]:
    """(memory in use, failed): never given back, until the device fails at the end of the precursor."""
    start = draw.uniform(0.25, 0.75)
    full = draw.span(draw.world.memory_fails_at)
    memory = start + (full - start) * draw.progress(draw.uniform(0.9, 1.1))
    return memory, memory >= full


def sawtooth(draw: Draw) -> Floats:
    """Caches and garbage collectors: memory that rises like a leak to at most 88 %, and is given back (a decoy)."""
    low, high = draw.uniform(0.2, 0.6), draw.uniform(0.5, 0.88)
    period = draw.length * draw.uniform(0.3, 1.5)
    share = ((draw.time + draw.uniform(0.0, 1.0) * period) % period) / period
    return low + np.maximum(high - low, 0.0) * share
