"""The control plane as one asyncio process: named tasks, one of which owns all steering state.

::

    gNMI, digests ──> inbox (bounded) ──> steer: detector, analyzer ─> threats ─> TSE ─> flips ─> ledger
    notices folder ─────────────────────^                              └──> SPM ─> staged changes
    API, CLI ── commands ───────────────^

Everything that decides runs in the task `steer`, woken by each arriving sample; nothing else changes the plan,
the sides or the strategy, so there is nothing to lock. Sessions restore their switch by themselves and ask this
class what it shall hold.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from typing import Any, TypeVar

import structlog

from control import bookkeeping
from control.capacity import Loads
from control.clock import Clock, SystemClock
from control.degradation import DegradationDetector
from control.errors import ControlError, NoticeError, NotPrimary, PathError, SwitchUnavailable
from control.fleet import Fleet, Outcome
from control.flip import FlipResult
from control.ledger import Ledger
from control.memory import ACTIVE, STANDBY, recall_numbers, recall_shadows, remember, rows_of
from control.notices import Notice, NoticeFolder
from control.paths import Network
from control.pha import HealthAnalyzer, MaintenanceNotice
from control.pha import NoticeError as UnknownElement
from control.plan import Entries, GroupKey
from control.rates import RatePoller
from control.reactive import Rerouter
from control.selection import select
from control.session import Program, SwitchSession
from control.settings import Settings, Strategy
from control.spm import SETTLE_S, ShadowManager, depths
from control.store import FlipRecord, Store
from control.telemetry import NOT_OFFERED, GnmiSource, Inbox, Item, PortEvent, Reports, line_rates
from control.threats import Cause, ThreatBook, display
from control.tse import Decision, Kind, Side, SteeringEngine
from ml.schema import DeviceSample, PortSample
from topo.spec import Endpoint, Topology

LOG = structlog.get_logger("shadowplane.service")
T = TypeVar("T")
REPLAN_PAUSE_S = 0.1
JUDGE_GAP_S = 0.008  # between two rounds of the analyzer; evidence of loss does not wait for it
LOSS_WINDOW_S = 2.0  # loss this long before a flip is counted towards it
NOTICE_POLL_S = 0.2
NEWCOMER_S = 1.0  # a link whose switches have been in service for less may just be coming up


@dataclass(frozen=True, slots=True)
class _Command:
    work: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]


class Service:
    """Wires sessions, telemetry and decisions of one network together. See :meth:`run`."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        program: Program | None = None,
    ) -> None:
        self.topology = topology
        self.settings = settings
        self.clock = clock or SystemClock()
        self.strategy = settings.strategy
        self.network = Network(topology)
        self.program = program or Program.load(settings.build_dir)
        state = settings.state_dir / "control.db" if settings.state_dir is not None else None
        self.ledger = Ledger(store or Store(state))
        self.spm = ShadowManager(self.network)
        self.loads = Loads(self.network, settings.capacity_limit)
        self.book = ThreatBook(self.network, stable_s=settings.stable_s)
        self.tse = SteeringEngine(self.book, self.loads, self.spm.carrying, settings.tuning)
        self.analyzer = HealthAnalyzer(topology)
        self.detector = DegradationDetector(self._link_of)
        self.inbox = Inbox()
        self.notices = NoticeFolder(settings.notices_dir) if settings.notices_dir is not None else None
        self.rerouter = Rerouter(self.network)
        self.sources: dict[str, GnmiSource] = {}
        self.reports = {switch.name: Reports(switch.name, line_rates(topology, switch)) for switch in topology.switches}
        self.started_s = self.clock.time()
        self.changed = asyncio.Event()
        known = recall_numbers(self.ledger.store, topology, self.spm)
        self.plan = self.spm.build(settings.monitor(self.strategy))
        self._remembered: dict[GroupKey, Any] = {}
        if known:
            self.plan, self._remembered = recall_shadows(self.ledger.store, self.plan, self.network)
        self.fleet = Fleet(self.plan.entries(), SETTLE_S + self.spm.max_delay_s())
        for switch in topology.switches:
            address = settings.address(switch.device_id)
            self.fleet.sessions[switch.name] = SwitchSession(
                switch.name, address, switch.device_id, self.program, self, heartbeat_s=settings.heartbeat_ms / 1000
            )
            self.sources[switch.name] = GnmiSource(
                switch.name, address, self.inbox, self.clock, settings.sample_ms / 1000
            )
        self.rates = RatePoller(self)
        self._commands: deque[_Command] = deque()
        self._met: set[str] = set()
        self._seen_up: set[tuple[Endpoint, str]] = set()
        self._ready_s: dict[str, float] = {}  # when each switch was restored
        self._replanned_s = -1e9
        self._judged = 0.0
        self._ignore_before_s = 0.0
        self._wanted_replan = False
        self._verifying: set[asyncio.Task[None]] = set()

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every task until cancelled; an error in one ends them all."""
        try:
            async with asyncio.TaskGroup() as group:
                for name, session in self.fleet.sessions.items():
                    group.create_task(session.run(), name=f"session:{name}")
                    group.create_task(self.sources[name].run(), name=f"gnmi:{name}")
                group.create_task(self._steer(), name="steer")
                group.create_task(self.fleet.run_sweeps(), name="sweep")
                group.create_task(self.rates.run(), name="rates")
                if self.notices is not None:
                    group.create_task(self._watch_notices(self.notices), name="notices")
        finally:
            for task in list(self._verifying):
                task.cancel()
            await asyncio.gather(*self._verifying, return_exceptions=True)  # each enters its lines when it ends
            while self._commands:
                self._commands.popleft().answer.cancel()
            self.ledger.close()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether all switches became ready in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.fleet.ready:
                    self.changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await self.changed.wait()
        except TimeoutError:
            return self.fleet.ready
        return True

    # -- what sessions ask and tell -----------------------------------------------------------------------

    def desired(self, switch: str) -> Entries:
        return self.fleet.desired[switch]

    def settle_bits(self, switch: str, found: Mapping[int, int], fresh: bool) -> dict[int, int]:
        """A switch that kept running while we were away tells which groups are on their shadow; one that came up
        empty is told."""
        now = self.clock.time()
        if not fresh and switch not in self._met and self.strategy is Strategy.PREDICTIVE:
            for group in self.plan.of(switch):
                if found.get(group.id) and group.shadow is not None:
                    row = self._remembered.get(group.key)
                    cause = Cause(row.cause) if row is not None and row.cause else Cause.RECOVERY
                    self.tse.adopt(group.key, Side.SHADOW, now, row.element if row is not None else "", cause)
                    LOG.info("group found on its shadow", group=str(group.key))
        self._met.add(switch)
        return {group.id: int(self.tse.side(group.key) is Side.SHADOW) for group in self.plan.of(switch)}

    def on_ready(self, switch: str) -> None:
        self._ready_s[switch] = self.clock.time()
        self._save()
        self.changed.set()

    def on_down(self, switch: str, reason: str) -> None:
        self._ready_s.pop(switch, None)
        self._forget_ports(switch)
        self.changed.set()

    def on_reports(self, switch: str, reports: Sequence[Mapping[str, Any]]) -> None:
        now = self.clock.time()
        for report in reports:
            for item in self.reports[switch].decode(report, now, traffic=self.sources[switch].state == NOT_OFFERED):
                self.inbox.put(item)

    def _forget_ports(self, switch: str) -> None:
        """What a switch's heartbeats said before it went away means nothing any more."""
        for end in [end for end in self.book.suspects if end.switch == switch]:
            self.book.alive(self.clock.time(), end)
        self._seen_up = {(end, kind) for end, kind in self._seen_up if end.switch != switch or kind == "carrier"}

    # -- commands -----------------------------------------------------------------------------------------

    async def _command(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have the steering task do ``work``, and wait for its result."""
        if len(self._commands) >= 32:  # people and scripts; more means that something is stuck
            raise ControlError("too many commands are waiting; ask again")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._commands.append(_Command(work, answer))
        self.inbox.wake()
        return await answer

    def _check_primary(self) -> None:
        """Commands raise :class:`NotPrimary` at a backup."""
        if self.fleet.backup:
            raise NotPrimary("this controller is a backup and changes nothing; ask the primary one")

    async def set_strategy(self, strategy: Strategy) -> Outcome:
        """Switch at run time; everything returns to the primary state first."""
        self._check_primary()
        return await self._command(lambda: self._install(strategy, clear_history=False))

    async def reset(self, *, clear_history: bool = False, strategy: Strategy | None = None) -> Outcome:
        """Bits 0, primaries and shadows as computed, damping and threats cleared; optionally another strategy."""
        self._check_primary()
        return await self._command(lambda: self._install(strategy or self.strategy, clear_history=clear_history))

    async def settled(self) -> None:
        """Wait until decisions carried out so far are verified and in the ledger."""
        await asyncio.gather(*self._verifying, return_exceptions=True)

    async def move(self, side: Side, groups: Sequence[GroupKey], *, force: bool, dry_run: bool) -> list[Decision]:
        """Flip or revert by hand; with ``dry_run`` only say what would happen."""
        self._check_primary()

        async def work() -> list[Decision]:
            now = self.clock.time()
            decisions = [self.tse.by_hand(now, self.plan, key, side, force=force) for key in groups]
            if not dry_run:
                await self._execute(decisions, time.perf_counter())
            return decisions

        return await self._command(work)

    def select(self, *, switch: str | None, destination: str | None, element: str | None) -> list[GroupKey]:
        """Groups by switch, destination host and threatened element; raises :class:`InputError` if none match."""
        return select(self.topology, self.network, self.plan, switch, destination, element)

    async def _install(self, strategy: Strategy, *, clear_history: bool) -> Outcome:
        now = self.clock.time()
        self.strategy = strategy
        self.book.clear()
        self.tse.reset()
        self.rerouter.clear()
        self.detector.forget()
        self._remembered.clear()
        if clear_history:
            self.analyzer.reset()
            self.loads.forget()
        used = {name: [group.id for group in self.plan.of(name)] for name in self.fleet.sessions}
        found = await self.fleet.read_bits(used)
        wrong = {name: {i: 0 for i, bit in bits.items() if bit} for name, bits in found.items()}
        results = await self.fleet.flip({name: bits for name, bits in wrong.items() if bits})
        self.plan = self.spm.build(self.settings.monitor(strategy))
        outcome = await self.fleet.apply(self.plan.entries(), depth=depths(self.plan))
        outcome.failed.update({name: str(r) for name, r in results.items() if isinstance(r, ControlError)})
        self._ignore_before_s = self.clock.time()
        records = [
            bookkeeping.of_reset(now, group)
            for name, bits in wrong.items()
            for group in self.plan.of(name)
            if group.id in bits
        ]
        if records:
            self.ledger.add(records)
        self._save()
        LOG.info("network in its primary state", strategy=strategy.value, updates=outcome.updates)
        return outcome

    # -- steering -----------------------------------------------------------------------------------------

    async def _steer(self) -> None:
        """The one task that decides: woken by samples and commands, at the latest every tick.

        A cancelled call inside is no cancellation of this task: a task group would take it for one and never say
        that nobody steers any more.
        """
        task = asyncio.current_task()
        assert task is not None
        while True:
            await self.inbox.wait(self.settings.tick_ms / 1000)
            woken = time.perf_counter()
            try:
                await self._round(self.clock.time())
            except asyncio.CancelledError:
                if task.cancelling():
                    raise
                LOG.exception("a round of steering was cut short by a cancelled call")
            # Samples that arrive meanwhile are judged together: on a crowded machine fewer, larger rounds.
            await asyncio.sleep(min(JUDGE_GAP_S, max(self.settings.gap_ms / 1000, 2 * (time.perf_counter() - woken))))

    async def _round(self, now: float) -> None:
        oldest, items = self.inbox.take()
        for item in items:
            self._take(item, now)
        while self._commands:
            await self._obey(self._commands.popleft())
        if not self.fleet.backup:
            if self.strategy is Strategy.PREDICTIVE:
                await self._predict(now, oldest)
            elif self.strategy is Strategy.REACTIVE:
                await self._react(now)

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
        else:
            if not command.answer.done():
                command.answer.set_result(result)

    def _take(self, item: Item, now: float) -> None:
        if isinstance(item, PortEvent):
            self._port_event(item, now)
            return
        if item.time_s < self._ignore_before_s:
            return  # measured before the reset, arrived after it
        self.analyzer.observe(item)
        self._measure(item)
        if self.strategy is not Strategy.PREDICTIVE:
            self.detector.observe(item)  # keeps its baselines current
            return
        for evidence in self.detector.observe(item):
            with suppress(PathError):  # a host port: nothing can be steered around it
                if self.book.degradation(now, evidence.element, evidence.mode, evidence.text):
                    self._wanted_replan = True
                    LOG.warning("loss observed", element=evidence.element, mode=evidence.mode, what=evidence.text)

    def _measure(self, item: PortSample | DeviceSample) -> None:
        if not isinstance(item, PortSample) or isnan(item.tx_bytes_total):
            return
        switch, _, port = item.element.rpartition(":")
        end = Endpoint(switch, int(port))
        self.loads.observe_port(end, item.tx_bytes_total, item.time_s)
        if not isnan(item.rate_bps):
            self.loads.line_rate[end] = item.rate_bps

    def _link_of(self, element: str) -> str:
        with suppress(PathError):
            return display(self.network, element)
        return element

    def _port_event(self, event: PortEvent, now: float) -> None:
        switch, _, port = event.element.rpartition(":")
        end = Endpoint(switch, int(port))
        if self.network.hop_at(end) is None:
            return
        if event.up:
            self._seen_up.add((end, event.source))
            if event.source == "heartbeat":
                self.book.alive(now, end)
            self.rerouter.up(end, now)
        elif event.source == "carrier" or (end, event.source) in self._seen_up or self._settled(end, now):
            self.book.dead(now, end, certain=event.source == "carrier", clock_s=event.clock_s)
            self.rerouter.down(end, now)

    def _settled(self, end: Endpoint, now: float) -> bool:
        """Whether a link's switches are in service for so long that silence is death: it died while nobody watched."""
        hop = self.network.hop_at(end)
        names = (end.switch, hop.into.switch) if hop is not None else ()
        return all(now - self._ready_s.get(name, now) > NEWCOMER_S for name in names)

    async def _predict(self, now: float, oldest: float) -> None:
        """``oldest``: when the first of the samples now taken in had arrived (``time.perf_counter``)."""
        raised = False
        pause = time.perf_counter() - self._judged
        if pause >= JUDGE_GAP_S:
            raised = self.book.predictions(now, self.analyzer.alarms(now))
            self._judged = time.perf_counter()
        changed = self.book.tick(now)
        self._wanted_replan |= raised or changed
        if not self.book.threats and not self.tse.states:
            return
        away = self.fleet.away
        await self._execute(self.tse.decide(now, self.plan, away), oldest)
        due = now - self._replanned_s >= REPLAN_PAUSE_S
        if (self._wanted_replan or (self.tse.wanting and due)) and await self._replan(now):
            await self._execute(self.tse.decide(self.clock.time(), self.plan, away), oldest)

    async def _replan(self, now: float) -> bool:
        """New shadows where the present ones are threatened or full; returns whether any changed."""
        self._replanned_s, self._wanted_replan = now, False
        if self.book.threats or self.book.suspects or self.tse.flipped():
            plan = self.spm.replan(self.plan, self.book.avoid(), loads=self.loads, wanted=self.tse.wanting)
        else:
            plan = self.spm.build(self.plan.monitor)  # all quiet: the best shadows again
        if plan.groups == self.plan.groups:
            return False
        outcome = await self.fleet.apply(plan.entries(), undo=True)
        if outcome.undone:
            self._replanned_s = now + 1.0  # asking again at once would be refused again
            return False
        self.plan = plan
        LOG.info("shadows replanned", updates=outcome.updates, failed=len(outcome.failed))
        self._save()
        return True

    async def _react(self, now: float) -> None:
        avoid = self.rerouter.due(now)
        if avoid is None:
            return
        start = time.perf_counter()
        worse = bool(avoid.links - self.rerouter.applied.links)
        self.rerouter.applied = avoid
        self.plan = self.spm.reroute(self.plan, avoid)
        outcome = await self.fleet.apply(self.plan.entries(), depth=None if worse else depths(self.plan))
        took_ms = (time.perf_counter() - start) * 1000
        LOG.info("rerouted", without=[link.name for link in avoid.links], updates=outcome.updates, ms=round(took_ms, 2))

    async def _execute(self, decisions: Sequence[Decision], oldest: float) -> None:
        """Carry decisions out: all bits of a switch in one request, all switches at once."""
        bits: dict[str, dict[int, int]] = {}
        moving = [decision for decision in decisions if decision.kind is not Kind.REFUSE]
        for decision in moving:
            group = self.plan.groups[decision.group]
            bits.setdefault(decision.group.switch, {})[group.id] = int(decision.kind is Kind.FLIP)
        results = await self.fleet.flip(bits) if bits else {}
        stop, now = time.perf_counter(), self.clock.time()
        records = []
        for decision in decisions:
            record = bookkeeping.of_decision(decision, self.plan, self.spm)
            if decision.kind is not Kind.REFUSE:
                result = results[decision.group.switch]
                self.tse.done(decision, now, isinstance(result, FlipResult))
                bookkeeping.enter_result(record, result, (stop - oldest) * 1000)
                lossy = bookkeeping.ports_of(self.network, decision.element)
                record.lost = self.detector.lost(lossy, now - LOSS_WINDOW_S) if lossy else None
            records.append(record)
            LOG.info(decision.kind.value, text=record.explanation, outcome=record.outcome)
        if records:
            self._finish(records, bits)

    def _finish(self, records: list[FlipRecord], bits: Mapping[str, Mapping[int, int]]) -> None:
        """Verify by reading back, then enter into the ledger; off the critical path, by a task of its own."""

        async def verify() -> None:
            try:
                found = await self.fleet.read_bits({name: list(wanted) for name, wanted in bits.items()})
                for record in records:
                    wanted = bits.get(record.switch, {}).get(record.group_id)
                    if wanted is not None and record.switch in found and record.outcome == "done":
                        record.verified = found[record.switch].get(record.group_id) == wanted
            finally:
                self.ledger.add(records)
                self._mark(records)

        task = asyncio.create_task(verify(), name="verify")
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)

    def _save(self) -> None:
        """Hand the present state to the writer thread."""
        rows = rows_of(self.plan, self.tse, self.clock.time())
        self.spm.labels.release_all_but(self.spm.labels_in_use(self.plan))
        numbers = {"group": dict(self.spm.group_ids.taken), "label": dict(self.spm.labels.taken)}
        self.ledger.submit(remember, self.ledger.store, self.topology, rows, numbers)

    def _mark(self, records: Sequence[FlipRecord]) -> None:
        """Remember sides that changed, without rewriting the rest."""
        for record in records:
            if record.outcome == "done":
                mark = ACTIVE if record.kind == Kind.FLIP.value else STANDBY
                keys = [(record.switch, record.destination)]
                self.ledger.submit(self.ledger.store.mark, keys, mark, record.time_s, record.element, record.cause)

    # -- helpers' tasks -----------------------------------------------------------------------------------

    async def _watch_notices(self, folder: NoticeFolder) -> None:
        while True:
            if folder.scan(self._accept, self.analyzer.withdraw):
                for name, text in folder.errors.items():
                    LOG.error("maintenance notice not used", file=name, reason=text)
                self.inbox.wake()
            await asyncio.sleep(NOTICE_POLL_S)

    def _accept(self, notice: Notice) -> None:
        try:
            display(self.network, notice.element)
            self.analyzer.notice(MaintenanceNotice(notice.id, notice.element, notice.start, notice.end, notice.summary))
        except (UnknownElement, PathError) as error:
            raise NoticeError(str(error)) from error
