"""Every match kind against a naive model, through whole packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Code, MemberRef, Op
from engine.library import Switch
from tests.engine.engine_support import (
    action_of,
    array_index,
    ask,
    compiled,
    match_of,
    read,
    table_index,
    update,
    write,
)

MISSED = 0xFFFFFFFF
TOUCHED = ("exact16", "lpm32")


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch(compiled("tables")) as made:
        yield made


def fresh() -> Switch:
    return Switch(compiled("tables"))


# -- longest prefix match --------------------------------------------------------------------------------------------


def covers(value: int, length: int, width: int, wanted: int) -> bool:
    return value >> (width - length) == wanted >> (width - length)


@st.composite
def prefix(draw: st.DrawFn, width: int) -> tuple[int, int]:
    """Few distinct top bits, so that prefixes nest."""
    length = draw(st.integers(0, width))
    value = draw(st.sampled_from([0, 1 << (width - 1), 0xA5 << (width - 8), (1 << width) - 1]))
    value ^= draw(st.integers(0, 7)) << draw(st.integers(0, width - 3))
    return value >> (width - length) << (width - length), length


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["insert", "modify", "delete"]), prefix(32), st.integers(1, 1 << 30)), max_size=40
    ),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=10),
)
def test_lpm_follows_the_longest_prefix(steps: list[tuple[str, tuple[int, int], int]], extra: list[int]) -> None:
    model: dict[tuple[int, int], int] = {}
    with fresh() as switch:
        for what, key, value in steps:
            op = {"insert": Op.INSERT, "modify": Op.MODIFY, "delete": Op.DELETE}[what]
            code = write(switch, op, "lpm32", {"a": key}, None if what == "delete" else ("reply", value))
            present = key in model
            if what == "insert":
                assert code is (Code.ALREADY_EXISTS if present else Code.OK)
            else:
                assert code is (Code.OK if present else Code.NOT_FOUND)
            if code is Code.OK:
                if what == "delete":
                    del model[key]
                else:
                    model[key] = value
        targets = extra + [v for v, _l in model] + [v ^ 1 for v, _l in model] + [v | 0xFFF for v, _l in model]
        for target in targets:
            best = max((k for k in model if covers(*k, 32, target)), key=lambda k: k[1], default=None)
            assert ask(switch, op=2, a=target) == (MISSED if best is None else model[best])
        found = {(int.from_bytes(e.key[0].value, "big"), e.key[0].prefix_len) for e in read(switch, "lpm32")}
        assert found == set(model)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(prefix(128), st.integers(0, 3)), min_size=1, max_size=25, unique=True))
def test_lpm_after_an_exact_field(entries: list[tuple[tuple[int, int], int]]) -> None:
    with fresh() as switch:
        for n, (key, odd) in enumerate(entries):
            assert write(switch, Op.INSERT, "lpm128", {"wide": key, "odd": odd}, ("reply", n)) is Code.OK
        for (value, _length), odd in entries:
            for target in (value, value ^ 1, value | 0xFFFF << 40):
                fits = [(k[1], n) for n, (k, o) in enumerate(entries) if o == odd and covers(*k, 128, target)]
                assert ask(switch, op=3, wide=target, odd=odd) == (max(fits)[1] if fits else MISSED)


def test_lpm_of_a_width_off_the_byte(switch: Switch) -> None:
    for length in range(13):
        value = 0xABC >> (12 - length) << (12 - length)
        assert write(switch, Op.INSERT, "lpm_odd", {"odd": (value, length), "b": 7}, ("reply", length)) is Code.OK
    for length in range(12):
        assert ask(switch, op=4, odd=0xABC ^ 1 << (11 - length), b=7) == length
    assert ask(switch, op=4, odd=0xABC, b=7) == 12
    assert ask(switch, op=4, odd=0xABC, b=8) == MISSED
    assert sorted(e.key[0].prefix_len for e in read(switch, "lpm_odd")) == list(range(13))


def test_deleting_a_short_prefix_uncovers_the_next(switch: Switch) -> None:
    for length in (0, 4, 8, 14, 15, 20, 26, 27, 32):
        key = (0x0A0B0C0D >> (32 - length) << (32 - length), length)
        assert write(switch, Op.INSERT, "lpm32", {"a": key}, ("reply", length)) is Code.OK
    for length, under in ((32, 27), (26, 27), (27, 20), (14, 20), (20, 15), (15, 8), (8, 4), (4, 0)):
        key = (0x0A0B0C0D >> (32 - length) << (32 - length), length)
        assert write(switch, Op.DELETE, "lpm32", {"a": key}) is Code.OK
        assert ask(switch, op=2, a=0x0A0B0C0D) == under


# -- ternary, range, optional ----------------------------------------------------------------------------------------

MASKS = st.sampled_from([0, 0xFF000000, 0xFFFFFFFF, 0x0000FF00, 0xF0F0F0F0])


@st.composite
def mixed_entry(draw: st.DrawFn) -> dict[str, Any]:
    mask = draw(MASKS)
    low = draw(st.integers(0, 20))
    length = draw(st.sampled_from([0, 1, 64, 127, 128]))
    return {
        "a": (draw(st.sampled_from([0, 0x0A000000, 0x0A0B0C0D, 0xFFFFFFFF])) & mask, mask),
        "b": (low, low + draw(st.integers(0, 5))),
        "odd": draw(st.sampled_from([None, 0, 0xABC])),
        "wide": (draw(st.sampled_from([0, (1 << 128) - 1])) >> (128 - length) << (128 - length), length),
        "rest": draw(st.integers(0, 1)),
    }


def fits(entry: dict[str, Any], packet: dict[str, int]) -> bool:
    (a, mask), (low, high), (wide, length) = entry["a"], entry["b"], entry["wide"]
    return (
        packet["a"] & mask == a
        and low <= packet["b"] <= high
        and entry["odd"] in (None, packet["odd"])
        and covers(wide, length, 128, packet["wide"])
        and entry["rest"] == packet["rest"]
    )


@settings(max_examples=80, deadline=None)
@given(
    st.lists(mixed_entry(), min_size=1, max_size=20),
    st.data(),
)
def test_ternary_takes_the_highest_priority(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    priorities = data.draw(st.permutations(range(1, len(entries) + 1)))
    dead = data.draw(st.sets(st.integers(0, len(entries) - 1)))
    with fresh() as switch:
        for n, (entry, priority) in enumerate(zip(entries, priorities, strict=True)):
            assert write(switch, Op.INSERT, "mixed", entry, ("reply", n), priority) is Code.OK
        for n in dead:
            assert write(switch, Op.DELETE, "mixed", entries[n], None, priorities[n]) is Code.OK
        for _ in range(10):
            near = data.draw(st.sampled_from(entries))
            packet = {
                "a": near["a"][0] | data.draw(st.sampled_from([0, 1, 0x00FF0000])),
                "b": data.draw(st.integers(near["b"][0], near["b"][1] + 1)),
                "odd": data.draw(st.sampled_from([0, 0xABC, 1])),
                "wide": near["wide"][0] | data.draw(st.sampled_from([0, 1])),
                "rest": near["rest"],
            }
            hits = [
                (p, n)
                for n, (e, p) in enumerate(zip(entries, priorities, strict=True))
                if n not in dead and fits(e, packet)
            ]
            assert ask(switch, op=5, **packet) == (max(hits)[1] if hits else MISSED)
        table = table_index(switch.codec.program, "mixed")
        found = {(e.priority, e.key) for e in switch.table_read(table)}
        info = switch.codec.program.tables[table].key
        wanted = set()
        for n, (entry, priority) in enumerate(zip(entries, priorities, strict=True)):
            if n not in dead:
                wanted.add((priority, tuple(match_of(f.kind, f.width, entry[f.name]) for f in info)))
        assert found == wanted


def test_same_match_with_another_priority_is_another_entry(switch: Switch) -> None:
    key = {"a": (1, 1), "rest": 0}
    assert write(switch, Op.INSERT, "mixed", key, ("reply", 1), 5) is Code.OK
    assert write(switch, Op.INSERT, "mixed", key, ("reply", 2), 5) is Code.ALREADY_EXISTS
    assert write(switch, Op.INSERT, "mixed", key, ("reply", 2), 6) is Code.OK
    assert ask(switch, op=5, a=1) == 2
    assert write(switch, Op.MODIFY, "mixed", key, ("reply", 3), 6) is Code.OK
    assert ask(switch, op=5, a=1) == 3
    assert write(switch, Op.DELETE, "mixed", key, None, 6) is Code.OK
    assert ask(switch, op=5, a=1) == 1


def test_constant_entries_and_their_order(switch: Switch) -> None:
    assert ask(switch, op=6, a=0x0A000001, b=12) == 1
    assert ask(switch, op=6, a=0x0A000001, b=30) == 2
    assert ask(switch, op=6, a=0x0B000001, b=12) == 3
    assert ask(switch, op=6, a=0x0B000001, b=30) == MISSED
    assert write(switch, Op.INSERT, "constant", {"a": 1}, ("reply", 9), 1) is Code.FAILED_PRECONDITION
    assert len(read(switch, "constant")) == 3


# -- exact -----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.tuples(st.integers(0, (1 << 128) - 1), st.integers(0, 4095)), st.integers(0, 99), max_size=40)
)
def test_exact_wide_keys(entries: dict[tuple[int, int], int]) -> None:
    with fresh() as switch:
        for (wide, odd), value in entries.items():
            assert write(switch, Op.INSERT, "exact_wide", {"wide": wide, "odd": odd}, ("reply", value)) is Code.OK
        for (wide, odd), value in entries.items():
            assert ask(switch, op=1, wide=wide, odd=odd) == value
            assert ask(switch, op=1, wide=wide ^ 1 << 77, odd=odd) == entries.get((wide ^ 1 << 77, odd), MISSED)
        for wide, odd in list(entries)[::2]:
            assert write(switch, Op.DELETE, "exact_wide", {"wide": wide, "odd": odd}) is Code.OK
            assert ask(switch, op=1, wide=wide, odd=odd) == MISSED
        for (wide, odd), value in list(entries.items())[1::2]:
            assert ask(switch, op=1, wide=wide, odd=odd) == value


def test_wide_action_parameters(switch: Switch) -> None:
    value = 0x0123456789ABCDEF_FEDCBA9876543210
    assert write(switch, Op.INSERT, "exact16", {"b": 65535}, ("reply_wide", value)) is Code.OK
    assert ask(switch, op=0, b=65535) == 1
    (entry,) = read(switch, "exact16")
    assert entry.action == update(switch, Op.INSERT, "exact16", {"b": 1}, ("reply_wide", value)).action


# -- writes ----------------------------------------------------------------------------------------------------------


def test_atomic_batch_leaves_no_trace(switch: Switch) -> None:
    assert write(switch, Op.INSERT, "lpm32", {"a": (0, 0)}, ("reply", 1)) is Code.OK
    assert write(switch, Op.INSERT, "exact16", {"b": 1}, ("reply", 2)) is Code.OK
    before = [read(switch, t) for t in TOUCHED]
    batch = [
        update(switch, Op.MODIFY, "lpm32", {"a": (0, 0)}, ("reply", 7)),
        update(switch, Op.DELETE, "exact16", {"b": 1}),
        update(switch, Op.INSERT, "exact16", {"b": 1}, ("reply", 8)),
        update(switch, Op.INSERT, "lpm32", {"a": (1, 32)}, ("reply", 9)),
        update(switch, Op.MODIFY, "lpm32", {}, ("reply", 10)),
        update(switch, Op.DELETE, "exact16", {"b": 77}),
        update(switch, Op.INSERT, "exact16", {"b": 3}, ("reply", 8)),
    ]
    codes = switch.table_write(batch, atomic=True)
    assert codes == [Code.ABORTED] * 5 + [Code.NOT_FOUND, Code.ABORTED]
    assert [read(switch, t) for t in TOUCHED] == before
    assert (ask(switch, op=2, a=1), ask(switch, op=0, b=1), ask(switch, op=0, b=3)) == (1, 2, MISSED)
    assert switch.table_write(batch[:5], atomic=True) == [Code.OK] * 5
    assert (ask(switch, op=2, a=1), ask(switch, op=2, a=2), ask(switch, op=0, b=1)) == (9, 7, 8)


def test_a_batch_goes_on_after_an_error(switch: Switch) -> None:
    codes = switch.table_write(
        [
            update(switch, Op.DELETE, "exact16", {"b": 1}),
            update(switch, Op.INSERT, "exact16", {"b": 1}, ("reply", 4)),
        ]
    )
    assert codes == [Code.NOT_FOUND, Code.OK]
    assert ask(switch, op=0, b=1) == 4


def test_full_table(switch: Switch) -> None:
    profile = array_index(switch.codec.program.profiles, "profile")
    table = table_index(switch.codec.program, "member")
    for b in range(64):
        switch.member_write(Op.INSERT, profile, b, action_of(switch.codec.program, table, "chosen", b))
        assert write(switch, Op.INSERT, "member", {"b": b}, MemberRef(b)) is Code.OK
    assert write(switch, Op.INSERT, "member", {"b": 64}, MemberRef(0)) is Code.RESOURCE_EXHAUSTED
    assert ask(switch, op=7, b=63) == 63


def test_wrong_updates(switch: Switch) -> None:
    good = update(switch, Op.INSERT, "exact16", {"b": 1}, ("reply", 1))
    wrong: list[tuple[dict[str, Any], Code]] = [
        ({"table": 99}, Code.NOT_FOUND),
        ({"key": (good.key[0], good.key[0])}, Code.INVALID_ARGUMENT),
        ({"priority": 3}, Code.INVALID_ARGUMENT),
        ({"action": None}, Code.INVALID_ARGUMENT),
        ({"action": MemberRef(1)}, Code.INVALID_ARGUMENT),
        ({"idle_timeout_ns": 5}, Code.INVALID_ARGUMENT),
    ]
    for change, code in wrong:
        assert switch.table_write([replace(good, **change)]) == [code], change
    assert write(switch, Op.MODIFY, "exact16", {}, ("reply", 1)) is Code.FAILED_PRECONDITION
    assert write(switch, Op.MODIFY, "lpm32", {}, ("reply", 5)) is Code.OK
    assert ask(switch, op=2) == 5
    assert write(switch, Op.DELETE, "lpm32", {}) is Code.OK
    assert ask(switch, op=2) == MISSED


def test_reads_come_in_chunks_and_by_key(switch: Switch) -> None:
    batch = [update(switch, Op.INSERT, "exact16", {"b": b}, ("reply", b)) for b in range(10_000)]
    assert set(switch.table_write(batch)) == {Code.OK}
    assert len(read(switch, "exact16")) == 10_000
    (one,) = switch.table_read(batch[1234].table, key=batch[1234].key)
    assert one.action == batch[1234].action
    switch.reset()
    assert read(switch, "exact16") == []
