"""Which headers can be valid where in the parser.

A parser begins with a packet of which nothing is known, and p4c lets an inner parser make all headers of an ``out``
parameter invalid first: for a program with many of them that is a test of each with every packet. What cannot be valid
yet need not be made invalid.
"""

from __future__ import annotations

from engine import ir


def possibly_valid(program: ir.Program) -> list[set[int] | None]:
    """Headers that may be valid when each state begins; None for states that nothing leads to."""
    states: list[set[int] | None] = [None] * len(program.states)
    if program.first_state is None:
        return states
    # A second pass of a packet begins with the fields that its list keeps.
    kept = {ref.header for refs in program.field_lists.values() for ref in refs}
    states[program.first_state] = kept
    pending = [program.first_state]
    while pending:
        number = pending.pop()
        state = program.states[number]
        valid = set(states[number] or ())
        for op in state.ops:
            valid |= made_valid(program, op)
        for transition in state.transitions:
            if transition.next is None:
                continue
            before = states[transition.next]
            if before is None or not valid <= before:
                states[transition.next] = valid | (before or set())
                pending.append(transition.next)
    return states


def made_valid(program: ir.Program, op: ir.ParserOp) -> set[int]:
    """Headers that an operation of the parser may make valid; all of them where that is not obvious."""
    if isinstance(op, ir.Extract):
        return {op.header}
    if isinstance(op, ir.ExtractStack):
        return set(program.stacks[op.stack].headers)
    if isinstance(op, ir.Set | ir.Verify | ir.Advance):
        return set()
    if isinstance(op, ir.Primitive):
        target = op.args[0] if op.args else None
        if op.op == "assign" and isinstance(target, ir.FieldRef) and target.field != ir.VALID:
            return set()
        if op.op == "remove_header":
            return set()
        if op.op == "add_header" and isinstance(target, ir.HeaderRef):
            return {target.header}
    return set(range(len(program.headers)))


def removes_nothing(op: ir.ParserOp, valid: set[int]) -> bool:
    """Whether an operation makes a header invalid that is not in ``valid``."""
    if not isinstance(op, ir.Primitive) or op.op != "remove_header":
        return False
    (target,) = op.args
    return isinstance(target, ir.HeaderRef) and target.header not in valid
