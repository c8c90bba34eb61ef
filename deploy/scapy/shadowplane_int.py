"""Scapy layers for INT v2.1 (MD over TCP and UDP, announced by a DSCP) and Telemetry Report v2.0.

For tests and people at a prompt; nothing of Shadowplane imports this file (scapy is GPL-2.0).

    >>> import sys; sys.path.append("deploy/scapy")
    >>> import shadowplane_int as inband
    >>> inband.announce(0x17)                 # UDP and TCP payloads under this DSCP are INT from now on
    >>> packet = Ether(frame); packet[inband.INTMD].hops()

Specifications: P4.org In-band Network Telemetry 2.1; Telemetry Report Format 2.0.
"""

from __future__ import annotations

from typing import Any

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    ConditionalField,
    FieldLenField,
    FlagsField,
    IntField,
    LongField,
    PacketListField,
    ShortField,
    StrLenField,
    XShortField,
)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw, bind_layers

DSCP = 0x17
REPORT_PORT = 32766
# (name, bytes) by instruction bit, the most significant first
METADATA = (
    ("node_id", 4),
    ("ports", 4),
    ("latency", 4),
    ("queue", 4),
    ("ingress_time", 8),
    ("egress_time", 8),
    ("ports2", 8),
    ("tx_utilization", 4),
    ("buffer", 4),
    *((f"reserved{bit}", 4) for bit in range(9, 15)),
    ("checksum_complement", 4),
)
BITS = [name for name, _ in reversed(METADATA)]


def split(bitmap: int, data: bytes) -> dict[str, int]:
    """Metadata by name for the bits of a bitmap; what ``data`` does not hold is left out."""
    out: dict[str, int] = {}
    for bit, (name, size) in enumerate(METADATA):
        if bitmap >> (15 - bit) & 1 and len(data) >= size:
            out[name], data = int.from_bytes(data[:size], "big"), data[size:]
    return out


