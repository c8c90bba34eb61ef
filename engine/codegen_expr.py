"""C for expressions, exact against BMv2's integers of unlimited size.

Every expression has a range, found by interval arithmetic. An operation that commutes with reduction modulo a power of
two (addition, multiplication, bitwise operations, left shift) is computed in 64 or 128 bits whatever its range, because
its user only needs the low bits; one that does not (comparison, division, right shift, saturation) needs its operands
exactly. Where 128 bits do not hold them, :mod:`engine.codegen_wide` takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine import ir
from engine.api import Unsupported
from engine.codegen_layout import Layout, is_wide, literal, mask, octets
from engine.codegen_wide import MAX_BITS, TooWide, Wide, constant


class Span(NamedTuple):
    """Inclusive range of an expression's value."""

    low: int
    high: int


RING = {"+", "-", "*", "&", "|", "^", "~", "<<"}
COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
BOOLEAN = COMPARISONS | {"and", "or", "not", "d2b", "valid", "valid_union"}
KINDS = (
    # C type, bits, lowest, highest
    ("uint64_t", 64, 0, mask(64)),
    ("int64_t", 64, -(1 << 63), mask(63)),
    ("sp_s128", 128, -(1 << 127), mask(127)),
    ("sp_u128", 128, 0, mask(128)),
)
MAX_SHIFT = 4096


def kind_of(span: Span | None) -> tuple[str, int]:
    """C type and bits that hold every value of a range."""
    if span is not None:
        for name, bits, low, high in KINDS:
            if low <= span.low and span.high <= high:
                return name, bits
    raise TooWide("arithmetic on more than 128 bits is not supported here")


def _cover(value: int) -> int:
    """The smallest 2**n - 1 that is not below ``value``."""
    return mask(value.bit_length())


