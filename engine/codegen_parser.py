"""C for the parser: states become labels of one function."""

from __future__ import annotations

from collections.abc import Sequence

from engine import ir
from engine.api import Unsupported
from engine.codegen_action import NO_VALUE, Actions
from engine.codegen_expr import Expressions
from engine.codegen_layout import Layout, comment, ctype, is_wide, literal, mask, octets
from engine.codegen_valid import made_valid, possibly_valid, removes_nothing
from engine.codegen_wide import constant, limbs
from engine.ir_expr import refuse

# The core library's errors, for programs whose JSON does not list them
CORE_ERRORS = ("NoError", "PacketTooShort", "NoMatch", "StackOutOfBounds", "HeaderTooShort", "ParserTimeout")


def field_loads(fields: Sequence[ir.Field], target: str, base: str, number: int = 0) -> list[str]:
    """Statements that extract fields, the first one ``f<number>``, at the byte address ``base``."""
    out: list[str] = []
    bit = 0
    for i, field in enumerate(fields, number):
        lvalue = f"{target}.f{i}"
        first, last = bit // 8, (bit + field.width - 1) // 8
        span = last - first + 1
        low = 7 - (bit + field.width - 1) % 8  # bits below the field in its last byte
        at = f"{base} + {first}"
        if is_wide(field.width):
            if bit % 8 == 0 and field.width % 8 == 0:
                out.append(f"memcpy({lvalue}, {at}, {field.width // 8});")
            else:
                pad = octets(field.width) * 8 - field.width
                out.append(f"memset({lvalue}, 0, 1); sp_copy_bits({lvalue}, {pad}u, {base}, {bit}u, {field.width}u);")
        elif span <= 8:
            code = f"sp_load({at}, {span})"
            if low:
                code = f"({code} >> {low})"
            if span * 8 - low != field.width:
                code = f"({code} & {literal(mask(field.width))})"
            out.append(f"{lvalue} = ({ctype(field.width)}){code};")
        elif span <= 16:
            code = f"sp_load128({at}, {span})"
            if low:
                code = f"({code} >> {low})"
            if span * 8 - low != field.width:
                code = f"({code} & {literal(mask(field.width))})"
            out.append(f"{lvalue} = ({ctype(field.width)}){code};")
        else:
            out.append(f"{lvalue} = ({ctype(field.width)})sp_get_bits({base}, {bit}u, {field.width}u);")
        bit += field.width
    return out


