"""Shadow Path Manager: which groups exist, where each one's primary and shadow lead, and how to get there safely.

Pure: it takes a topology, what is threatened and what is loaded, and returns plans and staged changes. It
sends nothing and reads no clock.

Why no subset of flipped groups can loop: an unlabelled packet only ever follows the primary tree of its
destination (each hop strictly nearer) until one switch pushes a label; a label belongs to one path, written
as a simple path to the destination's switch, where it is popped and the packet delivered. So a packet climbs
down a tree, then at most once follows a simple path.

Changes are staged make-before-break: a label's path exists before anything pushes it, a next hop before a
route names it; nothing is removed before the last user is gone and packets in flight had time to arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from control.capacity import Loads
from control.errors import CapacityError, PathError
from control.paths import NOTHING, Avoid, Disjoint, Hop, Network, Path
from control.plan import (
    Entries,
    Entry,
    Group,
    GroupKey,
    Monitor,
    NetworkEntries,
    Op,
    Place,
    Plan,
    Shadow,
    Stage,
    Table,
    Update,
)
from topo.spec import Endpoint

GROUPS = 16384  # cells of the failover register; 0 is kept free as the probe cell
FIRST_LABEL = 16  # RFC 3032 reserves 0-15
LABELS = 1 << 20
SETTLE_S = 0.05  # on top of the longest path delay, before a label is removed


@dataclass(slots=True)
class IdPool:
    """Hands out numbers for names and remembers them; a released number is reused last of all."""

    first: int
    limit: int
    what: str
    taken: dict[str, int] = field(default_factory=dict)
    _released: list[int] = field(default_factory=list)

    def take(self, name: str) -> int:
        """The number of ``name``, new or known; raises :class:`CapacityError` when all are in use."""
        known = self.taken.get(name)
        if known is not None:
            return known
        fresh = max(max(self.taken.values(), default=self.first - 1), max(self._released, default=0)) + 1
        if fresh >= self.limit:
            if not self._released:
                raise CapacityError(f"no {self.what} left: all {self.limit - self.first} are in use")
            fresh = self._released.pop(0)
        self.taken[name] = fresh
        return fresh

    def release_all_but(self, names: Iterable[str]) -> list[str]:
        """Give back what is no longer used; returns the names given back."""
        keep = set(names)
        gone = [name for name in self.taken if name not in keep]
        for name in gone:
            self._released.append(self.taken.pop(name))
        return gone


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for shadows. ``max_extra_delay_ms``: a shadow may be this much slower than its primary; None: any."""

    max_extra_delay_ms: float | None = None


