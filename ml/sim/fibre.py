"""Fibres and connectors: attenuation that grows until the light is too weak, or until the fibre breaks.

A bend's loss grows roughly exponentially with its tightness (D. Marcuse, Curvature loss formula for optical
fibers, JOSA 66, 1976); a dirty or loosening connector fades in steps (wavering with vibration); a bent fibre that is
pulled on breaks before its margin is used up. Attenuation is in dB.
"""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Flags, Floats
from ml.sim.world import Draw


def bend(draw: Draw) -> Floats:
    """Grows smoothly until the margin is used up, and beyond."""
    return draw.margin * draw.progress(draw.uniform(0.8, 2.2))


def connector(draw: Draw) -> Floats:
    """A ramp in 8 to 40 uneven steps, with wavering that grows as contact is lost."""
    steps = np.floor(draw.uniform(8.0, 40.0))
    smooth = draw.progress()
    stairs = np.floor(smooth * steps) / steps
    mixed = 0.5 * smooth + 0.5 * stairs
    waver: Floats = draw.noise(0.03) * draw.margin * np.minimum(smooth, 1.0)
    return draw.margin * mixed + np.abs(waver)


def bend_then_cut(draw: Draw) -> tuple[Floats, Flags]:
    """(attenuation, cut): a bend that breaks at 60 to 95 % of the margin."""
    progress = draw.progress(draw.uniform(0.8, 2.0))
    breaks = draw.uniform(0.6, 0.95)
    return draw.margin * np.minimum(progress, 1.0), progress >= breaks


def stops(draw: Draw) -> Floats:
    """Attenuation like a bend's that stops within the margin (``stops``); half of them recover (a decoy)."""
    peak = draw.span(draw.world.stops) * draw.margin
    up = np.minimum(draw.progress() / draw.uniform(0.2, 1.0), 1.0)
    back = np.clip((draw.time - draw.onset - draw.length * draw.uniform(0.6, 2.0)) / draw.length, 0.0, 1.0)
    level: Floats = peak * (up - draw.some(0.5) * np.minimum(back, up))
    return level
