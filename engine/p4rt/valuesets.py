"""Members of parser value sets (ValueSetEntry) as values and masks, which is what the data plane compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.api import MatchKind
from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.fields import FieldSchema
from engine.p4rt.schema import ValueSetSchema
from engine.p4rt.stubs import p4r
from engine.p4rt.values import octets

MOST_PAIRS = 65536  # values with masks of one set: a range makes several


def pairs(schema: ValueSetSchema, entry: p4r.ValueSetEntry) -> list[tuple[int, int]]:
    """(value, mask) of every member; the fields of a struct are concatenated, first field first."""
    array = schema.array
    if array.size and len(entry.members) > array.size:
        raise P4Error(
            Rpc.RESOURCE_EXHAUSTED, f"value set {array.name}: {len(entry.members)} members, its size is {array.size}"
        )
    out: list[tuple[int, int]] = []
    for member in entry.members:
        given: dict[int, Any] = {}
        for match in member.match:
            if match.field_id in given:
                raise invalid(f"value set {array.name}: field {match.field_id} is given twice")
            given[match.field_id] = match
        found = [(0, 0)]
        for field in schema.fields:
            alternatives = list(_field(field, given.pop(field.id, None), array.name))
            found = [(v << field.width | fv, m << field.width | fm) for v, m in found for fv, fm in alternatives]
            if len(out) + len(found) > MOST_PAIRS:
                raise P4Error(Rpc.RESOURCE_EXHAUSTED, f"value set {array.name}: its ranges are too many")
        if given:
            raise invalid(f"value set {array.name} has no field with id {min(given)}")
        out += found
    return out


def _field(field: FieldSchema, match: Any, name: str) -> Iterator[tuple[int, int]]:
    data = field.absent if match is None else field.encode(match)
    if data is None:
        raise invalid(f"value set {name}: an exact value for {field.name} is expected")
    size = octets(field.width)
    full = (1 << field.width) - 1
    value = int.from_bytes(data[:size], "big")
    if field.kind is MatchKind.EXACT:
        yield value, full
    elif field.kind is MatchKind.LPM:
        length = int.from_bytes(data[size:], "little")
        yield value, full ^ full >> length
    elif field.kind is MatchKind.RANGE:
        yield from _prefixes(value, int.from_bytes(data[size:], "big"), field.width)
    else:
        yield value, int.from_bytes(data[size:], "big")


def _prefixes(low: int, high: int, width: int) -> Iterator[tuple[int, int]]:
    """The fewest (value, mask) prefixes that cover low..high: at most ``2 * width - 2``.

    >>> list(_prefixes(1, 6, 3))
    [(1, 7), (2, 6), (4, 6), (6, 7)]
    """
    full = (1 << width) - 1
    while low <= high:
        bits = (low & -low).bit_length() - 1 if low else width
        while low + (1 << bits) - 1 > high:
            bits -= 1
        yield low, full ^ (1 << bits) - 1
        low += 1 << bits
