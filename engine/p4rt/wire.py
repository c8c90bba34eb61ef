"""Small conversions shared by writes and reads of counters, meters and registers."""

from __future__ import annotations

import struct

from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.schema import ArraySchema
from engine.p4rt.stubs import p4d, p4r
from engine.p4rt.values import decode, decode_signed, encode, encode_signed, varint

METER_UNSET = b"\xff" * 32
READ_ENTITIES = varint(p4r.ReadResponse.ENTITIES_FIELD_NUMBER << 3 | 2)


def cell_value(array: ArraySchema, data: p4d.P4Data) -> int:
    """The bit pattern in a RegisterEntry's data."""
    kind = data.WhichOneof("data")
    what = f"register {array.name}"
    if array.boolean and kind == "bool":
        return int(data.bool)
    if kind != "bitstring":
        raise invalid(f"{what}: data is {kind or 'missing'}, a bitstring is expected")
    if array.signed:
        return decode_signed(data.bitstring, array.width, what)
    return decode(data.bitstring, array.width, what)


def cell_data(array: ArraySchema, value: int) -> p4d.P4Data:
    """Inverse of :func:`cell_value`."""
    if array.boolean:
        return p4d.P4Data(bool=bool(value))
    return p4d.P4Data(bitstring=encode_signed(value, array.width) if array.signed else encode(value))


def check_index(array: ArraySchema, what: str, index: int) -> int:
    """The index, or OUT_OF_RANGE."""
    if not 0 <= index < array.size:
        raise P4Error(Rpc.OUT_OF_RANGE, f"{what} {array.name}: index {index} is not within 0..{array.size - 1}")
    return index


def meter_wire(config: p4r.MeterConfig, what: str) -> bytes:
    """A configuration in the data plane's form."""
    return struct.pack("<4Q", *meter_values(config, what))


def meter_config(raw: bytes) -> p4r.MeterConfig | None:
    """Inverse of :func:`meter_wire`; None: not configured."""
    if raw == METER_UNSET:
        return None
    cir, cburst, pir, pburst = struct.unpack("<4Q", raw)
    return p4r.MeterConfig(cir=cir, cburst=cburst, pir=pir, pburst=pburst)


def meter_values(config: p4r.MeterConfig, what: str) -> tuple[int, int, int, int]:
    """(cir, cburst, pir, pburst) of a two-rate three-colour meter."""
    values = (config.cir, config.cburst, config.pir, config.pburst)
    if min(values) < 0:
        raise invalid(f"{what}: rates and bursts cannot be negative")
    if config.eburst:
        raise invalid(f"{what}: eburst belongs to single-rate meters; this one has two rates")
    if config.cir > config.pir or config.cburst > config.pburst:
        raise invalid(f"{what}: the committed rate and burst cannot exceed the peak rate and burst")
    return values
