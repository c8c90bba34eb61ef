"""State that belongs to entries: direct meters, idle time-outs; and log messages, very wide registers."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from engine.api import Code, DatapathError, Event, IdleTimeout, Op, TableUpdate
from engine.library import Switch
from tests.engine.engine_support import action_of, compiled, key_of, pack, table_index, unpack, update, write

PROBE = (("op", 8), ("a", 32), ("colour", 8), ("packets", 8))
SECOND = 1_000_000_000
GREEN, YELLOW, RED = range(3)


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch(compiled("meters")) as made:
        yield made


def send(switch: Switch, op: int, a: int, now_ns: int = 0, payload: bytes = b"") -> dict[str, int]:
    ((_port, data),) = switch.process(1, pack(PROBE, {"op": op, "a": a}) + payload, now_ns)
    return unpack(PROBE, data)


def configure(switch: Switch, table: str, a: object, config: tuple[int, int, int, int] | None) -> None:
    index = table_index(switch.codec.program, table)
    switch.direct_meter_write(index, key_of(switch.codec.program, index, {"a": a}), 0, config)


def configured(switch: Switch, table: str, a: object) -> tuple[int, int, int, int] | None:
    index = table_index(switch.codec.program, table)
    return switch.direct_meter_read(index, key_of(switch.codec.program, index, {"a": a}))


def test_a_direct_meter_colours_the_packets_of_its_entry(switch: Switch) -> None:
    for a in (1, 2):
        assert write(switch, Op.INSERT, "metered", {"a": a}, ("paint",)) is Code.OK
    assert [send(switch, 0, 1)["colour"] for _ in range(5)] == [GREEN] * 5  # not configured
    configure(switch, "metered", 1, (1_000, 2, 2_000, 4))
    assert configured(switch, "metered", 1) == (1_000, 2, 2_000, 4)
    assert configured(switch, "metered", 2) is None
    assert [send(switch, 0, 1)["colour"] for _ in range(6)] == [GREEN, GREEN, YELLOW, YELLOW, RED, RED]
    assert send(switch, 0, 2)["colour"] == GREEN
    assert send(switch, 0, 3)["colour"] == 9  # a miss is not metered
    assert [send(switch, 0, 1, 1_000_000)["colour"] for _ in range(3)] == [GREEN, YELLOW, RED]
    configure(switch, "metered", 1, None)
    assert configured(switch, "metered", 1) is None
    assert [send(switch, 0, 1, 1_000_000)["colour"] for _ in range(5)] == [GREEN] * 5


def test_a_direct_meter_of_bytes_beside_a_counter(switch: Switch) -> None:
    assert write(switch, Op.INSERT, "routed", {"a": (0x0A000000, 8)}, ("paint_bytes",)) is Code.OK
    assert write(switch, Op.INSERT, "routed", {"a": (0x0A010000, 16)}, ("paint_bytes",)) is Code.OK
    configure(switch, "routed", (0x0A000000, 8), (1, 100, 1, 200))
    sizes = [100 - 7, 100 - 7, 0]
    assert [send(switch, 1, 0x0A020304, payload=bytes(n))["packets"] for n in sizes] == [GREEN, YELLOW, RED]
    assert send(switch, 1, 0x0A010304, payload=bytes(500))["packets"] == GREEN
    first, second = switch.table_read(table_index(switch.codec.program, "routed"))
    assert (first.packets, first.bytes, second.packets) == (3, 207, 1)


def test_modifying_an_entry_resets_its_meter_and_a_rollback_restores_it(switch: Switch) -> None:
    assert write(switch, Op.INSERT, "metered", {"a": 1}, ("paint",)) is Code.OK
    configure(switch, "metered", 1, (1_000, 2, 2_000, 4))
    batch = [
        update(switch, Op.MODIFY, "metered", {"a": 1}, ("NoAction",)),
        update(switch, Op.DELETE, "metered", {"a": 7}),
    ]
    assert switch.table_write(batch, atomic=True) == [Code.ABORTED, Code.NOT_FOUND]
    assert configured(switch, "metered", 1) == (1_000, 2, 2_000, 4)
    assert write(switch, Op.MODIFY, "metered", {"a": 1}, ("paint",)) is Code.OK
    assert configured(switch, "metered", 1) is None
    configure(switch, "metered", 1, (1, 2, 3, 4))
    assert write(switch, Op.DELETE, "metered", {"a": 1}) is Code.OK
    assert write(switch, Op.INSERT, "metered", {"a": 1}, ("paint",)) is Code.OK
    assert configured(switch, "metered", 1) is None


def test_direct_meter_errors(switch: Switch) -> None:
    assert write(switch, Op.INSERT, "metered", {"a": 1}, ("paint",)) is Code.OK
    for a, config, code in ((2, (1, 1, 1, 1), Code.NOT_FOUND), (1, (2, 1, 1, 1), Code.INVALID_ARGUMENT)):
        with pytest.raises(DatapathError) as caught:
            configure(switch, "metered", a, config)
        assert caught.value.code is code
    with Switch(compiled("tables")) as other, pytest.raises(DatapathError) as caught:
        configure(other, "lpm32", (0, 0), (1, 1, 1, 1))
    assert caught.value.code is Code.INVALID_ARGUMENT


def insert_idle(switch: Switch, a: int, timeout_ns: int) -> None:
    info = switch.codec.program
    index = table_index(info, "metered")
    key = key_of(info, index, {"a": a})
    made = TableUpdate(Op.INSERT, index, key, action_of(info, index, "paint"), idle_timeout_ns=timeout_ns)
    assert switch.table_write([made]) == [Code.OK]


def test_idle_entries_are_reported_once_per_time_out(switch: Switch) -> None:
    seen: list[Event] = []
    switch.subscribe(seen.append)
    insert_idle(switch, 1, 3 * SECOND)
    insert_idle(switch, 2, 0)  # never

    def reported(from_s: int, to_s: int) -> list[int]:
        seen.clear()
        for second in range(from_s, to_s):
            switch.tick(second * SECOND)
        return [event.time_ns // SECOND for event in seen if isinstance(event, IdleTimeout)]

    assert reported(0, 10) == [3, 6, 9]
    (entry,) = [e.entry for e in seen[:1] if isinstance(e, IdleTimeout)]
    assert (entry.idle_timeout_ns, entry.since_hit_ns, entry.key[0].value) == (3 * SECOND, 3 * SECOND, b"\0\0\0\1")
    send(switch, 0, 1, 10 * SECOND)
    assert reported(10, 20) == [13, 16, 19]
    assert reported(1000, 2000) == list(range(1000, 2000, 3))  # and does not tire
    assert write(switch, Op.DELETE, "metered", {"a": 1}) is Code.OK
    assert reported(2000, 2010) == []


def test_a_register_of_2048_bits(switch: Switch) -> None:
    value = bytes(range(256))
    switch.process(1, pack(PROBE, {"op": 2}) + value, 0)
    assert switch.register_read(0, 0, 2) == [0, int.from_bytes(value, "big")]
    switch.register_write(0, 1, 1 << 2047 | 5)
    ((_port, data),) = switch.process(1, pack(PROBE, {"op": 3}) + bytes(256), 0)
    assert data[7:] == (1 << 2047 | 5).to_bytes(256, "big")


def test_log_msg_goes_to_the_log(switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "engine.program"):
        send(switch, 4, 4_000_000_000)
    assert [record.getMessage() for record in caplog.records] == ["probe 4000000000 from port 1"]
