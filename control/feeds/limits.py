"""What is believed: bounds on single announcements, and on how much of the network all of them may empty at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from control.feeds.announcement import Announcement
from control.feeds.mapping import CircuitMap
from control.notices import Notice
from topo.spec import Link, Topology

DAY_S = 86_400.0
YEAR_2000 = 946_684_800.0


class Limits(BaseModel):
    """Bounds of belief, in days and shares of the network's links."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    longest_window_days: float = Field(default=45.0, gt=0)
    furthest_start_days: float = Field(default=730.0, gt=0)
    drain_share: float = Field(default=0.3, gt=0, le=1)  # of all links at any one time; one link may always be drained


def absurd(found: Announcement, now_s: float, limits: Limits) -> str:
    """Why an announcement cannot be true, empty if it may be."""
    if found.status is not None and found.status.over:
        return ""  # it asks for nothing
    if found.start is None or found.end is None:
        return "it has no window"
    if found.end <= found.start:
        return "its end is not after its start"
    days = (found.end - found.start) / DAY_S
    if days > limits.longest_window_days:
        return f"its window of {days:.0f} days is longer than {limits.longest_window_days:g}"
    if found.start < YEAR_2000:
        return "it starts before the year 2000"
    if found.start > now_s + limits.furthest_start_days * DAY_S:
        return f"it starts more than {limits.furthest_start_days:g} days ahead"
    return ""


def unbearable(notices: Sequence[Notice], circuits: CircuitMap, limits: Limits) -> str:
    """Why the network cannot bear all these drains, empty if it can.

    Looked at whenever one begins: the links drained then must be at most the share allowed, and what is left must
    still join all switches that stay. A single link or switch is always allowed: refusing real work would not stop it.
    """
    topology = circuits.topology
    most = max(1, int(limits.drain_share * len(topology.links)))
    switches = {switch.name for switch in topology.switches}
    moments = sorted([(item.end, False, item.element) for item in notices] +
                     [(item.start, True, item.element) for item in notices])  # fmt: skip
    active: Counter[str] = Counter()
    judged: set[frozenset[str]] = set()
    for _, begins, element in moments:  # at one moment, ends come before beginnings
        if not begins:
            active[element] -= 1
            active += Counter()  # drops what has come to zero
            continue
        active[element] += 1
        elements = frozenset(active)
        if len(elements) < 2 or elements in judged:
            continue
        judged.add(elements)
        links = circuits.links(elements)
        if len(links) > most:
            return f"{len(links)} of {len(topology.links)} links at the same time, more than the {most} allowed"
        if not _joined(topology, links, set(elements & switches)):
            return f"{', '.join(sorted(elements)[:5])} at the same time, without which the network falls apart"
    return ""


def _joined(topology: Topology, without: Iterable[Link], gone: set[str]) -> bool:
    near: dict[str, list[str]] = {item.name: [] for item in topology.switches if item.name not in gone}
    skipped = set(without)
    for link in topology.links:
        if link not in skipped and link.a.switch in near and link.b.switch in near:
            near[link.a.switch].append(link.b.switch)
            near[link.b.switch].append(link.a.switch)
    if not near:
        return False
    reached, waiting = set(), [next(iter(near))]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += near[name]
    return len(reached) == len(near)
