"""Flow reports as Telemetry Reports v2.0 over UDP, for collectors of others.

    exporter = Exporter(("127.0.0.1", 32766))
    task = asyncio.create_task(exporter.run())
    exporter.put(report)                # never waits; what has no room is counted in `dropped`

A report holds what the packet carried when the sink took it out: an IP and TCP or UDP header made from the flow's
fields, the INT shim and MD header, and the stack of the hops before the sink. The sink's own hop stands in the report's
metadata, as the specification has it ("Embedded Telemetry Metadata In Stacked Reports"). Payload, lengths and sequence
numbers of the packet itself are not known any more: such fields are those of a packet without payload, or 0.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from control.inband.int_md import HopMetadata, IntHeader, pack_hop
from control.inband.report import FlowEvent, FlowFlag, FlowReport
from control.inband.telemetry_report import IndividualReport, InnerType, TelemetryReport, coalesce, encode

LOG = structlog.get_logger("shadowplane.inband")
DEFAULT_ADDRESS = ("127.0.0.1", 32766)
INSTRUCTIONS = 0xFC00
HOP_WORDS = 8
SINK_BITS = 0x7800  # ports, latency, queue, ingress time
PORTS_ONLY = 0x4000
LIMIT_BYTES = 1400
_TCP, _UDP = 6, 17


def individual(report: FlowReport, dscp: int) -> IndividualReport:
    """One flow report as an individual report; ``dscp``: the one that announces INT."""
    known = report.sink_time_us != 0
    bits = SINK_BITS if known else PORTS_ONLY
    own = HopMetadata(
        ingress_port=report.sink_ingress_port,
        egress_port=report.sink_egress_port,
        latency=report.sink_latency_us,
        queue_id=report.sink_queue_id,
        queue=report.sink_queue_packets,
        ingress_time=report.sink_time_us,
    )
    return IndividualReport(
        inner_type=InnerType.IPV6 if report.flags & FlowFlag.IPV6 else InnerType.IPV4,
        congested=report.event is FlowEvent.QUEUE,
        tracked=True,
        metadata_bits=bits,
        metadata=pack_hop(bits, own),
        inner=_packet(report, dscp),
    )


def _packet(report: FlowReport, dscp: int) -> bytes:
    hops = [
        HopMetadata(
            node_id=hop.node_id,
            ingress_port=hop.ingress_port,
            egress_port=hop.egress_port,
            latency=hop.latency_us,
            queue_id=hop.queue_id,
            queue=hop.queue_packets,
            ingress_time=hop.ingress_time_us,
            egress_time=hop.egress_time_us,
        )
        for hop in reversed(report.hops)
    ]
    telemetry = IntHeader(
        instructions=INSTRUCTIONS,
        hop_words=HOP_WORDS,
        remaining_hops=0,
        hops_exceeded=bool(report.flags & FlowFlag.HOPS_EXCEEDED),
        mtu_exceeded=bool(report.flags & FlowFlag.MTU_EXCEEDED),
        stack=b"".join(pack_hop(INSTRUCTIONS, hop) for hop in hops),
    ).pack()
    if report.protocol == _UDP:
        head = struct.pack("!HHHH", report.sport, report.dport, 8 + len(telemetry), 0)
    else:
        head = struct.pack("!HHIIBBHHH", report.sport, report.dport, 0, 0, 5 << 4, 0, 0, 0, 0)
    segment = head + telemetry
    source, target = ipaddress.ip_address(report.src).packed, ipaddress.ip_address(report.dst).packed
    if report.flags & FlowFlag.IPV6:
        first = 6 << 28 | dscp << 22
        return struct.pack("!IHBB", first, len(segment), report.protocol, 0) + source + target + segment
    length = 20 + len(segment)
    return struct.pack("!BBHHHBBH", 0x45, dscp << 2, length, 0, 0, 0, report.protocol, 0) + source + target + segment


def exportable(report: FlowReport) -> bool:
    """Telemetry is carried behind TCP and UDP only."""
    return report.protocol in (_TCP, _UDP)


class Encoder:
    """Numbers the datagrams per node and makes bytes of them."""

    def __init__(self, dscp: int, limit_bytes: int = LIMIT_BYTES) -> None:
        self._dscp = dscp
        self._limit = limit_bytes
        self._sequence: dict[int, int] = {}

    def datagrams(self, reports: Sequence[FlowReport]) -> list[tuple[bytes, int]]:
        """(datagram, reports in it), as few as the size allows; each holds the reports of one sink."""
        nodes: dict[int, list[IndividualReport]] = {}
        for report in reports:
            nodes.setdefault(report.sink_node, []).append(individual(report, self._dscp))
        out = []
        for node, items in nodes.items():
            for group in coalesce(items, self._limit):
                sequence = self._sequence.get(node, 0)
                self._sequence[node] = (sequence + 1) % (1 << 22)
                out.append((encode(TelemetryReport(node, sequence, reports=tuple(group))), len(group)))
        return out


class Exporter:
    """Sends flow reports to one collector. A collector that does not answer costs nothing but the reports."""

    def __init__(
        self, address: tuple[str, int] = DEFAULT_ADDRESS, *, dscp: int = 0x17, limit: int = 4096, batch: int = 64
    ) -> None:
        self.address = address
        self.sent = 0  # reports
        self.datagrams = 0
        self.dropped = 0  # no room, or not to be sent
        self._queue: deque[FlowReport] = deque()
        self._limit = limit
        self._batch = batch
        self._encoder = Encoder(dscp)
        self._wake = asyncio.Event()

    def put(self, report: FlowReport) -> None:
        """Take a report for sending; the newest is dropped when there is no room, or it cannot be carried."""
        if len(self._queue) >= self._limit or not exportable(report):
            self.dropped += 1
            return
        self._queue.append(report)
        self._wake.set()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def send_waiting(self, send: Callable[[bytes], object]) -> None:
        """Give one batch to ``send``; an OSError of it costs that datagram."""
        batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
        for data, held in self._encoder.datagrams(batch):
            try:
                send(data)
            except OSError as error:
                self.dropped += held
                LOG.debug("telemetry report not sent", address=self.address, reason=str(error))
            else:
                self.datagrams += 1
                self.sent += held

    async def run(self) -> None:
        """Send until cancelled."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_Ignore, remote_addr=self.address)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    self.send_waiting(transport.sendto)
                    await asyncio.sleep(0)
        finally:
            with suppress(RuntimeError):  # the loop may be gone already
                transport.close()


class _Ignore(asyncio.DatagramProtocol):
    """Nothing is expected back; a refused port is the collector's business."""

    def error_received(self, exc: Exception) -> None:
        LOG.debug("telemetry collector", reason=str(exc))
