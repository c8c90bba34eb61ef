"""Which steering groups an operator means. Pure."""

from __future__ import annotations

from control.errors import InputError, PathError
from control.paths import Avoid, Network
from control.plan import Group, GroupKey, Plan
from topo.spec import Topology


def select(
    topology: Topology,
    network: Network,
    plan: Plan,
    switch: str | None,
    destination: str | None,
    element: str | None,
) -> list[GroupKey]:
    """Groups by switch, destination host and threatened element; raises :class:`InputError` if none match."""
    chosen = [group for group in plan.groups.values() if not group.local]
    try:
        if switch is not None:
            topology.switch(switch)
            chosen = [group for group in chosen if group.key.switch == switch]
        if destination is not None:
            network.host(destination)
            chosen = [group for group in chosen if group.key.destination == destination]
        if element is not None:
            avoid = network.elements([element])
            chosen = [group for group in chosen if _leads_into(avoid, group)]
    except (ValueError, PathError) as error:
        raise InputError(str(error)) from error
    if not chosen:
        raise InputError("no steering group matches")
    return sorted(group.key for group in chosen)


def _leads_into(avoid: Avoid, group: Group) -> bool:
    primary = group.primary
    if primary is None:
        return False
    return avoid.hits_link(primary.link) or (primary.into.switch in avoid.nodes and primary.into.switch != group.tail)
