"""Attenuation of microwaves by rain: gamma = k R^alpha, in dB/km for R in mm/h.

Source: Recommendation ITU-R P.838-3 (2005), equations (1) to (3) with the coefficients of its tables 1 to 4, valid from
1 to 1000 GHz. Paths are taken as horizontal.
"""

from __future__ import annotations

import math
from typing import TypeAlias

_Curve: TypeAlias = tuple[tuple[tuple[float, float, float], ...], float, float]  # (a, b, c) of each bell; m; c

_K: dict[str, _Curve] = {
    "h": (((-5.33980, -0.10008, 1.13098), (-0.35351, 1.26970, 0.45400), (-0.23789, 0.86036, 0.15354),
           (-0.94158, 0.64552, 0.16817)), -0.18961, 0.71147),
    "v": (((-3.80595, 0.56934, 0.81061), (-3.44965, -0.22911, 0.51059), (-0.39902, 0.73042, 0.11899),
           (0.50167, 1.07319, 0.27195)), -0.16398, 0.63297),
}  # fmt: skip
_ALPHA: dict[str, _Curve] = {
    "h": (((-0.14318, 1.82442, -0.55187), (0.29591, 0.77564, 0.19822), (0.32177, 0.63773, 0.13164),
           (-5.37610, -0.96230, 1.47828), (16.1721, -3.29980, 3.43990)), 0.67849, -1.95537),
    "v": (((-0.07771, 2.33840, -0.76284), (0.56727, 0.95545, 0.54039), (-0.20238, 1.14520, 0.26809),
           (-48.2991, 0.791669, 0.116226), (48.5833, 0.791459, 0.116479)), -0.053739, 0.83433),
}  # fmt: skip
LOWEST_GHZ, HIGHEST_GHZ = 1.0, 1000.0


def coefficients(frequency_ghz: float, polarization: str = "v") -> tuple[float, float]:
    """k and alpha; raises :class:`ValueError` outside of 1 to 1000 GHz."""
    if not LOWEST_GHZ <= frequency_ghz <= HIGHEST_GHZ:
        raise ValueError(f"{frequency_ghz} GHz is not in {LOWEST_GHZ:g}..{HIGHEST_GHZ:g}")
    return 10 ** _curve(_K[polarization], frequency_ghz), _curve(_ALPHA[polarization], frequency_ghz)


def specific_attenuation_db_per_km(rain_mm_per_h: float, frequency_ghz: float, polarization: str = "v") -> float:
    """gamma; nan for rain that is not known."""
    k, alpha = coefficients(frequency_ghz, polarization)
    return k * max(rain_mm_per_h, 0.0) ** alpha if not math.isnan(rain_mm_per_h) else math.nan


def _curve(curve: _Curve, frequency_ghz: float) -> float:
    bells, slope, offset = curve
    x = math.log10(frequency_ghz)
    return sum(a * math.exp(-(((x - b) / c) ** 2)) for a, b, c in bells) + slope * x + offset
