"""Features of microwave links for a fade within minutes: from the past only, from all links, none from the clock.

Rain cells move from link to link. Who is near whom is not in the data, so it is learned on the way: how well did
the other link's excess attenuation some minutes ago go with this one's, in the past (a running correlation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ml.estimators.base import Floats

DRY_SHORT, DRY_LONG = (720, 0.3), (1440, 0.5)  # (minutes, quantile) of the two running dry levels
DRY_EVERY = 10  # minutes between renewals of the dry level
FADE_DB = 10.0
LAGS = (0, 5, 10)  # minutes
MEMORY = 1440.0  # minutes: time constant of what links have to do with each other
CHUNK = 64  # channels at once in rolling windows
LONGEST = 600  # minutes: a time since is at most this

RISES = (
    "excess", "excess_long", "mean_3", "highest_5", "other_now", "other_highest", "ahead_5", "ahead_10",
    "highest_noise", "share_3", "share_8", *(f"near_{k}" for k in LAGS), *(f"near_scaled_{k}" for k in LAGS),
    "wet_5", "wet_10", "net_upper", "net_mean",
)  # fmt: skip
FALLS = ("room_30", "room_10", "since_5", "since_8", "since_10")
FREE = (
    "mean_5", "mean_10", "highest_15", "highest_30", "lowest_5", "lowest_15", "sigma_5", "sigma_10", "sigma_20",
    "step_1", "step_2", "step_5", "step_10", "travel_10", "travel_30", "other_step", *(f"near_most_{k}" for k in LAGS),
    "near_step_5", "sensitivity", "expected", "wet_2", "net_step_10", "net_step_30", "net_median", "net_3rd_quarter",
    "net_most",
)  # fmt: skip
NAMES = RISES + FALLS + FREE
MONOTONE = [1] * len(RISES) + [-1] * len(FALLS) + [0] * len(FREE)

Reduce = Callable[..., Any]


def rolling(table: Floats, minutes: int, reduce: Reduce) -> Floats:
    """``reduce`` (such as np.nanmean) over the last ``minutes`` rows of each column, this one included."""
    found = np.full(table.shape, np.nan)
    padded = np.concatenate((np.full((minutes - 1, table.shape[1]), np.nan), table))
    for k in range(0, table.shape[1], CHUNK):
        window = sliding_window_view(padded[:, k : k + CHUNK], minutes, axis=0)
        found[:, k : k + CHUNK] = reduce(window, axis=-1)
    return found


def dry_level(table: Floats, minutes: int, quantile: float) -> Floats:
    """Running quantile of the past, renewed every :data:`DRY_EVERY` minutes."""
    found = np.full(table.shape, np.nan)
    for i in range(0, len(table), DRY_EVERY):
        found[i : i + DRY_EVERY] = np.nanquantile(table[max(0, i - minutes + 1) : i + 1], quantile, axis=0)
    return found


def change(table: Floats, minutes: int) -> Floats:
    """Against ``minutes`` before; nan where there is no before."""
    found = np.full(table.shape, np.nan)
    if len(table) > minutes:
        found[minutes:] = table[minutes:] - table[:-minutes]
    return found


def since(table: Floats, limit: float) -> Floats:
    """Minutes since the last value of at least ``limit``, at most :data:`LONGEST`."""
    place = np.where(table >= limit, np.arange(len(table), dtype=np.float64)[:, None], -np.inf)
    return np.minimum(np.arange(len(table))[:, None] - np.maximum.accumulate(place, axis=0), LONGEST)


def build(link: NDArray[Any], attenuation: Floats) -> Floats:
    """(minutes, channels, features in the order of :data:`NAMES`), float64, nan where unknown.

    ``link``: which link each channel belongs to; ``attenuation``: dB, (minutes, channels).
    """
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing are nan, which is what we want
            found = _own(attenuation)
            found |= _others(np.unique(link, return_inverse=True)[1], found, attenuation.shape)
    return np.stack([found[name] for name in NAMES], axis=-1)


def _own(attenuation: Floats) -> dict[str, Floats]:
    excess = attenuation - dry_level(attenuation, *DRY_SHORT)
    found = {"excess": excess, "excess_long": attenuation - dry_level(attenuation, *DRY_LONG)}
    for minutes in (3, 5, 10):
        found[f"mean_{minutes}"] = rolling(excess, minutes, np.nanmean)
    for minutes in (5, 15, 30):
        found[f"highest_{minutes}"] = rolling(excess, minutes, np.nanmax)
    for minutes in (5, 15):
        found[f"lowest_{minutes}"] = rolling(excess, minutes, np.nanmin)
    for minutes in (5, 10, 20):
        found[f"sigma_{minutes}"] = rolling(excess, minutes, np.nanstd)
    for minutes in (1, 2, 5, 10):
        found[f"step_{minutes}"] = change(found["mean_3"], minutes)
    size = np.abs(np.diff(excess, axis=0, prepend=excess[:1]))
    for minutes in (10, 30):
        found[f"travel_{minutes}"] = rolling(size, minutes, np.nanmean)
    for limit in (3, 8):
        found[f"share_{limit}"] = rolling((excess >= limit).astype(np.float64), 120, np.nanmean)
    for limit in (5, 8, 10):
        found[f"since_{limit}"] = since(excess, limit)
    found["ahead_5"] = excess + 2.0 * found["step_5"]
    found["ahead_10"] = excess + found["step_10"]
    found["highest_noise"] = found["highest_15"] + found["travel_30"]
    found["room_30"] = (FADE_DB - found["mean_3"]) / (found["travel_30"] + 0.3)
    found["room_10"] = (FADE_DB - excess) / (found["travel_10"] + 0.3)
    return found


def _others(place: NDArray[np.intp], own: dict[str, Floats], shape: tuple[int, ...]) -> dict[str, Floats]:
    """What the same link's other channels and all other links do; ``place`` is the link of each channel."""
    count = int(place.max()) + 1
    found: dict[str, Floats] = {name: np.full(shape, np.nan) for name in ("other_now", "other_highest", "other_step")}
    wet = np.full((shape[0], count), np.nan)
    for k in range(count):
        channels = np.flatnonzero(place == k)
        wet[:, k] = np.nanmean(own["mean_3"][:, channels], axis=1)
        for one in channels:
            rest = channels[channels != one]
            if len(rest):
                found["other_now"][:, one] = np.nanmean(own["excess"][:, rest], axis=1)
                found["other_highest"][:, one] = np.nanmax(own["highest_15"][:, rest], axis=1)
                found["other_step"][:, one] = np.nanmean(own["step_5"][:, rest], axis=1)
    mean = np.nan_to_num(np.nanmean(wet, axis=1))[:, None]
    whole = {"net_mean": mean, "net_step_10": change(mean, 10), "net_step_30": change(mean, 30)}
    for name, share in (("net_median", 0.5), ("net_3rd_quarter", 0.75), ("net_upper", 0.9), ("net_most", 1.0)):
        whole[name] = np.nanquantile(wet, share, axis=1)[:, None]
    for limit in (2, 5, 10):
        whole[f"wet_{limit}"] = np.nanmean(wet >= limit, axis=1)[:, None]
    found |= {name: np.broadcast_to(column, shape) for name, column in whole.items()}
    rain = np.clip(np.nan_to_num(wet), 0.0, 25.0)
    rain[rain < 1.0] = 0.0  # dB: below is noise
    for lag in LAGS:
        near, scaled, most = _neighbours(rain, lag)
        found[f"near_{lag}"], found[f"near_scaled_{lag}"] = near[:, place], scaled[:, place]
        found[f"near_most_{lag}"] = most[:, place]
    found["near_step_5"] = change(found["near_5"], 5)
    both = np.cumsum(rain * np.maximum(mean, 0.0), axis=0)
    found["sensitivity"] = (both / (np.cumsum(np.maximum(mean, 0.0) ** 2, axis=0) + 50.0))[:, place]
    found["expected"] = found["sensitivity"] * mean
    return found


def _neighbours(rain: Floats, lag: int) -> tuple[Floats, Floats, Floats]:
    """What links that used to go ``lag`` minutes ahead of each link say now: their mean excess weighted by the
    fourth power of the correlation so far, the same scaled to this link, and the largest correlation x excess."""
    minutes, count = rain.shape
    together, energy = np.zeros((count, count)), np.full(count, 1e-3)
    near, scaled, most = (np.zeros(rain.shape) for _ in range(3))
    fade = np.exp(-1.0 / MEMORY)
    for i in range(minutes):
        if i >= lag:
            together *= fade
            energy *= fade
            energy += rain[i] ** 2
            if rain[i].any() and rain[i - lag].any():
                together += np.outer(rain[i], rain[i - lag])
        if not rain[i].any():
            continue
        likeness = np.clip(together / np.sqrt(np.outer(energy, energy) + 10.0), 0.0, 1.0)
        np.fill_diagonal(likeness, 0.0)
        weight = likeness**4 + 1e-9
        total = weight.sum(axis=1)
        near[i] = weight @ rain[i] / total
        scaled[i] = (weight * (together / (energy[None, :] + 50.0))) @ rain[i] / total
        most[i] = (likeness * rain[i]).max(axis=1)
    return near, scaled, most