class ShadowManager:
    """Plans for one network."""

    def __init__(
        self,
        network: Network,
        *,
        groups: IdPool | None = None,
        labels: IdPool | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.network = network
        self.group_ids = groups or IdPool(1, GROUPS, "steering group")
        self.labels = labels or IdPool(FIRST_LABEL, LABELS, "path label")
        self.limits = limits or Limits()
        self._made: dict[GroupKey, tuple[Group, list[tuple[str, Entry]]]] = {}  # shared by all plans of this network

    def build(self, monitor: Monitor, *, avoid: Avoid = NOTHING) -> Plan:
        """Primaries as computed (without ``avoid``) and a shadow for every group that can have one."""
        return finish(self.building(monitor, avoid=avoid))

    def building(self, monitor: Monitor, *, avoid: Avoid = NOTHING) -> Generator[None, None, Plan]:
        """As :meth:`build`, in small steps (see :func:`finish`)."""
        topology = self.network.topology
        groups: dict[GroupKey, Group] = {}
        trees = {host.switch: self.network.primaries(host.switch, avoid) for host in topology.hosts}
        for host in topology.hosts:
            number = self.group_ids.take(host.name)
            for switch in self.network.switches:
                key = GroupKey(switch, host.name)
                primary = None if switch == host.switch else trees[host.switch].get(switch)
                group = Group(key, number, host, primary)
                groups[key] = replace(group, shadow=self._shadow(group, avoid))
                yield
        monitored = {
            switch: tuple(sorted(hop.out.port for hop in self.network.hops_from(switch)))
            for switch in self.network.switches
        }
        device_ids = {switch.name: switch.device_id for switch in topology.switches}
        plan = Plan(groups, monitor, monitored, device_ids, _made=self._made)
        for group in groups.values():
            if group.primary is not None:
                places: list[Place] = [*self.carrying(plan, group), group.primary.link, group.primary.into.switch]
                for place in places:
                    plan.places.setdefault(place, []).append(group.key)
                yield
        return plan

    def reroute(self, plan: Plan, avoid: Avoid) -> Plan:
        """The same groups with primaries (and shadows) recomputed without ``avoid``: what `reactive` does."""
        return self.build(plan.monitor, avoid=avoid)

    def replan(
        self,
        plan: Plan,
        threatened: Avoid,
        *,
        broken: Avoid = NOTHING,
        moved: Container[GroupKey] = (),
        loads: Loads | None = None,
        wanted: Iterable[GroupKey] = (),
    ) -> Plan:
        """New shadows for every group whose shadow crosses what is threatened, and for ``wanted`` ones.

        With ``loads``, a way around with room for the group's traffic is preferred. A group for which there is no
        way around keeps its old shadow: a threatened one is better than none, and TSE will not flip on to it.
        A shadow through ``broken`` links, dead for certain, is worse than none as long as the primary is sound: a
        neighbour that is held up for a moment would send packets to their end. It is withdrawn until there is a way.
        Groups that are on their shadow (``moved``) keep it: whether they stay is TSE's to judge.
        """
        return finish(self.replanning(plan, threatened, broken=broken, moved=moved, loads=loads, wanted=wanted))

    def replanning(
        self,
        plan: Plan,
        threatened: Avoid,
        *,
        broken: Avoid = NOTHING,
        moved: Container[GroupKey] = (),
        loads: Loads | None = None,
        wanted: Iterable[GroupKey] = (),
        alone: bool = False,
    ) -> Generator[None, None, Plan]:
        """As :meth:`replan`, in small steps (see :func:`finish`); ``alone``: of no groups but the ``wanted`` ones."""
        forced = dict.fromkeys(wanted)
        groups = dict(plan.groups)
        for key in forced if alone else plan.groups:
            group = plan.groups[key]
            if group.primary is None:
                continue
            hit = group.shadow is None or threatened.hits(group.shadow.path)
            if not (hit or key in forced):
                continue
            yield
            current = set(self.carrying(plan, group))
            usable: Callable[[Hop], bool] | None = None
            if loads is not None:
                usable = _with_room(loads, group, current)
            found = self._shadow(group, threatened, usable)
            if found is None and usable is not None and hit:
                found = self._shadow(group, threatened)
            if found is None and group.shadow is None:
                found = self._shadow(group, broken)
            if found is None:
                if group.shadow is not None and key not in moved and _leads_nowhere(group, group.shadow, broken):
                    groups[key] = replace(group, shadow=None)
            elif group.shadow is None or found.path != group.shadow.path:
                groups[key] = replace(group, shadow=found)
        return replace(plan, groups=groups, _by_switch={})

    def carrying(self, plan: Plan, group: Group) -> tuple[Endpoint, ...]:
        """Ports by which the group's packets travel while nothing is flipped; none where the path ends early."""
        known = plan.carried.get(group.key)
        if known is None:
            try:
                known = tuple(hop.out for hop in self.primary_path(plan, group).hops)
            except PathError:
                known = ()
            plan.carried[group.key] = known
        return known

    def primary_path(self, plan: Plan, group: Group) -> Path:
        """The path along the primaries of the plan; empty for local groups. Raises :class:`PathError` if it ends."""
        hops: list[Hop] = []
        here = group.key.switch
        while here != group.tail:
            hop = plan.groups[GroupKey(here, group.key.destination)].primary
            if hop is None or len(hops) > len(plan.device_ids):
                raise PathError(f"the primary path of {group.key} ends at {here}")
            hops.append(hop)
            here = hop.into.switch
        return Path(tuple(hops))

    def labels_in_use(self, plan: Plan) -> set[str]:
        """Path keys whose labels the plan needs."""
        return {group.shadow.path.key for group in plan.groups.values() if group.shadow and group.shadow.label}

    def max_delay_s(self) -> float:
        """An upper bound for the time that a packet is under way."""
        return sum(link.delay_ms for link in self.network.topology.links) / 1000

    def _shadow(self, group: Group, avoid: Avoid, usable: Callable[[Hop], bool] | None = None) -> Shadow | None:
        if group.primary is None:
            return None
        found: tuple[Path, Disjoint] | None = self.network.shadow(group.primary, group.tail, avoid, usable)
        if found is None:
            return None
        path, disjoint = found
        allowed = self.limits.max_extra_delay_ms
        if allowed is not None:
            primary = self.network.shortest(group.key.switch, group.tail)
            if primary is not None and path.delay_ms > primary.delay_ms + allowed:
                return None
        label = self.labels.take(path.key) if len(path.hops) > 1 else 0
        return Shadow(path, label, disjoint)


def finish(steps: Generator[None, None, Plan]) -> Plan:
    """Take all steps of a computation of many; who shares a thread with what is urgent takes a few at a time."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            plan: Plan = done.value
            return plan


def _leads_nowhere(group: Group, shadow: Shadow, broken: Avoid) -> bool:
    """Whether the shadow crosses what is dead, while the group's own next link is not."""
    return broken.hits(shadow.path) and group.primary is not None and not broken.hits_link(group.primary.link)


def _with_room(loads: Loads, group: Group, current: set[Endpoint]) -> Callable[[Hop], bool]:
    def usable(hop: Hop) -> bool:
        return loads.room(group, Path((hop,)), current).fits

    return usable


_BUILD: tuple[tuple[str, tuple[Table, ...]], ...] = (
    ("labels", (Table.LABEL, Table.LIVENESS)),
    ("next hops", (Table.SHADOW, Table.PRIMARY)),
    ("routes", (Table.ROUTE4, Table.ROUTE6)),
)
_REMOVE: tuple[tuple[str, tuple[Table, ...]], ...] = (
    ("old routes", (Table.ROUTE4, Table.ROUTE6)),
    ("old next hops", (Table.SHADOW, Table.PRIMARY)),
    ("old labels", (Table.LABEL, Table.LIVENESS)),
)


def changes(
    old: NetworkEntries,
    new: NetworkEntries,
    *,
    depth: Mapping[tuple[str, int], int] | None = None,
    settle_s: float = SETTLE_S,
) -> list[Stage]:
    """The stages that lead from one state to the other, make-before-break.

    ``depth`` gives, per (switch, group id), the distance to the destination along the *new* primaries in hops.
    With it, changed primaries go out nearest first, one stage per depth: a switch changes only once everything
    behind it has, so no packet can loop on the way. Without it they all go out at once, which is what a dead
    link asks for: there is nothing left to keep.
    """
    stages: list[Stage] = []
    for name, tables in _BUILD:
        found = {switch: _differing(old.get(switch, {}), entries, tables) for switch, entries in new.items()}
        if depth is not None and Table.PRIMARY in tables:
            stages += _by_depth(name, found, depth)
        else:
            stages.append(Stage(name, {switch: updates for switch, updates in found.items() if updates}))
    for name, tables in _REMOVE:
        gone = {switch: _missing(entries, new.get(switch, {}), tables) for switch, entries in old.items()}
        wait = settle_s if Table.LABEL in tables else 0.0
        stages.append(Stage(name, {switch: updates for switch, updates in gone.items() if updates}, wait))
    return [stage for stage in stages if stage.updates]


def _differing(old: Entries, new: Entries, tables: tuple[Table, ...]) -> tuple[Update, ...]:
    found = []
    for key, entry in new.items():
        if entry.table not in tables:
            continue
        before = old.get(key)
        if before is None:
            found.append(Update(Op.INSERT, entry))
        elif before is not entry and before != entry:  # most are the very same object
            found.append(Update(Op.MODIFY, entry))
    return tuple(found)


def _missing(old: Entries, new: Entries, tables: tuple[Table, ...]) -> tuple[Update, ...]:
    return tuple(Update(Op.DELETE, entry) for key, entry in old.items() if entry.table in tables and key not in new)


def _by_depth(name: str, found: Mapping[str, tuple[Update, ...]], depth: Mapping[tuple[str, int], int]) -> list[Stage]:
    """Shadows and new primaries first (nobody uses them yet), then changed primaries, nearest first."""
    at_once: dict[str, tuple[Update, ...]] = {}
    later: dict[int, dict[str, list[Update]]] = {}
    for switch, updates in found.items():
        first = []
        for update in updates:
            if update.entry.table is Table.PRIMARY and update.op is Op.MODIFY:
                level = depth.get((switch, int(update.entry.match)), 0)
                later.setdefault(level, {}).setdefault(switch, []).append(update)
            else:
                first.append(update)
        if first:
            at_once[switch] = tuple(first)
    stages = [Stage(name, at_once)]
    for level in sorted(later):
        here = {switch: tuple(updates) for switch, updates in later[level].items()}
        stages.append(Stage(f"primaries at distance {level}", here))
    return stages


def depths(plan: Plan) -> dict[tuple[str, int], int]:
    """Hops to the destination along the plan's primaries, per (switch, group id)."""
    found: dict[tuple[str, int], int] = {}
    for group in plan.groups.values():
        here, count = group.key.switch, 0
        while here != group.tail and count <= len(plan.device_ids):
            hop = plan.groups[GroupKey(here, group.key.destination)].primary
            if hop is None:
                break
            here, count = hop.into.switch, count + 1
        found[group.key.switch, group.id] = count
    return found
