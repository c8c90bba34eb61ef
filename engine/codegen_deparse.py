"""C for the deparser, for checksums and for the input of hashes: everything that turns fields into bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from engine import ir
from engine.api import Unsupported
from engine.codegen_action import Actions, calculated
from engine.codegen_expr import Expressions
from engine.codegen_layout import Layout, comment, is_wide, literal, mask, octets

MAX_HEADERS = 4096  # bytes of all headers together, see SP_OUT_ROOM
MAX_HASH = 4096  # bytes of a hash's fields


@dataclass(slots=True)
class _Chunk:
    """A part of a hash's input that is present or absent as a whole."""

    guard: str  # C condition
    parts: list[tuple[str, int]]  # (C value, width)
    bits: int  # at most
    lines: list[str] = field(default_factory=list)  # instead of parts: statements that append to ``o``


def field_stores(parts: Sequence[tuple[str, int]], base: str) -> list[str]:
    """Statements that write (C value, width) pairs from the byte address ``base``; whole bytes in total.

    Neighbouring fields are joined into runs that start and end on a byte boundary, each written at once.
    """
    out: list[str] = []
    bit = 0
    run: list[tuple[str, int]] = []
    start = 0
    for code, width in parts:
        if not run:
            start = bit
        run.append((code, width))
        bit += width
        if bit % 8 == 0:
            out += _store_run(run, base, start)
            run = []
    if run:
        out += _store_run(run, base, start)
    return out


def _store_run(run: list[tuple[str, int]], base: str, start: int) -> list[str]:
    total = sum(width for _code, width in run)
    at = f"{base} + {start // 8}"
    if len(run) == 1 and is_wide(run[0][1]) and total % 8 == 0:
        return [f"memcpy({at}, {run[0][0]}, {total // 8});"]
    if start % 8 == 0 and total % 8 == 0 and total <= 128 and not any(is_wide(w) for _c, w in run):
        kind = "uint64_t" if total <= 64 else "sp_u128"
        terms = []
        below = total
        for code, width in run:
            below -= width
            terms.append(f"({kind}){code} << {below}" if below else f"({kind}){code}")
        function = "sp_store" if total <= 64 else "sp_store128"
        return [f"{function}({at}, {' | '.join(terms)}, {total // 8});"]
    out = []
    bit = start
    for code, width in run:
        if is_wide(width):
            out.append(f"sp_copy_bits({base}, {bit}u, {code}, {octets(width) * 8 - width}u, {width}u);")
        else:
            out.append(f"sp_put_bits({base}, {bit}u, {code}, {width}u);")
        bit += width
    return out


