"""C for pipelines: nodes become labels of one function, table lookups are inlined."""

from __future__ import annotations

from engine import ir
from engine.api import MatchKind, Unsupported
from engine.codegen_action import EXIT_OPS, Actions
from engine.codegen_expr import Expressions
from engine.codegen_layout import Layout, c_string, comment, is_wide, literal, mask, octets
from engine.ir_control import successors


class KeyLayout:
    """Byte positions of a table's key fields: in order, an LPM field last."""

    def __init__(self, table: ir.Table) -> None:
        order = sorted(range(len(table.keys)), key=lambda i: table.lpm and table.keys[i].kind is MatchKind.LPM)
        self.offsets = [0] * len(table.keys)
        position = 0
        for i in order:
            self.offsets[i] = position
            position += octets(table.keys[i].width)
        self.bytes = position
        self.words = (position + 7) // 8
        self.ranges = [i for i, key in enumerate(table.keys) if key.kind is MatchKind.RANGE]
        self.range_words = max([2, *((table.keys[i].width + 63) // 64 for i in self.ranges)])  # of each bound

    @staticmethod
    def is_direct(table: ir.Table) -> bool:
        """Whether an array indexed by the key serves better than a hash table."""
        return len(table.keys) == 1 and table.keys[0].kind is MatchKind.EXACT and table.keys[0].width <= 16

    @staticmethod
    def is_bare(table: ir.Table) -> bool:
        """Whether a lookup needs only the action: LPM entries that count, meter and age nothing."""
        state = table.direct_counter or table.idle_timeout or table.direct_meter is not None
        return table.lpm and not state and table.profile is None


class Controls:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.program = layout.program
        self.expr = Expressions(layout)
        self.index = {id(table): i for i, table in enumerate(self.program.tables)}

    # -- actions -------------------------------------------------------------------------------------------------

    def actions(self) -> list[str]:
        """One function per action; ``d`` holds its parameters."""
        out: list[str] = []
        for i, action in enumerate(self.program.actions):
            body = Actions(self.layout, action.params).body(action.primitives)
            out.append(comment(action.name))
            out.append(
                f"SP_INLINE void sp_action_{i}(struct sp_switch *sw, struct sp_context *c, const uint64_t *d)\n{{"
            )
            out.append("    struct sp_phv *p = &c->phv;\n    (void)sw; (void)p; (void)d;")
            out += ["    " + line for line in body] + ["}", ""]
        return out

    def _exits(self, table: ir.Table) -> bool:
        return any(p.op in EXIT_OPS for a in table.actions for p in self.program.actions[a].primitives)

    # -- keys ----------------------------------------------------------------------------------------------------

    def _key_value(self, key: ir.Key) -> str:
        """The field's bits; zero when its header is invalid, as BMv2 matches it."""
        ref = key.target
        code = self.layout.field(ref)
        if ref.field == ir.VALID:
            code = self.layout.valid(ref.header)
        elif not self.program.headers[ref.header].metadata:
            code = f"({self.layout.valid(ref.header)} ? {code} : 0)"
        if key.mask is not None:
            code = f"({code} & {literal(key.mask & mask(key.width))})"
        return code

    def _key_words(self, table: ir.Table, plan: KeyLayout) -> list[str]:
        out: list[str] = []
        terms: list[list[str]] = [[] for _ in range(plan.words)]
        wide: list[str] = []
        for i, key in enumerate(table.keys):
            size = octets(key.width)
            if is_wide(key.width):
                valid = self.layout.valid(key.target.header)
                wide.append(f"if ({valid}) memcpy(b_ + {plan.offsets[i]}, {self.layout.field(key.target)}, {size});")
                if key.mask is not None:
                    care = ", ".join(map(str, (key.mask & mask(key.width)).to_bytes(size, "big")))
                    wide.append(f"{{ static const uint8_t m_[] = {{{care}}};")
                    wide.append(f"  for (unsigned m = 0; m < {size}; m++) b_[{plan.offsets[i]} + m] &= m_[m]; }}")
                continue
            kind = "uint64_t" if size <= 8 else "sp_u128"
            out.append(f"{kind} v{i} = {self._key_value(key)};")
            end = plan.offsets[i] + size  # byte behind the field
            for word in range(plan.offsets[i] // 8, (end + 7) // 8):
                shift = (8 * (word + 1) - end) * 8  # of the field's last bit above the word's
                if shift >= 0:
                    terms[word].append(f"(uint64_t)v{i} << {shift}" if shift else f"(uint64_t)v{i}")
                else:
                    terms[word].append(f"(uint64_t)(v{i} >> {-shift})")
        if wide:
            out.append(f"uint8_t b_[{plan.words * 8}] = {{0}};")
            out += wide
            for word in range(plan.words):
                terms[word].append(f"sp_load(b_ + {word * 8}, 8)")
        words = ", ".join(" | ".join(t) or "0" for t in terms)
        out.append(f"const uint64_t k[{plan.words}] = {{{words}}};")
        return out

    @staticmethod
    def _range_values(table: ir.Table, plan: KeyLayout) -> list[str]:
        """``r``: the range fields' values, each of as many words as a bound has; follows :meth:`_key_words`."""
        if not plan.ranges:
            return []
        words: list[str] = []
        wide: list[str] = []
        for number, i in enumerate(plan.ranges):
            if is_wide(table.keys[i].width):
                at, size = f"b_ + {plan.offsets[i]}", octets(table.keys[i].width)
                wide.append(f"sp_number_words(r + {number * plan.range_words}, {plan.range_words}, {at}, {size});")
                words += ["0"] * plan.range_words
            else:
                words += ["0"] * (plan.range_words - 2)
                words += [f"(uint64_t)((sp_u128)v{i} >> 64)", f"(uint64_t)v{i}"]
        return [f"uint64_t r[] = {{{', '.join(words)}}};", *wide]

    def _lookup(self, table: ir.Table) -> list[str]:
        plan = KeyLayout(table)
        out = self._key_words(table, plan)
        if table.ternary:
            out += self._range_values(table, plan)
            ranges = "r" if plan.ranges else "NULL"
            found = f"sp_lookup_ternary(t, k, {plan.words}, {ranges}, {len(plan.ranges)}, {plan.range_words})"
        elif table.lpm:
            values = "sw->acts.by_id" if KeyLayout.is_bare(table) else "t->pool"
            found = f"sp_lookup_lpm(t, k, {plan.words}, {values})"
        elif KeyLayout.is_direct(table):
            return [out[0], "struct sp_entry *e = sp_lookup_direct(t, v0);"]
        else:
            found = f"sp_lookup_exact(t, k, {plan.words})"
        kind = "const struct sp_act" if KeyLayout.is_bare(table) else "struct sp_entry"
        return [*out, f"{kind} *e = {found};"]

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _goto(self, numbers: dict[str, int], name: str | None) -> str:
        return "return;" if name is None else f"goto n{numbers[name]};"

    def _table(self, table: ir.Table, numbers: dict[str, int]) -> list[str]:
        leave = ["if (c->exit) return;"] if self._exits(table) else []
        if not table.keys and table.default_const and table.default is not None and table.profile is None:
            return self._fixed(table, numbers, leave)
        number = self.index[id(table)]
        out = [f"const struct sp_table *t = &sw->tables[{number}];", "const struct sp_act *a = t->default_act;"]
        if table.keys:
            out += self._lookup(table)
            out.append("if (e) {")
            if table.direct_counter:
                out.append("    e->packets++; e->bytes += c->ingress_length;")
            if table.idle_timeout:
                out.append("    e->last_hit = c->now;")
            out += ["    " + line for line in self._meter(table)]
            if table.profile is not None and self.program.profiles[table.profile].selector is not None:
                selector = self.program.profiles[table.profile].selector
                by_chance = selector is not None and selector.algorithm == "random"
                pick = "sp_random(sw, 0, UINT64_MAX)" if by_chance else f"sp_selector_{table.profile}(c, p)"
                call = f"sp_group_act(sw, e->group, {pick})"
                out.append(f"    a = e->kind == 3 ? {call} : sp_entry_act(sw, e);")
            elif KeyLayout.is_bare(table):
                out.append("    a = e;")
            else:
                out.append("    a = sp_entry_act(sw, e);" if table.profile is not None else "    a = e->act;")
            out.append("}")
        else:
            out.append("const struct sp_entry *e = NULL; (void)e;")
        bare = bool(table.keys) and KeyLayout.is_bare(table)
        out.append("SP_TRACE_BARE(t, k, e, a);" if bare else "SP_TRACE_TABLE(t, e, a);")
        out.append("switch (a ? a->action : ~0u) {")
        for action in table.actions:
            following = [] if table.by_hit else [self._goto(numbers, table.next_by_action[action])]
            stop = following or ["break;"]
            done = f"sp_action_{action}(sw, c, a->data); {_traced_action(action)}"
            out.append(f"case {action}: {done} {' '.join([*leave, *stop])}")
        out += ["default: break;", "}"]
        if table.by_hit:
            out.append(f"if (e) {self._goto(numbers, table.next_hit)}")
            out.append(self._goto(numbers, table.next_miss))
        else:
            out.append(self._goto(numbers, table.next_default))
        return out

    def _meter(self, table: ir.Table) -> list[str]:
        if table.direct_meter is None:
            return []
        meter = self.program.meters[table.direct_meter]
        if meter.target is None:
            raise Unsupported(f"{table.source}: a direct meter without a result is not supported")
        store = Actions(self.layout).store(meter.target, lambda _bits: "m_")
        run = f"sp_meter_run(e->meter, {int(meter.bytes_)}, c->ingress_length, c->now)"
        return [f"{{ uint8_t m_ = {run};", *store, "}"]

    def _fixed(self, table: ir.Table, numbers: dict[str, int], leave: list[str]) -> list[str]:
        """A table without keys whose default action never changes: a plain call."""
        assert table.default is not None
        action, values = table.default
        words: list[str] = []
        for value, (_name, width) in zip(values, self.program.actions[action].params, strict=True):
            if is_wide(width):  # as in memory: big endian bytes
                data = value.to_bytes(octets(width), "big")
                parts = (data[i : i + 8] for i in range(0, len(data), 8))
                words += [f"{int.from_bytes(part, 'little'):#x}ull" for part in parts]
                continue
            if width > 64:
                words.append(f"{value >> 64:#x}ull")
            words.append(f"{value & mask(64):#x}ull")
        following = table.next_miss if table.by_hit else table.next_by_action.get(action, table.next_default)
        declared = f"static const uint64_t d_[] = {{{', '.join(words)}}};" if words else ""
        call = f"sp_action_{action}(sw, c, {'d_' if words else 'NULL'}); {_traced_action(action)}"
        return [" ".join(filter(None, [declared, call, *leave, self._goto(numbers, following)]))]

    def _node(self, node: ir.Node, numbers: dict[str, int]) -> list[str]:
        if isinstance(node, ir.Table):
            return self._table(node, numbers)
        if isinstance(node, ir.ActionCall):
            exits = any(p.op in EXIT_OPS for p in self.program.actions[node.action].primitives)
            leave = "if (c->exit) return; " if exits else ""
            done = f"sp_action_{node.action}(sw, c, NULL); {_traced_action(node.action)}"
            return [f"{done} {leave}{self._goto(numbers, node.next)}"]
        test = self.expr.boolean(node.expression)
        name = c_string(node.name)

        def traced(result: int) -> str:
            return f"SP_TRACE_EVENT(SP_T_CONDITION, {result}, 0, {name}, sizeof {name} - 1);"

        return [
            f"if ({test}) {{ {traced(1)} {self._goto(numbers, node.true_next)} }}",
            f"{traced(0)} {self._goto(numbers, node.false_next)}",
        ]

    def pipeline(self, pipeline: ir.Pipeline) -> list[str]:
        """``sp_ingress`` or ``sp_egress``."""
        order = _order(pipeline)
        numbers = {name: i for i, name in enumerate(order)}
        out = [
            f"static void sp_{pipeline.name}(struct sp_switch *sw, struct sp_context *c)",
            "{",
            "    struct sp_phv *p = &c->phv;",
            "    (void)sw; (void)p;",
            "    " + self._goto(numbers, pipeline.first),
        ]
        for name in order:
            node = pipeline.nodes[name]
            try:
                lines = self._node(node, numbers)
            except Unsupported as error:
                if node.source is None or str(node.source) in str(error):
                    raise
                raise Unsupported(f"{node.source}: {error}") from error
            out.append(f"n{numbers[name]}: {{ {comment(name)}")
            out += ["    " + line for line in lines] + ["}"]
        return [*out, "}", ""]


def _traced_action(action: int) -> str:
    return f"SP_TRACE_EVENT(SP_T_ACTION, {action}, 0, NULL, 0);"


def _order(pipeline: ir.Pipeline) -> list[str]:
    """Reachable nodes, depth first; cycles are refused."""
    order: list[str] = []
    state: dict[str, int] = {}
    pending: list[tuple[str, bool]] = [(pipeline.first, False)] if pipeline.first else []
    while pending:
        name, leaving = pending.pop()
        if leaving:
            state[name] = 2
            order.append(name)
            continue
        if state.get(name) == 2:
            continue
        if state.get(name) == 1:
            raise Unsupported(f"the loop through {name} in {pipeline.name} is not supported")
        state[name] = 1
        pending.append((name, True))
        for following in successors(pipeline.nodes[name]):
            if following is not None and state.get(following) != 2:
                if state.get(following) == 1:
                    raise Unsupported(f"the loop through {following} in {pipeline.name} is not supported")
                pending.append((following, False))
    return order[::-1]
