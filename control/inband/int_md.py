"""The INT v2.1 MD header as bytes: shim for TCP and UDP, metadata header, stack.

Formats and names from the P4.org In-band Network Telemetry specification, version 2.1, sections "INT over TCP/UDP" and
"INT-MD Metadata Header Format". Values that a node could not give are all ones on the wire and None here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SHIM_BYTES = 4
HEADER_BYTES = 12
TYPE_MD = 1
VERSION = 2
MAX_HOP_WORDS = 31
MAX_LENGTH = 255  # words behind the shim
_SHIM = struct.Struct("!BBBB")
_HEADER = struct.Struct("!IHHHH")
_ONES32, _ONES64 = (1 << 32) - 1, (1 << 64) - 1

# Instruction bits, counted from the most significant one.
NODE_ID, PORTS, LATENCY, QUEUE, INGRESS_TIME, EGRESS_TIME, PORTS2, TX_UTILIZATION, BUFFER = range(9)
CHECKSUM_COMPLEMENT = 15
WIDE = frozenset({INGRESS_TIME, EGRESS_TIME, PORTS2})  # eight bytes


class IntError(ValueError):
    """Bytes that are not what they should be; the text says where."""


def has(bitmap: int, bit: int) -> bool:
    """Whether an instruction bit (0 = most significant of 16) is set."""
    return bool(bitmap >> (15 - bit) & 1)


def words(bitmap: int) -> int:
    """Words that the bits of a bitmap take.

    >>> words(0xFC00), words(0x8001)
    (8, 2)
    """
    return sum(2 if bit in WIDE else 1 for bit in range(16) if has(bitmap, bit))


@dataclass(frozen=True, slots=True)
class HopMetadata:
    """What one node says. Units are the node's own; ours: microseconds, packets."""

    node_id: int | None = None
    ingress_port: int | None = None
    egress_port: int | None = None
    latency: int | None = None
    queue_id: int | None = None
    queue: int | None = None
    ingress_time: int | None = None
    egress_time: int | None = None
    ingress_port2: int | None = None
    egress_port2: int | None = None
    tx_utilization: int | None = None
    buffer_id: int | None = None
    buffer: int | None = None


@dataclass(frozen=True, slots=True)
class IntHeader:
    """Shim and MD header with the stack behind it. ``stack``: bytes, the hop nearest the reader first."""

    instructions: int
    hop_words: int
    remaining_hops: int
    original_dscp: int = 0
    discard: bool = False
    hops_exceeded: bool = False
    mtu_exceeded: bool = False
    domain: int = 0
    ds_instructions: int = 0
    ds_flags: int = 0
    stack: bytes = b""

    def pack(self) -> bytes:
        """Raises :class:`IntError` for values that have no room."""
        length = (HEADER_BYTES + len(self.stack)) // 4
        if len(self.stack) % 4 or length > MAX_LENGTH:
            raise IntError(f"a stack of {len(self.stack)} bytes has no room behind a shim")
        first = VERSION << 28 | self.discard << 27 | self.hops_exceeded << 26 | self.mtu_exceeded << 25
        try:
            shim = _SHIM.pack(TYPE_MD << 4, length, 0, self.original_dscp << 2)
            if not 0 <= self.hop_words <= MAX_HOP_WORDS or not 0 <= self.remaining_hops <= 255:
                raise IntError("hop words or remaining hops out of range")
            first |= self.hop_words << 8 | self.remaining_hops
            head = _HEADER.pack(first, self.instructions, self.domain, self.ds_instructions, self.ds_flags)
        except struct.error as error:
            raise IntError(str(error)) from error
        return shim + head + self.stack

    def hops(self) -> list[HopMetadata]:
        """The stack hop by hop, the latest first; source-only domain metadata at its end are left out."""
        size = self.hop_words * 4
        if not size or size < words(self.instructions) * 4:
            return []
        return [
            unpack_hop(self.instructions, self.stack[at : at + size])
            for at in range(0, len(self.stack) - size + 1, size)
        ]


