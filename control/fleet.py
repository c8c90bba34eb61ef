"""All sessions together: one place that sends changes and flips to the network.

``desired`` is what every switch shall hold. A switch that is away when a change goes out gets it from its own
session's restore as soon as it is back; a switch that refuses something is brought back in line by a resync.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from control.errors import ControlError, SwitchUnavailable, WriteRejected
from control.flip import Begun, FlipResult
from control.plan import Entries, NetworkEntries, Op, Stage, Table, Update
from control.session import State, SwitchSession
from control.shortway import Call, harvest
from control.spm import changes

LOG = structlog.get_logger("shadowplane.fleet")
_LAZY = frozenset({Table.LABEL})  # removed by a sweep, once packets in flight are through
WRITE_TIMEOUT_S = 1.0  # for a stage of a change, and so much more per entry; a switch that takes longer is left
WRITE_EACH_S = 0.005
HARVEST_S = 0.004  # the event loop waits so long for confirmations: most switches need a fraction of it


@dataclass(slots=True)
class Outcome:
    """What became of a change. ``failed``: switch -> why; ``rejected``: a switch refused a part of it; ``undone``: so
    nothing after that stage was written, and what was written before was taken back."""

    updates: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    rejected: bool = False
    undone: bool = False


class Fleet:
    """The sessions of a network, by switch name."""

    def __init__(self, desired: NetworkEntries, settle_s: float) -> None:
        self.desired = desired
        self.sessions: dict[str, SwitchSession] = {}
        self.late: dict[str, asyncio.Task[FlipResult | ControlError]] = {}  # flips that a switch has not answered yet
        self._settle_s = settle_s
        self._sweep_due = asyncio.Event()

    @property
    def ready(self) -> bool:
        return bool(self.sessions) and all(session.ready for session in self.sessions.values())

    @property
    def away(self) -> set[str]:
        """Switches that cannot be written to now."""
        return {name for name, session in self.sessions.items() if not session.ready}

    @property
    def backup(self) -> bool:
        """Whether another controller holds a switch."""
        return any(session.state is State.BACKUP for session in self.sessions.values())

    async def apply(
        self,
        wanted: NetworkEntries,
        *,
        depth: Mapping[tuple[str, int], int] | None = None,
        strict: bool = False,
        urgent: bool = False,
    ) -> Outcome:
        """Change the network, stage by stage, all of it or nothing; labels out of use are swept later.

        Where a switch refuses its part (a full table), what builds on it is not written, and what was written is
        taken back: nobody may push a label that was never installed. A switch that is away is no refusal, its own
        restore brings it in line; with ``strict`` it is one where labels are to be installed on it. ``urgent``: flips
        wait for it, so nothing else gets a turn while switches take small batches.
        """
        before, outcome = self.desired, Outcome()
        await self._go(wanted, outcome, depth, stop=True, strict=strict, urgent=urgent)
        if outcome.rejected:
            outcome.undone = True
            await self._go(before, outcome)
        for name in outcome.failed:
            await self.resync(name)
        return outcome

    async def _go(
        self,
        wanted: NetworkEntries,
        outcome: Outcome,
        depth: Mapping[tuple[str, int], int] | None = None,
        *,
        stop: bool = False,
        strict: bool = False,
        urgent: bool = False,
    ) -> None:
        installed = {
            name: dict(session.installed) if session.ready else dict(wanted.get(name, {}))
            for name, session in self.sessions.items()
        }
        before, self.desired = self.desired, wanted
        if strict:
            lacking = [name for name in self.away if _new_labels(before.get(name, {}), wanted.get(name, {}))]
            if lacking:
                outcome.failed.update(dict.fromkeys(lacking, "it is away and would need new labels"))
                outcome.rejected = True
                self.desired = before
                return
        for stage in changes(installed, wanted, depth=depth, settle_s=0.0):
            now = self._without_lazy(stage)
            if now:
                await self._stage(now, outcome, urgent=urgent)
                if stop and outcome.rejected:
                    return

    async def flip(
        self, bits: Mapping[str, Mapping[int, int]], *, patience_s: float | None = None
    ) -> dict[str, FlipResult | ControlError]:
        """Set bits on several switches at once; one result or error per switch.

        All requests are on their way before anything is waited for, and answers within :data:`HARVEST_S` are taken
        without a turn of the event loop. With ``patience_s``, a switch that has not answered by then is missing from
        the result: its flip goes on as a task in :attr:`late`, and nobody else waits for it.
        """

        async def one(name: str) -> FlipResult | ControlError:
            try:
                result = await self.sessions[name].flip(bits[name], begun.get(name))
                return result if result.confirmed else replace(result, confirmed=time.perf_counter())
            except ControlError as error:
                return error
            except KeyError:
                return SwitchUnavailable(f"there is no switch {name}")

        sessions = {name: self.sessions[name] for name in bits if name in self.sessions}
        begun: dict[str, Begun] = {}
        results: dict[str, FlipResult | ControlError] = {}
        tasks: dict[str, asyncio.Task[FlipResult | ControlError]] = {}
        try:
            for name, session in sessions.items():
                if (flip := session.begin_flip(bits[name])) is not None:
                    begun[name] = flip
            harvest([flip.call for flip in begun.values()], HARVEST_S)
            for name, flip in begun.items():
                if (done := flip.done()) is not None:
                    results[name] = done
            for name in bits:
                if name not in results:
                    tasks[name] = asyncio.create_task(one(name), name=f"flip:{name}")
            if not tasks:
                return results
            _, waiting = await asyncio.wait(tasks.values(), timeout=patience_s)
        except BaseException:  # also a cancellation: no switch's turn may stay taken
            for task in tasks.values():
                task.cancel()
            for flip in begun.values():
                flip.end()
            raise
        for name, task in tasks.items():
            if task in waiting:
                self.late[name] = task
                task.add_done_callback(partial(self._answered, name))
        return results | {name: task.result() for name, task in tasks.items() if task not in waiting}

    def _answered(self, name: str, task: asyncio.Task[FlipResult | ControlError]) -> None:
        if self.late.get(name) is task:
            del self.late[name]

    async def read_bits(self, groups: Mapping[str, Sequence[int]]) -> dict[str, dict[int, int]]:
        """Failover bits of several switches; a switch that does not answer is missing from the result."""

        async def one(name: str) -> dict[int, int] | None:
            try:
                return await self.sessions[name].read_bits(groups[name])
            except ControlError as error:
                LOG.warning("bits not read", switch=name, reason=str(error))
                return None

        names = [name for name in groups if self.sessions[name].ready]
        found = await asyncio.gather(*(one(name) for name in names))
        return {name: bits for name, bits in zip(names, found, strict=True) if bits is not None}

    async def resync(self, name: str) -> None:
        """Bring one switch in line with ``desired``; logs what cannot be."""
        session = self.sessions[name]
        if not session.ready:
            return
        try:
            await session.apply(self.desired.get(name, {}), settle_s=0.0)
        except ControlError as error:
            session.last_error = str(error)
            LOG.error("switch is out of line", switch=name, reason=str(error))

    async def verify(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Read every switch back; switch -> what differs, empty when all is as desired."""
        wrong: dict[str, str] = {}

        async def one(name: str) -> None:
            try:
                await self.sessions[name].verify()
            except ControlError as error:
                wrong[name] = str(error)

        await asyncio.gather(*(one(name) for name in names or self.sessions if self.sessions[name].ready))
        return wrong

    async def run_sweeps(self) -> None:
        """Task: remove labels out of use, a settling time after the change that freed them."""
        while True:
            await self._sweep_due.wait()
            self._sweep_due.clear()
            await asyncio.sleep(self._settle_s)
            for name, session in self.sessions.items():
                stale = self._stale(session.installed, self.desired.get(name, {}))
                if not session.ready or not stale:
                    continue
                try:
                    await session.write(stale)
                except ControlError as error:
                    LOG.warning("old labels not removed", switch=name, reason=str(error))

    def _stale(self, installed: Entries, wanted: Entries) -> list[Update]:
        return [
            Update(Op.DELETE, entry) for key, entry in installed.items() if entry.table in _LAZY and key not in wanted
        ]

    def _without_lazy(self, stage: Stage) -> Stage | None:
        kept: dict[str, tuple[Update, ...]] = {}
        for name, updates in stage.updates.items():
            now = tuple(u for u in updates if not (u.op is Op.DELETE and u.entry.table in _LAZY))
            if len(now) != len(updates):
                self._sweep_due.set()
            if now:
                kept[name] = now
        return Stage(stage.name, kept) if kept else None

    async def _stage(self, stage: Stage, outcome: Outcome, *, urgent: bool = False) -> None:
        rest, begun = dict(stage.updates), dict[str, Call]()
        ended: set[str] = set()

        async def one(name: str, updates: Sequence[Update]) -> None:
            session = self.sessions[name]
            if name not in begun and not session.ready:
                return  # its restore will do it
            ended.add(name)
            try:
                timeout_s = WRITE_TIMEOUT_S + len(updates) * WRITE_EACH_S
                await session.write(updates, timeout_s=timeout_s, begun=begun.get(name))
                outcome.updates += len(updates)
            except ControlError as error:
                outcome.failed[name] = str(error)
                outcome.rejected |= isinstance(error, WriteRejected)
                LOG.warning("update refused", switch=name, stage=stage.name, reason=str(error))

        try:
            if urgent:
                for name, updates in stage.updates.items():
                    if (call := self.sessions[name].begin_write(updates)) is not None:
                        begun[name] = call
                harvest(begun.values(), HARVEST_S)
                for name, call in begun.items():
                    if self.sessions[name].end_write(stage.updates[name], call):
                        ended.add(name)
                        outcome.updates += len(rest.pop(name))
            if rest:
                await asyncio.gather(*(one(name, updates) for name, updates in rest.items()))
        finally:
            for name in begun.keys() - ended:  # cut short
                self.sessions[name].abandon_write()


def _new_labels(before: Entries, wanted: Entries) -> bool:
    """Whether a change installs labels on a switch."""
    return any(entry.table is Table.LABEL and before.get(key) != entry for key, entry in wanted.items())
