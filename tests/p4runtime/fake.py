"""A data plane in Python for the server's tests: it interprets the binary commands on dictionaries.

It is deliberately simple (a table is a dictionary), so that what the server sends and how it reads replies is checked
against the format in :mod:`engine.codec`, not against the native engine's own idea of it.
"""

from __future__ import annotations

import copy
import json
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.api import (
    ActionInfo,
    ArrayInfo,
    Code,
    DatapathError,
    DeviceState,
    Digest,
    DigestInfo,
    Event,
    KeyField,
    MatchKind,
    Op,
    PortState,
    ProfileInfo,
    ProgramError,
    ProgramInfo,
    TableInfo,
)
from engine.codec import Codec, Command, Reader, octets
from engine.commands import Commands
from engine.events import Follower
from engine.p4rt.stubs import p4i
from engine.program_json import program_from_json

_STATE = ("tables", "members", "groups", "registers", "counters", "meters", "multicast", "clones", "value_sets")
KINDS = {2: MatchKind.EXACT, 3: MatchKind.LPM, 4: MatchKind.TERNARY, 5: MatchKind.RANGE, 6: MatchKind.OPTIONAL}


def program_of(p4info: p4i.P4Info) -> ProgramInfo:
    """The program that a compiler would make of this P4Info."""
    actions = {a.preamble.id: position for position, a in enumerate(p4info.actions)}
    profiles = {p.preamble.id: position for position, p in enumerate(p4info.action_profiles)}
    headers = {h.preamble.name: octets(sum(m.bitwidth for m in h.metadata)) for h in p4info.controller_packet_metadata}

    def width(spec: Any) -> int:
        kind = spec.WhichOneof("type_spec")
        if kind == "bool":
            return 1
        return spec.bitstring.int.bitwidth or spec.bitstring.bit.bitwidth

    def digest_fields(digest: p4i.Digest) -> tuple[tuple[str, int], ...]:
        if digest.type_spec.WhichOneof("type_spec") == "struct":
            struct_type = p4info.type_info.structs[digest.type_spec.struct.name]
            return tuple((m.name, width(m.type_spec)) for m in struct_type.members)
        return (("value", width(digest.type_spec)),)

    return ProgramInfo(
        name="fake",
        tables=tuple(
            TableInfo(
                name=t.preamble.name,
                key=tuple(KeyField(m.name, KINDS[m.match_type], m.bitwidth) for m in t.match_fields),
                actions=tuple(actions[r.id] for r in t.action_refs),
                size=t.size,
                selector=profiles[t.implementation_id] if t.implementation_id else None,
                direct_counter=any(d.direct_table_id == t.preamble.id for d in p4info.direct_counters),
                idle_timeout=t.idle_timeout_behavior == p4i.Table.NOTIFY_CONTROL,
            )
            for t in p4info.tables
        ),
        actions=tuple(
            ActionInfo(a.preamble.name, tuple((p.name, p.bitwidth) for p in a.params)) for a in p4info.actions
        ),
        profiles=tuple(
            ProfileInfo(p.preamble.name, p.size, p.max_group_size, p.with_selector) for p in p4info.action_profiles
        ),
        registers=tuple(ArrayInfo(r.preamble.name, width(r.type_spec), r.size) for r in p4info.registers),
        counters=tuple(ArrayInfo(c.preamble.name, 0, c.size) for c in p4info.counters),
        meters=tuple(ArrayInfo(m.preamble.name, 0, m.size) for m in p4info.meters),
        digests=tuple(DigestInfo(d.preamble.name, digest_fields(d)) for d in p4info.digests),
        packet_out_bytes=headers.get("packet_out", 0),
        packet_in_bytes=headers.get("packet_in", 0),
        value_sets=tuple(
            ArrayInfo(v.preamble.name, sum(m.bitwidth for m in v.match), v.size) for v in p4info.value_sets
        ),
    )


@dataclass
class _Table:
    entries: dict[tuple[bytes, int], list[Any]] = field(default_factory=dict)  # -> [idle, packets, bytes, action]
    default: bytes = b""


