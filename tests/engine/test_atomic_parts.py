"""Batches are one instant for packets, too, where they change members, groups, registers, copies and value sets."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import GroupMember, GroupRef, MemberRef, Op
from engine.codec import Command, group_members, replicas
from engine.library import Switch
from tests.engine.engine_support import action_of, array_index, ask, compiled, read, table_index, update
from tests.engine.test_fate import send
from tests.engine.watched import Watched, Write


def member(switch: Switch, op: Op, number: int, value: int) -> Write:
    profile = array_index(switch.codec.program.profiles, "selector")
    table = table_index(switch.codec.program, "group")
    call = b"\0" if op is Op.DELETE else switch.codec.action(action_of(switch.codec.program, table, "chosen", value))
    return Command.MEMBER_WRITE, struct.pack("<BII", op, profile, number) + call


def group(switch: Switch, op: Op, number: int, members: list[int]) -> Write:
    profile = array_index(switch.codec.program.profiles, "selector")
    body = b"" if op is Op.DELETE else group_members([GroupMember(m) for m in members])
    return Command.GROUP_WRITE, struct.pack("<BII", op, profile, number) + body


def entry(switch: Switch, op: Op, b: int, target: Any = None) -> Write:
    change = switch.codec.update(update(switch, op, "group", {"b": b}, target))
    return Command.TABLE_WRITE, switch.codec.table_write([change], atomic=False)


@st.composite
def profile_commands(draw: st.DrawFn) -> list[tuple[str, Op, int, Any]]:
    found: list[tuple[str, Op, int, Any]] = []
    for number in range(draw(st.integers(0, 14))):
        op = draw(st.sampled_from([Op.INSERT, Op.MODIFY, Op.MODIFY, Op.DELETE]))
        kind = draw(st.sampled_from(["member", "group", "entry"]))
        key = draw(st.integers(1, 3))
        more: Any = 100 * number + draw(st.integers(0, 9))
        if kind == "group":
            more = draw(st.lists(st.integers(1, 3), max_size=3, unique=True))
        elif kind == "entry":
            more = None if op is Op.DELETE else draw(st.sampled_from([MemberRef, GroupRef]))(draw(st.integers(1, 3)))
        found.append((kind, op, key, more))
    return found


def encoded(switch: Switch, command: tuple[str, Op, int, Any]) -> Write:
    kind, op, key, more = command
    return {"member": member, "group": group, "entry": entry}[kind](switch, op, key, more)


def probe_groups(switch: Switch) -> list[int]:
    return [ask(switch, op=8, b=b, a=a) for b in (1, 2, 3) for a in range(4)]


def profile_state(switch: Switch) -> Any:
    profile = array_index(switch.codec.program.profiles, "selector")
    entries = {e.key: e.action for e in read(switch, "group")}
    return switch.member_read(profile), switch.group_read(profile), entries


@settings(max_examples=60, deadline=None)
@given(st.lists(profile_commands(), min_size=2, max_size=4))
def test_members_and_groups_before_or_after(batches: list[list[tuple[str, Op, int, Any]]]) -> None:
    with Watched("tables") as watched, Switch(compiled("tables")) as one_by_one:
        watched.probes = probe_groups
        base = [("member", Op.INSERT, n, n) for n in (1, 2, 3)] + [("group", Op.INSERT, n, [1, n]) for n in (2, 3)]
        base += [("entry", Op.INSERT, 1, MemberRef(1)), ("entry", Op.INSERT, 2, GroupRef(2))]
        for switch in (watched.switch, one_by_one):
            for command in [*base, *batches[0]]:
                switch.batch([encoded(switch, command)])
        for batch in batches[1:]:
            before, failed = profile_state(watched.switch), None
            for number, command in enumerate(batch):
                failure = one_by_one.batch([encoded(one_by_one, command)])
                if failure is not None:
                    failed = (number, failure[1])
                    break
            commands = [encoded(watched.switch, command) for command in batch]
            outcome = watched.during(lambda switch, c=commands: switch.batch(c))
            assert (outcome[:2] if outcome else None) == failed
            if failed:
                assert profile_state(watched.switch) == before
                return
            assert profile_state(watched.switch) == profile_state(one_by_one)
            assert probe_groups(watched.switch) == probe_groups(one_by_one)


@pytest.mark.parametrize("fails", [False, True])
def test_registers_multicast_and_clones_change_together(fails: bool) -> None:
    with Watched("fate") as watched:
        switch = watched.switch
        cells = array_index(switch.codec.program.registers, "cells")
        bits = array_index(switch.codec.program.registers, "bits")
        switch.multicast_write(Op.INSERT, 1, [(1, 1)])
        switch.multicast_write(Op.INSERT, 2, [(2, 1)])
        switch.clone_write(Op.INSERT, 3, [(4, 1)])
        switch.clone_write(Op.INSERT, 4, [(5, 1)])
        before = (switch.multicast_read(), switch.clone_read())

        def probe(switch: Switch) -> list[Any]:
            seen: list[Any] = [send(switch, 11, x=n)[0][2]["y"] for n in range(8)]  # what the cell held, written back
            for op, x in ((2, 1), (2, 2), (2, 3), (3, 3), (3, 4), (3, 5)):
                seen.append(sorted(port for port, _mark, _op, _rest in send(switch, op, x=x)))
            return seen

        watched.probes = probe

        def multicast(op: Op, group: int, *pairs: tuple[int, int]) -> Write:
            return Command.MULTICAST_WRITE, struct.pack("<BI", op, group) + replicas(pairs)

        def clone(op: Op, session: int, *pairs: tuple[int, int]) -> Write:
            return Command.CLONE_WRITE, struct.pack("<BIII", op, session, 0, 0) + replicas(pairs)

        def value(number: int) -> bytes:
            return switch.codec.cell(switch.codec.program.registers[cells], number)

        def cell(index: int, number: int) -> Write:
            return Command.REGISTER_WRITE, struct.pack("<II", cells, index) + value(number)

        commands = [
            cell(1, 5),
            (int(Command.REGISTER_FILL), struct.pack("<I", bits) + b"\1"),
            multicast(Op.MODIFY, 1, (6, 1), (7, 1)),
            multicast(Op.DELETE, 2),
            multicast(Op.INSERT, 3, (8, 1)),
            multicast(Op.DELETE, 3),
            multicast(Op.INSERT, 3, (9, 1)),
            cell(1, 6),
            cell(2, 7),
            clone(Op.DELETE, 3),
            clone(Op.MODIFY, 4, (6, 1)),
            clone(Op.INSERT, 5, (7, 1)),
            (
                int(Command.REGISTER_FILL),
                struct.pack("<I", cells) + value(3),
            ),
            cell(4, 9),
        ]
        if fails:
            commands.append(clone(Op.DELETE, 77))
        failure = watched.during(lambda switch: switch.batch(commands))
        assert watched.passed >= len(commands)
        if fails:
            assert failure is not None
            assert (switch.multicast_read(), switch.clone_read()) == before
            assert switch.register_read(cells, 0, 8) == [0] * 8
        else:
            assert failure is None
            assert switch.register_read(cells, 0, 8) == [3, 3, 3, 3, 9, 3, 3, 3]
            assert switch.register_read(bits, 0, 8) == [1] * 8
            assert set(switch.multicast_read()) == {1, 3}


@pytest.mark.parametrize("end", ["stands", "fails", "filled"])
def test_many_cells(end: str) -> None:
    """So many that they become a picture of the register: the last value of each counts, others stay as they are."""
    with Watched("fate") as watched:
        switch = watched.switch
        registers = switch.codec.program.registers
        cells, bits = array_index(registers, "cells"), array_index(registers, "bits")

        def cell(register: int, index: int, number: int) -> Write:
            value = switch.codec.cell(registers[register], number)
            return Command.REGISTER_WRITE, struct.pack("<II", register, index) + value

        for index in range(8):
            switch.register_write(cells, index, 1000 + index)
        watched.probes = lambda switch: [send(switch, 11, x=n)[0][2]["y"] for n in range(8)]
        commands = [cell(cells, n * 7 % 6, n) for n in range(1500)]
        commands += [cell(bits, n * 5 % 7, n & 1) for n in range(3000)]
        commands += [cell(cells, 5, 77)]
        if end == "fails":
            commands.append((int(Command.VALUE_SET_WRITE), b""))
        if end == "filled":
            commands.append((int(Command.REGISTER_FILL), struct.pack("<I", bits) + b"\1"))
        failure = watched.during(lambda switch: switch.batch(commands))
        assert watched.passed >= len(commands)
        assert (failure is not None) is (end == "fails")
        last = {n * 7 % 6: n for n in range(1500)} | {5: 77, 6: 1006, 7: 1007}
        ones = [max(n & 1 for n in range(2993, 3000) if n * 5 % 7 == index) for index in range(7)] + [0]
        if end == "fails":
            assert switch.register_read(cells, 0, 8) == [1000 + n for n in range(8)]
            assert switch.register_read(bits, 0, 8) == [0] * 8
        else:
            assert switch.register_read(cells, 0, 8) == [last[n] for n in range(8)]
            assert switch.register_read(bits, 0, 8) == ([1] * 8 if end == "filled" else ones)


@pytest.mark.parametrize("fails", [False, True])
def test_value_sets(fails: bool) -> None:
    with Watched("parsing") as watched:
        switch = watched.switch
        switch.value_set_write(0, [6])
        frames = [bytes((0x20, kind)) + bytes(range(60)) for kind in (5, 6, 7, 16)]
        watched.probes = lambda switch: [switch.process(1, frame) for frame in frames]
        seen = watched.probes(switch)
        commands: list[Write] = []
        for values in ([], [5], [7, 16]):
            body = b"".join(bytes((value, 0xFF)) for value in values)
            commands.append((int(Command.VALUE_SET_WRITE), struct.pack("<II", 0, len(values)) + body))
        if fails:
            commands.append((int(Command.VALUE_SET_WRITE), b""))
        failure = watched.during(lambda switch: switch.batch(commands))
        assert (failure is not None) is fails
        if fails:
            assert watched.probes(switch) == seen
        else:
            with Switch(compiled("parsing")) as other:
                other.value_set_write(0, [7, 16])
                assert watched.probes(switch) == watched.probes(other)


def test_nothing_is_left_of_a_batch_that_failed() -> None:
    """Neither in what is seen then, nor in what the next batch takes for the past."""
    with Watched("tables") as watched:
        switch = watched.switch
        watched.probes = probe_groups
        base = [("member", Op.INSERT, n, n) for n in (1, 2)] + [("group", Op.INSERT, 2, [1])]
        base += [("entry", Op.INSERT, 1, MemberRef(1)), ("entry", Op.INSERT, 2, GroupRef(2))]
        assert switch.batch([encoded(switch, command) for command in base]) is None
        bad = ("member", Op.DELETE, 9, None)
        for value in (11, 12, 13):
            batch = [
                ("member", Op.MODIFY, 1, value),
                ("group", Op.MODIFY, 2, [1, 2]),
                ("member", Op.MODIFY, 1, value + 5),
            ]
            commands = [encoded(switch, command) for command in batch]
            spoilt = [*commands, encoded(switch, bad)]
            assert watched.during(lambda switch, c=spoilt: switch.batch(c)) is not None
            for op, payload in commands:
                switch.command(op, payload)
            assert ask(switch, op=8, b=1) == value + 5
            assert watched.during(lambda switch, c=commands: switch.batch(c)) is None
            assert ask(switch, op=8, b=1) == value + 5
