"""In-band telemetry while the control plane runs: entries on every switch, reports from every sink.

    telemetry = InbandTelemetry(topology, config, schema)
    await telemetry.restore("s1", switch)        # after each connection as primary
    telemetry.on_digest("s1", digest)            # from the stream
    for sample in telemetry.take(now_s): ...     # every few ms: what packets met, once per interval
    asyncio.create_task(telemetry.run())         # export, where asked for

The tables of :data:`control.inband.entries.TABLES` are wholly ours: what is found in them and not wanted goes. Reports
are best effort; a gap in a flow's numbers is counted, never waited for. They are worked off in batches, as columns
(:mod:`control.inband.columns`): objects are made of those only that somebody looks at, or that are exported.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import structlog
from finsy import P4Schema, P4TableEntry, Switch
from finsy.proto import p4r
from pydantic import BaseModel, ConfigDict, Field

from control.errors import InputError
from control.inband.columns import read, select
from control.inband.domain import Domain
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
from control.inband.flows import FlowTable
from control.inband.report import DIGEST, FlowReport, decode
from control.inband.sight import Sight
from control.inband.standin import StandIn
from control.intake import Columns, in_turn
from ml.schema import DeviceSample, PortSample
from topo.spec import Topology

if TYPE_CHECKING:
    from control.recorder import Recorder

LOG = structlog.get_logger("shadowplane.inband")
BATCH = 500
KEPT_FLOWS = 4096
MOST_REPORTS = 65_536  # waiting for the next round
MOST_OF_A_FLOW = 64  # in one batch
ENDED = 5.0  # times the longest time between two reports: a flow that is silent for longer has ended
LAB_INTERVAL_S = 0.05


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
    priority: int = Field(default=0, ge=0, le=7)  # also of the queue: by default watching moves no packet
    one_in: int = Field(default=10, ge=1, le=65535)
    flows: list[FlowConfig] | None = None
    interval_ms: float | None = Field(default=None, ge=10, le=1e6)  # of what models get; None: the profile's sampling
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
        interval_s: float = LAB_INTERVAL_S,
        recorder: Recorder | None = None,
    ) -> None:
        self._schema = schema
        self._recorder = recorder
        self._names = {switch.device_id: switch.name for switch in topology.switches}
        settings, watched = config.settings(), config.watched(topology)
        self._entries = inband_entries(topology, watched, settings)
        self._digest = schema.digests[DIGEST].id
        address = config.collector()
        self.exporter = Exporter(address, dscp=settings.dscp) if address is not None else None
        self.interval_s = config.interval_ms / 1000 if config.interval_ms is not None else interval_s
        self._silent_s = max(ENDED * config.max_interval_ms / 1000, 2.0 * self.interval_s)
        shares = np.zeros(1 << 16)
        for flow in watched:
            shares[flow.flow_id] = flow.one_in
        self.domain = Domain(topology)
        self.flows = FlowTable(KEPT_FLOWS, shares, self.interval_s)
        self.counts = self.flows.counts
        self.sight = Sight(self.domain, self.flows)
        self.standin = StandIn(self.domain, self.sight, self.interval_s)
        self._waiting: list[tuple[int, Sequence[Any]]] = []
        self._held = 0
        self._due_s = -np.inf
        self.since: float | None = None  # when the oldest report that no sample tells of yet came (time.perf_counter)

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
        """Reports of one digest list; worked off by :meth:`take`, the oldest dropped when too many wait."""
        number = self.domain.number.get(switch)
        if number is None or not digest.data:
            return
        if self.since is None:
            self.since = time.perf_counter()
        self._waiting.append((number, digest.data))
        self._held += len(digest.data)
        while self._held > MOST_REPORTS and len(self._waiting) > 1:
            _, gone = self._waiting.pop(0)
            self._held -= len(gone)
            self.counts.dropped += len(gone)

    def joined(self, sample: Any, now_s: float) -> Any:
        """What was polled, as the models shall have it beside what reports tell; other items as they are."""
        if isinstance(sample, PortSample | DeviceSample):
            return self.standin.polled(sample, now_s)
        return sample

    def told(self, columns: Columns, now_s: float) -> None:
        """Port reports of switches that nobody polls, which tell their ports' traffic."""
        self.standin.reported(columns.rows[~np.isnan(columns.values["tx_bytes_total"])], now_s)

    def take(self, now_s: float) -> list[PortSample | DeviceSample]:
        """Work off what waits; samples where an interval has ended."""
        if self._waiting:
            self._work_off(now_s)
        if now_s < self._due_s <= now_s + 2.0 * self.interval_s:
            return []
        self._due_s = now_s + self.interval_s
        seen = self.sight.take(now_s, self._silent_s)
        ports, devices = self.standin.ports(seen, now_s), self.standin.devices(seen, now_s)
        if self._recorder is not None:
            # A counter that stands in is for the models only: history has the real one.
            kept = [replace(item, tx_bytes_total=np.nan, rate_bps=np.nan) for item in ports]
            self._recorder.samples([*kept, *devices], "inband")
        self.since = None
        return [*ports, *devices]

    def _work_off(self, now_s: float) -> None:
        waiting, self._waiting, self._held = self._waiting, [], 0
        columns, items, malformed = read(waiting)
        self.counts.malformed += malformed
        self.counts.reports += len(columns)
        switches, ports, possible = self.domain.places(columns)
        if not possible.all():
            self.counts.absurd += int((~possible).sum())
            pick = np.flatnonzero(possible)
            columns, switches, ports = select(columns, pick), switches[pick], ports[pick]
            items = [items[place] for place in pick.tolist()]
        if not items:
            return
        rows = self.flows.rows(columns.sender.tolist(), columns.key)
        turns, flood = in_turn(rows.astype(np.int64), MOST_OF_A_FLOW)
        self.counts.dropped += flood
        for pick in turns:
            news = self.sight.learn(rows[pick], select(columns, pick), switches[pick], ports[pick], now_s)
            for place in pick[news].tolist():
                self.flows.latest[rows[place]] = items[place]
        if self.exporter is not None:
            for item in items:
                self.exporter.put(_report(item))
        if self._recorder is not None and self._recorder.writer is not None:
            self._recorder.flows(now_s, [self._label(row) for row in rows.tolist()], columns, ports)

    def _label(self, row: int) -> str:
        """The flow as history names it."""
        label = self.flows.labels[row]
        if label is None:
            label = self.flows.labels[row] = _flow(_report(self.flows.latest[row]))
        return label

    def forget(self) -> None:
        """What reports told so far; entries and counts stay."""
        self._waiting, self._held, self.since = [], 0, None
        self.sight.forget()
        self.standin.forget()

    async def run(self) -> None:
        """Export until cancelled; without a collector there is nothing to do."""
        if self.exporter is not None:
            await self.exporter.run()

    def status(self, limit: int = 50) -> dict[str, Any]:
        """Counts, and the latest report of up to ``limit`` flows, as plain values."""
        rows = sorted(self.flows.keys.values(), key=lambda row: -self.flows.seen_s[row])[:limit]
        return {
            **asdict(self.counts),
            "standing_in": [self.domain.elements[row] for row in np.flatnonzero(self.standin.standing).tolist()],
            "exported": self.exporter.sent if self.exporter is not None else 0,
            "export_dropped": self.exporter.dropped if self.exporter is not None else 0,
            "flows": [self._line(row) for row in rows if self.flows.latest[row] is not None],
        }

    def _line(self, row: int) -> dict[str, Any]:
        report = _report(self.flows.latest[row])
        return {
            "sink": self.domain.switches[self.flows.sink[row]],
            "flow_id": report.flow_id,
            "flow": f"{report.src}:{report.sport} > {report.dst}:{report.dport} ({report.protocol})",
            "path": [self._names.get(node, str(node)) for node in report.path],
            "complete": report.complete,
            "event": report.event.name.lower(),
            "latency_us": report.max_latency_us,
            "queue_packets": report.max_queue_packets,
            "links_us": [delay for _, _, delay in report.link_delays_us()],
            "seq": report.seq,
            "rate_bps": round(float(self.flows.bps[row]), 1),
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


def _report(item: Any) -> FlowReport:
    return decode([member.bitstring for member in item.struct.members])


def _flow(report: FlowReport) -> str:
    return f"{report.src}:{report.sport}>{report.dst}:{report.dport}/{report.protocol}"