class Expressions:
    """Generates expressions inside one action (or none); ``parsing``: inside the parser, where lookaheads are."""

    def __init__(self, layout: Layout, params: Sequence[tuple[str, int]] = (), *, parsing: bool = False) -> None:
        self.layout = layout
        self._parsing = parsing
        self.program = layout.program
        self.wide = Wide(self)
        self._params: list[str] = []
        word = 0
        for _name, width in params:
            if width <= 64:
                self._params.append(f"d[{word}]")
                word += 1
            elif width <= 128:
                self._params.append(f"((sp_u128)d[{word}] << 64 | d[{word + 1}])")
                word += 2
            else:
                self._params.append(f"((const uint8_t *)(d + {word}))")
                word += (octets(width) + 7) // 8

    # -- fields --------------------------------------------------------------------------------------------------

    def width(self, expr: ir.Expr) -> int | None:
        """Bits of a field or parameter; None for anything else."""
        if isinstance(expr, ir.FieldRef):
            return self.program.field_type(expr).width
        if isinstance(expr, ir.Param | ir.Lookahead):
            return expr.width
        if isinstance(expr, ir.ElementField):
            return self._element_type(expr.element.stack).fields[expr.field].width
        if isinstance(expr, ir.LastField):
            return self._element_type(expr.stack).fields[expr.field].width
        return None

    def _element_type(self, stack: int) -> ir.HeaderType:
        return self.layout.header_type(self.program.stacks[stack].headers[0])

    def is_signed(self, expr: ir.Expr) -> bool:
        if isinstance(expr, ir.FieldRef):
            return self.program.field_type(expr).signed
        if isinstance(expr, ir.Param):
            return expr.signed
        if isinstance(expr, ir.ElementField):
            return self._element_type(expr.element.stack).fields[expr.field].signed
        if isinstance(expr, ir.LastField):
            return self._element_type(expr.stack).fields[expr.field].signed
        return False

    def lvalue(self, expr: ir.Expr) -> str:
        """C lvalue of a field (the raw bits); a byte array for wide ones."""
        if isinstance(expr, ir.FieldRef):
            return self.layout.field(expr)
        if isinstance(expr, ir.Param):
            return self._params[expr.index]
        if isinstance(expr, ir.LastField):
            stack = f"p->s{expr.stack}"
            return f"{stack}[{stack}_next ? {stack}_next - 1 : 0].f{expr.field}"
        raise Unsupported("a field that is picked at run time is not supported here")

    def is_varbit(self, expr: ir.Expr) -> bool:
        return isinstance(expr, ir.FieldRef) and self.program.field_type(expr).varbit

    # -- kinds of expressions ------------------------------------------------------------------------------------

    def is_bool(self, expr: ir.Expr) -> bool:
        if isinstance(expr, ir.BoolConst):
            return True
        if isinstance(expr, ir.Op):
            return expr.op in BOOLEAN or (expr.op == "?" and self.is_bool(expr.args[1]))
        return False

    def span(self, expr: ir.Expr) -> Span | None:
        """Range of a value; None when it has no useful bound."""
        if isinstance(expr, ir.Const):
            return Span(expr.value, expr.value)
        width = self.width(expr)
        if width is not None:
            if self.is_signed(expr):
                return Span(-(1 << (width - 1)), mask(width - 1))
            return Span(0, mask(width))
        if isinstance(expr, ir.Op):
            return self._op_span(expr)
        raise Unsupported(f"{type(expr).__name__} as a value is not supported")

    def _op_span(self, expr: ir.Op) -> Span | None:
        op = expr.op
        if op == "b2d":
            return Span(0, 1)
        if op in ("last_stack_index", "size_stack"):
            depth = self._depth(expr.args[0])
            return Span(0, depth) if op == "size_stack" else Span(-1, depth - 1)
        if op in ("two_comp_mod", "sat_cast", "usat_cast"):
            width = self.constant(expr.args[1])
            return Span(0, mask(width)) if op == "usat_cast" else Span(-(1 << (width - 1)), mask(width - 1))
        if op == "?":
            a, b = self.span(expr.args[1]), self.span(expr.args[2])
            return Span(min(a.low, b.low), max(a.high, b.high)) if a and b else None
        a = self.span(expr.args[0])
        b = self.span(expr.args[1]) if len(expr.args) > 1 else None
        if op == "&":
            return self._and_span(a, b)
        if a is None or (b is None and op != "~"):
            return None
        if op == "~":
            return Span(~a.high, ~a.low)
        assert b is not None
        if op == "+":
            return Span(a.low + b.low, a.high + b.high)
        if op == "-":
            return Span(a.low - b.high, a.high - b.low)
        if op == "*":
            products = [x * y for x in a for y in b]
            return Span(min(products), max(products))
        if op in ("|", "^"):
            bound = max(_cover(x if x >= 0 else ~x) for x in (*a, *b))
            return Span(0 if a.low >= 0 and b.low >= 0 else ~bound, bound)
        if op == "<<":
            if b.high > MAX_SHIFT:
                return None
            return Span(min(a.low << b.high, a.low << max(b.low, 0)), max(a.high << b.high, a.high))
        if op == ">>":
            return Span(min(a.low, a.low >> max(b.low, 0)), max(a.high >> max(b.low, 0), -1 if a.high < 0 else 0))
        if op in ("/", "%"):
            return Span(0, max(a.high, 0))
        raise Unsupported(f"the operator {op!r} is not supported as a value")

    @staticmethod
    def _and_span(a: Span | None, b: Span | None) -> Span | None:
        positive = [s.high for s in (a, b) if s is not None and s.low >= 0]
        if positive:
            return Span(0, min(positive))
        if a is None or b is None:
            return None
        bound = max(_cover(x if x >= 0 else ~x) for x in (*a, *b))
        return Span(~bound, bound)

    def constant(self, expr: ir.Expr) -> int:
        if isinstance(expr, ir.Const) and 1 <= expr.value <= 4096:
            return expr.value
        raise Unsupported("a cast to a width that is no constant is not supported")

    def _depth(self, expr: ir.Expr) -> int:
        if isinstance(expr, ir.StackRef):
            return len(self.program.stacks[expr.stack].headers)
        raise Unsupported("the size of anything but a header stack is not supported")

    # -- exact values --------------------------------------------------------------------------------------------

    def exact(self, expr: ir.Expr) -> tuple[str, str]:
        """(C expression, its type): the value itself. Raises :class:`TooWide` when that has more than 128 bits."""
        try:
            return self.narrow(expr)
        except TooWide:
            kind, _bits = kind_of(self.span(expr))
            return f"(({kind})sp_w_low({self.wide.value(expr, 2)}))", kind

    def narrow(self, expr: ir.Expr) -> tuple[str, str]:
        """As :meth:`exact`, for what can be computed in 128 bits. Raises :class:`TooWide`."""
        kind, bits = kind_of(self.span(expr))
        if isinstance(expr, ir.Op) and (expr.op in RING):
            return f"(({kind}){self.modulo(expr, bits)})", kind
        if isinstance(expr, ir.Const):
            return f"(({kind}){literal(expr.value)})", kind
        if isinstance(expr, ir.Op):
            return self._exact_op(expr, kind)
        return self._exact_field(expr, kind), kind

    def _exact_field(self, expr: ir.Expr, kind: str) -> str:
        width = self.width(expr)
        assert width is not None
        if isinstance(expr, ir.ElementField):
            stack = f"p->s{expr.element.stack}"
            depth = len(self.program.stacks[expr.element.stack].headers)
            index = self.modulo(expr.element.index, 64)
            raw = f"({{ uint64_t i_ = {index}; i_ < {depth} ? ({self._raw(width)}){stack}[i_].f{expr.field} : 0; }})"
        elif isinstance(expr, ir.Lookahead):
            raw = f"({self._raw(width)})sp_get_bits({self.lookahead_place(expr)}, {width}u)"
        else:
            raw = f"({self._raw(width)}){self.lvalue(expr)}"
        if self.is_signed(expr):
            bits = 64 if width <= 64 else 128
            return f"(({kind})sp_sext{bits}({raw}, {width}))"
        return f"(({kind}){raw})"

    def lookahead_place(self, expr: ir.Lookahead) -> str:
        """C: address and bit of a lookahead."""
        if not self._parsing:
            raise Unsupported("a lookahead outside the parser is not supported")
        return f"pkt, off * 8u + {expr.offset}u"

    @staticmethod
    def _raw(width: int) -> str:
        return "uint64_t" if width <= 64 else "sp_u128"

    def _exact_op(self, expr: ir.Op, kind: str) -> tuple[str, str]:
        op = expr.op
        if op == "b2d":
            return f"((uint64_t){self.boolean(expr.args[0])})", "uint64_t"
        if op == "size_stack" or op == "last_stack_index":
            assert isinstance(expr.args[0], ir.StackRef)
            less = " - 1" if op == "last_stack_index" else ""
            return f"(({kind})p->s{expr.args[0].stack}_next{less})", kind
        if op == "?":
            a, _ = self.exact(expr.args[1])
            b, _ = self.exact(expr.args[2])
            return f"({self.boolean(expr.args[0])} ? ({kind}){a} : ({kind}){b})", kind
        if op == "two_comp_mod":
            width = self.constant(expr.args[1])
            bits = 64 if width <= 64 else 128
            return f"(({kind})sp_sext{bits}({self.modulo(expr.args[0], bits)}, {width}))", kind
        if op in ("sat_cast", "usat_cast"):
            return self._saturate(expr, kind), kind
        if op == ">>":
            return self._shift_right(expr, kind), kind
        if op in ("/", "%"):
            a_span, b_span = self.check_division(expr)
            common, _ = kind_of(Span(0, max(a_span.high, b_span.high)))
            a, _ = self.exact(expr.args[0])
            b, _ = self.exact(expr.args[1])
            body = f"{common} b_ = ({common}){b}; b_ ? ({common}){a} {op} b_ : 0;"
            return f"(({kind})({{ {body} }}))", kind
        raise Unsupported(f"the operator {op!r} is not supported as a value")

    def check_division(self, expr: ir.Op) -> tuple[Span, Span]:
        """Ranges of the operands, which P4 and BMv2 want not to be negative."""
        a, b = self.span(expr.args[0]), self.span(expr.args[1])
        if not a or not b or a.low < 0 or b.low < 0:
            raise Unsupported("division of signed values is not supported")
        return a, b

    def _saturate(self, expr: ir.Op, kind: str) -> str:
        source = self.span(expr.args[0])
        target = self._op_span(expr)
        value, source_kind = self.exact(expr.args[0])
        assert source is not None and target is not None
        text = "v_"
        if source.high > target.high:
            text = f"v_ > ({source_kind}){literal(target.high)} ? ({source_kind}){literal(target.high)} : {text}"
        if source.low < target.low:
            text = f"v_ < ({source_kind}){literal(target.low)} ? ({source_kind}){literal(target.low)} : {text}"
        return f"(({kind})({{ {source_kind} v_ = {value}; {text}; }}))"

    def _shift_right(self, expr: ir.Op, kind: str) -> str:
        value, source_kind = self.exact(expr.args[0])
        bits = 128 if "128" in source_kind else 64
        function = ("sp_sar" if source_kind in ("int64_t", "sp_s128") else "sp_shr") + str(bits)
        return f"(({kind}){function}({value}, {self.shift_amount(expr.args[1])}))"

    def shift_amount(self, expr: ir.Expr) -> str:
        span = self.span(expr)
        if span is None or span.low < 0:
            raise Unsupported("a shift by a signed value is not supported")
        try:
            code, kind = self.exact(expr)
        except TooWide:
            amount, n = self.wide.exact(expr)
            return f"sp_w_min({amount}, {constant(MAX_BITS, n)}, {n})[0]"
        if kind == "sp_u128":
            return f"({{ sp_u128 s_ = {code}; s_ < {MAX_BITS} ? (uint64_t)s_ : {MAX_BITS}; }})"
        return code

    # -- modulo 2**64 or 2**128 ----------------------------------------------------------------------------------

    def modulo(self, expr: ir.Expr, bits: int) -> str:
        """C expression of type uint64_t (bits 64) or sp_u128 (128), congruent to the value modulo 2**bits."""
        kind = "uint64_t" if bits == 64 else "sp_u128"
        if isinstance(expr, ir.Const):
            return f"(({kind}){literal(expr.value & mask(bits))})"
        width = self.width(expr)
        if width is not None and is_wide(width):
            return self._wide_bits(expr, width, 0, bits)
        if isinstance(expr, ir.Op) and expr.op in RING:
            if expr.op == "&":  # a narrow operand makes the rest of the other irrelevant
                span = self._op_span(expr)
                if span is not None and span.low >= 0 and span.high <= mask(64):
                    bits = 64
            a = self.modulo(expr.args[0], bits)
            if expr.op == "~":
                return f"(({kind})~{a})"
            if expr.op == "<<":
                return f"(({kind})sp_shl{bits}({a}, {self.shift_amount(expr.args[1])}))"
            return f"(({kind})({a} {expr.op} {self.modulo(expr.args[1], bits)}))"
        if isinstance(expr, ir.Op) and expr.op == "?" and not self.is_bool(expr):
            a, b = self.modulo(expr.args[1], bits), self.modulo(expr.args[2], bits)
            return f"({self.boolean(expr.args[0])} ? {a} : {b})"
        if isinstance(expr, ir.Op) and expr.op == ">>":
            wide = self.width(expr.args[0])
            if wide is not None and is_wide(wide) and isinstance(expr.args[1], ir.Const):
                return self._wide_bits(expr.args[0], wide, expr.args[1].value, bits)
        try:
            code, _ = self.exact(expr)
        except TooWide:
            code = f"sp_w_low({self.wide.value(expr, 2)})"
        return f"(({kind}){code})"

    def _wide_bits(self, expr: ir.Expr, width: int, shift: int, bits: int) -> str:
        """``bits`` bits of a byte array field above its lowest ``shift``."""
        kind = "uint64_t" if bits == 64 else "sp_u128"
        simple = isinstance(expr, ir.FieldRef | ir.Param | ir.LastField) and not self.is_varbit(expr)
        if not simple or (self.is_signed(expr) and shift):
            shifted = ir.Op(">>", (expr, ir.Const(shift))) if shift else expr
            return f"(({kind})sp_w_low({self.wide.value(shifted, 2)}))"
        count = min(bits, width - shift)
        if count <= 0:
            return f"(({kind})0)"
        first = octets(width) * 8 - shift - count
        return f"(({kind})sp_get_bits({self.lvalue(expr)}, {first}u, {count}u))"

    def fitted(self, expr: ir.Expr, width: int) -> str:
        """The low ``width`` (at most 128) bits of a value, higher bits zero; bool counts as 0 or 1."""
        bits = 64 if width <= 64 else 128
        if self.is_bool(expr):
            return f"((uint64_t){self.boolean(expr)})"
        code = self.modulo(expr, bits)
        span = self.span(expr)
        if span is not None and span.low >= 0 and span.high <= mask(width):
            return code
        return code if width == bits else f"({code} & {literal(mask(width))})"

    # -- booleans ------------------------------------------------------------------------------------------------

    def boolean(self, expr: ir.Expr) -> str:
        if isinstance(expr, ir.BoolConst):
            return "1" if expr.value else "0"
        if not isinstance(expr, ir.Op):
            raise Unsupported(f"{type(expr).__name__} as a condition is not supported")
        op, args = expr.op, expr.args
        if op in ("and", "or"):
            return f"({self.boolean(args[0])} {'&&' if op == 'and' else '||'} {self.boolean(args[1])})"
        if op == "not":
            return f"(!{self.boolean(args[0])})"
        if op == "d2b":
            return self.nonzero(args[0])
        if op == "valid":
            return f"({self._header_valid(args[0])})"
        if op == "valid_union":
            if not isinstance(args[0], ir.UnionRef):
                raise Unsupported("validity of anything but a header union is not supported")
            members = self.program.unions[args[0].union].headers
            return "(" + " || ".join(self.layout.valid(h) for h in members) + ")"
        if op == "?":
            return f"({self.boolean(args[0])} ? {self.boolean(args[1])} : {self.boolean(args[2])})"
        if op in COMPARISONS:
            return self._compare(op, args[0], args[1])
        raise Unsupported(f"the operator {op!r} as a condition is not supported")

    def nonzero(self, expr: ir.Expr) -> str:
        """C condition: a number other than 0."""
        try:
            return f"({self.exact(expr)[0]} != 0)"
        except TooWide:
            return self.wide.nonzero(expr)

    def _header_valid(self, expr: ir.Expr) -> str:
        if isinstance(expr, ir.HeaderRef):
            return self.layout.valid(expr.header)
        if isinstance(expr, ir.StackElement):
            depth = len(self.program.stacks[expr.stack].headers)
            index = self.modulo(expr.index, 64)
            return f"({{ uint64_t i_ = {index}; i_ < {depth} && p->s{expr.stack}[i_].valid; }})"
        raise Unsupported("validity of anything but a header is not supported")

    def _compare(self, op: str, left: ir.Expr, right: ir.Expr) -> str:
        if self.is_bool(left) or self.is_bool(right):
            return f"(!!{self.boolean(left)} {op} !!{self.boolean(right)})"
        if isinstance(left, ir.HeaderRef) and isinstance(right, ir.HeaderRef):
            same = self._same_header(left.header, right.header)
            return same if op == "==" else f"(!{same})"
        if op in ("==", "!=") and isinstance(left, ir.FieldRef) and isinstance(right, ir.FieldRef):
            a, b = self.program.field_type(left), self.program.field_type(right)
            if a.varbit or b.varbit:
                return self._compare_varbit(op, left, right)
            if is_wide(a.width) and a.width == b.width:
                size = octets(a.width)
                return f"(memcmp({self.lvalue(left)}, {self.lvalue(right)}, {size}) {op} 0)"
        if self.is_varbit(left) or self.is_varbit(right):
            raise Unsupported("arithmetic on a varbit field is not supported")
        a_span, b_span = self.span(left), self.span(right)
        try:
            both = a_span and b_span and Span(min(a_span.low, b_span.low), max(a_span.high, b_span.high))
            kind, _ = kind_of(both)
            return f"(({kind}){self.exact(left)[0]} {op} ({kind}){self.exact(right)[0]})"
        except TooWide:
            return self.wide.compare(op, left, right)

    def _compare_varbit(self, op: str, left: ir.FieldRef, right: ir.FieldRef) -> str:
        a, b = self.layout.length(left), self.layout.length(right)
        same = f"({a} == {b} && !memcmp({self.lvalue(left)}, {self.lvalue(right)}, ({a} + 7) / 8))"
        return same if op == "==" else f"(!{same})"

    def _same_header(self, left: int, right: int) -> str:
        if self.program.headers[left].type != self.program.headers[right].type:
            return "0"
        parts = [self.layout.valid(left), self.layout.valid(right)]
        for i, field in enumerate(self.layout.header_type(left).fields):
            a, b = ir.FieldRef(left, i), ir.FieldRef(right, i)
            if field.varbit:
                parts.append(self._compare_varbit("==", a, b))
            elif is_wide(field.width):
                parts.append(f"!memcmp({self.lvalue(a)}, {self.lvalue(b)}, {octets(field.width)})")
            else:
                parts.append(f"{self.lvalue(a)} == {self.lvalue(b)}")
        return "(" + " && ".join(parts) + ")"
