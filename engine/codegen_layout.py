"""Where the fields of a program live in the generated C, and how they are read and written.

Fields are members of one struct per header type: the smallest unsigned type up to 64 bits, ``sp_u128`` up to 128,
big endian byte arrays beyond. Signed fields are stored as their two's complement. A varbit field is a byte array and
its length in bits.
"""

from __future__ import annotations

from engine import ir
from engine.api import Unsupported
from engine.codegen_cold import cold_headers, cold_stacks, local_fields


def c_string(text: str) -> str:
    """A C string literal with the text's UTF-8 bytes; whatever could end it or mean more is an octal escape."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode(errors="replace")) + '"'


def comment(text: str) -> str:
    """A name as a C comment; names come with the program, so they must not be able to end it."""
    return "/* " + "".join(c if c.isascii() and (c.isalnum() or c in "_.$[]") else "_" for c in text) + " */"


def octets(width: int) -> int:
    return (width + 7) // 8


def ctype(width: int) -> str:
    """C type of a field of at most 128 bits."""
    for bits in (8, 16, 32, 64):
        if width <= bits:
            return f"uint{bits}_t"
    return "sp_u128"


def is_wide(width: int) -> bool:
    """Whether a field is a byte array."""
    return width > 128


def mask(width: int) -> int:
    return (1 << width) - 1


def literal(value: int) -> str:
    """An unsigned or signed constant of at most 128 bits as C, typed uint64_t, int64_t, sp_u128 or sp_s128."""
    if 0 <= value < 1 << 64:
        return f"{value:#x}ull"
    if -(1 << 63) < value < 0:
        return f"(-{-value:#x}ll)"
    if 0 <= value < 1 << 128:
        return f"((sp_u128){value >> 64:#x}ull << 64 | {value & mask(64):#x}ull)"
    if -(1 << 127) <= value < 0:
        return f"((sp_s128){literal(value & mask(128))})"
    raise Unsupported(f"the constant {value:#x} of more than 128 bits is not supported")


# name of the accessor: names that BMv2 knows the field by
METADATA = {
    "ingress_port": ("standard_metadata.ingress_port",),
    "packet_length": ("standard_metadata.packet_length",),
    "instance_type": ("standard_metadata.instance_type",),
    "egress_spec": ("standard_metadata.egress_spec",),
    "egress_port": ("standard_metadata.egress_port",),
    "parser_error": ("standard_metadata.parser_error",),
    "checksum_error": ("standard_metadata.checksum_error",),
    "mcast_grp": ("intrinsic_metadata.mcast_grp",),
    "egress_rid": ("intrinsic_metadata.egress_rid",),
    "ingress_global_timestamp": ("intrinsic_metadata.ingress_global_timestamp",),
    "egress_global_timestamp": ("intrinsic_metadata.egress_global_timestamp",),
    "priority": ("intrinsic_metadata.priority",),
    "enq_timestamp": ("queueing_metadata.enq_timestamp",),
    "enq_qdepth": ("queueing_metadata.enq_qdepth",),
    "deq_timedelta": ("queueing_metadata.deq_timedelta",),
    "deq_qdepth": ("queueing_metadata.deq_qdepth",),
    "qid": ("queueing_metadata.qid",),
}


class Layout:
    """C names of everything in a packet's state; ``p`` is a ``struct sp_phv *``."""

    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.cold = cold_headers(program)
        self.cold_stacks = cold_stacks(program)
        own = (program.find(name) for names in METADATA.values() for name in names)
        self.local = local_fields(program, [ref for ref in own if ref is not None])

    def header(self, index: int) -> str:
        header = self.program.headers[index]
        if header.stack is not None:
            return f"p->s{header.stack[0]}[{header.stack[1]}]"
        return f"p->h{index}"

    def header_type(self, index: int) -> ir.HeaderType:
        return self.program.types[self.program.headers[index].type]

    def valid(self, index: int) -> str:
        return "1" if self.program.headers[index].metadata else f"{self.header(index)}.valid"

    def field(self, ref: ir.FieldRef) -> str:
        if ref.field == ir.VALID:
            return f"{self.header(ref.header)}.valid"
        if ref in self.local:
            return f"p->l{ref.header}_{ref.field}"
        return f"{self.header(ref.header)}.f{ref.field}"

    def length(self, ref: ir.FieldRef) -> str:
        """Current bits of a varbit field."""
        return f"{self.header(ref.header)}.n{ref.field}"

    def octets(self, index: int) -> str:
        """C expression: bytes that the header occupies in a packet now."""
        kind = self.header_type(index)
        fixed = f"{kind.bits // 8}u"
        if kind.varbit is None:
            return fixed
        return f"({fixed} + {self.header(index)}.n{kind.varbit} / 8u)"

    def set_valid(self, index: int) -> str:
        """Statements that make a header valid, and with it the other members of its union invalid."""
        out = f"{self.header(index)}.valid = 1;"
        if index in self.cold:
            out += " p->cold_used = 1;"
        union = self.program.headers[index].union
        if union is not None:
            for other in self.program.unions[union[0]].headers:
                if other != index:
                    out += f" {self.header(other)}.valid = 0;"
        return out

    def absent(self, kind: int) -> frozenset[int]:
        """Fields of a header type that every header of this type has as local ones."""
        users = [i for i, header in enumerate(self.program.headers) if header.type == kind]
        sets = [frozenset(ref.field for ref in self.local if ref.header == i) for i in users]
        return frozenset.intersection(*sets) if sets else frozenset()

    def structs(self) -> list[str]:
        """Definitions of the header structs and of ``struct sp_phv``."""
        out: list[str] = []
        for i, kind in enumerate(self.program.types):
            members = ["    uint8_t valid;"]
            # wide members first would save padding, but headers are read more often than they are cleared
            absent = self.absent(i)
            for k, field in enumerate(kind.fields):
                if k in absent:
                    continue
                if field.varbit:
                    members.append(f"    uint32_t n{k};")
                if field.varbit or is_wide(field.width):
                    members.append(f"    uint8_t f{k}[{max(octets(field.width), 1)}]; {comment(field.name)}")
                else:
                    members.append(f"    {ctype(field.width)} f{k}; {comment(field.name)}")
            out += [f"struct sp_t{i} {{ {comment(kind.name)}", *members, "};", ""]
        out.append("struct sp_phv {")
        out += self._members(cold=False)
        out.append("    uint8_t cold_used; /* one of the headers that follow was made valid */")
        out += self._members(cold=True)
        out.append("    uint8_t uncleared;")
        for ref in sorted(self.local, key=lambda item: (item.header, item.field)):
            field = self.program.field_type(ref)
            name = f"l{ref.header}_{ref.field}"
            if is_wide(field.width):
                out.append(f"    uint8_t {name}[{octets(field.width)}]; {comment(field.name)}")
            else:
                out.append(f"    {ctype(field.width)} {name}; {comment(field.name)}")
        out += ["    uint8_t end;", "};", ""]
        return out

    def _members(self, *, cold: bool) -> list[str]:
        out: list[str] = []
        for i, header in enumerate(self.program.headers):
            if header.stack is None and (i in self.cold) is cold:
                out.append(f"    struct sp_t{header.type} h{i}; {comment(header.name)}")
        for i, stack in enumerate(self.program.stacks):
            if (i in self.cold_stacks) is cold:
                kind_index = self.program.headers[stack.headers[0]].type
                out.append(f"    struct sp_t{kind_index} s{i}[{len(stack.headers)}]; {comment(stack.name)}")
                out.append(f"    uint32_t s{i}_next;")
        if not cold:
            for i, union_stack in enumerate(self.program.union_stacks):
                out.append(f"    uint32_t us{i}_next; {comment(union_stack.name)}")
        return out
