"""Transceivers that wear out: the laser's bias current rises to hold its power, until it cannot any more.

Automatic power control raises the bias as the laser ages (Telcordia GR-468 takes +50 % as end of life); the loss of
power begins where bias reaches its ceiling. A receiver that ages (or warms up) shows in the error ratio alone: its
noise grows while the light stays. Bias is relative to its first value, temperature in degrees C.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ml.estimators.base import Floats
from ml.sim.world import Draw


class Wear(NamedTuple):
    attenuation: Floats  # dB of light lost
    penalty: Floats  # dB of Q lost without any loss of light
    bias: Floats  # multiple of the first value
    warmer: Floats  # degrees C


def laser(draw: Draw) -> Wear:
    """Bias up to its ceiling in the first half of the precursor, then the power falls."""
    progress = draw.progress()
    ceiling = draw.uniform(1.3, 1.6)
    turn = draw.uniform(0.3, 0.6)
    bias = 1.0 + (ceiling - 1.0) * np.minimum(progress / turn, 1.0)
    falling = np.maximum(progress - turn, 0.0) / (1.0 - turn)
    return Wear(draw.margin * falling, np.zeros_like(progress), bias, 6.0 * np.minimum(progress, 1.5))


def receiver(draw: Draw) -> Wear:
    """The eye closes under constant light."""
    progress = draw.progress(draw.uniform(0.8, 1.6))
    none = np.zeros_like(progress)
    return Wear(none, draw.margin * progress, np.ones_like(progress), 3.0 * np.minimum(progress, 1.5))


def swing(draw: Draw) -> Wear:
    """A temperature cycle of 0.5 to 24 hours: bias follows (about 1 % per degree), light by tenths of a dB."""
    period = 3600.0 * 10 ** draw.uniform(-0.3, 1.38)
    wave = np.sin(2 * np.pi * (draw.time / period + draw.uniform(0.0, 1.0)))
    degrees = draw.span(draw.world.temperature_swing_c) * wave
    return Wear(0.03 * degrees, np.zeros_like(wave), 1.0 + 0.01 * degrees, degrees)
