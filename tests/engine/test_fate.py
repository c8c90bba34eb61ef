"""What becomes of packets: drops, copies, second passes, digests, and the externs they meet on the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from engine.api import Code, DatapathError, Digest, Event, Op
from engine.library import Switch
from tests.engine.engine_support import array_index, compiled, pack, unpack

OP = (("op", 8), ("x", 32), ("y", 32), ("time", 48))
MARK = (("instance", 32), ("rid", 16), ("port", 16), ("length", 32), ("depth", 19), ("pad", 13))
SIZE = 15  # bytes of the op header


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch(compiled("fate"), queue_depth=lambda port, _priority: 10 * port) as made:
        yield made


def send(
    switch: Switch, op: int, x: int = 0, y: int = 0, payload: bytes = b"", now_ns: int = 0
) -> list[tuple[int, dict[str, int], dict[str, int], bytes]]:
    """(port, mark, op header, payload) of each frame that leaves with a mark."""
    out = []
    for port, data in switch.process(1, pack(OP, {"op": op, "x": x, "y": y}) + payload, now_ns):
        mark = sum(w for _n, w in MARK) // 8
        out.append((port, unpack(MARK, data), unpack(OP, data[mark:]), data[mark + SIZE :]))
    return out


def test_forwarding_metadata(switch: Switch) -> None:
    ((port, mark, op, payload),) = send(switch, 0, payload=b"hello", now_ns=123_456_789)
    assert (port, payload, op["time"]) == (2, b"hello", 123_456)
    assert mark == {"instance": 0, "rid": 0, "port": 2, "length": SIZE + 5, "depth": 20, "pad": 0}


def test_drops_are_counted(switch: Switch) -> None:
    assert send(switch, 1) == send(switch, 9) == []
    stats = switch.stats()
    assert (stats["received"], stats["dropped_ingress"], stats["dropped_egress"], stats["emitted"]) == (2, 1, 1, 0)


def test_a_copy_of_the_metadata_is_dropped(switch: Switch) -> None:
    """An action with standard metadata as a parameter marks its copy, which is copied back."""
    switch.multicast_write(Op.INSERT, 7, [(3, 1)])
    assert send(switch, 20) == []
    assert switch.stats()["dropped_ingress"] == 1


def test_multicast(switch: Switch) -> None:
    assert send(switch, 2, x=7) == []
    assert switch.stats()["dropped_no_group"] == 1
    switch.multicast_write(Op.INSERT, 7, [(3, 1), (4, 2), (3, 9)])
    copies = send(switch, 2, x=7, payload=b"p")
    assert [(p, m["rid"], m["instance"], rest) for p, m, _o, rest in copies] == [
        (3, 1, 5, b"p"),
        (4, 2, 5, b"p"),
        (3, 9, 5, b"p"),
    ]
    assert switch.multicast_read() == {7: [(3, 1), (4, 2), (3, 9)]}
    switch.multicast_write(Op.DELETE, 7, [])
    assert send(switch, 2, x=7) == []


def test_ingress_clone_is_of_the_frame_as_it_came(switch: Switch) -> None:
    switch.clone_write(Op.INSERT, 5, [(8, 3)])
    (port, mark, op, rest), (port2, mark2, op2, _rest2) = send(switch, 3, x=5, payload=b"abc", now_ns=5_000)
    assert (port, mark["instance"], mark["rid"], op["y"], op["time"], rest) == (8, 1, 3, 0, 0, b"abc")
    assert (port2, mark2["instance"], op2["y"], op2["time"]) == (2, 0, 3, 5)
    assert len(send(switch, 3, x=6)) == 1  # an unknown session makes no clone


def test_clone_sessions_can_cut_packets(switch: Switch) -> None:
    switch.clone_write(Op.INSERT, 5, [(8, 0)], length=20)
    first, second = switch.process(1, pack(OP, {"op": 3, "x": 5}) + bytes(100), 0)
    assert (first[0], len(first[1])) == (8, 20)
    assert len(second[1]) > 100
    assert switch.clone_read() == {5: (20, [(8, 0)])}


def test_egress_clone_leaves_after_the_original(switch: Switch) -> None:
    switch.clone_write(Op.INSERT, 5, [(9, 0)])
    frames = switch.process(1, pack(OP, {"op": 7}) + b"pp", 0)
    assert [p for p, _d in frames] == [2, 9]
    original, clone = frames[0][1], frames[1][1]
    assert unpack(OP, original)["y"] == 7 and original[SIZE:] == b"pp"
    mark = unpack(MARK, clone)
    assert (mark["instance"], mark["port"]) == (2, 9)
    assert unpack(OP, clone[sum(w for _n, w in MARK) // 8 :])["y"] == 7


def test_recirculation_keeps_the_field_list(switch: Switch) -> None:
    ((port, mark, op, rest),) = send(switch, 8, x=100, payload=b"r")
    assert (port, op["x"], mark["instance"], rest) == (2, 103, 0, b"r")


def test_resubmission_keeps_only_the_field_list(switch: Switch) -> None:
    ((_port, _mark, op, _rest),) = send(switch, 4, x=1)
    assert (op["y"], op["x"]) == (2, 0)


def test_an_endless_loop_is_cut(switch: Switch) -> None:
    assert send(switch, 17) == []
    assert switch.stats()["dropped_loop"] == 1
    assert len(send(switch, 0)) == 1


def test_truncate(switch: Switch) -> None:
    ((_port, data),) = switch.process(1, pack(OP, {"op": 5, "x": 30}) + bytes(100), 0)
    assert len(data) == 30
    ((_port, data),) = switch.process(1, pack(OP, {"op": 5, "x": 3}) + bytes(100), 0)
    assert len(data) == 3
    ((_port, data),) = switch.process(1, pack(OP, {"op": 5, "x": 4000}), 0)
    assert len(data) == SIZE + 16


def test_digest(switch: Switch) -> None:
    seen: list[Event] = []
    switch.subscribe(seen.append)
    assert len(send(switch, 6, x=77, now_ns=9_000)) == 1
    assert seen == [Digest(0, (b"\x00\x01", (77).to_bytes(4, "big"), (9).to_bytes(6, "big")), 9_000)]
    assert [width for _name, width in switch.codec.program.digests[0].fields] == [9, 32, 48]


def test_exit_ends_the_pipeline_not_the_packet(switch: Switch) -> None:
    ((port, _mark, op, _rest),) = send(switch, 10)
    assert (port, op["y"]) == (2, 0)


def test_registers(switch: Switch) -> None:
    cells = array_index(switch.codec.program.registers, "cells")
    bits = array_index(switch.codec.program.registers, "bits")
    assert [send(switch, 11, x=3, y=5)[0][2]["y"] for _ in range(3)] == [0, 5, 10]
    assert switch.register_read(cells, 0, 8) == [0, 0, 0, 15, 0, 0, 0, 0]
    switch.register_write(cells, 3, (1 << 48) - 2)
    send(switch, 11, x=3, y=5)
    assert switch.register_read(cells, 3) == [3]
    assert send(switch, 11, x=8, y=5)[0][2]["y"] == 0  # out of bounds: read nothing, write nothing
    switch.register_fill(bits, 1)
    send(switch, 12, x=2, y=0xFE)
    assert switch.register_read(bits, 0, 8) == [1, 1, 0, 1, 1, 1, 1, 1]
    for index, value in ((8, 0), (0, 2)):
        with pytest.raises(DatapathError):
            switch.register_write(bits, index, value)


def test_meter_colours(switch: Switch) -> None:
    def colours(count: int, now_ns: int) -> list[int]:
        return [send(switch, 13, x=1, y=9, now_ns=now_ns)[0][2]["y"] for _ in range(count)]

    assert colours(5, 0) == [0] * 5  # unconfigured: green
    meter = array_index(switch.codec.program.meters, "colours")
    switch.meter_write(meter, 1, (1_000, 2, 2_000, 4))
    assert switch.meter_read(meter, 0, 2) == [None, (1_000, 2, 2_000, 4)]
    assert colours(6, 0) == [0, 0, 1, 1, 2, 2]
    assert colours(3, 1_000_000) == [0, 1, 2]  # a millisecond: one committed token, two peak ones
    with pytest.raises(DatapathError):
        switch.meter_write(meter, 1, (2_000, 2, 1_000, 4))


def crc16(data: bytes) -> int:
    """CRC-16/ARC, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


