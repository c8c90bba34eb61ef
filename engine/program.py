"""What the outside sees of a program: :class:`ProgramInfo`, and the updates that its own entries amount to."""

from __future__ import annotations

from engine import ir
from engine.api import (
    ActionCall,
    ActionInfo,
    ArrayInfo,
    DigestInfo,
    KeyField,
    Match,
    MatchKind,
    Op,
    ProfileInfo,
    ProgramInfo,
    TableInfo,
    TableUpdate,
)
from engine.codec import octets

MAX_GROUP_SIZE = 256  # members; P4Info may say less


def program_info(program: ir.Program, packet_out_bytes: int = 0, packet_in_bytes: int = 0) -> ProgramInfo:
    """Describe a program; indices are positions in the JSON."""
    table_of = {table.name: i for i, table in enumerate(program.tables)}

    def arrays(items: tuple[ir.Array, ...]) -> tuple[ArrayInfo, ...]:
        return tuple(ArrayInfo(a.name, a.width, a.size, table_of.get(a.direct) if a.direct else None) for a in items)

    return ProgramInfo(
        name=program.name,
        tables=tuple(
            TableInfo(
                name=table.name,
                key=tuple(KeyField(k.name, k.kind, k.width) for k in table.keys),
                actions=table.actions,
                size=table.size,
                selector=table.profile,
                direct_counter=table.direct_counter,
                idle_timeout=table.idle_timeout,
            )
            for table in program.tables
        ),
        actions=tuple(ActionInfo(action.name, action.params) for action in program.actions),
        profiles=tuple(ProfileInfo(p.name, p.size, MAX_GROUP_SIZE, p.selector is not None) for p in program.profiles),
        registers=arrays(program.registers),
        counters=arrays(program.counters),
        meters=arrays(program.meters),
        digests=tuple(DigestInfo(item.name, item.names) for item in program.learn_lists),
        packet_out_bytes=packet_out_bytes,
        packet_in_bytes=packet_in_bytes,
        value_sets=arrays(program.value_sets),
        controller_headers=tuple(
            DigestInfo(simple, tuple((f.name, f.width) for f in program.types[header.type].fields))
            for header in program.headers
            if (simple := header.name.rpartition(".")[2]) in ("packet_in", "packet_out")
        ),
    )


def initial_updates(program: ir.Program) -> list[TableUpdate]:
    """Default actions and const entries, as updates to a fresh switch."""
    updates: list[TableUpdate] = []

    def call(action: int, values: tuple[int, ...]) -> ActionCall:
        widths = [width for _name, width in program.actions[action].params]
        return ActionCall(action, tuple(v.to_bytes(octets(w), "big") for v, w in zip(values, widths, strict=True)))

    for index, table in enumerate(program.tables):
        if table.default is not None:
            updates.append(TableUpdate(Op.MODIFY, index, (), call(*table.default)))
        for entry in table.entries:
            key = tuple(_match(k, a, b) for k, (a, b) in zip(table.keys, entry.key, strict=True))
            updates.append(TableUpdate(Op.INSERT, index, key, call(entry.action, entry.params), entry.priority))
    return updates


def _match(key: ir.Key, first: int, second: int) -> Match:
    size = octets(key.width)
    value = first.to_bytes(size, "big")
    if key.kind is MatchKind.LPM:
        return Match(value, prefix_len=second)
    if key.kind is MatchKind.RANGE:
        return Match(value, high=second.to_bytes(size, "big"))
    if key.kind is MatchKind.EXACT:
        return Match(value)
    return Match(value, mask=second.to_bytes(size, "big"))
