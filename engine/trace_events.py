"""A packet's way through a program: the events of a traced pipeline (``sp_trace.h``) as steps with names and lines.

Every event carries the packet's headers as they were then. What changed between two events is what the step in between
did: the fields that a parser state extracted, that an action set, that a checksum update rewrote.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from engine import ir
from engine.api import Action, ActionCall, DatapathError, GroupRef, MatchKind, MemberRef, TableEntry
from engine.codec import Codec, Reader, octets

_HEAD = struct.Struct("<BBIII")
DROPS = (
    "dropped at the end of ingress",
    "dropped at the end of egress",
    "dropped: too many passes or copies of one frame",
    "dropped: longer than 65,535 bytes",
    "dropped: no such multicast group, or one without replicas",
)
_INSTANCES = {4: "recirculated", 6: "resubmitted"}


class Kind(IntEnum):
    """``enum sp_trace_kind``."""

    PACKET = 1
    STATE = 2
    PARSED = 3
    CHECKED = 4
    PIPELINE = 5
    TABLE = 6
    ACTION = 7
    CONDITION = 8
    READ = 9
    WRITTEN = 10
    CLONE = 11
    AGAIN = 12
    DIGEST = 13
    REPLICA = 14
    CHECKSUMS = 15
    DEPARSED = 16
    EMIT = 17
    DROP = 18


@dataclass(frozen=True, slots=True)
class Value:
    """A field's value: ``number`` of ``width`` bits."""

    number: int
    width: int


@dataclass(frozen=True, slots=True)
class Change:
    """One field, or with an empty ``field`` a header's validity. ``before`` is None where the header was invalid."""

    header: str
    field: str
    before: Value | None
    after: Value | None


@dataclass(slots=True)
class Step:
    """One thing that happened. ``details`` depends on ``kind``; values are numbers, strings, lists of these."""

    kind: str
    title: str
    source: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)


Headers = tuple[tuple[Value, ...] | None, ...]  # per header its fields, None: invalid


