"""Forecasts as Open-Meteo gives them: one object per grid point, or a list of them, with series side by side.

``{"latitude": 52.5, "longitude": 13.4, "utc_offset_seconds": 0, "hourly_units": {"rain": "mm", ...},
"hourly": {"time": ["2026-11-21T10:00", ...], "rain": [0.3, ...]}}``; ``minutely_15`` likewise, preferred where it
has a value. Amounts are sums over the step before their time, the others hold at it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from control.feeds.errors import FeedError
from control.feeds.weather.geo import Point, is_position

MOST_POINTS = 5000
MOST_STEPS = 20_000
#: name of ours -> (names of theirs, lowest, highest believed)
FIELDS: dict[str, tuple[tuple[str, ...], float, float]] = {
    "rain_mm_per_h": (("rain", "precipitation"), 0.0, 500.0),
    "gust_m_per_s": (("wind_gusts_10m", "windgusts_10m"), 0.0, 120.0),
    "wind_m_per_s": (("wind_speed_10m", "windspeed_10m"), 0.0, 120.0),
    "visibility_m": (("visibility",), 0.0, 1e6),
    "temperature_c": (("temperature_2m",), -95.0, 65.0),
}
#: factors to the unit of ours; temperature in Fahrenheit is no factor
UNITS: dict[str, Callable[[float], float]] = {
    "mm": float, "inch": lambda value: value * 25.4, "cm": lambda value: value * 10.0,
    "m/s": float, "ms": float, "km/h": lambda value: value / 3.6, "kmh": lambda value: value / 3.6,
    "mp/h": lambda value: value * 0.44704, "mph": lambda value: value * 0.44704, "kn": lambda value: value * 0.514444,
    "m": float, "ft": lambda value: value * 0.3048,
    "°c": float, "°f": lambda value: (value - 32.0) / 1.8,
}  # fmt: skip
_USUAL_UNIT = {"rain_mm_per_h": "mm", "gust_m_per_s": "km/h", "wind_m_per_s": "km/h", "visibility_m": "m",
               "temperature_c": "°c"}  # fmt: skip


@dataclass(slots=True)
class Series:
    """One block of a point: times (epoch s, rising), step (s), values by our names, nan where there is none."""

    times: list[float]
    step_s: float
    values: dict[str, list[float]]

    def at(self, name: str, now_s: float) -> float:
        """The value at a time; nan outside of what the series covers."""
        row = self.values.get(name)
        if row is None or not self.times or now_s > self.times[-1] or now_s < self.times[0] - self.step_s:
            return math.nan
        place = bisect_left(self.times, now_s)
        if name != "rain_mm_per_h" and place > 0 and now_s - self.times[place - 1] < self.times[place] - now_s:
            place -= 1
        return row[place] if abs(self.times[place] - now_s) <= self.step_s else math.nan


@dataclass(slots=True)
class GridPoint:
    """A place and what is forecast for it, finest series first."""

    position: Point
    series: list[Series] = field(default_factory=list)

    def at(self, name: str, now_s: float) -> float:
        return next((v for v in (item.at(name, now_s) for item in self.series) if not math.isnan(v)), math.nan)


def read_forecast(document: Any, source: str) -> tuple[list[GridPoint], list[str]]:
    """Grid points, and what in them cannot be true (left out as nan). Raises :class:`FeedError`."""
    items = document if isinstance(document, list) else [document]
    if not items or len(items) > MOST_POINTS:
        raise FeedError(f"{source}: {len(items)} places, wanted 1 to {MOST_POINTS}")
    lies: list[str] = []
    points = []
    for number, item in enumerate(items):
        where = f"{source}: [{number}]" if isinstance(document, list) else source
        if not isinstance(item, dict):
            raise FeedError(f"{where}: an object with latitude, longitude and hourly is expected")
        position = (_number(item.get("latitude")), _number(item.get("longitude")))
        if not is_position(position):
            raise FeedError(f"{where}: latitude, longitude: not a position")
        blocks = [_series(item, name, where, lies) for name in ("minutely_15", "hourly") if name in item]
        if not blocks:
            raise FeedError(f"{where}: neither hourly nor minutely_15")
        points.append(GridPoint(position, blocks))
    return points, lies


def _series(item: dict[str, Any], block: str, where: str, lies: list[str]) -> Series:
    data, units = item[block], item.get(f"{block}_units")
    if not isinstance(data, dict) or not isinstance(data.get("time"), list):
        raise FeedError(f"{where}: {block}.time: a list is expected")
    if len(data["time"]) > MOST_STEPS:
        raise FeedError(f"{where}: {block}.time: more than {MOST_STEPS} steps")
    offset = _number(item.get("utc_offset_seconds", 0))
    times = [_time(value, offset, f"{where}: {block}.time[{n}]") for n, value in enumerate(data["time"])]
    if any(b <= a for a, b in pairwise(times)):
        raise FeedError(f"{where}: {block}.time: times do not rise")
    step = min((b - a for a, b in pairwise(times)), default=3600.0)
    values: dict[str, list[float]] = {}
    for ours, (names, low, high) in FIELDS.items():
        theirs = next((name for name in names if name in data), None)
        if theirs is None:
            continue
        row = data[theirs]
        if not isinstance(row, list) or len(row) != len(times):
            raise FeedError(f"{where}: {block}.{theirs}: {len(times)} values are expected")
        unit = str(units.get(theirs, "") if isinstance(units, dict) else "").lower() or _USUAL_UNIT[ours]
        convert = UNITS.get(unit)
        if convert is None:
            raise FeedError(f"{where}: {block}_units.{theirs}: unknown unit {unit[:20]!r}")
        rate = 3600.0 / step if ours == "rain_mm_per_h" else 1.0
        found = [convert(_number(value)) * rate for value in row]
        odd = [value for value in found if value < low or value > high]
        if odd:
            lies.append(f"{where}: {block}.{theirs}: {odd[0]:g} {ours.partition('_')[2]} cannot be true")
        values[ours] = [value if low <= value <= high else math.nan for value in found]
    return Series(times, step, values)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _time(value: Any, offset_s: float, where: str) -> float:
    """Unix time, or ISO 8601 without a zone in the point's local time."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11:
        return float(value)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.timestamp()
        seconds = moment.replace(tzinfo=UTC).timestamp() - offset_s
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise FeedError(f"{where}: {str(value)[:40]!r} is no time")
    return seconds
