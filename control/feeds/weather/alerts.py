"""Weather alerts: CAP 1.2 (OASIS, 2010) in XML, alone or in an Atom feed, and NWS alerts as GeoJSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element

from control.feeds.errors import FeedError
from control.feeds.weather.geo import Point, distance_km, inside, is_position
from control.feeds.xml import parse_xml

#: CAP's words; unknown severity counts as minor: something was announced.
SEVERITY = {"none": 0, "unknown": 1, "minor": 1, "moderate": 2, "severe": 3, "extreme": 4}
MOST_CORNERS = 20_000
LONGEST_S = 30 * 86_400.0
USUAL_S = 6 * 3600.0  # of an alert that names no end


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. ``severity`` 0..4; times in seconds since the epoch; ``cancels``: ids that it ends or replaces."""

    id: str
    event: str
    severity: int
    onset: float
    expires: float
    polygons: tuple[tuple[Point, ...], ...] = ()
    circles: tuple[tuple[Point, float], ...] = ()  # centre, radius in km
    cancels: tuple[str, ...] = ()
    cancelled: bool = False  # it is itself only a cancellation

    def covers(self, point: Point) -> bool:
        return any(inside(point, polygon) for polygon in self.polygons) or any(
            distance_km(point, centre) <= radius for centre, radius in self.circles
        )

    @property
    def placed(self) -> bool:
        return bool(self.polygons or self.circles)


def read_cap(data: bytes, source: str) -> list[Alert]:
    """The alerts of a CAP document; tests, exercises and drafts are left out. Raises :class:`FeedError`."""
    root = parse_xml(data, source)
    found = [element for element in root.iter() if _tag(element) == "alert"]
    if not found:
        raise FeedError(f"{source}: no CAP alert in an XML document of {_tag(root)!r}")
    return [alert for element in found for alert in _cap(element, source)]


def read_geojson(document: dict[str, Any], source: str) -> list[Alert]:
    """The alerts of an NWS FeatureCollection (api.weather.gov/alerts). Raises :class:`FeedError`."""
    features = document.get("features")
    if not isinstance(features, list):
        raise FeedError(f"{source}: features: a list is expected")
    return [alert for number, item in enumerate(features) for alert in _feature(item, f"{source}: features[{number}]")]


def _cap(element: Element, source: str) -> Iterator[Alert]:
    if _child(element, "status") not in ("Actual", ""):
        return
    identifier = _child(element, "identifier")
    if not identifier:
        raise FeedError(f"{source}: identifier is missing in an alert")
    where = f"{source}: alert {identifier[:80]}"
    kind = _child(element, "msgType")
    cancels = tuple(part.split(",")[1] for part in _child(element, "references").split() if part.count(",") >= 2)
    sent = _time(_child(element, "sent"), f"{where}: sent")
    infos = [item for item in element if _tag(item) == "info"]
    if kind == "Cancel" or not infos:
        yield Alert(identifier, "", 0, sent, sent, cancels=cancels, cancelled=True)
        return
    for number, info in enumerate(infos):
        onset = _child(info, "onset") or _child(info, "effective")
        begin = _time(onset, f"{where}: onset") if onset else sent
        expires = _child(info, "expires")
        end = _time(expires, f"{where}: expires") if expires else begin + USUAL_S
        areas = [item for item in info if _tag(item) == "area"]
        yield _checked(
            Alert(
                id=identifier if number == 0 else f"{identifier}#{number}",
                event=_child(info, "event"),
                severity=SEVERITY.get(_child(info, "severity").lower(), 1),
                onset=begin,
                expires=end,
                polygons=tuple(_polygon(_numbers(text, where), where) for text in _children(areas, "polygon")),
                circles=tuple(_circle(text, where) for text in _children(areas, "circle")),
                cancels=cancels,
            ),
            where,
        )


