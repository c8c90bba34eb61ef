"""State that outlives a change of program: reconciliation, and what was written to a saved config until its commit."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from engine.api import EngineError, Op
from engine.codec import Command
from engine.commands import Commands
from engine.p4rt.backend import Backend, device_json, translated
from engine.p4rt.errors import P4Error, Rpc
from engine.p4rt.pipeline import Pipeline, activate
from engine.p4rt.schema import Schema, build
from engine.p4rt.stubs import p4r
from engine.p4rt.tables import TableSchema
from engine.p4rt.tablewriter import read_meter
from engine.p4rt.wire import METER_UNSET


def same(old: p4r.ForwardingPipelineConfig, new: p4r.ForwardingPipelineConfig) -> bool:
    """Whether both mean the same pipeline (the cookie may differ)."""
    return old.p4_device_config == new.p4_device_config and old.p4info == new.p4info


def reconcile(old: Pipeline | None, config: p4r.ForwardingPipelineConfig, backend: Backend) -> Pipeline:
    """Load ``config`` and carry over the state of every object that it has unchanged.

    An object is unchanged when its P4Info message is, and for tables those of their actions and action profile too.
    Carried over: members, groups, entries (with counters and meters), arrays, replication, digests.
    """
    if old is None:
        return activate(config, backend)
    if same(old.config, config):
        old.config = config
        return old
    saved = Snapshot(old, backend.commands)
    return _replaced(old, config, backend, saved, old.schema.translations.pack(), saved)


def commit(old: Pipeline | None, stage: Stage, backend: Backend) -> Pipeline:
    """Load a saved config with the state that was written to it since."""
    before = Snapshot(old, backend.commands) if old is not None else None
    names = stage.pipeline.schema.translations.pack()
    return _replaced(old, stage.pipeline.config, backend, stage.snapshot(), names, before)


def _replaced(
    old: Pipeline | None,
    config: p4r.ForwardingPipelineConfig,
    backend: Backend,
    state: Snapshot,
    names: bytes,
    before: Snapshot | None,
) -> Pipeline:
    """Load ``config`` and restore ``state``; when that fails, all is as ``before`` again."""
    former = old.schema.translations.pack() if old is not None else b""
    new = activate(config, backend, names)
    try:
        state.restore(new, backend.commands)
    except (P4Error, EngineError):
        if old is not None and before is not None:
            again = activate(old.config, backend, former)
            before.restore(again, backend.commands)
            old.schema, old.extras, old.digests = again.schema, again.extras, again.digests
            old.writer, old.reader = again.writer, again.reader
            old.decoder, old.single = again.decoder, again.single
        raise
    return new


class Stage:
    """A saved config that is not committed: its program in this process's memory, which reads and writes refer to.

    It forwards nothing, and ends with the server: what was written to it is lost then, the config is not.
    """

    def __init__(self, config: p4r.ForwardingPipelineConfig, backend: Backend) -> None:
        try:
            self._memory = backend.in_memory(device_json(config.p4_device_config))
        except EngineError as error:
            raise translated(error) from None
        assert self._memory.program is not None
        self.pipeline = Pipeline.create(config, build(config.p4info, self._memory.program), self._memory)

    def close(self) -> None:
        self._memory.close()

    def snapshot(self) -> Snapshot:
        return Snapshot(self.pipeline, self._memory)


class Snapshot:
    """State of a pipeline in terms of P4Info ids and binary parts."""

    def __init__(self, pipeline: Pipeline, commands: Commands) -> None:
        self._old = pipeline.schema
        self._extras = pipeline.extras
        self._members = {p.id: commands.member_read(p.index) for p in self._old.profiles.values()}
        self._groups = {p.id: commands.group_read(p.index) for p in self._old.profiles.values() if p.with_selector}
        self._entries = {
            table.id: list(_dump(table, commands)) for table in self._old.tables.values() if not table.const
        }
        self._defaults = {
            table.id: commands.command(Command.DEFAULT_READ, struct.pack("<I", table.index))
            for table in self._old.tables.values()
            if not table.const_default
        }
        self._registers = {r.id: commands.register_read(r.index, 0, r.size) for r in self._old.registers.values()}
        self._counters = {c.id: commands.counter_read(c.index, 0, c.size) for c in self._old.counters.values()}
        self._direct_meters = {
            table.meter: _direct_meters(table, self._entries[table.id], commands)
            for table in self._old.tables.values()
            if table.meter is not None and not table.const
        }
        self._meters = {m.id: commands.meter_read(m.index, 0, m.size) for m in self._old.meters.values()}

    def restore(self, pipeline: Pipeline, commands: Commands) -> None:
        """Put it into a pipeline that was just activated; :class:`P4Error` or :class:`EngineError` half way."""
        new = pipeline.schema
        unchanged = _unchanged(self._old, new)
        for profile in self._old.profiles.values():
            if profile.id in unchanged:
                index = new.profiles[profile.id].index
                for member, call in self._members[profile.id].items():
                    action = profile.by_index[call.action]
                    bound = new.profiles[profile.id].actions[action.id]
                    commands.member_write(Op.INSERT, index, member, type(call)(bound.index, call.params))
                for group, members in self._groups.get(profile.id, {}).items():
                    commands.group_write(Op.INSERT, index, group, members)
        for table in self._old.tables.values():
            if table.id in unchanged and not table.const:
                self._restore_table(table, pipeline, commands)
        for register in self._old.registers.values():
            if register.id in unchanged:
                for index, value in enumerate(self._registers[register.id]):
                    if value:
                        commands.register_write(new.registers[register.id].index, index, value)
        for counter in self._old.counters.values():
            if counter.id in unchanged:
                for index, (packets, size) in enumerate(self._counters[counter.id]):
                    if packets or size:
                        commands.counter_write(new.counters[counter.id].index, index, packets, size)
        for meter in self._old.meters.values():
            if meter.id in unchanged:
                for index, config in enumerate(self._meters[meter.id]):
                    if config is not None:
                        commands.meter_write(new.meters[meter.id].index, index, config)
        self._restore_extras(pipeline, unchanged)

    def _restore_table(self, old: TableSchema, pipeline: Pipeline, commands: Commands) -> None:
        table = pipeline.schema.tables[old.id]
        default = self._defaults.get(old.id)
        writer = pipeline.writer.tables
        updates = [table.default(_rebound(old, table, default))] if default and default[0] else []
        if table.initial:  # what the program starts with is not what was there
            for reply, count in list(_dump(table, commands)):
                for raw in table.raw_entries(reply, 8, count):
                    updates.append(table.keyed(Op.DELETE, raw.key, raw.priority, 0, b"\0"))
        counters = []
        for reply, count in self._entries[old.id]:
            for raw in old.raw_entries(reply, 8, count):
                action = _rebound(old, table, raw.action)
                updates.append(table.keyed(Op.INSERT, raw.key, raw.priority, raw.idle_ns, action))
                if raw.packets and table.counter is not None:
                    counters.append((raw.key, raw.priority, raw.packets, raw.octets))
        codes = writer.send(updates, atomic=False)
        bad = [code for code in codes if code and code != Rpc.ALREADY_EXISTS]  # initial entries are there already
        if bad:
            raise P4Error(bad[0], f"table {table.name}: {len(bad)} entries could not be carried over")
        for key, priority, packets, size in counters:
            data = p4r.CounterData(packet_count=packets, byte_count=size)
            writer.write_counter(table, key, priority, data)
        if table.meter is not None:
            for key, priority, config in self._direct_meters.get(table.meter, ()):
                writer.write_meter(table, key, priority, config)
        for (index, key, priority), value in self._extras.metadata.items():
            if index == old.index:
                pipeline.extras.metadata[table.index, key, priority] = value

    def _restore_extras(self, pipeline: Pipeline, unchanged: set[int]) -> None:
        extras, old, writer = pipeline.extras, self._extras, pipeline.writer
        for group in old.multicast.values():
            entry = p4r.PacketReplicationEngineEntry(multicast_group_entry=group)
            writer.replication.write(Op.INSERT, entry)
        for session in old.clones.values():
            entry = p4r.PacketReplicationEngineEntry(clone_session_entry=session)
            writer.replication.write(Op.INSERT, entry)
        for (profile, number), limit in old.group_limits.items():
            if profile in unchanged:
                extras.group_limits[profile, number] = limit
        for digest in old.digests:
            if digest.digest_id in unchanged:
                pipeline.digests.configure(p4r.Update.INSERT, pipeline.schema.digests[digest.digest_id], digest)
        extras.digests = pipeline.digests.entries()
        for id_, value_set in old.value_sets.items():
            if id_ in unchanged:
                writer.value_set(Op.MODIFY, value_set)
        extras.dirty = True


def _dump(table: TableSchema, commands: Commands) -> Iterator[tuple[bytes, int]]:
    cursor = 0
    while True:
        reply = commands.command(Command.TABLE_READ, struct.pack("<IIIB", table.index, cursor, 1024, 0))
        cursor, count = struct.unpack_from("<II", reply)
        yield reply, count
        if not cursor:
            return


def _direct_meters(
    table: TableSchema, entries: list[tuple[bytes, int]], commands: Commands
) -> list[tuple[bytes, int, bytes]]:
    """(key, priority, configuration) of every entry with a configured meter."""
    found = []
    for reply, count in entries:
        for raw in table.raw_entries(reply, 8, count):
            config = read_meter(commands, table, raw.key, raw.priority)
            if config != METER_UNSET:
                found.append((raw.key, raw.priority, config))
    return found


def _rebound(old: TableSchema, new: TableSchema, action: bytes) -> bytes:
    """A binary action of ``old`` with the action's index in the new program."""
    kind, number = struct.unpack_from("<BI", action)
    if kind != 1:
        return action
    id_ = next(a.id for a in old.actions.values() if a.index == number)
    return struct.pack("<BI", 1, new.actions[id_].index) + action[5:]


