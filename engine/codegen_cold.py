"""Which parts of a packet's state need no clearing with every packet.

A program for a real network has many headers and temporaries, and a packet uses few of them. Two kinds are therefore
kept apart in ``struct sp_phv`` (:mod:`engine.codegen_layout`):

- **cold headers**: long ones, stacks, and those that only actions make valid. They are cleared when the packet before
  made one of them valid (``cold_used``), and the deparser looks at a run of them only then.
- **local fields** of metadata: on every way through the program they are written before something reads them. They are
  never cleared. p4c makes such temporaries for each argument of a hash or digest, and of each variable of a control.

Both are properties of the program that nobody can observe: a field that is read before it was written is 0 as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

from engine import ir
from engine.ir_control import successors

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
    """Metadata fields that are written before they are read on every way through a pipeline, and that nothing but its
    actions, keys and conditions looks at.

    ``reserved``: fields that the engine itself reads or writes. A digest is taken at the end of the ingress, from
    fields that had been written when it was asked for: they keep their values until then. What the ingress leaves to
    the egress is cleared: copies of a packet begin there.
    """
    outside = {f.name for f in fields(program)} - {"actions", "calculations", "learn_lists", "aliases"}
    shared: set[ir.FieldRef | ir.HeaderRef] = set(reserved)
    for name in outside - {"ingress", "egress", "tables"}:
        shared.update(_references(getattr(program, name)))
    written: set[ir.FieldRef] = set()
    used: set[int] = set()
    for pipeline in (program.ingress, program.egress):
        used |= _follow(program, pipeline, shared, written)
    for number, action in enumerate(program.actions):
        if number not in used:
            _act(program, action, frozenset(), shared, written)
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


Refs: TypeAlias = frozenset[ir.FieldRef]


def _act(
    program: ir.Program,
    action: ir.Action,
    known: Refs,
    shared: set[ir.FieldRef | ir.HeaderRef],
    written: set[ir.FieldRef],
) -> Refs:
    """Enter what an action reads without its having been written (``known``: what had been), and all that it writes;
    returns what has been written for certain when it ends."""
    now = set(known)
    certain = True  # until something may be jumped over
    for primitive in action.primitives:
        shared.update(ref for ref in _reads(program, primitive) if ref not in now)
        certain = certain and not primitive.op.startswith(JUMPS)
        target = primitive.args[0] if primitive.op == "assign" and primitive.args else None
        if isinstance(target, ir.FieldRef):
            written.add(target)
            if certain:
                now.add(target)
    return frozenset(now)


def _follow(
    program: ir.Program,
    pipeline: ir.Pipeline,
    shared: set[ir.FieldRef | ir.HeaderRef],
    written: set[ir.FieldRef],
) -> set[int]:
    """Go all ways through a pipeline, as :func:`_act` through an action; returns the actions on them."""
    known: dict[str, Refs] = {name: frozenset() for name in (pipeline.first,) if name is not None}
    used: set[int] = set()

    def lead(following: str | None, after: Refs) -> None:
        if following is not None:
            known[following] = known[following] & after if following in known else after

    def act(number: int, before: Refs) -> Refs:
        used.add(number)
        return _act(program, program.actions[number], before, shared, written)

    for name in ways(pipeline):
        if name not in known:  # only what a table without keys never does leads there
            continue
        node, before = pipeline.nodes[name], known[name]
        shared.update(ref for ref in _references(node) if ref not in before)
        if isinstance(node, ir.ActionCall):
            lead(node.next, act(node.action, before))
        elif isinstance(node, ir.Condition):
            lead(node.true_next, before)
            lead(node.false_next, before)
        elif not node.keys and node.default_const and node.default is not None and node.profile is None:
            action = node.default[0]
            after = act(action, before)
            lead(node.next_miss if node.by_hit else node.next_by_action.get(action, node.next_default), after)
        else:
            for action in node.actions:
                after = act(action, before)
                if not node.by_hit:
                    lead(node.next_by_action[action], after)
            if node.by_hit:
                lead(node.next_hit, before)
                lead(node.next_miss, before)
            else:
                lead(node.next_default, before)
    return used


def ways(pipeline: ir.Pipeline) -> list[str]:
    """Reachable nodes, each behind all that lead to it; what a circle leads to is refused elsewhere."""
    order: list[str] = []
    seen: set[str] = set()
    pending: list[tuple[str, bool]] = [(pipeline.first, False)] if pipeline.first is not None else []
    while pending:
        name, leaving = pending.pop()
        if leaving:
            order.append(name)
        elif name not in seen:
            seen.add(name)
            pending.append((name, True))
            pending += [(after, False) for after in successors(pipeline.nodes[name]) if after is not None]
    return order[::-1]
