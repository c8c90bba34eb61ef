"""What is announced, and what only looks like a fault: planned work, and noisy links that stay healthy."""

from __future__ import annotations

from dataclasses import replace

from topo.faultplan import FaultPlan, Impairment, Notice, Points
from topo.faults.draw import Draw, both_ends, rounded, step


def maintenance(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """A link or a switch goes off at the announced time."""
    kinds = {"link": ["link"], "device": ["device"], "either": ["link", "device"]}[draw.scenario.element]
    possible = {"link": bool(draw.links()), "device": bool(draw.devices())}
    kinds = [kind for kind in kinds if possible[kind]]
    if not kinds:
        raise draw.nowhere("nothing on a protected path has a way around it")
    publish, lead, length = draw.value("publish_s"), draw.value("lead_s"), draw.value("length_s")
    start = round(publish + lead, 4)
    if draw.random.choice(kinds) == "link":
        link = draw.link()
        element, links = draw.topology.link_name(link), [link]
    else:
        element = draw.device()
        links = list(draw.topology.links_of(element))
    notice = Notice(
        id=f"{draw.scenario.name}-{draw.topology.name}-{draw.seed}",
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
        impairments=tuple(item for link in links for item in both_ends(link, {"loss": step(start)})),
        notices=(notice,),
        detail=f"work on {element} announced at {publish:.2f} s for {start:.2f} s",
    )


def with_decoys(draw: Draw, drawn: FaultPlan) -> FaultPlan:
    """Add noise and small steps to links that the fault leaves alone."""
    decoys = draw.scenario.decoys
    if decoys is None:
        return drawn
    struck = {item.target for item in drawn.impairments} | set(drawn.elements)
    free = [
        link
        for link in draw.topology.links
        if draw.topology.link_name(link) not in struck and not {str(link.a), str(link.b)} & struck
    ]
    chosen = draw.random.sample(free, min(len(free), decoys.links.draw_int(draw.random)))
    impairments: list[Impairment] = []
    for link in chosen:
        noise, steps = decoys.power_noise_db.draw(draw.random), decoys.steps.draw_int(draw.random)
        points = [(0.0, 0.0)]
        for index in range(steps):
            slot = drawn.duration_s / steps
            start = slot * (index + draw.random.uniform(0.1, 0.5))
            height = decoys.step_db.draw(draw.random)
            stop = start + slot * draw.random.uniform(0.1, 0.4)
            points += [(start, 0.0), (start, height), (stop, height), (stop, 0.0)]
        schedule: dict[str, Points] = {"power_noise_db": ((0.0, round(noise, 4)),)}
        if steps:
            schedule["attenuation_db"] = rounded(points)
        impairments += both_ends(link, schedule)
    return replace(
        drawn,
        impairments=(*drawn.impairments, *impairments),
        decoys=tuple(draw.topology.link_name(link) for link in chosen),
    )
