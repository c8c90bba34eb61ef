"""Microwave links: rain fades them, and the weather data that announce it are only roughly right.

Specific attenuation follows gamma = k R^a (ITU-R P.838-3; k and a here as for 18 to 38 GHz), fades come as cells
that pass in minutes to an hour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ml.estimators.base import Floats
from ml.sim.world import Draw


class Rain(NamedTuple):
    attenuation: Floats  # dB on the path
    rain_mm_per_h: Floats  # what the weather data say
    rain_fade_db: Floats  # what they imply for this link
    gust_m_per_s: Floats
    alert: Floats  # severity 0..4


def shower(draw: Draw, fails: bool) -> Rain:
    """A rain cell whose peak exceeds the link's margin (or stays at up to 60 % of it), growing over the precursor."""
    share = draw.uniform(1.1, 1.8) if fails else draw.span(draw.world.showers)
    peak = share * draw.margin
    rising = np.minimum(draw.progress(draw.uniform(1.0, 1.6)) * (share if fails else 1.0), share if fails else 1.0)
    passing = np.clip((draw.time - draw.onset - 2.5 * draw.length) / draw.length, 0.0, 1.0)
    shape = rising / (share if fails else 1.0) * (1.0 - passing)
    # Cells waver: a slow random modulation of a tenth.
    wave = 1.0 + 0.1 * np.sin(2 * np.pi * (draw.time / (0.35 * draw.length) + draw.uniform(0.0, 1.0)))
    attenuation = peak * shape * wave
    k, exponent, km = draw.uniform(0.06, 0.30), draw.uniform(0.92, 1.08), draw.uniform(3.0, 15.0)
    rate = (np.maximum(attenuation, 0.0) / (k * km)) ** (1.0 / exponent)
    return Rain(attenuation, *_told(draw, rate, attenuation))


def _told(draw: Draw, rate: Floats, attenuation: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Weather data: wrong by a factor of their own per element, in steps of five minutes."""
    wrong = np.exp(draw.rng.normal(0.0, draw.world.forecast_error, draw.count))
    held = np.floor(draw.time / 300.0)
    first = np.searchsorted(draw.time[:, 0], held[:, 0] * 300.0).clip(0, len(draw.time) - 1)
    rain, fade = rate[first] * wrong, attenuation[first] * wrong
    gust = draw.uniform(0.0, 12.0) + 0.15 * rain
    alert = np.where(rain > 30.0, 3.0, np.where(rain > 15.0, 2.0, 0.0)) * draw.some(0.6)
    return np.minimum(rain, 150.0), np.minimum(fade, 60.0), gust, alert
