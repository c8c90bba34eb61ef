"""A P4Info bound to a loaded program: ids to program indices, names and widths checked, converters precomputed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from engine.api import ActionInfo, ArrayInfo, ProgramInfo, TableInfo
from engine.p4rt.actions import ActionSchema, param_schemas
from engine.p4rt.errors import P4Error, invalid, not_found, unimplemented
from engine.p4rt.fields import P4INFO_KINDS, FieldSchema
from engine.p4rt.headers import HeaderSchema
from engine.p4rt.names import Names, Translations
from engine.p4rt.stubs import p4i
from engine.p4rt.tables import TableSchema


@dataclass(frozen=True, slots=True)
class ArraySchema:
    """A counter, meter, register or value set: P4Info id, name and program index."""

    id: int
    name: str
    index: int
    size: int  # cells (value set: members)
    width: int = 0  # bits of a register cell or value set member
    signed: bool = False
    boolean: bool = False
    table: int | None = None  # P4Info id of the table, for direct resources


@dataclass(frozen=True, slots=True)
class ProfileSchema:
    """An action profile or selector."""

    id: int
    name: str
    index: int
    size: int
    max_group_size: int
    with_selector: bool
    actions: dict[int, ActionSchema]
    by_index: dict[int, ActionSchema]
    sum_of_members: bool = False  # what sizes of groups mean; else the sum of weights
    max_member_weight: int = 0
    weights_disallowed: bool = False


@dataclass(frozen=True, slots=True)
class DigestSchema:
    """A digest: its fields' widths in bits; ``scalar`` when the type is not a struct."""

    id: int
    name: str
    index: int
    widths: tuple[int, ...]
    scalar: bool = False
    names: tuple[Names | None, ...] = ()  # per field its strings, None: numbers


@dataclass(frozen=True, slots=True)
class ValueSetSchema:
    """A parser value set and the fields of one member, in order."""

    array: ArraySchema
    fields: tuple[FieldSchema, ...]


@dataclass(slots=True)
class Schema:
    """Everything that the server needs to know about a forwarding pipeline."""

    p4info: p4i.P4Info
    program: ProgramInfo
    translations: Translations
    tables: dict[int, TableSchema] = field(default_factory=dict)
    tables_by_index: dict[int, TableSchema] = field(default_factory=dict)
    profiles: dict[int, ProfileSchema] = field(default_factory=dict)
    registers: dict[int, ArraySchema] = field(default_factory=dict)
    counters: dict[int, ArraySchema] = field(default_factory=dict)
    direct_counters: dict[int, ArraySchema] = field(default_factory=dict)
    meters: dict[int, ArraySchema] = field(default_factory=dict)
    direct_meters: dict[int, ArraySchema] = field(default_factory=dict)
    digests: dict[int, DigestSchema] = field(default_factory=dict)
    digests_by_index: dict[int, DigestSchema] = field(default_factory=dict)
    value_sets: dict[int, ValueSetSchema] = field(default_factory=dict)
    packet_in: HeaderSchema | None = None
    packet_out: HeaderSchema | None = None

    def table(self, id_: int) -> TableSchema:
        return self.tables.get(id_) or unknown("table", id_, self.tables.values())


def unknown(what: str, id_: int, known: Iterable[Any]) -> NoReturn:
    """NOT_FOUND for an id of the wrong or no object; the text lists what there is."""
    names = sorted(item.name for item in known)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise not_found(f"unknown {what} id 0x{id_:08x}; the pipeline has: {listed or 'none'}")


def _mismatch(message: str) -> P4Error:
    return invalid(f"pipeline does not match its P4Info: {message}")


def _index(items: Sequence[Any], name: str, what: str) -> int:
    for position, item in enumerate(items):
        if item.name == name:
            return position
    raise _mismatch(f"{what} {name} of the P4Info is not in the program")


