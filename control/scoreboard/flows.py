"""The protected flows of a run: pairs of hosts far apart, IPv4 and IPv6, both directions."""

from __future__ import annotations

from itertools import combinations

from topo.paths import path_cost, shortest_path
from topo.spec import Topology, TopologyError
from topo.traffic import FlowSpec

FLOWS = 4
# All flows together, packets/s. At 3,000, four BMv2 switches and their front panels on a few cores queue for tenths
# of a second, whether anything fails or not; then it is their queues that are measured.
RATE_PPS = {"engine": 3000.0, "bmv2": 800.0}
PAYLOAD_BYTES = 200


def choose(topology: Topology, *, count: int = FLOWS, rate_pps: float = RATE_PPS["engine"]) -> list[FlowSpec]:
    """``count`` flows, ``rate_pps`` together, between the host pairs that are farthest apart.

    Each host is used once while there are enough. Every second flow runs the other way, every fourth one is IPv6.
    Raises ``TopologyError`` where no two switches have hosts.
    """
    ranked = sorted(_pairs(topology), key=lambda item: (-item[0], item[1]))
    chosen: list[tuple[str, str]] = []
    used: set[str] = set()
    for _, pair in ranked:
        if not used.intersection(pair):
            chosen.append(pair)
            used.update(pair)
    chosen += [pair for _, pair in ranked if pair not in chosen]
    if not chosen:
        raise TopologyError(f"topology {topology.name}: no two switches with hosts, so there is nothing to protect")
    flows = []
    for index in range(count):
        source, target = chosen[(index // 2) % len(chosen)]
        if index % 2:
            source, target = target, source
        flows.append(
            FlowSpec(
                name=f"f{index + 1}-{source}-{target}",
                src=source,
                dst=target,
                rate_pps=rate_pps / count,
                size=PAYLOAD_BYTES,
                port=5001 + index,
                priority=5,
                family=6 if index % 4 == 3 else 4,
            )
        )
    return flows


def _pairs(topology: Topology) -> list[tuple[float, tuple[str, str]]]:
    found = []
    for a, b in combinations(topology.hosts, 2):
        if a.switch == b.switch:
            continue
        path = shortest_path(topology, a.switch, b.switch)
        if path is not None:
            found.append((path_cost(topology, path), (a.name, b.name)))
    return found
