"""A topology as plain, frozen data. Imports nothing of the project's.

Ports are numbered from 1 on each switch. Host ``hN`` hangs on one switch, has the addresses ``10.x.y.10/24``
and ``fd00:x:y::10/64`` of its own subnet, and its switch answers as gateway ``.1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


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
        """The ``.1`` of the host's subnet."""
        return self.ipv4.split("/")[0].rsplit(".", 1)[0] + ".1"

    @property
    def gateway_ipv6(self) -> str:
        return self.ipv6.split("/")[0].rsplit("::", 1)[0] + "::1"


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

    @property
    def name(self) -> str:
        """For example ``s1-s2``; with port numbers only where links are parallel (see :meth:`Topology.validate`)."""
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

    def ports(self, switch: str) -> dict[int, Link | Host]:
        """What hangs on each port of a switch."""
        found: dict[int, Link | Host] = {link.end(switch).port: link for link in self.links_of(switch)}
        found.update({host.port: host for host in self.hosts if host.switch == switch})
        return found


def port_mac(device_id: int, port: int) -> str:
    """MAC address of a switch port: locally administered, readable in captures."""
    return f"02:00:00:{device_id >> 8:02x}:{device_id & 255:02x}:{port & 255:02x}"