def _width(given: int, named: bool, expected: int, what: str) -> int:
    """The program's width, checked against P4Info's unless a translated type (``type_name``) sits between."""
    if given == 0:
        if named:
            return expected
        raise _mismatch(f"{what} has no width in the P4Info")
    if given != expected and not named:
        raise _mismatch(f"{what} is bit<{given}> in the P4Info and bit<{expected}> in the program")
    return expected


def build(p4info: p4i.P4Info, program: ProgramInfo, names: bytes | None = None) -> Schema:
    """Bind ``p4info`` to ``program``; INVALID_ARGUMENT names the first object on which they disagree.

    ``names``: translations of a former pipeline (:meth:`Translations.pack`), which are kept.
    """
    translations = Translations(p4info, names)
    schema = Schema(p4info, program, translations)
    _check_ids(p4info)
    actions = {action.preamble.id: action for action in p4info.actions}
    profiles = {profile.preamble.id: profile for profile in p4info.action_profiles}
    for info in p4info.tables:
        table = _table(info, program, actions, profiles, translations)
        schema.tables[table.id] = table
        schema.tables_by_index[table.index] = table
    for profile in p4info.action_profiles:
        schema.profiles[profile.preamble.id] = _profile(profile, program, schema, actions)
    _arrays(schema)
    for digest in p4info.digests:
        bound = _digest(digest, p4info, program, translations)
        schema.digests[bound.id] = bound
        schema.digests_by_index[bound.index] = bound
    for header in p4info.controller_packet_metadata:
        name = header.preamble.name
        if name not in ("packet_in", "packet_out"):
            raise unimplemented(f"controller header {name}: only packet_in and packet_out are known")
        widths = next((dict(item.fields) for item in program.controller_headers if item.name == name), {})
        layout = HeaderSchema(header, translations, widths)
        declared = program.packet_in_bytes if name == "packet_in" else program.packet_out_bytes
        if declared and declared != layout.size:
            raise _mismatch(f"controller header {name} has {layout.size} bytes, the program's has {declared}")
        setattr(schema, name, layout)
    return schema


def _check_ids(p4info: p4i.P4Info) -> None:
    seen: dict[int, str] = {}
    for kind in p4info.DESCRIPTOR.fields:
        if kind.message_type is None or "preamble" not in kind.message_type.fields_by_name:
            continue
        for item in getattr(p4info, kind.name):
            id_, name = item.preamble.id, item.preamble.name
            if not id_:
                raise invalid(f"P4Info: {kind.name} {name!r} has no id")
            if id_ in seen:
                raise invalid(f"P4Info: id 0x{id_:08x} is used by {seen[id_]} and by {name}")
            seen[id_] = name


def _bind_action(info: p4i.Action, index: int, program: ActionInfo, translations: Translations) -> ActionSchema:
    name = info.preamble.name
    if len(info.params) != len(program.params):
        raise _mismatch(f"action {name} has {len(info.params)} parameters, the program's has {len(program.params)}")
    specs = []
    for param, (_name, width) in zip(info.params, program.params, strict=True):
        what = f"action {name}: parameter {param.name}"
        bits = _width(param.bitwidth, param.HasField("type_name"), width, what)
        specs.append((param.id, param.name, bits, translations.of(param.type_name.name, bits, what)))
    return ActionSchema(info.preamble.id, name, index, param_schemas(name, specs))


def _table_actions(
    refs: Iterable[p4i.ActionRef],
    known: dict[int, p4i.Action],
    table: TableInfo,
    program: ProgramInfo,
    translations: Translations,
) -> list[ActionSchema]:
    by_name = {program.actions[index].name: index for index in reversed(table.actions)}
    out = []
    for ref in refs:
        info = known.get(ref.id)
        if info is None:
            raise invalid(f"P4Info: table {table.name} refers to unknown action id 0x{ref.id:08x}")
        index = by_name.get(info.preamble.name)
        if index is None:
            raise _mismatch(f"action {info.preamble.name} is not an action of table {table.name} in the program")
        out.append(_bind_action(info, index, program.actions[index], translations))
    return out


