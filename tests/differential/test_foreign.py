"""Corner programs: as BMv2 did everywhere, new frames and entries where p4c and BMv2 are; and the tools behind it."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from engine.library import Switch, compile_program, load_program
from tests.differential import recorded
from tests.differential.foreign import Seen, differences, judge, on_engine
from tests.differential.reference import missing
from tests.differential.scripts import Script
from tests.differential.walks import Values, constants, frames

CORNERS = sorted(recorded.CORNERS.glob("*.p4"))
STEERING = Path(__file__).parents[2] / "p4" / "build" / "shadowplane.json"
# SHADOWPLANE_EXAMPLES=20 plays twenty times as many frames.
FRAMES = 20 * int(os.environ.get("SHADOWPLANE_EXAMPLES", "1"))


@pytest.mark.parametrize("source", CORNERS, ids=lambda path: path.stem)
def test_corners_do_what_bmv2_did(source: Path) -> None:
    program, script, theirs = recorded.load(recorded.FOLDER / f"{source.stem}.json")
    assert len(script.frames) >= 40
    assert sum(map(bool, theirs.frames)) >= 20
    assert not differences(on_engine(program, script), theirs)


@pytest.mark.parametrize("source", CORNERS[:: max(1, len(CORNERS) // 2)], ids=lambda path: path.stem)
def test_corners_do_what_bmv2_does(source: Path, tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    found = judge(source, tmp_path, 77, FRAMES, tmp_path / "kept")
    assert found.verdict in ("same", "vague", "stale"), found.details


def test_a_script_survives_json() -> None:
    _program, script, _seen = recorded.load(recorded.FOLDER / "entries.json")
    assert script.entries
    assert Script.read(script.document()) == script


def test_walks_get_through_a_parser() -> None:
    program = load_program(STEERING)
    made = list(islice(frames(program, Values(Random(1), constants(program))), 200))
    assert made == list(islice(frames(program, Values(Random(1), constants(program))), 200)), "one seed, one series"
    with Switch(compile_program(STEERING, flags=("-O1",))) as switch:
        for frame in made:
            switch.process(1, frame, 0)
        assert switch.stats()["parser_errors"] < len(made) / 2


def test_values_of_headers_are_remembered() -> None:
    program = load_program(STEERING)
    values = Values(Random(1), constants(program))
    list(islice(frames(program, values), 20))
    assert any(len(set(seen)) > 5 for seen in values.seen.values())


def test_only_what_is_steady_is_compared() -> None:
    mine = Seen([[(1, b"a")], [(1, b"b")]], set(), {"c": [(1, 2)]})
    theirs = Seen([[(1, b"a")], [(1, b"x")]], {(1,)}, {"c": [(1, 3)]})
    assert len(differences(mine, theirs)) == 3
    assert len(differences(mine, theirs, theirs)) == 3
    assert not differences(mine, theirs, Seen([[(1, b"a")], [(1, b"y")]], {(2,)}, {"c": [(1, 4)]}))
    lost = Seen([[(1, b"a")], []], set(), {"c": [(1, 4)]})
    assert len(differences(lost, theirs, Seen([[(1, b"a")], [(1, b"y")]], {(2,)}, {"c": [(1, 4)]}))) == 1
