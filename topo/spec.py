"""A topology as plain, frozen data. Imports nothing of the project's.

Ports are numbered from 1 on each switch. Host ``hN`` hangs on one switch, has the addresses ``10.x.y.10/24``
and ``fd00:x:y::10/64`` of its own subnet, and its switch answers as gateway ``.1``.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

#: A node's name: interfaces are called ``<name>-eth<port>`` and Linux allows 15 characters; ``-`` and ``:`` are
#: taken by the names of links and end points.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,7}")
#: Largest usable port number: MAC addresses of ports carry it in one byte.
MAX_PORT = 255
#: Largest device id: two bytes of the port MAC, and 9558 + device_id has to stay a TCP port.
MAX_DEVICE_ID = 50000
#: What links are made of.
MEDIA = ("fibre", "microwave", "copper")


class TopologyError(ValueError):
    """A topology that cannot be used; the text names the file and the element."""


@dataclass(frozen=True, slots=True)
class Switch:
    name: str
    device_id: int  # 1.., also gives the P4Runtime port: 9558 + device_id
    latitude: float | None = None  # degrees
    longitude: float | None = None
    label: str = ""  # city or other name for people


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    ipv4: str  # "10.0.1.10/24"
    ipv6: str  # "fd00:0:1::10/64"
    mac: str
    switch: str
    port: int  # port number on the switch

    @property
    def gateway_ipv4(self) -> str:
        """The first address of the host's subnet that is not the host's own: ``.1`` for what we number ourselves."""
        return _gateway(ipaddress.IPv4Interface(self.ipv4))

    @property
    def gateway_ipv6(self) -> str:
        return _gateway(ipaddress.IPv6Interface(self.ipv6))

    @property
    def endpoint(self) -> Endpoint:
        """The switch port that the host is plugged into."""
        return Endpoint(self.switch, self.port)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    switch: str
    port: int

    def __str__(self) -> str:
        return f"{self.switch}:{self.port}"


@dataclass(frozen=True, slots=True)
class Link:
    """A bidirectional switch-to-switch link."""

    a: Endpoint
    b: Endpoint
    delay_ms: float = 0.0  # one way
    rate_mbps: float = 0.0  # 0: unlimited
    cost: float = 1.0  # routing metric
    srlgs: tuple[str, ...] = ()  # shared-risk link groups
    medium: str = "fibre"  # one of MEDIA: rain matters to microwave only
    frequency_ghz: float = 0.0  # of a microwave link; 0: not known
    polarization: str = "v"  # of a microwave link: "h" or "v"
    circuits: tuple[str, ...] = ()  # what providers call it in their notices

    @property
    def name(self) -> str:
        """For example ``s1-s2``; :meth:`Topology.link_name` adds port numbers where links are parallel."""
        return f"{self.a.switch}-{self.b.switch}"

    def other(self, switch: str) -> Endpoint:
        """The far end as seen from ``switch``."""
        return self.b if self.a.switch == switch else self.a

    def end(self, switch: str) -> Endpoint:
        return self.a if self.a.switch == switch else self.b


@dataclass(frozen=True, slots=True)
class Topology:
    name: str
    switches: tuple[Switch, ...]
    hosts: tuple[Host, ...]
    links: tuple[Link, ...]

    def switch(self, name: str) -> Switch:
        for item in self.switches:
            if item.name == name:
                return item
        raise TopologyError(f"topology {self.name}: no switch {name!r}")

    def host(self, name: str) -> Host:
        for item in self.hosts:
            if item.name == name:
                return item
        raise TopologyError(f"topology {self.name}: no host {name!r}")

    def links_of(self, switch: str) -> Iterator[Link]:
        return (link for link in self.links if switch in (link.a.switch, link.b.switch))

    def link_at(self, end: Endpoint) -> Link | None:
        """The link plugged into a port; None for host ports and unused ones."""
        for link in self.links:
            if end in (link.a, link.b):
                return link
        return None

    def slowed(self, share: float) -> Topology:
        """The same network with this share of every line rate, for switches that forward less."""
        links = tuple(replace(link, rate_mbps=round(link.rate_mbps * share, 3)) for link in self.links)
        return replace(self, links=links)

    def link_name(self, link: Link) -> str:
        """``s1-s2``, or ``s1:2-s2:3`` where several links join the same two switches: unique in this topology."""
        ends = {link.a.switch, link.b.switch}
        parallel = sum({other.a.switch, other.b.switch} == ends for other in self.links)
        return link.name if parallel == 1 else f"{link.a}-{link.b}"

    def link(self, name: str) -> Link:
        """The link of that name, in either direction: ``s1-s2``, ``s2-s1``, ``s1:2-s2:3``.

        Raises :class:`TopologyError` for an unknown name, and for ``s1-s2`` where there are several such links.
        """
        found = [
            link
            for link in self.links
            if name in (link.name, f"{link.b.switch}-{link.a.switch}", f"{link.a}-{link.b}", f"{link.b}-{link.a}")
        ]
        if not found:
            raise TopologyError(f"topology {self.name}: no link {name!r}")
        if len(found) > 1:
            names = ", ".join(f"{link.a}-{link.b}" for link in found)
            raise TopologyError(f"topology {self.name}: {name!r} names {len(found)} links: {names}")
        return found[0]

    def links_between(self, a: str, b: str) -> tuple[Link, ...]:
        """All links that join two switches, in the topology's order."""
        return tuple(link for link in self.links if {link.a.switch, link.b.switch} == {a, b})

    def hosts_of(self, switch: str) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if host.switch == switch)

    def validate(self, source: str = "") -> Topology:
        """Return the topology itself if it can be built; otherwise raise :class:`TopologyError`.

        ``source`` (a file's name) begins the message. Checked: names, device ids, ports, ends, addresses, link
        values and connectedness.
        """
        errors = _Errors(source or f"topology {self.name}")
        if not self.switches:
            errors.add("no switches")
        _check_names(self, errors)
        _check_ports(self, errors)
        _check_hosts(self.hosts, errors)
        _check_links(self.links, errors)
        if not errors.found:
            _check_connected(self, errors)
        if errors.found:
            more = f" (and {len(errors.found) - 1} more)" if len(errors.found) > 1 else ""
            raise TopologyError(errors.found[0] + more)
        return self

    def ports(self, switch: str) -> dict[int, Link | Host]:
        """What hangs on each port of a switch."""
        found: dict[int, Link | Host] = {link.end(switch).port: link for link in self.links_of(switch)}
        found.update({host.port: host for host in self.hosts if host.switch == switch})
        return found


