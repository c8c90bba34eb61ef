"""Controller headers: P4Runtime packet metadata to and from the bytes in front of a packet.

P4Info lists the fields of the ``packet_in`` and ``packet_out`` headers in order (``ControllerPacketMetadata``); they
are packed most significant bit first and padded at the end to whole bytes, as the P4 header is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.p4rt.errors import invalid, unimplemented
from engine.p4rt.names import Names, Translations
from engine.p4rt.stubs import p4i, p4r
from engine.p4rt.values import decode, encode, octets


@dataclass(frozen=True, slots=True)
class _Field:
    id: int
    name: str
    width: int  # bits in the data plane
    names: Names | None  # strings, None: numbers


class HeaderSchema:
    """One controller header. ``size`` is in bytes.

    ``widths``: of the header's fields in the program, which differ from P4Info's for translated types.
    """

    def __init__(
        self, info: p4i.ControllerPacketMetadata, translations: Translations, widths: Mapping[str, int]
    ) -> None:
        self.name = info.preamble.name
        fields = []
        for item in info.metadata:
            what = f"controller header {self.name}: field {item.name}"
            width = widths.get(item.name, item.bitwidth)
            if width <= 0:
                raise unimplemented(f"{what} has a translated type and a width that the program does not tell")
            fields.append(_Field(item.id, item.name, width, translations.of(item.type_name.name, width, what)))
        self.fields = tuple(fields)
        self.bits = sum(item.width for item in self.fields)
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
        for field in self.fields:
            raw = given.pop(field.id, None)
            what = f"{self.name}: metadata {field.name}"
            if raw is None:
                if not _padding(field.name):
                    raise invalid(f"{what} is missing")
                number = 0
            elif field.names is not None:
                number = field.names.number(raw, what)
            else:
                number = decode(raw, field.width, what)
            value = value << field.width | number
        if given:
            raise invalid(f"{self.name} has no metadata with id {min(given)}")
        return (value << self._spare).to_bytes(self.size, "big")

    def unpack(self, data: bytes) -> list[p4r.PacketMetadata]:
        """The metadata in the header at the start of ``data``, canonical."""
        value = int.from_bytes(data[: self.size], "big") >> self._spare
        out = []
        shift = self.bits
        for field in self.fields:
            shift -= field.width
            number = value >> shift & ((1 << field.width) - 1)
            text = encode(number) if field.names is None else field.names.string(number)
            out.append(p4r.PacketMetadata(metadata_id=field.id, value=text))
        return out


def _padding(name: str) -> bool:
    return name.startswith(("_", "pad"))
