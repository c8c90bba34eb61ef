"""What the service remembers over a restart: numbers, shadow paths and sides, tied to one topology."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from control.clock import Moment
from control.errors import PathError
from control.paths import Disjoint, Network, parse_path
from control.plan import GroupKey, Plan, Shadow
from control.spm import ShadowManager
from control.store import Store, StoredShadow
from control.tse import Side, SteeringEngine
from topo.spec import Topology

STANDBY, ACTIVE = "standby", "active"


def fingerprint(topology: Topology) -> str:
    """Identity of a topology: equal when nothing in it changed."""
    return hashlib.sha256(repr(topology).encode()).hexdigest()


def recall_numbers(store: Store, topology: Topology, spm: ShadowManager) -> bool:
    """Load group ids and labels; returns whether the store knows this very topology (else it starts anew)."""
    if store.meta("topology") != fingerprint(topology):
        return False
    spm.group_ids.taken.update(store.numbers("group"))
    spm.labels.taken.update(store.numbers("label"))
    return True


def recall_shadows(store: Store, plan: Plan, network: Network) -> tuple[Plan, dict[GroupKey, StoredShadow]]:
    """The plan with the shadow paths in use before the restart, and the groups that were on their shadow.

    A remembered path that the topology no longer has, or that became the primary's, is ignored.
    """
    groups = dict(plan.groups)
    active: dict[GroupKey, StoredShadow] = {}
    for row in store.shadows():
        key = GroupKey(row.switch, row.destination)
        group = groups.get(key)
        if group is None or group.primary is None or group.id != row.group_id:
            continue
        try:
            path = parse_path(network, row.path)
        except PathError:
            continue
        if path.nodes[0] != key.switch or path.nodes[-1] != group.tail or group.primary.link in path.links:
            continue
        groups[key] = replace(group, shadow=Shadow(path, row.label, Disjoint(row.disjoint)))
        if row.mark == ACTIVE:
            active[key] = row
    return replace(plan, groups=groups, _by_switch={}), active


def remember(store: Store, topology: Topology, rows: list[StoredShadow], numbers: Mapping[str, dict[str, int]]) -> None:
    """Write all of it; called on the store's writer thread with copies."""
    store.set_meta("topology", fingerprint(topology))
    for kind, found in numbers.items():
        store.set_numbers(kind, found)
    store.set_shadows(rows)


def rows_of(plan: Plan, tse: SteeringEngine, now: Moment) -> list[StoredShadow]:
    """The shadows of a plan with their marks, and since when (epoch) they bear them."""
    rows = []
    for group in plan.shadowed():
        shadow = group.shadow
        assert shadow is not None
        state = tse.states.get(group.key)
        moved = state is not None and state.side is Side.SHADOW
        rows.append(
            StoredShadow(
                switch=group.key.switch,
                destination=group.key.destination,
                group_id=group.id,
                path=shadow.path.key,
                label=shadow.label,
                disjoint=shadow.disjoint.value,
                mark=ACTIVE if moved else STANDBY,
                element=state.element if moved and state is not None else "",
                cause=state.cause.value if moved and state is not None else "",
                changed_s=now.time_s - (now.steady_s - state.since_s if moved and state is not None else 0.0),
            )
        )
    return rows
