"""Match fields between P4Runtime messages and the data plane's binary keys, one converter per field.

Binary key (see :mod:`engine.codec`): EXACT value; LPM value, u16 prefix length; TERNARY and OPTIONAL value, mask;
RANGE low, high. P4Runtime leaves don't-care fields out and wants every bit outside a mask or prefix to be zero
(P4Runtime 1.4, "Match Format"); both are enforced on the way in and kept on the way out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from engine.api import MatchKind
from engine.p4rt.errors import invalid, unimplemented
from engine.p4rt.names import Names
from engine.p4rt.stubs import p4r
from engine.p4rt.values import canonical, delimited, fixed, octets, varint

_MATCH_TAG = varint(p4r.TableEntry.MATCH_FIELD_NUMBER << 3 | 2)
_FIELD_ID = bytes([p4r.FieldMatch.FIELD_ID_FIELD_NUMBER << 3])
_NUMBERS = {
    MatchKind.EXACT: p4r.FieldMatch.EXACT_FIELD_NUMBER,
    MatchKind.LPM: p4r.FieldMatch.LPM_FIELD_NUMBER,
    MatchKind.TERNARY: p4r.FieldMatch.TERNARY_FIELD_NUMBER,
    MatchKind.RANGE: p4r.FieldMatch.RANGE_FIELD_NUMBER,
    MatchKind.OPTIONAL: p4r.FieldMatch.OPTIONAL_FIELD_NUMBER,
}
P4INFO_KINDS = {2: MatchKind.EXACT, 3: MatchKind.LPM, 4: MatchKind.TERNARY, 5: MatchKind.RANGE, 6: MatchKind.OPTIONAL}

Encoder = Callable[[Any], bytes]  # FieldMatch -> binary
Wire = Callable[[Any, Any], bytes]  # the two binary parts (second unused for EXACT) -> TableEntry.match in wire form


class FieldSchema:
    """Converters of one key field.

    ``encode`` takes the ``FieldMatch`` (whose field id is this one's), ``absent`` is the binary form of don't care
    (None where the field must be given), ``layout`` the :mod:`struct` codes of the binary form.
    """

    __slots__ = ("absent", "encode", "id", "kind", "layout", "name", "names", "what", "width", "wire")

    def __init__(
        self, id_: int, name: str, kind: MatchKind, width: int, table: str, names: Names | None = None
    ) -> None:
        self.id = id_
        self.name = name
        self.kind = kind
        self.width = width
        self.names = names  # the field's strings, None: numbers
        self.what = f"table {table}: match field {name}"
        size = octets(width)
        zero = bytes(size)
        self.absent: bytes | None = None
        self.encode: Encoder
        self.wire: Wire
        self.layout = f"{size}s"
        if kind is MatchKind.EXACT:
            self.encode, self.wire = _exact(self.what, width), _exact_wire(id_, size)
        elif kind is MatchKind.LPM:
            self.absent = zero + b"\0\0"
            self.layout += "H"
            self.encode, self.wire = _lpm(self.what, width), _lpm_wire(id_)
        elif kind is MatchKind.TERNARY:
            self.absent = zero + zero
            self.layout += f"{size}s"
            self.encode, self.wire = _ternary(self.what, width), _pair_wire(id_, kind, zero)
        elif kind is MatchKind.OPTIONAL:
            self.absent = zero + zero
            self.layout += f"{size}s"
            self.encode, self.wire = _optional(self.what, width), _optional_wire(id_, zero)
        else:
            top = ((1 << width) - 1).to_bytes(size, "big")
            self.absent = zero + top
            self.layout += f"{size}s"
            self.encode, self.wire = _range(self.what, width, top), _range_wire(id_, zero, top)
        if names is not None:
            self._translate(names)

    def _translate(self, names: Names) -> None:
        """Take strings; P4Runtime has them for exact and optional fields only."""
        size, what = octets(self.width), self.what
        full = ((1 << self.width) - 1).to_bytes(size, "big")
        if self.kind is MatchKind.EXACT:
            number = _FIELD_ID + varint(self.id)

            def encode(match: Any) -> bytes:
                if not match.HasField("exact"):
                    raise _wrong_kind(match, "exact", what)
                return names.number(match.exact.value, what).to_bytes(size, "big")

            def wire(value: bytes, mask: bytes) -> bytes:
                text = delimited(1, names.string(int.from_bytes(value, "big")))
                body = number + delimited(_NUMBERS[MatchKind.EXACT], text)
                return _MATCH_TAG + varint(len(body)) + body

        elif self.kind is MatchKind.OPTIONAL:

            def encode(match: Any) -> bytes:
                if not match.HasField("optional"):
                    raise _wrong_kind(match, "optional", what)
                return names.number(match.optional.value, what).to_bytes(size, "big") + full

            def wire(value: bytes, mask: bytes) -> bytes:
                if mask == bytes(size):
                    return b""
                return _field(self.id, MatchKind.OPTIONAL, delimited(1, names.string(int.from_bytes(value, "big"))))

        else:
            raise unimplemented(f"{what}: a {self.kind.name.lower()} match of a type translated to strings")
        self.encode, self.wire = encode, wire


def _wrong_kind(match: Any, kind: str, what: str) -> Exception:
    given = match.WhichOneof("field_match_type")
    return invalid(f"{what} is {kind}, but the entry has {given or 'no match'}")


def _exact(what: str, width: int) -> Encoder:
    size = octets(width)
    whole = not width & 7

    def encode(match: Any) -> bytes:
        value: bytes = match.exact.value
        if whole and len(value) == size:
            return value
        if not match.HasField("exact"):
            raise _wrong_kind(match, "exact", what)
        return fixed(value, width, what)

    return encode


def _lpm(what: str, width: int) -> Encoder:
    size = octets(width)
    whole = not width & 7
    host_bits = [(1 << (width - length)) - 1 for length in range(width + 1)]
    lengths = [struct.pack("<H", length) for length in range(width + 1)]

    def encode(match: Any) -> bytes:
        lpm = match.lpm
        value: bytes = lpm.value
        length: int = lpm.prefix_len
        if not (whole and len(value) == size):
            if not match.HasField("lpm"):
                raise _wrong_kind(match, "lpm", what)
            value = fixed(value, width, what)
        if not 0 < length <= width:
            if length == 0:
                raise invalid(f"{what}: a prefix of length 0 matches everything: leave the field out")
            raise invalid(f"{what}: prefix length {length} is not within 1..{width}")
        if int.from_bytes(value, "big") & host_bits[length]:
            raise invalid(f"{what}: 0x{value.hex()}/{length} has bits set beyond the prefix")
        return value + lengths[length]

    return encode


def _ternary(what: str, width: int) -> Encoder:
    def encode(match: Any) -> bytes:
        if not match.HasField("ternary"):
            raise _wrong_kind(match, "ternary", what)
        ternary = match.ternary
        value = fixed(ternary.value, width, what)
        mask = fixed(ternary.mask, width, f"{what} (mask)")
        bits = int.from_bytes(mask, "big")
        if not bits:
            raise invalid(f"{what}: a zero mask matches everything: leave the field out")
        if int.from_bytes(value, "big") & ~bits:
            raise invalid(f"{what}: value 0x{value.hex()} has bits set outside the mask 0x{mask.hex()}")
        return value + mask

    return encode


def _optional(what: str, width: int) -> Encoder:
    full = ((1 << width) - 1).to_bytes(octets(width), "big")

    def encode(match: Any) -> bytes:
        if not match.HasField("optional"):
            raise _wrong_kind(match, "optional", what)
        return fixed(match.optional.value, width, what) + full

    return encode


def _range(what: str, width: int, top: bytes) -> Encoder:
    zero = bytes(len(top))

    def encode(match: Any) -> bytes:
        if not match.HasField("range"):
            raise _wrong_kind(match, "range", what)
        low = fixed(match.range.low, width, f"{what} (low)")
        high = fixed(match.range.high, width, f"{what} (high)")
        if low > high:
            raise invalid(f"{what}: low 0x{low.hex()} is above high 0x{high.hex()}")
        if low == zero and high == top:
            raise invalid(f"{what}: the whole range matches everything: leave the field out")
        return low + high

    return encode


def _field(id_: int, kind: MatchKind, body: bytes) -> bytes:
    match = _FIELD_ID + varint(id_) + delimited(_NUMBERS[kind], body)
    return _MATCH_TAG + varint(len(match)) + match


def _exact_wire(id_: int, size: int) -> Wire:
    prefixes = []
    for length in range(size + 1):
        whole = _field(id_, MatchKind.EXACT, delimited(1, bytes(length)))
        prefixes.append(whole[: len(whole) - length])

    def wire(value: bytes, _second: bytes) -> bytes:
        value = value.lstrip(b"\0") or b"\0"
        return prefixes[len(value)] + value

    return wire


def _lpm_wire(id_: int) -> Wire:
    cache: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def wire(value: bytes, length: int) -> bytes:
        if not length:
            return b""
        value = value.lstrip(b"\0") or b"\0"
        size = len(value)
        frame = cache.get((size, length))
        if frame is None:
            tail = b"\x10" + varint(length)
            whole = _field(id_, MatchKind.LPM, delimited(1, bytes(size)) + tail)
            frame = cache[size, length] = (whole[: len(whole) - size - len(tail)], tail)
        return frame[0] + value + frame[1]

    return wire


def _pair_wire(id_: int, kind: MatchKind, nothing: bytes) -> Wire:
    def wire(value: bytes, mask: bytes) -> bytes:
        if mask == nothing:
            return b""
        return _field(id_, kind, delimited(1, canonical(value)) + delimited(2, canonical(mask)))

    return wire


def _optional_wire(id_: int, nothing: bytes) -> Wire:
    def wire(value: bytes, mask: bytes) -> bytes:
        if mask == nothing:
            return b""
        return _field(id_, MatchKind.OPTIONAL, delimited(1, canonical(value)))

    return wire


def _range_wire(id_: int, bottom: bytes, top: bytes) -> Wire:
    def wire(low: bytes, high: bytes) -> bytes:
        if low == bottom and high == top:
            return b""
        return _field(id_, MatchKind.RANGE, delimited(1, canonical(low)) + delimited(2, canonical(high)))

    return wire
