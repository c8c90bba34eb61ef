"""What the network shall look like, as plain data: steering groups, table entries and staged changes.

Everything here is immutable or a plain dictionary, so that two states can be compared as sets and a change is
the difference of two states. :mod:`control.entries` turns entries into P4Runtime messages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import TypeAlias

from control.paths import Disjoint, Hop, Path
from topo.spec import Endpoint, Host, Link, port_mac

Place: TypeAlias = Endpoint | Link | str


class Table(StrEnum):
    """Tables that the control plane writes; the names of the P4 program."""

    LIVENESS = "liveness_config"
    LABEL = "label"
    SHADOW = "shadow_nexthop"
    PRIMARY = "primary_nexthop"
    ROUTE4 = "route_ipv4"
    ROUTE6 = "route_ipv6"


class Op(IntEnum):
    """The values are those of ``p4.v1.Update.Type``."""

    INSERT = 1
    MODIFY = 2
    DELETE = 3


EntryKey: TypeAlias = tuple[Table, "int | str"]
"""Table and match: a number for exact keys, ``"10.0.1.0/24"`` for prefixes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One table entry. ``params`` are the action's, by name; numbers or MAC addresses."""

    table: Table
    match: int | str
    action: str
    params: tuple[tuple[str, int | str], ...] = ()

    @property
    def key(self) -> EntryKey:
        return (self.table, self.match)

    def __str__(self) -> str:
        args = ", ".join(f"{name}={value}" for name, value in self.params)
        return f"{self.table} {self.match} -> {self.action}({args})"


Entries: TypeAlias = dict[EntryKey, Entry]
NetworkEntries: TypeAlias = dict[str, Entries]
"""Entries per switch."""


@dataclass(frozen=True, slots=True)
class Update:
    op: Op
    entry: Entry


@dataclass(frozen=True, slots=True)
class Stage:
    """Updates that may be applied in any order, on all switches at once; the next stage waits for this one.

    ``settle_s`` is waited before the stage: packets in flight that still use what it removes get through.
    """

    name: str
    updates: Mapping[str, tuple[Update, ...]]
    settle_s: float = 0.0


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """A steering group: the traffic at one switch towards one destination host's subnet."""

    switch: str
    destination: str

    def __str__(self) -> str:
        return f"{self.switch}>{self.destination}"


@dataclass(frozen=True, slots=True)
class Shadow:
    """``label`` 0: the path is a single hop, whose far end delivers by itself, so nothing is pushed."""

    path: Path
    label: int
    disjoint: Disjoint


@dataclass(frozen=True, slots=True)
class Group:
    """``primary`` None: the destination hangs on this very switch (or cannot be reached: see ``reachable``)."""

    key: GroupKey
    id: int  # index of the failover register
    host: Host
    primary: Hop | None
    shadow: Shadow | None = None

    @property
    def tail(self) -> str:
        """The switch that the destination hangs on."""
        return self.host.switch

    @property
    def local(self) -> bool:
        return self.host.switch == self.key.switch

    @property
    def reachable(self) -> bool:
        return self.local or self.primary is not None


