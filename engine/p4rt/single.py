"""Writes of one register cell or one plain table entry by native code (``engine/native/p4rt/single.c``).

It decodes the request, checks who sends it, asks the data plane and hears its answer, in 8 µs of a processor where
Python takes 13 (register) to 22 (entry). Like :mod:`engine.p4rt.decoder` it leaves to others whatever is not simple or
right.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

from engine.connection import Exchange
from engine.p4rt.decoder import Decoder, library
from engine.p4rt.schema import Schema
from engine.p4rt.values import octets

SINGLE_MOST = 4096  # bytes of a request; beyond, it is hardly a single small write
_HEADER_BYTES = 12
_ROOM = 64  # bytes of a message beside its one update


class Outcome(IntEnum):
    BROKEN = -1  # the data plane did not answer
    LEFT = 0  # to others; nothing was sent
    DONE = 1
    REFUSED = 2  # by the data plane, which changed nothing


class _Single(ctypes.Structure):
    _fields_ = (
        ("plan", ctypes.c_void_p),
        ("registers", ctypes.c_void_p),
        ("most", ctypes.c_uint32),
        ("n_registers", ctypes.c_uint32),
        ("out", ctypes.c_void_p),
        ("room", ctypes.c_uint32),
    )


class Single:
    """Single writes to one pipeline over ``exchange``, which other threads may use, too. Thread-safe."""

    def __init__(self, schema: Schema, decoder: Decoder, exchange: Exchange) -> None:
        self._exchange = exchange
        registers = [
            word
            for array in schema.registers.values()
            if not array.signed and not array.boolean
            for word in (array.id, array.index, array.size, array.width)
        ]
        widest = max((octets(array.width) for array in schema.registers.values()), default=0)
        room = _ROOM + max(decoder.most, widest)
        self._cells = (ctypes.c_uint32 * len(registers))(*registers)
        self._out = ctypes.create_string_buffer(_HEADER_BYTES + room)
        self._decoder = decoder  # its plan must live as long as we do
        address = ctypes.addressof
        self._single = _Single(
            address(decoder.plan), address(self._cells), decoder.most, len(registers) // 4, address(self._out), room
        )
        self._pointer = ctypes.byref(self._single)
        native = library()
        self._function = native.sp_write_single if native is not None else None
        if self._function is not None:
            u32, u64, number = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int
            self._function.argtypes = (ctypes.c_void_p, ctypes.c_char_p, u32, u64, u64, u64, number, number, u32)
            self._function.restype = number

    def write(self, data: bytes, device_id: int, election: int, *, tables: bool) -> int:
        """A serialized WriteRequest of the default role's primary; an :class:`Outcome`. ``tables``: table entries, too.

        :class:`DatapathError` UNAVAILABLE when the data plane cannot be reached.
        """
        function = self._function
        if function is None:
            return Outcome.LEFT
        high, low = election >> 64, election & (1 << 64) - 1
        return self._exchange.directly(
            lambda socket, ident: function(self._pointer, data, len(data), device_id, high, low, tables, socket, ident)
        )
