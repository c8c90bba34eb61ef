"""What became of predictions: labels for flips, and the no-action control share that keeps precision measurable.

A flip that works hides whether it was needed. So an operator may have a share of the recommended flips withheld, for
flows of low priority only, and see whether the failure comes. Which ones is decided by a hash of the event (seed,
element, mode, how many alarms of that kind there were before), so that a run can be repeated. Pure: every ``now`` is in
seconds of a monotonic clock.

Where the failure shows all the same after a flip (a link's heartbeats, errors and carrier are seen without traffic),
the flip is labelled too. Congestion and overload are not: moving the load away is what prevents them, so after a flip
only their coming says anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from control.plan import Group
from control.store import FlipRecord
from control.threats import Cause, Threat
from control.tse import Kind

GRACE = 0.5  # of the horizon: counters are read at intervals, and a failure may come a little later than foretold
SEEN_AFTER_FLIP = ("link_failure",)
MOST = 10_000  # outcomes that are waited for; more means that something is wrong with the models


@dataclass(frozen=True, slots=True)
class ControlShare:
    """``share`` (0..1) of the recommended flips is withheld, for groups of priority ``up_to_priority`` or less."""

    share: float = 0.0
    up_to_priority: int = 0
    seed: int = 1

    def draws(self, element: str, mode: str, number: int) -> bool:
        """Whether the ``number``-th alarm of this kind belongs to the control share.

        >>> share = ControlShare(0.25, seed=7)
        >>> sum(share.draws("s1-s2", "link_failure", n) for n in range(1000))
        243
        """
        text = f"{self.seed} {element} {mode} {number}".encode()
        drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
        return drawn < self.share


@dataclass(slots=True)
class _Watch:
    record: FlipRecord
    since_s: float
    until_s: float


@dataclass(slots=True)
class Outcomes:
    """Watches what was predicted until its horizon is over. ``priorities``: by destination host, 0 where not named."""

    share: ControlShare = field(default_factory=ControlShare)
    priorities: dict[str, int] = field(default_factory=dict)
    labelled: list[FlipRecord] = field(default_factory=list)  # newest last, at most MOST
    _events: dict[tuple[str, str], list[tuple[float, bool]]] = field(default_factory=dict)  # since, withheld
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _open: list[_Watch] = field(default_factory=list)
    _ready: list[FlipRecord] = field(default_factory=list)

    def priority(self, destination: str) -> int:
        return self.priorities.get(destination, 0)

    def withheld(self, group: Group, threat: Threat) -> bool:
        """Whether this flip is left undone. Observed loss, announced work and orders are always acted upon."""
        if self.share.share <= 0 or threat.cause is not Cause.PREDICTION:
            return False
        if self.priority(group.key.destination) > self.share.up_to_priority:
            return False
        kind = (threat.element, threat.mode)
        events = self._events.setdefault(kind, [])
        for since_s, drawn in events:
            if since_s == threat.since_s:
                return drawn
        number = self._counts[kind] = self._counts.get(kind, -1) + 1
        drawn = self.share.draws(*kind, number)
        events.append((threat.since_s, drawn))
        del events[:-4]  # an event stands for as long as its threat does
        return drawn

    def decided(self, record: FlipRecord, now: float) -> None:
        """Watch what a prediction was about: one that was acted upon, or withheld, by ``now``."""
        acted = record.kind == Kind.FLIP.value and record.outcome == "done"
        if record.cause != Cause.PREDICTION.value or not (acted or record.kind == Kind.WITHHOLD.value):
            return
        if len(self._open) < MOST:
            self._open.append(_Watch(record, now, now + record.horizon_s * (1 + GRACE)))

    def struck(self, element: str, mode: str, now: float) -> None:
        """The failure is there."""
        for watch in self._open:
            record = watch.record
            if (record.element, record.mode) == (element, mode) and watch.since_s <= now <= watch.until_s:
                record.struck = True
                self._label(record)
        self._open = [watch for watch in self._open if watch.record.struck is None]

    def expire(self, now: float) -> list[FlipRecord]:
        """Lines whose outcome became known since the last call: what did not come within its horizon, did not."""
        late = [watch.record for watch in self._open if now > watch.until_s]
        if late:
            self._open = [watch for watch in self._open if now <= watch.until_s]
            for record in late:
                if record.kind == Kind.WITHHOLD.value or record.mode in SEEN_AFTER_FLIP:
                    record.struck = False
                    self._label(record)
        ready, self._ready = self._ready, []
        return ready

    def forget(self) -> None:
        """Everything was reset: what is still open stays unknown."""
        self._open.clear()
        self._events.clear()

    def recall(self, records: Iterable[FlipRecord]) -> None:
        """Take over labels of an earlier run."""
        self.labelled = [record for record in records if record.struck is not None][-MOST:]

    def _label(self, record: FlipRecord) -> None:
        self._ready.append(record)
        self.labelled.append(record)
        del self.labelled[:-MOST]