class Parser:
    """Generates ``sp_parse`` and one extraction function per header type."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.program = layout.program
        self.actions = Actions(layout, parsing=True)
        self.expr: Expressions = self.actions.expr

    def error(self, name: str) -> int:
        """The program's number of a core error."""
        if name in self.program.errors:
            return self.program.errors[name]
        return CORE_ERRORS.index(name) if name in CORE_ERRORS else 0xFFFF

    def _fail(self, name: str) -> str:
        return f"{{ error = {self.error(name)}; goto failed; }}"

    # -- extraction ----------------------------------------------------------------------------------------------

    def extractors(self) -> list[str]:
        """``sp_extract_N`` for every header type without varbit that is extracted."""
        out: list[str] = []
        for i, kind in enumerate(self.program.types):
            if kind.varbit is not None or kind.bits % 8 or not kind.fields or self.layout.absent(i):
                continue
            out.append(f"SP_INLINE void sp_extract_{i}(struct sp_t{i} *h, const uint8_t *b)\n{{")
            out += [f"    {line}" for line in field_loads(kind.fields, "(*h)", "b")]
            out += ["}", ""]
        return out

    def _extract(self, target: str, header: int, length: ir.Expr | None, valid: str) -> list[str]:
        kind = self.layout.header_type(header)
        type_index = self.program.headers[header].type
        if length is not None:
            return self._extract_varbit(target, kind, length, valid)
        size = kind.bits // 8
        out = [f"if (len - off < {size}u) {self._fail('PacketTooShort')}"]
        if kind.fields:
            out.append(f"sp_extract_{type_index}(&{target}, pkt + off);")
        out.append(f"{valid} off += {size}u;")
        return out

    def _extract_varbit(self, target: str, kind: ir.HeaderType, length: ir.Expr, valid: str) -> list[str]:
        position = kind.varbit
        assert position is not None
        head = ir.HeaderType(kind.name, kind.fields[:position])
        tail_bits = kind.bits - head.bits
        limit = kind.fields[position].width
        # Signed 64 bits hold any length that can succeed; BMv2 converts to int and fails alike for negative ones
        out = ["{", f"uint64_t bits_ = {self.expr.modulo(length, 64)};"]
        out.append(f"if (bits_ % 8) {self._fail('ParserInvalidArgument')}")
        out.append(
            f"if (bits_ / 8 > len - off || len - off - bits_ / 8 < {kind.bits // 8}u) {self._fail('PacketTooShort')}"
        )
        out.append(f"if (bits_ > {limit}u) {self._fail('HeaderTooShort')}")
        out += field_loads(head.fields, target, "pkt + off")
        out.append(f"memset({target}.f{position}, 0, sizeof {target}.f{position});")
        out.append(f"memcpy({target}.f{position}, pkt + off + {head.bits // 8}, bits_ / 8);")
        out.append(f"{target}.n{position} = (uint32_t)bits_;")
        out.append(f"off += {head.bits // 8}u + (uint32_t)(bits_ / 8);")
        if tail_bits:
            loads = field_loads(kind.fields[position + 1 :], target, "pkt + off", position + 1)
            out += [*loads, f"off += {tail_bits // 8}u;"]
        out += [valid, "}"]
        return out

    # -- states --------------------------------------------------------------------------------------------------

    def _operations(self, state: ir.State, valid: set[int] | None) -> list[str]:
        """C statements of a state; ``valid``: headers that may be when it begins."""
        now = set(valid or ())
        out: list[str] = []
        for op in state.ops:
            if not removes_nothing(op, now):
                out += self._operation(op)
            now |= made_valid(self.program, op)
        return out

    def _operation(self, op: ir.ParserOp) -> list[str]:
        """C statements of one operation; what they look ahead at is checked to be there first."""
        checks = [self._lookahead_check(found) for expr in operands(op) for found in lookaheads(expr)]
        return checks + self._checked(op)

    def _checked(self, op: ir.ParserOp) -> list[str]:
        if isinstance(op, ir.Extract):
            valid = "" if self.program.headers[op.header].metadata else self.layout.set_valid(op.header)
            return self._extract(self.layout.header(op.header), op.header, op.length, valid)
        if isinstance(op, ir.ExtractStack):
            return self._extract_stack(op)
        if isinstance(op, ir.ExtractUnionStack):
            return self._extract_union_stack(op)
        if isinstance(op, ir.Set):
            return self._set(op)
        if isinstance(op, ir.Verify):
            error = self.expr.modulo(op.error, 64)
            return [f"if (!{self.expr.boolean(op.condition)}) {{ error = (uint32_t){error}; goto failed; }}"]
        if isinstance(op, ir.Advance):
            code, kind = self.expr.exact(op.bits)
            if kind in ("int64_t", "sp_s128"):
                raise Unsupported("advance by a signed number of bits is not supported")
            return [
                f"{{ sp_u128 bits_ = {code};",
                f"  if (bits_ % 8) {self._fail('ParserInvalidArgument')}",
                f"  if (bits_ / 8 > len - off) {self._fail('PacketTooShort')}",
                "  off += (uint32_t)(bits_ / 8); }",
            ]
        return self.actions.statement(op)

    def _extract_stack(self, op: ir.ExtractStack) -> list[str]:
        stack = self.program.stacks[op.stack]
        name = f"p->s{op.stack}"
        out = [f"if ({name}_next >= {len(stack.headers)}) {self._fail('StackOutOfBounds')}"]
        valid = f"{name}[{name}_next].valid = 1;"
        if op.stack in self.layout.cold_stacks:
            valid += " p->cold_used = 1;"
        out += self._extract(f"{name}[{name}_next]", stack.headers[0], op.length, valid)
        out.append(f"{name}_next++;")
        return out

    def _extract_union_stack(self, op: ir.ExtractUnionStack) -> list[str]:
        unions = self.program.union_stacks[op.stack].unions
        out = [f"switch (p->us{op.stack}_next) {{"]
        for i, union in enumerate(unions):
            header = self.program.unions[union].headers[op.member]
            body = self._extract(self.layout.header(header), header, op.length, self.layout.set_valid(header))
            out += [f"case {i}: {{", *body, "} break;"]
        out += [f"default: {self._fail('StackOutOfBounds')}", "}", f"p->us{op.stack}_next++;"]
        return out

    def _lookahead_check(self, value: ir.Lookahead) -> str:
        return f"if (len - off < {(value.offset + value.width + 7) // 8}u) {self._fail('PacketTooShort')}"

    def _set(self, op: ir.Set) -> list[str]:
        return self.actions.statement(ir.Primitive("assign", (op.target, op.value)))

    def _transitions(self, state: ir.State) -> list[str]:
        explicit = [t for t in state.transitions if t.value is not None or t.value_set is not None]
        default = next((t for t in state.transitions if t.value is None and t.value_set is None), None)
        # Without a default, BMv2 leaves the parser, which accepts
        otherwise = self._goto(default.next if default else None)
        if not explicit or not state.key:
            return [otherwise]
        out = ["{"]
        for i, (part, width) in enumerate(state.key):
            if isinstance(part, ir.Lookahead):
                out.append(self._lookahead_check(part))
            if is_wide(width):
                n = limbs(width)
                cut = f"sp_w_and(SP_W({n}), {self.expr.wide.value(part, n)}, {constant(mask(width), n)}, {n})"
                out.append(f"const uint64_t *k{i} = {cut};")
            else:
                out.append(f"{'uint64_t' if width <= 64 else 'sp_u128'} k{i} = {self.expr.fitted(part, width)};")
        if (
            len(state.key) == 1
            and state.key[0][1] <= 64
            and all(t.mask is None and t.value_set is None for t in explicit)
        ):
            seen: set[int] = set()
            out.append("switch (k0) {")
            for transition in explicit:
                assert transition.value is not None
                if transition.value not in seen:
                    out.append(f"case {literal(transition.value)}: {self._goto(transition.next)}")
                    seen.add(transition.value)
            return [*out, "default: break;", "}", "}", otherwise]
        for transition in explicit:
            out.append(f"if ({self._matches(state, transition)}) {self._goto(transition.next)}")
        return [*out, "}", otherwise]

    def _matches(self, state: ir.State, transition: ir.Transition) -> str:
        if transition.value_set is not None:
            return self._in_value_set(state, transition)
        assert transition.value is not None
        tests = []
        shift = sum(octets(width) for _part, width in state.key) * 8
        for i, (_part, width) in enumerate(state.key):
            shift -= octets(width) * 8
            everything = mask(octets(width) * 8)
            wanted = (transition.value >> shift) & everything
            care = everything if transition.mask is None else (transition.mask >> shift) & everything
            if is_wide(width):
                n = limbs(octets(width) * 8)
                tests.append(f"sp_w_matches(k{i}, {constant(care, n)}, {constant(wanted & care, n)}, {n})")
                continue
            if care & mask(width) == mask(width) and not (wanted & care) >> width:
                tests.append(f"k{i} == {literal(wanted & care)}")
            elif care:
                tests.append(f"(k{i} & {literal(care)}) == {literal(wanted & care)}")
        return " && ".join(tests) or "1"

    def _in_value_set(self, state: ir.State, transition: ir.Transition) -> str:
        assert transition.value_set is not None
        total = sum(width for _part, width in state.key)
        bit = octets(total) * 8 - total
        packed_mask = 0
        shift = sum(octets(width) for _part, width in state.key) * 8
        puts = []
        for i, (_part, width) in enumerate(state.key):
            shift -= octets(width) * 8
            puts.append(f"sp_{'w_' if is_wide(width) else ''}put_bits(v_, {bit}u, k{i}, {width}u);")
            bit += width
            if transition.mask is not None:
                packed_mask = packed_mask << width | ((transition.mask >> shift) & mask(width))
        chosen = "NULL"
        prefix = f"uint8_t v_[{octets(total)}] = {{0}}; {' '.join(puts)}"
        if transition.mask is not None:
            data = packed_mask.to_bytes(octets(total), "big")
            prefix += f" static const uint8_t m_[] = {{{', '.join(map(str, data))}}};"
            chosen = "m_"
        return f"({{ {prefix} sp_value_set_has(&sw->value_sets[{transition.value_set}], {total}u, v_, {chosen}); }})"

    @staticmethod
    def _goto(state: int | None) -> str:
        return "goto accept;" if state is None else f"goto state_{state};"

    def _cyclic(self) -> bool:
        """Whether some state can be entered twice: peels off states that nothing left leads to."""
        following = [{t.next for t in s.transitions if t.next is not None} for s in self.program.states]
        entries = [0] * len(following)
        for targets in following:
            for target in targets:
                entries[target] += 1
        free = [i for i, count in enumerate(entries) if not count]
        peeled = 0
        while free:
            peeled += 1
            for target in following[free.pop()]:
                entries[target] -= 1
                if not entries[target]:
                    free.append(target)
        return peeled < len(following)

    def function(self) -> list[str]:
        """``sp_parse``: fills the headers, then ``c->payload``, ``c->parser_error``."""
        steps = self._cyclic()
        out = [
            "static void sp_parse(struct sp_switch *sw, struct sp_context *c, const uint8_t *pkt, uint32_t len)",
            "{",
            "    struct sp_phv *p = &c->phv;",
            f"    uint32_t off = 0, error = {self.error('NoError')};",
            "    (void)sw; (void)p;",
        ]
        if steps:
            out.append("    uint32_t steps = 0;")
        out.append("    " + self._goto(self.program.first_state))
        valid = possibly_valid(self.program)
        for i in self._reachable():
            state = self.program.states[i]
            out.append(f"state_{i}:; {comment(state.name)}")
            try:
                lines = self._operations(state, valid[i]) + self._transitions(state)
            except Unsupported as error:
                if state.source is None or ":" in str(error):
                    raise
                refuse(str(error).removesuffix(" is not supported"), state.source)
            if steps:
                out.append(f"    if (++steps > SP_MAX_STATES) {self._fail('ParserTimeout')}")
            out.append(f"    SP_TRACE_EVENT(SP_T_STATE, {i}, off, NULL, 0);")
            out += ["    " + line for line in lines]
        out += [
            "failed: __attribute__((unused));",
            "    sw->stats.parser_errors++;",
            "accept: __attribute__((unused));",
            "    c->parser_error = error; c->payload = pkt + off; c->payload_len = len - off;",
            "    SP_TRACE_EVENT(SP_T_PARSED, error, off, NULL, 0);",
            "}",
            "",
        ]
        return out

    def _reachable(self) -> list[int]:
        """States that can be entered, in depth-first order."""
        order: list[int] = []
        pending = [] if self.program.first_state is None else [self.program.first_state]
        while pending:
            state = pending.pop()
            if state in order:
                continue
            order.append(state)
            pending += [t.next for t in reversed(self.program.states[state].transitions) if t.next is not None]
        return order


def operands(op: ir.ParserOp) -> list[ir.Expr]:
    """The expressions that an operation evaluates."""
    if isinstance(op, ir.Extract | ir.ExtractStack | ir.ExtractUnionStack):
        return [] if op.length is None else [op.length]
    if isinstance(op, ir.Set):
        return [op.value]
    if isinstance(op, ir.Verify):
        return [op.condition, op.error]
    if isinstance(op, ir.Advance):
        return [op.bits]
    if isinstance(op, ir.Primitive):
        single = [arg for arg in op.args if not isinstance(arg, NO_VALUE)]
        return single + [item for arg in op.args if isinstance(arg, ir.Vector) for item in arg.items]
    return []


def lookaheads(expr: ir.Expr) -> list[ir.Lookahead]:
    """All lookaheads inside an expression."""
    if isinstance(expr, ir.Lookahead):
        return [expr]
    if isinstance(expr, ir.Op):
        return [found for arg in expr.args for found in lookaheads(arg)]
    if isinstance(expr, ir.StackElement):
        return lookaheads(expr.index)
    if isinstance(expr, ir.ElementField):
        return lookaheads(expr.element.index)
    return []
