"""Random v1model programs, with table entries and frames for them: one :class:`Case` per seed.

Every frame starts with ``id``, ``kind`` and ``index`` in a header that the program leaves alone, so that what leaves
can be told apart; all goes to the CPU port, so that packet-outs and packet-ins carry everything. The kinds 0xff
(echoed at once: a marker) and 0xfe (registers' cells number ``index`` are read) are the harness's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.differential.expressions import WIDTHS, Expressions, Variable

CPU_PORT = 510
MARKER, DUMP = 0xFF, 0xFE
KINDS = (0, 1, 2, 3)
CELLS = 8  # of registers and counters
SESSION, GROUP = 100, 7  # replicas: instances 1 and 2 at the CPU port
ALGORITHMS = ("crc16", "crc32", "csum16", "xor16", "identity", "crc16_custom", "crc32_custom")
MATCHES = ("exact", "exact", "lpm", "ternary", "ternary", "range", "optional")
PREFIX_BYTES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """``key``: (kind, width, first, second) per field, as in :class:`engine.ir.ConstEntry`."""

    table: str
    key: tuple[tuple[str, int, int, int], ...]
    action: str
    params: tuple[tuple[int, int], ...]  # (value, width)
    priority: int
    others: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()  # with the first, the members of a group
    selector: bool = False
    member: bool = False  # of an action profile, not of a group
    meter: tuple[int, ...] = ()  # rates and bursts of its direct meter: cir, cburst, pir, pburst
    counted: tuple[int, ...] = ()  # packets and bytes that its direct counter begins with


@dataclass(slots=True)
class Case:
    seed: int
    source: str
    entries: list[Entry]
    frames: list[bytes]
    registers: int  # how many; all are dumped by kind 0xfe


@dataclass(slots=True)
class _Table:
    name: str
    keys: list[tuple[Variable, str]]
    actions: list[tuple[str, list[Variable]]]
    selector: bool = False


@dataclass(slots=True)
class Generator:
    """Writes one program. ``depth`` bounds expressions."""

    seed: int
    depth: int = 3
    chance: Random = field(init=False)
    fields: list[Variable] = field(default_factory=list)
    more: list[Variable] = field(default_factory=list)
    metadata: list[Variable] = field(default_factory=list)
    registers: list[tuple[str, int]] = field(default_factory=list)
    tables: list[_Table] = field(default_factory=list)
    told: list[Variable] = field(default_factory=list)  # what digests carry
    locals: int = 0

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)

    # -- declarations ----------------------------------------------------------------------------------------------

    def _fields(self, prefix: str, count: int, most: int = WIDTHS[-1]) -> list[Variable]:
        """Fields, the last of which fills up the last byte."""
        out = []
        for i in range(count):
            width = self.chance.choice([w for w in WIDTHS if w <= most])
            out.append(Variable(f"{prefix}.f{i}", width, width > 1 and self.chance.random() < 0.25))
        total = sum(v.width for v in out)
        if total % 8:
            out.append(Variable(f"{prefix}.pad", 8 - total % 8))
        return out

    @staticmethod
    def _header(name: str, fields: list[Variable]) -> str:
        body = " ".join(f"{v.type} {v.name.rpartition('.')[2]};" for v in fields)
        return f"header {name} {{ {body} }}"

    def case(self, frames: int = 24) -> Case:
        chance = self.chance
        self.fields = self._fields("hdr.a", chance.randint(3, 8))
        # BMv2 has room for 512 bytes before a packet: what is added must stay below
        self.more = self._fields("hdr.b", chance.randint(1, 4), 160)
        self.metadata = [Variable(f"meta.m{i}", chance.choice(WIDTHS)) for i in range(chance.randint(2, 5))]
        self.metadata.append(Variable("meta.s", max(2, chance.choice(WIDTHS)), True))
        self.registers = [(f"r{i}", chance.choice(WIDTHS)) for i in range(chance.randint(1, 3))]
        plain = [v for v in self.fields if not v.signed]  # BMv2's P4Runtime knows no signed ones in digests
        self.told = chance.sample(plain, min(2, len(plain)))
        ingress, egress = self._ingress(), self._egress()
        again = "bit<1> again; "  # egress does not see that a packet came back: ingress tells it
        source = "\n".join(
            [
                "#include <core.p4>",
                "#include <v1model.p4>",
                "header base_t { bit<16> id; bit<8> kind; bit<8> index; }",
                self._header("a_t", self.fields),
                self._header("b_t", self.more),
                "header item_t { bit<1> last; bit<7> v; bit<8> w; }",
                "header var_t { bit<8> len; varbit<128> data; }",
                "header sum_t { bit<16> sum; }",
                self._result(),
                "struct meta_t { " + again + " ".join(self._member(v) for v in self.metadata) + " }",
                "struct headers_t { base_t base; a_t a; b_t b; item_t[3] st; var_t v; sum_t c; result_t y; }",
                self._digest(),
                self._parser(),
                *self._checksums(),
                ingress,
                egress,
                "control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.base); pkt.emit(hdr.y); "
                "pkt.emit(hdr.a); pkt.emit(hdr.b); pkt.emit(hdr.st); pkt.emit(hdr.v); pkt.emit(hdr.c); } }",
                "V1Switch(P(), V(), I(), E(), U(), D()) main;",
                "",
            ]
        )
        made = [self._frame(i + 1) for i in range(frames)]
        return Case(self.seed, source, self._entries(made), made, len(self.registers))

    def _member(self, variable: Variable) -> str:
        keep = "@field_list(1) " if self.chance.random() < 0.5 else ""
        return f"{keep}{variable.type} {variable.name.partition('.')[2]};"

    def _result(self) -> str:
        """What the packet tells of its way: metadata, registers, standard metadata."""
        cells = sum(w for _n, w in self.registers)
        pad = f"bit<{8 - cells % 8}> pad; " if cells % 8 else ""
        body = "".join(f"bit<{w}> {n}; " for n, w in self.registers)
        return (
            f"header result_t {{ {body}{pad}bit<32> instance; bit<16> rid; bit<32> length; bit<32> failed; "
            "bit<8> bad; bit<32> hash; bit<8> hit; }"
        )

    def _digest(self) -> str:
        body = " ".join(f"{v.type} d{i};" for i, v in enumerate(self.told))
        return f"struct digest_t {{ bit<16> id; {body} }}"

    # -- parser ------------------------------------------------------------------------------------------------------

    def _parser(self) -> str:
        chance = self.chance
        inside = Expressions(chance, [Variable("hdr.base.kind", 8), *self.fields])
        key = chance.choice([v for v in self.fields if not v.signed] or [Variable("hdr.base.kind", 8)])
        wanted = [self._case_of(key.width) for _ in range(2)]
        target = chance.choice(self.metadata)
        ahead = chance.choice((4, 12, 40, 136))
        return f"""parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {{
    state start {{
        pkt.extract(hdr.base);
        transition select(hdr.base.kind) {{ {MARKER}: accept; {DUMP}: accept; default: first; }}
    }}
    state first {{
        pkt.extract(hdr.a);
        {target.name} = {inside.of(target, 2)};
        transition select(hdr.base.kind, {key.name}) {{
            (1, {wanted[0]}): second;
            (1 &&& 3, {wanted[1]}): stack;
            (2, _): stack;
            (3 .. 5, _): variable;
            default: look;
        }}
    }}
    state second {{ pkt.extract(hdr.b); verify({inside.bools(1)}, error.NoMatch); transition variable; }}
    state stack {{
        pkt.extract(hdr.st.next);
        transition select(hdr.st.last.last) {{ 1: checked; default: stack; }}
    }}
    state variable {{
        bit<8> len = pkt.lookahead<bit<8>>();
        pkt.extract(hdr.v, (bit<32>)(len & 31) * 8);
        transition checked;
    }}
    state look {{
        bit<{ahead}> ahead = pkt.lookahead<bit<{ahead}>>();
        pkt.advance(8);
        transition select(ahead[3:0]) {{ 0 .. 7: second; default: accept; }}
    }}
    state checked {{ pkt.extract(hdr.c); transition accept; }}
}}"""

    def _case_of(self, width: int) -> str:
        """A keyset over ``width`` bits."""
        chance = self.chance
        value = chance.randrange(1 << width)
        pick = chance.randrange(4)
        if pick == 0:
            return f"{width}w{value:#x}"
        if pick == 1:
            return f"{width}w{value:#x} &&& {width}w{chance.randrange(1 << width):#x}"
        if pick == 2 and width <= 16:
            low, high = sorted((value, chance.randrange(1 << width)))
            return f"{width}w{low} .. {width}w{high}"
        return "_"

    def _checksums(self) -> list[str]:
        def inputs() -> str:
            chosen = self.chance.sample(self.fields, min(3, len(self.fields)))
            total = sum(v.width for v in chosen)
            pad = f", {16 - total % 16}w{self.chance.randrange(1 << (16 - total % 16))}" if total % 16 else ""
            return ", ".join(v.name for v in chosen) + pad

        payload = self.chance.choice(("", "_with_payload"))
        listed = inputs()
        head = "inout headers_t hdr, inout meta_t meta"
        call = f"(hdr.c.isValid() && hdr.a.isValid(), {{ {listed} }}, hdr.c.sum, HashAlgorithm.csum16);"
        return [
            f"control V({head}) {{ apply {{ verify_checksum{payload}{call} }} }}",
            f"control U({head}) {{ apply {{ update_checksum{payload}{call} }} }}",
        ]

    # -- controls ----------------------------------------------------------------------------------------------------

    def _scope(self) -> Expressions:
        return Expressions(self.chance, [*self.fields, *self.metadata], ["hdr.b", "hdr.v", "hdr.st[1]", "hdr.c"])

    def _assignment(self, scope: Expressions) -> str:
        target = self.chance.choice([*self.fields, *self.metadata])
        if not target.signed and target.width > 2 and self.chance.random() < 0.25:
            low = self.chance.randrange(target.width - 1)
            high = self.chance.randrange(low, target.width)
            return f"{target.name}[{high}:{low}] = {scope.bits(high - low + 1, self.depth - 1)};"
        return f"{target.name} = {scope.of(target, self.depth)};"

    def _statement(self, scope: Expressions, nested: int = 1) -> str:
        chance = self.chance
        pick = chance.randrange(13)
        if pick < 4:
            return self._assignment(scope)
        if pick == 4 and nested:
            inner = self._statement(scope, nested - 1), self._statement(scope, nested - 1)
            return f"if ({scope.bools(2)}) {{ {inner[0]} }} else {{ {inner[1]} }}"
        name, width = chance.choice(self.registers)
        index = f"(bit<32>)({scope.bits(3, 1)})"  # a release build of BMv2 does not check indices
        if pick == 5:
            return f"{name}.write({index}, {scope.bits(width, 2)});"
        if pick == 6:
            self.locals += 1
            target = f"t{self.locals}"
            return f"bit<{width}> {target} = 0; {name}.read({target}, {index}); " + self._use(target, width)
        if pick == 7:
            return f"c0.count({index});"
        if pick == 8:
            listed = ", ".join(v.name for v in chance.sample(self.fields, min(3, len(self.fields))))
            most = chance.choice(("32w0", "32w1", "32w13", "32w0x8000", "32w0xffffffff"))
            method = f"HashAlgorithm.{chance.choice(ALGORITHMS)}"
            return f"hash(hdr.y.hash, {method}, 32w{chance.randrange(8)}, {{ {listed} }}, {most});"
        if pick == 9:
            return chance.choice(
                (
                    "hdr.b.setInvalid();",
                    "hdr.b.setValid();",
                    "hdr.st.push_front(1);",
                    "hdr.st.pop_front(1);",
                    "hdr.st[2] = hdr.st[0];",
                    "hdr.st[0].setInvalid();",
                    "hdr.v.setInvalid();",
                )
            )
        if pick == 10:
            return "if (hdr.st[0].isValid()) { hdr.st[0].w = " + scope.bits(8, 2) + "; }"
        if pick == 11:
            target = chance.choice(self.more)
            inner = Expressions(chance, [*self.more, *self.fields])
            return f"if (hdr.b.isValid()) {{ {self._assignment(inner)} {target.name} = {inner.of(target, 2)}; }}"
        return self._assignment(scope)

    def _use(self, name: str, width: int) -> str:
        target = self.chance.choice([v for v in self.metadata if not v.signed])
        return f"{target.name} = {target.name} ^ (bit<{target.width}>){name};"

    def _table(self, number: int, scope: Expressions) -> str:
        chance = self.chance
        candidates = [v for v in [*self.fields, *self.metadata, *self.more] if v.width <= 256]
        keys: list[tuple[Variable, str]] = []
        for variable in chance.sample(candidates, min(chance.randint(1, 3), len(candidates))):
            kind = chance.choice(MATCHES)
            if kind == "lpm" and (variable.width % 8 or any(k == "lpm" for _v, k in keys)):
                kind = "exact"  # BMv2's P4Runtime misreads prefixes of odd widths
            if kind == "range" and variable.signed:
                kind = "ternary"
            keys.append((variable, kind))
        selector = chance.random() < 0.25
        lines = [] if selector else [f"    direct_counter(CounterType.packets_and_bytes) dc{number};"]
        actions: list[tuple[str, list[Variable]]] = []
        for i in range(chance.randint(1, 3)):
            name = f"act{number}_{i}"
            params = [Variable(f"p{k}", chance.choice(WIDTHS)) for k in range(chance.randint(0, 2))]
            inner = Expressions(chance, [*scope.variables, *params, *params], scope.valid)
            body = " ".join(self._assignment(inner) for _ in range(chance.randint(1, 2)))
            body += "" if selector else f" dc{number}.count();"
            lines.append(f"    action {name}({', '.join(f'{p.type} {p.name}' for p in params)}) {{ {body} }}")
            actions.append((name, params))
        table = f"table{number}"
        self.tables.append(_Table(table, keys, actions, selector))
        last = f"counters = dc{number};"
        listed = " ".join(f'{v.name} : {kind} @name("k{i}");' for i, (v, kind) in enumerate(keys))
        if selector:
            listed += "".join(f" {v.name} : selector;" for v in chance.sample(self.fields, min(2, len(self.fields))))
            method = chance.choice(("crc16", "crc32", "csum16", "xor16", "identity"))
            made = f"action_selector(HashAlgorithm.{method}, 32w64, 32w{chance.choice((8, 14, 16))}) pick{number};"
            lines.append(f"    {made}")
            last = f"implementation = pick{number};"
        lines.append(
            f"    table {table} {{ key = {{ {listed} }} "
            f"actions = {{ {' '.join(n + ';' for n, _p in actions)} NoAction; }} "
            f"default_action = NoAction; {last} size = 64; }}"
        )
        return "\n".join(lines)

    def _apply(self, table: _Table, scope: Expressions) -> str:
        pick = self.chance.randrange(3)
        if pick == 0:
            return f"{table.name}.apply();"
        if pick == 1:
            return f"if ({table.name}.apply().hit) {{ hdr.y.hit = hdr.y.hit + 1; {self._statement(scope)} }}"
        cases = " ".join(f"{name}: {{ {self._assignment(scope)} }}" for name, _p in table.actions[:2])
        return f"switch ({table.name}.apply().action_run) {{ {cases} default: {{ hdr.y.hit = hdr.y.hit + 3; }} }}"

    def _ingress(self) -> str:
        chance = self.chance
        scope = self._scope()
        declared = [f"    register<bit<{w}>>({CELLS}) {n};" for n, w in self.registers]
        declared.append(f"    counter({CELLS}, CounterType.packets_and_bytes) c0;")
        declared += [self._table(i, scope) for i in range(chance.randint(1, 3))]
        body = [self._statement(scope) for _ in range(chance.randint(2, 5))]
        for table in self.tables:
            body += [self._apply(table, scope), self._statement(scope)]
        digest = ", ".join(["hdr.base.id", *(v.name for v in self.told)])
        body.append(f"if ({scope.bools(2)}) {{ digest<digest_t>(1, {{ {digest} }}); }}")
        fate = chance.randrange(6)
        if fate == 0:
            body.append(f"if ({scope.bools(2)}) {{ mark_to_drop(sm); }}")
        elif fate == 1:
            body.append(f"if ({scope.bools(1)}) {{ sm.mcast_grp = {GROUP}; }}")
        elif fate == 2:
            body.append(f"if ({scope.bools(1)}) {{ clone_preserving_field_list(CloneType.I2E, {SESSION}, 1); }}")
        elif fate == 3:
            body.append(f"if (sm.instance_type == 0 && {scope.bools(1)}) {{ resubmit_preserving_field_list(1); }}")
        elif fate == 4:
            body.append(f"if ({scope.bools(1)}) {{ truncate(32w{chance.choice((20, 40, 60))}); }}")
        dump = " ".join(f"{n}.read(hdr.y.{n}, (bit<32>)hdr.base.index);" for n, _w in self.registers)
        joined = "\n            ".join(body)
        return "\n".join(
            [
                "control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {",
                *declared,
                f"""    apply {{
        sm.egress_spec = {CPU_PORT};
        meta.again = sm.instance_type == 0 ? 1w0 : 1w1;
        if (hdr.base.kind == {DUMP}) {{
            hdr.y.setValid();
            {dump}
        }} else if (hdr.a.isValid()) {{
            hdr.y.setValid();
            hdr.y.failed = sm.parser_error == error.NoError ? 32w0 : 32w1;
            hdr.y.bad = (bit<8>)sm.checksum_error;
            {joined}
        }}
    }}
}}""",
            ]
        )

    def _egress(self) -> str:
        chance = self.chance
        scope = self._scope()
        body = [self._assignment(scope) for _ in range(chance.randint(0, 2))]
        pick = chance.randrange(4)
        if pick == 0:
            clone = f"clone_preserving_field_list(CloneType.E2E, {SESSION}, 1);"
            body.append(f"if (sm.instance_type == 0 && {scope.bools(1)}) {{ {clone} }}")
        elif pick == 1:
            # Without the result, which would be parsed as hdr.a; BMv2 has no room for more before such a packet
            again = "hdr.y.setInvalid(); recirculate_preserving_field_list(1);"
            body.append(f"if (sm.instance_type == 0 && meta.again == 0 && {scope.bools(1)}) {{ {again} }}")
        joined = "\n            ".join(body)
        return f"""control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {{
    apply {{
        if (hdr.y.isValid() && hdr.base.kind < {DUMP}) {{
            hdr.y.instance = sm.instance_type;
            hdr.y.rid = sm.egress_rid;
            hdr.y.length = sm.packet_length;
            {joined}
        }}
    }}
}}"""

    # -- frames and entries ------------------------------------------------------------------------------------------

    def _frame(self, number: int) -> bytes:
        chance = self.chance
        scope = Expressions(chance, [])
        value = 0
        for variable in self.fields:
            value = value << variable.width | scope.number(variable.width)
        body = value.to_bytes(sum(v.width for v in self.fields) // 8, "big")
        rest = chance.randbytes(chance.choice((0, 3, 20, 60, 200)))
        kind = chance.choice((*KINDS, chance.randrange(DUMP)))
        head = number.to_bytes(2, "big") + bytes((kind, chance.randrange(CELLS)))
        frame = head + body + rest
        return frame[: chance.randrange(15, len(frame))] if len(frame) > 20 and chance.random() < 0.1 else frame

    def _values(self, variable: Variable, frames: list[bytes]) -> int:
        """A value that some frame has in this field, or another one."""
        at = 0
        for item in self.fields:
            if item is variable and self.chance.random() < 0.7:
                total = sum(v.width for v in self.fields)
                data = self.chance.choice(frames)[PREFIX_BYTES : PREFIX_BYTES + total // 8]
                if len(data) * 8 == total:
                    return int.from_bytes(data, "big") >> (total - at - item.width) & ((1 << item.width) - 1)
            at += item.width
        return self.chance.choice((0, 0, Expressions(self.chance, []).number(variable.width)))

    def _call(self, table: _Table) -> tuple[str, tuple[tuple[int, int], ...]]:
        """An action of a table with arguments."""
        action, params = self.chance.choice(table.actions)
        return f"I.{action}", tuple((Expressions(self.chance, []).number(p.width), p.width) for p in params)

    def _entries(self, frames: list[bytes]) -> list[Entry]:
        chance = self.chance
        out: dict[tuple[object, ...], Entry] = {}
        for table in self.tables:
            ordered = any(kind in ("ternary", "range", "optional") for _v, kind in table.keys)
            for number in range(chance.randint(0, 10)):
                key = []
                for variable, kind in table.keys:
                    width = variable.width
                    full = (1 << width) - 1
                    value, second = self._values(variable, frames), 0
                    if kind == "lpm":
                        second = chance.choice((0, width, chance.randint(0, width)))
                        value = value >> (width - second) << (width - second)
                    elif kind == "ternary":
                        second = chance.choice((0, full, chance.randint(0, full)))
                        value &= second
                    elif kind == "optional":
                        second = chance.choice((0, full))
                        value &= second
                    elif kind == "range":
                        value, second = sorted((value, self._values(variable, frames)))
                    key.append((kind, width, value, second))
                (action, values), *others = (self._call(table) for _ in range(3 if table.selector else 1))
                priority = number + 1 if ordered else 0
                entry = Entry(f"I.{table.name}", tuple(key), action, values, priority, tuple(others), table.selector)
                out.setdefault((table.name, *key), entry)
        return list(out.values())
