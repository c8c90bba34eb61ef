"""Shortest paths on a topology: what the fault drawing, the traffic planner and the importers' tests need.

The controller has its own, richer path computation; this one is small, exact and deterministic.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from itertools import pairwise

from topo.spec import Endpoint, Link, Topology


def shortest_path(
    topology: Topology,
    source: str,
    target: str,
    *,
    without_links: Collection[Link] = (),
    without_switches: Collection[str] = (),
) -> tuple[str, ...] | None:
    """Switches of a cheapest path from ``source`` to ``target`` (both included), or None.

    Ties are broken by fewer hops, then by the order of the links, so that the answer never depends on hashing.
    """
    best: dict[str, tuple[float, int]] = {source: (0.0, 0)}
    before: dict[str, str] = {}
    queue: list[tuple[float, int, int, str]] = [(0.0, 0, 0, source)]
    pushed = 0
    while queue:
        cost, hops, _, here = heapq.heappop(queue)
        if here == target:
            path = [here]
            while path[-1] != source:
                path.append(before[path[-1]])
            return tuple(reversed(path))
        if (cost, hops) > best[here]:
            continue
        for link in topology.links_of(here):
            there = link.other(here).switch
            if link in without_links or there in without_switches:
                continue
            new = (cost + link.cost, hops + 1)
            if there not in best or new < best[there]:
                best[there] = new
                before[there] = here
                pushed += 1
                heapq.heappush(queue, (*new, pushed, there))
    return None


def is_only_shortest(topology: Topology, link: Link, source: str) -> bool:
    """Whether every cheapest path from ``source`` to the link's other end is the link itself."""
    far = link.other(source).switch
    detour = shortest_path(topology, source, far, without_links=(link,))
    return detour is None or path_cost(topology, detour) > link.cost


def path_cost(topology: Topology, path: Iterable[str]) -> float:
    """Sum of the cheapest link's cost at each step."""
    nodes = list(path)
    return sum(min(link.cost for link in topology.links_between(a, b)) for a, b in pairwise(nodes))


def path_links(topology: Topology, path: Iterable[str]) -> tuple[tuple[Endpoint, Link], ...]:
    """The links along a path of switch names, each with the end point that sends into it.

    Where two switches are joined by several links, the cheapest counts. Raises ``ValueError`` for a step
    without a link.
    """
    nodes = list(path)
    found = []
    for here, there in pairwise(nodes):
        links = topology.links_between(here, there)
        if not links:
            raise ValueError(f"path {' '.join(nodes)}: no link from {here} to {there}")
        link = min(links, key=lambda item: item.cost)
        found.append((link.end(here), link))
    return tuple(found)