@dataclass(frozen=True, slots=True)
class Monitor:
    """Liveness settings of the switch-to-switch ports; microseconds.

    Without ``override`` a port's death is reported, but the data plane does not steer around it.
    """

    dead_us: int
    report_us: int
    rtt_delta_us: int
    override: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """All steering groups of the network, and how its ports are monitored."""

    groups: Mapping[GroupKey, Group]
    monitor: Monitor
    monitored: Mapping[str, tuple[int, ...]]  # switch -> ports
    device_ids: Mapping[str, int]
    carried: dict[GroupKey, tuple[Endpoint, ...]] = field(default_factory=dict, compare=False, repr=False)
    """By which ports each group's packets travel on their primaries, as far as looked up."""
    places: dict[Place, list[GroupKey]] = field(default_factory=dict, compare=False, repr=False)
    """Groups by what their primaries use: the ports on the whole way, the first link, the next switch. As
    :attr:`carried` it depends on primaries only, so plans that differ in shadows share it."""
    _by_switch: dict[str, list[Group]] = field(default_factory=dict, compare=False, repr=False)
    _made: dict[GroupKey, tuple[Group, list[tuple[str, Entry]]]] = field(
        default_factory=dict, compare=False, repr=False
    )  # entries of each group; plans that follow from each other share it, and compute the groups that changed

    def of(self, switch: str) -> list[Group]:
        """Groups of a switch, by id."""
        if not self._by_switch:
            for group in sorted(self.groups.values(), key=lambda item: item.id):
                self._by_switch.setdefault(group.key.switch, []).append(group)
        return self._by_switch.get(switch, [])

    def shadowed(self) -> Iterator[Group]:
        return (group for group in self.groups.values() if group.shadow is not None)

    def entries(self) -> NetworkEntries:
        """The table entries that make this plan true."""
        found: NetworkEntries = {switch: {} for switch in self.device_ids}

        def put(switch: str, entry: Entry) -> None:
            found[switch][entry.key] = entry

        for switch, ports in self.monitored.items():
            watch = (
                ("dead_interval", self.monitor.dead_us),
                ("report_interval", self.monitor.report_us),
                ("rtt_delta", self.monitor.rtt_delta_us),
            )
            for port in ports:
                put(switch, Entry(Table.LIVENESS, port, "monitor" if self.monitor.override else "observe", watch))
        for key, group in self.groups.items():
            known = self._made.get(key)
            if known is None or (known[0] is not group and known[0] != group):
                known = self._made[key] = (group, list(self._entries_of(group)))
            for switch, entry in known[1]:
                put(switch, entry)
        return found

    def _entries_of(self, group: Group) -> Iterator[tuple[str, Entry]]:
        """(switch, entry) of one group."""
        if not group.reachable:
            return
        switch = group.key.switch
        target = (("group_id", group.id),)
        yield switch, Entry(Table.ROUTE4, subnet(group.host.ipv4), "set_group", target)
        yield switch, Entry(Table.ROUTE6, subnet(group.host.ipv6), "set_group", target)
        params = self._to_host(group) if group.primary is None else self._over(group.primary)
        yield switch, Entry(Table.PRIMARY, group.id, "set_nexthop", params)
        if group.shadow is not None:
            yield from self._shadow_entries(group, group.shadow)

    def _shadow_entries(self, group: Group, shadow: Shadow) -> Iterator[tuple[str, Entry]]:
        first, *rest = shadow.path.hops
        action, params = "set_nexthop", self._over(first)
        if shadow.label:
            action, params = "set_nexthop_label", (*params, ("label", shadow.label))
            for hop in rest:
                yield hop.out.switch, Entry(Table.LABEL, shadow.label, "label_forward", self._over(hop))
            yield group.tail, Entry(Table.LABEL, shadow.label, "label_pop")
        yield group.key.switch, Entry(Table.SHADOW, group.id, action, params)

    def _over(self, hop: Hop) -> tuple[tuple[str, int | str], ...]:
        return (
            ("port", hop.out.port),
            ("src_mac", port_mac(self.device_ids[hop.out.switch], hop.out.port)),
            ("dst_mac", port_mac(self.device_ids[hop.into.switch], hop.into.port)),
        )

    def _to_host(self, group: Group) -> tuple[tuple[str, int | str], ...]:
        host = group.host
        return (
            ("port", host.port),
            ("src_mac", port_mac(self.device_ids[host.switch], host.port)),
            ("dst_mac", host.mac),
        )


@lru_cache(maxsize=1 << 16)
def subnet(address: str) -> str:
    """The canonical prefix of an interface address.

    >>> subnet("10.0.1.10/24"), subnet("fd00:0:1::10/64")
    ('10.0.1.0/24', 'fd00:0:1::/64')
    """
    return str(ipaddress.ip_interface(address).network)