class INTShim(Packet):  # type: ignore[misc]
    """Shim for TCP and UDP; ``length`` counts the words behind it."""

    name = "INT shim"
    fields_desc = [  # noqa: RUF012
        BitEnumField("type", 1, 4, {1: "MD", 2: "destination", 3: "MX"}),
        BitField("npt", 0, 2),
        BitField("reserved", 0, 2),
        ByteField("length", None),
        ByteField("reserved2", 0),
        BitField("dscp", 0, 6),
        BitField("reserved3", 0, 2),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Without a length given: that of the MD header that follows."""
        if self.length is None:
            follows = self.payload.getlayer(INTMD)
            words = 0 if follows is None else 3 + len(follows.stack) // 4
            pkt = pkt[:1] + bytes([words]) + pkt[2:]
        result: bytes = pkt + pay
        return result

    def guess_payload_class(self, payload: bytes) -> Any:
        return INTMD if self.type == 1 else Raw


class INTMD(Packet):  # type: ignore[misc]
    """MD metadata header and stack."""

    name = "INT-MD"
    fields_desc = [  # noqa: RUF012
        BitField("version", 2, 4),
        BitField("discard", 0, 1),
        BitField("hops_exceeded", 0, 1),
        BitField("mtu_exceeded", 0, 1),
        BitField("reserved", 0, 12),
        BitField("hop_words", 8, 5),
        ByteField("remaining_hops", 8),
        FlagsField("instructions", 0xFC00, 16, BITS),
        XShortField("domain", 0),
        XShortField("ds_instructions", 0),
        XShortField("ds_flags", 0),
        StrLenField("stack", b"", length_from=lambda packet: packet.stack_bytes()),
    ]

    def stack_bytes(self) -> int:
        """Bytes of the stack as the shim tells."""
        shim = self.underlayer
        length = shim.length if isinstance(shim, INTShim) and shim.length is not None else 3
        return max(0, (length - 3) * 4)

    def hops(self) -> list[dict[str, int]]:
        """The stack hop by hop, the latest first."""
        size = self.hop_words * 4
        if not size:
            return []
        bits = int(self.instructions)
        return [split(bits, self.stack[at : at + size]) for at in range(0, len(self.stack) - size + 1, size)]

    def guess_payload_class(self, payload: bytes) -> Any:
        return Raw


class IndividualReport(Packet):  # type: ignore[misc]
    """Individual Report Header with its contents."""

    name = "Individual telemetry report"
    fields_desc = [  # noqa: RUF012
        BitEnumField("rep_type", 1, 4, {0: "inner only", 1: "INT", 2: "IOAM"}),
        BitEnumField("in_type", 0, 4, {0: "none", 1: "TLV", 2: "DS", 3: "Ethernet", 4: "IPv4", 5: "IPv6"}),
        ByteField("length", None),
        FieldLenField("md_length", None, fmt="B", length_of="metadata", adjust=lambda _packet, size: size // 4),
        FlagsField("flags", 0, 4, ["I", "F", "Q", "D"]),
        BitField("reserved", 0, 4),
        ConditionalField(FlagsField("bits", 0, 16, BITS), lambda packet: packet.rep_type == 1),
        ConditionalField(XShortField("domain", 0), lambda packet: packet.rep_type == 1),
        ConditionalField(XShortField("ds_bits", 0), lambda packet: packet.rep_type == 1),
        ConditionalField(XShortField("ds_status", 0), lambda packet: packet.rep_type == 1),
        ConditionalField(
            StrLenField("metadata", b"", length_from=lambda packet: packet.md_length * 4),
            lambda packet: packet.rep_type == 1,
        ),
        StrLenField("inner", b"", length_from=lambda packet: packet.inner_bytes()),
    ]

    def inner_bytes(self) -> int:
        """Bytes behind the metadata."""
        fixed = (8 + self.md_length * 4) if self.rep_type == 1 else 0
        return max(0, (1 << 16 if self.length == 0xFF else self.length * 4) - fixed)

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.length is None:
            pkt = pkt[:1] + bytes([min(255, (len(pkt) - 4) // 4)]) + pkt[2:]
        result: bytes = pkt + pay
        return result

    def own(self) -> dict[str, int]:
        """The reporting node's metadata by name."""
        return split(int(self.bits), self.metadata) if self.rep_type == 1 else {}

    def packet(self) -> Any:
        """The packet fragment, with INT behind TCP or UDP if its DSCP announces it."""
        kind = {4: IP, 5: IPv6}.get(self.in_type, Raw)
        return kind(self.inner)

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return b"", s


class TelemetryReport(Packet):  # type: ignore[misc]
    """Telemetry Report Group Header with its reports."""

    name = "Telemetry report"
    fields_desc = [  # noqa: RUF012
        BitField("version", 2, 4),
        BitField("hw_id", 0, 6),
        BitField("sequence", 0, 22),
        IntField("node_id", 0),
        PacketListField("reports", [], IndividualReport),
    ]


class INTHop(Packet):  # type: ignore[misc]
    """One hop's metadata for the instructions 0xFC00: for building stacks by hand."""

    name = "INT hop"
    fields_desc = [  # noqa: RUF012
        IntField("node_id", 0),
        ShortField("ingress_port", 0),
        ShortField("egress_port", 0),
        IntField("latency", 0),
        ByteField("queue_id", 0),
        BitField("queue", 0, 24),
        LongField("ingress_time", 0),
        LongField("egress_time", 0),
    ]


def announced(layer: Packet, dscp: int) -> bool:
    """Whether the IP header around a TCP or UDP layer has the DSCP."""
    below = layer.underlayer
    if isinstance(below, IP):
        return bool(below.tos >> 2 == dscp)
    return isinstance(below, IPv6) and bool(below.tc >> 2 == dscp)


def announce(dscp: int = DSCP, report_port: int = REPORT_PORT) -> None:
    """Let scapy see INT behind TCP and UDP under ``dscp``, and telemetry reports at ``report_port``."""
    for kind in (UDP, TCP):
        plain = getattr(kind, "_before_int", kind.guess_payload_class)
        kind._before_int = plain

        def guess(self: Packet, payload: bytes, plain: Any = plain) -> Any:
            if announced(self, dscp) and len(payload) >= 16 and payload[0] >> 4 == 1:
                return INTShim
            return plain(self, payload)

        kind.guess_payload_class = guess
    bind_layers(UDP, TelemetryReport, dport=report_port)