def test_hashes(switch: Switch) -> None:
    assert crc16(b"123456789") == 0xBB3D  # the published check value
    for x in (0, 1, 0xDEADBEEF):
        data = x.to_bytes(4, "big")
        assert send(switch, 14, x=x)[0][2]["y"] == zlib.crc32(data + b"\x0e")
        assert send(switch, 15, x=x)[0][2]["y"] == 100 + crc16(data) % 7
        assert send(switch, 18, x=x)[0][2]["y"] == (x >> 16) ^ (x & 0xFFFF)
        assert send(switch, 19, x=x)[0][2]["y"] == x & 0xFFFF


def test_random_stays_in_its_bounds_and_repeats_by_seed() -> None:
    runs = []
    for seed in (1, 1, 2):
        with Switch(compiled("fate"), seed=seed) as switch:
            runs.append([send(switch, 16)[0][2]["y"] for _ in range(200)])
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == set(range(10, 21))


def test_oversized_frames_are_dropped(switch: Switch) -> None:
    assert switch.process(1, bytes(65536), 0) == []
    assert switch.process(1, pack(OP, {}) + bytes(65535 - SIZE), 0) == []  # the mark makes it too long
    assert switch.stats()["dropped_oversize"] == 2
    assert len(switch.process(1, pack(OP, {}) + bytes(60_000), 0)) == 1


def test_replication_errors(switch: Switch) -> None:
    for call, code in (
        (lambda: switch.multicast_write(Op.DELETE, 1, []), Code.NOT_FOUND),
        (lambda: switch.multicast_write(Op.INSERT, 0, []), Code.INVALID_ARGUMENT),
        (lambda: switch.clone_write(Op.INSERT, 40_000, []), Code.INVALID_ARGUMENT),
        (lambda: switch.clone_write(Op.MODIFY, 4, []), Code.NOT_FOUND),
    ):
        with pytest.raises(DatapathError) as caught:
            call()
        assert caught.value.code is code
