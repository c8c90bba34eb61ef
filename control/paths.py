"""Paths: one consistent tree of primaries per destination, and disjoint shadows.

Primaries follow a shortest-path tree towards each destination, so hop-by-hop forwarding agrees everywhere:
every next hop is strictly nearer to the destination than the switch before it, therefore no loops. Costs
must be positive for that. Ties are broken by device id and port, the same way in every run.

A shadow leaves its switch by another link and, where the topology allows, avoids the primary's next-hop
switch and everything that shares a risk group with the primary's link. It is pinned by a path label, so it
need not agree with anybody's tree.

Deliberately not here: capacities (:mod:`control.spm` passes a filter), labels, and anything about time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import rustworkx as rx

from control.errors import PathError
from topo.spec import Endpoint, Host, Link, Topology, TopologyError


@dataclass(frozen=True, slots=True)
class Hop:
    """One direction of a link: what leaves ``out`` and arrives at ``into``."""

    link: Link
    out: Endpoint
    into: Endpoint

    def __str__(self) -> str:
        return f"{self.out}->{self.into.switch}"


@dataclass(frozen=True, slots=True)
class Path:
    """A loop-free sequence of hops; empty when source and destination are the same switch."""

    hops: tuple[Hop, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Switch names from head to tail."""
        if not self.hops:
            return ()
        return (self.hops[0].out.switch, *(hop.into.switch for hop in self.hops))

    @property
    def transit(self) -> tuple[str, ...]:
        """The switches between head and tail."""
        return self.nodes[1:-1]

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(hop.link for hop in self.hops)

    @property
    def cost(self) -> float:
        return sum(hop.link.cost for hop in self.hops)

    @property
    def delay_ms(self) -> float:
        """Propagation delay, one way."""
        return sum(hop.link.delay_ms for hop in self.hops)

    @property
    def key(self) -> str:
        """Identity of the path, port by port: ``s1:2>s3:2>s4``. Parallel links differ."""
        if not self.hops:
            return ""
        return ">".join(str(hop.out) for hop in self.hops) + f">{self.hops[-1].into.switch}"

    def __str__(self) -> str:
        return "-".join(self.nodes)


class Disjoint(StrEnum):
    """How far a shadow keeps away from its primary's next hop."""

    NODE = "node"  # other link, other next-hop switch, no shared risk
    RISK = "risk"  # other link, no shared risk group
    LINK = "link"  # other link only


@dataclass(frozen=True, slots=True)
class Avoid:
    """What a path must not touch. Nodes are avoided as transit and as next hop, never as the path's own ends."""

    links: frozenset[Link] = frozenset()
    nodes: frozenset[str] = frozenset()
    srlgs: frozenset[str] = frozenset()

    def __or__(self, other: Avoid) -> Avoid:
        return Avoid(self.links | other.links, self.nodes | other.nodes, self.srlgs | other.srlgs)

    def __bool__(self) -> bool:
        return bool(self.links or self.nodes or self.srlgs)

    def hits_link(self, link: Link) -> bool:
        return link in self.links or not self.srlgs.isdisjoint(link.srlgs)

    def hits(self, path: Path) -> bool:
        """Whether the path uses an avoided link or passes *through* an avoided switch."""
        return any(self.hits_link(link) for link in path.links) or not self.nodes.isdisjoint(path.transit)


NOTHING = Avoid()
HopFilter = Callable[[Hop], bool]


