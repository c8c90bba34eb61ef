"""All announcements of all feeds, merged: one entry per (provider, id), updated, cancelled, aged, held back.

Pure: time comes in. An update replaces an entry when its sequence is higher, or, where sequences are equal or not
given, when it was written later. Old copies never bring back what was cancelled. Entries end with their window, with
their file (folders and mailboxes: the operator took it away), or when their feed has been silent for too long; an
entry that a URL stops listing stays until its end, for an empty answer is no cancellation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from control.feeds.announcement import Announcement, Circuit, Impact, Status
from control.feeds.limits import DAY_S, Limits, absurd, unbearable
from control.feeds.mapping import CircuitMap
from control.notices import Notice

MOST_ENTRIES = 20_000
KEPT_S = 30 * DAY_S  # after the end: so long an old copy cannot bring an entry back
Report = Callable[[str, str], None]  # feed, text; the taker reports each once


@dataclass(slots=True)
class Entry:
    """The newest announcement of one piece of work."""

    feed: str
    source: str  # file, message or URL
    found: Announcement
    received: float  # of this version
    first_received: float
    batch: int  # which poll brought it
    held: str = ""  # why it may not drain, for now
    mapped: list[Notice] | None = None  # made once: there may be thousands of entries

    @property
    def key(self) -> tuple[str, str]:
        return _key(self.found)


@dataclass(slots=True)
class NoticeBook:
    """``offer`` what polls bring, ``notices`` what holds now. ``unknown``: circuit -> the notice that named it."""

    circuits: CircuitMap
    limits: Limits
    confirmed: frozenset[str] = frozenset()  # "provider/id" that the operator vouches for
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # (feed, source) -> what cannot be true
    stale_copies: int = 0
    _batches: int = 0

    def offer(self, feed: str, brought: Iterable[tuple[str, Announcement]], now_s: float, report: Report) -> bool:
        """Take in one poll's announcements with their sources; returns whether anything changed."""
        self._batches += 1
        changed = False
        for source, found in sorted(brought, key=lambda item: _age(item[1])):
            why = absurd(found, now_s, self.limits)
            if why:
                self.refused[feed, source] = f"{_name(found)}: {why}"
                report(feed, f"{source}: {_name(found)} refused: {why}")
                continue
            old = self.entries.get(_key(found))
            if old is not None and not newer(found, old.found):
                self.stale_copies += found != old.found
                if found == old.found and source != old.source:
                    old.source, old.mapped = source, None
                continue
            merged = found if old is None else _merged(found, old.found)
            first = now_s if old is None else old.first_received
            if old is None and len(self.entries) >= MOST_ENTRIES:
                self.refused[feed, source] = f"more than {MOST_ENTRIES} notices"
                report(feed, f"{source}: more than {MOST_ENTRIES} notices, the rest is not kept")
                break
            self.entries[_key(found)] = Entry(feed, source, merged, now_s, first, self._batches)
            changed = True
        if changed:
            self._hold(now_s, report)
        return changed

    def withdraw(self, feed: str, sources: set[str], now_s: float, report: Report) -> bool:
        """Forget what came from files that are gone; cancellations stay as a memory, so that older copies stay dead."""
        gone = [item for item in self.entries.values() if item.feed == feed and item.source in sources]
        lost = [item for item in gone if item.found.status is None or not item.found.status.over]
        for item in lost:
            del self.entries[item.key]
        if lost:
            self._hold(now_s, report)
        return bool(lost)

    def replace(self, feed: str, announced: Mapping[str, Iterable[Announcement]], changed: set[str]) -> bool:
        """Forget what a changed file said before and says no more."""
        said = {(source, _key(item)) for source, items in announced.items() for item in items}
        lost = [item for item in self.entries.values()
                if item.feed == feed and item.source in changed and (item.source, item.key) not in said]  # fmt: skip
        for item in lost:
            del self.entries[item.key]
        return bool(lost)

    def forgive(self, feed: str, sources: set[str]) -> None:
        """Drop complaints about files that are gone or read anew."""
        for source in sources:
            self.refused.pop((feed, source), None)

    def complaint(self, feed: str) -> str:
        """What of a feed is not believed at present, empty if all of it is."""
        refused = next((text for (name, _), text in self.refused.items() if name == feed), "")
        return refused or next((e.held for e in self.entries.values() if e.held and e.feed == feed), "")

    def notices(self, now_s: float, too_old: Mapping[str, bool] | None = None) -> list[Notice]:
        """What is announced for now and later, one per element; ``too_old``: feeds that are believed no more."""
        found = []
        for key, item in list(self.entries.items()):
            end = item.found.end
            if now_s - max(end or 0.0, item.received) > KEPT_S:
                del self.entries[key]
            elif end is not None and end > now_s and not item.held and not (too_old or {}).get(item.feed, False):
                found += self._mapped(item)
        return found

    def held(self) -> dict[str, str]:
        """``provider/id`` -> why it does not drain until it is confirmed."""
        return {_name(item.found): item.held for item in self.entries.values() if item.held}

    def named(self) -> list[tuple[str, Entry]]:
        """All entries with their ``provider/id``."""
        return [(_name(item.found), item) for item in self.entries.values()]

    def _mapped(self, item: Entry) -> list[Notice]:
        """The entry's notices; circuits that are not known are remembered."""
        if item.mapped is None:
            item.mapped = self._made(item)
        return item.mapped

    def _made(self, item: Entry) -> list[Notice]:
        announced = item.found
        worst: dict[str, Impact] = {}
        if announced.start is None or announced.end is None or announced.end <= announced.start:
            return []
        for circuit in announced.circuits:
            elements = self.circuits.elements(circuit.id)
            if not elements and len(self.unknown) < MOST_ENTRIES:
                self.unknown.setdefault(circuit.id, _name(announced))
            for element in elements:
                worst[element] = max(worst.get(element, Impact.NO_IMPACT), circuit.impact, key=list(Impact).index)
        return [
            Notice(
                id=announced.maintenance_id or "",
                element=element,
                start=announced.start,
                end=announced.end,
                summary=(announced.summary or "")[:500],
                provider=announced.provider,
                status=announced.status or Status.CONFIRMED,
                impact=impact,
                sequence=max(announced.sequence or 0, 0),
                stamp=announced.stamp or 0.0,
                source=item.source,
                received=item.first_received,
            )
            for element, impact in worst.items()
        ]

    def _hold(self, now_s: float, report: Report) -> None:
        """Let drains in poll by poll; a poll whose drains the network cannot bear is held back as a whole."""
        waiting = [item for item in self.entries.values() if (item.found.end or 0.0) > now_s]
        drains = {item.key: [notice for notice in self._mapped(item) if notice.drains] for item in waiting}
        everything = [notice for notices in drains.values() for notice in notices]
        bearable = not unbearable(everything, self.circuits, self.limits)
        accepted: list[Notice] = []
        batches: dict[int, list[Entry]] = {}
        for item in waiting:
            item.held = ""
            if _name(item.found) in self.confirmed:
                accepted += drains[item.key]
            elif drains[item.key] and not bearable:
                batches.setdefault(item.batch, []).append(item)
        for _, items in sorted(batches.items()):
            wanted = [notice for item in items for notice in drains[item.key]]
            why = unbearable([*accepted, *wanted], self.circuits, self.limits)
            if not why:
                accepted += wanted
                continue
            for item in items:
                item.held = why
            some = f"{_name(items[0].found)}{', ...' if items[1:] else ''}"
            report(items[0].feed, f"{len(items)} notices held back ({some}): their drains are {why}; "
                                  "list them under `confirmed` to allow them")  # fmt: skip


def newer(found: Announcement, old: Announcement) -> bool:
    """Whether an announcement replaces another of the same work."""
    ours, theirs = found.sequence, old.sequence
    if ours is not None and theirs is not None and min(ours, theirs) >= 0 and ours != theirs:
        return ours > theirs
    if found.stamp is not None and old.stamp is not None and found.stamp != old.stamp:
        return found.stamp > old.stamp
    return found != old


def _merged(found: Announcement, old: Announcement) -> Announcement:
    """What an update leaves out, such as a cancellation's circuits, holds on."""
    merged = found.filled(start=old.start, end=old.end, summary=old.summary, account=old.account)
    kept: tuple[Circuit, ...] = found.circuits or old.circuits
    status = old.status if found.status in (None, Status.NO_CHANGE) else found.status
    return replace(merged, circuits=kept, status=status)


def _age(found: Announcement) -> tuple[float, int]:
    return (found.stamp or 0.0, found.sequence or 0)


def _key(found: Announcement) -> tuple[str, str]:
    return (found.provider.strip().lower(), found.maintenance_id or "")


def _name(found: Announcement) -> str:
    return f"{found.provider.strip()}/{found.maintenance_id}"
