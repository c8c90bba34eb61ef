"""Longest prefix match at its level borders: arrays over 16 and 24 bits, a tree below, prefixes in a tangle."""

from __future__ import annotations

import random

import pytest

from engine.api import Code, Op
from engine.library import Switch
from tests.engine.engine_support import ask, compiled, read, update, write

MISSED = 0xFFFFFFFF
BORDERS = (0, 1, 15, 16, 17, 20, 23, 24, 25, 29, 30, 31, 32)


def prefixes(chance: random.Random, count: int) -> list[tuple[int, int]]:
    """Distinct prefixes below few 16-bit blocks, so that they nest and share chunks."""
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        length = chance.choice(BORDERS)
        value = chance.choice([0x0A000000, 0x0A010000, 0xC0A80000]) | chance.choice([0, 0x100, 0xFF00])
        value |= chance.randrange(256)
        found[value >> (32 - length) << (32 - length), length] = None
    return list(found)


def expected(model: dict[tuple[int, int], int], address: int) -> int:
    for length in range(32, -1, -1):
        key = (address >> (32 - length) << (32 - length), length)
        if key in model:
            return model[key]
    return MISSED


def check(switch: Switch, model: dict[tuple[int, int], int], chance: random.Random) -> None:
    addresses = [value for value, _length in model]
    addresses += [value + (1 << (32 - length)) - 1 for value, length in model]
    addresses += [chance.randrange(1 << 32) for _ in range(20)] + [0x0A000000 | chance.randrange(1 << 17)]
    for address in addresses:
        assert ask(switch, op=2, a=address) == expected(model, address), f"{address:#x}"


@pytest.mark.parametrize("seed", range(6))
def test_inserts_modifications_and_deletions(seed: int) -> None:
    chance = random.Random(seed)
    keys = prefixes(chance, 120)
    model: dict[tuple[int, int], int] = {}
    with Switch(compiled("tables")) as switch:
        for step in range(400):
            key = chance.choice(keys)
            value = chance.randrange(1, 1 << 30)
            if key not in model:
                assert write(switch, Op.INSERT, "lpm32", {"a": key}, ("reply", value)) is Code.OK
                model[key] = value
            elif chance.random() < 0.4:
                assert write(switch, Op.MODIFY, "lpm32", {"a": key}, ("reply", value)) is Code.OK
                model[key] = value
            else:
                assert write(switch, Op.DELETE, "lpm32", {"a": key}) is Code.OK
                del model[key]
            if step % 50 == 49:
                check(switch, model, chance)
        for key in list(model):
            assert write(switch, Op.DELETE, "lpm32", {"a": key}) is Code.OK
            del model[key]
            if len(model) % 20 == 0:
                check(switch, model, chance)
        assert read(switch, "lpm32") == []


def test_a_failed_atomic_batch_leaves_every_level_as_it_was() -> None:
    chance = random.Random(7)
    model = {key: n + 1 for n, key in enumerate(prefixes(chance, 100))}
    with Switch(compiled("tables")) as switch:
        for key, value in model.items():
            assert write(switch, Op.INSERT, "lpm32", {"a": key}, ("reply", value)) is Code.OK
        batch = []
        for n, key in enumerate(model):
            action = None if n % 2 else ("reply", 0xBAD)
            batch.append(update(switch, Op.DELETE if n % 2 else Op.MODIFY, "lpm32", {"a": key}, action))
        batch.append(update(switch, Op.INSERT, "lpm32", {"a": (0xDE000000, 8)}, ("reply", 0xBAD)))
        batch.append(update(switch, Op.DELETE, "lpm32", {"a": (0xDE000000, 9)}))
        codes = switch.table_write(batch, atomic=True)
        assert codes[-1] is Code.NOT_FOUND
        assert set(codes[:-1]) == {Code.ABORTED}
        check(switch, model, chance)


def test_a_chunk_that_was_emptied_is_used_again_without_traces() -> None:
    with Switch(compiled("tables")) as switch:
        for block in range(40):
            base = (0x0B00 + block) << 16
            for length in (17, 24, 25, 32):
                assert write(switch, Op.INSERT, "lpm32", {"a": (base, length)}, ("reply", length)) is Code.OK
            assert [ask(switch, op=2, a=base + offset) for offset in (0, 1, 0x80, 0x100)] == [32, 25, 24, 17]
            for length in (24, 17, 32, 25):
                assert write(switch, Op.DELETE, "lpm32", {"a": (base, length)}) is Code.OK
            assert ask(switch, op=2, a=base) == MISSED
