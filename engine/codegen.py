"""Turns :class:`engine.ir.Program` into one C file that, with ``engine/native/core``, is a complete pipeline."""

from __future__ import annotations

from engine import ir
from engine.api import ProgramInfo, Unsupported
from engine.codec import Codec
from engine.codegen_ahead import Ahead
from engine.codegen_control import Controls, KeyLayout
from engine.codegen_deparse import Deparser
from engine.codegen_layout import METADATA, Layout, c_string, comment, ctype, is_wide, literal, mask, octets
from engine.codegen_parser import Parser
from engine.program import initial_updates
from engine.program_json import program_to_json

REQUIRED = ("ingress_port", "packet_length", "instance_type", "egress_spec", "egress_port")
QUEUEING = ("enq_timestamp", "enq_qdepth", "deq_timedelta", "deq_qdepth")

CONTEXT = """\
#define SP_CLONE 0x10000u
#define SP_MAX_STATES 10000u

struct sp_context {
    struct sp_phv phv;
    const uint8_t *payload;
    uint64_t now;
    uint32_t payload_len;
    uint32_t length;         /* BMv2's packet length register */
    uint32_t ingress_length; /* what counters and meters see */
    uint32_t port;           /* where the packet came in */
    uint32_t parser_error;
    uint32_t clone, clone_list, resubmit, recirculate, learn, truncate;
    uint8_t exit, failed;
    uint8_t *scratch;
};
"""


def generate(program: ir.Program, info: ProgramInfo) -> str:
    """C source of the pipeline. Raises :class:`Unsupported` for what cannot be executed exactly."""
    try:
        return _generate(program, info)
    except RecursionError as error:
        raise Unsupported(f"{program.name}: expressions nested this deeply are not supported") from error


def _generate(program: ir.Program, info: ProgramInfo) -> str:
    layout = Layout(program)
    controls, deparser, parser = Controls(layout), Deparser(layout), Parser(layout)
    out = [f"/* Generated, do not edit: */ {comment(program.name)}", '#include "sp_core.h"', '#include "sp_wide.h"', ""]
    out += layout.structs()
    out += [CONTEXT, '#include "sp_trace.h"', ""]
    out += _accessors(program, layout)
    for i, calculation in enumerate(program.calculations):
        out += deparser.calculation(calculation, f"sp_calc_{i}")
    for i, profile in enumerate(program.profiles):
        if profile.selector is not None:
            out += deparser.calculation(profile.selector, f"sp_selector_{i}")
    out += parser.extractors()
    out += parser.function()
    out += deparser.verification()
    out += controls.actions()
    out += Ahead(program).function()
    out += controls.pipeline(program.ingress)
    out += controls.pipeline(program.egress)
    out += deparser.function()
    out += _copies(program, layout)
    out += _trace(program, layout)
    out += _learn(program, layout)
    out += _features(program)
    out += _descriptors(program, info)
    out.append('#include "sp_pipeline.h"')
    return "\n".join(out) + "\n"


def _accessors(program: ir.Program, layout: Layout) -> list[str]:
    out: list[str] = []
    for name, names in METADATA.items():
        ref = next((found for n in names if (found := program.find(n)) is not None), None)
        setter = f"SP_INLINE void sp_set_{name}(struct sp_phv *p, uint64_t v)"
        getter = f"SP_INLINE uint64_t sp_get_{name}(struct sp_phv *p)"
        if ref is None:
            if name in REQUIRED:
                raise Unsupported(f"a program without the field {names[0]} is not supported")
            out += [f"{setter} {{ (void)p; (void)v; }}", f"{getter} {{ (void)p; return 0; }}"]
            continue
        width = program.field_type(ref).width
        if width > 64:
            raise Unsupported(f"the field {names[0]} of {width} bits is not supported")
        field = layout.field(ref)
        out.append(f"{setter} {{ {field} = ({ctype(width)})(v & {literal(mask(width))}); }}")
        out.append(f"{getter} {{ return {field}; }}")
    return [*out, ""]


