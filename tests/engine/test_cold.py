"""What is not cleared with every packet: nothing of one packet may show in the next."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from engine import ir
from engine.codegen_cold import cold_headers, cold_stacks, local_fields
from engine.codegen_valid import possibly_valid, removes_nothing
from engine.ir_load import load
from tests.p4 import frames as f
from tests.p4 import telemetry as t
from tests.p4.embedded import Embedded
from tests.p4.program import JSON_PATH

PROGRAM = load(json.loads(JSON_PATH.read_text()))


def names(headers: frozenset[int]) -> set[str]:
    return {PROGRAM.headers[index].name for index in headers}


def test_rare_headers_are_cold_and_common_ones_are_not() -> None:
    cold = names(cold_headers(PROGRAM))
    assert {"int_hops[0]", "int_hops[7]", "int_rest", "int_node", "int_ones8"} <= cold
    assert not cold & {"ethernet", "ipv4", "ipv6", "l4", "udp", "mpls", "scalars", "standard_metadata"}
    assert len(cold_stacks(PROGRAM)) == 1


def test_local_fields_are_what_every_way_writes_first() -> None:
    found = local_fields(PROGRAM, [])
    texts = {PROGRAM.field_type(ref).name for ref in found}
    assert len(found) > 100
    # What a parser sets, what a packet brings from the ingress to the egress, what only some ways write:
    kept = ("metadata_t._inband_left", "metadata_t._inband_op", "metadata_t._verdict")
    every = {field.name for kind in PROGRAM.types for field in kind.fields}
    assert all(any(name.startswith(start) for name in every) for start in kept)
    assert not any(name.startswith(kept) for name in texts)
    assert {"int_hop_change", "int_role_sink_path"} <= texts
    reserved = min(found, key=lambda ref: (ref.header, ref.field))
    assert reserved not in local_fields(PROGRAM, [reserved])


def action(*primitives: ir.Primitive) -> ir.Action:
    return ir.Action("a", (), primitives)


def assign(target: ir.FieldRef, value: ir.Expr) -> ir.Primitive:
    return ir.Primitive("assign", (target, value))


def test_read_before_write_jumps_and_other_readers_keep_a_field_cleared() -> None:
    scalars = next(i for i, header in enumerate(PROGRAM.headers) if header.name == "scalars")
    a, b, c = (ir.FieldRef(scalars, k) for k in range(3))
    bare = replace(PROGRAM, tables=(), states=(), checksums=(), calculations=(), learn_lists=(), field_lists={})
    none: dict[str, ir.Node] = {}
    bare = replace(bare, ingress=ir.Pipeline("ingress", None, none), egress=ir.Pipeline("egress", None, none))

    def found(*actions: ir.Action) -> frozenset[ir.FieldRef]:
        return local_fields(replace(bare, actions=actions), [])

    one = ir.Const(1)
    assert found(action(assign(a, one), assign(b, a))) == {a, b}
    assert found(action(assign(b, a), assign(a, one))) == {b}
    assert found(action(assign(a, one)), action(assign(b, a))) == {b}
    jump = ir.Primitive("_jump_if_zero", (c, one))
    assert found(action(jump, assign(a, one), assign(b, a))) == {b}
    assert found(action(assign(a, one), jump, assign(b, a))) == {a, b}
    assert found(action(ir.Primitive("register_read", (a, one, one)), assign(b, a))) == {b}


def test_a_field_is_local_if_every_way_to_its_readers_writes_it() -> None:
    scalars = next(i for i, header in enumerate(PROGRAM.headers) if header.name == "scalars")
    a, b, c = (ir.FieldRef(scalars, k) for k in range(3))
    one = ir.Const(1)
    actions = (action(assign(a, one)), action(assign(b, a)), action(assign(a, c)))
    empty = ir.Pipeline("egress", None, {})
    bare = replace(PROGRAM, tables=(), states=(), checksums=(), calculations=(), learn_lists=(), field_lists={})

    def found(ingress: dict[str, ir.Node], egress: dict[str, ir.Node] | None = None) -> frozenset[ir.FieldRef]:
        last = ir.Pipeline("egress", "e", egress) if egress else empty
        program = replace(bare, actions=actions, ingress=ir.Pipeline("ingress", "n", ingress), egress=last)
        return local_fields(program, [])

    write, read, other = (ir.ActionCall("x", number, None) for number in range(3))
    branch = ir.Condition("n", c, "m", "r")
    assert found({"n": replace(write, next="r"), "r": read}) == {a, b}
    assert found({"n": branch, "m": replace(write, next="r"), "r": read}) == {b}, "one way does not write it"
    both: dict[str, ir.Node] = {"n": replace(branch, false_next="o"), "m": replace(write, next="r")}
    assert found({**both, "o": replace(other, next="r"), "r": read}) == {a, b}
    assert found({"n": write}, {"e": read}) == {b}, "the egress may begin with a copy"
    assert found({"n": replace(branch, expression=a, true_next="m", false_next=None), "m": write}) == {b}
    table = next(table for table in PROGRAM.tables if table.keys)
    chosen = replace(
        table,
        actions=(0,),
        next_by_action={0: "r"},
        next_default="r",
        by_hit=False,
        default=None,
        keys=(),
        profile=None,
    )
    assert found({"n": chosen, "r": read}) == {b}, "a table may do nothing"
    fixed = replace(chosen, default=(0, ()), default_const=True)
    assert found({"n": fixed, "r": read}) == {a, b}
    assert found({"n": replace(fixed, next_default="m"), "m": other, "r": read}) == {a, b}, "nothing leads to m"


def test_headers_that_cannot_be_valid_are_not_made_invalid() -> None:
    """p4c makes all headers of an inner parser invalid at its beginning."""
    valid = possibly_valid(PROGRAM)
    assert PROGRAM.first_state is not None
    first = PROGRAM.states[PROGRAM.first_state]
    removals = [op for op in first.ops if isinstance(op, ir.Primitive) and op.op == "remove_header"]
    assert len(removals) > 20 and all(removes_nothing(op, valid[PROGRAM.first_state] or set()) for op in removals)
    ethernet, ipv4 = (next(i for i, h in enumerate(PROGRAM.headers) if h.name == n) for n in ("ethernet", "ipv4"))
    reached = [states for states in valid if states and ipv4 in states]
    assert reached and all(ethernet in states for states in reached)
    assert not removes_nothing(ir.Primitive("remove_header", (ir.HeaderRef(ipv4),)), reached[0])
    lists = {1: (ir.FieldRef(ipv4, ir.VALID),)}
    again = possibly_valid(replace(PROGRAM, field_lists=lists))
    assert ipv4 in (again[PROGRAM.first_state] or set()), "a packet's second pass keeps what its list names"


def test_one_switch_for_many_packets_is_as_good_as_a_new_one_for_each() -> None:
    chance = random.Random(5)

    def configured() -> Embedded:
        switch = Embedded()
        switch.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        switch.insert("route_ipv4", {"dst": ("10.0.2.0", 24)}, "set_group", {"group_id": 2})
        for group, port in ((1, 2), (2, 3)):
            nexthop = {"port": port, "src_mac": 1, "dst_mac": 2}
            switch.insert("primary_nexthop", {"group_id": group}, "set_nexthop", nexthop)
        t.ports(switch, 9, core=(1, 2), edge=(3,))
        t.source(switch)
        return switch

    def frame() -> bytes:
        hops = tuple(word for _ in range(chance.randrange(11)) for word in t.hop(chance.randrange(99), (1, 2)))
        odd = t.Stack(instructions=0x8000, hop_words=chance.choice((1, 4)), words=(7,) * chance.randrange(60))
        telemetry = chance.choice([b"", b"", t.Stack(words=hops).pack(), odd.pack()])
        whole = t.packet(
            chance.randbytes(chance.randrange(30)),
            protocol=chance.choice((6, 17)),
            dst=chance.choice(("10.0.1.2", "10.0.2.2")),
            dscp=t.DSCP if telemetry else chance.choice((0, 3)),
            telemetry=telemetry,
            labels=chance.choice((b"", f.mpls(77))),
        )
        return whole[: chance.choice((len(whole), len(whole), chance.randrange(20, len(whole))))]

    lasting = configured()
    try:
        for _ in range(80):
            data = frame()
            fresh = configured()
            try:
                assert lasting.send(1, data) == fresh.send(1, data), data.hex()
            finally:
                fresh.close()
    finally:
        lasting.close()
