"""New shadows where the present ones are threatened or full, computed and installed in the background.

What flips wait for comes first: the groups that want another shadow now are planned and installed by themselves, a few
dozen at a time; all others whose shadows a change of threats concerns follow in larger portions. Where there are very
many, a portion is a quarter of them: each costs a look at the whole plan. Installing is make-before-break
(:mod:`control.spm`), and nothing moves on to a shadow that is being changed. What nobody waits for, the log and the
database, comes when all is done.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from control.background import SLICE_S, URGENT_S, in_slices, report
from control.plan import GroupKey, Plan
from control.tse import Decision, Kind

if TYPE_CHECKING:
    from control.service import Service

LOG = structlog.get_logger("shadowplane.steering")
AGAIN_S = 0.1  # a group for which there was no way around is looked at again after so long, loads may have changed
REFUSED_S = 1.0  # what a switch refused would be refused again at once
MOST_URGENT = 32  # groups planned and installed at a time while flips wait for them
MOST_OTHERS = 64  # ... and while none does: each change costs several turns, and the next threat may hit all of them


@dataclass(frozen=True, slots=True)
class _Done:
    """``wanted``: groups that flips waited for, 0 when all were looked at; ``groups``: that have new shadows."""

    wanted: int
    groups: int
    updates: int
    planned_s: float
    installed_s: float


class Replanner:
    """Of one service. ``changing``: groups whose shadow is being replaced; nothing is decided about them. ``waiting``:
    groups that want another shadow, and when the news arrived that made them (``time.perf_counter``)."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.changing: set[GroupKey] = set()
        self.waiting: dict[GroupKey, float] = {}
        self.not_before_s = -1e9  # monotonic, as all times here but those of arrivals
        self.task: asyncio.Task[None] | None = None
        self._tried: dict[GroupKey, float] = {}
        self._stale = False  # the threats are others than those that the shadows were planned for
        self._others: deque[GroupKey] = deque()  # whose shadows cross what is threatened, not yet looked at
        self._portion = MOST_OTHERS
        self._untold: list[_Done] = []

    @property
    def busy(self) -> bool:
        """Whether new shadows are being computed or installed: their labels are taken, and in no plan yet."""
        return self.task is not None

    @property
    def stale(self) -> bool:
        """Whether there are shadows to look at."""
        return self._stale or bool(self._others)

    def changed(self) -> None:
        """Threats came or went: all shadows are to be looked at."""
        self._stale = True
        self._tried.clear()

    def forget(self) -> None:
        """Everything was reset."""
        self.waiting.clear()
        self._tried.clear()
        self._others.clear()

    def served(self, decisions: Iterable[Decision]) -> dict[GroupKey, float]:
        """Those of the decided flips that waited for a shadow, and since which arrival; they wait no more."""
        flips = [item.group for item in decisions if item.kind is Kind.FLIP and item.group in self.waiting]
        return {key: self.waiting.pop(key) for key in flips}

    def look(self, now: float, arrived: float) -> None:
        """After each round of decisions: begin what is due. ``arrived``: the news of this round."""
        wanting = self.service.tse.wanting
        for key in [key for key in self.waiting if key not in wanting and key not in self.changing]:
            del self.waiting[key]
        for key in wanting:
            self.waiting.setdefault(key, arrived)
        if self.busy or now < self.not_before_s:
            return
        fresh = [key for key in wanting if key not in self._tried]
        if fresh:
            loads = self.service.loads
            busiest = sorted(fresh, key=lambda key: (-loads.group_rate(key), key))
            self._start(now, busiest[: max(MOST_URGENT, len(fresh) // 4)], urgent=True)
            return
        if self._stale:
            self._stale = False
            self._look_at_all(now)
        if not self.busy and self._others:
            self._start(now, [self._others.popleft() for _ in range(min(self._portion, len(self._others)))])
        again = [key for key in wanting if now - self._tried[key] >= AGAIN_S]
        if not self.busy and again:  # in vain before: whoever waits longest, after everybody had a turn
            longest = sorted(again, key=lambda key: (self._tried[key], key))
            self._start(now, longest[: max(MOST_URGENT, len(again) // 4)], urgent=True)

    def settle(self) -> None:
        """Say and remember what was done, once nobody waits for more."""
        if self._untold and not self.busy and not self.stale:
            for item in self._untold:
                ms = {"planned_ms": round(item.planned_s * 1e3, 2), "installed_ms": round(item.installed_s * 1e3, 2)}
                LOG.info("shadows replanned", wanted=item.wanted, groups=item.groups, updates=item.updates, **ms)
            self._untold.clear()
            self.service.save()

    async def close(self) -> None:
        """End what is under way."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self._stale = False
        self._others.clear()
        self.settle()

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)
        self.forget()

    def _look_at_all(self, now: float) -> None:
        service = self.service
        self._others.clear()
        if service.book.threats or service.book.suspects or service.tse.flipped():
            avoid = service.book.avoid()
            for key, group in service.plan.groups.items():
                if group.primary is not None and (group.shadow is None or avoid.hits(group.shadow.path)):
                    self._others.append(key)
            self._portion = max(MOST_OTHERS, len(self._others) // 4)
        else:  # all quiet: the best shadows again
            self._run(service.spm.building(service.plan.monitor), [], now, urgent=False)

    def _start(self, now: float, keys: list[GroupKey], *, urgent: bool = False) -> None:
        """Plan for these."""
        service = self.service
        steps = service.spm.replanning(
            service.plan,
            service.book.avoid(),
            broken=service.book.broken(),
            moved=frozenset(service.tse.flipped()),
            loads=service.loads,
            wanted=keys,
            alone=True,
        )
        if urgent:
            self._tried.update(dict.fromkeys(keys, now))
        self._run(steps, keys, now, urgent=urgent)

    def _run(self, steps: Generator[None, None, Plan], keys: list[GroupKey], now: float, *, urgent: bool) -> None:
        self.task = asyncio.create_task(self._replan(steps, keys, now, urgent=urgent), name="replan")
        self.task.add_done_callback(report)

    async def _replan(
        self, steps: Generator[None, None, Plan], keys: list[GroupKey], now: float, *, urgent: bool
    ) -> None:
        service, began = self.service, time.perf_counter()
        wanted = keys if urgent else []
        try:
            plan = await in_slices(steps, URGENT_S if wanted else SLICE_S)
            before = service.plan.groups
            self.changing = {key for key, group in plan.groups.items() if group != before[key]}
            for key in wanted:
                if key not in self.changing:  # no better way as things are: what helps it later is news since then
                    self.waiting.pop(key, None)
            if not self.changing:
                return
            planned = time.perf_counter()
            outcome = await service.fleet.apply(plan.entries(), strict=True, urgent=bool(wanted))
            if outcome.undone:
                self.not_before_s = now + REFUSED_S
                self._others.extend(keys)  # after that all the same, for loads and threats may be others
                LOG.warning("shadows not replanned, all taken back", failed=outcome.failed)
                return
            service.plan = plan
            took = planned - began, time.perf_counter() - planned
            self._untold.append(_Done(len(wanted), len(self.changing), outcome.updates, *took))
        finally:
            self.changing = set()
            self.task = None
            service.inbox.wake()
