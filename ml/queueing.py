"""A port's queue as both simulators model it: a fluid, with the ripple of single packets on top."""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Floats


def queue(
    offered: Floats, elapsed: Floats, service: Floats, room: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Longest queue and drops of each interval, both (intervals, elements), in packets.

    ``offered`` (intervals, elements) is a share of the line rate, ``elapsed`` (the same) the intervals' length,
    ``service`` (elements,) is in packets per unit of ``elapsed``, ``room`` (elements,) in packets.

    Below the line rate it holds the ripple of random arrivals (M/M/1, mean load^2 / (1 - load))."""
    depth = np.zeros(offered.shape[1])
    longest, dropped = np.empty_like(offered), np.empty_like(offered)
    for i in range(len(offered)):
        load = np.minimum(offered[i], 0.98)
        ripple = rng.exponential(1.0, len(depth)) * load**2 / (1.0 - load)
        depth = depth + (offered[i] - 1.0) * service * elapsed[i]
        dropped[i] = np.maximum(depth - room, 0.0)
        depth = np.clip(depth, 0.0, room)
        longest[i] = np.minimum(np.round(np.maximum(depth, ripple)), room)
    return longest, dropped