class FakeSwitch(Commands):
    """State of one program."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.batches = 0
        self.sizes: list[int] = []  # updates per TABLE_WRITE

    def load(self, program: ProgramInfo) -> None:
        with self.lock:
            self._codec = Codec(program)
            self.tables = [_Table(default=self._default(table)) for table in program.tables]
            self.members: list[dict[int, bytes]] = [{} for _ in program.profiles]
            self.groups: list[dict[int, bytes]] = [{} for _ in program.profiles]
            self.registers = [[bytes(octets(r.width))] * r.size for r in program.registers]
            self.counters = [[(0, 0)] * c.size for c in program.counters]
            self.meters = [[b"\xff" * 32] * m.size for m in program.meters]
            self.multicast: dict[int, bytes] = {}
            self.clones: dict[int, bytes] = {}
            self.value_sets: dict[int, bytes] = {}

    def _default(self, table: TableInfo) -> bytes:
        for index in table.actions:
            if not self.codec.program.actions[index].params:
                return struct.pack("<BI", 1, index)
        return struct.pack("<BI", 1, table.actions[0]) + bytes(
            sum(octets(w) for _n, w in self.codec.program.actions[table.actions[0]].params)
        )

    def command(self, op: int, payload: bytes) -> bytes:
        handler: Callable[[Reader], bytes] = getattr(self, "_" + Command(op).name.lower())
        with self.lock:
            return handler(Reader(payload))

    # -- tables

    def _key_size(self, table: int) -> int:
        size = 0
        for key in self.codec.program.tables[table].key:
            size += octets(key.width) * (1 if key.kind in (MatchKind.EXACT, MatchKind.LPM) else 2)
            size += 2 * (key.kind is MatchKind.LPM)
        return size

    def _table_write(self, reader: Reader) -> bytes:
        atomic, count = reader.u8(), reader.u32()
        self.sizes.append(count)
        before = [(dict(t.entries), t.default) for t in self.tables]
        codes = bytes(self._update(Reader(reader.take(reader.u32()))) for _ in range(count))
        if atomic and any(codes):
            for table, (entries, default) in zip(self.tables, before, strict=True):
                table.entries, table.default = entries, default
            return bytes(code or Code.ABORTED for code in codes)
        return codes

    def _update(self, reader: Reader) -> int:
        op, number, fields = reader.u8() & 0x7F, reader.u32(), reader.u8()
        table, info = self.tables[number], self.codec.program.tables[number]
        key = reader.take(self._key_size(number)) if fields else None
        priority, idle = reader.i32(), reader.u64()
        action = reader.take(len(reader._data) - reader._pos)
        if action[0] == 1:
            index = struct.unpack_from("<I", action, 1)[0]
            size = 5 + sum(octets(w) for _n, w in self.codec.program.actions[index].params)
            assert len(action) == size and index in info.actions
        if action[0] in (2, 3) and info.selector is not None:
            known = self.members[info.selector] if action[0] == 2 else self.groups[info.selector]
            if struct.unpack_from("<I", action, 1)[0] not in known:
                return Code.NOT_FOUND
        if key is None:
            table.default = action if op == Op.MODIFY else self._default(info)
            return Code.OK
        where = (key, priority)
        if op == Op.INSERT:
            if where in table.entries:
                return Code.ALREADY_EXISTS
            if len(table.entries) >= info.size:
                return Code.RESOURCE_EXHAUSTED
            table.entries[where] = [idle, 0, 0, action]
        elif where not in table.entries:
            return Code.NOT_FOUND
        elif op == Op.DELETE:
            del table.entries[where]
        else:
            old = table.entries[where]
            table.entries[where] = [idle, old[1], old[2], action]
        return Code.OK

    def _table_read(self, reader: Reader) -> bytes:
        number, cursor, limit, keyed = reader.u32(), reader.u32(), reader.u32(), reader.u8()
        table = self.tables[number]
        if keyed:
            key = reader.take(self._key_size(number))
            where = (key, reader.i32())
            if where not in table.entries:
                raise DatapathError(Code.NOT_FOUND, "no such entry")
            chosen, following = [(where, table.entries[where])], 0
        else:
            rows = list(table.entries.items())
            chosen = rows[cursor : cursor + limit]
            following = cursor + limit if cursor + limit < len(rows) else 0
        out = [struct.pack("<II", following, len(chosen))]
        for (key, priority), (idle, packets, size, action) in chosen:
            out.append(
                struct.pack("<I", number) + key + struct.pack("<iQQQQ", priority, idle, packets, size, 7) + action
            )
        return b"".join(out)

    def _default_read(self, reader: Reader) -> bytes:
        return self.tables[reader.u32()].default

    def _direct_write(self, reader: Reader) -> bytes:
        number = reader.u32()
        key = reader.take(self._key_size(number))
        entry = self.tables[number].entries.get((key, reader.i32()))
        if entry is None:
            raise DatapathError(Code.NOT_FOUND, "no such entry")
        entry[1], entry[2] = reader.u64(), reader.u64()
        return b""

    # -- profiles

    def _change(self, store: dict[int, bytes], op: int, key: int, value: bytes, what: str) -> bytes:
        if op == Op.INSERT and key in store:
            raise DatapathError(Code.ALREADY_EXISTS, f"{what} {key} exists")
        if op != Op.INSERT and key not in store:
            raise DatapathError(Code.NOT_FOUND, f"{what} {key} does not exist")
        if op == Op.DELETE:
            del store[key]
        else:
            store[key] = value
        return b""

    def _used(self, profile: int, kind: int, number: int) -> bool:
        reference = struct.pack("<BI", kind, number)
        return any(
            entry[3] == reference
            for info, table in zip(self.codec.program.tables, self.tables, strict=True)
            if info.selector == profile
            for entry in table.entries.values()
        )

    def _member_write(self, reader: Reader) -> bytes:
        op, profile, member = reader.u8(), reader.u32(), reader.u32()
        in_group = any(
            member in [m for m, _w, _p in struct.iter_unpack("<IIi", group[4:])]
            for group in self.groups[profile].values()
        )
        if op == Op.DELETE and (self._used(profile, 2, member) or in_group):
            raise DatapathError(Code.FAILED_PRECONDITION, f"member {member} is in use")
        return self._change(self.members[profile], op, member, reader.take(len(reader._data) - reader._pos), "member")

    def _member_read(self, reader: Reader) -> bytes:
        members = self.members[reader.u32()]
        return struct.pack("<I", len(members)) + b"".join(struct.pack("<I", m) + a for m, a in members.items())

    def _group_write(self, reader: Reader) -> bytes:
        op, profile, group = reader.u8(), reader.u32(), reader.u32()
        body = reader.take(len(reader._data) - reader._pos)
        for member, _weight, _watch in struct.iter_unpack("<IIi", body[4:]):
            if member not in self.members[profile]:
                raise DatapathError(Code.NOT_FOUND, f"member {member} does not exist")
        if op == Op.DELETE and self._used(profile, 3, group):
            raise DatapathError(Code.FAILED_PRECONDITION, f"group {group} is in use")
        return self._change(self.groups[profile], op, group, body, "group")

    def _group_read(self, reader: Reader) -> bytes:
        groups = self.groups[reader.u32()]
        return struct.pack("<I", len(groups)) + b"".join(struct.pack("<I", g) + b for g, b in groups.items())

    # -- arrays

    def _register_write(self, reader: Reader) -> bytes:
        register, index = reader.u32(), reader.u32()
        size = octets(self.codec.program.registers[register].width)
        self.registers[register][index] = reader.take(size)
        return struct.pack("<Q", 1)

    def _register_fill(self, reader: Reader) -> bytes:
        register = reader.u32()
        cell = reader.take(octets(self.codec.program.registers[register].width))
        self.registers[register] = [cell] * len(self.registers[register])
        return b""

    def _register_read(self, reader: Reader) -> bytes:
        register, index, count = reader.u32(), reader.u32(), reader.u32()
        return b"".join(self.registers[register][index : index + count])

    def _counter_write(self, reader: Reader) -> bytes:
        counter, index = reader.u32(), reader.u32()
        self.counters[counter][index] = (reader.u64(), reader.u64())
        return b""

    def _counter_read(self, reader: Reader) -> bytes:
        counter, index, count = reader.u32(), reader.u32(), reader.u32()
        return b"".join(struct.pack("<QQ", *cell) for cell in self.counters[counter][index : index + count])

    def _meter_write(self, reader: Reader) -> bytes:
        meter, index = reader.u32(), reader.u32()
        self.meters[meter][index] = reader.take(32)
        return b""

    def _meter_read(self, reader: Reader) -> bytes:
        meter, index, count = reader.u32(), reader.u32(), reader.u32()
        return b"".join(self.meters[meter][index : index + count])

    # -- replication, value sets

    def _multicast_write(self, reader: Reader) -> bytes:
        op, group = reader.u8(), reader.u32()
        return self._change(self.multicast, op, group, reader.take(len(reader._data) - reader._pos), "group")

    def _clone_write(self, reader: Reader) -> bytes:
        op, session = reader.u8(), reader.u32()
        return self._change(self.clones, op, session, reader.take(len(reader._data) - reader._pos), "session")

    def _batch(self, reader: Reader) -> bytes:
        self.batches += 1
        before = copy.deepcopy({name: getattr(self, name) for name in _STATE})
        for number in range(reader.u32()):
            op = Command(reader.u16())
            payload = reader.take(reader.u32())
            try:
                codes = getattr(self, "_" + op.name.lower())(Reader(payload))
                if op is Command.TABLE_WRITE and any(codes):
                    raise DatapathError(Code(codes[0]), "refused")
            except DatapathError as error:
                for name, value in before.items():
                    setattr(self, name, value)
                return struct.pack("<IB", number, error.code) + str(error).encode()
        return struct.pack("<IB", 0xFFFFFFFF, 0)

    def _value_set_write(self, reader: Reader) -> bytes:
        number = reader.u32()
        self.value_sets[number] = reader.take(len(reader._data) - reader._pos)
        return b""


class FakeBackend:
    """Implements :class:`engine.p4rt.backend.Backend`; a device config is the program as JSON."""

    def __init__(self) -> None:
        self.switch = FakeSwitch()
        self.state: dict[str, bytes] = {}
        self.sent: list[bytes] = []
        self.followers: dict[Follower, frozenset[int]] = {}
        self.loads = 0
        self.up = {1: True, 2: True}
        self.enabled = {1: True, 2: True}
        self.queue_max = 5

    @property
    def commands(self) -> FakeSwitch:
        return self.switch

    def compile(self, config: bytes) -> ProgramInfo:
        if not config.strip().startswith(b"{"):
            raise ProgramError("p4_device_config is not JSON")
        try:
            json.loads(config)
        except ValueError as error:
            raise ProgramError(f"p4_device_config is not JSON: {error}") from None
        return program_from_json(config.decode())

    def load(self, config: bytes) -> ProgramInfo:
        program = self.compile(config)
        self.switch.load(program)
        self.loads += 1
        return program

    def in_memory(self, config: bytes) -> FakeSwitch:
        switch = FakeSwitch()
        switch.load(self.compile(config))
        return switch

    def follow(self, follower: Follower, digests: Collection[int]) -> None:
        self.followers[follower] = frozenset(digests)

    def emit(self, *events: Event) -> None:
        """Events that arrive together, as the data plane sends them: no digest that nobody wants."""
        for follower, wanted in self.followers.items():
            follower([event for event in events if not isinstance(event, Digest) or event.digest in wanted])

    def packet_out(self, data: bytes) -> None:
        self.sent.append(data)

    def device_state(self, *, keep_maxima: bool = False) -> DeviceState:
        ports = tuple(
            PortState(
                port,
                f"eth{port}",
                up,
                10,
                1000,
                1,
                2,
                20,
                2000,
                3,
                0,
                self.queue_max,
                10**9,
                -8.25,
                1e-8,
                4,
                5,
                self.enabled[port],
            )
            for port, up in self.up.items()
        )
        if not keep_maxima:
            self.queue_max = 0
        return DeviceState(1, 0.25, 0.5, 6, 7, ports)

    def enable_ports(self, states: Mapping[int, bool]) -> None:
        for port in states:
            if port not in self.up:
                raise DatapathError(Code.NOT_FOUND, f"no such port: {port}")
        self.enabled |= states

    def state_put(self, key: str, value: bytes) -> None:
        self.state[key] = value

    def state_get(self, key: str) -> bytes | None:
        return self.state.get(key) or None
