"""Byte strings: shortest form out, any length in, range checked by value and not by length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.p4rt.errors import P4Error, Rpc
from engine.p4rt.values import canonical, decode, decode_signed, encode, encode_signed, fixed, octets, varint

WIDTHS = st.integers(1, 2048)


@given(WIDTHS, st.data(), st.integers(0, 20))
def test_any_length_is_accepted_and_the_shortest_is_returned(width: int, data: st.DataObject, zeros: int) -> None:
    value = data.draw(st.integers(0, (1 << width) - 1))
    given_bytes = bytes(zeros) + encode(value)
    stored = fixed(given_bytes, width, "field")
    assert len(stored) == octets(width)
    assert int.from_bytes(stored, "big") == value
    assert canonical(stored) == encode(value)
    assert decode(given_bytes, width, "field") == value


@given(WIDTHS, st.integers(0, 3), st.integers(0, 100))
def test_values_that_do_not_fit_are_out_of_range(width: int, zeros: int, excess: int) -> None:
    too_large = bytes(zeros) + encode((1 << width) + excess)
    with pytest.raises(P4Error, match=rf"table t: field f: .* bit<{width}>") as caught:
        fixed(too_large, width, "table t: field f")
    assert caught.value.code is Rpc.OUT_OF_RANGE


@given(WIDTHS)
def test_an_empty_string_is_no_value(width: int) -> None:
    with pytest.raises(P4Error) as caught:
        fixed(b"", width, "f")
    assert caught.value.code is Rpc.INVALID_ARGUMENT


@given(st.binary(min_size=1, max_size=40))
def test_canonical_strings_have_no_leading_zero(value: bytes) -> None:
    short = canonical(value)
    assert int.from_bytes(short, "big") == int.from_bytes(value, "big")
    assert short == b"\0" or short[0] != 0


@given(st.integers(1, 128), st.data())
def test_signed_values_are_shortest_twos_complement(width: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(-(1 << (width - 1)), (1 << (width - 1)) - 1))
    pattern = number & ((1 << width) - 1)
    text = encode_signed(pattern, width)
    assert int.from_bytes(text, "big", signed=True) == number
    assert len(text) == 1 or int.from_bytes(text[1:], "big", signed=True) != number
    sign = b"\xff" if number < 0 else b"\0"
    assert decode_signed(sign * 3 + text, width, "r") == pattern


@given(st.integers(1, 64))
def test_signed_values_that_do_not_fit_are_out_of_range(width: int) -> None:
    for number in (1 << (width - 1), -(1 << (width - 1)) - 1):
        text = number.to_bytes(width // 8 + 2, "big", signed=True)
        with pytest.raises(P4Error) as caught:
            decode_signed(text, width, "r")
        assert caught.value.code is Rpc.OUT_OF_RANGE


@given(st.integers(0, 1 << 70))
def test_varint_is_protobufs(number: int) -> None:
    value = shift = 0
    for byte in varint(number):
        value |= (byte & 127) << shift
        shift += 7
    assert value == number
