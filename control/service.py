"""The control plane as one asyncio process: named tasks, one of which owns all steering state.

::

    gNMI, node_exporter ──> inbox (bounded) ─┐
    digests ──> intake (bounded) ────────────┼─> steering: models ─> threats ─> TSE ─> flips ─> ledger
    notices, feeds ──────────────────────────┤                        └──> SPM ─> staged changes
    API, CLI ── commands ────────────────────┘        all of it ──> recorder ─> history (a thread)

Everything that decides runs in the task of :mod:`control.steering`, woken by each arriving sample; nothing else changes
the plan, the sides or the strategy, so there is nothing to lock. Sessions restore their switch by themselves and ask
this class what it shall hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from finsy import Switch
from finsy.proto import p4r

from control import bookkeeping, inventory, judging
from control.capacity import Loads
from control.clock import Clock, Moment, SystemClock
from control.degradation import DegradationDetector
from control.entries import PORT_REPORT
from control.errors import ControlError, InputError, NoticeError, NotPrimary, PathError, WriteRejected
from control.fleet import Fleet, Outcome
from control.history.files import Retention
from control.history.writer import Writer
from control.inband.runtime import InbandTelemetry
from control.intake import Intake
from control.inventory import Config, Target
from control.lag import LoopLag
from control.ledger import Ledger
from control.memory import recall_numbers, recall_shadows, remember, rows_of
from control.notices import Notice, NoticeFolder
from control.outcomes import Outcomes
from control.paths import Network
from control.plan import Entries, GroupKey
from control.planned import MaintenanceNotice
from control.planned import NoticeError as UnknownElement
from control.program import Program
from control.rates import RatePoller
from control.reactive import Rerouter
from control.recorder import GNMI, NODE_EXPORTER, Recorder
from control.selection import select
from control.session import SwitchSession
from control.settings import SAMPLE_MS, Settings, Strategy
from control.sources.node_exporter import NodeExporterSource
from control.spm import SETTLE_S, ShadowManager, depths
from control.steering import Steering
from control.store import Store
from control.telemetry import NOT_OFFERED, SWITCHED_OFF, GnmiSource, Inbox
from control.threats import Cause, ThreatBook, display
from control.tse import Decision, Side, SteeringEngine
from ml.anomaly_watch import AnomalyWatch
from ml.profiles import LAB
from ml.schema import DeviceSample, PortSample
from topo.spec import Topology

if TYPE_CHECKING:
    from control.feeds.drive import FeedDriver

LOG = structlog.get_logger("shadowplane.service")
NOTICE_POLL_S = 0.2
SAVE_S = 0.1  # after a switch has become ready
RESTORE_FIRST_S = 1.0
DAY_S, GB = 86400.0, 1 << 30


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
        self.analyzer = judging.analyzer(topology, settings)
        self.anomalies = AnomalyWatch(period_s=DAY_S if settings.profile != LAB.name else 0.0)
        self.detector = DegradationDetector(self.link_of)
        self.inbox = Inbox()
        self.notices = NoticeFolder(settings.notices_dir) if settings.notices_dir is not None else None
        self.rerouter = Rerouter(self.network)
        self.sources: dict[str, GnmiSource] = {}
        self.config = inventory.load(settings.config) if settings.config is not None else Config()
        self._port_report = self.program.schema.digests[PORT_REPORT].id
        self.intake = Intake(topology, self.program.schema)
        self.recorder = Recorder(self._writer(), self.intake.elements)
        self.inband = self._inband()
        self.outcomes = Outcomes(self.config.share, self._priorities())
        self.outcomes.recall(self.ledger.lines(limit=10_000))
        self.tse.withheld = self.outcomes.withheld
        self.started_s = self.clock.monotonic()
        self.changed = asyncio.Event()
        known = recall_numbers(self.ledger.store, topology, self.spm)
        self.plan = self.spm.build(settings.monitor(self.strategy))
        self._remembered: dict[GroupKey, Any] = {}
        if known:
            self.plan, self._remembered = recall_shadows(self.ledger.store, self.plan, self.network)
        self.fleet = Fleet(self.plan.entries(), SETTLE_S + self.spm.max_delay_s())
        for name, target in self._targets().items():
            self.fleet.sessions[name] = SwitchSession(
                name,
                target.address,
                target.device_id,
                self.program,
                self,
                heartbeat_s=settings.heartbeat_ms / 1000,
                credentials=target.credentials,
            )
            self.sources[name] = GnmiSource(
                name,
                target.gnmi or settings.gnmi_address(target.address),
                self.inbox,
                self.clock,
                settings.sample_ms / 1000,
                credentials=target.credentials,
                on_samples=partial(self.recorder.samples, source=GNMI),
            )
        self.rates = RatePoller(self)
        self.steering = Steering(self)
        self.lag = LoopLag()
        self.feeds = self._feeds()
        self.exporters = self._exporters()
        self._met: set[str] = set()
        self._saving: asyncio.TimerHandle | None = None  # the state is to be saved shortly

    def _targets(self) -> dict[str, Target]:
        usual = {
            switch.name: Target(self.settings.address(switch.device_id), switch.device_id)
            for switch in self.topology.switches
        }
        return inventory.targets(self.config, self.settings.config, usual)

    def _priorities(self) -> dict[str, int]:
        for name in self.config.priorities:
            try:
                self.network.host(name)
            except PathError as error:
                raise InputError(f"{self.settings.config}: priorities: {error}") from error
        return dict(self.config.priorities)

    def _inband(self) -> InbandTelemetry | None:
        wanted = self.config.inband
        if wanted is None:
            return None
        usual_s = SAMPLE_MS[self.settings.profile] / 1000
        schema = self.program.schema
        return InbandTelemetry(self.topology, wanted, schema, interval_s=usual_s, recorder=self.recorder)

    def _writer(self) -> Writer | None:
        if self.settings.history_dir is None:
            return None
        limits = self.config.history
        return Writer(self.settings.history_dir, Retention(limits.age_days * DAY_S, int(limits.size_gb * GB)))

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every task until cancelled; an error in one ends them all."""
        if self.recorder.writer is not None:
            self.recorder.writer.start()
        try:
            async with asyncio.TaskGroup() as group:
                for name, session in self.fleet.sessions.items():
                    group.create_task(session.run(), name=f"session:{name}")
                    if self.config.gnmi:
                        group.create_task(self._listen(self.sources[name]), name=f"gnmi:{name}")
                    else:
                        self.sources[name].state = SWITCHED_OFF
                group.create_task(self.steering.run(), name="steer")
                group.create_task(self.fleet.run_sweeps(), name="sweep")
                group.create_task(self.rates.run(), name="rates")
                group.create_task(self.lag.run(), name="lag")
                group.create_task(self._watch_anomalies(), name="anomalies")
                if self.feeds is not None:
                    group.create_task(self.feeds.run(self.clock.time, self.inbox.wake, _feed_trouble), name="feeds")
                for source in self.exporters:
                    group.create_task(source.run(), name=f"node_exporter:{source.entry.element}")
                if self.inband is not None:
                    group.create_task(self.inband.run(), name="inband")
                if self.notices is not None:
                    group.create_task(self._watch_notices(self.notices), name="notices")
        finally:
            if self._saving is not None:
                self.save()
            await self.steering.close()
            self.recorder.close()
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
        now = self.clock.monotonic()
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
        self.steering.ready_s[switch] = self.clock.monotonic()
        if self._saving is None:  # once for all switches that become ready together
            self._saving = asyncio.get_running_loop().call_later(SAVE_S, self.save)
        self.changed.set()

    def on_down(self, switch: str, reason: str) -> None:
        self.steering.ready_s.pop(switch, None)
        self.steering.forget_ports(switch)
        self.intake.forget(switch)
        self.changed.set()

    def on_digest(self, switch: str, digest: p4r.DigestList) -> None:
        if digest.digest_id == self._port_report:
            self.intake.put(switch, digest.data)
            self.inbox.wake()
        elif self.inband is not None and self.inband.takes(digest.digest_id):
            self.inband.on_digest(switch, digest)

    async def restored(self, name: str, switch: Switch) -> None:
        if self.inband is not None:
            await self.inband.restore(name, switch)

    def silent_on_gnmi(self) -> frozenset[str]:
        """Switches whose digests are all that is known of them."""
        return frozenset(n for n, source in self.sources.items() if source.state in (NOT_OFFERED, SWITCHED_OFF))

    def link_of(self, element: str) -> str:
        """The link of a port, the element itself where it is none."""
        with suppress(PathError):
            return display(self.network, element)
        return element

    # -- commands -----------------------------------------------------------------------------------------

    def _check_primary(self) -> None:
        """Commands raise :class:`NotPrimary` at a backup."""
        if self.fleet.backup:
            raise NotPrimary("this controller is a backup and changes nothing; ask the primary one")

    async def set_strategy(self, strategy: Strategy) -> Outcome:
        """Switch at run time; everything returns to the primary state first."""
        self._check_primary()
        return await self.steering.command(lambda: self._install(strategy, clear_history=False))

    async def reset(self, *, clear_history: bool = False, strategy: Strategy | None = None) -> Outcome:
        """Bits 0, primaries and shadows as computed, damping and threats cleared; optionally another strategy."""
        self._check_primary()
        return await self.steering.command(
            lambda: self._install(strategy or self.strategy, clear_history=clear_history)
        )

    async def settled(self) -> None:
        """Wait until decisions carried out so far are verified and in the ledger."""
        await self.steering.execution.settled()

    async def move(self, side: Side, groups: Sequence[GroupKey], *, force: bool, dry_run: bool) -> list[Decision]:
        """Flip or revert by hand; with ``dry_run`` only say what would happen."""
        self._check_primary()

        async def work() -> list[Decision]:
            now = Moment.of(self.clock)
            decisions = [self.tse.by_hand(now.steady_s, self.plan, key, side, force=force) for key in groups]
            if not dry_run:
                await self.steering.execution.carry_out(decisions, now)
            return decisions

        decisions = await self.steering.command(work)
        if not dry_run:  # whoever asked waits for a slow switch; steering does not
            await self.steering.execution.confirmed(key.switch for key in groups)
        return decisions

    def select(self, *, switch: str | None, destination: str | None, element: str | None) -> list[GroupKey]:
        """Groups by switch, destination host and threatened element; raises :class:`InputError` if none match."""
        return select(self.topology, self.network, self.plan, switch, destination, element)

    async def _install(self, strategy: Strategy, *, clear_history: bool) -> Outcome:
        """Raises :class:`WriteRejected` when a switch refused its part; tables and strategy are then as before."""
        await self.steering.quiet()
        now = self.clock.time()
        self.book.clear()
        self.tse.reset()
        self.rerouter.clear()
        self.detector.forget()
        self.outcomes.forget()
        self._remembered.clear()
        if clear_history:
            self.analyzer.reset()
            self.loads.forget()
            if self.inband is not None:
                self.inband.forget()
        used = {name: [group.id for group in self.plan.of(name)] for name in self.fleet.sessions}
        found = await self.fleet.read_bits(used)
        wrong = {name: {i: 0 for i, bit in bits.items() if bit} for name, bits in found.items()}
        results = await self.fleet.flip({name: bits for name, bits in wrong.items() if bits})
        plan = self.spm.build(self.settings.monitor(strategy))
        outcome = await self.fleet.apply(plan.entries(), depth=depths(plan))
        outcome.failed.update({name: str(r) for name, r in results.items() if isinstance(r, ControlError)})
        self.steering.ignore_before = Moment.of(self.clock)
        self.steering.drop_reports(Moment.of(self.clock))
        records = [
            bookkeeping.of_reset(now, group)
            for name, bits in wrong.items()
            for group in self.plan.of(name)
            if group.id in bits
        ]
        if records:
            self.ledger.add(records)
            self.recorder.decisions(records)
        if outcome.undone:
            why = "; ".join(f"{name}: {text}" for name, text in outcome.failed.items())
            raise WriteRejected(f"all was taken back, the strategy is still {self.strategy.value}: {why}")
        self.strategy, self.plan = strategy, plan
        self.save()
        LOG.info("network in its primary state", strategy=strategy.value, updates=outcome.updates)
        return outcome

    def save(self) -> None:
        """Hand the present state to the writer thread."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        rows = rows_of(self.plan, self.tse, Moment.of(self.clock))
        if not self.steering.replanner.busy:
            self.spm.labels.release_all_but(self.spm.labels_in_use(self.plan))
        numbers = {"group": dict(self.spm.group_ids.taken), "label": dict(self.spm.labels.taken)}
        self.ledger.submit(remember, self.ledger.store, self.topology, rows, numbers)

    def _feeds(self) -> FeedDriver | None:
        """Raises :class:`InputError` for a file that cannot be used."""
        if self.settings.feeds is None:
            return None
        from control.feeds.config import load_config  # readers of calendars and mails: only where there are feeds
        from control.feeds.drive import FeedDriver
        from control.feeds.manager import FeedManager

        return FeedDriver(FeedManager(self.topology, load_config(self.settings.feeds)), self.analyzer)

    def _exporters(self) -> list[NodeExporterSource]:
        """Raises :class:`InputError` for one that names nothing in the topology."""
        found = []
        for entry in self.config.sources.node_exporter:
            ports = self.topology.ports(entry.element) if entry.element in self.fleet.sessions else None
            if ports is None:
                raise InputError(f"{self.settings.config}: sources.node_exporter: no switch {entry.element!r}")
            for name, port in entry.ports.items():
                if port not in ports:
                    raise InputError(
                        f"{self.settings.config}: sources.node_exporter: {name}: {entry.element} has no port {port}"
                    )
            found.append(NodeExporterSource(entry, self.clock, self._exported))
        return found

    def _exported(self, samples: list[PortSample | DeviceSample]) -> None:
        for sample in samples:
            self.inbox.put(sample)
        self.recorder.samples(samples, NODE_EXPORTER)

    # -- helpers' tasks -----------------------------------------------------------------------------------

    async def _listen(self, source: GnmiSource) -> None:
        """gNMI of one switch. Until all are restored nothing can be steered, and reading telemetry takes from the time
        that this takes; but one that cannot be restored keeps nobody from listening."""
        await self.wait_ready(RESTORE_FIRST_S)
        await source.run()

    async def _watch_anomalies(self) -> None:
        while True:
            await asyncio.sleep(self.anomalies.interval_s)
            self.anomalies.tick(self.clock.time())

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
            if notice.drains:
                window = (notice.start, notice.end)
                self.analyzer.notice(MaintenanceNotice(notice.id, notice.element, *window, notice.summary))
        except (UnknownElement, PathError) as error:
            raise NoticeError(str(error)) from error


def _feed_trouble(feed: str, text: str) -> None:
    LOG.warning("feed", feed=feed, reason=text)
