"""Writes of table entries: encoded one by one, sent to the data plane in slices."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from engine.api import DatapathError, Op
from engine.codec import Command
from engine.commands import Commands
from engine.p4rt.errors import P4Error, Rpc, invalid, unimplemented
from engine.p4rt.profiles import Profiles
from engine.p4rt.schema import Schema
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.tables import RawEntry, TableSchema, const_entries
from engine.p4rt.wire import METER_UNSET, meter_values, meter_wire

SLICE = 64  # updates per command, so that packets and other writers get in between


def refusal(table: TableSchema, op: Op, code: int) -> P4Error:
    """The data plane's code for one update, as an error that says what happened."""
    texts = {
        Rpc.NOT_FOUND: "the entry (or the member or group that it refers to) does not exist",
        Rpc.ALREADY_EXISTS: "the entry exists already",
        Rpc.RESOURCE_EXHAUSTED: f"the table is full ({table.size} entries)",
        Rpc.ABORTED: "not applied, because another update of the batch failed",
        Rpc.INVALID_ARGUMENT: "refused by the data plane as malformed",
    }
    text = texts.get(Rpc(code), f"refused by the data plane ({Rpc(code).name})")
    return P4Error(code, f"table {table.name}: {op.name}: {text}")


def read_meter(commands: Commands, table: TableSchema, key: bytes, priority: int) -> bytes:
    """The configuration of an entry's direct meter, as :func:`meter_wire` makes it; NOT_FOUND without the entry."""
    request = struct.pack("<I", table.index) + key + struct.pack("<i", priority)
    try:
        return commands.command(Command.DIRECT_METER_READ, request)
    except DatapathError as error:
        raise P4Error(int(error.code), f"table {table.name}: direct meter: {error}") from None


