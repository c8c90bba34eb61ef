"""One session per switch: finsy for arbitration, pipeline and streams; restore, verify and flip on top.

A session is a task that never gives up. After each (re)connection as primary it restores the switch: pipeline
(by cookie), failover bits, entries (read, compared, corrected make-before-break, read back), digest
subscription, flip transport. As backup it writes nothing and says so; when the primary leaves, the switch's
arbitration promotes it and the same restore runs.

finsy 0.30 waits 10 s before it reconnects ("If switch fails to run for longer than _FAIL_MIN_TIME_SECS, wait
_FAIL_THROTTLE_SECS", ``finsy/switch.py``); a lab switch is back within one, so the loop here uses the one-time
context manager with its own, shorter back-off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import structlog
from finsy import (
    GRPCCredentialsTLS,
    P4ClientError,
    Switch,
    SwitchEvent,
    SwitchOptions,
)
from finsy.proto import p4r

from control import entries as wire
from control import readback, refusals
from control.border import PlainSwitch, border
from control.errors import (
    ControlError,
    FlipTimeout,
    SwitchUnavailable,
    VerifyError,
    WriteRejected,
)
from control.flip import Begun, FlipResult, PacketOutTransport, RegisterTransport, Transport, Turn, choose
from control.heartbeats import Heartbeats
from control.plan import Entries, EntryKey, Op, Stage, Table, Update
from control.program import Program
from control.shortway import Call
from control.spm import changes

LOG = structlog.get_logger("shadowplane.session")
FEW = 8  # updates that are encoded in one turn of the event loop
FEW_AT_ONCE = 32  # ... where flips wait for them
_BACKOFF_S = (0.1, 0.1, 0.2, 0.25)


class State(StrEnum):
    """Where a session stands."""

    DOWN = "down"  # not connected
    BACKUP = "backup"  # another controller is primary
    RESTORING = "restoring"
    READY = "ready"


class Owner(Protocol):
    """What a session asks of, and tells, the service. Calls are short and do not block."""

    def desired(self, switch: str) -> Entries: ...

    def settle_bits(self, switch: str, found: Mapping[int, int], fresh: bool) -> dict[int, int]:
        """Given the bits found on a switch (``fresh``: it came up empty), return all bits as they shall be."""
        ...

    def on_ready(self, switch: str) -> None: ...

    def on_down(self, switch: str, reason: str) -> None: ...

    def on_digest(self, switch: str, digest: p4r.DigestList) -> None: ...

    async def restored(self, name: str, switch: Switch) -> None:
        """The entries of :meth:`desired` are in place: whatever else belongs on the switch may follow."""
        ...


class SwitchSession:
    """The session with one switch. ``installed`` mirrors what the switch holds while the session is ready."""

    def __init__(
        self,
        name: str,
        address: str,
        device_id: int,
        program: Program,
        owner: Owner,
        *,
        heartbeat_s: float = 0.01,
        credentials: GRPCCredentialsTLS | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.device_id = device_id
        self.state = State.DOWN
        self.installed: Entries = {}
        self.last_error = ""
        self.restores = 0
        self.corrected = 0  # entries that a restore had to write
        self.punted = 0
        self.connected = asyncio.Event()
        self._program = program
        self._credentials = credentials
        self._owner = owner
        self._heartbeat_s = heartbeat_s
        self._heartbeats: Heartbeats | None = None
        self._switch: Switch | None = None
        self._transport: Transport | None = None
        self._packets: PacketOutTransport | None = None
        self._given_up = asyncio.Event()
        self._writing = Turn()
        self._stream_lock = asyncio.Lock()  # gRPC allows one write on a stream at a time ("Internal error from Core")

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    @property
    def transport(self) -> str:
        """Name of the flip transport in use; empty while not ready."""
        return self._transport.name if self._transport is not None else ""

    @property
    def heartbeats(self) -> str:
        """Who orders heartbeats there; empty while that is not known."""
        return self._heartbeats.source if self._heartbeats is not None else ""

    async def run(self) -> None:
        """Connect, serve, reconnect; ends only by cancellation."""
        failures = 0
        while True:
            options = SwitchOptions(
                p4info=cast("Path", self._program.schema.p4info),  # parsed once; finsy takes it, but does not say so
                p4blob=cast("Path", self._program.blob),
                device_id=self.device_id,
                ready_handler=self._serve,
                channel_credentials=self._credentials,
            )
            with self._program.shared:
                client = PlainSwitch(self.name, self.address, options)
            try:
                async with client as switch:
                    down = asyncio.Event()
                    self._given_up = down
                    switch.ee.once(SwitchEvent.CHANNEL_DOWN, lambda _switch, down=down: down.set())
                    failures = 0
                    if switch.is_up:
                        await down.wait()
                    self.last_error = self.last_error or "the connection was closed"
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    self._lost("stopped")
                    raise
                self.last_error = self.last_error or "the switch closed the session during its start"
            except (P4ClientError, OSError, RuntimeError, ValueError, AssertionError) as error:
                self.last_error = refusals.plain(error)
            self._lost(self.last_error)
            self._check_cancelled()
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    @staticmethod
    def _check_cancelled() -> None:
        """finsy's clean-up can swallow a cancellation that arrives during it; it must not get lost."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    def begin_write(self, updates: Sequence[Update]) -> Call | None:
        """Send one small batch without waiting for anything, where the switch takes it that way; to be ended by
        :meth:`end_write` or :meth:`write`."""
        if not self.ready or not isinstance(self._transport, RegisterTransport) or len(updates) > FEW_AT_ONCE:
            return None
        if not self._writing.take():
            return None
        call: Call | None = None
        try:
            call = self._transport.begin_write(wire.encode_updates(self._program.schema, updates))
        finally:
            if call is None:
                self._writing.release()
        return call

    def end_write(self, updates: Sequence[Update], begun: Call) -> bool:
        """Mirror what :meth:`begin_write` sent if the switch has confirmed it already; else it is to be waited for."""
        if begun.ok:
            self._mirror(updates)
            self._writing.release()
        return begun.ok

    def abandon_write(self) -> None:
        """Nobody will wait for what :meth:`begin_write` began, so what the switch holds is not known any more."""
        self._writing.release()
        self.leave("a change was cut short")

    async def write(
        self, updates: Sequence[Update], *, timeout_s: float | None = None, begun: Call | None = None
    ) -> None:
        """Write one batch and mirror it; raises :class:`WriteRejected`, :class:`NotPrimary`,
        :class:`SwitchUnavailable`. ``begun``: what :meth:`begin_write` made of the batch.

        A switch that takes longer than ``timeout_s`` is left: whether it wrote anything is unknown, so the session
        starts anew and restores it.
        """
        if not updates:
            return
        mine = begun is not None
        try:
            async with asyncio.timeout(timeout_s):
                if begun is not None and await begun.wait():
                    self._mirror(updates)
                    return
                if begun is None:
                    await self._writing.wait()
                    mine = True
                else:  # refused, at least in part, or nobody knows: the usual way says what, of what is not there
                    self.installed = await self.read_entries()
                    updates = [update for update in updates if not self._holds(update)]
                await self._write(updates)
        except TimeoutError:
            self.leave(f"{self.name} did not answer a write within {timeout_s or 0:g} s")
            raise SwitchUnavailable(self.last_error) from None
        finally:
            if mine:
                self._writing.release()

    def leave(self, reason: str) -> None:
        """End the connection and start anew: the switch hangs, and what it holds is not known any more."""
        if self.state in (State.READY, State.RESTORING):
            LOG.warning("switch hangs", switch=self.name, reason=reason)
        self.last_error = reason
        self._lost(reason)
        self._given_up.set()

    async def apply(self, wanted: Entries, *, settle_s: float) -> int:
        """Bring the switch alone to ``wanted``, make-before-break; returns the number of updates."""
        count = 0
        for stage in changes({self.name: self.installed}, {self.name: wanted}, settle_s=settle_s):
            count += await self._apply_stage(stage)
        return count

    def begin_flip(self, bits: Mapping[int, int]) -> Begun | None:
        """Send failover bits without waiting for anything, where the switch takes them that way; to be ended by
        ``done`` or by :meth:`flip`."""
        return self._transport.begin(bits) if isinstance(self._transport, RegisterTransport) else None

    async def flip(self, bits: Mapping[int, int], begun: Begun | None = None) -> FlipResult:
        """Set failover bits at once; ``begun``: what :meth:`begin_flip` made of them."""
        try:
            if begun is not None:
                return await begun.rest()
            if self._transport is None:
                raise SwitchUnavailable(f"{self.name} has no flip transport: its session is {self.state}")
            return await self._transport.flip(bits)
        except FlipTimeout as error:
            self.leave(str(error))
            raise

    async def read_bits(self, group_ids: Sequence[int]) -> dict[int, int]:
        """The failover bits as the switch holds them."""
        if isinstance(self._transport, PacketOutTransport):
            return {group_id: await self._transport.read(group_id) for group_id in group_ids}
        return await readback.bits(self._live(), group_ids)

    async def read_entries(self, tables: Iterable[Table] = tuple(Table)) -> Entries:
        """Everything that the switch holds in these tables and that is the control plane's."""
        return await readback.entries(self._live(), self._program.schema, tables)

    async def verify(self, keys: Iterable[EntryKey] | None = None) -> None:
        """Read back and compare with the mirror; raises :class:`VerifyError` naming what differs."""
        wanted = self.installed if keys is None else {k: self.installed[k] for k in keys if k in self.installed}
        tables = {key[0] for key in wanted} if keys is not None else set(Table)
        found = await self.read_entries(sorted(tables))
        if keys is not None:
            found = {key: entry for key, entry in found.items() if key in wanted}
        wrong = wire.difference(self._program.schema, found, wanted)
        if wrong:
            raise VerifyError(f"{self.name}: {len(wrong)} entries differ from what was written: {'; '.join(wrong[:3])}")

    async def read_group_totals(self, group_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Bytes and packets sent per group, both sides together, cumulative."""
        return await readback.group_totals(self._live(), group_ids)

    async def _serve(self, switch: Switch) -> None:
        """finsy's ready handler: runs again after each promotion or demotion."""
        self._switch = switch
        if not switch.is_primary:
            self.state = State.BACKUP
            self._drop_transport()
            LOG.warning("another controller is primary; standing by", switch=self.name, primary=switch.primary_id)
            self._owner.on_down(self.name, "another controller is primary; this one stands by as backup")
            self.connected.set()
            return
        self.state = State.RESTORING
        try:
            await self._restore(switch)
        except (ControlError, P4ClientError) as error:
            self.last_error = refusals.plain(error)
            LOG.error("restore failed", switch=self.name, reason=self.last_error)
            raise
        self.state, self.last_error = State.READY, ""
        self.restores += 1
        self.connected.set()
        self._owner.on_ready(self.name)

    async def _restore(self, switch: Switch) -> None:
        packets = PacketOutTransport(partial(self._send, switch))
        self._packets = packets
        switch.create_task(self._read_packets(switch), name="packets")
        cast("PlainSwitch", switch).on_digest = partial(self._owner.on_digest, self.name)
        wanted = self._owner.desired(self.name)
        group_ids = tuple(sorted(int(match) for table, match in wanted if table is Table.PRIMARY))
        register = RegisterTransport(self.address, self.device_id, self._program.schema, credentials=self._credentials)
        register.prepare(switch.election_id, group_ids)
        self._transport = await choose(register, packets)
        self.installed = await self.read_entries()
        found = await self.read_bits(group_ids)
        bits = self._owner.settle_bits(self.name, found, not self.installed)
        wrong = {group_id: bits.get(group_id, 0) for group_id in group_ids if bits.get(group_id, 0) != found[group_id]}
        if wrong:
            await self._transport.flip(wrong)
        count = await self.apply(wanted, settle_s=0.0)
        self.corrected += count
        if count:
            await self.verify()
        entry = wire.digest_entry()
        try:
            await switch.write([+entry])
        except P4ClientError:
            await switch.write([wire.digest_entry().__invert__()])
        await self._owner.restored(self.name, switch)
        self._heartbeats = self._order_heartbeats(switch)
        LOG.info("switch restored", switch=self.name, written=count, bits=len(wrong), transport=self.transport)

    def _order_heartbeats(self, switch: Switch) -> Heartbeats:
        """Start the task that sees to heartbeats; it ends with finsy's other tasks of a primary."""

        async def send(orders: Sequence[p4r.StreamMessageRequest]) -> None:
            async with self._stream_lock:
                await switch.write(list(orders))

        heartbeats = Heartbeats(
            self.name,
            self._heartbeat_s,
            self._program.schema,
            ports=lambda: [int(match) for table, match in self.installed if table is Table.LIVENESS],
            counted=partial(readback.orders_counted, switch),
            send=send,
        )
        switch.create_task(self._guard(heartbeats.run()), name="heartbeats")
        return heartbeats

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """A switch that goes away ends its tasks; their errors are the session's."""
        try:
            await work
        except (SwitchUnavailable, P4ClientError) as error:
            LOG.debug("heartbeats end", switch=self.name, reason=refusals.plain(error))

    async def _apply_stage(self, stage: Stage) -> int:
        if stage.settle_s:
            await asyncio.sleep(stage.settle_s)
        updates = stage.updates.get(self.name, ())
        await self.write(updates)
        return len(updates)

    async def _write(self, updates: Sequence[Update]) -> None:
        if not updates:
            return
        switch = self._live()
        try:
            with border(self.name):
                encoded = []
                for at in range(0, len(updates), FEW):
                    if at:  # a tenth of a millisecond each, which flips on their way must not wait for; nor for a
                        await asyncio.sleep(0)  # thread that has the interpreter and no core
                    encoded += wire.encode_updates(self._program.schema, updates[at : at + FEW])
                await switch.write(encoded)
        except P4ClientError as error:
            failure = refusals.translated(self.name, error, lambda i: f"{updates[i].op.name} {updates[i].entry}")
            if isinstance(failure, WriteRejected):
                self.installed = await self.read_entries()  # part of the batch may have been applied
            raise failure from error
        self._mirror(updates)

    def _mirror(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.op is Op.DELETE:
                self.installed.pop(update.entry.key, None)
            else:
                self.installed[update.entry.key] = update.entry

    def _holds(self, update: Update) -> bool:
        """Whether the switch is as the update would make it."""
        found = self.installed.get(update.entry.key)
        if update.op is Op.DELETE:
            return found is None
        return found == wire.canonical(self._program.schema, update.entry)

    async def _read_packets(self, switch: Switch) -> None:
        async for packet in switch.read_packets(queue_size=1000):
            packets = self._packets
            if packets is None or not packets.packet_in(int(packet.metadata.get("reason", 0)), packet.payload):
                self.punted += 1

    async def _send(self, switch: Switch, message: Any) -> None:
        """Send a stream message: a packet-out."""
        async with self._stream_lock:
            try:
                with border(self.name):
                    await switch.write([message])
            except P4ClientError as error:
                raise SwitchUnavailable(f"{self.name}: {refusals.plain(error)}") from error

    def _live(self) -> Switch:
        if self._switch is None or not self._switch.is_up:
            raise SwitchUnavailable(f"{self.name} is not connected")
        return self._switch

    def _lost(self, reason: str) -> None:
        was = self.state
        self.state = State.DOWN
        self.connected.clear()
        self._switch = None
        self._drop_transport()
        if was is not State.DOWN:
            LOG.warning("switch lost", switch=self.name, reason=reason)
            self._owner.on_down(self.name, reason)

    def _drop_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None
        self._packets = None
        self._heartbeats = None
