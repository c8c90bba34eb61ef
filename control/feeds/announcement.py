"""An announcement: what a provider's message says about one piece of work, before it is mapped to a topology.

Words for status and impact are those of the Maint-Note draft (X-MAINTNOTE-STATUS, X-MAINTNOTE-IMPACT), extended by
``RE-SCHEDULED`` and ``NO-CHANGE``, which mails use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from control.feeds.errors import FeedError

LONGEST_TEXT = 4000
MOST_CIRCUITS = 5000


class Status(StrEnum):
    TENTATIVE = "TENTATIVE"
    CONFIRMED = "CONFIRMED"
    CANCELLED = "CANCELLED"
    IN_PROCESS = "IN-PROCESS"
    COMPLETED = "COMPLETED"
    RE_SCHEDULED = "RE-SCHEDULED"
    NO_CHANGE = "NO-CHANGE"

    @property
    def over(self) -> bool:
        return self in (Status.CANCELLED, Status.COMPLETED)


class Impact(StrEnum):
    """From harmless to worst."""

    NO_IMPACT = "NO-IMPACT"
    REDUCED_REDUNDANCY = "REDUCED-REDUNDANCY"
    DEGRADED = "DEGRADED"
    OUTAGE = "OUTAGE"

    @property
    def drains(self) -> bool:
        """Whether traffic has to leave: lost redundancy alone loses no packet."""
        return self in (Impact.DEGRADED, Impact.OUTAGE)


@dataclass(frozen=True, slots=True)
class Circuit:
    id: str
    impact: Impact = Impact.OUTAGE


@dataclass(frozen=True, slots=True)
class Announcement:
    """What was found; ``None`` is what the message does not say. Times in seconds since the epoch."""

    provider: str
    maintenance_id: str | None = None
    account: str | None = None
    summary: str | None = None
    status: Status | None = None
    start: float | None = None
    end: float | None = None
    circuits: tuple[Circuit, ...] = ()
    stamp: float | None = None
    sequence: int | None = None
    organizer: str | None = None
    uid: str | None = None

    def filled(self, **values: object) -> Announcement:
        """With ``values`` where nothing was found."""
        missing = {key: value for key, value in values.items() if getattr(self, key) is None and value is not None}
        return replace(self, **missing)  # type: ignore[arg-type]

    def checked(self, source: str) -> Announcement:
        """Itself if it can be acted upon; raises :class:`FeedError` naming what is missing or absurd."""
        over = self.status is not None and self.status.over
        needed = ("maintenance_id",) if over else ("maintenance_id", "start", "end")
        missing = [name for name in needed if getattr(self, name) in (None, "")]
        if missing:
            raise FeedError(f"{source}: {self.provider}: no {', no '.join(missing).replace('_', ' ')}")
        if self.start is not None and self.end is not None:
            if not (math.isfinite(self.start) and math.isfinite(self.end)):
                raise FeedError(f"{source}: {self.provider} {self.maintenance_id}: times are not finite")
            if not over and self.end <= self.start:
                raise FeedError(f"{source}: {self.provider} {self.maintenance_id}: its end is not after its start")
        if len(self.circuits) > MOST_CIRCUITS:
            raise FeedError(f"{source}: {self.provider} {self.maintenance_id}: more than {MOST_CIRCUITS} circuits")
        return self


def circuits(ids: list[str], impact: Impact = Impact.OUTAGE) -> tuple[Circuit, ...]:
    """Circuits of one impact, each once, in order."""
    return tuple(Circuit(name, impact) for name in dict.fromkeys(item.strip() for item in ids) if name)
