"""The binary commands: what one side writes the other reads, and garbage is an error, not a guess."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import (
    ActionCall,
    Code,
    DatapathError,
    GroupRef,
    Match,
    MatchKind,
    MemberRef,
    Op,
    ProgramError,
    TableUpdate,
)
from engine.codec import Codec, Command, Reader, octets
from engine.library import Switch
from engine.program_json import program_from_json, program_to_json
from tests.engine.engine_support import compiled


@cache
def codec() -> Codec:
    return Codec(compiled("tables").info)


@cache
def switch() -> Switch:
    return Switch(compiled("tables"))


def value(width: int) -> st.SearchStrategy[bytes]:
    return st.integers(0, (1 << width) - 1).map(lambda v: v.to_bytes(octets(width), "big"))


@st.composite
def updates(draw: st.DrawFn) -> TableUpdate:
    program = codec().program
    table = draw(st.integers(0, len(program.tables) - 1))
    key = []
    for field in program.tables[table].key:
        first = draw(value(field.width))
        if field.kind is MatchKind.LPM:
            key.append(Match(first, prefix_len=draw(st.integers(0, field.width))))
        elif field.kind is MatchKind.RANGE:
            key.append(Match(first, high=draw(value(field.width))))
        elif field.kind is MatchKind.EXACT:
            key.append(Match(first))
        else:
            key.append(Match(first, mask=draw(value(field.width))))
    number = st.integers(0, (1 << 32) - 1)
    index = draw(st.integers(0, len(program.actions) - 1))
    call = ActionCall(index, tuple(draw(value(width)) for _name, width in program.actions[index].params))
    action = draw(st.one_of(st.none(), st.just(call), number.map(MemberRef), number.map(GroupRef)))
    priority = draw(st.integers(-(1 << 31), (1 << 31) - 1))
    return TableUpdate(
        draw(st.sampled_from(list(Op))), table, tuple(key), action, priority, draw(st.integers(0, 1 << 63))
    )


@settings(max_examples=200, deadline=None)
@given(updates())
def test_updates_survive_the_round_trip(update: TableUpdate) -> None:
    assert codec().read_update(codec().update(update)) == update


@settings(max_examples=200, deadline=None)
@given(updates(), st.integers(0, 200))
def test_truncated_updates_are_errors(update: TableUpdate, cut: int) -> None:
    data = codec().update(update)
    if cut < len(data):
        with pytest.raises((DatapathError, ValueError)):
            codec().read_update(data[:cut])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(Command)), st.binary(max_size=80))
def test_garbage_commands_get_an_answer(command: Command, payload: bytes) -> None:
    try:
        reply = switch().command(command, payload)
    except DatapathError as error:
        assert error.code is not Code.OK
        assert str(error)
    else:
        assert isinstance(reply, bytes)


@settings(max_examples=300, deadline=None)
@given(st.lists(updates(), max_size=4), st.booleans(), st.data())
def test_damaged_batches_get_an_answer(batch: list[TableUpdate], atomic: bool, data: st.DataObject) -> None:
    payload = bytearray(codec().table_write([codec().update(u) for u in batch], atomic=atomic))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        codes = switch().command(Command.TABLE_WRITE, bytes(payload))
    except DatapathError as error:
        assert error.code is Code.INVALID_ARGUMENT
    else:
        assert all(Code(code) in Code for code in codes)


def test_unknown_command() -> None:
    with pytest.raises(DatapathError) as caught:
        switch().command(0xFF, b"")
    assert caught.value.code is Code.UNIMPLEMENTED


def test_the_program_survives_the_round_trip() -> None:
    for name in ("tables", "arith", "parsing", "fate"):
        info = compiled(name).info
        assert program_from_json(program_to_json(info)) == info
    for text in ("", "[]", "{}", "null", program_to_json(info).replace('"tables"', '"tablez"', 1)):
        with pytest.raises(ProgramError):
            program_from_json(text)


def test_info_comes_from_the_pipeline_itself() -> None:
    assert program_from_json(switch().command(Command.INFO, b"").decode()) == compiled("tables").info


@pytest.mark.parametrize(
    "match",
    [
        Match(b"\x01"),
        Match(b"\x00\x00\x01"),
        Match(b"\x00\x01", mask=b"\xff\xff"),
        Match(b"\x00\x01", high=b"\xff\xff"),
    ],
)
def test_values_of_a_wrong_shape(match: Match) -> None:
    table = next(i for i, t in enumerate(codec().program.tables) if t.name == "exact16")
    with pytest.raises(DatapathError) as caught:
        codec().update(TableUpdate(Op.DELETE, table, (match,), None))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "exact16" in str(caught.value)


def test_values_that_do_not_fit_their_width() -> None:
    table = next(i for i, t in enumerate(codec().program.tables) if t.name == "lpm_odd")
    for key in (
        (Match(b"\x10\x00", prefix_len=12), Match(b"\0\0")),
        (Match(b"\x00\x00", prefix_len=13), Match(b"\0\0")),
    ):
        with pytest.raises(DatapathError) as caught:
            codec().update(TableUpdate(Op.DELETE, table, key, None))
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_replies_that_are_too_short_or_too_long() -> None:
    with pytest.raises(DatapathError):
        Reader(b"\x01\x02").u32()
    reader = Reader(b"\x01\x00\x00\x00\x07")
    assert reader.u32() == 1
    with pytest.raises(DatapathError):
        reader.done()
