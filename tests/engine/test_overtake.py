"""Small commands in the middle of large ones: there is an order in which one after the other does the same.

What is under way is a batch, or a row of updates each of which stands for itself. At some of the points where packets
pass others ask for something, and packets are sent. Then a second switch looks for an order: the updates of a row, or
all of a batch at once, between what was answered and seen, with the same answers, and the same state at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Code, DatapathError, MemberRef, Op
from engine.codec import Command, batch
from engine.library import Switch, compile_program
from tests.engine.engine_support import STEERING, array_index, ask, compiled, read, update
from tests.engine.test_atomic import VALUES, Step, contents, steps
from tests.engine.test_atomic_parts import entry, member
from tests.engine.test_fate import send
from tests.engine.watched import Write

BY_INDEX = 1  # a counter of the program "tables"
EXISTS: Step = (Op.INSERT, "lpm32", {"a": (10 << 24, 24)}, ("reply", 1), 0)
EXACT: Step = (Op.INSERT, "exact16", {"b": 1}, ("reply", 77), 0)
PREFIX: Step = (Op.INSERT, "lpm32", {"a": (11 << 24, 8)}, ("reply", 78), 0)
Answer = tuple[int, bytes]
Event = tuple[Write | None, Any]  # a command and its answer, or what packets and readers saw
Item = tuple[Write | None, bool]  # of a history: a command, or a look; whether it belongs to what was under way
Look = Callable[[Switch], Any]


def answer(send: Callable[[int, bytes], bytes | None], command: Write) -> Answer | None:
    """(code, reply); None: it has to wait."""
    try:
        reply = send(*command)
    except DatapathError as error:
        return int(error.code), b""
    return None if reply is None else (0, reply)


class Crowd:
    """A switch in whose long commands others come in between."""

    def __init__(self, program: str, look: Look) -> None:
        self.look = look
        self.log: list[Event] = []
        self.waiting: list[Write] = []
        self.passed = 0
        self._others: Mapping[int, Sequence[Write]] = {}
        self._busy = False
        self._failure: Exception | None = None
        self.switch = Switch(compiled(program), breathe=self._breathe)
        self.alone = Switch(compiled(program))

    def _breathe(self) -> None:
        if not self._busy:
            return
        self.passed += 1
        if self.passed not in self._others:
            return
        self._busy = False  # packets pass in the middle of what overtakes, too; that is another test's
        try:
            for command in self._others[self.passed]:
                found = None if self.waiting else answer(self.switch.overtake, command)
                if found is None:
                    self.waiting.append(command)  # one client: the next ones wait behind it
                else:
                    self.log.append((command, found))
                self.log.append((None, self.look(self.switch)))
        except Exception as error:  # would not leave the callback
            self._failure = self._failure or error
        self._busy = True

    def run(self, command: Write, others: Mapping[int, Sequence[Write]]) -> Answer:
        """Execute ``command`` with others at the n-th point where packets pass; those that must wait come after it."""
        self.log, self.waiting, self.passed, self._others, self._busy = [], [], 0, others, True
        found = answer(self.switch.command, command)
        self._busy = False
        if self._failure is not None:
            raise self._failure
        for late in self.waiting:
            self.log.append((late, answer(self.switch.command, late)))
        self.log.append((None, self.look(self.switch)))
        assert found is not None
        return found

    def _replay(self, history: Sequence[Item]) -> list[Any]:
        """The answers of a history, on a switch that has only this one."""
        self.alone.reset()
        return [
            self.look(self.alone) if command is None else answer(self.alone.command, command)
            for command, _unit in history
        ]

    def orders(self, base: Sequence[Write], units: Sequence[Write]) -> Iterator[list[Any]]:
        """The answers of the units in each order with the logged events that explains what was answered and seen.

        Afterwards ``alone`` is in the state that the order leads to.
        """
        rest: list[Item] = [(unit, True) for unit in units]

        def explain(history: list[Item], done: int, at: int) -> Iterator[list[Any]]:
            if at == len(self.log):
                if done == len(units):
                    answers = self._replay(history)
                    yield [found for found, (_command, unit) in zip(answers, history, strict=True) if unit]
                return
            command, seen = self.log[at]
            for upto in range(done, len(units) + 1):
                longer = [*history, *rest[done:upto], (command, False)]
                if self._replay(longer)[-1] == seen:
                    yield from explain(longer, upto, at + 1)

        yield from explain([(command, False) for command in base], 0, 0)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.switch.close()
        self.alone.close()


def look_at_tables(switch: Switch) -> Any:
    """What packets of all kinds meet, the counters' cells, and all entries when nothing is under way."""
    answers = [ask(switch, op=0, b=b) for b in VALUES]
    answers += [ask(switch, op=1, wide=wide, odd=7) for wide in (0, 1 << 127)]
    answers += [ask(switch, op=2, a=a) for a in (0, 0x0A000001, 0x0A010201, 0x0A010203)]
    answers += [ask(switch, op=3, wide=1 << 127, odd=7), ask(switch, op=4, odd=0xABC, b=1), ask(switch, op=5, a=1, b=1)]
    return answers, switch.overtake(Command.COUNTER_READ, struct.pack("<III", BY_INDEX, 0, 16))


