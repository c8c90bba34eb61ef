"""Walks packets through table entries as the data plane would: the oracle of the path tests.

Follows the contract's text on steering (bit or dead port, then shadow, else primary), with no code of
:mod:`control` except the plain entries.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from control.plan import Monitor, NetworkEntries, Table
from topo.spec import Endpoint, Host, Link, Switch, Topology

MONITOR = Monitor(dead_us=30_000, report_us=100_000, rtt_delta_us=500)


def make_topology(
    edges: list[tuple[int, int]],
    *,
    hosts: list[int] | None = None,
    costs: list[float] | None = None,
    rate_mbps: float = 0.0,
    srlgs: dict[int, tuple[str, ...]] | None = None,
) -> Topology:
    """Switches s1.. from an edge list; a host on each switch in ``hosts`` (all by default)."""
    count = max(max(edge) for edge in edges)
    ports = dict.fromkeys(range(1, count + 1), 0)

    def port(number: int) -> Endpoint:
        ports[number] += 1
        return Endpoint(f"s{number}", ports[number])

    links = tuple(
        Link(
            port(a),
            port(b),
            delay_ms=1.0,
            rate_mbps=rate_mbps,
            cost=costs[i] if costs else 1.0,
            srlgs=(srlgs or {}).get(i, ()),
        )
        for i, (a, b) in enumerate(edges)
    )
    found = []
    for number in hosts or range(1, count + 1):
        end = port(number)
        found.append(
            Host(
                f"h{number}",
                f"10.0.{number}.10/24",
                f"fd00:0:{number:x}::10/64",
                f"02:00:01:00:00:{number:02x}",
                end.switch,
                end.port,
            )
        )
    switches = tuple(Switch(f"s{number}", number) for number in range(1, count + 1))
    return Topology("test", switches, tuple(found), links)


@dataclass
class Walk:
    """``end``: "delivered", "loop", or "dropped: reason"; ``trail`` holds the switches visited."""

    end: str
    trail: list[str] = field(default_factory=list)


def walk(
    topology: Topology,
    entries: NetworkEntries,
    source: str,
    host: Host,
    *,
    bits: set[tuple[str, int]] = frozenset(),
    dead: set[Endpoint] = frozenset(),
    cut: set[Endpoint] = frozenset(),
) -> Walk:
    """``dead``: ports known dead by liveness; ``cut``: ports whose link silently loses everything."""
    address = ipaddress.ip_interface(host.ipv4).ip
    here, label, trail = source, None, [source]
    for _ in range(64):  # the TTL
        table = entries[here]
        if label is not None:
            entry = table.get((Table.LABEL, label))
            if entry is None:
                return Walk("dropped: unknown label", trail)
            if entry.action == "label_pop":
                label = None
            else:
                port = int(dict(entry.params)["port"])
                if Endpoint(here, port) in dead:
                    return Walk("dropped: labelled packet on a dead port", trail)
        if label is None:
            group = None
            for (name, match), entry in table.items():
                if name is Table.ROUTE4 and address in ipaddress.ip_network(str(match)):
                    group = int(dict(entry.params)["group_id"])
            if group is None:
                return Walk("dropped: no route", trail)
            primary = table.get((Table.PRIMARY, group))
            shadow = table.get((Table.SHADOW, group))
            if primary is None:
                return Walk("dropped: no next hop", trail)
            main = Endpoint(here, int(dict(primary.params)["port"]))
            side = Endpoint(here, int(dict(shadow.params)["port"])) if shadow else None
            wanted = (here, group) in bits or main in dead
            if wanted and side is not None and side not in dead:
                port, label = side.port, dict(shadow.params).get("label")
            elif main not in dead:
                port = main.port
            else:
                return Walk("dropped: neither side usable", trail)
        out = Endpoint(here, port)
        if here == host.switch and port == host.port:
            return Walk("delivered", trail) if label is None else Walk("dropped: label at a host", trail)
        link = topology.link_at(out)
        if link is None:
            return Walk("dropped: wrong port", trail)
        if out in cut:
            return Walk("dropped: cut", trail)
        here = link.other(here).switch
        trail.append(here)
    return Walk("loop", trail)
