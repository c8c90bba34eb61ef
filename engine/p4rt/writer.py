"""The Write RPC: dispatch by entity, per-update errors, and the three atomicity modes.

* ``CONTINUE_ON_ERROR``: updates in order, each on its own.
* ``ROLLBACK_ON_ERROR``: in order; at the first error everything before it is taken back.
* ``DATAPLANE_ATOMIC``: table entries only (and any single update); no packet sees half of the batch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from engine.api import DatapathError, Op
from engine.codec import Command, octets
from engine.commands import Commands
from engine.p4rt.digests import DigestBuffer
from engine.p4rt.errors import BatchError, P4Error, Rpc, invalid, unimplemented
from engine.p4rt.profiles import Profiles, Undo
from engine.p4rt.replication import Replication
from engine.p4rt.schema import Schema, unknown
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.tablewriter import TableWriter, _Inverse, read_meter, refusal
from engine.p4rt.wire import METER_UNSET, cell_value, check_index, meter_wire

_OPS = {p4r.Update.INSERT: Op.INSERT, p4r.Update.MODIFY: Op.MODIFY, p4r.Update.DELETE: Op.DELETE}
Handler = Callable[[Op, Any, "Undo | None"], None]


class Writer:
    """Applies Write requests to one loaded pipeline. Not thread-safe, except :meth:`register`."""

    def __init__(self, schema: Schema, commands: Commands, extras: Extras, digests: DigestBuffer) -> None:
        self._schema = schema
        self._commands = commands
        self._extras = extras
        self._digests = digests
        self.profiles = Profiles(schema, commands, extras)
        self.tables = TableWriter(schema, commands, extras, self.profiles)
        self.replication = Replication(commands, extras)
        self._handlers: dict[str, Handler] = {
            "table_entry": self.tables.apply,
            "action_profile_member": self.profiles.write_member,
            "action_profile_group": self.profiles.write_group,
            "register_entry": self._register,
            "counter_entry": self._counter,
            "direct_counter_entry": self._direct_counter,
            "meter_entry": self._meter,
            "direct_meter_entry": self._direct_meter,
            "packet_replication_engine_entry": self.replication.write,
            "value_set_entry": self._value_set,
            "digest_entry": self._digest,
            "extern_entry": self._extern,
        }

    def write(self, request: p4r.WriteRequest) -> None:
        """Apply all updates; :class:`BatchError` when some failed."""
        updates = request.updates
        mode = request.atomicity
        if mode == p4r.WriteRequest.CONTINUE_ON_ERROR:
            errors = self._continue(updates)
        elif mode in (p4r.WriteRequest.ROLLBACK_ON_ERROR, p4r.WriteRequest.DATAPLANE_ATOMIC):
            errors = self._atomic(updates, mode == p4r.WriteRequest.DATAPLANE_ATOMIC)
        else:
            raise invalid(f"unknown atomicity {mode}")
        if any(errors):
            raise BatchError(errors)

    def write_plain(self, update: p4r.Update) -> bool:
        """One table entry without extras; False when it needs more, or was refused (and changed nothing)."""
        op = _OPS.get(update.type)
        encoded = self.tables.encode(op, update.entity.table_entry) if op is not None else None
        return encoded is not None and not any(self.tables.send([encoded], atomic=False))

    # -- modes -----------------------------------------------------------------------------------------------------

    def _continue(self, updates: Any) -> list[P4Error | None]:
        errors: list[P4Error | None] = [None] * len(updates)
        gathered: list[bytes] = []
        positions: list[int] = []
        encode = self.tables.encode
        for position, update in enumerate(updates):
            entity = update.entity
            try:
                if entity.HasField("table_entry"):
                    op = _OPS.get(update.type)
                    encoded = encode(op, entity.table_entry) if op is not None else None
                    if encoded is not None:
                        gathered.append(encoded)
                        positions.append(position)
                        continue
                if gathered:
                    self._flush(updates, gathered, positions, errors)
                self._single(update, None)
            except P4Error as error:
                errors[position] = error
            except DatapathError as error:
                errors[position] = P4Error(int(error.code), str(error))
        if gathered:
            self._flush(updates, gathered, positions, errors)
        return errors

    def _flush(self, updates: Any, gathered: list[bytes], positions: list[int], errors: list[P4Error | None]) -> None:
        codes = self.tables.send(gathered, atomic=False)
        self._blame(updates, codes, positions, errors)
        gathered.clear()
        positions.clear()

    def _blame(self, updates: Any, codes: bytes, positions: list[int], errors: list[P4Error | None]) -> None:
        if not any(codes):
            return
        for code, position in zip(codes, positions, strict=True):
            if code:
                update = updates[position]
                table = self._schema.tables[update.entity.table_entry.table_id]
                errors[position] = refusal(table, _OPS[update.type], code)

    def _atomic(self, updates: Any, dataplane: bool) -> list[P4Error | None]:
        errors: list[P4Error | None] = [None] * len(updates)
        gathered: list[bytes] = []
        plain = True
        for position, update in enumerate(updates):
            try:
                if not update.entity.HasField("table_entry"):
                    plain = False
                    continue
                encoded = self.tables.encode(_op(update), update.entity.table_entry)
                if encoded is None:
                    plain = False
                else:
                    gathered.append(encoded)
            except P4Error as error:
                errors[position] = error
        if any(errors):
            return _aborted(errors)
        if plain and gathered:
            self._blame(updates, self.tables.send(gathered, atomic=True), list(range(len(updates))), errors)
            return _aborted(errors) if any(errors) else errors
        if dataplane and len(updates) > 1:
            raise unimplemented("DATAPLANE_ATOMIC covers plain table entries and batches of one update")
        undo: Undo = []
        for position, update in enumerate(updates):
            before = len(undo)
            try:
                self._single(update, undo)
            except (P4Error, DatapathError) as error:
                errors[position] = error if isinstance(error, P4Error) else P4Error(int(error.code), str(error))
                del undo[before:]
                for action in reversed(undo):
                    action()
                return _aborted(errors)
        for action in undo:
            if isinstance(action, _Inverse):
                action.keep()
        return errors

    def _single(self, update: p4r.Update, undo: Undo | None) -> None:
        kind = update.entity.WhichOneof("entity")
        if kind is None:
            raise invalid("the update has no entity")
        self._handlers[kind](_op(update), getattr(update.entity, kind), undo)

    # -- entities --------------------------------------------------------------------------------------------------

    def register(self, entry: p4r.RegisterEntry) -> None:
        """The flip's path: one MODIFY of one cell (all cells without an index). Thread-safe."""
        array = self._schema.registers.get(entry.register_id)
        if array is None:
            unknown("register", entry.register_id, self._schema.registers.values())
        cell = cell_value(array, entry.data).to_bytes(octets(array.width), "big")
        if entry.HasField("index"):
            index = check_index(array, "register", entry.index.index)
            self._commands.command(Command.REGISTER_WRITE, struct.pack("<II", array.index, index) + cell)
        else:
            self._commands.command(Command.REGISTER_FILL, struct.pack("<I", array.index) + cell)

    def _register(self, op: Op, entry: p4r.RegisterEntry, undo: Undo | None) -> None:
        _modify_only(op, "RegisterEntry")
        array = self._schema.registers.get(entry.register_id)
        if undo is not None and array is not None:
            index, count = (entry.index.index, 1) if entry.HasField("index") else (0, array.size)
            check_index(array, "register", index)
            cells = self._commands.register_read(array.index, index, count)
            number = array.index

            def restore() -> None:
                for offset, value in enumerate(cells):
                    self._commands.register_write(number, index + offset, value)

            undo.append(restore)
        self.register(entry)

    def _counter(self, op: Op, entry: p4r.CounterEntry, undo: Undo | None) -> None:
        _modify_only(op, "CounterEntry")
        array = self._schema.counters.get(entry.counter_id)
        if array is None:
            unknown("counter", entry.counter_id, self._schema.counters.values())
        data = entry.data
        if data.packet_count < 0 or data.byte_count < 0:
            raise invalid(f"counter {array.name}: a counter cannot be negative")
        start, count = 0, array.size
        if entry.HasField("index"):
            start, count = check_index(array, "counter", entry.index.index), 1
        if undo is not None:
            cells = self._commands.counter_read(array.index, start, count)
            number = array.index

            def restore() -> None:
                for offset, (packets, size) in enumerate(cells):
                    self._commands.counter_write(number, start + offset, packets, size)

            undo.append(restore)
        for index in range(start, start + count):
            self._commands.counter_write(array.index, index, data.packet_count, data.byte_count)

    def _direct_counter(self, op: Op, entry: p4r.DirectCounterEntry, undo: Undo | None) -> None:
        _modify_only(op, "DirectCounterEntry")
        table = self._schema.table(entry.table_entry.table_id)
        if table.counter is None:
            raise invalid(f"table {table.name} has no direct counter")
        if entry.table_entry.is_default_action:
            raise unimplemented(f"table {table.name}: the default entry's counter cannot be written")
        key = table.key(entry.table_entry.match)
        priority = table.priority(entry.table_entry.priority)
        if undo is not None:
            old = self.tables.find(table, key, priority)
            if old is not None:
                before = p4r.CounterData(packet_count=old.packets, byte_count=old.octets)
                undo.append(lambda: self.tables.write_counter(table, key, priority, before))
        self.tables.write_counter(table, key, priority, entry.data)

    def _meter(self, op: Op, entry: p4r.MeterEntry, undo: Undo | None) -> None:
        _modify_only(op, "MeterEntry")
        array = self._schema.meters.get(entry.meter_id)
        if array is None:
            unknown("meter", entry.meter_id, self._schema.meters.values())
        raw = METER_UNSET
        if entry.HasField("config"):
            raw = meter_wire(entry.config, f"meter {array.name}")
        start, count = 0, array.size
        if entry.HasField("index"):
            start, count = check_index(array, "meter", entry.index.index), 1
        if undo is not None:
            cells = self._commands.meter_read(array.index, start, count)
            number = array.index

            def restore() -> None:
                for offset, config in enumerate(cells):
                    self._commands.meter_write(number, start + offset, config)

            undo.append(restore)
        for index in range(start, start + count):
            self._commands.command(Command.METER_WRITE, struct.pack("<II", array.index, index) + raw)

    def _direct_meter(self, op: Op, entry: p4r.DirectMeterEntry, undo: Undo | None) -> None:
        _modify_only(op, "DirectMeterEntry")
        table = self._schema.table(entry.table_entry.table_id)
        if table.meter is None:
            raise invalid(f"table {table.name} has no direct meter")
        if entry.table_entry.is_default_action:
            raise unimplemented(f"table {table.name}: packets that miss are not metered")
        if entry.HasField("counter_data"):
            raise unimplemented(f"table {table.name}: meters that count by colour are not supported")
        key = table.key(entry.table_entry.match)
        priority = table.priority(entry.table_entry.priority)
        raw = METER_UNSET
        if entry.HasField("config"):
            raw = meter_wire(entry.config, f"table {table.name}: direct meter")
        before = read_meter(self._commands, table, key, priority)
        if undo is not None:
            undo.append(lambda: self.tables.write_meter(table, key, priority, before))
        self.tables.write_meter(table, key, priority, raw)

    def _value_set(self, op: Op, entry: p4r.ValueSetEntry, undo: Undo | None) -> None:
        _modify_only(op, "ValueSetEntry")
        schema = self._schema.value_sets.get(entry.value_set_id)
        if schema is None:
            unknown("value set", entry.value_set_id, [v.array for v in self._schema.value_sets.values()])
        array = schema.array
        if array.size and len(entry.members) > array.size:
            raise P4Error(
                Rpc.RESOURCE_EXHAUSTED,
                f"value set {array.name}: {len(entry.members)} members, its size is {array.size}",
            )
        values = []
        for member in entry.members:
            given = {match.field_id: match for match in member.match}
            value = 0
            for field in schema.fields:
                match = given.pop(field.id, None)
                if match is None or not match.HasField("exact"):
                    raise invalid(f"value set {array.name}: an exact value for {field.name} is expected")
                value = value << field.width | int.from_bytes(field.encode(match), "big")
            if given:
                raise invalid(f"value set {array.name} has no field with id {min(given)}")
            values.append(value)
        previous = self._extras.value_sets.get(array.id)
        if undo is not None:
            undo.append(lambda: self._value_set(op, previous or p4r.ValueSetEntry(value_set_id=array.id), None))
        self._commands.value_set_write(array.index, values)
        kept = p4r.ValueSetEntry()
        kept.CopyFrom(entry)
        self._extras.value_sets[array.id] = kept
        self._extras.dirty = True

    def _digest(self, op: Op, entry: p4r.DigestEntry, undo: Undo | None) -> None:
        schema = self._schema.digests.get(entry.digest_id)
        if schema is None:
            unknown("digest", entry.digest_id, self._schema.digests.values())
        before = next((e for e in self._digests.entries() if e.digest_id == schema.id), None)
        self._digests.configure(int(op), schema, entry)
        self._extras.digests = self._digests.entries()
        self._extras.dirty = True
        if undo is not None:
            inverse = {Op.INSERT: Op.DELETE, Op.DELETE: Op.INSERT, Op.MODIFY: Op.MODIFY}[op]
            undo.append(lambda: self._digest(inverse, before or entry, None))

    def _extern(self, op: Op, entry: p4r.ExternEntry, undo: Undo | None) -> None:
        raise unimplemented(f"extern type 0x{entry.extern_type_id:08x} is unknown: v1model has no such externs")


def _op(update: p4r.Update) -> Op:
    op = _OPS.get(update.type)
    if op is None:
        raise invalid("the update has no type (INSERT, MODIFY or DELETE)")
    return op


def _modify_only(op: Op, what: str) -> None:
    if op is not Op.MODIFY:
        raise invalid(f"{what}: only MODIFY is possible")


def _aborted(errors: list[P4Error | None]) -> list[P4Error | None]:
    note = P4Error(Rpc.ABORTED, "not applied, because another update of the batch failed")
    return [error or note for error in errors]