def one(switch: Switch, step: Step, *, atomic: bool = False) -> Write:
    return Command.TABLE_WRITE, switch.codec.table_write([switch.codec.update(update(switch, *step))], atomic=atomic)


def many(switch: Switch, row: Sequence[Step], *, atomic: bool) -> Write:
    encoded = [switch.codec.update(update(switch, *step)) for step in row]
    return Command.TABLE_WRITE, switch.codec.table_write(encoded, atomic=atomic)


def count(index: int, packets: int) -> Write:
    return Command.COUNTER_WRITE, struct.pack("<IIQQ", BY_INDEX, index, packets, 30 * packets)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[Step], list[Step], dict[int, list[Step | tuple[int, int]]]]:
    """What is there, what is under way, and what comes in between: entries, and cells of a counter."""
    base, row = draw(steps()), draw(steps())[:8]
    known = [(op, table, key, action, priority) for _op, table, key, action, priority in (*base, *row) for op in Op]
    entries = st.sampled_from([step for step in known if step[3] is not None or step[0] is Op.DELETE] or [EXACT])
    kinds = st.one_of(
        entries.map(lambda step: (*step[:3], None if step[0] is Op.DELETE else step[3], step[4])),
        st.tuples(st.integers(0, 3), st.integers(0, 99)),
    )
    others: dict[int, list[Step | tuple[int, int]]] = {}
    for _ in range(draw(st.integers(1, 4))):
        others.setdefault(draw(st.integers(1, 2 * len(row) + 1)), []).append(draw(kinds))
    return base, row, others


@pytest.mark.parametrize("atomic", [True, False])
@settings(max_examples=60, deadline=None)
@given(crowds())
def test_there_is_an_order(
    atomic: bool, drawn: tuple[list[Step], list[Step], dict[int, list[Step | tuple[int, int]]]]
) -> None:
    base, row, others = drawn
    with Crowd("tables", look_at_tables) as crowd:
        switch = crowd.switch
        first = [one(switch, step) for step in base]
        for command in first:
            switch.command(*command)
        between = {
            point: [one(switch, item) if len(item) == 5 else count(*item) for item in items]
            for point, items in others.items()
        }
        whole = many(switch, row, atomic=atomic)
        found = crowd.run(whole, between)
        state = contents(switch)
        units = [whole] if atomic else [one(switch, step) for step in row]
        for answers in crowd.orders(first, units):
            told = answers[0] if atomic else (0, b"".join(reply for _code, reply in answers))
            if told == found and contents(crowd.alone) == state:
                return
        raise AssertionError(f"no order explains {crowd.log}")


# -- what may overtake, and what must wait -----------------------------------------------------------------------------

ROUTES = 60
MISSED = 0xFFFFFFFF
POINT = 40  # somewhere in the middle


def routes(*more: Step) -> list[Step]:
    return [(Op.INSERT, "lpm32", {"a": ((10 << 24) + (n << 8), 24)}, ("reply", n), 0) for n in range(ROUTES)] + [*more]


def look_here(switch: Switch) -> list[int]:
    return [ask(switch, op=0, b=1), ask(switch, op=2, a=10 << 24), ask(switch, op=2, a=11 << 24)]


@pytest.mark.parametrize("fails", [False, True])
def test_an_entry_of_another_table_overtakes_a_batch(fails: bool) -> None:
    """Packets meet it at once, and it stays when the batch is taken back."""
    with Crowd("tables", look_here) as crowd:
        switch = crowd.switch
        row = routes(*([EXISTS] if fails else []))
        codes = crowd.run(many(switch, row, atomic=True), {POINT: [one(switch, EXACT)]})[1]
        assert crowd.log[:2] == [(one(switch, EXACT), (0, b"\0")), (None, [77, MISSED, MISSED])]
        assert set(codes) == ({Code.ABORTED, Code.ALREADY_EXISTS} if fails else {Code.OK})
        assert crowd.log[-1] == (None, [77, MISSED if fails else 0, MISSED])
        assert len(read(switch, "exact16")) == 1


