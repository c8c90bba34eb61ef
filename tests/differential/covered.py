"""What the engine executes, and which of it the recorded programs make both switches execute.

``python -m tests.differential.covered [PROGRAM.json...]`` lists what no program touches: those of ``kept`` and
``kept/corners``, or the ones named. A construct is a text such as ``operator + of 128 bits``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from engine import ir
from engine.api import MatchKind
from engine.codegen_action import Actions
from engine.codegen_expr import BOOLEAN, Expressions
from engine.codegen_layout import Layout
from engine.ir_calculation import ALGORITHMS
from engine.ir_expr import OPERATORS
from engine.ir_load import DEPARSER_CALLS
from engine.library import load_program
from tests.differential.kept import FOLDER

SIZES = (64, 128, 4_096)  # how the generated code computes: words, two of them, arrays
NUMBERS = ("+", "-", "*", "<<", ">>", "&", "|", "^", "~", "?", "two_comp_mod", "sat_cast", "usat_cast")
UNSIGNED = ("/", "%")
COMPARED = ("==", "!=", "<", "<=", ">", ">=")
ASSIGNED = {"assign_VL": "varbit", "assign_union": "union", "assign_header_stack": "stack"}
PARSER_OPS = ("Extract", "ExtractStack", "ExtractUnionStack", "Set", "Verify", "Advance")
NOT_LOADED = "BMv2 ends when it loads it"
WRITTEN = "p4c writes something else for it"
# What cannot be compared, and why; tests/engine has it.
ELSEWHERE = {
    **dict.fromkeys(("primitive modify_field", "primitive copy_header", "primitive drop"), "of P4_14: same code"),
    **dict.fromkeys((f"deparser {op}" for op in ("count", "execute_meter", "register_read")), NOT_LOADED),
    **dict.fromkeys(("deparser register_write", "deparser modify_field_with_hash_based_offset"), NOT_LOADED),
    **dict.fromkeys((f"key optional of {size} bits" for size in SIZES), f"{WRITTEN}: a ternary key"),
    "primitive no_op": "of P4_14",
    "operator != of varbits": f"{WRITTEN}: not ==",
    "expression UnionStackRef": WRITTEN,
    "hash random": NOT_LOADED,
}


def accepted() -> set[str]:
    """Every construct that the engine executes."""
    out = {f"operator {op} of {size} bits" for op in (*NUMBERS, *UNSIGNED, *COMPARED) for size in SIZES}
    out |= {f"operator {op} of signed" for op in (*NUMBERS, *COMPARED) if op not in ("usat_cast",)}
    out |= {f"operator {op}" for op in set(OPERATORS) - {*NUMBERS, *UNSIGNED, *COMPARED}}
    out |= {f"operator {op} of {what}" for op in ("==", "!=") for what in ("headers", "bools", "varbits")}
    out |= {f"primitive {name.removeprefix('_op_').lstrip('_')}" for name in vars(Actions) if name.startswith("_op_")}
    out |= {f"deparser {name}" for name in DEPARSER_CALLS}
    out |= {f"parser {name}" for name in PARSER_OPS} | {"parser extract of varbit", "parser primitive"}
    out |= {f"key {kind.name.lower()} of {size} bits" for kind in MatchKind for size in SIZES}
    out |= {f"key {what}" for what in ("masked", "of validity", "of signed", "none")}
    out |= {f"transition {what}" for what in ("default", "value", "mask", "value set", "to reject")}
    out |= {f"select over {part}" for part in ("FieldRef", "LastField", "Lookahead", "several", "nothing")}
    out |= {f"hash {name}" for name in set(ALGORITHMS.values())}
    out |= {f"hash of {what}" for what in ("field", "signed", "varbit", "constant", "header", "payload", "wide")}
    out |= {f"checksum {what}" for what in ("verified", "updated", "conditional", "unconditional", "payload")}
    out |= {f"table {what}" for what in ("by hit", "by action", "profile", "selector", "const default", "idle")}
    out |= {f"table {what}" for what in ("entries", "direct counter", "direct meter", "no key", "immutable")}
    out |= {f"meter {what}" for what in ("packets", "bytes", "direct packets", "direct bytes")}
    out |= {f"register of {size} bits" for size in SIZES} | {"counter", "digest", "field list", "value set"}
    out |= {f"expression {kind.__name__}" for kind in ir.Expr.__args__}
    out |= {f"assigned {what}" for what in ("ElementField", "LastField", "FieldRef", "varbit", "union", "stack")}
    return out


def touched(program: ir.Program) -> set[str]:
    """The constructs that a program has."""
    return set(_Walk(program).constructs())


class _Walk:
    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.expr = Expressions(Layout(program), parsing=True)

    def constructs(self) -> Iterator[str]:
        program = self.program
        for action in program.actions:
            for primitive in action.primitives:
                yield from self.primitive(primitive, "primitive")
        for primitive in program.deparser_calls:
            yield from self.primitive(primitive, "deparser")
        for state in program.states:
            yield from self.state(state)
        for table in program.tables:
            yield from self.table(table)
        for pipeline in (program.ingress, program.egress):
            for node in pipeline.nodes.values():
                if isinstance(node, ir.Condition):
                    yield from self.expressions(node.expression)
        selectors = [p.selector for p in program.profiles if p.selector is not None]
        for calculation in (*program.calculations, *selectors):
            yield from self.calculation(calculation)
        for checksum in program.checksums:
            yield from self.checksum(checksum)
        for meter in program.meters:
            yield f"meter {'direct ' if meter.direct else ''}{'bytes' if meter.bytes_ else 'packets'}"
        for register in program.registers:
            yield f"register of {_size(register.width)} bits"
        yield from ["counter"] * bool(program.counters) + ["digest"] * bool(program.learn_lists)
        yield from ["field list"] * bool(program.field_lists) + ["value set"] * bool(program.value_sets)

    def primitive(self, item: ir.Primitive, where: str) -> Iterator[str]:
        yield f"{where} {item.op.lstrip('_')}"
        target = item.args[0] if item.args else None
        if item.op == "assign":
            yield f"assigned {type(target).__name__}"
        elif item.op in ASSIGNED:
            yield f"assigned {ASSIGNED[item.op]}"
        yield from self.expressions(item.args)

    def state(self, state: ir.State) -> Iterator[str]:
        for op in state.ops:
            if isinstance(op, ir.Primitive):
                yield "parser primitive"
                yield from self.primitive(op, "primitive")
                continue
            yield f"parser {type(op).__name__}"
            if getattr(op, "length", None) is not None:
                yield "parser extract of varbit"
            yield from self.expressions(op)
        for part, _width in state.key:
            yield f"select over {type(part).__name__}"
            yield from self.expressions(part)
        yield from ["select over several"] * (len(state.key) > 1) + ["select over nothing"] * (not state.key)
        for transition in state.transitions:
            if transition.value_set is not None:
                yield "transition value set"
            else:
                kind = "default" if transition.value is None else "value" if transition.mask is None else "mask"
                yield f"transition {kind}"
        if state.key and all(t.value is not None for t in state.transitions):
            yield "transition to reject"

    def table(self, table: ir.Table) -> Iterator[str]:
        for key in table.keys:
            yield f"key {key.kind.name.lower()} of {_size(key.width)} bits"
            yield from ["key masked"] * (key.mask is not None) + ["key of validity"] * (key.target.field == ir.VALID)
            if key.target.field != ir.VALID and self.program.field_type(key.target).signed:
                yield "key of signed"
        selected = table.profile is not None and self.program.profiles[table.profile].selector is not None
        flags = {
            "key none": not table.keys,
            "table no key": not table.keys,
            "table by hit": table.by_hit,
            "table by action": not table.by_hit and len({*table.next_by_action.values()}) > 1,
            "table profile": table.profile is not None and not selected,
            "table selector": selected,
            "table const default": table.default_const,
            "table idle": table.idle_timeout,
            "table entries": bool(table.entries),
            "table immutable": table.immutable,
            "table direct counter": table.direct_counter,
            "table direct meter": table.direct_meter is not None,
        }
        yield from (name for name, there in flags.items() if there)

    def calculation(self, item: ir.Calculation) -> Iterator[str]:
        yield f"hash {item.algorithm}"
        yield from ["hash of payload"] * item.payload
        for part, width in item.inputs:
            if isinstance(part, ir.Const | ir.HeaderRef):
                yield "hash of constant" if isinstance(part, ir.Const) else "hash of header"
                continue
            yield "hash of field"
            yield from ["hash of signed"] * self.expr.is_signed(part) + ["hash of varbit"] * self.expr.is_varbit(part)
            yield from ["hash of wide"] * (width > 128)

    def checksum(self, item: ir.Checksum) -> Iterator[str]:
        yield from ["checksum verified"] * item.verify + ["checksum updated"] * item.update
        yield from ["checksum payload"] * self.program.calculations[item.calculation].payload
        plain = item.condition is None or isinstance(item.condition, ir.BoolConst)
        yield "checksum unconditional" if plain else "checksum conditional"
        yield from self.expressions(item.condition)

    # -- expressions -------------------------------------------------------------------------------------------------

    def expressions(self, item: Any) -> Iterator[str]:
        """The operators and operands in whatever holds some."""
        if isinstance(item, tuple):
            for one in item:
                yield from self.expressions(one)
        elif is_dataclass(item) and not isinstance(item, ir.Source | type):
            if isinstance(item, ir.Expr):
                yield f"expression {type(item).__name__}"
            if isinstance(item, ir.Op):
                yield from self.operator(item)
            for part in fields(item):
                yield from self.expressions(getattr(item, part.name))

    def operator(self, item: ir.Op) -> Iterator[str]:
        op, args = item.op, item.args
        if op not in (*NUMBERS, *UNSIGNED, *COMPARED):
            yield f"operator {op}"
        elif op in COMPARED and any(isinstance(arg, ir.HeaderRef) for arg in args):
            yield f"operator {op} of headers"
        elif op in COMPARED and any(self.expr.is_bool(arg) for arg in args):
            yield f"operator {op} of bools"
        elif any(self.expr.is_varbit(arg) for arg in args):
            yield f"operator {op} of varbits"
        elif not (op == "?" and self.expr.is_bool(item)):
            leaves = list(_leaves(args))
            width = max((self.expr.width(leaf) or leaf_bits(leaf) for leaf in leaves), default=1)
            yield f"operator {op} of {_size(width)} bits"
            spans = [self.expr.span(arg) for arg in args if not self.expr.is_bool(arg)]
            if any(span is not None and span.low < 0 for span in spans):
                yield f"operator {op} of signed"


def _leaves(args: Iterable[Any]) -> Iterator[ir.Expr]:
    for arg in args:
        if isinstance(arg, ir.Op):
            if arg.op not in BOOLEAN:
                yield from _leaves(arg.args)
        else:
            yield arg


def leaf_bits(item: ir.Expr) -> int:
    """Bits of a constant; 1 for what is no number."""
    return max(1, item.value.bit_length()) if isinstance(item, ir.Const) else 1


def _size(width: int) -> int:
    return next(size for size in SIZES if width <= size)


def corpus() -> Iterator[ir.Program]:
    """The recorded programs."""
    for path in (*sorted(FOLDER.glob("*.json")), *sorted((FOLDER / "corners").glob("*.json"))):
        yield load_program(json.loads(path.read_text())["program"])


def untouched(programs: Iterable[ir.Program]) -> list[str]:
    """What none of them has, sorted."""
    left = accepted() - set(ELSEWHERE)
    for program in programs:
        left -= touched(program)
    return sorted(left)


def main(arguments: Sequence[str]) -> int:
    """List; 1 when something is left."""
    left = untouched([load_program(Path(name)) for name in arguments] if arguments else corpus())
    print("\n".join(left) or "every construct is touched")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
