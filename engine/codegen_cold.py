"""Which parts of a packet's state need no clearing with every packet.

A program for a real network has many headers and temporaries, and a packet uses few of them. Two kinds are therefore
kept apart in ``struct sp_phv`` (:mod:`engine.codegen_layout`):

- **cold headers**: long ones, stacks, and those that only actions make valid. They are cleared when the packet before
  made one of them valid (``cold_used``), and the deparser looks at a run of them only then.
- **local fields** of metadata: whatever reads them has written them just before, in the same action. They are never
  cleared. p4c makes such temporaries for each argument of a hash or digest.

Both are properties of the program that nobody can observe: a field that is read before it was written is 0 as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from engine import ir

COLD_BYTES = 64  # from this size on a header that is parsed is cold
JUMPS = "_jump"


def _bytes(program: ir.Program, header: int) -> int:
    return sum(field.width for field in program.types[program.headers[header].type].fields) // 8


def cold_stacks(program: ir.Program) -> frozenset[int]:
    """Stacks of at least :data:`COLD_BYTES`."""
    return frozenset(
        i
        for i, stack in enumerate(program.stacks)
        if len(stack.headers) * _bytes(program, stack.headers[0]) >= COLD_BYTES
    )


def cold_headers(program: ir.Program) -> frozenset[int]:
    """Headers to keep apart; members of unions never are, of stacks only with their stack."""
    parsed = {op.header for state in program.states for op in state.ops if isinstance(op, ir.Extract)}
    stacks = cold_stacks(program)
    found = set()
    for i, header in enumerate(program.headers):
        if header.stack is not None:
            if header.stack[0] in stacks:
                found.add(i)
        elif not header.metadata and header.union is None and (i not in parsed or _bytes(program, i) >= COLD_BYTES):
            found.add(i)
    return frozenset(found)


def _references(node: Any) -> Iterator[ir.FieldRef | ir.HeaderRef]:
    """Every field and header that something of the program mentions."""
    if isinstance(node, ir.FieldRef | ir.HeaderRef):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, tuple | list | frozenset):
        for value in node:
            yield from _references(value)
    elif is_dataclass(node):
        for field in fields(node):
            yield from _references(getattr(node, field.name))


def _reads(program: ir.Program, primitive: ir.Primitive) -> Iterator[ir.FieldRef | ir.HeaderRef]:
    """What a primitive may read; a target counts as read too, unless it is a plain assignment's."""
    args = primitive.args
    if primitive.op == "assign" and args and isinstance(args[0], ir.FieldRef):
        args = args[1:]
    for arg in args:
        yield from _references(arg)
        if isinstance(arg, ir.ArrayRef) and arg.kind == "calculation":
            yield from _references(program.calculations[arg.index])
    if primitive.op == "generate_digest":
        wanted = primitive.args[1] if len(primitive.args) > 1 else None
        for item in program.learn_lists:
            if not isinstance(wanted, ir.Const) or wanted.value == item.id:
                yield from _references(item.fields)


def local_fields(program: ir.Program, reserved: Iterable[ir.FieldRef]) -> frozenset[ir.FieldRef]:
    """Metadata fields that no action reads before writing them, and nothing but actions reads at all.

    ``reserved``: fields that the engine itself reads or writes. A digest is taken at the end of the ingress, from
    fields that the action which asked for it wrote: they keep their values until then.
    """
    outside = {f.name for f in fields(program)} - {"actions", "calculations", "learn_lists", "aliases"}
    shared: set[ir.FieldRef | ir.HeaderRef] = set(reserved)
    for name in outside:
        shared.update(_references(getattr(program, name)))
    written: set[ir.FieldRef] = set()
    for action in program.actions:
        known: set[ir.FieldRef] = set()
        certain = True  # until something may be jumped over
        for primitive in action.primitives:
            shared.update(ref for ref in _reads(program, primitive) if ref not in known)
            certain = certain and not primitive.op.startswith(JUMPS)
            target = primitive.args[0] if primitive.op == "assign" and primitive.args else None
            if isinstance(target, ir.FieldRef):
                written.add(target)
                if certain:
                    known.add(target)
    for i, calculation in enumerate(program.calculations):
        if not any(
            isinstance(arg, ir.ArrayRef) and arg.kind == "calculation" and arg.index == i
            for action in program.actions
            for primitive in action.primitives
            for arg in primitive.args
        ):
            shared.update(_references(calculation))
    whole = {ref.header for ref in shared if isinstance(ref, ir.HeaderRef)}
    whole |= {op.header for state in program.states for op in state.ops if isinstance(op, ir.Extract)}
    whole |= {i for i, header in enumerate(program.headers) if not header.metadata}
    return frozenset(ref for ref in written if ref not in shared and ref.header not in whole)
