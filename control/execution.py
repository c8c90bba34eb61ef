"""Carrying decisions out: flips first, then everything that they do not need: books, reading back, the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import structlog

from control import bookkeeping
from control.background import report
from control.bookkeeping import News
from control.clock import Moment
from control.errors import ControlError, SwitchUnavailable
from control.flip import FlipResult
from control.memory import ACTIVE, STANDBY
from control.plan import GroupKey
from control.store import FlipRecord
from control.tse import Decision, Kind

if TYPE_CHECKING:
    from control.service import Service

LOG = structlog.get_logger("shadowplane.steering")
PATIENCE_S = 0.03  # all wait so long for a switch's confirmation; then it is followed by a task of its own
LOSS_WINDOW_S = 2.0  # loss this long before a flip is counted towards it
NOBODY: Mapping[GroupKey, float] = MappingProxyType({})


class Execution:
    """Of one service's decisions."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.tasks: set[asyncio.Task[None]] = set()
        self._following: dict[str, asyncio.Task[None]] = {}  # by slow switch: who waits for its answer

    async def settled(self) -> None:
        """Wait until decisions carried out so far are confirmed, verified and in the ledger."""
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def confirmed(self, switches: Iterable[str]) -> None:
        """Wait until every flip sent to these so far was answered, or given up."""
        tasks = [self._following[name] for name in set(switches) if name in self._following]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def carry_out(
        self,
        decisions: Sequence[Decision],
        now: Moment,
        news: News | None = None,
        *,
        fresh: bool = False,
        waited: Mapping[GroupKey, float] = NOBODY,
        explain: Callable[[], None] = lambda: None,
    ) -> None:
        """All bits of a switch in one request, all switches at once; they were decided ``now``.

        ``news``: the samples that brought the decisions about; None for what an operator ordered. ``fresh``: the round
        judged new samples; without, only flips that waited for a new shadow have news. ``waited``: these flips, and
        since which arrival (``time.perf_counter``). ``explain``: finds the threats' reasons, once the flips have left.
        """
        if not decisions:
            explain()
            return
        bits: dict[str, dict[int, int]] = {}
        groups = self.service.plan.groups
        for decision in decisions:
            if decision.moves:
                group = groups[decision.group]
                bits.setdefault(decision.group.switch, {})[group.id] = int(decision.kind is Kind.FLIP)
        telling = {item.group: _news(news, fresh, waited.get(item.group)) for item in decisions}
        results = await self.service.fleet.flip(bits, patience_s=PATIENCE_S) if bits else {}
        stop = time.perf_counter()
        try:
            explain()
        finally:  # what was done is entered, whatever else goes wrong
            self._book([item.explained() for item in decisions], now, results, telling, stop)

    def _book(
        self,
        decisions: Sequence[Decision],
        now: Moment,
        results: Mapping[str, FlipResult | ControlError],
        telling: Mapping[GroupKey, News | None],
        stop: float,
    ) -> None:
        """Enter what is done, and follow who has not confirmed."""
        done = [item for item in decisions if not item.moves or item.group.switch in results]
        self._enter(done, now, results, telling, stop)
        for name, task in list(self.service.fleet.late.items()):
            if name in results:  # entered already; what is late is an earlier flip, and followed
                continue
            behind = [item for item in decisions if item.moves and item.group.switch == name]
            if behind:
                LOG.warning("a switch is slow to confirm", switch=name, flips=len(behind))
                self._following[name] = self._background(self._follow(name, task, behind, now, telling))

    async def _follow(
        self,
        name: str,
        task: asyncio.Task[FlipResult | ControlError],
        decisions: Sequence[Decision],
        now: Moment,
        telling: Mapping[GroupKey, News | None],
    ) -> None:
        """Enter flips whose confirmation took longer than everybody waited."""
        try:
            result: FlipResult | ControlError = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            result = SwitchUnavailable(f"{name}: the session ended")
        self._enter(decisions, now, {name: result}, telling, time.perf_counter())
        if self._following.get(name) is asyncio.current_task():  # it may be late a second time meanwhile
            del self._following[name]
        self.service.inbox.wake()

    def _enter(
        self,
        decisions: Sequence[Decision],
        decided: Moment,
        results: Mapping[str, FlipResult | ControlError],
        telling: Mapping[GroupKey, News | None],
        stop: float,
    ) -> None:
        """Book what was decided and what the switches answered. ``telling``: what brought each decision about."""
        service, now = self.service, Moment.of(self.service.clock)
        records = []
        wanted: dict[str, dict[int, int]] = {}
        for decision in decisions:
            record = bookkeeping.of_decision(decision, service.plan, service.spm, decided.time_s)
            if decision.moves:
                result = results[decision.group.switch]
                service.tse.done(decision, now.steady_s, isinstance(result, FlipResult))
                bookkeeping.enter_result(record, result, telling[decision.group], stop)
                lossy = bookkeeping.ports_of(service.network, decision.element)
                record.lost = service.detector.lost(lossy, now.time_s - LOSS_WINDOW_S) if lossy else None
                if record.outcome == "done":
                    bit = int(decision.kind is Kind.FLIP)
                    wanted.setdefault(record.switch, {})[record.group_id] = bit
            records.append(record)
            service.outcomes.decided(record, decided.steady_s)
            LOG.info(decision.kind.value, text=record.explanation, outcome=record.outcome)
        if records:
            self._background(self._verify(records, wanted))

    async def _verify(self, records: list[FlipRecord], bits: Mapping[str, Mapping[int, int]]) -> None:
        """Read back, then enter into the ledger; off the critical path, by a task of its own."""
        service = self.service
        try:
            found = await service.fleet.read_bits({name: list(wanted) for name, wanted in bits.items()})
            for record in records:
                wanted = bits.get(record.switch, {}).get(record.group_id)
                if wanted is not None and record.switch in found:
                    record.verified = found[record.switch].get(record.group_id) == wanted
        finally:
            service.ledger.add(records)
            service.recorder.decisions(records)
            for record in records:  # remember sides that changed, without rewriting the rest
                if record.outcome == "done":
                    mark = ACTIVE if record.kind == Kind.FLIP.value else STANDBY
                    keys = [(record.switch, record.destination)]
                    store = service.ledger.store
                    service.ledger.submit(store.mark, keys, mark, record.time_s, record.element, record.cause)

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(report)
        return task


def _news(news: News | None, fresh: bool, since: float | None) -> News | None:
    """Of one decision. ``since``: when the news arrived for which there was no shadow then."""
    if news is None or since is None:
        return news if fresh else None
    return replace(news, since=min(since, news.arrived))