def _table(
    info: p4i.Table,
    program: ProgramInfo,
    actions: dict[int, p4i.Action],
    profiles: dict[int, p4i.ActionProfile],
    translations: Translations,
) -> TableSchema:
    name = info.preamble.name
    index = _index(program.tables, name, "table")
    table = program.tables[index]
    if len(info.match_fields) != len(table.key):
        raise _mismatch(f"table {name} has {len(info.match_fields)} match fields, the program's has {len(table.key)}")
    fields = []
    for match, key in zip(info.match_fields, table.key, strict=True):
        what = f"table {name}: match field {match.name}"
        kind = P4INFO_KINDS.get(match.match_type)
        if kind is None:
            raise unimplemented(f"{what}: match type {match.other_match_type or match.match_type}")
        if kind is not key.kind:
            raise _mismatch(f"{what} is {kind.name.lower()} in the P4Info and {key.kind.name.lower()} in the program")
        width = _width(match.bitwidth, match.HasField("type_name"), key.width, what)
        strings = translations.of(match.type_name.name, width, what)
        fields.append(FieldSchema(match.id, match.name, kind, width, name, strings))
    if len({f.id for f in fields}) != len(fields):
        raise invalid(f"P4Info: table {name} uses a match field id twice")
    if bool(info.implementation_id) != (table.selector is not None):
        raise _mismatch(f"table {name} disagrees on having an action profile")
    if table.selector is not None:
        profile = profiles.get(info.implementation_id)
        if profile is None:
            raise unimplemented(f"table {name}: implementation 0x{info.implementation_id:08x} is no action profile")
        if program.profiles[table.selector].name != profile.preamble.name:
            raise _mismatch(f"table {name} uses another action profile than {profile.preamble.name}")
    bound = _table_actions(info.action_refs, actions, table, program, translations)
    return TableSchema(info, index, fields, bound, info.implementation_id or None)


def _profile(
    info: p4i.ActionProfile, program: ProgramInfo, schema: Schema, actions: dict[int, p4i.Action]
) -> ProfileSchema:
    name = info.preamble.name
    index = _index(program.profiles, name, "action profile")
    bound = program.profiles[index]
    if bound.with_selector != info.with_selector:
        raise _mismatch(f"action profile {name} disagrees on having a selector")
    mine: dict[int, ActionSchema] = {}
    by_index: dict[int, ActionSchema] = {}
    for table in schema.tables.values():
        if table.profile == info.preamble.id:
            for action in table.actions.values():
                mine.setdefault(action.id, action)
                by_index[action.index] = action
    return ProfileSchema(
        id=info.preamble.id,
        name=name,
        index=index,
        size=info.size or bound.size,
        max_group_size=info.max_group_size,
        with_selector=info.with_selector,
        actions=mine,
        by_index=by_index,
        sum_of_members=info.HasField("sum_of_members"),
        max_member_weight=info.sum_of_members.max_member_weight,
        weights_disallowed=info.weights_disallowed,
    )


