"""P4.org Telemetry Report, version 2.0: reports to bytes and back.

Formats and names from the Telemetry Report Format specification 2.0 ("Telemetry Report Group Header", "Individual
Report Header"). The reader accepts what other senders write: any report type, inner type and set of metadata; whatever
it does not know stays as bytes. It never believes a length.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from control.inband.int_md import HopMetadata, IntError, IntHeader, has, parse, unpack_hop, words

VERSION = 2
GROUP_BYTES = 8
MAX_DATAGRAM = 65507  # UDP over IPv4
_OPEN_END = 0xFF  # report length: to the end of the datagram
_MAIN_WORDS = 2  # fixed part of an INT report's main contents
_PROTOCOL_TCP, _PROTOCOL_UDP = 6, 17


class TelemetryReportError(ValueError):
    """A datagram that is no telemetry report of version 2; the text says where it goes wrong."""


class ReportType(IntEnum):
    INNER_ONLY = 0
    INT = 1
    IOAM = 2


class InnerType(IntEnum):
    NONE = 0
    TLV = 1
    DOMAIN_EXTENSION = 2
    ETHERNET = 3
    IPV4 = 4
    IPV6 = 5


@dataclass(frozen=True, slots=True)
class IndividualReport:
    """``metadata``: baseline and domain specific metadata as they stand; :meth:`hop` reads the former.

    Types that the specification reserves stay numbers.
    """

    report_type: int = ReportType.INT
    inner_type: int = InnerType.NONE
    dropped: bool = False
    congested: bool = False
    tracked: bool = False
    intermediate: bool = False
    metadata_bits: int = 0
    domain: int = 0
    domain_bits: int = 0
    domain_status: int = 0
    metadata: bytes = b""
    inner: bytes = b""

    def hop(self) -> HopMetadata:
        """The reporting node's own metadata. Raises :class:`control.inband.int_md.IntError` when cut short."""
        # Bit 0 is reserved here (the node stands in the group header), bit 15 is the drop reason.
        skipped = 4 if has(self.metadata_bits, 0) else 0
        return unpack_hop(self.metadata_bits & 0x7FFE, self.metadata[skipped:])

    def drop_reason(self) -> tuple[int, int] | None:
        """(queue id, reason) of a dropped packet, if told."""
        if not self.metadata_bits & 1:
            return None
        at = words(self.metadata_bits & 0x7FFE) * 4 + (4 if has(self.metadata_bits, 0) else 0)
        if len(self.metadata) < at + 4:
            return None
        return self.metadata[at], self.metadata[at + 1]

    def stack(self) -> IntHeader | None:
        """INT-MD over TCP or UDP embedded in the packet fragment, if there is any.

        Whether a DSCP announces INT is a matter of the domain; here a shim that makes sense is enough.
        """
        place = _behind_l4(self.inner_type, self.inner)
        if place is None:
            return None
        try:
            return parse(self.inner[place:])[0]
        except IntError:
            return None


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """One datagram: the group header and its reports."""

    node_id: int
    sequence: int
    hardware_id: int = 0
    reports: tuple[IndividualReport, ...] = field(default=())


def encode(report: TelemetryReport) -> bytes:
    """The datagram's payload.

    Raises:
        TelemetryReportError: values that have no room, or an open-ended report that is not the last.
    """
    if not 0 <= report.sequence < 1 << 22 or not 0 <= report.hardware_id < 1 << 6:
        raise TelemetryReportError("sequence number or hardware id out of range")
    if not 0 <= report.node_id < 1 << 32:
        raise TelemetryReportError(f"node id {report.node_id} does not fit 32 bits")
    out = [struct.pack("!II", VERSION << 28 | report.hardware_id << 22 | report.sequence, report.node_id)]
    for i, item in enumerate(report.reports):
        out.append(_encode_one(item, last=i == len(report.reports) - 1))
    data = b"".join(out)
    if len(data) > MAX_DATAGRAM:
        raise TelemetryReportError(f"{len(data)} bytes do not fit a datagram")
    return data


def _encode_one(item: IndividualReport, *, last: bool) -> bytes:
    if len(item.metadata) % 4 or len(item.inner) % 4:
        raise TelemetryReportError("metadata and inner contents are whole words")
    main = b""
    metadata_words = 0
    if item.report_type == ReportType.INT:
        metadata_words = len(item.metadata) // 4
        try:
            main = struct.pack("!HHHH", item.metadata_bits, item.domain, item.domain_bits, item.domain_status)
        except struct.error as error:
            raise TelemetryReportError(str(error)) from error
        main += item.metadata
    elif item.metadata:
        raise TelemetryReportError(f"report type {item.report_type} has no metadata here")
    length = (len(main) + len(item.inner)) // 4
    if length >= _OPEN_END:
        if not last:
            raise TelemetryReportError("only the last report of a datagram may be longer than 254 words")
        length = _OPEN_END
    if metadata_words > 255 or not 0 <= item.report_type < 16 or not 0 <= item.inner_type < 16:
        raise TelemetryReportError("type or metadata length out of range")
    flags = item.dropped << 7 | item.congested << 6 | item.tracked << 5 | item.intermediate << 4
    head = struct.pack("!BBBB", item.report_type << 4 | item.inner_type, length, metadata_words, flags)
    return head + main + item.inner


