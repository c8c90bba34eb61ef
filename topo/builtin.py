"""Built-in topologies: ``diamond``, ``abilene`` and ``fattree4``.

Every link is 40 Mbit/s. Line rates are scaled so that a software switch on a small machine can fill a link:
Abilene's 10 Gbit/s waves become 40 Mbit/s (1:250). Ports are numbered hosts first, then links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from math import asin, cos, radians, sin, sqrt

from topo.spec import Endpoint, Host, Link, Switch, Topology

RATE_MBPS = 40.0
EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG 1980
#: Light in silica fibre, group index 1.468 at 1550 nm (ITU-T G.652 fibres): 204 km per millisecond.
FIBRE_KM_PER_MS = 299.792458 / 1.468


def great_circle_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Distance in km between two positions in degrees (haversine formula)."""
    phi_a, phi_b = radians(latitude_a), radians(latitude_b)
    half = sin((phi_b - phi_a) / 2) ** 2 + cos(phi_a) * cos(phi_b) * sin(radians(longitude_b - longitude_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(half)))


def fibre_delay_ms(a: Switch, b: Switch) -> float:
    """One-way delay of a straight fibre between two switches; 0 where a position is unknown."""
    if a.latitude is None or a.longitude is None or b.latitude is None or b.longitude is None:
        return 0.0
    return round(great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude) / FIBRE_KM_PER_MS, 3)


def numbered_host(index: int, switch: str, port: int, name: str = "") -> Host:
    """Host number ``index`` (from 1): ``h<index>``, ``10.x.y.10/24``, ``fd00:x:y::10/64``, x and y its two bytes."""
    high, low = index >> 8, index & 255
    return Host(
        name=name or f"h{index}",
        ipv4=f"10.{high}.{low}.10/24",
        ipv6=f"fd00:{high:x}:{low:x}::10/64",
        mac=f"02:00:01:00:{high:02x}:{low:02x}",
        switch=switch,
        port=port,
    )


def assemble(
    name: str,
    switches: Iterable[Switch],
    hosts_at: Iterable[str],
    pairs: Iterable[tuple[str, str, float, float, float]],
) -> Topology:
    """Number ports and addresses. ``pairs``: (switch, switch, delay_ms, rate_mbps, cost); one host per ``hosts_at``."""
    switches = tuple(switches)
    next_port = {switch.name: count(1) for switch in switches}
    hosts = tuple(numbered_host(index, at, next(next_port[at])) for index, at in enumerate(hosts_at, 1))
    links = tuple(
        Link(
            Endpoint(a, next(next_port[a])),
            Endpoint(b, next(next_port[b])),
            delay_ms=delay,
            rate_mbps=rate,
            cost=cost,
        )
        for a, b, delay, rate, cost in pairs
    )
    return Topology(name, switches, hosts, links)


def diamond() -> Topology:
    """Two ways of equal length from s1 to s4: over s2 and over s3.

    Hosts h1, h2 at s1; h3, h4 at s4; h5 at s2; h6 at s3.

    ::

                  h5
                  s2
        h1, h2 s1    s4 h3, h4
                  s3
                  h6
    """
    switches = [
        Switch("s1", 1, label="west"),
        Switch("s2", 2, label="north"),
        Switch("s3", 3, label="south"),
        Switch("s4", 4, label="east"),
    ]
    pairs = [("s1", "s2"), ("s1", "s3"), ("s2", "s4"), ("s3", "s4")]
    links = [(a, b, 0.2, RATE_MBPS, 1.0) for a, b in pairs]  # 40 km of fibre each
    return assemble("diamond", switches, ["s1", "s1", "s4", "s4", "s2", "s3"], links)


#: Points of presence of the Abilene backbone (Internet2, 2004-2006): 11 nodes and 14 links as in SNDlib's
#: "abilene" without its ATLAM5 side node, and in the Internet Topology Zoo. Positions: the cities' (degrees).
_ABILENE = [
    ("Seattle", 47.61, -122.33),
    ("Sunnyvale", 37.37, -122.04),
    ("Los Angeles", 34.05, -118.24),
    ("Denver", 39.74, -104.98),
    ("Kansas City", 39.11, -94.63),
    ("Houston", 29.76, -95.36),
    ("Chicago", 41.85, -87.65),
    ("Indianapolis", 39.77, -86.16),
    ("Atlanta", 33.75, -84.39),
    ("Washington DC", 38.90, -77.04),
    ("New York", 40.71, -74.01),
]
_ABILENE_LINKS = [(1, 2), (1, 4), (2, 3), (2, 4), (3, 6), (4, 5), (5, 6), (5, 8), (6, 9), (7, 8), (7, 11), (8, 9)]
_ABILENE_LINKS += [(9, 10), (10, 11)]


def abilene() -> Topology:
    """The Internet2 backbone: 11 switches, 14 links, one host each (hN at sN); delay and cost by great-circle fibre."""
    switches = [
        Switch(f"s{index}", index, latitude, longitude, city)
        for index, (city, latitude, longitude) in enumerate(_ABILENE, 1)
    ]
    pairs = []
    for a, b in _ABILENE_LINKS:
        delay = fibre_delay_ms(switches[a - 1], switches[b - 1])
        pairs.append((f"s{a}", f"s{b}", delay, RATE_MBPS, delay))
    return assemble("abilene", switches, [switch.name for switch in switches], pairs)


def fattree4() -> Topology:
    """Fat tree with k = 4 (Al-Fares et al., SIGCOMM 2008): s1-s8 edge, s9-s16 aggregation, s17-s20 core, 16 hosts."""
    half = 2
    edge = [[f"s{pod * half + index + 1}" for index in range(half)] for pod in range(4)]
    aggregation = [[f"s{8 + pod * half + index + 1}" for index in range(half)] for pod in range(4)]
    core = [f"s{17 + index}" for index in range(half * half)]
    switches = []
    for number in range(1, 21):
        layer = "edge" if number <= 8 else "aggregation" if number <= 16 else "core"
        switches.append(Switch(f"s{number}", number, label=layer))
    pairs = [(e, a) for pod in range(4) for e in edge[pod] for a in aggregation[pod]]
    pairs += [
        (aggregation[pod][index], core[index * half + offset])
        for pod in range(4)
        for index in range(half)
        for offset in range(half)
    ]
    hosts_at = [name for pod in edge for name in pod for _ in range(half)]
    return assemble("fattree4", switches, hosts_at, [(a, b, 0.05, RATE_MBPS, 1.0) for a, b in pairs])


BUILTIN: dict[str, Callable[[], Topology]] = {"diamond": diamond, "abilene": abilene, "fattree4": fattree4}
