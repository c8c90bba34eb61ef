"""Traffic Steering Engine: when a group moves to its shadow, when it stays, when it comes back. Pure.

It takes the plan, the threats and the loads, and returns decisions, each with an explanation; the service
carries them out and reports back with :meth:`SteeringEngine.done`. Every ``now`` is in seconds of a monotonic clock:
what is waited for here does not depend on anybody who sets the time. Per group::

              flip (threat on the primary; shadow exists, is healthy, has room)
    PRIMARY ------------------------------------------------------------------> SHADOW
       ^                                                                           |
       +---------------------------------------------------------------------------+
              revert (threat struck out after its stable period, minimum stay over,
                      penalty decayed, primary has room; or the shadow itself fails)

- *Hysteresis* lies in the threats: the analyzer raises and clears at different probabilities, and the book
  of threats demands a stable period before one is struck out.
- *Hold-down*: after a revert, a mere prediction cannot flip the group again for a while; observed loss and
  announced work can.
- *Flap damping* (as in RFC 2439): each flip adds a penalty that halves over time; above the suppress level a
  group stays on its shadow, since that is the side that works, until the penalty is below the reuse level.
- A group with no usable shadow stays where it is; the refusal is explained once, not every tick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from control.capacity import Loads
from control.paths import NOTHING, Path
from control.plan import Group, GroupKey, Place, Plan
from control.threats import Cause, Threat, ThreatBook
from topo.spec import Endpoint

RECOVERED = 0.2  # the risk of a link that recovered (see Threat.risk)


class Side(StrEnum):
    PRIMARY = "primary"
    SHADOW = "shadow"


class Kind(StrEnum):
    FLIP = "flip"
    REVERT = "revert"
    REFUSE = "refuse"
    WITHHOLD = "withhold"  # recommended, but left undone to see what comes of it (the no-action control share)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one group, and why. ``element`` is the threatened one. With a ``threat``, ``what`` is the
    explanation without it."""

    kind: Kind
    group: GroupKey
    element: str
    cause: Cause
    mode: str
    probability: float
    reasons: tuple[str, ...]
    explanation: str
    horizon_s: float = 0.0
    what: str = ""
    threat: Threat | None = field(default=None, compare=False, repr=False)

    @property
    def moves(self) -> bool:
        """Whether it changes a group's side."""
        return self.kind in (Kind.FLIP, Kind.REVERT)

    def explained(self) -> Decision:
        """With the reasons that are known by now (:meth:`control.threats.ThreatBook.explain`)."""
        if self.threat is None:
            return self
        why = self.threat.reasons
        return replace(self, reasons=why, explanation=f"{self.what}: {self.threat.describe()}", threat=None)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Seconds, shares and counts of the state machine."""

    hold_down_s: float = 1.0
    min_stay_s: float = 1.0
    retry_s: float = 0.1
    penalty: float = 1.0
    half_life_s: float = 15.0
    suppress_at: float = 3.5
    reuse_at: float = 1.5
    relief_target: float = 0.7  # of a congested port's capacity
    relief_pause_s: float = 0.3  # between two rounds of moving groups off a congested port
    patience_s: float = 0.4  # to find out who fills a port, before groups are moved off it
    relief_floor: float = 0.5  # a standing alarm less probable than this moves no more groups
    swelling: float = 0.4  # a group that will have grown by this share is the cause rather than the victim
    sure: float = 0.95  # a prediction this certain overrides hold-down
    margin: float = 0.15  # in risk: how much better the other side must be when both are bad


@dataclass(slots=True)
class GroupState:
    side: Side = Side.PRIMARY
    since_s: float = -1e9
    reverted_s: float = -1e9
    failed_s: float = -1e9
    penalty: float = 0.0
    penalty_s: float = 0.0
    element: str = ""  # what it was moved away from
    cause: Cause = Cause.RECOVERY
    pinned: bool = False  # moved by hand: only a hand moves it back
    stay_s: float = 0.0  # at least this long on the shadow
    refusal: str = ""

    def decayed(self, now: float, half_life_s: float) -> float:
        """The penalty as of now."""
        return self.penalty * math.exp2(-max(0.0, now - self.penalty_s) / half_life_s)


@dataclass(slots=True)
class SteeringEngine:
    """State of all groups. ``carrying`` tells by which ports a group's packets travel on its primary."""

    book: ThreatBook
    loads: Loads
    carrying: Callable[[Plan, Group], Iterable[Endpoint]]
    tuning: Tuning = field(default_factory=Tuning)
    states: dict[GroupKey, GroupState] = field(default_factory=dict)
    wanting: set[GroupKey] = field(default_factory=set)
    """Groups that another shadow path would help, as of the last :meth:`decide`."""
    withheld: Callable[[Group, Threat], bool] = field(default=lambda _group, _threat: False)
    """Whether a recommended flip belongs to the control share and is not carried out."""
    _relieved_s: dict[Endpoint, float] = field(default_factory=dict)
    _culprits: dict[Endpoint, set[GroupKey]] = field(default_factory=dict)

    def state(self, key: GroupKey) -> GroupState:
        return self.states.setdefault(key, GroupState())

    def side(self, key: GroupKey) -> Side:
        known = self.states.get(key)
        return known.side if known is not None else Side.PRIMARY

    def flipped(self) -> list[GroupKey]:
        return sorted(key for key, state in self.states.items() if state.side is Side.SHADOW)

    def decide(
        self, now: float, plan: Plan, away: Container[str] = (), changing: Container[GroupKey] = ()
    ) -> list[Decision]:
        """Everything that should happen now; flips of the most certain threats first, then reverts.

        ``away``: switches that cannot be reached, ``changing``: groups whose shadow is being replaced; nothing is
        decided about them. Changes no group's side: that is :meth:`done`'s, once the switch has confirmed.
        """
        self.wanting.clear()
        full = {threat.hop for threat in self.book.standing()}
        for end in [end for end in self._culprits if end not in full]:
            del self._culprits[end]
        decisions: list[Decision] = []
        extra: dict[Endpoint, float] = {}
        taken: set[GroupKey] = set()
        for threat in self.book.active():
            for group in self._threatened(now, plan, threat):
                if group.key in taken or group.key.switch in away or group.key in changing:
                    continue
                decision = self._consider_flip(now, plan, group, threat, extra)
                if decision is not None:
                    taken.add(group.key)
                    decisions.append(decision)
        for key, state in list(self.states.items()):
            found = plan.groups.get(key)
            if key in taken or key in changing or key.switch in away:
                continue
            if state.side is Side.SHADOW and found is not None:
                decision = self._consider_revert(now, plan, found, state, extra)
                if decision is not None:
                    decisions.append(decision)
        return decisions

    def by_hand(self, now: float, plan: Plan, key: GroupKey, side: Side, *, force: bool = False) -> Decision:
        """An operator's wish; the same safety rules apply unless ``force``."""
        group = plan.groups.get(key)
        if group is None:
            return self._refuse(key, _manual(now, key), f"there is no group {key}")
        threat = _manual(now, key)
        if side is Side.PRIMARY:
            return self._make(Kind.REVERT, group, threat, f"{key} moved back to its primary by hand")
        if group.shadow is None:
            return self._refuse(key, threat, f"{key} has no shadow")
        if not force:
            why = self._obstacle(plan, group, {})
            if why is not None:
                return self._refuse(key, threat, f"{key} stays on its primary: {why[0]}")
        return self._make(Kind.FLIP, group, threat, f"{key} moved to its shadow {group.shadow.path} by hand")

    def done(self, decision: Decision, now: float, ok: bool = True) -> None:
        """The outcome of a decision, as confirmed by the switch."""
        state = self.state(decision.group)
        if not ok:
            state.failed_s = now
            return
        state.refusal = ""
        if decision.kind is Kind.FLIP:
            state.side, state.since_s = Side.SHADOW, now
            state.element, state.cause = decision.element, decision.cause
            state.pinned = decision.cause is Cause.MANUAL
            state.stay_s = self.tuning.min_stay_s
            state.penalty = state.decayed(now, self.tuning.half_life_s) + self.tuning.penalty
            state.penalty_s = now
        elif decision.kind is Kind.REVERT:
            state.side, state.since_s, state.reverted_s = Side.PRIMARY, now, now
            state.pinned = False

    def adopt(self, key: GroupKey, side: Side, now: float, element: str = "", cause: Cause = Cause.RECOVERY) -> None:
        """Take over the side found on a switch after a restart; ``element`` and ``cause`` as far as remembered.

        What threatened the primary is not known any more, so a whole stable period is waited for from now on.
        """
        pinned = cause is Cause.MANUAL
        self.states[key] = GroupState(side, now, element=element, cause=cause, pinned=pinned, stay_s=self.book.stable_s)

    def reset(self) -> None:
        """Forget every state: all on the primary, no damping."""
        self.states.clear()
        self._relieved_s.clear()
        self._culprits.clear()

    def _threatened(self, now: float, plan: Plan, threat: Threat) -> list[Group]:
        """Groups on their primary that the threat hits; for congestion just enough of them to relieve the port."""
        found = [
            group
            for group in self._near(plan, threat)
            if self.side(group.key) is Side.PRIMARY and threat.hits_primary(group, self.carrying(plan, group))
        ]
        if threat.hop is None:
            return sorted(found, key=lambda group: (-self.loads.group_rate(group.key), group.key))
        return self._relief(now, plan, threat, threat.hop, found)

    def _near(self, plan: Plan, threat: Threat) -> Iterable[Group]:
        """The groups that a threat may hit, without a look at all the others."""
        if threat.avoid.srlgs:
            return plan.groups.values()
        places: list[Place] = [*threat.avoid.links, *threat.avoid.nodes] if threat.hop is None else [threat.hop]
        keys = dict.fromkeys(key for place in places for key in plan.places.get(place, ()))
        return [plan.groups[key] for key in keys]

    def _relief(self, now: float, plan: Plan, threat: Threat, end: Endpoint, found: list[Group]) -> list[Group]:
        """Which groups to take off a port that fills up.

        Steady groups first: whoever swells is the cause, would take the congestion along, and is left for last
        (if it does not fit anywhere it stays where it is, alone). One round per ``relief_pause_s``, so that the
        effect of the last is measured before the next.
        """
        tuning, loads = self.tuning, self.loads
        if now - self._relieved_s.get(end, -1e9) < tuning.relief_pause_s:
            return []
        if threat.cause is Cause.PREDICTION and threat.probability < tuning.relief_floor:
            return []  # an alarm that only lingers
        culprits = self._culprits.setdefault(end, set())
        own = [group.key for group in found if group.primary is not None and group.primary.out == end]
        if not loads.explained(end, own) and now - threat.since_s < tuning.patience_s:
            return []  # who causes it is not known yet
        busy = [group for group in found if loads.group_rate(group.key) > 0]
        capacity = loads.capacity(end)
        if capacity <= 0 or not busy:
            return sorted(found, key=lambda group: group.key)
        excess = loads.load_ahead(end) - tuning.relief_target * capacity
        chosen = []
        for group in sorted(busy, key=self._relief_order):
            if excess <= 0:
                break
            if group.key in culprits:
                continue  # found too big or swelling before: so it stays for as long as the threat stands
            chosen.append(group)
            if self._obstacle(plan, group, {}) is None:
                excess -= loads.group_ahead(group.key)
            else:
                culprits.add(group.key)
        return chosen

    def _relief_order(self, group: Group) -> tuple[bool, float, GroupKey]:
        """Steady groups, the largest first; then those that swell, the smallest first."""
        rate, ahead = self.loads.group_rate(group.key), self.loads.group_ahead(group.key)
        swells = ahead - rate > self.tuning.swelling * rate
        return swells, ahead if swells else -rate, group.key

    def _consider_flip(
        self, now: float, plan: Plan, group: Group, threat: Threat, extra: dict[Endpoint, float]
    ) -> Decision | None:
        state, tuning = self.state(group.key), self.tuning
        if now - state.failed_s < tuning.retry_s:
            return None
        held = now - state.reverted_s < tuning.hold_down_s
        if held and not threat.urgent and threat.probability < tuning.sure:
            return self._refuse_once(group, threat, "it came back only now (hold-down)", replan=False)
        obstacle = self._obstacle(plan, group, extra, risk=threat.risk())
        if obstacle is not None:
            return self._refuse_once(group, threat, obstacle[0], replan=obstacle[1])
        shadow = group.shadow
        assert shadow is not None
        if self.withheld(group, threat):
            return self._withhold_once(group, threat)
        carried = set(self.carrying(plan, group))
        for hop in shadow.path.hops:
            if hop.out not in carried:
                extra[hop.out] = extra.get(hop.out, 0.0) + self.loads.group_ahead(group.key)
        if threat.hop is not None:
            self._relieved_s[threat.hop] = now
            self.loads.relieved(threat.hop)
        return self._because(Kind.FLIP, group, threat, f"{group.key} moved to its shadow {shadow.path}")

    def _obstacle(
        self, plan: Plan, group: Group, extra: dict[Endpoint, float], *, risk: float = 0.0
    ) -> tuple[str, bool] | None:
        """Why the group cannot use its shadow, and whether another shadow might do; None if it can.

        ``risk`` of the primary: a shadow with a link that has only just recovered is better than one that fails.
        """
        shadow = group.shadow
        if shadow is None:
            return "it has no shadow", True
        why = self.book.unhealthy(shadow.path)
        if why is not None:
            there, silent = self.book.risk(shadow.path), any(self.book.suspected(link) for link in shadow.path.links)
            if silent or there > RECOVERED or there + self.tuning.margin >= risk:
                return f"its shadow {shadow.path} is not healthy: {why}", True
        room = self.loads.room(group, shadow.path, self.carrying(plan, group), extra)
        if not room.fits:
            return f"its shadow {shadow.path} has no room: {room.text}", True
        return None

    def _consider_revert(
        self, now: float, plan: Plan, group: Group, state: GroupState, extra: dict[Endpoint, float]
    ) -> Decision | None:
        primary = group.primary
        if primary is None or now - state.failed_s < self.tuning.retry_s:
            return None
        carrying = set(self.carrying(plan, group))
        standing = [threat for threat in self.book.standing() if threat.hits_primary(group, carrying)]
        suspect = self.book.suspected(primary.link)
        sick = self.book.unhealthy(group.shadow.path, confirmed=True) if group.shadow is not None else "it is gone"
        recovery = Threat(
            state.element, Cause.RECOVERY, "recovery", self.book.avoid(), None, 0.0, 0.0, (), now, now, active=False
        )
        if sick is not None:
            if self._no_better(group, standing):
                return self._refuse_once(group, recovery, f"neither side is healthy; its shadow: {sick}", replan=True)
            text = f"{group.key} back to its primary at once: its shadow is not healthy: {sick}"
            return self._make(Kind.REVERT, group, recovery, text)
        if standing or suspect or state.pinned or now - state.since_s < state.stay_s:
            return None
        penalty = state.decayed(now, self.tuning.half_life_s)
        damped = state.refusal.startswith("damped")
        if penalty >= (self.tuning.reuse_at if damped else self.tuning.suppress_at):
            return self._refuse_once(group, recovery, "damped: it changed sides too often", replan=False)
        room = self.loads.room(group, Path((primary,)), (), extra)
        if not room.fits:
            return self._refuse_once(group, recovery, f"its primary has no room: {room.text}", replan=False)
        quiet = f"{state.element or 'its primary'} shows no threat since {self.book.stable_s:.1f} s or more"
        return self._make(Kind.REVERT, group, recovery, f"{group.key} back to its primary: {quiet}")

    def _no_better(self, group: Group, standing: list[Threat]) -> bool:
        """Whether a group whose shadow is not healthy would be no better off on its primary.

        Both sides are compared by risk; what was relieved keeps its risk, since it looks healthy only because the
        group left.
        """
        assert group.primary is not None
        if self.book.suspected(group.primary.link):
            return True
        here = max((threat.risk() for threat in standing), default=0.0)
        there = self.book.risk(group.shadow.path) if group.shadow is not None else 1.0
        if there <= here + self.tuning.margin:
            return True
        return not self.loads.room(group, Path((group.primary,)), ()).fits

    def _refuse_once(self, group: Group, threat: Threat, why: str, *, replan: bool) -> Decision | None:
        """A refusal, unless the same kind was given already. ``replan``: another shadow path might help."""
        if replan:
            self.wanting.add(group.key)
        state = self.state(group.key)
        kind = why.split(":", 1)[0]
        if state.refusal == kind:
            return None
        state.refusal = kind
        side = "shadow" if state.side is Side.SHADOW else "primary"
        text = f"{group.key} stays on its {side}: {why}"
        return self._refuse(group.key, threat, text)

    def _withhold_once(self, group: Group, threat: Threat) -> Decision | None:
        state, kind = self.state(group.key), f"withheld {threat.element} {threat.mode} {threat.since_s}"
        if state.refusal == kind:
            return None
        state.refusal = kind
        what = f"{group.key} stays on its primary for comparison (control share)"
        return self._because(Kind.WITHHOLD, group, threat, what)

    def _refuse(self, key: GroupKey, threat: Threat, text: str) -> Decision:
        return Decision(
            Kind.REFUSE, key, threat.element, threat.cause, threat.mode, threat.probability, threat.reasons, text
        )

    def _because(self, kind: Kind, group: Group, threat: Threat, what: str) -> Decision:
        made = self._make(kind, group, threat, f"{what}: {threat.describe()}")
        return replace(made, what=what, threat=threat)

    def _make(self, kind: Kind, group: Group, threat: Threat, text: str) -> Decision:
        return Decision(
            kind, group.key, threat.element, threat.cause, threat.mode, threat.probability, threat.reasons, text,
            threat.horizon_s,
        )  # fmt: skip


def _manual(now: float, key: GroupKey) -> Threat:
    """What stands for an operator's wish where decisions need a threat."""
    return Threat(str(key), Cause.MANUAL, "manual", NOTHING, None, 1.0, 0.0, (), now, now)
