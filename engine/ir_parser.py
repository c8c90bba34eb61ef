"""Parser states and value sets of BMv2 JSON."""

from __future__ import annotations

from engine import ir
from engine.ir_expr import Json, Names, items, malformed, need, number, refuse, source_of


def load_parser(data: Json, names: Names) -> tuple[tuple[ir.State, ...], int | None, tuple[ir.Array, ...]]:
    """(states, index of the first, value sets)."""
    value_sets: dict[str, int] = {}
    arrays: list[ir.Array] = []
    for item in items(data, "parse_vsets", "program"):
        name = need(item, "name", str, "value set")
        value_sets[name] = len(arrays)
        size = item.get("max_size", 1024)
        width = need(item, "compressed_bitwidth", int, name)
        arrays.append(
            ir.Array(name, size if isinstance(size, int) and size > 0 else 1024, width, source=source_of(item))
        )
    parsers = items(data, "parsers", "program")
    if len(parsers) != 1:
        refuse(f"a program with {len(parsers)} parsers", None)
    raw = items(parsers[0], "parse_states", "parser")
    index = {need(item, "name", str, "parser state"): i for i, item in enumerate(raw)}
    states = tuple(_state(item, names, index, value_sets, arrays) for item in raw)
    first = parsers[0].get("init_state")
    return states, None if first is None else names.lookup(index, first, "parser state"), tuple(arrays)


def _state(
    item: Json, names: Names, index: dict[str, int], value_sets: dict[str, int], arrays: list[ir.Array]
) -> ir.State:
    name = need(item, "name", str, "parser state")
    source = source_of(item)
    ops = tuple(_operation(op, names, source) for op in items(item, "parser_ops", name))
    key = tuple(_key_part(part, names, name, source) for part in items(item, "transition_key", name))
    octets = sum((width + 7) // 8 for _part, width in key)
    transitions = []
    for entry in items(item, "transitions", name):
        following = entry.get("next_state")
        target = None if following is None else names.lookup(index, following, "parser state")
        kind = entry.get("type", "default" if entry.get("value") in (None, "default") else "hexstr")
        mask = None if entry.get("mask") is None else number(entry["mask"], name)
        if mask is not None and mask >> (8 * octets):
            malformed(f"state {name}: mask wider than the key")
        if kind == "default":
            transitions.append(ir.Transition(target))
        elif kind == "hexstr":
            value = number(entry.get("value"), name)
            if value < 0 or value >> (8 * octets):
                malformed(f"state {name}: value wider than the key")
            transitions.append(ir.Transition(target, value, mask))
        elif kind == "parse_vset":
            chosen = names.lookup(value_sets, entry.get("value"), "value set")
            if arrays[chosen].width != sum(width for _part, width in key):
                malformed(f"state {name}: value set {entry.get('value')} of another width")
            transitions.append(ir.Transition(target, None, mask, chosen))
        else:
            refuse(f"a transition of type {kind}", source)
    return ir.State(name, ops, key, tuple(transitions), source)


def _key_part(part: Json, names: Names, state: str, source: ir.Source | None) -> tuple[ir.Expr, int]:
    kind = part.get("type")
    if kind == "union_stack_field":
        refuse(f"a select over the last element of a stack of header unions in state {state}", source)
    expression = names.expression(part, (), source)
    if isinstance(expression, ir.FieldRef):
        if expression.field == ir.VALID:
            return expression, 1
        declared = names.types[names.headers[expression.header].type].fields[expression.field]
        if declared.varbit:
            refuse(f"a select over a varbit field in state {state}", source)
        return expression, declared.width
    if isinstance(expression, ir.LastField):
        header = names.headers[names.stacks[expression.stack].headers[0]]
        return expression, names.types[header.type].fields[expression.field].width
    if isinstance(expression, ir.Lookahead):
        return expression, expression.width
    refuse(f"a select over an {kind} in state {state}", source)


def _operation(item: Json, names: Names, where: ir.Source | None) -> ir.ParserOp:
    op = need(item, "op", str, "parser operation")
    source = source_of(item) or where
    params = items(item, "parameters", op)

    def wanted(count: int) -> None:
        if len(params) != count:
            malformed(f"parser operation {op} with {len(params)} parameters")

    if op in ("extract", "extract_VL"):
        wanted(2 if op == "extract_VL" else 1)
        length = names.expression(params[1], (), source) if op == "extract_VL" else None
        return _extract(params[0], length, names, source)
    if op == "set":
        wanted(2)
        target = names.expression(params[0], (), source)
        if not isinstance(target, ir.FieldRef) or target.field == ir.VALID:
            refuse("a parser assignment to anything but a field", source)
        return ir.Set(target, names.expression(params[1], (), source))
    if op == "verify":
        wanted(2)
        return ir.Verify(names.expression(params[0], (), source), names.expression(params[1], (), source))
    if op == "shift":
        wanted(1)
        count = params[0].get("value")
        if not isinstance(count, int):
            malformed("shift without a number of bytes")
        return ir.Advance(ir.Const(count * 8))
    if op == "advance":
        wanted(1)
        return ir.Advance(names.expression(params[0], (), source))
    if op == "primitive":
        wanted(1)
        return names.primitive(params[0], (), source)
    refuse(f"the parser operation {op}", source)


def _extract(param: Json, length: ir.Expr | None, names: Names, source: ir.Source | None) -> ir.ParserOp:
    kind, value = param.get("type"), param.get("value")
    if kind == "regular":
        header = names.lookup(names.header, value, "header")
        _check_varbit(names, header, length, source)
        return ir.Extract(header, length)
    if kind == "stack":
        stack = names.lookup(names.stack, value, "header stack")
        _check_varbit(names, names.stacks[stack].headers[0], length, source)
        return ir.ExtractStack(stack, length)
    if kind == "union_stack":
        stack_name, member = names.pair(value, "union stack")
        stack = names.lookup(names.union_stack, stack_name, "header union stack")
        headers = names.unions[names.union_stacks[stack].unions[0]].headers
        label = [names.headers[h].name.rpartition(".")[2] for h in headers]
        position = member if isinstance(member, int) else label.index(member) if member in label else -1
        if not 0 <= position < len(headers):
            malformed(f"union member {member!r} of {stack_name}")
        _check_varbit(names, headers[position], length, source)
        return ir.ExtractUnionStack(stack, position, length)
    refuse(f"extracting a {kind}", source)


def _check_varbit(names: Names, header: int, length: ir.Expr | None, source: ir.Source | None) -> None:
    declared = names.types[names.headers[header].type]
    if (declared.varbit is not None) != (length is not None):
        refuse(f"extracting {names.headers[header].name} with{'' if length else 'out'} a length", source)
    if declared.varbit is not None:
        before = sum(f.width for f in declared.fields[: declared.varbit])
        if before % 8:
            refuse(f"the varbit field of {names.headers[header].name} off a byte boundary", source)
