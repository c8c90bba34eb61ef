"""The parser and deparser: stacks, varbit, lookahead, value sets, errors, and packets cut off anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.library import Switch
from tests.engine.engine_support import array_index, compiled

STATUS = 11  # bytes that the program puts in front
NO_ERROR, TOO_SHORT, OUT_OF_BOUNDS, TOO_OLD = 0, 1, 3, 100


class Outcome(NamedTuple):
    error: int
    length: int
    count: int
    ahead: int
    checksum: int
    rest: bytes


def run(switch: Switch, frame: bytes) -> Outcome:
    ((port, data),) = switch.process(1, frame, 0)
    assert port == 1
    word = int.from_bytes
    return Outcome(word(data[:4], "big"), word(data[4:8], "big"), data[8], data[9], data[10], data[STATUS:])


def first(kind: int, words: int = 0, shim: int = 0, version: int = 4) -> bytes:
    return bytes((version << 4 | words, kind)) + shim.to_bytes(2, "big")


def label(number: int, bottom: bool) -> bytes:
    return (number << 12 | bottom << 8 | 64).to_bytes(4, "big")


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    with Switch(compiled("parsing")) as made:
        yield made


def test_what_is_parsed_is_emitted_unchanged(switch: Switch) -> None:
    options = bytes(range(40))
    for frame in (
        first(0) + b"payload",
        first(0, words=10) + options + b"payload",
        first(1) + label(5, True) + b"x",
        first(1, words=3) + options[:12] + label(5, False) + label(6, False) + label(7, True),
        first(2) + bytes(range(50)) + b"tail",
        first(9) + bytes(range(100, 150)),
        first(4, shim=0) + bytes(range(50)),
    ):
        assert run(switch, frame) == Outcome(NO_ERROR, len(frame), *run(switch, frame)[2:5], frame)


def test_advance_skips_bytes_for_good(switch: Switch) -> None:
    frame = first(4, shim=3) + b"abc" + bytes(range(50)) + b"tail"
    assert run(switch, frame).rest == first(4, shim=3) + bytes(range(50)) + b"tail"


def test_stack_index_and_overflow(switch: Switch) -> None:
    for depth in (1, 2, 3):
        frame = first(1) + b"".join(label(n, n == depth - 1) for n in range(depth))
        assert run(switch, frame).count == depth - 1
    frame = first(1) + b"".join(label(n, False) for n in range(4)) + b"x"
    outcome = run(switch, frame)
    assert outcome.error == OUT_OF_BOUNDS
    assert outcome.rest == frame


def test_lookahead_does_not_consume(switch: Switch) -> None:
    outcome = run(switch, first(3) + b"\x5aremaining")
    assert (outcome.ahead, outcome.rest) == (0x5A, first(3) + b"\x5aremaining")
    assert run(switch, first(3)).error == TOO_SHORT


def test_verify_sets_the_programs_own_error(switch: Switch) -> None:
    assert run(switch, first(0, version=1)).error == TOO_OLD
    assert run(switch, first(0, version=2)).error == NO_ERROR


def test_varbit_longer_than_declared(switch: Switch) -> None:
    outcome = run(switch, first(0, words=11) + bytes(80))
    assert outcome.error == 255  # HeaderTooShort
    assert run(switch, first(0, words=11) + bytes(43)).error == TOO_SHORT


def test_value_set(switch: Switch) -> None:
    index = array_index(switch.codec.program.value_sets, "P.special") if switch.codec.program.value_sets else 0
    frame = first(77) + b"\x11"
    assert run(switch, frame).ahead == 0
    switch.value_set_write(index, [5, 77])
    assert run(switch, frame).ahead == 0x11
    switch.value_set_write(index, [])
    assert run(switch, frame).ahead == 0


def test_checksum_verification(switch: Switch) -> None:
    head = first(0x80)
    word = 0x1234
    total = word + int.from_bytes(head[:2], "big")
    right = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    for value, wrong in ((right, 0), (right ^ 1, 1)):
        frame = head + value.to_bytes(2, "big") + word.to_bytes(2, "big")
        assert run(switch, frame).checksum == wrong
    assert run(switch, first(0)).checksum == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([None, 0, 1, 2, 3, 4, 9, 0x80, 0xFF]))
def test_every_packet_has_an_answer(data: bytes, kind: int | None) -> None:
    """Nothing crashes, nothing is invented: what follows the parsed headers is passed on byte for byte."""
    frame = data if kind is None or len(data) < 2 else data[:1] + bytes((kind,)) + data[2:]
    with Switch(compiled("parsing")) as made:
        outcome = run(made, frame)
    assert outcome.length == len(frame)
    if outcome.error in (TOO_SHORT, OUT_OF_BOUNDS, TOO_OLD, 255) or frame[1] != 4:
        assert outcome.rest == frame
    else:
        skipped = int.from_bytes(frame[2:4], "big")
        options = 4 + 4 * (frame[0] & 15)
        assert outcome.rest == frame[:options] + frame[options + skipped :]


def test_every_truncation(switch: Switch) -> None:
    frame = first(1, words=5) + bytes(20) + label(1, False) + label(2, True)
    for size in range(len(frame)):
        outcome = run(switch, frame[:size])
        assert (outcome.error, outcome.rest) == (TOO_SHORT, frame[:size])
    assert run(switch, frame).error == NO_ERROR
