"""Binary form of the commands of :class:`engine.api.Datapath`.

The same bytes go to a pipeline in this process (:mod:`engine.library`) and over the control socket of a switch
process (:mod:`engine.dataplane`). All integers are little endian; values of fields, parameters and register cells
are big endian in ``ceil(width / 8)`` bytes with unused high bits zero. Commands are not self-describing beyond what
is listed here: both sides know the program.

Requests (``op: payload -> reply``)::

    INFO            -                                                -> UTF-8 JSON of the program
    TABLE_WRITE     u8 atomic, u32 n, n * (u32 length, update)       -> n * u8 code
    TABLE_READ      u32 table, u32 cursor, u32 limit, u8 keyed       -> u32 next cursor (0: end), u32 n, n * entry
                    [keyed: key, i32 priority]
    DEFAULT_READ    u32 table                                        -> action
    MEMBER_WRITE    u8 op, u32 profile, u32 member, action           -> -
    MEMBER_READ     u32 profile                                      -> u32 n, n * (u32 member, action)
    GROUP_WRITE     u8 op, u32 profile, u32 group, u32 n,            -> -
                    n * (u32 member, u32 weight, i32 watch port or -1)
    GROUP_READ      u32 profile                                      -> u32 n, n * (u32 group, u32 m, m * as above)
    REGISTER_WRITE  u32 register, u32 index, cell                    -> u64 time (ns) of effect
    REGISTER_FILL   u32 register, cell                               -> -
    REGISTER_READ   u32 register, u32 index, u32 count               -> count * cell
    COUNTER_READ    u32 counter, u32 index, u32 count                -> count * (u64 packets, u64 bytes)
    COUNTER_WRITE   u32 counter, u32 index, u64 packets, u64 bytes   -> -
    MULTICAST_WRITE u8 op, u32 group, u32 n, n * (u32 port, u32 id)  -> -
                    (port + 0x80000000: a backup of the replica before)
    MULTICAST_READ  -                                                -> u32 n, n * (u32 group, u32 m, m * (port, id))
    CLONE_WRITE     u8 op, u32 session, u32 length, u32 class,       -> -
                    u32 n, n * (u32 port, u32 id) as above
    CLONE_READ      -                                                -> u32 n, n * (u32 session, u32 length,
                                                                        u32 class, u32 m, m * (port, id))
    METER_WRITE     u32 meter, u32 index, 4 * u64 (cir, cburst,      -> -
                    pir, pburst); all ones: unset
    METER_READ      u32 meter, u32 index, u32 count                  -> count * 4 * u64
    DIRECT_WRITE    u32 table, key, i32 priority, u64 packets,       -> -
                    u64 bytes (direct counter of one entry)
    DIRECT_METER_WRITE  u32 table, key, i32 priority, 4 * u64 as in  -> -
                    METER_WRITE (direct meter of one entry)
    DIRECT_METER_READ   u32 table, key, i32 priority                 -> 4 * u64
    VALUE_SET_WRITE u32 value set, u32 n, n * (value, mask)          -> -
    BATCH           u32 n, n * (u16 op, u32 length, payload): write  -> u32 failed command (all ones: none),
                    commands of which all take effect or none           u8 code, message
    OCCUPANCY       -                                                -> per table u32 entries, u32 size,
                                                                        u64 packets of all direct counters
    RESET           -                                                -> -
    STATS           -                                                -> u64 * fields of struct sp_stats

    update  u8 op (+ 0x80: the program's own entries are initial, not const), u32 table,
            u8 key fields (0: default action), key, i32 priority, u64 idle timeout ns, action
    key     per field by its kind: EXACT value; LPM value, u16 prefix length; TERNARY, OPTIONAL value, mask;
            RANGE low, high
    action  u8 0 (none) | u8 1, u32 action, params | u8 2, u32 member | u8 3, u32 group
    entry   u32 table, key, i32 priority, u64 idle timeout ns, u64 packets, u64 bytes, u64 since hit ns, action
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum

from engine.api import (
    Action,
    ActionCall,
    ArrayInfo,
    Code,
    DatapathError,
    GroupMember,
    GroupRef,
    Match,
    MatchKind,
    MemberRef,
    Op,
    ProgramInfo,
    TableEntry,
    TableInfo,
    TableUpdate,
)


class Command(IntEnum):
    """Operations of a pipeline; the switch process adds its own from 0x100."""

    INFO = 0x01
    TABLE_WRITE = 0x02
    TABLE_READ = 0x03
    DEFAULT_READ = 0x04
    MEMBER_WRITE = 0x05
    MEMBER_READ = 0x06
    GROUP_WRITE = 0x07
    GROUP_READ = 0x08
    REGISTER_WRITE = 0x09
    REGISTER_FILL = 0x0A
    REGISTER_READ = 0x0B
    COUNTER_READ = 0x0C
    COUNTER_WRITE = 0x0D
    MULTICAST_WRITE = 0x0E
    MULTICAST_READ = 0x0F
    CLONE_WRITE = 0x10
    CLONE_READ = 0x11
    METER_WRITE = 0x12
    METER_READ = 0x13
    DIRECT_WRITE = 0x14
    VALUE_SET_WRITE = 0x15
    RESET = 0x16
    STATS = 0x17
    DIRECT_METER_WRITE = 0x18
    DIRECT_METER_READ = 0x19
    BATCH = 0x1A
    OCCUPANCY = 0x1B


BACKUP = 0x8000_0000
INITIAL = 0x80  # added to the op of an update

STATS_FIELDS = (
    "received",
    "emitted",
    "dropped_ingress",
    "dropped_egress",
    "dropped_loop",
    "dropped_oversize",
    "dropped_no_group",
    "parser_errors",
    "digests",
)


def _bad(message: str) -> DatapathError:
    return DatapathError(Code.INVALID_ARGUMENT, message)


def octets(width: int) -> int:
    """Bytes that a value of ``width`` bits occupies."""
    return (width + 7) // 8


def _sized(value: bytes, width: int, what: str) -> bytes:
    if len(value) != octets(width):
        raise _bad(f"{what}: {len(value)} bytes instead of {octets(width)} (bit<{width}>)")
    if width % 8 and value and value[0] >> (width % 8):
        raise _bad(f"{what}: value does not fit bit<{width}>")
    return value


class Reader:
    """Sequential reader over a reply; raises :class:`DatapathError` (INTERNAL) when it is too short."""

    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def take(self, count: int) -> bytes:
        end = self._pos + count
        if count < 0 or end > len(self._data):
            raise DatapathError(Code.INTERNAL, f"reply too short: wanted {count} bytes at offset {self._pos}")
        out = self._data[self._pos : end]
        self._pos = end
        return out

    def _unpack(self, fmt: str, size: int) -> int:
        value: int = struct.unpack(fmt, self.take(size))[0]
        return value

    def u8(self) -> int:
        return self._unpack("<B", 1)

    def u16(self) -> int:
        return self._unpack("<H", 2)

    def u32(self) -> int:
        return self._unpack("<I", 4)

    def i32(self) -> int:
        return self._unpack("<i", 4)

    def u64(self) -> int:
        return self._unpack("<Q", 8)

    def done(self) -> None:
        if self._pos != len(self._data):
            raise DatapathError(Code.INTERNAL, f"{len(self._data) - self._pos} unexpected bytes at the end of a reply")


class Codec:
    """Encodes and decodes commands for one program. Encoding errors are :class:`DatapathError` INVALID_ARGUMENT."""

    def __init__(self, program: ProgramInfo) -> None:
        self.program = program
        self._keys = [[(f.kind, f.width, octets(f.width), f.name) for f in table.key] for table in program.tables]
        self._params = [[(width, octets(width), name) for name, width in action.params] for action in program.actions]

    # -- parts ---------------------------------------------------------------------------------------------------

    def _table(self, table: int) -> TableInfo:
        if not 0 <= table < len(self.program.tables):
            raise DatapathError(Code.NOT_FOUND, f"unknown table index {table}")
        return self.program.tables[table]

    def array(self, arrays: Sequence[ArrayInfo], index: int, what: str) -> ArrayInfo:
        """The array with that index, or NOT_FOUND."""
        if not 0 <= index < len(arrays):
            raise DatapathError(Code.NOT_FOUND, f"unknown {what} index {index}")
        return arrays[index]

    def key(self, table: int, key: Sequence[Match]) -> bytes:
        """Encode a full key of ``table``."""
        fields = self._keys[table]
        name = self.program.tables[table].name
        if len(key) != len(fields):
            raise _bad(f"table {name}: {len(key)} key fields instead of {len(fields)}")
        parts: list[bytes] = []
        for match, (kind, width, size, field_name) in zip(key, fields, strict=True):
            value = match.value
            if len(value) != size or (width & 7 and value[0] >> (width & 7)):
                _sized(value, width, f"table {name}: key {field_name}")
            if (match.mask and kind not in (MatchKind.TERNARY, MatchKind.OPTIONAL)) or (
                match.high and kind is not MatchKind.RANGE
            ):
                raise _bad(f"table {name}: key {field_name} is {kind.name.lower()}, with a mask or range given")
            parts.append(value)
            if kind is MatchKind.LPM:
                if not 0 <= match.prefix_len <= width:
                    raise _bad(f"table {name}: key {field_name}: prefix length {match.prefix_len} of bit<{width}>")
                parts.append(match.prefix_len.to_bytes(2, "little"))
            elif kind is MatchKind.TERNARY or kind is MatchKind.OPTIONAL:
                parts.append(_sized(match.mask, width, f"table {name}: mask of {field_name}"))
            elif kind is MatchKind.RANGE:
                parts.append(_sized(match.high, width, f"table {name}: upper end of {field_name}"))
        return b"".join(parts)

    def read_key(self, reader: Reader, table: int) -> tuple[Match, ...]:
        out: list[Match] = []
        for kind, _width, size, _name in self._keys[table]:
            value = reader.take(size)
            if kind is MatchKind.LPM:
                out.append(Match(value, prefix_len=reader.u16()))
            elif kind is MatchKind.TERNARY or kind is MatchKind.OPTIONAL:
                out.append(Match(value, mask=reader.take(size)))
            elif kind is MatchKind.RANGE:
                out.append(Match(value, high=reader.take(size)))
            else:
                out.append(Match(value))
        return tuple(out)

    def action(self, action: Action | None) -> bytes:
        if action is None:
            return b"\x00"
        if isinstance(action, ActionCall):
            if not 0 <= action.action < len(self._params):
                raise DatapathError(Code.NOT_FOUND, f"unknown action index {action.action}")
            params = self._params[action.action]
            name = self.program.actions[action.action].name
            if len(params) != len(action.params):
                raise _bad(f"action {name}: {len(action.params)} parameters instead of {len(params)}")
            for value, (width, size, param) in zip(action.params, params, strict=True):
                if len(value) != size or (width & 7 and value[0] >> (width & 7)):
                    _sized(value, width, f"action {name}: parameter {param}")
            return struct.pack("<BI", 1, action.action) + b"".join(action.params)
        if isinstance(action, MemberRef):
            return struct.pack("<BI", 2, _u32(action.member, "member id"))
        return struct.pack("<BI", 3, _u32(action.group, "group id"))

    def read_action(self, reader: Reader) -> Action | None:
        kind = reader.u8()
        if kind == 0:
            return None
        index = reader.u32()
        if kind == 1:
            if index >= len(self._params):
                raise DatapathError(Code.INTERNAL, f"reply names action {index}")
            return ActionCall(index, tuple(reader.take(size) for _width, size, _name in self._params[index]))
        return MemberRef(index) if kind == 2 else GroupRef(index)

    # -- tables --------------------------------------------------------------------------------------------------

    def update(self, update: TableUpdate) -> bytes:
        self._table(update.table)
        key = self.key(update.table, update.key) if update.key else b""
        return b"".join(
            (
                struct.pack("<BIB", update.op, update.table, len(update.key)),
                key,
                struct.pack("<iQ", update.priority, update.idle_timeout_ns),
                self.action(update.action),
            )
        )

    def read_update(self, data: bytes) -> TableUpdate:
        """Inverse of :meth:`update` (used by tests and tools)."""
        reader = Reader(data)
        op, table, fields = Op(reader.u8()), reader.u32(), reader.u8()
        self._table(table)
        key = self.read_key(reader, table) if fields else ()
        priority, idle = reader.i32(), reader.u64()
        action = self.read_action(reader)
        reader.done()
        return TableUpdate(op, table, key, action, priority, idle)

    def table_write(self, updates: Iterable[bytes], *, atomic: bool) -> bytes:
        """Frame updates that :meth:`update` encoded."""
        parts = [b""]
        count = 0
        for data in updates:
            parts.append(len(data).to_bytes(4, "little"))
            parts.append(data)
            count += 1
        parts[0] = struct.pack("<BI", atomic, count)
        return b"".join(parts)

    def table_read(
        self, table: int, key: tuple[Match, ...] | None, priority: int, cursor: int = 0, limit: int = 4096
    ) -> bytes:
        self._table(table)
        head = struct.pack("<IIIB", table, cursor, limit, key is not None)
        return head if key is None else head + self.key(table, key) + struct.pack("<i", priority)

    def read_entry(self, reader: Reader) -> TableEntry:
        table = reader.u32()
        if table >= len(self._keys):
            raise DatapathError(Code.INTERNAL, f"reply names table {table}")
        key = self.read_key(reader, table)
        priority, idle = reader.i32(), reader.u64()
        packets, size, since = reader.u64(), reader.u64(), reader.u64()
        action = self.read_action(reader)
        if action is None:
            raise DatapathError(Code.INTERNAL, "entry without action")
        return TableEntry(table, key, action, priority, packets, size, since, idle)

    def read_table_reply(self, data: bytes) -> tuple[int, list[TableEntry]]:
        """(next cursor or 0, entries)."""
        reader = Reader(data)
        cursor, count = reader.u32(), reader.u32()
        entries = [self.read_entry(reader) for _ in range(count)]
        reader.done()
        return cursor, entries

    # -- values --------------------------------------------------------------------------------------------------

    def cell(self, array: ArrayInfo, value: int) -> bytes:
        if not 0 <= value < 1 << array.width:
            raise _bad(f"register {array.name}: {value} does not fit bit<{array.width}>")
        return value.to_bytes(octets(array.width), "big")

    def digest_values(self, digest: int, data: bytes) -> tuple[bytes, ...]:
        """Split the bytes of a digest callback into fields."""
        reader = Reader(data)
        values = tuple(reader.take(octets(width)) for _name, width in self.program.digests[digest].fields)
        reader.done()
        return values


def _u32(value: int, what: str) -> int:
    if not 0 <= value < 1 << 32:
        raise _bad(f"{what} {value} is not a 32-bit number")
    return value


def group_members(members: Sequence[GroupMember]) -> bytes:
    """Encode the members of a selector group."""
    out = [struct.pack("<I", len(members))]
    for member in members:
        if member.weight < 1:
            raise _bad(f"member {member.member}: weight {member.weight} is not positive")
        watch = -1 if member.watch_port is None else member.watch_port
        out.append(struct.pack("<IIi", _u32(member.member, "member id"), member.weight, watch))
    return b"".join(out)


def read_group_members(reader: Reader) -> list[GroupMember]:
    members = []
    for _ in range(reader.u32()):
        member, weight, watch = reader.u32(), reader.u32(), reader.i32()
        members.append(GroupMember(member, weight, None if watch < 0 else watch))
    return members


def replicas(pairs: Sequence[tuple[int, int]]) -> bytes:
    """Encode (port, instance) pairs of a multicast group or clone session.

    A port with :data:`BACKUP` added is a backup of the replica before it: used while all before it are down.
    """
    return struct.pack("<I", len(pairs)) + b"".join(
        struct.pack("<II", _u32(port, "port"), _u32(instance, "instance")) for port, instance in pairs
    )


def batch(commands: Sequence[tuple[int, bytes]]) -> bytes:
    """Encode a BATCH of (write command, payload)."""
    parts = [struct.pack("<I", len(commands))]
    for op, payload in commands:
        parts.append(struct.pack("<HI", op, len(payload)))
        parts.append(payload)
    return b"".join(parts)


def read_replicas(reader: Reader) -> list[tuple[int, int]]:
    return [(reader.u32(), reader.u32()) for _ in range(reader.u32())]
