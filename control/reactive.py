"""The `reactive` strategy's memory: which ports are reported down, and when to route around them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from control.paths import NOTHING, Avoid, Network
from topo.spec import Endpoint

STABLE_S = 1.0  # a link must be up this long before routes use it again


@dataclass(slots=True)
class Rerouter:
    """``applied``: what the installed primaries avoid."""

    network: Network
    applied: Avoid = NOTHING
    _down: dict[Endpoint, float] = field(default_factory=dict)
    _up: dict[Endpoint, float] = field(default_factory=dict)

    def down(self, end: Endpoint, now: float) -> None:
        self._down.setdefault(end, now)
        self._up.pop(end, None)

    def up(self, end: Endpoint, now: float) -> None:
        if end in self._down:
            self._up.setdefault(end, now)

    def due(self, now: float) -> Avoid | None:
        """What routes shall avoid from now on, if that differs from what they avoid already."""
        for end, since in list(self._up.items()):
            if now - since >= STABLE_S:
                del self._up[end]
                self._down.pop(end, None)
        hops = [self.network.hop_at(end) for end in self._down]
        wanted = Avoid(links=frozenset(hop.link for hop in hops if hop is not None))
        return wanted if wanted != self.applied else None

    def clear(self) -> None:
        self._down.clear()
        self._up.clear()
        self.applied = NOTHING
