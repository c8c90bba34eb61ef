"""What the weather is on a link, now: alerts and forecasts of all feeds laid on its way.

A link's way is the great circle between its switches' positions, sampled every 5 km. Values are the worst along it;
rain fade is the sum over its pieces. What is not known is nan, with the reason in ``gaps``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from control.feeds.errors import FeedError
from control.feeds.weather.alerts import Alert, read_cap, read_geojson
from control.feeds.weather.forecast import GridPoint, read_forecast
from control.feeds.weather.geo import Point, along, distance_km
from control.feeds.weather.rain import HIGHEST_GHZ, LOWEST_GHZ, specific_attenuation_db_per_km
from topo.spec import Link, Topology

REACH_KM = 30.0  # a grid point further away says nothing about a place
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LinkWeather:
    """Worst along the link; nan: not known, and ``gaps`` says why. ``alert_severity``: 0 none .. 4 extreme."""

    rain_mm_per_h: float = math.nan
    gust_m_per_s: float = math.nan
    visibility_m: float = math.nan
    temperature_c: float = math.nan
    rain_fade_db: float = math.nan  # 0 for links that rain does not touch
    alert_severity: float = math.nan
    alerts: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What one file or answer said. ``lies``: values that cannot be true and were left out."""

    alerts: list[Alert] = field(default_factory=list)
    points: list[GridPoint] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    covers_alerts: bool = False  # it is a list of alerts, even if an empty one


def read_weather(data: bytes, source: str) -> Report:
    """CAP, NWS GeoJSON or Open-Meteo JSON, by what it is; raises :class:`FeedError`."""
    if len(data) > MOST_BYTES:
        raise FeedError(f"{source}: more than {MOST_BYTES} bytes")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return _with_lies(read_cap(data, source), source)
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise FeedError(f"{source}{line}: neither XML nor JSON: {getattr(error, 'msg', error)}") from error
    if isinstance(document, dict) and "features" in document:
        return _with_lies(read_geojson(document, source), source)
    points, lies = read_forecast(document, source)
    return Report(points=points, lies=lies)


def _with_lies(alerts: list[Alert], source: str) -> Report:
    """Alerts with no place are told: zones alone can't be laid on a link."""
    lost = [alert for alert in alerts if not alert.placed and not alert.cancelled]
    lies = [f"{source}: alert {lost[0].id[:80]}: no polygon or circle, {len(lost)} such not used"] if lost else []
    return Report(alerts=alerts, lies=lies, covers_alerts=True)


@dataclass(slots=True)
class WeatherState:
    """``put`` what polls bring, ``drop`` what is gone, ask :meth:`for_link`."""

    topology: Topology
    reports: dict[tuple[str, str], Report] = field(default_factory=dict)  # (feed, source)
    _ways: dict[Link, list[Point]] = field(default_factory=dict)
    _near: dict[tuple[Link, frozenset[str]], list[GridPoint | None]] = field(default_factory=dict)

    def put(self, feed: str, source: str, report: Report) -> None:
        self.reports[feed, source] = report
        self._near.clear()

    def drop(self, feed: str, source: str) -> None:
        if self.reports.pop((feed, source), None) is not None:
            self._near.clear()

    def for_link(self, link: Link, now_s: float, too_old: Collection[str] = ()) -> LinkWeather:
        """The weather on a link; feeds in ``too_old`` are not believed."""
        way = self._way(link)
        if not way:
            return LinkWeather(gaps=("no position: its switches have no latitude and longitude",))
        gaps: list[str] = []
        severity, events = self._alerts([*way, *self._ends(link)], now_s, too_old, gaps)
        at = self._places(link, way, too_old)
        found: dict[str, list[float]] = {}
        for name in ("rain_mm_per_h", "gust_m_per_s", "visibility_m", "temperature_c"):
            found[name] = [math.nan if one is None else one.at(name, now_s) for one in at]
            unknown = sum(map(math.isnan, found[name]))
            if unknown:
                gaps.append(f"{name}: no forecast for {unknown} of {len(way)} places on the way")
        return LinkWeather(
            rain_mm_per_h=_worst(found["rain_mm_per_h"], max),
            gust_m_per_s=_worst(found["gust_m_per_s"], max),
            visibility_m=_worst(found["visibility_m"], min),
            temperature_c=_worst(found["temperature_c"], max),
            rain_fade_db=self._fade_db(link, found["rain_mm_per_h"], gaps),
            alert_severity=severity,
            alerts=tuple(events),
            gaps=tuple(gaps),
        )

    def _alerts(
        self, way: list[Point], now_s: float, too_old: Collection[str], gaps: list[str]
    ) -> tuple[float, list[str]]:
        reports = [item for (feed, _), item in self.reports.items() if item.covers_alerts and feed not in too_old]
        if not reports:
            gaps.append("alert_severity: no feed of alerts")
            return math.nan, []
        ended = {name for item in reports for alert in item.alerts for name in alert.cancels}
        active = [
            alert
            for item in reports
            for alert in item.alerts
            if not alert.cancelled and alert.id.partition("#")[0] not in ended and alert.onset <= now_s < alert.expires
            if any(alert.covers(point) for point in way)
        ]
        return float(max((alert.severity for alert in active), default=0)), [alert.event for alert in active]

    def _fade_db(self, link: Link, rain: list[float], gaps: list[str]) -> float:
        if link.medium != "microwave":
            return 0.0
        if not LOWEST_GHZ <= link.frequency_ghz <= HIGHEST_GHZ:
            gaps.append("rain_fade_db: the link's frequency_ghz is not given")
            return math.nan
        a, b = self._ends(link)
        piece = distance_km(a, b) / len(rain)
        return sum(piece * specific_attenuation_db_per_km(r, link.frequency_ghz, link.polarization) for r in rain)

    def _way(self, link: Link) -> list[Point]:
        if link not in self._ways:
            ends = self._ends(link)
            self._ways[link] = along(ends[0], ends[1]) if len(ends) == 2 else []
        return self._ways[link]

    def _ends(self, link: Link) -> list[Point]:
        """The positions of its switches, as far as they have one."""
        ends = [self.topology.switch(end.switch) for end in (link.a, link.b)]
        return [(e.latitude, e.longitude) for e in ends if e.latitude is not None and e.longitude is not None]

    def _places(self, link: Link, way: list[Point], too_old: Collection[str]) -> list[GridPoint | None]:
        """The nearest grid point of each place; None where none is near enough."""
        key = (link, frozenset(too_old))
        if key not in self._near:
            points = [one for (feed, _), item in self.reports.items() if feed not in too_old for one in item.points]
            self._near[key] = [_nearest(place, points) for place in way]
        return self._near[key]


def _nearest(place: Point, points: list[GridPoint]) -> GridPoint | None:
    best = min(points, key=lambda one: distance_km(place, one.position), default=None)
    return best if best is not None and distance_km(place, best.position) <= REACH_KM else None


def _worst(values: list[float], choose: Any) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(choose(known)) if known else math.nan