class TableWriter:
    """Applies table updates of one Write request; :meth:`flush` sends what has been gathered."""

    def __init__(self, schema: Schema, commands: Commands, extras: Extras, profiles: Profiles) -> None:
        self._schema = schema
        self._commands = commands
        self._extras = extras
        self._profiles = profiles

    def encode(self, op: Op, entry: p4r.TableEntry) -> bytes | None:
        """The binary update, or None when the entry needs :meth:`apply` (extras, one-shot sets)."""
        table = self._schema.tables.get(entry.table_id)
        if table is None:
            table = self._schema.table(entry.table_id)  # raises NOT_FOUND
        if entry.HasField("counter_data") or entry.HasField("meter_config") or entry.metadata:
            return None
        if entry.controller_metadata or self._extras.metadata:
            return None
        if entry.HasField("time_since_last_hit") or entry.HasField("meter_counter_data") or entry.is_const:
            return None
        if entry.is_default_action:
            return table.default_update(op, entry)
        if table.profile is not None or table.const or _keeps_action(op, entry):
            return None
        return table.update(op, entry)

    def send(self, updates: Sequence[bytes], *, atomic: bool) -> bytes:
        """One code byte per update."""
        codec = self._commands.codec
        if atomic:
            return self._commands.command(Command.TABLE_WRITE, codec.table_write(updates, atomic=True))
        return b"".join(
            self._commands.command(Command.TABLE_WRITE, codec.table_write(updates[at : at + SLICE], atomic=False))
            for at in range(0, len(updates), SLICE)
        )

    def find(self, table: TableSchema, key: bytes, priority: int) -> RawEntry | None:
        """The entry with that key, None when there is none."""
        request = struct.pack("<IIIB", table.index, 0, 1, 1) + key + struct.pack("<i", priority)
        try:
            reply = self._commands.command(Command.TABLE_READ, request)
        except DatapathError as error:
            if int(error.code) == Rpc.NOT_FOUND:
                return None
            raise
        (count,) = struct.unpack_from("<I", reply, 4)
        return next(table.raw_entries(reply, 8, min(count, 1)), None)

    def apply(self, op: Op, entry: p4r.TableEntry) -> None:
        """Apply one update with everything that belongs to it."""
        table = self._schema.table(entry.table_id)
        self._check_extras(table, op, entry)
        if entry.is_default_action:
            self._one(table, op, table.default_update(op, entry))
            self._keep_metadata((table.index, b"", 0), entry)
            return
        if table.const:
            self._const(table, op, entry)
            return
        group = None
        if _keeps_action(op, entry):
            self._keep_action(table, entry)
            return
        if op is not Op.DELETE and entry.action.HasField("action_profile_action_set"):
            plain = p4r.TableEntry()
            plain.CopyFrom(entry)
            table.key(plain.match)  # complain about the key before anything is created
            table.priority(plain.priority)
            group = self._profiles.one_shot(table, entry.action.action_profile_action_set)
            plain.action.action_profile_group_id = 1  # passes the checks; replaced below
            update = table.update(op, plain)[:-4] + struct.pack("<I", group)
        else:
            update = table.update(op, entry)
        key = table.key(entry.match)
        needs_old = table.profile is not None and op is not Op.INSERT
        old = self.find(table, key, entry.priority) if needs_old else None
        try:
            self._one(table, op, update)
        except P4Error:
            if group is not None:
                self._profiles.release(table, update[-5:])
            raise
        if old is not None:
            self._profiles.release(table, old.action)
        self._write_extras(table, op, key, entry)

    def _keep_action(self, table: TableSchema, entry: p4r.TableEntry) -> None:
        """A MODIFY of everything but the action."""
        key, priority = table.key(entry.match), table.priority(entry.priority)
        idle = table.idle_timeout(entry.idle_timeout_ns)
        old = self.find(table, key, priority)
        if old is None:
            raise refusal(table, Op.MODIFY, Rpc.NOT_FOUND)
        self._one(table, Op.MODIFY, table.keyed(Op.MODIFY, key, priority, idle, old.action))
        self._write_extras(table, Op.MODIFY, key, entry)

    def _const(self, table: TableSchema, op: Op, entry: p4r.TableEntry) -> None:
        """Of an entry that the program fixes only the direct resources can be modified, without naming its action."""
        if op is not Op.MODIFY or entry.action.WhichOneof("type") is not None:
            raise const_entries(table)
        key, priority = table.key(entry.match), table.priority(entry.priority)
        if self.find(table, key, priority) is None:
            raise refusal(table, op, Rpc.NOT_FOUND)
        if entry.HasField("counter_data"):
            self.write_counter(table, key, priority, entry.counter_data)
        if table.meter is not None:
            config = METER_UNSET
            if entry.HasField("meter_config"):
                config = meter_wire(entry.meter_config, f"table {table.name}")
            self.write_meter(table, key, priority, config)

    def _one(self, table: TableSchema, op: Op, update: bytes) -> None:
        code = self.send([update], atomic=False)[0]
        if code:
            raise refusal(table, op, code)

    def _check_extras(self, table: TableSchema, op: Op, entry: p4r.TableEntry) -> None:
        if entry.is_const:
            raise invalid(f"table {table.name}: is_const cannot be written")
        if op is Op.DELETE:
            return
        if entry.HasField("meter_counter_data"):
            raise unimplemented(f"table {table.name}: meters do not count by colour")
        if entry.HasField("time_since_last_hit"):
            raise invalid(f"table {table.name}: time_since_last_hit cannot be written")
        if entry.is_default_action and (entry.HasField("counter_data") or entry.HasField("meter_config")):
            raise unimplemented(f"table {table.name}: v1model counts and meters no misses")
        if entry.HasField("counter_data") and table.counter is None:
            raise invalid(f"table {table.name} has no direct counter: counter_data cannot be written")
        if entry.HasField("meter_config"):
            if table.meter is None:
                raise invalid(f"table {table.name} has no direct meter: meter_config cannot be written")
            meter_values(entry.meter_config, f"table {table.name}: direct meter")

    def _write_extras(self, table: TableSchema, op: Op, key: bytes, entry: p4r.TableEntry) -> None:
        where = (table.index, key, entry.priority)
        if op is Op.DELETE:
            self._extras.dirty |= self._extras.metadata.pop(where, None) is not None
        else:
            self._keep_metadata(where, entry)
        if op is not Op.DELETE and entry.HasField("counter_data"):
            self.write_counter(table, key, entry.priority, entry.counter_data)
        if op is not Op.DELETE and entry.HasField("meter_config"):
            self.write_meter(table, key, entry.priority, meter_wire(entry.meter_config, f"table {table.name}"))

    def _keep_metadata(self, where: tuple[int, bytes, int], entry: p4r.TableEntry) -> None:
        if entry.metadata or entry.controller_metadata:
            self._extras.metadata[where] = (entry.metadata, entry.controller_metadata)
            self._extras.dirty = True
        elif self._extras.metadata.pop(where, None) is not None:
            self._extras.dirty = True

    def write_meter(self, table: TableSchema, key: bytes, priority: int, config: bytes) -> None:
        """Configure an entry's direct meter; ``config`` as :func:`meter_wire` makes it."""
        request = struct.pack("<I", table.index) + key + struct.pack("<i", priority)
        try:
            self._commands.command(Command.DIRECT_METER_WRITE, request + config)
        except DatapathError as error:
            raise P4Error(int(error.code), f"table {table.name}: direct meter: {error}") from None

    def write_counter(self, table: TableSchema, key: bytes, priority: int, data: p4r.CounterData) -> None:
        """Set an entry's direct counter."""
        if data.packet_count < 0 or data.byte_count < 0:
            raise invalid(f"table {table.name}: a counter cannot be negative")
        tail = struct.pack("<iQQ", priority, data.packet_count, data.byte_count)
        try:
            self._commands.command(Command.DIRECT_WRITE, struct.pack("<I", table.index) + key + tail)
        except DatapathError as error:
            raise P4Error(int(error.code), f"table {table.name}: direct counter: {error}") from None


def _keeps_action(op: Op, entry: p4r.TableEntry) -> bool:
    """Whether an update leaves the action as it is: a MODIFY of an entry (not the default one) that names none."""
    return op is Op.MODIFY and not entry.is_default_action and entry.action.WhichOneof("type") is None
