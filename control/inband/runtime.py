"""In-band telemetry while the control plane runs: entries on every switch, reports from every sink.

    telemetry = InbandTelemetry(topology, config, schema)
    await telemetry.restore("s1", switch)        # after each connection as primary
    telemetry.on_digest("s1", digest)            # from the stream
    asyncio.create_task(telemetry.run())         # export, where asked for

The tables of :data:`control.inband.entries.TABLES` are wholly ours: what is found in them and not wanted goes. Reports
are best effort; a gap in a flow's numbers is counted, never waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import permutations
from typing import Any, cast

import structlog
from finsy import P4Schema, P4TableEntry, Switch
from finsy.proto import p4r
from pydantic import BaseModel, ConfigDict, Field

from control.errors import InputError
from control.inband.entries import (
    MAX_FLOWS,
    REPORT_INSTRUCTIONS,
    InbandSettings,
    ReportFilter,
    WatchedFlow,
    digest_entry,
    inband_entries,
    wildcards,
)
from control.inband.export import Exporter
from control.inband.report import DIGEST, FlowReport, decode_list
from topo.spec import Topology

LOG = structlog.get_logger("shadowplane.inband")
BATCH = 500
KEPT_FLOWS = 4096


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FlowConfig(_Strict):
    """One watched flow; ``source`` and ``destination`` are hosts."""

    id: int = Field(ge=1, le=65535)
    source: str
    destination: str
    priority: int = Field(default=5, ge=0, le=7)
    protocol: int | None = Field(default=None, ge=0, le=255)
    port: int | None = Field(default=None, ge=0, le=65535)
    one_in: int = Field(default=1, ge=0, le=65535)


class InbandConfig(_Strict):
    """The key ``inband`` of the configuration file. Without ``flows``: every ordered pair of hosts of two switches."""

    dscp: int = 0x17
    hop_limit: int = Field(default=8, ge=1, le=255)
    mtu: int = Field(default=1500, ge=0, le=65535)
    latency_us: int = Field(default=2000, ge=0, lt=1 << 32)
    queue_packets: int = Field(default=32, ge=0, lt=1 << 24)
    min_interval_ms: float = Field(default=10.0, ge=0, le=1e6)
    max_interval_ms: float = Field(default=500.0, ge=0, le=1e6)
    priority: int = Field(default=5, ge=0, le=7)
    one_in: int = Field(default=10, ge=1, le=65535)
    flows: list[FlowConfig] | None = None
    export: str | None = None  # HOST:PORT

    def settings(self) -> InbandSettings:
        """Raises :class:`InputError` for a DSCP that cannot announce INT."""
        wanted = ReportFilter(self.latency_us, self.queue_packets, self.min_interval_ms, self.max_interval_ms)
        return InbandSettings(self.dscp, REPORT_INSTRUCTIONS, self.hop_limit, self.mtu, filter=wanted)

    def watched(self, topology: Topology) -> list[WatchedFlow]:
        if self.flows is not None:
            return [
                WatchedFlow(
                    item.id, item.source, item.destination, item.priority, item.protocol, item.port, item.one_in
                )
                for item in self.flows
            ]
        pairs = [(a, b) for a, b in permutations(topology.hosts, 2) if a.switch != b.switch]
        if len(pairs) > MAX_FLOWS:
            raise InputError(f"inband: {len(pairs)} pairs of hosts are too many; name the flows")
        return [WatchedFlow(n, a.name, b.name, self.priority, one_in=self.one_in) for n, (a, b) in enumerate(pairs, 1)]

    def collector(self) -> tuple[str, int] | None:
        if self.export is None:
            return None
        host, _, port = self.export.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"inband: export: {self.export!r} is not HOST:PORT")
        return host.strip("[]"), int(port)


class InbandTelemetry:
    """Owns the entries of the INT tables and what the sinks tell. One per service."""

    def __init__(
        self,
        topology: Topology,
        config: InbandConfig,
        schema: P4Schema,
        *,
        listeners: Sequence[Callable[[str, FlowReport], None]] = (),
    ) -> None:
        self.reports = 0
        self.malformed = 0
        self.missed = 0  # gaps in the numbers of flows
        self.latest: OrderedDict[tuple[str, str, str, int, int, int], FlowReport] = OrderedDict()
        self._schema = schema
        self._names = {switch.device_id: switch.name for switch in topology.switches}
        settings = config.settings()
        self._entries = inband_entries(topology, config.watched(topology), settings)
        self._digest = schema.digests[DIGEST].id
        self._listeners = list(listeners)
        address = config.collector()
        self.exporter = Exporter(address, dscp=settings.dscp) if address is not None else None

    def entries(self, switch: str) -> list[P4TableEntry]:
        return self._entries[switch]

    async def restore(self, switch: str, client: Switch) -> int:
        """Make the INT tables of a switch as they shall be, and subscribe; returns the updates written."""
        wanted = {self._key(entry): entry for entry in self._entries[switch]}
        updates: list[Any] = []
        async for found in cast("AsyncIterator[P4TableEntry]", client.read(wildcards())):
            if found.is_default_action:
                continue
            entry = wanted.get(self._key(found))
            if entry is None:
                updates.append(-found)
            elif self._raw(entry) == self._raw(found):
                del wanted[self._key(found)]
            else:
                updates.append(~entry)
                del wanted[self._key(found)]
        updates += [+entry for entry in wanted.values()]
        for begin in range(0, len(updates), BATCH):
            await client.write(updates[begin : begin + BATCH])
        await self._subscribe(client)
        LOG.info("in-band telemetry", switch=switch, written=len(updates))
        return len(updates)

    async def _subscribe(self, client: Switch) -> None:
        from finsy import P4ClientError

        try:
            await client.write([+digest_entry()])
        except P4ClientError:  # it was there before
            await client.write([~digest_entry()])

    def takes(self, digest_id: int) -> bool:
        return digest_id == self._digest

    def on_digest(self, switch: str, digest: p4r.DigestList) -> None:
        """Reports of one digest list, newest values kept per flow."""
        reports, malformed = decode_list(digest.data)
        self.malformed += malformed
        self.reports += len(reports)
        for report in reports:
            key = (switch, report.src, report.dst, report.protocol, report.sport, report.dport)
            before = self.latest.pop(key, None)
            if before is not None and report.seq > before.seq + 1:
                self.missed += report.seq - before.seq - 1
            self.latest[key] = report
            if len(self.latest) > KEPT_FLOWS:
                self.latest.popitem(last=False)
            if self.exporter is not None:
                self.exporter.put(report)
            for listener in self._listeners:
                listener(switch, report)

    async def run(self) -> None:
        """Export until cancelled; without a collector there is nothing to do."""
        if self.exporter is not None:
            await self.exporter.run()

    def status(self, limit: int = 50) -> dict[str, Any]:
        """Counts, and the latest report of up to ``limit`` flows, as plain values."""
        newest = list(self.latest.items())[-limit:]
        return {
            "reports": self.reports,
            "malformed": self.malformed,
            "missed": self.missed,
            "exported": self.exporter.sent if self.exporter is not None else 0,
            "export_dropped": self.exporter.dropped if self.exporter is not None else 0,
            "flows": [self._line(switch, report) for (switch, *_), report in newest],
        }

    def _line(self, switch: str, report: FlowReport) -> dict[str, Any]:
        return {
            "sink": switch,
            "flow_id": report.flow_id,
            "flow": f"{report.src}:{report.sport} > {report.dst}:{report.dport} ({report.protocol})",
            "path": [self._names.get(node, str(node)) for node in report.path],
            "complete": report.complete,
            "event": report.event.name.lower(),
            "latency_us": report.max_latency_us,
            "queue_packets": report.max_queue_packets,
            "links_us": [delay for _, _, delay in report.link_delays_us()],
            "seq": report.seq,
        }

    def _raw(self, entry: P4TableEntry) -> bytes:
        return entry.encode(self._schema).SerializeToString(deterministic=True)

    def _key(self, entry: P4TableEntry) -> bytes:
        """Table, match and priority."""
        message = p4r.Entity()
        message.CopyFrom(entry.encode(self._schema))
        message.table_entry.ClearField("action")
        match = sorted(message.table_entry.match, key=lambda field: field.field_id)
        del message.table_entry.match[:]
        message.table_entry.match.extend(match)
        return message.SerializeToString(deterministic=True)
