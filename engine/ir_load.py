"""Builds :class:`engine.ir.Program` from BMv2 JSON (format 2.x), refusing what the engine does not execute.

:func:`load` raises :class:`ProgramError` for malformed input and :class:`Unsupported`, with the construct and its
source line, for constructs outside the engine's reach. It never guesses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import ir
from engine.api import ProgramError
from engine.ir_calculation import load_calculation
from engine.ir_control import load_actions, load_pipelines
from engine.ir_expr import MAX_FIELD, Json, Names, items, malformed, need, refuse, source_of
from engine.ir_parser import load_parser

MAX_REGISTER_BYTES = 1 << 30  # of one array
# What cannot change which headers leave: BMv2 makes room for them before it runs these
DEPARSER_CALLS = {
    *("log_msg", "register_read", "register_write", "count", "execute_meter", "assign"),
    *("modify_field_with_hash_based_offset", "modify_field_rng_uniform"),
}
ROOT = (
    "header_types",
    "headers",
    "parsers",
    "deparsers",
    "actions",
    "pipelines",
    "calculations",
    "checksums",
    "learn_lists",
    "field_aliases",
)


def load(source: str | Path | Json) -> ir.Program:
    """Load a program from a file, or from JSON that is parsed already."""
    if isinstance(source, dict):
        data: Any = source
    else:
        try:
            data = json.loads(Path(source).read_text())
        except (OSError, ValueError) as error:
            raise ProgramError(f"{source}: {error}") from error
    if not isinstance(data, dict):
        malformed("the top level is no object")
    try:
        return _program(data)
    except RecursionError as error:
        raise ProgramError("malformed program: expressions are nested too deeply") from error
    except (TypeError, AttributeError, LookupError, ValueError, OverflowError) as error:
        # a value of a wrong type somewhere that no check above names more precisely
        raise ProgramError(f"malformed program: {error}") from error


def _program(data: Json) -> ir.Program:
    for key in ROOT:
        need(data, key, list, "program")
    version = need(need(data, "__meta__", dict, "program"), "version", list, "__meta__")
    if not version or version[0] != 2:
        malformed(f"format version {version}; this engine reads 2.x")
    names = Names()
    _types(data, names)
    _headers(data, names)
    if items(data, "extern_instances", "program"):
        first = items(data, "extern_instances", "program")[0]
        refuse(f"the extern {need(first, 'type', str, 'extern')}", source_of(first))
    registers, counters, meters = _arrays(data, names)
    errors = _errors(data)
    calculations = _calculations(data, names)
    states, first_state, value_sets = load_parser(data, names)
    actions, action_ids = load_actions(data, names)
    ingress, egress, tables, profiles = load_pipelines(data, names, actions, action_ids, meters)
    aliases = {}
    for alias in data["field_aliases"]:
        if not isinstance(alias, list) or len(alias) != 2 or not isinstance(alias[0], str):
            malformed(f"field alias {alias!r}")
        aliases[alias[0]] = names.field(alias[1])
    return ir.Program(
        name=Path(str(data.get("program", "program"))).stem,
        types=tuple(names.types),
        headers=tuple(names.headers),
        stacks=tuple(names.stacks),
        unions=tuple(names.unions),
        union_stacks=tuple(names.union_stacks),
        errors=errors,
        actions=actions,
        states=states,
        first_state=first_state,
        value_sets=value_sets,
        ingress=ingress,
        egress=egress,
        tables=tables,
        profiles=profiles,
        registers=registers,
        counters=counters,
        meters=meters,
        calculations=calculations,
        checksums=_checksums(data, names),
        deparser=_deparser(data, names),
        deparser_calls=_deparser_calls(data, names),
        learn_lists=_learn_lists(data, names),
        field_lists=_field_lists(data, names),
        aliases=aliases,
    )


def _types(data: Json, names: Names) -> None:
    for item in items(data, "header_types", "program"):
        name = need(item, "name", str, "header type")
        fields: list[ir.Field] = []
        for entry in need(item, "fields", list, name):
            if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[0], str):
                malformed(f"field {entry!r} of {name}")
            signed = len(entry) > 2 and entry[2] is True
            if len(entry) > 3 and entry[3]:
                refuse(f"the saturating field {name}.{entry[0]}", source_of(item))
            if entry[1] == "*":
                if item.get("length_exp") is not None:
                    refuse(f"the header {name} with a length expression (P4_14)", source_of(item))
                limit = need(item, "max_length", int, name) * 8 - sum(f.width for f in fields)
                if any(f.varbit for f in fields):
                    refuse(f"the header {name} with two varbit fields", source_of(item))
                fields.append(ir.Field(entry[0], limit, varbit=True))
                continue
            if entry[1] == 0 and not isinstance(entry[1], bool):
                refuse(f"the field {name}.{entry[0]} of 0 bits", source_of(item))
            if not isinstance(entry[1], int) or entry[1] < 1:
                malformed(f"width of {name}.{entry[0]}")
            if entry[1] > MAX_FIELD:
                refuse(f"the field {name}.{entry[0]} of {entry[1]} bits", source_of(item))
            fields.append(ir.Field(entry[0], entry[1], signed))
        names.types.append(ir.HeaderType(name, _fit_varbit(tuple(fields), item)))


def _fit_varbit(fields: tuple[ir.Field, ...], item: Json) -> tuple[ir.Field, ...]:
    """Give the varbit field what max_length (bytes of the whole header) leaves it."""
    if not any(f.varbit for f in fields):
        return fields
    total = need(item, "max_length", int, "header type") * 8 - sum(f.width for f in fields if not f.varbit)
    if total < 0 or total % 8 or total > MAX_FIELD * 8:
        refuse(f"a varbit field of {total} bits in {item.get('name')}", source_of(item))
    return tuple(ir.Field(f.name, total, f.signed, True) if f.varbit else f for f in fields)


def _headers(data: Json, names: Names) -> None:
    types = {t.name: i for i, t in enumerate(names.types)}
    ids: dict[int, int] = {}
    raw: list[tuple[str, int, bool]] = []
    for item in items(data, "headers", "program"):
        name = need(item, "name", str, "header")
        kind = names.lookup(types, item.get("header_type"), "header type")
        metadata = need(item, "metadata", bool, name)
        if not metadata and (names.types[kind].bits % 8):
            refuse(f"the header {name} whose length is no multiple of 8 bits", source_of(item))
        ids[need(item, "id", int, name)] = len(raw)
        if name in names.header:
            malformed(f"two headers {name}")
        names.header[name] = len(raw)
        raw.append((name, kind, metadata))

    def members(item: Json, key: str) -> tuple[int, ...]:
        listed = need(item, key, list, "stack or union")
        if not listed or any(i not in ids for i in listed):
            malformed(f"{item.get('name')}: {key} {listed}")
        return tuple(ids[i] for i in listed)

    stack_of: dict[int, tuple[int, int]] = {}
    union_of: dict[int, tuple[int, int]] = {}
    for item in items(data, "header_stacks", "program"):
        name = need(item, "name", str, "header stack")
        headers = members(item, "header_ids")
        stack_of.update((h, (len(names.stacks), i)) for i, h in enumerate(headers))
        names.stack[name] = len(names.stacks)
        names.stacks.append(ir.Stack(name, headers))
    union_ids: dict[int, int] = {}
    for item in items(data, "header_unions", "program"):
        name = need(item, "name", str, "header union")
        headers = members(item, "header_ids")
        union_of.update((h, (len(names.unions), i)) for i, h in enumerate(headers))
        union_ids[need(item, "id", int, name)] = len(names.unions)
        names.union[name] = len(names.unions)
        names.unions.append(ir.Union(name, headers))
    for item in items(data, "header_union_stacks", "program"):
        name = need(item, "name", str, "header union stack")
        listed = need(item, "header_union_ids", list, name)
        if not listed or any(i not in union_ids for i in listed):
            malformed(f"{name}: header_union_ids {listed}")
        shapes = {tuple(raw[h][1] for h in names.unions[union_ids[i]].headers) for i in listed}
        if len(shapes) > 1:
            malformed(f"{name}: its unions {listed} are of different types")
        names.union_stack[name] = len(names.union_stacks)
        names.union_stacks.append(ir.UnionStack(name, tuple(union_ids[i] for i in listed)))
    names.headers = [
        ir.Header(name, kind, metadata, stack_of.get(i), union_of.get(i))
        for i, (name, kind, metadata) in enumerate(raw)
    ]


def _errors(data: Json) -> dict[str, int]:
    errors: dict[str, int] = {}
    for entry in data.get("errors", []):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], int):
            malformed(f"error {entry!r}")
        errors[str(entry[0])] = entry[1]
    return errors


def _arrays(data: Json, names: Names) -> tuple[tuple[ir.Array, ...], tuple[ir.Array, ...], tuple[ir.Array, ...]]:
    found: dict[str, list[ir.Array]] = {"register": [], "counter": [], "meter": []}
    for kind, arrays in found.items():
        for item in items(data, f"{kind}_arrays", "program"):
            name = need(item, "name", str, kind)
            direct = need(item, "binding", str, name) if item.get("is_direct") else None
            size = 0 if direct else need(item, "size", int, name)
            if not 0 <= size <= 1 << 28:
                refuse(f"the {kind} {name} with {size} cells", source_of(item))
            width = need(item, "bitwidth", int, name) if kind == "register" else 0
            if kind == "register" and not 1 <= width <= MAX_FIELD:
                refuse(f"the register {name} with cells of {width} bits", source_of(item))
            if size * ((width + 7) // 8) > MAX_REGISTER_BYTES:
                refuse(f"the register {name} of {size} cells of {width} bits", source_of(item))
            if kind == "meter" and item.get("rate_count", 2) != 2:
                refuse(f"the meter {name} with {item.get('rate_count')} rates", source_of(item))
            target = names.field(item["result_target"]) if kind == "meter" and direct else None
            names.arrays[kind][name] = len(arrays)
            by_bytes = kind == "meter" and item.get("type") == "bytes"
            arrays.append(ir.Array(name, size, width, direct, by_bytes, target, source_of(item)))
    return tuple(found["register"]), tuple(found["counter"]), tuple(found["meter"])


def _calculations(data: Json, names: Names) -> tuple[ir.Calculation, ...]:
    found: list[ir.Calculation] = []
    for item in items(data, "calculations", "program"):
        name = need(item, "name", str, "calculation")
        names.arrays["calculation"][name] = len(found)
        found.append(load_calculation(item, names, name))
    return tuple(found)


def _checksums(data: Json, names: Names) -> tuple[ir.Checksum, ...]:
    found = []
    for item in items(data, "checksums", "program"):
        source = source_of(item)
        if item.get("type", "generic") != "generic":
            refuse(f"a checksum of type {item.get('type')}", source)
        condition = item.get("if_cond")
        found.append(
            ir.Checksum(
                target=names.field(item.get("target")),
                calculation=names.lookup(names.arrays["calculation"], item.get("calculation"), "calculation"),
                condition=None if condition is None else names.expression(condition, (), source),
                verify=bool(item.get("verify", True)),
                update=bool(item.get("update", True)),
                source=source,
            )
        )
    return tuple(found)


def _deparser(data: Json, names: Names) -> tuple[int, ...]:
    deparsers = items(data, "deparsers", "program")
    if len(deparsers) != 1:
        refuse(f"a program with {len(deparsers)} deparsers", None)
    return tuple(names.lookup(names.header, name, "header") for name in need(deparsers[0], "order", list, "deparser"))


def _deparser_calls(data: Json, names: Names) -> tuple[ir.Primitive, ...]:
    calls = tuple(names.primitive(item, (), None) for item in items(data["deparsers"][0], "primitives", "deparser"))
    for call in calls:
        if call.op not in DEPARSER_CALLS:
            refuse(f"{call.op} in the deparser", call.source)
    return calls


def _learn_lists(data: Json, names: Names) -> tuple[ir.LearnList, ...]:
    found: list[ir.LearnList] = []
    for item in items(data, "learn_lists", "program"):
        name = need(item, "name", str, "learn list")
        fields: list[ir.Expr] = []
        described: list[tuple[str, int]] = []
        for i, element in enumerate(items(item, "elements", name)):
            if element.get("type") == "hexstr":
                refuse(f"a constant in the digest {name}", source_of(item))
            ref = names.field(element.get("value"))
            width = 1
            label = "valid"
            if ref.field != ir.VALID:
                declared = names.types[names.headers[ref.header].type].fields[ref.field]
                width, label = declared.width, declared.name
                if declared.varbit:
                    refuse(f"a varbit field in the digest {name}", source_of(item))
            fields.append(ref)
            described.append((f"{i}.{label}", width))
        found.append(ir.LearnList(name, need(item, "id", int, name), tuple(fields), tuple(described)))
    return tuple(found)


def _field_lists(data: Json, names: Names) -> dict[int, tuple[ir.FieldRef, ...]]:
    found: dict[int, tuple[ir.FieldRef, ...]] = {}
    for item in items(data, "field_lists", "program"):
        refs = []
        for element in items(item, "elements", "field list"):
            if element.get("type") != "field":
                refuse(f"a {element.get('type')} in a field list", source_of(item))
            refs.append(names.field(element.get("value")))
        found[need(item, "id", int, "field list")] = tuple(refs)
    return found
