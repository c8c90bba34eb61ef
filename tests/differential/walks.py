"""Frames for any program: random walks through its parser, so that most of what it looks for is there.

A walk extracts headers of random fields, picks a transition of each state it comes to and writes what that transition
asks for into the bits that its key is made of. Frames are cut, lengthened and damaged now and then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from random import Random
from typing import Any

from engine import ir

STATES = 40  # of one walk
MOST_BITS = 8 * 2_000  # of headers
Place = tuple[int, int]  # (first bit, width)
ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "&": operator.and_,
    "|": operator.or_,
    "<<": lambda value, by: value << by if 0 <= by <= 64 else 0,
    ">>": lambda value, by: value >> by if 0 <= by <= 64 else 0,
}


def constants(program: ir.Program) -> list[int]:
    """Every number that the program mentions, in the order of their size."""
    found: set[int] = set()

    def look(item: Any) -> None:
        if isinstance(item, ir.Const):
            found.add(item.value)
        elif isinstance(item, ir.Transition):
            found.update(v for v in (item.value, item.mask) if v is not None)
        elif isinstance(item, ir.ConstEntry):
            found.update(v for pair in item.key for v in pair)
        elif is_dataclass(item) and not isinstance(item, ir.Source):
            for part in fields(item):
                look(getattr(item, part.name))
        elif isinstance(item, (tuple, list)):
            for one in item:
                look(one)
        elif isinstance(item, dict):
            look(list(item.values()))

    look(program)
    return sorted(abs(v) for v in found)


@dataclass(slots=True)
class Values:
    """Random numbers, often those that programs look for. ``seen``: what frames had in the program's fields."""

    chance: Random
    known: list[int]
    seen: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    small: bool = False  # indices of arrays, lengths and the like

    def number(self, width: int) -> int:
        chance, top = self.chance, 1 << width
        if self.small and chance.random() < 0.9:
            return chance.choice((0, 0, 1, 1, 2, 3)) % top
        pick = chance.randrange(10)
        if pick < 3 and self.known:
            return chance.choice(self.known) % top
        if pick < 6:
            return chance.choice((0, 1, 2, 3, 4, 7, top - 1, top - 2, top >> 1, (top >> 1) - 1)) % top
        return chance.randrange(top)


class _End(Exception):
    """A walk that goes no further."""