def _copies(program: ir.Program, layout: Layout) -> list[str]:
    """``sp_reset_metadata`` and ``sp_copy_fields`` for clones and second passes."""
    out = ["static void __attribute__((unused)) sp_reset_metadata(struct sp_phv *p)", "{"]
    for i, header in enumerate(program.headers):
        if header.metadata:
            out.append(f"    memset(&{layout.header(i)}, 0, sizeof {layout.header(i)});")
    out += ["    (void)p;", "}", ""]
    out.append(
        "static void __attribute__((unused))\n"
        "sp_copy_fields(uint32_t list, struct sp_phv *to, const struct sp_phv *from)"
    )
    out += ["{", "    (void)to; (void)from;", "    switch (list) {"]
    for number, refs in program.field_lists.items():
        out.append(f"    case {number}:")
        for ref in refs:
            field = layout.field(ref).removeprefix("p->")
            wide = ref.field != ir.VALID and is_wide(program.field_type(ref).width)
            if wide:
                out.append(f"        memcpy(to->{field}, from->{field}, sizeof to->{field});")
            else:
                out.append(f"        to->{field} = from->{field};")
        out.append("        break;")
    return [*out, "    default:", "        break;", "    }", "}", ""]


def _trace(program: ir.Program, layout: Layout) -> list[str]:
    """``sp_trace_headers``: the state of a packet, for the traced variant (``sp_trace.h``)."""
    out = ["#ifdef SP_TRACE", "static void sp_trace_headers(struct sp_switch *sw, struct sp_context *c)", "{"]
    out.append("    struct sp_phv *p = &c->phv;\n    (void)p;")
    for i, header in enumerate(program.headers):
        out.append(f"    sp_reply_u8(sw, {layout.valid(i)} != 0); {comment(header.name)}")
        out.append(f"    if ({layout.valid(i)}) {{")
        for k, field in enumerate(layout.header_type(i).fields):
            ref = ir.FieldRef(i, k)
            if field.varbit:
                out.append(f"        sp_reply_u32(sw, {layout.length(ref)});")
                out.append(f"        sp_reply_bytes(sw, {layout.field(ref)}, ({layout.length(ref)} + 7) / 8);")
            elif is_wide(field.width):
                out.append(f"        sp_reply_bytes(sw, {layout.field(ref)}, {octets(field.width)});")
            else:
                out.append(f"        sp_trace_number(sw, {layout.field(ref)}, {octets(field.width)});")
        out.append("    }")
    return [*out, "}", "#endif", ""]


def _learn(program: ir.Program, layout: Layout) -> list[str]:
    out = ["static void __attribute__((unused)) sp_learn(struct sp_switch *sw, struct sp_context *c)", "{"]
    out += ["    struct sp_phv *p = &c->phv;", "    (void)p;", "    switch (c->learn) {"]
    for i, digest in enumerate(program.learn_lists):
        size = sum(octets(width) for _name, width in digest.names)
        out += [f"    case {digest.id}: {{", f"        uint8_t b[{size + 1}];"]
        position = 0
        for ref, (_name, width) in zip(digest.fields, digest.names, strict=True):
            assert isinstance(ref, ir.FieldRef)
            count = octets(width)
            if is_wide(width):
                out.append(f"        memcpy(b + {position}, {layout.field(ref)}, {count});")
            else:
                store = "sp_store" if count <= 8 else "sp_store128"
                out.append(f"        {store}(b + {position}, {layout.field(ref)}, {count});")
            position += count
        out.append("        sw->stats.digests++;")
        out.append("        if (sw->options.digest)")
        out.append(f"            sw->options.digest(sw->options.user, {i}, b, {size}, c->now);")
        out += ["        break;", "    }"]
    return [*out, "    default:", "        break;", "    }", "}", ""]


def _features(program: ir.Program) -> list[str]:
    used = {p.op for action in program.actions for p in action.primitives}
    used |= {op.op for state in program.states for op in state.ops if isinstance(op, ir.Primitive)}
    queueing = all(program.find(f"queueing_metadata.{name}") for name in QUEUEING)
    flags = {
        "CLONE": bool(used & {"clone_ingress_pkt_to_egress", "clone_egress_pkt_to_egress"}),
        "DIGEST": "generate_digest" in used,
        "RESUBMIT": "resubmit" in used,
        "RECIRCULATE": "recirculate" in used,
        "QUEUEING": queueing,
        "VERIFY": program.find("standard_metadata.checksum_error") is not None
        and any(c.verify for c in program.checksums),
    }
    return [f"#define SP_HAS_{name} {int(on)}" for name, on in flags.items()] + [""]


def _long_text(text: str) -> str:
    chunk = 4000
    return "\n    ".join(c_string(text[i : i + chunk]) for i in range(0, max(len(text), 1), chunk))


def _array(kind: str, name: str, rows: list[str]) -> list[str]:
    body = [f"    {row}," for row in rows] or ["    {0},"]
    return [f"static const {kind} {name}[] = {{", *body, "};", ""]


