"""Batches are one instant for packets: what passes while one is written meets the old state, later all of the new.

At every point of a batch where packets may pass, probes of every kind are sent, and must be answered as before it. What
the batch leads to is compared with a second switch that gets the same updates one by one. Here: tables and what their
entries count and meter; the rest in ``test_atomic_parts.py``.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Code, Op
from engine.codec import Command
from engine.library import Switch
from tests.engine.engine_support import ask, compiled, key_of, pack, read, table_index, unpack, update, write
from tests.engine.watched import Watched, Write

Step = tuple[Op, str, dict[str, Any], Any, int]  # of one entry: operation, table, key, action, priority

VALUES = (0, 1, 0x8000)
WIDE = (0, 1 << 127, (1 << 127) + 1)
PREFIXES = ((0, 0), (0x0A000000, 8), (0x0A010000, 16), (0x0A010200, 24), (0x0A010280, 25), (0x0A010203, 32))
LONG = ((0, 0), (1 << 127, 1), (1 << 127, 64), ((1 << 127) + 1, 128))


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Updates of few entries, so that inserts, changes and deletions of the same one meet."""
    found: list[Step] = []
    for number in range(draw(st.integers(0, 24))):
        table = draw(st.sampled_from(["exact16", "exact_wide", "lpm32", "lpm128", "lpm_odd", "mixed", "default"]))
        op = draw(st.sampled_from([Op.INSERT, Op.INSERT, Op.MODIFY, Op.DELETE]))
        action = None if op is Op.DELETE else ("reply", draw(st.integers(0, 999)) * 32 + number)
        priority, key = 0, {}
        if table == "default":
            table = draw(st.sampled_from(["exact_wide", "lpm32", "mixed"]))
            op, action = Op.MODIFY, ("reply", 40_000 + draw(st.integers(0, 9)))
        elif table == "exact16":
            key = {"b": draw(st.sampled_from(VALUES))}
        elif table == "exact_wide":
            key = {"wide": draw(st.sampled_from(WIDE)), "odd": draw(st.sampled_from([0, 7]))}
        elif table == "lpm32":
            key = {"a": draw(st.sampled_from(PREFIXES))}
        elif table == "lpm128":
            key = {"wide": draw(st.sampled_from(LONG)), "odd": 7}
        elif table == "lpm_odd":
            key = {"odd": draw(st.sampled_from([(0, 0), (0xA00, 4), (0xABC, 12)])), "b": draw(st.sampled_from(VALUES))}
        else:
            priority = draw(st.sampled_from([5, 6]))
            key = {"a": draw(st.sampled_from([None, (0x0A000000, 0xFF000000)])), "rest": 0}
            key["b"] = (0, 9) if priority == 6 else draw(st.sampled_from([None, (1, 1)]))
            priority += key["a"] is None  # so that no two entries of equal priority meet
        found.append((op, table, key, action, priority))
    return found


def probe_tables(switch: Switch) -> list[int]:
    answers = [ask(switch, op=0, b=b) for b in VALUES]
    answers += [ask(switch, op=1, wide=wide, odd=odd) for wide in WIDE for odd in (0, 7)]
    answers += [ask(switch, op=2, a=a) for a in (0, 0x0A000001, 0x0A010001, 0x0A010201, 0x0A010281, 0x0A010203)]
    answers += [ask(switch, op=3, wide=wide, odd=7) for wide in (*WIDE, (1 << 127) + (1 << 70))]
    answers += [ask(switch, op=4, odd=odd, b=1) for odd in (0, 0xA00, 0xABC)]
    answers += [ask(switch, op=5, a=a, b=b) for a in (0, 0x0A010203, 0x0A000000) for b in (0, 1, 20)]
    return answers


def contents(switch: Switch) -> list[Any]:
    """All entries with their actions, without what they have counted, and default actions."""
    out: list[Any] = []
    for name in ("exact16", "exact_wide", "lpm32", "lpm128", "lpm_odd", "mixed"):
        table = table_index(switch.codec.program, name)
        entries = {(e.key, e.priority): e.action for e in switch.table_read(table)}
        out.append((entries, switch.default_action(table)))
    return out


