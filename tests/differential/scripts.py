"""What both switches are told and sent for a program of anybody's: entries, groups, sessions and frames at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from finsy.proto import p4i

from engine import ir
from tests.differential.programs import Entry
from tests.differential.walks import Values, frames

PORTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 255, 510, 511)
ENTRIES = 8  # of a table, at most
MOST = 4_096  # cells of an array that is written to
PLENTY = (1_000_000_000_000, 1_000_000_000)  # a rate and a burst (of 32 bits in BMv2) that never end
Arguments = tuple[tuple[int, int], ...]  # (value, width)
Rates = tuple[int, ...]  # cir, cburst, pir, pburst; per second


@dataclass(slots=True)
class Script:
    """What both switches are told and sent."""

    groups: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    sessions: list[tuple[int, list[tuple[int, int]], int]] = field(default_factory=list)  # number, replicas, bytes
    defaults: list[tuple[str, str, Arguments]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    meters: list[tuple[str, int, Rates]] = field(default_factory=list)  # name, cell, rates
    counts: list[tuple[str, int, int, int]] = field(default_factory=list)  # name, cell, packets, bytes
    changes: list[tuple[int, str, Entry]] = field(default_factory=list)  # before which frame, what, of which entry
    frames: list[tuple[int, bytes]] = field(default_factory=list)

    def only(self, numbers: Sequence[int]) -> Script:
        """The same with some of the frames, in order."""
        changes = [(sum(n < at for n in numbers), what, entry) for at, what, entry in self.changes]
        return replace(self, changes=changes, frames=[self.frames[n] for n in numbers])

    def parts(self) -> Iterator[tuple[list[tuple[str, Entry]], list[tuple[int, bytes]]]]:
        """(changes, the frames between them and the next ones)."""
        places = sorted({0, *(at for at, _what, _entry in self.changes)})
        for place, end in zip(places, [*places[1:], len(self.frames)], strict=True):
            yield [(what, entry) for at, what, entry in self.changes if at == place], self.frames[place:end]

    def document(self) -> dict[str, Any]:
        """As JSON; :meth:`read` is its inverse."""
        return asdict(self) | {"frames": [[port, data.hex()] for port, data in self.frames]}

    @classmethod
    def read(cls, document: dict[str, Any]) -> Script:
        def calls(values: Any) -> Arguments:
            return tuple((value, width) for value, width in values)

        def entry(one: dict[str, Any]) -> Entry:
            return replace(
                Entry(**one),
                key=tuple((kind, width, first, second) for kind, width, first, second in one["key"]),
                params=calls(one["params"]),
                others=tuple((name, calls(values)) for name, values in one["others"]),
                meter=tuple(one["meter"]),
                counted=tuple(one["counted"]),
            )

        def pairs(replicas: Any) -> list[tuple[int, int]]:
            return [(port, rid) for port, rid in replicas]

        return cls(
            groups=[(number, pairs(replicas)) for number, replicas in document["groups"]],
            sessions=[(number, pairs(replicas), size) for number, replicas, size in document["sessions"]],
            defaults=[(table, action, calls(values)) for table, action, values in document["defaults"]],
            entries=[entry(one) for one in document["entries"]],
            meters=[(name, cell, tuple(rates)) for name, cell, rates in document["meters"]],
            counts=[(name, cell, packets, size) for name, cell, packets, size in document["counts"]],
            changes=[(at, what, entry(one)) for at, what, one in document["changes"]],
            frames=[(port, bytes.fromhex(data)) for port, data in document["frames"]],
        )


@dataclass(slots=True)
class Author:
    """Writes a script for a program."""

    program: ir.Program
    info: p4i.P4Info
    values: Values
    counted: dict[int, int] = field(init=False)  # units of direct counters by tables

    def __post_init__(self) -> None:
        self.counted = {c.direct_table_id: c.spec.unit for c in self.info.direct_counters}

    def script(self, count: int) -> Script:
        chance = self.values.chance
        out = Script()
        made = frames(self.program, self.values)
        out.frames = [(chance.choice(PORTS[:4] if chance.random() < 0.8 else PORTS), next(made)) for _ in range(count)]
        numbers = [n for n in self.values.known if 0 < n < 32_768][:40]
        for number in sorted({1, 2, 3, 4, *numbers}):
            out.groups.append((number, self.replicas(4)))
            cut = chance.choice((0, 0, 0, 1, 14, 33, 64, 300))
            out.sessions.append((number, self.replicas(2), cut))
        by_name = {t.preamble.name: t for t in self.info.tables}
        for table in self.program.tables:
            described = by_name.get(table.name)
            if described is None or len(described.match_fields) != len(table.keys):
                continue
            free = described.const_default_action_id == 0 and table.profile is None and chance.random() < 0.4
            if free and (chosen := self.action(described, default=True)):
                out.defaults.append((table.name, *chosen))
            if table.keys and not described.is_const_table:
                out.entries += self.entries(table, described)
        for meter in self.program.meters:
            for cell in range(min(meter.size, MOST)):
                if cell < ENTRIES or chance.random() < 0.1:
                    out.meters.append((meter.name, cell, self.rates(meter.bytes_)))
        units = {c.preamble.name: c.spec.unit for c in self.info.counters}
        for counter in self.program.counters:  # BMv2 writes of a cell only what its unit says
            writable = units.get(counter.name) == p4i.CounterSpec.BOTH and chance.random() < 0.5
            for cell in range(min(counter.size, ENTRIES)) if writable else ():
                out.counts.append((counter.name, cell, chance.randrange(1 << 20), chance.randrange(1 << 40)))
        out.changes = sorted(self.changes(out.entries, by_name, count), key=lambda change: change[0])
        return out

    def replicas(self, most: int) -> list[tuple[int, int]]:
        """(port, instance), up to ``most``: several instances of a port, too."""
        chance = self.values.chance
        return sorted({(chance.choice(PORTS[:8]), chance.randrange(4)) for _ in range(chance.randint(1, most))})

    def rates(self, by_bytes: bool) -> Rates:
        """Of a meter whose colours do not depend on the time between two packets: rates of nothing or plenty."""
        chance = self.values.chance

        def burst() -> int:
            return chance.choice((0, 60, 200, 999)) if by_bytes else chance.choice((0, 1, 2, 5))

        picked = chance.randrange(4)
        if picked == 0:
            return *PLENTY, *PLENTY
        if picked == 1:
            return 0, burst(), *PLENTY
        first, second = sorted((burst(), burst()))
        return (0, first, 0, second) if picked == 2 else (0, second, 0, first)

    def changes(
        self, entries: Sequence[Entry], described: dict[str, p4i.Table], frames: int
    ) -> Iterator[tuple[int, str, Entry]]:
        """Some entries get another action, or go, between two frames; gone ones come back."""
        chance = self.values.chance
        for entry in entries:
            pick = chance.randrange(6)
            at = chance.randint(frames // 3, max(frames // 3, frames - 1))
            if pick == 0:
                yield at, "delete", entry
                if chance.random() < 0.5:
                    yield chance.randint(at, max(at, frames - 1)), "insert", entry
            elif pick < 3 and not entry.selector and (chosen := self.action(described[entry.table])):
                name, values = chosen
                if all(width for _value, width in values):
                    yield at, "modify", replace(entry, action=name, params=values, counted=())

    def action(self, table: p4i.Table, default: bool = False) -> tuple[str, Arguments] | None:
        """An action that the table allows there, with arguments."""
        scopes = p4i.ActionRef
        other = scopes.TABLE_ONLY if default else scopes.DEFAULT_ONLY
        allowed = [ref.id for ref in table.action_refs if ref.scope != other]
        chosen = [a for a in self.info.actions if a.preamble.id in allowed]
        if not chosen:
            return None
        action = self.values.chance.choice(chosen)
        found = next((a for a in self.program.actions if a.name == action.preamble.name), None)
        if found is None or any(not p.bitwidth for p in action.params):
            return None  # what controllers see as strings is left out
        return found.name, tuple((self.argument(name, width), width) for name, width in found.params)

    def argument(self, name: str, width: int) -> int:
        if width == 9 or "port" in name:
            return self.values.chance.choice(PORTS) % (1 << width)
        return self.values.number(width)

    def entries(self, table: ir.Table, described: p4i.Table) -> Iterator[Entry]:
        chance = self.values.chance
        keys = set()
        for number in range(chance.randint(1, min(ENTRIES, table.size))):
            key = tuple(self.key(item) for item in table.keys)
            chosen = [self.action(described) for _ in range(3 if table.profile is not None else 1)]
            if key in keys or any(c is None or any(not w for _v, w in c[1]) for c in chosen):
                continue
            keys.add(key)
            (name, values), *others = (c for c in chosen if c is not None)
            priority = number + 1 if table.ternary else 0
            grouped = table.profile is not None
            plain = grouped and (self.program.profiles[table.profile or 0].selector is None or chance.random() < 0.2)
            made = Entry(table.name, key, name, values, priority, () if plain else tuple(others), grouped, plain)
            if table.direct_meter is not None and chance.random() < 0.8:
                made = replace(made, meter=self.rates(self.program.meters[table.direct_meter].bytes_))
            if self.counted.get(described.preamble.id) == p4i.CounterSpec.BOTH and chance.random() < 0.3:
                made = replace(made, counted=(chance.randrange(1 << 20), chance.randrange(1 << 40)))
            yield made

    def key(self, key: ir.Key) -> tuple[str, int, int, int]:
        chance, width = self.values.chance, key.width
        full = (1 << width) - 1
        seen = self.values.seen.get((key.target.header, key.target.field), [])
        value = chance.choice(seen) & full if seen and chance.random() < 0.7 else self.values.number(width)
        if key.target.field == ir.VALID:
            value = int(chance.random() < 0.8)
        elif not seen and chance.random() < 0.5:
            value = chance.choice((0, 0, 1, 2)) & full
        if key.mask is not None:
            value &= key.mask  # BMv2 cuts the entry, too: others match there, though no packet can have their value
        kind, second = key.kind.name.lower(), 0
        if kind == "lpm":
            lengths = (width, width, 8 * (width // 8), chance.randint(0, width), 0)
            second = 0 if width % 8 else chance.choice(lengths)  # BMv2 counts a prefix from the first bit of a byte
            value = value >> (width - second) << (width - second)
        elif kind in ("ternary", "optional"):
            second = chance.choice((0, full, full, chance.randint(0, full))) if kind == "ternary" else full
            value &= second
        elif kind == "range":
            value, second = sorted((value, self.values.number(width)))
        return kind, width, value, second
