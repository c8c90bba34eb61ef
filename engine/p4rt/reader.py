"""The Read RPC: entities in protobuf's wire format, in messages of limited size.

P4Runtime wants a read to show a state that no Write has half changed. So what tables, profiles and the like hold is
taken from the data plane at once, while no Write runs, in its own compact bytes and in slices between which packets
pass; it becomes messages when the client takes them. Cells of registers, counters and meters change with every packet
anyway: they are read as the client takes them.
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from engine.api import DatapathError
from engine.codec import Command, octets
from engine.commands import Commands
from engine.p4rt.budget import Hold
from engine.p4rt.digests import DigestBuffer
from engine.p4rt.errors import Rpc, invalid, unimplemented
from engine.p4rt.profiles import OneShots, Profiles, is_hidden
from engine.p4rt.replication import Replication
from engine.p4rt.schema import ArraySchema, Schema, unknown
from engine.p4rt.state import Extras
from engine.p4rt.stubs import p4r
from engine.p4rt.tables import Metadata, RawEntry, TableSchema, Want, counter_wire
from engine.p4rt.tablewriter import read_meter
from engine.p4rt.values import delimited, varint
from engine.p4rt.wire import READ_ENTITIES, cell_data, check_index, meter_config

SLICE = 1024  # entries or cells per command
MESSAGE = 256 << 10  # bytes per ReadResponse, well below gRPC's default limit of 4 MiB
_TABLE_ENTRY = p4r.Entity.TABLE_ENTRY_FIELD_NUMBER
_DIRECT_COUNTER = p4r.Entity.DIRECT_COUNTER_ENTRY_FIELD_NUMBER
_REGISTER = p4r.Entity.REGISTER_ENTRY_FIELD_NUMBER
_COUNTER = p4r.Entity.COUNTER_ENTRY_FIELD_NUMBER
_METER = p4r.Entity.METER_ENTRY_FIELD_NUMBER
_DIRECT_METER = p4r.Entity.DIRECT_METER_ENTRY_FIELD_NUMBER
_METER_CONFIG = p4r.TableEntry.METER_CONFIG_FIELD_NUMBER
_DATA = p4r.DirectCounterEntry.DATA_FIELD_NUMBER

_OBJECT = 128  # bytes of memory beside a kept body's own: Python's objects

_CELLS = frozenset({"register_entry", "counter_entry", "meter_entry"})

Bodies = Iterator[bytes]  # serialized Entity messages
Slices = deque[tuple[bytes, int]]  # TABLE_READ replies, with the number of entries in each
Selection = tuple[TableSchema, bytes | None, int]  # table, key (None: all entries), priority


class Reader:
    """Reads of one loaded pipeline."""

    def __init__(
        self, schema: Schema, commands: Commands, extras: Extras, digests: DigestBuffer, profiles: Profiles
    ) -> None:
        self._schema = schema
        self._commands = commands
        self._extras = extras
        self._digests = digests
        self._profiles = profiles
        self._replication = Replication(commands, extras)
        self._readers: dict[str, Callable[[Any, Hold], Bodies]] = {
            "table_entry": self._table_entry,
            "direct_counter_entry": self._direct_counter,
            "action_profile_member": self._member,
            "action_profile_group": self._group,
            "register_entry": self._register,
            "counter_entry": self._counter,
            "meter_entry": self._meter,
            "direct_meter_entry": self._direct_meter,
            "packet_replication_engine_entry": self._replicate,
            "value_set_entry": self._value_set,
            "digest_entry": self._digest,
            "extern_entry": self._extern,
        }

    def read(
        self, request: p4r.ReadRequest, hold: Hold, covers: Callable[[p4r.Entity], bool] | None = None
    ) -> Iterator[bytes]:
        """Serialized ReadResponse messages, at least one; ``hold`` counts the state that is kept for them.

        ``covers``: which entities to show. Nobody may write before this returns, except where :func:`is_of_cells`.
        """
        bodies: list[Bodies] = []
        for entity in request.entities:
            kind = entity.WhichOneof("entity")
            if kind is None:
                raise invalid("the read has an entity without a kind")
            bodies.append(self._readers[kind](getattr(entity, kind), hold))
        chosen = _chained(bodies)
        if covers is not None:
            chosen = (body for body in chosen if covers(p4r.Entity.FromString(body)))
        return self._messages(chosen)

    @staticmethod
    def _messages(bodies: Bodies) -> Iterator[bytes]:
        sent = False
        parts: list[bytes] = []
        size = 0
        for body in bodies:
            parts.append(READ_ENTITIES + varint(len(body)))
            parts.append(body)
            size += len(body)
            if size >= MESSAGE:
                yield b"".join(parts)
                parts.clear()
                size = 0
                sent = True
        if parts or not sent:
            yield b"".join(parts)

    # -- tables ----------------------------------------------------------------------------------------------------

    def _table_entry(self, entry: p4r.TableEntry, hold: Hold) -> Bodies:
        tables = [self._schema.table(entry.table_id)] if entry.table_id else list(self._schema.tables.values())
        if not entry.table_id and len(entry.match):
            raise invalid("a read with match fields needs a table id")
        want = Want(
            entry.HasField("counter_data"), entry.HasField("time_since_last_hit"), entry.HasField("meter_config")
        )
        if entry.HasField("meter_counter_data"):
            raise unimplemented("meters do not count by colour")
        if want.since_hit and entry.table_id and not tables[0].idle:
            raise invalid(f"table {tables[0].name} does not support idle time-outs")
        one_shot, metadata = OneShots(self._profiles), dict(self._extras.metadata)
        if metadata:
            hold.take(sys.getsizeof(metadata))
        if entry.is_default_action:
            found = _keep(hold, [delimited(_TABLE_ENTRY, self._default(table, one_shot)) for table in tables])
        elif len(entry.match):
            key, priority = tables[0].key(entry.match), tables[0].priority(entry.priority)
            found = self._table(tables[0], hold, want, one_shot, metadata, key, priority)
        else:
            found = _chained([self._table(table, hold, want, one_shot, metadata) for table in tables])
        if entry.priority or entry.metadata or entry.controller_metadata or entry.action.WhichOneof("type"):
            return _filtered(entry, found)
        return found

    def _default(self, table: TableSchema, one_shot: OneShots) -> bytes:
        action = self._commands.command(Command.DEFAULT_READ, struct.pack("<I", table.index))
        return table.default_wire(action, one_shot.wire, self._extras.metadata.get((table.index, b"", 0)))

    def _slices(self, table: TableSchema, hold: Hold, key: bytes | None, priority: int) -> Slices:
        out: Slices = deque()
        cursor = 0
        while True:
            request = struct.pack("<IIIB", table.index, cursor, SLICE, key is not None)
            if key is not None:
                request += key + struct.pack("<i", priority)
            try:
                reply = self._commands.command(Command.TABLE_READ, request)
            except DatapathError as error:
                if key is not None and int(error.code) == Rpc.NOT_FOUND:
                    return out
                raise
            cursor, count = struct.unpack_from("<II", reply)
            hold.take(len(reply))
            out.append((reply, count))
            if not cursor or key is not None:
                return out

    def _table(
        self,
        table: TableSchema,
        hold: Hold,
        want: Want,
        one_shot: OneShots,
        metadata: Metadata,
        key: bytes | None = None,
        priority: int = 0,
    ) -> Bodies:
        slices = self._slices(table, hold, key, priority)
        entries = (raw for reply, count in slices for raw in table.raw_entries(reply, 8, count))
        if table.profile is not None and any(map(is_hidden, entries)):
            before = one_shot.size
            one_shot.take(table)
            hold.take(one_shot.size - before)
        configs = None
        if want.meter and table.meter is not None:
            configs = self._meters_of(table, hold, slices, _METER_CONFIG)

        def bodies() -> Bodies:
            tag = varint(_TABLE_ENTRY << 3 | 2)
            for reply, count in _handed(slices, hold):
                for body in table.wires(reply, 8, count, want, metadata, one_shot.wire):
                    whole = body if configs is None else body + next(configs)
                    yield tag + varint(len(whole)) + whole

        return bodies()

    def _direct(self, wanted: p4r.TableEntry, has: Callable[[TableSchema], bool], what: str) -> list[Selection]:
        """The entries whose direct counters or meters (``what``) a read asks for."""
        if not wanted.table_id:
            return [(table, None, 0) for table in self._schema.tables.values() if has(table)]
        table = self._schema.table(wanted.table_id)
        if not has(table):
            raise invalid(f"table {table.name} has no direct {what}")
        if wanted.is_default_action:
            raise unimplemented(f"table {table.name}: in v1model a miss has no {what}")
        if not len(wanted.match):
            return [(table, None, 0)]
        key, priority = table.key(wanted.match), table.priority(wanted.priority)
        self._entry_must_exist(table, key, priority)
        return [(table, key, priority)]

    def _entry_must_exist(self, table: TableSchema, key: bytes, priority: int) -> None:
        request = struct.pack("<IIIB", table.index, 0, 1, 1) + key + struct.pack("<i", priority)
        self._commands.command(Command.TABLE_READ, request)  # NOT_FOUND

    def _taken(self, chosen: list[Selection], hold: Hold) -> list[tuple[TableSchema, Slices]]:
        return [(table, self._slices(table, hold, key, priority)) for table, key, priority in chosen]

    def _direct_counter(self, entry: p4r.DirectCounterEntry, hold: Hold) -> Bodies:
        chosen = self._direct(entry.table_entry, lambda table: table.counter is not None, "counter")
        return (
            delimited(_DIRECT_COUNTER, head + delimited(_DATA, counter_wire(raw.packets, raw.octets)))
            for raw, head in _heads(self._taken(chosen, hold), hold)
        )

    def _direct_meter(self, entry: p4r.DirectMeterEntry, hold: Hold) -> Bodies:
        if entry.HasField("counter_data"):
            raise unimplemented("meters do not count by colour")
        chosen = self._direct(entry.table_entry, lambda table: table.meter is not None, "meter")
        taken = self._taken(chosen, hold)
        tag = p4r.DirectMeterEntry.CONFIG_FIELD_NUMBER
        configs = _chained([self._meters_of(table, hold, slices, tag) for table, slices in taken])
        return (delimited(_DIRECT_METER, head + next(configs)) for _raw, head in _heads(taken, hold))

    def _meters_of(self, table: TableSchema, hold: Hold, slices: Slices, tag: int) -> Bodies:
        """For each entry the field ``tag`` with its meter's configuration, nothing when that is the default one."""

        def part(raw: RawEntry) -> bytes:
            config = meter_config(read_meter(self._commands, table, raw.key, raw.priority))
            return b"" if config is None else delimited(tag, config.SerializeToString())

        parts = [part(raw) for reply, count in slices for raw in table.raw_entries(reply, 8, count)]
        return _keep(hold, parts)

    # -- action profiles -------------------------------------------------------------------------------------------

    def _member(self, entry: p4r.ActionProfileMember, hold: Hold) -> Bodies:
        bodies = [
            p4r.Entity(action_profile_member=member).SerializeToString()
            for profile in self._profile_list(entry.action_profile_id)
            for member in self._profiles.members(profile, entry.member_id)
        ]
        return _keep(hold, bodies)

    def _group(self, entry: p4r.ActionProfileGroup, hold: Hold) -> Bodies:
        bodies = [
            p4r.Entity(action_profile_group=group).SerializeToString()
            for profile in self._profile_list(entry.action_profile_id)
            if profile.with_selector
            for group in self._profiles.groups(profile, entry.group_id)
        ]
        return _keep(hold, bodies)

    def _profile_list(self, id_: int) -> list[Any]:
        return [self._profiles.profile(id_)] if id_ else list(self._schema.profiles.values())

    # -- arrays ----------------------------------------------------------------------------------------------------

    def _arrays(
        self, known: dict[int, ArraySchema], id_: int, entry: Any, what: str
    ) -> list[tuple[ArraySchema, int, int]]:
        """(array, first cell, number of cells) that a read asks for."""
        if not id_:
            if entry.HasField("index"):
                raise invalid(f"a read of all {what}s cannot have an index")
            return [(array, 0, array.size) for array in known.values()]
        array = known.get(id_)
        if array is None:
            unknown(what, id_, known.values())
        if entry.HasField("index"):
            return [(array, check_index(array, what, entry.index.index), 1)]
        return [(array, 0, array.size)]

    def _cells(
        self, command: Command, array: ArraySchema, first: int, count: int, size: int
    ) -> Iterator[tuple[int, bytes]]:
        end = first + count
        for start in range(first, end, SLICE):
            number = min(SLICE, end - start)
            reply = self._commands.command(command, struct.pack("<III", array.index, start, number))
            for offset in range(number):
                yield start + offset, reply[offset * size : offset * size + size]

    def _register(self, entry: p4r.RegisterEntry, _hold: Hold) -> Bodies:
        ranges = self._arrays(self._schema.registers, entry.register_id, entry, "register")
        return _chained([self._registers(array, first, count) for array, first, count in ranges])

    def _registers(self, array: ArraySchema, first: int, count: int) -> Bodies:
        head = b"\x08" + varint(array.id)
        cache: dict[bytes, bytes] = {}
        for index, cell in self._cells(Command.REGISTER_READ, array, first, count, octets(array.width)):
            data = cache.get(cell)
            if data is None:
                message = cell_data(array, int.from_bytes(cell, "big"))
                data = delimited(p4r.RegisterEntry.DATA_FIELD_NUMBER, message.SerializeToString())
                if len(cache) < SLICE:
                    cache[cell] = data
            yield delimited(_REGISTER, head + _index_wire(index) + data)

    def _counter(self, entry: p4r.CounterEntry, _hold: Hold) -> Bodies:
        ranges = self._arrays(self._schema.counters, entry.counter_id, entry, "counter")
        return _chained([self._counters(array, first, count) for array, first, count in ranges])

    def _counters(self, array: ArraySchema, first: int, count: int) -> Bodies:
        head = b"\x08" + varint(array.id)
        for index, cell in self._cells(Command.COUNTER_READ, array, first, count, 16):
            data = delimited(p4r.CounterEntry.DATA_FIELD_NUMBER, counter_wire(*struct.unpack("<QQ", cell)))
            yield delimited(_COUNTER, head + _index_wire(index) + data)

    def _meter(self, entry: p4r.MeterEntry, _hold: Hold) -> Bodies:
        if entry.HasField("counter_data"):
            raise unimplemented("meters do not count by colour")
        ranges = self._arrays(self._schema.meters, entry.meter_id, entry, "meter")
        return _chained([self._meters(array, first, count) for array, first, count in ranges])

    def _meters(self, array: ArraySchema, first: int, count: int) -> Bodies:
        for index, cell in self._cells(Command.METER_READ, array, first, count, 32):
            out = p4r.MeterEntry(meter_id=array.id, index=p4r.Index(index=index), config=meter_config(cell))
            yield delimited(_METER, out.SerializeToString())

    # -- the rest --------------------------------------------------------------------------------------------------

    def _replicate(self, entry: p4r.PacketReplicationEngineEntry, hold: Hold) -> Bodies:
        found = self._replication.read(entry)
        bodies = [p4r.Entity(packet_replication_engine_entry=item).SerializeToString() for item in found]
        return _keep(hold, bodies)

    def _value_set(self, entry: p4r.ValueSetEntry, hold: Hold) -> Bodies:
        known = self._schema.value_sets
        if entry.value_set_id and entry.value_set_id not in known:
            unknown("value set", entry.value_set_id, [v.array for v in known.values()])
        ids = [entry.value_set_id] if entry.value_set_id else list(known)
        kept = self._extras.value_sets
        bodies = [
            p4r.Entity(value_set_entry=kept.get(id_, p4r.ValueSetEntry(value_set_id=id_))).SerializeToString()
            for id_ in ids
        ]
        return _keep(hold, bodies)

    def _digest(self, entry: p4r.DigestEntry, hold: Hold) -> Bodies:
        if entry.digest_id and entry.digest_id not in self._schema.digests:
            unknown("digest", entry.digest_id, self._schema.digests.values())
        found = [item for item in self._digests.entries() if entry.digest_id in (0, item.digest_id)]
        return (p4r.Entity(digest_entry=item).SerializeToString() for item in found)

    def _extern(self, entry: p4r.ExternEntry, _hold: Hold) -> Bodies:
        raise unimplemented(f"extern type 0x{entry.extern_type_id:08x} is unknown: v1model has no such externs")


