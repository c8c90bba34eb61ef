"""What all kinds of faults draw from: the scenario's bounds, the dice, and the places that may be struck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from topo.faultplan import Impairment, Points
from topo.paths import path_links, shortest_path
from topo.scenarios import FaultError, Scenario
from topo.spec import Endpoint, Link, Topology
from topo.traffic import FlowSpec


class Draw:
    """One drawing. The order of the calls that roll the dice is part of what a seed means."""

    def __init__(
        self,
        scenario: Scenario,
        topology: Topology,
        seed: int,
        paths: Mapping[str, Sequence[str]],
        flows: Sequence[FlowSpec],
        heartbeat_interval_us: int,
        primaries: Mapping[tuple[str, str], Sequence[str]],
    ) -> None:
        self.scenario, self.topology, self.seed = scenario, topology, seed
        self.random = Random(f"{scenario.name}/{topology.name}/{seed}")
        self.paths = {flow: tuple(path) for flow, path in sorted(paths.items())}
        self.primaries = primaries
        known = {flow.name: flow for flow in flows}
        self.flows = {name: known.get(name, FlowSpec(name, "", "", rate_pps=1000.0, size=200)) for name in self.paths}
        self.heartbeats_pps = 1e6 / heartbeat_interval_us if heartbeat_interval_us else 0.0
        for path in self.paths.values():
            for name in path:
                topology.switch(name)

    def value(self, key: str) -> float:
        """A parameter of the scenario, drawn between its bounds."""
        return round(self.scenario.parameters[key].draw(self.random), 4)

    # --- places ---

    def links(self) -> list[tuple[Endpoint, Link]]:
        """Links under protected traffic, each with a sending end, which every flow on them can avoid."""
        found: dict[Link, Endpoint] = {}
        spoiled: set[Link] = set()
        for path in self.paths.values():
            for end, link in path_links(self.topology, path):
                found.setdefault(link, end)
                if shortest_path(self.topology, path[0], path[-1], without_links=(link,)) is None:
                    spoiled.add(link)
        return [(end, link) for link, end in found.items() if link not in spoiled]

    def link(self) -> Link:
        """One of them; :class:`FaultError` if there is none."""
        candidates = self.links()
        if not candidates:
            raise self.nowhere("no link of a protected path has a way around it")
        return self.random.choice(sorted(candidates, key=lambda item: str(item[0])))[1]

    def devices(self) -> list[str]:
        """Transit switches of protected paths that no protected flow begins or ends at and that all can avoid."""
        transit = {name for path in self.paths.values() for name in path[1:-1]}
        ends = {name for path in self.paths.values() for name in (path[0], path[-1])}

        def avoidable(device: str) -> bool:
            return all(
                shortest_path(self.topology, path[0], path[-1], without_switches=(device,)) is not None
                for path in self.paths.values()
                if device in path
            )

        return sorted(name for name in transit - ends if avoidable(name))

    def device(self) -> str:
        """One of them; :class:`FaultError` if there is none."""
        candidates = self.devices()
        if not candidates:
            raise self.nowhere("no transit switch of a protected path has a way around it")
        return self.random.choice(candidates)

    def nowhere(self, why: str) -> FaultError:
        """The error of a scenario that cannot be played on this topology."""
        return FaultError(f"scenario {self.scenario.name} on topology {self.topology.name}: {why}")


def both_ends(link: Link, schedule: Mapping[str, Points]) -> tuple[Impairment, ...]:
    """The same schedule for both directions."""
    return tuple(Impairment(str(end), tuple(schedule.items())) for end in (link.a, link.b))


def rounded(points: Sequence[tuple[float, float]]) -> Points:
    """Points without the noise of floating-point arithmetic (us, 1e-6 of a value's unit)."""
    return tuple((round(when, 6), round(value, 6)) for when, value in points)


def step(at_s: float) -> Points:
    """From 0 to 1 at one moment."""
    return rounded([(at_s, 0.0), (at_s, 1.0)])
