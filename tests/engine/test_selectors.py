"""Action profiles and selectors: members, groups, weights, watched ports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from engine.api import ActionCall, Code, DatapathError, GroupMember, GroupRef, MemberRef, Op
from engine.library import Switch, compile_program
from tests.engine.engine_support import action_of, array_index, ask, compiled, read, source, table_index, write
from tests.engine.test_fate import crc16

MISSED = 0xFFFFFFFF


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch(compiled("tables")) as made:
        yield made


def chosen(switch: Switch, table: str, value: int) -> ActionCall:
    info = switch.codec.program
    return action_of(info, table_index(info, table), "chosen", value)


def selector(switch: Switch) -> int:
    return array_index(switch.codec.program.profiles, "selector")


def fill(switch: Switch, members: list[GroupMember]) -> None:
    for member in members:
        switch.member_write(Op.INSERT, selector(switch), member.member, chosen(switch, "group", member.member))
    switch.group_write(Op.INSERT, selector(switch), 1, members)
    assert write(switch, Op.INSERT, "group", {"b": 5}, GroupRef(1)) is Code.OK


def test_members_of_a_profile(switch: Switch) -> None:
    profile = array_index(switch.codec.program.profiles, "profile")
    switch.member_write(Op.INSERT, profile, 9, chosen(switch, "member", 90))
    assert write(switch, Op.INSERT, "member", {"b": 1}, MemberRef(9)) is Code.OK
    assert write(switch, Op.INSERT, "member", {"b": 2}, MemberRef(9)) is Code.OK
    assert write(switch, Op.INSERT, "member", {"b": 3}, MemberRef(8)) is Code.NOT_FOUND
    assert (ask(switch, op=7, b=1), ask(switch, op=7, b=2), ask(switch, op=7, b=3)) == (90, 90, 0)
    switch.member_write(Op.MODIFY, profile, 9, chosen(switch, "member", 91))
    assert ask(switch, op=7, b=2) == 91
    with pytest.raises(DatapathError) as caught:
        switch.member_write(Op.DELETE, profile, 9, None)
    assert caught.value.code is Code.FAILED_PRECONDITION
    for b in (1, 2):
        assert write(switch, Op.DELETE, "member", {"b": b}) is Code.OK
    switch.member_write(Op.DELETE, profile, 9, None)
    assert switch.member_read(profile) == {}


def test_the_hash_of_the_selector_fields_picks_the_member(switch: Switch) -> None:
    members = [GroupMember(n) for n in (30, 10, 20)]
    fill(switch, members)
    order = sorted(m.member for m in members)  # as BMv2: by member handle
    for a in range(200):
        for odd in (0, 0xABC):
            data = (a << 12 | odd).to_bytes(6, "big")  # 44 bits, left-aligned in 6 bytes
            data = (int.from_bytes(data, "big") << 4).to_bytes(6, "big")
            assert ask(switch, op=8, a=a, odd=odd, b=5) == order[crc16(data) % 3]
    assert ask(switch, op=8, a=1, b=6) == MISSED


def test_the_low_half_of_a_long_hash_picks_the_member() -> None:
    """``identity`` has 64 bits, BMv2's choice 32."""
    data = source("tables")
    profile = next(p for p in data["pipelines"][0]["action_profiles"] if "selector" in p)
    profile["selector"] = {"algo": "identity", "input": [{"type": "field", "value": ["probe", "wide"]}]}
    with Switch(compile_program(data, flags=("-O1",))) as switch:
        fill(switch, [GroupMember(n) for n in (30, 10, 20)])
        for high, low in ((0, 4), (1, 4), (2, 4), (0xFFFFFFFF, 5), (7, 0xFFFFFFFF)):
            wide = (high << 32 | low) << 64 | 77  # of which identity takes the first eight bytes
            assert ask(switch, op=8, wide=wide, b=5) == (10, 20, 30)[low % 3]


def test_weights(switch: Switch) -> None:
    fill(switch, [GroupMember(1, weight=1), GroupMember(2, weight=3)])
    seen = Counter(ask(switch, op=8, a=a * 7919, b=5) for a in range(4000))
    assert set(seen) == {1, 2}
    assert 2.5 < seen[2] / seen[1] < 3.5


def test_a_member_whose_port_is_down_gets_nothing(switch: Switch) -> None:
    fill(switch, [GroupMember(1, watch_port=3), GroupMember(2, watch_port=4), GroupMember(3)])

    def used() -> set[int]:
        return {ask(switch, op=8, a=a, b=5) for a in range(300)}

    assert used() == {1, 2, 3}
    switch.port_status(3, up=False)
    assert used() == {2, 3}
    switch.port_status(4, up=False)
    assert used() == {3}
    switch.group_write(Op.MODIFY, selector(switch), 1, [GroupMember(1, watch_port=3)])
    assert used() == {0}  # hit, but nobody to choose: no action runs
    switch.port_status(3, up=True)
    assert used() == {1}
    assert switch.group_read(selector(switch)) == {1: [GroupMember(1, 1, 3)]}


def test_group_errors(switch: Switch) -> None:
    profile = selector(switch)
    fill(switch, [GroupMember(1)])
    for call, code in (
        (lambda: switch.group_write(Op.INSERT, profile, 1, []), Code.ALREADY_EXISTS),
        (lambda: switch.group_write(Op.INSERT, profile, 2, [GroupMember(77)]), Code.NOT_FOUND),
        (lambda: switch.group_write(Op.INSERT, profile, 2, [GroupMember(1), GroupMember(1)]), Code.INVALID_ARGUMENT),
        (lambda: switch.group_write(Op.INSERT, profile, 2, [GroupMember(1, weight=0)]), Code.INVALID_ARGUMENT),
        (lambda: switch.group_write(Op.DELETE, profile, 1, []), Code.FAILED_PRECONDITION),
        (lambda: switch.group_write(Op.MODIFY, profile, 3, []), Code.NOT_FOUND),
        (lambda: switch.member_write(Op.DELETE, profile, 1, None), Code.FAILED_PRECONDITION),
        (lambda: switch.member_write(Op.INSERT, 99, 1, chosen(switch, "group", 1)), Code.INVALID_ARGUMENT),
    ):
        with pytest.raises(DatapathError) as caught:
            call()
        assert caught.value.code is code
    assert [entry.action for entry in read(switch, "group")] == [GroupRef(1)]


def test_direct_and_indirect_counters(switch: Switch) -> None:
    info = switch.codec.program
    assert write(switch, Op.INSERT, "lpm128", {"odd": 1, "wide": (0, 0)}, ("reply", 4)) is Code.OK
    for _ in range(3):
        assert ask(switch, op=3, odd=1) == 4
    (entry,) = read(switch, "lpm128")
    size = 29  # bytes of the probe
    assert (entry.packets, entry.bytes) == (3, 3 * size)
    switch.direct_counter_write(entry.table, entry.key, 0, 100, 200)
    assert write(switch, Op.MODIFY, "lpm128", {"odd": 1, "wide": (0, 0)}, ("reply", 5)) is Code.OK
    ask(switch, op=3, odd=1)
    (entry,) = read(switch, "lpm128")
    assert (entry.packets, entry.bytes) == (101, 200 + size)
    counter = array_index(info.counters, "by_index")
    assert switch.counter_read(counter, 3) == [(4, 4 * size)]
    switch.counter_write(counter, 3, 1, 2)
    assert switch.counter_read(counter, 2, 2) == [(0, 0), (1, 2)]
    ask(switch, op=200)  # index beyond the array: counted nowhere
    with pytest.raises(DatapathError):
        switch.counter_read(counter, 16)
