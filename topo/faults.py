"""Drawing concrete faults: a scenario, a topology, a seed and the protected paths give a :class:`FaultPlan`.

The same arguments always give the same plan. Times are in seconds from the start of the traffic. Struck are only
elements that carry protected traffic and that all of it can be moved away from. The analyzer never sees a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from topo.faultplan import CarrierChange, FaultPlan, Impairment, Notice, Points
from topo.paths import is_only_shortest, path_links, shortest_path
from topo.scenarios import FaultError, Range, Scenario, load_scenario, names, parse_scenario
from topo.spec import Endpoint, Link, Topology
from topo.traffic import FlowSpec

__all__ = [
    "CarrierChange",
    "FaultError",
    "FaultPlan",
    "Impairment",
    "Notice",
    "Points",
    "Range",
    "Scenario",
    "load_scenario",
    "names",
    "parse_scenario",
    "plan",
]

#: The receiver's limits as attenuation (dB over a healthy link): see engine/native/switchd/optics.h.
FEC_LIMIT_DB, DEAD_DB = 8.0, 11.0
#: Frames of a heartbeat exchange that each port brings a switch per interval: a request and a reply.
_HEARTBEATS = 2
_UDP_OVERHEAD = {4: 14 + 20 + 8, 6: 14 + 40 + 8}  # bytes on the line beyond the UDP payload, without preamble and FCS
BACKGROUND_PORT = 5999


def plan(
    scenario: Scenario,
    topology: Topology,
    seed: int,
    paths: Mapping[str, Sequence[str]],
    flows: Sequence[FlowSpec] = (),
    *,
    heartbeat_interval_us: int = 10_000,
    primaries: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> FaultPlan:
    """Draw place, onset and slope.

    ``paths``: flow name to the switches of its primary path. ``flows``: their rates and sizes (1,000 packets/s of
    200 bytes for those not listed). ``primaries``: the network's path from a switch to a host, where the background
    traffic's way should not be guessed (it matters where shortest paths are many, as in a fat tree).
    Raises :class:`FaultError` when nothing on the paths can be struck.
    """
    drawer = _Drawer(scenario, topology, seed, paths, flows, heartbeat_interval_us, primaries or {})
    return drawer.draw()


class _Drawer:
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
        return round(self.scenario.parameters[key].draw(self.random), 4)

    def draw(self) -> FaultPlan:
        empty = FaultPlan(
            scenario=self.scenario.name,
            kind=self.scenario.kind,
            topology=self.topology.name,
            seed=self.seed,
            foreseeable=self.scenario.foreseeable,
            duration_s=self.scenario.duration_s,
            elements=(),
            onset_s=None,
            first_loss_s=None,
            end_s=None,
        )
        drawn: FaultPlan = getattr(self, f"_draw_{self.scenario.kind}")(empty)
        return self._with_decoys(drawn)

    # --- places ---

    def _links(self) -> list[tuple[Endpoint, Link]]:
        """Links under protected traffic, each with a sending end, which every flow on them can avoid."""
        found: dict[Link, Endpoint] = {}
        spoiled: set[Link] = set()
        for path in self.paths.values():
            for end, link in path_links(self.topology, path):
                found.setdefault(link, end)
                if shortest_path(self.topology, path[0], path[-1], without_links=(link,)) is None:
                    spoiled.add(link)
        return [(end, link) for link, end in found.items() if link not in spoiled]

    def _link(self) -> tuple[Endpoint, Link]:
        candidates = self._links()
        if not candidates:
            raise self._nowhere("no link of a protected path has a way around it")
        return self.random.choice(sorted(candidates, key=lambda item: str(item[0])))

    def _devices(self) -> list[str]:
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

    def _device(self) -> str:
        candidates = self._devices()
        if not candidates:
            raise self._nowhere("no transit switch of a protected path has a way around it")
        return self.random.choice(candidates)

    def _nowhere(self, why: str) -> FaultError:
        return FaultError(f"scenario {self.scenario.name} on topology {self.topology.name}: {why}")

    def _both_ends(self, link: Link, schedule: Mapping[str, Points]) -> tuple[Impairment, ...]:
        return tuple(Impairment(str(end), tuple(schedule.items())) for end in (link.a, link.b))

    # --- kinds ---

    def _draw_none(self, empty: FaultPlan) -> FaultPlan:
        return replace(empty, detail="nothing fails")

    def _draw_gray_link(self, empty: FaultPlan) -> FaultPlan:
        _, link = self._link()
        onset, precursor, dying = self.value("onset_s"), self.value("precursor_s"), self.value("dying_s")
        curve, asymmetry = self.value("curve"), self.value("asymmetry")
        noise, jitter = self.value("power_noise_db"), self.value("jitter_ms")
        weaker = self.random.choice((link.a, link.b))
        impairments = []
        for end in (link.a, link.b):
            share = asymmetry if end == weaker else 1.0
            rising = [
                (onset + precursor * step / 16, share * FEC_LIMIT_DB * (step / 16) ** curve) for step in range(17)
            ]
            # The weaker direction dies in the end as well: a cable that breaks takes both fibres.
            fading = (*_rounded(rising), *_rounded([(onset + precursor + dying, DEAD_DB)]))
            schedule: dict[str, Points] = {"attenuation_db": fading}
            if noise:
                schedule["power_noise_db"] = ((0.0, noise),)
            if jitter:
                schedule["jitter_ms"] = _rounded([(onset, 0.0), (onset + precursor, jitter)])
            impairments.append(Impairment(str(end), tuple(schedule.items())))
        safe_db = FEC_LIMIT_DB - 4 * max(noise, 0.02)
        first_loss = round(onset + precursor * (safe_db / FEC_LIMIT_DB) ** (1 / curve), 4)
        name = self.topology.link_name(link)
        return replace(
            empty,
            elements=(name,),
            onset_s=onset,
            first_loss_s=first_loss,
            impairments=tuple(impairments),
            detail=f"{name} fades from {onset:.2f} s, reaches the limit at {onset + precursor:.2f} s, "
            f"is dead at {onset + precursor + dying:.2f} s",
        )

    def _draw_gray_link_with_loss(self, empty: FaultPlan) -> FaultPlan:
        _, link = self._link()
        onset, initial, rise = self.value("onset_s"), self.value("initial_loss"), self.value("rise_s")
        loss = _rounded([(onset, 0.0), (onset, initial), (onset + rise, 1.0)])
        name = self.topology.link_name(link)
        return replace(
            empty,
            elements=(name,),
            onset_s=onset,
            first_loss_s=onset,
            impairments=self._both_ends(link, {"loss": loss}),
            detail=f"{name} loses {initial:.1%} from {onset:.2f} s and everything from {onset + rise:.2f} s",
        )

    def _draw_abrupt_cut(self, empty: FaultPlan) -> FaultPlan:
        _, link = self._link()
        onset = self.value("onset_s")
        name = self.topology.link_name(link)
        return replace(
            empty,
            elements=(name,),
            onset_s=onset,
            first_loss_s=onset,
            impairments=self._both_ends(link, {"loss": _step(onset)}),
            detail=f"{name} is cut at {onset:.2f} s",
        )

    def _draw_carrier_loss(self, empty: FaultPlan) -> FaultPlan:
        _, link = self._link()
        onset = self.value("onset_s")
        name = self.topology.link_name(link)
        return replace(
            empty,
            elements=(name,),
            onset_s=onset,
            first_loss_s=onset,
            carrier=(CarrierChange(onset, name, False),),
            detail=f"{name} loses its carrier at {onset:.2f} s",
        )

    def _draw_flapping(self, empty: FaultPlan) -> FaultPlan:
        _, link = self._link()
        onset = self.value("onset_s")
        count = self.scenario.parameters["flaps"].draw_int(self.random)
        points, at = [], onset
        for index in range(count):
            down, up = self.value("down_s"), self.value("up_s")
            points += [(at, 0.0), (at, 1.0), (at + down, 1.0), (at + down, 0.0)]
            end = at + down
            at = end + up if index < count - 1 else end
        name = self.topology.link_name(link)
        return replace(
            empty,
            elements=(name,),
            onset_s=onset,
            first_loss_s=onset,
            end_s=at,
            impairments=self._both_ends(link, {"loss": _rounded(points)}),
            detail=f"{name} goes down {count} times between {onset:.2f} s and {at:.2f} s",
        )

    def _draw_maintenance(self, empty: FaultPlan) -> FaultPlan:
        kinds = {"link": ["link"], "device": ["device"], "either": ["link", "device"]}[self.scenario.element]
        possible = {"link": bool(self._links()), "device": bool(self._devices())}
        kinds = [kind for kind in kinds if possible[kind]]
        if not kinds:
            raise self._nowhere("nothing on a protected path has a way around it")
        publish, lead, length = self.value("publish_s"), self.value("lead_s"), self.value("length_s")
        start = round(publish + lead, 4)
        if self.random.choice(kinds) == "link":
            link = self._link()[1]
            element, links = self.topology.link_name(link), [link]
        else:
            element = self._device()
            links = list(self.topology.links_of(element))
        impairments = [item for link in links for item in self._both_ends(link, {"loss": _step(start)})]
        notice = Notice(
            id=f"{self.scenario.name}-{self.topology.name}-{self.seed}",
            publish_s=publish,
            element=element,
            start_s=start,
            end_s=start + length,
            summary=f"Planned work on {element}",
        )
        return replace(
            empty,
            elements=(element,),
            onset_s=publish,
            first_loss_s=start,
            impairments=tuple(impairments),
            notices=(notice,),
            detail=f"work on {element} announced at {publish:.2f} s for {start:.2f} s",
        )

    def _draw_overload(self, empty: FaultPlan) -> FaultPlan:
        device = self._device()
        onset, ramp, headroom = self.value("onset_s"), self.value("ramp_s"), self.value("headroom")
        idle, peak, memory = self.value("idle_load"), self.value("peak_load"), self.value("memory")
        backlog = float(round(self.value("backlog_packets")))
        # All switches get the same capacity: nothing tells the one that will be struck before it is.
        capacity = float(round(headroom * max(self._offered_pps(item.name) for item in self.topology.switches)))
        impairments = []
        for switch in self.topology.switches:
            load: Points = ((0.0, round(self.random.uniform(0.5, 1.0) * idle, 4)),)
            used: Points = ((0.0, round(memory * self.random.uniform(0.8, 1.2), 4)),)
            if switch.name == device:
                load = _rounded([(onset, load[0][1]), (onset + ramp, peak)])
                used = _rounded([(onset, used[0][1]), (onset + ramp, min(1.0, used[0][1] + 0.35))])
            impairments.append(
                Impairment(
                    switch.name,
                    (
                        ("capacity_pps", ((0.0, capacity),)),
                        ("backlog_packets", ((0.0, backlog),)),
                        ("base_load", load),
                        ("memory", used),
                    ),
                )
            )
        offered = self._offered_pps(device)
        start_load = next(dict(item.schedule)["base_load"][0][1] for item in impairments if item.target == device)

        def load_at(time_s: float) -> float:
            return start_load + (peak - start_load) * min(1.0, max(0.0, (time_s - onset) / ramp))

        first_loss = _overflow(lambda t: offered - capacity * (1 - load_at(t)), backlog, empty.duration_s)
        if first_loss is None:
            raise self._nowhere(f"{device} never overflows: raise peak_load, lower headroom, or lengthen the run")
        return replace(
            empty,
            elements=(device,),
            onset_s=onset,
            first_loss_s=first_loss,
            impairments=tuple(impairments),
            detail=f"{device} ({capacity:.0f} packets/s, {offered:.0f} offered) is loaded from {onset:.2f} s, "
            f"its backlog overflows at {first_loss:.2f} s",
        )

    def _offered_pps(self, device: str) -> float:
        """What the protected flows and the heartbeats bring a switch, packets/s."""
        flows = sum(self.flows[name].rate_pps for name, path in self.paths.items() if device in path)
        return flows + _HEARTBEATS * self.heartbeats_pps * sum(1 for _ in self.topology.links_of(device))

    def _draw_congestion(self, empty: FaultPlan) -> FaultPlan:
        ranked: dict[int, list[tuple[Endpoint, Link, list[str]]]] = {}
        for end, link in self._links():
            for rank, hosts in self._beyond(end, link).items():
                ranked.setdefault(rank, []).append((end, link, hosts))
        if not ranked:
            raise self._nowhere("no link of a protected path begins at a switch with hosts and has a way around it")
        end, link, targets = self.random.choice(sorted(ranked[min(ranked)], key=lambda item: str(item[0])))
        onset, ramp, peak = self.value("onset_s"), self.value("ramp_s"), self.value("peak")
        drawn_rate = float(round(self.value("rate_mbps"), 1))
        rate = link.rate_mbps or drawn_rate
        queue, size = float(round(self.value("queue_packets"))), round(self.value("packet_bytes"))
        frame_bits = 8 * (size + _UDP_OVERHEAD[4])
        peak_pps = peak * rate * 1e6 / frame_bits
        source = self._bystander([host.name for host in self.topology.hosts_of(end.switch)])
        target = self._bystander(targets)
        background = FlowSpec(
            name="background",
            src=source,
            dst=target,
            rate_pps=round(peak_pps, 1),
            size=size,
            port=BACKGROUND_PORT,
            protected=False,
            schedule=_rounded([(onset, 0.0), (onset + ramp, peak_pps), (empty.duration_s, peak_pps)]),
        )
        protected_pps, protected_bits = self._on_link(end, link)

        def excess(time_s: float) -> float:
            other = peak_pps * min(1.0, max(0.0, (time_s - onset) / ramp))
            packets = protected_pps + other
            bits = protected_bits + other * frame_bits
            return packets * (1 - rate * 1e6 / bits) if bits > rate * 1e6 else -packets

        first_loss = _overflow(excess, queue, empty.duration_s)
        if first_loss is None:
            raise self._nowhere("the queue never overflows: raise peak, lower queue_packets, or lengthen the run")
        limits: dict[str, Points] = {"queue_packets": ((0.0, queue),)}
        if not link.rate_mbps:
            limits["rate_mbps"] = ((0.0, rate),)
        name = self.topology.link_name(link)
        return replace(
            empty,
            elements=(name,),
            onset_s=onset,
            first_loss_s=first_loss,
            impairments=self._both_ends(link, limits),
            background=(background,),
            detail=f"{source} to {target} fills {name} ({rate:g} Mbit/s) from {onset:.2f} s, "
            f"its queue overflows at {first_loss:.2f} s",
        )

    def _on_link(self, end: Endpoint, link: Link) -> tuple[float, float]:
        """Protected packets/s and bits/s that ``end`` sends into the link."""
        packets = bits = 0.0
        for name, path in self.paths.items():
            if (end, link) in path_links(self.topology, path):
                flow = self.flows[name]
                packets += flow.rate_pps
                bits += flow.rate_pps * 8 * (flow.size + _UDP_OVERHEAD[flow.family])
        return packets, bits

    def _beyond(self, end: Endpoint, link: Link) -> dict[int, list[str]]:
        """Hosts to which traffic from ``end``'s switch leaves through the link, by how well they serve.

        0: the next switch's own, certainly that way; 1: others, certainly; 2: by our idea of the shortest path. The
        link has to be the first of the way: behind another of the same rate, nothing could overfill it.
        """
        found: dict[int, list[str]] = {}
        if not self.topology.hosts_of(end.switch):
            return found
        far = link.other(end.switch).switch
        direct = is_only_shortest(self.topology, link, end.switch)
        for host in self.topology.hosts:
            if host.switch == end.switch:
                continue
            known = self.primaries.get((end.switch, host.name))
            path = known or shortest_path(self.topology, end.switch, host.switch)
            if path is None or path[1] != far:
                continue
            certain = known is not None or (direct and host.switch == far)
            found.setdefault(2 if not certain else 0 if host.switch == far else 1, []).append(host.name)
        return found

    def _bystander(self, hosts: list[str]) -> str:
        """One of the hosts, if possible one that no protected flow uses."""
        busy = {name for flow in self.flows.values() for name in (flow.src, flow.dst)}
        return self.random.choice([name for name in hosts if name not in busy] or hosts)

    # --- decoys ---

    def _with_decoys(self, drawn: FaultPlan) -> FaultPlan:
        """Add noise and small steps to links that the fault leaves alone."""
        decoys = self.scenario.decoys
        if decoys is None:
            return drawn
        struck = {item.target for item in drawn.impairments} | set(drawn.elements)
        free = [
            link
            for link in self.topology.links
            if self.topology.link_name(link) not in struck and not {str(link.a), str(link.b)} & struck
        ]
        chosen = self.random.sample(free, min(len(free), decoys.links.draw_int(self.random)))
        impairments: list[Impairment] = []
        for link in chosen:
            noise, steps = decoys.power_noise_db.draw(self.random), decoys.steps.draw_int(self.random)
            points = [(0.0, 0.0)]
            for index in range(steps):
                slot = drawn.duration_s / steps
                start = slot * (index + self.random.uniform(0.1, 0.5))
                height = decoys.step_db.draw(self.random)
                stop = start + slot * self.random.uniform(0.1, 0.4)
                points += [(start, 0.0), (start, height), (stop, height), (stop, 0.0)]
            schedule: dict[str, Points] = {"power_noise_db": ((0.0, round(noise, 4)),)}
            if steps:
                schedule["attenuation_db"] = _rounded(points)
            impairments += self._both_ends(link, schedule)
        return replace(
            drawn,
            impairments=(*drawn.impairments, *impairments),
            decoys=tuple(self.topology.link_name(link) for link in chosen),
        )


def _rounded(points: Sequence[tuple[float, float]]) -> Points:
    return tuple((round(when, 6), round(value, 6)) for when, value in points)


def _step(at_s: float) -> Points:
    """From 0 to 1 at one moment."""
    return _rounded([(at_s, 0.0), (at_s, 1.0)])


def _overflow(excess: Callable[[float], float], room: float, until_s: float) -> float | None:
    """When a queue that fills at ``excess(t)`` packets/s, and empties at negative values, is first nearly full."""
    step, held, room = 0.001, 0.0, 0.9 * room  # senders are not perfectly even
    for index in range(int(until_s / step)):
        held = max(0.0, held + step * excess(index * step))
        if held >= room:
            return round(index * step, 3)
    return None
