"""Random programs: those kept as data everywhere, new ones where p4c and BMv2 are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.differential import kept
from tests.differential.generate import Outcome, compare, differences, on_engine
from tests.differential.programs import Generator
from tests.differential.reference import missing

KEPT = sorted(kept.FOLDER.glob("*.json"))
# SHADOWPLANE_EXAMPLES=50 looks at fifty times as many programs.
SEEDS = range(1, 1 + 2 * int(os.environ.get("SHADOWPLANE_EXAMPLES", "1")))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"seed {path.stem}")
def test_kept_programs_do_what_bmv2_did(path: Path) -> None:
    program, entries, frames, theirs = kept.load(path)
    assert not differences(on_engine(program, entries, frames), theirs)


def test_there_are_kept_programs() -> None:
    assert len(KEPT) >= 4
    assert sum(len(kept.load(path)[2]) for path in KEPT) >= 80


@pytest.mark.parametrize("seed", SEEDS)
def test_new_programs_do_what_bmv2_does(seed: int, tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    verdict, details = compare(Generator(seed, 2).case(16), tmp_path)
    if verdict in ("uncompiled", "reference refused", "reference died"):
        pytest.skip(f"{verdict}: {details[0][:80]}")
    assert verdict == "same", details


def test_a_difference_is_seen() -> None:
    first = Outcome([[b"a"], []], {(1, 2)}, {"c": [(1, 60)]})
    assert not differences(first, Outcome([[b"a"], []], {(1, 2)}, {"c": [(1, 60)]}))
    assert len(differences(first, Outcome([[b"b"], []], {(1, 3)}, {"c": [(2, 60)]}))) == 3


def test_the_same_seed_makes_the_same_case() -> None:
    first, second = (Generator(7).case() for _ in range(2))
    assert (first.source, first.entries, first.frames) == (second.source, second.entries, second.frames)
    assert Generator(8).case().source != first.source
