"""Constructs that few programs use, through ``language.p4``."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator

import pytest

from engine.library import Switch
from tests.engine.engine_support import array_index, compiled, pack, unpack

INPUT = (("op", 8), ("key", 8), ("s", 16), ("wide", 200), ("other", 200))
OUTPUT = (("value", 32), ("s", 16), ("way", 8), ("pad", 8), ("sum", 72), ("low", 64))
DEFAULT = 0x0A << 192 | 0x0B


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch(compiled("language"), seed=3) as made:
        yield made


def ask(switch: Switch, **values: int) -> dict[str, int]:
    ((port, data),) = switch.process(1, pack(INPUT, values), 0)
    assert port == 1
    return unpack(OUTPUT, data)


def test_selects_over_wide_keys(switch: Switch) -> None:
    assert ask(switch, wide=0x123456789ABCDEF << 136 | 0x77)["way"] == 1
    assert ask(switch, wide=0x123456789ABCDEF << 136 | 0x78)["way"] == 0
    assert ask(switch, wide=0xAB << 192 | 0xF)["way"] == 2
    assert ask(switch, wide=0xAB << 192 | 0x7777 << 64 | 0xF)["way"] == 2
    assert ask(switch, wide=0xAB << 192 | 0xE)["way"] == 0


def test_value_sets_of_wide_values(switch: Switch) -> None:
    assert ask(switch, wide=77 << 100)["way"] == 0
    switch.value_set_write(0, [5, 77 << 100])
    assert ask(switch, wide=77 << 100)["way"] == 3
    assert ask(switch, wide=77 << 100 | 1)["way"] == 0


@pytest.mark.parametrize(("key", "s", "expected"), [(1, 0, -2), (2, 0, 2), (3, 5, 4), (3, 0, -1)])
def test_negative_arguments_of_const_entries(switch: Switch, key: int, s: int, expected: int) -> None:
    assert ask(switch, key=key, s=s)["s"] == expected & 0xFFFF


def test_of_equal_ternary_const_entries_the_first_wins(switch: Switch) -> None:
    assert ask(switch, wide=1)["low"] == 1
    assert ask(switch, wide=1)["value"] == 0xFF


def test_default_actions_with_wide_arguments(switch: Switch) -> None:
    got = ask(switch, wide=9)
    assert (got["value"], got["low"]) == (DEFAULT >> 192, DEFAULT & (1 << 64) - 1)


def test_random_hashes_stay_in_their_range_and_vary(switch: Switch) -> None:
    base = DEFAULT >> 192
    seen = {ask(switch, op=1, key=7, wide=9)["value"] - base for _ in range(50)}
    assert all(100 <= value < 1100 for value in seen)
    assert len(seen) > 10


def test_messages(switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ask(switch, op=2, key=6, s=-3, wide=(1 << 200) - 1)
        ask(switch, op=2, key=7, s=3, wide=0)
    texts = [record.getMessage() for record in caplog.records]
    first = ["no arguments", f"wide {(1 << 200) - 1} and -3", "deparsed 6"]
    assert texts == [*first, "no arguments", "wide 0 and 3", "deparsed 7"]


def test_wide_registers(switch: Switch) -> None:
    ask(switch, op=3, key=2, wide=0xF0F0 << 180 | 5, other=0x0F0F << 180 | 4)
    assert switch.register_read(array_index(switch.codec.program.registers, "I.store"), 2) == [0xFFFF << 180 | 1]
    got = ask(switch, op=4, key=2, wide=9)
    assert (got["value"], got["low"]) == ((0xFFFF << 180 | 1) >> 192 & 0xFFFFFFFF, 1)


def test_checksums_in_fields_of_more_than_64_bits(switch: Switch) -> None:
    wide = 0x1234 << 150 | 9
    assert ask(switch, op=5, wide=wide)["sum"] == zlib.crc32(wide.to_bytes(25, "big"))
    assert ask(switch, op=0, wide=wide)["sum"] == 0