class Deparser:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.program = layout.program
        self.expr = Expressions(layout)

    def _emit_fields(self, header: int) -> list[str]:
        """Statements that append a header to ``o``, advancing it."""
        name = self.layout.header(header)
        kind = self.layout.header_type(header)
        varbit = kind.varbit
        head = kind.fields if varbit is None else kind.fields[:varbit]
        out = field_stores([(f"{name}.f{i}", f.width) for i, f in enumerate(head)], "o")
        out.append(f"o += {sum(f.width for f in head) // 8};")
        if varbit is not None:
            out.append(f"memcpy(o, {name}.f{varbit}, {name}.n{varbit} / 8); o += {name}.n{varbit} / 8;")
            tail = kind.fields[varbit + 1 :]
            if tail:
                out += field_stores([(f"{name}.f{i}", f.width) for i, f in enumerate(tail, varbit + 1)], "o")
                out.append(f"o += {sum(f.width for f in tail) // 8};")
        return out

    def function(self) -> list[str]:
        """``sp_deparse``: checksums, then headers to ``o``; returns the end."""
        total = sum(sum(f.width for f in self.layout.header_type(h).fields) for h in self.program.deparser)
        if total > MAX_HEADERS * 8:
            raise Unsupported(f"headers of {total // 8} bytes in total are not supported")
        out = [
            "static uint8_t *sp_deparse(struct sp_switch *sw, struct sp_context *c, uint8_t *o)",
            "{",
            "    struct sp_phv *p = &c->phv;",
            "    (void)sw; (void)p;",
        ]
        for checksum in self.program.checksums:
            if checksum.update:
                out += ["    " + line for line in self._update(checksum)]
        for line in Actions(self.layout).body(self.program.deparser_calls):
            out.append("    " + line)
        for cold, run in groupby(self.program.deparser, key=lambda header: header in self.layout.cold):
            if cold:
                out.append("    if (SP_UNLIKELY(p->cold_used)) {")
            for header in run:
                body = self._emit_fields(header)
                out += [f"    if ({self.layout.valid(header)}) {{ {comment(self.program.headers[header].name)}"]
                out += [f"        {line}" for line in body] + ["    }"]
            if cold:
                out.append("    }")
        return [*out, "    return o;", "}", ""]

    # -- checksums -----------------------------------------------------------------------------------------------

    def _condition(self, checksum: ir.Checksum) -> str:
        if checksum.condition is None:
            return "1"
        try:
            return self.expr.boolean(checksum.condition)
        except Unsupported as error:
            raise Unsupported(f"{checksum.source}: {error}") from error

    def _update(self, checksum: ir.Checksum) -> list[str]:
        actions = Actions(self.layout)
        value = calculated(self.program, checksum.calculation)
        store = actions.store(
            checksum.target, lambda bits: value if bits >= 64 else f"({value} & {literal(mask(bits))})"
        )
        return [f"if ({self._condition(checksum)}) {{", *store, "}"]

    def verification(self) -> list[str]:
        """``sp_verify``: whether every checksum to verify is correct."""
        out = ["static bool sp_verify(struct sp_context *c)", "{", "    struct sp_phv *p = &c->phv;", "    (void)p;"]
        for checksum in self.program.checksums:
            if checksum.verify:
                if self.program.calculations[checksum.calculation].algorithm == "random":
                    raise Unsupported(f"{checksum.source}: verifying a random checksum is not supported")
                target = self.expr.modulo(checksum.target, 64)  # BMv2 compares 64 bits
                valid = self.layout.valid(checksum.target.header)
                out.append(
                    f"    if ({valid} && {self._condition(checksum)} && "
                    f"sp_calc_{checksum.calculation}(c, p) != {target}) return false;"
                )
        return [*out, "    return true;", "}", ""]

    # -- hashes --------------------------------------------------------------------------------------------------

    def calculation(self, calculation: ir.Calculation, name: str) -> list[str]:
        """A function that hashes the calculation's input; invalid headers are left out, as in BMv2.

        A random "hash" has no input: see :func:`calculated`.
        """
        if calculation.algorithm == "random":
            return []
        out = [
            f"static uint64_t __attribute__((unused)) {name}(const struct sp_context *c, struct sp_phv *p)",
            "{",
            "    (void)c; (void)p;",
        ]
        chunks = self._chunks(calculation)
        room = sum(chunk.bits for chunk in chunks)
        if room > MAX_HASH * 8:
            raise Unsupported(f"{calculation.source}: a hash over {room // 8} bytes is not supported")
        out.append(f"    uint8_t in[{octets(room) + 16}];")
        if all(chunk.bits % 8 == 0 for chunk in chunks):
            out.append("    uint8_t *o = in;")
            for chunk in chunks:
                lines = chunk.lines or [*field_stores(chunk.parts, "o"), f"o += {chunk.bits // 8};"]
                out += [f"    if ({chunk.guard}) {{", *("        " + line for line in lines), "    }"]
            out.append("    size_t n = (size_t)(o - in);")
        else:
            out += ["    memset(in, 0, sizeof in);", "    uint32_t bit = 0;"]
            for chunk in chunks:
                if chunk.lines:
                    raise Unsupported(f"{calculation.source}: a header off a byte boundary in a hash is not supported")
                out.append(f"    if ({chunk.guard}) {{")
                for code, width in chunk.parts:
                    if is_wide(width):
                        pad = octets(width) * 8 - width
                        out.append(f"        sp_copy_bits(in, bit, {code}, {pad}u, {width}u); bit += {width};")
                    else:
                        out.append(f"        sp_put_bits(in, bit, {code}, {width}u); bit += {width};")
                out.append("    }")
            out.append("    size_t n = (bit + 7) / 8;")
        algorithm = f"sp_hash_{calculation.algorithm}"
        if not calculation.payload:
            return [*out, f"    return {algorithm}(in, n);", "}", ""]
        out += [
            "    uint32_t payload = c->payload_len < c->truncate ? c->payload_len : c->truncate;",
            "    uint8_t *all = c->scratch;",
            "    memcpy(all, in, n);",
            "    memcpy(all + n, c->payload, payload);",
            f"    return {algorithm}(all, n + payload);",
            "}",
            "",
        ]
        return out

    def _chunks(self, calculation: ir.Calculation) -> list[_Chunk]:
        """The input with neighbouring fields of one header joined."""
        chunks: list[_Chunk] = []
        for expr, width in calculation.inputs:
            if isinstance(expr, ir.HeaderRef):
                kind = self.layout.header_type(expr.header)
                bits = sum(f.width for f in kind.fields)
                chunks.append(_Chunk(self.layout.valid(expr.header), [], bits, self._emit_fields(expr.header)))
                continue
            if isinstance(expr, ir.FieldRef):
                guard, code = self.layout.valid(expr.header), self.layout.field(expr)
                if self.program.field_type(expr).varbit:
                    length = f"{self.layout.length(expr)} / 8"
                    lines = [f"memcpy(o, {code}, {length}); o += {length};"]
                    chunks.append(_Chunk(guard, [], self.program.field_type(expr).width, lines))
                    continue
            elif isinstance(expr, ir.Const) and is_wide(width):
                data = (expr.value & mask(width)).to_bytes(octets(width), "big")
                guard, code = "1", f"((const uint8_t[]){{{', '.join(map(str, data))}}})"
            elif isinstance(expr, ir.Const):
                guard, code = "1", literal(expr.value & mask(width))
            else:
                raise Unsupported(f"{calculation.source}: this hash input is not supported")
            if chunks and chunks[-1].guard == guard and not chunks[-1].lines:
                chunks[-1].parts.append((code, width))
                chunks[-1].bits += width
            else:
                chunks.append(_Chunk(guard, [(code, width)], width))
        return chunks
