"""Where BMv2 does not do what P4 says, and we do: each has a row in docs/engine.md."""

from __future__ import annotations

from tests.differential import recorded
from tests.differential.foreign import on_engine
from tests.differential.programs import Entry
from tests.differential.scripts import Script

KEY_BYTES = 16 + 9 + 25  # of the key program's header before its 16 bits, 12 and 4


def _told(name: str, script: Script) -> list[bytes]:
    program, _script, _seen = recorded.load(recorded.FOLDER / f"{name}.json")
    return [sent[0][1] for sent in on_engine(program, script).frames]


def test_prefixes_of_odd_widths_begin_with_the_fields_first_bit() -> None:
    key = (("range", 7, 0, 127), ("exact", 1, 0, 0), ("lpm", 4, 0b1000, 2))
    entry = Entry("I.stags", key, "I.d", ((77, 16),), 1)
    first = Entry("I.bits", (("exact", 1, 0, 0),), "I.a", ((1, 16),), 0)
    frames = [(1, bytes(KEY_BYTES + 3) + bytes([four]) + bytes(5)) for four in range(16)]
    found = _told("keys", Script(entries=[first, entry], frames=frames))
    assert [int.from_bytes(data[6:8], "big") for data in found] == [77 if four >> 2 == 2 else 2 for four in range(16)]


def test_no_packet_matches_what_a_mask_takes_away() -> None:
    entries = [
        Entry("I.metered", (("exact", 8, value, 0),), "I.set", ((value & 63, 6),), 0) for value in (2, 0b1001, 0b100)
    ]
    frames = [(1, bytes([a, 0, 0, 0, 0, 0, 0, 0])) for a in range(16)]
    found = _told("meters", Script(entries=entries, frames=frames))
    assert [data[2] & 63 for data in found] == [2 if a & 3 == 2 else 0 for a in range(16)]


def test_varbits_of_other_lengths_differ() -> None:
    """All fields are zeros; the program compares before it looks at lengths here."""
    program, _script, _seen = recorded.load(recorded.FOLDER / "handmade.json")
    actions = program["actions"]
    assert isinstance(actions, list)
    beginning = next(a for a in actions if a["primitives"] and a["primitives"][0]["op"] == "add_header")
    beginning["primitives"] += next(a for a in actions if a["name"] == "I.varied_equal")["primitives"]
    lengths = ((4, 4), (4, 5), (5, 4), (0, 0), (0, 1))
    frames = [(1, bytes([0x40, first | second << 3]) + bytes(4 + first + second)) for first, second in lengths]
    found = [sent[0][1] for sent in on_engine(program, Script(frames=frames)).frames]
    assert [data[0] & 1 for data in found] == [first == second for first, second in lengths]
