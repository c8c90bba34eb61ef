"""What both switches are told and sent for a program of anybody's: entries, groups, sessions and frames at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from finsy.proto import p4i

from engine import ir
from tests.differential.programs import Entry
from tests.differential.walks import Values, frames

PORTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 255, 510, 511)
ENTRIES = 8  # of a table, at most
Arguments = tuple[tuple[int, int], ...]  # (value, width)


@dataclass(slots=True)
class Script:
    """What both switches are told and sent."""

    groups: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    sessions: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    defaults: list[tuple[str, str, Arguments]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    frames: list[tuple[int, bytes]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON; :meth:`read` is its inverse."""
        return asdict(self) | {"frames": [[port, data.hex()] for port, data in self.frames]}

    @classmethod
    def read(cls, document: dict[str, Any]) -> Script:
        def calls(values: Any) -> Arguments:
            return tuple((value, width) for value, width in values)

        entries = [
            replace(
                Entry(**one),
                key=tuple((kind, width, first, second) for kind, width, first, second in one["key"]),
                params=calls(one["params"]),
                others=tuple((name, calls(values)) for name, values in one["others"]),
            )
            for one in document["entries"]
        ]
        return cls(
            [(number, [(port, rid) for port, rid in replicas]) for number, replicas in document["groups"]],
            [(number, [(port, rid) for port, rid in replicas]) for number, replicas in document["sessions"]],
            [(table, action, calls(values)) for table, action, values in document["defaults"]],
            entries,
            [(port, bytes.fromhex(data)) for port, data in document["frames"]],
        )


@dataclass(slots=True)
class Author:
    """Writes a script for a program."""

    program: ir.Program
    info: p4i.P4Info
    values: Values

    def script(self, count: int) -> Script:
        chance = self.values.chance
        out = Script()
        made = frames(self.program, self.values)
        out.frames = [(chance.choice(PORTS[:4] if chance.random() < 0.8 else PORTS), next(made)) for _ in range(count)]
        numbers = [n for n in self.values.known if 0 < n < 32_768][:40]
        for number in sorted({1, 2, 3, 4, *numbers}):
            out.groups.append((number, self.replicas()))
            out.sessions.append((number, self.replicas()))
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
        return out

    def replicas(self) -> list[tuple[int, int]]:
        chance = self.values.chance
        return sorted({(chance.choice(PORTS[:8]), chance.randrange(4)) for _ in range(chance.randint(1, 2))})

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
            yield Entry(table.name, key, name, values, priority, tuple(others), grouped)

    def key(self, key: ir.Key) -> tuple[str, int, int, int]:
        chance, width = self.values.chance, key.width
        full = (1 << width) - 1
        seen = self.values.seen.get((key.target.header, key.target.field), [])
        value = chance.choice(seen) & full if seen and chance.random() < 0.7 else self.values.number(width)
        if key.target.field == ir.VALID:
            value = int(chance.random() < 0.8)
        elif not seen and chance.random() < 0.5:
            value = chance.choice((0, 0, 1, 2)) & full
        kind, second = key.kind.name.lower(), 0
        if kind == "lpm":
            second = chance.choice((width, width, 8 * (width // 8), chance.randint(0, width)))
            value = value >> (width - second) << (width - second)
        elif kind in ("ternary", "optional"):
            second = chance.choice((0, full, full, chance.randint(0, full))) if kind == "ternary" else full
            value &= second
        elif kind == "range":
            value, second = sorted((value, self.values.number(width)))
        return kind, width, value, second