def is_of_cells(request: p4r.ReadRequest) -> bool:
    """Whether a read asks for nothing but cells of registers, counters and meters."""
    return all(entity.WhichOneof("entity") in _CELLS for entity in request.entities)


def _filtered(wanted: p4r.TableEntry, bodies: Bodies) -> Bodies:
    """Those that have what ``wanted`` says; of a direct action only its id counts."""
    kind = wanted.action.WhichOneof("type")
    for body in bodies:
        entry = p4r.Entity.FromString(body).table_entry
        if wanted.priority and entry.priority != wanted.priority:
            continue
        if wanted.metadata and entry.metadata != wanted.metadata:
            continue
        if wanted.controller_metadata and entry.controller_metadata != wanted.controller_metadata:
            continue
        if kind == "action" and entry.action.action.action_id != wanted.action.action.action_id:
            continue
        if kind not in (None, "action") and entry.action != wanted.action:
            continue
        yield body


def _keep(hold: Hold, bodies: list[bytes]) -> Bodies:
    """``bodies``, which were taken just now, until the client takes them."""
    hold.take(sum(map(len, bodies)) + _OBJECT * len(bodies))
    return (body for body, _ in _handed(deque((body, 1) for body in bodies), hold, _OBJECT))


def _handed(slices: Slices, hold: Hold, beside: int = 0) -> Iterator[tuple[bytes, int]]:
    """What is kept, each part forgotten when the next one is wanted; ``beside``: bytes that it takes besides."""
    while slices:
        part, count = slices.popleft()
        yield part, count
        hold.give(len(part) + beside)


def _heads(taken: list[tuple[TableSchema, Slices]], hold: Hold) -> Iterator[tuple[RawEntry, bytes]]:
    """(entry, the ``table_entry`` field of its direct resource) for all entries."""
    for table, slices in taken:
        for reply, count in _handed(slices, hold):
            for raw in table.raw_entries(reply, 8, count):
                yield raw, delimited(1, table.match_wire(raw.key, raw.priority))


def _index_wire(index: int) -> bytes:
    body = b"\x08" + varint(index) if index else b""
    return b"\x12" + bytes([len(body)]) + body


def _chained(iterators: list[Bodies]) -> Bodies:
    for iterator in iterators:
        yield from iterator
