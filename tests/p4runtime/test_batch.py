"""What the native data plane does for P4Runtime: batches, backup replicas, classes of service, masks in value sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.api import Code, GroupMember, GroupRef, MemberRef, Op
from engine.codec import BACKUP, Command
from engine.library import Switch
from tests.engine.engine_support import action_of, compiled, table_index, update
from tests.engine.test_fate import send


@pytest.fixture
def fate() -> Iterator[Switch]:
    with Switch(compiled("fate")) as made:
        yield made


def recorded(switch: Switch, *calls: Any) -> list[tuple[int, bytes]]:
    """The commands that calls would send."""
    out: list[tuple[int, bytes]] = []

    def command(op: int, payload: bytes) -> bytes:
        out.append((op, payload))
        return b"\0" if op == Command.TABLE_WRITE else bytes(8)

    switch.command = command  # type: ignore[method-assign]
    try:
        for call in calls:
            call()
    finally:
        del switch.command
    return out


def ports(switch: Switch, group: int = 7) -> list[tuple[int, int]]:
    return [(port, mark["rid"]) for port, mark, _op, _payload in send(switch, 2, x=group)]


def test_a_backup_stands_in_for_a_port_that_is_down(fate: Switch) -> None:
    fate.multicast_write(Op.INSERT, 7, [(3, 1), (4, 2), (5 | BACKUP, 6), (6 | BACKUP, 7)])
    assert ports(fate) == [(3, 1), (4, 2)]
    fate.port_status(4, False)
    assert ports(fate) == [(3, 1), (5, 6)]
    fate.port_status(5, False)
    assert ports(fate) == [(3, 1), (6, 7)]
    fate.port_status(6, False)
    assert ports(fate) == [(3, 1), (4, 2)], "without any, the replica goes to its own port, where it is lost"
    fate.port_status(5, True)
    assert ports(fate) == [(3, 1), (5, 6)]
    fate.port_status(4, True)
    assert ports(fate) == [(3, 1), (4, 2)]
    assert fate.multicast_read() == {7: [(3, 1), (4, 2), (5 | BACKUP, 6), (6 | BACKUP, 7)]}
    fate.port_status(3, False)
    fate.multicast_write(Op.MODIFY, 7, [(3, 1), (8 | BACKUP, 9)])
    assert ports(fate) == [(8, 9)], "a port that was down before"


def test_replication_that_makes_no_sense_is_refused(fate: Switch) -> None:
    from engine.api import DatapathError

    with pytest.raises(DatapathError) as caught:
        fate.multicast_write(Op.INSERT, 7, [(3 | BACKUP, 1)])
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(DatapathError):
        fate.clone_write(Op.INSERT, 5, [(3, 1)], 0, 8)


def all_state(switch: Switch) -> Any:
    program = switch.codec.program
    return (
        [switch.table_read(i) for i, table in enumerate(program.tables) if table.key],
        [switch.member_read(i) for i in range(len(program.profiles))],
        [switch.group_read(i) for i, profile in enumerate(program.profiles) if profile.with_selector],
        [switch.register_read(i, 0, min(array.size, 64)) for i, array in enumerate(program.registers)],
        [switch.counter_read(i, 0, min(array.size, 64)) for i, array in enumerate(program.counters) if array.size],
        [switch.meter_read(i, 0, array.size) for i, array in enumerate(program.meters) if array.size],
        switch.multicast_read(),
        switch.clone_read(),
    )


@pytest.fixture
def steering() -> Iterator[Switch]:
    from engine.library import compile_program
    from tests.engine.engine_support import STEERING

    with Switch(compile_program(STEERING)) as made:
        yield made


def profile_entry(switch: Switch, op: Op, number: int, action: Any) -> Any:
    changed = update(switch, op, "balance", {"balance_id": number}, action)
    return lambda: switch.table_write([changed])


def test_a_batch_of_everything_is_applied_or_undone(steering: Switch) -> None:
    switch = steering
    balance = table_index(switch.codec.program, "balance")
    call = action_of(switch.codec.program, balance, "set_group", 3)
    other = action_of(switch.codec.program, balance, "set_group", 4)
    empty = all_state(switch)
    setup = recorded(
        switch,
        lambda: switch.member_write(Op.INSERT, 0, 1, call),
        lambda: switch.member_write(Op.INSERT, 0, 2, other),
        lambda: switch.group_write(Op.INSERT, 0, 5, [GroupMember(1), GroupMember(2, 3, 7)]),
        profile_entry(switch, Op.INSERT, 1, GroupRef(5)),
        profile_entry(switch, Op.INSERT, 2, MemberRef(1)),
        lambda: switch.register_write(0, 3, 1),
        lambda: switch.counter_write(2, 1, 10, 1000),
        lambda: switch.multicast_write(Op.INSERT, 1, [(1, 1), (2 | BACKUP, 1)]),
        lambda: switch.clone_write(Op.INSERT, 1, [(1, 1)], 100, 3),
    )
    assert switch.batch(setup) is None
    full = all_state(switch)
    assert full != empty
    changes = recorded(
        switch,
        profile_entry(switch, Op.MODIFY, 1, MemberRef(2)),
        profile_entry(switch, Op.DELETE, 2, None),
        lambda: switch.group_write(Op.MODIFY, 0, 5, [GroupMember(2)]),
        lambda: switch.member_write(Op.DELETE, 0, 1, None),
        lambda: switch.member_write(Op.MODIFY, 0, 2, call),
        lambda: switch.member_write(Op.INSERT, 0, 9, call),
        lambda: switch.group_write(Op.DELETE, 0, 5, []),
        lambda: switch.group_write(Op.INSERT, 0, 6, [GroupMember(9)]),
        profile_entry(switch, Op.INSERT, 3, GroupRef(6)),
        lambda: switch.register_write(0, 3, 0),
        lambda: switch.register_fill(0, 1),
        lambda: switch.counter_write(2, 1, 0, 0),
        lambda: switch.multicast_write(Op.MODIFY, 1, [(9, 9)]),
        lambda: switch.clone_write(Op.DELETE, 1, []),
    )
    for cut in range(len(changes) + 1):  # whatever has been done before the error is undone
        bad = recorded(switch, lambda: switch.clone_write(Op.DELETE, 99, []))
        failed = switch.batch([*changes[:cut], *bad])
        assert failed is not None and failed[:2] == (cut, Code.NOT_FOUND) and "99" in failed[2]
        assert all_state(switch) == full, cut
    assert switch.batch(changes) is None
    done = all_state(switch)
    assert done != full
    assert switch.member_read(0) == {2: call, 9: call}
    assert switch.group_read(0) == {6: [GroupMember(9)]}


def test_only_writes_fit_a_batch(steering: Switch) -> None:
    assert steering.batch([(Command.RESET, b"")]) is not None
    assert steering.batch([(Command.BATCH, b"\0\0\0\0")]) is not None
    assert steering.batch([]) is None
    from engine.api import DatapathError

    with pytest.raises(DatapathError):
        steering.command(Command.BATCH, b"\xff\xff\xff\xff")


def test_clones_are_served_in_their_class(fate: Switch) -> None:
    from tests.engine.engine_support import pack
    from tests.engine.test_fate import OP as HEADER

    fate.clone_write(Op.INSERT, 5, [(8, 3)], 0, 6)
    sent = fate.process_sent(1, pack(HEADER, {"op": 3, "x": 5}), 0)
    assert [(one.port, one.priority) for one in sent] == [(8, 6), (2, 0)]
    assert fate.clone_read() == {5: (0, [(8, 3)])}
