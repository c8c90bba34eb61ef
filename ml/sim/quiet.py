"""Noisy but healthy: steps after work at the patch panel, wavering power, all within the margin."""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Floats
from ml.sim.world import Draw


def patched(draw: Draw, most: float | Floats = 3.2) -> Floats:
    """Attenuation (dB) in up to three steps up or down between 0 and ``most``, at most 42 % of the margin; each takes
    0.3 to 10 seconds, as when a connector is pulled, cleaned and put back."""
    most = np.minimum(most, 0.42 * draw.margin)
    level = np.zeros(draw.count)
    total = np.zeros(draw.time.shape)
    for at in draw.moments(3):
        target = np.where(draw.some(0.6), draw.uniform(0.0, 1.0) * most, 0.0)
        total += np.clip((draw.time - at) / draw.uniform(0.3, 10.0), 0.0, 1.0) * (target - level)
        level = target
    return total
