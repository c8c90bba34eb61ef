"""BMv2 JSON to IR: access with checks, source positions, and expressions."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from engine import ir
from engine.api import ProgramError, Unsupported

T = TypeVar("T")
Json = dict[str, Any]

MAX_FIELD = 4096  # widest field that can be parsed, copied and deparsed

OPERATORS = {
    # name: number of operands
    **dict.fromkeys(("+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^"), 2),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "and", "or", "two_comp_mod", "sat_cast", "usat_cast"), 2),
    **dict.fromkeys(("~", "not", "d2b", "b2d", "valid", "valid_union", "last_stack_index", "size_stack"), 1),
    "?": 3,
}


def source_of(item: object) -> ir.Source | None:
    """The ``source_info`` of a JSON object."""
    info = item.get("source_info") if isinstance(item, dict) else None
    if not isinstance(info, dict) or not isinstance(info.get("line"), int):
        return None
    return ir.Source(str(info.get("filename", "?")), info["line"], str(info.get("source_fragment", "")))


def refuse(construct: str, source: ir.Source | None) -> NoReturn:
    """Raise :class:`Unsupported` for a construct at a place."""
    raise Unsupported(f"{source}: {construct} is not supported" if source else f"{construct} is not supported")


def malformed(text: str) -> NoReturn:
    raise ProgramError(f"malformed program: {text}")


def need(item: object, key: str, kind: type[T], where: str) -> T:
    """``item[key]``, checked to be a ``kind``."""
    if not isinstance(item, dict):
        malformed(f"{where}: an object was expected")
    value = item.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        malformed(f"{where}: {key!r} is missing or no {kind.__name__}")
    return value


def items(item: object, key: str, where: str) -> list[Json]:
    """``item[key]`` as a list of objects; missing counts as empty."""
    if not isinstance(item, dict):
        malformed(f"{where}: an object was expected")
    value = item.get(key, [])
    if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
        malformed(f"{where}: {key!r} is no list of objects")
    return value


def number(text: object, where: str) -> int:
    """A ``hexstr`` value."""
    if not isinstance(text, str):
        malformed(f"{where}: {text!r} is no hexadecimal string")
    try:
        return int(text, 16)
    except ValueError:
        malformed(f"{where}: {text!r} is no hexadecimal string")


class Names:
    """Name to index for everything that expressions refer to."""

    def __init__(self) -> None:
        self.types: list[ir.HeaderType] = []
        self.headers: list[ir.Header] = []
        self.header: dict[str, int] = {}
        self.stack: dict[str, int] = {}
        self.stacks: list[ir.Stack] = []
        self.union: dict[str, int] = {}
        self.unions: list[ir.Union] = []
        self.union_stack: dict[str, int] = {}
        self.union_stacks: list[ir.UnionStack] = []
        self.signed: frozenset[int] = frozenset()  # parameters of the action being read that are signed
        self.arrays: dict[str, dict[str, int]] = {"register": {}, "counter": {}, "meter": {}, "calculation": {}}

    def lookup(self, table: dict[str, int], name: object, what: str, source: ir.Source | None = None) -> int:
        """Index of a name; ``source``: where it stands, for what cannot be a name."""
        if isinstance(name, dict):
            refuse(f"a {what} that is picked at run time", source_of(name) or source)
        if not isinstance(name, str) or name not in table:
            malformed(f"unknown {what} {name!r}")
        return table[name]

    def field_index(self, type_index: int, name: object, where: str) -> int:
        if name == "$valid$":
            return ir.VALID
        for i, item in enumerate(self.types[type_index].fields):
            if item.name == name:
                return i
        malformed(f"unknown field {where}.{name}")

    def field(self, value: object, source: ir.Source | None = None) -> ir.FieldRef:
        """``[header, field]``."""
        if isinstance(value, dict):
            refuse("a field that is picked at run time", source_of(value) or source)
        if not isinstance(value, list) or len(value) != 2:
            malformed(f"{value!r} is no field")
        header = self.lookup(self.header, value[0], "header", source)
        return ir.FieldRef(header, self.field_index(self.headers[header].type, value[1], str(value[0])))

    def pair(self, value: object, what: str) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            malformed(f"{value!r} is no {what}")
        return value[0], value[1]

    # -- expressions -------------------------------------------------------------------------------------------------

    def expression(self, item: object, params: tuple[tuple[str, int], ...], source: ir.Source | None) -> ir.Expr:
        """A type-value object as an expression."""
        kind = need(item, "type", str, "expression")
        assert isinstance(item, dict)
        value = item.get("value")
        if kind == "expression":
            return self._expression_body(value, params, source)
        if kind == "field":
            return self.field(value, source)
        if kind == "hexstr":
            return ir.Const(number(value, "expression"))
        if kind == "bool":
            return ir.BoolConst(bool(value))
        if kind in ("runtime_data", "local"):
            if not isinstance(value, int) or not 0 <= value < len(params):
                malformed(f"runtime data {value!r} of an action with {len(params)} parameters")
            return ir.Param(value, params[value][1], value in self.signed)
        if kind == "header" and isinstance(value, str) and value in self.union:
            return ir.UnionRef(self.union[value])  # p4c's way to name a union of a stack, which BMv2 does not survive
        if kind == "header":
            return ir.HeaderRef(self.lookup(self.header, value, "header", source))
        if kind == "header_stack":
            return ir.StackRef(self.lookup(self.stack, value, "header stack"))
        if kind == "header_union":
            return ir.UnionRef(self.lookup(self.union, value, "header union"))
        if kind == "header_union_stack":
            return ir.UnionStackRef(self.lookup(self.union_stack, value, "header union stack"))
        if kind == "stack_field":
            stack_name, field_name = self.pair(value, "stack field")
            stack = self.lookup(self.stack, stack_name, "header stack")
            element = self.headers[self.stacks[stack].headers[0]]
            return ir.LastField(stack, self.field_index(element.type, field_name, stack_name))
        if kind == "lookahead":
            offset, width = self.pair(value, "lookahead")
            if not isinstance(offset, int) or not isinstance(width, int) or offset < 0 or width < 1:
                malformed(f"lookahead {value!r}")
            return ir.Lookahead(offset, width)
        refuse(f"a {kind} in an expression", source)

    def _expression_body(self, body: object, params: tuple[tuple[str, int], ...], source: ir.Source | None) -> ir.Expr:
        if isinstance(body, dict) and "op" not in body and "type" in body:
            return self.expression(body, params, source)
        op = need(body, "op", str, "expression")
        assert isinstance(body, dict)
        source = source_of(body) or source

        def operand(name: str) -> ir.Expr:
            return self.expression(body.get(name), params, source)

        if op == "dereference_header_stack":
            stack, index = operand("left"), operand("right")
            if not isinstance(stack, ir.StackRef):
                refuse("an index into anything but a header stack", source)
            if isinstance(index, ir.Const):
                headers = self.stacks[stack.stack].headers
                if not 0 <= index.value < len(headers):
                    refuse(f"the constant stack index {index.value} out of range", source)
                return ir.HeaderRef(headers[index.value])
            return ir.StackElement(stack.stack, index)
        if op == "access_field":
            element, position = operand("left"), body.get("right")
            if not isinstance(position, int):
                malformed("access_field without an offset")
            if isinstance(element, ir.HeaderRef):
                self._check_offset(self.headers[element.header].type, position)
                return ir.FieldRef(element.header, position)
            if isinstance(element, ir.StackElement):
                self._check_offset(self.headers[self.stacks[element.stack].headers[0]].type, position)
                return ir.ElementField(element, position)
            refuse("access_field on anything but a header", source)
        if op == "dereference_union_stack":
            stack, index = operand("left"), operand("right")
            if isinstance(stack, ir.UnionStackRef) and isinstance(index, ir.Const):
                unions = self.union_stacks[stack.stack].unions
                if 0 <= index.value < len(unions):
                    return ir.UnionRef(unions[index.value])
            refuse("a run-time index into a stack of header unions", source)
        if op == "access_union_header":
            union, position = operand("left"), body.get("right")
            if isinstance(union, ir.UnionRef) and isinstance(position, int):
                headers = self.unions[union.union].headers
                if 0 <= position < len(headers):
                    return ir.HeaderRef(headers[position])
            refuse("access_union_header on anything but a header union", source)
        if op not in OPERATORS:
            refuse(f"the operator {op!r}", source)
        if op == "?":
            return ir.Op(op, (operand("cond"), operand("left"), operand("right")))
        if OPERATORS[op] == 1:
            return ir.Op(op, (operand("right") if body.get("right") is not None else operand("left"),))
        return ir.Op(op, (operand("left"), operand("right")))

    def _check_offset(self, type_index: int, position: int) -> None:
        if not 0 <= position < len(self.types[type_index].fields):
            malformed(f"field offset {position} of {self.types[type_index].name}")

    # -- primitives -------------------------------------------------------------------------------------------------

    def argument(self, item: object, params: tuple[tuple[str, int], ...], source: ir.Source | None) -> ir.Argument:
        kind = need(item, "type", str, "parameter")
        assert isinstance(item, dict)
        for array in ("register", "counter", "meter"):
            if kind == array + "_array":
                return ir.ArrayRef(array, self.lookup(self.arrays[array], item.get("value"), kind))
        if kind == "calculation":
            index = self.lookup(self.arrays["calculation"], item.get("value"), "calculation")
            return ir.ArrayRef("calculation", index)
        if kind == "string":
            return ir.Text(str(item.get("value")))
        if kind == "parameters_vector":
            values = items(item, "value", "parameters_vector") if item.get("value") else []
            return ir.Vector(tuple(self.expression(value, params, source) for value in values))
        return self.expression(item, params, source)

    def primitive(self, item: object, params: tuple[tuple[str, int], ...], where: ir.Source | None) -> ir.Primitive:
        op = need(item, "op", str, "primitive")
        source = source_of(item) or where
        args = [self.argument(p, params, source) for p in items(item, "parameters", f"primitive {op}")]
        return ir.Primitive(op, tuple(args), source)
