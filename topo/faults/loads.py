"""Faults of load: a device whose capacity is taken away, a link that other traffic overfills."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from topo.faultplan import FaultPlan, Impairment, Points
from topo.faults.draw import Draw, both_ends, rounded
from topo.paths import is_only_shortest, path_links, shortest_path
from topo.spec import Endpoint, Link
from topo.traffic import FlowSpec

#: Frames of a heartbeat exchange that each port brings a switch per interval: a request and a reply.
_HEARTBEATS = 2
_UDP_OVERHEAD = {4: 14 + 20 + 8, 6: 14 + 40 + 8}  # bytes on the line beyond the UDP payload, without preamble and FCS
BACKGROUND_PORT = 5999


def overload(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """A transit switch's capacity is taken away until its backlog overflows."""
    device = draw.device()
    onset, ramp, headroom = draw.value("onset_s"), draw.value("ramp_s"), draw.value("headroom")
    idle, peak, memory = draw.value("idle_load"), draw.value("peak_load"), draw.value("memory")
    backlog = float(round(draw.value("backlog_packets")))
    # All switches get the same capacity: nothing tells the one that will be struck before it is.
    capacity = float(round(headroom * max(_offered_pps(draw, item.name) for item in draw.topology.switches)))
    impairments = []
    for switch in draw.topology.switches:
        load: Points = ((0.0, round(draw.random.uniform(0.5, 1.0) * idle, 4)),)
        used: Points = ((0.0, round(memory * draw.random.uniform(0.8, 1.2), 4)),)
        if switch.name == device:
            load = rounded([(onset, load[0][1]), (onset + ramp, peak)])
            used = rounded([(onset, used[0][1]), (onset + ramp, min(1.0, used[0][1] + 0.35))])
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
    offered = _offered_pps(draw, device)
    start_load = next(dict(item.schedule)["base_load"][0][1] for item in impairments if item.target == device)

    def load_at(time_s: float) -> float:
        return start_load + (peak - start_load) * min(1.0, max(0.0, (time_s - onset) / ramp))

    first_loss = _overflow(lambda t: offered - capacity * (1 - load_at(t)), backlog, empty.duration_s)
    if first_loss is None:
        raise draw.nowhere(f"{device} never overflows: raise peak_load, lower headroom, or lengthen the run")
    return replace(
        empty,
        elements=(device,),
        onset_s=onset,
        first_loss_s=first_loss,
        impairments=tuple(impairments),
        detail=f"{device} ({capacity:.0f} packets/s, {offered:.0f} offered) is loaded from {onset:.2f} s, "
        f"its backlog overflows at {first_loss:.2f} s",
    )


def _offered_pps(draw: Draw, device: str) -> float:
    """What the protected flows and the heartbeats bring a switch, packets/s."""
    flows = sum(draw.flows[name].rate_pps for name, path in draw.paths.items() if device in path)
    return flows + _HEARTBEATS * draw.heartbeats_pps * sum(1 for _ in draw.topology.links_of(device))