def one_after_the_other(switch: Switch, batch: list[Step]) -> list[Code]:
    """What an atomic batch must answer; applied up to the first error."""
    for number, step in enumerate(batch):
        code = switch.table_write([update(switch, *step)])[0]
        if code is not Code.OK:
            return [code if n == number else Code.ABORTED for n in range(len(batch))]
    return [Code.OK] * len(batch)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), min_size=2, max_size=4))
def test_tables_before_or_after(batches: list[list[Step]]) -> None:
    """The first one fills the tables as well as it can."""
    with Watched("tables") as watched, Switch(compiled("tables")) as one_by_one:
        watched.probes = probe_tables
        for step in batches[0]:
            assert len({write(switch, *step) for switch in (watched.switch, one_by_one)}) == 1
        for batch in batches[1:]:
            before = contents(watched.switch)
            expected = one_after_the_other(one_by_one, batch)
            updates = [update(watched.switch, *step) for step in batch]
            assert watched.during(lambda switch, u=updates: switch.table_write(u, atomic=True)) == expected
            if any(code is not Code.OK for code in expected):
                assert contents(watched.switch) == before
                return
            assert contents(watched.switch) == contents(one_by_one)
            assert probe_tables(watched.switch) == probe_tables(one_by_one)


# -- what entries count ------------------------------------------------------------------------------------------------


def counted(switch: Switch) -> dict[int, int]:
    """Packets by prefix length of lpm128."""
    return {entry.key[1].prefix_len: entry.packets for entry in read(switch, "lpm128")}


