"""The one task that decides: samples in, flips out; nothing else changes the plan, the sides or the strategy.

It is driven by events: a sample that arrives wakes it, everything that is waiting by then is learned, scored and
decided upon at once, and the flip leaves (:mod:`control.execution`). What is not needed for it comes after it, in tasks
of their own: reading back, the ledger, the database, and new shadows, during which flips of groups that do not change
go on. A switch that hangs delays the others by no more than :data:`control.execution.PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from control.bookkeeping import News
from control.clock import Moment
from control.degradation import LATE_S
from control.errors import ControlError, PathError, SwitchUnavailable
from control.execution import Execution
from control.outcomes import SEEN_AFTER_FLIP
from control.replanning import REFUSED_S, Replanner
from control.settings import Strategy
from control.spm import depths
from control.telemetry import Item, PortEvent, endpoint
from control.threats import display
from control.tse import Kind
from ml.schema import DeviceSample, Mode, PortSample
from topo.spec import Endpoint

if TYPE_CHECKING:
    from control.inband.runtime import InbandTelemetry
    from control.service import Service

LOG = structlog.get_logger("shadowplane.steering")
T = TypeVar("T")
MAX_GAP_S = 0.004  # rest between two rounds: half as long as the round took, at most this
NEWCOMER_S = 1.0  # a link whose switches have been in service for less may just be coming up
MOST_COMMANDS = 32  # people and scripts; more means that something is stuck


@dataclass(frozen=True, slots=True)
class _Command:
    work: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]


class Steering:
    """Rounds of one service; :meth:`run` is the task."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.execution = Execution(service)
        self.replanner = Replanner(service)
        self.ignore_before = Moment(0.0, -1e9)  # the last reset
        self.rounds = 0
        self.ready_s: dict[str, float] = {}  # when each switch was restored
        self._model_rows = service.analyzer.port_rows(service.intake.elements)
        self._later: list[PortSample | DeviceSample] = []  # samples of this round, to be worked off after it
        self._commands: deque[_Command] = deque()
        self._seen_up: set[tuple[Endpoint, str]] = set()
        self._arrived: float | None = None  # of the oldest sample that no judgement has seen yet

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide until cancelled: woken by samples and commands, at the latest every tick.

        A cancelled call inside is no cancellation of this task: a task group would take it for one and never say
        that nobody steers any more.
        """
        service = self.service
        task = asyncio.current_task()
        assert task is not None
        while True:
            await service.inbox.wait(service.settings.tick_ms / 1000)
            await asyncio.sleep(0)  # what has arrived together is judged together
            began = time.perf_counter()
            try:
                await self._round(Moment.of(service.clock), began)
            except asyncio.CancelledError:
                if task.cancelling():
                    raise
                LOG.exception("a round of steering was cut short by a cancelled call")
            self._work_off()
            self.replanner.settle()
            self.rounds += 1
            # At most two thirds of the loop's time: on a crowded machine or a large network fewer, larger rounds.
            await asyncio.sleep(min(MAX_GAP_S, (time.perf_counter() - began) / 2))

    def _work_off(self) -> None:
        """What the flips of this round did not wait for: loads, and the watch for what is odd without being a known
        failure."""
        service = self.service
        for item in self._later:
            service.anomalies.observe(item)
            if isinstance(item, PortSample):
                service.loads.observe(endpoint(item.element), item)
        self._later.clear()

    async def close(self) -> None:
        """End what goes on in the background; each such task enters its lines when it ends."""
        await self.replanner.close()
        tasks = list(self.execution.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._commands:
            self._commands.popleft().answer.cancel()

    async def command(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have the steering task do ``work``, and wait for its result."""
        if len(self._commands) >= MOST_COMMANDS:
            raise ControlError("too many commands are waiting; ask again")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._commands.append(_Command(work, answer))
        self.service.inbox.wake()
        return await answer

    async def quiet(self) -> None:
        """Wait until no flip and no change of shadows is under way; called by commands that change everything."""
        await self.replanner.quiet()
        late = list(self.service.fleet.late.values())
        if late:
            await asyncio.gather(*late, return_exceptions=True)

    def forget_ports(self, switch: str) -> None:
        """What a switch's heartbeats said before it went away means nothing any more."""
        book = self.service.book
        for end in [end for end in book.suspects if end.switch == switch]:
            book.alive(self.service.clock.monotonic(), end)
        self._seen_up = {(end, kind) for end, kind in self._seen_up if end.switch != switch or kind == "carrier"}

    # -- a round ------------------------------------------------------------------------------------------

    async def _round(self, now: Moment, began: float) -> None:
        service = self.service
        oldest, items = service.inbox.take()
        if items and self._arrived is None:
            self._arrived = oldest
        if service.inband is not None:
            items = [service.inband.joined(item, now.time_s) for item in items]
        for item in items:
            self._take(item, now)
        if service.inband is not None:
            self._take_seen(service.inband, now.time_s)
        if service.intake:
            since = service.intake.since
            self._arrived = since if self._arrived is None else min(self._arrived, since)
            self._take_reports(now)
        while self._commands:
            await self._obey(self._commands.popleft())
        if service.fleet.backup:
            return
        if service.strategy is Strategy.PREDICTIVE:
            await self._predict(now, began)
        elif service.strategy is Strategy.REACTIVE:
            await self._react(now.steady_s)

    async def _obey(self, command: _Command) -> None:
        if command.answer.done():
            return
        try:
            result = await command.work()
        except asyncio.CancelledError:
            if not command.answer.done():
                command.answer.set_exception(SwitchUnavailable("a switch left meanwhile; ask again"))
            raise
        except ControlError as error:
            if not command.answer.done():
                command.answer.set_exception(error)
        except BaseException as error:
            if not command.answer.done():  # whoever asked learns of it, and so does the task group
                command.answer.set_exception(error)
            raise
        else:
            if not command.answer.done():
                command.answer.set_result(result)

    def _take(self, item: Item, now: Moment, *, learned: bool = False) -> None:
        service = self.service
        if isinstance(item, PortEvent):
            self._port_event(item, now)
            return
        reset_s, steady_s = self.ignore_before
        if item.time_s < reset_s and now.steady_s < steady_s + LATE_S:
            return  # measured before the reset, arrived after it
        if not learned:
            service.analyzer.observe(item)
        self._later.append(item)
        seen = service.detector.observe(item)  # always: it keeps its baselines current
        for evidence in seen:
            service.recorder.failure(item.time_s, evidence.element, evidence.mode, evidence.text)
        if service.strategy is not Strategy.PREDICTIVE:
            return
        for evidence in seen:
            with suppress(PathError):  # a host port: nothing can be steered around it
                service.outcomes.struck(display(service.network, evidence.element), evidence.mode, now.steady_s)
                if service.book.degradation(now.steady_s, evidence.element, evidence.mode, evidence.text):
                    self.replanner.changed()
                    LOG.warning("loss observed", element=evidence.element, mode=evidence.mode, what=evidence.text)

    def drop_reports(self, now: Moment) -> None:
        """What came before a reset ended: it tells which ports live, and nothing that is to be learned."""
        for event in self.service.intake.take(now.time_s).events:
            self._port_event(event, now)

    def _take_reports(self, now: Moment) -> None:
        service = self.service
        taken = service.intake.take(now.time_s, service.silent_on_gnmi())
        for event in taken.events:
            self._port_event(event, now)
        for columns in taken.columns:
            rows = self._model_rows[columns.rows]
            known = rows >= 0  # host ports are nobody's way around
            if known.any():
                values = {name: column[known] for name, column in columns.values.items()}
                service.analyzer.observe_ports(rows[known], columns.time_s[known], values)
            if service.inband is not None and "tx_bytes_total" in columns.values:
                service.inband.told(columns, now.time_s)
            service.recorder.reports(columns)
        for sample in taken.samples:
            self._take(sample, now, learned=True)

    def _take_seen(self, inband: InbandTelemetry, now: float) -> None:
        """What packets met on their way, once per interval."""
        service = self.service
        since = inband.since
        for item in inband.take(now):
            if since is not None:
                self._arrived = since if self._arrived is None else min(self._arrived, since)
            service.analyzer.observe(item)
            if isinstance(item, PortSample):
                service.loads.observe(endpoint(item.element), item)

    def _port_event(self, event: PortEvent, moment: Moment) -> None:
        service, now = self.service, moment.steady_s
        end = endpoint(event.element)
        if service.network.hop_at(end) is None:
            return
        service.recorder.port(event)
        if event.up:
            self._seen_up.add((end, event.source))
            if event.source == "heartbeat":
                service.book.alive(now, end)
            service.rerouter.up(end, now)
        elif event.source == "carrier" or (end, event.source) in self._seen_up or self._settled(end, now):
            service.book.dead(now, end, certain=event.source == "carrier", clock_s=event.clock_s)
            service.rerouter.down(end, now)
            service.outcomes.struck(display(service.network, event.element), "link_failure", now)

    def _settled(self, end: Endpoint, now: float) -> bool:
        """Whether a link's switches are in service for so long that silence is death: it died while nobody watched."""
        hop = self.service.network.hop_at(end)
        names = (end.switch, hop.into.switch) if hop is not None else ()
        return all(now - self.ready_s.get(name, now) > NEWCOMER_S for name in names)

    # -- predictive ---------------------------------------------------------------------------------------

    async def _predict(self, moment: Moment, began: float) -> None:
        service, now = self.service, moment.steady_s
        learned = time.perf_counter()
        raised = service.book.predictions(now, service.analyzer.alarms(moment.time_s, explained=False))
        scored = time.perf_counter()
        arrived, self._arrived = self._arrived, None
        changed = service.book.tick(now)
        for record in service.outcomes.expire(now):
            service.ledger.relabel(record)
            if record.struck is not None and (record.kind == Kind.WITHHOLD.value or record.mode in SEEN_AFTER_FLIP):
                service.analyzer.outcome(Mode(record.mode), record.probability, record.struck)
        if raised or changed:
            self.replanner.changed()
        if not service.book.threats and not service.tse.states and not self.replanner.stale:
            return
        decisions = service.tse.decide(now, service.plan, self._away(), self.replanner.changing)
        first = arrived if arrived is not None else began
        news = News(first, max(began, first), max(learned, first), scored, time.perf_counter())
        waited = self.replanner.served(decisions)

        def explain() -> None:
            service.book.explain(service.analyzer.alarms(moment.time_s))

        fresh = arrived is not None
        await self.execution.carry_out(decisions, moment, news, fresh=fresh, waited=waited, explain=explain)
        self.replanner.look(now, first)

    def _away(self) -> set[str]:
        """Switches about which nothing is decided now: not connected, or with a flip that they have not answered."""
        return self.service.fleet.away | self.service.fleet.late.keys()

    # -- reactive -----------------------------------------------------------------------------------------

    async def _react(self, now: float) -> None:
        service = self.service
        avoid = service.rerouter.due(now)
        if avoid is None or now < self.replanner.not_before_s:
            return
        start = time.perf_counter()
        before, worse = service.rerouter.applied, bool(avoid.links - service.rerouter.applied.links)
        service.rerouter.applied = avoid
        plan = service.spm.reroute(service.plan, avoid)
        outcome = await service.fleet.apply(plan.entries(), depth=None if worse else depths(plan))
        if outcome.undone:
            service.rerouter.applied = before
            self.replanner.not_before_s = now + REFUSED_S
            LOG.error("not rerouted, all taken back", failed=outcome.failed)
            return
        service.plan = plan
        took_ms = (time.perf_counter() - start) * 1000
        LOG.info("rerouted", without=[link.name for link in avoid.links], updates=outcome.updates, ms=round(took_ms, 2))
