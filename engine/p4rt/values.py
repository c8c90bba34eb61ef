"""P4Runtime byte strings: the shortest big-endian form on the way out, any length on the way in.

P4Runtime 1.4, section "Bytestrings": a receiver puts no limit on a string's length; it checks that the encoded value
fits. Too large a value is OUT_OF_RANGE, an empty string INVALID_ARGUMENT. Signed integers are two's complement.
"""

from __future__ import annotations

from engine.p4rt.errors import P4Error, Rpc, invalid

MAX_PORT = 511  # v1model's ports have nine bits


def octets(width: int) -> int:
    """Bytes that a value of ``width`` bits occupies."""
    return (width + 7) // 8


def fixed(value: bytes, width: int, what: str) -> bytes:
    """``value`` in exactly ``octets(width)`` bytes.

    >>> fixed(b"\\x00\\x00\\x05", 9, "port").hex()
    '0005'
    """
    size = (width + 7) >> 3
    have = len(value)
    if have == 0:
        raise invalid(f"{what}: empty byte string (bit<{width}> expected)")
    if have > size:
        if value[: have - size].strip(b"\0"):
            raise P4Error(Rpc.OUT_OF_RANGE, f"{what}: value 0x{value.hex()} does not fit bit<{width}>")
        value = value[have - size :]
    elif have < size:
        return value.rjust(size, b"\0")
    spare = width & 7
    if spare and value[0] >> spare:
        raise P4Error(Rpc.OUT_OF_RANGE, f"{what}: value 0x{value.lstrip(bytes(1)).hex()} does not fit bit<{width}>")
    return value


def canonical(value: bytes) -> bytes:
    """The shortest string for the same unsigned value.

    >>> canonical(b"\\x00\\x01"), canonical(b"\\x00")
    (b'\\x01', b'\\x00')
    """
    return value.lstrip(b"\0") or b"\0"


def encode(value: int) -> bytes:
    """Canonical string of a non-negative integer.

    >>> encode(0), encode(256)
    (b'\\x00', b'\\x01\\x00')
    """
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def decode(value: bytes, width: int, what: str) -> int:
    """The unsigned integer, checked against ``width``."""
    return int.from_bytes(fixed(value, width, what), "big")


def port_number(value: bytes | int, what: str) -> int:
    """The port that a replica or ``watch_port`` names: one that this target can have, attached already or later.

    The specification (chapters on action profile groups and on the packet replication engine) asks for ports of the
    device; anything else is INVALID_ARGUMENT.
    """
    if value == b"":
        raise invalid(f"{what}: empty byte string (a port expected)")
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else value
    if not 0 <= number <= MAX_PORT:
        raise invalid(f"{what}: port {number} is not within 0..{MAX_PORT}")
    return number


def encode_signed(value: int, width: int) -> bytes:
    """Shortest two's complement string of the ``width``-bit pattern ``value``.

    >>> encode_signed(0xFF, 8), encode_signed(0x80, 16)
    (b'\\xff', b'\\x00\\x80')
    """
    number = value - (1 << width) if value >> (width - 1) else value
    size = ((number if number >= 0 else ~number).bit_length() + 8) // 8
    return number.to_bytes(size, "big", signed=True)


def decode_signed(value: bytes, width: int, what: str) -> int:
    """The ``width``-bit pattern of a two's complement string of any length."""
    if not value:
        raise invalid(f"{what}: empty byte string (int<{width}> expected)")
    number = int.from_bytes(value, "big", signed=True)
    if not -(1 << (width - 1)) <= number < 1 << (width - 1):
        raise P4Error(Rpc.OUT_OF_RANGE, f"{what}: value {number} does not fit int<{width}>")
    return number & ((1 << width) - 1)


def varint(number: int) -> bytes:
    """Protobuf's base-128 encoding of a non-negative integer."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(tag: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(tag << 3 | 2) + varint(len(payload)) + payload
