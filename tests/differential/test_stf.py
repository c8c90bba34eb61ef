"""The reader of STF packet tests, and that a failing test is seen to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import _stf, _stf_bmv2
from engine.api import KeyField, Match, MatchKind
from engine.library import Switch
from tests.differential.reference import missing
from tests.engine.engine_support import PROBE, PROGRAMS, compiled, pack, unpack


def probe(**values: int) -> str:
    return pack(PROBE, values).hex()


def test_statements(tmp_path: Path) -> None:
    path = tmp_path / "a.stf"
    path.write_text('add "a.t" 3 hdr.x$1 : 0x1* hdr.y:10/8 go( p:1, q:0x2 ) = e1\npacket 0 00 1A\nexpect 2 0*$\nwait\n')
    assert _stf.read(path) == [
        _stf.Statement(1, "add", ("a.t", "3", "hdr.x$1:0x1*", "hdr.y:10/8", "go(p:1, q:0x2)")),
        _stf.Statement(2, "packet", ("0", "001a")),
        _stf.Statement(3, "expect", ("2", "0*$")),
        _stf.Statement(4, "wait", ()),
    ]


def test_a_line_without_an_action_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.stf"
    path.write_text("add t x:1\n")
    with pytest.raises(_stf.StfError, match=r"a\.stf:1"):
        _stf.read(path)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (MatchKind.EXACT, "0x12", Match(b"\0\x12")),
        (MatchKind.EXACT, None, Match(b"\0\0")),
        (MatchKind.LPM, "0x1234/8", Match(b"\x12\0", prefix_len=8)),
        (MatchKind.LPM, "0x12**", Match(b"\x12\0", prefix_len=8)),
        (MatchKind.TERNARY, "0x1*2*", Match(b"\x10\x20", mask=b"\xf0\xf0")),
        (MatchKind.TERNARY, "5&&&7", Match(b"\0\x05", mask=b"\0\x07")),
        (MatchKind.TERNARY, None, Match(b"\0\0", mask=b"\0\0")),
        (MatchKind.RANGE, "3..0x10", Match(b"\0\x03", high=b"\0\x10")),
    ],
)
def test_key_fields(kind: MatchKind, text: str | None, expected: Match) -> None:
    assert _stf.match(KeyField("f", kind, 16), text) == expected


def test_names_may_be_cut() -> None:
    names = ["MyIngress.t", "hdr.h[1].f", "hdr.x.$valid$"]
    assert _stf.by_name(names, "t", "table") == 0
    assert _stf.by_name(names, "hdr.h$1.f", "key") == 1
    assert _stf.by_name(names, "valid", "key") == 2
    with pytest.raises(_stf.StfError, match="no key"):
        _stf.by_name(names, "zzz", "key")


@pytest.mark.parametrize(
    ("expected", "problems"),
    [("", 0), ("**", 0), ("01", 0), ("ff", 1), (None, 1)],
)
def test_verdicts(expected: str | None, problems: int) -> None:
    """A probe of the kind 1 comes back; what else is expected is a difference."""
    data = probe(op=1, a=5)
    statements = [_stf.Statement(1, "packet", ("1", data))]
    if expected is not None:
        statements.append(_stf.Statement(2, "expect", ("1", expected)))
    with Switch(compiled("tables")) as switch:
        found = _stf.Runner(switch).run(statements)
    assert len(found) == problems, found


def test_a_missing_frame_is_a_difference() -> None:
    statements = [_stf.Statement(1, "packet", ("1", probe(op=1))), _stf.Statement(2, "expect", ("2", "00"))]
    with Switch(compiled("tables")) as switch:
        found = _stf.Runner(switch).run(statements)
    assert any("port 2: 0 frames instead of 1" in text for text in found)


def test_an_unknown_statement_is_an_error() -> None:
    with Switch(compiled("tables")) as switch, pytest.raises(_stf.StfError, match="line 4: unknown statement teleport"):
        _stf.Runner(switch).run([_stf.Statement(4, "teleport", ())])


def test_packets_are_those_of_the_program() -> None:
    with Switch(compiled("tables")) as switch:
        ((_port, frame),) = switch.process(1, bytes.fromhex(probe(op=1, a=5)), 0)
    assert unpack(PROBE, frame)["a"] == 5


def ranges_packet(a: int, answer: str) -> str:
    head = "00" + a.to_bytes(25, "big").hex() + "00" * (17 + 2 + 64)
    return f"packet 1 {head}00000000\nexpect 1 {head}{answer}$\n"


RANGES = (
    f"add alone 1 a:{1 << 128:#x}..{1 << 191:#x} reply(value:7)\nadd alone 2 a:5..{(1 << 128) - 1:#x} reply(value:9)\n"
)


@pytest.mark.parametrize("where", ["engine", "bmv2"])
def test_the_same_test_on_both(where: str, tmp_path: Path) -> None:
    """Ranges of 200 bits."""
    path = tmp_path / "ranges.stf"
    packets = [(4, "ffffffff"), (5, "00000009"), ((1 << 128) - 1, "00000009"), (1 << 128, "00000007")]
    packets += [(1 << 191, "00000007"), ((1 << 191) + 1, "ffffffff")]

    def differences(text: str) -> list[str]:
        path.write_text(text)
        program = compiled("ranges")
        if where == "engine":
            with Switch(program) as switch:
                return _stf.Runner(switch).run(_stf.read(path))
        if why := missing():
            pytest.skip(why)
        config, info = ((PROGRAMS / f"ranges.{end}") for end in ("json", "p4info.txtpb"))
        return _stf_bmv2.run(program.info, config.read_bytes(), info.read_text(), _stf.read(path))

    good = RANGES + "".join(ranges_packet(a, answer) for a, answer in packets)
    assert differences(good) == []
    (wrong,) = differences(good.replace("00000009$", "00000008$", 1))
    assert wrong.startswith("port 1, frame 2: ")
    if where == "bmv2":
        with pytest.raises(_stf.StfError, match="control between packets"):
            differences(good + RANGES)