def _table_rows(program: ir.Program) -> list[str]:
    out: list[str] = []
    rows: list[str] = []
    for i, table in enumerate(program.tables):
        plan = KeyLayout(table)
        fields = []
        for k, key in enumerate(table.keys):
            size, at = octets(key.width), plan.offsets[k]
            number = plan.ranges.index(k) if k in plan.ranges else 0
            fields.append(f"{{{int(key.kind)}, {key.width}, {size}, {at}, {number}}}")
        if fields:
            out += _array("struct sp_field_desc", f"sp_fields_{i}", fields)
        out.append(f"static const uint32_t sp_allowed_{i}[] = {{{', '.join(map(str, table.actions)) or 0}}};")
        match = 2 if table.ternary else 1 if table.lpm else 0
        values = [
            c_string(table.name),
            match,
            int(KeyLayout.is_direct(table) and match == 0),
            int(table.immutable),
            int(table.default_const),
            len(table.keys),
            plan.bytes,
            plan.words,
            len(plan.ranges),
            plan.range_words,
            len(table.actions),
            -1 if table.profile is None else table.profile,
            -1 if table.direct_meter is None else table.direct_meter,
            int(table.idle_timeout),
            int(KeyLayout.is_bare(table)),
            table.size,
            f"sp_fields_{i}" if fields else "NULL",
            f"sp_allowed_{i}",
        ]
        rows.append("{" + ", ".join(map(str, values)) + "}")
    return out + _array("struct sp_table_desc", "sp_table_descs", rows)


def _action_rows(program: ir.Program) -> list[str]:
    out: list[str] = []
    rows: list[str] = []
    for i, action in enumerate(program.actions):
        widths = [width for _name, width in action.params]
        words = sum(1 if w <= 64 else 2 if w <= 128 else (octets(w) + 7) // 8 for w in widths)
        if widths:
            out.append(f"static const uint16_t sp_widths_{i}[] = {{{', '.join(map(str, widths))}}};")
        name = f"sp_widths_{i}" if widths else "NULL"
        rows.append(f"{{{c_string(action.name)}, {len(widths)}, {words}, {name}}}")
    return out + _array("struct sp_action_desc", "sp_action_descs", rows)


def _array_rows(name: str, items: tuple[ir.Array, ...]) -> list[str]:
    rows = []
    for item in items:
        cell = octets(item.width)
        if 0 < item.width <= 128:
            cell = next(size for size in (1, 2, 4, 8, 16) if item.width <= size * 8)
        if cell > 65535:
            raise Unsupported(f"{item.source}: cells of {item.width} bits in {item.name} are not supported")
        rows.append(f"{{{c_string(item.name)}, {item.size}, {item.width}, {cell}, {int(item.bytes_)}}}")
    return _array("struct sp_array_desc", name, rows)


def _descriptors(program: ir.Program, info: ProgramInfo) -> list[str]:
    codec = Codec(info)
    out = _table_rows(program) + _action_rows(program)
    profiles = [f"{{{c_string(p.name)}, {p.size}, {int(p.selector is not None)}}}" for p in program.profiles]
    out += _array("struct sp_profile_desc", "sp_profile_descs", profiles)
    for name in ("registers", "counters", "meters", "value_sets"):
        out += _array_rows(f"sp_{name[:-1]}_descs", getattr(program, name))
    rows = []
    updates = initial_updates(program)
    for i, update in enumerate(updates):
        data = codec.update(update)
        out.append(f"static const uint8_t sp_update_{i}[] = {{{','.join(map(str, data))}}};")
        rows.append(f"{{sp_update_{i}, {len(data)}}}")
    out += _array("struct sp_initial", "sp_initials", rows)
    out += [
        f"#define SP_NAME {c_string(program.name)}",
        "static const char SP_INFO[] =",
        f"    {_long_text(program_to_json(info))};",
        "#ifndef SP_KEY",
        '#define SP_KEY ""',
        "#endif",
        "#define SP_PROGRAM_TABLE \\",
    ]
    values = [
        *("SP_NAME", "SP_INFO", "SP_KEY", "sp_table_descs", "sp_action_descs", "sp_profile_descs"),
        *("sp_register_descs", "sp_counter_descs", "sp_meter_descs", "sp_value_set_descs", "sp_initials"),
        *(len(program.tables), len(program.actions), len(program.profiles), len(program.registers)),
        *(len(program.counters), len(program.meters), len(program.value_sets), len(updates)),
    ]
    out += ["    " + ", ".join(map(str, values)), ""]
    return out