class Decoder:
    """Turns the events of one program into steps."""

    def __init__(self, program: ir.Program, codec: Codec) -> None:
        self._program = program
        self._codec = codec
        self._nodes = {**program.ingress.nodes, **program.egress.nodes}
        self._errors = {number: name for name, number in program.errors.items()}

    def steps(self, events: Iterable[bytes]) -> list[Step]:
        """The steps of one packet; ValueError for events of another program."""
        out: list[Step] = []
        states: dict[int, Headers] = {}
        last_depth = 0
        state_step: Step | None = None
        try:
            for event in events:
                kind, depth, a, b, size = _HEAD.unpack_from(event)
                data = event[_HEAD.size : _HEAD.size + size]
                headers = self._headers(event[_HEAD.size + size :])
                base = states.get(last_depth if depth > last_depth else depth)
                changes = [] if base is None or kind == Kind.PACKET else list(self._changes(base, headers))
                step = self._step(Kind(kind), a, b, data, headers)
                if kind in (Kind.STATE, Kind.PARSED) and state_step is not None:
                    state_step.changes += changes
                elif step is not None:
                    step.changes += changes
                if step is not None:
                    out.append(step)
                state_step = step if kind == Kind.STATE else None
                states = {d: h for d, h in states.items() if d < depth}
                states[depth] = headers
                last_depth = depth
        except (struct.error, IndexError, DatapathError) as error:
            raise ValueError(f"events of another program: {error}") from None
        return out

    # -- headers ---------------------------------------------------------------------------------------------------

    def _headers(self, data: bytes) -> Headers:
        reader = Reader(data)
        out: list[tuple[Value, ...] | None] = []
        for header in self._program.headers:
            if not reader.u8():
                out.append(None)
                continue
            values = []
            for item in self._program.types[header.type].fields:
                width = reader.u32() if item.varbit else item.width
                values.append(Value(int.from_bytes(reader.take(octets(width)), "big"), width))
            out.append(tuple(values))
        reader.done()
        return tuple(out)

    def _changes(self, before: Headers, after: Headers) -> Iterator[Change]:
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if old == new:
                continue
            header = self._program.headers[index]
            fields = self._program.types[header.type].fields
            if new is None:
                yield Change(header.name, "", Value(1, 1), Value(0, 1))
                continue
            if old is None:
                yield Change(header.name, "", Value(0, 1), Value(1, 1))
            for position, value in enumerate(new):
                earlier = None if old is None else old[position]
                if earlier != value:
                    yield Change(header.name, fields[position].name, earlier, value)

    def _field(self, ref: ir.FieldRef, headers: Headers) -> Value:
        """What a key field reads: zero in an invalid header, as BMv2 has it."""
        values = headers[ref.header]
        if ref.field == ir.VALID:
            return Value(int(values is not None), 1)
        return values[ref.field] if values is not None else Value(0, self._program.field_type(ref).width)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _step(self, kind: Kind, a: int, b: int, data: bytes, headers: Headers) -> Step | None:
        if kind is Kind.TABLE:
            return self._table(a, b, data, headers)
        if kind is Kind.PACKET:
            how = _INSTANCES.get(b, "received")
            title = f"packet {how} on port {a}, {len(data)} bytes"
            return Step("packet", title, details={"port": a, "how": how, "bytes": len(data), "frame": data.hex()})
        if kind is Kind.STATE:
            state = self._program.states[a]
            return Step("parser state", state.name, _source(state.source), {"offset": b})
        if kind is Kind.PARSED:
            error = self._errors.get(a, str(a))
            title = f"accepted, payload from byte {b}" if error == "NoError" else f"parser error {error} at byte {b}"
            return Step("parsed", title, details={"error": error, "payload_offset": b})
        if kind is Kind.CHECKED:
            verified = any(checksum.verify for checksum in self._program.checksums)
            title = "checksums " + ("right" if a else "wrong")
            return Step("checksums", title, "", {"correct": bool(a)}) if verified else None
        if kind is Kind.PIPELINE:
            return Step("egress", f"egress, port {b}", "", {"port": b}) if a else Step("ingress", "ingress")
        if kind is Kind.ACTION:
            action = self._program.actions[a]
            return Step("action", action.name, _source(action.source), {"action": action.name})
        if kind is Kind.CONDITION:
            return self._condition(data.decode(), bool(a))
        if kind in (Kind.READ, Kind.WRITTEN):
            register = self._program.registers[a]
            value = int.from_bytes(data, "big")
            verb = "read" if kind is Kind.READ else "written"
            details = {"register": register.name, "index": b, "value": value}
            return Step(f"register {verb}", f"{register.name}[{b}] = {value}", "", details)
        return self._fate(kind, a, b, data)

    def _fate(self, kind: Kind, a: int, b: int, data: bytes) -> Step | None:
        if kind is Kind.CLONE:
            where = "egress" if b else "ingress"
            return Step("clone", f"cloned from {where}, session {a}", "", {"session": a, "from": where})
        if kind is Kind.AGAIN:
            how = _INSTANCES.get(a, f"instance type {a}")
            return Step("again", how, "", {"how": how})
        if kind is Kind.DIGEST:
            name = next((item.name for item in self._program.learn_lists if item.id == a), str(a))
            return Step("digest", f"digest {name}", "", {"digest": name})
        if kind is Kind.REPLICA:
            return Step("copy", f"copy to port {a}, instance {b}", "", {"port": a, "instance": b})
        if kind is Kind.CHECKSUMS:
            return None
        if kind is Kind.DEPARSED:
            return Step("deparser", f"deparser, {len(data)} bytes of headers", "", {"bytes": len(data)})
        if kind is Kind.EMIT:
            details = {"port": a, "priority": b, "bytes": len(data), "frame": data.hex()}
            return Step("sent", f"sent on port {a}, {len(data)} bytes", "", details)
        return Step("drop", DROPS[a], "", {"reason": DROPS[a]})

    def _condition(self, name: str, result: bool) -> Step:
        node = self._nodes.get(name)
        text, source = name, ""
        if isinstance(node, ir.Condition) and node.source is not None:
            text, source = node.source.fragment or name, f"{node.source.file}:{node.source.line}"
        return Step("condition", text, source, {"node": name, "result": result})

    def _table(self, number: int, hit: int, data: bytes, headers: Headers) -> Step:
        table = self._program.tables[number]
        reader = Reader(data)
        entry = self._codec.read_entry(reader) if reader.u8() else None
        action = self._codec.read_action(reader)
        keys = []
        for position, key in enumerate(table.keys):
            value = self._field(key.target, headers)
            number_ = value.number if key.mask is None else value.number & key.mask
            keys.append(
                {
                    "name": key.name,
                    "match": key.kind.name.lower(),
                    "value": Value(number_, key.width),
                    "entry": None if entry is None else _match(entry, position, key.kind, key.width),
                }
            )
        details: dict[str, Any] = {"table": table.name, "hit": bool(hit), "keys": keys}
        if entry is not None:
            details["priority"] = entry.priority
            if isinstance(entry.action, MemberRef):
                details["member"] = entry.action.member
            elif isinstance(entry.action, GroupRef):
                details["group"] = entry.action.group
        details["action"], details["params"] = self._call(action)
        return Step("table", table.name, _source(table.source), details)

    def _call(self, action: Action | None) -> tuple[str | None, list[dict[str, Any]]]:
        if not isinstance(action, ActionCall):
            return None, []
        info = self._program.actions[action.action]
        params = [
            {"name": name, "value": Value(int.from_bytes(raw, "big"), width)}
            for (name, width), raw in zip(info.params, action.params, strict=True)
        ]
        return info.name, params


def _source(source: ir.Source | None) -> str:
    return "" if source is None else f"{source.file}:{source.line}"


def _match(entry: TableEntry, position: int, kind: MatchKind, width: int) -> dict[str, Any]:
    match = entry.key[position]
    out: dict[str, Any] = {"value": Value(int.from_bytes(match.value, "big"), width)}
    if kind is MatchKind.LPM:
        out["prefix"] = match.prefix_len
    elif kind is MatchKind.RANGE:
        out["high"] = Value(int.from_bytes(match.high, "big"), width)
    elif kind is not MatchKind.EXACT:
        out["mask"] = Value(int.from_bytes(match.mask, "big"), width)
    return out