def _arrays(schema: Schema) -> None:
    p4info, program = schema.p4info, schema.program

    def bind(info: Any, items: Sequence[ArrayInfo], what: str, size: int, **more: Any) -> ArraySchema:
        name = info.preamble.name
        index = _index(items, name, what)
        if size and items[index].size and items[index].size != size:
            raise _mismatch(f"{what} {name} has {size} cells, the program's has {items[index].size}")
        return ArraySchema(info.preamble.id, name, index, size, **more)

    for counter in p4info.counters:
        schema.counters[counter.preamble.id] = bind(counter, program.counters, "counter", counter.size)
    for meter in p4info.meters:
        schema.meters[meter.preamble.id] = bind(meter, program.meters, "meter", meter.size)
    for register in p4info.registers:
        more = _register_type(register, program, schema.translations)
        schema.registers[register.preamble.id] = bind(register, program.registers, "register", register.size, **more)
    for direct in p4info.direct_counters:
        table = schema.tables.get(direct.direct_table_id)
        if table is None:
            raise invalid(f"P4Info: direct counter {direct.preamble.name} refers to an unknown table")
        if not program.tables[table.index].direct_counter:
            raise _mismatch(f"table {table.name} has no direct counter in the program")
        table.counter = direct.preamble.id
        schema.direct_counters[direct.preamble.id] = ArraySchema(
            direct.preamble.id, direct.preamble.name, -1, 0, table=table.id
        )
    for direct_meter in p4info.direct_meters:
        table = schema.tables.get(direct_meter.direct_table_id)
        if table is None:
            raise invalid(f"P4Info: direct meter {direct_meter.preamble.name} refers to an unknown table")
        table.meter = direct_meter.preamble.id
        index = _index(program.meters, direct_meter.preamble.name, "direct meter")
        schema.direct_meters[direct_meter.preamble.id] = ArraySchema(
            direct_meter.preamble.id, direct_meter.preamble.name, index, 0, table=table.id
        )
    for value_set in p4info.value_sets:
        name = value_set.preamble.name
        fields = tuple(
            FieldSchema(m.id, m.name, P4INFO_KINDS.get(m.match_type, P4INFO_KINDS[2]), m.bitwidth or 1, name)
            for m in value_set.match
        )
        width = sum(f.width for f in fields)
        array = bind(value_set, program.value_sets, "value set", 0)
        expected = program.value_sets[array.index].width
        if expected != width:
            raise _mismatch(f"value set {name} is bit<{width}> in the P4Info and bit<{expected}> in the program")
        array = ArraySchema(array.id, name, array.index, value_set.size, width)
        schema.value_sets[array.id] = ValueSetSchema(array, fields)


def _register_type(register: p4i.Register, program: ProgramInfo, translations: Translations) -> dict[str, Any]:
    name = register.preamble.name
    spec = register.type_spec
    kind = spec.WhichOneof("type_spec")
    width = program.registers[_index(program.registers, name, "register")].width
    if kind == "bool":
        return {"width": 1, "boolean": True}
    if kind == "new_type":
        if translations.of(spec.new_type.name, width, f"register {name}") is not None:
            raise unimplemented(f"register {name}: cells of a type translated to strings")
        return {"width": width}
    if kind != "bitstring" or spec.bitstring.WhichOneof("type_spec") == "varbit":
        raise unimplemented(
            f"register {name}: cells of type {kind or 'unknown'} (bit<W>, int<W> and bool are supported)"
        )
    signed = spec.bitstring.WhichOneof("type_spec") == "int"
    given = spec.bitstring.int.bitwidth if signed else spec.bitstring.bit.bitwidth
    return {"width": _width(given, False, width, f"register {name}"), "signed": signed}


def _digest(info: p4i.Digest, p4info: p4i.P4Info, program: ProgramInfo, translations: Translations) -> DigestSchema:
    name = info.preamble.name
    index = _index(program.digests, name, "digest")
    widths = tuple(width for _name, width in program.digests[index].fields)
    kind = info.type_spec.WhichOneof("type_spec")
    specs: Sequence[Any] = [info.type_spec]
    if kind == "struct":
        struct_name = info.type_spec.struct.name
        if struct_name not in p4info.type_info.structs:
            raise invalid(f"P4Info: digest {name} has unknown type {struct_name}")
        specs = [member.type_spec for member in p4info.type_info.structs[struct_name].members]
    elif kind == "tuple":
        specs = info.type_spec.tuple.members
    if len(specs) != len(widths):
        raise _mismatch(f"digest {name} has {len(specs)} fields, the program's has {len(widths)}")
    names = tuple(
        translations.of(spec.new_type.name, width, f"digest {name}") for spec, width in zip(specs, widths, strict=True)
    )
    return DigestSchema(info.preamble.id, name, index, widths, kind not in ("struct", "tuple"), names)
