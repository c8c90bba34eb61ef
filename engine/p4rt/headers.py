"""Controller headers: P4Runtime packet metadata to and from the bytes in front of a packet.

P4Info lists the fields of the ``packet_in`` and ``packet_out`` headers in order (``ControllerPacketMetadata``); they
are packed most significant bit first and padded at the end to whole bytes, as the P4 header is.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.p4rt.errors import invalid, unimplemented
from engine.p4rt.stubs import p4i, p4r
from engine.p4rt.values import decode, encode, octets


class HeaderSchema:
    """One controller header. ``size`` is in bytes."""

    def __init__(self, info: p4i.ControllerPacketMetadata) -> None:
        self.name = info.preamble.name
        self.fields = tuple((item.id, item.name, item.bitwidth) for item in info.metadata)
        for _id, name, width in self.fields:
            if width <= 0:
                raise unimplemented(f"controller header {self.name}: field {name} has a translated string type")
        self.bits = sum(width for _id, _name, width in self.fields)
        self.size = octets(self.bits)
        self._spare = self.size * 8 - self.bits

    def pack(self, metadata: Iterable[p4r.PacketMetadata]) -> bytes:
        """Header bytes for a packet-out. Every field must be given, except padding (names starting with ``_``)."""
        given: dict[int, bytes] = {}
        for item in metadata:
            if item.metadata_id in given:
                raise invalid(f"{self.name}: metadata id {item.metadata_id} is given twice")
            given[item.metadata_id] = item.value
        value = 0
        for id_, name, width in self.fields:
            raw = given.pop(id_, None)
            if raw is None:
                if not _padding(name):
                    raise invalid(f"{self.name}: metadata {name} is missing")
                raw = b"\0"
            value = value << width | decode(raw, width, f"{self.name}: metadata {name}")
        if given:
            raise invalid(f"{self.name} has no metadata with id {min(given)}")
        return (value << self._spare).to_bytes(self.size, "big")

    def unpack(self, data: bytes) -> list[p4r.PacketMetadata]:
        """The metadata in the header at the start of ``data``, canonical."""
        value = int.from_bytes(data[: self.size], "big") >> self._spare
        out = []
        shift = self.bits
        for id_, _name, width in self.fields:
            shift -= width
            out.append(p4r.PacketMetadata(metadata_id=id_, value=encode(value >> shift & ((1 << width) - 1))))
        return out


def _padding(name: str) -> bool:
    return name.startswith(("_", "pad"))
