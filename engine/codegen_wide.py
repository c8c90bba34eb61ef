"""C for values of more than 128 bits: calls of ``sp_wide.h`` on arrays of 64-bit limbs.

A number of limbs is chosen at compile time, from the range of the value or from the width of what it goes to. As in
:mod:`engine.codegen_expr`, what commutes with reduction modulo a power of two is computed in the limbs its user needs;
everything else gets as many as hold its operands exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import ir
from engine.api import Unsupported
from engine.codegen_layout import is_wide, mask, octets

if TYPE_CHECKING:
    from engine.codegen_expr import Expressions, Span

MAX_LIMBS = 128  # 8,192 bits: a product of two numbers of 2,048 bits and room beside it
MAX_BITS = MAX_LIMBS * 64
LOGIC = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}


class TooWide(Unsupported):
    """A value of more bits than the caller can hold is needed exactly."""


def limbs(bits: int) -> int:
    """Limbs for so many bits; never less than two."""
    return max(2, (bits + 63) // 64)


def limbs_of(*spans: Span | None) -> int:
    """Limbs that hold every value of some ranges in two's complement. Raises :class:`TooWide`."""
    need = 2
    for span in spans:
        if span is None:
            raise TooWide("arithmetic on numbers without a bound is not supported")
        for value in span:
            need = max(need, limbs((value if value >= 0 else ~value).bit_length() + 1))
    if need > MAX_LIMBS:
        raise TooWide(f"arithmetic on more than {MAX_BITS:,} bits is not supported")
    return need


def constant(value: int, n: int) -> str:
    """A number as an array of limbs."""
    words = [f"{value >> (64 * i) & mask(64):#x}ull" for i in range(n)]
    return f"((const uint64_t[{n}]){{{', '.join(words)}}})"


class Wide:
    """Values as pointers to limbs, for the expressions of one :class:`Expressions`."""

    def __init__(self, expressions: Expressions) -> None:
        self.expr = expressions

    def exact(self, expr: ir.Expr, *others: ir.Expr) -> tuple[str, int]:
        """(pointer to the value, limbs): room for the value itself and for those of ``others``."""
        n = limbs_of(self.expr.span(expr), *(self.expr.span(other) for other in others))
        return self.value(expr, n), n

    def value(self, expr: ir.Expr, n: int) -> str:
        """Pointer to ``n`` limbs, congruent to the value modulo 2**(64 n)."""
        if isinstance(expr, ir.Const):
            return constant(expr.value, n)
        width = self.expr.width(expr)
        if width is not None and is_wide(width):
            return self._field(expr, width, n)
        if isinstance(expr, ir.Op) and expr.op in LOGIC:
            a, b = (self.value(arg, n) for arg in expr.args)
            return f"sp_w_{LOGIC[expr.op]}(SP_W({n}), {a}, {b}, {n})"
        if isinstance(expr, ir.Op) and expr.op == "~":
            return f"sp_w_not(SP_W({n}), {self.value(expr.args[0], n)}, {n})"
        if isinstance(expr, ir.Op) and expr.op == "<<":
            count = self.expr.shift_amount(expr.args[1])
            return f"sp_w_shl(SP_W({n}), {self.value(expr.args[0], n)}, {count}, {n})"
        if isinstance(expr, ir.Op) and expr.op == "?":
            a, b = self.value(expr.args[1], n), self.value(expr.args[2], n)
            return f"({self.expr.boolean(expr.args[0])} ? {a} : {b})"
        return self._other(expr, n)

    def _other(self, expr: ir.Expr, n: int) -> str:
        """What fits 128 bits, and operations that need their operands exactly."""
        try:
            code, kind = self.expr.narrow(expr)
        except TooWide:
            if not isinstance(expr, ir.Op):
                raise
            return self._operation(expr, n)
        form = "signed" if kind in ("int64_t", "sp_s128") else "unsigned"
        return f"sp_w_{form}(SP_W({n}), {n}, {code})"

    def _field(self, expr: ir.Expr, width: int, n: int) -> str:
        if isinstance(expr, ir.Lookahead):
            return f"sp_w_bits(SP_W({n}), {n}, {self.expr.lookahead_place(expr)}, {width}u)"
        if self.expr.is_varbit(expr):
            raise Unsupported("arithmetic on a varbit field is not supported")
        if isinstance(expr, ir.ElementField):
            stack = f"p->s{expr.element.stack}"
            depth = len(self.expr.program.stacks[expr.element.stack].headers)
            index = self.expr.modulo(expr.element.index, 64)
            place = f"({{ uint64_t i_ = {index}; i_ < {depth} ? {stack}[i_].f{expr.field} : sp_w_nothing; }})"
        else:
            place = self.expr.lvalue(expr)
        loaded = f"sp_w_load(SP_W({n}), {n}, {place}, {octets(width)})"
        if self.expr.is_signed(expr) and width < 64 * n:
            return f"sp_w_sext(SP_W({n}), {loaded}, {n}, {width})"
        return loaded

    def _operation(self, expr: ir.Op, n: int) -> str:
        op = expr.op
        if op == "two_comp_mod":
            width = self.expr.constant(expr.args[1])
            m = limbs(width)
            return self._fit(f"sp_w_sext(SP_W({m}), {self.value(expr.args[0], m)}, {m}, {width})", m, n)
        if op in ("sat_cast", "usat_cast"):
            source, target = self.expr.span(expr.args[0]), self.expr.span(expr)
            code, m = self.exact(expr.args[0])
            assert source is not None and target is not None
            if source.high > target.high:
                code = f"sp_w_min({code}, {constant(target.high, m)}, {m})"
            if source.low < target.low:
                code = f"sp_w_max({code}, {constant(target.low, m)}, {m})"
            return self._fit(code, m, n)
        if op == ">>":
            code, m = self.exact(expr.args[0])
            return self._fit(f"sp_w_shr(SP_W({m}), {code}, {self.expr.shift_amount(expr.args[1])}, {m})", m, n)
        if op in ("/", "%"):
            self.expr.check_division(expr)
            a, m = self.exact(expr.args[0], expr.args[1])
            function = "sp_w_divide" if op == "/" else "sp_w_modulo"
            return self._fit(f"{function}(SP_W({m}), SP_W({m}), {a}, {self.value(expr.args[1], m)}, {m})", m, n)
        raise Unsupported(f"the operator {op!r} on more than 128 bits is not supported")

    @staticmethod
    def _fit(code: str, have: int, want: int) -> str:
        return code if have == want else f"sp_w_fit(SP_W({want}), {want}, {code}, {have})"

    def compare(self, op: str, left: ir.Expr, right: ir.Expr) -> str:
        """C condition; ``op`` is one of C's comparisons."""
        a, n = self.exact(left, right)
        return f"(sp_w_compare({a}, {self.value(right, n)}, {n}) {op} 0)"

    def nonzero(self, expr: ir.Expr) -> str:
        code, n = self.exact(expr)
        return f"(!sp_w_zero({code}, {n}))"
