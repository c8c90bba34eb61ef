"""Announced packets: what is fetched ahead is what is looked up, and nothing else changes."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from engine.api import Code, Op
from engine.codegen_ahead import Ahead
from engine.ir_load import load
from engine.library import Switch, compile_program
from tests.engine.engine_support import PROBE, STEERING, ask, compiled, pack, source, unpack, update, write

MISSED = 0xFFFFFFFF


def test_the_steering_program_reads_routes_behind_every_encapsulation() -> None:
    text = "\n".join(Ahead(load(STEERING)).function())
    found = re.findall(r"sp_ahead_lpm\(sw, \d+, \(?sp_load\(pkt \+ (\d+), (\d)\).*?/\* (\w+) \*/", text)
    assert found == [
        ("30", "4", "route_ipv4"),
        ("38", "8", "route_ipv6"),
        ("34", "4", "route_ipv4"),  # below a label
        ("42", "8", "route_ipv6"),
    ]
    assert "#define SP_HAS_AHEAD 1" in text


@pytest.mark.parametrize("name", ["arith", "language", "fate"])
def test_programs_without_such_a_table_read_nothing(name: str) -> None:
    text = "\n".join(Ahead(load(source(name))).function())
    assert "sp_ahead_lpm" not in text
    assert "#define SP_HAS_AHEAD 0" in text


def test_only_large_tables_ask_for_announcements() -> None:
    with Switch(compiled("tables")) as switch:
        assert write(switch, Op.INSERT, "lpm32", {"a": (0x0A000000, 24)}, ("reply", 1)) is Code.OK
        assert switch._engine.ahead(switch._handle, 1, None, 0) == 0
        assert ask(switch, op=2, a=0x0A000001) == 1


@pytest.mark.parametrize("seed", range(2))
def test_announced_and_unannounced_packets_meet_the_same_routes(seed: int) -> None:
    """A table that is deep enough, with prefixes on all levels, that changes meanwhile; against a naive one."""
    chance = random.Random(seed)
    data = source("tables")
    for table in data["pipelines"][0]["tables"]:
        if table["name"] == "lpm32":
            table["max_size"] = 20_000
    model: dict[tuple[int, int], int] = {(n << 16 | 0x4200, 24): n + 1 for n in range(1, 2600)}
    for _ in range(1500):
        length = chance.choice((0, 8, 15, 16, 17, 23, 25, 31, 32))
        value = chance.randrange(1, 2600) << 16 | chance.choice((0x4200, 0x4300)) | chance.randrange(256)
        model[value >> (32 - length) << (32 - length), length] = chance.randrange(1, 1 << 30)
    with Switch(compile_program(data, flags=("-O1",))) as switch:
        updates = [update(switch, Op.INSERT, "lpm32", {"a": key}, ("reply", v)) for key, v in model.items()]
        assert set(switch.table_write(updates)) == {Code.OK}
        assert switch._engine.ahead(switch._handle, 1, None, 0) == 1
        for step in range(1200):
            target = chance.randrange(2600) << 16 | chance.choice((0x4200, 0x4300)) | chance.randrange(256)
            frame = pack(PROBE, {"op": 2, "a": target})
            for announced in (frame, frame[: chance.randrange(len(frame))], chance.randbytes(len(frame))):
                switch._engine.ahead(switch._handle, chance.randrange(512), announced, len(announced))
            assert ask(switch, op=2, a=target) == naive(model, target)
            if step % 10 == 0:
                key = chance.choice(list(model))
                assert write(switch, Op.DELETE, "lpm32", {"a": key}) is Code.OK
                del model[key]


def loads_within(text: str) -> int:
    """How many loads there are in ``sp_ahead``; all of them have to be of bytes that the packet is known to have."""
    known, found = [0], 0
    for line in text.splitlines():
        for first, size in re.findall(r"sp_load\(pkt \+ (\d+), (\d+)\)", line):
            found += 1
            assert int(first) + int(size) <= known[-1], f"of {known[-1]} bytes: {line}"
        if line.strip() == "}" and len(known) > 1:
            known.pop()
        elif line.endswith("{"):
            known.append(known[-1])
        elif reached := re.search(r"if \(len < (\d+)u\) return;", line):
            known[-1] = max(known[-1], int(reached[1]))
    return found


LOOKED_AHEAD = re.compile(r"sp_ahead_lpm\(sw, \d+, (.*)\); /\* (\w+) \*/")


def stale() -> dict[str, Any]:
    """``ahead`` with the field set before its header is extracted; p4c sees that nobody reads it, and takes another."""
    data = source("ahead")
    states = {state["name"]: state["parser_ops"] for state in data["parsers"][0]["parse_states"]}
    target, _value = states["stale"][0]["parameters"]
    target["value"] = ["x", "f"]
    return data


def test_extracting_a_header_ends_what_was_looked_ahead_for_its_fields() -> None:
    text = "\n".join(Ahead(load(stale())).function())
    (before, *_rest) = LOOKED_AHEAD.findall(text)
    assert before == ("(sp_load(pkt + 3, 4) << 32)", "by_f"), "where the header has it, not where the look ahead was"


def test_no_byte_is_read_that_the_packet_may_not_have() -> None:
    for data in (stale(), source("ahead"), json.loads(STEERING.read_text())):
        assert loads_within("\n".join(Ahead(load(data)).function())) > 2


def test_frames_of_any_length_are_announced_and_answered() -> None:
    fields = (("kind", 8), ("pad", 16), ("f", 32), ("answer", 32), ("g", 8), ("ahead", 24))
    with Switch(compile_program(stale(), flags=("-O1",))) as switch:
        for n in range(2600):
            key = {"f": (n << 16, 16)}
            assert write(switch, Op.INSERT, "by_f", key, ("reply", n + 1)) is Code.OK
            assert write(switch, Op.INSERT, "by_both", {"g": n >> 8, **key}, ("reply", n + 1)) is Code.OK
        for kind in (1, 2):
            for n in (7, 300, 2599):
                # What comes behind the second kind's header is its f, and its first byte g as well.
                whole = pack(fields, {"kind": kind, "f": n << 16, "g": n >> 8, "ahead": (n & 0xFF) << 16})
                for length in range(len(whole) + 1):
                    # The frame ends where the memory that it lies in does.
                    switch._engine.ahead(switch._handle, 1, whole[:length], length)
                ((_port, answered),) = switch.process(1, whole, 0)
                assert unpack(fields, answered[: len(whole)])["answer"] == n + 1


def naive(model: dict[tuple[int, int], int], address: int) -> int:
    for length in range(32, -1, -1):
        if (found := model.get((address >> (32 - length) << (32 - length), length))) is not None:
            return found
    return MISSED
