"""Precision that stays measurable although flips prevent what they foretell: from the flips that were withheld.

A random share of the recommended flips is left undone (the control plane decides which). Their outcomes are those of
all recommendations, unbiased, because chance alone chose them: the share in which the failure came *is* the precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan, sqrt

from ml.schema import Mode

Z = 1.96  # 95 %


@dataclass(frozen=True, slots=True)
class Decision:
    """One recommended flip. ``withheld``: chance left it undone; ``struck``: the failure came within the horizon (None:
    not known yet)."""

    time_s: float
    element: str
    mode: Mode
    probability: float
    withheld: bool
    struck: bool | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """``low`` and ``high``: 95 % (Wilson); nan without any withheld flip of known outcome."""

    value: float
    low: float
    high: float
    withheld: int


def wilson(hits: int, count: int) -> Estimate:
    """A share with its interval.

    >>> found = wilson(9, 10)
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (0.9, 0.6, 0.98)
    """
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} of {count}")
    if not count:
        return Estimate(nan, nan, nan, 0)
    share = hits / count
    middle = share + Z * Z / (2 * count)
    half = Z * sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return Estimate(share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale), count)


def precision(decisions: Iterable[Decision], mode: Mode | None = None) -> Estimate:
    """Share of recommended flips that were right, of one mode or all, from the withheld ones alone."""
    known = [d for d in decisions if d.withheld and d.struck is not None and mode in (None, d.mode)]
    return wilson(sum(bool(d.struck) for d in known), len(known))


def prevented(decisions: Iterable[Decision], mode: Mode | None = None) -> float:
    """Failures that the flips which were made are expected to have kept from traffic: their number times the
    precision measured on the withheld ones; nan without any of those."""
    chosen = [d for d in decisions if mode in (None, d.mode)]
    return sum(not d.withheld for d in chosen) * precision(chosen).value