def routes(switch: Switch, *changes: tuple[Op, int, int]) -> list[Any]:
    keys = {length: {"odd": 7, "wide": (value, length)} for value, length in LONG}
    return [
        update(switch, op, "lpm128", keys[length], None if op is Op.DELETE else ("reply", value))
        for op, length, value in changes
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_no_packet_is_forgotten_by_a_counter(fails: bool) -> None:
    """Entries left alone, changed, changed twice, deleted, and deleted and inserted again."""
    with Watched("tables") as watched:
        switch = watched.switch
        switch.table_write(routes(switch, *((Op.INSERT, length, length + 1) for _value, length in LONG)))
        hits = dict.fromkeys((0, 1, 64, 128), 0)
        later = dict(hits)

        def probe(switch: Switch) -> list[int]:
            found = []
            for length, wide in ((0, 5), (1, 3 << 126), (64, (1 << 127) + 2), (128, (1 << 127) + 1)):
                found.append(ask(switch, op=3, odd=7, wide=wide))
                (hits if found[-1] == length + 1 else later)[length] += 1
            return found

        watched.probes = probe
        changes = routes(
            switch,
            (Op.MODIFY, 1, 100),
            (Op.MODIFY, 1, 200),
            (Op.DELETE, 64, 0),
            (Op.INSERT, 64, 300),
            (Op.DELETE, 128, 0),
        )
        if fails:
            changes += routes(switch, (Op.DELETE, 128, 0))
        codes = watched.during(lambda switch: switch.table_write(changes, atomic=True))
        assert watched.passed >= len(changes)
        if fails:
            assert codes[-1] is Code.NOT_FOUND
            assert not any(later.values())
            assert counted(switch) == hits
        else:
            assert set(codes) == {Code.OK}
            # /0 as before; /1 goes on counting; the new /64 also takes what /128 had
            assert counted(switch) == {0: hits[0], 1: hits[1] + later[1], 64: later[64] + later[128]}


def direct_write(switch: Switch, length: int, packets: int) -> Write:
    table = table_index(switch.codec.program, "lpm128")
    key = key_of(switch.codec.program, table, {"odd": 7, "wide": next(p for p in LONG if p[1] == length)})
    body = switch.codec.key(table, key) + struct.pack("<iQQ", 0, packets, packets * 30)
    return Command.DIRECT_WRITE, struct.pack("<I", table) + body


@pytest.mark.parametrize("fails", [False, True])
def test_a_counter_that_a_batch_sets(fails: bool) -> None:
    """It starts with the batch's value when the batch is seen, and has lost nothing when it is not."""
    with Watched("tables") as watched:
        switch = watched.switch
        switch.table_write(routes(switch, (Op.INSERT, 1, 1), (Op.INSERT, 64, 2)))
        probes = [0]

        def probe(switch: Switch) -> list[int]:
            probes[0] += 1
            return [ask(switch, op=3, odd=7, wide=3 << 126), ask(switch, op=3, odd=7, wide=(1 << 127) + 2)]

        watched.probes = probe
        modify = switch.codec.table_write(
            [switch.codec.update(u) for u in routes(switch, (Op.MODIFY, 1, 9))], atomic=False
        )
        commands = [direct_write(switch, 1, 1000), (int(Command.TABLE_WRITE), modify), direct_write(switch, 64, 500)]
        if fails:
            commands.append((Command.DIRECT_WRITE, b""))
        failure = watched.during(lambda switch: switch.batch(commands))
        if fails:
            assert failure is not None
            assert counted(switch) == {1: probes[0], 64: probes[0]}
        else:
            assert failure is None
            later = counted(switch)[1] - 1000
            assert counted(switch)[64] - 500 == later == len(watched.differences) + 1  # those that saw the new answer


METERED = (("op", 8), ("a", 32), ("colour", 8), ("packets", 8))


@pytest.mark.parametrize("fails", [False, True])
def test_direct_meters_go_on(fails: bool) -> None:
    """The old configuration runs out of tokens while the batch is written, the new one starts full."""
    with Watched("meters") as watched:
        switch = watched.switch
        table = table_index(switch.codec.program, "metered")
        for a in (1, 2):
            assert write(switch, Op.INSERT, "metered", {"a": a}, ("paint",)) is Code.OK
        switch.direct_meter_write(table, key_of(switch.codec.program, table, {"a": 1}), 0, (1, 2, 1, 4))
        colours: list[int] = []

        def probe(switch: Switch) -> list[int]:
            ((_port, data),) = switch.process(1, pack(METERED, {"a": 1}), 0)
            colours.append(unpack(METERED, data)["colour"])
            return []

        watched.probes = probe
        key = switch.codec.key(table, key_of(switch.codec.program, table, {"a": 1}))
        fresh = struct.pack("<I", table) + key + struct.pack("<i4Q", 0, 1, 1, 1, 50)
        commands: list[Write] = [(int(Command.DIRECT_METER_WRITE), fresh)]
        for _ in range(5):
            change = switch.codec.update(update(switch, Op.MODIFY, "metered", {"a": 2}, ("paint",)))
            commands.append((int(Command.TABLE_WRITE), switch.codec.table_write([change], atomic=False)))
        if fails:
            commands.append((int(Command.DIRECT_METER_WRITE), fresh[:-1]))
        failure = watched.during(lambda switch: switch.batch(commands))
        assert (failure is not None) is fails
        assert colours[:5] == [0, 0, 1, 1, 2]  # two green, two yellow, then red: what was configured before
        if fails:
            assert set(colours[4:]) == {2}
            assert switch.direct_meter_read(table, key_of(switch.codec.program, table, {"a": 1})) == (1, 2, 1, 4)
        else:
            at = colours.index(0, 2)
            assert set(colours[4:at]) == {2}
            assert colours[at + 1 :] == [1] * len(colours[at + 1 :])


def test_a_batch_of_many_entries_in_two_tables() -> None:
    """A thousand routes and their exact twins, while tables grow: no packet finds the one new and the other old."""
    number = 1000
    with Watched("tables") as watched:
        switch = watched.switch
        keys = [(0x0A000000 + (n << 8), 24) for n in range(number)]

        def both(op: Op, value: int) -> list[Any]:
            twins = [("lpm32", {"a": key}) for key in keys] + [
                ("exact_wide", {"wide": n, "odd": 1}) for n in range(number)
            ]
            action = None if op is Op.DELETE else ("reply", value)
            return [update(switch, op, table, key, action) for table, key in twins]

        watched.probes = lambda switch: [
            value
            for n in (0, 500, 999)
            for value in (ask(switch, op=2, a=keys[n][0]), ask(switch, op=1, wide=n, odd=1))
        ]
        for op, value in ((Op.INSERT, 1), (Op.MODIFY, 2), (Op.DELETE, 0)):
            updates = both(op, value)
            watched.passed = 0
            assert set(watched.during(lambda switch, u=updates: switch.table_write(u, atomic=True))) == {Code.OK}
            assert watched.passed >= 2 * number
            assert all(len(set(seen)) == 1 for _n, _before, seen in watched.differences)
