"""Positions on a spherical earth, in degrees; distances in km. Good to half a percent, which weather is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

EARTH_KM = 6371.0
Point: TypeAlias = tuple[float, float]  # latitude, longitude


def is_position(point: Point) -> bool:
    return -90.0 <= point[0] <= 90.0 and -180.0 <= point[1] <= 180.0  # nan is neither


def distance_km(a: Point, b: Point) -> float:
    """Along the great circle (haversine)."""
    lat_a, lat_b = math.radians(a[0]), math.radians(b[0])
    half = math.sin((lat_b - lat_a) / 2) ** 2
    half += math.cos(lat_a) * math.cos(lat_b) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def along(a: Point, b: Point, step_km: float = 5.0, most: int = 64) -> list[Point]:
    """Midpoints of equal pieces of the great circle from a to b, each at most ``step_km`` long if ``most`` allows."""
    whole = distance_km(a, b)
    angle = whole / EARTH_KM
    count = min(most, max(1, math.ceil(whole / step_km)))
    if angle < 1e-9 or math.sin(angle) < 1e-9:
        return [a]
    found = []
    for place in range(count):
        share = (place + 0.5) / count
        near, far = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
        x = y = z = 0.0
        for weight, (lat, lon) in ((near, a), (far, b)):
            x += weight * math.cos(math.radians(lat)) * math.cos(math.radians(lon))
            y += weight * math.cos(math.radians(lat)) * math.sin(math.radians(lon))
            z += weight * math.sin(math.radians(lat))
        found.append((math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))))
    return found


def inside(point: Point, polygon: Sequence[Point]) -> bool:
    """Point in polygon by crossings, in the plane of longitude and latitude; polygons over the antimeridian work."""
    lat, lon = point
    crossings = False
    last_lat, last_lon = polygon[-1][0], _turned(polygon[-1][1], lon)
    for corner_lat, corner_lon in polygon:
        turned = _turned(corner_lon, lon)
        if (corner_lat > lat) != (last_lat > lat):
            at = turned + (lat - corner_lat) / (last_lat - corner_lat) * (last_lon - turned)
            if lon < at:
                crossings = not crossings
        last_lat, last_lon = corner_lat, turned
    return crossings


def _turned(lon: float, around: float) -> float:
    """The longitude within half a turn of ``around``."""
    return around + (lon - around + 180.0) % 360.0 - 180.0