def test_an_entry_of_a_table_that_a_batch_has_touched_waits() -> None:
    with Crowd("tables", look_here) as crowd:
        switch = crowd.switch
        crowd.run(many(switch, routes(), atomic=True), {POINT: [one(switch, PREFIX)]})
        assert crowd.waiting == [one(switch, PREFIX)]
        assert crowd.log == [
            (None, [MISSED, MISSED, MISSED]),
            (one(switch, PREFIX), (0, b"\0")),
            (None, [MISSED, 0, 78]),
        ]


def test_between_updates_that_stand_for_themselves_any_entry_may_come() -> None:
    with Crowd("tables", look_here) as crowd:
        switch = crowd.switch
        crowd.run(many(switch, routes(), atomic=False), {POINT: [one(switch, PREFIX), one(switch, EXISTS)]})
        assert crowd.waiting == []
        assert [event[1] for event in crowd.log[:4:2]] == [(0, b"\0"), (0, bytes((Code.ALREADY_EXISTS,)))]
        assert crowd.log[1] == (None, [MISSED, 0, 78])


def test_nobody_comes_into_the_middle_of_an_update() -> None:
    """A short prefix takes many steps, between which packets pass; cells have nothing to do with it."""
    with Crowd("tables", look_here) as crowd:
        switch = crowd.switch
        short: Step = (Op.INSERT, "lpm32", {"a": (0, 0)}, ("reply", 5), 0)
        crowd.run(many(switch, [short, PREFIX], atomic=False), {3: [count(1, 2), one(switch, EXACT)]})
        assert crowd.log[0] == (count(1, 2), (0, b""))
        assert crowd.waiting == [one(switch, EXACT)]


def test_the_batch_goes_on_with_what_has_overtaken_it() -> None:
    """It finds the other one's entry where it wants to make its own, and is refused as if it had come later."""
    with Crowd("tables", look_here) as crowd:
        switch = crowd.switch
        mine: Step = (Op.INSERT, "exact16", {"b": 1}, ("reply", 5), 0)
        codes = crowd.run(many(switch, routes(mine), atomic=True), {POINT: [one(switch, EXACT)]})[1]
        assert codes == bytes([Code.ABORTED] * ROUTES + [Code.ALREADY_EXISTS])
        assert crowd.log[-1] == (None, [77, MISSED, MISSED])
        mine = (Op.MODIFY, "exact16", {"b": 1}, ("reply", 5), 0)
        again: Step = (Op.MODIFY, "exact16", {"b": 1}, ("reply", 6), 0)
        codes = crowd.run(many(switch, routes(mine), atomic=True), {POINT: [one(switch, again)]})[1]
        assert set(codes) == {Code.OK}
        assert crowd.log[1] == (None, [6, MISSED, MISSED])
        assert crowd.log[-1] == (None, [5, 0, MISSED])


def test_what_may_depend_on_members_waits_for_a_batch() -> None:
    """Members that a batch has made must not be found by what comes before it."""
    with Crowd("tables", lambda switch: [ask(switch, op=8, b=1)]) as crowd:
        switch = crowd.switch
        members = [member(switch, Op.INSERT, n, n) for n in range(1, ROUTES)]
        mine = entry(switch, Op.INSERT, 1, MemberRef(1))
        crowd.run((Command.BATCH, batch(members)), {POINT: [mine]})
        assert crowd.waiting == [mine]
        assert crowd.log[1] == (mine, (0, b"\0"))


@pytest.mark.parametrize(
    "late",
    [
        lambda switch: many(switch, [EXACT, PREFIX], atomic=False),
        lambda switch: one(switch, EXACT, atomic=True),
        lambda switch: (Command.TABLE_READ, struct.pack("<IIIB", 0, 0, 10, 0)),
        lambda switch: (Command.BATCH, batch([])),
        lambda switch: member(switch, Op.INSERT, 1, 1),
        lambda switch: (Command.TABLE_WRITE, b"\0\1"),
        lambda switch: (Command.COUNTER_READ, struct.pack("<III", BY_INDEX, 0, 5000)),
        lambda switch: (Command.STATS, b""),
    ],
)
def test_all_others_wait(late: Callable[[Switch], Write]) -> None:
    with Crowd("tables", look_here) as crowd:
        command = late(crowd.switch)
        assert crowd.switch.overtake(*command) is None
        crowd.run(many(crowd.switch, routes(), atomic=True), {POINT: [command]})
        assert crowd.waiting == [command]


