"""Table entries that switch in-band telemetry on: pure functions of topology, flows and settings.

Every port of every switch is given its role: links lead to other nodes of the INT domain, host ports are its edge. The
watched flows are classified at every switch (that is how a sink knows flow and priority), but sampled only where they
enter the network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finsy import P4DigestEntry, P4TableAction, P4TableEntry, P4TableMatch

from control.errors import InputError
from control.inband.int_md import words
from control.inband.report import DIGEST
from topo.spec import Host, Topology

TABLES = ("int_ingress", "int_egress", "int_source", "int_report", "classify")
REPORT_INSTRUCTIONS = 0xFC00  # p4/include/constants.p4: what flow reports are made of
DSCP_POOL = 0b11  # RFC 2474 section 6, pool 2: the program looks for INT in these only
MAX_FLOWS = 2048  # entries of table classify
_CLASSIFY_PRIORITY = 1000
_SOURCE_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class WatchedFlow:
    """A protected flow. ``protocol`` and ``dport`` None: any. ``one_in`` 0: classified, but without telemetry."""

    flow_id: int  # 1..65535, unique
    source: str  # host
    destination: str  # host
    priority: int = 0  # 0..7
    protocol: int | None = None
    dport: int | None = None
    one_in: int = 1


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """When a sink tells about a flow (p4/blocks/int_sink.p4)."""

    latency_us: int = 2000
    queue_packets: int = 32
    min_interval_ms: float = 10.0
    max_interval_ms: float = 500.0


@dataclass(frozen=True, slots=True)
class InbandSettings:
    """``mtu``: bytes of IP that links between switches carry; 0: no limit."""

    dscp: int = 0x17
    instructions: int = REPORT_INSTRUCTIONS
    hop_limit: int = 8
    mtu: int = 1500
    filters: Mapping[int, ReportFilter] = field(default_factory=dict)  # by priority; others get ``filter``
    filter: ReportFilter = field(default_factory=ReportFilter)

    def __post_init__(self) -> None:
        if not 0 <= self.dscp < 64 or self.dscp & DSCP_POOL != DSCP_POOL:
            raise InputError(f"DSCP {self.dscp} cannot announce INT: it has to end in binary 11 (3, 7, 11, ... 63)")
        if not 0 <= self.instructions <= 0xFFFF or words(self.instructions) > 31:
            raise InputError(f"instruction bitmap {self.instructions:#06x} does not fit")
        if not 1 <= self.hop_limit <= 255:
            raise InputError(f"hop limit {self.hop_limit} is not within 1..255")
        if not 0 <= self.mtu <= 65535:
            raise InputError(f"MTU {self.mtu} is not within 0..65535")

    def report_filter(self, priority: int) -> ReportFilter:
        return self.filters.get(priority, self.filter)


def inband_entries(
    topology: Topology, flows: Sequence[WatchedFlow], settings: InbandSettings | None = None
) -> dict[str, list[P4TableEntry]]:
    """Entries by switch name for the tables :data:`TABLES`.

    Raises:
        InputError: unknown hosts, ids or numbers out of range, ids used twice.
    """
    chosen = settings or InbandSettings()
    _check(topology, flows)
    out: dict[str, list[P4TableEntry]] = {}
    for switch in topology.switches:
        entries: list[P4TableEntry] = []
        for port, far in sorted(topology.ports(switch.name).items()):
            entries += _port(port, isinstance(far, Host), switch.device_id, chosen)
        for priority in sorted({flow.priority for flow in flows}):
            entries.append(_report(priority, chosen.report_filter(priority)))
        for flow in flows:
            here = topology.host(flow.source).switch == switch.name
            entries.append(_classify(topology, flow, sample=here and flow.one_in > 0))
            if here and flow.one_in > 0:
                entries.append(_source(topology, flow, chosen))
        out[switch.name] = entries
    return out


def digest_entry(max_list: int = 32, max_wait_ns: int = 2_000_000) -> P4DigestEntry:
    """Subscription to flow reports, which are numbered: without acknowledgements, as port reports."""
    return P4DigestEntry(DIGEST, max_list_size=max_list, max_timeout_ns=max_wait_ns, ack_timeout_ns=0)


def wildcards() -> list[P4TableEntry]:
    """One wildcard read per table that :func:`inband_entries` fills."""
    return [P4TableEntry(table) for table in TABLES]


def _check(topology: Topology, flows: Sequence[WatchedFlow]) -> None:
    ids = [flow.flow_id for flow in flows]
    if len(set(ids)) != len(ids):
        raise InputError("two watched flows have the same id")
    if len(flows) > MAX_FLOWS:
        raise InputError(f"{len(flows)} watched flows; the program holds {MAX_FLOWS}")
    names = {host.name for host in topology.hosts}
    for flow in flows:
        where = f"watched flow {flow.flow_id}"
        for name in (flow.source, flow.destination):
            if name not in names:
                raise InputError(f"{where}: topology {topology.name} has no host {name!r}")
        if not 1 <= flow.flow_id <= 65535 or not 0 <= flow.priority <= 7 or not 0 <= flow.one_in <= 65535:
            raise InputError(f"{where}: id, priority or one_in out of range")
        if not 0 <= (flow.protocol or 0) <= 255 or not 0 <= (flow.dport or 0) <= 65535:
            raise InputError(f"{where}: protocol or port out of range")


def _port(port: int, edge: bool, node_id: int, settings: InbandSettings) -> list[P4TableEntry]:
    match = P4TableMatch({"port": port})
    if edge:
        arrival = P4TableAction("int_from_edge", dscp=settings.dscp)
        departure = P4TableAction("int_to_edge", node_id=node_id, dscp=settings.dscp)
    else:
        arrival = P4TableAction("int_from_core", dscp=settings.dscp)
        departure = P4TableAction("int_to_core", node_id=node_id, dscp=settings.dscp, mtu=settings.mtu)
    return [
        P4TableEntry("int_ingress", match=match, action=arrival),
        P4TableEntry("int_egress", match=match, action=departure),
    ]


def _report(priority: int, wanted: ReportFilter) -> P4TableEntry:
    action = P4TableAction(
        "int_watch",
        latency=wanted.latency_us,
        queue=wanted.queue_packets,
        min_interval=int(wanted.min_interval_ms * 1000),
        max_interval=int(wanted.max_interval_ms * 1000),
    )
    return P4TableEntry("int_report", match=P4TableMatch({"priority": priority}), action=action)


def _classify(topology: Topology, flow: WatchedFlow, *, sample: bool) -> P4TableEntry:
    match: dict[str, object] = {
        "ipv4_src": _exact(topology.host(flow.source).ipv4),
        "ipv4_dst": _exact(topology.host(flow.destination).ipv4),
    }
    if flow.protocol is not None:
        match["ip_proto"] = (flow.protocol, 0xFF)
    if flow.dport is not None:
        match["l4_dport"] = (flow.dport, flow.dport)
    action = P4TableAction("set_flow", flow_id=flow.flow_id, priority=flow.priority, sample=int(sample))
    # More particular flows first: each field that is named raises the entry.
    priority = _CLASSIFY_PRIORITY + len(match)
    return P4TableEntry("classify", match=P4TableMatch(match), action=action, priority=priority)


def _source(topology: Topology, flow: WatchedFlow, settings: InbandSettings) -> P4TableEntry:
    host = topology.host(flow.source)
    action = P4TableAction(
        "int_start",
        instructions=settings.instructions,
        hop_words=words(settings.instructions),
        hop_limit=settings.hop_limit,
        one_in=flow.one_in,
    )
    match = P4TableMatch({"ingress_port": (host.port, 0x1FF), "flow_id": (flow.flow_id, 0xFFFF)})
    return P4TableEntry("int_source", match=match, action=action, priority=_SOURCE_PRIORITY)


def _exact(interface: str) -> tuple[int, int]:
    return int(ipaddress.IPv4Interface(interface).ip), 0xFFFFFFFF
