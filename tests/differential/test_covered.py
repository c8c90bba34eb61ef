"""The recorded programs have everything that the engine executes, so that both switches did the same with it."""

from __future__ import annotations

import json

import pytest

from engine.library import load_program
from tests.differential import recorded
from tests.differential.covered import ELSEWHERE, accepted, corpus, touched, untouched


def test_every_construct_was_compared() -> None:
    assert not untouched(corpus())


def test_what_is_left_out_exists() -> None:
    assert set(ELSEWHERE) < accepted()
    assert not [name for name, why in ELSEWHERE.items() if not why]


@pytest.mark.parametrize(
    ("name", "construct"),
    [
        ("meters", "meter direct bytes"),
        ("handmade", "primitive assign_header_stack"),
        ("maths", "operator sat_cast of 4096 bits"),
        ("cache", "register of 128 bits"),
        ("rest", "transition value set"),
        ("stacks", "expression StackElement"),
    ],
)
def test_constructs_are_told_apart(name: str, construct: str) -> None:
    data = json.loads((recorded.FOLDER / f"{name}.json").read_text())
    program = load_program(data["program"])
    assert construct in touched(program)
    assert construct in accepted()
    assert construct in untouched([load_program(recorded.load(recorded.FOLDER / "fates.json")[0])])


def test_meters_showed_every_colour() -> None:
    """Each of the five results of the recorded program was green, yellow and red."""
    _program, script, seen = recorded.load(recorded.FOLDER / "meters.json")
    assert script.meters
    assert any(entry.meter for entry in script.entries)
    assert {what for _at, what, _entry in script.changes} == {"modify", "delete", "insert"}
    told = [data for sent in seen.frames for _port, data in sent]
    assert {data[0] for data in told} == {0, 1, 2}, "by packets"
    assert {data[1] for data in told} == {0, 1, 2}, "by bytes"
    assert {data[2] >> 6 for data in told} == {0, 1, 2}, "of an entry"