def _feature(item: Any, where: str) -> Iterator[Alert]:
    told = item.get("properties") if isinstance(item, dict) else None
    if not isinstance(told, dict) or not isinstance(told.get("id"), str):
        raise FeedError(f"{where}: properties.id is missing")
    if told.get("status", "Actual") != "Actual":
        return
    references = told.get("references")
    cancels = tuple(str(one["identifier"]) for one in references if isinstance(one, dict) and "identifier" in one) \
        if isinstance(references, list) else ()  # fmt: skip
    begin = _time(str(told.get("onset") or told.get("effective") or told.get("sent")), f"{where}: onset")
    ends = told.get("ends") or told.get("expires")
    yield _checked(
        Alert(
            id=told["id"],
            event=str(told.get("event", "")),
            severity=SEVERITY.get(str(told.get("severity", "")).lower(), 1),
            onset=begin,
            expires=_time(str(ends), f"{where}: expires") if ends else begin + USUAL_S,
            polygons=tuple(_geometry(item.get("geometry"), where)),
            cancels=cancels,
            cancelled=told.get("messageType") == "Cancel",
        ),
        where,
    )


def _geometry(geometry: Any, where: str) -> Iterator[tuple[Point, ...]]:
    """Outer rings; holes are filled, which errs on the careful side."""
    if not isinstance(geometry, dict):
        return
    shapes = geometry.get("coordinates")
    if geometry.get("type") == "Polygon":
        shapes = [shapes]
    elif geometry.get("type") != "MultiPolygon":
        raise FeedError(f"{where}: geometry of type {str(geometry.get('type'))[:40]!r}, wanted Polygon or MultiPolygon")
    try:
        for shape in shapes or []:
            yield _polygon([(float(corner[1]), float(corner[0])) for corner in shape[0][:MOST_CORNERS]], where)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise FeedError(f"{where}: geometry: {type(error).__name__}: {error}") from error


def _polygon(corners: list[Point], where: str) -> tuple[Point, ...]:
    if len(corners) < 3 or not all(map(is_position, corners)):
        raise FeedError(f"{where}: a polygon needs three corners or more, within the earth's latitudes and longitudes")
    return tuple(corners)


def _circle(text: str, where: str) -> tuple[Point, float]:
    centre, _, radius = text.strip().partition(" ")
    (point,) = _numbers(centre, where) or [(91.0, 0.0)]
    try:
        size = float(radius)
    except ValueError:
        size = -1.0
    if not is_position(point) or not 0.0 <= size <= 20_100.0:
        raise FeedError(f"{where}: circle {text[:60]!r}: wanted latitude,longitude radius_km")
    return point, size


def _numbers(text: str, where: str) -> list[Point]:
    found = []
    for pair in text.split()[:MOST_CORNERS]:
        lat, _, lon = pair.partition(",")
        try:
            found.append((float(lat), float(lon)))
        except ValueError:
            raise FeedError(f"{where}: {pair[:40]!r} is no latitude,longitude") from None
    return found


def _checked(alert: Alert, where: str) -> Alert:
    if alert.expires < alert.onset:
        raise FeedError(f"{where}: it expires before it begins")
    if alert.expires - alert.onset > LONGEST_S:
        raise FeedError(f"{where}: it lasts longer than {LONGEST_S / 86_400:.0f} days")
    return alert


def _time(text: str, where: str) -> float:
    try:
        value = datetime.fromisoformat(text.strip())
        if value.tzinfo is None:
            raise ValueError("no time zone")
        return value.timestamp()
    except (ValueError, OverflowError) as error:
        raise FeedError(f"{where}: {text[:40]!r} is no ISO 8601 time with a zone") from error


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _child(element: Element, name: str) -> str:
    return next(((item.text or "").strip() for item in element if _tag(item) == name), "")


def _children(elements: Iterable[Element], name: str) -> Iterator[str]:
    return (item.text or "" for element in elements for item in element if _tag(item) == name)
