"""Ranges over numbers of more than 128 bits against a naive model, through whole packets, and read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Code, Match, Op, TableUpdate
from engine.library import Switch
from tests.engine.engine_support import action_of, compiled, pack, read, table_index, unpack, update, write

PROBE = (("op", 8), ("a", 200), ("odd", 133), ("rest", 3), ("b", 16), ("huge", 512), ("answer", 32))
WIDTHS = dict(PROBE)
MISSED = 0xFFFFFFFF
Bounds = dict[str, tuple[int, int]]


def ask(switch: Switch, **values: int) -> int:
    ((port, data),) = switch.process(1, pack(PROBE, values), 0)
    assert port == 1
    return unpack(PROBE, data)["answer"]


def numbers(width: int) -> st.SearchStrategy[int]:
    """Near the edges of 64-bit words, where a comparison word by word goes wrong, and anywhere."""
    edges = sorted({0, (1 << width) - 1, *(1 << bit for bit in range(0, width, 64)), 1 << (width - 1)})
    near = st.tuples(st.sampled_from(edges), st.integers(-2, 2)).map(lambda pair: (pair[0] + pair[1]) % (1 << width))
    return st.one_of(near, st.integers(0, (1 << width) - 1))


def bounds(width: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(numbers(width), numbers(width)).map(lambda pair: (min(pair), max(pair)))


def targets(entries: list[Bounds], name: str, extra: int) -> list[int]:
    """Each bound, its neighbours, and one more value."""
    top = (1 << WIDTHS[name]) - 1
    ends = {end + off for entry in entries for end in entry[name] for off in (-1, 0, 1)}
    return sorted(value for value in {*ends, extra} if 0 <= value <= top)


@settings(max_examples=60, deadline=None)
@given(st.lists(bounds(200), min_size=1, max_size=8, unique=True), numbers(200))
def test_a_wide_range_alone(entries: list[tuple[int, int]], extra: int) -> None:
    with Switch(compiled("ranges")) as switch:
        for number, (low, high) in enumerate(entries):
            assert write(switch, Op.INSERT, "alone", {"a": (low, high)}, ("reply", number), number + 1) is Code.OK
        for value in targets([{"a": one} for one in entries], "a", extra):
            matching = [number for number, (low, high) in enumerate(entries) if low <= value <= high]
            assert ask(switch, op=0, a=value) == (max(matching) if matching else MISSED)
        found = {(e.key[0].value, e.key[0].high, e.priority) for e in read(switch, "alone")}
        wanted = {(low.to_bytes(25, "big"), high.to_bytes(25, "big"), n + 1) for n, (low, high) in enumerate(entries)}
        assert found == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(bounds(16), bounds(133), bounds(512)), min_size=1, max_size=6),
    st.data(),
)
def test_wide_ranges_beside_narrow_ones(rows: list[tuple[tuple[int, int], ...]], data: st.DataObject) -> None:
    entries: list[Bounds] = [dict(zip(("b", "odd", "huge"), row, strict=True)) for row in rows]
    with Switch(compiled("ranges")) as switch:
        for number, entry in enumerate(entries):
            keys: dict[str, Any] = {**entry, "rest": (number % 2, 1)}
            assert write(switch, Op.INSERT, "mixed", keys, ("reply", number), number + 1) is Code.OK
        for _ in range(12):
            values = {name: data.draw(st.sampled_from(targets(entries, name, 0))) for name in ("b", "odd", "huge")}
            values["rest"] = data.draw(st.integers(0, 7))
            matching = [
                number
                for number, entry in enumerate(entries)
                if values["rest"] % 2 == number % 2
                and all(low <= values[name] <= high for name, (low, high) in entry.items())
            ]
            assert ask(switch, op=1, **values) == (max(matching) if matching else MISSED)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        (4, 1, 2),
        (5, 1, 1),
        (1 << 159, 1, 1),
        ((1 << 159) + 1, 1, 2),
        ((1 << 168) - 1, 1, 2),
        (1 << 168, 1, MISSED),
        (7, 2, 3),
        (8, 2, MISSED),
        (7 | 1 << 199, 2, MISSED),
    ],
)
def test_const_entries(a: int, b: int, answer: int) -> None:
    with Switch(compiled("ranges")) as switch:
        assert ask(switch, op=2, a=a, b=b) == answer


def test_entries_are_found_again_and_wrong_ones_refused() -> None:
    with Switch(compiled("ranges")) as switch:
        wide = (1 << 130, 1 << 199)
        assert write(switch, Op.INSERT, "alone", {"a": wide}, ("reply", 1), 1) is Code.OK
        assert write(switch, Op.INSERT, "alone", {"a": wide}, ("reply", 2), 1) is Code.ALREADY_EXISTS
        assert write(switch, Op.MODIFY, "alone", {"a": wide}, ("reply", 2), 1) is Code.OK
        assert ask(switch, op=0, a=1 << 199) == 2
        assert write(switch, Op.DELETE, "alone", {"a": (1 << 130, 1 << 198)}, None, 1) is Code.NOT_FOUND
        assert write(switch, Op.DELETE, "alone", {"a": wide}, None, 1) is Code.OK
        assert ask(switch, op=0, a=1 << 199) == MISSED
        turned = update(switch, Op.INSERT, "alone", {"a": (wide[1], wide[0])}, ("reply", 1), 1)
        assert switch.table_write([turned]) == [Code.INVALID_ARGUMENT]
        table = table_index(switch.codec.program, "alone")
        short = Match(bytes(24), high=bytes(25))
        call = action_of(switch.codec.program, table, "reply", 1)
        assert switch.table_write([TableUpdate(Op.INSERT, table, (short,), call, 1)]) == [Code.INVALID_ARGUMENT]