def decode(data: bytes) -> TelemetryReport:
    """The reports of one datagram.

    Raises:
        TelemetryReportError: another version, or lengths that do not fit.
    """
    if len(data) < GROUP_BYTES:
        raise TelemetryReportError(f"{len(data)} bytes are too few for a group header")
    first, node_id = struct.unpack_from("!II", data)
    if first >> 28 != VERSION:
        raise TelemetryReportError(f"version {first >> 28}, expected {VERSION}")
    reports: list[IndividualReport] = []
    at = GROUP_BYTES
    while at < len(data):
        item, at = _decode_one(data, at)
        reports.append(item)
    if not reports:
        raise TelemetryReportError("a group header without reports")
    return TelemetryReport(node_id, first & (1 << 22) - 1, first >> 22 & 63, tuple(reports))


def _decode_one(data: bytes, at: int) -> tuple[IndividualReport, int]:
    if len(data) - at < 4:
        raise TelemetryReportError(f"byte {at}: {len(data) - at} bytes are too few for a report header")
    types, length, metadata_words, flags = struct.unpack_from("!BBBB", data, at)
    begin = at + 4
    end = len(data) if length == _OPEN_END else begin + length * 4
    if end > len(data):
        raise TelemetryReportError(f"byte {at}: a report of {length} words in {len(data) - begin} bytes")
    if length == _OPEN_END and end - begin < _OPEN_END * 4:
        raise TelemetryReportError(f"byte {at}: an open-ended report shorter than {_OPEN_END} words")
    report_type = types >> 4
    bits = domain = domain_bits = status = 0
    metadata = b""
    if report_type == ReportType.INT:
        inner_at = begin + (_MAIN_WORDS + metadata_words) * 4
        if inner_at > end:
            raise TelemetryReportError(f"byte {at}: {metadata_words} words of metadata in a report of {length}")
        bits, domain, domain_bits, status = struct.unpack_from("!HHHH", data, begin)
        metadata = data[begin + _MAIN_WORDS * 4 : inner_at]
        if words(bits) > metadata_words:
            raise TelemetryReportError(f"byte {at}: metadata bits {bits:#06x} need more than {metadata_words} words")
    else:
        inner_at = begin
    item = IndividualReport(
        report_type=report_type,
        inner_type=types & 15,
        dropped=bool(flags & 0x80),
        congested=bool(flags & 0x40),
        tracked=bool(flags & 0x20),
        intermediate=bool(flags & 0x10),
        metadata_bits=bits,
        domain=domain,
        domain_bits=domain_bits,
        domain_status=status,
        metadata=metadata,
        inner=data[inner_at:end],
    )
    return item, end


def _behind_l4(inner_type: int, data: bytes) -> int | None:
    """Where the payload of TCP or UDP begins in a packet fragment; None if it is not there."""
    at = 0
    if inner_type == InnerType.ETHERNET:
        if len(data) < 14:
            return None
        kind = int.from_bytes(data[12:14], "big")
        inner_type = {0x0800: InnerType.IPV4, 0x86DD: InnerType.IPV6}.get(kind, InnerType.NONE)
        at = 14
    if inner_type == InnerType.IPV4 and len(data) >= at + 20 and data[at] >> 4 == 4:
        protocol, at = data[at + 9], at + (data[at] & 15) * 4
    elif inner_type == InnerType.IPV6 and len(data) >= at + 40 and data[at] >> 4 == 6:
        protocol, at = data[at + 6], at + 40
    else:
        return None
    if protocol == _PROTOCOL_UDP:
        return at + 8
    if protocol == _PROTOCOL_TCP and len(data) > at + 12:
        return at + (data[at + 12] >> 4) * 4
    return None


def coalesce(items: Sequence[IndividualReport], limit_bytes: int) -> list[list[IndividualReport]]:
    """Reports of one node in groups whose datagrams stay within ``limit_bytes``; one alone may be longer."""
    groups: list[list[IndividualReport]] = []
    room = 0
    for item in items:
        size = 12 + len(item.metadata) + len(item.inner)
        if not groups or size > room or size >= _OPEN_END * 4:
            groups.append([])
            room = limit_bytes - GROUP_BYTES
        groups[-1].append(item)
        room = room - size if size < _OPEN_END * 4 else 0
    return groups
