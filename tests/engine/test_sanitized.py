"""Packets and commands, well-formed, damaged and random, against builds with address and UB sanitizers.

The pipeline is linked into a small executable, so that no Python stands between the sanitizer and a finding.
``SHADOWPLANE_FUZZ_ROUNDS`` raises the number of mutations (default 30,000 for each program).
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api import ActionCall, GroupMember, GroupRef, Match, MatchKind, Op, ProgramInfo, TableUpdate
from engine.build import NATIVE, build_executable
from engine.codec import BACKUP, Codec, Command, batch, group_members, octets, replicas
from engine.codegen import generate
from engine.ir_load import load
from engine.program import program_info
from tests.engine.engine_support import PROGRAMS, STEERING, no_sanitizers

FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
PROGRAM_FILES = {
    name: PROGRAMS / f"{name}.json"
    for name in ("tables", "arith", "wide", "language", "parsing", "fate", "meters", "unions", "ahead")
} | {"steering": STEERING}


pytestmark = pytest.mark.skipif(bool(no_sanitizers()), reason=no_sanitizers())


def random_update(codec: Codec, chance: random.Random) -> bytes:
    """A valid update with small values, so that entries meet."""
    program: ProgramInfo = codec.program
    tables = [i for i, t in enumerate(program.tables) if t.key]
    table = chance.choice(tables or list(range(len(program.tables))))

    def value(width: int) -> int:
        return chance.choice([0, 1, 2, (1 << width) - 1, chance.getrandbits(width)]) & ((1 << width) - 1)

    key = []
    for field in program.tables[table].key:
        size = octets(field.width)
        first = value(field.width)
        if field.kind is MatchKind.LPM:
            key.append(Match(first.to_bytes(size, "big"), prefix_len=chance.randint(0, field.width)))
        elif field.kind is MatchKind.RANGE:
            ends = sorted((first, value(field.width)))
            key.append(Match(ends[0].to_bytes(size, "big"), high=ends[1].to_bytes(size, "big")))
        elif field.kind is MatchKind.EXACT:
            key.append(Match(first.to_bytes(size, "big")))
        else:
            everything = (1 << field.width) - 1
            mask = chance.choice([0, everything])
            if field.kind is MatchKind.TERNARY:
                mask = chance.choice([mask, value(field.width)])
            key.append(Match(first.to_bytes(size, "big"), mask=mask.to_bytes(size, "big")))
    action = chance.choice(program.tables[table].actions)
    params = tuple(value(w).to_bytes(octets(w), "big") for _n, w in program.actions[action].params)
    ternary = any(f.kind in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for f in program.tables[table].key)
    op = chance.choice([Op.INSERT, Op.INSERT, Op.INSERT, Op.MODIFY, Op.DELETE])
    call = None if op is Op.DELETE else ActionCall(action, params)
    return codec.update(TableUpdate(op, table, tuple(key), call, chance.randint(1, 9) if ternary else 0))


def records(info: ProgramInfo, chance: random.Random) -> Iterator[tuple[int, int, bytes]]:
    """(kind, port or operation, bytes)."""
    codec = Codec(info)
    for _ in range(150):
        updates = [random_update(codec, chance) for _ in range(chance.randint(1, 6))]
        yield 1, Command.TABLE_WRITE, codec.table_write(updates, atomic=chance.random() < 0.5)
    for number, profile in enumerate(info.profiles):
        actions = next(t.actions for t in info.tables if t.selector == number)
        for member in range(4):
            call = ActionCall(actions[0], tuple(bytes(octets(w)) for _n, w in info.actions[actions[0]].params))
            yield 1, Command.MEMBER_WRITE, struct.pack("<BII", Op.INSERT, number, member) + codec.action(call)
        if profile.with_selector:
            members = group_members([GroupMember(m, 1 + m, m + 1) for m in range(4)])
            for op in (Op.INSERT, Op.MODIFY):
                yield 1, Command.GROUP_WRITE, struct.pack("<BII", op, number, 1) + members
    for group in (1, 2, 5):
        yield 1, Command.MULTICAST_WRITE, struct.pack("<BI", Op.INSERT, group) + replicas([(1, 1), (2, 2)])
        yield 1, Command.CLONE_WRITE, struct.pack("<BIII", Op.INSERT, group, 0, 3) + replicas([(3, 1)])
    for _ in range(60):
        yield 1, Command.BATCH, batch([write for write in writes(codec, chance) if chance.random() < 0.3])
    yield 1, Command.OCCUPANCY, b""
    for table in range(len(info.tables)):
        yield 1, Command.TABLE_READ, codec.table_read(table, None, 0)
        yield 1, Command.DEFAULT_READ, struct.pack("<I", table)
    for number in range(max(len(info.registers), len(info.counters), len(info.meters), 1)):
        yield 1, Command.REGISTER_READ, struct.pack("<III", number, 0, 2)
        yield 1, Command.COUNTER_READ, struct.pack("<III", number, 0, 2)
        yield 1, Command.METER_WRITE, struct.pack("<II4Q", number, 0, 10, 10, 20, 20)
        yield 1, Command.METER_READ, struct.pack("<III", number, 0, 1)
    yield 1, Command.RESET, b""
    for command in (Command.STATS, Command.INFO, Command.MULTICAST_READ, Command.CLONE_READ):
        yield 1, command, b""
    for _ in range(150):
        yield 1, Command.TABLE_WRITE, codec.table_write([random_update(codec, chance)], atomic=False)
    yield from ((0, chance.choice([1, 2, 509, 510]), frame) for frame in packets(chance))


def writes(codec: Codec, chance: random.Random) -> Iterator[tuple[int, bytes]]:
    """Write commands of every kind, of which some fail, in a random order."""
    info = codec.program
    out: list[tuple[int, bytes]] = []
    for _ in range(6):
        out.append((Command.TABLE_WRITE, codec.table_write([random_update(codec, chance)], atomic=False)))
    for number, profile in enumerate(info.profiles):
        table = next(i for i, t in enumerate(info.tables) if t.selector == number)
        action = info.tables[table].actions[0]
        call = ActionCall(action, tuple(bytes(octets(w)) for _n, w in info.actions[action].params))
        for member in range(6):
            body = b"\0" if chance.random() < 0.4 else codec.action(call)
            out.append((Command.MEMBER_WRITE, struct.pack("<BII", chance.randint(1, 3), number, member) + body))
        if profile.with_selector:
            members = group_members([GroupMember(m, 1 + m) for m in range(chance.randint(0, 5))])
            for group in (1, 2):
                out.append((Command.GROUP_WRITE, struct.pack("<BII", chance.randint(1, 3), number, group) + members))
                key = tuple(Match(bytes(octets(f.width))) for f in info.tables[table].key)
                if all(f.kind is MatchKind.EXACT for f in info.tables[table].key):
                    op = chance.choice(list(Op))
                    made = TableUpdate(op, table, key, None if op is Op.DELETE else GroupRef(group))
                    out.append((Command.TABLE_WRITE, codec.table_write([codec.update(made)], atomic=False)))
    for group in (1, 2):
        pairs = [(1, 1), (chance.choice([2, 2 | BACKUP]), 2)]
        out.append((Command.MULTICAST_WRITE, struct.pack("<BI", chance.randint(1, 3), group) + replicas(pairs)))
        out.append((Command.CLONE_WRITE, struct.pack("<BIII", chance.randint(1, 3), group, 9, 1) + replicas(pairs)))
    for number, register in enumerate(info.registers):
        cell = bytes(octets(register.width))
        out.append((Command.REGISTER_WRITE, struct.pack("<II", number, 0) + cell))
        out.append((Command.REGISTER_FILL, struct.pack("<I", number) + cell))
    for number in range(len(info.counters)):
        out.append((Command.COUNTER_WRITE, struct.pack("<IIQQ", number, 0, 1, 2)))
    for number in range(len(info.meters)):
        out.append((Command.METER_WRITE, struct.pack("<II4Q", number, 0, 10, 10, 20, 20)))
    for number, values in enumerate(info.value_sets):
        out.append((Command.VALUE_SET_WRITE, struct.pack("<II", number, 1) + bytes(2 * octets(values.width))))
    chance.shuffle(out)
    yield from out


def packets(chance: random.Random) -> Iterator[bytes]:
    """Ethernet frames of the kinds that programs know, and plain noise."""
    for ether_type in (0x0800, 0x86DD, 0x8847, 0x88B5, 0x0806):
        for size in (0, 1, 13, 20, 60, 200):
            head = bytes(12) + ether_type.to_bytes(2, "big")
            body = bytes.fromhex("45000054000040004001b1e50a0000010a000002") + chance.randbytes(size)
            yield head + body
            yield b"\x00\x81" + head + body  # behind a packet-out header
    for op in range(32):
        yield bytes((op,)) + chance.randbytes(40)
        yield bytes((0x40 | op & 15, op)) + chance.randbytes(80)
    yield b""
    yield chance.randbytes(9000)


@pytest.mark.parametrize("name", sorted(PROGRAM_FILES))
def test_no_finding(name: str, tmp_path: Path) -> None:
    program = load(PROGRAM_FILES[name])
    info = program_info(program)
    tool = build_executable(
        [*sorted((NATIVE / "core").glob("*.c")), Path(__file__).with_name("fuzz_main.c")],
        name="fuzz",
        generated={"pipeline.c": generate(program, info)},
        flags=FLAGS,
    )
    corpus = tmp_path / "corpus"
    with corpus.open("wb") as file:
        for kind, number, data in records(info, random.Random(name)):
            file.write(struct.pack("<III", kind, number, len(data)) + data)
    rounds = os.environ.get("SHADOWPLANE_FUZZ_ROUNDS", "30000")
    done = subprocess.run(
        [tool, corpus, rounds, "1"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 100
