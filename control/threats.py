"""What threatens the network right now, kept as a book of threats with hysteresis in time. Pure.

Three kinds of event write into it: `prediction` (the analyzer's alarms, which come with their own hysteresis
over probability), `degradation` (loss that is already observed, or a port declared dead) and `recovery` (the
signal went away and stayed away). A threat is *active* while its signal stands, *recovering* for a stable
period after that, and then struck out; if the signal returns before, it is active again and the period starts
anew. Every ``now``, ``since_s`` and ``seen_s`` is in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from control.errors import PathError
from control.paths import NOTHING, Avoid, Hop, Network, Path
from control.plan import Group
from ml.schema import Forecast, Mode
from topo.spec import Endpoint, Link


class Cause(StrEnum):
    """Why something was done; the words of the ledger."""

    PREDICTION = "prediction"
    DEGRADATION = "degradation"
    MAINTENANCE = "maintenance"
    RECOVERY = "recovery"
    MANUAL = "manual"
    RESET = "reset"


PARTIAL = 0.6  # of the packets: what errors, drops or gaps stand for, as opposed to a dead port
_LINK_FAILURE = "link_failure"
_BY_LOAD = ("congestion", "device_overload")


@dataclass(slots=True)
class Threat:
    """One threatened element. ``hop`` is set for congestion, which concerns one direction of a link only."""

    element: str  # "s1-s2" or "s2"
    cause: Cause
    mode: str
    avoid: Avoid
    hop: Endpoint | None
    probability: float
    horizon_s: float
    reasons: tuple[str, ...]
    since_s: float
    seen_s: float
    active: bool = True
    port: Endpoint | None = None  # the port whose signal it was, if one was named
    peak: float = 0.0  # highest probability while it stood

    def risk(self) -> float:
        """How likely packets are lost here, 0..1, for comparing two bad sides.

        A dead port and announced work are certain. A relieved element looks healthy because it was relieved, so
        what was full or overloaded keeps its risk until it is struck out; a link that recovered is nearly well.
        """
        if self.active:
            return 0.8 * self.probability if self.cause is Cause.PREDICTION else self.probability
        return 0.8 * max(self.peak, self.probability) if self.mode in _BY_LOAD else 0.2

    @property
    def congestion(self) -> bool:
        return self.mode == "congestion"

    @property
    def urgent(self) -> bool:
        """Packets are being lost now, or work on the element is announced: no hold-down."""
        return self.cause in (Cause.DEGRADATION, Cause.MAINTENANCE)

    def hits_primary(self, group: Group, carrying: Iterable[Endpoint]) -> bool:
        """Whether the group's primary suffers, and its shadow is the remedy.

        A failing element is the business of its neighbours: they are nearest, and their shadows avoid it. A full
        port is relieved by any group on whose way it lies (``carrying``: the ports of the primary path).
        """
        if group.primary is None:
            return False
        if self.hop is not None:
            return self.hop in carrying
        if group.primary.into.switch in self.avoid.nodes and group.primary.into.switch != group.tail:
            return True
        return self.avoid.hits_link(group.primary.link)

    def hits_path(self, path: Path) -> bool:
        """Whether a pinned path leads through the threat."""
        if self.hop is not None:
            return any(hop.out == self.hop for hop in path.hops)
        return self.avoid.hits(path)

    def describe(self) -> str:
        what = {
            Cause.PREDICTION: f"{self.element}: {self.mode.replace('_', ' ')} expected with probability "
            f"{self.probability:.2f} within {self.horizon_s:.1f} s",
            Cause.MAINTENANCE: f"{self.element}: maintenance announced",
        }.get(self.cause, f"{self.element}: {self.mode.replace('_', ' ')} observed")
        return f"{what} ({'; '.join(self.reasons[:3])})" if self.reasons else what


def display(network: Network, element: str) -> str:
    """The name under which people know an element: ports become their link.

    Links keep their plain name unless parallel ones share it.
    """
    found = network.resolve(element)
    if isinstance(found, str):
        return found
    return link_label(network, found[0]) if len(found) == 1 else found[0].name


def link_label(network: Network, link: Link) -> str:
    """``s1-s2``, or ``s1:2-s2:1`` where several links join the same two switches."""
    twins = [other for other in network.topology.links if {other.a.switch, other.b.switch} == _ends(link)]
    return link.name if len(twins) == 1 else f"{link.a}-{link.b}"


def _ends(link: Link) -> set[str]:
    return {link.a.switch, link.b.switch}


@dataclass(slots=True)
class ThreatBook:
    """All threats by (element, mode, cause). ``stable_s``: how long a signal must stay away."""

    network: Network
    stable_s: float = 5.0
    dead_confirm_s: float = 0.08  # less than the interval at which reports are repeated
    evidence_s: float = 0.3  # observed loss stands this long without new evidence
    threats: dict[tuple[str, str, str], Threat] = field(default_factory=dict)
    suspects: dict[Endpoint, float] = field(default_factory=dict)  # ports declared dead, and since when
    confirmed: set[Endpoint] = field(default_factory=set)  # those that stayed dead
    _broken: Avoid = NOTHING  # at the last tick
    unknown: dict[str, str] = field(default_factory=dict)  # element -> why a forecast of it was not used
    _known: dict[str, tuple[str, Avoid]] = field(default_factory=dict)  # element -> its name and what it stands for

    def predictions(self, now: float, alarms: Iterable[Forecast]) -> bool:
        """Replace the set of standing predictions; returns whether a new one was raised."""
        standing: set[tuple[str, str, str]] = set()
        raised = False
        for forecast in alarms:
            try:
                key, threat = self._from_forecast(now, forecast)
            except PathError as error:
                self.unknown[forecast.element] = str(error)
                continue
            standing.add(key)
            raised |= self._put(key, threat)
        for key, threat in self.threats.items():
            if threat.cause in (Cause.PREDICTION, Cause.MAINTENANCE) and key not in standing:
                threat.active = False
        return raised

    def explain(self, alarms: Iterable[Forecast]) -> None:
        """Enter the reasons of predictions that stand, for those that were raised without."""
        for forecast in alarms:
            try:
                threat = self.threats.get(self._key(forecast))
            except PathError:
                continue
            if threat is not None:
                threat.reasons = tuple(reason.text for reason in forecast.reasons)

    def degradation(self, now: float, element: str, mode: str, reason: str, share: float = PARTIAL) -> bool:
        """Loss observed at an element, of about that ``share`` of the packets; returns whether that is news.

        Raises :class:`PathError` for unknown elements.
        """
        name = display(self.network, element)
        avoid = self.network.elements([element])
        port = _port(element)
        hop = port if mode == "congestion" else None
        key = (str(hop) if hop else name, mode, Cause.DEGRADATION.value)
        threat = Threat(name, Cause.DEGRADATION, mode, avoid, hop, share, 0.0, (reason,), now, now, port=port)
        return self._put(key, threat)

    def dead(self, now: float, end: Endpoint, *, certain: bool = False, clock_s: float | None = None) -> None:
        """A port was declared dead. The data plane has acted already; nothing moves on to its link from now on.

        It becomes a degradation once it is said to be dead again, ``dead_confirm_s`` later on the data plane's own
        clock (``clock_s``; reports are repeated), or at once if ``certain`` (no carrier). A switch that was held
        up for a moment, or reports that were, are no reason to move traffic for good.
        """
        since = self.suspects.setdefault(end, now if clock_s is None else clock_s)
        told = now if clock_s is None else clock_s
        if certain or told - since >= self.dead_confirm_s:
            self.confirmed.add(end)

    def alive(self, now: float, end: Endpoint) -> None:
        """The port is heard again. A confirmed death of its link turns into a recovering threat."""
        self.confirmed.discard(end)
        if self.suspects.pop(end, None) is None:
            return
        hop = self.network.hop_at(end)
        if hop is None or self.suspected(hop.link):
            return
        threat = self.threats.get((link_label(self.network, hop.link), _LINK_FAILURE, Cause.DEGRADATION.value))
        if threat is not None:
            threat.seen_s, threat.active = now, False

    def suspected(self, link: Link) -> bool:
        """Whether a port of the link is dead."""
        return link.a in self.suspects or link.b in self.suspects

    def tick(self, now: float) -> bool:
        """Confirm deaths, age evidence, strike out what has been quiet; returns whether anything changed."""
        changed = False
        for end in self.confirmed:
            changed |= self.degradation(now, str(end), _LINK_FAILURE, f"port {end} is dead", 1.0)
        for key, threat in list(self.threats.items()):
            if threat.active:
                if threat.cause is Cause.DEGRADATION and now - threat.seen_s > self.evidence_s:
                    threat.active = False  # no new evidence: recovering
                    changed = True
            elif now - threat.seen_s >= self.stable_s:
                del self.threats[key]
                changed = True
        broken = self.broken()
        changed |= broken != self._broken
        self._broken = broken
        return changed

    def active(self) -> list[Threat]:
        """Active threats, the most certain first."""
        found = [threat for threat in self.threats.values() if threat.active]
        return sorted(found, key=lambda threat: (not threat.urgent, -threat.probability, threat.since_s))

    def standing(self) -> list[Threat]:
        """Active and recovering threats."""
        return list(self.threats.values())

    def avoid(self) -> Avoid:
        """All that new shadows must keep away from."""
        dead = [self.network.hop_at(end) for end in self.suspects]
        total = Avoid(links=frozenset(hop.link for hop in dead if hop is not None))
        for threat in self.threats.values():
            if threat.hop is None:
                total |= threat.avoid
            else:
                hop = self.network.hop_at(threat.hop)
                total |= Avoid(links=frozenset({hop.link})) if hop is not None else Avoid()
        return total

    def broken(self) -> Avoid:
        """Links through which nothing or little gets, unlike through what is only threatened.

        Those that are dead for certain, and those whose predicted failure has begun to show as loss.
        """
        hops = [self.network.hop_at(end) for end in self.confirmed]
        links = {hop.link for hop in hops if hop is not None}
        for (name, mode, cause), threat in self.threats.items():
            if mode == _LINK_FAILURE and cause == Cause.DEGRADATION.value:
                foreseen = self.threats.get((name, mode, Cause.PREDICTION.value))
                if foreseen is not None and foreseen.active:
                    links |= threat.avoid.links
        return Avoid(links=frozenset(links))

    def unhealthy(self, path: Path, *, confirmed: bool = False) -> str | None:
        """Why a path must not be relied upon, or None.

        ``confirmed``: leave out links that went silent only a moment ago. That is reason enough not to move on to
        a path, but not to leave one.
        """
        for link in path.links:
            if not confirmed and self.suspected(link):
                return f"{link.name} is not heard"
        for threat in self.threats.values():
            if threat.hits_path(path):
                return threat.describe()
        return None

    def risk(self, path: Path) -> float:
        """The highest risk on a path; a link that went silent a moment ago does not count yet."""
        return max((threat.risk() for threat in self.threats.values() if threat.hits_path(path)), default=0.0)

    def clear(self) -> None:
        """Forget all threats. A port that is dead stays suspect: that is a fact; the next report confirms it."""
        self.threats.clear()
        self.unknown.clear()
        self.confirmed.clear()

    def _put(self, key: tuple[str, str, str], threat: Threat) -> bool:
        known = self.threats.get(key)
        if known is None:
            self.threats[key] = threat
            return True
        was_active = known.active
        known.active, known.seen_s = True, threat.seen_s
        known.probability, known.horizon_s = threat.probability, threat.horizon_s
        known.reasons = threat.reasons or known.reasons
        known.peak = max(known.peak, threat.probability)
        if not was_active:
            known.since_s = threat.since_s
        return not was_active

    def threat_of(self, now: float, forecast: Forecast) -> Threat:
        """What a forecast threatens; raises :class:`PathError` for unknown elements."""
        return self._from_forecast(now, forecast)[1]

    def _place(self, element: str) -> tuple[str, Avoid]:
        """The name of an element, and what it stands for; raises :class:`PathError` for unknown ones."""
        known = self._known.get(element)
        if known is None:
            known = display(self.network, element), self.network.elements([element])
            self._known[element] = known
        return known

    def _key(self, forecast: Forecast) -> tuple[str, str, str]:
        name, mode = self._place(forecast.element)[0], forecast.mode.value
        cause = Cause.MAINTENANCE if mode == "maintenance" else Cause.PREDICTION
        port = _port(forecast.element)
        return (str(port) if port and forecast.mode is Mode.CONGESTION else name, mode, cause.value)

    def _from_forecast(self, now: float, forecast: Forecast) -> tuple[tuple[str, str, str], Threat]:
        name, avoid = self._place(forecast.element)
        key, port = self._key(forecast), _port(forecast.element)
        threat = Threat(
            name,
            Cause(key[2]),
            key[1],
            avoid,
            port if forecast.mode is Mode.CONGESTION else None,
            forecast.probability,
            forecast.horizon_s,
            tuple(reason.text for reason in forecast.reasons),
            now,
            now,
            port=port,
        )
        return key, threat


def _port(element: str) -> Endpoint | None:
    switch, _, port = element.rpartition(":")
    return Endpoint(switch, int(port)) if port.isdigit() and "-" not in element else None


def hop_of(network: Network, end: Endpoint) -> Hop:
    """The hop that leaves by ``end``; raises :class:`PathError` for a host port."""
    hop = network.hop_at(end)
    if hop is None:
        raise PathError(f"{end} is not a switch-to-switch port")
    return hop
