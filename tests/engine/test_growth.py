"""Hash tables that grow a little with each insert: entries are found, changed and removed while they move."""

from __future__ import annotations

import random

import pytest

from engine.api import Code, Op
from engine.library import Switch, compile_program
from tests.engine.engine_support import ask, compiled, read, source, update, write

MISSED = 0xFFFFFFFF


@pytest.mark.parametrize("seed", range(4))
def test_exact_entries_come_and_go_while_the_table_grows(seed: int) -> None:
    chance = random.Random(seed)
    model: dict[int, int] = {}
    gone: list[int] = []
    with Switch(compiled("tables")) as switch:
        for step in range(3000):
            growing = len(model) < 1000 and (step < 1500 or chance.random() < 0.4)
            if growing and chance.random() < 0.8:
                key = chance.getrandbits(128)
                assert write(switch, Op.INSERT, "exact_wide", {"wide": key, "odd": 7}, ("reply", step)) is Code.OK
                model[key] = step
            elif model:
                key = chance.choice(list(model)[-50:])
                if chance.random() < 0.5:
                    assert write(switch, Op.MODIFY, "exact_wide", {"wide": key, "odd": 7}, ("reply", step)) is Code.OK
                    model[key] = step
                else:
                    assert write(switch, Op.DELETE, "exact_wide", {"wide": key, "odd": 7}) is Code.OK
                    del model[key]
                    gone.append(key)
            for key in chance.sample(list(model), min(3, len(model))):
                assert ask(switch, op=1, wide=key, odd=7) == model[key]
            for key in gone[-3:]:
                assert ask(switch, op=1, wide=key, odd=7) == MISSED
                assert write(switch, Op.DELETE, "exact_wide", {"wide": key, "odd": 7}) is Code.NOT_FOUND
        for key, value in model.items():
            assert ask(switch, op=1, wide=key, odd=7) == value
            assert write(switch, Op.INSERT, "exact_wide", {"wide": key, "odd": 7}, ("reply", 1)) is Code.ALREADY_EXISTS
        assert len(read(switch, "exact_wide")) == len(model)


@pytest.mark.parametrize("seed", range(4))
def test_ternary_chains_while_a_mask_grows(seed: int) -> None:
    """Entries of one mask, several per key with other ranges: heads of chains change while the hash table moves."""
    chance = random.Random(seed)
    everything = (1 << 32) - 1
    model: dict[tuple[int, int], int] = {}  # (a, priority) -> value; a range of one port per priority

    def fields(a: int, priority: int) -> dict[str, object]:
        return {"a": (a, everything), "b": (0, 1000 * priority), "rest": 1}

    with Switch(compiled("tables")) as switch:
        for step in range(600):
            a, priority = chance.randrange(80), chance.randrange(1, 5)
            key = (a, priority)
            if key in model and chance.random() < 0.4:
                assert write(switch, Op.DELETE, "mixed", fields(*key), None, priority) is Code.OK
                del model[key]
            elif key in model:
                assert write(switch, Op.MODIFY, "mixed", fields(*key), ("reply", step), priority) is Code.OK
                model[key] = step
            elif len(model) < 256:
                assert write(switch, Op.INSERT, "mixed", fields(*key), ("reply", step), priority) is Code.OK
                model[key] = step
            for port in (0, 1500, 2500, 3500):
                hits = [p for (at, p) in model if at == a and port <= 1000 * p]
                wanted = model[a, max(hits)] if hits else MISSED
                assert ask(switch, op=5, a=a, b=port, rest=1) == wanted


def test_a_table_large_enough_to_give_memory_back_while_it_moves() -> None:
    data = source("tables")
    for table in data["pipelines"][0]["tables"]:
        if table["name"] == "exact_wide":
            table["max_size"] = 100_000
    chance = random.Random(5)
    model: dict[int, int] = {}
    gone: list[int] = []
    with Switch(compile_program(data, flags=("-O1",))) as switch:

        def change(op: Op, keys: list[int]) -> None:
            batch = [
                update(
                    switch, op, "exact_wide", {"wide": k, "odd": 7}, None if op is Op.DELETE else ("reply", k & 0xFFFF)
                )
                for k in keys
            ]
            assert set(switch.table_write(batch)) == {Code.OK}

        while len(model) < 70_000:  # past the growths at 16,384, 32,768 and 65,536 entries
            fresh = [chance.getrandbits(128) for _ in range(700)]
            change(Op.INSERT, fresh)
            model.update((key, key & 0xFFFF) for key in fresh)
            dead = chance.sample(fresh, 20) + ([] if not gone else chance.sample(list(model)[:1000], 5))
            dead = list(dict.fromkeys(dead))
            change(Op.DELETE, dead)
            for key in dead:
                del model[key]
            gone += dead
            for key in chance.sample(fresh, 10) + chance.sample(list(model)[:2000], 10):
                assert ask(switch, op=1, wide=key, odd=7) == model.get(key, MISSED)
            for key in chance.sample(gone, 10):
                assert ask(switch, op=1, wide=key, odd=7) == MISSED
        for key in chance.sample(list(model), 3000):
            assert ask(switch, op=1, wide=key, odd=7) == model[key]
        assert len(read(switch, "exact_wide")) == len(model)
