"""Table entries between P4Runtime messages and the data plane's binary commands: one converter per table.

Everything that can be known from P4Info is computed once, at pipeline load: a table entry then costs a few
microseconds each way (see ``bench/p4runtime.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.api import MatchKind, Op
from engine.codec import INITIAL
from engine.p4rt.actions import DIRECT, GROUP, MEMBER, ActionSchema, table_action_wire
from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.fields import FieldSchema
from engine.p4rt.stubs import p4i, p4r
from engine.p4rt.values import delimited, varint

_TE = p4r.TableEntry
_TABLE_ID = bytes([_TE.TABLE_ID_FIELD_NUMBER << 3])
_PRIORITY = bytes([_TE.PRIORITY_FIELD_NUMBER << 3])
_IDLE = bytes([_TE.IDLE_TIMEOUT_NS_FIELD_NUMBER << 3])
_CONST = bytes([_TE.IS_CONST_FIELD_NUMBER << 3, 1])
_DEFAULT = bytes([_TE.IS_DEFAULT_ACTION_FIELD_NUMBER << 3, 1])
_CONTROLLER_METADATA = bytes([_TE.CONTROLLER_METADATA_FIELD_NUMBER << 3])
_COUNTER_PACKETS = bytes([p4r.CounterData.PACKET_COUNT_FIELD_NUMBER << 3])
_COUNTER_BYTES = bytes([p4r.CounterData.BYTE_COUNT_FIELD_NUMBER << 3])
_TAIL = struct.Struct("<iQ")
_REF = struct.Struct("<BI")
_CACHE_LIMIT = 4096
ONE_SHOT_BASE = 0xC000_0000  # groups and members from here on belong to one-shot action sets; invisible to clients

_DEFAULT_ONLY = p4i.ActionRef.DEFAULT_ONLY
_TABLE_ONLY = p4i.ActionRef.TABLE_ONLY

Metadata = dict[tuple[int, bytes, int], tuple[bytes, int]]  # (table index, key, priority) -> metadata, deprecated id
OneShot = Callable[["TableSchema", int], bytes]  # group -> TableAction in wire form


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One entry of a TABLE_READ reply; ``key`` is binary, ``action`` its binary form including the kind byte."""

    key: bytes
    priority: int
    idle_ns: int
    packets: int
    octets: int
    since_hit_ns: int
    action: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """Which optional parts a read asked for (P4Runtime 1.4: they are returned only when present in the request)."""

    counter: bool = False
    since_hit: bool = False
    meter: bool = False


def counter_wire(packets: int, size: int) -> bytes:
    """Body of a ``p4.v1.CounterData``."""
    return (_COUNTER_BYTES + varint(size) if size else b"") + (_COUNTER_PACKETS + varint(packets) if packets else b"")


