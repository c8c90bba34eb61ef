"""C for ``sp_ahead``: what a packet that is still waiting will look up, read from its bytes without parsing it.

Follows the parser's states as far as offsets are known in advance (fixed headers, selects over fields, bits looked
ahead and the port) and asks for the memory of each longest-prefix table whose key lies in headers. A wrong guess,
because a field is rewritten before its lookup, costs a cache line; nothing that packets or tables hold depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine import ir
from engine.codegen_control import KeyLayout
from engine.codegen_layout import METADATA, comment, is_wide, literal, mask, octets

MAX_TABLES = 4  # with more, each costs more than it gains
MAX_STATES = 48  # in the generated function: a state counts once for each way to it
WORD = 8  # bytes of the key that choose a place in the first levels


@dataclass(frozen=True, slots=True)
class Way:
    """What is known on a way through the parser: byte and bit positions in the packet."""

    at: int = 0
    seen: int = 0  # bytes that the packet is known to have
    headers: Mapping[int, int] | None = None  # header -> first byte
    values: Mapping[ir.FieldRef, tuple[int, int]] | None = None  # field set from the packet -> (bit, width)
    taken: Mapping[int, int] | None = None  # stack -> elements extracted
    done: frozenset[int] = frozenset()  # tables

    def start(self, header: int) -> int | None:
        return (self.headers or {}).get(header)


class Ahead:
    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.left = MAX_STATES
        self.index = {id(table): i for i, table in enumerate(program.tables)}
        tables = [node for node in program.ingress.nodes.values() if isinstance(node, ir.Table) and node.lpm]
        self.tables = {self.index[id(table)]: table for table in tables[:MAX_TABLES] if self._readable(table)}
        self.needs = {i: {key.target.header for key in self._first_keys(table)} for i, table in self.tables.items()}
        self.port = next((program.find(name) for name in METADATA["ingress_port"]), None)
        self.leads = {i: self._leading(needs) for i, needs in self.needs.items()}

    @staticmethod
    def _first_keys(table: ir.Table) -> list[ir.Key]:
        plan = KeyLayout(table)
        return [key for i, key in enumerate(table.keys) if plan.offsets[i] < WORD]

    def _readable(self, table: ir.Table) -> bool:
        """Whether the key's first word is a matter of shifting whole fields of headers."""
        for key in self._first_keys(table):
            header = self.program.headers[key.target.header]
            fields = self.program.types[header.type].fields
            if header.metadata or key.target.field == ir.VALID or key.mask is not None:
                return False
            before = sum(field.width for field in fields[: key.target.field])
            if any(field.varbit for field in fields):
                return False
            if key.width > 64 and (before % 8 or key.width % 8):
                return False
        return True

    def _leading(self, headers: set[int]) -> dict[int, set[int]]:
        """Per header, the states from which a state that extracts it can be reached, itself included."""
        before: dict[int, set[int]] = {}
        for i, state in enumerate(self.program.states):
            for transition in state.transitions:
                if transition.next is not None:
                    before.setdefault(transition.next, set()).add(i)
        out: dict[int, set[int]] = {}
        for header in headers:
            found = {i for i, state in enumerate(self.program.states) if header in self._extracted(state)}
            pending = list(found)
            while pending:
                more = before.get(pending.pop(), set()) - found
                found |= more
                pending += more
            out[header] = found
        return out

    def _extracted(self, state: ir.State) -> set[int]:
        out: set[int] = set()
        for op in state.ops:
            if isinstance(op, ir.Extract):
                out.add(op.header)
            elif isinstance(op, ir.ExtractStack):
                out.update(self.program.stacks[op.stack].headers)
        return out

    def _worthwhile(self, state: int | None, way: Way) -> bool:
        return state is not None and any(
            all(way.start(header) is not None or state in self.leads[table][header] for header in needs)
            for table, needs in self.needs.items()
            if table not in way.done
        )

    # -- positions -------------------------------------------------------------------------------------------------

    @staticmethod
    def _bits(bit: int, width: int) -> str | None:
        """C for ``width`` bits of the packet from ``bit`` on; None where one load does not hold them."""
        first, last = bit // 8, (bit + width - 1) // 8
        if width > 64 or last - first >= 8:
            return None
        low = 7 - (bit + width - 1) % 8
        code = f"sp_load(pkt + {first}, {last - first + 1})"
        code = f"({code} >> {low})" if low else code
        return code if (last - first + 1) * 8 - low == width else f"({code} & {literal(mask(width))})"

    def _place(self, ref: ir.FieldRef, way: Way) -> tuple[int, int] | None:
        """(bit, width) of a field in the packet."""
        if way.values and ref in way.values:
            return way.values[ref]
        start = way.start(ref.header)
        if start is None or ref.field == ir.VALID:
            return None
        fields = self.program.types[self.program.headers[ref.header].type].fields
        return start * 8 + sum(field.width for field in fields[: ref.field]), fields[ref.field].width

    def _part(self, part: ir.Expr, way: Way) -> tuple[str, int] | None:
        """(C, bytes of the packet that it needs) of a part of a select's key."""
        place: tuple[int, int] | None = None
        if isinstance(part, ir.FieldRef):
            if part == self.port:
                return "port", 0
            place = self._place(part, way)
        elif isinstance(part, ir.Lookahead):
            place = way.at * 8 + part.offset, part.width
        elif isinstance(part, ir.LastField):
            count = (way.taken or {}).get(part.stack, 0)
            if count:
                place = self._place(ir.FieldRef(self.program.stacks[part.stack].headers[count - 1], part.field), way)
        code = None if place is None else self._bits(*place)
        return None if place is None or code is None else (code, octets(sum(place)))

    def _word(self, table: ir.Table, way: Way) -> tuple[str, int]:
        """(C, bytes of the packet that it needs) of the key's first word."""
        plan, terms, needed = KeyLayout(table), [], 0
        for i, key in enumerate(table.keys):
            if plan.offsets[i] >= WORD:
                continue
            place = self._place(key.target, way)
            assert place is not None
            if key.width > 64:
                first, size = place[0] // 8, WORD - plan.offsets[i]
                needed = max(needed, first + size)
                terms.append(f"sp_load(pkt + {first}, {size})")
                continue
            code = self._bits(*place)
            if code is None:
                return "0", 0
            needed = max(needed, octets(sum(place)))
            shift = (WORD - plan.offsets[i] - octets(key.width)) * 8
            terms.append(f"({code} << {shift})" if shift > 0 else f"({code} >> {-shift})" if shift else code)
        return " | ".join(terms) or "0", needed

    @staticmethod
    def _reach(way: Way, size: int) -> tuple[list[str], Way]:
        """A packet of fewer bytes is left alone."""
        if size <= way.seen:
            return [], way
        return [f"if (len < {size}u) return;"], replace(way, seen=size)

    # -- code ------------------------------------------------------------------------------------------------------

    def _taken(self, header: int, way: Way) -> tuple[list[str], Way]:
        """After a header of fixed length: its place, and requests for the tables that now have their keys. What its
        fields were set to before is gone."""
        size = self.program.types[self.program.headers[header].type].bits // 8
        values = {ref: place for ref, place in (way.values or {}).items() if ref.header != header}
        way = replace(way, at=way.at + size, headers={**(way.headers or {}), header: way.at}, values=values)
        out, way = self._reach(way, way.at)
        for number, table in self.tables.items():
            if number in way.done or any(way.start(needed) is None for needed in self.needs[number]):
                continue
            word, needed = self._word(table, way)
            more, way = self._reach(way, needed)  # a field set from bits looked ahead at may lie beyond its header
            out += [*more, f"sp_ahead_lpm(sw, {number}, {word}); {comment(table.name)}"]
            way = replace(way, done=way.done | {number})
        return out, way

    def _operation(self, op: ir.ParserOp, way: Way) -> tuple[list[str], Way] | None:
        """None where positions behind it are not known in advance."""
        if isinstance(op, ir.Extract):
            kind = self.program.types[self.program.headers[op.header].type]
            known = op.length is None and kind.bits % 8 == 0 and not self.program.headers[op.header].metadata
            return self._taken(op.header, way) if known else None
        if isinstance(op, ir.ExtractStack):
            headers = self.program.stacks[op.stack].headers
            count = (way.taken or {}).get(op.stack, 0)
            kind = self.program.types[self.program.headers[headers[0]].type]
            if count >= len(headers) or op.length is not None or kind.bits % 8:
                return None
            return self._taken(headers[count], replace(way, taken={**(way.taken or {}), op.stack: count + 1}))
        if isinstance(op, ir.Set):
            place: tuple[int, int] | None = None
            if isinstance(op.value, ir.Lookahead):
                place = way.at * 8 + op.value.offset, op.value.width
            elif isinstance(op.value, ir.FieldRef):
                place = self._place(op.value, way)
            values = {ref: at for ref, at in (way.values or {}).items() if ref != op.target}
            return [], replace(way, values=values if place is None else {**values, op.target: place})
        if isinstance(op, ir.Advance):
            if not isinstance(op.bits, ir.Const) or op.bits.value % 8:
                return None
            return [], replace(way, at=way.at + op.bits.value // 8)
        return None if isinstance(op, ir.ExtractUnionStack) else ([], way)

    def _state(self, index: int, way: Way) -> list[str]:
        """Statements from a state on; none of them leads back."""
        self.left -= 1
        if self.left < 0:
            return ["return;"]
        state = self.program.states[index]
        out: list[str] = []
        for op in state.ops:
            done = self._operation(op, way)
            if done is None:
                return [*out, "return;"]
            out += done[0]
            way = done[1]
        explicit = [t for t in state.transitions if t.value is not None or t.value_set is not None]
        default = next((t.next for t in state.transitions if t.value is None and t.value_set is None), None)
        if not any(self._worthwhile(t.next, way) for t in state.transitions):
            return [*out, "return;"]
        if explicit and state.key:
            parts = [self._part(part, way) for part, _width in state.key]
            known = [part for part in parts if part is not None]
            hidden = any(t.value_set is not None for t in explicit) or any(is_wide(width) for _part, width in state.key)
            if hidden or len(known) < len(parts):
                return [*out, "return;"]
            more, way = self._reach(way, max(needed for _code, needed in known))
            out += [*more, "{"]
            out += [f"const uint64_t k{i} = {code};" for i, (code, _needed) in enumerate(known)]
            for t in explicit:
                body = self._state(t.next, way) if self._worthwhile(t.next, way) and t.next is not None else ["return;"]
                out += [f"if ({self._matches(state, t)}) {{", *body, "}"]
            out.append("}")
        if default is not None and self._worthwhile(default, way):
            return out + self._state(default, way)
        return [*out, "return;"]

    @staticmethod
    def _matches(state: ir.State, transition: ir.Transition) -> str:
        assert transition.value is not None
        tests, shift = [], sum(octets(width) for _part, width in state.key) * 8
        for i, (_part, width) in enumerate(state.key):
            shift -= octets(width) * 8
            wanted = (transition.value >> shift) & mask(octets(width) * 8)
            care = mask(width) if transition.mask is None else (transition.mask >> shift) & mask(width)
            if care:
                tests.append(f"(k{i} & {literal(care)}) == {literal(wanted & care)}")
        return " && ".join(tests) or "1"

    def function(self) -> list[str]:
        """``sp_ahead`` and whether it does anything."""
        first = self.program.first_state
        useful = first is not None and bool(self.tables) and self._worthwhile(first, Way())
        out = [
            f"#define SP_HAS_AHEAD {int(useful)}",
            "static void sp_ahead(struct sp_switch *sw, uint32_t port, const uint8_t *pkt, uint32_t len)",
            "{",
            "    (void)sw; (void)port; (void)pkt; (void)len;",
        ]
        if useful and first is not None:
            out += ["    " + line for line in self._state(first, Way())]
        return [*out, "}", ""]