class Network:
    """A topology prepared for path questions."""

    def __init__(self, topology: Topology) -> None:
        """Raises :class:`PathError` for a cost that is not positive and finite, or an end that does not exist."""
        self.topology = topology
        self._order = {switch.name: (switch.device_id, switch.name) for switch in topology.switches}
        self._graph: rx.PyDiGraph[str, Hop] = rx.PyDiGraph(multigraph=True)
        self._index = {switch.name: self._graph.add_node(switch.name) for switch in topology.switches}
        self._at: dict[Endpoint, Link] = {}
        self._out: dict[str, list[Hop]] = {name: [] for name in self._index}
        for link in topology.links:
            if not (math.isfinite(link.cost) and link.cost > 0):
                raise PathError(f"topology {topology.name}: link {link.name} has cost {link.cost}; it must be positive")
            for out in (link.a, link.b):
                if out.switch not in self._index:
                    raise PathError(f"topology {topology.name}: link {link.name} ends at unknown switch {out.switch!r}")
                self._at[out] = link
            for out, into in ((link.a, link.b), (link.b, link.a)):
                hop = Hop(link, out, into)
                self._graph.add_edge(self._index[out.switch], self._index[into.switch], hop)
                self._out[out.switch].append(hop)
        for hops in self._out.values():
            hops.sort(key=lambda hop: (self._order[hop.into.switch], hop.out.port))

    @property
    def switches(self) -> tuple[str, ...]:
        """All names, by device id."""
        return tuple(sorted(self._index, key=lambda name: self._order[name]))

    def hops_from(self, switch: str) -> tuple[Hop, ...]:
        return tuple(self._out[switch])

    def hop_at(self, end: Endpoint) -> Hop | None:
        """The hop that leaves by a port; None for host ports."""
        link = self._at.get(end)
        return None if link is None else Hop(link, end, link.other(end.switch))

    def host(self, name: str) -> Host:
        try:
            return self.topology.host(name)
        except TopologyError as error:
            raise PathError(str(error)) from error

    def distances(self, destination: str, avoid: Avoid = NOTHING) -> dict[str, float]:
        """Cost from every switch that reaches ``destination`` (over reversed edges; costs are symmetric)."""
        self._known(destination)

        def weight(hop: Hop) -> float:
            blocked = avoid.hits_link(hop.link) or (hop.out.switch in avoid.nodes and hop.out.switch != destination)
            return math.inf if blocked else hop.link.cost

        lengths = rx.dijkstra_shortest_path_lengths(self._graph, self._index[destination], weight)
        found = {self._graph[node]: length for node, length in lengths.items() if math.isfinite(length)}
        found[destination] = 0.0
        return found

    def primaries(self, destination: str, avoid: Avoid = NOTHING) -> dict[str, Hop]:
        """Next hop of every switch that reaches ``destination``: a tree, hence loop-free.

        An avoided switch may still send its own traffic, but nobody passes through it.
        """
        distance = self.distances(destination, avoid)
        tree: dict[str, Hop] = {}
        for name in distance:
            if name == destination:
                continue
            best: tuple[float, tuple[int, str], int] | None = None
            for hop in self._out[name]:
                onward = hop.into.switch
                if avoid.hits_link(hop.link) or onward not in distance:
                    continue
                if onward in avoid.nodes and onward != destination:
                    continue
                rank = (round(hop.link.cost + distance[onward], 9), self._order[onward], hop.out.port)
                if best is None or rank < best:
                    best, tree[name] = rank, hop
        return tree

    def follow(self, tree: dict[str, Hop], source: str, destination: str) -> Path:
        """The path that ``source``'s packets take along a tree; raises :class:`PathError` where it ends early."""
        hops: list[Hop] = []
        here = source
        while here != destination:
            hop = tree.get(here)
            if hop is None or len(hops) > len(self._index):
                raise PathError(f"no path from {source} to {destination}: it ends at {here}")
            hops.append(hop)
            here = hop.into.switch
        return Path(tuple(hops))

    def shortest(
        self, source: str, destination: str, avoid: Avoid = NOTHING, usable: HopFilter | None = None
    ) -> Path | None:
        """Cheapest path, or None. ``usable`` may refuse single hops, for instance for lack of room."""
        self._known(source)
        self._known(destination)
        if source == destination:
            return Path(())
        ends = (source, destination)

        def weight(hop: Hop) -> float:
            if avoid.hits_link(hop.link) or hop.into.switch == source or hop.out.switch == destination:
                return math.inf
            if any(end.switch in avoid.nodes and end.switch not in ends for end in (hop.out, hop.into)):
                return math.inf
            if usable is not None and not usable(hop):
                return math.inf
            return hop.link.cost

        target = self._index[destination]
        found = rx.dijkstra_shortest_paths(self._graph, self._index[source], target=target, weight_fn=weight)
        if target not in found:
            return None
        nodes = [self._graph[index] for index in found[target]]
        hops: list[Hop] = []
        for here, onward in pairwise(nodes):
            choices = [hop for hop in self._out[here] if hop.into.switch == onward and math.isfinite(weight(hop))]
            if not choices:
                return None
            hops.append(min(choices, key=lambda hop: (hop.link.cost, hop.out.port)))
        return Path(tuple(hops))

    def shadow(
        self, primary: Hop, destination: str, avoid: Avoid = NOTHING, usable: HopFilter | None = None
    ) -> tuple[Path, Disjoint] | None:
        """The shadow of a primary next hop: as disjoint as the topology allows, then as short as possible.

        ``avoid`` holds what is threatened or down on top. None when there is no way around the primary's link.
        """
        source = primary.out.switch
        link = Avoid(links=frozenset({primary.link}))
        risk = link | Avoid(srlgs=frozenset(primary.link.srlgs))
        steps: list[tuple[Avoid, Disjoint]] = []
        if primary.into.switch != destination:
            steps.append((risk | Avoid(nodes=frozenset({primary.into.switch})), Disjoint.NODE))
        steps += [(risk, Disjoint.RISK), (link, Disjoint.LINK)]
        for own, kind in steps:
            path = self.shortest(source, destination, own | avoid, usable)
            if path is not None:
                if kind is Disjoint.RISK and primary.into.switch == destination:
                    kind = Disjoint.NODE  # the next hop is the destination itself: nothing more can be avoided
                return path, kind
        return None

    def elements(self, names: Iterable[str]) -> Avoid:
        """Turn names of elements ("s1", "s1:2", "s1-s2") into what to avoid; raises :class:`PathError`."""
        avoid = NOTHING
        for name in names:
            found = self.resolve(name)
            avoid |= Avoid(nodes=frozenset({found})) if isinstance(found, str) else Avoid(links=frozenset(found))
        return avoid

    def resolve(self, element: str) -> str | tuple[Link, ...]:
        """A switch's name, or the links that an element name means (parallel links share a name).

        Raises :class:`PathError` for a name that is not in the topology, and for host ports.
        """
        if element in self._index:
            return element
        if ":" in element and "-" not in element:
            switch, _, port = element.rpartition(":")
            if port.isdigit() and (link := self._at.get(Endpoint(switch, int(port)))) is not None:
                return (link,)
        links = tuple(link for link in self.topology.links if element in link_names(link))
        if links:
            return links
        raise PathError(f"topology {self.topology.name} has no switch, link or switch port called {element!r}")

    def _known(self, name: str) -> None:
        if name not in self._index:
            raise PathError(f"topology {self.topology.name} has no switch {name!r}")


def link_names(link: Link) -> tuple[str, ...]:
    """Every way in which people name a link: ``s1-s2``, ``s2-s1``, with ports ``s1:2-s2:1``, ``s2:1-s1:2``."""
    a, b = link.a, link.b
    return (f"{a.switch}-{b.switch}", f"{b.switch}-{a.switch}", f"{a}-{b}", f"{b}-{a}")


def parse_path(network: Network, key: str) -> Path:
    """The inverse of :attr:`Path.key`; raises :class:`PathError` when the topology has no such path."""
    hops: list[Hop] = []
    *steps, tail = key.split(">")
    for step in steps:
        switch, _, port = step.rpartition(":")
        hop = network.hop_at(Endpoint(switch, int(port))) if port.isdigit() else None
        if hop is None or (hops and hops[-1].into.switch != switch):
            raise PathError(f"topology {network.topology.name} has no path {key!r}")
        hops.append(hop)
    if not hops or hops[-1].into.switch != tail:
        raise PathError(f"topology {network.topology.name} has no path {key!r}")
    return Path(tuple(hops))