@dataclass(slots=True)
class Walk:
    """One frame under way."""

    program: ir.Program
    values: Values
    data: int = 0
    length: int = 0  # bits that data has
    cursor: int = 0
    places: dict[tuple[int, int], Place] = field(default_factory=dict)  # of fields
    told: dict[tuple[int, int], int] = field(default_factory=dict)  # fields with a value of no place
    counts: dict[int, int] = field(default_factory=dict)  # headers extracted into stacks

    # -- bits ------------------------------------------------------------------------------------------------------

    def reach(self, end: int) -> None:
        """Random bits up to ``end``."""
        if end > MOST_BITS:
            raise _End
        if end > self.length:
            more = end - self.length
            self.data = self.data << more | self.values.number(more)
            self.length = end

    def read(self, place: Place) -> int:
        first, width = place
        self.reach(first + width)
        return self.data >> (self.length - first - width) & ((1 << width) - 1)

    def put(self, place: Place, value: int, mask: int | None = None) -> None:
        first, width = place
        full = (1 << width) - 1
        mask = full if mask is None else mask & full
        self.reach(first + width)
        shift = self.length - first - width
        self.data = self.data & ~(mask << shift) | (value & mask) << shift

    # -- expressions -----------------------------------------------------------------------------------------------

    def place(self, item: ir.Expr) -> Place | None:
        """Where the bits are that an expression takes as they are."""
        if isinstance(item, ir.FieldRef):
            return self.places.get((item.header, item.field))
        if isinstance(item, ir.LastField):
            count = self.counts.get(item.stack, 0)
            headers = self.program.stacks[item.stack].headers
            return self.places.get((headers[count - 1], item.field)) if count else None
        if isinstance(item, ir.Lookahead):
            return self.cursor + item.offset, item.width
        if isinstance(item, ir.Op) and item.op in ("&", "two_comp_mod", "b2d", "d2b"):
            return self.place(item.args[0])
        return None

    def number(self, item: ir.Expr) -> int:
        """The value of an expression, roughly: what is not known here counts as 0."""
        if isinstance(item, ir.Const):
            return item.value
        if isinstance(item, ir.Op):
            args = [self.number(one) for one in item.args]
            if item.op in ARITHMETIC:
                return ARITHMETIC[item.op](*args)
            return args[0]
        if isinstance(item, ir.FieldRef) and (item.header, item.field) in self.told:
            return self.told[item.header, item.field]
        where = self.place(item)
        return 0 if where is None else self.read(where)

    # -- states ----------------------------------------------------------------------------------------------------

    def extract(self, header: int, length: ir.Expr | None) -> None:
        for i, item in enumerate(self.program.types[self.program.headers[header].type].fields):
            width = item.width
            if item.varbit:
                bits = 0 if length is None else self.number(length)
                if not 0 <= bits <= width or bits % 8:
                    raise _End
                width = bits
            self.reach(self.cursor + width)
            self.places[header, i] = (self.cursor, width)
            self.cursor += width

    def operation(self, op: ir.ParserOp) -> None:
        if isinstance(op, ir.Extract):
            self.extract(op.header, op.length)
        elif isinstance(op, ir.ExtractStack):
            self.extract(self.next(self.program.stacks[op.stack].headers, op.stack), op.length)
        elif isinstance(op, ir.ExtractUnionStack):
            union = self.next(self.program.union_stacks[op.stack].unions, -1 - op.stack)
            self.extract(self.program.unions[union].headers[op.member], op.length)
        elif isinstance(op, ir.Advance):
            count = self.number(op.bits)
            if count < 0:
                raise _End
            self.reach(self.cursor + count)
            self.cursor += count
        elif isinstance(op, ir.Set):
            target = (op.target.header, op.target.field)
            where = self.place(op.value)
            if where is not None:
                self.places[target] = where
                self.told.pop(target, None)
            else:
                self.told[target] = self.number(op.value)

    def next(self, members: tuple[int, ...], stack: int) -> int:
        count = self.counts.get(stack, 0)
        if count >= len(members):
            raise _End
        self.counts[stack] = count + 1
        return members[count]

    def transition(self, state: ir.State) -> int | None:
        """The state that a transition picked at random leads to, its value written where the key is read."""
        if not state.transitions:
            return None
        chosen = self.values.chance.choice(state.transitions)
        if chosen.value is None:
            if chosen.value_set is not None:
                for part, _width in state.key:
                    self.number(part)
            return chosen.next
        shift = sum((width + 7) // 8 * 8 for _part, width in state.key)
        for part, width in state.key:
            shift -= (width + 7) // 8 * 8
            full = (1 << width) - 1
            where = self.place(part)
            if where is not None:
                mask = full if chosen.mask is None else chosen.mask >> shift & full
                size = min(width, where[1])
                end = where[0] + where[1]
                self.put((end - size, size), chosen.value >> shift, mask)
        return chosen.next

    def run(self) -> None:
        state = self.program.first_state
        try:
            for _ in range(STATES):
                if state is None:
                    return
                for op in self.program.states[state].ops:
                    self.operation(op)
                state = self.transition(self.program.states[state])
        except _End:
            return

    def frame(self) -> bytes:
        size = (self.length + 7) // 8
        return (self.data << (8 * size - self.length)).to_bytes(size, "big")


def frames(program: ir.Program, values: Values) -> Iterator[bytes]:
    """Frames without end, of 1 to 65,535 bytes; ``values.seen`` learns what is in them."""
    chance = values.chance
    while True:
        walk = Walk(program, values)
        values.small = chance.random() < 0.3
        walk.run()
        values.small = False
        data = walk.frame() + chance.randbytes(chance.choice((0, 0, 1, 6, 20, 46, 64, 200)))
        for key, where in walk.places.items():
            if where[1]:
                values.seen.setdefault(key, []).append(walk.read(where))
        pick = chance.randrange(40)
        if pick < 4:
            data = data[: chance.randrange(len(data) + 1)]
        elif pick < 6 and data:
            at = chance.randrange(len(data))
            data = data[:at] + chance.randbytes(1) + data[at + 1 :]
        elif pick == 6:
            data = chance.randbytes(chance.choice((1, 13, 14, 60, 300)))
        elif pick == 7:
            data += bytes(chance.choice((1_400, 9_000))) if chance.random() < 0.5 else chance.randbytes(33)
        elif pick == 8 and chance.random() < 0.02:
            data += bytes(65_535 - len(data))
        yield data or chance.randbytes(1)  # no way into BMv2 takes an empty one
