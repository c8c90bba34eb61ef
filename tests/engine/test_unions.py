"""Header unions, alone and in a stack, ``assert`` and ``assume``, through ``unions.p4``; packets of every size.

What is expected here is what BMv2 made of the same packets, except where it ends its process (a failed ``assert``).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from engine.library import Switch, compile_program
from tests.engine.engine_support import PROGRAMS, STEERING, compiled, source

PASSED = [
    pytest.param("00", "00 00 00 00000000", id="no union"),
    pytest.param("00 0105", "00 01 00 00000005 0105", id="a short one"),
    pytest.param("00 02000007 ee", "00 00 01 00000007 02000007 ee", id="a long one"),
    pytest.param("00 0105 02000007 0103 ff", "00 02 01 0000000f 0105 02000007 0103 ff", id="and a stack of them"),
    pytest.param("00" + " 0101" * 5, "00 03 00 00000003" + " 0101" * 5, id="more than the stack holds"),
    pytest.param("01 0105 aa", "01 01 00 00000005 02abcdef aa", id="the other member replaces the one that was valid"),
    pytest.param("02 0105 02000007 0103", "02 02 01 0000000f 0103", id="members taken away"),
    pytest.param("03 0105", "03 01 00 00000005 0105", id="assert holds"),
    pytest.param("04 02000000", "04 00 01 00000000 02000000", id="assume holds"),
]


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch(compiled("unions")) as made:
        yield made


@pytest.mark.parametrize(("given", "expected"), PASSED)
def test_what_bmv2_makes_of_it(switch: Switch, given: str, expected: str) -> None:
    assert switch.process(1, bytes.fromhex(given), 0) == [(1, bytes.fromhex(expected))]


@pytest.mark.parametrize("given", ["03 02000000", "04 0105"])
def test_what_fails_is_dropped_and_counted(switch: Switch, given: str) -> None:
    assert switch.process(1, bytes.fromhex(given), 0) == []
    assert switch.stats()["dropped_ingress"] == 1
    assert switch.process(1, b"\0", 0) != [], "and the next packet is none the worse for it"


SIZES = [*range(130), 511, 512, 1499, 1500, 1514, 9000, 16383, 16384, 40_000, *range(65_500, 65_536)]


@pytest.mark.parametrize(
    "name", [*sorted(path.stem for path in PROGRAMS.glob("*.json") if path.stem != "refused"), "steering"]
)
def test_packets_of_every_size_have_an_answer(name: str) -> None:
    program = compile_program(STEERING, flags=("-O1",)) if name == "steering" else compiled(name)
    dice = random.Random(7)
    with Switch(program, seed=1) as switch:
        for number, size in enumerate(SIZES):
            for frame in (bytes(size), dice.randbytes(size)):
                for _port, out in switch.process(dice.choice((0, 1, 5, 509, 510)), frame, number * 1000):
                    assert len(out) <= 65_535
        assert switch.stats()["received"] >= 2 * len(SIZES)


def test_validity_of_a_union_in_a_stack() -> None:
    """p4c names such a union as if it were a header, which BMv2 does not survive."""
    data = source("unions")
    short = {"type": "field", "value": ["many[0].s", "$valid$"]}
    asked = [c for c in data["pipelines"][0]["conditionals"] if c["expression"]["value"].get("right") == short]
    assert asked
    for condition in asked:
        union = {"op": "valid_union", "left": None, "right": {"type": "header", "value": "many[0]"}}
        condition["expression"] = {"type": "expression", "value": union}
    with Switch(compile_program(data, flags=("-O1",))) as switch:
        found = switch.process(1, bytes.fromhex("00 0105 02000007"), 0)
        assert found == [(1, bytes.fromhex("00 02 01 0000000c 0105 02000007"))], "the long one counts as a short one"
        assert switch.process(1, bytes.fromhex("00 0105"), 0) == [(1, bytes.fromhex("00 01 00 00000005 0105"))]
