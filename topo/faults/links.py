"""Faults of one link: fading, lossy, cut, without carrier, flapping."""

from __future__ import annotations

from dataclasses import replace

from topo.faultplan import CarrierChange, FaultPlan, Impairment, Points
from topo.faults.draw import Draw, both_ends, rounded, step
from topo.spec import Link

#: The receiver's limits as attenuation (dB over a healthy link): see engine/native/switchd/optics.h.
FEC_LIMIT_DB, DEAD_DB = 8.0, 11.0


def gray_link(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """Attenuation grows on both fibres until the link is dead."""
    link = draw.link()
    onset, precursor, dying = draw.value("onset_s"), draw.value("precursor_s"), draw.value("dying_s")
    curve, asymmetry = draw.value("curve"), draw.value("asymmetry")
    noise, jitter = draw.value("power_noise_db"), draw.value("jitter_ms")
    weaker = draw.random.choice((link.a, link.b))
    impairments = []
    for end in (link.a, link.b):
        share = asymmetry if end == weaker else 1.0
        rising = [(onset + precursor * part / 16, share * FEC_LIMIT_DB * (part / 16) ** curve) for part in range(17)]
        # The weaker direction dies in the end as well: a cable that breaks takes both fibres.
        fading = (*rounded(rising), *rounded([(onset + precursor + dying, DEAD_DB)]))
        schedule: dict[str, Points] = {"attenuation_db": fading}
        if noise:
            schedule["power_noise_db"] = ((0.0, noise),)
        if jitter:
            schedule["jitter_ms"] = rounded([(onset, 0.0), (onset + precursor, jitter)])
        impairments.append(Impairment(str(end), tuple(schedule.items())))
    safe_db = FEC_LIMIT_DB - 4 * max(noise, 0.02)
    name = draw.topology.link_name(link)
    return replace(
        empty,
        elements=(name,),
        onset_s=onset,
        first_loss_s=round(onset + precursor * (safe_db / FEC_LIMIT_DB) ** (1 / curve), 4),
        impairments=tuple(impairments),
        detail=f"{name} fades from {onset:.2f} s, reaches the limit at {onset + precursor:.2f} s, "
        f"is dead at {onset + precursor + dying:.2f} s",
    )


def gray_link_with_loss(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """Loss from the first moment, rising to 1."""
    link = draw.link()
    onset, initial, rise = draw.value("onset_s"), draw.value("initial_loss"), draw.value("rise_s")
    loss = rounded([(onset, 0.0), (onset, initial), (onset + rise, 1.0)])
    what = f"loses {initial:.1%} from {onset:.2f} s and everything from {onset + rise:.2f} s"
    return _losing(draw, empty, link, loss, what)


def abrupt_cut(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """Both directions fall silent, the ports stay up."""
    link = draw.link()
    onset = draw.value("onset_s")
    return _losing(draw, empty, link, step(onset), f"is cut at {onset:.2f} s")


def carrier_loss(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """Both ports go down."""
    link = draw.link()
    onset = draw.value("onset_s")
    name = draw.topology.link_name(link)
    return replace(
        empty,
        elements=(name,),
        onset_s=onset,
        first_loss_s=onset,
        carrier=(CarrierChange(onset, name, False),),
        detail=f"{name} loses its carrier at {onset:.2f} s",
    )


def flapping(draw: Draw, empty: FaultPlan) -> FaultPlan:
    """Silent cuts, several."""
    link = draw.link()
    onset = draw.value("onset_s")
    count = draw.scenario.parameters["flaps"].draw_int(draw.random)
    points, at = [], onset
    for index in range(count):
        down, up = draw.value("down_s"), draw.value("up_s")
        points += [(at, 0.0), (at, 1.0), (at + down, 1.0), (at + down, 0.0)]
        end = at + down
        at = end + up if index < count - 1 else end
    what = f"goes down {count} times between {onset:.2f} s and {at:.2f} s"
    return replace(_losing(draw, empty, link, rounded(points), what), end_s=at)


def _losing(draw: Draw, empty: FaultPlan, link: Link, loss: Points, what: str) -> FaultPlan:
    """A link whose first sign is its first loss: at the first point of ``loss``, alike in both directions."""
    name = draw.topology.link_name(link)
    return replace(
        empty,
        elements=(name,),
        onset_s=loss[0][0],
        first_loss_s=loss[0][0],
        impairments=both_ends(link, {"loss": loss}),
        detail=f"{name} {what}",
    )
