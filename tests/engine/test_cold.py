"""What is not cleared with every packet: nothing of one packet may show in the next."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from engine import ir
from engine.codegen_cold import cold_headers, cold_stacks, local_fields
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


def test_local_fields_are_temporaries_only() -> None:
    reserved = PROGRAM.find("scalars.tmp_7")
    found = local_fields(PROGRAM, [])
    texts = {PROGRAM.field_type(ref).name for ref in found}
    assert len(found) > 100
    assert not any(name.startswith("metadata_t.") and "checksum_bad" not in name for name in texts)
    for table in PROGRAM.tables:
        assert not {key.target for key in table.keys} & found
    if reserved is not None and reserved in found:
        assert reserved not in local_fields(PROGRAM, [reserved])


def action(*primitives: ir.Primitive) -> ir.Action:
    return ir.Action("a", (), primitives)


def assign(target: ir.FieldRef, value: ir.Expr) -> ir.Primitive:
    return ir.Primitive("assign", (target, value))


def test_read_before_write_jumps_and_other_readers_keep_a_field_cleared() -> None:
    scalars = next(i for i, header in enumerate(PROGRAM.headers) if header.name == "scalars")
    a, b, c = (ir.FieldRef(scalars, k) for k in range(3))
    bare = replace(PROGRAM, tables=(), states=(), checksums=(), calculations=(), learn_lists=(), field_lists={})
    bare = replace(bare, ingress=replace(bare.ingress, nodes={}), egress=replace(bare.egress, nodes={}))

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