def _unchanged(old: Schema, new: Schema) -> set[int]:
    """P4Info ids of objects whose meaning is the same in both."""

    def messages(schema: Schema) -> dict[int, bytes]:
        found = {}
        info = schema.p4info
        for kind in (
            info.tables,
            info.actions,
            info.action_profiles,
            info.counters,
            info.meters,
            info.registers,
            info.digests,
            info.value_sets,
            info.direct_counters,
            info.direct_meters,
        ):
            for item in kind:
                found[item.preamble.id] = item.SerializeToString(deterministic=True)
        return found

    before, after = messages(old), messages(new)
    equal = {id_ for id_, data in before.items() if after.get(id_) == data}
    for info in old.p4info.digests:
        name = info.type_spec.struct.name
        if name and old.p4info.type_info.structs[name] != new.p4info.type_info.structs[name]:
            equal.discard(info.preamble.id)
    for table in old.p4info.tables:
        parts = {ref.id for ref in table.action_refs} | ({table.implementation_id} - {0})
        parts |= set(table.direct_resource_ids)
        if not parts <= equal:
            equal.discard(table.preamble.id)
    for profile in old.p4info.action_profiles:
        if not set(profile.table_ids) <= equal:
            equal.discard(profile.preamble.id)
            equal -= set(profile.table_ids)
    return equal
