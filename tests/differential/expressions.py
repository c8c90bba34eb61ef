"""Random P4 expressions of a given type over fields of random widths."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

WIDTHS = (1, 3, 7, 8, 9, 13, 16, 24, 31, 32, 33, 48, 57, 64, 65, 72, 100, 127, 128, 129, 160, 200, 256, 384, 512)
MAX_WIDTH = 600
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Variable:
    """Something that can be read: ``name`` as in the source."""

    name: str
    width: int
    signed: bool = False

    @property
    def type(self) -> str:
        return f"{'int' if self.signed else 'bit'}<{self.width}>"


@dataclass(slots=True)
class Expressions:
    """Expressions over what is readable here. ``valid`` names headers whose validity may be asked for."""

    chance: Random
    variables: list[Variable]
    valid: list[str] = field(default_factory=list)

    def number(self, width: int) -> int:
        """A value of ``width`` bits, often one at which something turns."""
        top = 1 << width
        near = (0, 1, 2, top - 1, top - 2, top >> 1, (top >> 1) - 1)
        return self.chance.choice(near) % top if self.chance.random() < 0.5 else self.chance.randrange(top)

    def constant(self, width: int, signed: bool = False) -> str:
        value = self.number(width)
        if not signed:
            return f"{width}w{value:#x}"
        value -= (1 << width) * (value >> (width - 1))
        if value == -(1 << (width - 1)):
            value += 1
        return f"(-{width}s{-value:#x})" if value < 0 else f"{width}s{value:#x}"

    def of(self, variable: Variable, depth: int) -> str:
        return self.ints(variable.width, depth) if variable.signed else self.bits(variable.width, depth)

    # -- leaves --------------------------------------------------------------------------------------------------

    def leaf(self, width: int) -> str:
        """A ``bit<width>`` made of one variable, cut or widened to fit; sometimes a constant."""
        known = [v for v in self.variables if not v.signed]
        if not known or self.chance.random() < 0.1:
            return self.constant(width)
        exact = [v for v in known if v.width == width]
        if exact and self.chance.random() < 0.8:
            return self.chance.choice(exact).name
        chosen = self.chance.choice(known)
        if chosen.width > width:
            low = self.chance.randrange(chosen.width - width + 1)
            return f"{chosen.name}[{low + width - 1}:{low}]"
        return f"(bit<{width}>){chosen.name}" if chosen.width < width else chosen.name

    def signed_leaf(self, width: int) -> str:
        known = [v for v in self.variables if v.signed]
        if not known or self.chance.random() < 0.1:
            return self.constant(width, signed=True)
        exact = [v for v in known if v.width == width]
        if exact and self.chance.random() < 0.8:
            return self.chance.choice(exact).name
        chosen = self.chance.choice(known)
        return f"(int<{width}>){chosen.name}" if chosen.width != width else chosen.name

    # -- operators -----------------------------------------------------------------------------------------------

    def bits(self, width: int, depth: int) -> str:
        """An expression of type ``bit<width>``."""
        if depth <= 0:
            return self.leaf(width)
        chance = self.chance
        pick = chance.randrange(13)
        if pick < 6:
            operator = chance.choice(("+", "-", "*", "&", "|", "^", "+", "-", "&", "|", "|+|", "|-|"))
            return f"({self.bits(width, depth - 1)} {operator} {self.bits(width, depth - 1)})"
        if pick == 6:
            return f"({chance.choice('~-')}{self.bits(width, depth - 1)})"
        if pick == 7:
            return f"({self.bits(width, depth - 1)} {chance.choice(('<<', '>>'))} {self.amount(depth - 1)})"
        if pick == 8:
            return f"({self.bools(depth - 1)} ? {self.bits(width, depth - 1)} : {self.bits(width, depth - 1)})"
        if pick == 9 and width > 1:
            high = chance.randrange(1, width)
            return f"({self.bits(high, depth - 1)} ++ {self.bits(width - high, depth - 1)})"
        if pick == 10 and width < MAX_WIDTH:
            more = width + chance.choice((1, 5, 8, 64, 100))
            low = chance.randrange(more - width + 1)
            return f"({self.bits(more, depth - 1)})[{low + width - 1}:{low}]"
        if pick == 11 and width > 1:
            return f"(bit<{width}>)({self.ints(width, depth - 1)})"
        if pick == 12:
            other = chance.choice(WIDTHS)
            return f"(bit<{width}>)({self.bits(other, depth - 1)})"
        return self.leaf(width)

    def ints(self, width: int, depth: int) -> str:
        """An expression of type ``int<width>``, width at least 2."""
        if depth <= 0:
            return self.signed_leaf(width)
        chance = self.chance
        pick = chance.randrange(10)
        if pick < 4:
            operator = chance.choice(("+", "-", "*", "&", "|", "^", "|+|", "|-|"))
            return f"({self.ints(width, depth - 1)} {operator} {self.ints(width, depth - 1)})"
        if pick == 4:
            return f"({chance.choice('~-')}{self.ints(width, depth - 1)})"
        if pick == 5:
            return f"({self.ints(width, depth - 1)} {chance.choice(('<<', '>>'))} {self.amount(depth - 1)})"
        if pick == 6:
            return f"({self.bools(depth - 1)} ? {self.ints(width, depth - 1)} : {self.ints(width, depth - 1)})"
        if pick == 7:
            return f"(int<{width}>)({self.bits(width, depth - 1)})"
        if pick == 8:
            return f"(int<{width}>)({self.ints(max(2, chance.choice(WIDTHS)), depth - 1)})"
        return self.signed_leaf(width)

    def amount(self, depth: int) -> str:
        """What to shift by: p4c's limit for BMv2 is eight bits."""
        return str(self.chance.choice((1, 2, 7, 8, 31, 64, 100))) if depth <= 0 else self.bits(8, 0)

    def bools(self, depth: int) -> str:
        chance = self.chance
        pick = chance.randrange(8) if depth > 0 else 7
        if pick == 0:
            return f"({self.bools(depth - 1)} {chance.choice(('&&', '||'))} {self.bools(depth - 1)})"
        if pick == 1:
            return f"(!{self.bools(depth - 1)})"
        if pick == 2 and self.valid:
            return f"{chance.choice(self.valid)}.isValid()"
        width = chance.choice(WIDTHS)
        compare = chance.choice(COMPARISONS)
        if pick == 3:
            width = max(2, width)
            return f"({self.ints(width, depth - 1)} {compare} {self.ints(width, depth - 1)})"
        return f"({self.bits(width, depth - 1)} {compare} {self.bits(width, depth - 1)})"
