"""The Write RPC: dispatch by entity, per-update errors, and the three atomicity modes.

* ``CONTINUE_ON_ERROR``: updates in order, each on its own.
* ``ROLLBACK_ON_ERROR`` and ``DATAPLANE_ATOMIC``: all or nothing, and no packet sees half of the batch. The data plane
  applies such a batch between two packets (:mod:`engine.p4rt.staging`), so there is nothing that the weaker of the two
  could do more cheaply.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from engine.api import DatapathError, Op
from engine.codec import Command, octets
from engine.commands import Commands
from engine.p4rt import valuesets
from engine.p4rt.decoder import Decoded
from engine.p4rt.digests import DigestBuffer
from engine.p4rt.errors import BatchError, P4Error, Rpc, invalid, not_found, unimplemented
from engine.p4rt.profiles import Profiles
from engine.p4rt.replication import Replication
from engine.p4rt.schema import ArraySchema, Schema, unknown
from engine.p4rt.staging import Staged
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.tables import TableSchema
from engine.p4rt.tablewriter import TableWriter, refusal
from engine.p4rt.wire import METER_UNSET, cell_value, check_index, meter_wire

_OPS = {p4r.Update.INSERT: Op.INSERT, p4r.Update.MODIFY: Op.MODIFY, p4r.Update.DELETE: Op.DELETE}
Handler = Callable[[Op, Any], None]
_FILL_OVERTAKES = 64 << 10  # bytes of an array up to which the data plane fills it in the middle of other commands


class Writer:
    """Applies Write requests to one loaded pipeline. Not thread-safe, except :meth:`register`."""

    def __init__(self, schema: Schema, commands: Commands, extras: Extras, digests: DigestBuffer) -> None:
        self._schema = schema
        self._direct = commands
        self._commands = Staged(commands)
        self._extras = extras
        self._digests = digests
        self.profiles = Profiles(schema, self._commands, extras)
        self.tables = TableWriter(schema, self._commands, extras, self.profiles)
        self.replication = Replication(self._commands, extras)
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
            "value_set_entry": self.value_set,
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
            errors = self._atomic(updates)
        else:
            raise invalid(f"unknown atomicity {mode}")
        if any(errors):
            raise BatchError(errors)

    def write_decoded(self, decoded: Decoded, data: bytes) -> None:
        """A request that native code has decoded; ``data`` is the request itself, for what is said about errors."""
        atomic = decoded.atomicity != p4r.WriteRequest.CONTINUE_ON_ERROR
        slices = [(count, [body]) for count, body in decoded.slices]
        if atomic:
            slices = [(sum(count for count, _body in slices), [body for _count, body in decoded.slices])]
        codes = b"".join(  # a join of megabytes lets others have the interpreter, a sum does not
            self._direct.command(Command.TABLE_WRITE, b"".join((struct.pack("<BI", atomic, count), *bodies)))
            for count, bodies in slices
        )
        if any(codes):
            updates = p4r.WriteRequest.FromString(data).updates
            errors: list[P4Error | None] = [None] * len(updates)
            self._blame(updates, codes, list(range(len(updates))), errors)
            raise BatchError(_aborted(errors) if atomic else errors)

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
                self._single(update)
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

    def _atomic(self, updates: Any) -> list[P4Error | None]:
        errors: list[P4Error | None] = [None] * len(updates)
        gathered: list[bytes] = []
        for position, update in enumerate(updates):
            if not update.entity.HasField("table_entry"):
                return self._staged(updates)
            try:
                encoded = self.tables.encode(_op(update), update.entity.table_entry)
            except P4Error as error:
                errors[position] = error
                continue
            if encoded is None:
                return self._staged(updates)
            gathered.append(encoded)
        if gathered and not any(errors):  # plain entries: one command, undone by the tables' own log
            self._blame(updates, self.tables.send(gathered, atomic=True), list(range(len(updates))), errors)
        return _aborted(errors) if any(errors) else errors

    def _staged(self, updates: Any) -> list[P4Error | None]:
        """Any updates as one batch of the data plane; what the server itself keeps goes back with it."""
        errors: list[P4Error | None] = [None] * len(updates)
        staged = self._commands
        extras, digests = self._extras.snapshot(), self._digests.entries()
        staged.begin()
        try:
            for position, update in enumerate(updates):
                staged.owner = position
                try:
                    self._single(update)
                except P4Error as error:
                    errors[position] = error
                except DatapathError as error:
                    errors[position] = P4Error(int(error.code), str(error))
            if not any(errors):
                failure = staged.commit()
                if failure is None:
                    return errors
                errors[failure[0]] = self._worded(updates[failure[0]], failure[1])
        except BaseException:
            self._restore(extras, digests)
            raise
        finally:
            staged.cancel()
        self._restore(extras, digests)
        return _aborted(errors)

    def _restore(self, extras: Extras, digests: list[p4r.DigestEntry]) -> None:
        self._extras.restore(extras)
        self._digests.restore(digests, self._schema.digests)

    def _worded(self, update: p4r.Update, error: P4Error) -> P4Error:
        """The data plane's error in the words of a single write."""
        if not update.entity.HasField("table_entry"):
            return error
        return refusal(self._schema.table(update.entity.table_entry.table_id), _OPS[update.type], error.code)

    def _single(self, update: p4r.Update) -> None:
        kind = update.entity.WhichOneof("entity")
        if kind is None:
            raise invalid("the update has no entity")
        self._handlers[kind](_op(update), getattr(update.entity, kind))

    # -- entities --------------------------------------------------------------------------------------------------

    def register(self, entry: p4r.RegisterEntry, commands: Commands | None = None) -> None:
        """The flip's path: one MODIFY of one cell (all cells without an index). Thread-safe."""
        array = self._schema.registers.get(entry.register_id)
        if array is None:
            unknown("register", entry.register_id, self._schema.registers.values())
        send = commands.command if commands is not None else self._direct.urgent
        size = octets(array.width)
        cell = cell_value(array, entry.data).to_bytes(size, "big")
        if entry.HasField("index"):
            index = check_index(array, "register", entry.index.index)
            send(Command.REGISTER_WRITE, struct.pack("<II", array.index, index) + cell)
            return
        if commands is None and array.size * max(size, 8) > _FILL_OVERTAKES:
            # It would have to wait, and others behind it.
            send = self._direct.command
        send(Command.REGISTER_FILL, struct.pack("<I", array.index) + cell)

    def _register(self, op: Op, entry: p4r.RegisterEntry) -> None:
        _modify_only(op, "RegisterEntry")
        self.register(entry, self._commands)

    @staticmethod
    def _cells(array: ArraySchema, entry: Any, what: str) -> range:
        """The cells that an entry names: one, or without an index all."""
        if not entry.HasField("index"):
            return range(array.size)
        index = check_index(array, what, entry.index.index)
        return range(index, index + 1)

    def _counter(self, op: Op, entry: p4r.CounterEntry) -> None:
        _modify_only(op, "CounterEntry")
        array = self._schema.counters.get(entry.counter_id)
        if array is None:
            unknown("counter", entry.counter_id, self._schema.counters.values())
        data, cells = entry.data, self._cells(array, entry, "counter")
        if data.packet_count < 0 or data.byte_count < 0:
            raise invalid(f"counter {array.name}: a counter cannot be negative")
        if entry.HasField("data"):  # without: nothing is modified
            for index in cells:
                self._commands.counter_write(array.index, index, data.packet_count, data.byte_count)

    def _direct_counter(self, op: Op, entry: p4r.DirectCounterEntry) -> None:
        _modify_only(op, "DirectCounterEntry")
        table, key, priority = self._of_entry(entry.table_entry, lambda table: table.counter is not None, "counter")
        if entry.HasField("data"):
            self.tables.write_counter(table, key, priority, entry.data)
        elif self.tables.find(table, key, priority) is None:
            raise not_found(f"table {table.name}: direct counter: no such entry")

    def _of_entry(
        self, entry: p4r.TableEntry, has: Callable[[TableSchema], bool], what: str
    ) -> tuple[TableSchema, bytes, int]:
        """(table, key, priority) of the entry whose direct counter or meter (``what``) is to be written."""
        table = self._schema.table(entry.table_id)
        if not has(table):
            raise invalid(f"table {table.name} has no direct {what}")
        if entry.is_default_action:
            raise unimplemented(f"table {table.name}: in v1model a miss has no {what}")
        return table, table.key(entry.match), table.priority(entry.priority)

    def _meter(self, op: Op, entry: p4r.MeterEntry) -> None:
        _modify_only(op, "MeterEntry")
        array = self._schema.meters.get(entry.meter_id)
        if array is None:
            unknown("meter", entry.meter_id, self._schema.meters.values())
        if entry.HasField("counter_data"):
            raise unimplemented(f"meter {array.name}: meters do not count by colour")
        raw = METER_UNSET
        if entry.HasField("config"):
            raw = meter_wire(entry.config, f"meter {array.name}")
        for index in self._cells(array, entry, "meter"):
            self._commands.command(Command.METER_WRITE, struct.pack("<II", array.index, index) + raw)

    def _direct_meter(self, op: Op, entry: p4r.DirectMeterEntry) -> None:
        _modify_only(op, "DirectMeterEntry")
        table, key, priority = self._of_entry(entry.table_entry, lambda table: table.meter is not None, "meter")
        if entry.HasField("counter_data"):
            raise unimplemented(f"table {table.name}: meters do not count by colour")
        raw = METER_UNSET
        if entry.HasField("config"):
            raw = meter_wire(entry.config, f"table {table.name}: direct meter")
        self.tables.write_meter(table, key, priority, raw)

    def value_set(self, op: Op, entry: p4r.ValueSetEntry) -> None:
        """Replace the members of a parser value set."""
        _modify_only(op, "ValueSetEntry")
        schema = self._schema.value_sets.get(entry.value_set_id)
        if schema is None:
            unknown("value set", entry.value_set_id, [v.array for v in self._schema.value_sets.values()])
        self._commands.value_set_write(schema.array.index, valuesets.pairs(schema, entry))
        kept = p4r.ValueSetEntry()
        kept.CopyFrom(entry)
        self._extras.value_sets[schema.array.id] = kept
        self._extras.dirty = True

    def _digest(self, op: Op, entry: p4r.DigestEntry) -> None:
        schema = self._schema.digests.get(entry.digest_id)
        if schema is None:
            unknown("digest", entry.digest_id, self._schema.digests.values())
        self._digests.configure(int(op), schema, entry)
        self._extras.digests = self._digests.entries()
        self._extras.dirty = True

    def _extern(self, op: Op, entry: p4r.ExternEntry) -> None:
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