# -- cells -------------------------------------------------------------------------------------------------------------


def cell(switch: Switch, name: str, index: int, value: int) -> Write:
    info = switch.codec.program.registers
    number = array_index(info, name)
    return Command.REGISTER_WRITE, struct.pack("<II", number, index) + switch.codec.cell(info[number], value)


def fill(switch: Switch, name: str, value: int) -> Write:
    info = switch.codec.program.registers
    number = array_index(info, name)
    return Command.REGISTER_FILL, struct.pack("<I", number) + switch.codec.cell(info[number], value)


def look_at_cells(switch: Switch) -> list[Any]:
    """What a packet found in each cell, and wrote back; what a reader finds."""
    found: list[Any] = [send(switch, 11, x=n)[0][2]["y"] for n in range(8)]
    for name in ("cells", "bits"):
        number = array_index(switch.codec.program.registers, name)
        found.append(switch.overtake(Command.REGISTER_READ, struct.pack("<III", number, 0, 8)))
    return found


Cell = tuple[str, int, int]  # register, index (8: all of them), value
cells = st.tuples(st.sampled_from(["cells", "bits"]), st.integers(0, 8), st.integers(0, 1))


def encoded(switch: Switch, item: Cell) -> Write:
    name, index, value = item
    value = value if name == "bits" else value + 10 * index
    return fill(switch, name, value) if index == 8 else cell(switch, name, index, value)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(cells, max_size=8),
    st.lists(cells, max_size=10),
    st.dictionaries(st.integers(1, 12), st.lists(cells, min_size=1, max_size=2), min_size=1, max_size=3),
    st.booleans(),
)
def test_cells_have_an_order(base: list[Cell], row: list[Cell], others: dict[int, list[Cell]], fails: bool) -> None:
    """Also of a batch whose last update is refused; and what overtakes never waits."""
    with Crowd("fate", look_at_cells) as crowd:
        switch = crowd.switch
        first = [encoded(switch, item) for item in base]
        for command in first:
            switch.command(*command)
        whole = batch([encoded(switch, item) for item in row] + [(Command.METER_WRITE, b"")] * fails)
        command = (int(Command.BATCH), whole)
        found = crowd.run(command, {at: [encoded(switch, item) for item in items] for at, items in others.items()})
        assert not crowd.waiting
        assert any(answers == [found] for answers in crowd.orders(first, [command]))


@pytest.mark.parametrize("op", ["fill", "read"])
def test_an_array_that_is_read_or_filled_is_left_alone(op: str) -> None:
    """Two writes of one client, the first into what is yet to be filled, would look as if they had changed places."""
    seen: list[tuple[bytes | None, ...]] = []
    with Switch(compile_program(STEERING), breathe=lambda: seen.append(middle())) as switch:
        registers = switch.codec.program.registers
        number = array_index(registers, "failover")
        other = next(i for i, register in enumerate(registers) if i != number and register.size > 1)
        size = registers[number].size

        def middle() -> tuple[bytes | None, ...]:
            return switch.overtake(*cell(switch, "failover", 0, 1)), switch.overtake(
                Command.REGISTER_READ, struct.pack("<III", other, 0, 2)
            )

        if op == "fill":
            switch.command(*fill(switch, "failover", 0))
        else:
            switch.command(Command.REGISTER_READ, struct.pack("<III", number, 0, size))
        assert seen
        assert all(written is None and found is not None for written, found in seen)
        assert switch.register_read(number, 0, 1) == [0]


def test_what_overtakes_is_not_overtaken() -> None:
    found: list[bytes | None] = []
    depth = [0]

    def breathe() -> None:
        if not busy[0] or depth[0] > 2:
            return
        depth[0] += 1
        found.append(switch.overtake(*one(switch, EXACT)))
        depth[0] -= 1

    busy = [False]
    with Switch(compiled("tables"), breathe=breathe) as switch:
        busy[0] = True
        assert switch.table_write([update(switch, *PREFIX)], atomic=False)[0] is Code.OK
        busy[0] = False
        assert None in found
        assert b"\0" in found