def congestion(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """Unprotected traffic overfills a link."""
    end, link, targets = _bottleneck(draw)
    onset, ramp, peak = draw.value("onset_s"), draw.value("ramp_s"), draw.value("peak")
    drawn_rate = float(round(draw.value("rate_mbps"), 1))
    rate = link.rate_mbps or drawn_rate
    queue, size = float(round(draw.value("queue_packets"))), round(draw.value("packet_bytes"))
    frame_bits = 8 * (size + _UDP_OVERHEAD[4])
    peak_pps = peak * rate * 1e6 / frame_bits
    source = _bystander(draw, [host.name for host in draw.topology.hosts_of(end.switch)])
    target = _bystander(draw, targets)
    background = FlowSpec(
        name="background",
        src=source,
        dst=target,
        rate_pps=round(peak_pps, 1),
        size=size,
        port=BACKGROUND_PORT,
        protected=False,
        schedule=rounded([(onset, 0.0), (onset + ramp, peak_pps), (empty.duration_s, peak_pps)]),
    )
    protected_pps, protected_bits = _on_link(draw, end, link)

    def excess(time_s: float) -> float:
        other = peak_pps * min(1.0, max(0.0, (time_s - onset) / ramp))
        packets = protected_pps + other
        bits = protected_bits + other * frame_bits
        return packets * (1 - rate * 1e6 / bits) if bits > rate * 1e6 else -packets

    first_loss = _overflow(excess, queue, empty.duration_s)
    if first_loss is None:
        raise draw.nowhere("the queue never overflows: raise peak, lower queue_packets, or lengthen the run")
    limits: dict[str, Points] = {"queue_packets": ((0.0, queue),)}
    if not link.rate_mbps:
        limits["rate_mbps"] = ((0.0, rate),)
    name = draw.topology.link_name(link)
    return replace(
        empty,
        elements=(name,),
        onset_s=onset,
        first_loss_s=first_loss,
        impairments=both_ends(link, limits),
        background=(background,),
        detail=f"{source} to {target} fills {name} ({rate:g} Mbit/s) from {onset:.2f} s, "
        f"its queue overflows at {first_loss:.2f} s",
    )


def _bottleneck(draw: Draw) -> tuple[Endpoint, Link, list[str]]:
    """A link to overfill, with its sending end and the hosts to which traffic goes that way."""
    ranked: dict[int, list[tuple[Endpoint, Link, list[str]]]] = {}
    for end, link in draw.links():
        for rank, hosts in _beyond(draw, end, link).items():
            ranked.setdefault(rank, []).append((end, link, hosts))
    if not ranked:
        raise draw.nowhere("no link of a protected path begins at a switch with hosts and has a way around it")
    return draw.random.choice(sorted(ranked[min(ranked)], key=lambda item: str(item[0])))


def _on_link(draw: Draw, end: Endpoint, link: Link) -> tuple[float, float]:
    """Protected packets/s and bits/s that ``end`` sends into the link."""
    packets = bits = 0.0
    for name, path in draw.paths.items():
        if (end, link) in path_links(draw.topology, path):
            flow = draw.flows[name]
            packets += flow.rate_pps
            bits += flow.rate_pps * 8 * (flow.size + _UDP_OVERHEAD[flow.family])
    return packets, bits


def _beyond(draw: Draw, end: Endpoint, link: Link) -> dict[int, list[str]]:
    """Hosts to which traffic from ``end``'s switch leaves through the link, by how well they serve.

    0: the next switch's own, certainly that way; 1: others, certainly; 2: by our idea of the shortest path. The
    link has to be the first of the way: behind another of the same rate, nothing could overfill it.
    """
    found: dict[int, list[str]] = {}
    if not draw.topology.hosts_of(end.switch):
        return found
    far = link.other(end.switch).switch
    direct = is_only_shortest(draw.topology, link, end.switch)
    for host in draw.topology.hosts:
        if host.switch == end.switch:
            continue
        known = draw.primaries.get((end.switch, host.name))
        path = known or shortest_path(draw.topology, end.switch, host.switch)
        if path is None or path[1] != far:
            continue
        certain = known is not None or (direct and host.switch == far)
        found.setdefault(2 if not certain else 0 if host.switch == far else 1, []).append(host.name)
    return found


def _bystander(draw: Draw, hosts: list[str]) -> str:
    """One of the hosts, if possible one that no protected flow uses."""
    busy = {name for flow in draw.flows.values() for name in (flow.src, flow.dst)}
    return draw.random.choice([name for name in hosts if name not in busy] or hosts)


def _overflow(excess: Callable[[float], float], room: float, until_s: float) -> float | None:
    """When a queue that fills at ``excess(t)`` packets/s, and empties at negative values, is first nearly full."""
    step, held, room = 0.001, 0.0, 0.9 * room  # senders are not perfectly even
    for index in range(int(until_s / step)):
        held = max(0.0, held + step * excess(index * step))
        if held >= room:
            return round(index * step, 3)
    return None