def parse(data: bytes) -> tuple[IntHeader, int]:
    """(header, bytes that it takes) at the start of ``data``.

    Raises:
        IntError: not an MD header behind a shim of version 2, or cut short.
    """
    if len(data) < SHIM_BYTES + HEADER_BYTES:
        raise IntError(f"{len(data)} bytes are too few for shim and MD header")
    kind, length, _, dscp = _SHIM.unpack_from(data)
    first, instructions, domain, ds_instructions, ds_flags = _HEADER.unpack_from(data, SHIM_BYTES)
    if kind >> 4 != TYPE_MD or kind >> 2 & 3:
        raise IntError(f"shim type {kind >> 4} (next protocol {kind >> 2 & 3}) is not MD over the packet's own DSCP")
    if first >> 28 != VERSION:
        raise IntError(f"MD header version {first >> 28}, expected {VERSION}")
    end = SHIM_BYTES + length * 4
    if length * 4 < HEADER_BYTES or end > len(data):
        raise IntError(f"a shim length of {length} words does not fit {len(data)} bytes")
    header = IntHeader(
        instructions=instructions,
        hop_words=first >> 8 & 31,
        remaining_hops=first & 255,
        original_dscp=dscp >> 2,
        discard=bool(first >> 27 & 1),
        hops_exceeded=bool(first >> 26 & 1),
        mtu_exceeded=bool(first >> 25 & 1),
        domain=domain,
        ds_instructions=ds_instructions,
        ds_flags=ds_flags,
        stack=data[SHIM_BYTES + HEADER_BYTES : end],
    )
    return header, end


def unpack_hop(bitmap: int, data: bytes) -> HopMetadata:
    """One hop's metadata. Raises :class:`IntError` when ``data`` is shorter than the bitmap says."""
    if len(data) < words(bitmap) * 4:
        raise IntError(f"{len(data)} bytes for {words(bitmap)} words of metadata")
    found: dict[int, int | None] = {}
    at = 0
    for bit in range(16):
        if has(bitmap, bit):
            size, ones = (8, _ONES64) if bit in WIDE else (4, _ONES32)
            value = int.from_bytes(data[at : at + size], "big")
            found[bit] = None if value == ones else value
            at += size
    ports, ports2 = found.get(PORTS), found.get(PORTS2)
    queue, buffer = found.get(QUEUE), found.get(BUFFER)
    return HopMetadata(
        node_id=found.get(NODE_ID),
        ingress_port=None if ports is None else ports >> 16,
        egress_port=None if ports is None else ports & 0xFFFF,
        latency=found.get(LATENCY),
        queue_id=None if queue is None else queue >> 24,
        queue=None if queue is None else queue & 0xFFFFFF,
        ingress_time=found.get(INGRESS_TIME),
        egress_time=found.get(EGRESS_TIME),
        ingress_port2=None if ports2 is None else ports2 >> 32,
        egress_port2=None if ports2 is None else ports2 & _ONES32,
        tx_utilization=found.get(TX_UTILIZATION),
        buffer_id=None if buffer is None else buffer >> 24,
        buffer=None if buffer is None else buffer & 0xFFFFFF,
    )


def pack_hop(bitmap: int, hop: HopMetadata) -> bytes:
    """One hop's metadata as bytes; what it does not say, and reserved bits, become all ones."""
    values = {
        NODE_ID: hop.node_id,
        PORTS: _pair(hop.ingress_port, hop.egress_port, 16),
        LATENCY: hop.latency,
        QUEUE: _pair(hop.queue_id, hop.queue, 24),
        INGRESS_TIME: hop.ingress_time,
        EGRESS_TIME: hop.egress_time,
        PORTS2: _pair(hop.ingress_port2, hop.egress_port2, 32),
        TX_UTILIZATION: hop.tx_utilization,
        BUFFER: _pair(hop.buffer_id, hop.buffer, 24),
    }
    out = bytearray()
    for bit in range(16):
        if has(bitmap, bit):
            size, ones = (8, _ONES64) if bit in WIDE else (4, _ONES32)
            value = values.get(bit)
            try:
                out += (ones if value is None else value).to_bytes(size, "big")
            except OverflowError as error:
                raise IntError(f"the value of instruction bit {bit} has no room") from error
    return bytes(out)


def _pair(high: int | None, low: int | None, width: int) -> int | None:
    if high is None or low is None:
        return None
    if not 0 <= low < 1 << width:
        raise IntError(f"{low} does not fit {width} bits")
    return high << width | low
