"""C for primitives: what actions, and parser states, do to a packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine import ir
from engine.api import Unsupported
from engine.codegen_expr import Expressions
from engine.codegen_layout import Layout, c_string, ctype, is_wide, literal, mask, octets
from engine.codegen_wide import limbs
from engine.ir_expr import refuse

EXIT_OPS = ("exit", "assert", "assume")
NO_VALUE = (ir.ArrayRef, ir.Text, ir.Vector)


def calculated(program: ir.Program, index: int) -> str:
    """C expression: 64 bits of a calculation's result."""
    if program.calculations[index].algorithm == "random":
        return "sp_random(sw, 0, UINT64_MAX)"
    return f"sp_calc_{index}(c, p)"


class Actions:
    """Generates the statements of one action (or parser state)."""

    def __init__(self, layout: Layout, params: tuple[tuple[str, int], ...] = (), *, parsing: bool = False) -> None:
        self.layout = layout
        self.program = layout.program
        self.expr = Expressions(layout, params, parsing=parsing)

    def body(self, primitives: tuple[ir.Primitive, ...]) -> list[str]:
        """All primitives of an action, with labels where jumps lead."""
        targets = {self._jump_target(p) for p in primitives if p.op in ("_jump", "_jump_if_zero")}
        if any(not 0 <= t <= len(primitives) for t in targets):
            raise Unsupported("a jump out of an action is not supported")
        out: list[str] = []
        for i, primitive in enumerate(primitives):
            if i in targets:
                out.append(f"L{i}:;")
            out += self.statement(primitive)
        if len(primitives) in targets:
            out.append(f"L{len(primitives)}:;")
        return out

    @staticmethod
    def _jump_target(primitive: ir.Primitive) -> int:
        target = primitive.args[-1]
        if not isinstance(target, ir.Const):
            refuse("a computed jump", primitive.source)
        return target.value

    def statement(self, primitive: ir.Primitive) -> list[str]:
        """C statements of one primitive; :class:`Unsupported` names it and its line."""
        handler: Callable[[ir.Primitive], Iterator[str]] | None = getattr(self, "_op_" + primitive.op.lstrip("_"), None)
        if handler is None:
            refuse(f"the primitive {primitive.op}", primitive.source)
        try:
            return list(handler(primitive))
        except Unsupported as error:
            text = str(error)
            if primitive.source is None or str(primitive.source) in text:
                raise
            raise Unsupported(f"{primitive.source}: {text}") from error

    # -- arguments -----------------------------------------------------------------------------------------------

    def _args(self, primitive: ir.Primitive, count: int) -> list[ir.Expr]:
        if len(primitive.args) != count:
            refuse(f"{primitive.op} with {len(primitive.args)} arguments", primitive.source)
        out: list[ir.Expr] = []
        for arg in primitive.args:
            if isinstance(arg, NO_VALUE):
                refuse(f"this argument of {primitive.op}", primitive.source)
            out.append(arg)
        return out

    @staticmethod
    def _array(primitive: ir.Primitive, position: int, kind: str) -> int:
        arg = primitive.args[position] if position < len(primitive.args) else None
        if not isinstance(arg, ir.ArrayRef) or arg.kind != kind:
            refuse(f"{primitive.op} without a {kind}", primitive.source)
        return arg.index

    def _value(self, primitive: ir.Primitive, position: int) -> ir.Expr:
        arg = primitive.args[position] if position < len(primitive.args) else None
        if arg is None or isinstance(arg, NO_VALUE):
            refuse(f"argument {position} of {primitive.op}", primitive.source)
        return arg

    def _u64(self, expr: ir.Expr) -> str:
        """A value that BMv2 converts to an unsigned number of 64 bits, which keeps the low ones."""
        return self.expr.modulo(expr, 64)

    def _index(self, primitive: ir.Primitive, position: int) -> str:
        """An index into an array: BMv2 keeps the low 32 bits."""
        return f"({self.expr.modulo(self._value(primitive, position), 64)} & 0xffffffffull)"

    # -- assignment ----------------------------------------------------------------------------------------------

    def _place(self, target: ir.Expr) -> tuple[str, str, str]:
        """(what comes before an assignment, C lvalue, what comes behind) of a field, whatever picks it."""
        if (isinstance(target, ir.FieldRef) and target.field == ir.VALID) or self.expr.is_varbit(target):
            raise Unsupported("an assignment to this target is not supported")
        if isinstance(target, ir.ElementField):
            stack = f"p->s{target.element.stack}"
            depth = len(self.program.stacks[target.element.stack].headers)
            index = self.expr.modulo(target.element.index, 64)
            return f"{{ uint64_t at_ = {index}; if (at_ < {depth}) {{ ", f"{stack}[at_].f{target.field}", " } }"
        if not isinstance(target, ir.FieldRef | ir.LastField):
            raise Unsupported("an assignment to this target is not supported")
        return "", self.expr.lvalue(target), ""

    def store(self, target: ir.Expr, code: Callable[[int], str]) -> Iterator[str]:
        """Assign a number of at most 128 bits; ``code`` gives the fitted value for a width."""
        width = self.expr.width(target)
        if width is None:
            raise Unsupported("an assignment to this target is not supported")
        before, field, behind = self._place(target)
        if is_wide(width):
            size = octets(width)
            body = f"memset({field}, 0, {size - 16}); sp_store128({field} + {size - 16}, {code(128)}, 16);"
        else:
            body = f"{field} = ({ctype(width)}){code(width)};"
        yield f"{before}{body}{behind}"

    def assign(self, target: ir.Expr, value: ir.Expr) -> Iterator[str]:
        """Assign an expression to a field of any width."""
        width = self.expr.width(target)
        if width is not None and is_wide(width):
            yield from self._assign_wide(target, value, width)
        else:
            yield from self.store(target, lambda bits: self.expr.fitted(value, bits))

    def _op_assign(self, primitive: ir.Primitive) -> Iterator[str]:
        target, value = self._args(primitive, 2)
        yield from self.assign(target, value)

    _op_modify_field = _op_assign

    def _assign_wide(self, target: ir.Expr, value: ir.Expr, width: int) -> Iterator[str]:
        before, field, behind = self._place(target)
        size = octets(width)
        plain = isinstance(value, ir.FieldRef | ir.Param) and not self.expr.is_varbit(value)
        if isinstance(value, ir.Const):
            data = (value.value & mask(width)).to_bytes(size, "big")
            body = f"static const uint8_t k_[] = {{{', '.join(map(str, data))}}}; memcpy({field}, k_, {size});"
        elif plain and self.expr.width(value) == width:
            body = f"memmove({field}, {self.expr.lvalue(value)}, {size});"
        else:
            body = f"sp_w_store({field}, {width}, {self.expr.wide.value(value, limbs(width))});"
        yield f"{before}{{ {body} }}{behind}"

    def _op_assign_VL(self, primitive: ir.Primitive) -> Iterator[str]:
        target, value = self._args(primitive, 2)
        if not isinstance(target, ir.FieldRef) or not isinstance(value, ir.FieldRef):
            refuse("this assignment of a varbit field", primitive.source)
        a, b = self.program.field_type(target), self.program.field_type(value)
        if not a.varbit or not b.varbit or a.width != b.width:
            refuse("an assignment between varbit fields of different widths", primitive.source)
        yield f"{self.layout.length(target)} = {self.layout.length(value)};"
        yield f"memmove({self.expr.lvalue(target)}, {self.expr.lvalue(value)}, sizeof {self.expr.lvalue(value)});"

    # -- headers -------------------------------------------------------------------------------------------------

    def _picked(self, expr: ir.Expr, name: str, source: ir.Source | None) -> tuple[str, list[tuple[str, int]]]:
        """(declarations, (C condition prefix, header)...) for a header known now or picked at run time.

        The index is read once, into the C variable ``name``: what happens to the header may change it.
        """
        if isinstance(expr, ir.HeaderRef):
            return "", [("", expr.header)]
        if not isinstance(expr, ir.StackElement):
            refuse("this header operand", source)
        headers = self.program.stacks[expr.stack].headers
        conditions = [(f"if ({name} == {i}) ", header) for i, header in enumerate(headers)]
        return f"uint64_t {name} = {self.expr.modulo(expr.index, 64)}; ", conditions

    def _op_add_header(self, primitive: ir.Primitive) -> Iterator[str]:
        declared, headers = self._picked(self._value(primitive, 0), "to_", primitive.source)
        yield f"{{ {declared}"
        for condition, header in headers:
            name = self.layout.header(header)
            if self.program.headers[header].metadata:
                continue
            varbit = self.layout.header_type(header).varbit
            keep = "" if varbit is None else f"uint32_t n_ = {name}.n{varbit}; "
            restore = "" if varbit is None else f" {name}.n{varbit} = n_;"
            yield f"{condition}if (!{name}.valid) {{ {keep}memset(&{name}, 0, sizeof {name});{restore} "
            yield f"  {self.layout.set_valid(header)} c->length += {self.layout.octets(header)}; }}"
        yield "}"

    def _op_remove_header(self, primitive: ir.Primitive) -> Iterator[str]:
        declared, headers = self._picked(self._value(primitive, 0), "to_", primitive.source)
        yield f"{{ {declared}"
        for condition, header in headers:
            name = self.layout.header(header)
            if self.program.headers[header].metadata:
                continue
            yield f"{condition}if ({name}.valid) {{ c->length -= {self.layout.octets(header)}; {name}.valid = 0; }}"
        yield "}"

    def _copy_header(self, target: int, source: int) -> str:
        a, b = self.layout.header(target), self.layout.header(source)
        if self.program.headers[target].type != self.program.headers[source].type:
            raise Unsupported("an assignment between headers of different types is not supported")
        if target == source:
            return ""
        if self.program.headers[source].metadata:
            return f"{a} = {b}; {self.layout.set_valid(target)}"
        return f"if ({b}.valid) {{ {a} = {b}; {self.layout.set_valid(target)} }} else {a}.valid = 0;"

    def _op_assign_header(self, primitive: ir.Primitive) -> Iterator[str]:
        target, value = self._args(primitive, 2)
        to_index, targets = self._picked(target, "to_", primitive.source)
        from_index, origins = self._picked(value, "from_", primitive.source)
        yield f"{{ {to_index}{from_index}"
        for outer, to in targets:
            for inner, origin in origins:
                copied = self._copy_header(to, origin)
                if copied:
                    yield f"{outer}{inner}{{ {copied} }}"
        yield "}"

    _op_copy_header = _op_assign_header

    def _op_assign_union(self, primitive: ir.Primitive) -> Iterator[str]:
        target, value = self._args(primitive, 2)
        if not isinstance(target, ir.UnionRef) or not isinstance(value, ir.UnionRef):
            refuse("this assignment of a header union", primitive.source)
        targets, origins = self.program.unions[target.union].headers, self.program.unions[value.union].headers
        if len(targets) != len(origins):
            refuse("an assignment between header unions of different types", primitive.source)
        for to, origin in zip(targets, origins, strict=True):
            yield self._copy_header(to, origin)

    def _op_assign_header_stack(self, primitive: ir.Primitive) -> Iterator[str]:
        target, value = self._args(primitive, 2)
        if not isinstance(target, ir.StackRef) or not isinstance(value, ir.StackRef):
            refuse("this assignment of a header stack", primitive.source)
        targets, origins = self.program.stacks[target.stack].headers, self.program.stacks[value.stack].headers
        if len(targets) != len(origins):
            refuse("an assignment between header stacks of different sizes", primitive.source)
        if target.stack in self.layout.cold_stacks:
            yield "p->cold_used = 1;"
        yield f"p->s{target.stack}_next = p->s{value.stack}_next;"
        for to, origin in zip(targets, origins, strict=True):
            yield self._copy_header(to, origin)

    def _op_push(self, primitive: ir.Primitive) -> Iterator[str]:
        yield from self._shift_stack(primitive, push=True)

    def _op_pop(self, primitive: ir.Primitive) -> Iterator[str]:
        yield from self._shift_stack(primitive, push=False)

    def _shift_stack(self, primitive: ir.Primitive, *, push: bool) -> Iterator[str]:
        stack, count = self._args(primitive, 2)
        if not isinstance(stack, ir.StackRef) or not isinstance(count, ir.Const) or count.value < 0:
            refuse(f"this {primitive.op} of a stack", primitive.source)
        name = f"p->s{stack.stack}"
        depth = len(self.program.stacks[stack.stack].headers)
        n = min(count.value, depth)
        if count.value == 0:
            return
        if stack.stack in self.layout.cold_stacks:
            yield "p->cold_used = 1;"
        if push:
            yield f"{name}_next = {name}_next + {n} < {depth} ? {name}_next + {n} : {depth};"
            yield f"memmove({name} + {n}, {name}, {depth - n} * sizeof *{name});"
            yield f"memset({name}, 0, {n} * sizeof *{name});"
        else:
            yield f"{name}_next -= {name}_next < {n} ? {name}_next : {n};"
            yield f"memmove({name}, {name} + {n}, {depth - n} * sizeof *{name});"
            yield f"memset({name} + {depth - n}, 0, {n} * sizeof *{name});"

    # -- externs -------------------------------------------------------------------------------------------------

    def _op_count(self, primitive: ir.Primitive) -> Iterator[str]:
        counter = self._array(primitive, 0, "counter")
        size = self.program.counters[counter].size
        yield f"{{ uint64_t i_ = {self._index(primitive, 1)}; if (i_ < {size}) {{"
        yield f"  struct sp_cell *cell_ = &sw->counters[{counter}][i_]; cell_->packets++;"
        yield "  cell_->bytes += c->ingress_length; } }"

    def _op_execute_meter(self, primitive: ir.Primitive) -> Iterator[str]:
        meter = self._array(primitive, 0, "meter")
        info = self.program.meters[meter]
        yield f"{{ uint64_t i_ = {self._index(primitive, 1)}; if (i_ < {info.size}) {{"
        yield f"  uint8_t m_ = sp_meter_run(&sw->meters[{meter}][i_], {int(info.bytes_)}, c->ingress_length, c->now);"
        yield from self.store(self._value(primitive, 2), lambda _bits: "m_")
        yield "} }"

    def _op_register_read(self, primitive: ir.Primitive) -> Iterator[str]:
        register = self._array(primitive, 1, "register")
        info = self.program.registers[register]
        target = self._value(primitive, 0)
        yield f"{{ uint64_t i_ = {self._index(primitive, 2)}; if (i_ < {info.size}) {{"
        if is_wide(info.width):
            yield from self._read_wide(target, register, info.width)
        else:
            cell = f"((const {ctype(info.width)} *)sw->registers[{register}])[i_]"
            yield from self.store(target, lambda bits: cell if bits >= info.width else f"({cell} & {mask(bits):#x}ull)")
        yield f"SP_TRACE_CELL(SP_T_READ, {register}, i_); }} }}"

    def _read_wide(self, target: ir.Expr, register: int, cell: int) -> Iterator[str]:
        """``i_`` is the index; the target has any width."""
        width = self.expr.width(target)
        if width is None:
            raise Unsupported("an assignment to this target is not supported")
        at = f"(const uint8_t *)sw->registers[{register}] + i_ * {octets(cell)}"
        before, field, behind = self._place(target)
        if width == cell:
            body = f"memcpy({field}, {at}, {octets(cell)});"
        else:
            n = limbs(width)
            loaded = f"sp_w_load(SP_W({n}), {n}, {at}, {octets(cell)})"
            cut = f"{field} = ({ctype(width)})(sp_w_low({loaded}) & {literal(mask(width))});" if width <= 128 else ""
            body = cut or f"sp_w_store({field}, {width}, {loaded});"
        yield f"{before}{body}{behind}"

    def _op_register_write(self, primitive: ir.Primitive) -> Iterator[str]:
        register = self._array(primitive, 0, "register")
        info = self.program.registers[register]
        value = self._value(primitive, 2)
        yield f"{{ uint64_t i_ = {self._index(primitive, 1)}; if (i_ < {info.size}) {{"
        if is_wide(info.width):
            at = f"(uint8_t *)sw->registers[{register}] + i_ * {octets(info.width)}"
            yield f"sp_w_store({at}, {info.width}, {self.expr.wide.value(value, limbs(info.width))});"
        else:
            cells = f"(({ctype(info.width)} *)sw->registers[{register}])"
            yield f"  {cells}[i_] = ({ctype(info.width)}){self.expr.fitted(value, info.width)};"
        yield f"SP_TRACE_CELL(SP_T_WRITTEN, {register}, i_); }} }}"

    def _op_modify_field_with_hash_based_offset(self, primitive: ir.Primitive) -> Iterator[str]:
        calculation = self._array(primitive, 2, "calculation")
        base, size = self._u64(self._value(primitive, 1)), self._u64(self._value(primitive, 3))
        yield f"{{ uint64_t n_ = {size};"
        yield f"  uint64_t h_ = {calculated(self.program, calculation)} % (n_ ? n_ : 1) + {base};"
        yield from self.store(self._value(primitive, 0), lambda bits: self._cut("h_", bits))
        yield "}"

    def _op_modify_field_rng_uniform(self, primitive: ir.Primitive) -> Iterator[str]:
        low, high = self._u64(self._value(primitive, 1)), self._u64(self._value(primitive, 2))
        yield f"{{ uint64_t lo_ = {low}, hi_ = {high}; if (lo_ <= hi_) {{ uint64_t h_ = sp_random(sw, lo_, hi_);"
        yield from self.store(self._value(primitive, 0), lambda bits: self._cut("h_", bits))
        yield "} }"

    @staticmethod
    def _cut(name: str, bits: int) -> str:
        return name if bits >= 64 else f"({name} & {mask(bits):#x}ull)"

    # -- packet fate ---------------------------------------------------------------------------------------------

    def _op_drop(self, _primitive: ir.Primitive) -> Iterator[str]:
        yield "sp_set_egress_spec(p, sw->options.drop_port); sp_set_mcast_grp(p, 0);"

    def _op_mark_to_drop(self, primitive: ir.Primitive) -> Iterator[str]:
        """The header is a copy of the standard metadata where an action has them as a parameter: `p4c` copies back."""
        marked = primitive.args[0] if primitive.args else None
        if marked is None:
            yield from self._op_drop(primitive)
            return
        if not isinstance(marked, ir.HeaderRef):
            refuse("mark_to_drop of anything but a header", primitive.source)
        names = [f.name for f in self.layout.header_type(marked.header).fields]
        if "egress_spec" not in names:
            refuse("mark_to_drop of a header without egress_spec", primitive.source)
        spec = ir.FieldRef(marked.header, names.index("egress_spec"))
        yield from self.store(spec, lambda bits: self._cut("((uint64_t)sw->options.drop_port)", bits))
        if "mcast_grp" in names:
            yield from self.assign(ir.FieldRef(marked.header, names.index("mcast_grp")), ir.Const(0))

    def _op_generate_digest(self, primitive: ir.Primitive) -> Iterator[str]:
        wanted = self._value(primitive, 1)
        known = {item.id for item in self.program.learn_lists}
        if isinstance(wanted, ir.Const) and wanted.value not in known:
            refuse(f"a digest of the unknown learn list {wanted.value}", primitive.source)
        yield f"c->learn = (uint16_t){self.expr.modulo(wanted, 64)};"

    def _field_list(self, primitive: ir.Primitive, position: int) -> str:
        wanted = self._value(primitive, position)
        if not isinstance(wanted, ir.Const) or wanted.value not in self.program.field_lists:
            refuse(f"{primitive.op} with an unknown field list", primitive.source)
        return str(wanted.value)

    def _clone(self, primitive: ir.Primitive) -> Iterator[str]:
        session = self.expr.modulo(self._value(primitive, 0), 64)
        yield f"c->clone = (uint16_t){session} | SP_CLONE; c->clone_list = {self._field_list(primitive, 1)};"

    _op_clone_ingress_pkt_to_egress = _clone
    _op_clone_egress_pkt_to_egress = _clone

    def _op_resubmit(self, primitive: ir.Primitive) -> Iterator[str]:
        yield f"c->resubmit = {self._field_list(primitive, 0)};"

    def _op_recirculate(self, primitive: ir.Primitive) -> Iterator[str]:
        yield f"c->recirculate = {self._field_list(primitive, 0)};"

    def _op_truncate(self, primitive: ir.Primitive) -> Iterator[str]:
        yield f"{{ uint64_t n_ = {self._u64(self._value(primitive, 0))};"
        yield "  if (n_ < c->truncate) c->truncate = (uint32_t)n_; }"

    def _op_exit(self, _primitive: ir.Primitive) -> Iterator[str]:
        yield "c->exit = 1;"

    def _op_assert(self, primitive: ir.Primitive) -> Iterator[str]:
        condition = self._value(primitive, 0)
        test = self.expr.boolean(condition) if self.expr.is_bool(condition) else self.expr.nonzero(condition)
        yield f"if (!({test})) c->exit = c->failed = 1;"

    _op_assume = _op_assert

    def _op_log_msg(self, primitive: ir.Primitive) -> Iterator[str]:
        text, *more = primitive.args or (None,)
        values = more[0].items if more and isinstance(more[0], ir.Vector) else ()
        if not isinstance(text, ir.Text) or len(more) > 1 or (more and not isinstance(more[0], ir.Vector)):
            refuse("this log_msg", primitive.source)
        items = [self._printed(value) for value in values]
        listed = ", ".join(f"{{{code}, {n}}}" for code, n in items) or "{NULL, 0}"
        yield f"if (SP_UNLIKELY(sw->options.log != NULL)) {{ const struct sp_number v_[] = {{{listed}}};"
        yield f"  sp_message(sw, {c_string(text.value)}, v_, {len(items)}); }}"

    def _printed(self, value: ir.Expr) -> tuple[str, int]:
        """(limbs, their number) of a value in a message."""
        if self.expr.is_bool(value):
            return f"sp_w_unsigned(SP_W(2), 2, {self.expr.boolean(value)})", 2
        return self.expr.wide.exact(value)

    def _op_no_op(self, _primitive: ir.Primitive) -> Iterator[str]:
        yield from ()

    # -- control flow --------------------------------------------------------------------------------------------

    def _op_jump(self, primitive: ir.Primitive) -> Iterator[str]:
        yield f"goto L{self._jump_target(primitive)};"

    def _op_jump_if_zero(self, primitive: ir.Primitive) -> Iterator[str]:
        condition = self._value(primitive, 0)
        test = self.expr.boolean(condition) if self.expr.is_bool(condition) else self.expr.nonzero(condition)
        yield f"if (!{test}) goto L{self._jump_target(primitive)};"