def interface_name(node: str, port: int) -> str:
    """``s1-eth2``, as Mininet calls it."""
    return f"{node}-eth{port}"


def port_mac(device_id: int, port: int) -> str:
    """MAC address of a switch port: locally administered, readable in captures."""
    return f"02:00:00:{device_id >> 8:02x}:{device_id & 255:02x}:{port & 255:02x}"


def _gateway(address: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> str:
    network = address.network
    first = int(network.network_address)
    if network.num_addresses > 2 or address.version == 6:
        first += 1
    gateway = type(address.ip)(first)
    return str(gateway if gateway != address.ip else gateway + 1)


class _Errors:
    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[str] = []

    def add(self, text: str) -> None:
        self.found.append(f"{self.source}: {text}")


def _duplicates(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def _check_names(topology: Topology, errors: _Errors) -> None:
    names = [switch.name for switch in topology.switches] + [host.name for host in topology.hosts]
    for name in names:
        if not NAME.fullmatch(name):
            errors.add(f"bad name {name!r}: wanted a letter and up to 7 letters, digits or underscores")
    for name in _duplicates(names):
        errors.add(f"duplicate name {name!r}")
    for device_id in _duplicates(str(switch.device_id) for switch in topology.switches):
        users = [switch.name for switch in topology.switches if str(switch.device_id) == device_id]
        errors.add(f"duplicate device_id {device_id}: {', '.join(users)}")
    for switch in topology.switches:
        if not 1 <= switch.device_id <= MAX_DEVICE_ID:
            errors.add(f"switch {switch.name}: device_id {switch.device_id} is not in 1..{MAX_DEVICE_ID}")
        for label, value, limit in (("latitude", switch.latitude, 90), ("longitude", switch.longitude, 180)):
            if value is not None and not -limit <= value <= limit:
                errors.add(f"switch {switch.name}: {label} {value} is not in -{limit}..{limit} degrees")


def _check_ports(topology: Topology, errors: _Errors) -> None:
    switches = {switch.name for switch in topology.switches}
    users: dict[Endpoint, str] = {}
    ends = [(host.endpoint, f"host {host.name}") for host in topology.hosts]
    ends += [(end, f"link {link.a}-{link.b}") for link in topology.links for end in (link.a, link.b)]
    for end, user in ends:
        if end.switch not in switches:
            errors.add(f"{user}: unknown switch {end.switch!r}")
        elif not 1 <= end.port <= MAX_PORT:
            errors.add(f"{user}: port {end.port} of {end.switch} is not in 1..{MAX_PORT}")
        elif end in users:
            errors.add(f"{user}: port {end.port} of {end.switch} is already used by {users[end]}")
        users.setdefault(end, user)


def _check_hosts(hosts: tuple[Host, ...], errors: _Errors) -> None:
    seen: dict[str, str] = {}
    for host in hosts:
        keys: list[tuple[str, str]] = []
        for label, text, kind in (
            ("ipv4", host.ipv4, ipaddress.IPv4Interface),
            ("ipv6", host.ipv6, ipaddress.IPv6Interface),
        ):
            try:
                address = kind(text)
            except ValueError as exc:
                errors.add(f"host {host.name}: bad {label} address {text!r}: {exc}")
                continue
            if "/" not in text:
                errors.add(f"host {host.name}: {label} address {text!r} has no prefix length")
            elif address.ip.is_multicast or address.ip.is_loopback or address.ip.is_unspecified:
                errors.add(f"host {host.name}: {label} address {text!r} is not a host's")
            elif address.network.prefixlen == address.max_prefixlen:
                errors.add(f"host {host.name}: {label} subnet {text!r} has no room for a gateway")
            keys += [(f"{label} address", str(address.ip)), (f"{label} subnet", str(address.network))]
        if not re.fullmatch(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", host.mac):
            errors.add(f"host {host.name}: bad MAC address {host.mac!r}")
        elif int(host.mac[:2], 16) & 1:
            errors.add(f"host {host.name}: MAC address {host.mac!r} is a group address")
        keys.append(("MAC address", host.mac.lower()))
        for label, value in keys:
            user = seen.setdefault(f"{label} {value}", host.name)
            if user != host.name:
                errors.add(f"host {host.name}: {label} {value} is also that of {user}")


def _check_links(links: tuple[Link, ...], errors: _Errors) -> None:
    for link in links:
        if link.a.switch == link.b.switch:
            errors.add(f"link {link.a}-{link.b}: both ends on the same switch")
        for label, value, low in (
            ("delay_ms", link.delay_ms, 0.0),
            ("rate_mbps", link.rate_mbps, 0.0),
            ("cost", link.cost, 1e-9),
        ):
            if not low <= value < float("inf"):
                wanted = "positive" if low else "0 or more"
                errors.add(f"link {link.a}-{link.b}: {label} is {value}, wanted {wanted} and finite")
        if link.medium not in MEDIA:
            errors.add(f"link {link.a}-{link.b}: medium is {link.medium!r}, wanted one of {', '.join(MEDIA)}")
        if not 0.0 <= link.frequency_ghz <= 1000.0:
            errors.add(f"link {link.a}-{link.b}: frequency_ghz is {link.frequency_ghz}, wanted 0 to 1000")
        if link.polarization not in ("h", "v"):
            errors.add(f"link {link.a}-{link.b}: polarization is {link.polarization!r}, wanted h or v")


def _check_connected(topology: Topology, errors: _Errors) -> None:
    neighbours: dict[str, list[str]] = {switch.name: [] for switch in topology.switches}
    for link in topology.links:
        neighbours[link.a.switch].append(link.b.switch)
        neighbours[link.b.switch].append(link.a.switch)
    start = topology.switches[0].name
    reached, queue = {start}, deque([start])
    while queue:
        for name in neighbours[queue.popleft()]:
            if name not in reached:
                reached.add(name)
                queue.append(name)
    lost = [name for name in neighbours if name not in reached]
    if lost:
        shown = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        errors.add(f"disconnected: no way from {start} to {shown}")
