"""Shadowing recommendations: which flows should leave their primary, why, and what it costs to leave them there. Pure.

One line per forecast and flow it threatens, most important first: by the flow's priority, then by the loss to expect::

    expected loss = rate of the flow x probability x how long such a failure costs packets

The last is a setting per failure mode (``Settings.outage_s``); packets are bytes divided by the mean size of the
flow's packets lately, unknown (None) without counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from control.capacity import Loads
from control.errors import PathError
from control.plan import Group, Plan
from control.threats import Threat, ThreatBook
from control.tse import Side, SteeringEngine
from ml.schema import Forecast

FLOOR = 0.1  # forecasts that are less probable recommend nothing
MOST = 200


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One flow that should leave its primary path; also the API's answer to ``GET /recommendations``.

    ``flow``: steering group as ``switch>host``; ``state``: "recommended" (below the threshold of steering), "due",
    "moved", "withheld" (control share) or "refused: why"."""

    flow: str
    switch: str
    destination: str
    priority: int
    element: str
    mode: str
    probability: float
    horizon_s: float
    rate_bps: float
    expected_loss_bytes: float
    expected_loss_packets: float | None
    shadow: str
    state: str
    reasons: tuple[str, ...]


def recommend(
    forecasts: Iterable[Forecast],
    now_s: float,
    *,
    plan: Plan,
    book: ThreatBook,
    tse: SteeringEngine,
    loads: Loads,
    priority: Callable[[str], int],
    outage_s: Mapping[str, float],
) -> list[Recommendation]:
    """The prioritised list as of now; at most :data:`MOST` lines."""
    found: list[Recommendation] = []
    active = {(threat.element, threat.mode) for threat in book.active()}
    for forecast in forecasts:
        if forecast.probability < FLOOR:
            continue
        try:
            threat = book.threat_of(now_s, forecast)
        except PathError:
            continue
        due = (threat.element, threat.mode) in active
        for group in plan.groups.values():
            if group.local or not threat.hits_primary(group, tse.carrying(plan, group)):
                continue
            found.append(_line(group, threat, due, tse, loads, priority, outage_s))
    found.sort(key=lambda item: (-item.priority, -item.expected_loss_bytes, -item.probability, item.flow))
    return found[:MOST]


def _line(
    group: Group,
    threat: Threat,
    due: bool,
    tse: SteeringEngine,
    loads: Loads,
    priority: Callable[[str], int],
    outage_s: Mapping[str, float],
) -> Recommendation:
    rate = loads.group_rate(group.key)
    lost = rate / 8 * threat.probability * outage_s.get(threat.mode, 0.0)
    size = loads.packet_size(group.key)  # a port's mean would count heartbeats too
    state = tse.states.get(group.key)
    if tse.side(group.key) is Side.SHADOW:
        told = "moved"
    elif due and state is not None and state.refusal.startswith("withheld"):
        told = "withheld"
    elif due and state is not None and state.refusal:
        told = f"refused: {state.refusal}"
    else:
        told = "due" if due else "recommended"
    return Recommendation(
        flow=str(group.key),
        switch=group.key.switch,
        destination=group.key.destination,
        priority=priority(group.key.destination),
        element=threat.element,
        mode=threat.mode,
        probability=round(threat.probability, 4),
        horizon_s=round(threat.horizon_s, 3),
        rate_bps=round(rate, 1),
        expected_loss_bytes=round(lost, 1),
        expected_loss_packets=round(lost / size, 1) if size else None,
        shadow=str(group.shadow.path) if group.shadow is not None else "",
        state=told,
        reasons=threat.reasons,
    )
