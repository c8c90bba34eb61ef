"""Failures without any precursor: nobody foresees them, and every report must count them."""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Flags, Floats
from ml.sim.world import Draw


def cut(draw: Draw) -> Flags:
    """The excavator: all at once, for good."""
    struck: Flags = draw.time >= draw.onset
    return struck


def flapping(draw: Draw) -> Flags:
    """Down and up again, half of a period of 20 s to 10 min each."""
    period = 10 ** draw.uniform(1.3, 2.8)
    down: Flags = (draw.time >= draw.onset) & ((draw.time - draw.onset) % period < 0.5 * period)
    return down


def lossy(draw: Draw) -> Floats:
    """Share of frames lost, from the onset on, optics unremarkable (a faulty line card)."""
    growing = 0.02 + 0.4 * np.clip((draw.time - draw.onset) / draw.length, 0.0, 1.0)
    return np.where(draw.time >= draw.onset, growing, 0.0)
