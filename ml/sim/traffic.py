"""Load on a port, as a share of its line rate; and the bursts that fill a queue while the mean looks harmless."""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Floats
from ml.sim.world import Draw


def usual(draw: Draw, low: float = 0.02, high: float = 0.5) -> Floats:
    """A level with a slow daily swing of up to a third, at any phase."""
    level, depth = draw.uniform(low, high), draw.uniform(0.0, 0.33)
    phase = draw.uniform(0.0, 1.0)
    swing: Floats = level * (1.0 + depth * np.sin(2 * np.pi * (draw.time / 86_400.0 + phase)))
    return swing


def ramp(draw: Draw) -> Floats:
    """Congestion: swells past the line rate at the end of the precursor."""
    base = usual(draw)
    past = draw.uniform(1.08, 1.5)
    start = base[0]
    grown = np.minimum(draw.progress() * (1.0 - start) / (past - start), 1.0)  # 1.0 is reached after `length`
    load: Floats = base + (past - base) * grown
    return load


def ramp_within(draw: Draw) -> Floats:
    """A ramp that stops in time (a decoy)."""
    base = usual(draw)
    stop = np.maximum(draw.span(draw.world.within), base)
    return base + (stop - base) * np.minimum(draw.progress() / draw.uniform(0.5, 1.0), 1.0)


def surge(draw: Draw) -> Floats:
    """Beyond the line rate at once: nothing announces it."""
    base = usual(draw)
    return np.where(draw.time >= draw.onset, draw.uniform(1.08, 1.5), base)


def bursts(draw: Draw) -> Floats:
    """Bursts within capacity, up to 90 % (a decoy)."""
    load = usual(draw)
    for at in draw.moments(5):
        wide = 10 ** draw.uniform(1.3, 3.3)
        tall = np.maximum(draw.span(draw.world.bursts) - load.max(axis=0), 0.0)
        load = load + tall * (draw.since(at) - draw.since(at + wide))
    return load


def moved(draw: Draw, window: float | Floats = 1.0) -> Floats:
    """Traffic (or work) that is moved here, and may be moved away again: up to three steps, each of which stays, up to
    90 % (a decoy). Readings are means over the last ``window`` (a share) of each sampling interval."""
    load = usual(draw)
    above, level = load.max(axis=0), np.zeros(draw.count)
    for at in draw.moments(3):
        target = np.where(draw.some(0.7), np.maximum(draw.span(draw.world.bursts) - above, 0.0), 0.0)
        load = load + (target - level) * draw.since(at, window)
        level = target
    return load


def incast(draw: Draw, fails: bool) -> tuple[Floats, Floats]:
    """(load, longest burst as a share of the queue): more and more senders answer at once, so that bursts grow
    until they do not fit any more, at a mean load of 15 to 60 %. Or they stop growing at up to 60 % of the room."""
    load = usual(draw, 0.15, 0.55)
    start = draw.uniform(0.02, 0.2)
    end = np.ones(draw.count) if fails else draw.span(draw.world.incast)
    share = start + np.maximum(end - start, 0.0) * (draw.progress() if fails else np.minimum(draw.progress(), 1.0))
    return load, share * np.exp(draw.noise(0.05))