class TableSchema:
    """A P4Info table bound to a table of the loaded program."""

    def __init__(
        self,
        info: p4i.Table,
        index: int,
        fields: Sequence[FieldSchema],
        actions: Sequence[ActionSchema],
        profile: int | None,
    ) -> None:
        self.id = info.preamble.id
        self.name = info.preamble.name
        self.index = index
        self.size = info.size
        self.fields = tuple(fields)
        self.profile = profile
        self.const = info.is_const_table
        self.const_default = info.const_default_action_id
        self.idle = info.idle_timeout_behavior == p4i.Table.NOTIFY_CONTROL
        self.counter: int | None = None  # P4Info ids of direct resources
        self.meter: int | None = None
        self.actions = {action.id: action for action in actions}
        self._by_index = {action.index: action for action in actions}
        self.default_only = {r.id for r in info.action_refs if r.scope == _DEFAULT_ONLY}
        self._table_only = {r.id for r in info.action_refs if r.scope == _TABLE_ONLY}
        self.has_priority = any(
            field.kind in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for field in fields
        )
        self._field_ids = {field.id: position for position, field in enumerate(fields)}
        self.initial = info.has_initial_entries and not self.const  # entries of the program that may be changed
        mark = INITIAL * self.initial
        self._heads = {op: struct.pack("<BIB", op | mark, index, len(self.fields)) for op in Op}
        self._key_layout = struct.Struct("<" + "".join(field.layout for field in fields))
        self._entry = struct.Struct("<I" + "".join(field.layout for field in fields) + "iQQQQBI")
        self._id_wire = _TABLE_ID + varint(self.id)
        self._action_cache: dict[bytes, bytes] = {}

    # -- towards the data plane ------------------------------------------------------------------------------------

    def update(self, op: Op, entry: p4r.TableEntry) -> bytes:
        """The binary update for an entry that is not a default entry and has no one-shot action set."""
        if self.const:
            raise const_entries(self)
        key = self.key(entry.match)
        if op is Op.DELETE:  # nothing but the key counts
            return self._heads[op] + key + _TAIL.pack(self.priority(entry.priority), 0) + b"\0"
        idle = self.idle_timeout(entry.idle_timeout_ns)
        action = self.action(entry.action)
        return self._heads[op] + key + _TAIL.pack(self.priority(entry.priority), idle) + action

    def keyed(self, op: Op, key: bytes, priority: int, idle: int, action: bytes) -> bytes:
        """A binary update from binary parts."""
        return self._heads[op] + key + _TAIL.pack(priority, idle) + action

    def default_update(self, op: Op, entry: p4r.TableEntry) -> bytes:
        """The binary update that sets (or, without an action, restores) the default action."""
        if op is not Op.MODIFY:
            raise invalid(f"table {self.name}: the default entry can only be modified")
        if len(entry.match):
            raise invalid(f"table {self.name}: the default entry has no match fields")
        if entry.priority:
            raise invalid(f"table {self.name}: the default entry has no priority")
        if entry.idle_timeout_ns:
            raise invalid(f"table {self.name}: the default entry has no idle time-out")
        if self.const_default:
            raise P4Error(Rpc.PERMISSION_DENIED, f"table {self.name} has a const default action")
        restore = entry.action.WhichOneof("type") is None
        action = b"\0" if restore else self.action(entry.action, default=True)
        return self.default(action)

    def default(self, action: bytes) -> bytes:
        """A binary update of the default action from its binary form."""
        op = Op.MODIFY if action[0] else Op.DELETE
        return struct.pack("<BIB", op, self.index, 0) + _TAIL.pack(0, 0) + action

    def key(self, matches: Sequence[Any]) -> bytes:
        """The binary key."""
        fields = self.fields
        if len(matches) == len(fields):
            parts = []
            for field, match in zip(fields, matches, strict=True):
                if match.field_id != field.id:
                    return self._key_unordered(matches)
                parts.append(field.encode(match))
            return b"".join(parts)
        return self._key_unordered(matches)

    def _key_unordered(self, matches: Sequence[Any]) -> bytes:
        parts = [field.absent for field in self.fields]
        seen: set[int] = set()
        for match in matches:
            position = self._field_ids.get(match.field_id)
            if position is None:
                raise invalid(f"table {self.name} has no match field with id {match.field_id}")
            field = self.fields[position]
            if position in seen:
                raise invalid(f"{field.what} is given twice")
            seen.add(position)
            parts[position] = field.encode(match)
        for part, field in zip(parts, self.fields, strict=True):
            if part is None:
                raise invalid(f"{field.what} is exact and must be given")
        if not parts:
            raise invalid(f"table {self.name} has no key: only its default entry can be written")
        return b"".join(part for part in parts if part is not None)

    def priority(self, priority: int) -> int:
        """Check that a priority is given exactly where the specification wants one."""
        if self.has_priority:
            if priority <= 0:
                raise invalid(f"table {self.name}: entries need a priority above 0, not {priority}")
        elif priority:
            raise invalid(f"table {self.name} has no ternary, range or optional field: priority must be 0")
        return priority

    def action(self, action: p4r.TableAction, *, default: bool = False) -> bytes:
        """Binary form of a direct action, member or group reference."""
        kind = action.WhichOneof("type")
        if kind == "action":
            if self.profile is not None and not default:
                raise invalid(f"table {self.name} takes its actions from an action profile")
            call = action.action
            schema = self.actions.get(call.action_id)
            if schema is None:
                raise invalid(f"table {self.name} has no action with id {call.action_id}")
            if default:
                if schema.id in self._table_only:
                    raise P4Error(Rpc.PERMISSION_DENIED, f"table {self.name}: action {schema.name} is @tableonly")
            elif schema.id in self.default_only:
                raise P4Error(Rpc.PERMISSION_DENIED, f"table {self.name}: action {schema.name} is @defaultonly")
            return schema.encode(call)
        if kind is None:
            raise invalid(f"table {self.name}: the action is missing")
        if self.profile is None or default:
            raise invalid(f"table {self.name}: {kind} needs a table with an action profile")
        if kind == "action_profile_member_id":
            return _REF.pack(MEMBER, self._client_id(action.action_profile_member_id, "member"))
        if kind == "action_profile_group_id":
            return _REF.pack(GROUP, self._client_id(action.action_profile_group_id, "group"))
        raise invalid(f"table {self.name}: unexpected {kind}")

    def _client_id(self, number: int, what: str) -> int:
        if number >= ONE_SHOT_BASE:
            raise P4Error(Rpc.NOT_FOUND, f"table {self.name}: {what} {number} does not exist")
        return number

    def idle_timeout(self, idle: int) -> int:
        """Check that an idle time-out (ns) is given only where the table has them."""
        if idle < 0:
            raise invalid(f"table {self.name}: idle time-out {idle} is negative")
        if idle and not self.idle:
            raise invalid(f"table {self.name} does not support idle time-outs")
        return idle

    # -- from the data plane ---------------------------------------------------------------------------------------

    def raw_entries(self, data: bytes, offset: int, count: int) -> Iterator[RawEntry]:
        """The entries of a TABLE_READ reply, from ``offset``."""
        entry = self._entry
        for _ in range(count):
            values = entry.unpack_from(data, offset)
            key_at = offset + 4
            key_end = key_at + self._key_layout.size
            priority, idle, packets, size, since, kind, number = values[-7:]
            action_at = offset + entry.size - 5
            offset += entry.size + (self._by_index[number].size if kind == DIRECT else 0)
            yield RawEntry(data[key_at:key_end], priority, idle, packets, size, since, data[action_at:offset])

    def wires(
        self, data: bytes, offset: int, count: int, want: Want, metadata: Metadata, one_shot: OneShot
    ) -> list[bytes]:
        """Bodies of ``p4.v1.TableEntry`` for the entries of a TABLE_READ reply."""
        unpack = self._entry.unpack_from
        fixed_size = self._entry.size
        key_size = self._key_layout.size
        plan = self._plan()
        id_wire = self._id_wire
        cache = self._action_cache
        by_index = self._by_index
        tail_const = _CONST if self.const else b""
        out = []
        for _ in range(count):
            values = unpack(data, offset)
            priority, idle, packets, size, since, kind, number = values[-7:]
            parts = [id_wire]
            for wire, at, second in plan:
                parts.append(wire(values[at], values[second]))
            key_at = offset + 4
            action_at = offset + fixed_size
            offset = action_at
            if kind == DIRECT:
                schema = by_index[number]
                offset += schema.size
                raw = data[action_at - 4 : offset]
                action = cache.get(raw)
                if action is None:
                    action = delimited(_TE.ACTION_FIELD_NUMBER, table_action_wire(schema.wire(data, action_at)))
                    if len(cache) < _CACHE_LIMIT:
                        cache[raw] = action
                parts.append(action)
            else:
                parts.append(delimited(_TE.ACTION_FIELD_NUMBER, self._reference_wire(kind, number, one_shot)))
            if priority:
                parts.append(_PRIORITY + varint(priority))
            if want.counter and self.counter is not None:
                parts.append(delimited(_TE.COUNTER_DATA_FIELD_NUMBER, counter_wire(packets, size)))
            if idle:
                parts.append(_IDLE + varint(idle))
            if want.since_hit and self.idle:
                parts.append(delimited(_TE.TIME_SINCE_LAST_HIT_FIELD_NUMBER, b"\x08" + varint(since)))
            if metadata:
                extra = metadata.get((self.index, data[key_at : key_at + key_size], priority))
                if extra is not None:
                    parts.append(_metadata_wire(*extra))
            parts.append(tail_const)
            out.append(b"".join(parts))
        return out

    def match_wire(self, key: bytes, priority: int) -> bytes:
        """Body of a ``p4.v1.TableEntry`` with table, match and priority only."""
        if not key:  # the default entry
            return self._id_wire + _DEFAULT
        values = self._key_layout.unpack(key)
        parts = [self._id_wire]
        for wire, at, second in self._plan():
            parts.append(wire(values[at - 1], values[second - 1]))
        if priority:
            parts.append(_PRIORITY + varint(priority))
        return b"".join(parts)

    def default_wire(self, action: bytes, one_shot: OneShot, extra: tuple[bytes, int] | None = None) -> bytes:
        """Body of the default entry's ``p4.v1.TableEntry``; ``extra``: its metadata."""
        given = b""  # a table with an action profile may have no default action: a miss does nothing
        if action[0]:
            given = delimited(_TE.ACTION_FIELD_NUMBER, self.action_wire(action, one_shot))
        return (
            self._id_wire
            + given
            + _DEFAULT
            + (_CONST if self.const_default else b"")
            + (_metadata_wire(*extra) if extra is not None else b"")
        )

    def action_wire(self, action: bytes, one_shot: OneShot) -> bytes:
        """Body of a ``p4.v1.TableAction`` from its binary form."""
        kind, number = _REF.unpack_from(action)
        if kind == DIRECT:
            return table_action_wire(self._by_index[number].wire(action, _REF.size))
        return self._reference_wire(kind, number, one_shot)

    def _reference_wire(self, kind: int, number: int, one_shot: OneShot) -> bytes:
        if kind == MEMBER:
            return varint(p4r.TableAction.ACTION_PROFILE_MEMBER_ID_FIELD_NUMBER << 3) + varint(number)
        if number >= ONE_SHOT_BASE:
            return one_shot(self, number)
        return varint(p4r.TableAction.ACTION_PROFILE_GROUP_ID_FIELD_NUMBER << 3) + varint(number)

    def _plan(self) -> list[tuple[Callable[[Any, Any], bytes], int, int]]:
        """(converter, position of the first part, position of the second) in an unpacked entry."""
        plan = []
        at = 1
        for field in self.fields:
            second = at if field.kind is MatchKind.EXACT else at + 1
            plan.append((field.wire, at, second))
            at = second + 1
        return plan


def const_entries(table: TableSchema) -> P4Error:
    """The answer to a change of entries that the program fixes."""
    return P4Error(Rpc.PERMISSION_DENIED, f"table {table.name} has const entries: they cannot be changed")


def _metadata_wire(metadata: bytes, controller_metadata: int) -> bytes:
    out = _CONTROLLER_METADATA + varint(controller_metadata) if controller_metadata else b""
    return out + delimited(_TE.METADATA_FIELD_NUMBER, metadata) if metadata else out
